"""OpenPose JSON: pose clips read from it, whoever wrote it, and written as it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.pose import (
    MAX_SIDE,
    MIN_JOINTS,
    VISIBLE,
    PoseClip,
    PoseError,
    check_frame_count,
)
from pipelines.pose_tracking import Follower, bridged, crowd_note

Array = NDArray[Any]

MAX_JSON_BYTES = 8_000_000
"""Largest JSON file accepted, in bytes."""

# COCO-18 joints among BODY_25's (which has the middle of the hips at 8, and the feet from 19 on).
_FROM_BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)


def dump_openpose_json(clip: PoseClip) -> str:
    """Write a clip as OpenPose JSON: one frame's object, or a list of them for several frames.

    Args:
        clip: the clip; coordinates are rounded to a thousandth of a pixel.

    Returns:
        JSON text that :func:`load_openpose_json` reads back.
    """
    frames = []
    for index in range(len(clip)):
        rows = np.concatenate([clip.keypoints[index], clip.confidence[index][:, None]], -1)
        person = {"pose_keypoints_2d": _rounded(rows)}
        if clip.face is not None:
            found = ~np.isnan(clip.face[index, :, :1])
            landmarks = np.concatenate([np.where(found, clip.face[index], 0), found], -1)
            person["face_keypoints_2d"] = _rounded(landmarks)
        frames.append(
            {"people": [person], "canvas_width": clip.width, "canvas_height": clip.height}
        )
    return json.dumps(frames[0] if len(frames) == 1 else frames, separators=(",", ":"))


def load_openpose_json(data: str | bytes | Path | Sequence[Path]) -> PoseClip:
    """Read OpenPose JSON into a clip.

    Accepted: one frame ``{"people": [{"pose_keypoints_2d": [x, y, c, …]}], "canvas_width": W,
    "canvas_height": H}``, a list of such frames, ``{"frames": [such frames]}``, or a list of files
    of one frame each, in order. A person has 18 joints (COCO) or 25 (BODY_25), in pixels or, where
    no coordinate of the clip exceeds 1.5, as parts of the canvas; ``face_keypoints_2d`` (68 or 70
    landmarks) is optional. Where several people are in a frame, the largest is taken in the first
    and the same one is followed in the others; the clip's notes say so. Up to a quarter of the
    frames may show nobody: their joints are interpolated, and the clip's notes say how many.

    Args:
        data: JSON text, or a file, or one file a frame. Text is never taken for a path.

    Returns:
        The clip, on the canvas that the JSON names.

    Raises:
        PoseError: on anything else, naming the field and what was found in it, and when more than a
            quarter of the frames show nobody.
    """
    if isinstance(data, Path):
        data = _read_file(data)
    if isinstance(data, str | bytes):
        frames = _frames_of(_parse(data))
    else:
        check_frame_count(len(data))
        size = sum(path.stat().st_size for path in data)
        if size > MAX_JSON_BYTES:
            raise PoseError(
                f"{len(data)} files have {size / 1e6:.1f} MB together; the limit is "
                f"{MAX_JSON_BYTES / 1e6:.0f} MB"
            )
        frames = [frame for path in data for frame in _frames_of(_parse(_read_file(path)))]
    check_frame_count(len(frames))
    people = [_people_of(frame, _where(i, len(frames))) for i, frame in enumerate(frames)]
    notes: list[str] = []
    keypoints, confidence, face = _one_person(people, notes)
    width, height = _canvas_of(frames)
    found_face = ~np.isnan(face[..., 0])
    values = np.concatenate([keypoints[confidence >= VISIBLE], face[found_face]])
    parts = np.abs(values).max() <= 1.5
    if width is None or height is None:
        width, height, note = _assumed(width, height, values, parts)
        notes.append(note)
    if parts:
        # Normalised 0..1 spans the canvas from edge to edge; pixel 0's centre is half a pixel in.
        keypoints = keypoints * [width, height] - 0.5
        face = face * [width, height] - 0.5
    clip = PoseClip(
        keypoints=keypoints,
        confidence=confidence,
        face=face if found_face.any() else None,
        width=width,
        height=height,
        notes=tuple(notes),
    )
    return bridged(clip, "leave the others out")


def _rounded(rows: Array) -> list[float]:
    return [round(float(value), 3) for value in rows.reshape(-1)]


def _read_file(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise PoseError(
            f"{path.name} has {size / 1e6:.1f} MB; the limit is {MAX_JSON_BYTES / 1e6:.0f} MB"
        )
    return path.read_bytes()


def _parse(data: str | bytes) -> Any:
    if len(data) > MAX_JSON_BYTES:
        raise PoseError(
            f"the JSON has {len(data) / 1e6:.1f} MB; the limit is {MAX_JSON_BYTES / 1e6:.0f} MB"
        )
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise PoseError(
            f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}. "
            "Wanted OpenPose JSON."
        ) from error
    except UnicodeDecodeError as error:
        raise PoseError("not a text file; wanted OpenPose JSON in UTF-8") from error
    except (RecursionError, ValueError) as error:
        raise PoseError(f"JSON that cannot be read: {error}. Wanted OpenPose JSON.") from error


def _frames_of(parsed: Any) -> list[dict[str, Any]]:
    if isinstance(parsed, dict) and {"prompt", "pose"} <= set(parsed):
        raise PoseError(
            "these are the settings of a result; take its pose JSON, or load them as settings"
        )
    if isinstance(parsed, dict) and "frames" in parsed:
        parsed = parsed["frames"]
        if not isinstance(parsed, list):
            raise PoseError(f'"frames" is {_kind(parsed)}; wanted a list of frames')
    if isinstance(parsed, dict):
        parsed = [parsed]
    if not isinstance(parsed, list):
        raise PoseError(
            f'the JSON is {_kind(parsed)}; wanted a frame {{"people": […]}} or a list of frames'
        )
    check_frame_count(len(parsed))
    for index, frame in enumerate(parsed):
        where = _where(index, len(parsed))
        if not isinstance(frame, dict):
            raise PoseError(f"{where} is {_kind(frame)}; wanted an object with people")
        if "people" not in frame:
            found = ", ".join(sorted(map(str, frame))[:6]) or "nothing"
            which = where if len(parsed) > 1 else "it"
            raise PoseError(
                f'This is not an OpenPose file: {which} has no "people", only: {found}'
            )
        if not isinstance(frame["people"], list):
            raise PoseError(f'"people" of {where} is {_kind(frame["people"])}; wanted a list')
    return parsed


_Person = tuple[Array, Array, Array]  # keypoints [18, 2], confidence [18], face [68, 2]


def _people_of(frame: dict[str, Any], where: str) -> list[_Person]:
    people = []
    for number, person in enumerate(frame["people"], 1):
        who = f"person {number} of {where}"
        if not isinstance(person, dict):
            raise PoseError(f"{who} is {_kind(person)}; wanted an object")
        if "pose_keypoints_2d" not in person:
            found = ", ".join(sorted(map(str, person))[:6]) or "nothing"
            raise PoseError(f'{who} has no field "pose_keypoints_2d"; found: {found}')
        joints = _triples(person["pose_keypoints_2d"], "pose_keypoints_2d", who, (18, 25), "joints")
        if len(joints) == 25:
            joints = joints[list(_FROM_BODY_25)]
        landmarks = _triples(
            person.get("face_keypoints_2d"), "face_keypoints_2d", who, (68, 70), "landmarks"
        )[:68]
        seen = joints[:, 2] >= VISIBLE
        face = np.full((68, 2), np.nan)
        if len(landmarks):
            found = landmarks[:, 2] >= VISIBLE
            face[found] = landmarks[found, :2]
        if seen.sum() >= MIN_JOINTS or np.isfinite(face[:, 0]).sum() >= 34:
            keypoints = np.zeros((18, 2))
            confidence = np.zeros(18)
            if len(joints):
                keypoints, confidence = joints[:, :2], joints[:, 2]
            people.append((keypoints, confidence, face))
    return people


def _triples(value: Any, field: str, who: str, counts: tuple[int, int], what: str) -> Array:
    """Read a flat list of x, y, confidence; an absent or empty one gives [0, 3]."""
    if value is None or value == []:
        return np.zeros((0, 3))
    wanted = " or ".join(f"{3 * count} ({count} {what} of x, y, confidence)" for count in counts)
    if not isinstance(value, list):
        raise PoseError(f'"{field}" of {who} is {_kind(value)}; wanted a list of {wanted} numbers')
    if len(value) not in [3 * count for count in counts]:
        raise PoseError(f'"{field}" of {who} has {len(value)} numbers; wanted {wanted}')
    for index, number in enumerate(value):
        if number is None:
            continue  # some editors write null for a joint that is not set
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise PoseError(f'"{field}"[{index}] of {who} is {_kind(number)}; wanted a number')
        if not abs(number) <= 1e6:
            raise PoseError(f'"{field}"[{index}] of {who} is {number}; wanted at most 1e6')
    rows = np.array([np.nan if number is None else number for number in value], np.float64)
    rows = rows.reshape(-1, 3)
    rows[np.isnan(rows).any(1)] = 0.0
    return rows


def _canvas_of(frames: list[dict[str, Any]]) -> tuple[int | None, int | None]:
    sides: list[int | None] = []
    for field in ("canvas_width", "canvas_height"):
        first: int | None = None
        for index, frame in enumerate(frames):
            value = frame.get(field)
            where = _where(index, len(frames))
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise PoseError(f'"{field}" of {where} is {_kind(value)}; wanted a number')
            if not 1 <= value <= MAX_SIDE:
                raise PoseError(f'"{field}" of {where} is {value}; wanted 1 to {MAX_SIDE}')
            if first is not None and int(value) != first:
                raise PoseError(
                    f'"{field}" of {where} is {value}, but an earlier frame has {first}; '
                    "wanted one canvas for the whole clip"
                )
            first = int(value)
        sides.append(first)
    return sides[0], sides[1]


def _assumed(
    width: int | None, height: int | None, values: Array, parts: bool
) -> tuple[int, int, str]:
    """Return a canvas where the JSON names none, or one side alone, and a note on it.

    Args:
        width: that is named, if it is.
        height: the same; one of the two is not.
        values: coordinates of what was found, [N, 2].
        parts: whether they are parts of the canvas. Then nothing tells its size, and it is taken to
            be square; otherwise it is the smallest one that holds them. OpenPose's own files name
            none.
    """
    found = [max(64, int(np.ceil(side)) + 1) for side in values.max(0) * 1.05]
    guess = [width or height or 512] * 2 if parts else found
    if height is not None:
        return guess[0], height, f"the JSON names no canvas_width: {guess[0]} px assumed"
    if width is not None:
        return width, guess[1], f"the JSON names no canvas_height: {guess[1]} px assumed"
    return *guess, f"the JSON names no canvas size: {guess[0]} × {guess[1]} px assumed"


def _one_person(people: list[list[_Person]], notes: list[str]) -> tuple[Array, Array, Array]:
    """Follow one person through the frames: the largest at first, then the nearest to it."""
    most = max(map(len, people))
    if most == 0:
        raise PoseError(
            f"no person found: no frame has anybody with at least {MIN_JOINTS} joints of "
            f"confidence {VISIBLE} or more"
        )
    notes += crowd_note(most)
    keypoints = np.zeros((len(people), 18, 2))
    confidence = np.zeros((len(people), 18))
    face = np.full((len(people), 68, 2), np.nan)
    follower = Follower()
    for index, frame in enumerate(people):
        who = follower.pick([_points(person) for person in frame], alone=most == 1)
        if who is not None:
            keypoints[index], confidence[index], face[index] = frame[who]
    return keypoints, confidence, face


def _points(person: _Person) -> Array:
    keypoints, confidence, face = person
    return np.concatenate([keypoints[confidence >= VISIBLE], face[np.isfinite(face[:, 0])]])


def _where(index: int, count: int) -> str:
    return f"frame {index + 1}" if count > 1 else "the frame"


def _kind(value: Any) -> str:
    """Name a JSON value's type in words, without repeating its content."""
    if value is None:
        return "null"
    names = {bool: "true or false", dict: "an object", list: "a list", str: "text"}
    return names.get(type(value), "a number")
