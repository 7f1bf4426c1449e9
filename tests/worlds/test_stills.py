"""The training of portraits: what weighs, and which passes a step has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worlds.denoiser import figure_weights
from worlds.portraits import build_portraits
from worlds.stills import CHAIN_PASSES, chain_times, portrait_weights, shares


@pytest.fixture(scope="module")
def pistols(tmp_path_factory):
    return build_portraits(tmp_path_factory.mktemp("p") / "set", 3, prop="pistol", workers=0)


def test_what_is_held_weighs_thrice(pistols):
    index = np.arange(3)
    weights, plain = portrait_weights(pistols, index), figure_weights(pistols, index)
    assert weights.shape == (3, 1, 32, 32)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    ratio = (weights / plain)[:, 0]
    near = ratio > 2 * ratio.min()
    assert torch.allclose(ratio[near] / ratio.min(), torch.tensor(3.0), atol=1e-3)
    # About the raised right hand: in the upper left of the picture, and not all of it.
    rows, columns = torch.nonzero(near[0], as_tuple=True)
    assert rows.float().mean() < 16 and columns.float().mean() < 12
    assert 0.04 < float(near.float().mean()) < 0.15


def test_a_step_has_as_many_passes_as_it_is_told():
    for passes in (4, 8, 32, 33):
        chained, noised = shares(passes)
        assert chained * CHAIN_PASSES + noised == passes
    with pytest.raises(ValueError, match="at least 4 passes, got 3"):
        shares(3)


def test_a_chain_begins_at_pure_noise_and_falls():
    torch.manual_seed(0)
    for _ in range(20):
        first, *later = chain_times(3)
        assert first == 999 and len(later) == 2
        assert 999 > later[0] > later[1] > 0
