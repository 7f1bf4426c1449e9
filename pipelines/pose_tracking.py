"""One person followed through the frames of a clip, and frames without anybody filled.

What reads clips shares it: from OpenPose JSON (:mod:`pipelines.pose_json`) and from pictures
(:mod:`pipelines.extract`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pose import PoseClip, PoseError

Array = NDArray[Any]

_MOST_EMPTY = 0.25  # of a clip's frames may show nobody
_REACH = 0.5  # of their size that somebody moves from one frame to the next
_PART = 0.4  # of their size that a person is seen at least, where another is seen too


class Follower:
    """Follows one person through the frames of a clip: the largest at first."""

    def __init__(self) -> None:
        self._last: Array | None = None  # where they were seen
        self._size = 0.0  # the greatest that they were seen at: of some frames only parts are
        self._gap = 1  # frames since then

    def pick(self, people: Sequence[Array], alone: bool) -> int | None:
        """Tell which of the people in the next frame is the one who is followed.

        Args:
            people: what is seen of each, [N, 2] in pixels.
            alone: whether nobody else is ever there, so that whoever is seen is the one.

        Returns:
            Their place among ``people``: the nearest one's, at first the largest one's. None where
            there is nobody, or somebody so far off that it is another.
        """
        sizes = [extent(points) for points in people]
        who = int(np.argmax(sizes)) if people else None
        if people and self._last is not None:
            here = np.median(self._last, axis=0)
            off = [float(np.linalg.norm(np.median(points, axis=0) - here)) for points in people]
            reach = np.inf if alone else _REACH * self._size * self._gap
            near = [i for i in range(len(people)) if off[i] <= reach]
            # A few stray joints are nearer than somebody who moves, and nobody's.
            whole = [i for i in near if sizes[i] > _PART * self._size]
            who = min(whole or near, key=off.__getitem__, default=None)
        if who is None:
            self._gap += 1
        else:
            self._last, self._size, self._gap = people[who], max(self._size, sizes[who]), 1
        return who


def crowd_note(count: int) -> tuple[str, ...]:
    """Return the remark, if any, on so many people having been found."""
    return (f"{count} people found: the largest is used",) if count > 1 else ()


def extent(points: Array) -> float:
    """Return how large a person is: the diagonal of the box around their points [N, 2]."""
    return float(np.hypot(*np.ptp(points, axis=0)))


def bridged(clip: PoseClip, remedy: str) -> PoseClip:
    """Fill the frames in which nobody is seen, see `PoseClip.filled`, and note how many they are.

    Args:
        clip: some of whose frames may be empty.
        remedy: what to do about too many of them, for the error.

    Raises:
        PoseError: they are more than a quarter, or all.
    """
    empty = int((~clip.shown).sum())
    if empty == len(clip):
        raise PoseError(f"no person found in any of the {len(clip)} frames; wanted one person")
    if empty > _MOST_EMPTY * len(clip):
        raise PoseError(
            f"no person found in {empty} of {len(clip)} frames; wanted one in at least "
            f"{int(np.ceil((1 - _MOST_EMPTY) * len(clip)))}: {remedy}"
        )
    if not empty:
        return clip
    note = f"no person in {empty} of {len(clip)} frames: interpolated"
    return clip.filled().with_notes(note)
