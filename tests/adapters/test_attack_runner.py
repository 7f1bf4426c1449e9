"""The queue of attacks: who may wait in it, and what must not end it. No attack is mounted here."""

from __future__ import annotations

import threading
import time

import pytest

from adapters.attacks import runner as queue
from adapters.attacks.base import AttackConfig
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
        with pytest.raises(ValueError, match="you already have an attack"):
            runner.start(CONFIG, owner, marks)
    # One that is being stopped is not in the way of the next one.
    assert runner.stop(first, "ada")
    assert runner.start(CONFIG, "ada")
    assert runner.stop(second, "script")
    assert runner.wait(second, PATIENCE)
    assert runner.start(CONFIG, "other", ("session 1", "address 1"))


def test_nobody_starts_what_nobody_can_stop(runner, store):
    with pytest.raises(ValueError, match="owner is empty"):
        runner.start(CONFIG, "")
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
    assert public_error(missing) == (
        "The adapter sdd is missing. Make it with: python -m adapters.train sdd"
    )
    for error in (
        OSError(28, "No space left on device", str(tmp_path)),
        ValueError(f"Can't find 'adapter_config.json' at '{tmp_path}'"),
        RuntimeError("secret"),
        ValueError(),
    ):
        told = public_error(error)
        assert told.startswith(type(error).__name__)
        assert str(tmp_path) not in told and "secret" not in told
