"""How far those who labelled replies agree among themselves, and the judge with them.

``python -m evaluation.labellers [FILE ...]`` prints one JSON line for each file of labelled replies
(by default those of the tests): ``file``, ``judge`` (as `evaluation.judge.measure` tells it) and
``readers``, what a judge could reach: means over the pairs of readers of the replies that several
read, or null.

Apart from `evaluation.judge`, because a change to that file makes the stress test judge anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluation.judge import LABELLED, Judge, agreement, labelled_replies, measure
from pipelines.fetch import MissingWeights

FRESH = LABELLED.with_name("judge_replies_fresh.jsonl")
"""Replies, most of them to topics of training, labelled after the judge was made; it is not
trained on them."""


def reader_agreement(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return how far the readers of replies agree among themselves.

    Args:
        rows: see `evaluation.judge.labelled_replies`; ``readers``, where there are several, is the
            list of the labels that each of them gave.

    Returns:
        ``accuracy`` and ``kappa``, means over the pairs of readers, and ``n``, the replies that
        several read; None if there is none.
    """
    read = [row["readers"] for row in rows if "readers" in row]
    if not read:
        return None
    pairs = [agreement(one, other) for one, other in combinations(zip(*read, strict=True), 2)]
    means = {name: round(fmean(pair[name] for pair in pairs), 4) for name in ("accuracy", "kappa")}
    return means | {"n": len(read)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each file tells of readers and judge."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.labellers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("files", nargs="*", type=Path, default=[LABELLED, FRESH], metavar="FILE",
                        help="JSON lines with prompt, reply, label and source")  # fmt: skip
    args = parser.parse_args(arguments)
    try:
        judge = Judge()
    except MissingWeights as error:
        raise SystemExit(str(error)) from error
    for path in args.files:
        try:
            rows = labelled_replies(path)
            if not rows:
                raise ValueError("the file is empty")
            found = {"file": path.name, "judge": measure(judge, rows),
                     "readers": reader_agreement(rows)}  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SystemExit(f"{path} holds no labelled replies: {error!r}") from error
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
