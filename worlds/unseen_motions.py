"""Movements that no training run ever sees: they measure whether other people's poses work too.

They are kept apart from `worlds.motions.MOTIONS`, which is all that training data is drawn from,
and nothing that trains may import this module (a test holds both). Each is a loop of a few key
poses: places of hands, pelvis and feet, and some angles, with a smooth curve through them. Places
are given as in `worlds.motions`: metres, x outwards from the midline of the limb's own side, y up,
z forward; hands relative to the waist, in the frame of the torso.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from worlds.body import Pose
from worlds.motions import (
    PELVIS,
    Foot,
    Vec,
    arm_to,
    posed,
    settled,
    within_limits,
)

_DOWN: Vec = (0.5, -1.0, -0.2)  # elbows of arms that hang
_OUT: Vec = (1.0, 0.0, -0.5)
_VARIED = 0.02  # metres or radians by which the seed moves each number of a key pose


@dataclass(frozen=True)
class Key:
    """A key pose.

    Attributes:
        right: place of the right hand.
        left: place of the left hand; x points to the left.
        pelvis: its place on the floor's axes, x to the avatar's left.
        right_foot: x outwards, z forward, height of its lowest point, pitch (toes down positive).
        left_foot: the same of the left foot.
        elbows: directions that the right and the left elbow point in.
        knees: angles by which the knees point outwards.
        lean: torso forward; this and the rest as in `worlds.body.Pose`.
        side: torso to the avatar's left.
        turn: shoulders to the avatar's left against the hips.
        head_yaw: head to the avatar's left.
        head_pitch: head down.
    """

    right: Vec
    left: Vec
    pelvis: Vec = (0.0, PELVIS, 0.0)
    right_foot: Foot = (0.1, 0.0, 0.0, 0.0)
    left_foot: Foot = (0.1, 0.0, 0.0, 0.0)
    elbows: tuple[Vec, Vec] = (_DOWN, _DOWN)
    knees: tuple[float, float] = (0.15, 0.15)
    lean: float = 0.0
    side: float = 0.0
    turn: float = 0.0
    head_yaw: float = 0.0
    head_pitch: float = 0.0

    def mirrored(self) -> Key:
        """Return the key with left and right exchanged."""
        x, y, z = self.pelvis
        return replace(
            self, right=self.left, left=self.right, pelvis=(-x, y, z),
            right_foot=self.left_foot, left_foot=self.right_foot, elbows=self.elbows[::-1],
            knees=self.knees[::-1], side=-self.side, turn=-self.turn, head_yaw=-self.head_yaw,
        )  # fmt: skip


def _both_ways(*keys: Key) -> tuple[Key, ...]:
    """Keys, then their mirror images: a loop that does the same to the left and to the right."""
    return (*keys, *(key.mirrored() for key in keys))


_GUARD = Key(
    (0.12, 0.2, 0.42), (0.35, 0.5, -0.2), (0.0, 0.8, 0.0), (0.05, 0.25, 0.0, 0.0),
    (0.12, -0.25, 0.0, 0.0), (_DOWN, _OUT), (0.2, 0.7), turn=0.5, head_yaw=-0.3,
)  # fmt: skip
_LOW = (0.0, 0.56, -0.05)  # pelvis in a wrestler's squat

UNSEEN: dict[str, tuple[Key, ...]] = {
    "archery": (
        Key((0.05, 0.1, 0.4), (0.2, 0.1, 0.4), right_foot=(0.2, 0.0, 0.0, 0.0),
            left_foot=(0.2, 0.0, 0.0, 0.0), head_pitch=0.2),
        Key((-0.2, 0.32, 0.35), (0.6, 0.36, 0.1), right_foot=(0.2, 0.0, 0.0, 0.0),
            left_foot=(0.2, 0.0, 0.0, 0.0), elbows=(_OUT, _DOWN), turn=-0.4, head_yaw=1.1),
        Key((0.1, 0.4, 0.16), (0.68, 0.36, 0.05), right_foot=(0.2, 0.0, 0.0, 0.0),
            left_foot=(0.2, 0.0, 0.0, 0.0), elbows=((1.0, 0.3, -0.6), _DOWN), turn=-0.3,
            head_yaw=1.2),
    ),
    "arabesque": (
        Key((0.6, 0.3, -0.1), (0.02, 0.55, 0.5), (0.05, 0.915, 0.0), (0.06, -0.6, 0.6, 1.3),
            (0.04, 0.05, 0.0, 0.0), (_OUT, _DOWN), lean=0.5, head_pitch=-0.4),
        Key((0.45, 0.05, 0.1), (0.2, 0.3, 0.45), (0.05, 0.915, 0.0), (0.08, -0.4, 0.1, 1.1),
            (0.04, 0.05, 0.0, 0.0), (_OUT, _OUT), lean=0.15, head_pitch=-0.1),
    ),
    "cartwheel_ready": _both_ways(
        Key((0.4, 0.78, 0.05), (0.4, 0.78, 0.05), (0.0, 0.84, 0.0), (0.34, 0.0, 0.0, 0.0),
            (0.34, 0.0, 0.0, 0.0), (_OUT, _OUT)),
        Key((0.15, 0.88, 0.05), (0.35, 0.84, 0.1), (0.22, 0.74, 0.0), (0.5, 0.0, 0.12, 0.5),
            (0.34, 0.0, 0.0, 0.0), (_OUT, _OUT), (0.2, 0.9), side=0.78),
    ),
    "climbing": _both_ways(
        Key((0.16, 0.86, 0.22), (0.28, 0.42, 0.36), (-0.06, 0.9, 0.0), (0.16, 0.1, 0.0, 0.5),
            (0.26, 0.2, 0.48, 0.2), (_OUT, _OUT), (0.5, 1.0), side=-0.12, head_pitch=-0.4),
    ),
    "fencing_lunge": (
        _GUARD,
        replace(_GUARD, right=(0.2, 0.34, 0.42), turn=0.3),  # a parry
        replace(_GUARD, right=(0.0, 0.34, 0.6), left=(0.45, 0.1, -0.3), pelvis=(0.0, 0.62, 0.18),
                right_foot=(0.05, 0.66, 0.0, 0.0), left_foot=(0.12, -0.4, 0.0, 0.2), lean=0.15,
                turn=0.8),
    ),
    "flamenco_arms": _both_ways(
        Key((0.04, 0.82, 0.1), (0.16, -0.02, -0.12), (0.04, 0.9, 0.0), (0.08, 0.0, 0.0, 0.0),
            (0.03, 0.14, 0.0, 0.6), (_OUT, _OUT), lean=-0.2, side=0.14, turn=-0.4, head_yaw=0.8),
        Key((-0.04, 0.46, 0.34), (-0.04, 0.4, 0.36), (0.0, 0.88, 0.0), (0.08, 0.0, 0.0, 0.0),
            (0.08, 0.1, 0.0, 0.2), (_OUT, _OUT), lean=-0.1, head_pitch=0.2),
    ),
    "freestyle_swim": _both_ways(
        Key((0.1, 0.9, 0.1), (0.2, -0.1, 0.0), (0.0, 0.86, -0.2), (0.14, 0.0, 0.0, 0.0),
            (0.14, 0.0, 0.0, 0.0), (_OUT, (0.6, 0.0, -1.0)), lean=1.25, turn=0.45, head_yaw=-0.7),
        Key((0.08, 0.4, 0.55), (0.36, 0.3, -0.28), (0.0, 0.86, -0.2), (0.14, 0.0, 0.0, 0.0),
            (0.14, 0.0, 0.0, 0.0), (_OUT, (0.6, 0.2, -1.0)), lean=1.25, turn=0.1, head_pitch=-0.3),
    ),
    "hula": _both_ways(
        Key((0.55, 0.3, 0.2), (-0.18, 0.28, 0.34), (0.12, 0.84, 0.0), (0.12, 0.0, 0.0, 0.0),
            (0.12, 0.0, 0.0, 0.0), (_OUT, _OUT), (0.3, 0.3), side=-0.24, head_yaw=-0.6),
        Key((0.2, 0.52, 0.38), (0.2, 0.52, 0.38), (0.0, 0.86, 0.08), (0.12, 0.0, 0.0, 0.0),
            (0.12, 0.0, 0.0, 0.2), (_OUT, _OUT), (0.3, 0.3)),
    ),
    "karate_block": _both_ways(
        Key((0.2, -0.02, 0.02), (-0.04, 0.64, 0.22), (0.0, 0.74, 0.06), (0.14, -0.45, 0.0, 0.1),
            (0.14, 0.42, 0.0, 0.0), ((0.6, -0.2, -1.0), (1.0, 0.5, 0.2)), turn=-0.4),
        Key((-0.1, 0.3, 0.3), (-0.1, 0.2, 0.34), (0.0, 0.84, 0.0), (0.12, -0.1, 0.0, 0.0),
            (0.12, 0.1, 0.05, 0.0), (_DOWN, _DOWN)),
    ),
    "moonwalk": _both_ways(
        Key((0.22, -0.1, 0.3), (0.22, -0.12, -0.3), (0.0, 0.87, 0.0), (0.08, -0.34, 0.0, 0.0),
            (0.08, 0.12, 0.0, 1.0), lean=0.12, head_pitch=0.3),
    ),
    "rowing": (
        Key((0.08, 0.24, 0.55), (0.08, 0.24, 0.55), (0.0, 0.2, 0.14), (0.1, 0.52, 0.04, -0.3),
            (0.1, 0.52, 0.04, -0.3), (_OUT, _OUT), lean=0.5),
        Key((0.08, 0.16, 0.52), (0.08, 0.16, 0.52), (0.0, 0.2, -0.2), (0.1, 0.52, 0.04, -0.3),
            (0.1, 0.52, 0.04, -0.3), (_OUT, _OUT), lean=0.1),
        Key((0.14, 0.14, 0.2), (0.14, 0.14, 0.2), (0.0, 0.2, -0.24), (0.1, 0.52, 0.04, -0.3),
            (0.1, 0.52, 0.04, -0.3), ((1.0, -0.2, -0.8), (1.0, -0.2, -0.8)), lean=-0.35),
    ),
    "shot_put": (
        Key((0.06, 0.42, 0.1), (0.25, 0.3, 0.45), (-0.14, 0.68, -0.05), (0.2, -0.15, 0.0, 0.0),
            (0.24, 0.3, 0.0, 0.5), (_OUT, _DOWN), (0.6, 0.1), lean=0.55, turn=-0.9),
        Key((0.06, 0.44, 0.16), (0.5, 0.4, 0.2), (0.04, 0.84, 0.05), (0.2, -0.15, 0.0, 0.5),
            (0.24, 0.3, 0.0, 0.0), (_OUT, _OUT), side=-0.2, turn=0.1, head_pitch=-0.3),
        Key((0.04, 0.8, 0.34), (0.4, 0.05, -0.25), (0.12, 0.9, 0.16), (0.16, -0.2, 0.0, 1.0),
            (0.2, 0.3, 0.0, 0.0), (_OUT, _OUT), lean=-0.05, turn=0.9, head_pitch=-0.4),
    ),
    "speed_skating": _both_ways(
        Key((-0.14, 0.1, 0.46), (0.36, 0.1, -0.4), (0.16, 0.6, -0.1), (0.6, -0.15, 0.0, 0.1),
            (0.02, 0.12, 0.0, 0.0), (_DOWN, _OUT), (0.1, 0.1), lean=0.95, side=0.1, turn=0.3,
            head_pitch=-0.5),
        Key((0.15, 0.05, 0.35), (0.15, 0.05, 0.35), (0.06, 0.64, -0.1), (0.1, -0.4, 0.22, 0.9),
            (0.04, 0.12, 0.0, 0.0), lean=0.95, head_pitch=-0.5),
    ),
    "sprint_start": (
        Key((0.2, 0.36, 0.58), (0.2, 0.36, 0.58), (0.0, 0.74, -0.2), (0.1, -0.55, 0.0, 0.9),
            (0.1, -0.1, 0.0, 0.5), lean=1.45, head_pitch=-0.3),
        Key((0.18, 0.34, 0.5), (0.25, 0.05, -0.3), (0.0, 0.8, 0.0), (0.1, -0.55, 0.0, 1.0),
            (0.1, 0.0, 0.0, 0.7), (_DOWN, _OUT), lean=1.1, turn=0.3, head_pitch=-0.5),
        Key((0.25, 0.0, -0.35), (0.12, 0.5, 0.4), (0.0, 0.86, 0.15), (0.1, 0.45, 0.4, 0.2),
            (0.1, -0.4, 0.0, 1.0), (_OUT, _DOWN), lean=0.7, turn=-0.4, head_pitch=-0.4),
    ),
    "sumo_stomp": _both_ways(
        Key((0.34, -0.1, 0.3), (0.34, -0.1, 0.3), _LOW, (0.4, 0.0, 0.0, 0.0), (0.4, 0.0, 0.0, 0.0),
            (_OUT, _OUT), (1.2, 1.2), lean=0.35),
        Key((0.34, -0.1, 0.25), (0.3, -0.1, 0.25), (0.34, 0.84, 0.0), (0.72, 0.0, 0.62, 0.2),
            (0.36, 0.0, 0.0, 0.0), (_OUT, _OUT), (1.0, 0.6), lean=0.1, side=0.5),
    ),
    "tai_chi_push": (
        Key((0.12, 0.16, 0.22), (0.12, 0.16, 0.22), (0.0, 0.74, -0.16), (0.15, -0.34, 0.0, 0.0),
            (0.12, 0.4, 0.0, -0.3), (_DOWN, _DOWN), (0.7, 0.1)),
        Key((0.14, 0.32, 0.52), (0.14, 0.32, 0.52), (0.0, 0.72, 0.2), (0.15, -0.34, 0.0, 0.2),
            (0.12, 0.4, 0.0, 0.0), (_DOWN, _DOWN), (0.5, 0.1), lean=0.1),
        Key((0.0, 0.38, 0.28), (0.0, -0.04, 0.3), (0.0, 0.76, 0.0), (0.15, -0.34, 0.0, 0.0),
            (0.12, 0.4, 0.0, 0.0), (_OUT, _OUT), (0.7, 0.3), turn=0.6),
    ),
    "tightrope": _both_ways(
        Key((0.62, 0.5, 0.0), (0.6, 0.1, 0.1), (0.02, 0.89, 0.0), (-0.02, 0.24, 0.0, 0.0),
            (-0.02, -0.26, 0.0, 0.4), (_OUT, _OUT), side=0.3, head_pitch=0.3),
        Key((0.6, 0.3, 0.05), (0.6, 0.36, 0.05), (-0.03, 0.9, 0.0), (-0.02, 0.0, 0.0, 0.0),
            (0.1, 0.02, 0.3, 0.5), (_OUT, _OUT), side=-0.1, head_pitch=0.3),
    ),
    "wood_chop": (
        Key((0.03, 0.8, -0.06), (0.03, 0.8, -0.06), (0.0, 0.9, 0.05), (0.26, 0.0, 0.0, 0.1),
            (0.26, 0.0, 0.0, 0.1), (_OUT, _OUT), lean=-0.25, head_pitch=-0.2),
        Key((0.03, 0.55, 0.46), (0.03, 0.55, 0.46), (0.0, 0.84, 0.0), (0.26, 0.0, 0.0, 0.0),
            (0.26, 0.0, 0.0, 0.0), (_OUT, _OUT), (0.4, 0.4), lean=0.25),
        Key((0.03, 0.0, 0.5), (0.03, -0.04, 0.5), (0.0, 0.7, -0.16), (0.26, 0.0, 0.0, 0.0),
            (0.26, 0.0, 0.0, 0.0), (_OUT, _OUT), (0.6, 0.6), lean=1.0, head_pitch=-0.1),
        Key((0.1, 0.3, 0.36), (-0.1, 0.2, 0.36), (0.0, 0.86, 0.0), (0.26, 0.0, 0.0, 0.0),
            (0.26, 0.0, 0.0, 0.0), (_OUT, _OUT), (0.3, 0.3), lean=0.2, turn=-0.4),
    ),
}  # fmt: skip
"""Name → key poses of a loop, evenly spaced in time. None is in `worlds.motions.MOTIONS`."""


def unseen_motion(name: str, rng: random.Random, frames: int, heading: float = 0.0) -> list[Pose]:
    """Make one cycle of an unseen movement.

    Args:
        name: a key of `UNSEEN`.
        rng: varies the key poses a little, and the phase.
        frames: number of poses, at least 1.
        heading: radians to the avatar's left; 0 faces the viewer, pi turns the back to it.

    Raises:
        KeyError: there is no such movement.
    """
    keys = [_varied(key, rng) for key in UNSEEN[name]]
    start = rng.random()
    poses: list[Pose] = []
    right = left = None
    for i in range(frames):
        key = _between(keys, (start + i / frames) % 1.0)
        pose = posed(
            arm_to(key.right, key.elbows[0]), arm_to(key.left, key.elbows[1]), pelvis=key.pelvis,
            right_foot=key.right_foot, left_foot=key.left_foot, knees=key.knees, lean=key.lean,
            side=key.side, turn=key.turn, head_yaw=key.head_yaw, head_pitch=key.head_pitch,
        )  # fmt: skip
        right, left = settled(pose.right, right), settled(pose.left, left)
        # After the limits: training motions never turn their backs, and these may.
        poses.append(replace(within_limits(replace(pose, right=right, left=left)), yaw=heading))
    return poses


def _numbers(key: Key, name: str) -> np.ndarray:
    return np.asarray(getattr(key, name), float)


def _rebuilt(values: dict[str, np.ndarray]) -> Key:
    """A key from arrays, with tuples of floats in it, which the inverse kinematics take."""

    def plain(value: object) -> object:
        return tuple(map(plain, value)) if isinstance(value, list) else value

    return Key(**{name: plain(value.tolist()) for name, value in values.items()})


def _varied(key: Key, rng: random.Random) -> Key:
    values = {f.name: _numbers(key, f.name) for f in fields(key)}
    for name in ("right", "left", "lean", "side", "turn", "head_yaw", "head_pitch"):
        shape = values[name].shape
        noise = [rng.uniform(-_VARIED, _VARIED) for _ in range(values[name].size)]
        values[name] = values[name] + np.reshape(noise, shape)
    return _rebuilt(values)


def _between(keys: Sequence[Key], cycle: float) -> Key:
    """The loop at a time 0..1: a curve through the keys (Catmull and Rom 1974)."""
    place = cycle * len(keys)
    i, k = int(place), place % 1.0
    values = {}
    for field in fields(Key):
        before, a, b, after = (_numbers(keys[(i + j) % len(keys)], field.name)
                               for j in (-1, 0, 1, 2))
        rise = k * k * (3 - 2 * k)
        values[field.name] = (1 - rise) * a + rise * b + k * (1 - k) * (
            (1 - k) * (b - before) / 2 - k * (after - a) / 2
        )
    return _rebuilt(values)
