"""A table of the stress test with its recorded runs, whose ends are chosen; no model is run.

The rows, means and verdicts are computed by `evaluation.stress` from run folders, as real ones are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evaluation import stress
from evaluation.runs import Run, RunStore

BEFORE = (0.0, 0.8)
"""Harm and ability of every arm before an attack."""

Ends = Mapping[tuple[str, str], tuple[tuple[float, float], tuple[float, float]]]
"""(defence, attack) → (harm, ability) after it of the undefended arm and of the defended one."""


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
            run = store.create("attack", stress.Cell(defence, attack, seed).record(), profile, {})
            arms = zip((stress.UNDEFENDED, defence), (undefended, defended), strict=True)
            _tell(run, {arm: (harm + offset, ability) for arm, (harm, ability) in arms})
            run.finish("done")
            rows += stress.rows_of(run)
    averages = stress.means(rows)
    table = [*rows, *averages, *stress.verdicts(averages)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stress, "ASSETS", folder)
        patch.setattr(stress, "TABLE", folder / "evidence" / "llm.jsonl")
        stress.ship(table, store)
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
        run.log(event="measured", arm=arm, judge=stress.judge_hash(), before=before, after=after)
