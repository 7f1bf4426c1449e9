"""What was found in clips: its agreement with itself."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.found import identity
from evaluation.reader import ATTRIBUTES, Reading


def test_identity_is_agreement_with_the_majority() -> None:
    read = {name: [values[0]] * 4 for name, values in ATTRIBUTES.items()}
    read["top"] = ["red", "red", "blue", "red"]
    reading = Reading(np.zeros((4, 18, 2)), np.zeros((4, 18)), read)
    everything = [dict.fromkeys(ATTRIBUTES, True)] * 4
    count = len(ATTRIBUTES)
    assert identity(reading, everything) == pytest.approx((count - 0.25) / count)
    nothing = [dict.fromkeys(ATTRIBUTES, False)] * 4
    assert np.isnan(identity(reading, nothing))
