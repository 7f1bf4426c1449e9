"""What tests of clips ask for, and how they take it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipelines.animation import PairResult, Progress
from pipelines.pose import PoseClip
from tests.tiny import FRAMES, SIZE

PROMPT = "red shirt"


def clip(seed: int = 0, frames: int = FRAMES) -> PoseClip:
    """Joints at random places."""
    points = np.random.default_rng(seed).uniform(4, SIZE - 4, (frames, 18, 2))
    return PoseClip(points, np.ones((frames, 18)), None, SIZE, SIZE)


def result_of(items: Iterable[Progress | PairResult]) -> PairResult:
    """Run a pair to its end."""
    *_, last = items
    assert isinstance(last, PairResult)
    return last
