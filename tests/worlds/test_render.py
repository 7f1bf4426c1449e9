"""The renderer: determinism, exact keypoints, every attribute visible."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest

from worlds.body import Arm, Leg, Pose, forward_kinematics, mix
from worlds.looks import (
    BACKGROUNDS,
    CHARACTERS,
    CLOTH,
    EXPRESSIONS,
    HAIR,
    HATS,
    PROPS,
    SKIN,
    STYLES,
    Look,
    caption,
    random_look,
)
from worlds.render import Camera, closeup_camera, face_landmarks, random_camera, render

PLAIN = Look(background="studio")


def test_same_inputs_give_the_same_picture() -> None:
    a, b = (render(PLAIN, Pose(), Camera()) for _ in range(2))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.keypoints, b.keypoints)


def test_renders_at_least_twelve_frames_a_second() -> None:
    render(PLAIN, Pose(), Camera())
    start = time.process_time()
    for i in range(8):
        render(random_look(random.Random(i)), Pose(), Camera())
    assert 8 / (time.process_time() - start) >= 12


def test_wrist_keypoint_lies_on_the_hand() -> None:
    """With a bare arm stretched out, the pixel at the wrist has the skin's colour."""
    look = replace(PLAIN, sleeve="short", skin="tan")
    frame = render(look, Pose(right=Arm(out=1.5, bend=0.0), left=Arm(out=1.5, bend=0.0)), Camera())
    for joint in (4, 7):
        x, y = frame.keypoints[joint].astype(int)
        red, green, blue = frame.image[y, x].astype(int)
        assert red > green > blue
        assert abs(red / blue - SKIN["tan"][0] / SKIN["tan"][2]) < 0.5


def test_right_is_the_persons_right() -> None:
    frame = render(PLAIN, Pose(), Camera())
    assert frame.keypoints[2, 0] < frame.keypoints[5, 0]
    assert frame.keypoints[14, 0] < frame.keypoints[15, 0]


def test_a_back_view_hides_the_face() -> None:
    frame = render(PLAIN, Pose(yaw=np.pi), Camera(pitch=0.0))
    assert (frame.confidence[[0, 14, 15]] == 0).all()


def test_a_joint_outside_the_frame_has_no_confidence() -> None:
    frame = render(PLAIN, Pose(), Camera(scale=0.8, y=0.6, focus=1.1))
    assert frame.confidence[10] == 0 and frame.confidence[13] == 0
    assert frame.confidence[1] == 1


def test_every_pose_touches_the_floor() -> None:
    rng = random.Random(0)
    for _ in range(50):
        leg = Leg(rng.uniform(-0.3, 1.5), rng.uniform(0, 0.5), 0.1, rng.uniform(0, 2.0))
        joints = forward_kinematics(Pose(right_leg=leg, lean=rng.uniform(-0.2, 0.5))).joints
        assert min(p[1] for p in joints.values()) < 0.1
        assert min(p[1] for p in joints.values()) >= 0.0


def test_mirroring_twice_changes_nothing() -> None:
    pose = Pose(yaw=0.3, right=Arm(raise_=1.0), left_leg=Leg(bend=0.4))
    assert pose.mirrored().mirrored() == pose
    assert mix(pose, pose.mirrored(), 0.0) == pose


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("top", list(CLOTH)),
        ("bottom", list(CLOTH)),
        ("skin", list(SKIN)),
        ("hair", list(HAIR)),
        ("prop", PROPS),
        ("hat", HATS),
        ("background", BACKGROUNDS),
        ("style", STYLES),
        ("sleeve", ("long", "short")),
        ("leg", ("long", "short")),
        ("pattern", ("plain", "striped", "dotted")),
        ("hairstyle", ("short", "long")),
        ("glasses", (False, True)),
    ],
)
def test_every_value_changes_picture_and_caption(field: str, values: list) -> None:
    looks = [replace(PLAIN, **{field: value}) for value in values]
    pictures = {
        render(look, Pose(right=Arm(raise_=0.8)), Camera()).image.tobytes() for look in looks
    }
    assert len(pictures) == len(values)
    assert len({caption(look) for look in looks}) == len(values)


def test_expressions_move_the_landmarks_and_the_close_up() -> None:
    rng = random.Random(0)
    camera = closeup_camera(rng)
    seen = set()
    for name, values in EXPRESSIONS.items():
        assert face_landmarks(values).shape == (68, 3)
        frame = render(replace(PLAIN, expression=name), Pose(), camera)
        assert ((frame.landmarks > 0) & (frame.landmarks < 256)).mean() > 0.9
        seen.add(frame.image.tobytes())
    assert len(seen) == len(EXPRESSIONS)


def test_characters_have_their_name_in_the_caption() -> None:
    assert len(CHARACTERS) == 10
    for name, look in CHARACTERS.items():
        assert caption(look).startswith(name)


def test_random_cameras_keep_the_head_in_frame() -> None:
    rng = random.Random(1)
    for _ in range(20):
        frame = render(PLAIN, Pose(), random_camera(rng))
        assert ((frame.keypoints[0] > 0) & (frame.keypoints[0] < 256)).all()
