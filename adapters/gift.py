r"""GIFT: a picture model that fine-tuning cannot easily teach a concept again.

Paper: GIFT: Gradient-aware Immunization of diffusion models against malicious Fine-Tuning with
safe concepts retention (Abdalla et al.). Venue: arXiv 2025. arXiv: 2507.13598.

Bi-level, the two levels taken in turns on the same weights:

    lower, prior:     min_theta  || v_theta(x_t, s) - v ||^2                     on safe pictures
    upper, immunise:  min_theta  - || v_theta(x_t, u) - v ||^2                   on unsafe pictures
                                 + beta / L * sum_l || h_l(x_t, u) - n_l ||^2 / var

with h_l the activations of layer l of L and n_l noise of the same mean and spread (representation
noising, Rosati et al., NeurIPS 2024, arXiv 2405.14577): what the model knows of the concept is to
be gone from all layers, so that an attacker has to learn it from nothing. All norms are means.

Published are 1,000 steps of SD v1.5; the step sizes and beta are not. Our choices:

* a LoRA, and one AdamW for both levels, every other step each; the paper updates the weights;
* the error on unsafe pictures is driven up to `ceiling` and left there. Ascent has no end of its
  own, and past the error of a model that knows nothing it only destroys;
* both losses at times drawn evenly, as attackers draw them;
* the safe level also holds the frozen model's own prediction, `prior_weight` of it, beside the real
  pictures: ascent spoils what is drawn of everything, and this tells how it was;
* in place of representation noising's distance between distributions (MMD) the squared distance to
  noise drawn anew each step. Its expectation pulls activations to the mean of their channel: they
  are flattened, and not made noise;
* layers are the outputs of all residual blocks and transformers of the UNet.

The weights that ship were trained when representation noising drew from the step's number alone: of
seed 0 the same numbers as the pictures' noise. So a new training differs from them a little.

Ablations of the paper: `noise_weight=0, prior=False` (maximisation only) and `prior=False` (with
representation noising). Without the prior every step immunises, so half the `steps` compare.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters import checks
from adapters.erased import check_concept
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

    from adapters.pictures import PictureBase, PortraitPictures
    from pipelines.profiles import Profile


@dataclass(frozen=True)
class GiftConfig:
    """Settings of GIFT; what the paper does not publish is ours.

    Attributes:
        concept: prop that is to be immunised against.
        steps: optimiser steps, of both levels together. Paper: 1,000.
        learning_rate: peak, of both levels (alpha_P and alpha_I, not published).
        noise_weight: beta, of the representation noising (not published).
        ceiling: error on unsafe pictures beyond which it is not driven; a model that predicts the
            mean has about 1.
        prior: whether there is the lower level.
        prior_weight: of the frozen model's prediction beside the real pictures, 0 or more.
        batch_size: pictures a step. Paper: 1.
        text_drop: safe captions that are emptied, 0..1.
        rank: of the LoRA; its alpha is the same.
        warmup_steps: until the peak.
        seed: of LoRA, data order and noise.
    """

    concept: str = "pistol"
    steps: int = 500
    learning_rate: float = 1e-3
    noise_weight: float = 0.1
    ceiling: float = 1.0
    prior: bool = True
    prior_weight: float = 1.0
    batch_size: int = 8
    text_drop: float = 0.1
    rank: int = 8
    warmup_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        check_concept(self.concept)
        checks.whole(self)
        checks.positive(self, "steps", "learning_rate", "ceiling", "batch_size", "rank")
        checks.not_negative(self, "noise_weight", "prior_weight", "warmup_steps", "seed")
        checks.share(self, "text_drop")


CARD = Card(
    name="gift",
    title="GIFT",
    paper="GIFT: Gradient-aware Immunization of diffusion models against malicious Fine-Tuning "
    "with safe concepts retention",
    venue="arXiv 2025",
    arxiv="2507.13598",
    licence="Apache-2.0",
    idea="Two lessons in turns: keep drawing safe pictures well, and get worse at the forbidden "
    "ones, down to the last layer, whose activations are flattened. Whoever fine-tunes "
    "should have to teach the concept from nothing.",
    equation=r"\min_\theta\; \mathcal{L}_\text{safe}(\theta)\qquad\text{in turns with}\;\;"
    r"-\mathcal{L}_\text{unsafe}(\theta) + \tfrac{\beta}{L} \sum_l "
    r"\lVert h_l - n_l\rVert^2 / \sigma_l^2",
    limits="It delays and does not prevent. The attack that gives the undefended model pistols in "
    "40 prompts of 100 after 10 steps, and in all after 40, gives this one 27 after 40 (three "
    "seeds, rate 1e-3); at three times the rate it has half of them after 20 steps, and all of "
    "them after 120 steps at 1e-3, or after 40 of a LoRA on all layers (one seed each). Safe "
    "pictures differ from the bare model's (25 dB), and keep what was asked (0.94 of it, of 0.98).",
    aimed_at="fine-tuning that teaches a picture model a forbidden concept again",
    pipeline="pictures",
)


def batch_from(
    base: PictureBase, portraits: PortraitPictures, config: GiftConfig, step: int
) -> dict[str, Tensor]:
    """Draw a step's noised pictures: safe ones in even steps, unsafe ones in odd steps.

    Args:
        base: the frozen model.
        portraits: to draw from.
        config: settings.
        step: its number.
    """
    import numpy as np
    import torch

    from adapters.pictures import noised

    rng = np.random.default_rng([config.seed, step])
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    unsafe = step % 2 == 1 or not config.prior
    some = portraits.draw("unsafe" if unsafe else "safe", config.batch_size, rng)
    if not unsafe:
        some["captions"] = [
            "" if rng.random() < config.text_drop else caption for caption in some["captions"]
        ]
    at = noised(base, some, generator)
    return {**at.packed("at"), "unsafe": torch.tensor(unsafe), "step": torch.tensor(step)}


@contextmanager
def activations(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within, collect what the residual blocks and transformers of a UNet put out, [B, C, h, w]."""
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    seen: list[Tensor] = []

    def keep(_: nn.Module, __: tuple, out: Any) -> None:
        # A transformer called without return_dict puts out a tuple.
        seen.append(out[0] if isinstance(out, tuple) else out)

    hooks = [
        layer.register_forward_hook(keep)
        for layer in model.modules()
        if isinstance(layer, ResnetBlock2D | Transformer2DModel)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def noising(layers: list[Tensor], seed: int) -> Tensor:
    """Return how far activations are from noise of their own mean and spread, mean over layers.

    Distances are in units of the spread of each channel.

    Args:
        layers: [B, C, h, w] each.
        seed: of the noise.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    far = []
    for layer in layers:
        held = layer.detach().float()
        mean, spread = held.mean((0, 2, 3), keepdim=True), held.std((0, 2, 3), keepdim=True)
        noise = torch.randn(held.shape, generator=generator).to(held.device)
        away = (layer.float() - mean - spread * noise) / (spread + 1e-3)
        far.append(away.square().mean())
    return torch.stack(far).mean()


def loss_of(
    model: PeftModel, base: PictureBase, batch: dict[str, Tensor], config: GiftConfig
) -> Tensor:
    """Return the loss of a step, of one level or the other.

    Args:
        model: the UNet with the LoRA.
        base: its noise schedule.
        batch: of `batch_from`.
        config: settings.
    """
    import torch
    from torch.nn import functional as F

    from adapters.pictures import Noised, denoising_error, velocity

    at = Noised.unpacked(batch, "at")
    if not batch["unsafe"]:
        with torch.no_grad(), model.disable_adapter():
            known = velocity(model, at)
        # Within an autocast, weights that were cast without gradients would stay without them.
        torch.clear_autocast_cache()
        drawn = velocity(model, at)
        real = denoising_error(base, drawn, at)
        return real + config.prior_weight * F.mse_loss(drawn, known)
    with activations(model) as layers:
        error = denoising_error(base, velocity(model, at), at)
    loss = -error.clamp(max=config.ceiling)
    if config.noise_weight:
        # Of its own stream: the pictures' noise is drawn for the same seed and step.
        seed = random.Random(f"{config.seed}/{int(batch['step'])}/representation").getrandbits(63)
        loss = loss + config.noise_weight * noising(layers, seed)
    return loss


def train(config: GiftConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train it, save it to `options.out`, and measure it on held-out captions.

    Returns:
        As `adapters.pictures.train_defence`.

    Raises:
        MissingWeights: the profile's picture model is not there.
    """
    from adapters.pictures import train_defence

    def batch_of(base: PictureBase, portraits: PortraitPictures, step: int) -> dict[str, Tensor]:
        return batch_from(base, portraits, config, step)

    def loss(model: PeftModel, base: PictureBase, batch: dict[str, Tensor]) -> Tensor:
        return loss_of(model, base, batch, config)

    return train_defence(CARD.name, config, profile, options, batch_of, loss)


register(CARD, GiftConfig, train, profiles=("embedded",))
