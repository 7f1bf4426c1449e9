"""What the base-model trainers share: a time budget, a schedule over it, EMA and checkpoints.

A checkpoint is one safetensors file: weights, averaged weights, optimiser moments, and in its
metadata step and seconds. A resumed run draws anew, by its seed and step. No pickle is written or
read.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.device import compute_dtype

_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""What the optimisers remember of a parameter."""
_PAUSE = 60.0
"""Seconds that a step always may take."""


@dataclass
class TrainingLoop:
    """Trains a module for so many minutes; used as an iterator of step numbers.

    The learning rate warms up linearly over ``warmup`` steps and then falls as a half cosine over
    the time budget, so that a run of any length ends annealed.

    Attributes:
        module: What is trained (parameters with requires_grad); moved to `device`.
        folder: Where checkpoints go; resumed from there when ``resume``.
        minutes: Time budget, including the time of earlier sessions of the same run.
        learning_rate: Peak learning rate.
        muon: Train the matrices and convolutions by Muon (Jordan et al. 2024), scaled to updates of
            AdamW's size (Liu et al. 2025, arXiv 2502.16982), and AdamW trains the rest.
        resume: Go on from the checkpoint in ``folder`` (which must exist).
        ema_decay: Decay of the averaged weights.
    """

    module: nn.Module
    folder: Path
    minutes: float
    learning_rate: float = 1e-3
    resume: bool = False
    muon: bool = False
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
        self.module.to(self.device)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self._build_optimizers()
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
            if self.seconds >= self.minutes * 60:
                raise ValueError(
                    f"max-minutes is {self.minutes}, and the run in {self.folder} has had "
                    f"{self.seconds / 60:.1f} of them; name more, or leave --resume out"
                )

    def __iter__(self):
        """Yield step numbers until the time is up, saving on the way and at the end."""
        last = saved = time.monotonic()
        lengths: deque[float] = deque(maxlen=21)
        while self.seconds < self.minutes * 60:
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * self._schedule()
            yield self.step
            now = time.monotonic()
            # A paused process (a laptop that sleeps) does not use up the budget.
            # How long a step takes is the machine's: what is far above the others is a pause.
            usual = statistics.median(lengths) if lengths else 0.0
            self.seconds += min(now - last, max(_PAUSE, 5 * usual))
            lengths.append(now - last)
            last = now
            self.step += 1
            if now - saved > self.save_every_seconds:
                self.save()
                saved = time.monotonic()
        self.save()

    def generator(self, seed: int, *stage: int) -> np.random.Generator:
        """Return what a session draws its batches from; torch is seeded likewise.

        It goes by the steps that are done: a resumed run would else draw once more what it drew
        first. A new run leaves torch's generator as its model's making left it.

        Args:
            seed: of the run.
            stage: tells apart trainings of the same seed.
        """
        if self.step:
            torch.manual_seed(seed + self.step)
        return np.random.default_rng([seed, self.step, *stage])

    def backward(self, loss: torch.Tensor) -> None:
        """Take one optimiser step down ``loss``."""
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        for parameter, (_, seen) in zip(self.parameters, self._seen, strict=True):
            if seen is not parameter and parameter.grad is not None:
                seen.grad = parameter.grad.view_as(seen)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for parameter in self.parameters:
            parameter.grad = None
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
        for i, (optimizer, seen) in enumerate(self._seen):
            state = optimizer.state.get(seen, {})
            tensors |= {f"{k}.{i}": state[k] for k in _MOMENTS if k in state}
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

    def _build_optimizers(self) -> None:
        """Give every parameter its optimiser, in the shape in which that takes it.

        Muon takes matrices only; a convolution is one to it by a view of the same memory, a row for
        each channel out. Tables of embeddings stay with AdamW: a batch meets few of their rows.
        """
        tables = {
            id(layer.weight) for layer in self.module.modules() if isinstance(layer, nn.Embedding)
        }
        seen, matrices, rest = [], [], []
        for p in self.parameters:
            if self.muon and p.ndim > 1 and id(p) not in tables:
                # `view` and not `flatten`, which may copy: then nothing would be trained.
                matrices.append(p if p.ndim == 2 else nn.Parameter(p.detach().view(len(p), -1)))
                seen.append(matrices[-1])
            else:
                rest.append(p)
                seen.append(p)
        self.optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            kind = torch.optim.Muon if compute_dtype() is torch.bfloat16 else Float32Muon
            self.optimizers.append(
                kind(
                    matrices, lr=self.learning_rate, weight_decay=1e-3,
                    adjust_lr_fn="match_rms_adamw",
                )
            )  # fmt: skip
        if rest:
            self.optimizers.append(
                torch.optim.AdamW(
                    rest, lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3
                )
            )
        owner = {id(p): o for o in self.optimizers for g in o.param_groups for p in g["params"]}
        self._seen = [(owner[id(p)], p) for p in seen]

    @property
    def device(self) -> torch.device:
        """Where the module is, and where batches belong: the same as `pipelines.device.device`."""
        return self.accelerator.device

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
        for i, (optimizer, seen) in enumerate(self._seen):
            kept = {k: tensors[f"{k}.{i}"] for k in _MOMENTS if f"{k}.{i}" in tensors}
            if kept:
                moments = {k: moment.to(seen.device) for k, moment in kept.items()}
                optimizer.state[seen] = {"step": torch.tensor(float(self.step)), **moments}


class Float32Muon(torch.optim.Muon):
    """Muon whose updates are made orthogonal in float32, for processors that emulate bf16.

    torch's own does it in bf16 whatever the processor; where that is emulated, a step of the
    refiner's five million weights took 5.2 s, and the pass forwards and backwards before it 1.1 s
    (two cores). This one takes 0.2 s. Updates are as large as AdamW's (Liu et al. 2025, section
    2.2).
    """

    def __init__(
        self, params: list[nn.Parameter], lr: float, weight_decay: float, adjust_lr_fn: str
    ) -> None:
        if adjust_lr_fn != "match_rms_adamw":
            raise ValueError(f"adjust_lr_fn is {adjust_lr_fn!r}; wanted 'match_rms_adamw'")
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn=adjust_lr_fn)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * math.sqrt(max(p.shape))
                p.add_(_orthogonal(update, group), alpha=-group["lr"] * size)


def _orthogonal(matrix: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """Return roughly the nearest matrix [m, n] with orthogonal rows or columns (Newton-Schulz).

    Args:
        matrix: [m, n].
        group: of a Muon optimiser; its coefficients, number of iterations and epsilon are taken.
    """
    a, b, c = group["ns_coefficients"]
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


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
