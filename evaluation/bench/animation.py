"""A pair through the product's engine against the stock pipeline called twice, same weights.

The stock side is diffusers' `AnimateDiffControlNetPipeline` as it comes: float32, 25 steps,
guidance of 2.5 on every one, the folder's own scheduler, default attention. It is called once with
the base and once with the guard merged into the UNet, which spares it the cost of a LoRA. Both
sides get the same held-out clips, captions and initial noise, and each is warmed up by one step
that is not timed.

================================ ===================================================================
pair_seconds, stock_seconds      a pair of clips, mean, from pose and prompt to pictures
ratio                            stock_seconds / pair_seconds
psnr_to_many_steps_db            unguarded clips against the engine's own of 50 steps
pck_pair, pck_stock              PCK@0.1 of the unguarded clips, read by `evaluation.reader`
peak_rss_gb                      most memory this process had held when the pairs were done, before
                                 the stock pipelines were loaded; the reader is part of it
clips, steps, stock_steps,       what was run
guidance_scale, stock_guidance,
guidance_interval, redraw,
threads
================================ ===================================================================
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AnimateDiffControlNetPipeline,
    ControlNetModel,
    MotionAdapter,
    UNet2DConditionModel,
)
from peft import PeftModel
from PIL import Image

from evaluation.avatar_sd import CLIP_SEED, N_CLIPS, QUICK
from evaluation.frames import Frames
from evaluation.psnr import mean_psnr
from evaluation.reader import Reader, pck
from evaluation.scenes import Scene, scenes
from pipelines.animation import AnimationEngine, PairResult
from pipelines.memory import keep_freed_memory
from pipelines.noise import mixed_noise
from pipelines.paths import ASSETS, REPO
from pipelines.pose_drawing import draw_clip
from pipelines.profiles import AnimationSpec, get_profile
from worlds.data import build

STOCK_STEPS = 25
STOCK_GUIDANCE = 2.5
MANY_STEPS = 50
GUARD = "poseguard"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--clips", type=int, default=2, choices=range(1, N_CLIPS + 1),
                        metavar="K", help="held-out clips to run (default: 2)")
    parser.add_argument("--data", type=Path, default=REPO / "checkpoints" / "data",
                        help="folder of the rendered sets; they are rendered there if missing")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the embedded profile.

    Raises:
        MissingWeights: the model, the guard or the reader is not there.
    """
    keep_freed_memory()  # as the app does; the stock side gains by it as well
    reader = Reader.load()
    count = max(args.clips, N_CLIPS // QUICK)  # the set that the quick evaluation renders
    clips = build(args.data / "clips-test", count, clips=True, seed=CLIP_SEED)
    engine = AnimationEngine(get_profile("embedded"))
    engine.add_guard(GUARD, ASSETS / "adapters" / GUARD)
    asked = list(scenes(clips, args.clips, engine.spec.size, engine.spec.frames))
    return compare(engine, reader, asked, ASSETS / "adapters" / GUARD)


def compare(
    engine: AnimationEngine,
    reader: Reader,
    asked: Sequence[Scene],
    guard: Path,
    stock_steps: int = STOCK_STEPS,
    many_steps: int = MANY_STEPS,
) -> dict[str, Any]:
    """Run scenes through both sides; scene ``i`` starts from seed ``i``.

    Args:
        engine: has the guard ``poseguard``.
        reader: finds the joints.
        asked: at least one scene.
        guard: the same guard's folder.
        stock_steps: of the stock pipeline.
        many_steps: of the engine's own reference.

    Returns:
        The figures named at the top of this module.
    """
    spec = engine.spec
    guards = {GUARD: 1.0}
    _pair(engine, asked[0], 0, guards, steps=1)
    results, seconds = [], []
    for seed, scene in enumerate(asked):
        begun = time.perf_counter()
        results.append(_pair(engine, scene, seed, guards))
        seconds.append(time.perf_counter() - begun)
        print(f"pair {seed + 1} of {len(asked)}: {seconds[-1]:.1f} s", flush=True)
    peak = _peak_rss_gb()
    unguarded = [result.unguarded for result in results]
    many = [_pair(engine, scene, seed, {}, steps=many_steps).unguarded
            for seed, scene in enumerate(asked)]
    to_many_steps = mean_psnr(np.concatenate(unguarded), np.concatenate(many))

    pipes = [stock_pipeline(spec), stock_pipeline(spec, guard)]
    for pipe in pipes:
        stock_clip(pipe, spec, asked[0], 0, 1)
    stock, stock_seconds = [], []
    for seed, scene in enumerate(asked):
        begun = time.perf_counter()
        made = [stock_clip(pipe, spec, scene, seed, stock_steps) for pipe in pipes]
        stock_seconds.append(time.perf_counter() - begun)
        stock.append(made[0])
        print(f"stock pair {seed + 1} of {len(asked)}: {stock_seconds[-1]:.1f} s", flush=True)
    settings = results[0].settings
    return {
        "pair_seconds": round(float(np.mean(seconds)), 2),
        "stock_seconds": round(float(np.mean(stock_seconds)), 2),
        "ratio": round(float(np.sum(stock_seconds) / np.sum(seconds)), 2),
        "psnr_to_many_steps_db": round(to_many_steps, 2),
        "pck_pair": _pck(reader, asked, unguarded),
        "pck_stock": _pck(reader, asked, stock),
        "peak_rss_gb": round(peak, 2),
        "clips": len(asked),
        "steps": settings["steps"],
        "stock_steps": stock_steps,
        "guidance_scale": settings["guidance_scale"],
        "stock_guidance": STOCK_GUIDANCE,
        "guidance_interval": settings["guidance_interval"],
        "redraw": settings["redraw"],
        "threads": torch.get_num_threads(),
    }


def stock_pipeline(spec: AnimationSpec, guard: Path | None = None) -> AnimateDiffControlNetPipeline:
    """Load diffusers' pipeline in float32, with a guard merged into its UNet if one is given."""
    unet = UNet2DConditionModel.from_pretrained(spec.base, subfolder="unet")
    if guard is not None:
        unet = PeftModel.from_pretrained(unet, guard).merge_and_unload()
    pipe = AnimateDiffControlNetPipeline.from_pretrained(
        spec.base,
        unet=unet,
        controlnet=ControlNetModel.from_pretrained(spec.controlnet),
        motion_adapter=MotionAdapter.from_pretrained(spec.motion_adapter),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock_clip(
    pipe: AnimateDiffControlNetPipeline, spec: AnimationSpec, scene: Scene, seed: int, steps: int
) -> Frames:
    """Make one clip, RGB uint8 [F, S, S, 3], from the noise that the engine draws for the seed."""
    side = spec.size // pipe.vae_scale_factor
    shape = (1, pipe.unet.config.in_channels, spec.frames, side, side)
    frames = pipe(
        scene.caption,
        negative_prompt=spec.hint,
        num_frames=spec.frames,
        height=spec.size,
        width=spec.size,
        num_inference_steps=steps,
        guidance_scale=STOCK_GUIDANCE,
        latents=mixed_noise(shape, spec.noise_share, torch.Generator().manual_seed(seed)),
        conditioning_frames=[Image.fromarray(frame) for frame in draw_clip(scene.pose, spec.size)],
        output_type="np",
    ).frames[0]
    return (frames * 255).round().astype(np.uint8)


def _pair(
    engine: AnimationEngine, scene: Scene, seed: int, guards: dict[str, float],
    steps: int | None = None,
) -> PairResult:
    *_, result = engine.pair(scene.pose, scene.caption, guards, seed, steps=steps)
    return result


def _pck(reader: Reader, asked: Sequence[Scene], clips: Sequence[Frames]) -> float | None:
    """PCK of clips of the scenes; None where no torso is asked for."""
    found = pck(
        np.concatenate([scene.pose.keypoints for scene in asked]),
        np.concatenate([scene.judged for scene in asked]),
        reader.read(np.concatenate(clips)).keypoints,
    )
    return round(found, 4) if np.isfinite(found) else None


def _peak_rss_gb() -> float:
    """Most memory this process has held so far, in GB; macOS counts in bytes, Linux in KiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
