"""How much a clip flickers: its frame-to-frame change beside that of the same clip rendered."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.frames import Frames
from evaluation.scenes import Scene

PARTS = ("background", "top", "bottom")
"""Parts of a picture whose flicker is measured."""

_TORSO = [2, 5, 11, 8]  # shoulders and hips, around
_THIGHS = ((8, 9), (11, 12))


def flicker(frames: Frames, scene: Scene) -> dict[str, float]:
    """Frame-to-frame change of a clip that shows a scene, in grey levels of 0..255.

    The background is what neither frame's rendered figure covers, with a margin of a sixteenth of
    the picture for a figure that stands a little elsewhere. A garment's colour is the mean over the
    inner torso, or over the upper thighs, of the asked skeleton.

    Args:
        frames: RGB uint8 [F, S, S, 3], generated or rendered.
        scene: the scene that it shows, with its rendering.

    Returns:
        Mean change of each of `PARTS` over the pairs of frames; NaN where it is never seen.
    """
    pictures = frames.astype(np.float32)
    margin = max(1, frames.shape[1] // 16)
    kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    figure = [cv2.dilate(mask.astype(np.uint8), kernel) > 0 for mask in scene.figure]
    changes: dict[str, list[float]] = {part: [] for part in PARTS}
    colours = [_garments(*row) for row in zip(pictures, scene.pose.keypoints, scene.judged,
                                              strict=True)]
    for t in range(len(pictures) - 1):
        free = ~(figure[t] | figure[t + 1])
        if free.any():
            difference = np.abs(pictures[t + 1] - pictures[t])
            changes["background"].append(float(difference[free].mean()))
        for part in PARTS[1:]:
            if part in colours[t] and part in colours[t + 1]:
                difference = np.abs(colours[t + 1][part] - colours[t][part])
                changes[part].append(float(difference.mean()))
    return {part: float(np.mean(c)) if c else math.nan for part, c in changes.items()}


def _garments(
    picture: NDArray[np.float32], joints: NDArray[np.float32], seen: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """Mean colour [3] of the garments of one frame, those that its joints let one find."""
    size = picture.shape[0]
    found = {}
    if seen[_TORSO].all():
        corners = joints[_TORSO]
        inner = corners.mean(0) + 0.7 * (corners - corners.mean(0))
        area = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(area, cv2.convexHull(inner.round().astype(np.int32)), 1)
        if area.any():
            found["top"] = picture[area > 0].mean(0)
    area = np.zeros((size, size), np.uint8)
    for hip, knee in _THIGHS:
        if seen[hip] and seen[knee]:
            ends = [joints[hip] + k * (joints[knee] - joints[hip]) for k in (0.2, 0.6)]
            start, end = (tuple(int(v) for v in e.round()) for e in ends)
            cv2.line(area, start, end, 1, max(1, size // 64))
    if area.any():
        found["bottom"] = picture[area > 0].mean(0)
    return found


def flicker_ratios(
    generated: Sequence[dict[str, float]], rendered: Sequence[dict[str, float]]
) -> dict[str, float]:
    """Mean change of generated clips over mean change of rendered ones, of each part.

    Args:
        generated: `flicker` of the clips as generated.
        rendered: `flicker` of the same clips as rendered.

    Returns:
        part → ratio; NaN where it was not seen in any clip or never changes when rendered.
    """
    ratios = {}
    for part in PARTS:
        pairs = np.array([(g[part], r[part]) for g, r in zip(generated, rendered, strict=True)])
        pairs = pairs.reshape(-1, 2)  # there may be no clip
        pairs = pairs[np.isfinite(pairs).all(1)]
        total = pairs[:, 1].sum() if len(pairs) else 0.0
        ratios[part] = float(pairs[:, 0].sum() / total) if total > 0 else math.nan
    return ratios
