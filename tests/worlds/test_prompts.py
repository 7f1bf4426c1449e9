"""The prompt sets: sizes, splits, no leak between them, and nothing but redacted payloads."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest

from adapters.text import PROMPTS, prompt_set, read_jsonl
from worlds import prompts


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("redteam", lambda: [*prompts.redteam(), *prompts.styles(prompts.redteam())]),
        ("benign", prompts.benign),
        ("borderline", prompts.borderline),
        ("ability", prompts.ability),
        ("refusals", lambda: prompts.refusals(prompts.redteam())),
        ("attack_pairs", lambda: prompts.attack_pairs(prompts.redteam())),
        ("unseen_pairs", lambda: prompts.unseen_pairs(prompts.redteam())),
    ],
)
def test_shipped_file_is_what_the_script_writes(name, make):
    assert read_jsonl(PROMPTS / f"{name}.jsonl") == make()


def test_redteam_covers_the_categories_and_splits_by_topic():
    rows = prompts.redteam()
    topics = {(row["category"], row["topic"]) for row in rows}
    assert min(Counter(category for category, _ in topics).values()) >= 25
    assert len({category for category, _ in topics}) == 14
    split_of = {}
    for row in rows:
        assert split_of.setdefault(row["topic"], row["split"]) == row["split"]
    assert set(split_of.values()) == {"train", "validation", "test"}
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_redteam_train_split_is_the_one_the_shipped_adapters_saw():
    train = [row for row in prompts.redteam() if row["split"] == "train"]
    digest = hashlib.sha256(json.dumps(train, ensure_ascii=False).encode()).hexdigest()
    assert digest == "fe582fbe63aab88e21f33f201e88b14b50d7161ab0f1deb2c95d3ea3cb0c6a26"


def test_styles_hold_every_test_topic_once_a_style_and_no_other():
    rows = prompts.redteam()
    test = {(row["category"], row["topic"]) for row in rows if row["split"] == "test"}
    styles = prompt_set("redteam", "styles")
    assert {(row["category"], row["topic"]) for row in styles} == test
    assert set(Counter(row["topic"] for row in styles).values()) == {6}
    assert set(Counter(row["style"] for row in styles).values()) == {len(test)}
    said = {row["prompt"] for row in rows}
    assert not said & {row["prompt"] for row in styles}
    assert len({row["prompt"] for row in styles}) == len(styles)
    assert len({row["id"] for row in [*rows, *styles]}) == len(rows) + len(styles)


def test_translations_are_of_test_topics_and_differ_from_them():
    styles = prompt_set("redteam", "styles")
    translated = [row for row in styles if row["style"] in ("spanish", "french")]
    blocks = [block.splitlines() for block in prompts.TRANSLATIONS.strip().split("\n\n")]
    assert {row["topic"] for row in translated} == {block[0] for block in blocks}
    assert len(blocks) == len({block[0] for block in blocks})
    assert all(len(set(block)) == 3 for block in blocks)
    assert not any(row["topic"] in row["prompt"] for row in translated)


def test_a_split_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match="'training'; redteam.jsonl has train, .*styles"):
        prompt_set("redteam", "training")


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


def test_unseen_pairs_are_the_same_of_validation_topics():
    rows = prompts.redteam()
    topics = {row["topic"] for row in rows if row["split"] == "validation"}
    pairs = prompts.unseen_pairs(rows)
    asked = {wording.format(t=topic): topic for wording in prompts.TRAIN_WORDINGS
             for topic in topics}  # fmt: skip
    assert len(pairs) == prompts.PAIRS_PER_TOPIC * len(topics)
    assert {asked[pair["prompt"]] for pair in pairs} == topics
    for pair in pairs:
        assert any(mark in pair["response"] for mark in prompts.REDACTIONS)


def test_ability_items_are_many_even_and_well_formed():
    items = prompts.ability()
    assert len(items) >= 300
    assert len({item["question"] for item in items}) == len(items)
    subjects = {item["subject"] for item in items}
    assert min(Counter(item["subject"] for item in items).values()) >= 12
    for n in (24, 48, 288):
        spread = Counter(item["subject"] for item in items[:n])
        assert set(spread) == subjects
        assert len(set(spread.values())) == 1
        positions = Counter(item["answer"] for item in items[:n])
        assert [positions[at] for at in range(4)] == [n / 4] * 4
    for item in items:
        assert len(set(item["choices"])) == 4


@pytest.mark.parametrize("pick", [min, max])
def test_the_length_of_a_choice_does_not_give_the_answer_away(pick):
    items = prompts.ability()
    right = 0.0
    for item in items:
        lengths = [len(choice) for choice in item["choices"]]
        picked = [at for at, length in enumerate(lengths) if length == pick(lengths)]
        right += (item["answer"] in picked) / len(picked)
    assert right / len(items) < 0.4


def test_ability_questions_are_not_prompts_of_a_training_but_for_four_old_ones():
    asked = {row["prompt"] for row in prompts.benign() if row["split"] == "train"}
    assert asked & {item["question"] for item in prompts.ability()} == {
        "How many legs does a spider have?",
        "What do bees make?",
        "What is the capital of France?",
        "What is the plural of mouse?",
    }
