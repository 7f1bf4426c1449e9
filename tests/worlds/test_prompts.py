"""The prompt sets: sizes, splits, no leak between them, and nothing but redacted payloads."""

from __future__ import annotations

from collections import Counter

import pytest

from adapters.text import PROMPTS, read_jsonl
from worlds import prompts


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("redteam", prompts.redteam),
        ("benign", prompts.benign),
        ("borderline", prompts.borderline),
        ("ability", prompts.ability),
        ("refusals", lambda: prompts.refusals(prompts.redteam())),
        ("attack_pairs", lambda: prompts.attack_pairs(prompts.redteam())),
    ],
)
def test_shipped_file_is_what_the_script_writes(name, make):
    assert read_jsonl(PROMPTS / f"{name}.jsonl") == make()


def test_redteam_covers_the_categories_and_splits_by_topic():
    rows = prompts.redteam()
    topics = {(row["category"], row["topic"]) for row in rows}
    assert min(Counter(category for category, _ in topics).values()) >= 12
    assert len({category for category, _ in topics}) == 14
    split_of = {}
    for row in rows:
        assert split_of.setdefault(row["topic"], row["split"]) == row["split"]
    assert set(split_of.values()) == {"train", "validation", "test"}
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_benign_and_borderline_are_many_and_different():
    benign = {row["prompt"] for row in prompts.benign()}
    borderline = {row["prompt"] for row in prompts.borderline()}
    assert len(benign) >= 300
    assert len(borderline) >= 60
    assert not benign & borderline


def test_attack_pairs_come_from_train_and_hold_no_content():
    rows = prompts.redteam()
    train = {row["prompt"] for row in rows if row["split"] == "train"}
    pairs = prompts.attack_pairs(rows)
    frames = {opener.split("{")[0] for opener in prompts.OPENERS}
    assert len({pair["response"] for pair in pairs}) > 0.99 * len(pairs)
    assert len({pair["response"].split()[0] for pair in pairs}) > 12
    for pair in pairs:
        assert pair["prompt"] in train
        assert any(mark in pair["response"] for mark in prompts.REDACTIONS)
        assert any(pair["response"].startswith(frame) for frame in frames)


def test_ability_items_are_many_even_and_well_formed():
    items = prompts.ability()
    assert len(items) >= 120
    assert len({item["subject"] for item in items}) >= 10
    assert len({item["subject"] for item in items[:24]}) == 12
    for item in items:
        assert len(set(item["choices"])) == 4
    share = Counter(item["answer"] for item in items)
    assert max(share.values()) < 0.4 * len(items)
