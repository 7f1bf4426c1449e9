"""Frames on a contact sheet."""

from __future__ import annotations

import numpy as np

from evaluation.frames import SHEET_SIDE, contact_sheet


def test_contact_sheet_has_three_rows_a_block() -> None:
    column = tuple(np.full((64, 64, 3), value, np.uint8) for value in (10, 20, 30))
    sheet = contact_sheet([column] * 12)
    side = SHEET_SIDE
    assert sheet.shape == (6 * side, 10 * side, 3)
    assert [int(sheet[side * r + 5, 5, 0]) for r in range(3)] == [10, 20, 30]
    assert (sheet[3 * side :, 2 * side :] == 255).all(), "ten in the first block, two in the second"
