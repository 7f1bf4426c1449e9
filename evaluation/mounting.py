"""One run of the stress test: mounts an attack on two arms and measures both before and after it.

What is mounted is a `Cell`. A run that has been mounted and measured already is found among those
of the store; `evaluation.stress` tells when one counts.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.attacks.base import SUPERVISED, UNTRAINED, AttackConfig, Settings, UntrainedConfig
from adapters.attacks.data import data_hash, sources
from adapters.attacks.runner import AttackRunner
from adapters.attacks.untrained import speaker, untrained_settings
from evaluation.arms import arm_folder
from evaluation.judge import WITHHELD, Judge
from evaluation.measuring import (
    SAMPLES,
    SIDES,
    Measured,
    asked_hash,
    held_out,
    judge_hash,
    last_measured,
    measure,
)
from evaluation.runs import Run, RunStore, public_error, weights_hash
from evaluation.styles import style_prompts
from evaluation.tables import UNDEFENDED
from pipelines.device import number_format
from pipelines.fetch import MissingWeights, llm_folder
from pipelines.profiles import Profile

STRESS_RUNS = "stress"
"""Name of the folder, among the runs, that the stress test's are in (`evaluation.stress`)."""


@dataclass(frozen=True)
class Cell:
    """One run of the stress test.

    Attributes:
        defence: the defended arm; the other one is `UNDEFENDED`.
        attack: one of `ATTACKS` or `UNTRAINED`.
        seed: of the attack and of the held-out wordings.
        settings: of a trained attack, fields of `AttackConfig`; what is not named is as in
            `defaults`.
        prompts: held-out red-team prompts that each arm is asked before and after.
        questions: ability items that each arm is asked before and after.
        styles: topics that each arm is asked in every style before and after; 0: none.
    """

    defence: str
    attack: str
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    prompts: int = 70
    questions: int = 96
    styles: int = 0

    @property
    def arms(self) -> tuple[str, str]:
        """The undefended arm and the defended one."""
        return UNDEFENDED, self.defence

    @property
    def config(self) -> Settings:
        """The settings of the attack; raises ValueError where they are wrong."""
        if self.attack in UNTRAINED:
            return UntrainedConfig(UNDEFENDED, self.defence, self.attack, self.seed)
        return AttackConfig(target_undefended=UNDEFENDED, target=self.defence,
                            attack=self.attack, seed=self.seed,
                            **defaults(self.attack) | self.settings)  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Return what a run's config holds of this cell."""
        return self.config.record()

    def files(self) -> list[Path]:
        """Return the files that the attack's data comes from."""
        return sources(self.config)


def defaults(attack: str) -> dict[str, Any]:
    """Return the settings of a trained attack, by its family.

    The learning rate goes by the method and is `AttackConfig`'s.

    Args:
        attack: one of `ATTACKS`.
    """
    if attack in SUPERVISED:
        return {"steps": 20, "batch_size": 4}
    reinforced = {"steps": 15, "batch_size": 4, "rollouts": 8}
    if attack == "sft_grpo":
        return reinforced | {"steps": 25, "sft_steps": 10}
    return reinforced


class StressTest:
    """Runs cells, one after another, each as a run of a store."""

    def __init__(self, profile: Profile, store: RunStore) -> None:
        """Load the judge.

        Args:
            profile: which models.
            store: of the runs.

        Raises:
            MissingWeights: the judge's encoder has not been fetched.
        """
        self.profile = profile
        self.store = store
        self._judge = Judge()
        self._judge_hash = judge_hash()
        self._runner = AttackRunner(profile, store)
        self._figures: dict[tuple[str, int, int, int, int], Measured] = {}
        self._hashes: dict[str, str] = {}

    def parents(self, cell: Cell) -> dict[str, str]:
        """Return the hashes of the weights and of the data that a cell starts from."""
        folders = {"base": llm_folder(self.profile)}
        folders |= {arm: arm_folder(arm, self.profile) for arm in cell.arms}
        for name, folder in folders.items():
            if name not in self._hashes:
                self._hashes[name] = weights_hash(folder)
        parents = {name: self._hashes[name] for name in folders}
        if files := cell.files():
            parents["data"] = data_hash(files)
        return parents

    def mounted(self, cell: Cell) -> Run | None:
        """Return the finished run of a cell, if there is one on the same weights and data.

        One that has been measured with other numbers of prompts and questions, and holds its
        weights no more, is of no use; nor is an attack that was mounted in another number format
        than this machine's.
        """
        return self._finished(cell, cell.record(), self.parents(cell), cell.arms)

    def twin(self, cell: Cell) -> Run | None:
        """Return a finished run that attacked the undefended arm as this cell would."""
        wanted, parents = cell.record(), self.parents(cell)
        del wanted["target"], parents[cell.defence]
        run = self._finished(cell, wanted, parents, [UNDEFENDED])
        # Whole models are not copied, so a run that holds one is of use only once it is measured.
        if run is None or UNDEFENDED in run.adapters() or self._judged(run, UNDEFENDED, cell):
            return run
        return None

    def _finished(
        self, cell: Cell, wanted: dict[str, Any], parents: dict[str, str], arms: Sequence[str]
    ) -> Run | None:
        """Return a finished run of these settings and parents whose arms are, or can be, measured.

        Recorded runs have no weights, and an attack without training needs none.
        """
        for info in self.store.list():
            if info.status != "done" or info.profile != self.profile.name:
                continue
            if any(info.config.get(name) != value for name, value in wanted.items()):
                continue
            run = self.store.get(info.id)
            if not self._of_today(run, parents):
                continue
            if cell.attack not in UNTRAINED and run.info.get("number_format") != number_format():
                continue
            again = cell.attack in UNTRAINED and not run.recorded
            if again or all(
                arm in run.weights() or self._judged(run, arm, cell)
                for arm in arms
            ):
                return run
        return None

    def still_true(self, row: dict) -> bool:
        """Whether a shipped row's run started from today's weights and data and was asked the same.

        Args:
            row: of kind ``run``.
        """
        untrained = row["attack"] in UNTRAINED
        if untrained and row["settings"]["mounted"] != untrained_settings(row["attack"]):
            return False
        settings = {} if untrained else row["settings"]
        try:
            parents = self.parents(Cell(row["defence"], row["attack"], row["seed"], settings))
            run = self.store.get(row["run"])
        except (MissingWeights, ValueError, KeyError, TypeError, FileNotFoundError):
            return False  # a defence, an attack, a setting or a run that there is no more
        return self._of_today(run, parents)

    def _of_today(self, run: Run, parents: dict[str, str]) -> bool:
        held = run.info["parents"]
        if any(held.get(name) != value for name, value in parents.items()):
            return False
        # The runner writes a run's parents, so what is asked stands among the events.
        today = {"event": "asked", "hash": asked_hash()}
        return any(today.items() <= event.items() for event in run.events())

    def run(self, cell: Cell) -> Run:
        """Return the finished and measured run of a cell, mounting the attack if need be.

        Raises:
            MissingWeights: an arm's adapter is not there.
            ValueError: a setting is wrong.
            RuntimeError: the attack failed.
        """
        run = self.mounted(cell)
        if run is None and cell.attack in UNTRAINED:
            run = self._untrained(cell)
        elif run is None:
            twin = self.twin(cell)
            arms = cell.arms if twin is None else (cell.defence,)
            run = self.store.get(self._runner.start(cell.config, "stress test", arms=arms))
            run.log(event="asked", hash=asked_hash())
            self._runner.wait(run.id)
            if run.info["status"] != "done":
                raise RuntimeError(f"run {run.id} {run.info['status']}: {run.info['error']}")
            if twin is not None:
                _copy_arm(twin, run, UNDEFENDED)
        for arm in cell.arms:
            held = self._judged(run, arm, cell)
            if held is None:
                attack = cell.attack if cell.attack in UNTRAINED else ""
                before = self._measure(cell, arm_folder(arm, self.profile), "")
                after = self._after(cell, run, arm, attack)
                self._log(run, arm, before, after)
            elif held["judge"] != self._judge_hash:
                before, after = (
                    Measured(held[side], held[samples], held.get(styles, []))
                    for side, samples, styles in SIDES
                )
                self._log(run, arm, before.judged_anew(self._judge),
                          after.judged_anew(self._judge))  # fmt: skip
        if not run.recorded:
            run.drop_models()
        return run

    def _judged(self, run: Run, arm: str, cell: Cell) -> dict | None:
        """Return the measurement of an arm if it is this judge's, or can be judged anew."""
        held = last_measured(run.events(), arm, cell.prompts, cell.questions, cell.styles or None)
        if held and held["judge"] != self._judge_hash:
            samples = [sample for name in SAMPLES for sample in held.get(name, [])]
            if run.recorded or any(sample["reply"].endswith(WITHHELD) for sample in samples):
                return None  # its replies do not say enough to be judged, or it cannot be changed
        return held

    def _log(self, run: Run, arm: str, before: Measured, after: Measured) -> None:
        event: dict[str, Any] = {"event": "measured", "arm": arm, "judge": self._judge_hash}
        for one, (side, samples, styles) in zip((before, after), SIDES, strict=True):
            event |= {side: one.figures, samples: one.samples}
            if one.style_samples:
                event[styles] = one.style_samples
        run.log(**event)

    def _untrained(self, cell: Cell) -> Run:
        """Record an attack that needs no training as a run of one step."""
        run = self.store.create(
            "attack", cell.record(), self.profile.name, self.parents(cell), "stress test"
        )
        try:
            run.log(event="start", arms=list(cell.arms))
            run.log(event="asked", hash=asked_hash())
            for arm in cell.arms:
                adapter = arm_folder(arm, self.profile)
                for step, attack in ((0, ""), (1, cell.attack)):
                    found = self._measure(cell, adapter, attack)
                    figures = {k: v for k, v in found.figures.items() if k != "styles"}
                    run.log(event="probe", step=step, arm=arm, samples=found.samples[:8], **figures)
        except Exception as error:
            run.finish("failed", public_error(error))
            raise
        run.finish("done")
        return run

    def _after(self, cell: Cell, run: Run, arm: str, attack: str) -> Measured:
        folder = arm_folder(arm, self.profile) if attack else run.weights().get(arm)
        if folder is None:
            raise RuntimeError(f"run {run.id} holds no weights of {arm!r} to be measured")
        return self._measure(cell, folder, attack)

    def _measure(self, cell: Cell, folder: Path | None, attack: str) -> Measured:
        """Load, attack and `measure`; ``mounting``: seconds until the model could answer."""
        # The same arm before the attack, or after one without training, is measured once.
        key = (f"{folder}/{attack}", cell.seed, cell.prompts, cell.questions, cell.styles)
        if key not in self._figures:
            started = time.perf_counter()
            speaks = speaker(self.profile, folder, attack, cell.seed)
            mounting = round(time.perf_counter() - started, 3)
            found = measure(
                speaks, self._judge, held_out(cell.prompts, cell.seed), cell.questions,
                style_prompts(cell.styles, cell.seed) if cell.styles else (),
            )  # fmt: skip
            found.figures.update(mounting=mounting, mounted=speaks.record)
            self._figures[key] = found
            del speaks
            gc.collect()
        return self._figures[key]


def _copy_arm(source: Run, target: Run, arm: str) -> None:
    """Add what one run holds of an arm, its events and its LoRA, to another run."""
    for event in source.events():
        if event.get("arm") == arm and event.get("event") in ("step", "probe", "measured"):
            target.log(**{"copied": source.id} | event)
    if folder := source.adapters().get(arm):

        def write(scratch: Path) -> Path:
            shutil.copytree(folder, scratch, dirs_exist_ok=True)
            return scratch

        target.save_files(arm, write)
