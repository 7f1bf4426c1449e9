"""The library of pose clips, their thumbnails, and poses that visitors bring along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines import film
from pipelines.paths import ASSETS
from pipelines.pose import PoseClip, PoseError
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import load_openpose_json

POSES = ASSETS / "poses"

FILE_TYPES = [".json", "image", *film.FORMATS]
"""What the page offers to upload as a pose."""

MAX_UPLOAD_MB = 12
"""Largest upload that the server takes, in MB; `ui.app` sets it."""

_DECODING = 0.4  # share of a film's bar that decoding takes, the rest finds the pose
_HURRIED = 1.5  # a film that plays this many times as fast is remarked on


@dataclass(frozen=True)
class Reading:
    """How far the reading of a film is.

    Attributes:
        fraction: 0..1.
        message: what is being done.
    """

    fraction: float
    message: str


@lru_cache(maxsize=1)
def library() -> dict[str, PoseClip]:
    """Return name → clip of the poses that ship with the app, in the order of their names."""
    return {path.stem: load_openpose_json(path) for path in sorted(POSES.glob("*.json"))}


def title(name: str) -> str:
    """Return a clip's name as shown.

    ``jumping_jack`` becomes ``jumping jack``, and ``face_nod``, a close-up, ``Face: nod``.
    """
    words = name.replace("_", " ").replace("-", " ")
    return f"Face: {words.removeprefix('face ')}" if words.startswith("face ") else words


@lru_cache(maxsize=128)
def thumbnail(name: str, size: int = 144) -> Image.Image:
    """Draw a library clip as one picture: its middle frame, others faint behind it."""
    return trail(library()[name], size)


def trail(clip: PoseClip, size: int) -> Image.Image:
    """Draw a clip as one picture that shows the movement.

    Args:
        clip: any clip.
        size: side in pixels.
    """
    count = len(clip)
    frames = draw_clip(clip.fit(size), size).astype(np.float32)
    picture = frames[count // 2]
    for index in (0, count // 4, (3 * count) // 4, count - 1):
        picture = np.maximum(picture, 0.3 * frames[min(index, count - 1)])
    return Image.fromarray(picture.astype(np.uint8))


def read_pose(*paths: Path) -> PoseClip:
    """Read a pose from uploaded files that hold no film.

    Args:
        paths: OpenPose JSON, of the whole clip or one file for each frame; or one picture: a photo,
            an avatar, or a skeleton in OpenPose's colours.

    Returns:
        The clip on its own canvas; its notes name the joints that are missing.

    Raises:
        PoseError: there is no usable pose in it; the message says what was found.
        MissingWeights: a photo was given and the pose models have not been fetched.
    """
    path = paths[0]
    if path.suffix.lower() == ".json":
        return _remarked(load_openpose_json(path if len(paths) == 1 else paths))
    from pipelines.extract import NotAPicture, load_picture

    try:
        picture = load_picture(path)
    except PoseError as error:
        others = ", a video or OpenPose JSON" if isinstance(error, NotAPicture) else ""
        raise PoseError(f"{path.name}: {error}{others}") from error
    return read_picture(picture)


def read_picture(picture: NDArray[np.uint8]) -> PoseClip:
    """Find the pose in a picture.

    Args:
        picture: RGB uint8 [H, W, 3].

    Returns:
        As `read_pose`.

    Raises:
        PoseError: nobody is found in it.
        MissingWeights: the pose models have not been fetched.
    """
    from pipelines.extract import extract_pose

    return _remarked(extract_pose(picture))


def read_film(path: Path, frames: int, fps: float) -> Iterator[Reading | PoseClip]:
    """Find one person's pose in a film, a frame at a time.

    Args:
        path: mp4, webm, mov or gif.
        frames: of the clip that is wanted; as many are taken from the film, evenly.
        fps: frames per second that the clip will play at.

    Yields:
        `Reading` after each frame, and last the clip, as `read_pose` returns it. Dropping the
        iterator half-way is safe.

    Raises:
        PoseError: it cannot be read, is too long or too large, or shows nobody in many frames.
        MissingWeights: the pose models have not been fetched.
    """
    from pipelines.extract import extract_steps

    yield Reading(0.0, "Opening the video")  # some headers tell no length: it is played once
    source = film.Film.open(path)
    shots = []
    for shot in source.sample(frames):
        shots.append(shot)
        done = len(shots) / frames
        yield Reading(_DECODING * done, f"Opening the video: frame {len(shots)} of {frames}")
    for step in extract_steps(shots, source.seconds - 1 / source.fps):
        if isinstance(step, PoseClip):
            hurry = source.seconds * fps / frames
            if hurry > _HURRIED:
                step = step.with_notes(
                    f"the video's {source.seconds:.1f} s play in {frames / fps:.1f} s, {hurry:.1f} "
                    "times as fast"
                )
            yield _remarked(step)
            return
        done = _DECODING + (1 - _DECODING) * step / len(shots)
        yield Reading(done, f"Finding the pose: frame {step} of {len(shots)}")


def read_shots(paths: Sequence[Path], frames: int) -> Iterator[Reading | PoseClip]:
    """Find one person's pose in the pictures of a clip, a picture at a time.

    Args:
        paths: a picture each, in their order.
        frames: of the clip that is wanted; at most as many pictures are read, evenly taken.

    Yields:
        As `read_film`.

    Raises:
        PoseError: one cannot be read, they differ in size, or many show nobody.
        MissingWeights: the pose models have not been fetched.
    """
    from pipelines.extract import extract_steps, load_picture

    wanted = np.linspace(0, len(paths) - 1, min(len(paths), frames)).round().astype(int)
    shots = []
    for path in (paths[i] for i in wanted):
        yield Reading(_DECODING * len(shots) / len(wanted), f"Opening {path.name}")
        try:
            shots.append(load_picture(path))
        except PoseError as error:
            raise PoseError(f"{path.name}: {error}") from error
    for step in extract_steps(shots):
        if isinstance(step, PoseClip):
            if len(shots) < len(paths):
                step = step.with_notes(f"{len(shots)} of {len(paths)} pictures are taken, evenly")
            yield _remarked(step)
            return
        done = _DECODING + (1 - _DECODING) * step / len(shots)
        yield Reading(done, f"Finding the pose: picture {step} of {len(shots)}")


def placed(clip: PoseClip, size: int, fit: bool) -> PoseClip:
    """Bring a clip to the model's frame.

    Args:
        clip: any clip.
        size: side of the frame in pixels.
        fit: whether to scale and move the person so that it fills the frame; otherwise the whole
            canvas is put into it, padded to a square, and the person stays where it was.

    Returns:
        The clip with its points rounded as OpenPose JSON rounds them: the JSON that goes with a
        result then draws the very same pictures.
    """
    square = clip.fit(size) if fit else clip.to_square(size)
    face = None if square.face is None else np.round(square.face.astype(float), 3)
    return replace(square, keypoints=np.round(square.keypoints.astype(float), 3), face=face)


def _remarked(clip: PoseClip) -> PoseClip:
    """Add to a clip's notes what is missing of the person."""
    missing = clip.missing()
    close = clip.face is not None and not clip.seen.any()  # a face and nothing else is asked for
    if close or not missing:
        return clip
    free = "the model is left free there"
    put = ["hips are put below the shoulders"] * (clip.with_hips() is not clip)
    put += ["arms that leave the picture hang down"] * (clip.with_arms() is not clip)
    if put:
        free = f"fitted to the frame, {' and '.join(put)}; else the model is left free"
    return clip.with_notes(f"not in view: {', '.join(missing)}; {free}")


def for_player(clip: PoseClip, frames: int) -> list[list[list[float]]]:
    """Return joints, and a face's landmarks behind them, for the browser's player.

    Args:
        clip: any clip.
        frames: wanted number of frames.

    Returns:
        [frames][18 or 18 + 68][x, y, seen], x and y as parts of the square frame, seen 0 or 1.
    """
    square = clip.to_square(256).resample(frames)
    points = np.concatenate([square.keypoints / 256, square.seen[..., None]], -1)
    if square.face is not None:
        found = ~np.isnan(square.face[..., :1])
        face = np.concatenate([np.where(found, square.face, 0) / 256, found], -1)
        points = np.concatenate([points, face], 1)
    return np.round(points.astype(float), 4).tolist()
