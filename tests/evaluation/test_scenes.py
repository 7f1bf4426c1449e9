"""Scenes: rendered clips, OpenPose files and photographs in the model's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.io

from evaluation.scenes import pose_scenes, scenes
from pipelines.pose import PoseError
from tests.tiny import FRAMES, SIZE
from worlds.data import build


def test_scenes_come_in_the_models_frame(tmp_path: Path) -> None:
    clips = build(tmp_path, 2, clips=True, workers=1)
    first, second = scenes(clips, 2, SIZE, FRAMES)
    assert first.rendered.shape == (FRAMES, SIZE, SIZE, 3) and len(first.pose) == FRAMES
    assert first.figure.shape == (FRAMES, SIZE, SIZE) and first.figure.any()
    assert first.caption == clips.meta[0]["caption"] and second.look == clips.meta[16]["look"]
    joints = clips.keypoints[15, :, :2]
    last = first.judged[-1]
    assert np.allclose(first.pose.keypoints[-1, last], (joints[last] + 0.5) / 4 - 0.5, atol=1e-3)
    assert np.array_equal(last, clips.keypoints[15, :, 2] > 0)


def test_poses_are_extracted_from_photographs(tmp_path: Path) -> None:
    """Of the astronaut who comes with scikit-image: head, shoulders, and no legs."""
    skimage.io.imsave(tmp_path / "somebody.PNG", skimage.data.astronaut())
    (scene,) = pose_scenes(tmp_path, 256, FRAMES)
    assert scene.judged.shape == (FRAMES, 18)
    assert scene.judged[:, [0, 1, 2, 5, 14, 15]].all(), "nose, neck, shoulders and eyes"
    assert not scene.judged[:, [9, 10, 12, 13]].any(), "knees and ankles are not in the picture"
    joints = scene.pose.keypoints[0]
    assert joints[2, 0] < joints[0, 0] < joints[5, 0] and joints[0, 1] < joints[1, 1]


def test_poses_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="holds no .json file and no picture"):
        pose_scenes(tmp_path, SIZE, FRAMES)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(PoseError, match="broken.json: "):
        pose_scenes(tmp_path, SIZE, FRAMES)
