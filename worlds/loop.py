"""What the base-model trainers share: a time budget, a schedule over it, EMA and checkpoints.

A checkpoint is one safetensors file (weights, averaged weights, optimiser moments) and one JSON
file (step, seconds, generator seeds); no pickle is written or read.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.device import compute_dtype


@dataclass
class TrainingLoop:
    """Trains a module for so many minutes; used as an iterator of step numbers.

    The learning rate warms up linearly over ``warmup`` steps and then falls as a half cosine over
    the time budget, so that a run of any length ends annealed.

    Attributes:
        module: What is trained (parameters with requires_grad).
        folder: Where checkpoints go; resumed from there when ``resume``.
        minutes: Time budget, including the time of earlier sessions of the same run.
        learning_rate: Peak learning rate of AdamW.
        resume: Go on from the checkpoint in ``folder`` (which must exist).
        ema_decay: Decay of the averaged weights.
    """

    module: nn.Module
    folder: Path
    minutes: float
    learning_rate: float = 1e-3
    resume: bool = False
    ema_decay: float = 0.998
    warmup: int = 100
    clip_norm: float = 1.0
    save_every_seconds: float = 240.0
    step: int = 0
    seconds: float = 0.0
    accelerator: Accelerator = field(
        default_factory=lambda: Accelerator(
            mixed_precision=_precision(), cpu=not torch.cuda.is_available()
        )
    )

    def __post_init__(self) -> None:
        """Build optimiser and EMA, and load the checkpoint when resuming."""
        if self.minutes <= 0:
            raise ValueError(f"max-minutes must be above 0, got {self.minutes}")
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3
        )
        self.ema = EMAModel(
            self.parameters,
            decay=self.ema_decay,
            use_ema_warmup=True,
            inv_gamma=1.0,
            power=0.75,
            foreach=True,
        )
        self.history: list[tuple[int, float]] = []
        if self.resume:
            self._load()

    def __iter__(self):
        """Yield step numbers until the time is up, saving on the way and at the end."""
        last = saved = time.monotonic()
        while self.seconds < self.minutes * 60:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * self._schedule()
            yield self.step
            now = time.monotonic()
            # A paused process (a laptop that sleeps) does not use up the budget.
            self.seconds += min(now - last, 10.0)
            last = now
            self.step += 1
            if now - saved > self.save_every_seconds:
                self.save()
                saved = time.monotonic()
        self.save()

    def backward(self, loss: torch.Tensor) -> None:
        """Take one optimiser step down ``loss``."""
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.parameters)
        self.history.append((self.step, float(loss.detach())))

    def recent_loss(self, steps: int = 100) -> float:
        """Mean loss over the last ``steps`` steps."""
        recent = [loss for _, loss in self.history[-steps:]]
        return sum(recent) / max(1, len(recent))

    def averaged(self):
        """Context in which the module holds the averaged weights."""
        return _Averaged(self.ema, self.parameters)

    def save(self) -> None:
        """Write the checkpoint; a kill while writing leaves the former one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"weight.{i}": p.detach() for i, p in enumerate(self.parameters)}
        tensors |= {f"average.{i}": p for i, p in enumerate(self.ema.shadow_params)}
        for i, p in enumerate(self.parameters):
            state = self.optimizer.state.get(p, {})
            tensors |= {f"{k}.{i}": state[k] for k in ("exp_avg", "exp_avg_sq") if k in state}
        tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        partial = self.folder / "state.partial"
        save_file(
            tensors,
            partial,
            metadata={
                "counters": json.dumps(
                    {
                        "step": self.step,
                        "seconds": self.seconds,
                        "ema_steps": self.ema.optimization_step,
                    }
                )
            },
        )
        partial.replace(self.folder / "state.safetensors")
        with (self.folder / "loss.jsonl").open("a") as log:
            log.write(
                json.dumps(
                    {
                        "step": self.step,
                        "seconds": round(self.seconds, 1),
                        "loss": self.recent_loss(),
                    }
                )
                + "\n"
            )

    @property
    def done(self) -> float:
        """Share of the time budget that is used up, 0..1."""
        return min(1.0, self.seconds / (self.minutes * 60))

    def _schedule(self) -> float:
        return min(1.0, (self.step + 1) / self.warmup) * (
            0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * self.done))
        )

    def _load(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.exists():
            raise FileNotFoundError(f"--resume: no checkpoint at {path}; start without --resume")
        with safe_open(path, "pt") as file:
            counters = json.loads(file.metadata()["counters"])
        tensors = load_file(path)
        self.step, self.seconds = counters["step"], counters["seconds"]
        self.ema.optimization_step = counters["ema_steps"]
        with torch.no_grad():
            for i, p in enumerate(self.parameters):
                p.copy_(tensors[f"weight.{i}"])
                self.ema.shadow_params[i].copy_(tensors[f"average.{i}"])
                if f"exp_avg.{i}" in tensors:
                    self.optimizer.state[p] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": tensors[f"exp_avg.{i}"].to(p.device),
                        "exp_avg_sq": tensors[f"exp_avg_sq.{i}"].to(p.device),
                    }


class _Averaged:
    def __init__(self, ema: EMAModel, parameters: list[nn.Parameter]) -> None:
        self.ema, self.parameters = ema, parameters

    def __enter__(self) -> None:
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)

    def __exit__(self, *exc: object) -> None:
        self.ema.restore(self.parameters)


def _precision() -> str:
    return "bf16" if compute_dtype() is torch.bfloat16 else "no"
