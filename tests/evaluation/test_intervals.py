"""95 % intervals of shares, against scipy's."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from evaluation.intervals import interval


def test_intervals_cover_the_spread_over_seeds_and_the_choice_of_items():
    # Mean 0.5, standard deviation 0.1, three seeds: 4.3027 * 0.1 / sqrt(3). Wilson's interval for
    # ten thousand items is narrower.
    assert interval([0.4, 0.5, 0.6], 10_000) == [0.2516, 0.7484]
    assert interval([0.0, 0.0, 1.0], 70) == [0.0, 1.0]
    # Wilson's, as scipy.stats has it, where the seeds agree.
    for share in (0.0, 0.3, 1.0):
        wanted = binomtest(round(70 * share), 70).proportion_ci(method="wilson")
        for seeds in (1, 3):
            found = interval([share] * seeds, 70)
            assert found == pytest.approx([wanted.low, wanted.high], abs=1e-4)
