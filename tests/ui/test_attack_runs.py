"""What the two kinds of attacks on models that draw have in common, on the runs that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.runs import RunStore
from ui import guard_attack, relearn
from ui.attack_runs import RunKind, runs_html


@pytest.mark.parametrize(
    ("kind", "targets", "strips"),
    [
        (guard_attack.RUNS, {"poseguard", "poseguard_hardened"}, 3),
        (relearn.RUNS, {"gift", "lcfdsd"}, 4),
    ],
)
def test_recorded_attacks_ship_and_can_be_opened(kind: RunKind, targets: set[str], strips: int):
    store = RunStore(Path("none"))
    shipped = [info for info in store.list() if info.kind == kind.kind]
    assert {info.config["target"] for info in shipped} == targets
    for info in shipped:
        shown = kind.show(store.get(info.id))
        assert "Recorded" in shown and shown.count("<img") == strips and "after 40 steps" in shown
        assert info.id in runs_html(kind, shipped, info.id, lambda run: 0)
