"""A tiny animation model and its guard, for all tests of clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from pipelines.animation import AnimationEngine
from tests.tiny import tiny_avatar_sd, tiny_profile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny animation model with random weights."""
    return tiny_avatar_sd(tmp_path_factory.mktemp("weights") / "avatar-sd")


@pytest.fixture(scope="module")
def guard(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LoRA made on the spatial UNet, as a guard's trainer makes it."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["to_q", "to_k", "to_v", "to_out.0", "conv1"],
        init_lora_weights=False,
    )
    target = tmp_path_factory.mktemp("guard")
    get_peft_model(unet, config).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def engine(folder: Path, guard: Path) -> AnimationEngine:
    """That model's engine, the guard loaded as "kneeling"."""
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    return engine
