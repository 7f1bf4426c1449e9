"""Write the library of pose clips: ``python -m worlds.poses`` fills ``assets/poses``.

Each is 16 frames of OpenPose JSON at 8 frames a second, from a motion and a seed that no data set
uses.
"""

from __future__ import annotations

import random

import numpy as np

from pipelines.paths import ASSETS
from pipelines.pose import PoseClip, dump_openpose_json
from worlds.data import FRAMES
from worlds.looks import Look
from worlds.motions import MOTIONS
from worlds.render import SIZE, Camera, render

LIBRARY = (
    "wave",
    "walk",
    "run",
    "jumping_jack",
    "disco",
    "twist",
    "robot",
    "plie",
    "cheer",
    "clap",
    "stand",
    "look_around",
    "march",
    "jump",
    "kick",
    "punch",
    "throw",
    "tennis",
    "golf",
    "tree",
    "warrior",
    "stretch_up",
    "stretch_side",
    "squat",
    "lunge",
    "tie_shoe",
    "sit",
    "bow",
    "point_up",
    "point_side",
    "military_salute",
    "hand_on_heart",
    "arms_crossed",
    "think",
    "kneel_right",
    "kneel_left",
    "kneel_both",
    "kneel_down",
    "kneel_bow",
)
SEED = 77


def library_clip(name: str) -> PoseClip:
    """The library's clip of a motion, seen straight on by a fixed camera."""
    poses = MOTIONS[name].make(random.Random(SEED), FRAMES)
    frames = [render(Look(), pose, Camera(pitch=0.12)) for pose in poses]
    return PoseClip(
        np.stack([f.keypoints for f in frames]),
        np.stack([f.confidence for f in frames]),
        None,
        SIZE,
        SIZE,
    )


def main() -> None:
    """Write the library."""
    folder = ASSETS / "poses"
    folder.mkdir(parents=True, exist_ok=True)
    for name in LIBRARY:
        (folder / f"{name}.json").write_text(dump_openpose_json(library_clip(name)) + "\n")
    print(f"{len(LIBRARY)} clips in {folder}")


if __name__ == "__main__":
    main()
