"""The exported folder: small shards that plain diffusers reads back, nothing stale, no harm."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import ControlNetModel, MotionAdapter, StableDiffusionPipeline, UNetMotionModel

import worlds.export
from pipelines.paths import ASSETS
from tests.tiny import tiny_avatar_sd
from worlds.export import save_avatar_sd


def test_shards_are_small_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(worlds.export, "MAX_SHARD_SIZE", 50_000)
    folder = tiny_avatar_sd(tmp_path / "avatar-sd")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 2
    assert max(file.stat().st_size for file in folder.rglob("*.safetensors")) < 80_000
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float32}
    assert ControlNetModel.from_pretrained(folder, subfolder="controlnet").dtype == torch.float32
    motion = MotionAdapter.from_pretrained(folder, subfolder="motion_adapter")
    assert UNetMotionModel.from_unet2d(pipe.unet, motion).dtype == torch.float32
    assert not list(tmp_path.glob("*.partial"))


def test_an_export_replaces_its_parts_and_keeps_the_rest(tmp_path):
    folder = tiny_avatar_sd(tmp_path / "avatar-sd")
    (folder / "README.md").write_text("card")
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    before = {key: value.clone() for key, value in pipe.unet.state_dict().items()}
    save_avatar_sd(folder, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler)
    assert not (folder / "controlnet").exists() and not (folder / "motion_adapter").exists()
    assert (folder / "README.md").read_text() == "card"
    assert pipe.unet.dtype == torch.float32
    again = StableDiffusionPipeline.from_pretrained(folder).unet.state_dict()
    assert all(torch.equal(again[key], value) for key, value in before.items())


def test_what_float16_cannot_hold_is_refused(tmp_path):
    pipe = StableDiffusionPipeline.from_pretrained(tiny_avatar_sd(tmp_path / "a"))
    pipe.unet.conv_in.weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="unet: weight conv_in.weight is not finite in float16"):
        save_avatar_sd(
            tmp_path / "b", pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler
        )
    motion = MotionAdapter(block_out_channels=(32, 32), motion_num_attention_heads=2)
    with pytest.raises(ValueError, match="motion_norm_num_groups is 32"):
        save_avatar_sd(
            tmp_path / "b",
            pipe.vae,
            pipe.text_encoder,
            pipe.tokenizer,
            pipe.unet,
            pipe.scheduler,
            motion_adapter=motion,
        )


def test_an_export_does_not_say_where_its_parts_came_from(tmp_path):
    folder = tiny_avatar_sd(tmp_path / "avatar-sd")
    pipe = StableDiffusionPipeline.from_pretrained(folder)  # every part notes its folder
    assert pipe.vae.config["_name_or_path"]
    again = save_avatar_sd(
        tmp_path / "again", pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler
    )
    for config in again.glob("*/config.json"):
        assert str(tmp_path) not in config.read_text()


def test_the_shipped_weights_name_no_machine():
    configs = [*ASSETS.rglob("config.json"), *ASSETS.rglob("adapter_config.json")]
    assert len(configs) > 5
    for config in configs:
        fields = json.loads(config.read_text(encoding="utf-8"))
        for name in ("_name_or_path", "base_model_name_or_path"):
            assert not str(fields.get(name) or "").startswith(("/", "~")), config
