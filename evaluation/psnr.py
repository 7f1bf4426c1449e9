"""Peak signal-to-noise ratio of pictures, as every figure in dB of this repository counts it.

Over all pixels and channels of one picture, of a peak of 255; a mean over pictures is the mean of
their dB. An exact copy, which would be infinitely near, counts as `EXACT_DB`, so that means exist;
so does what is nearer than that: one grey level off in a single value of more than 150,000.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio

EXACT_DB = 100.0
"""Most that a copy can have."""

Pictures = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]


def psnr(pictures: Pictures, copies: Pictures) -> NDArray[np.float64]:
    """Return the PSNR of each picture and its copy in dB, [N], at most `EXACT_DB`.

    Args:
        pictures: uint8 [N, H, W, 3].
        copies: likewise.

    Raises:
        ValueError: they differ in number or in size.
    """
    with np.errstate(divide="ignore"):  # of an exact copy
        found = [
            peak_signal_noise_ratio(one, other, data_range=255)
            for one, other in zip(pictures, copies, strict=True)
        ]
    return np.minimum(found, EXACT_DB)


def mean_psnr(pictures: Pictures, copies: Pictures) -> float:
    """Return the mean of `psnr`."""
    return float(psnr(pictures, copies).mean())
