"""Faces of the pose library, from the library to the downloads, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from pipelines.animation import AnimationEngine
from pipelines.pose_drawing import draw_clip
from pipelines.profiles import get_profile
from tests.tiny import FRAMES, SIZE, tiny_avatar_sd, tiny_profile
from ui import joints, poses, results
from ui.animate import AnimateTab
from ui.engines import Engines
from ui.session import Scratch, Sessions

FACES = [name for name in poses.library() if name.startswith("face_")]
VISITOR = SimpleNamespace(session_hash="visitor")


def test_the_library_has_faces_with_names_and_pictures() -> None:
    assert len(FACES) >= 2
    assert poses.title("face_nod") == "Face: nod"
    assert poses.title("jumping_jack") == "jumping jack"
    for name in FACES:
        assert (np.asarray(poses.thumbnail(name)).max(-1) > 150).sum() > 100


def test_a_face_of_the_library_is_shown_on_the_stage_and_can_be_edited() -> None:
    engines = Engines(get_profile("embedded"), set_up=False)
    with gr.Blocks():
        tab = AnimateTab(engines, Sessions(), Scratch())
    mark, stage, *_ = tab.choice.choose(SimpleNamespace(pick="face_nod"), True, VISITOR)
    shown = np.array(stage["pose"])
    assert mark == "face_nod" and stage["title"] == "Face: nod"
    assert shown.shape == (16, 18 + 68, 3)
    assert not shown[:, :18, 2].any() and shown[:, 18:, 2].all()
    opened = tab.choice.open_editor(True, "face_nod", VISITOR)[0]
    assert np.array(opened["face"]).shape == (16, 68, 2)


@pytest.mark.parametrize("name", FACES)
def test_a_face_becomes_a_clip_and_its_pose_can_be_kept(name: str, tmp_path: Path) -> None:
    engine = AnimationEngine(tiny_profile(tiny_avatar_sd(tmp_path / "avatar-sd")))
    clip = poses.library()[name]
    *_, made = engine.pair(clip, "a person", {}, 3)
    wanted = draw_clip(clip, SIZE, FRAMES)
    np.testing.assert_array_equal(made.pose_frames, wanted)
    assert made.unguarded.shape == (FRAMES, SIZE, SIZE, 3)
    _, _, settings = results.save_pair(made, tmp_path, 8)
    _, pose = results.save_extras(made, tmp_path, 8)
    for kept in (results.read_settings(settings).pose, poses.read_pose(pose)):
        np.testing.assert_array_equal(draw_clip(kept, SIZE, FRAMES), wanted)
    people = json.loads(pose.read_text())[0]["people"]
    assert len(people[0]["face_keypoints_2d"]) == 3 * 68


@pytest.mark.parametrize("name", FACES)
def test_a_face_brought_along_gets_the_room_of_a_close_up(name: str) -> None:
    clip = poses.library()[name]
    small = clip.to_square(90)
    placed = poses.placed(small, 256, fit=True)
    tall, own = np.ptp(placed.face[..., 1], axis=1), np.ptp(clip.face[..., 1], axis=1)
    assert 0.75 < tall.mean() / own.mean() < 1.25
    assert np.abs(placed.face.mean((0, 1)) - clip.face.mean((0, 1))).max() < 20


def test_a_face_in_the_editor_comes_back_as_it_was() -> None:
    clip = poses.library()["face_nod"]
    state = joints.state(clip, "Face: nod", 16, 8)
    places = np.array(state["face"]) * joints.CANVAS - 0.5
    np.testing.assert_allclose(places, clip.to_square(joints.CANVAS).face, atol=0.1)
