"""Avatar-SD's autoencoder: 256 px to 8 × 32 × 32 latents, trained on crops around the figure.

Loss on a crop: w · (|x−y| + 2 (x−y)²) + ½ |∇x−∇y| + 1e-6 · KL, where the weight w is 4 on the
figure and 1 elsewhere: the figure is a tenth of the picture and all that the eye looks at.

Two things make the latents easy to denoise, at a small price in decibels. The decoder sees them
with noise of up to a fifth of their spread, for a denoiser never hits them exactly. And latents at
half the size must decode to the picture at half the size (scale equivariance: Kouzelis et al. 2025,
EQ-VAE, arXiv 2502.09509; Skorokhodov et al. 2025, arXiv 2502.14831): without that, where an edge
lies within a cell was coded in a way that only this decoder could read (21.7 dB at half size).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from evaluation.psnr import mean_psnr
from pipelines.device import autocast, device
from pipelines.paths import ASSETS
from worlds.data import HELD_OUT_SEED, AvatarSet, build
from worlds.export import (
    MAX_SHARD_SIZE,
    forget_origin,
    read_records,
    training_record,
    write_records,
)
from worlds.loop import TrainingLoop

CROP = 128
FIGURE_WEIGHT = 4.0
LATENT_NOISE = 0.2
HALF_SIZE_WEIGHT = 0.5
CHANNELS = (16, 32, 64, 128)
LATENT_CHANNELS = 8


def new_autoencoder(
    channels: tuple[int, ...] = CHANNELS, latent_channels: int = LATENT_CHANNELS, groups: int = 8
) -> AutoencoderKL:
    """Build an untrained autoencoder of 2^(len(channels) - 1) times reduction.

    Widths by measurement (2 cores, bf16, crops of 128² a second): 16 channels at full size take 23,
    32 take 12. Channels-last costs a third of it here, since the backward of GroupNorm is slow in
    that layout. A 16 times reduction to 16 channels learnt slower: loss 0.97 after 4,000 crops,
    where this one stood at 0.60 after 5,000.
    """
    return AutoencoderKL(
        latent_channels=latent_channels,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        norm_num_groups=groups,
        sample_size=256,
        mid_block_add_attention=False,
    )


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in -1..1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_images(pixels: torch.Tensor) -> np.ndarray:
    """Float [B, 3, H, W] in -1..1 to uint8 [B, H, W, 3]."""
    pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def random_crops(
    data: AvatarSet, count: int, rng: np.random.Generator, size: int = CROP
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw crops, three in four of them centred on the figure.

    Returns:
        Pixels [count, 3, size, size] in -1..1 and weights [count, 1, size, size].
    """
    crops, weights = [], []
    for i in rng.integers(len(data), size=count):
        image, mask = data.images[i], data.mask(i)
        top = int(rng.integers(image.shape[0] - size + 1))
        left = int(rng.integers(image.shape[1] - size + 1))
        rows, cols = np.nonzero(mask)
        if len(rows) and rng.random() < 0.75:
            k = rng.integers(len(rows))
            top = int(np.clip(rows[k] - size // 2, 0, image.shape[0] - size))
            left = int(np.clip(cols[k] - size // 2, 0, image.shape[1] - size))
        window = np.s_[top : top + size, left : left + size]
        crop, weight = image[window], 1 + (FIGURE_WEIGHT - 1) * mask[window].astype(np.float32)
        if rng.random() < 0.5:
            crop, weight = crop[:, ::-1], weight[:, ::-1]
        crops.append(crop)
        weights.append(weight)
    pixels = to_tensor(np.stack(crops))
    return pixels, torch.from_numpy(np.stack(weights))[:, None]


def reconstruction_loss(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted L1 + 2 L2 + half the L1 of the picture gradients."""
    error = y - x
    loss = (weight * (error.abs() + 2 * error.square())).mean()
    dx, dy = error.diff(dim=3).abs(), error.diff(dim=2).abs()
    return loss + 0.5 * ((weight[..., 1:] * dx).mean() + (weight[..., 1:, :] * dy).mean())


def noised(latents: torch.Tensor, amount: float = LATENT_NOISE) -> torch.Tensor:
    """Latents [B, C, H, W] with noise, of a strength drawn from 0 to ``amount`` for each of B.

    The strength counts in standard deviations of the channel, so that larger latents do not help.
    """
    spread = latents.detach().std((0, 2, 3), keepdim=True)
    strength = amount * torch.rand(len(latents), 1, 1, 1).to(latents.device)
    return latents + strength * spread * torch.randn_like(latents)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: np.ndarray, batch: int = 8) -> np.ndarray:
    """Encode (mode) and decode pictures, uint8 [N, 256, 256, 3] in and out."""
    out = []
    for i in range(0, len(images), batch):
        x = to_tensor(images[i : i + batch]).to(vae.device)
        with autocast(vae.device):
            out.append(to_images(vae.decode(vae.encode(x).latent_dist.mode()).sample))
    return np.concatenate(out)


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, images: np.ndarray) -> float:
    """Standard deviation of the latents of some pictures, uint8 [N, 256, 256, 3]."""
    with autocast(vae.device):
        return float(vae.encode(to_tensor(images).to(vae.device)).latent_dist.mode().float().std())


def load_autoencoder(work: Path, *, exported: bool) -> tuple[AutoencoderKL, list[dict[str, Any]]]:
    """Load an autoencoder that was trained before.

    Args:
        work: Where trainings keep theirs.
        exported: Take the one in ``assets/avatar-sd``, which the denoiser there goes with; else the
            one trained last in ``work``, and the exported one only where there is none.

    Returns:
        The autoencoder on `pipelines.device.device`, and the records of the runs that made it.

    Raises:
        FileNotFoundError: there is none.
    """
    trained = [work / stage / "model" for stage in ("vae", "decoder")]
    trained = [folder for folder in trained if (folder / "config.json").exists()]
    if trained and not exported:
        folder = max(trained, key=lambda folder: (folder / "config.json").stat().st_mtime_ns)
        return AutoencoderKL.from_pretrained(folder).to(device()), read_records(folder)
    folder = ASSETS / "avatar-sd"
    if (folder / "vae/config.json").exists():
        records = [r for r in read_records(folder) if r["stage"] == "vae"]
        return AutoencoderKL.from_pretrained(folder / "vae").to(device()), records
    places = "assets/avatar-sd" if exported else f"{work} or assets/avatar-sd"
    raise FileNotFoundError(f"no autoencoder in {places}: run `python -m worlds.train vae` first")


def same_latents(one: AutoencoderKL, other: AutoencoderKL) -> bool:
    """Whether two autoencoders encode alike, but for the float16 that exports are kept in."""

    def weights(vae: AutoencoderKL) -> list[torch.Tensor]:
        return [p.detach().half().cpu() for part in (vae.encoder, vae.quant_conv)
                for p in part.parameters()]  # fmt: skip

    mine, others = weights(one), weights(other)
    return len(mine) == len(others) and all(map(torch.equal, mine, others))


def train(args: argparse.Namespace, work: Path) -> None:
    """Train for ``args.max_minutes``; ``args.decoder_only`` keeps the latents as they are.

    The result stays in ``work``, where ``frames`` takes it from. A decoder alone is exported, too,
    where the denoiser in ``assets/avatar-sd`` draws the latents that it reads.
    """
    torch.manual_seed(args.seed)
    data = build(work / "data/frames", args.frames)
    held_out = build(work / "data/frames-heldout", 600, seed=HELD_OUT_SEED)
    vae, records = new_autoencoder(), []
    if args.decoder_only or args.from_export:
        vae, records = load_autoencoder(work, exported=args.from_export)
    if args.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    loop = TrainingLoop(
        vae,
        work / ("decoder" if args.decoder_only else "vae"),
        args.max_minutes,
        args.learning_rate or 1e-3,
        args.resume,
        muon=args.muon,
    )
    rng = loop.generator(args.seed)
    for step in loop:
        x, weight = (part.to(loop.device) for part in random_crops(data, args.batch or 8, rng))
        with loop.accelerator.autocast():
            if args.decoder_only:
                with torch.no_grad():
                    posterior = vae.encode(x).latent_dist
            else:
                posterior = vae.encode(x).latent_dist
            latents = noised(posterior.mode())
            y = vae.decode(latents).sample
            y_half = vae.decode(F.avg_pool2d(latents, 2)).sample
        loss = reconstruction_loss(x, y.float(), weight)
        loss = loss + HALF_SIZE_WEIGHT * reconstruction_loss(
            F.avg_pool2d(x, 2), y_half.float(), F.avg_pool2d(weight, 2)
        )
        loop.backward(loss + 1e-6 * posterior.kl().mean() / x[0].numel())
        if step % 500 == 0:
            with loop.averaged():
                shown = reconstruct(vae, held_out.images[:32])
            score = mean_psnr(held_out.images[:32], shown)
            print(
                f"step {step} {loop.seconds / 60:.1f} min loss {loop.recent_loss():.4f} "
                f"held-out {score:.2f} dB",
                flush=True,
            )
            sheet = np.concatenate(
                [np.concatenate(held_out.images[:6], 1), np.concatenate(shown[:6], 1)]
            )
            cv2.imwrite(str(loop.folder / "sheet.png"), sheet[..., ::-1])
    with loop.averaged():
        if not args.decoder_only:
            vae.register_to_config(scaling_factor=1 / latent_scale(vae, data.images[:64]))
        vae.save_pretrained(loop.folder / "model")
    records.append(training_record("vae", args.seed, loop.step, loop.seconds))
    write_records(loop.folder / "model", records)
    export = ASSETS / "avatar-sd"
    if args.decoder_only and (export / "vae/config.json").exists():
        if not same_latents(vae, AutoencoderKL.from_pretrained(export / "vae")):
            print(f"not exported: {export} draws other latents; go on with frames", flush=True)
            return
        AutoencoderKL.from_pretrained(loop.folder / "model").half().save_pretrained(
            export / "vae", max_shard_size=MAX_SHARD_SIZE
        )
        forget_origin(export / "vae/config.json")
        later = [r for r in read_records(export) if r["stage"] != "vae"]
        write_records(export, records + later)
