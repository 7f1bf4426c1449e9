"""Avatar-SD's motion adapter: temporal attention between the frozen spatial layers (AnimateDiff).

Source: Guo et al. 2023, AnimateDiff (arXiv 2307.04725), section 4.2: only the motion modules are
trained, on clips, with the image objective; their output projections start at zero, so that the
first step leaves the frame model as it is. As the frame model, most passes start from states that
the model's own sampling reaches.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
)
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.device import autocast, device, plain_attention
from pipelines.noise import mixed_noise
from pipelines.paths import ASSETS
from pipelines.profiles import get_profile
from worlds.autoencoder import LATENT_CHANNELS, load_autoencoder
from worlds.data import FRAMES, HELD_OUT_SEED, AvatarSet, build
from worlds.denoiser import (
    DROP,
    GRID,
    chain,
    chain_times,
    decode,
    encode_poses,
    encode_set,
    figure_weights,
    freeze_coarse,
    passes_loss,
    pose_pixels,
    poses_embedded,
    split,
)
from worlds.export import read_records, save_avatar_sd, training_record, write_records
from worlds.loop import TrainingLoop

CLIP_SEED = 500_009
NOISE_SHARE = get_profile("embedded").animation.noise_share


def new_motion_adapter(unet: UNet2DConditionModel, frames: int = FRAMES) -> MotionAdapter:
    """Build motion modules that fit a UNet, their output projections at zero."""
    adapter = MotionAdapter(
        block_out_channels=tuple(unet.config.block_out_channels),
        motion_layers_per_block=unet.config.layers_per_block,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=unet.config.norm_num_groups,
        motion_max_seq_length=2 * frames,
    )
    for name, module in adapter.named_modules():
        if name.endswith("proj_out") and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return adapter


class ClipDenoiser(nn.Module):
    """The exported frame model with motion modules; only those are trainable.

    Attributes:
        unet: UNetMotionModel; its motion modules have requires_grad.
    """

    def __init__(self, folder: Path, adapter: MotionAdapter | None = None) -> None:
        super().__init__()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
        self.controlnet = ControlNetModel.from_pretrained(folder / "controlnet")
        self.spatial = UNet2DConditionModel.from_pretrained(folder / "unet")
        self.unet = UNetMotionModel.from_unet2d(
            self.spatial, adapter or new_motion_adapter(self.spatial)
        )
        plain_attention(self.unet, self.controlnet)
        self.requires_grad_(False)
        for name, parameter in self.unet.named_parameters():
            parameter.requires_grad_("motion_modules" in name)

    @torch.no_grad()
    def text(self, captions: list[str]) -> torch.Tensor:
        """Encode prompts, [B, tokens, width], where the module is."""
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state

    def forward(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        text: torch.Tensor,
        pictures: torch.Tensor,
        has_pose: torch.Tensor,
    ) -> torch.Tensor:
        """Predict v for clips ``noisy`` [B, 8, F, 32, 32] at times ``t`` [B]."""
        clips, _, frames = noisy.shape[:3]
        flat = noisy.transpose(1, 2).flatten(0, 1)
        times, words = t.repeat_interleave(frames), text.repeat_interleave(frames, 0)
        with torch.no_grad():
            down, mid = self.controlnet(flat, times, words, pictures, return_dict=False)
        gate = has_pose.repeat_interleave(frames).view(-1, 1, 1, 1)
        return self.unet(
            noisy,
            t,
            words,
            down_block_additional_residuals=[d * gate for d in down],
            mid_block_additional_residual=mid * gate,
        ).sample


@torch.no_grad()
def sample_clips(
    model: ClipDenoiser,
    captions: list[str],
    poses: np.ndarray,
    *,
    steps: int = 16,
    guidance: float = 2.5,
    seed: int = 0,
) -> torch.Tensor:
    """Draw scaled latents [B * F, 8, 32, 32] of clips by DDIM."""
    count, where = len(captions), model.unet.device
    model.scheduler.set_timesteps(steps)
    shape = (count, LATENT_CHANNELS, FRAMES, GRID, GRID)
    x = mixed_noise(shape, NOISE_SHARE, torch.Generator().manual_seed(seed)).to(where)
    text = model.text([""] * count + captions)
    pictures = pose_pixels(np.concatenate([poses, poses])).to(where)
    on = torch.ones(2 * count, device=where)
    for t in model.scheduler.timesteps:
        moments = t.to(where).expand(2 * count)
        with autocast(where):
            v = model(torch.cat([x, x]), moments, text, pictures, on).float()
        v = v[:count] + guidance * (v[count:] - v[:count])
        x = model.scheduler.step(v, t, x).prev_sample
    return x.transpose(1, 2).flatten(0, 1)


def _sheet(model: ClipDenoiser, vae: AutoencoderKL, data: AvatarSet, path: Path) -> None:
    clips = [list(c) for c in data.clips()][:2]
    captions = [data.meta[c[0]]["caption"] for c in clips]
    poses = np.stack([data.condition(i) for c in clips for i in c])
    pictures = decode(vae, sample_clips(model, captions, poses))
    rows = []
    for k, clip in enumerate(clips):
        rows.append(np.concatenate([data.images[i] for i in clip[::2]], 1))
        rows.append(np.concatenate(list(pictures[k * FRAMES : (k + 1) * FRAMES : 2]), 1))
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


def train(args: argparse.Namespace, work: Path) -> None:
    """Train for ``args.max_minutes`` and add the motion adapter to ``assets/avatar-sd``.

    ``args.freeze_coarse`` leaves the motion modules of that many of the coarsest levels.
    """
    torch.manual_seed(args.seed)
    data = build(work / "data/clips", args.clips, clips=True, seed=CLIP_SEED)
    held_out = build(work / "data/clips-heldout", 32, clips=True, seed=HELD_OUT_SEED + CLIP_SEED)
    folder = ASSETS / "avatar-sd"
    vae, _ = load_autoencoder(work, exported=True)  # as the frame model it goes with
    latents = encode_set(vae, data)
    model = ClipDenoiser(
        folder,
        MotionAdapter.from_pretrained(folder / "motion_adapter") if args.from_export else None,
    )
    freeze_coarse(model.unet, args.freeze_coarse)
    embedded = encode_poses(model.controlnet.to(device()), data)
    loop = TrainingLoop(
        model,
        work / "motion",
        args.max_minutes,
        args.learning_rate or 5e-4,
        args.resume,
        muon=args.muon,
    )
    rng = loop.generator(args.seed, 2)
    clips, (chained, noised) = list(data.clips()), split(args.batch or 4)
    batch = chained + noised
    for step in loop:
        chosen = [clips[i] for i in rng.integers(len(clips), size=batch)]
        index = np.concatenate([np.array(c) for c in chosen])
        x = torch.from_numpy(latents[index].astype(np.float32)) * vae.config.scaling_factor
        x = x.unflatten(0, (batch, FRAMES)).transpose(1, 2)
        dropped = (rng.random((2, batch)) < DROP) & (np.arange(batch) >= chained)
        captions = [
            "" if d else data.meta[c[0]]["caption"] for c, d in zip(chosen, dropped[0], strict=True)
        ]
        has_pose = torch.from_numpy(~dropped[1]).float()[chained:].to(loop.device)
        noise, t = mixed_noise(tuple(x.shape), NOISE_SHARE), torch.randint(1000, (noised,))
        x, noise, t = (part.to(loop.device) for part in (x, noise, t))
        states = model.scheduler.add_noise(x[chained:], noise[chained:], t)
        poses = torch.from_numpy(embedded[index].astype(np.float32)).to(loop.device)
        text = model.text(captions)
        first = chained * FRAMES
        with poses_embedded(model.controlnet), loop.accelerator.autocast():
            steps = [
                *chain(model, noise[:chained], text[:chained], poses[:first], chain_times())
            ]
            predicted = model(states, t, text[chained:], poses[first:], has_pose)
        weight = figure_weights(data, index).unflatten(0, (batch, FRAMES)).transpose(1, 2)
        weight, last = weight.to(loop.device), (states, t, predicted)
        loop.backward(passes_loss(model.scheduler, x, noise, weight, steps, last))
        if step % 10 == 0:
            print(
                f"step {step} {loop.seconds / 60:.1f} min loss {loop.recent_loss():.4f}", flush=True
            )
        if step and step % 100 == 0:
            with loop.averaged():
                _sheet(model, vae, held_out, loop.folder / f"sheet-{step}.png")
    with loop.averaged():
        adapter = MotionAdapter.from_config(new_motion_adapter(model.spatial).config)
        weights = {k: v for k, v in model.unet.state_dict().items() if "motion_modules" in k}
        adapter.load_state_dict(weights)
        save_avatar_sd(
            folder,
            vae,
            model.text_encoder,
            model.tokenizer,
            model.spatial,
            model.scheduler,
            model.controlnet,
            adapter,
        )
    former = [r for r in read_records(folder) if args.from_export or r["stage"] != "motion"]
    record = training_record("motion", args.seed, loop.step, loop.seconds)
    write_records(folder, [*former, record])
