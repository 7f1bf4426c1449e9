"""95 % intervals of shares over seeds, as all tables of evidence have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.special import ndtri, stdtrit


def interval(values: Sequence[float], asked: int) -> list[float]:
    """Return a 95 % interval of the mean of shares over seeds.

    It covers two: Student's t over the seeds, for what chance does in a training, and Wilson's
    (1927) for a share of so many items, for the choice of the items, which are the same topics and
    questions with every seed. Three equal shares have no spread and still are not exact. Of one
    seed it is Wilson's alone and says nothing of what another seed would do.

    Args:
        values: a share for each seed.
        asked: items that each is a share of.
    """
    mean, reach = fmean(values), 0.0
    # The quantiles; scipy.stats has the intervals too, but takes long to import.
    if len(values) > 1:
        reach = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    z = float(ndtri(0.975))
    middle = (mean + z**2 / (2 * asked)) / (1 + z**2 / asked)
    width = z * math.sqrt(mean * (1 - mean) / asked + (z / (2 * asked)) ** 2) / (1 + z**2 / asked)
    low, high = min(mean - reach, middle - width), max(mean + reach, middle + width)
    return [round(max(0.0, low), 4), round(min(1.0, high), 4)]
