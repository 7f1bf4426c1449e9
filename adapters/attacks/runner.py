"""The queue of attacks: one at a time, in a thread of its own, each recorded as a run."""

from __future__ import annotations

import gc
import importlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Any

from adapters import registry
from adapters.attacks.base import (
    ATTACKS,
    BASE_ARM,
    METHODS,
    SUPERVISED,
    UNTRAINED,
    AttackConfig,
    Settings,
    UntrainedConfig,
)
from adapters.attacks.data import Pair, data_hash, load_data, sources
from adapters.attacks.progress import seconds_left, share_done
from evaluation.runs import Run, RunStore, public_error, weights_hash
from pipelines.fetch import MissingWeights, llm_folder
from pipelines.memory import return_freed_memory
from pipelines.profiles import Profile

MAX_WAITING = 8
"""Attacks that may wait behind the one that runs."""
KEPT_RUNS = 500
"""Attacks whose records are kept where only the newest keep their weights; without an end to them,
whoever starts and stops attacks in a loop could fill the disk."""

FLOAT32_SLOWDOWN = 4.0
"""How many times as long the first guesses are on a CPU without bf16, as steps of RLOO and of
supervised tuning took there (docs/speed.md)."""

RETRY_SECONDS = 1.0
"""Wait before how a run ended is written once more, if the disk refused it."""

_TRAINED = "trained"
"""What attacks are called together that train, and are probed alike."""

MEASURED_FROM = 0.1
"""Share of an attack without training from which its own pace tells what is left: before, most of
the time that has passed was spent on loading."""

_GUARDED = {"animation": "the animation model", "pictures": "the picture model"}
"""Pipelines that are not attacked here, as an error message calls them."""

AttackFn = Callable[
    [Profile, Settings, dict[str, Path | None], Sequence[Pair], Run, Callable[[], bool]], bool
]

_log = logging.getLogger(__name__)


def import_trainers() -> None:
    """Import what the first attack would otherwise wait for, some seconds' worth."""
    for kind in ("sft", "grpo", "rloo"):
        importlib.import_module(f"trl.trainer.{kind}_trainer")


@dataclass
class _Job:
    run: Run
    config: Settings
    adapters: dict[str, Path | None]
    pairs: Sequence[Pair]
    visitor: frozenset[str]  # the owner and what else tells who started it
    begun: float = 0.0  # when its turn came, on the monotonic clock; 0 while it waits
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Cost:
    """Seconds that the parts of an attack take; first guesses, then measurements of this machine.

    The guesses are of two cores that multiply bf16.
    """

    learnt: set[str | tuple[str, str]] = field(default_factory=set)  # keys of `mount` and `part`
    load: float = 8.0  # both arms and their trainers
    probe: dict[str, float] = field(
        # One of one arm, by attack. What trains is probed alike; but for the one on skill, which
        # asks problems as well. What does not is asked otherwise, and may be many times slower.
        default_factory=lambda: {_TRAINED: 3.0, "grpo_skill": 6.0} | dict.fromkeys(UNTRAINED, 3.0)
    )
    mount: dict[str, float] = field(
        # An attack without training on one arm: loading alone, or loading and some hundred forward
        # passes (as the runs of the stress test took that ship).
        default_factory=lambda: {"prefill": 1.0, "abliteration": 145.0}
    )
    part: dict[tuple[str, str], float] = field(
        # One pair, or one token of one reply, of one step of one arm, by method and stage. The
        # adaptive attacker reads its replies once more, and so do RLOO and REINFORCE++. All
        # weights or a LoRA is about the same: the gradients of 135 M weights and their update, less
        # the LoRA's own products (3 steps of each by SFT, beside other work: 3.8 and 3.6 s a step).
        default_factory=lambda: {
            (method, stage): seconds
            for method in METHODS
            for stage, seconds in (
                ("sft", 0.2), ("grpo", 0.008), ("grpo_entropy", 0.01), ("rloo", 0.01),
                ("reinforce_pp", 0.01), ("grpo_skill", 0.008),
            )
        }
    )  # fmt: skip

    def probed(self, attack: str) -> str:
        """Return the key of `probe` that an attack goes by."""
        return attack if attack in self.probe else _TRAINED

    def slowed(self, factor: float) -> _Cost:
        """Return the same guesses for a machine that takes ``factor`` times as long."""
        return _Cost(
            load=factor * self.load,
            probe={name: factor * seconds for name, seconds in self.probe.items()},
            mount={name: factor * seconds for name, seconds in self.mount.items()},
            part={name: factor * seconds for name, seconds in self.part.items()},
        )


class AttackRunner:
    """Runs attacks one after another and lets only their owners stop them.

    The attacked models live only while their attack runs; what stays is the run folder.
    """

    def __init__(
        self,
        profile: Profile,
        store: RunStore,
        keep: tuple[int, int] | None = None,
        longest: float = math.inf,
    ) -> None:
        """Start with an empty queue; nothing is loaded before the first attack.

        Args:
            profile: which models are attacked.
            store: where the runs are recorded.
            keep: how many of the newest runs keep the attacked models on disk, whole ones and
                LoRAs, see `RunStore.keep_weights`; of `KEPT_RUNS` what they tell stays. None: all.
            longest: seconds after which an attack is stopped, so that others get their turn: an
                estimate may be wrong, and who started it may be gone.
        """
        self._longest = longest
        self._keep = keep
        self._profile = profile
        self._store = store
        self._base: str | None = None  # hash of the base model's weights
        self._cost = _Cost().slowed(_slowdown())
        self._jobs: list[_Job] = []  # the first one is running
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None

    def start(
        self,
        config: Settings,
        owner: str,
        marks: Sequence[str] = (),
        arms: Sequence[str] | None = None,
    ) -> str:
        """Check an attack, put it into the queue and return its run's id.

        Args:
            config: what to do.
            owner: who may stop it; a secret of the visitor's session.
            marks: what else a visitor is known by, such as their address. An owner and each mark
                may have one attack in the queue, so that nobody fills it alone.
            arms: which of the two are attacked; None: both. What one of them does not depend on the
                other, so whoever has an arm's events already need not train it again.

        Raises:
            DataError: the data cannot be used.
            MissingWeights: the base model or the adapter of an arm that is attacked is not there.
            ValueError: there is no such arm, or none to attack; the queue is full; or the visitor's
                last attack has not ended.
        """
        if not owner:
            raise ValueError("owner is empty; nobody could stop the attack")
        for arm in config.arms:  # a name that does not exist comes before weights that are missing
            _check_arm(arm)
        attacked = list(config.arms if arms is None else arms)
        if not attacked or not set(attacked) <= set(config.arms):
            raise ValueError(f"arms is {attacked}; choose among: {', '.join(config.arms)}")
        adapters = {arm: self._adapter(arm) for arm in attacked}
        # What is not attacked need not be there.
        for arm in set(config.arms) - set(attacked):
            with suppress(MissingWeights):
                adapters[arm] = self._adapter(arm)
        pairs = load_data(config)
        parents = {"base": self._base_hash()}
        if files := sources(config):
            parents["data"] = data_hash(files)
        parents |= {
            arm: weights_hash(folder) for arm, folder in adapters.items() if folder is not None
        }
        visitor = frozenset((owner, *marks))
        with self._changed:
            # One that is being stopped does not count: it ends in a moment.
            theirs = [visitor & job.visitor for job in self._jobs if not job.stop.is_set()]
            if any(owner in common for common in theirs):
                raise ValueError(
                    "You already have an attack running. Stop it or wait."
                )
            if any(theirs):
                raise ValueError(
                    "You, or somebody with your network address, already have an attack running. "
                    "Wait until it has ended."
                )
            if len(self._jobs) > MAX_WAITING:
                raise ValueError(
                    f"{len(self._jobs)} attacks are in the queue; wait until one has ended"
                )
            record = config.record() | ({"pairs": len(pairs)} if pairs else {})
            run = self._store.create("attack", record, self._profile.name, parents, owner)
            mounted = {arm: adapters[arm] for arm in attacked}
            self._jobs.append(_Job(run, config, mounted, pairs, visitor))
            if self._worker is None:
                # A daemon: closing the app must not wait for an attack. What was logged is on
                # disk, and the run will read as interrupted.
                self._worker = threading.Thread(
                    target=self._work, name="holdfast-attacks", daemon=True
                )
                self._worker.start()
            self._changed.notify_all()
        return run.id

    def stop(self, run_id: str, owner: str) -> bool:
        """Ask an attack to stop; a running one does before its next forward pass.

        Args:
            run_id: which attack.
            owner: who asks; must be who started it.

        Returns:
            Whether it will stop: False if it has ended, or is somebody else's.
        """
        with self._changed:
            found = [job for job in self._jobs if job.run.id == run_id]
            if not found or not found[0].run.owned_by(owner):
                return False
            job = found[0]
            job.stop.set()
            if job is self._jobs[0]:
                return True
            self._jobs.remove(job)
            self._changed.notify_all()
        _finish(job.run, "stopped")
        return True

    def position(self, run_id: str) -> int | None:
        """Return how many attacks come before this one: 0 if it is running, None if it ended."""
        with self._changed:
            ids = [job.run.id for job in self._jobs]
        return ids.index(run_id) if run_id in ids else None

    def seconds_ahead(self, run_id: str) -> float:
        """Return about how many seconds the attacks before this one still take; 0 if it ended."""
        with self._changed:
            jobs = list(self._jobs)
        before = list(takewhile(lambda job: job.run.id != run_id, jobs))
        return 0.0 if len(before) == len(jobs) else sum(map(self._left, before))

    def seconds_left(self, run_id: str) -> float | None:
        """Return about how many seconds an attack still takes by its own pace.

        None of one that does not run, or has done too little to tell.
        """
        with self._changed:
            jobs = [job for job in self._jobs[:1] if job.run.id == run_id and job.begun]
        return self._by_pace(jobs[0]) if jobs else None

    def _by_pace(self, job: _Job) -> float | None:
        config, events = job.config, job.run.events()
        if isinstance(config, UntrainedConfig):
            share = share_done(events)
            passed = time.monotonic() - job.begun
            return (1 - share) * passed / share if share >= MEASURED_FROM else None
        arms = len(job.adapters)
        later = arms * sum(self._stage(config, *stage) for stage in config.stages[1:])
        return seconds_left(config.record(), events, arms, later)

    def _left(self, job: _Job) -> float:
        """Return how long an attack still takes: by its own pace, once it has one, else a guess."""
        guess = self.estimate(job.config)
        if not job.begun:
            return guess
        left = self._by_pace(job)
        if left is not None:
            return left
        # Nothing but the loading can be over. Where that takes longer than all was guessed to take,
        # the rest will too.
        passed = time.monotonic() - job.begun
        return max(guess - min(passed, self._cost.load), passed)

    def _stage(self, config: AttackConfig, stage: str, steps: int) -> float:
        """Return the seconds of a stage's steps on one arm."""
        return steps * _parts(config, stage) * self._cost.part[config.method, stage]

    def ahead(self) -> tuple[int, float]:
        """Return how many attacks a new one would wait for, and about how many seconds."""
        with self._changed:
            jobs = list(self._jobs)
        return len(jobs), sum(map(self._left, jobs))

    def measured(self, config: Settings) -> bool:
        """Tell whether `estimate` rests on such an attack on this machine, and is no guess."""
        if isinstance(config, UntrainedConfig):
            return config.attack in self._cost.learnt
        return all((config.method, stage) in self._cost.learnt for stage, _ in config.stages)

    def estimate(self, config: Settings) -> float:
        """Return the seconds that an attack would take, from what was measured so far.

        Time in the queue is not included. Until such an attack has run here it is a guess.
        """
        cost, arms = self._cost, len(config.arms)
        probe = cost.probe[cost.probed(config.attack)]
        if isinstance(config, UntrainedConfig):
            # Each arm is loaded once to be asked as it is released; `mount` holds the second time.
            once = cost.mount["prefill"] + 2 * probe + cost.mount[config.attack]
            return arms * once
        steps = sum(self._stage(config, *stage) for stage in config.stages)
        return cost.load + arms * (steps + len(config.probe_steps()) * probe)

    def wait(self, run_id: str, timeout: float | None = None) -> bool:
        """Wait until an attack has ended; return False if it has not within timeout seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(job.run.id != run_id for job in self._jobs), timeout
            )

    def _adapter(self, arm: str) -> Path | None:
        if arm == BASE_ARM:
            return None
        return registry.adapter_folder(arm, self._profile)

    def _base_hash(self) -> str:
        # Hashing gigabytes once is enough: the folder is written once and then only read.
        if self._base is None:
            self._base = weights_hash(llm_folder(self._profile))
        return self._base

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                job = self._jobs[0]
                job.begun = time.monotonic()
            try:
                self._attack(job)
            except Exception:  # the disk, most likely; those who wait must get their turn
                _log.exception("attack %s could not be recorded", job.run.id)
            finally:
                with self._changed:
                    self._jobs.remove(job)
                    self._changed.notify_all()

    def _attack(self, job: _Job) -> None:
        """Run one attack and record how it ended."""
        status, words, took = "failed", "", None
        try:
            job.run.log(event="start", arms=list(job.adapters))
            attack = attack_function(job.config.attack)
            complete = attack(
                self._profile, job.config, job.adapters, job.pairs, job.run,
                lambda: job.stop.is_set() or self._overdue(job),
            )  # fmt: skip
            status = "done" if complete else "stopped"
            if not complete and not job.stop.is_set():
                minutes = round(self._longest / 60)
                words = f"Ended after {minutes} min, so that others get their turn"
            took = time.monotonic() - job.begun
        except Exception as error:
            _log.exception("attack %s failed", job.run.id)
            words = public_error(error)
        # Drops what the trainers' reference cycles still hold, so that two models' worth of
        # memory is free again when the run is over.
        gc.collect()
        return_freed_memory()  # some gigabytes, which nothing but an attack has use for
        _finish(job.run, status, words)
        if self._keep is not None:
            self._store.keep_weights(*self._keep)
            self._store.keep_newest(KEPT_RUNS, ["attack"])
        self._learn(job, took, status == "done")

    def _overdue(self, job: _Job) -> bool:
        return time.monotonic() - job.begun > self._longest

    def _learn(self, job: _Job, took: float | None, complete: bool) -> None:
        """Take the costs of the next estimate from what this attack took.

        Args:
            job: an attack that has ended.
            took: seconds from its turn to its end; None if it failed.
            complete: whether all of it is logged; of one that was stopped the last step is not.
        """
        events = job.run.events()
        if mounting := _seconds(events, "mounted"):
            self._cost.mount[job.config.attack] = median(mounting)
            self._cost.learnt.add(job.config.attack)
        for stage, _ in job.config.stages:
            steps = [event for event in events if event.get("stage") == stage]
            # Where both compute side by side, a step takes as long as the slower arm does.
            arms = [
                _seconds([event for event in steps if event["arm"] == arm], "step")
                for arm in job.adapters
            ]
            if seconds := [median(arm) for arm in arms if arm]:
                part = max(seconds) / _parts(job.config, stage)
                self._cost.part[job.config.method, stage] = part
                self._cost.learnt.add((job.config.method, stage))
        probes = _seconds(events, "probe")
        if probes:
            self._cost.probe[self._cost.probed(job.config.attack)] = median(probes)
        # One arm alone, or an attack that was stopped while it loaded, tells nothing of both.
        whole = len(job.adapters) == len(job.config.arms) and bool(probes)
        if job.config.stages and whole and complete and took is not None:
            # What is side by side is logged half for each arm, so that all of it adds up.
            self._cost.load = max(0.0, took - sum(_seconds(events, "step") + probes))


def _slowdown() -> float:
    """Return how many times as long as on two cores with bf16 an attack takes here; a guess."""
    import torch  # not at the top: the page imports this module before it is opened

    from pipelines.device import compute_dtype, device

    slow = device().type == "cpu" and compute_dtype() is torch.float32
    return FLOAT32_SLOWDOWN if slow else 1.0


def _finish(run: Run, status: str, words: str = "") -> None:
    """Record how a run ended, at the second try if need be; a full disk must not end the queue.

    Where both fail the run stands as running until the app ends, and as interrupted from then on.
    """
    try:
        run.finish(status, words)
    except OSError:
        time.sleep(RETRY_SECONDS)
        try:
            run.finish(status, words)
        except OSError:
            _log.exception("run %s could not be recorded as %s", run.id, status)


def _check_arm(arm: str) -> None:
    pipeline = "llm" if arm == BASE_ARM else registry.get(arm).card.pipeline
    if pipeline != "llm":
        raise ValueError(
            f"target is {arm!r}, which guards {_GUARDED[pipeline]}; choose a defence of the chat "
            "model"
        )


def attack_function(name: str) -> AttackFn:
    """Return the function that mounts an attack.

    Args:
        name: one of `adapters.attacks.base.ATTACKS` or `UNTRAINED`.

    Raises:
        ValueError: there is no such attack.
    """
    known = (*ATTACKS, *UNTRAINED)
    if name not in known:
        raise ValueError(f"attack is {name!r}; choose one of: {', '.join(known)}")
    # Imported when the first attack starts: TRL takes seconds to import.
    if name in UNTRAINED:
        from adapters.attacks.untrained import run_untrained

        return run_untrained
    if name in SUPERVISED:
        from adapters.attacks.sft import run_sft

        return run_sft
    from adapters.attacks.rl import run_rl

    return run_rl


def _parts(config: AttackConfig, stage: str) -> int:
    """Return how many pairs, or tokens of replies, a step of a stage is made of."""
    if stage == "sft":
        return config.batch_size
    return config.batch_size * config.rollouts * config.max_new_tokens


def _seconds(events: list[dict[str, Any]], kind: str) -> list[float]:
    return [event["seconds"] for event in events if event.get("event") == kind]
