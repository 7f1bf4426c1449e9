"""Frames of clips as arrays: brought to another size, and laid out on a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

SHEET_COLUMNS = 10
"""Clips beside one another in a block of a contact sheet."""
SHEET_SIDE = 160
"""Pixels of a picture in it, a side."""


def resized(pictures: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring square pictures, uint8 [N, S, S] or [N, S, S, 3], to ``size`` pixels a side."""
    if pictures.shape[1] == size:
        return pictures
    how = cv2.INTER_AREA if pictures.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(p, (size, size), interpolation=how) for p in pictures])


def contact_sheet(columns: Sequence[tuple[Frames, ...]]) -> Frames:
    """Lay out pictures, one column a clip: skeleton, rendered, generated, ten columns a block.

    Args:
        columns: RGB uint8 [S, S, 3] of each row, as many rows in every column.
    """
    blank = np.full((SHEET_SIDE, SHEET_SIDE, 3), 255, np.uint8)
    blocks = []
    for start in range(0, len(columns), SHEET_COLUMNS):
        block = [list(resized(np.stack(c), SHEET_SIDE))
                 for c in columns[start : start + SHEET_COLUMNS]]
        width = min(len(columns), SHEET_COLUMNS)
        block += [[blank] * len(columns[0])] * (width - len(block))
        blocks.append(np.concatenate([np.concatenate(c) for c in block], 1))
    return np.concatenate(blocks)


def save_contact_sheet(path: Path, columns: Sequence[tuple[Frames, ...]]) -> None:
    """Write `contact_sheet` into a PNG or JPEG."""
    cv2.imwrite(str(path), contact_sheet(columns)[..., ::-1])
