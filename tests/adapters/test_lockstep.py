"""Two arms in lockstep: who holds the baton, what it guards, and that neither notices the other."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import pytest
import torch
from accelerate.state import GradientState

from adapters.attacks.base import AttackConfig
from adapters.attacks.data import load_data
from adapters.attacks.lockstep import Lockstep
from adapters.attacks.runner import attack_function
from evaluation.judge import Judge
from evaluation.runs import RunStore
from tests.tiny_llm import tiny_llm, tiny_lora

PATIENCE = 60  # seconds for what takes none
CONFIG = AttackConfig(
    target_undefended="one", target="two", steps=4, batch_size=2, rank=2, probe_every=2,
    rollouts=3, max_new_tokens=6, learning_rate=1e-2,
)  # fmt: skip


@pytest.fixture
def cores(monkeypatch):
    return lambda n: monkeypatch.setattr("adapters.attacks.lockstep.torch.get_num_threads",
                                         lambda: n)  # fmt: skip


def run_threads(*targets):
    failed = []

    def guarded(target):
        try:
            target()
        except BaseException as error:  # what a thread raises is told nobody
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failed and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(("n", "side_by_side"), [(1, False), (2, True), (5, True)])
def test_arms_compute_side_by_side_where_each_has_a_core(cores, n, side_by_side):
    cores(n)
    lockstep = Lockstep(["one", "two"])
    assert lockstep.side_by_side == side_by_side
    assert lockstep.threads == (n // 2 if side_by_side else n)
    assert lockstep.cost(8.0) == (4.0 if side_by_side else 8.0)
    assert Lockstep(["one"]).cost(8.0) == 8.0
    meeting, met = threading.Barrier(2), []

    def arm(name):
        lockstep.enter(name)
        lockstep.lay_down(name)
        try:
            meeting.wait(PATIENCE if side_by_side else 0.2)
            met.append(name)
        except threading.BrokenBarrierError:
            meeting.reset()
        lockstep.take_up(name)
        lockstep.leave(name)

    run_threads(lambda: arm("one"), lambda: arm("two"))
    assert sorted(met) == (["one", "two"] if side_by_side else [])


@pytest.mark.parametrize("n", [1, 2])
def test_no_arm_is_more_than_a_step_ahead_and_one_moves_at_a_time(cores, n):
    cores(n)
    lockstep, moving, seen = Lockstep(["one", "two"]), threading.Lock(), []

    def arm(name, steps):
        lockstep.enter(name)
        for step in range(steps):
            assert moving.acquire(blocking=False)
            seen.append((step, name))
            moving.release()
            lockstep.lay_down(name)
            lockstep.take_up(name)
            assert moving.acquire(blocking=False)
            moving.release()
            lockstep.hand_over(name)
        lockstep.leave(name)

    # Whoever leaves early is not waited for.
    run_threads(lambda: arm("one", 30), lambda: arm("two", 20))
    assert seen[:40] == [(step, name) for step in range(20) for name in ("one", "two")]
    assert seen[40:] == [(step, "one") for step in range(20, 30)]


@pytest.mark.parametrize("n", [1, 2])
def test_gradients_are_taken_in_turns_and_the_next_step_begins_meanwhile(cores, n):
    cores(n)
    lockstep, taking, done = Lockstep(["one", "two"]), threading.Lock(), []
    begun = {name: [threading.Event() for _ in range(6)] for name in ("one", "two")}

    def arm(name, steps):
        lockstep.enter(name)
        for step in range(steps):
            begun[name][step].set()
            lockstep.lay_down(name)
            lockstep.begin_gradient(name)
            assert taking.acquire(blocking=False), "two gradients at a time"
            if n == 2 and name == "two" and step < 5:
                assert begun["one"][step + 1].wait(PATIENCE), "nobody samples meanwhile"
            done.append((step, name))
            taking.release()
            lockstep.take_up(name)
            lockstep.end_gradient(name)
            lockstep.hand_over(name, ahead=True)
        lockstep.leave(name)

    # Whoever leaves early is not waited for.
    run_threads(lambda: arm("one", 6), lambda: arm("two", 5))
    assert done == [(step, name) for step in range(5) for name in ("one", "two")] + [(5, "one")]


def test_what_the_arms_share_is_put_back(cores):
    cores(2)
    lockstep, drawn, moved = Lockstep(["one", "two"]), {}, []
    meeting = threading.Barrier(2)

    def arm(name, seed):
        lockstep.enter(name)
        torch.manual_seed(seed)
        for _ in range(20):
            GradientState().sync_gradients = name == "one"
            moved.append(name)
            drawn.setdefault(name, []).append(torch.rand(1).item())
            lockstep.lay_down(name)
            meeting.wait(PATIENCE)  # both have laid it down: each has moved as often
            lockstep.take_up(name)
            assert GradientState().sync_gradients == (name == "one")
        lockstep.leave(name)

    syncs = GradientState().sync_gradients
    try:
        with torch.random.fork_rng():
            run_threads(lambda: arm("one", 1), lambda: arm("two", 2))
            for name, seed in (("one", 1), ("two", 2)):
                torch.manual_seed(seed)
                assert drawn[name] == [torch.rand(1).item() for _ in range(20)]
    finally:
        GradientState().sync_gradients = syncs
    assert all(set(moved[at : at + 2]) == {"one", "two"} for at in range(0, 40, 2)), "by turns"


@pytest.mark.parametrize("name", ["sft", "grpo", "rloo", "grpo_entropy"])
def test_an_attack_side_by_side_is_the_attack_in_turns(cores, name, tmp_path, monkeypatch):
    judge = Judge()  # from the real cache
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path))
    for module in ("pipelines.llm", "adapters.attacks.lockstep"):
        monkeypatch.setattr(f"{module}.compute_dtype", lambda: torch.float32)
    profile = tiny_llm(tmp_path)
    adapters = {"one": tiny_lora(tmp_path / "one", 1), "two": tiny_lora(tmp_path / "two", 2)}
    config, store = dataclasses.replace(CONFIG, attack=name), RunStore(tmp_path / "runs")
    found, passes, gradients, lay_down = [], [], [], Lockstep.lay_down
    begin, end = Lockstep.begin_gradient, Lockstep.end_gradient

    def counted(self, arm):
        passes.append(arm)
        lay_down(self, arm)

    def begun(self, arm):
        begin(self, arm)
        gradients.append(("begun", arm))

    def ended(self, arm):
        gradients.append(("ended", arm))
        end(self, arm)

    monkeypatch.setattr(Lockstep, "lay_down", counted)
    monkeypatch.setattr(Lockstep, "begin_gradient", begun)
    monkeypatch.setattr(Lockstep, "end_gradient", ended)
    for n in (1, 2):
        cores(n)
        passes.clear()
        gradients.clear()
        run = store.create("attack", config.record(), profile.name, {})
        mount = attack_function(name)
        assert mount(profile, config, adapters, load_data(config), run, lambda: False, judge)
        steps = [event for event in run.events() if event["event"] == "step"]
        if name == "sft":  # its gradients are small
            assert not any(kind == "begun" for kind, _ in gradients)
        else:  # in turns, each from its first part to its last
            kept = [call for call, _ in itertools.groupby(gradients)]
            turn = [(kind, arm) for arm in ("one", "two") for kind in ("begun", "ended")]
            assert kept == turn * CONFIG.steps
        # Backward, forward, and the forward passes of sampling and of the probes.
        assert all(passes.count(arm) > 4 * CONFIG.steps for arm in adapters)
        found.append({
            arm: [(e["step"], e["loss"], e["entropy"], e.get("reward"), e.get("length"))
                  for e in steps if e["arm"] == arm]
            for arm in adapters
        })  # fmt: skip
    turns, beside = found
    for arm in adapters:
        assert len(turns[arm]) == CONFIG.steps
        for one, other in zip(turns[arm], beside[arm], strict=True):
            assert one == pytest.approx(other, abs=1e-5)


def reinforced(tmp_path, monkeypatch, should_stop=lambda: False):
    """Attack two tiny arms by GRPO and return the steps; a hang fails."""
    judge = Judge()  # from the real cache
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path))
    profile = tiny_llm(tmp_path)
    adapters = {"one": tiny_lora(tmp_path / "one", 1), "two": tiny_lora(tmp_path / "two", 2)}
    config = dataclasses.replace(CONFIG, attack="grpo")
    run = RunStore(tmp_path / "runs").create("attack", config.record(), profile.name, {})
    data, errors = load_data(config), []

    def attack():
        try:
            attack_function("grpo")(profile, config, adapters, data, run, should_stop, judge)
        except OSError as error:
            errors.append(error)

    run_threads(attack)
    for error in errors:
        raise error
    return [event for event in run.events() if event["event"] == "step"]


def test_an_arm_that_fails_in_its_gradient_ends_the_other(cores, tmp_path, monkeypatch):
    cores(2)
    end = Lockstep.end_gradient

    def ended(self, arm):
        if arm == "two":
            raise OSError("no space left on device")
        end(self, arm)

    monkeypatch.setattr(Lockstep, "end_gradient", ended)
    with pytest.raises(OSError, match="no space left"):
        reinforced(tmp_path, monkeypatch)


def test_a_stop_ends_an_arm_that_waits_for_its_turn(cores, tmp_path, monkeypatch):
    cores(2)
    begin, waits, stop = Lockstep.begin_gradient, threading.Event(), threading.Event()

    def begun(self, arm):
        if arm == "one":
            assert waits.wait(PATIENCE)
            stop.set()
        else:
            waits.set()
        begin(self, arm)

    monkeypatch.setattr(Lockstep, "begin_gradient", begun)
    assert not reinforced(tmp_path, monkeypatch, stop.is_set)
    assert stop.is_set()
