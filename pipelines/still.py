"""A background that stands still: far from the figure, all frames of a clip are the same.

The camera of the avatars' world never moves within a clip, but a frame model, run on one frame
after another, lets the background shimmer with the figure's movement. What lies far from the
skeleton in a frame is replaced by its mean over the frames in which it lies far. Done on pixels:
with the same latents there, the decoder still shimmers by a quarter of a grey level, because its
group normalisation takes in the whole frame. A clip that shows no whole torso (a bust, a face) has
no measure of far, and is left as it is.

Nearer to the figure, where its outline passes, no place can be told from the skeleton; there only
what hardly changes is brought to rest (`settle`). The model and its steps are untouched.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.pose import PoseClip

NEAR, FAR = 0.5, 0.7
"""Distances from the skeleton, in parts of the torso's length, between which a place goes from the
figure's to the background's. Of the pixels of rendered figures and what they hold (12 held-out
clips), 0.3 % lie farther than the one, none farther than the other."""

QUIET, LOUD = 4.0, 8.0
"""Grey levels of 255 between which a difference from the median of all frames goes from shimmer to
movement. Of 14 held-out clips, the background changed by 0.068 levels from frame to frame with half
of these and by 0.048 with them, the error on the figure staying as it was (docs/avatar-sd.md)."""

_LEAST_TORSO = 0.08
"""Shortest torso, in parts of the longer side of the box around all joints of a clip. Those of the
library have 0.28 and more, single held-out frames 0.11; with two hips swapped it was 0.03."""

_SHOULDER, _HIP = 5, 8  # left shoulder and right hip, the ends of the torso that PCK goes by


def torso_length(clip: PoseClip) -> float | None:
    """Return the longest torso of a clip's frames in its pixels.

    None where none is whole, or shoulder and hip lie so near to one another, beside how far all
    joints lie apart, that they cannot be a torso's ends (two joints taken for each other).
    """
    whole = clip.seen[:, [_SHOULDER, _HIP]].all(1)
    if not whole.any():
        return None
    across = clip.keypoints[whole, _SHOULDER] - clip.keypoints[whole, _HIP]
    torso = float(np.linalg.norm(across, axis=-1).max())
    reach = float(np.ptp(clip.keypoints[clip.seen], axis=0).max())
    return torso if torso > _LEAST_TORSO * reach else None


def background_share(skeletons: NDArray[np.uint8], torso: float) -> torch.Tensor:
    """Say how far each pixel of each frame belongs to the background.

    Args:
        skeletons: RGB uint8 [F, S, S, 3], black but for the skeleton.
        torso: its length in pixels.

    Returns:
        float32 [F, S, S], 0 near the skeleton, 1 far from it.
    """
    shares = []
    for picture in skeletons:
        free = (~picture.any(-1)).astype(np.uint8)
        away = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_5)
        shares.append(np.clip((away / torso - NEAR) / (FAR - NEAR), 0, 1))
    return torch.from_numpy(np.stack(shares)).float()


def still_background(video: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Give the background of all frames the same pixels.

    Args:
        video: [1, 3, F, H, W].
        share: of `background_share`, [F, H, W].

    Returns:
        Video of the same shape. A place that is not wholly the background's in any frame stays as
        it is; of the others only frames where it is wholly so are averaged, or a raised hat would
        leave a ghost.
    """
    share = share.to(video.device)
    free = (share == 1).to(share.dtype)
    count = free.sum(0)
    mean = (video * free).sum(2, keepdim=True) / count.clamp(min=1)
    return video + share * (count > 0) * (mean - video)


def settle(video: torch.Tensor) -> torch.Tensor:
    """Bring shimmer to rest: what differs by little from a pixel's median over all frames.

    Whatever moves over a pixel, a limb or its shadow, changes it by more and is left as it is.

    Args:
        video: [1, 3, F, H, W] in -1..1.

    Returns:
        Video of the same shape. A pixel whose three colours are all within ``QUIET`` grey levels of
        their medians takes these; beyond ``LOUD`` it is unchanged, and between it goes part of the
        way.
    """
    median = video.median(2, keepdim=True).values
    levels = (video - median).abs().amax(1, keepdim=True) * 127.5
    share = ((LOUD - levels) / (LOUD - QUIET)).clamp(0, 1)
    return video + share * (median - video)
