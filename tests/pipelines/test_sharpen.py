"""Sharpening finished frames."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.sharpen import RADIUS, sharpened


def edge(left: int = 80, right: int = 160) -> np.ndarray:
    frame = np.full((1, 32, 32, 3), left, np.uint8)
    frame[:, :, 16:] = right
    return frame


def test_an_edge_gets_steeper_and_flat_parts_stay() -> None:
    blurred = np.linspace(80, 160, 9).round().astype(np.uint8)
    soft = edge()
    soft[0, :, 12:21] = blurred[None, :, None]
    crisp = sharpened(soft, 1.0).astype(int)
    assert np.diff(crisp, axis=2).max() > np.diff(soft.astype(int), axis=2).max()
    away = int(4 * RADIUS) + 1
    assert (crisp[:, :, : 12 - away] == 80).all() and (crisp[:, :, 21 + away :] == 160).all()


def test_more_sharpens_more_and_nothing_leaves_the_range() -> None:
    little, much = sharpened(edge(), 0.3), sharpened(edge(), 10.0)
    assert little.dtype == much.dtype == np.uint8
    assert np.ptp(edge()) < np.ptp(little) < np.ptp(much) == 255


def test_no_amount_is_the_frames_as_they_are() -> None:
    frames = edge()
    assert sharpened(frames, 0) is frames


@pytest.mark.parametrize("amount", [-0.1, float("nan")])
def test_an_amount_that_cannot_be_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="amount is"):
        sharpened(edge(), amount)
