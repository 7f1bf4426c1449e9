"""Scenes that are asked of the animation model to measure it, and its clips of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.frames import Frames, resized
from pipelines.animation import AnimationEngine, PairResult
from pipelines.extract import extract_pose, load_picture
from pipelines.pose import PoseClip, PoseError
from pipelines.pose_json import load_openpose_json
from worlds.data import HELD_OUT_SEED, AvatarSet
from worlds.looks import caption, random_look

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of the photographs that `pose_scenes` takes."""

POSES_SEED = HELD_OUT_SEED + 900_001
"""Draws the look that is asked of the first clip of `pose_scenes`."""


@dataclass(frozen=True)
class Scene:
    """A held-out clip: what is asked of the model, and how it looks rendered.

    Attributes:
        pose: its joints, in pixels of the model's frame, as many frames as the model makes.
        judged: bool [F, 18], joints that are asked for and truly there: the pose bridges short
            gaps, but a joint that was interpolated is not held against the model.
        caption: the prompt.
        look: what the caption says, the fields of `worlds.looks.Look`.
        rendered: RGB uint8 [F, S, S, 3]; None where nothing was rendered.
        figure: bool [F, S, S], where the rendered figure is; None likewise.
    """

    pose: PoseClip
    judged: NDArray[np.bool_]
    caption: str
    look: dict[str, Any]
    rendered: Frames | None = None
    figure: NDArray[np.bool_] | None = None


def scenes(data: AvatarSet, count: int, size: int, frames: int) -> Iterator[Scene]:
    """Bring the first ``count`` clips of a set to the model's frame size and number of frames."""
    for clip in list(data.clips())[:count]:
        joints = np.asarray(data.keypoints[clip.start : clip.stop])
        side = data.images.shape[1]
        whole = PoseClip(joints[..., :2], joints[..., 2], None, side, side)
        nearest = np.linspace(0, len(clip) - 1, frames).round().astype(int)
        pose = whole.to_square(size).resample(frames)
        chosen = [clip[i] for i in nearest]
        masks = np.stack([data.mask(i) for i in chosen]).astype(np.uint8)
        yield Scene(
            pose,
            pose.seen & whole.seen[nearest],
            data.meta[clip[0]]["caption"],
            data.meta[clip[0]]["look"],
            resized(np.stack([data.images[i] for i in chosen]), size),
            resized(masks * 255, size) > 127,
        )


def pose_scenes(folder: Path, size: int, frames: int) -> list[Scene]:
    """Read a folder of OpenPose JSON clips and photographs, fitted to the model's frame.

    Prompts are captions of looks drawn by the file's number, in the order of the files' names.

    Args:
        folder: holds ``.json`` files, or pictures (`PICTURES`), whose poses are extracted.
        size: side of the model's frame.
        frames: of the model's clips.

    Raises:
        PoseError: there is no such file, or one is not a usable clip; the message names it.
        MissingWeights: there is a picture and the pose models have not been fetched.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in (".json", *PICTURES))
    if not files:
        raise PoseError(
            f"{folder} holds no .json file and no picture; wanted OpenPose JSON, one clip a file, "
            "or photographs"
        )
    asked = []
    for number, file in enumerate(files):
        try:
            if file.suffix.lower() in PICTURES:
                clip = extract_pose(load_picture(file))
            else:
                clip = load_openpose_json(file)
            asked.append(scene_of(clip, number, size, frames))
        except PoseError as error:
            raise PoseError(f"{file.name}: {error}") from error
    return asked


def scene_of(clip: PoseClip, number: int, size: int, frames: int) -> Scene:
    """Fit a clip to the model's frame and ask for a look that is drawn by its number.

    Args:
        clip: of any size and length.
        number: of the clip.
        size: side of the model's frame.
        frames: of the model's clips.

    Raises:
        PoseError: the clip shows nobody.
    """
    whole = clip.fit(size)
    nearest = np.linspace(0, len(whole) - 1, frames).round().astype(int)
    pose = whole.resample(frames)
    look = random_look(random.Random(POSES_SEED + number))
    return Scene(pose, pose.seen & clip.seen[nearest], caption(look), asdict(look))


def generate(engine: AnimationEngine, scene: Scene, seed: int) -> PairResult:
    """Make a scene's clip at the profile's own settings, unguarded."""
    *_, result = engine.pair(scene.pose, scene.caption, {}, seed)
    return result
