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
from ui.guard_attack import ATTACKED, MAX_ATTACKED, RATES, GuardAttack, panel
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
        made = GuardAttack(engines, Sessions(), Scratch())
    engine = Engine()
    monkeypatch.setattr(engines, "guarded_animation", lambda guards: engine)
    monkeypatch.setattr(guard_removal, "render_scenes", lambda *args: None)

    def remove(config, profile, guard, scenes, reader, out, should_stop):
        yield probe(-1, 0.9)
        yield probe(0, 0.3)
        for step in range(1, config.steps + 1):
            if should_stop():
                return
            yield RemovalStep(step, 1.0)
        yield probe(config.steps, 0.8)

    monkeypatch.setattr(guard_removal, "remove", remove)
    made.engine = engine
    return made


def run(attack: GuardAttack, request: SimpleNamespace = VISITOR, steps: int = 5) -> list[tuple]:
    attack.prepare(request)
    return list(attack.take_off(steps, USUAL, request))


def test_an_attack_tells_how_far_it_is_and_its_result_can_be_drawn_with(attack):
    waiting = attack.prepare(VISITOR)
    assert "Waiting" in waiting[0] and waiting[3].interactive and not waiting[2].interactive
    *under_way, (said, shown, go, stop, use) = attack.take_off(5, USUAL, VISITOR)
    assert any("Step 3 of 5" in step[0] and "left" in step[0] for step in under_way)
    assert all(not step[2].interactive and step[3].interactive for step in under_way)
    assert "5 steps" in said and go.interactive and not stop.interactive
    assert use.visible and use.value
    for words in ("Without the guard", "With it", "After 5 steps", "90%", "80%"):
        assert words in shown
    session = attack.sessions.of(VISITOR)
    assert attack.engine.guards == ("poseguard", session.attacked)
    chosen = attack.with_attack(session, {"poseguard": 0.5}, True)
    assert chosen == {"poseguard": 1.0, session.attacked: 1.0}
    assert attack.with_attack(session, {}, True) == {}  # without the guard it is another model
    assert attack.with_attack(session, {"poseguard": 0.5}, False) == {"poseguard": 0.5}
    with pytest.raises(ValueError, match="lost with the connection"):
        attack.with_attack(attack.sessions.of(OTHER), {"poseguard": 1.0}, True)


def test_a_second_attack_takes_the_place_of_the_first(attack):
    run(attack)
    first = attack.sessions.of(VISITOR).attacked
    run(attack)
    assert first not in attack.engine.guards and len(attack.engine.guards) == 2


def test_a_page_that_is_closed_lets_go_of_its_attack(attack):
    run(attack)
    attack.forget(VISITOR)
    assert attack.engine.guards == ("poseguard",)
    attack.prepare(OTHER)
    going = attack.take_off(5, USUAL, OTHER)
    next(step for step in going if "Step 2" in step[0])
    attack.forget(OTHER)  # in the middle
    *_, last = going
    assert attack.engine.guards == ("poseguard",) and not last[4].visible


def test_stopping_keeps_the_steps_that_were_taken(attack):
    attack.prepare(VISITOR)
    going = attack.take_off(5, USUAL, VISITOR)
    next(step for step in going if "Step 2" in step[0])
    said, button = attack.stop_now(VISITOR)
    assert "Stopping" in said and not button.interactive
    *_, (said, _, go, _, use) = going
    assert "2 steps (stopped)" in said and go.interactive and use.visible


def test_stopped_before_its_turn_nothing_is_attacked(attack):
    attack.prepare(VISITOR)
    attack.stop_now(VISITOR)
    ((said, _, go, stop, use),) = attack.take_off(5, USUAL, VISITOR)
    assert "before its turn" in said and go.interactive and not stop.interactive
    assert not use.visible and attack.engine.guards == ("poseguard",)


def test_what_is_wrong_is_told_and_the_page_is_usable_again(attack, monkeypatch):
    (answer,) = list(attack.take_off(500, USUAL, VISITOR))
    assert "steps must be within" in answer[0] and answer[2].interactive
    for number in range(MAX_ATTACKED):
        attack.engine.add_guard(f"{ATTACKED}{number}", Path())
    *_, answer = run(attack)
    assert "of other visitors" in answer[0] and answer[2].interactive

    def loading(guards):
        raise NotReady("The animation model is loading")

    monkeypatch.setattr(attack.engines, "guarded_animation", loading)
    (answer,) = run(attack)
    assert "is loading" in answer[0] and answer[2].interactive


def test_before_the_first_probe_nothing_is_shown():
    assert panel([]) == ""
    assert "Without the guard" in panel([probe(-1, 0.9)])
