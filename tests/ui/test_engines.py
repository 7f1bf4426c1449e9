"""The app's parts: what is told when set-up failed, and guards that do not fit the model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from adapters import registry
from pipelines.fetch import MissingWeights
from pipelines.pose_json import dump_openpose_json
from pipelines.profiles import get_profile
from tests.tiny import tiny_avatar_sd, tiny_profile, tiny_unet
from tests.ui.conftest import tiny_guard
from ui.animate import AnimateTab
from ui.app import loading_note
from ui.engines import Engines
from ui.poses import library
from ui.session import Scratch, Sessions

SKIPPED = gr.skip()


@pytest.fixture
def avatar_sd(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr("adapters.registry.ASSETS", tmp_path / "assets")
    return tiny_avatar_sd(tmp_path / "avatar-sd")


def wide_guard(target: Path) -> None:
    """Save a random LoRA of a UNet that is wider than the tiny one."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_config({**tiny_unet().config, "block_out_channels": (16, 16)})
    get_peft_model(unet, LoraConfig(r=2, target_modules=["to_q"])).save_pretrained(target)


def test_a_set_up_that_failed_names_the_command_and_is_of_no_account_once_all_works(
    monkeypatch, tmp_path, avatar_sd
):
    def offline(*args: object) -> Path:
        raise RuntimeError("pip could not download it")

    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipelines.fetch._download", offline)
    engines = Engines(tiny_profile(avatar_sd))
    engines.setup.load()
    assert engines.status("animation") == [engines.setup, engines._animation]
    told = loading_note(engines, "animation")
    assert "<code>python -m pipelines.fetch --profile embedded</code>" in told
    engines._animation.load()
    assert engines.status("animation") == [] and loading_note(engines, "animation") == ""
    assert engines.status("animation", "chat") == [engines.setup, engines._chat]


def test_a_guard_that_does_not_fit_is_left_out_and_the_page_says_why(avatar_sd, tmp_path):
    engines = Engines(tiny_profile(avatar_sd), set_up=False)
    target = registry.adapter_target("poseguard", engines.profile)
    wide_guard(target)
    with gr.Blocks() as page:
        tab = AnimateTab(engines, Sessions(), Scratch())
    assert tab.guards.leave_out() == [SKIPPED, SKIPPED, ""]  # as long as nobody knows
    (opened,) = (event for event in page.fns.values() if event.fn == tab.guards.leave_out)
    assert [trigger for _, trigger in opened.targets] == ["load"]

    engines._animation.load()
    assert engines.animation.guards == ()
    switch, strength, why = tab.guards.leave_out()
    assert (switch.value, switch.interactive, strength.interactive) == (False, False, False)
    assert "fits no layer of this UNet" in why and "restart the app" in why
    assert "<code>python -m adapters.train poseguard --profile embedded</code>" in why
    with pytest.raises(ValueError, match="fits no layer .* python -m adapters.train poseguard"):
        engines.guarded_animation(["poseguard"])
    settings = tmp_path / "settings.json"
    made = {"prompt": "a knight", "seed": 1, "steps": 1, "guards": {"poseguard": 1.0}}
    pose = json.loads(dump_openpose_json(library()["run"]))
    settings.write_text(json.dumps({**made, "guidance_scale": 1.0, "pose": pose}))
    visitor = SimpleNamespace(session_hash="visitor")
    restored = tab.restoring.load_settings(str(settings), True, visitor)
    assert "left off: poseguard" in restored[10]
    assert not restored[tab.restoring.filled.index(tab.guards.switches[0])].interactive

    tiny_guard(avatar_sd, target)  # trained anew; whoever still has the switch can use it
    assert engines.guarded_animation(["poseguard"]).guards == ("poseguard",)
    assert tab.guards.leave_out() == [SKIPPED, SKIPPED, ""]


def test_a_pair_is_shown_without_the_reader_s_weights(monkeypatch):
    def missing():
        raise MissingWeights("The reader", "reader", "python -m worlds.train reader")

    monkeypatch.setattr("evaluation.reader.Reader.load", missing)
    assert Engines(get_profile("embedded"), set_up=False).reader is None
    monkeypatch.undo()
    engines = Engines(get_profile("embedded"), set_up=False)
    assert engines.reader is engines.reader is not None
    assert Engines(get_profile("hub"), set_up=False).reader is None


def test_a_guard_that_no_training_makes_for_a_profile_is_said_to_be_none():
    told = Engines(get_profile("hub"), set_up=False).missing_adapter("poseguard")
    assert told.startswith("There is no PoseGuard for the profile 'hub'")
    assert "restart the app" in Engines(get_profile("hub"), set_up=False).missing_adapter("sdd")
