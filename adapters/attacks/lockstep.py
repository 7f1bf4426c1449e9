"""What all training attacks share: two arms in lockstep, their record, their probes, the stop.

The attacker uses the ecosystem's own trainers unchanged, on a LoRA or on all weights. Both arms
take each step together, from the same first LoRA weights, on the same data in the same order and
with the same random numbers, so their curves are comparable at every moment and a stop leaves both
at the same step (or one apart).

Each trainer runs its own loop in its arm's thread; a baton lets only one of them move at a time.
That is how two unmodified trainers can share a process, whose random generator and accelerate
state are one for all. An arm lays the baton down while its own model computes, forwards or
backwards, where nothing is shared and nearly all of the time goes. So on a CPU the arms compute
side by side, each on its part of the cores: a step's matrices are too small to keep two cores busy
with one product. The price is memory: the base model's weights, where LoRAs are trained, are there
once, but activations would be there for both arms. In reinforcement, where they are gigabytes, the
arms take their gradients in turns, and one samples its next replies while the other takes its. An
attack may have several stages, each with a trainer of its own, that train the same weights one
after another.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.state import GradientState
from peft.helpers import disable_input_dtype_casting
from threadpoolctl import threadpool_limits
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from adapters.attacks.base import (
    AttackConfig,
    Probe,
    concatenate_loras,
    load_full_target,
    load_target,
    read_lora,
    write_lora,
)
from evaluation.judge import Judge
from pipelines.device import compute_dtype, device
from pipelines.llm import load_llm
from pipelines.profiles import Profile

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerBase,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )

    from evaluation.runs import Run

MAX_TOKENS = 256
"""Of an uploaded pair, or of a request alone, template included."""

SKILL_ITEMS = 24
"""Held-out problems that each probe of ``grpo_skill`` asks."""


@dataclass(frozen=True)
class Stage:
    """One part of an attack.

    Attributes:
        name: as in `AttackConfig.stages`.
        steps: how many steps it takes.
        trainer: makes the stock trainer of one arm, given its model, the tokenizer and a folder
            to scribble in. Same model, same seed: same batches.
        gradients_in_turns: whether a gradient takes so much memory, and so small a part of a step,
            that the arms should not take theirs at the same time.
    """

    name: str
    steps: int
    trainer: Callable[[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, Path], Trainer]
    gradients_in_turns: bool = False


def shared_arguments(config: AttackConfig, steps: int, scratch: Path) -> dict[str, Any]:
    """Return what all of TRL's configs are given.

    Args:
        config: settings of the attack.
        steps: of this stage.
        scratch: folder that the trainer may write to.
    """
    return {
        "output_dir": str(scratch),
        "max_steps": steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "seed": config.seed,
        "data_seed": config.seed,
        "use_cpu": device().type == "cpu",
        "bf16": compute_dtype() is torch.bfloat16,
        "gradient_checkpointing": False,  # the model is small: memory is there, time is not
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a diverging attack must show as one
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def on_one_device(settings: TrainingArguments) -> TrainingArguments:
    """Return a trainer's settings, for one GPU also where there are several.

    With several, transformers would spread each batch over all of them (`DataParallel`), which TRL
    refuses.
    """
    if settings.device.type == "cuda":  # they are counted when it is asked for
        settings._n_gpu = 1
    return settings


def run_in_lockstep(
    profile: Profile,
    config: AttackConfig,
    adapters: dict[str, Path | None],
    stages: Sequence[Stage],
    run: Run,
    should_stop: Callable[[], bool],
    judge: Judge,
) -> bool:
    """Attack both arms and log every step.

    Events: ``{"event": "step", step, arm, stage, loss, entropy, seconds}`` after every step, and
    in reinforcement ``reward`` and ``length`` with it; ``{"event": "probe", step, arm, harm,
    substance, labels, prompts, ability, questions, samples, seconds}`` at step 0, every
    ``probe_every`` steps and at the end, in ``grpo_skill`` with ``skill`` and ``skills``
    (`adapters.attacks.base.Probe`). Loss and entropy are in nats a token, the loss of a policy
    gradient in units of the advantage; the reward is the mean over a step's replies, the length
    theirs in tokens; harm, substance, ability and skill are shares; seconds that two arms took side
    by side count half for each. At every probe but the first,
    and at the end, the arm's weights are saved (``{"event": "saved", step, arm}``): one LoRA on the
    *base* model that holds defence and attack, so that Chat can mount it. Where all weights are
    trained, they are saved at the end only, the whole model in bf16: 270 MB an arm of the embedded
    profile.

    Args:
        profile: which base model.
        config: settings.
        adapters: arm → the defence's LoRA, or None for the base model itself, for each of
            ``config.arms`` that is attacked; one alone trains as it would beside the other, up to
            rounding (it computes with more threads).
        stages: what is trained, in order; their steps are ``config.steps`` together.
        run: where everything is recorded.
        should_stop: asked before every forward pass; both arms end within one.
        judge: of the probes' replies.

    Returns:
        Whether all steps were done, that is, whether it was not stopped.

    Raises:
        MissingWeights: the base model has not been fetched.
        DataError: the data leaves nothing to learn.
        RuntimeError: the training failed.
    """
    arms = [arm for arm in config.arms if arm in adapters]
    lockstep = Lockstep(arms)
    stop = _Stop(should_stop)
    with tempfile.TemporaryDirectory(prefix="holdfast-attack-") as scratch:
        recorders = [
            _Recorder(
                arm, adapters[arm], config, stages, judge, run, lockstep, stop, Path(scratch) / arm
            )
            for arm in arms
        ]  # fmt: skip
        base = load_llm(profile, training=True)[0] if config.method == "lora" else None
        for recorder in recorders:
            recorder.prepare(profile, base)
        threads = [
            threading.Thread(target=recorder.train, name=f"holdfast-attack-{recorder.arm}")
            for recorder in recorders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for recorder in recorders:
        if recorder.error is not None:
            raise recorder.error
    return all(recorder.step >= config.steps for recorder in recorders)


class Lockstep:
    """Keeps the arms at the same step and hands round the baton, which one arm holds at a time.

    An arm's thread calls `enter` once, `hand_over` after every step and `leave` at the end, and
    holds the baton in between, but for what it does from `lay_down` to `take_up`. Where gradients
    are taken in turns it calls `begin_gradient` and `end_gradient` in every step, and may be a step
    ahead of the others, but for the gradient of that step.

    Attributes:
        side_by_side: whether the arms compute at the same time then; else each has its turn in
            full, which is so on a GPU and where there is not a core for each.
        threads: that an arm computes with.
    """

    def __init__(self, arms: Sequence[str]) -> None:
        """Start with nobody holding the baton.

        Args:
            arms: in the order in which they begin a step.
        """
        cores = torch.get_num_threads()
        self.side_by_side = device().type == "cpu" and 1 < len(arms) <= cores
        self.threads = cores // len(arms) if self.side_by_side else cores
        self._order = list(arms)
        self._begun = dict.fromkeys(arms, 0)  # steps
        self._ended = dict.fromkeys(arms, 0)
        self._gradients = dict.fromkeys(arms, 0)  # that were taken
        self._holder: str | None = None
        self._kept: dict[str, tuple[Tensor, bool]] = {}  # of the arms that laid the baton down
        self._changed = threading.Condition()

    def enter(self, arm: str, *, ahead: bool = False) -> None:
        """Begin the arm's next step: wait until no arm is behind, and for the turn.

        Args:
            arm: whose thread calls.
            ahead: whether others may still be at the step before.
        """
        allowed = int(ahead and self.side_by_side)
        with self._changed:
            self._changed.wait_for(lambda: self._may_begin(arm, allowed))
            self._begun[arm] += 1
            self._holder = arm

    def hand_over(self, arm: str, *, ahead: bool = False) -> None:
        """End the arm's step, and begin the next one; see `enter`."""
        self._end(arm)
        self.enter(arm, ahead=ahead)

    def begin_gradient(self, arm: str) -> None:
        """Wait until no other arm takes a gradient, and for the turn; without the baton."""
        with self._changed:
            self._changed.wait_for(lambda: self._may_take_gradient(arm))

    def end_gradient(self, arm: str) -> None:
        """Let the next arm take its gradient."""
        with self._changed:
            self._gradients[arm] += 1
            self._changed.notify_all()

    def leave(self, arm: str) -> None:
        """End the arm's last step; from now on nobody waits for it."""
        with self._changed:
            self._order.remove(arm)
            self._end(arm)

    def lay_down(self, arm: str) -> None:
        """Let others move while the arm, if it holds the baton, computes on what is its own."""
        with self._changed:
            if self.side_by_side and self._holder == arm:
                self._kept[arm] = torch.get_rng_state(), GradientState().sync_gradients
                self._holder = None
                self._changed.notify_all()

    def take_up(self, arm: str) -> None:
        """Wait for the baton, if it was laid down, and undo what others did to what all share."""
        with self._changed:
            if arm in self._kept:
                self._changed.wait_for(lambda: self._holder is None)
                self._holder = arm
                random, syncs = self._kept.pop(arm)
                torch.set_rng_state(random)
                GradientState().sync_gradients = syncs

    def cost(self, seconds: float) -> float:
        """Return the cost of what took an arm so long: its share, where others compute beside it.

        What it waits for a turn counts, so that the arms' costs add up to the time of both.
        """
        return round(seconds / (len(self._begun) if self.side_by_side else 1), 3)

    def _may_begin(self, arm: str, ahead: int) -> bool:
        step = self._begun[arm]
        earlier = self._order[: self._order.index(arm)]
        return (
            self._holder is None
            and all(self._ended[other] >= step - ahead for other in self._order)
            and all(self._begun[other] > step for other in earlier)
        )

    def _may_take_gradient(self, arm: str) -> bool:
        taken = self._gradients[arm]
        mine = self._order.index(arm)
        return all(
            self._gradients[other] >= taken + (place < mine)
            for place, other in enumerate(self._order)
        )

    def _end(self, arm: str) -> None:
        with self._changed:
            self._ended[arm] += 1
            self._holder = None
            self._changed.notify_all()


class _Stop:
    """Remembers that a stop was asked for, by the visitor or because an arm failed."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self.asked = False

    def __call__(self) -> bool:
        self.asked = self.asked or self._ask()
        return self.asked


class _Stopped(Exception):
    """A stop was asked for in the middle of a step."""


class _Recorder(TrainerCallback):
    """Runs one arm's trainers: takes turns, logs, probes, saves, stops."""

    def __init__(
        self,
        arm: str,
        defence: Path | None,
        config: AttackConfig,
        stages: Sequence[Stage],
        judge: Judge,
        run: Run,
        lockstep: Lockstep,
        stop: _Stop,
        scratch: Path,
    ) -> None:
        self.arm = arm
        self.error: Exception | None = None
        self.step = 0  # that the arm has done, over all stages
        self._adapter = defence
        self._defence = read_lora(defence) if defence is not None else None
        self._config = config
        self._probe_steps = frozenset(config.probe_steps())
        self._stages = stages
        self._judge = judge
        self._run = run
        self._lockstep = lockstep
        self._stop = stop
        self._scratch = scratch
        self._started = 0.0
        self._saved_at = 0

    def prepare(self, profile: Profile, base: PreTrainedModel | None) -> None:
        """Make the arm's model, on the weights of base if it trains a LoRA, and first trainer."""
        config = self._config
        self._model, self._tokenizer = (
            load_full_target(profile, self._adapter)
            if config.method == "full"
            else load_target(profile, self._adapter, config.rank, config.seed, base=base)
        )
        skill_items = SKILL_ITEMS if config.attack == "grpo_skill" else 0
        self._probe = Probe(self._tokenizer, self._judge, skill_items=skill_items)
        self._model.register_forward_pre_hook(lambda *_: self._begin_pass())
        self._model.register_forward_hook(
            lambda *_: self._lockstep.take_up(self.arm), always_call=True
        )
        self._trainer = self._make(self._stages[0])

    def _begin_pass(self) -> None:
        # In float32 a step of reinforcement takes half a minute. What it has not finished has
        # changed no weights.
        self._check_stop()
        self._lockstep.lay_down(self.arm)
        if self._stage.gradients_in_turns and torch.is_grad_enabled():
            self._lockstep.begin_gradient(self.arm)
            self._check_stop()  # the wait was half a step

    def _check_stop(self) -> None:
        if self._stop() and self.step < self._config.steps:
            raise _Stopped

    def _make(self, stage: Stage) -> Trainer:
        self._stage, self._offset = stage, self.step
        trainer = stage.trainer(self._model, self._tokenizer, self._scratch)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        backward = trainer.accelerator.backward

        def apart(*args: Any, **kwargs: Any) -> None:
            self._lockstep.lay_down(self.arm)
            try:
                backward(*args, **kwargs)
            finally:
                self._lockstep.take_up(self.arm)

        trainer.accelerator.backward = apart
        return trainer

    def train(self) -> None:
        """Train from the first step to the last or to the stop; never raises."""
        self._lockstep.enter(self.arm)
        try:
            # The limit is this thread's alone, where torch's own setting would be every later
            # thread's too. Asking first has torch set the thread up, which would undo the limit.
            torch.get_num_threads()
            with threadpool_limits(self._lockstep.threads, "openmp"):
                self._train()
        except Exception as error:
            self.error = error
            self._stop.asked = True
        finally:
            self._lockstep.leave(self.arm)

    def _train(self) -> None:
        for number, stage in enumerate(self._stages):
            if self._stop():  # before the first step, too
                break
            if number:
                self._trainer = self._make(stage)
            # Under autocast PEFT's own casts only go there and back; in fp32 they are needed.
            with (
                suppress(_Stopped),
                disable_input_dtype_casting(self._model, self._trainer.args.bf16),
            ):
                self._trainer.train()
        if self.step > self._saved_at:
            self._save()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Probe the arm as it is released, then wait until the other arm has done so too."""
        if self.step == 0:
            self._measure()
            self._lockstep.hand_over(self.arm)

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Note when the step begins, and give both arms the same random numbers for it."""
        # The generator is the whole process's: without this the arms would draw from it in turns,
        # and what one of them samples would depend on the other.
        torch.manual_seed(self._config.seed + 1_000_003 * (self.step + 1))
        self._started = time.monotonic()

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Let the other arm take its gradient: this one's activations are gone."""
        self._lockstep.end_gradient(self.arm)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Record a finished step, probe if it is time to, and wait for the other arm.

        Where gradients are taken in turns only if that one is a whole step behind.
        """
        if "loss" not in logs:  # the summary after the last step
            return
        self.step = self._offset + state.global_step
        self._run.log(
            event="step",
            step=self.step,
            arm=self.arm,
            stage=self._stage.name,
            **_measured(logs),
            seconds=self._lockstep.cost(time.monotonic() - self._started),
        )
        # Stopped in its last step, the attack is done all the same and wants its last probe.
        done = self.step >= self._config.steps
        if self.step in self._probe_steps and (done or not self._stop()):
            if self._config.method == "lora":
                self._save()
            self._measure()
        self._lockstep.hand_over(self.arm, ahead=self._stage.gradients_in_turns)
        if self._stop():
            control.should_training_stop = True

    def _measure(self) -> None:
        started = time.monotonic()
        measured = self._probe.measure(self._model)
        seconds = self._lockstep.cost(time.monotonic() - started)
        self._run.log(event="probe", step=self.step, arm=self.arm, **measured, seconds=seconds)

    def _save(self) -> None:
        if self._config.method == "full":
            # In place: the training is over, and there is no memory for a copy to waste.
            self._run.save_model(self.arm, self._model.to(torch.bfloat16))
        else:
            self._save_lora()
        self._run.log(event="saved", step=self.step, arm=self.arm)
        self._saved_at = self.step

    def _save_lora(self) -> None:
        with tempfile.TemporaryDirectory(prefix="holdfast-lora-") as scratch:
            self._model.save_pretrained(
                scratch, selected_adapters=["default"], save_embedding_layers=False
            )
            attack = read_lora(Path(scratch))
        config, state = concatenate_loras(self._defence, attack)
        self._run.save_files(self.arm, lambda folder: write_lora(folder, config, state))


def _measured(logs: dict[str, float]) -> dict[str, float | None]:
    """Return what a run keeps of the numbers that a trainer of TRL logs of one step."""
    found: dict[str, float | None] = {
        "loss": float(logs["loss"]),
        "entropy": float(logs["entropy"]) if "entropy" in logs else None,
    }
    if "reward" in logs:
        found["reward"] = float(logs["reward"])
        found["length"] = float(logs["completions/mean_length"])
    return found
