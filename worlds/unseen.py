"""Write the set of unseen poses: ``python -m worlds.unseen`` fills ``assets/poses-unseen``.

The clips stand for poses of other people, which no training run ever sees, and differ from the
training data in three ways:

* their movements are those of `worlds.unseen_motions`;
* bodies have other proportions than the doll, which training never varies but for its width, and
  cameras see them in perspective, turned, tilted, from the side and from behind, where training's
  are orthographic and upright;
* most come with the errors of a pose found in pictures. Some are found: the movement is drawn by
  the renderer, the picture squeezed and tilted, and `pipelines.extract` looks for the pose in it.
  Others get such errors by chance (`as_found`).

``python -m evaluation.avatar_sd`` measures the model on them, ``python -m evaluation.novelty`` how
far they are from the nearest training frame. Each file is 16 frames of OpenPose JSON at 8 frames a
second. Another seed makes a set of other phases and errors.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.extract import extract_clip
from pipelines.paths import ASSETS
from pipelines.pose import PoseClip
from pipelines.pose_json import dump_openpose_json
from worlds.body import Pose, Skeleton, forward_kinematics, rot_x
from worlds.data import FRAMES
from worlds.looks import Look, random_look
from worlds.motions import FPS
from worlds.render import HEAD_SCALE, Camera, Frame, joint_places, render, towards_viewer
from worlds.unseen_motions import unseen_motion

UNSEEN_POSES = ASSETS / "poses-unseen"

SEED = 20_001
"""Of the set that ships."""

_TRUNK = [1, 2, 5, 8, 11]  # joints that detectors hardly ever put elsewhere
_EYE_HEIGHT = 0.95  # metres above the floor of what every lens points at


@dataclass(frozen=True)
class Body:
    """Proportions, each relative to the doll's.

    Attributes:
        torso: length of the trunk.
        width: of shoulders and hips.
        arm: length of the arms.
        leg: length of the legs.
        head: size of the head.
    """

    torso: float = 1.0
    width: float = 1.0
    arm: float = 1.0
    leg: float = 1.0
    head: float = 1.0


@dataclass(frozen=True)
class Lens:
    """A pinhole camera that points at the middle of the body.

    Attributes:
        distance: metres to the body; the nearer, the stronger the perspective.
        pitch: radians that it looks down; negative looks up.
        roll: radians that the picture is tilted clockwise.
        width: of the picture in pixels.
        height: of the picture in pixels.
    """

    distance: float = 4.0
    pitch: float = 0.05
    roll: float = 0.0
    width: int = 480
    height: int = 640


@dataclass(frozen=True)
class Recipe:
    """How a clip of the set is made.

    Attributes:
        motion: a key of `worlds.unseen_motions.UNSEEN`, and the name of the file.
        heading: radians to the avatar's left; 0 faces the camera.
        body: whose body.
        lens: seen by which camera.
        source: "exact" as computed, "found" with a detector's errors by chance, or "extracted" from
            drawn pictures, which show the doll's own body.
    """

    motion: str
    heading: float
    body: Body = Body()
    lens: Lens = Lens()
    source: str = "exact"


CHILD = Body(torso=0.7, width=0.75, arm=0.66, leg=0.62, head=0.72)
LONG_LEGGED = Body(torso=0.92, width=0.9, arm=1.1, leg=1.28, head=0.68)
STOCKY = Body(torso=1.02, width=1.3, arm=0.88, leg=0.78, head=0.78)
ADULT = Body(torso=1.02, width=1.0, arm=1.02, leg=1.04, head=0.65)
"""A grown person: the doll's head is drawn larger than life."""

WIDE = Lens(distance=1.9, pitch=0.0)
ABOVE = Lens(distance=2.8, pitch=0.42)
BELOW = Lens(distance=2.6, pitch=-0.3)
TILTED = Lens(roll=0.16)
FILM = Lens(roll=-0.1, width=640, height=360)

RECIPES = (
    Recipe("arabesque", 0.9, LONG_LEGGED),
    Recipe("archery", 0.3, ADULT, TILTED, "found"),
    Recipe("cartwheel_ready", 0.0, CHILD, WIDE),
    Recipe("climbing", 2.8, ADULT, BELOW, "found"),
    Recipe("fencing_lunge", 0.7, lens=FILM, source="extracted"),
    Recipe("flamenco_arms", -0.4, ADULT, BELOW),
    Recipe("freestyle_swim", 0.5, STOCKY, FILM, "found"),
    Recipe("hula", 0.2, lens=TILTED, source="extracted"),
    Recipe("karate_block", 0.5, CHILD, TILTED, "found"),
    Recipe("moonwalk", -1.5, LONG_LEGGED, FILM, "found"),
    Recipe("rowing", 0.6, ADULT, ABOVE),
    Recipe("shot_put", 0.6, STOCKY, Lens(), "found"),
    Recipe("speed_skating", 0.4, lens=FILM, source="extracted"),
    Recipe("sprint_start", 0.9, LONG_LEGGED, WIDE),
    Recipe("sumo_stomp", 0.0, STOCKY, ABOVE),
    Recipe("tai_chi_push", -0.7, lens=TILTED, source="extracted"),
    Recipe("tightrope", 0.4, CHILD, ABOVE, "found"),
    Recipe("wood_chop", -0.7, lens=Lens(pitch=0.3), source="extracted"),
)
"""The set, in the order of its files."""


def reshaped(skeleton: Skeleton, body: Body) -> dict[str, NDArray[np.float64]]:
    """Give a posed doll other proportions; every bone keeps its direction.

    Args:
        skeleton: of `worlds.body.forward_kinematics`.
        body: the proportions.

    Returns:
        Joints as in `Skeleton.joints`, with the ankles' lower one as high as before.
    """
    old, torso, hips = skeleton.joints, skeleton.frames["torso"], skeleton.frames["hips"]

    def grown(frame: NDArray[np.float64], bone: NDArray[np.float64]) -> NDArray[np.float64]:
        return frame @ (frame.T @ bone * [body.width, body.torso, 1.0])

    new = {"pelvis": old["pelvis"]}
    new["waist"] = new["pelvis"] + body.torso * (old["waist"] - old["pelvis"])
    new["neck"] = new["waist"] + grown(torso, old["neck"] - old["waist"])
    new["head"] = new["neck"] + body.head * (old["head"] - old["neck"])
    for side in "RL":
        new[side + "sh"] = new["waist"] + grown(torso, old[side + "sh"] - old["waist"])
        new[side + "hp"] = new["pelvis"] + grown(hips, old[side + "hp"] - old["pelvis"])
        for limb, factor in (("sh el wr", body.arm), ("hp kn an", body.leg)):
            above, *below = (side + joint for joint in limb.split())
            for joint in below:
                new[joint] = new[above] + factor * (old[joint] - old[above])
                above = joint
    sunk = min(min(new[s + "an"][1] - old[s + "an"][1] for s in "RL"), 0.0)
    return {name: place - [0.0, sunk, 0.0] for name, place in new.items()}


def seen_through(poses: Sequence[Pose], body: Body, lens: Lens) -> PoseClip:
    """Project a movement of a body to the picture of a camera.

    Confidence is 1, or 0 for joints outside the picture and face points that look away.
    """
    seen = []
    for pose in poses:
        skeleton = forward_kinematics(pose)
        head = skeleton.frames["head"]
        joints = reshaped(skeleton, body)
        seen.append(projected(joint_places(joints, head, HEAD_SCALE * body.head), head, lens))
    places, confidences = zip(*seen, strict=True)
    return PoseClip(np.stack(places), np.stack(confidences), None, lens.width, lens.height)


def projected(
    world: NDArray[np.float64], head: NDArray[np.float64], lens: Lens
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Project a person's joints to the picture of a camera.

    Args:
        world: places of the joints in metres, as `worlds.render.joint_places` has them, [18, 3].
        head: rotation of the head, [3, 3].
        lens: the camera.

    Returns:
        Pixels [18, 2], and which joints are within the picture and not hidden by the head, [18].
    """
    view = rot_x(lens.pitch)
    turn = np.array([[math.cos(lens.roll), -math.sin(lens.roll)],
                     [math.sin(lens.roll), math.cos(lens.roll)]])  # fmt: skip
    middle = np.array([lens.width - 1, lens.height - 1]) / 2
    focal = 0.42 * lens.height * lens.distance  # the body takes most of the picture's height
    at = (world - [0.0, _EYE_HEIGHT, 0.0]) @ view.T
    flat = at[:, :2] * [1, -1] * (focal / (lens.distance - at[:, 2:])) @ turn.T + middle
    inside = ((flat >= 0) & (flat <= 2 * middle)).all(1)
    return flat, inside & towards_viewer(view @ head)


def as_found(clip: PoseClip, rng: np.random.Generator) -> PoseClip:
    """Add the errors of a pose detector that looks at one frame after another.

    Joints tremble by some hundredths of the torso's length, wrists and ankles twice as much as the
    trunk, partly the same way from frame to frame; one in forty off the trunk is put elsewhere for
    a frame; now and then one is lost for one to three frames. The confidence tells of it as far as
    a detector knows.
    """
    frames = len(clip)
    torso = float(np.median(np.linalg.norm(clip.keypoints[:, 1] - clip.keypoints[:, 8], axis=-1)))
    ends = np.isin(np.arange(18), (4, 7, 10, 13))
    size = 0.03 * torso * np.where(ends, 2.0, 1.0)[:, None]
    shake = rng.normal(size=(frames, 18, 2))
    for t in range(1, frames):
        shake[t] = 0.6 * shake[t - 1] + 0.8 * shake[t]
    lapse = (rng.random((frames, 18, 1)) < 0.025) * rng.normal(0, 0.25 * torso, (frames, 18, 2))
    lapse[:, _TRUNK] = 0.0
    confidence = clip.confidence * np.clip(rng.normal(0.8, 0.12, (frames, 18)), 0.3, 0.98)
    confidence[np.abs(lapse).any(-1)] *= 0.5
    for joint in range(18):
        for t in np.flatnonzero(rng.random(frames) < (0.05 if ends[joint] else 0.02)):
            confidence[t : t + rng.integers(1, 4), joint] = 0.0
    places = clip.keypoints + size * shake + lapse
    return PoseClip(places, confidence, None, clip.width, clip.height)


def drawn(recipe: Recipe, look: Look, seed: int = SEED) -> list[Frame]:
    """Draw a recipe's movement as the renderer draws it: the doll's body, an upright camera.

    Args:
        recipe: says which movement, and how it is turned.
        look: who does it.
        seed: of the set.
    """
    return [render(look, pose, Camera(recipe.lens.pitch, focus=0.9))
            for pose in _poses(recipe, seed)]


def _poses(recipe: Recipe, seed: int) -> list[Pose]:
    rng = random.Random(f"{seed} {recipe.motion}")
    return unseen_motion(recipe.motion, rng, FRAMES, recipe.heading)


def _photographed(frames: Sequence[Frame], lens: Lens) -> list[NDArray[np.uint8]]:
    """Bring drawn frames to a lens's picture, tilted by its roll, and squeezed to 0.85 in width."""
    side = frames[0].image.shape[0]
    scale = lens.height / side
    cos, sin = scale * math.cos(lens.roll), scale * math.sin(lens.roll)
    matrix = np.array([[0.85 * cos, -sin, 0.0], [0.85 * sin, cos, 0.0]])
    middle = np.array([side - 1, side - 1]) / 2
    matrix[:, 2] = np.array([lens.width - 1, lens.height - 1]) / 2 - matrix[:, :2] @ middle
    size = (lens.width, lens.height)
    return [cv2.warpAffine(f.image, matrix, size, borderMode=cv2.BORDER_REPLICATE) for f in frames]


def unseen_clip(recipe: Recipe, seed: int = SEED) -> PoseClip:
    """Make one clip.

    Args:
        recipe: how.
        seed: of the set.

    Raises:
        PoseError: nothing can be extracted from the pictures.
        MissingWeights: it is to be extracted and the pose models have not been fetched.
    """
    if recipe.source == "extracted":
        look = random_look(random.Random(f"{seed} {recipe.motion} look"))
        pictures = _photographed(drawn(recipe, look, seed), recipe.lens)
        return extract_clip(pictures, (FRAMES - 1) / FPS)
    clip = seen_through(_poses(recipe, seed), recipe.body, recipe.lens)
    if recipe.source == "found":
        number = random.Random(f"{seed} {recipe.motion} errors").getrandbits(32)
        clip = as_found(clip, np.random.default_rng(number))
    return clip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m worlds.unseen", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    p.add_argument("--out", type=Path, default=UNSEEN_POSES, metavar="FOLDER",
                   help="default: assets/poses-unseen")
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the set."""
    args = parser().parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    for recipe in RECIPES:
        clip = unseen_clip(recipe, args.seed)
        (args.out / f"{recipe.motion}.json").write_text(dump_openpose_json(clip) + "\n")
    print(f"{len(RECIPES)} clips in {args.out}")


if __name__ == "__main__":
    main()
