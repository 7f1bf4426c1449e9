"""What the defences of picture models share: the model, its pictures, and the denoising loss.

A concept is what the pictures must not show; here a held pistol (`worlds.portraits.UNSAFE_PROP`).
Its pictures are "unsafe", those with anything else in hand, or nothing, "safe".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.loading import loading
from pipelines.paths import REPO, runs_dir

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from numpy.typing import NDArray
    from peft import PeftModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from adapters.loop import Progress
    from adapters.registry import Trained, TrainOptions
    from evaluation.runs import Run
    from pipelines.profiles import Profile
    from worlds.data import AvatarSet

ATTENTION: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
"""Attention's projections: what stock LoRA trainers of diffusion models train."""
MODULES: tuple[str, ...] = (*ATTENTION, "conv1", "conv2")
"""Layers that a defence's LoRA is on: those, and the residual blocks' convolutions."""

ATTACKED: dict[str, tuple[str, ...]] = {
    "attention": ATTENTION,
    "all": (*MODULES, "proj_in", "proj_out", "net.0.proj", "net.2"),
}
"""Layers that an attacker's LoRA may be on, by the name of the choice."""
TRAINING_PORTRAITS = 6000
"""How many of the training set defences are trained on."""
ATTACKER_SEED = 3_000_003
"""Of the scenes and portraits that attackers' pictures are of; no training has them."""


class Pictures(TypedDict):
    """Pictures with their captions.

    Attributes:
        latents: float32 [B, C, h, w], scaled as the denoiser sees them.
        captions: B texts.
    """

    latents: Tensor
    captions: list[str]


@dataclass(frozen=True)
class PictureBase:
    """The frozen model that draws pictures from texts, in float32."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
    vae: AutoencoderKL

    @classmethod
    @loading()
    def load(cls, profile: Profile) -> PictureBase:
        """Load a profile's picture model, its own LoRA merged in, on the compute device.

        Raises:
            MissingWeights: a part is not there.
        """
        from diffusers import AutoencoderKL, DDIMScheduler
        from transformers import CLIPTextModel, CLIPTokenizer

        from pipelines.device import device, plain_attention
        from pipelines.portraits import base_unet

        folder = Path(profile.pictures.base)
        unet = base_unet(profile.pictures)
        plain_attention(unet)
        text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
        text_encoder.set_attn_implementation("eager")
        vae = AutoencoderKL.from_pretrained(folder / "vae").float()
        for module in (unet, text_encoder, vae):
            module.requires_grad_(False).eval().to(device())
        return cls(
            unet,
            text_encoder,
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            DDIMScheduler.from_pretrained(folder / "scheduler"),
            vae,
        )

    @staticmethod
    def parents(profile: Profile) -> dict[str, str]:
        """Return what a defence's training starts from: part → SHA-256 of its weights."""
        from evaluation.runs import weights_hash

        spec = profile.pictures
        return {
            "unet": weights_hash(Path(spec.base) / "unet"),
            **({"portraits": weights_hash(Path(spec.lora))} if spec.lora else {}),
        }

    @torch.no_grad()
    def text(self, captions: Sequence[str]) -> Tensor:
        """Return text states [B, tokens, width]."""
        tokens = self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state

    @torch.no_grad()
    def encode(self, images: NDArray[np.uint8]) -> Tensor:
        """Return scaled latents [B, C, h, w] of pictures, RGB uint8 [B, H, W, 3]."""
        from worlds.autoencoder import to_tensor

        parts = [
            self.vae.encode(to_tensor(part).to(self.vae.device)).latent_dist.mode()
            for part in np.array_split(images, max(1, len(images) // 4))
        ]
        return torch.cat(parts).float().cpu() * self.vae.config.scaling_factor


@dataclass(frozen=True)
class Noised:
    """Pictures of a step with noise on them.

    Attributes:
        clean: latents [B, C, h, w].
        noise: likewise.
        times: [B].
        states: latents at those times.
        text: text states [B, tokens, width].
    """

    clean: Tensor
    noise: Tensor
    times: Tensor
    states: Tensor
    text: Tensor

    def packed(self, name: str) -> dict[str, Tensor]:
        """Return the fields as a batch of `adapters.loop` holds them, under ``name.field``."""
        return {f"{name}.{field}": value for field, value in vars(self).items()}

    @classmethod
    def unpacked(cls, batch: dict[str, Tensor], name: str) -> Noised:
        """Return what was packed under a name."""
        prefix = f"{name}."
        return cls(
            **{k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)}
        )


def noised(base: PictureBase, some: Pictures, generator: torch.Generator) -> Noised:
    """Put noise on pictures at times drawn evenly, as diffusers' trainers do.

    Args:
        base: its text encoder and noise schedule.
        some: pictures.
        generator: draws, on the CPU.
    """
    clean = some["latents"]
    noise = torch.randn(clean.shape, generator=generator)
    last = base.scheduler.config.num_train_timesteps
    times = torch.randint(last, (len(clean),), generator=generator)
    where = base.text_encoder.device
    clean, noise, times = clean.to(where), noise.to(where), times.to(where)
    states = base.scheduler.add_noise(clean, noise, times)
    return Noised(clean, noise, times, states, base.text(some["captions"]))


def velocity(unet: torch.nn.Module, at: Noised, text: Tensor | None = None) -> Tensor:
    """Return what a UNet predicts from noised pictures, float32 [B, C, h, w].

    Args:
        unet: with or without a LoRA.
        at: the pictures.
        text: text states in place of the pictures' own.
    """
    states = at.text if text is None else text
    return unet(at.states, at.times, encoder_hidden_states=states, return_dict=False)[0].float()


def denoising_error(base: PictureBase, predicted: Tensor, at: Noised) -> Tensor:
    """Return the squared error of predicted velocities, a scalar (v-prediction, 2202.00512)."""
    return F.mse_loss(predicted, base.scheduler.get_velocity(at.clean, at.noise, at.times))


def clean_and_noise(base: PictureBase, predicted: Tensor, at: Noised) -> tuple[Tensor, Tensor]:
    """Return the clean latents and the noise that predicted velocities stand for, [B, C, h, w]."""
    alpha_bar = base.scheduler.alphas_cumprod.to(at.states.device)[at.times].view(-1, 1, 1, 1)
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return alpha * at.states - sigma * predicted, sigma * at.states + alpha * predicted


class PortraitPictures:
    """Portraits by what they hold, drawn by step number."""

    def __init__(self, data: AvatarSet, latents: NDArray, scale: float, concept: str) -> None:
        """Sort a set of portraits.

        Args:
            data: of `worlds.portraits`.
            latents: unscaled ones of its first N pictures, [N, C, h, w]; others are not drawn.
            scale: the autoencoder's scaling factor.
            concept: prop that makes a portrait unsafe.

        Raises:
            ValueError: the set lacks unsafe, safe or bare ones.
        """
        self.data, self.latents, self.scale = data, latents, scale
        held = np.array([row["look"]["prop"] for row in data.meta[: len(latents)]])
        self.rows = {
            "unsafe": np.flatnonzero(held == concept),
            "safe": np.flatnonzero(held != concept),
            "bare": np.flatnonzero(held == "none"),
        }
        for kind, rows in self.rows.items():
            if not len(rows):
                raise ValueError(f"the set of {len(held)} portraits has none that is {kind}")

    def draw(self, kind: str, count: int, rng: np.random.Generator) -> Pictures:
        """Draw so many portraits of a kind: "unsafe", "safe" or "bare"."""
        return self.take(rng.choice(self.rows[kind], count))

    def take(self, rows: Sequence[int] | NDArray) -> Pictures:
        """Return given portraits."""
        latents = np.stack([self.latents[i] for i in rows]).astype(np.float32)
        return Pictures(
            latents=torch.from_numpy(latents) * self.scale,
            captions=[self.data.meta[i]["caption"] for i in rows],
        )

    def captions_with(self, rows: Sequence[int] | NDArray, prop: str) -> list[str]:
        """Return the captions that portraits would have if they held something else."""
        from worlds.looks import Look, caption

        return [
            caption(replace(Look(**self.data.meta[i]["look"]), prop=prop)) for i in rows
        ]


def training_portraits(base: PictureBase, concept: str) -> PortraitPictures:
    """Return the first `TRAINING_PORTRAITS` of the training set, made first where they are missing.

    They are those that ``python -m worlds.train portraits`` begins with.
    """
    from worlds.denoiser import encode_set
    from worlds.portraits import build_portraits

    data = build_portraits(REPO / "checkpoints" / "data" / "portraits", TRAINING_PORTRAITS)
    latents = encode_set(base.vae, data)[:TRAINING_PORTRAITS]
    return PortraitPictures(data, latents, base.vae.config.scaling_factor, concept)


def fit(
    base: PictureBase,
    rank: int,
    batch_of: Callable[[int], dict[str, Tensor]],
    loss_of: Callable[[PeftModel, dict[str, Tensor]], Tensor],
    config: Any,
    options: TrainOptions,
    run: Run,
) -> tuple[PeftModel, Progress]:
    """Put a LoRA on the model's UNet, train it, and save it to `options.out` in PEFT format.

    Args:
        base: the model; its UNet gets the LoRA.
        rank: of the LoRA; its alpha is the same.
        batch_of: step number → what the loss needs; the same number gives the same.
        loss_of: loss of a step.
        config: of the defence, for its steps, learning_rate, warmup_steps and seed.
        options: where to, for how long, whether to resume.
        run: gets the events.

    Returns:
        The UNet with the LoRA, and how far it came.
    """
    from peft import LoraConfig, get_peft_model

    from adapters.loop import train_steps
    from pipelines.lora import save_lora

    torch.manual_seed(config.seed)
    lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(MODULES))
    model = get_peft_model(base.unet, lora)
    progress = train_steps(model, batch_of, loss_of, config, options=options, run=run)
    save_lora(model, options.out)
    return model, progress


def train_defence(
    name: str,
    config: Any,
    profile: Profile,
    options: TrainOptions,
    batch_of: Callable[[PictureBase, PortraitPictures, int], dict[str, Tensor]],
    loss_of: Callable[[PeftModel, PictureBase, dict[str, Tensor]], Tensor],
) -> Trained:
    """Train a defence of a profile's picture model, save it, and measure it on held-out captions.

    Args:
        name: of the defence.
        config: its settings, with a concept and what `fit` takes.
        profile: whose model.
        options: where to, for how long, whether to resume.
        batch_of: model, portraits and step number → what the loss needs.
        loss_of: UNet with the LoRA, model and batch → loss of a step.

    Returns:
        With the figures of `evaluation.pictures.measure`, and with the parts of the model that was
        trained on.

    Raises:
        MissingWeights: the profile's picture model is not there.
    """
    from adapters.registry import Trained
    from evaluation.pictures import measure
    from evaluation.runs import RunStore

    base = PictureBase.load(profile)
    parents = base.parents(profile)
    portraits = training_portraits(base, config.concept)
    settings = {"defence": name, **asdict(config)}
    run = RunStore(runs_dir()).create("train", settings, profile.name, parents)

    def batch_at(step: int) -> dict[str, Tensor]:
        return batch_of(base, portraits, step)

    def loss_on(model: PeftModel, batch: dict[str, Tensor]) -> Tensor:
        return loss_of(model, base, batch)

    _, (steps, before) = fit(base, config.rank, batch_at, loss_on, config, options, run)
    figures = measure(profile, options.out, config.concept)
    run.finish("done" if steps == config.steps else "stopped")
    return Trained(steps, figures, before, parents)
