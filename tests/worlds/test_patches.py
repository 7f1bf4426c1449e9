"""The distance of small patches, wherever in a neighbourhood they lie."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from worlds.patches import FILTERS, SIDE, TILE, patch_distance, random_filters


@pytest.fixture
def filters() -> torch.Tensor:
    return random_filters(torch.Generator().manual_seed(0))


@pytest.fixture
def dots() -> torch.Tensor:
    """Bright dots on a dark ground, 8 px apart, [1, 3, 64, 64]."""
    picture = torch.full((1, 3, 64, 64), -0.5)
    picture[..., 2::8, 2::8] = picture[..., 3::8, 2::8] = 1.0
    return picture


EVERYWHERE = torch.ones(1, 1, 64, 64, dtype=torch.bool)


def test_filters_are_of_norm_one(filters):
    assert filters.shape == (FILTERS, 3, SIDE, SIDE)
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(FILTERS))


def test_moved_details_cost_little_and_blurred_ones_much(dots, filters):
    moved = dots.roll((3, 3), (2, 3))
    blurred = F.avg_pool2d(dots, 9, 1, 4, count_include_pad=False)
    # By the pixel it is the other way round.
    assert (moved - dots).abs().mean() > (blurred - dots).abs().mean()
    near, far = (patch_distance(x, dots, EVERYWHERE, filters).item() for x in (moved, blurred))
    assert near < 0.3 * far
    assert patch_distance(dots, dots, EVERYWHERE, filters) == 0


def test_nothing_wanders_from_one_tile_to_another(filters):
    left, right = (torch.zeros(1, 3, 64, 64) for _ in range(2))
    left[..., 8:24, 8:24], right[..., 8:24, 40:56] = 1.0, 1.0
    assert patch_distance(left, right, EVERYWHERE, filters) > 0.05


def test_only_tiles_that_are_looked_at_count(dots, filters):
    where = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    other = dots.clone()
    other[..., TILE:] = 0
    assert patch_distance(other, dots, where, filters) == 0
    where[..., :TILE] = True
    assert patch_distance(other, dots, where, filters) == 0
    where[..., TILE:] = True
    assert patch_distance(other, dots, where, filters) > 0.01


def test_blurred_details_are_brought_back_by_its_gradient(dots, filters):
    made = F.avg_pool2d(dots, 5, 1, 2, count_include_pad=False).requires_grad_()
    before = patch_distance(made, dots, EVERYWHERE, filters).item()
    optimiser = torch.optim.Adam([made], lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        patch_distance(made, dots, EVERYWHERE, filters).backward()
        optimiser.step()
    assert patch_distance(made, dots, EVERYWHERE, filters).item() < 0.5 * before
