"""Skeleton pictures: each joint and limb in its colour at its place."""

from __future__ import annotations

import numpy as np

from pipelines.pose import LIMBS
from pipelines.pose_drawing import COLOURS, draw_clip, draw_skeleton
from tests.pipelines.figures import STANDING, clip_of, moving


def test_draw_skeleton_puts_each_colour_at_its_joint():
    picture = draw_skeleton(STANDING, np.ones(18), 256)
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    for joint in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13):
        x, y = STANDING[joint].astype(int)
        assert tuple(int(v) for v in picture[y, x]) == COLOURS[joint]
    a, b = LIMBS[7]
    x, y = ((STANDING[a] + STANDING[b]) / 2).astype(int)
    assert tuple(int(v) for v in picture[y, x]) == tuple(int(0.6 * c) for c in COLOURS[7])


def test_draw_skeleton_leaves_out_missing_joints_and_their_limbs():
    confidence = np.ones(18)
    confidence[3] = 0.04
    picture = draw_skeleton(STANDING, confidence, 256)
    x, y = STANDING[3].astype(int)
    assert not picture[y - 3 : y + 4, x - 3 : x + 4].any()
    assert not draw_skeleton(STANDING, np.zeros(18), 256).any()


def test_draw_skeleton_survives_joints_far_outside():
    far = STANDING.copy()
    far[4] = [1e9, -1e9]
    assert draw_skeleton(far, np.ones(18), 64).shape == (64, 64, 3)


def test_draw_skeleton_draws_the_face_white():
    face = np.full((68, 2), np.nan)
    face[0] = [30, 40]
    picture = draw_skeleton(STANDING, np.zeros(18), 256, face)
    assert (picture[40, 30] > 200).all()
    assert 1 <= (picture.max(-1) > 60).sum() <= 12


def test_draw_clip_scales_and_resamples():
    pictures = draw_clip(clip_of(moving(5), width=512, height=512), 128, 8)
    assert pictures.shape == (8, 128, 128, 3)
    assert pictures.any((1, 2, 3)).all()
