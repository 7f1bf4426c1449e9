"""The Animate tab's handlers on poses and settings, called as Gradio would. No server, no model."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from pipelines.animation import write_gif
from pipelines.pose import draw_clip, dump_openpose_json
from pipelines.profiles import get_profile
from ui.animate import AnimateTab
from ui.engines import Engines
from ui.poses import library
from ui.session import Scratch, Sessions

VISITOR = SimpleNamespace(session_hash="visitor")
SKIPPED = gr.skip()


@pytest.fixture(scope="module")
def page():
    engines = Engines(get_profile("embedded"), set_up=False)
    with gr.Blocks():
        yield AnimateTab(engines, Sessions(), Scratch())


@pytest.fixture
def tab(page) -> AnimateTab:
    page.sessions = Sessions()
    return page


@pytest.fixture
def walk(tmp_path) -> str:
    path = tmp_path / "walk.gif"
    return str(write_gif(draw_clip(library()["walk"], 128, 16), path, 8))


def take(tab: AnimateTab, file: object, fit: bool = True) -> tuple:
    *_, last = tab.take_file(str(file), fit, VISITOR)
    return last


def pick(tab: AnimateTab, name: str) -> tuple:
    return tab.choose(SimpleNamespace(pick=name), True, VISITOR)


def tall(stage: dict) -> float:
    """Height of the figure on the stage, as a part of the frame."""
    joints = np.array(stage["pose"])
    return float(np.ptp(joints[joints[..., 2] > 0][:, 1]))


def test_a_video_is_read_with_a_bar_and_can_be_taken_back(tab, walk):
    *told, (mark, stage, remark, back, cancel) = tab.take_file(walk, True, VISITOR)
    assert len(told) == 32
    assert "frame 3 of 16" in told[2][2] and 'role="progressbar"' in told[2][2]
    assert told[2][4].visible and not cancel.visible
    assert (mark, stage["title"]) == ("", "your pose")
    assert "Using walk.gif: 16 frames." in remark
    assert back.visible and back.value == "Back to wave"
    mark, stage, remark, back = tab.go_back(True, VISITOR)
    assert (mark, stage["title"], remark) == ("wave", "wave", "")
    assert back.value == "Back to walk.gif"
    assert tab.go_back(True, VISITOR)[0] == ""


def test_cancelling_leaves_the_pose_as_it_was(tab, walk):
    reading = tab.take_file(walk, True, VISITOR)
    next(reading)
    tab.stop_reading(VISITOR)
    *_, last = reading
    assert "Cancelled" in last[2] and not last[4].visible
    assert tab.sessions.of(VISITOR).chosen is None


def test_a_choice_made_meanwhile_wins_over_the_video(tab, walk):
    reading = tab.take_file(walk, True, VISITOR)
    next(reading)
    assert pick(tab, "run")[0] == "run"
    *_, last = reading
    assert last[2] == "" and not last[4].visible
    assert tab.sessions.of(VISITOR).chosen.name == "run"


def test_a_second_file_takes_over_from_the_first(tab, walk, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(dump_openpose_json(library()["run"]))
    reading = tab.take_file(walk, True, VISITOR)
    next(reading)
    take(tab, other)
    *_, last = reading
    assert "other.json" in last[2]
    assert tab.sessions.of(VISITOR).chosen.name == "other.json"


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "pose.json", "photo.png", "<b>.png"])
def test_a_wrong_file_is_named_and_changes_nothing(tab, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind")
    _, _, told, _, cancel = take(tab, path)
    assert 'role="alert"' in told and "<b>" not in told
    assert "wanted" in told.lower() and not cancel.visible
    assert tab.sessions.of(VISITOR).chosen is None


def test_a_pose_of_one_s_own_can_be_had_again_after_two_of_the_library(tab, walk):
    take(tab, walk)
    pick(tab, "run")
    assert pick(tab, "jump")[3].value == "Back to walk.gif"


def test_the_switch_keeps_the_framing_of_own_poses_only(tab, tmp_path):
    small = replace(library()["walk"].fit(100), width=400, height=400)
    path = tmp_path / "small.json"
    path.write_text(dump_openpose_json(small))
    assert tab.refit(False, VISITOR) == SKIPPED
    fitted = tall(take(tab, path)[1])
    assert fitted > 0.6
    assert tall(tab.refit(False, VISITOR)) < 0.3
    assert tall(take(tab, path, fit=False)[1]) < 0.3


def test_settings_fill_the_form(tab, tmp_path):
    small = replace(library()["walk"].fit(100), width=400, height=400)
    path = tmp_path / "settings.json"
    settings = {
        "profile": "elsewhere", "prompt": "a knight", "seed": 11, "steps": 9,
        "guidance_scale": 3.5, "guidance_interval": [0.6, 1.0], "guards": {"nobody": 1.0},
        "pose": json.loads(dump_openpose_json(small)),
    }  # fmt: skip
    path.write_text(json.dumps(settings))
    mark, stage, _, back, told, *fields = tab.load_settings(str(path), True, VISITOR)
    assert mark == "" and back.value == "Back to wave"
    assert tall(stage) < 0.3  # framed as in the result, though the switch is on
    assert fields[:5] == ["a knight", 11, 9, 3.5, 0.6]
    assert fields[5 : 5 + len(tab.guards)] == [False] * len(tab.guards)
    assert "seed 11" in told and "nobody" in told and "profile elsewhere" in told
    assert tab.refit(False, VISITOR) == SKIPPED

    del settings["seed"]
    path.write_text(json.dumps(settings))
    answer = tab.load_settings(str(path), True, VISITOR)
    assert len(answer) == 10 + 2 * len(tab.guards)
    assert "&quot;seed&quot;" in answer[4] and answer[0] == answer[-1] == SKIPPED
    assert tab.sessions.of(VISITOR).chosen.clip is not None


def test_nobody_in_a_webcam_picture_is_said_and_clearing_it_does_nothing(tab):
    assert tab.take_webcam(None, True, VISITOR) == (SKIPPED,) * 4
    tiny = np.zeros((20, 20, 3), np.uint8)
    assert "20 × 20 px; wanted at least 64" in tab.take_webcam(tiny, True, VISITOR)[2]
    drawn = draw_clip(library()["walk"], 256, 1)[0]
    assert "Using webcam picture: 1 frame." in tab.take_webcam(drawn, True, VISITOR)[2]
