"""What is told of a pair: how far it follows the pose, and how far the guarded clip is off."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluation.obedience import obedience
from evaluation.reader import Reader
from pipelines.animation import PairResult
from pipelines.pose import PoseClip
from pipelines.pose_json import dump_openpose_json
from ui import results
from worlds.data import AvatarSet, build


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> AvatarSet:
    """A rendered clip of 16 frames, whose joints are known."""
    return build(tmp_path_factory.mktemp("set"), 1, clips=True, workers=1)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.load()


def pair(rendered: AvatarSet, guarded: np.ndarray | None) -> tuple[PairResult, PoseClip]:
    joints = np.asarray(rendered.keypoints[:16], float)
    pose = PoseClip(joints[..., :2], joints[..., 2], None, 256, 256)
    frames = np.asarray(rendered.images[:16])
    settings = {"pose": json.loads(dump_openpose_json(pose))}
    return PairResult(frames, guarded, frames, settings), pose


def test_a_rendering_follows_its_pose_and_a_blank_does_not(rendered, reader):
    blank = np.full((16, 256, 256, 3), 128, np.uint8)
    found = obedience(*pair(rendered, blank), reader)
    assert found["pose"] > 0.9
    assert found["pose_guarded"] < 0.3
    assert 3 < found["psnr_guarded"] < 25


def test_the_same_picture_is_called_so_and_no_guard_has_no_figures(rendered, reader):
    result, pose = pair(rendered, np.asarray(rendered.images[:16]))
    told = results.measured(result, reader).settings
    assert told["measured"]["psnr_guarded"] == 100.0
    assert results.figures(told)[1]["text"].endswith(" · The same as the unguarded clip")
    far = {"measured": {"pose": 0.9, "pose_guarded": 0.1, "psnr_guarded": 19.6}}
    assert results.figures(far) == (
        {"text": "Pose followed: 90%"},
        {"text": "Pose followed: 10% · Far from the unguarded clip",
         "title": "PSNR against the unguarded clip: 20 dB. "},
    )  # fmt: skip
    alone, _ = pair(rendered, None)
    assert obedience(alone, pose, reader)["pose_guarded"] is None
    assert results.figures(results.measured(alone, reader).settings)[1]["text"] == ""
    assert results.measured(alone, None) is alone
    assert [told["text"] for told in results.figures(alone.settings)] == ["", ""]


def test_a_pose_without_a_torso_is_not_measured(rendered, reader):
    result, pose = pair(rendered, None)
    confidence = pose.confidence * np.isin(np.arange(18), [0, 1, 14, 15])
    head = PoseClip(pose.keypoints, confidence, None, 256, 256)
    assert obedience(result, head, reader)["pose"] is None
