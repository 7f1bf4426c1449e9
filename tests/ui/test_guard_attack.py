"""The panel that attacks a pose guard, called as Gradio would, with real classes at tiny size."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import pytest
import torch

from evaluation.runs import RunStore
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.ui.conftest import tiny_guard
from ui import guard_attack
from ui.attack_runs import LAYERS, runs_html
from ui.engines import Engines, NotReady
from ui.guard_attack import (
    ATTACKED,
    KIND,
    RATES,
    RUNS,
    GuardAttack,
    run_html,
    verdict,
)
from ui.session import Scratch, Sessions

VISITOR = SimpleNamespace(session_hash="visitor")
OTHER = SimpleNamespace(session_hash="other")
SKIPPED = gr.skip()
USUAL, NEARBY = list(RATES)[1], list(LAYERS)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with two tiny guards."""
    made = tmp_path_factory.mktemp("guards")
    avatar_sd = tiny_avatar_sd(made / "avatar-sd")
    for name in ("poseguard", "poseguard_hardened"):
        tiny_guard(avatar_sd, made / "assets" / "adapters" / name)
    return made


@pytest.fixture
def attack(folder, monkeypatch, tmp_path) -> GuardAttack:
    monkeypatch.setattr("adapters.registry.ASSETS", folder / "assets")
    monkeypatch.setenv("HOLDFAST_CACHE", str(folder / "cache"))
    monkeypatch.setattr("pipelines.animation.compute_dtype", lambda *_: torch.float32)
    monkeypatch.setattr(guard_attack, "PICTURES", 4)
    monkeypatch.setattr(guard_attack, "EACH", 1)
    store = RunStore(tmp_path / "runs", tmp_path / "recorded")
    engines = Engines(tiny_profile(folder / "avatar-sd"), store=store, set_up=False)
    engines._animation.load()
    with gr.Blocks():
        return GuardAttack(engines, Sessions(), Scratch(), ["poseguard", "poseguard_hardened"])


def begin(attack: GuardAttack, request=VISITOR, steps: float = 5, layers: str = NEARBY):
    attack.job.prepare(request)
    return attack.job.run(request, "poseguard", steps, USUAL, layers)


def run(attack: GuardAttack, request=VISITOR, steps: float = 5) -> list[tuple]:
    return list(begin(attack, request, steps))


def attacked(attack: GuardAttack) -> list[str]:
    return [name for name in attack.engines.animation.guards if name.startswith(ATTACKED)]


def test_an_attack_is_a_run_and_its_result_can_be_drawn_with(attack):
    waiting = attack.job.prepare(VISITOR)
    assert "Waiting" in waiting[0] and waiting[2].interactive and not waiting[1].interactive
    *under_way, result, (said, go, stop, *_) = attack.job.run(
        VISITOR, "poseguard", 5, USUAL, list(LAYERS)[1]
    )
    assert any("Step 3 of 5" in step[0] and "left" in step[0] for step in under_way)
    assert all(not step[1].interactive and step[2].interactive for step in under_way)
    assert "5 steps in" in said and go.interactive and not stop.interactive
    _, _, _, shown, use, listed, last, cost = result
    assert use.visible and use.value and "20 steps" not in cost and "5 steps" in cost
    for words in (
        "Without the guard", "With it", "After 5 steps", "hf-legend", "after 5 steps",
        "PoseGuard, fine-tuned away", "5 steps at 0.001, LoRA on all layers",
    ):  # fmt: skip
        assert words in shown
    session = attack.sessions.of(VISITOR)
    (name,) = session.attacked.names
    assert attacked(attack) == [name]
    wanted = {"poseguard": 1.0, name: 1.0}
    assert attack.with_attack(session, {"poseguard": 0.5}, True) == wanted
    # What was attacked is drawn, whichever form of the guard is on.
    assert attack.with_attack(session, {"poseguard_hardened": 1.0}, True) == wanted
    assert attack.with_attack(session, {}, True) == {}  # nothing guarded is asked for
    assert attack.with_attack(session, {"poseguard": 0.5}, False) == {"poseguard": 0.5}
    with pytest.raises(ValueError, match="the connection dropped"):
        attack.with_attack(attack.sessions.of(OTHER), {"poseguard": 1.0}, True)

    made = attack.engines.store.get(last)
    assert made.info["status"] == "done" and set(made.info["parents"]) == {"poseguard", "unet"}
    assert [e["step"] for e in made.events() if e["event"] == "probe"] == [-1, 0, 5]
    assert "PoseGuard, fine-tuned away" in listed and made.id[-6:] in listed
    # A page that is opened again, or another visitor's, reads the same.
    said, again, _ = attack.runs.come_back([last], OTHER)
    assert again == shown and "attack again" in said
    assert attack.runs.open(SimpleNamespace(pick=last), OTHER)[1] == shown
    assert attack.runs.come_back(["no-run"], OTHER)[1] == SKIPPED
    assert "gone" in attack.runs.open(SimpleNamespace(pick="no-run"), OTHER)[0]


def test_the_estimate_goes_by_what_was_mounted_here(attack):
    assert "a first guess" in attack.estimate(20)
    run(attack)
    assert "20 steps" in attack.estimate(20) and "guess" not in attack.estimate(20)


def test_a_second_attack_takes_the_place_of_the_first_and_closing_lets_go(attack):
    run(attack)
    first = attacked(attack)
    run(attack)
    assert len(attacked(attack)) == 1 and attacked(attack) != first
    attack.forget(VISITOR)
    assert not attacked(attack)
    going = begin(attack, OTHER)
    first = next(going)  # what an attack before it measured is not below its progress
    assert first[3] == "" and 'aria-current="true"' not in first[5]
    next(step for step in going if "Step 2" in step[0])
    assert attack.runs.open(SimpleNamespace(pick=_a_run(attack)), OTHER)[1] == SKIPPED
    attack.forget(OTHER)  # in the middle
    *_, last = going
    assert not attacked(attack) and "closed meanwhile" in last[0]


def test_the_oldest_of_other_visitors_make_room_and_their_runs_too(attack, monkeypatch):
    monkeypatch.setattr("ui.attack_runs.KEPT_RUNS", 2)
    attack._left.most = 2
    visitors = [SimpleNamespace(session_hash=f"visitor {number}") for number in range(3)]
    for visitor in visitors:
        run(attack, visitor)
    first, *others = (attack.sessions.of(visitor) for visitor in visitors)
    assert not first.attacked.names and len(attacked(attack)) == 2
    assert sorted(attacked(attack)) == sorted(n for one in others for n in one.attacked.names)
    with pytest.raises(ValueError, match="others have attacked since"):
        attack.with_attack(first, {"poseguard": 1.0}, True)
    assert len(attack.engines.store.list()) == 2
    attack.forget(visitors[0])  # has nothing left to give back


def _a_run(attack: GuardAttack) -> str:
    return next(info.id for info in attack.engines.store.list() if info.status == "done")


def test_stopping_keeps_the_steps_that_were_taken(attack):
    going = begin(attack)
    next(step for step in going if "Step 2" in step[0])
    said, _, stop = attack.job.stop_now(VISITOR)
    assert "Stopping" in said and not stop.interactive
    *_, result, (said, go, *_) = going
    assert "2 steps in" in said and go.interactive
    assert "2 of 5 steps at 0.001 (stopped)" in result[3]
    assert '<td class="how">2 of 5 steps' in result[5]
    assert attack.job.settle(VISITOR) == said  # whichever of the two came last
    assert attack.engines.store.get(result[6]).info["status"] == "stopped"
    assert list(attack.sessions.of(VISITOR).attacked.names.values()) == ["poseguard"]


def test_stopped_before_its_first_step_nothing_is_kept(attack):
    going = begin(attack)
    next(going)  # the attacker's pictures are being made
    attack.job.stop_now(VISITOR)
    *_, (said, go, stop, *_) = going
    assert "before the first step" in said and go.interactive and not stop.interactive
    assert not attacked(attack)


def test_what_waits_can_be_taken_back_and_asked_for_again(attack):
    attack.job.prepare(VISITOR)
    said, go, stop = attack.job.stop_now(VISITOR)
    assert "before its turn" in said and go.interactive and not stop.interactive
    assert attack.job.settle(VISITOR) == said
    attack.job.prepare(VISITOR)
    asked = (VISITOR, "poseguard", 5, USUAL, NEARBY)
    skipped = list(attack.job.run(*asked))  # its place comes all the same
    assert len(skipped) == 1 and not attacked(attack)
    *_, last = attack.job.run(*asked)
    assert "5 steps in" in last[0]


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
    (answer,) = begin(attack, layers="some")
    assert "of the layers, shown" in answer[0]
    assert not attack.engines.store.list()

    def loading(guards):
        raise NotReady("The animation model is loading")

    monkeypatch.setattr(attack.engines, "guarded_animation", loading)
    (answer,) = run(attack)
    assert "is loading" in answer[0] and answer[1].interactive


def test_an_attack_that_breaks_off_says_why(attack, monkeypatch):
    def full(name, folder):
        raise RuntimeError("no room")

    monkeypatch.setattr("adapters.attacks.fine_tune.save_lora", full)
    *_, answer = run(attack)
    assert "broke off" in answer[0] and answer[1].interactive
    (info,) = attack.engines.store.list()
    assert info.status == "failed" and "RuntimeError" in info.error
    assert "RuntimeError" in run_html(attack.engines.store.get(info.id))
    assert "failed" in runs_html(RUNS, [info], "", lambda run: 0)


def test_a_page_that_is_closed_while_the_pictures_are_made_leaves_no_run(attack):
    going = begin(attack)
    next(going), next(going)  # "Rendering …", "Measuring …"
    going.close()
    assert not attack.engines.store.list()


def test_an_attack_that_the_connection_ends_is_not_left_running(attack):
    going = begin(attack)
    next(step for step in going if "Step 2" in step[0])
    going.close()
    (info,) = attack.engines.store.list()
    assert info.status == "interrupted"
    assert "broken off" in run_html(attack.engines.store.get(info.id))


def test_a_guard_that_is_no_more_is_listed_by_its_name(attack):
    config = {"target": "gone", "steps": 5, "learning_rate": 1e-3, "seed": 0}
    attack.engines.store.create(KIND, config, "embedded", {}).finish("done")
    assert "gone, fine-tuned away" in attack.runs.html("")


def test_before_the_first_probe_nothing_is_shown(attack):
    made = attack.engines.store.create(KIND, {"target": "poseguard"}, "embedded", {})
    assert run_html(made) == ""


def test_the_verdict_counts_the_joints_before_and_after():
    probes = [
        {"step": step, "unsafe_pose": pose, "other_pose": 0.93}
        for step, pose in ((-1, 0.9), (0, 0.3), (5, 0.5), (10, 0.8))
    ]
    assert "30% were found before it and 80% after 10 steps, 90% without" in verdict(probes)
