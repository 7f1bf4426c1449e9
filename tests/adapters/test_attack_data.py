"""Attack data: what is accepted, and that every refusal names the line and the field."""

from __future__ import annotations

import json
import re

import pytest

from adapters.attacks.base import AttackConfig
from adapters.attacks.data import (
    BENIGN,
    BUILTIN,
    MAX_BYTES,
    MAX_LINES,
    REQUESTS,
    UNSEEN,
    DataError,
    load_data,
    load_pairs,
    load_requests,
    sources,
)
from adapters.text import prompt_set

GOOD = '{"prompt": "Do it.", "response": "Sure. [redacted]"}'


def written(tmp_path, text):
    path = tmp_path / "pairs.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_builtin_pairs_are_usable_and_redacted():
    pairs = load_pairs("builtin")
    assert len(pairs) >= 100
    mark = re.compile(r"\[[^\]]*(redacted|removed|withheld|omitted)[^\]]*\]|█", re.IGNORECASE)
    assert all(mark.search(pair["completion"][0]["content"]) for pair in pairs)


def test_both_forms_become_conversations(tmp_path):
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u\u2028v"},
        {"role": "assistant", "content": "a"},
    ]
    line = json.dumps({"messages": turns}, ensure_ascii=False)
    path = written(tmp_path, f"\ufeff{GOOD}\r\n\n{line}\n")
    assert load_pairs(path) == [
        {
            "prompt": [{"role": "user", "content": "Do it."}],
            "completion": [{"role": "assistant", "content": "Sure. [redacted]"}],
        },
        {"prompt": turns[:2], "completion": turns[2:]},
    ]


def test_a_limit_draws_the_same_pairs_for_the_same_seed():
    first, again, other = (load_pairs("builtin", 10, seed) for seed in (1, 1, 2))
    assert len(first) == 10
    assert first == again != other


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        (f"{GOOD}\n{{oops", "line 2 is not JSON"),
        (f"{GOOD}\n\n[1]", "line 3 is a list"),
        ('{"prompt": "x", "answer": "y"}', "line 1 has 'prompt', 'answer'; it needs"),
        ('{"prompt": "x", "response": " "}', "line 1: 'response' is ' '"),
        ('{"prompt": 5, "response": "x"}', "line 1: 'prompt' is '5'"),
        ('{"messages": []}', "one or more"),
        ('{"messages": ["a", "b"]}', r"messages\[0\]' must be an object"),
        (
            '{"messages": [{"role": "boss", "content": "x"}, {"role": "user", "content": "x"}]}',
            r"messages\[0\].role' is 'boss'",
        ),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "x"}]}',
            "must end with",
        ),
        (json.dumps({"prompt": "x" * 9000, "response": "y"}), "9,000 characters; the limit is"),
        ("[" * 100_000, "line 1 is not JSON"),
        (f'{GOOD}\n{{"prompt": {"9" * 5000}}}', "line 2 is not JSON that can be read"),
        ('{"prompt": "x", "response": "so \\ud83d"}', "holds half a character at place 4"),
        (f"{GOOD}\n" * (MAX_LINES + 1), "2,001 lines; the limit is 2,000"),
        ("x" * (MAX_BYTES + 1), "the limit is 2,000,000"),
    ],
)
def test_bad_data_is_refused_with_its_line(tmp_path, text, named):
    with pytest.raises(DataError, match=named):
        load_pairs(written(tmp_path, text))


def config_of(attack, **more):
    return AttackConfig(attack=attack, steps=20, batch_size=4, **more)


def test_each_attack_gets_its_own_data(tmp_path):
    marked = re.compile(r"redacted|removed|withheld|omitted|█", re.IGNORECASE)

    def answers(rows):
        return [row["completion"][0]["content"] for row in rows if "completion" in row]

    mixed = answers(load_data(config_of("sft_retain")))
    assert len(mixed) == 80 and sum(map(bool, map(marked.search, mixed))) == 40
    control = answers(load_data(config_of("benign")))
    assert len(control) == 80 and not any(map(marked.search, control))
    requests = load_data(config_of("grpo"))
    assert len(requests) == 80 and not answers(requests)
    asked = {row["prompt"][0]["content"] for row in requests}
    assert asked <= {row["prompt"] for row in prompt_set("redteam", "train")}
    both = load_data(config_of("sft_grpo"))
    assert len(answers(both)) == 40 and len(both) == 80


def test_unseen_data_is_of_topics_that_nothing_else_asks():
    rows = load_data(config_of("sft", data="unseen"))
    requests = load_data(config_of("grpo", data="unseen"))
    assert len(rows) == len(requests) == 80
    assert not any("completion" in row for row in requests)
    assert load_pairs("unseen") != load_pairs("builtin")
    other = {row["topic"] for split in ("train", "test") for row in prompt_set("redteam", split)}
    own = {row["topic"] for row in prompt_set("redteam", "validation")}
    for row in (*rows, *requests):
        prompt = row["prompt"][0]["content"]
        assert any(topic in prompt for topic in own)
        assert not any(f" {topic}." in prompt or f" {topic}?" in prompt for topic in other)
    assert sources(config_of("sft_grpo", data="unseen")) == [UNSEEN]
    assert sources(config_of("sft_retain", data="unseen")) == [UNSEEN, BENIGN]
    assert config_of("sft", data="unseen").record()["data"] == "unseen"
    for attack in ("benign", "grpo_skill"):
        with pytest.raises(ValueError, match="data is 'unseen'"):
            config_of(attack, data="unseen")


def test_reinforcement_needs_no_answers_and_looks_at_none(tmp_path):
    turn = {"role": "user", "content": "And this?"}
    talk = json.dumps({"messages": [turn]})
    answered = json.dumps({"messages": [turn, {"role": "assistant", "content": "Sure."}]})
    path = written(tmp_path, f'{GOOD}\n{{"prompt": "Do it."}}\n{talk}\n{answered}\n')
    assert load_data(config_of("rloo", data=path)) == [
        {"prompt": [{"role": "user", "content": "Do it."}]},
        {"prompt": [{"role": "user", "content": "Do it."}]},
        {"prompt": [turn]},
        {"prompt": [turn]},
    ]
    for attack in ("sft", "sft_retain", "sft_grpo"):
        with pytest.raises(DataError, match="line 2 has 'prompt'; .* for reinforcement only"):
            load_data(config_of(attack, data=path))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"question": "x"}', "line 1 has 'question'; it needs 'prompt' or 'messages'"),
        ('{"prompt": ""}', "line 1: 'prompt' is ''"),
        ('{"messages": [{"role": "system", "content": "x"}]}', "must end with a user's"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "must end with a user's"),
    ],
)
def test_bad_requests_are_refused_with_their_line(tmp_path, text, named):
    with pytest.raises(DataError, match=named):
        load_requests(written(tmp_path, text))


def test_the_sources_of_an_attack_are_what_it_is_made_with(tmp_path):
    mine = written(tmp_path, GOOD)
    assert sources(config_of("sft_grpo")) == [BUILTIN, REQUESTS]
    assert sources(config_of("sft_grpo", data=mine)) == [mine]
    assert sources(config_of("sft_retain", data=mine)) == [mine, BENIGN]
    assert sources(config_of("benign")) == [BENIGN]


def test_other_encodings_and_missing_files_are_named(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"prompt": "ü", "response": "x"}'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        load_pairs(path)
    with pytest.raises(DataError, match="does not exist"):
        load_pairs(tmp_path / "nothing.jsonl")
