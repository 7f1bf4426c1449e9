"""Poses from pictures, without a network: BlazePose on LiteRT, and skeleton drawings.

The models are MediaPipe's pose detector and landmark model ("full"), Apache-2.0, as .tflite files
(Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020, arXiv 2006.10204).
What MediaPipe does around them is built here after its graphs ``pose_detection`` and
``pose_landmark``: anchors, decoding, weighted non-maximum suppression, the turned region of
interest, the crop, and the refinement by heatmaps.

Added to it: a detector pass with a wider border for figures that fill the picture or look unlike a
photograph, and a consensus over several crops of the same person, because single crops of drawn
figures sometimes swap left and right or lose an arm. On 60 held-out avatars in three drawing styles
the consensus raised PCK@0.1 of the body's joints (of the torso's diagonal; joints not found count
as wrong) from 0.77 to 0.82.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.fetch import mediapipe_folder
from pipelines.pose import MAX_FRAMES, MIN_JOINTS, VISIBLE, PoseClip, PoseError
from pipelines.pose_tracking import Follower, bridged, crowd_note
from pipelines.skeleton import is_skeleton, read_skeleton, read_skeletons

Array = NDArray[Any]

MIN_SIDE = 64
"""Pictures with a side shorter than this, in pixels, are refused."""

MAX_PICTURE_BYTES = 20_000_000
"""Largest picture file accepted, in bytes."""

MAX_JPEG_PIXELS = 60_000_000
"""Largest JPEG accepted, in pixels: it is decoded at a part of its size, whatever a phone takes."""

MAX_PICTURE_PIXELS = 24_000_000
"""Largest other picture accepted, in pixels: it is decoded whole, and copied while it is."""

_LARGEST_SIDE = 1280  # the crops have 256 px: more pixels than this cost time and add nothing
_DETECTOR_SIDE = 224
_CROP_SIDE = 256
_HEATMAP_CELL = 4  # the landmark model's heatmaps have 64 cells a side
_MIN_SCORE = 0.5  # of the detector, and of the landmark model's "a person is there"
_MIN_OVERLAP = 0.3  # boxes that overlap more than this are one detection
_ROI_SCALE = 1.25  # margin around a person that the landmark model was trained with
_WIDE = 1.6  # side of the detector's second look over the longer side of the picture
_LONG = 1.3  # pictures longer than this, over their shorter side, are also looked at in squares
_MOST_PEOPLE = 5
# Crops for the consensus: scale and turn of the region of interest, each also mirrored.
_VIEWS = tuple((scale, turn) for scale in (1.0, 0.9, 1.1) for turn in (0.0, -0.2, 0.2))
_CONSENSUS = 0.15  # crops agree when their joints differ by less than this part of the torso
_SEARCHES = 3  # parts of a film at the end of which others than the one followed are looked for
_SURE = 0.3  # with fewer crops in agreement than this, the median error trebles (60 avatars)
# BlazePose's landmark for each OpenPose joint; the neck is the middle of the shoulders.
_LANDMARK_OF_JOINT = (0, -1, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
_LEFT_SHOULDER, _RIGHT_SHOULDER, _LEFT_HIP, _RIGHT_HIP = 11, 12, 23, 24
# Landmark that each landmark becomes in a mirrored picture: 1-6 eyes, then pairs up to the feet.
_MIRRORED = (0, 4, 5, 6, 1, 2, 3, *(i - 1 + 2 * (i % 2) for i in range(7, 33)), 33, 34)
_ROI_CENTRE, _ROI_TIP = 33, 34  # the landmark model's own two points for the next crop


class NotAPicture(PoseError):
    """A file of none of the formats that are read as a picture."""


@dataclass(frozen=True)
class Region:
    """A turned square around a person.

    Attributes:
        centre: float [2], pixels; a whole number is a pixel's edge.
        side: length of a side in pixels.
        angle: radians by which the person leans to the right.
        score: confidence of the detection, 0..1.
    """

    centre: Array
    side: float
    angle: float
    score: float

    @classmethod
    def around(cls, hips: Array, tip: Array, score: float) -> Region:
        """Build the region from the middle of the hips and the point above the person's head.

        The distance between the two is the radius of a circle around the person, and their
        direction is the person's own "up" (BlazePose, section 2, after the Vitruvian man).
        """
        up = tip - hips
        angle = float(np.arctan2(up[0], -up[1]))
        side = 2 * _ROI_SCALE * float(np.hypot(*up))
        return cls(np.asarray(hips, np.float64), max(side, 1.0), angle, score)

    def matrix(self, size: int) -> Array:
        """Affine [2, 3] from a crop's continuous coordinates (0..size) to the picture's."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]]) * (self.side / size)
        return np.concatenate([turn, (self.centre - turn @ [size / 2, size / 2])[:, None]], 1)

    def crop(self, image: Array, size: int) -> Array:
        """Cut the region out of a picture, black where it leaves it; RGB uint8 [size, size, 3]."""
        shrink = min(1.0, 1.5 * size / self.side)
        region = self
        if shrink < 1:  # linear interpolation would skip pixels
            side = tuple(max(1, round(image.shape[axis] * shrink)) for axis in (1, 0))
            ratio = np.array(side) / [image.shape[1], image.shape[0]]
            image = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
            region = replace(self, centre=self.centre * ratio, side=self.side * float(ratio[0]))
        matrix = region.matrix(size)
        # OpenCV puts whole numbers at pixels' centres.
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, matrix, (size, size), flags=flags)


@dataclass(frozen=True)
class Landmarks:
    """BlazePose's landmarks of one person.

    Attributes:
        points: float [35, 2] in the picture's pixels: 33 landmarks, then the two points that
            span the person's region.
        visibility: float [35] in 0..1: in the picture and not hidden.
        presence: float [35] in 0..1: in the picture.
        score: how sure it is that there is a person at all, 0..1.
    """

    points: Array
    visibility: Array
    presence: Array
    score: float

    @property
    def joints(self) -> tuple[Array, Array]:
        """OpenPose-18 joints [18, 2] and their confidence [18]; 0 for joints not in the picture."""
        points, confidence = np.zeros((18, 2)), np.zeros(18)
        for joint, landmark in enumerate(_LANDMARK_OF_JOINT):
            sources = [_LEFT_SHOULDER, _RIGHT_SHOULDER] if landmark < 0 else [landmark]
            points[joint] = self.points[sources].mean(0)
            if self.presence[sources].min() >= _MIN_SCORE:
                confidence[joint] = self.visibility[sources].min()
        return points, confidence


@dataclass(frozen=True)
class Found:
    """The largest person in a picture.

    Attributes:
        person: the landmarks.
        people: how many people there are.
        agreement: part of the crops that agree on the landmarks, 0..1; 1 where no consensus was
            asked for.
    """

    person: Landmarks
    people: int
    agreement: float


class PoseExtractor:
    """BlazePose's two models and what goes around them.

    Objects may be shared between threads.

    Args:
        folder: holds ``pose_detection.tflite`` and ``pose_landmark_full.tflite``.
        threads: CPU threads for a model.

    Raises:
        FileNotFoundError: a model is not in the folder.
    """

    def __init__(self, folder: Path, threads: int = 2) -> None:
        self._lock = Lock()
        self._detector = _interpreter(folder / "pose_detection.tflite", threads)
        self._landmarks = _interpreter(folder / "pose_landmark_full.tflite", threads)
        self._anchors = _anchors()

    def detect(self, image: Array, square: Region | None = None) -> list[Region]:
        """Find people.

        Args:
            image: RGB uint8 [H, W, 3].
            square: what the detector looks at; the whole picture when None.

        Returns:
            Their regions, the surest first.
        """
        whole = square or _whole(image)
        crop = whole.crop(image, _DETECTOR_SIDE).astype(np.float32) / 127.5 - 1
        outputs = self._run(self._detector, crop)
        raw = outputs[(1, 2254, 12)][0].astype(np.float64)
        scores = _sigmoid(outputs[(1, 2254, 1)][0, :, 0])
        # Per anchor: centre and size of the face's box, then four points; all in pixels from the
        # anchor. The first two points are the middle of the hips and the tip of the region.
        points = raw[:, 4:8].reshape(-1, 2, 2) / _DETECTOR_SIDE + self._anchors[:, None]
        boxes = np.concatenate([raw[:, :2] / _DETECTOR_SIDE + self._anchors,
                                raw[:, 2:4] / _DETECTOR_SIDE], 1)  # fmt: skip
        corner = whole.centre - whole.side / 2
        return [
            Region.around(*(points * whole.side + corner), score)
            for points, score in _suppressed(boxes, points, scores)
        ]

    def locate(self, image: Array, region: Region, mirror: bool = False) -> Landmarks:
        """Find the landmarks of the person in a region.

        Args:
            image: RGB uint8 [H, W, 3].
            region: where the person is.
            mirror: whether to let the model see the crop mirrored (the answer is mirrored back).
        """
        crop = region.crop(image, _CROP_SIDE)
        if mirror:
            crop = crop[:, ::-1]
        outputs = self._run(self._landmarks, crop.astype(np.float32) / 255)
        rows = outputs[(1, 195)][0].reshape(39, 5)[:35].astype(np.float64)
        points = _refined(rows[:, :2], outputs[(1, 64, 64, 39)][0])
        visibility, presence = _sigmoid(rows[:, 3]), _sigmoid(rows[:, 4])
        if mirror:
            order = list(_MIRRORED)
            points = points[order] * [-1, 1] + [_CROP_SIDE, 0]
            visibility, presence = visibility[order], presence[order]
        matrix = region.matrix(_CROP_SIDE)
        return Landmarks(
            points=points @ matrix[:, :2].T + matrix[:, 2] - 0.5,
            visibility=visibility,
            presence=presence,
            score=float(outputs[(1, 1)][0, 0]),
        )

    def extract(self, image: Array, thorough: bool = True) -> Found | None:
        """Find the largest person.

        Args:
            image: RGB uint8 [H, W, 3].
            thorough: whether to reach a consensus over 18 crops instead of taking two.

        Returns:
            The person, or None when nobody is found.
        """
        found: list[tuple[Region, Landmarks]] = []
        doubtful: list[Region] = []
        for squares in (_squares(image), [_whole(image, _WIDE)]):
            regions = [region for square in squares for region in self.detect(image, square)]
            regions.sort(key=lambda region: -region.score)
            for region in regions[: 2 * _MOST_PEOPLE]:
                if any(_overlap(region, other) for other, _ in found):
                    continue
                first = self.locate(image, region)
                # The landmark model corrects the region that it was given, as in a video.
                closer = _next_region(first) if first.score >= 0.3 else region
                person = self.locate(image, closer)
                if max(first.score, person.score) < _MIN_SCORE:
                    doubtful.append(region)
                elif not any(_same(person, other) for _, other in found):
                    found.append((closer, person))
            if found:
                region, person = max(found, key=lambda pair: pair[0].side)
                if not thorough:
                    return Found(person, len(found), 1.0)
                person, agreement = self._consensus(image, region)
                return Found(person, len(found), agreement)
        # The detector is sure but the landmark model is not: ask it about other crops.
        for region in doubtful[:2]:
            person, agreement = self._consensus(image, region)
            if person.score >= _MIN_SCORE and agreement >= _SURE:
                return Found(person, 1, agreement)
        return None

    def follow(self, image: Array, before: Landmarks) -> Landmarks | None:
        """Find the person of an earlier frame of the same film.

        Args:
            image: RGB uint8 [H, W, 3].
            before: the person's landmarks in the earlier frame.

        Returns:
            The landmarks, or None when the person is lost.
        """
        person = self.locate(image, _next_region(before))
        return person if person.score >= _MIN_SCORE else None

    def _consensus(self, image: Array, region: Region) -> tuple[Landmarks, float]:
        """Locate in 18 crops; the median of the largest group that agrees, and its share."""
        views = []
        for scale, turn in _VIEWS:
            view = replace(region, side=region.side * scale, angle=region.angle + turn)
            views += [self.locate(image, view, mirror) for mirror in (False, True)]
        points = np.stack([view.points for view in views])
        scores = np.array([view.score for view in views])
        limbs = points[:, [0, *range(11, 17), *range(23, 29)]]
        difference = np.linalg.norm(limbs[:, None] - limbs[None], axis=-1).mean(-1)
        agree = difference < _CONSENSUS * float(np.median(_torso(points)))
        votes = (agree * scores).sum(1)
        # Of equally large groups the one whose centre is nearest to all.
        best = int(np.lexsort((difference.mean(1), -votes.round(6)))[0])
        group = [view for view, inside in zip(views, agree[best], strict=True) if inside]
        median = Landmarks(
            points=np.median(points[agree[best]], 0),
            visibility=np.mean([view.visibility for view in group], 0),
            presence=np.mean([view.presence for view in group], 0),
            score=max(view.score for view in group),
        )
        return median, len(group) / len(views)

    def _run(self, model: Any, picture: Array) -> dict[tuple[int, ...], Array]:
        """Run a model on one picture; its outputs by shape, which tells them apart."""
        with self._lock:
            model.set_tensor(model.get_input_details()[0]["index"], picture[None])
            model.invoke()
            return {
                tuple(int(n) for n in output["shape"]): model.get_tensor(output["index"])
                for output in model.get_output_details()
            }


def extract_pose(image: Array, thorough: bool = True) -> PoseClip:
    """Find the pose in a picture: a photograph, a drawn figure, or a skeleton in OpenPose colours.

    Args:
        image: RGB uint8 [H, W, 3], at least ``MIN_SIDE`` px a side.
        thorough: whether to spend about 0.3 s rather than 0.05 s on a photograph (2 cores).

    Returns:
        A clip of one frame on the picture's own canvas. Joints outside the picture are missing.
        Of several people the largest is used, and the clip's notes say so.

    Raises:
        PoseError: when ``image`` is not such an array, is no skeleton and over 20 times as long as
            wide, or nobody is found in it.
        MissingWeights: when the models have not been fetched.
    """
    _check(image)
    if is_skeleton(image):
        return read_skeleton(image)
    small, scale = _shrunk(image)
    found = _extractor(mediapipe_folder()).extract(small, thorough)
    if found is None:
        raise PoseError(
            f"no person found in the picture of {image.shape[1]} × {image.shape[0]} px; wanted one "
            "person, large and well lit, or a skeleton in OpenPose colours on black"
        )
    points, confidence = _placed(found.person, image.shape, scale)
    seen = int((confidence >= VISIBLE).sum())
    if seen < MIN_JOINTS:
        raise PoseError(
            f"only {seen} joints of the person are in the picture; wanted "
            f"at least {MIN_JOINTS}, better the whole body"
        )
    return PoseClip(
        keypoints=points[None],
        confidence=confidence[None],
        face=None,
        width=image.shape[1],
        height=image.shape[0],
        notes=(*crowd_note(found.people), *_doubt_note(found.agreement)),
    )


def extract_clip(
    frames: Sequence[Array],
    seconds: float | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> PoseClip:
    """Find one person's pose in the frames of a film.

    As `extract_steps`, in one go.

    Args:
        frames: as for `extract_steps`.
        seconds: as for `extract_steps`.
        on_progress: told the part done, 0..1, after each frame.

    Returns:
        A clip of as many frames.

    Raises:
        PoseError: as `extract_steps`.
        MissingWeights: when the models have not been fetched.
    """
    steps = extract_steps(frames, seconds)
    while not isinstance(step := next(steps), PoseClip):
        if on_progress:
            on_progress(step / len(frames))
    return step


def extract_steps(
    frames: Sequence[Array], seconds: float | None = None
) -> Iterator[int | PoseClip]:
    """Find one person's pose in the frames of a film, a frame at a time.

    The largest person of the first frame that shows somebody is followed. The clip's notes say so
    where there are more, or where others come into view later, for whom a few frames are searched.
    Up to a quarter of the frames may show nobody: their joints are interpolated, and the clip's
    notes say how many.

    Args:
        frames: 1 to ``MAX_FRAMES`` pictures of one size, RGB uint8 [H, W, 3].
        seconds: time from the first frame to the last, by which the joints are smoothed; None
            leaves them as they were found.

    Yields:
        After each frame how many are done, and last the clip, of as many frames. Dropping the
        iterator half-way is safe.

    Raises:
        PoseError: when there are too many frames or none, their sizes differ, they are no skeletons
            and over 20 times as long as wide, or more than a quarter of them show nobody.
        MissingWeights: when the models have not been fetched.
    """
    _check_film(frames)
    drawn = sum(is_skeleton(frame) for frame in frames) > len(frames) / 2
    extractor = None if drawn else _extractor(mediapipe_folder())
    keypoints, confidence = np.zeros((len(frames), 18, 2)), np.zeros((len(frames), 18))
    notes: list[str] = []
    most = later = 0
    anew, person, follower = False, None, Follower()
    searched = {len(frames) * part // _SEARCHES for part in range(1, _SEARCHES)} | {len(frames) - 1}
    for index, frame in enumerate(frames):
        if extractor is None:
            with suppress(PoseError):  # nobody in this one
                people = read_skeletons(frame)
                most = max(most, len(people))
                who = follower.pick([one.keypoints[one.seen] for one in people], alone=most == 1)
                if who is not None:
                    drawing = people[who]
                    keypoints[index] = drawing.keypoints[0]
                    confidence[index] = drawing.confidence[0]
                    notes += [note for note in drawing.notes if note not in notes]
        else:
            small, scale = _shrunk(frame)
            person = extractor.follow(small, person) if person else None
            if person is None or index in searched:
                found = extractor.extract(small, thorough=False)
                if found and person is None:
                    anew = anew or most > 0
                    most, person = max(most, found.people), found.person
                elif found:
                    later = max(later, found.people)
            if person:
                keypoints[index], confidence[index] = _placed(person, frame.shape, scale)
        yield index + 1
    # Two joints at the picture's edge are no pose to interpolate from.
    confidence[(confidence >= VISIBLE).sum(1) < MIN_JOINTS] = 0
    clip = PoseClip(
        keypoints=keypoints,
        confidence=confidence,
        face=None,
        width=frames[0].shape[1],
        height=frames[0].shape[0],
        notes=(*crowd_note(most), *_newcomers_note(most, later, anew), *notes),
    )
    clip = bridged(clip, "cut the video to where somebody is in view")
    if seconds and len(clip) > 1:
        clip = clip.smoothed(seconds / (len(clip) - 1))
    yield clip


def load_picture(data: bytes | Path) -> NDArray[np.uint8]:
    """Read a picture file, turned the way its camera was held, on black where transparent.

    Args:
        data: a file or its content: PNG, JPEG, WebP, GIF (first frame) or BMP.

    Returns:
        RGB uint8 [H, W, 3]; a large JPEG at a half, a quarter or an eighth of its size.

    Raises:
        NotAPicture: when it is no picture.
        PoseError: when it is too large.
    """
    from PIL import Image, ImageOps

    size = data.stat().st_size if isinstance(data, Path) else len(data)
    if size > MAX_PICTURE_BYTES:
        limit = MAX_PICTURE_BYTES / 1e6
        raise PoseError(f"the picture has {size / 1e6:.0f} MB; the limit is {limit:.0f} MB")
    formats = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
    content = data.read_bytes() if isinstance(data, Path) else data
    try:
        with Image.open(io.BytesIO(content), formats=formats) as opened:
            most = MAX_JPEG_PIXELS if opened.format == "JPEG" else MAX_PICTURE_PIXELS
            if opened.width * opened.height > most:
                raise PoseError(
                    f"the picture has {opened.width} × {opened.height} px; the limit is "
                    f"{most // 1_000_000} million pixels; make it smaller"
                )
            opened.draft("RGB", (_LARGEST_SIDE, _LARGEST_SIDE))  # of no effect but on a JPEG
            upright = ImageOps.exif_transpose(opened)
            if upright.mode in ("I;16", "I"):  # 16-bit grey, which Pillow would clip at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            upright = upright.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, PoseError):
            raise
        raise NotAPicture(
            "not a picture that can be read; wanted PNG, JPEG, WebP, GIF or BMP"
        ) from error
    backdrop = Image.new("RGBA", upright.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(backdrop, upright).convert("RGB"))


@lru_cache(maxsize=1)
def _extractor(folder: Path) -> PoseExtractor:
    return PoseExtractor(folder)


def _interpreter(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise FileNotFoundError(f"no model {path.name} in {path.parent}")
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _check(image: Array) -> None:
    if not isinstance(image, np.ndarray):
        raise PoseError(f"{type(image).__name__} is not a picture; wanted RGB uint8 [H, W, 3]")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise PoseError(
            f"the picture is {image.dtype} {list(image.shape)}; wanted RGB uint8 [H, W, 3]"
        )
    if min(image.shape[:2]) < MIN_SIDE:
        raise PoseError(
            f"the picture has {image.shape[1]} × {image.shape[0]} px; wanted at least "
            f"{MIN_SIDE} px a side"
        )


def _check_film(frames: Sequence[Array]) -> None:
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise PoseError(f"{len(frames)} frames; wanted 1 to {MAX_FRAMES}; cut or thin out the clip")
    for index, frame in enumerate(frames):
        _check(frame)
        if frame.shape != frames[0].shape:
            raise PoseError(
                f"frame {index + 1} has {frame.shape[1]} × {frame.shape[0]} px, but frame 1 has "
                f"{frames[0].shape[1]} × {frames[0].shape[0]}; wanted one size"
            )


def _shrunk(image: Array) -> tuple[Array, Array]:
    """Shrink a picture to ``_LARGEST_SIDE``; the factors [2] by which it grows back.

    Raises:
        PoseError: its shorter side would be left with less than ``MIN_SIDE`` px.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    if scale == 1.0:
        return image, np.ones(2)
    side = (round(width * scale), round(height * scale))
    if min(side) < MIN_SIDE:
        raise PoseError(
            f"the picture has {width} × {height} px; wanted one side at most "
            f"{_LARGEST_SIDE // MIN_SIDE} times as long as the other: crop it to the person"
        )
    small = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
    return small, np.array([width, height]) / side


def _placed(person: Landmarks, shape: tuple[int, ...], scale: Array) -> tuple[Array, Array]:
    """Bring a person's joints back to the picture's own pixels and drop those outside of it."""
    points, confidence = person.joints
    points = (points + 0.5) * scale - 0.5
    inside = ((points >= -0.5) & (points < np.array([shape[1], shape[0]]) - 0.5)).all(-1)
    return points, np.where(inside, confidence, 0.0)


def _newcomers_note(count: int, later: int, anew: bool) -> tuple[str, ...]:
    if later <= max(1, count):
        return ()
    # Whoever is lost is looked for anew, and then the largest person is taken.
    followed = "one of them" if anew else "the one from the beginning"
    return (f"{later} people found later on: {followed} is followed",)


def _doubt_note(agreement: float) -> tuple[str, ...]:
    if agreement >= _SURE:
        return ()
    return ("the pose is uncertain: compare the skeleton with the picture",)


def _anchors() -> Array:
    """Anchor centres [2254, 2] in 0..1 of MediaPipe's SSD head for 224 px.

    Strides 8, 16, 32, 32, 32 with two anchors a cell; the last three share one grid.
    """
    grids = []
    for cells, anchors in ((28, 2), (14, 2), (7, 6)):
        line = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
        grids.append(np.repeat(grid, anchors, 0))
    return np.concatenate(grids)


def _suppressed(boxes: Array, points: Array, scores: Array) -> list[tuple[Array, float]]:
    """Weighted non-maximum suppression: overlapping detections are averaged by their scores.

    Args:
        boxes: [N, 4] centre x, centre y, width, height.
        points: [N, 2, 2].
        scores: [N].

    Returns:
        Points [2, 2] and score of each group, the surest first.
    """
    rest = np.flatnonzero(scores >= _MIN_SCORE)
    rest = rest[np.argsort(-scores[rest], kind="stable")]
    groups = []
    while len(rest):
        low = boxes[rest, :2] - boxes[rest, 2:] / 2
        high = boxes[rest, :2] + boxes[rest, 2:] / 2
        common = np.clip(np.minimum(high, high[0]) - np.maximum(low, low[0]), 0, None).prod(1)
        area = np.maximum((high - low).prod(1), 1e-12)
        same = common / (area + area[0] - common) > _MIN_OVERLAP
        same[0] = True
        weights = scores[rest[same]]
        mean = (points[rest[same]] * weights[:, None, None]).sum(0) / weights.sum()
        groups.append((mean, float(weights[0])))
        rest = rest[~same]
    return groups


def _refined(points: Array, heatmaps: Array) -> Array:
    """Move each landmark to the mean of its heatmap's 7 × 7 cells around it, where that is sure.

    Args:
        points: [N, 2] in the crop's pixels.
        heatmaps: [64, 64, ≥ N] logits.
    """
    refined = points.copy()
    cells = heatmaps.shape[0]
    for index, point in enumerate(points):
        column, row = np.floor(point / _HEATMAP_CELL).astype(int)
        if not (0 <= column < cells and 0 <= row < cells):
            continue
        top, left = max(0, row - 3), max(0, column - 3)
        sure = _sigmoid(heatmaps[top : row + 4, left : column + 4, index])
        if sure.max() >= _MIN_SCORE:
            rows, columns = np.mgrid[: sure.shape[0], : sure.shape[1]]
            cell = np.array([(columns * sure).sum(), (rows * sure).sum()]) / sure.sum()
            refined[index] = (cell + [left, top]) * _HEATMAP_CELL
    return refined


def _whole(image: Array, border: float = 1.0) -> Region:
    """Square around the picture; its side is ``border`` times the picture's longer side."""
    height, width = image.shape[:2]
    return Region(np.array([width, height]) / 2, border * max(height, width), 0.0, 1.0)


def _squares(image: Array) -> list[Region]:
    """Squares for the detector: the whole picture, and for long ones parts of full height."""
    height, width = image.shape[:2]
    short, long = sorted((height, width))
    if long < _LONG * short:
        return [_whole(image)]
    count = min(4, int(np.ceil(2 * long / short)) - 1)
    middles = np.linspace(short / 2, long - short / 2, count)
    centres = [(x, height / 2) if width > height else (width / 2, x) for x in middles]
    return [_whole(image), *(Region(np.array(at), float(short), 0.0, 1.0) for at in centres)]


def _overlap(a: Region, b: Region) -> bool:
    """Tell whether two regions are around the same person."""
    apart = float(np.linalg.norm(a.centre - b.centre))
    return apart < 0.12 * max(a.side, b.side) and 0.7 < a.side / b.side < 1.4


def _next_region(person: Landmarks) -> Region:
    hips, tip = person.points[[_ROI_CENTRE, _ROI_TIP]] + 0.5
    return Region.around(hips, tip, person.score)


def _torso(points: Array) -> Array:
    """Length from the middle of the shoulders to that of the hips; points are [.., 35, 2]."""
    shoulders = points[..., [_LEFT_SHOULDER, _RIGHT_SHOULDER], :].mean(-2)
    hips = points[..., [_LEFT_HIP, _RIGHT_HIP], :].mean(-2)
    return np.linalg.norm(shoulders - hips, axis=-1) + 1e-6


def _same(a: Landmarks, b: Landmarks) -> bool:
    """Tell whether two detections are one person: their torsos lie on each other."""
    torso = [_LEFT_SHOULDER, _RIGHT_SHOULDER, _LEFT_HIP, _RIGHT_HIP]
    apart = np.linalg.norm(a.points[torso] - b.points[torso], axis=-1).mean()
    return bool(apart < 0.5 * max(_torso(a.points), _torso(b.points)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -80, 80)))
