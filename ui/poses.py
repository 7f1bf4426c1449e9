"""The library of pose clips, their thumbnails, and poses that visitors bring along."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.paths import ASSETS
from pipelines.pose import PoseClip, PoseError, draw_clip, load_openpose_json

POSES = ASSETS / "poses"
MAX_PIXELS = 24_000_000
"""Largest picture accepted for pose extraction."""


@lru_cache(maxsize=1)
def library() -> dict[str, PoseClip]:
    """Return name → clip of the poses that ship with the app, in the order of their names."""
    return {path.stem: load_openpose_json(path) for path in sorted(POSES.glob("*.json"))}


def title(name: str) -> str:
    """Return a clip's name as shown: ``jumping_jack`` becomes ``jumping jack``."""
    return name.replace("_", " ").replace("-", " ")


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


def read_pose(path: Path) -> PoseClip:
    """Read a pose from an uploaded file.

    Args:
        path: OpenPose JSON, or a picture: a photo, an avatar, or a skeleton in OpenPose's colours.

    Raises:
        PoseError: there is no usable pose in it; the message says what was found.
    """
    if path.suffix.lower() == ".json":
        return load_openpose_json(path)
    from pipelines.extract import extract_pose

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PoseError(
                    f"the picture has {picture.width} × {picture.height} pixels; "
                    f"the limit is {MAX_PIXELS // 1_000_000} million"
                )
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise PoseError(
            f"{path.name} is neither OpenPose JSON (.json) nor a picture that can be read; "
            "wanted JSON, PNG, JPEG or WebP"
        ) from error
    return extract_pose(pixels)


def for_player(clip: PoseClip, frames: int) -> list[list[list[float]]]:
    """Return joints for the browser's player.

    Args:
        clip: any clip.
        frames: wanted number of frames.

    Returns:
        [frames][18][x, y, seen], x and y as parts of the square frame, seen 0 or 1.
    """
    square = clip.to_square(256).resample(frames)
    points = np.concatenate([square.keypoints / 256, square.seen[..., None]], -1)
    return np.round(points.astype(float), 4).tolist()


def describe(clip: PoseClip) -> dict[str, Any]:
    """Return what to note about a clip in the settings of a result."""
    return {"frames": len(clip), "width": clip.width, "height": clip.height}
