"""What a reader finds in clips, held against what their scenes ask for, and means of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.reader import Reading, applicable, attribute_accuracy, keypoint_hits
from evaluation.scenes import Scene


@dataclass
class Found:
    """What a reader found in clips, held against what their scenes ask for.

    Attributes:
        readings: of each clip.
        hits: `keypoint_hits` of each clip.
        looks: of each frame of all clips.
        shown: likewise.
    """

    readings: list[Reading] = field(default_factory=list)
    hits: list[NDArray[np.float64]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, bool]] = field(default_factory=list)

    def add(self, reading: Reading, scene: Scene) -> None:
        """Take in the reading of a clip that shows a scene."""
        self.readings.append(reading)
        self.hits.append(keypoint_hits(scene.pose.keypoints, scene.judged, reading.keypoints))
        self.looks += [scene.look] * len(scene.judged)
        self.shown += shown_in(scene)

    def pck(self) -> float:
        """Return `evaluation.reader.pck` of all clips; NaN for none."""
        return mean_or_nan(np.concatenate(self.hits)) if self.hits else math.nan

    def attributes(self) -> dict[str, float]:
        """Return `attribute_accuracy` of all clips; empty for none."""
        if not self.readings:
            return {}
        return attribute_accuracy(_joined(self.readings), self.looks, self.shown)


def shown_in(scene: Scene) -> list[dict[str, bool]]:
    """Say for each frame of a scene which attributes it can show."""
    return [applicable(seen) for seen in scene.judged]


def identity(reading: Reading, shown: Sequence[dict[str, bool]]) -> float:
    """Share of a clip's readings that agree with the clip's own majority.

    Args:
        reading: of the frames of one clip.
        shown: which attributes each frame can show, from `applicable`.

    Returns:
        Mean over the attributes, 1 / frames..1; NaN where no frame can show any.
    """
    shares = []
    for name, values in reading.attributes.items():
        visible = [value for value, can in zip(values, shown, strict=True) if can[name]]
        if visible:
            shares.append(Counter(visible).most_common(1)[0][1] / len(visible))
    return float(np.mean(shares)) if shares else math.nan


def _joined(readings: Sequence[Reading]) -> Reading:
    return Reading(
        np.concatenate([r.keypoints for r in readings]),
        np.concatenate([r.confidence for r in readings]),
        {name: [v for r in readings for v in r.attributes[name]]
         for name in readings[0].attributes},
    )


def mean_of(by_name: dict[str, float]) -> float:
    """Return the mean over what is named; NaN where nothing is."""
    return float(np.mean(list(by_name.values()))) if by_name else math.nan


def mean_or_nan(hits: NDArray[np.float64]) -> float:
    """Return the mean of what is not NaN; NaN where all is."""
    return float(np.nanmean(hits)) if np.isfinite(hits).any() else math.nan


def rounded(value: float, digits: int = 4) -> float | None:
    """Round for the report; None (JSON's null) for what could not be measured."""
    return round(value, digits) if math.isfinite(value) else None
