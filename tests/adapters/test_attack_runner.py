"""The queue of attacks: who may wait in it, and what must not end it. No attack is mounted here."""

from __future__ import annotations

import dataclasses
import errno
import threading
import time

import pytest
import torch

from adapters.attacks import runner as queue
from adapters.attacks.base import AttackConfig, UntrainedConfig
from adapters.attacks.runner import MAX_WAITING, AttackRunner
from evaluation.runs import Run, RunStore, public_error
from pipelines.fetch import MissingWeights
from tests.tiny_llm import tiny_llm

CONFIG = AttackConfig(target_undefended="one", target="two", steps=1)
PATIENCE = 60


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs", tmp_path / "recorded")


@pytest.fixture
def go():
    """Attacks that run end once this is set."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def runner(tmp_path, store, go, monkeypatch):
    """A queue whose attacks only wait, for the end of the test or for being stopped."""

    def attack(profile, config, adapters, pairs, run, should_stop):
        while not (go.is_set() or should_stop()):
            time.sleep(0.01)
        return not should_stop()

    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path))
    monkeypatch.setattr(queue, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(queue, "_check_arm", lambda arm: None)
    monkeypatch.setattr(queue, "attack_function", lambda name: attack)
    monkeypatch.setattr(AttackRunner, "_adapter", lambda self, arm: None)
    made = AttackRunner(tiny_llm(tmp_path), store)
    yield made
    # Whoever still waits must not be left to the real attack, which comes back after this.
    go.set()
    for run in store.list():
        assert made.wait(run.id, PATIENCE)


@pytest.mark.parametrize(("failures", "status"), [(1, "done"), (2, "running")])
def test_a_disk_error_at_the_end_does_not_end_the_queue(
    runner, store, go, monkeypatch, failures, status
):
    finish, left = Run.finish, [None] * failures

    def full_disk(self, *arguments):
        if left:
            left.pop()
            raise OSError("no space left on device")
        finish(self, *arguments)

    monkeypatch.setattr(Run, "finish", full_disk)
    first, second = runner.start(CONFIG, "ada"), runner.start(CONFIG, "bob")
    go.set()
    assert runner.wait(first, PATIENCE) and runner.wait(second, PATIENCE)
    assert store.get(first).info["status"] == status
    assert store.get(second).info["status"] == "done"
    third = runner.start(CONFIG, "ada")
    assert runner.wait(third, PATIENCE)


def test_an_unreadable_record_does_not_end_the_queue(runner, store, go, monkeypatch):
    def broken(self, since_line=0):
        raise OSError("input/output error")

    monkeypatch.setattr(Run, "events", broken)
    first, second = runner.start(CONFIG, "ada"), runner.start(CONFIG, "bob")
    go.set()
    assert runner.wait(second, PATIENCE)
    assert {store.get(run).info["status"] for run in (first, second)} == {"done"}


def test_a_visitor_has_one_attack_in_the_queue(runner):
    first = runner.start(CONFIG, "ada")
    second = runner.start(CONFIG, "script", ("session 1", "address 1"))
    for owner, marks in (
        ("ada", ()),
        ("other", ("session 1", "address 2")),
        ("other", ("session 2", "address 1")),
    ):
        with pytest.raises(ValueError, match="already have an attack"):
            runner.start(CONFIG, owner, marks)
    # One that is being stopped is not in the way of the next one.
    assert runner.stop(first, "ada")
    assert runner.start(CONFIG, "ada")
    assert runner.stop(second, "script")
    assert runner.wait(second, PATIENCE)
    assert runner.start(CONFIG, "other", ("session 1", "address 1"))


def test_who_comes_next_is_told_what_is_ahead(runner):
    assert runner.ahead() == (0, 0)
    first = runner.start(AttackConfig(), "ada")
    count, seconds = runner.ahead()
    assert count == 1 and 0 < seconds <= runner.estimate(AttackConfig())
    runner.stop(first, "ada")


def test_an_attack_that_takes_far_too_long_makes_room_for_others(runner, store):
    runner._longest = 0.2
    first = runner.start(AttackConfig(), "ada")
    assert runner.wait(first, 60)
    info = store.get(first).info
    assert info["status"] == "stopped" and "others get their turn" in info["error"]


def test_nobody_starts_what_nobody_can_stop(runner, store):
    with pytest.raises(ValueError, match="owner is empty"):
        runner.start(CONFIG, "")
    assert store.list() == []


@pytest.mark.parametrize(
    ("arm", "guarded"), [("gift", "the picture model"), ("poseguard", "the animation model")]
)
def test_a_defence_of_another_model_is_no_target(tmp_path, store, arm, guarded):
    with pytest.raises(ValueError, match=f"target is '{arm}', which guards {guarded}"):
        AttackRunner(tiny_llm(tmp_path), store).start(AttackConfig(target=arm), "ada")
    assert store.list() == []


def test_the_queue_has_an_end(runner):
    for number in range(MAX_WAITING + 1):
        runner.start(CONFIG, f"visitor {number}")
    with pytest.raises(ValueError, match="wait until one has ended"):
        runner.start(CONFIG, "one more")


def test_an_error_is_told_to_everybody_without_the_folders_of_the_server(tmp_path):
    assert public_error(ValueError("line 3: no 'prompt'; 1/2 kept")) == (
        "line 3: no 'prompt'; 1/2 kept"
    )
    missing = MissingWeights("The adapter sdd", tmp_path, "python -m adapters.train sdd")
    assert "GPU's memory is full" in public_error(torch.OutOfMemoryError("20 GiB"))
    assert public_error(missing) == (
        "The adapter sdd is missing. Make it with: python -m adapters.train sdd"
    )
    missing.command += f" --llm '{tmp_path}/my models/a llama'"
    assert public_error(missing).endswith("python -m adapters.train sdd --llm 'a llama'")
    for error in (
        OSError(5, "Input/output error", str(tmp_path)),
        ValueError(f"Can't find 'adapter_config.json' at '{tmp_path}'"),
        RuntimeError("secret"),
        ValueError(),
    ):
        told = public_error(error)
        assert told.startswith(type(error).__name__)
        assert str(tmp_path) not in told and "secret" not in told
    for error in (
        OSError(errno.ENOSPC, "No space left on device", str(tmp_path)),
        OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path)),
        RuntimeError(f"{tmp_path}: No space left on device (os error 28)"),  # of safetensors
    ):
        assert public_error(error) == "The server's disk is full; tell whoever runs it"


@pytest.mark.parametrize(("dtype", "slowed"), [(torch.bfloat16, 1.0), (torch.float32, 4.0)])
def test_first_guesses_go_by_the_number_format(tmp_path, store, monkeypatch, dtype, slowed):
    monkeypatch.setattr("pipelines.device.compute_dtype", lambda: dtype)
    monkeypatch.setattr("pipelines.device.device", lambda: torch.device("cpu"))
    made = AttackRunner(tiny_llm(tmp_path), store)
    for config in (AttackConfig(attack="grpo"), UntrainedConfig(attack="abliteration")):
        assert not made.measured(config)
        monkeypatch.setattr("pipelines.device.compute_dtype", lambda: torch.bfloat16)
        assert made.estimate(config) == pytest.approx(
            slowed * AttackRunner(tiny_llm(tmp_path), store).estimate(config)
        )


def test_the_first_attack_turns_guesses_into_measurements(runner, store, go, monkeypatch):
    def attack(profile, config, adapters, pairs, run, should_stop):
        time.sleep(0.5)  # it loads
        for arm in adapters:
            run.log(event="probe", arm=arm, step=0, seconds=0.01)
            run.log(event="step", arm=arm, step=1, stage="sft", seconds=0.02)
        return True

    monkeypatch.setattr(queue, "attack_function", lambda name: attack)
    guess = runner.estimate(CONFIG)
    assert guess > 8
    assert runner.wait(runner.start(CONFIG, "ada"), PATIENCE)
    assert runner.measured(CONFIG)
    assert not runner.measured(AttackConfig(attack="grpo"))
    # What is neither a step nor a probe is loading: half a second and what the disk took.
    assert 0.5 <= runner.estimate(CONFIG) < guess / 2


def test_what_is_ahead_goes_by_the_pace_of_the_attack_that_runs(runner, go, monkeypatch):
    logged = threading.Event()

    def attack(profile, config, adapters, pairs, run, should_stop):
        for arm in adapters:
            run.log(event="probe", arm=arm, step=0, seconds=30.0)
            run.log(event="step", arm=arm, step=1, stage="sft", seconds=40.0)
        logged.set()
        return go.wait(PATIENCE)

    monkeypatch.setattr(queue, "attack_function", lambda name: attack)
    config = dataclasses.replace(CONFIG, steps=5, probe_every=5)
    first = runner.start(config, "ada")
    assert logged.wait(PATIENCE)
    slow = 2 * (4 * 40 + 30)  # many times the guess
    assert runner.estimate(config) < slow / 3
    assert runner.ahead() == (1, slow) and runner.seconds_left(first) == slow
    second = runner.start(CONFIG, "bob")
    assert runner.seconds_ahead(second) == slow and runner.seconds_left(second) is None
    runner.stop(second, "bob")


def test_an_attack_without_training_tells_its_pace_by_its_share(runner, go, monkeypatch):
    shares, told = iter((0.05, 0.25)), threading.Semaphore(0)

    def attack(profile, config, adapters, pairs, run, should_stop):
        for share in shares:
            run.log(event="progress", arm="one", doing="waiting", share=share)
            told.release()
            go.wait(PATIENCE)
            go.clear()
        return True

    monkeypatch.setattr(queue, "attack_function", lambda name: attack)
    config = UntrainedConfig("one", "two", "prefill")
    run_id, guess = runner.start(config, "ada"), runner.estimate(config)
    assert told.acquire(timeout=PATIENCE)
    assert runner.seconds_left(run_id) is None and 0 < runner.ahead()[1] <= guess
    runner._jobs[0].begun -= 50  # longer than it was guessed to take, and hardly anything is done
    assert 50 <= runner.ahead()[1] < 50 + PATIENCE
    go.set()
    assert told.acquire(timeout=PATIENCE)
    begun = runner._jobs[0].begun
    runner._jobs[0].begun = begun - 100  # as if a quarter had taken that long
    assert 300 <= runner.seconds_left(run_id) < 300 + 3 * PATIENCE
    go.set()
    assert runner.wait(run_id, PATIENCE)


def test_one_kind_of_attack_s_slow_probes_are_not_another_s(runner, monkeypatch):
    def attack(profile, config, adapters, pairs, run, should_stop):
        run.log(event="probe", arm="one", step=0, seconds=80.0)
        return True

    monkeypatch.setattr(queue, "attack_function", lambda name: attack)
    forced = UntrainedConfig("one", "two", "prefill")
    others = (CONFIG, AttackConfig(attack="grpo_skill"), UntrainedConfig(attack="abliteration"))
    before = [runner.estimate(config) for config in others]
    assert runner.wait(runner.start(forced, "ada"), PATIENCE)
    assert runner.estimate(forced) > 4 * 80
    assert [runner.estimate(config) for config in others] == before


def test_who_waits_is_told_how_long(runner):
    long = AttackConfig(target_undefended="one", target="two", attack="grpo", steps=200)
    first, second = runner.start(long, "ada"), runner.start(CONFIG, "bob")
    third = runner.start(CONFIG, "eve")
    assert runner.seconds_ahead(first) == 0
    assert runner.estimate(long) - PATIENCE < runner.seconds_ahead(second) <= runner.estimate(long)
    both = runner.estimate(long) + runner.estimate(CONFIG)
    assert both - PATIENCE < runner.seconds_ahead(third) <= both
    assert runner.stop(second, "bob") and runner.seconds_ahead(second) == 0
