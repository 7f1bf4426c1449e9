"""Crisper frames: unsharp masking of what a small denoiser leaves soft.

A denoiser trained on squared errors draws the mean of all that may be there, and that is soft:
Avatar-SD's figures have a third of the renderings' sharpness, though its autoencoder could show
half. Adding a part of the difference from a blurred copy gives edges their contrast back (unsharp
masking: Gonzalez and Woods, Digital Image Processing, 3.6.3). It invents nothing and moves nothing;
what was not drawn stays undrawn.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS = 1.5
"""Standard deviation of the blur in pixels. From 2.5 px on outlines get halos, below it does little
(docs/avatar-sd.md, "The sampler")."""


def sharpened(frames: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
    """Return frames with their fine detail enlarged.

    Args:
        frames: RGB uint8 [F, H, W, 3]; not changed.
        amount: by how much more, at least 0; 0 returns the frames as they are.

    Raises:
        ValueError: the amount is negative or no number.
    """
    if not amount >= 0:
        raise ValueError(f"amount is {amount}; it must be at least 0")
    if amount == 0:
        return frames
    return np.stack(
        [
            cv2.addWeighted(frame, 1 + amount, cv2.GaussianBlur(frame, (0, 0), RADIUS), -amount, 0)
            for frame in frames
        ]
    )
