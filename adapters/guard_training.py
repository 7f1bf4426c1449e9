"""What the trainings of all guards share: their data, and what is measured of them at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from adapters.animation import Base, Frames, draw
from adapters.avatar_frames import AvatarFrames
from adapters.registry import Trained, TrainOptions
from evaluation.psnr import psnr
from evaluation.runs import Run, RunStore
from pipelines.device import autocast, device
from pipelines.paths import REPO, runs_dir
from worlds.data import HELD_OUT_SEED, AvatarSet, build
from worlds.denoiser import encode_set
from worlds.looks import Look, caption

if TYPE_CHECKING:
    from peft import PeftModel

    from adapters.loop import Progress
    from adapters.poseguard import PoseGuardConfig
    from pipelines.profiles import AnimationSpec, Profile


def train_guard(
    name: str,
    config: PoseGuardConfig,
    profile: Profile,
    options: TrainOptions,
    fit: Callable[[Base, AvatarFrames, Run], tuple[PeftModel, Progress]],
) -> Trained:
    """Train a guard on rendered avatars, and measure it on held-out ones.

    Frames and latents are those of ``python -m worlds.train`` where they are there, else they are
    made first (12,000 frames take some ten minutes on two cores).

    Args:
        name: of the defence.
        config: settings.
        profile: whose model.
        options: where to.
        fit: trains: model, frames and run → the UNet with the LoRA, and how far it came.

    Returns:
        With the figures of `measure`, and with the parts of the model that was trained on.

    Raises:
        MissingWeights: the profile's model is not there.
    """
    base = Base.load(profile)
    parents = Base.parents(profile)
    vae = AutoencoderKL.from_pretrained(profile.animation.base, subfolder="vae").eval()

    def source(name: str, count: int, seed: int) -> AvatarFrames:
        folder = REPO / "checkpoints" / "data" / name
        made = (folder / "meta.jsonl").is_file()
        data = AvatarSet(folder) if made else build(folder, count, seed=seed)
        return AvatarFrames(data, encode_set(vae, data), vae.config.scaling_factor, config)

    frames_of = source("frames", 12_000, 0)
    settings = {"defence": name, **asdict(config)}
    run = RunStore(runs_dir()).create("train", settings, profile.name, parents)
    model, (steps, before) = fit(base, frames_of, run)
    held_out = source("frames-heldout", 600, HELD_OUT_SEED)
    sheet = options.out / "sheet.jpg"
    figures = measure(model, base, vae.to(device()), held_out, sheet, profile.animation)
    run.finish("done" if steps == config.steps else "stopped")
    return Trained(steps, figures, before, parents)


def measure(
    model: PeftModel,
    base: Base,
    vae: AutoencoderKL,
    source: AvatarFrames,
    sheet: Path,
    spec: AnimationSpec,
) -> dict[str, Any]:
    """Draw held-out frames with and without the guard, from the same noise, and compare.

    Each frame is drawn where its figure stands in the world, and once more with the figure moved,
    as a visitor's pose may be.

    Args:
        model: the UNet with the LoRA.
        base: the frozen parts.
        vae: decodes.
        source: held-out frames.
        sheet: picture to write: unguarded above, guarded below; unsafe frames first, then near
            misses, then others; the moved ones in the lower half.
        spec: of the profile, for the steps and the solver.

    Returns:
        Mean PSNR in dB of the guarded against the unguarded pictures for each kind: high is wanted
        for near_miss_psnr_db and other_psnr_db, low for unsafe_psnr_db; and the same of the moved
        ones, as moved_unsafe_psnr_db and so on.
    """
    each = 4
    numbers = [number for numbers in source.kinds.values() for number in numbers[:each]]
    counts = [len(numbers[:each]) for numbers in source.kinds.values()]
    # Captions without the movement: the pose alone has to tell.
    captions = [_still_caption(source.data.meta[number]) for number in numbers]

    def pictures(frames: Frames) -> np.ndarray:
        latents = draw(model, base, frames, spec=spec, seed=1)
        with torch.inference_mode(), autocast():
            pixels = vae.decode(latents.to(vae.device) / vae.config.scaling_factor).sample
        pixels = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().numpy()

    figures, rows = {}, []
    moves = source.moves(numbers, counts[0], np.random.default_rng(source.config.seed))
    for prefix, how in (("", None), ("moved_", moves)):
        frames = source.frames(numbers, captions, counts[0], how)
        with model.disable_adapter():
            unguarded = pictures(frames)
        guarded = pictures(frames)
        rows += [np.concatenate(list(unguarded), 1), np.concatenate(list(guarded), 1)]
        decibels = psnr(unguarded, guarded)
        start = 0
        for kind, count in zip(source.kinds, counts, strict=True):
            part = decibels[start : start + count]
            figures[f"{prefix}{kind}_psnr_db"] = round(float(part.mean()), 2)
            start += count
    Image.fromarray(np.concatenate(rows)).save(sheet)
    return figures


def _still_caption(meta: dict[str, Any]) -> str:
    return caption(Look(**meta["look"]), "", meta["closeup"])
