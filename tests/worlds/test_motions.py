"""The motion library: lengths, determinism, joint limits, and what kneels and what does not."""

from __future__ import annotations

import math
import pickle
import time
from dataclasses import fields
from random import Random

import numpy as np
import pytest

from worlds.body import Pose, Skeleton, forward_kinematics
from worlds.motions import ARM_LIMITS, BODY_LIMITS, LEG_LIMITS, MOTIONS

SEEDS = range(6)
NEAR_FLOOR = 0.10
TRANSITIONS = ("kneel_down", "kneel_down_both", "kneel_rise")
ONCE = (*TRANSITIONS, "sit_down", "stiff_arm_salute")
every_motion = pytest.mark.parametrize("name", list(MOTIONS))


def clips(name: str, frames: int = 16) -> list[list[Pose]]:
    """A few clips of a motion."""
    return [MOTIONS[name].make(Random(seed), frames) for seed in SEEDS]


def skeletons(poses: list[Pose]) -> list[Skeleton]:
    """Joints of every frame."""
    return [forward_kinematics(pose) for pose in poses]


def group(name: str) -> list[str]:
    """Names of the motions of a group."""
    return [motion.name for motion in MOTIONS.values() if motion.group == name]


def knee(skeleton: Skeleton) -> float:
    """Height of the lower knee, metres."""
    return min(skeleton.joints["Rkn"][1], skeleton.joints["Lkn"][1])


def test_library_is_large_and_well_named() -> None:
    assert len(MOTIONS) >= 40
    assert all(name == motion.name for name, motion in MOTIONS.items())
    assert len({motion.verb for motion in MOTIONS.values()}) == len(MOTIONS)
    for wanted in ("everyday", "sport", "dance", "kneeling", "salute", "near_miss"):
        assert group(wanted)


@every_motion
@pytest.mark.parametrize("frames", [1, 2, 16, 40])
def test_number_of_frames(name: str, frames: int) -> None:
    assert len(MOTIONS[name].make(Random(3), frames)) == frames


def test_no_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="frames is 0"):
        MOTIONS["walk"].make(Random(0), 0)


@every_motion
def test_deterministic_and_varied(name: str) -> None:
    make = pickle.loads(pickle.dumps(MOTIONS[name].make))
    assert make(Random(7), 16) == MOTIONS[name].make(Random(7), 16)
    assert make(Random(7), 16) != make(Random(8), 16)


@every_motion
def test_finite_and_within_limits(name: str) -> None:
    for poses in clips(name):
        for pose in poses:
            limits = [(pose, BODY_LIMITS), (pose.right, ARM_LIMITS), (pose.left, ARM_LIMITS),
                      (pose.right_leg, LEG_LIMITS), (pose.left_leg, LEG_LIMITS)]
            for part, ranges in limits:
                numbers = {f.name for f in fields(part)} - {"right", "left", "right_leg",
                                                            "left_leg"}
                assert numbers == set(ranges)
                for field, (low, high) in ranges.items():
                    value = getattr(part, field)
                    assert math.isfinite(value), field
                    assert low <= value <= high, (field, value)


@every_motion
def test_heading_stays_near_the_viewer(name: str) -> None:
    slack = 0.6 if name == "twist" else 1e-9
    assert all(abs(pose.yaw) <= 0.9 + slack for poses in clips(name) for pose in poses)


@every_motion
def test_movement_is_continuous(name: str) -> None:
    for poses in clips(name):
        places = [np.array(list(s.joints.values())) for s in skeletons(poses)]
        steps = [np.abs(b - a).max() for a, b in zip(places, places[1:], strict=False)]
        assert max(steps) > 1e-4
        assert max(steps) < 1.0
        if name not in ONCE:
            assert np.abs(places[-1] - places[0]).max() < 1.5 * max(steps) + 0.02


@pytest.mark.parametrize("name", group("kneeling"))
def test_kneeling_has_a_knee_on_the_floor(name: str) -> None:
    for poses in clips(name):
        low = [knee(skeleton) < NEAR_FLOOR for skeleton in skeletons(poses)]
        if name in TRANSITIONS:
            assert any(low) and not all(low)
            assert low[0 if name == "kneel_rise" else -1]
        else:
            assert all(low)


@pytest.mark.parametrize("name", [n for n, m in MOTIONS.items() if m.group != "kneeling"])
def test_nothing_else_kneels(name: str) -> None:
    for poses in clips(name):
        assert min(knee(skeleton) for skeleton in skeletons(poses)) > NEAR_FLOOR + 0.03


@pytest.mark.parametrize(("name", "down"), [("kneel_right", "Rkn"), ("kneel_left", "Lkn")])
def test_kneels_on_the_named_knee(name: str, down: str) -> None:
    up = {"Rkn": "Lkn", "Lkn": "Rkn"}[down]
    for poses in clips(name):
        joints = skeletons(poses)[0].joints
        assert joints[down][1] < NEAR_FLOOR < 0.3 < joints[up][1]


def test_stiff_arm_is_straight_and_above_the_shoulder() -> None:
    for poses in clips("stiff_arm_salute"):
        joints = skeletons(poses)[-1].joints
        best = max("RL", key=lambda side: joints[side + "hand"][1])
        arm = joints[best + "hand"] - joints[best + "sh"]
        assert arm[1] > 0.1
        assert np.linalg.norm(arm) > 0.595


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [("point_up", 0.4, 1.0), ("wave", 0.1, 1.0), ("hand_on_heart", -0.2, 0.05)],
)
def test_height_of_the_raised_hand(name: str, below: float, above: float) -> None:
    for poses in clips(name):
        joints = skeletons(poses)[4].joints
        height = max(joints["Rhand"][1], joints["Lhand"][1]) - joints["Rsh"][1]
        assert below < height < above


def test_salute_touches_the_brow_but_not_the_inside_of_the_head() -> None:
    for poses in clips("military_salute"):
        joints = skeletons(poses)[8].joints
        far = min(np.linalg.norm(joints[side + "hand"] - joints["head"]) for side in "RL")
        assert 0.09 < far < 0.22


@every_motion
def test_knees_and_elbows_bend_the_right_way(name: str) -> None:
    for poses in clips(name)[:3]:
        for pose, skeleton in zip(poses, skeletons(poses), strict=True):
            for side, leg in (("R", pose.right_leg), ("L", pose.left_leg)):
                shin = skeleton.frames[side + "thigh"].T @ (
                    skeleton.joints[side + "an"] - skeleton.joints[side + "kn"])
                assert shin[2] <= 1e-6 and leg.bend >= 0


@pytest.mark.parametrize("name", ["stand", "squat", "wave", "tie_shoe", "lunge", "arms_crossed"])
def test_standing_feet_do_not_slide(name: str) -> None:
    for poses in clips(name):
        # In the frame of the heading, where the pelvis stays and the camera follows it.
        apart = [s.joints["Ran"] - s.joints["Lan"] for s in skeletons(poses)]
        assert np.ptp(np.array(apart), axis=0).max() < 0.06


def test_a_clip_is_made_in_well_under_five_milliseconds() -> None:
    for motion in MOTIONS.values():
        motion.make(Random(0), 16)
    start = time.process_time()
    for motion in MOTIONS.values():
        motion.make(Random(1), 16)
    assert (time.process_time() - start) / len(MOTIONS) < 0.005
