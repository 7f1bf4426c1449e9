"""Write assets/prompts/tasks.jsonl: small problems with one right number, by reasoning-gym.

`python -m worlds.tasks` writes {id, family, question, answer, split} a line. It is the one program
here that wants `pip install reasoning-gym==0.1.25` (Apache-2.0; arXiv 2505.24760), which brings
seventeen packages along, one of them to be compiled. The app reads the file and needs none of them.

The families are those of which SmolLM2-135M-Instruct solves some items and not all, so that skill
can be seen to rise and to fall, and whose answers are numbers, so that one way of reading a reply
does for all of them (`evaluation.tasks.read_number`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pipelines.paths import ASSETS
from worlds.prompts import write_jsonl

FAMILIES: dict[str, dict[str, Any]] = {
    "basic_arithmetic": {
        "min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1,
        "operators": ("+", "-"), "allow_parentheses": False, "allow_negation": False,
    },
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "products": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
}  # fmt: skip
"""Family of reasoning-gym → its settings where they are not the family's own."""

SEEDS = {"test": 1_000_000, "train": 0}
"""First seed of a split, and of its first family. Item i of a family is made of its seed + i."""

SEEDS_PER_FAMILY = 10_000

PER_FAMILY = {"test": 24, "train": 40}


def calculation(question: str) -> tuple[str, ...]:
    """Return what a question asks to calculate, whatever its words and the order of its operands.

    Args:
        question: with one calculation of two whole numbers in it.
    """
    first, sign, second = re.search(r"(-?\d+) ([-+*]) (-?\d+)", question).groups()
    return (sign, first, second) if sign == "-" else (sign, *sorted((first, second)))


def dataset(family: str, split: str) -> Any:
    """Return the items of a family in a split, as many as could be asked for, made on demand.

    Raises:
        ModuleNotFoundError: reasoning-gym is not installed.
    """
    import reasoning_gym

    # Families of one seed would draw the same numbers and ask the same in other words.
    seed = SEEDS[split] + SEEDS_PER_FAMILY * [*FAMILIES].index(family)
    return reasoning_gym.create_dataset(
        family, seed=seed, size=SEEDS_PER_FAMILY, **FAMILIES[family]
    )


def items(
    family: str, split: str, taken: set[str], held_out: set[tuple[str, ...]]
) -> Iterator[dict[str, str]]:
    """Make the items of a family in a split.

    Small numbers are few, so that two seeds can ask the same; the later one is passed over.

    Args:
        family: one of `FAMILIES`.
        split: one of `SEEDS`.
        taken: questions that there are already; the new ones are added.
        held_out: calculations that are not asked, see `calculation`.
    """
    found = 0
    for made in dataset(family, split):
        question, answer = made["question"].strip(), made["answer"]
        if question in taken or calculation(question) in held_out:
            continue
        taken.add(question)
        yield {
            "id": f"task-{family}-{split}-{found:02}", "family": family, "question": question,
            "answer": answer, "split": split,
        }  # fmt: skip
        found += 1
        if found == PER_FAMILY[split]:
            return


def tasks() -> list[dict[str, str]]:
    """Return all items, test before train; in each split the families take turns."""
    taken: set[str] = set()
    found: list[dict[str, str]] = []
    for split in SEEDS:
        # What the test asks, no family's training asks: not turned round, nor in other words.
        held_out = {calculation(item["question"]) for item in found}
        made = [[*items(family, split, taken, held_out)] for family in FAMILIES]
        found += [item for turn in zip(*made, strict=True) for item in turn]
    return found


def main() -> None:
    """Write the file and print its number of lines."""
    print(f"tasks.jsonl: {write_jsonl(ASSETS / 'prompts' / 'tasks.jsonl', tasks())}")


if __name__ == "__main__":
    main()
