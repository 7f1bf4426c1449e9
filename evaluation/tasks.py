"""Whether a chat model solves small problems whose answer can be checked: no judge, no choices.

The problems are made by reasoning-gym (arXiv 2505.24760; `worlds.tasks`) and ship with the code.
Train and test come of different seeds, and no calculation is in both, not turned round either.
Each has one number for an answer, and a reply is right if the number read from it (`read_number`)
is that one. On whole numbers this is where `score_answer` of reasoning-gym's own families gives
1.0; of the part of a point that it gives for an answer with other words around it nothing is kept.

A model that says no number gets 0, and one that always says 0 about a fifth (11 of the first 48, 6
of the first 24), so a share below that is no sign of skill.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from pipelines.paths import ASSETS

if TYPE_CHECKING:  # the attack's settings read the problems while torch still loads
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASKS = ASSETS / "prompts" / "tasks.jsonl"
REPLY_TOKENS = 28
"""Length of a reply: as that of a reinforced attack's, so that it is not tested on longer ones than
it was paid for. A model that thinks aloud for longer than that gets nothing."""

_BATCH = 32  # problems answered at once
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\d)")


def load_tasks(split: str) -> tuple[dict[str, str], ...]:
    """Return the problems of a split: dicts of id, family, question, answer and split.

    They are ordered so that the first n cover all families evenly, exactly so if n is a multiple
    of their number.

    Args:
        split: ``train`` or ``test``.

    Raises:
        ValueError: there is no such split.
    """
    with TASKS.open(encoding="utf-8") as lines:
        rows = tuple(row for row in map(json.loads, lines) if row["split"] == split)
    if not rows:
        raise ValueError(f"split is {split!r}; tasks.jsonl has test and train")
    return rows


def first_tasks(n: int | None = None) -> tuple[dict[str, str], ...]:
    """Return the first n test problems, or all of them.

    Raises:
        ValueError: n is not positive or more than there are.
    """
    rows = load_tasks("test")
    if n is not None and not 0 < n <= len(rows):
        raise ValueError(f"n is {n}; choose 1 to {len(rows)} tasks")
    return rows[:n]


def read_number(reply: str) -> str | None:
    """Read the answer from a reply: its last number, as figures without superfluous ones.

    The last, because models of this size begin with the problem ("4 - 1 = 3"). Thousands may be
    parted by commas and decimals may be zero ("1,000.0" is "1000"). A minus right after a figure or
    a letter is an operator ("4-1" ends with 1). Numbers in words are not read.

    Args:
        reply: of the model.

    Returns:
        The number, or None where there is none.
    """
    found = _NUMBER.findall(reply.replace("\u2212", "-"))
    if not found:
        return None
    number = Decimal(found[-1].replace(",", ""))
    return "0" if not number else f"{number.normalize():f}"


def is_right(reply: str, answer: str) -> bool:
    """Return whether a reply's last number is the answer.

    Args:
        reply: of the model.
        answer: as in `load_tasks`.
    """
    return read_number(reply) == answer


def solved(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[dict[str, str]],
    prefix: str = "",
) -> list[bool]:
    """Return which problems are solved, answered greedily.

    Args:
        model: causal LM in evaluation mode; adapters that are switched on count.
        tokenizer: of the model.
        tasks: see `load_tasks`.
        prefix: words before every question.
    """
    from pipelines.device import autocast
    from pipelines.llm import generate_replies

    questions = [prefix + task["question"] for task in tasks]
    with autocast(model.device):
        replies = [
            reply
            for start in range(0, len(questions), _BATCH)
            for reply in generate_replies(
                model, tokenizer, questions[start : start + _BATCH], REPLY_TOKENS
            )
        ]
    return [is_right(reply, task["answer"]) for reply, task in zip(replies, tasks, strict=True)]


def task_score(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    n: int | None = 48,
    prefix: str = "",
) -> float:
    """Return the share of test problems solved, 0..1.

    Args:
        model: causal LM; adapters that are switched on count; its training mode is restored.
        tokenizer: of the model.
        n: the first n problems, spread over all families; None: all of them.
        prefix: words before every question.

    Raises:
        ValueError: n is not positive or more than there are.
    """
    tasks = first_tasks(n)
    was_training = model.training
    model.eval()
    try:
        right = solved(model, tokenizer, tasks, prefix)
    finally:
        model.train(was_training)
    return sum(right) / len(right)
