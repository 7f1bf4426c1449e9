"""How far a pair follows its pose, and how far the guarded clip is from the unguarded one.

What a visitor is told under a result. The joints are found by `evaluation.reader`, which knows the
dolls of the embedded profile: of rendered ones it finds 0.98 in poses as in training and 0.74 in
others (docs/avatar-sd.md), so that of an unusual pose a low figure may be the reader's fault.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evaluation.psnr import mean_psnr
from evaluation.reader import Reader, pck
from pipelines.animation import PairResult
from pipelines.pose import PoseClip

EVERY = 4
"""One frame in so many is read; neighbours are alike, and each takes some 40 ms of a core."""


def obedience(result: PairResult, pose: PoseClip, reader: Reader) -> dict[str, Any]:
    """Measure a finished pair.

    Args:
        result: the pair.
        pose: what was asked for.
        reader: finds the joints.

    Returns:
        ``pose``: PCK@0.1 of the unguarded clip, 0..1, and ``pose_guarded`` of the guarded one; None
        where the pose shows no torso to measure by. ``psnr_guarded``: PSNR in dB of the guarded
        against the unguarded clip, as `evaluation.guard` tells it, at most 100. Both of the guarded
        clip are None where there is none.
    """
    count, size = len(result.unguarded), result.unguarded.shape[1]
    asked = pose.to_square(size).resample(count)

    def followed(frames: np.ndarray) -> float | None:
        found = reader.read(frames[::EVERY]).keypoints
        share = pck(asked.keypoints[::EVERY], asked.confidence[::EVERY], found)
        return None if math.isnan(share) else round(share, 3)

    guarded = result.guarded
    return {
        "pose": followed(result.unguarded),
        "pose_guarded": None if guarded is None else followed(guarded),
        "psnr_guarded": None if guarded is None else round(mean_psnr(result.unguarded, guarded), 1),
    }
