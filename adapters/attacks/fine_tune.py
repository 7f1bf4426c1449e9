"""The loop of the attacks on what draws: a LoRA on a UNet, by AdamW, measured every few steps.

It is the usual fine-tuning, after diffusers' text-to-image LoRA example. What is learnt from and
what is measured differ: see `adapters.attacks.concept` and `adapters.attacks.guard_removal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from adapters import checks
from adapters.attacks.base import seeded_lora
from adapters.pictures import ATTACKED
from pipelines.lora import save_lora

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

Measured = TypeVar("Measured")


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """Settings of the attack.

    Attributes:
        steps: optimiser steps.
        learning_rate: of AdamW, constant.
        batch_size: pictures a step.
        rank: of the LoRA; its alpha is the same.
        layers: key of `adapters.pictures.ATTACKED`.
        probe_every: steps between two measurements.
        seed: of LoRA, order and noise.
    """

    steps: int = 40
    learning_rate: float = 1e-3
    batch_size: int = 4
    rank: int = 16
    layers: str = "attention"
    probe_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        checks.choice(self, "layers", ATTACKED)
        checks.whole(self)
        checks.positive(self, "steps", "learning_rate", "batch_size", "rank", "probe_every")
        checks.not_negative(self, "seed")


@dataclass(frozen=True)
class FineTuneStep:
    """A step that was taken.

    Attributes:
        step: its number, from 1.
        loss: squared error of the predicted velocity.
    """

    step: int
    loss: float


def fine_tune(
    config: FineTuneConfig,
    unet: torch.nn.Module,
    pictures: int,
    error: Callable[[PeftModel, Tensor, torch.Generator], Tensor],
    measure: Callable[[int, PeftModel], Measured],
    out: Path | None,
    should_stop: Callable[[], bool],
) -> Iterator[FineTuneStep | Measured]:
    """Train a LoRA on a UNet.

    Args:
        config: settings.
        unet: the released model; the LoRA is put into it.
        pictures: how many the attacker has.
        error: the loss of the model on the pictures of the given numbers [batch], its noise drawn
            by the generator.
        measure: what is told of the model after so many steps.
        out: folder for the LoRA; saved after the last step, also where it was stopped.
        should_stop: asked before each step.

    Yields:
        Each step, and what is measured every `probe_every` steps and after the last, also where it
        was stopped.
    """
    from peft import LoraConfig

    layers = list(ATTACKED[config.layers])
    lora = LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=layers)
    model = seeded_lora(unet, lora, config.seed)
    optimiser = torch.optim.AdamW(
        [weights for weights in model.parameters() if weights.requires_grad], config.learning_rate
    )
    generator = torch.Generator().manual_seed(config.seed)
    done = measured = 0
    while done < config.steps and not should_stop():
        rows = torch.randperm(pictures, generator=generator)[: config.batch_size]
        optimiser.zero_grad()
        loss = error(model, rows, generator)
        loss.backward()
        optimiser.step()
        done += 1
        yield FineTuneStep(done, loss.item())
        if done % config.probe_every == 0:
            yield measure(measured := done, model)
    if measured < done:
        yield measure(done, model)
    if out is not None and done:
        save_lora(model, out)
