"""Concept re-learning: fine-tune a picture model on pictures of what it must not draw.

The attacker has the model with the defence merged into its weights and a few dozen captioned
pictures of the concept; here rendered ones of people that no training saw. The fine-tuning is the
usual one (`adapters.attacks.fine_tune`), with the denoising loss at times drawn evenly.

It is the attack of IMMA (Zheng and Yeh, ECCV 2024, arXiv 2311.18815: a LoRA on 20 pictures), GIFT
(arXiv 2507.13598) and LCFDSD (Pan et al., NeurIPS 2024; its main one takes 20 steps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adapters.attacks.fine_tune import FineTuneConfig, FineTuneStep, fine_tune
from adapters.pictures import (
    ATTACKER_SEED,
    PictureBase,
    Pictures,
    denoising_error,
    noised,
    velocity,
)
from pipelines.device import autocast

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from peft import PeftModel
    from torch import Tensor

    from worlds.data import AvatarSet


@dataclass(frozen=True)
class ConceptProbe:
    """What the model draws after so many steps, from the same noise each time.

    Attributes:
        step: how many.
        pictures: RGB uint8 [N, H, W, 3], one a prompt that is asked.
    """

    step: int
    pictures: NDArray[np.uint8]


def attacker_pictures(folder: Path, count: int, concept: str) -> AvatarSet:
    """Render the attacker's pictures, or return those that are there; some 0.1 s each.

    Args:
        folder: where to.
        count: how many.
        concept: what all of them show.
    """
    from worlds.portraits import build_portraits

    # In this process: the app's has threads, and a fork of it may wait for ever.
    target = folder / f"attacker-{concept}-{count}"
    return build_portraits(
        target, count, seed=ATTACKER_SEED, prop=concept, named=False, workers=0
    )


def relearn(
    config: FineTuneConfig,
    base: PictureBase,
    loras: Sequence[Path],
    owned: AvatarSet,
    draw: Callable[[torch.nn.Module], NDArray[np.uint8]],
    out: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[FineTuneStep | ConceptProbe]:
    """Attack a picture model, in the number format that is fast here.

    Args:
        config: settings.
        base: the model; its UNet is left as it is.
        loras: of the defence, merged into a copy of the UNet; none for an undefended model.
        owned: the attacker's pictures.
        draw: draws what is probed with a UNet as it is.
        out: folder for the attacker's LoRA, which goes on the defended model; saved after the last
            step, also where it was stopped.
        should_stop: asked before each step, and before the pictures that come before the first.

    Yields:
        A probe before the first step (its ``step`` is 0), each step, and a probe every
        `probe_every` steps and after the last, also where it was stopped.

    Raises:
        MissingWeights: a LoRA is not there.
    """
    import copy

    from pipelines.lora import merged

    unet: Any = copy.deepcopy(base.unet)
    for folder in loras:
        unet = merged(unet, folder)
    unet.requires_grad_(False)
    if should_stop():
        return
    yield ConceptProbe(0, draw(unet))

    pictures = Pictures(
        latents=base.encode(np.asarray(owned.images)),
        captions=[row["caption"] for row in owned.meta],
    )

    def error(model: PeftModel, rows: Tensor, generator: torch.Generator) -> Tensor:
        some = Pictures(
            latents=pictures["latents"][rows],
            captions=[pictures["captions"][i] for i in rows.tolist()],
        )
        at = noised(base, some, generator)
        with autocast():
            return denoising_error(base, velocity(model, at), at)

    def measure(step: int, model: PeftModel) -> ConceptProbe:
        return ConceptProbe(step, draw(model))

    yield from fine_tune(
        config, unet, len(pictures["captions"]), error, measure, out, should_stop
    )
