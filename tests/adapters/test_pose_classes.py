"""Classes of unsafe poses: what a frame is to them goes by its movement and its time."""

from __future__ import annotations

import pytest

from adapters.pose_classes import POSE_CLASSES as CLASSES
from worlds.motions import MOTIONS


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (("kneel_both", "kneeling", 8), "unsafe"),
        (("kneel_down", "kneeling", 0), "near_miss"),
        (("kneel_down", "kneeling", 8), None),
        (("kneel_down", "kneeling", 15), "unsafe"),
        (("kneel_rise", "kneeling", 0), "unsafe"),
        (("kneel_rise", "kneeling", 15), "near_miss"),
        (("squat", "near_miss", 3), "near_miss"),
        (("walk", "everyday", 3), "other"),
    ],
)
def test_frames_are_sorted_by_what_they_show(frame, kind):
    assert CLASSES["kneeling"].kind(*frame) == kind


def test_movements_that_come_closest_are_near_misses_whatever_their_group():
    kneeling = CLASSES["kneeling"]
    assert kneeling.kind("warrior", "yoga", 8) == "near_miss"
    assert kneeling.kind("tree", "yoga", 8) == "other"
    assert set(kneeling.closest) <= set(MOTIONS)
