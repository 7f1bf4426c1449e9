"""Flicker by hand: what changes, what does not, and what is never seen."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.flicker import flicker, flicker_ratios
from evaluation.scenes import Scene
from pipelines.pose import PoseClip


def still_scene(size: int = 64, frames: int = 3) -> Scene:
    """A figure that stands: shoulders and hips a 20 px square, thighs below it."""
    joints = np.zeros((18, 2), np.float32)
    joints[[2, 5, 8, 11]] = (22, 10), (42, 10), (22, 30), (42, 30)
    joints[[9, 12]] = (22, 50), (42, 50)
    confidence = np.zeros(18, np.float32)
    confidence[[2, 5, 8, 11, 9, 12]] = 1
    pose = PoseClip(np.stack([joints] * frames), np.stack([confidence] * frames), None, size, size)
    figure = np.zeros((frames, size, size), bool)
    figure[:, 10:50, 22:42] = True
    return Scene(pose, pose.seen, "", {}, np.zeros((frames, size, size, 3), np.uint8),
                           figure)


def test_flicker_by_hand() -> None:
    scene = still_scene()
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    frames[:, 10:30, 22:43] = 50, 80, 80  # the top, which turns no other colour
    frames[1, :4] = 16  # a flash on 4 of 64 rows: appears and goes
    frames[2, 30:50] = 9, 0, 0  # the bottom reddens once
    found = flicker(frames, scene)
    assert found["top"] == pytest.approx(0.0)
    assert found["bottom"] == pytest.approx((0 + 9 / 3) / 2)
    # Outside the figure and its margin of 4 px lie 64 * 64 - 28 * 48 px, 256 of them in the flash,
    # and 20 * 36 of them right and left in the rows that redden.
    free = 64 * 64 - 28 * 48
    flash = 4 * 64 * 16 / free
    reddening = 20 * 36 * 9 / 3 / free
    assert found["background"] == pytest.approx((flash + flash + reddening) / 2, rel=1e-6)


def test_parts_that_are_never_seen_have_no_flicker() -> None:
    scene = still_scene()
    nothing = PoseClip(scene.pose.keypoints, np.zeros((3, 18)), None, 64, 64)
    empty = Scene(nothing, nothing.seen, "", {}, scene.rendered, scene.figure)
    found = flicker(scene.rendered, empty)
    assert np.isnan(found["top"]) and np.isnan(found["bottom"]) and found["background"] == 0


def test_flicker_ratios_by_hand() -> None:
    nan = float("nan")
    generated = [{"background": 2.0, "top": 3.0, "bottom": nan},
                 {"background": 1.0, "top": 9.0, "bottom": 1.0}]
    rendered = [{"background": 1.0, "top": 2.0, "bottom": 1.0},
                {"background": 1.0, "top": 1.0, "bottom": 0.0}]
    ratios = flicker_ratios(generated, rendered)
    assert ratios["background"] == 1.5 and ratios["top"] == 4.0
    assert np.isnan(ratios["bottom"]), "the only clip that shows it never changes when rendered"
