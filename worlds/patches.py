"""How far apart the small patches of two pictures are, wherever in a neighbourhood they lie.

An error pixel by pixel is least with a blur where the place of a detail is open: a dot drawn two
pixels off costs twice, as one that is there and one that is missing. Here what counts is which
patches a neighbourhood holds and not where, so that a dot drawn two pixels off costs nothing and
one that is blurred away costs. The distance is the sliced Wasserstein distance of patches under
random filters, as in Elnekave & Weiss 2022, *Generating natural images with direct patch
distribution matching* (arXiv 2203.11862), here by tiles, so that nothing wanders further than one.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

TILE = 32
"""Side in pixels of a neighbourhood: some two rows of dots on a whole figure's top."""
FILTERS, SIDE = 32, 7
"""Random filters a call, and their side in pixels."""
SCALES = (1, 2)
"""How far pictures are scaled down before they are filtered: patches of 7 px and of 14."""
ENOUGH = 0.1
"""Part of a tile that has to be looked at, or the tile is left out."""


def random_filters(generator: torch.Generator | None = None) -> torch.Tensor:
    """Return filters of norm 1, [FILTERS, 3, SIDE, SIDE]."""
    filters = torch.randn(FILTERS, 3, SIDE, SIDE, generator=generator)
    return filters / filters.flatten(1).norm(dim=1)[:, None, None, None]


def patch_distance(
    x: torch.Tensor, y: torch.Tensor, where: torch.Tensor, filters: torch.Tensor
) -> torch.Tensor:
    """Return the mean distance of two pictures' patches, over the tiles that are looked at.

    Args:
        x: [B, 3, H, W] in -1..1, H and W divisible by `TILE`.
        y: the same.
        where: what is looked at, bool [B, 1, H, W].
        filters: of `random_filters`; new ones for each step of a training.

    Returns:
        One number, 0 where no tile is looked at.
    """
    looked_at = _tiles(where.float()).mean((1, 2, 3)) >= ENOUGH
    if not looked_at.any():
        return (x * 0).sum()
    x, y = _tiles(x)[looked_at], _tiles(y)[looked_at]
    distances = []
    for scale in SCALES:
        a, b = (F.conv2d(F.avg_pool2d(z, scale), filters).flatten(2) for z in (x, y))
        distances.append((a.sort(-1).values - b.sort(-1).values).abs().mean())
    return torch.stack(distances).mean()


def _tiles(pictures: torch.Tensor) -> torch.Tensor:
    """Cut pictures [B, C, H, W] into tiles [B · H · W / TILE², C, TILE, TILE]."""
    batch, channels, height, width = pictures.shape
    cut = pictures.reshape(batch, channels, height // TILE, TILE, width // TILE, TILE)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, TILE, TILE)
