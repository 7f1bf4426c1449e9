"""Skeleton pictures of poses: OpenPose's colours on black, as the ControlNet takes them.

`pipelines.skeleton` reads them back.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.pose import LIMBS, VISIBLE, PoseClip

Array = NDArray[Any]

COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""RGB colour of each joint, as OpenPose draws them, and of the limb with its number."""

LIMB_BRIGHTNESS = 0.6
"""Brightness of a limb relative to its colour."""

_SHIFT = 4  # fractional bits of the coordinates handed to OpenCV


def draw_skeleton(
    keypoints: ArrayLike, confidence: ArrayLike, size: int, face: ArrayLike | None = None
) -> NDArray[np.uint8]:
    """Draw one frame's skeleton in OpenPose's colours on black.

    Args:
        keypoints: [18, 2] in pixels of the drawn square; may lie outside it.
        confidence: [18]; joints below ``VISIBLE``, and the limbs that end in them, are left out.
        size: side of the picture in pixels. Limbs are ``size / 64`` wide.
        face: [68, 2] facial landmarks in the same pixels, drawn as small white dots; NaN is left
            out.

    Returns:
        RGB uint8 [size, size, 3].
    """
    canvas = np.zeros((size, size, 3), np.uint8)
    unit = size / 256
    seen = np.asarray(confidence) >= VISIBLE
    paint_joints(canvas, keypoints, seen, max(1, round(4 * unit)), max(1.0, 4 * unit))
    if face is not None:
        for point in np.asarray(face, np.float64):
            if np.isfinite(point).all():
                _dot(canvas, point, max(0.75, unit), (255, 255, 255))
    return canvas


def paint_joints(
    canvas: NDArray[np.uint8], keypoints: ArrayLike, seen: ArrayLike, stick: int, radius: float
) -> None:
    """Paint limbs, and over them joints, onto a canvas in place.

    Args:
        canvas: RGB uint8 [H, W, 3], changed in place.
        keypoints: [18, 2] in pixels of the canvas.
        seen: bool [18]; other joints and their limbs are left out.
        stick: width of the limbs in pixels.
        radius: radius of the joints' discs in pixels.
    """
    points = np.asarray(keypoints, np.float64)
    there = np.asarray(seen, bool)
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        if there[a] and there[b]:
            dim = tuple(int(c * LIMB_BRIGHTNESS) for c in colour)
            cv2.line(canvas, _fixed(points[a]), _fixed(points[b]), dim, stick, cv2.LINE_AA, _SHIFT)
    for joint in np.flatnonzero(there):
        _dot(canvas, points[joint], radius, COLOURS[joint])


def draw_clip(clip: PoseClip, size: int = 256, frames: int | None = None) -> NDArray[np.uint8]:
    """Draw a clip's skeletons, brought to a square of ``size`` and to ``frames`` frames.

    Args:
        clip: any clip; a canvas that is not square is padded, not stretched.
        size: side of the pictures in pixels.
        frames: wanted number of frames; None keeps the clip's own.

    Returns:
        RGB uint8 [frames, size, size, 3].
    """
    square = clip.to_square(size)
    if frames is not None:
        square = square.resample(frames)
    faces = [None] * len(square) if square.face is None else square.face
    return np.stack(
        [
            draw_skeleton(keypoints, confidence, size, face)
            for keypoints, confidence, face in zip(
                square.keypoints, square.confidence, faces, strict=True
            )
        ]
    )


def _fixed(point: Array) -> tuple[int, int]:
    """Fixed-point coordinates for OpenCV; far outside points are clipped to keep its int32."""
    x, y = np.clip(np.rint(point * (1 << _SHIFT)), -(1 << 20), 1 << 20)
    return int(x), int(y)


def _dot(canvas: Array, point: Array, radius: float, colour: tuple[int, int, int]) -> None:
    fixed = round(radius * (1 << _SHIFT))
    cv2.circle(canvas, _fixed(point), fixed, colour, -1, cv2.LINE_AA, _SHIFT)
