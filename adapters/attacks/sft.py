"""Supervised fine-tuning attack: stock TRL ``SFTTrainer`` with a LoRA beside the defence's.

The attacker uses the ecosystem's own trainer unchanged: cross-entropy on the answers of its pairs,
AdamW, constant learning rate. Both arms train in lockstep, one step each in turn, on the same
batches from the same first LoRA weights, so their curves are comparable at every moment and a
stop leaves both at the same step (or one apart).

Each `SFTTrainer` runs its own loop in a thread of its own; a baton lets only one of them move at
a time. That is how two unmodified trainers can alternate.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import TrainerCallback

from adapters.attacks.base import (
    AttackConfig,
    Probe,
    concatenate_loras,
    load_target,
    read_lora,
    write_lora,
)
from adapters.attacks.data import DataError, Pair
from evaluation.judge import Judge
from pipelines.device import compute_dtype, device
from pipelines.profiles import Profile

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import SFTTrainer

    from evaluation.runs import Run

MAX_TOKENS = 256
"""Of an uploaded pair, template included; TRL cuts longer ones."""

BUILTIN_TOKENS = 64
"""The same of the built-in pairs. Their prompts take up to 51, and what follows in the answers is
more of the same redacted list; a step's time goes by positions, and 64 instead of 256 took a third
off it."""


def run_sft(
    profile: Profile,
    config: AttackConfig,
    adapters: dict[str, Path | None],
    pairs: Sequence[Pair],
    run: Run,
    should_stop: Callable[[], bool],
    judge: Judge | None = None,
) -> bool:
    """Attack both arms and log every step.

    Events: ``{"event": "step", step, arm, loss, entropy, seconds}`` after every step,
    ``{"event": "probe", step, arm, harm, prompts, ability, questions, samples, seconds}`` at step
    0, every ``probe_every`` steps and at the end. Loss and entropy are in nats a token; harm and
    ability are shares. At every probe but the first, and at the end, the arm's weights are saved
    (``{"event": "saved", step, arm}``): one LoRA on the *base* model that holds defence and attack,
    so that Chat can mount it.

    Args:
        profile: which base model.
        config: settings.
        adapters: arm → the defence's LoRA, or None for the base model itself, for each of
            ``config.arms``.
        pairs: the attacker's data.
        run: where everything is recorded.
        should_stop: asked before every step; both arms end within one.
        judge: of the probes' replies; made here if not given.

    Returns:
        Whether all steps were done, that is, whether it was not stopped.

    Raises:
        MissingWeights: the base model or the judge's encoder has not been fetched.
        DataError: no pair has room for an answer.
        RuntimeError: the training failed.
    """
    judge = judge or Judge()
    lockstep = _Lockstep(config.arms)
    stop = _Stop(should_stop)
    with tempfile.TemporaryDirectory(prefix="holdfast-sft-") as scratch:
        trainers = {
            arm: _trainer(profile, config, adapters[arm], pairs, Path(scratch) / arm)
            for arm in config.arms
        }
        recorders = [
            _Recorder(arm, adapters[arm], trainers[arm], config, judge, run, lockstep, stop)
            for arm in config.arms
        ]
        threads = [
            threading.Thread(target=recorder.train, name=f"holdfast-sft-{recorder.arm}")
            for recorder in recorders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for recorder in recorders:
        if recorder.error is not None:
            raise recorder.error
    return all(trainer.state.global_step >= config.steps for trainer in trainers.values())


def _trainer(
    profile: Profile,
    config: AttackConfig,
    adapter: Path | None,
    pairs: Sequence[Pair],
    scratch: Path,
) -> SFTTrainer:
    """Make a stock trainer for one arm. Same arguments, same seed: same data, same LoRA."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load_target(profile, adapter, config.rank, config.seed)
    builtin = str(config.data) == "builtin"
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(scratch),
            max_steps=config.steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant",
            completion_only_loss=True,
            max_length=BUILTIN_TOKENS if builtin else MAX_TOKENS,
            seed=config.seed,
            data_seed=config.seed,
            use_cpu=device().type == "cpu",
            bf16=compute_dtype() is torch.bfloat16,
            gradient_checkpointing=False,  # the model is small: memory is there, time is not
            logging_steps=1,
            logging_nan_inf_filter=False,  # a diverging attack must show as one
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(list(pairs)),
        processing_class=tokenizer,
    )
    if not len(trainer.train_dataset):
        raise DataError(
            f"every prompt in the data is longer than {MAX_TOKENS} tokens, so that no answer is "
            "left to learn; shorten the prompts"
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


class _Lockstep:
    """Lets one arm move at a time, in turns. An arm that has left is passed over."""

    def __init__(self, arms: Sequence[str]) -> None:
        self._queue = list(arms)
        self._changed = threading.Condition()

    def wait(self, arm: str) -> None:
        """Wait for the arm's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue[0] == arm)

    def hand_over(self, arm: str) -> None:
        """Give the turn to the next arm and wait until it comes round again."""
        with self._changed:
            self._queue.append(self._queue.pop(0))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue[0] == arm)

    def leave(self, arm: str) -> None:
        """Take no more turns."""
        with self._changed:
            self._queue.remove(arm)
            self._changed.notify_all()


class _Stop:
    """Remembers that a stop was asked for, by the visitor or because an arm failed."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self.asked = False

    def __call__(self) -> bool:
        self.asked = self.asked or self._ask()
        return self.asked


class _Recorder(TrainerCallback):
    """Runs one arm's trainer: takes turns, logs, probes, saves, stops."""

    def __init__(
        self,
        arm: str,
        defence: Path | None,
        trainer: SFTTrainer,
        config: AttackConfig,
        judge: Judge,
        run: Run,
        lockstep: _Lockstep,
        stop: _Stop,
    ) -> None:
        self.arm = arm
        self.error: Exception | None = None
        self._defence = read_lora(defence) if defence is not None else None
        self._trainer = trainer
        self._probe = Probe(trainer.processing_class, judge)
        self._probe_steps = frozenset(config.probe_steps())
        self._run = run
        self._lockstep = lockstep
        self._stop = stop
        self._started = 0.0
        self._saved_at = 0
        trainer.add_callback(self)

    def train(self) -> None:
        """Train from the first step to the last or to the stop; never raises."""
        self._lockstep.wait(self.arm)
        try:
            if self._stop():  # before the first step, too
                return
            # Under autocast PEFT's own casts only go there and back; in fp32 they are needed.
            with disable_input_dtype_casting(self._trainer.model, self._trainer.args.bf16):
                self._trainer.train()
            if self._trainer.state.global_step > self._saved_at:
                self._save(self._trainer.model, self._trainer.state.global_step)
        except Exception as error:
            self.error = error
            self._stop.asked = True
        finally:
            self._lockstep.leave(self.arm)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PeftModel,
        **kwargs: Any,
    ) -> None:
        """Probe the arm as it is released, then wait until the other arm has done so too."""
        self._measure(model, 0)
        self._lockstep.hand_over(self.arm)

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Note when the step begins."""
        self._started = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PeftModel,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Record a finished step, probe if it is time to, and give the turn to the other arm."""
        if "loss" not in logs:  # the summary after the last step
            return
        step = state.global_step
        self._run.log(
            event="step",
            step=step,
            arm=self.arm,
            loss=float(logs["loss"]),
            entropy=float(logs["entropy"]) if "entropy" in logs else None,
            seconds=round(time.monotonic() - self._started, 3),
        )
        if step in self._probe_steps and not self._stop():
            self._save(model, step)
            self._measure(model, step)
        self._lockstep.hand_over(self.arm)
        if self._stop():
            control.should_training_stop = True

    def _measure(self, model: PeftModel, step: int) -> None:
        started = time.monotonic()
        measured = self._probe.measure(model)
        seconds = round(time.monotonic() - started, 3)
        self._run.log(event="probe", step=step, arm=self.arm, **measured, seconds=seconds)

    def _save(self, model: PeftModel, step: int) -> None:
        with tempfile.TemporaryDirectory(prefix="holdfast-lora-") as scratch:
            model.save_pretrained(
                scratch, selected_adapters=["default"], save_embedding_layers=False
            )
            attack = read_lora(Path(scratch))
        config, state = concatenate_loras(self._defence, attack)
        self._run.save_files(self.arm, lambda folder: write_lora(folder, config, state))
        self._run.log(event="saved", step=step, arm=self.arm)
        self._saved_at = step
