"""Pose clips: OpenPose-18 joints over time.

A pose clip is what the animation pipeline is asked to follow. It comes from OpenPose JSON
(:mod:`pipelines.pose_json`) or from a picture (:mod:`pipelines.extract`), is brought to the model's
frame and length (:meth:`PoseClip.fit`, :meth:`PoseClip.to_square`, :meth:`PoseClip.resample`) and
is drawn for the ControlNet (:mod:`pipelines.pose_drawing`).

Joint order and colours are those of OpenPose's COCO-18 model (Cao et al., "OpenPose: Realtime
Multi-Person 2D Pose Estimation using Part Affinity Fields", TPAMI 2019), which the published
OpenPose ControlNets were trained on. Coordinates are pixels, x to the right and y down; a pixel's
centre has whole-number coordinates. "Right" means the person's own right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

JOINTS: tuple[str, ...] = (
    "nose", "neck",
    "right shoulder", "right elbow", "right wrist",
    "left shoulder", "left elbow", "left wrist",
    "right hip", "right knee", "right ankle",
    "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
"""Names of the 18 joints, in the order of every [.., 18, ..] array."""

LIMBS: tuple[tuple[int, int], ...] = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7),
    (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Pairs of joints joined by a limb."""

VISIBLE = 0.05
"""A joint counts as seen from this confidence on."""

MAX_FRAMES = 240
"""Longest clip accepted, in frames (30 s at the model's 8 frames/s)."""

MAX_SIDE = 16_384
"""Longest side of a canvas accepted, in pixels."""

MIN_JOINTS = 3
"""With fewer joints seen than this (and no face landmarks), a figure is not a person."""

# Lengths of body segments over stature, after Drillis and Contini's proportions (in D. A. Winter,
# "Biomechanics and Motor Control of Human Movement", fig. 4.1). Used to guess how tall a figure
# would stand, whatever it does in the clip.
_SEGMENT_OF_STATURE: tuple[tuple[tuple[int, int], float], ...] = (
    ((2, 5), 0.25),
    ((2, 3), 0.186), ((5, 6), 0.186), ((3, 4), 0.146), ((6, 7), 0.146),
    ((8, 9), 0.245), ((11, 12), 0.245), ((9, 10), 0.246), ((12, 13), 0.246),
    ((2, 8), 0.288), ((5, 11), 0.288),
)  # fmt: skip
# Parts of the body by their joints, the larger ones first.
_PARTS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("head", (0, 14, 15, 16, 17)),
    ("arms", (3, 4, 6, 7)), ("right arm", (3, 4)), ("left arm", (6, 7)),
    ("hips", (8, 11)),
    ("legs", (9, 10, 12, 13)), ("right leg", (9, 10)), ("left leg", (12, 13)),
    ("feet", (10, 13)),
)  # fmt: skip
_CROWN_ABOVE_NECK = 0.18  # of stature
_TREMBLE = 0.02  # of stature: joints found frame by frame differ by about this much by chance
_SOLE_BELOW_ANKLE = 0.039  # of stature
_TRUNK, _THIGH = 0.288, 0.245  # of stature, from the table above
_UPPER_ARM, _FOREARM = 0.186, 0.146  # likewise
_ELBOW_OUT = 0.03  # of stature: how far an elbow hangs beside its shoulder
_FORESHORTENED = (0.4, 1.3)  # least and greatest length of a forearm, of its own, in a picture
_HIPS_OF_SHOULDERS = 0.5  # how far apart hips are, in widths of the shoulders
# Somebody without feet comes to stand as in the upper bodies that Avatar-SD was trained on: 1.28
# times as tall as the frame, the hips four fifths down. Knees, if seen, are near the lower edge,
# and no joint is nearer.
_NEAR, _HIPS_AT, _KNEES_AT = 1.28, 0.79, 0.97
# Of a face's height from brows to chin. With them a face alone comes to lie as in the close-ups
# that Avatar-SD was trained on, where it takes two fifths of the frame.
_ABOVE_FACE, _BELOW_FACE = 0.8, 0.25


class PoseError(ValueError):
    """A pose that cannot be used; the message says what was found and what is wanted."""


@dataclass(frozen=True, eq=False)
class PoseClip:
    """One person's joints over ``F`` frames; never changed in place.

    Attributes:
        keypoints: float32 [F, 18, 2], pixels of ``width`` × ``height``, in the order of ``JOINTS``.
            Rows of joints that are not seen hold zeros.
        confidence: float32 [F, 18] in 0..1; below ``VISIBLE`` the joint counts as missing.
        face: float32 [F, 68, 2], the 68 facial landmarks (iBUG 300-W order) in the same pixels, NaN
            where missing; or None where no frame has any.
        width: canvas width in pixels.
        height: canvas height in pixels.
        notes: remarks for the user on how the input was read, such as "2 people found, …".

    Raises:
        PoseError: on wrong shapes, on values that are not finite, on a canvas smaller than 1 px or
            larger than 16 384 px, and on more than ``MAX_FRAMES`` frames.
    """

    keypoints: Array
    confidence: Array
    face: Array | None
    width: int
    height: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Copy the arrays to read-only float32, check them, and zero what is not seen."""
        keypoints = np.array(self.keypoints, np.float32)
        confidence = np.array(self.confidence, np.float32)
        if keypoints.ndim != 3 or keypoints.shape[1:] != (18, 2):
            raise PoseError(f"keypoints have shape {keypoints.shape}; wanted (frames, 18, 2)")
        if confidence.shape != keypoints.shape[:2]:
            raise PoseError(
                f"confidence has shape {confidence.shape}; wanted {keypoints.shape[:2]}, one "
                "number for each joint of each frame"
            )
        check_frame_count(len(keypoints))
        for name, side in (("width", self.width), ("height", self.height)):
            if not 1 <= side <= MAX_SIDE:
                raise PoseError(f"{name} is {side}; wanted 1 to {MAX_SIDE} pixels")
        if not np.isfinite(confidence).all():
            raise PoseError("confidence holds a value that is not finite; wanted 0 to 1")
        seen = confidence >= VISIBLE
        if not np.isfinite(keypoints[seen]).all():
            raise PoseError("keypoints hold a value that is not finite in a joint that is seen")
        keypoints[~seen] = 0.0
        confidence = np.where(seen, np.minimum(confidence, 1.0), 0.0).astype(np.float32)
        face = None
        if self.face is not None:
            face = np.array(self.face, np.float32)
            if face.shape != (len(keypoints), 68, 2):
                raise PoseError(
                    f"face has shape {face.shape}; wanted {(len(keypoints), 68, 2)}: 68 landmarks "
                    "for each frame"
                )
            face[~np.isfinite(face).all(-1)] = np.nan
            face.flags.writeable = False
        keypoints.flags.writeable = False
        confidence.flags.writeable = False
        object.__setattr__(self, "keypoints", keypoints)
        object.__setattr__(self, "confidence", confidence)
        object.__setattr__(self, "face", face)
        object.__setattr__(self, "width", int(self.width))
        object.__setattr__(self, "height", int(self.height))
        object.__setattr__(self, "notes", tuple(self.notes))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.keypoints)

    @property
    def seen(self) -> Array:
        """Bool [F, 18]: which joints are seen."""
        return self.confidence >= VISIBLE

    @property
    def shown(self) -> Array:
        """Bool [F]: which frames show somebody, by a joint or a landmark of the face."""
        shown = self.seen.any(1)
        return shown if self.face is None else shown | np.isfinite(self.face[..., 0]).any(1)

    def with_notes(self, *notes: str) -> PoseClip:
        """Return the clip with more remarks for the user."""
        return replace(self, notes=(*self.notes, *notes))

    def resample(self, frames: int = 16) -> PoseClip:
        """Bring the clip to ``frames`` frames by linear interpolation over time.

        First and last frame stay where they are; a clip of one frame is held still. Each joint is
        interpolated between frames that have it: gaps of up to a quarter of the clip (at least
        two frames) are bridged, in longer gaps and at the clip's ends it stays missing.

        Args:
            frames: wanted length, 1 to ``MAX_FRAMES``.

        Returns:
            A clip of ``frames`` frames on the same canvas.

        Raises:
            PoseError: when ``frames`` is out of range.
        """
        check_frame_count(frames)
        times = np.linspace(0.0, len(self) - 1.0, frames)
        values = np.concatenate([self.keypoints, self.confidence[..., None]], -1)
        body, seen = _interpolate(values, self.seen, times)
        face = None
        if self.face is not None:
            landmarks, found = _interpolate(self.face, ~np.isnan(self.face[..., 0]), times)
            face = np.where(found[..., None], landmarks, np.nan)
        confidence = np.where(seen, np.maximum(body[..., 2], VISIBLE), 0.0)
        return replace(self, keypoints=body[..., :2], confidence=confidence, face=face)

    def to_square(self, size: int = 256) -> PoseClip:
        """Scale the whole canvas into a square, centred, keeping its proportions.

        The shorter side is padded, so nothing of the canvas is lost; this keeps the scale and the
        position the input had (see :meth:`fit` for the other way).

        Args:
            size: side of the square in pixels.

        Returns:
            A clip with ``width == height == size``.
        """
        scale = size / max(self.width, self.height)
        # Continuous coordinates put the canvas' edge half a pixel outside its first pixel's centre.
        centre = np.array([self.width - 1, self.height - 1]) / 2
        return self._moved(scale, (size - 1) / 2 - scale * centre, size)

    def fit(self, size: int = 256, margin: float = 0.08) -> PoseClip:
        """Scale and shift the person into a square frame, the same way in every frame.

        The figure is drawn as tall as it would stand, judged from its limbs, so that somebody who
        squats does not become a giant, and smaller where its movement needs the room. Where no
        frame shows a foot, the frame's lower edge cuts the person off, as a camera does that is
        near: a body that ends in mid-air is nothing a model has seen. Landmarks of a face alone are
        given the room of a head and its shoulders.

        Args:
            size: side of the square in pixels.
            margin: free border on every side, as a part of ``size``, 0 to 0.4.

        Returns:
            A clip with ``width == height == size`` in which all seen joints lie inside the frame;
            with hips (`with_hips`) and arms (`with_arms`).

        Raises:
            PoseError: when no joint is seen in any frame, or ``margin`` is out of range.
        """
        if not 0 <= margin <= 0.4:
            raise PoseError(f"margin is {margin}; wanted 0 to 0.4 of the frame")
        clip = self.with_hips().with_arms()
        points = [clip.keypoints[clip.seen]]
        if clip.face is not None:
            points.append(clip.face[~np.isnan(clip.face[..., 0])])
        cloud = np.concatenate(points)
        if not len(cloud):
            raise PoseError("no joint is seen in any frame; wanted a person to fit into the frame")
        low, high = cloud.min(0), cloud.max(0)
        room = size * (1 - 2 * margin)
        stature = clip._stature()
        if stature:
            # Joints end at the eyes and ankles; the person's crown and soles need room too.
            neck = clip.keypoints[..., 1, 1][clip.seen[:, 1]]
            if len(neck):
                low[1] = min(low[1], neck.min() - _CROWN_ABOVE_NECK * stature)
            if clip.seen[:, [10, 13]].any():
                high[1] += _SOLE_BELOW_ANKLE * stature
            elif clip.seen[:, [8, 11]].any():
                return clip._cut_off(size, margin, low, high, stature)
            else:
                high[1] = max(high[1], low[1] + stature)
        if not clip.seen.any():
            # Landmarks end at the brows and the chin.
            height = float(high[1] - low[1])
            low[1] -= _ABOVE_FACE * height
            high[1] += _BELOW_FACE * height
        extent = max(float((high - low).max()), stature, 1e-3)
        scale = room / extent
        return clip._moved(scale, (size - 1) / 2 - scale * (low + high) / 2, size)

    def _cut_off(
        self, size: int, margin: float, low: Array, high: Array, stature: float
    ) -> PoseClip:
        """Fit somebody without feet: see `fit`.

        Args:
            size: side of the square.
            margin: free border on three sides, as a part of ``size``.
            low: left and upper end of the person, [2].
            high: right and lower end of the person's joints, [2].
            stature: of `_stature`.
        """
        knees = self.seen[:, [9, 12]]
        lowest = self.keypoints[:, [9, 12], 1][knees] if knees.any() else (
            self.keypoints[:, [8, 11], 1][self.seen[:, [8, 11]]]
        )  # fmt: skip
        end = float(lowest.max())

        def end_at(scale: float) -> float:
            """Tell where the lowest joint goes, so that what is below it is out of the frame."""
            if knees.any():
                return _KNEES_AT * size
            return max(_HIPS_AT * size, size - _THIGH * stature * scale)

        width, height = np.maximum(high - low, 1e-3)
        scale = min(
            _NEAR * size / stature,
            size * (1 - 2 * margin) / width,
            size * (_KNEES_AT - margin) / height,
        )
        # Lower where it is smaller, so the room above only grows.
        scale = min(scale, (end_at(scale) - margin * size) / max(end - float(low[1]), 1e-3))
        # Hands may hang lower than that.
        down = min(end_at(scale) - scale * end, _KNEES_AT * size - scale * float(high[1]))
        middle = (size - 1) / 2 - scale * (low[0] + high[0]) / 2
        return self._moved(scale, np.array([middle, down]), size)

    def with_hips(self) -> PoseClip:
        """Put hips below the shoulders where no frame shows any, as of somebody upright.

        Without them a model that is asked for head and shoulders draws a bust in mid-air.

        Returns:
            The clip itself where a hip is seen, or no frame has both shoulders.
        """
        stature, there = self._stature(), self.seen[:, [1, 2, 5]].all(1)
        if self.seen[:, [8, 11]].any() or not there.any():
            return self
        keypoints, confidence = self.keypoints.copy(), self.confidence.copy()
        for hip, shoulder in ((8, 2), (11, 5)):
            neck = self.keypoints[there, 1]
            across = _HIPS_OF_SHOULDERS * (self.keypoints[there, shoulder, 0] - neck[:, 0])
            below = np.full(len(neck), _TRUNK * stature)
            keypoints[there, hip] = neck + np.stack([across, below], -1)
            confidence[there, hip] = self.confidence[there, shoulder]
        return replace(self, keypoints=keypoints, confidence=confidence)

    def with_arms(self) -> PoseClip:
        """Let arms hang down whose lower parts are out of the picture, below its lower edge.

        Where the edge cuts them off they are not seen to end; anywhere else a model would draw
        stumps. Only what no frame shows is put there, and only what would be below the edge.

        Returns:
            The clip itself where there is no such arm.
        """
        stature = self._stature()
        keypoints, confidence = self.keypoints.copy(), self.confidence.copy()
        for shoulder, elbow, wrist in ((2, 3, 4), (5, 6, 7)):
            upper, fore = _UPPER_ARM * stature, _FOREARM * stature
            there = self.seen[:, [1, shoulder]].all(1)
            if not self.seen[:, elbow].any() and there.any():
                side = np.sign(self.keypoints[there, shoulder, 0] - self.keypoints[there, 1, 0])
                hung = self.keypoints[there, shoulder] + np.stack(
                    [_ELBOW_OUT * stature * side, np.full(len(side), upper)], -1
                )
                length = np.linalg.norm(self.keypoints[there, wrist] - hung, axis=-1)
                held = length[self.seen[there, wrist]]  # of the forearm, where a wrist is seen
                low, high = (part * fore for part in _FORESHORTENED)
                if hung[:, 1].max() < self.height or not ((low < held) & (held < high)).all():
                    continue
                keypoints[there, elbow] = hung
                confidence[there, elbow] = self.confidence[there, shoulder]
            there = confidence[:, elbow] >= VISIBLE
            below = keypoints[there, elbow] + [0.0, fore]
            if self.seen[:, wrist].any() or not there.any() or below[:, 1].max() < self.height:
                continue
            keypoints[there, wrist] = below
            confidence[there, wrist] = confidence[there, elbow]
        if np.array_equal(confidence, self.confidence):
            return self
        return replace(self, keypoints=keypoints, confidence=confidence)

    def filled(self) -> PoseClip:
        """Give frames that show nobody the joints and the face of the frames around them.

        They are interpolated over time; frames before the first person and after the last one
        repeat it. Frames that show somebody stay as they are.

        Returns:
            A clip in which every frame shows somebody, unless none does, or those around it have
            nothing in common (joints alone and a face alone).
        """
        there = np.flatnonzero(self.shown)
        if len(there) in (0, len(self)):
            return self
        keypoints, confidence = self.keypoints.copy(), self.confidence.copy()
        face = None if self.face is None else self.face.copy()
        for empty in np.flatnonzero(~self.shown):
            after = int(np.searchsorted(there, empty))
            left = int(there[max(0, after - 1)])
            right = int(there[min(after, len(there) - 1)])
            part = (empty - left) / (right - left) if left < empty < right else 0.0
            both = self.seen[left] & self.seen[right]
            keypoints[empty] = (1 - part) * self.keypoints[left] + part * self.keypoints[right]
            weight = np.minimum(self.confidence[left], self.confidence[right])
            confidence[empty] = np.where(both, weight, 0.0)
            if face is not None:  # what one of the two lacks is NaN, and stays missing
                face[empty] = (1 - part) * self.face[left] + part * self.face[right]
        return replace(self, keypoints=keypoints, confidence=confidence, face=face)

    def smoothed(self, step: float, spread: float = 0.1) -> PoseClip:
        """Take the tremble out of joints that were found frame by frame.

        A bilateral filter (Tomasi and Manduchi, ICCV 1998) over time: each joint becomes the mean
        of its own past and future, weighted by confidence, by nearness in time and by nearness in
        place. Small steps are tremble and are averaged, large ones are movement and stay; a plain
        Gaussian would cut the corners of every quick gesture.

        Args:
            step: seconds between two frames.
            spread: standard deviation of the weights over time, in seconds.

        Returns:
            A clip in which the same joints are seen, with the same confidence.

        Raises:
            PoseError: ``step`` or ``spread`` is not positive.
        """
        if not (step > 0 and spread > 0):
            raise PoseError(f"step is {step}, spread is {spread}; wanted seconds above 0")
        times = step * np.arange(len(self))
        near = ((times[:, None] - times) / spread)[..., None] ** 2  # [F, F, 1]
        apart = np.linalg.norm(self.keypoints[:, None] - self.keypoints, axis=-1)  # [F, F, 18]
        tremble = max(_TREMBLE * self._stature(), 1e-6)
        weights = np.exp(-0.5 * (near + (apart / tremble) ** 2)) * self.confidence
        total = np.maximum(weights.sum(1), 1e-9)[..., None]
        keypoints = np.einsum("abj,bjc->ajc", weights, self.keypoints) / total
        return replace(self, keypoints=keypoints)

    def missing(self) -> tuple[str, ...]:
        """Name what no frame shows, as in ``("hips", "legs", "left wrist")``.

        Whole limbs are named as one. Single eyes and ears are passed over: every head that turns
        hides some.
        """
        absent = ~self.seen.any(0)
        names: list[str] = []
        told: set[int] = set()
        for name, joints in _PARTS:
            if absent[list(joints)].all() and not told.issuperset(joints):
                names.append(name)
                told.update(joints)
        single = (joint for joint in range(14) if absent[joint] and joint not in told)
        return (*names, *(JOINTS[joint] for joint in single))

    def _moved(self, scale: float, offset: Array, size: int) -> PoseClip:
        face = None if self.face is None else self.face * scale + offset
        return replace(
            self, keypoints=self.keypoints * scale + offset, face=face, width=size, height=size
        )

    def _stature(self) -> float:
        """Guess how tall the person would stand, in pixels; 0 where no limb tells."""
        guesses = []
        for (a, b), part in _SEGMENT_OF_STATURE:
            both = self.seen[:, a] & self.seen[:, b]
            if both.any():
                lengths = np.linalg.norm(self.keypoints[both, a] - self.keypoints[both, b], axis=-1)
                guesses.append(float(lengths.max()) / part)
        # Foreshortening only ever shortens, hence the upper quartile rather than the median.
        return float(np.percentile(guesses, 75)) if guesses else 0.0


def check_frame_count(frames: int) -> None:
    """Refuse a clip's length that is out of range.

    Raises:
        PoseError: it is not 1 to ``MAX_FRAMES``.
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise PoseError(f"{frames} frames; wanted 1 to {MAX_FRAMES}. Cut or thin out the clip.")


def _interpolate(values: Array, seen: Array, times: Array) -> tuple[Array, Array]:
    """Sample tracks at fractional times, using only the frames in which each is seen.

    Args:
        values: [F, N, C].
        seen: bool [F, N].
        times: [T] in 0..F-1.

    Returns:
        float32 [T, N, C] and bool [T, N].
    """
    frames, tracks, channels = values.shape
    longest_gap = max(2, frames // 4)
    out = np.zeros((len(times), tracks, channels), np.float32)
    found = np.zeros((len(times), tracks), bool)
    for track in range(tracks):
        at = np.flatnonzero(seen[:, track])
        if not len(at):
            continue
        for channel in range(channels):
            out[:, track, channel] = np.interp(times, at, values[at, track, channel])
        after = np.searchsorted(at, times, side="left")
        left = at[np.clip(after - 1, 0, len(at) - 1)]
        right = at[np.clip(after, 0, len(at) - 1)]
        inside = (times >= at[0]) & (times <= at[-1]) & (right - left - 1 <= longest_gap)
        near = np.minimum(np.abs(times - left), np.abs(times - right)) <= 0.5
        found[:, track] = inside | near
    return out, found
