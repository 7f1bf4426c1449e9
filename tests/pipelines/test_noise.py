"""Noise that frames of a clip share."""

from __future__ import annotations

import pytest
import torch

from pipelines.noise import mixed_noise


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_frames_correlate_by_the_share_and_keep_unit_variance(share: float) -> None:
    noise = mixed_noise((1, 4, 2, 64, 64), share, torch.Generator().manual_seed(0))
    first, second = noise[0, :, 0].flatten(), noise[0, :, 1].flatten()
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] == pytest.approx(share, abs=0.03)


def test_a_share_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match="noise_share is 1.5"):
        mixed_noise((1, 1, 1, 1, 1), 1.5)
