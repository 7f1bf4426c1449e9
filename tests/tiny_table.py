"""A table of the stress test with its recorded runs, whose ends are chosen; no model is run.

The rows, means and verdicts are computed by `evaluation.rows` from run folders, as real ones are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation import mounting, recorded, tables
from evaluation.claims import Finding, claims
from evaluation.measuring import judge_hash
from evaluation.rows import means, rows_of, verdicts
from evaluation.runs import Run, RunStore

BEFORE = (0.0, 0.8)
"""Harm and ability of every arm before an attack."""

Ends = Mapping[tuple[str, str], tuple[tuple[float, float], tuple[float, float]]]
"""(defence, attack) → (harm, ability) after it of the undefended arm and of the defended one."""

BROKEN, LOW, DESTROYED = (0.8, 0.8), (0.02, 0.8), (0.8, 0.3)
"""Harm and ability of arms that are broken, that withstood and that are of no use any more."""


def tiny_table(
    folder: Path, ends: Ends, *, seeds: int = 3, profile: str = "tiny", spread: float = 0.01
) -> list[dict[str, Any]]:
    """Ship a table and its runs in a folder, as ``assets``.

    Args:
        folder: gets ``evidence/llm.jsonl`` and ``runs``.
        ends: what the table finds.
        seeds: of each cell.
        profile: that the rows name.
        spread: harm of neighbouring seeds differs by it.

    Returns:
        The rows.
    """
    store = RunStore(folder / "store", folder / "runs")
    rows = []
    for (defence, attack), (undefended, defended) in ends.items():
        for seed in range(seeds):
            offset = spread * (seed - (seeds - 1) / 2)
            run = store.create("attack", mounting.Cell(defence, attack, seed).record(), profile, {})
            arms = zip((tables.UNDEFENDED, defence), (undefended, defended), strict=True)
            _tell(run, {arm: (harm + offset, ability) for arm, (harm, ability) in arms})
            run.finish("done")
            rows += rows_of(run)
    averages = means(rows)
    table = [*rows, *averages, *verdicts(averages)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded, "ASSETS", folder)
        patch.setattr(tables, "TABLE", folder / "evidence" / "llm.jsonl")
        recorded.ship(table, store)
    return table


def _tell(run: Run, ends: Mapping[str, tuple[float, float]]) -> None:
    """Log an attack, both arms in step, that ends with these harms and abilities."""
    steps = run.info["config"]["steps"]
    for step in range(steps + 1):
        for arm, (harm, ability) in ends.items():
            if step:
                run.log(event="step", arm=arm, step=step, loss=2.0, entropy=1.0, seconds=2.0)
            if step in (0, steps):
                samples = [{"prompt": "Do it.", "reply": f"Reply {step}.", "label": "refusal",
                            "confidence": 0.9}]  # fmt: skip
                run.log(event="probe", arm=arm, step=step, harm=harm * step / steps,
                        ability=ability, prompts=8, questions=24, samples=samples)  # fmt: skip
    for arm, end in ends.items():
        before, after = (
            {"harm": h, "ability": a, "prompts": 70, "questions": 96, "labels": {}, "mounting": 1.0}
            for h, a in (BEFORE, end)
        )
        run.log(event="measured", arm=arm, judge=judge_hash(), before=before, after=after)


def standing(table: list[dict[str, Any]], defence: str = "sdd", number: int = 0) -> Finding:
    """Return a defence's claim, by its number among those of that defence, as it stands."""
    return [each for each in claims(table) if each.claim.defence == defence][number]


def ended_run(
    folder: Path,
    before: tuple[float, float],
    after: tuple[float, float],
    probes: Sequence[tuple[int, float]] = (),
) -> Run:
    """Make a run of an attack on SDD of which nothing but the figures is there.

    Args:
        folder: of the runs.
        before: harm and ability of the defended arm before it.
        after: the same after it.
        probes: step and harm of each.
    """
    store = RunStore(folder, folder / "recorded")
    config = {"target_undefended": "aligned", "target": "sdd", "attack": "sft", "seed": 0}
    run = store.create("attack", config, "tiny", {}, "me")
    for step, harm in probes:
        samples = [{"prompt": "p", "reply": "word " * 40, "label": "compliance"}]
        run.log(event="probe", arm="sdd", step=step, harm=harm, samples=samples)
    run.log(event="saved", step=1, arm="sdd")
    figures = ({"harm": h, "ability": a, "prompts": 10, "questions": 10, "labels": {}}
               for h, a in (before, after))  # fmt: skip
    before_after = dict(zip(("before", "after"), figures, strict=True))
    run.log(event="measured", arm="sdd", judge="today", **before_after)
    run.finish("done")
    return run
