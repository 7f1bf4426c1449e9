"""Avatar-SD's pictures from a text alone: a LoRA that has the UNet draw portraits by itself.

The UNet has learnt every picture with a skeleton's help; without one it drew patches of the right
colours. This LoRA, on all its layers, is trained on the portraits of `worlds.portraits` with the
losses of `worlds.denoiser`: noised pictures at all times, and states that the model's own sampling
reaches. The autoencoder, the text encoder and the UNet's own weights stay as they are, so clips are
drawn as before. It ships in ``assets/portraits``, and the defences of pictures start from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.device import autocast, plain_attention
from pipelines.lora import save_lora
from pipelines.paths import ASSETS
from pipelines.portraits import sampled, spatial_unet
from worlds.autoencoder import LATENT_CHANNELS, load_autoencoder
from worlds.data import HELD_OUT_SEED, AvatarSet
from worlds.denoiser import (
    DROP,
    GRID,
    chain,
    decode,
    encode_set,
    figure_weights,
    noisy_first,
    passes_loss,
)
from worlds.export import read_records, training_record, write_records
from worlds.loop import TrainingLoop
from worlds.portraits import build_portraits
from worlds.render import SIZE

PORTRAITS = ASSETS / "portraits"
"""Where the LoRA ships."""
RANK = 16
MODULES = (
    "to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut", "proj_in", "proj_out",
    "net.0.proj", "net.2", "time_emb_proj", "conv", "conv_in", "conv_out",
)  # fmt: skip
"""Layers that get the LoRA: all with a matrix or a convolution."""
CHAIN_PASSES = 3
"""Passes of a chain."""
HELD_RADIUS = 44.0
"""Pixels about the hand within which a held thing lies, but for an umbrella's and a balloon's."""
STEPS, GUIDANCE = 4, 2.0
"""Of the sheets."""


class TextDenoiser(nn.Module):
    """The spatial UNet with the LoRA, led by a text alone.

    Attributes:
        unet: with the LoRA, which alone is trained.
        text_encoder: frozen.
        tokenizer: its tokenizer.
        scheduler: the noise schedule.
    """

    def __init__(self, folder: Path, lora: Path | None = None, rank: int = RANK) -> None:
        """Load the parts of an Avatar-SD folder.

        Args:
            folder: of the model.
            lora: folder of a LoRA to go on from; None starts one that changes nothing.
            rank: of a new one; its alpha is the same.
        """
        super().__init__()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
        text_encoder.set_attn_implementation("eager")
        self.text_encoder = text_encoder.requires_grad_(False).eval()
        unet = spatial_unet(folder, fine_attention=False)
        plain_attention(unet)
        unet.requires_grad_(False)
        if lora is None:
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(MODULES))
            self.unet = get_peft_model(unet, config)
        else:
            self.unet = PeftModel.from_pretrained(unet, lora, is_trainable=True)

    @torch.no_grad()
    def text(self, captions: Sequence[str]) -> torch.Tensor:
        """Text states [B, tokens, width] of captions, where the module is."""
        tokens = self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state

    def forward(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        text: torch.Tensor,
        poses: None = None,
        has_pose: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict v from latents [B, 8, 32, 32], times [B] and text states; there are no poses."""
        return self.unet(noisy, t, text).sample


def shares(passes: int) -> tuple[int, int]:
    """How many pictures of a step go through a chain, and how many are noised, for so many passes.

    Three passes in eight belong to chains.

    Raises:
        ValueError: too few passes for one of each.
    """
    chained = max(1, passes // 8)
    noised = passes - CHAIN_PASSES * chained
    if noised < 1:
        raise ValueError(f"batch must be at least {CHAIN_PASSES + 1} passes, got {passes}")
    return chained, noised


def chain_times(passes: int) -> tuple[int, ...]:
    """Draw so many falling times of a chain that begins at pure noise."""
    later = 1 + torch.randperm(998)[: passes - 1]
    return 999, *sorted(later.tolist(), reverse=True)


def portrait_weights(data: AvatarSet, index: np.ndarray) -> torch.Tensor:
    """Loss weights [B, 1, 32, 32] of mean 1: those of figures, and thrice where a thing is held.

    The held thing is what portraits are for, and a tenth of the picture: with the weights of
    figures alone colours, hats and patterns were right long before books and pistols had a shape.
    """
    elbow, wrist = data.keypoints[index][:, 3, :2], data.keypoints[index][:, 4, :2]
    middle = wrist + 0.5 * (wrist - elbow)
    cells = (np.mgrid[:GRID, :GRID][::-1].transpose(1, 2, 0) + 0.5) * SIZE / GRID
    away = np.linalg.norm(cells - middle[:, None, None], axis=-1)
    near = torch.from_numpy(away <= HELD_RADIUS).float()[:, None]
    weights = figure_weights(data, index) * (1 + 2 * near)
    return weights / weights.mean()


@torch.no_grad()
def sample(
    denoiser: TextDenoiser,
    captions: Sequence[str],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = 0,
) -> torch.Tensor:
    """Draw scaled latents [B, 8, 32, 32] by DDIM, all from noise of one generator."""
    noise = torch.randn(
        len(captions), LATENT_CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(seed)
    )
    text = denoiser.text([""] * len(captions) + list(captions))
    with autocast(text.device):
        noise = noise.to(text.device)
        return sampled(denoiser.unet, denoiser.scheduler, noise, text, steps, guidance)


def write_sheet(denoiser: TextDenoiser, vae: AutoencoderKL, data: AvatarSet, path: Path) -> None:
    """Write sixteen held-out portraits as rendered, and below as drawn from their captions."""
    captions = [data.meta[i]["caption"] for i in range(16)]
    drawn = decode(vae, sample(denoiser, captions))
    rows = [
        np.concatenate(list(pictures[first : first + 8]), 1)
        for first in (0, 8)
        for pictures in (data.images, drawn)
    ]
    sheet = cv2.resize(np.concatenate(rows), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), sheet[..., ::-1])


def train(args: argparse.Namespace, work: Path) -> None:
    """Train for ``args.max_minutes`` and export to ``assets/portraits``."""
    torch.manual_seed(args.seed)
    data = build_portraits(work / "data/portraits", args.frames)
    held_out = build_portraits(work / "data/portraits-heldout", 512, seed=HELD_OUT_SEED)
    folder = ASSETS / "avatar-sd"
    vae, _ = load_autoencoder(work, exported=True)
    latents = encode_set(vae, data)
    denoiser = TextDenoiser(folder, PORTRAITS if args.from_export else None)
    records = read_records(PORTRAITS) if args.from_export else []
    loop = TrainingLoop(
        denoiser, work / "portraits", args.max_minutes, args.learning_rate or 1e-3, args.resume,
        muon=args.muon,
    )  # fmt: skip
    rng = loop.generator(args.seed)
    chained, noised = shares(args.batch or 32)
    batch = chained + noised
    for step in loop:
        index = rng.integers(len(data), size=batch)
        x = torch.from_numpy(latents[index].astype(np.float32)) * vae.config.scaling_factor
        dropped = (rng.random(batch) < DROP) & (np.arange(batch) >= chained)
        text = denoiser.text(
            ["" if d else data.meta[i]["caption"] for i, d in zip(index, dropped, strict=True)]
        )
        noise, t = torch.randn_like(x), noisy_first(noised, loop.done)
        x, noise, t = (part.to(loop.device) for part in (x, noise, t))
        states = denoiser.scheduler.add_noise(x[chained:], noise[chained:], t)
        with loop.accelerator.autocast():
            steps = [
                *chain(denoiser, noise[:chained], text[:chained], None, chain_times(CHAIN_PASSES))
            ]
            predicted = denoiser(states, t, text[chained:])
        weight = portrait_weights(data, index).to(loop.device)
        last = (states, t, predicted)
        loop.backward(passes_loss(denoiser.scheduler, x, noise, weight, steps, last))
        if step % 20 == 0:
            print(
                f"step {step} {loop.seconds / 60:.1f} min loss {loop.recent_loss():.4f}", flush=True
            )
        if step and step % 200 == 0:
            with loop.averaged():
                write_sheet(denoiser, vae, held_out, loop.folder / f"sheet-{step}.png")
    with loop.averaged():
        write_sheet(denoiser, vae, held_out, loop.folder / "sheet.png")
        save_lora(denoiser.unet, PORTRAITS)
    records.append(training_record("portraits", args.seed, loop.step, loop.seconds))
    write_records(PORTRAITS, records)
