"""A background that is the same in all frames, and a figure that is not touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.pose import PoseClip
from pipelines.pose_drawing import draw_clip
from pipelines.still import (
    LOUD,
    QUIET,
    background_share,
    settle,
    still_background,
    torso_length,
)

SIZE = 256


def clip(*shifts: float, seen: bool = True) -> PoseClip:
    """A standing figure, one frame for each shift to the right in pixels."""
    joints = np.array(
        [
            (128, 60), (128, 80), (114, 80), (108, 105), (104, 128), (142, 80), (148, 105),
            (152, 128), (119, 130), (118, 165), (117, 200), (137, 130), (138, 165), (139, 200),
            (124, 56), (132, 56), (118, 58), (138, 58),
        ],
        np.float32,
    )  # fmt: skip
    frames = np.stack([joints + (shift, 0) for shift in shifts]).astype(np.float32)
    confidence = np.full(frames.shape[:2], float(seen), np.float32)
    return PoseClip(frames, confidence, None, SIZE, SIZE)


def test_the_background_is_the_same_and_the_figure_is_its_own():
    pose = clip(-20, 0, 20)
    torso = torso_length(pose)
    assert torso == pytest.approx(np.hypot(142 - 119, 130 - 80))
    share = background_share(draw_clip(pose, SIZE), torso)
    video = torch.randn(1, 3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    still = still_background(video, share)
    far = (share == 1).all(0)
    assert far.float().mean() > 0.3, "most of the frame is background"
    assert torch.allclose(still[0, :, 0, far], still[0, :, 2, far], atol=1e-6)
    assert torch.allclose(still[0, :, 0, far], video[0, :, :, far].mean(1), atol=1e-6)
    for frame in range(3):
        on = share[frame] == 0
        assert torch.equal(still[0, :, frame, on], video[0, :, frame, on])
        assert on[130, 119 + (-20, 0, 20)[frame]], "the hip"


def test_a_place_takes_only_what_frames_see_that_are_free_of_the_figure():
    share = torch.tensor([0.0, 1.0, 1.0, 0.5]).view(4, 1, 1)
    video = torch.tensor([9.0, 1.0, 3.0, 8.0]).view(1, 1, 4, 1, 1)
    assert still_background(video, share).flatten().tolist() == [9.0, 2.0, 2.0, 5.0]
    never = torch.full((4, 1, 1), 0.9)
    assert torch.equal(still_background(video, never), video), "never wholly background"


def test_without_a_torso_there_is_no_measure():
    assert torso_length(clip(0, 5, seen=False)) is None


def test_joints_taken_for_each_other_are_no_torso():
    pose = clip(0)
    joints = pose.keypoints.copy()
    joints[:, 5] = joints[:, 8] + 1
    assert torso_length(replace(pose, keypoints=joints)) is None


def test_a_frame_without_a_skeleton_is_all_background():
    empty = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    assert (background_share(empty, 50) == 1).all()


def test_shimmer_settles_and_movement_stays():
    level = 1 / 127.5
    shimmering = torch.tensor([0.0, 1.0, -1.0, QUIET, 0.0]) * level
    moving = torch.tensor([0.0, LOUD + 1, 0.0, 0.0, -LOUD - 1]) * level
    between = torch.tensor([0.0, (QUIET + LOUD) / 2, 0.0, 0.0, 0.0]) * level
    video = torch.stack([shimmering, moving, between], -1).view(1, 1, 5, 1, 3)
    settled = settle(video)[0, 0, :, 0]
    assert torch.equal(settled[:, 0], torch.zeros(5))
    assert torch.equal(settled[:, 1], moving)
    assert settled[:, 2].tolist() == pytest.approx((between / 2).tolist())


def test_a_pixel_moves_if_one_of_its_colours_does():
    video = torch.zeros(1, 3, 3, 1, 1)
    video[0, :, 1, 0, 0] = torch.tensor([1.0, 1.0, LOUD + 1]) / 127.5
    assert torch.equal(settle(video), video)
