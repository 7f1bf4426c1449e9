r"""Concept ablation: a picture model that draws something harmless where a concept is asked for.

Paper: Ablating Concepts in Text-to-Image Diffusion Models (Kumari et al.). Venue: ICCV 2023.
arXiv: 2303.13516.

The baseline of the image defences, as refusal training is that of the chat model's: it makes the
model safe and was never meant to withstand fine-tuning. With c* a caption that asks for the concept
and c its anchor, the same caption without it, the frozen model is the teacher of its own copy:

    L = || v_theta(x_t, c*) - v_base(x_t, c) ||^2 + || v_theta(x_t, s) - v_base(x_t, s) ||^2

(the paper's model-based variant, equation 4, without its regularisation by an anchor's own images,
for which the second term stands, on captions s of all other portraits).

Our choices: x_t is a noised rendered portrait, half of them of the concept and half with empty
hands; a LoRA instead of cross-attention or all weights; a tenth of all safe captions is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters import checks
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from adapters.pictures import PictureBase, PortraitPictures
    from pipelines.profiles import Profile


@dataclass(frozen=True)
class ErasedConfig:
    """Settings of concept ablation.

    Attributes:
        concept: prop that is not to be drawn.
        steps: optimiser steps. Ours; the paper takes 100 to 200 of 8 pictures, on all weights.
        learning_rate: peak. Ours, for a LoRA.
        batch_size: pictures a step, half of them asking for the concept.
        text_drop: safe captions that are emptied, 0..1, as in the base's training.
        rank: of the LoRA; its alpha is the same. Ours.
        warmup_steps: until the peak.
        seed: of LoRA, data order and noise.
    """

    concept: str = "pistol"
    steps: int = 150
    learning_rate: float = 1e-3
    batch_size: int = 16
    text_drop: float = 0.1
    rank: int = 8
    warmup_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        check_concept(self.concept)
        checks.whole(self)
        checks.positive(self, "steps", "learning_rate", "rank")
        checks.not_negative(self, "warmup_steps", "seed")
        if self.batch_size < 4 or self.batch_size % 4:
            raise ValueError(f"batch_size is {self.batch_size}; it must be a multiple of 4")
        checks.share(self, "text_drop")


def check_concept(concept: str) -> None:
    """Refuse what nobody can hold.

    Raises:
        ValueError: it is none of `worlds.looks.PROPS`.
    """
    from worlds.looks import PROPS

    if concept not in PROPS[1:]:
        raise ValueError(f"concept is {concept!r}; choose one of: {', '.join(PROPS[1:])}")


CARD = Card(
    name="erased",
    title="Concept ablation",
    paper="Ablating Concepts in Text-to-Image Diffusion Models",
    venue="ICCV 2023",
    arxiv="2303.13516",
    licence="Apache-2.0",
    idea="The model is taught to draw the same person with empty hands where a pistol is asked "
    "for. It is the baseline of the picture defences: safe, and never meant to withstand "
    "fine-tuning.",
    equation=r"\mathcal{L} = \lVert v_\theta(x_t, c^*) - v_\text{base}(x_t, c)\rVert^2"
    r"\qquad {} + \lVert v_\theta(x_t, s) - v_\text{base}(x_t, s)\rVert^2",
    limits="It is safe as long as nobody trains on: a LoRA on 40 pictures of pistols brings them "
    "back within 10 steps, in all of 16 prompts after 40, with each of three seeds "
    "(docs/pictures.md).",
    aimed_at="a word in a prompt; not an attacker who fine-tunes",
    pipeline="pictures",
)


def batch_from(
    base: PictureBase, portraits: PortraitPictures, config: ErasedConfig, step: int
) -> dict[str, Tensor]:
    """Draw a step's noised pictures, the texts of teacher and pupil with them.

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
    quarter = config.batch_size // 4
    asked = np.concatenate(
        [rng.choice(portraits.rows[kind], quarter) for kind in ("unsafe", "bare")]
    )
    safe = rng.choice(portraits.rows["safe"], 2 * quarter)
    some = portraits.take(np.concatenate([asked, safe]))
    kept = ["" if rng.random() < config.text_drop else c for c in some["captions"][2 * quarter :]]
    at = noised(base, some, generator)
    return {
        **at.packed("at"),
        "pupil": base.text([*portraits.captions_with(asked, config.concept), *kept]),
        "teacher": base.text([*portraits.captions_with(asked, "none"), *kept]),
    }


def loss_of(model: PeftModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of a step: both terms weigh alike, for they have as many pictures."""
    import torch
    from torch.nn import functional as F

    from adapters.pictures import Noised, velocity

    at = Noised.unpacked(batch, "at")
    with torch.no_grad(), model.disable_adapter():
        wanted = velocity(model, at, batch["teacher"])
    # Within an autocast, weights that were cast without gradients would stay without them.
    torch.clear_autocast_cache()
    return F.mse_loss(velocity(model, at, batch["pupil"]), wanted)


def train(config: ErasedConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train it, save it to `options.out`, and measure it on held-out captions.

    Returns:
        As `adapters.pictures.train_defence`.

    Raises:
        MissingWeights: the profile's picture model is not there.
    """
    from adapters.pictures import train_defence

    def batch_of(base: PictureBase, portraits: PortraitPictures, step: int) -> dict[str, Tensor]:
        return batch_from(base, portraits, config, step)

    def loss(model: PeftModel, _: PictureBase, batch: dict[str, Tensor]) -> Tensor:
        return loss_of(model, batch)

    return train_defence(CARD.name, config, profile, options, batch_of, loss)


register(CARD, ErasedConfig, train, profiles=("embedded",))
