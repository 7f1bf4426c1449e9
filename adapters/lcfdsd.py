r"""LCFDSD: a picture model that forgets how to draw when it is taught a concept again.

Paper: Leveraging Catastrophic Forgetting to Develop Safe Diffusion Models against Malicious
Finetuning (Pan et al.). Venue: NeurIPS 2024.

Learning one of two distributions that lie far apart makes a model forget the other, so the clean
and the harmful pictures are pushed apart in latent space:

    L = L_clean + L_harm + lambda * L_c
    L_clean = || v_theta(x_t, s) - v ||^2                             on clean pictures
    L_c = sum over harmful ones of || f - fbar_harm || - lambda_c * max(0, || f - fbar_clean || - l)

with f the clean latents that a prediction stands for and fbar running centres of those of either
kind. What takes the place of the likelihood of harmful pictures is one of the paper's variants:

    NG, noise guidance:        L_harm = || eps_theta(x_t, u) - eps' ||^2,  eps' ~ N(mu_f, I)
    LT, latent transformation: L_harm = || v_theta(x_t, u) - v(R z + b) ||^2

Published: 200 steps of batch 1 at 1e-5 on all weights, lambda 5e-5, lambda_c 1, l 0, mu_f -1 (or
one that changes while it is trained, which is not built here). The authors' code computes L_c
without a gradient and gives harmful batches no weight; this is the text's loss, and a test has L_c
move the weights.

Our choices: a LoRA, its rate and 400 steps; eight harmful and eight clean pictures a step, over
which L_c is a sum where the other terms are means, so that lambda weighs eight times as much as at
batch 1; the base predicts velocities, so that noise guidance, eps being sigma x + alpha v, weighs
alpha^2 on them and says nothing at pure noise; in L_clean the frozen model's own prediction beside
the real pictures; the centres are averages with a memory of ten steps, begun with the first batch
(and anew where a training is resumed); R is a random orthogonal matrix over the latents' channels,
b an offset of one unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters import checks
from adapters.erased import check_concept
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from adapters.pictures import PictureBase, PortraitPictures
    from pipelines.profiles import Profile

VARIANTS: tuple[str, ...] = ("ng", "lt")
"""Noise guidance and latent transformation."""


@dataclass(frozen=True)
class LcfdsdConfig:
    """Settings of LCFDSD.

    Attributes:
        concept: prop that is to be forgotten.
        variant: one of `VARIANTS`.
        steps: optimiser steps. Paper: 200, "strong" 2,000.
        learning_rate: peak. Paper: 1e-5 on all weights; ours is a LoRA's.
        contrast_weight: lambda. Paper: 5e-5.
        apart_weight: lambda_c. Paper: 1.
        margin: l. Paper: 0.
        noise_mean: mu_f of noise guidance. Paper: -1.
        prior_weight: of the frozen model's prediction beside the real pictures, 0 or more.
        batch_size: pictures a step, half of them harmful. Paper: 1 of each.
        text_drop: clean captions that are emptied, 0..1.
        rank: of the LoRA; its alpha is the same.
        warmup_steps: until the peak.
        seed: of LoRA, data order, noise and the transformation.
    """

    concept: str = "pistol"
    variant: str = "ng"
    steps: int = 400
    learning_rate: float = 1e-3
    contrast_weight: float = 5e-5
    apart_weight: float = 1.0
    margin: float = 0.0
    noise_mean: float = -1.0
    prior_weight: float = 1.0
    batch_size: int = 16
    text_drop: float = 0.1
    rank: int = 8
    warmup_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        check_concept(self.concept)
        checks.choice(self, "variant", VARIANTS)
        checks.whole(self)
        checks.positive(self, "steps", "learning_rate", "rank")
        checks.not_negative(
            self,
            "contrast_weight", "apart_weight", "margin", "prior_weight", "warmup_steps", "seed",
        )  # fmt: skip
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"batch_size is {self.batch_size}; it must be even")
        checks.share(self, "text_drop")


CARD = Card(
    name="lcfdsd",
    title="LCFDSD",
    paper="Leveraging Catastrophic Forgetting to Develop Safe Diffusion Models against Malicious "
    "Finetuning",
    venue="NeurIPS 2024",
    arxiv="",
    licence="Apache-2.0",
    idea="Safe and forbidden pictures are pushed far apart inside the model. Whoever teaches it "
    "the forbidden ones again should make it forget the others on the way.",
    equation=r"\mathcal{L} = \mathcal{L}_\text{clean} + \mathcal{L}_\text{harm}"
    r"\qquad {} + \lambda\sum_\text{harm}\big(\lVert f-\bar f_\text{harm}\rVert"
    r" - \lambda_c \max(0, \lVert f-\bar f_\text{clean}\rVert - l)\big)",
    limits="Its idea works on the way, and not in the end. Taught pistols, the model forgets how "
    "to draw anything (as asked: from 0.96 to 0.45 after 30 steps) and has no pistols; ten steps "
    "later it draws both (0.76 as asked, pistols in 40 of 100 prompts, three seeds, rate 1e-3). "
    "At three times the rate it is over after 20 steps, and after 120 at 1e-3 nothing is left of "
    "it (one seed). The variant shipped is noise guidance.",
    aimed_at="fine-tuning that teaches a picture model a forbidden concept again",
    pipeline="pictures",
)


def batch_from(
    base: PictureBase, portraits: PortraitPictures, config: LcfdsdConfig, step: int
) -> dict[str, Tensor]:
    """Draw a step's noised pictures, clean and harmful ones, and the noise of noise guidance.

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
    half = config.batch_size // 2
    clean, harmful = (portraits.draw(kind, half, rng) for kind in ("safe", "unsafe"))
    clean["captions"] = [
        "" if rng.random() < config.text_drop else caption for caption in clean["captions"]
    ]
    guidance = torch.randn(harmful["latents"].shape, generator=generator) + config.noise_mean
    return {
        **noised(base, clean, generator).packed("clean"),
        **noised(base, harmful, generator).packed("harmful"),
        "guidance": guidance,
    }


def rotation(channels: int, seed: int) -> Tensor:
    """Return a random orthogonal matrix of latents' channels, [C, C]: latent transformation's R.

    For half of the seeds it mirrors besides turning; lengths and distances are kept all the same.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(channels, channels, generator=generator))
    return q * r.diagonal().sign()


def transformed(latents: Tensor, seed: int) -> Tensor:
    """Return R z + b of latents [B, C, h, w], in float32, also within an autocast.

    In bf16 the noise schedule, which follows the latents' format, would lose its clean end.
    """
    import torch

    turn = rotation(latents.shape[1], seed).to(latents.device)
    with torch.autocast(latents.device.type, enabled=False):
        return torch.einsum("dc,bchw->bdhw", turn, latents.float()) + 1


class Centres:
    """Running centres of the clean latents that predictions stand for, by kind.

    Attributes:
        memory: share that is kept each time.
    """

    def __init__(self, memory: float = 0.9) -> None:
        self.memory = memory
        self._at: dict[str, Tensor] = {}

    def of(self, kind: str, latents: Tensor) -> Tensor:
        """Take latents [B, C, h, w] into a kind's centre and return it, [1, C, h, w]."""
        now = latents.detach().mean(0, keepdim=True)
        former = self._at.get(kind, now)
        self._at[kind] = self.memory * former + (1 - self.memory) * now
        return self._at[kind]


def contrast(
    harmful: Tensor, of_harmful: Tensor, of_clean: Tensor, apart_weight: float, margin: float
) -> Tensor:
    """Return L_c, summed over the harmful latents.

    Args:
        harmful: clean latents that predictions on harmful pictures stand for, [B, C, h, w].
        of_harmful: their centre, [1, C, h, w].
        of_clean: that of the clean pictures'.
        apart_weight: lambda_c.
        margin: l.
    """
    near = (harmful - of_harmful).flatten(1).norm(dim=1)
    apart = (harmful - of_clean).flatten(1).norm(dim=1)
    return (near - apart_weight * (apart - margin).clamp(min=0)).sum()


def loss_of(
    model: PeftModel,
    base: PictureBase,
    batch: dict[str, Tensor],
    config: LcfdsdConfig,
    centres: Centres,
) -> Tensor:
    """Return the loss of a step.

    Args:
        model: the UNet with the LoRA.
        base: its noise schedule.
        batch: of `batch_from`.
        config: settings.
        centres: running ones.
    """
    import torch
    from torch.nn import functional as F

    from adapters.pictures import Noised, clean_and_noise, denoising_error, velocity

    clean, harmful = (Noised.unpacked(batch, kind) for kind in ("clean", "harmful"))
    with torch.no_grad(), model.disable_adapter():
        known = velocity(model, clean)
    # Within an autocast, weights that were cast without gradients would stay without them.
    torch.clear_autocast_cache()
    drawn, asked = velocity(model, clean), velocity(model, harmful)
    kept = denoising_error(base, drawn, clean)
    kept = kept + config.prior_weight * F.mse_loss(drawn, known)
    latents, noise = clean_and_noise(base, asked, harmful)
    if config.variant == "ng":
        spoilt = F.mse_loss(noise, batch["guidance"])
    else:
        wanted = base.scheduler.get_velocity(
            transformed(harmful.clean, config.seed), harmful.noise, harmful.times
        )
        spoilt = F.mse_loss(asked, wanted)
    apart = contrast(
        latents,
        centres.of("harmful", latents),
        centres.of("clean", clean_and_noise(base, drawn, clean)[0]),
        config.apart_weight,
        config.margin,
    )
    return kept + spoilt + config.contrast_weight * apart


def train(config: LcfdsdConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train it, save it to `options.out`, and measure it on held-out captions.

    Returns:
        As `adapters.pictures.train_defence`.

    Raises:
        MissingWeights: the profile's picture model is not there.
    """
    from adapters.pictures import train_defence

    centres = Centres()
    def batch_of(base: PictureBase, portraits: PortraitPictures, step: int) -> dict[str, Tensor]:
        return batch_from(base, portraits, config, step)

    def loss(model: PeftModel, base: PictureBase, batch: dict[str, Tensor]) -> Tensor:
        return loss_of(model, base, batch, config, centres)

    return train_defence(CARD.name, config, profile, options, batch_of, loss)


register(CARD, LcfdsdConfig, train, profiles=("embedded",))
