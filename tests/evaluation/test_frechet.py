"""The Fréchet distance: the formula, and halves that share no scene."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from evaluation.frechet import frechet_distance, frechet_figures


def test_frechet_distance_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(200, 5)), rng.normal(1, 2, (150, 5)) @ rng.normal(size=(5, 5))
    covariances = [np.cov(x, rowvar=False) for x in (one, other)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected)
    few = one[:3]  # fewer pictures than features
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few, few + 2) == pytest.approx(5 * 2**2)


def test_frechet_figures_compare_halves_that_share_no_scene() -> None:
    rng = np.random.default_rng(0)
    rendered = [rng.normal(size=(16, 4)).astype(np.float32) for _ in range(9)]
    found, floor = frechet_figures(rendered, rendered)
    assert found == pytest.approx(floor, rel=1e-4) and floor > 0, "perfect pictures score the floor"
    worse, _ = frechet_figures([clip + 1 for clip in rendered], rendered)
    assert worse > floor + 3
    assert np.isnan(frechet_figures(rendered[:1], rendered[:1])).all()
