"""The panel that attacks a pose guard, called as Gradio would; what trains is scripted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from adapters.attacks import guard_removal
from adapters.attacks.guard_removal import RemovalProbe, RemovalStep
from pipelines.profiles import get_profile
from ui.engines import Engines, NotReady
from ui.guard_attack import ATTACKED, MAX_ATTACKED, RATES, GuardAttack, panel, verdict
from ui.session import Scratch, Sessions

VISITOR = SimpleNamespace(session_hash="visitor")
OTHER = SimpleNamespace(session_hash="other")
USUAL = list(RATES)[1]


class Engine:
    """What the panel needs of an `AnimationEngine`: its guards."""

    def __init__(self) -> None:
        self.held = {"poseguard": Path()}

    @property
    def guards(self) -> tuple[str, ...]:
        return tuple(self.held)

    def add_guard(self, name: str, folder: Path) -> None:
        self.held[name] = folder

    def remove_guard(self, name: str) -> None:
        del self.held[name]


def probe(step: int, pose: float) -> RemovalProbe:
    return RemovalProbe(step, 25.0, pose, 30.0, 0.93, np.full((12, 64, 64, 3), 90, np.uint8))


@pytest.fixture
def attack(monkeypatch) -> GuardAttack:
    engines = Engines(get_profile("embedded"), set_up=False)
    with gr.Blocks():
        made = GuardAttack(
            engines, Sessions(), Scratch(), ["poseguard", "poseguard_hardened"]
        )
    engine = Engine()
    monkeypatch.setattr(engines, "guarded_animation", lambda guards: engine)
    monkeypatch.setattr(guard_removal, "render_scenes", lambda *args: None)

    def remove(config, profile, guard, scenes, reader, out, should_stop):
        yield probe(-1, 0.9)
        yield probe(0, 0.3)
        done = 0
        while done < config.steps and not should_stop():
            yield RemovalStep(done := done + 1, 1.0)
        yield probe(done, 0.8)

    monkeypatch.setattr(guard_removal, "remove", remove)
    made.engine = engine
    return made


def run(attack: GuardAttack, request: SimpleNamespace = VISITOR, steps: float = 5) -> list[tuple]:
    attack.job.prepare(request)
    return list(attack.job.run(request, "poseguard", steps, USUAL))


def test_an_attack_tells_how_far_it_is_and_its_result_can_be_drawn_with(attack):
    waiting = attack.job.prepare(VISITOR)
    assert "Waiting" in waiting[0] and waiting[2].interactive and not waiting[1].interactive
    *under_way, result, (said, go, stop, *_) = attack.job.run(VISITOR, "poseguard", 5, USUAL)
    assert any("Step 3 of 5" in step[0] and "left" in step[0] for step in under_way)
    assert all(not step[1].interactive and step[2].interactive for step in under_way)
    assert "PoseGuard after 5 steps at 0.001" in said and go.interactive and not stop.interactive
    assert "30% were found before it and 80% now, 90% without" in said
    assert result[4].visible and result[4].value
    shown = next(step[3] for step in reversed(under_way) if isinstance(step[3], str))
    for words in ("Without the guard", "With it", "After 5 steps", "90%", "80%", "hf-legend"):
        assert words in shown
    session = attack.sessions.of(VISITOR)
    assert attack.engine.guards == ("poseguard", session.attacked.name)
    wanted = {"poseguard": 1.0, session.attacked.name: 1.0}
    assert attack.with_attack(session, {"poseguard": 0.5}, True) == wanted
    # What was attacked is drawn, whichever form of the guard is on.
    assert attack.with_attack(session, {"poseguard_hardened": 1.0}, True) == wanted
    assert attack.with_attack(session, {}, True) == {}  # nothing guarded is asked for
    assert attack.with_attack(session, {"poseguard": 0.5}, False) == {"poseguard": 0.5}
    with pytest.raises(ValueError, match="lost with the connection"):
        attack.with_attack(attack.sessions.of(OTHER), {"poseguard": 1.0}, True)


def test_the_estimate_goes_by_what_was_mounted_here(attack):
    assert "a first guess" in attack.estimate(20)
    run(attack)
    assert "20 steps" in attack.estimate(20) and "guess" not in attack.estimate(20)


def test_a_second_attack_takes_the_place_of_the_first(attack):
    run(attack)
    first = attack.sessions.of(VISITOR).attacked
    run(attack)
    assert first.name not in attack.engine.guards and len(attack.engine.guards) == 2


def test_a_page_that_is_closed_lets_go_of_its_attack(attack):
    run(attack)
    attack.forget(VISITOR)
    assert attack.engine.guards == ("poseguard",)
    attack.job.prepare(OTHER)
    going = attack.job.run(OTHER, "poseguard", 5, USUAL)
    next(step for step in going if "Step 2" in step[0])
    attack.forget(OTHER)  # in the middle
    *_, last = going
    assert attack.engine.guards == ("poseguard",) and "closed meanwhile" in last[0]


def test_stopping_keeps_the_steps_that_were_taken(attack):
    attack.job.prepare(VISITOR)
    going = attack.job.run(VISITOR, "poseguard", 5, USUAL)
    next(step for step in going if "Step 2" in step[0])
    said, _, stop = attack.job.stop_now(VISITOR)
    assert "Stopping" in said and not stop.interactive
    *_, (said, go, *_) = going
    assert "2 steps (stopped)" in said and go.interactive
    assert attack.job.settle(VISITOR) == said  # whichever of the two came last
    assert attack.sessions.of(VISITOR).attacked


def test_what_waits_can_be_taken_back_and_asked_for_again(attack):
    attack.job.prepare(VISITOR)
    said, go, stop = attack.job.stop_now(VISITOR)
    assert "before its turn" in said and go.interactive and not stop.interactive
    assert attack.job.settle(VISITOR) == said
    attack.job.prepare(VISITOR)
    skipped = list(attack.job.run(VISITOR, "poseguard", 5, USUAL))  # its place comes all the same
    assert len(skipped) == 1 and attack.engine.guards == ("poseguard",)
    *_, last = attack.job.run(VISITOR, "poseguard", 5, USUAL)
    assert "after 5 steps" in last[0]


def test_what_gradio_refuses_leaves_the_page_usable(attack):
    attack.job.prepare(VISITOR)
    said, go, stop, *_ = attack.job.refused(VISITOR)
    assert "out of its range" in said and go.interactive and not stop.interactive
    assert len(run(attack)) > 1  # its press is not waited for any more


def test_what_is_wrong_is_told_and_the_page_is_usable_again(attack, monkeypatch):
    (answer,) = run(attack, steps=500)
    assert "steps is 500; wanted 5 to 40" in answer[0] and answer[1].interactive
    (answer,) = run(attack, steps=0)  # an empty box
    assert "steps is 0" in answer[0]
    for number in range(MAX_ATTACKED):
        attack.engine.add_guard(f"{ATTACKED}{number}", Path())
    (answer,) = run(attack)  # before anything is trained
    assert "of other visitors" in answer[0] and answer[1].interactive

    def loading(guards):
        raise NotReady("The animation model is loading")

    monkeypatch.setattr(attack.engines, "guarded_animation", loading)
    (answer,) = run(attack)
    assert "is loading" in answer[0] and answer[1].interactive


def test_before_the_first_probe_nothing_is_shown():
    assert panel([], "poseguard", 20) == ""
    assert "Without the guard" in panel([probe(-1, 0.9)], "poseguard", 20)
    assert "50% now" in verdict([probe(-1, 0.9), probe(0, 0.3), probe(5, 0.5)])
