"""Write the library of pose clips: ``python -m worlds.poses`` fills ``assets/poses``.

Each is 16 frames of OpenPose JSON at 8 frames a second: a body from a motion and a seed that no
data set uses, or a face close-up: 68 landmarks and no joints, as the model's close-ups are led.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np

from pipelines.paths import ASSETS
from pipelines.pose import PoseClip
from pipelines.pose_json import dump_openpose_json
from worlds.body import Pose, forward_kinematics, rot_x
from worlds.data import FRAMES
from worlds.looks import EXPRESSIONS, Look
from worlds.motions import MOTIONS
from worlds.render import HEAD_SCALE, SIZE, Camera, face_landmarks, render

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
    """The library's clip of a motion: seen straight on by a fixed camera, fitted to the frame.

    Visitors' own poses are fitted, too; and the larger a figure, the more of it is drawn.
    """
    poses = MOTIONS[name].make(random.Random(SEED), FRAMES)
    frames = [render(Look(), pose, Camera(pitch=0.12)) for pose in poses]
    return PoseClip(
        np.stack([f.keypoints for f in frames]),
        np.stack([f.confidence for f in frames]),
        None,
        SIZE,
        SIZE,
    ).fit(SIZE)


FACES: dict[str, Callable[[float], Pose]] = {
    "face_nod": lambda c: Pose(head_pitch=0.1 + 0.24 * math.sin(2 * math.tau * c)),
    "face_shake": lambda c: Pose(head_yaw=0.5 * math.sin(2 * math.tau * c)),
    "face_look_up": lambda c: Pose(head_pitch=-0.25 + 0.25 * math.cos(math.tau * c)),
    "face_tilt": lambda c: Pose(head_roll=0.2 * math.sin(math.tau * c)),
}
"""Name → head at a time 0..1 of the loop. A mouth that talks or laughs is not among them: the model
follows a head, but draws nearly the same closed mouth whatever its landmarks do."""


def face_clip(name: str) -> PoseClip:
    """The library's close-up of a face, seen straight on as training's close-ups are.

    Args:
        name: a key of `FACES`.
    """
    camera = Camera(pitch=0.05, scale=1.75, x=0.5, y=0.52, focus=None)  # of `closeup_camera`
    view, landmarks = rot_x(camera.pitch), face_landmarks(EXPRESSIONS["neutral"])
    faces = []
    for t in range(FRAMES):
        head = forward_kinematics(FACES[name](t / FRAMES)).frames["head"]
        points = HEAD_SCALE * landmarks @ (view @ head).T
        faces.append((points[:, :2] * [1, -1] * camera.scale + [camera.x, camera.y]) * SIZE)
    nothing = np.zeros((FRAMES, 18, 2))
    return PoseClip(nothing, nothing[..., 0], np.stack(faces), SIZE, SIZE)


def main() -> None:
    """Write the library."""
    folder = ASSETS / "poses"
    folder.mkdir(parents=True, exist_ok=True)
    clips = {name: library_clip(name) for name in LIBRARY}
    clips |= {name: face_clip(name) for name in FACES}
    for name, clip in clips.items():
        (folder / f"{name}.json").write_text(dump_openpose_json(clip) + "\n")
    print(f"{len(clips)} clips in {folder}")


if __name__ == "__main__":
    main()
