"""The benchmarks: runs of both sides on tiny models of the real classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from adapters.attacks.base import AttackConfig
from evaluation.bench import __main__ as command
from evaluation.bench import animation, attack, chat
from evaluation.judge import Judge
from evaluation.reader import Reader, ReaderNet
from evaluation.scenes import Scene
from pipelines.animation import AnimationEngine
from pipelines.pose import PoseClip
from pipelines.profiles import Profile
from pipelines.solver import solver_for
from tests.tiny import FRAMES, SIZE, tiny_avatar_sd, tiny_profile
from tests.tiny_llm import tiny_llm, tiny_lora


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
    base.scheduler = guarded.scheduler = solver_for(engine.pipe.scheduler, engine.spec, 3)
    *_, pair = engine.pair(pose, scene.caption, {animation.GUARD: 1.0}, 4,
                           guidance_scale=animation.STOCK_GUIDANCE, guidance_interval=(0, 1))
    for pipe, clip in ((base, pair.unguarded), (guarded, pair.guarded)):
        stock = animation.stock_clip(pipe, engine.spec, scene, 4, 3)
        assert np.abs(stock.astype(int) - clip).max() <= 1, "same noise, weights and guard"


def test_the_command_line_names_its_benchmarks() -> None:
    args = command.parser().parse_args(["animation", "--clips", "1"])
    assert args.benchmark == "animation" and args.clips == 1
    for name, steps in (("sft", 20), ("grpo", 15)):
        assert command.parser().parse_args([name]).steps == steps
    for wrong in (["animation", "--clips", "0"], ["chat", "--prompts", "0"],
                  ["sft", "--steps", "0"], ["nothing"], []):
        with pytest.raises(SystemExit):
            command.parser().parse_args(wrong)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def tiny_chat(
    judge: Judge, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Profile, dict]]:
    """A tiny chat model in float32, and two defences; the judge's encoder is the real one."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder))
        for module in ("pipelines.llm", "adapters.attacks.lockstep", "evaluation.bench.chat"):
            patch.setattr(f"{module}.compute_dtype", lambda: torch.float32)
        profile = tiny_llm(folder)
        loras = {arm: tiny_lora(folder / arm, seed) for seed, arm in enumerate(chat.ARMS, 1)}
        yield profile, loras


def test_stock_generate_says_what_the_stream_says(tiny_chat: tuple[Profile, dict]) -> None:
    profile, loras = tiny_chat
    found = chat.compare(profile, loras, ["Hello", "Tell me more"], 7)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["same_replies"] == 1.0, "same weights, same number of tokens"
    assert 4 <= found["tokens"] <= 2 * 2 * 7
    assert found["ours"] > 0 and found["stock"] > 0 and found["stock_fp32"] > 0
    assert found["dtype"] == "float32" and found["arms"] == list(chat.ARMS)


@pytest.mark.parametrize("name", ["sft", "grpo"])
def test_an_attack_is_timed_against_the_stock_trainer(
    tiny_chat: tuple[Profile, dict], judge: Judge, name: str
) -> None:
    profile, loras = tiny_chat
    config = AttackConfig(attack=name, steps=3, batch_size=2, rank=2, probe_every=3, rollouts=2,
                          max_new_tokens=4, learning_rate=1e-2)  # fmt: skip
    found = attack.compare(profile, config, loras, judge)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["steps"] == 3 and found["ours"] > 0 and found["stock"] > 0
    y = {"sft": "loss", "grpo": "reward"}[name]
    ours, stock = found[f"{y}_ours"], found[f"{y}_stock"]
    assert len(ours) == len(stock) == 3
    assert found[f"{y}_mean_difference"] <= found[f"{y}_largest_difference"]
    if name == "sft":
        # Same weights, data and order, also where the tiny model is trained in float32.
        assert ours == pytest.approx(stock, abs=2e-3) and len(set(ours)) == 3
        other = attack.compare(profile, replace(config, seed=1), loras, judge)
        assert other["loss_ours"] != pytest.approx(ours, abs=2e-3), "the order tells"
