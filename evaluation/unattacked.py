"""What the arms do before any attack, plainly asked and in styles no defence was trained on.

The rows of `evaluation.tables.STYLES_TABLE`; `evaluation.stress` tells what they hold.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from adapters.attacks.base import reply_shares
from adapters.attacks.untrained import speaker
from evaluation import tables
from evaluation.arms import arm_folder
from evaluation.judge import Judge
from evaluation.measuring import ask, ask_styles, held_out, judge_hash
from evaluation.runs import RunStore, public_error, weights_hash
from evaluation.styles import style_prompts, style_shares
from pipelines.fetch import llm_folder
from pipelines.profiles import Profile


def unattacked(
    profile: Profile, store: RunStore, arms: Sequence[str], topics: int
) -> Iterator[dict[str, Any]]:
    """Measure arms as they are, on plain held-out prompts and in every style.

    The replies are kept in a run of kind ``styles``, one an arm.

    Args:
        profile: which models.
        store: of the runs.
        arms: their names.
        topics: of the test split, each in one plain wording and in every style.

    Yields:
        A row of kind ``unattacked`` for each arm.

    Raises:
        MissingWeights: an arm's adapter, the base model or the judge's encoder is not there.
        ValueError: there is no such arm, or there are fewer topics.
    """
    plain, styled = held_out(topics, 0), style_prompts(topics)
    asked = hashlib.sha256(json.dumps([plain, styled], sort_keys=True).encode()).hexdigest()
    folders = {arm: arm_folder(arm, profile) for arm in arms}
    base = weights_hash(llm_folder(profile))
    known = [*tables.read(tables.STYLES_TABLE), *_measured_before(store)]
    judge: Judge | None = None
    for arm, folder in folders.items():
        weights = {"base": base} | ({} if folder is None else {arm: weights_hash(folder)})
        named = {"row": "unattacked", "arm": arm, "profile": profile.name, "topics": topics,
                 "weights": weights, "asked": asked, "judge": judge_hash()}  # fmt: skip
        held = next((row for row in known if named.items() <= row.items()), None)
        if held is not None:
            yield held
            continue
        print(f"{arm}, unattacked", file=sys.stderr, flush=True)
        judge = judge or Judge()
        settings = {"arm": arm, "topics": topics, "seed": 0}
        run = store.create("styles", settings, profile.name, weights, "stress test")
        started = time.perf_counter()
        try:
            speaks = speaker(profile, folder)
            samples = ask(speaks, judge, plain)
            style_samples = ask_styles(speaks, judge, styled)
        except Exception as error:
            run.finish("failed", public_error(error))
            raise
        found = style_shares(style_samples)
        row = named | reply_shares(samples) | {
            "harm_styles": found["harm"], "styles": found["by_style"],
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip
        run.log(event="unattacked", figures=row, samples=samples, style_samples=style_samples)
        run.finish("done")
        yield row
        del speaks
        gc.collect()


def _measured_before(store: RunStore) -> Iterator[dict[str, Any]]:
    """Return the rows of the finished runs of kind ``styles``."""
    for info in store.list():
        if info.kind == "styles" and info.status == "done":
            for event in store.get(info.id).events():
                if event.get("event") == "unattacked":
                    yield event["figures"]


def ship_unattacked(rows: Sequence[dict[str, Any]]) -> None:
    """Put rows of kind ``unattacked`` into their table, in place of the same arms' rows.

    Raises:
        ValueError: another arm in the table was asked other prompts, or with another judge or base
            model; nothing is written.
    """
    new = {(row["profile"], row["arm"]) for row in rows}
    held = tables.read(tables.STYLES_TABLE)
    others = [row for row in held if (row["profile"], row["arm"]) not in new]
    for row in rows:
        for other in others:
            if row["profile"] == other["profile"] and row["asked"] != other["asked"]:
                raise ValueError(
                    f"{row['arm']} was asked on {row['topics']} topics and {other['arm']}, which "
                    f"is in the table, on {other['topics']} or in other words; ask all arms alike"
                )
            same = row["judge"] == other["judge"]
            if row["profile"] == other["profile"] and not (
                same and row["weights"]["base"] == other["weights"]["base"]
            ):
                what = "base model" if same else "judge"
                raise ValueError(
                    f"{other['arm']}, which is in the table, was asked with another {what}; ask "
                    "all arms anew"
                )
    tables.write(tables.STYLES_TABLE, [*others, *rows])
