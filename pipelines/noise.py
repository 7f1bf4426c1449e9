"""Noise for clips whose frames share a part of it.

Source: Ge et al. 2023, Preserve Your Own Correlation (arXiv 2305.10474), section 4.1, "mixed noise
model": frames of one clip that start from alike noise come out alike where the condition is alike,
which a small motion adapter need not learn then.
"""

from __future__ import annotations

import torch


def mixed_noise(
    shape: tuple[int, ...], share: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw unit-variance noise for clips.

    Args:
        shape: [B, C, F, h, w].
        share: part of the variance that is the same in all frames of a clip, 0..1; 0 draws every
            frame alone, as AnimateDiff does.
        generator: source of randomness; the global one when None.

    Returns:
        float32 of that shape on the CPU; two frames of a clip correlate by ``share``.

    Raises:
        ValueError: ``share`` is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"noise_share is {share}; it must be within 0..1")
    own = torch.randn(shape, generator=generator)
    if share == 0:
        return own
    common = torch.randn((*shape[:2], 1, *shape[3:]), generator=generator)
    return share**0.5 * common + (1 - share) ** 0.5 * own
