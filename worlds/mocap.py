"""Poses of real people, recorded by motion capture: ``python -m worlds.mocap`` writes them.

`worlds.unseen` makes up what other people's poses could be; these are some. They are the fifteen
recordings that DeepMimic learnt from (Peng et al. 2018, arXiv 1804.02717), walking, running, fights
and dances, somersaults and getting up, as the package pybullet carries them (zlib licence). The
package is downloaded once (100 MB) and not installed, and nothing of it is in the repository.

Each recording is cut into clips of two seconds, 16 frames at 8 a second; one that loops goes on
from its beginning, one that does not stays at its end. Every clip is seen by two cameras that
follow the body, one a little to its left, one further to its right. The joints are those of the
recorded body, with the head of a grown person, which is not recorded.

The doll can do the same movements (`drawn`): its own bones, pointing where the recorded ones do.

``python -m evaluation.motion_capture`` measures the model on them.
"""

from __future__ import annotations

import argparse
import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipelines.fetch import Progress, ensure_files
from pipelines.paths import REPO
from pipelines.pose import PoseClip
from pipelines.pose_json import dump_openpose_json
from pipelines.profiles import WheelSpec
from worlds.body import Skeleton, lowest, place_joints, rot_y
from worlds.data import FRAMES
from worlds.looks import Look
from worlds.motions import FPS
from worlds.render import HEAD_SCALE, Camera, Frame, joint_places, render_skeleton
from worlds.unseen import ADULT, Lens, projected

WHEEL = WheelSpec(
    "pybullet==3.2.7", "5d858abf7c12a21ef3ed351cf81dac1b5e486ec25c9ab59bfc84beb89034edff"
)
POSES = REPO / "checkpoints" / "poses-mocap"

HEADINGS = (0.35, -0.8)
"""Radians by which a clip begins turned to the person's left, as the two cameras see it."""
LENS = Lens(distance=3.6, pitch=0.08)

_BODY = "humanoid.urdf"
_PREFIX = "humanoid3d_"
_URDF_SCALE = 0.25  # metres of a unit: the model is built four times life size
_TO_DOLL = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""From the recordings' axes, x forward, y up, z to the right, to those of `worlds.body`."""
_ROOT, _BALLS = slice(4, 8), {
    "chest": slice(8, 12), "neck": slice(12, 16),
    "right_hip": slice(16, 20), "right_ankle": slice(21, 25), "right_shoulder": slice(25, 29),
    "left_hip": slice(30, 34), "left_ankle": slice(35, 39), "left_shoulder": slice(39, 43),
}  # fmt: skip
_HINGES = {"right_knee": 20, "right_elbow": 29, "left_knee": 34, "left_elbow": 43}
"""Where a frame of a recording holds the joints: quaternions, the real part first, and angles of
hinges in radians. Before them are the frame's seconds and the place of the hips."""
_COLUMNS = 44
_HEAD_UP = 0.175  # metres from the joint of the neck to the middle of the head


@dataclass(frozen=True)
class Recording:
    """One movement of one person.

    Attributes:
        name: what the person does.
        seconds: float [N], when each frame was taken.
        values: float [N, 44], see `_ROOT`, `_BALLS` and `_HINGES`.
        loops: whether it goes on from its beginning.
    """

    name: str
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    loops: bool

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a recording in DeepMimic's format.

        Raises:
            ValueError: the file holds something else; the message names it.
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        values = np.asarray(data["Frames"], float)
        if values.ndim != 2 or values.shape[1] != _COLUMNS or len(values) < 2:
            raise ValueError(f"{path.name} has frames of shape {values.shape}, not [N, {_COLUMNS}]")
        seconds = np.concatenate([[0.0], np.cumsum(values[:-1, 0])])
        return cls(path.stem.removeprefix(_PREFIX), seconds, values, data["Loop"] == "wrap")

    def clips(self) -> list[NDArray[np.float64]]:
        """Cut it into clips of two seconds, float [16, 44] each, by the nearest frames."""
        length, clip = self.seconds[-1], FRAMES / FPS
        chosen = []
        for number in range(max(1, round(length / clip))):
            times = number * clip + np.arange(FRAMES) / FPS
            times = times % length if self.loops else np.minimum(times, length)
            nearest = np.abs(self.seconds - times[:, None]).argmin(1)
            chosen.append(self.values[nearest])
        return chosen


def recordings(on_progress: Progress | None = None) -> tuple[list[Recording], dict]:
    """Return all recordings by name, and the recorded body's bones (`bones_of`).

    Raises:
        RuntimeError: the package could not be downloaded.
    """
    folder = ensure_files("mocap", WHEEL, [f"*/{_BODY}", f"*/{_PREFIX}*.txt"], on_progress)
    files = sorted(folder.glob(f"{_PREFIX}*.txt"))
    return [Recording.load(path) for path in files], bones_of(folder / _BODY)


def bones_of(urdf: Path) -> dict[str, NDArray[np.float64]]:
    """Return where a body's joints sit in the part that they hang from, metres, by name."""
    text = urdf.read_text(encoding="utf-8").rstrip("\0\n")  # the package's file ends in a zero
    joints = ET.fromstring(text).iter("joint")
    return {
        joint.get("name"): _URDF_SCALE * np.array(joint.find("origin").get("xyz").split(), float)
        for joint in joints
    }


def rotations(frame: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return where each part of a recorded body points, by its joint, [3, 3] in its own axes."""
    def ball(at: slice) -> NDArray[np.float64]:
        return Rotation.from_quat(np.roll(frame[at], -1)).as_matrix()  # real part last

    turned = {"root": ball(_ROOT)}
    turned["chest"] = turned["root"] @ ball(_BALLS["chest"])
    turned["neck"] = turned["chest"] @ ball(_BALLS["neck"])
    for side in ("right", "left"):
        for base, first, hinge in (("root", "hip", "knee"), ("chest", "shoulder", "elbow")):
            upper = turned[base] @ ball(_BALLS[f"{side}_{first}"])
            bent = Rotation.from_euler("z", frame[_HINGES[f"{side}_{hinge}"]]).as_matrix()
            turned[f"{side}_{first}"], turned[f"{side}_{hinge}"] = upper, upper @ bent
        turned[f"{side}_ankle"] = turned[f"{side}_knee"] @ ball(_BALLS[f"{side}_ankle"])
    return turned


def recorded_joints(
    turned: dict[str, NDArray[np.float64]], bones: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Place the joints of the recorded body, the hips at the origin.

    Args:
        turned: of `rotations`.
        bones: of `bones_of`.

    Returns:
        In metres, by the names and in the axes of `worlds.body.Skeleton.joints`, those of which
        OpenPose knows, and the head.
    """
    places = {"root": np.zeros(3)}
    places["chest"] = turned["root"] @ bones["chest"]
    nape = places["chest"] + turned["chest"] @ bones["neck"]
    names = {"head": nape + turned["neck"] @ [0.0, _HEAD_UP, 0.0]}
    for side in ("right", "left"):
        letter = side[0].upper()
        for base, chain in (
            ("root", (("hip", "hp"), ("knee", "kn"), ("ankle", "an"))),
            ("chest", (("shoulder", "sh"), ("elbow", "el"), ("wrist", "wr"))),
        ):
            place, above = places[base], base
            for joint, short in chain:
                place = place + turned[above] @ bones[f"{side}_{joint}"]
                above = f"{side}_{joint}"
                names[letter + short] = place
    names["neck"] = (names["Rsh"] + names["Lsh"]) / 2
    return {name: _TO_DOLL @ place for name, place in names.items()}


def doll_frames(turned: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the same for the doll: `worlds.body.Skeleton.frames`.

    Args:
        turned: of `rotations`.
    """
    named = {"hips": "root", "torso": "chest", "head": "neck"}
    for side in ("right", "left"):
        parts = ("thigh hip", "shin knee", "foot ankle", "upper shoulder", "fore elbow")
        for part, joint in map(str.split, parts):
            named[side[0].upper() + part] = f"{side}_{joint}"
    return {part: _TO_DOLL @ turned[joint] @ _TO_DOLL.T for part, joint in named.items()}


def _turn(clip: NDArray[np.float64], heading: float) -> NDArray[np.float64]:
    """Return the rotation after which the hips of a clip's first frame head where they are to."""
    forward = _TO_DOLL @ rotations(clip[0])["root"] @ [1.0, 0.0, 0.0]
    return rot_y(heading - float(np.arctan2(forward[0], forward[2])))


def seen_clip(
    clip: NDArray[np.float64], bones: dict[str, NDArray[np.float64]], heading: float
) -> PoseClip:
    """Return a clip of the recorded body as a camera sees it that follows the hips.

    Args:
        clip: float [F, 44], one of `Recording.clips`.
        bones: of `bones_of`.
        heading: radians to the person's left at which the first frame faces; 0 is the camera.
    """
    turn, seen = _turn(clip, heading), []
    for frame in clip:
        turned = rotations(frame)
        head = turn @ _TO_DOLL @ turned["neck"] @ _TO_DOLL.T
        up = np.array([0.0, frame[2], 0.0])
        joints = {n: turn @ at + up for n, at in recorded_joints(turned, bones).items()}
        seen.append(projected(joint_places(joints, head, HEAD_SCALE * ADULT.head), head, LENS))
    places, confidences = zip(*seen, strict=True)
    return PoseClip(np.stack(places), np.stack(confidences), None, LENS.width, LENS.height)


def drawn(clip: NDArray[np.float64], heading: float, look: Look) -> list[Frame]:
    """Draw the doll doing what a clip's person does.

    Args:
        clip: float [F, 44], one of `Recording.clips`.
        heading: as for `seen_clip`.
        look: the doll's.
    """
    turn, posed = _turn(clip, heading), []
    for frame in clip:
        frames = {n: turn @ f for n, f in doll_frames(rotations(frame)).items()}
        posed.append((place_joints(frames, frames["hips"], look.build), frames))
    # The doll's legs are as long as a person's; what would be below the floor lifts it.
    heights = [max(frame[2], -lowest(*one)) for frame, one in zip(clip, posed, strict=True)]
    return [
        render_skeleton(
            look,
            Skeleton({n: at + [0.0, up, 0.0] for n, at in joints.items()}, frames, 0.0),
            Camera(LENS.pitch, focus=0.9),
        )
        for (joints, frames), up in zip(posed, heights, strict=True)
    ]


def cut(found: Sequence[Recording]) -> list[tuple[str, NDArray[np.float64], float]]:
    """Return all clips of some recordings: name, frames [16, 44] and heading."""
    return [
        (f"{recording.name}_{number}{'ab'[camera]}", clip, heading)
        for recording in found
        for number, clip in enumerate(recording.clips(), 1)
        for camera, heading in enumerate(HEADINGS)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the clips as OpenPose JSON."""
    p = argparse.ArgumentParser(prog="python -m worlds.mocap", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=POSES, metavar="FOLDER",
                   help="default: checkpoints/poses-mocap")
    args = p.parse_args(arguments)
    try:
        found, bones = recordings(lambda message, part: print(f"{message} {part:.0%}", flush=True))
    except RuntimeError as error:
        raise SystemExit(str(error)) from error
    args.out.mkdir(parents=True, exist_ok=True)
    clips = cut(found)
    for name, clip, heading in clips:
        text = dump_openpose_json(seen_clip(clip, bones, heading))
        (args.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(clips)} clips in {args.out}")


if __name__ == "__main__":
    main()
