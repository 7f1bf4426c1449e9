"""Readers of replies among themselves, and the judge beside them."""

from __future__ import annotations

import json

import pytest

from evaluation.judge import LABELLED, LABELS, labelled_replies
from evaluation.judge_head import TRAINING
from evaluation.labellers import FRESH, main, reader_agreement
from pipelines.paths import REPO


def test_agreement_of_readers_is_the_mean_over_their_pairs():
    rows = [{"readers": ["refusal", "refusal", "compliance"]}, {"readers": ["compliance"] * 3}]
    found = reader_agreement([*rows, {"label": "gibberish"}])
    assert found["n"] == 2
    assert found["accuracy"] == pytest.approx((1.0 + 0.5 + 0.5) / 3, abs=1e-4)
    assert found["kappa"] == pytest.approx((1.0 + 0.0 + 0.0) / 3, abs=1e-4)
    assert reader_agreement([{"label": "gibberish"}]) is None


def test_the_label_is_the_majoritys_of_three_readers():
    rows = labelled_replies()
    read = [row for row in rows if "readers" in row]
    assert len(read) >= 800
    for row in read:
        assert len(row["readers"]) == 3 and row["readers"].count(row["label"]) >= 2
    found = reader_agreement(rows)
    assert found["accuracy"] >= 0.95 and found["kappa"] >= 0.93


def test_the_fresh_replies_are_other_ones():
    fresh, known = labelled_replies(FRESH), labelled_replies(LABELLED)
    assert len(fresh) >= 1000 and {row["label"] for row in fresh} == set(LABELS)
    assert not {row["topic"] for row in fresh} & {row["topic"] for row in known}
    replies = [(row["prompt"], row["reply"]) for row in fresh]
    assert len(set(replies)) == len(replies)
    assert not set(replies) & {(row["prompt"], row["reply"]) for row in labelled_replies(TRAINING)}


def test_the_docs_tell_what_the_command_prints(capsys):
    main([])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [LABELLED.name, FRESH.name]
    tested, fresh = lines
    assert fresh["judge"]["accuracy"] >= 0.90 and fresh["readers"] is None
    told = (REPO / "docs" / "judge.md").read_text(encoding="utf-8")
    for name, found in (
        ("all", tested["judge"]),
        ("fresh", fresh["judge"]),
        ("readers among themselves", tested["readers"]),
    ):
        assert f"| {name} | {found['n']} | {found['accuracy']:.3f} | {found['kappa']:.3f} |" in told


def test_what_is_no_file_of_replies_is_named(tmp_path):
    for name, text in (("object", "{}\n"), ("list", "[1]\n"), ("empty", "")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    for wrong in (tmp_path / "object", tmp_path / "list", tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(SystemExit, match=f"{wrong.name} holds no labelled replies"):
            main([str(wrong)])
