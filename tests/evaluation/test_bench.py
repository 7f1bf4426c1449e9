"""The benchmark: a run of both sides on a tiny model of the real classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from evaluation.avatar_sd import Scene
from evaluation.bench import __main__ as command
from evaluation.bench import animation
from evaluation.reader import Reader, ReaderNet
from pipelines.animation import AnimationEngine
from pipelines.pose import PoseClip
from tests.tiny import FRAMES, SIZE, tiny_avatar_sd, tiny_profile


def test_both_sides_run_and_are_compared(tmp_path: Path) -> None:
    folder = tiny_avatar_sd(tmp_path / "avatar-sd")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    config = LoraConfig(r=2, target_modules=["to_q", "conv1"], init_lora_weights=False)
    get_peft_model(unet, config).save_pretrained(tmp_path / "guard")
    profile = tiny_profile(folder, noise_share=0.5)
    engine = AnimationEngine(profile, torch.float32)
    engine.add_guard(animation.GUARD, tmp_path / "guard")
    points = np.random.default_rng(0).uniform(4, SIZE - 4, (FRAMES, 18, 2))
    pose = PoseClip(points, np.ones((FRAMES, 18)), None, SIZE, SIZE)
    scene = Scene(pose, pose.seen, "red shirt", {})
    torch.manual_seed(0)
    reader = Reader(ReaderNet((4, 4, 8, 8), fused=4))

    steps = profile.animation.steps
    found = animation.compare(engine, reader, [scene], tmp_path / "guard", 2, steps)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    # The seconds are rounded to hundredths, which tells with clips as small as these.
    pair_seconds, stock_seconds = found["pair_seconds"], found["stock_seconds"]
    assert found["ratio"] >= (stock_seconds - 0.006) / (pair_seconds + 0.006) - 0.006
    assert found["ratio"] <= (stock_seconds + 0.006) / max(pair_seconds - 0.006, 1e-6) + 0.006
    assert found["psnr_to_many_steps_db"] == 100, "its own steps are the many steps here"
    assert 0 <= found["pck_pair"] <= 1 and 0 <= found["pck_stock"] <= 1
    assert 0.1 < found["peak_rss_gb"] < 20

    base, guarded = (animation.stock_pipeline(engine.spec, g) for g in (None, tmp_path / "guard"))
    base.scheduler = guarded.scheduler = engine._solver_for(3)
    *_, pair = engine.pair(pose, scene.caption, {animation.GUARD: 1.0}, 4)
    for pipe, clip in ((base, pair.unguarded), (guarded, pair.guarded)):
        stock = animation.stock_clip(pipe, engine.spec, scene, 4, 3)
        assert np.abs(stock.astype(int) - clip).max() <= 1, "same noise, weights and guard"


def test_the_command_line_names_its_benchmarks() -> None:
    args = command.parser().parse_args(["animation", "--clips", "1"])
    assert args.benchmark == "animation" and args.clips == 1
    for wrong in (["animation", "--clips", "0"], ["nothing"], []):
        with pytest.raises(SystemExit):
            command.parser().parse_args(wrong)
