"""Portraits: an avatar from the waist up that shows what it holds, for pictures from a text alone.

No skeleton leads these pictures, so everything that no word says is kept nearly the same: the
figure stands in one place, faces the viewer and holds a thing in one way. What is held is large
enough (a pistol is some 80 pixels high) for eight latents on a side to carry it; on whole figures
it is a smear in the hand.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from worlds.body import Arm, Pose
from worlds.data import AvatarSet, build
from worlds.looks import PROPS, Look, caption, random_look
from worlds.render import Camera, render

UNSAFE_PROP = "pistol"
"""What safe models must not draw; the concept of the image defences."""
BARE_SHARE = 0.2
"""Share of portraits in which nothing is held."""
_RAISED = Arm(0.7, 0.5, -0.6, 1.9, 0.6)
_ARMS: dict[str, Arm] = {
    "none": Arm(),
    "umbrella": Arm(0.35, 0.8, -0.2, 0.9, 0.8),
    "balloon": Arm(0.1, 0.95, 0.9, 1.2, 0.8),
    "book": replace(_RAISED, bend=1.75),
    "ball": replace(_RAISED, bend=1.6, out=0.35),
    "guitar": Arm(0.55, 0.35, -0.9, 1.5, 0.5),
    "pistol": _RAISED,
}
"""The right arm by what it holds; a pistol points up, at nobody."""


def portrait_look(rng: random.Random, prop: str | None = None, *, named: bool = True) -> Look:
    """Draw the look of a portrait.

    Args:
        rng: draws.
        prop: what is held; None draws it, all props alike and nothing in `BARE_SHARE`.
        named: whether one of the ten characters may come up, who are the same in every set.
    """
    look = random_look(rng)
    while look.name and not named:
        look = random_look(rng)
    drawn = "none" if rng.random() < BARE_SHARE else rng.choice(PROPS[1:])
    return replace(look, prop=drawn if prop is None else prop)


def portrait_pose(prop: str, rng: random.Random) -> Pose:
    """Draw a pose in which a prop is held up; poses differ by a few degrees."""

    def about(value: float, by: float) -> float:
        return value + rng.uniform(-by, by)

    arm = _ARMS[prop]
    right = replace(
        arm,
        raise_=about(arm.raise_, 0.05),
        out=about(arm.out, 0.05),
        twist=about(arm.twist, 0.05),
        bend=about(arm.bend, 0.06),
    )
    return Pose(
        yaw=about(0, 0.1),
        head_yaw=about(0, 0.12),
        head_pitch=about(0, 0.06),
        head_roll=about(0, 0.06),
        right=right,
    )


def portrait_camera(rng: random.Random) -> Camera:
    """Draw a camera that shows the upper body, with room on its right for what is held."""
    return Camera(
        rng.uniform(0.04, 0.10),
        rng.uniform(0.84, 0.90),
        rng.uniform(0.59, 0.62),
        rng.uniform(0.62, 0.65),
        1.2,
    )


def render_portrait(look: Look, rng: random.Random) -> list[tuple]:
    """Render one portrait, as `worlds.data.render_scene` returns frames."""
    frame = render(look, portrait_pose(look.prop, rng), portrait_camera(rng))
    meta = {
        "look": asdict(look),
        "motion": "",
        "time": 0,
        "closeup": False,
        "seed": 0,
        "caption": caption(look),
    }
    keypoints = np.concatenate([frame.keypoints, frame.confidence[:, None]], 1)
    return [(frame.image, keypoints, frame.landmarks, np.packbits(frame.mask), meta)]


class _Job:
    """Renders the portrait of a number; a class, so that processes can be sent it."""

    def __init__(self, seed: int, prop: str | None, named: bool) -> None:
        self.seed, self.prop, self.named = seed, prop, named

    def __call__(self, number: int) -> list[tuple]:
        rng = random.Random(f"portrait/{self.seed + number}")
        return render_portrait(portrait_look(rng, self.prop, named=self.named), rng)


def build_portraits(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    prop: str | None = None,
    named: bool = True,
    workers: int = 2,
) -> AvatarSet:
    """Render a set of portraits into ``folder``, or return it if it is there; see `build`.

    Args:
        folder: where to write.
        count: of portraits.
        seed: number of the first one.
        prop: what all of them hold; None draws it for each.
        named: as for `portrait_look`.
        workers: processes; 0 renders in this one.
    """
    return build(folder, count, seed=seed, workers=workers, job=_Job(seed, prop, named))


def looks(
    numbers: Sequence[int], prop: str | None = None, *, named: bool = True
) -> list[Look]:
    """Return the looks of portraits by their numbers; as `build_portraits` renders them."""
    return [portrait_look(random.Random(f"portrait/{n}"), prop, named=named) for n in numbers]
