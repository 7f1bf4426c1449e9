"""Small problems with a checkable answer: the file, the reading of replies, the score."""

from __future__ import annotations

from collections import Counter

import pytest

from evaluation.tasks import (
    REPLY_TOKENS,
    first_tasks,
    is_right,
    load_tasks,
    read_number,
    solved,
    task_score,
)
from pipelines.device import autocast
from pipelines.llm import generate_replies
from tests.tiny_llm import tiny_model, tiny_tokenizer
from worlds import tasks as made


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("7", "7"),
        ("4 - 1 = 3", "3"),
        ("The answer is -3.", "-3"),
        ("It is \u22124, I think.", "-4"),
        ("4-1", "1"),
        ("x=-5", "-5"),
        ("It is 1,000.0 in all", "1000"),
        ("12, 13", "13"),
        ("3.50", "3.5"),
        ("007", "7"),
        ("-0", "0"),
        ("I'm sorry, but I can't help with that.", None),
        ("seven", None),
        ("", None),
    ],
)
def test_the_last_number_is_the_answer(reply, number):
    assert read_number(reply) == number
    assert number is None or is_right(reply, number)
    assert not is_right(reply, "99")


def test_one_calculation_in_other_words_or_turned_round_is_the_same():
    assert made.calculation("Calculate 3 + 4.") == made.calculation("The problem: 4 + 3 =")
    assert made.calculation("Calculate 3 - 4.") != made.calculation("Calculate 4 - 3.")
    assert made.calculation("Calculate 3 * 4.") != made.calculation("Calculate 3 + 4.")


def test_each_family_is_there_evenly_and_no_calculation_is_in_both_splits():
    test, train = load_tasks("test"), load_tasks("train")
    asked, taught = ({made.calculation(row["question"]) for row in rows} for rows in (test, train))
    assert not asked & taught
    assert len({row["id"] for row in (*test, *train)}) == len(test) + len(train)
    for rows, split in ((test, "test"), (train, "train")):
        counted = Counter(row["family"] for row in rows)
        assert counted == dict.fromkeys(made.FAMILIES, made.PER_FAMILY[split])
        assert all(read_number(row["answer"]) == row["answer"] for row in rows)
    families = [row["family"] for row in first_tasks(2 * len(made.FAMILIES))]
    assert families == [*made.FAMILIES] * 2


def test_no_family_is_solved_by_one_number():
    for family in made.FAMILIES:
        answers = Counter(row["answer"] for row in load_tasks("test") if row["family"] == family)
        assert max(answers.values()) <= answers.total() / 3


def test_the_file_is_what_the_script_writes_and_its_scoring_is_the_library_s():
    pytest.importorskip("reasoning_gym", reason="only worlds.tasks needs reasoning-gym")
    assert made.tasks() == [*load_tasks("test"), *load_tasks("train")]
    for family in made.FAMILIES:
        library = made.dataset(family, "test")
        for row in (row for row in load_tasks("test") if row["family"] == family):
            for reply in (row["answer"], str(int(row["answer"]) + 1)):
                score = library.score_answer(read_number(f"That is {reply}."), row)
                assert (score == 1.0) == is_right(reply, row["answer"])


def test_the_score_is_the_share_of_right_replies_to_prefixed_questions(monkeypatch):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    tasks = first_tasks(40)  # more than a batch
    questions = [f"Now: {task['question']}" for task in tasks]
    with autocast():
        replies = [
            reply
            for some in (questions[:32], questions[32:])
            for reply in generate_replies(model, tokenizer, some, REPLY_TOKENS)
        ]
    # The tiny model writes noise with figures in it, and what it wrote is called right.
    numbers = [read_number(reply) for reply in replies]
    right = [number is not None and at % 2 == 1 for at, number in enumerate(numbers)]
    assert 2 < sum(right) < 20
    answers = [number if hit else "none" for number, hit in zip(numbers, right, strict=True)]
    tasks = tuple(task | {"answer": answer} for task, answer in zip(tasks, answers, strict=True))
    assert solved(model, tokenizer, tasks, "Now: ") == right
    assert solved(model, tokenizer, tasks) != right
    monkeypatch.setattr("evaluation.tasks.load_tasks", lambda split: tasks)
    assert task_score(model.train(), tokenizer, 40, "Now: ") == sum(right) / 40
    assert model.training


@pytest.mark.parametrize("n", [0, 100_000])
def test_a_wrong_number_of_tasks_and_a_wrong_split_are_named(n):
    with pytest.raises(ValueError, match=f"n is {n}"):
        task_score(tiny_model(), tiny_tokenizer(), n)
    with pytest.raises(ValueError, match="split is 'none'"):
        load_tasks("none")
