"""The pose library: fitted figures, the renderer's landmarks of close-ups, and what ships."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.paths import ASSETS
from pipelines.pose_json import dump_openpose_json, load_openpose_json
from worlds.body import Pose
from worlds.data import FRAMES
from worlds.looks import Look
from worlds.poses import FACES, LIBRARY, face_clip, library_clip
from worlds.render import SIZE, Camera, render


def test_landmarks_are_where_the_renderer_draws_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    pose = Pose(head_yaw=0.4, head_pitch=-0.2, yaw=0.1)
    monkeypatch.setitem(FACES, "face_test", lambda cycle: pose)
    camera = Camera(pitch=0.05, scale=1.75, x=0.5, y=0.52, focus=None)
    frame = render(Look(expression="neutral"), pose, camera)
    np.testing.assert_allclose(face_clip("face_test").face[3], frame.landmarks, atol=1e-3)


@pytest.mark.parametrize("name", list(FACES))
def test_faces_lie_in_the_frame_move_and_loop(name: str) -> None:
    clip = face_clip(name)
    assert not clip.seen.any() and clip.face.shape == (FRAMES, 68, 2)
    assert 20 < clip.face.min() and clip.face.max() < SIZE - 20
    steps = np.abs(np.diff(clip.face, axis=0)).max((1, 2))
    assert 1 < steps.max() < 40
    assert np.abs(clip.face[0] - clip.face[-1]).max() < 1.5 * steps.max() + 1


def test_the_head_turns_both_ways_in_shake() -> None:
    shake = face_clip("face_shake").face
    nose = shake[:, 30, 0] - shake[:, [0, 16], 0].mean(1)
    assert nose.max() > 8 and nose.min() < -8


@pytest.mark.parametrize("name", ["squat", "walk"])
def test_figures_are_fitted_to_the_frame(name: str) -> None:
    clip = library_clip(name)
    np.testing.assert_allclose(clip.keypoints, clip.fit(SIZE).keypoints, atol=0.01)
    seen = clip.keypoints[clip.seen]
    assert seen.min() > 0 and seen.max() < SIZE


def test_what_ships_is_what_the_command_makes() -> None:
    shipped = {path.stem: path for path in (ASSETS / "poses").glob("*.json")}
    assert shipped.keys() == {*LIBRARY, *FACES}
    for name in FACES:
        assert shipped[name].read_text() == dump_openpose_json(face_clip(name)) + "\n"
    walk = library_clip("walk")
    np.testing.assert_allclose(load_openpose_json(shipped["walk"]).keypoints, walk.keypoints,
                               atol=1e-3)
