"""What is measured of a guard once it is trained, and what its record says of its origin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from diffusers import AutoencoderKL
from peft import PeftModel

from adapters import train as command
from adapters.animation import Base
from adapters.avatar_frames import AvatarFrames
from adapters.guard_training import measure
from adapters.poseguard import PoseGuardConfig
from evaluation.psnr import EXACT_DB
from evaluation.runs import weights_hash
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.ui.conftest import tiny_guard


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar_sd(tmp_path_factory.mktemp("weights") / "avatar-sd")


def test_measure_compares_from_the_same_noise(folder, avatars, tmp_path):
    base, spec = Base.load(tiny_profile(folder)), tiny_profile(folder).animation
    tiny_guard(folder, tmp_path / "guard")
    model = PeftModel.from_pretrained(base.unet, tmp_path / "guard")
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    latents = np.zeros((6, 16, 16, 16), np.float16)
    source = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())
    figures = measure(model, base, vae, source, tmp_path / "sheet.jpg", spec)
    kinds = ("unsafe_psnr_db", "near_miss_psnr_db", "other_psnr_db")
    assert set(figures) == {*kinds, *(f"moved_{kind}" for kind in kinds)}
    assert (tmp_path / "sheet.jpg").stat().st_size > 0
    assert all(0 < value < EXACT_DB for value in figures.values())
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.zero_()
    figures = measure(model, base, vae, source, tmp_path / "sheet.jpg", spec)
    assert set(figures.values()) == {EXACT_DB}, "a guard that does nothing changes nothing"


def test_the_command_records_which_model_the_guard_was_trained_on(
    folder, avatars, tmp_path, monkeypatch
):
    data = tmp_path / "checkpoints" / "data"
    data.mkdir(parents=True)
    for name in ("frames", "frames-heldout"):
        (data / name).symlink_to(avatars.folder)
    monkeypatch.setattr("adapters.guard_training.REPO", tmp_path)
    monkeypatch.setattr("worlds.denoiser.GRID", 16)  # of the tiny autoencoder
    monkeypatch.setattr("adapters.train.get_profile", lambda name: tiny_profile(folder))
    for module in ("train", "guard_training"):
        monkeypatch.setattr(f"adapters.{module}.runs_dir", lambda: tmp_path / "runs")
    command.main(f"poseguard --steps 1 --batch-size 4 --out {tmp_path / 'out'}".split())
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["starts_from"] == {"unet": weights_hash(folder / "unet")}
    assert record["figures"]["steps_done"] == 1 and "starts_from" not in record["figures"]
