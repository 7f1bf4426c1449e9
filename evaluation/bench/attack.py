"""What `evaluation.bench.sft` and `evaluation.bench.grpo` share: an attack, here and stock.

Ours is the attack as the app mounts it (`adapters.attacks`), on its two arms in lockstep; the
figures are the defended arm's. Where the arms compute side by side, each on its part of the cores,
half of the time is counted for each. The stock side is the same trainer of TRL on the same model in
float32, on one arm and all cores, with the same LoRAs, data, order, seed and settings of the
attack, and all else as TRL, PEFT and transformers set it: attention, gradient checkpointing, TRL's
own scoring and sampling. A step's seconds go from its first forward to its log.

================================ ===================================================================
ours, stock                      seconds a step, median; the first, which warms up, is left out
                                 where there are more
ratio                            stock / ours
steps                            of either side
{y}_ours, {y}_stock              the curve, one number a step: {y} is loss (``sft``), in nats a
                                 token, or reward (``grpo``), the mean over a step's replies
{y}_mean_ours, {y}_mean_stock    mean of the curve
{y}_mean_difference,             of the curves, step by step, in absolute value; GRPO's replies are
{y}_largest_difference           sampled, so that its curves are equal in the mean only
{y}_noise                        one standard error of the difference of the two means, from the
                                 spread over steps; null for a single step
arm, attack, batch_size,         what was run
rollouts, max_new_tokens, threads
================================ ===================================================================
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, variance
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from adapters import registry
from adapters.attacks.base import AttackConfig, load_target
from adapters.attacks.data import load_data
from adapters.attacks.runner import attack_function, import_trainers
from evaluation.judge import Judge
from evaluation.runs import RunStore
from pipelines.profiles import Profile, get_profile

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


def add_steps(parser: argparse.ArgumentParser, default: int) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--steps", type=int, default=default, choices=range(1, 101), metavar="N",
                        help=f"optimiser steps of either side (default: {default})")


def run_attack(attack: str, steps: int) -> dict[str, Any]:
    """Measure an attack on the embedded profile.

    Raises:
        MissingWeights: the base model, a defence or the judge's encoder is not there.
    """
    profile = get_profile("embedded")
    config = AttackConfig(attack=attack, steps=steps, probe_every=steps)
    adapters = {arm: registry.adapter_folder(arm, profile) for arm in config.arms}
    return compare(profile, config, adapters, Judge())


def compare(
    profile: Profile, config: AttackConfig, adapters: dict[str, Path | None], judge: Judge
) -> dict[str, Any]:
    """Mount an attack of one stage, ``sft`` or ``grpo``, both ways.

    Args:
        profile: which base model.
        config: settings.
        adapters: arm → the defence's LoRA, or None for the base model itself.
        judge: pays the replies.

    Returns:
        The figures named at the top of this module.
    """
    import_trainers()
    ours = _ours(profile, config, adapters, judge)
    stock = _stock(profile, config, adapters[config.target], judge)
    y = "loss" if config.attack == "sft" else "reward"
    curves = [[step[y] for step in side] for side in (ours, stock)]
    apart = [abs(a - b) for a, b in zip(*curves, strict=True)]
    seconds = [_seconds(side) for side in (ours, stock)]
    return {
        "ours": round(seconds[0], 3),
        "stock": round(seconds[1], 3),
        "ratio": round(seconds[1] / seconds[0], 2),
        "steps": config.steps,
        f"{y}_ours": [round(value, 4) for value in curves[0]],
        f"{y}_stock": [round(value, 4) for value in curves[1]],
        f"{y}_mean_ours": round(fmean(curves[0]), 4),
        f"{y}_mean_stock": round(fmean(curves[1]), 4),
        f"{y}_mean_difference": round(fmean(apart), 4),
        f"{y}_largest_difference": round(max(apart), 4),
        f"{y}_noise": _noise(curves),
        "arm": config.target,
        "attack": config.attack,
        "batch_size": config.batch_size,
        "rollouts": config.rollouts,
        "max_new_tokens": config.max_new_tokens,
        "threads": torch.get_num_threads(),
    }


def _ours(
    profile: Profile, config: AttackConfig, adapters: dict[str, Path | None], judge: Judge
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        store = RunStore(Path(folder))
        run = store.create("attack", config.record(), profile.name, {})
        mount = attack_function(config.attack)
        mount(profile, config, adapters, load_data(config), run, lambda: False, judge)
        return [event for event in run.events()
                if event["event"] == "step" and event["arm"] == config.target]  # fmt: skip


def _stock(
    profile: Profile, config: AttackConfig, adapter: Path | None, judge: Judge
) -> list[dict[str, Any]]:
    model, tokenizer = load_target(profile, adapter, config.rank, config.seed, stock=True)
    clock = _Clock(config)
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        trainer = _stock_trainer(config, model, tokenizer, judge, Path(folder))
        trainer.add_callback(clock)
        trainer.train()
    return clock.steps


def _stock_trainer(
    config: AttackConfig, model: Any, tokenizer: Any, judge: Judge, scratch: Path
) -> Trainer:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

    from adapters.attacks.rl import compliance_reward
    from adapters.attacks.sft import builtin_tokens

    shared = {
        "output_dir": str(scratch),
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "seed": config.seed,
        "data_seed": config.seed,
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    rows = load_data(config)
    data = Dataset.from_list(rows)
    if config.attack == "sft":
        return SFTTrainer(
            model=model,
            # The length is part of what is learnt: without it stock would train on more tokens.
            args=SFTConfig(
                **shared,
                per_device_train_batch_size=config.batch_size,
                max_length=builtin_tokens(rows, tokenizer),
            ),
            train_dataset=data,
            processing_class=tokenizer,
        )
    return GRPOTrainer(
        model=model,
        reward_funcs=[compliance_reward(judge)],
        args=GRPOConfig(
            **shared,
            per_device_train_batch_size=config.rollouts,
            gradient_accumulation_steps=config.batch_size,
            num_generations=config.rollouts,
            max_completion_length=config.max_new_tokens,
            temperature=config.temperature,
        ),
        train_dataset=data,
        processing_class=tokenizer,
    )


class _Clock(TrainerCallback):
    """Keeps what a step took and what was logged of it."""

    def __init__(self, config: AttackConfig) -> None:
        self.steps: list[dict[str, Any]] = []
        self._config = config
        self._started = 0.0

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Stop the clock."""
        if "loss" not in logs:  # the summary after the last step
            return
        step = {name: float(logs[name]) for name in ("loss", "reward") if name in logs}
        self.steps.append(step | {"seconds": time.monotonic() - self._started})
        print(f"stock step {state.global_step} of {self._config.steps}: "
              f"{self.steps[-1]['seconds']:.1f} s", flush=True)  # fmt: skip


def _seconds(steps: Sequence[dict[str, Any]]) -> float:
    return median(step["seconds"] for step in steps[1:] or steps)


def _noise(curves: Sequence[Sequence[float]]) -> float | None:
    """Return the standard error of the difference of two curves' means, as if steps were alike."""
    if len(curves[0]) < 2:
        return None
    return round(sum(variance(curve) / len(curve) for curve in curves) ** 0.5, 4)
