"""Settings that come back into Animate's form, called as Gradio would. No server, no model."""

from __future__ import annotations

import json
from dataclasses import replace

import gradio as gr
import pytest

from adapters import registry
from pipelines.pose_json import dump_openpose_json
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.ui.animating import KEPT, SKIPPED, VISITOR, generate, labels, pick, tall
from tests.ui.conftest import tiny_guard
from ui.animate import AnimateTab
from ui.engines import Engines, NotReady
from ui.poses import library
from ui.results import MAX_PROMPT
from ui.session import Scratch, Sessions


def test_settings_fill_the_form(tab, tmp_path):
    small = replace(library()["walk"].fit(100), width=400, height=400)
    path = tmp_path / "settings.json"
    settings = {
        "profile": "elsewhere", "prompt": "a knight", "seed": 11, "steps": 9,
        "guidance_scale": 3.5, "guidance_interval": [0.6, 1.0], "guards": {"nobody": 1.0},
        "pose": json.loads(dump_openpose_json(small)),
    }  # fmt: skip
    path.write_text(json.dumps(settings))
    mark, stage, _, back, *rest = tab.restoring.load_settings(str(path), True, VISITOR)
    told, *fields = rest[6:]  # after the message and the downloads
    assert mark == "" and back.value == "Back to wave"
    assert tall(stage) < 0.3  # framed as in the result, though the switch is on
    assert fields[:6] == ["a knight", 11, 9, 3.5, 0.6, False]
    assert not any(switch.value for switch in fields[6 : 6 + len(tab.guards.names)])
    assert "seed 11" in told and "nobody" in told and "profile elsewhere" in told
    assert tab.choice.refit(False, "", VISITOR) == KEPT

    del settings["seed"]
    path.write_text(json.dumps(settings))
    answer = tab.restoring.load_settings(str(path), True, VISITOR)
    assert len(answer) == len(tab.restoring.filled)
    assert "&quot;seed&quot;" in answer[10] and answer[0] == answer[-1] == SKIPPED
    assert tab.sessions.of(VISITOR).chosen.clip is not None


def kept(**others: object) -> dict:
    """What a browser kept of a pair."""
    settings = {
        "profile": "embedded", "prompt": "a knight", "seed": 11, "steps": 9, "guidance_scale": 1,
        "guards": {}, "pose": json.loads(dump_openpose_json(library()["run"])),
    }  # fmt: skip
    return {"settings": settings | others, "marked": "run"}


def test_the_last_pair_s_settings_come_back_after_a_reload(tab):
    mark, stage, remark, back, message, *rest = tab.restoring.come_back(kept(), True, VISITOR)
    assert mark == "run" and stage["title"] == "run" and not back.visible and remark == ""
    assert "of your last pair" in message and "differ" not in message
    assert rest[6:12] == ["a knight", 11, 9, 1, 0, False]
    assert tab.sessions.of(VISITOR).chosen.clip is None  # the library's own, to be refitted by none


def test_an_own_pose_comes_back_with_the_settings_framed_as_it_was(tab):
    own = kept() | {"marked": ""}
    mark, stage, remark, _, message, *_ = tab.restoring.come_back(own, True, VISITOR)
    assert mark == "" and stage["title"] == "your pose" and "framed as it was" in remark
    assert "of your last pair" in message


@pytest.mark.parametrize(
    "found",
    [
        None, 3, {}, {"settings": None}, kept(seed=-1), kept(pose={"people": 1}),
        kept(prompt="x" * (MAX_PROMPT + 1)), kept(guards=["poseguard"]),
    ],
)  # fmt: skip
def test_what_was_not_kept_by_the_page_brings_nothing_back(tab, found):
    assert set(map(str, tab.restoring.come_back(found, True, VISITOR))) == {str(SKIPPED)}
    assert tab.sessions.of(VISITOR).chosen is None


def test_nothing_comes_back_over_a_pose_that_was_chosen_since(tab):
    pick(tab, "walk")
    assert set(map(str, tab.restoring.come_back(kept(), True, VISITOR))) == {str(SKIPPED)}
    assert tab.sessions.of(VISITOR).chosen.name == "walk"


def test_details_are_redrawn_unless_switched_off(tab, ready, tmp_path):
    assert tab.redraw.visible and tab.redraw.value
    for switch in (True, False):
        *_, last = generate(tab, "run", redraw=switch)
        assert last[0]["state"] == "done" and ready.settings["redraw"] is switch
    path = tmp_path / "settings.json"
    settings = {
        "prompt": "a knight", "seed": 11, "steps": 2, "guidance_scale": 1.0, "guards": {},
        "pose": json.loads(dump_openpose_json(library()["run"])), "redraw": True,
    }  # fmt: skip
    for found, told in ((True, "details redrawn"), (False, "details as drawn")):
        path.write_text(json.dumps(settings | {"redraw": found}))
        answer = tab.restoring.load_settings(str(path), True, VISITOR)
        assert told in answer[10] and answer[16] is found


def test_a_profile_without_a_refiner_offers_none(tmp_path):
    profile = tiny_profile(tiny_avatar_sd(tmp_path / "avatar-sd"))
    with gr.Blocks():
        tab = AnimateTab(Engines(profile, set_up=False), Sessions(), Scratch())
    assert not tab.redraw.visible and not tab.redraw.value
    path = tmp_path / "settings.json"
    settings = {
        "prompt": "a knight", "seed": 11, "steps": 2, "guidance_scale": 1.0, "guards": {},
        "pose": json.loads(dump_openpose_json(library()["run"])), "redraw": True,
    }  # fmt: skip
    path.write_text(json.dumps(settings))
    answer = tab.restoring.load_settings(str(path), True, VISITOR)
    assert "Made with details redrawn" in answer[10] and answer[16] is False


def test_settings_from_another_sampler_or_model_are_no_promise(tab, ready, tmp_path):
    path = tmp_path / "settings.json"
    same = {
        "profile": "embedded", "prompt": "a knight", "seed": 11, "steps": 4,
        "guidance_scale": 1.0, "guards": {"poseguard": 1.0},
        "pose": json.loads(dump_openpose_json(library()["run"])),
        "sampler": tab.spec.sampler, "noise_share": tab.spec.noise_share,
        "number_format": "bfloat16", "weights": {"base": "avatar-sd:1", "poseguard": "2"},
    }  # fmt: skip

    def told(**change) -> str:
        path.write_text(json.dumps(same | change))
        return tab.restoring.load_settings(str(path), True, VISITOR)[10]

    assert "hf-note good" in told() and "differ" not in told()
    for change, words in (
        ({"sampler": "DDIM"}, "another sampler"),
        ({"noise_share": 0.25}, "another share of noise"),
        ({"prompt": "a woman"}, "another reading of the prompt"),
        ({"number_format": "float32"}, "another number format"),
        ({"weights": {"base": "avatar-sd:0"}}, "other weights"),
        ({"weights": {"poseguard": "0"}}, "other weights"),
        ({"sampler": "DDIM", "weights": {"base": "x"}}, "another sampler and other weights"),
    ):
        assert f"Made with {words}" in told(**change) and "hf-note warn" in told(**change)
    assert "differ" not in told(prompt="a woman", read="a person")
    for silent in ({"sampler": 7}, {"weights": None}, {"number_format": []}, {"noise_share": None}):
        assert "hf-note good" in told(**silent)

    def loading():
        raise NotReady("it is loading")

    tab.engines._animation.get = loading
    assert "another sampler" in told(sampler="DDIM") and "differ" not in told(weights={"base": "x"})


def test_a_guard_made_while_the_app_runs_can_be_used_with_loaded_settings(monkeypatch, tmp_path):
    monkeypatch.setattr("adapters.registry.ASSETS", tmp_path / "assets")
    avatar_sd = tiny_avatar_sd(tmp_path / "avatar-sd")
    engines = Engines(tiny_profile(avatar_sd), set_up=False)
    for part in (engines.setup, engines._animation):
        part.load()
    with gr.Blocks() as page:
        tab = AnimateTab(engines, Sessions(), Scratch())
    words = [str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert any("adapters.train poseguard" in text and "restart the app" in text for text in words)
    path = tmp_path / "settings.json"
    settings = {
        "prompt": "a knight", "seed": 11, "steps": 1, "guidance_scale": 1.0,
        "guards": {"poseguard": 0.5}, "weights": {"poseguard": "another"},
        "pose": json.loads(dump_openpose_json(library()["run"])),
    }  # fmt: skip
    path.write_text(json.dumps(settings))

    def loaded() -> tuple:
        answer = tab.restoring.load_settings(str(path), True, VISITOR)
        guards = tab.guards
        parts = (
            tab.load_note, guards.switches[0], guards.strengths[0], guards.lacking["poseguard"]
        )  # fmt: skip
        return tuple(answer[tab.restoring.filled.index(part)] for part in parts)

    told, switch, strength, remark = loaded()
    assert "Not installed here, so left off: poseguard" in told
    assert not switch.value and not switch.interactive and not strength.interactive
    assert remark == SKIPPED
    tiny_guard(avatar_sd, registry.adapter_target("poseguard", engines.profile))
    told, switch, strength, remark = loaded()
    assert "left off" not in told and "Made with other weights" in told
    assert switch.value and switch.interactive
    assert strength.constructor_args == {"value": 0.5, "interactive": True}  # its ends stay
    assert remark == ""  # how to make it is no longer to be said
    *_, last = generate(tab, "", steps=1)
    assert last[0]["state"] == "done" and "Guarded MP4" in labels(last[4:])
    assert engines.animation.guards == ("poseguard",)
    settings["guards"] = {}  # of those that are installed all can be switched on
    path.write_text(json.dumps(settings))
    told, switch, strength, _ = loaded()
    assert not switch.value and switch.interactive and strength.interactive
