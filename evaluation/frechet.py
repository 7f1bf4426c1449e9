"""The Fréchet distance of generated clips to rendered ones, in any features of their frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def frechet_distance(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features.

    |m₁ − m₂|² + tr(S₁ + S₂ − 2 (S₁ S₂)^½) (Heusel et al. 2017, arXiv 1706.08500, equation 6). The
    trace of the root is the sum of the singular values of X₁ X₂ᵀ, X the centred features over the
    root of their number less one: the same number without the root of a matrix, which is
    ill-conditioned where there are fewer pictures than features.

    Args:
        one: features [N, D], N at least 2.
        other: features [M, D], M at least 2.
    """
    means = [np.asarray(x, np.float64).mean(0) for x in (one, other)]
    centred = [(x - m) / math.sqrt(len(x) - 1) for x, m in zip((one, other), means, strict=True)]
    spread = sum(float((x**2).sum()) for x in centred)
    shared = float(np.linalg.norm(centred[0] @ centred[1].T, "nuc"))
    return float(((means[0] - means[1]) ** 2).sum()) + spread - 2 * shared


def frechet_figures(
    generated: Sequence[NDArray[np.float32]], rendered: Sequence[NDArray[np.float32]]
) -> tuple[float, float]:
    """Fréchet distance of generated clips to rendered ones, and its floor.

    Small sets seem further apart than they are (Chong and Forsyth 2020, arXiv 1911.07023), and
    frames of one clip are near copies. So only halves of equal size are compared, of which no scene
    is in both: generated even clips with rendered odd ones, generated odd with rendered even (mean
    of the two), and for the floor rendered even with rendered odd. A perfect model scores about the
    floor. A last clip of an odd number is left out.

    Args:
        generated: features [F, D] of each clip as generated.
        rendered: the same of the same clips as rendered.

    Returns:
        The distance and the floor; NaN for fewer than two clips.
    """
    pairs = len(rendered) // 2
    if not pairs:
        return math.nan, math.nan
    made, real = ([np.concatenate(clips[i : 2 * pairs : 2]) for i in (0, 1)]
                  for clips in (generated, rendered))
    distance = (frechet_distance(made[0], real[1]) + frechet_distance(made[1], real[0])) / 2
    return distance, frechet_distance(real[0], real[1])
