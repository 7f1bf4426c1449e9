"""The joint editor: drag the joints of a pose clip at its first, middle and last frame.

One `gr.HTML` with a fixed template, like the stage. The browser keeps what was changed apart from
the clip: for each keyframe a displacement of each joint, and for each joint whether it is shown.
The frames in between get the displacements blended by `weights`, on top of the clip's own motion,
so that moving one hand of a walk leaves the walk as it was. What comes back is the edited clip as
OpenPose JSON, which `read` trusts in nothing.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from pipelines.pose import JOINTS, LIMBS, PoseClip, PoseError
from pipelines.pose_drawing import COLOURS
from pipelines.pose_json import MAX_JSON_BYTES, load_openpose_json
from ui.theme import static

Array = NDArray[Any]

CANVAS = 512
"""Side of the square that edited clips come back on, in pixels."""

THROUGH = 0.5
"""Slope of a displacement at the middle keyframe over the mean slope of the clip.

At 0 every motion would halt there; at 1 (Catmull and Rom's choice) a change of the last frame alone
would swing the first half 7 % the other way. Half of it keeps moving and swings half as far.
"""

PARENT: dict[int, int] = {b: a for a, b in LIMBS}
"""The joint that each joint but the neck hangs from; parents come before their children."""

# Someone who stands with the arms down, in parts of the frame: tells where a joint that no frame
# shows would be, seen from those that are there. Own drawing, after the library's figures.
_STANDING = np.array(
    [
        (0.50, 0.24), (0.50, 0.31),
        (0.42, 0.32), (0.39, 0.43), (0.38, 0.53), (0.58, 0.32), (0.61, 0.43), (0.62, 0.53),
        (0.46, 0.53), (0.45, 0.71), (0.45, 0.88), (0.54, 0.53), (0.55, 0.71), (0.55, 0.88),
        (0.48, 0.22), (0.52, 0.22), (0.45, 0.24), (0.55, 0.24),
    ]
)  # fmt: skip
_NECK = 1
_opened = itertools.count()


def component() -> gr.HTML:
    """Make the editor: a button, and the dialog that it opens.

    Its ``edit`` event asks for the pose to open; answer it with a `state` as its new value. Its
    ``upload`` event brings the text of a file as ``event.clip`` and its name as ``event.title``;
    answer it likewise, or with a `refusal`. Its ``submit`` event brings the edited clip as
    ``event.clip``, for `read`. A plain `gr.HTML`, not a subclass: Gradio writes a stub file beside
    every subclass.
    """
    script = static("joints.js")
    for name, constant in (
        ("JOINTS", JOINTS),
        ("LIMBS", LIMBS),
        ("COLOURS", COLOURS),
        ("CARRIED", carried()),
        ("SWAP", swap()),
        ("FACE_SWAP", swap_face()),
        ("CANVAS", CANVAS),
        ("MAX_BYTES", MAX_JSON_BYTES),
    ):
        script = script.replace(f"__{name}__", json.dumps(constant))
    return gr.HTML(
        None,
        html_template=static("joints.html"),
        js_on_load=script,
        apply_default_css=False,
        elem_id="hf-joints",
    )


def state(clip: PoseClip, title: str, frames: int, fps: int) -> dict[str, Any]:
    """Return the editor opened on a clip, with nothing changed yet.

    Args:
        clip: any clip; a canvas that is not square is padded. A single frame is held still, so that
            keyframes can bring it to life.
        title: name of the clip.
        frames: length that the model wants; the editor works on exactly these frames.
        fps: frames per second.

    Returns:
        The component's value: ``pose`` [frames][18][x, y, seen], x and y as parts of the square
        from edge to edge, also for joints that are not seen (see `placed`); ``face``
        [frames][68][x, y] with null for missing landmarks, or null; ``keys``; ``weights``
        [frames][keys]; ``title``; ``fps``; and ``opened``, a number that is never the same again,
        so that the browser notices when the same clip is opened once more.
    """
    square = clip.to_square(CANVAS).resample(frames)
    points = placed((square.keypoints + 0.5) / CANVAS, square.seen)
    pose = np.concatenate([points, square.seen[..., None]], -1)
    face = None
    if square.face is not None:
        face = [
            [None if np.isnan(point[0]) else _short(point) for point in landmarks]
            for landmarks in (square.face + 0.5) / CANVAS
        ]
    return {
        "title": title,
        "fps": fps,
        "pose": [[_short(joint) for joint in joints] for joints in pose],
        "face": face,
        "keys": keyframes(frames),
        "weights": [_short(row) for row in weights(frames)],
        "opened": next(_opened),
    }


def refusal(why: str) -> dict[str, Any]:
    """Return the editor as it is, with what was wrong with a file that it was given.

    Args:
        why: in words; shown as text.
    """
    return {"refused": why, "opened": next(_opened)}


def read(sent: Any) -> PoseClip:
    """Read the edited clip that the browser sent.

    Args:
        sent: whatever came; wanted is OpenPose JSON as text, on a square canvas.

    Raises:
        PoseError: on anything that is not a usable clip; the message says what was found.
    """
    if not isinstance(sent, str):
        raise PoseError(
            f"the editor sent a value of type {type(sent).__name__}; wanted OpenPose JSON as text"
        )
    clip = load_openpose_json(sent)
    if clip.width != clip.height:
        raise PoseError(f"the canvas has {clip.width} × {clip.height} pixels; wanted a square")
    return clip


def keyframes(frames: int) -> list[int]:
    """Return the first, the middle and the last of ``frames`` frames, each once."""
    return sorted({0, frames // 2, frames - 1})


def weights(frames: int) -> Array:
    """Return how much each keyframe's displacement counts in each frame.

    Cubic Hermite pieces between the keyframes: at rest at the clip's ends, without a halt in the
    middle (`THROUGH`). At a keyframe its own weight is 1 and all others are 0; every frame's
    weights sum to 1.

    Args:
        frames: length of the clip.

    Returns:
        float64 [frames, keys].
    """
    keys = keyframes(frames)
    values = np.eye(len(keys))
    slopes = np.zeros_like(values)
    for k in range(1, len(keys) - 1):
        slopes[k] = THROUGH * (values[k + 1] - values[k - 1]) / (keys[k + 1] - keys[k - 1])
    out = np.ones((frames, len(keys)))
    for k, (start, end) in enumerate(itertools.pairwise(keys)):
        span = end - start
        t = np.linspace(0.0, 1.0, span + 1)[:, None]
        rise = t * t * (3 - 2 * t)
        out[start : end + 1] = (
            (1 - rise) * values[k]
            + rise * values[k + 1]
            + span * t * (1 - t) * ((1 - t) * slopes[k] - t * slopes[k + 1])
        )
    return out


def placed(points: Array, seen: Array) -> Array:
    """Give every joint a place in every frame, so that hidden ones can be brought back.

    Where a joint is not seen it keeps to the joint that it hangs from, the way it does in the
    frames that show it; if none does, the way it would in someone who stands, at this figure's
    size.

    Args:
        points: [F, 18, 2], parts of the frame; rows of joints that are not seen do not count.
        seen: bool [F, 18].

    Returns:
        float64 [F, 18, 2], unchanged where seen.
    """
    out = np.array(points, np.float64)
    scale, neck = _figure(out, seen)
    times = np.arange(len(out))
    for joint in [_NECK, *PARENT]:
        anchor = neck if joint == _NECK else out[:, PARENT[joint]]
        offset = np.zeros(2) if joint == _NECK else _STANDING[joint] - _STANDING[PARENT[joint]]
        offset = np.tile(scale * offset, (len(out), 1))
        at = np.flatnonzero(seen[:, joint])
        if len(at):
            known = out[at, joint] - anchor[at]
            offset = np.stack([np.interp(times, at, known[:, axis]) for axis in (0, 1)], -1)
        hidden = ~seen[:, joint]
        # Inside the frame, or it could not be reached.
        out[hidden, joint] = np.clip((anchor + offset)[hidden], 0.02, 0.98)
    return out


def swap() -> list[int]:
    """Return for each joint the one that a mirror turns it into: left for right."""
    other = {"left": "right", "right": "left"}
    return [
        JOINTS.index(" ".join(other.get(word, word) for word in name.split())) for name in JOINTS
    ]


def swap_face() -> list[int]:
    """Return the same for the 68 facial landmarks in the order of iBUG 300-W."""
    out = list(range(68))
    mirrored = (
        range(0, 17), range(17, 27), range(31, 36), (36, 37, 38, 39, 42, 43, 44, 45),
        (40, 41, 46, 47), range(48, 55), range(55, 60), range(60, 65), range(65, 68),
    )  # fmt: skip
    for line in mirrored:
        for one, other in zip(line, reversed(line), strict=True):
            out[one] = other
    return out


def carried() -> list[list[int]]:
    """Return for each joint itself and all that hang from it: a shoulder carries its whole arm."""
    out = [[joint] for joint in range(len(JOINTS))]
    for joint in reversed(PARENT):
        out[PARENT[joint]] += out[joint]
    return out


def _figure(points: Array, seen: Array) -> tuple[float, Array]:
    """Return a figure's size relative to `_STANDING`, and where its neck would be [F, 2]."""
    standing = np.broadcast_to(_STANDING, points.shape)[seen]
    there = points[seen]
    if not len(there):
        return 1.0, np.tile(_STANDING[_NECK], (len(points), 1))
    spread = np.linalg.norm(standing - standing.mean(0))
    scale = float(np.linalg.norm(there - there.mean(0)) / spread) if spread > 0 else 1.0
    neck = there.mean(0) + scale * (_STANDING[_NECK] - standing.mean(0))
    return scale, np.tile(neck, (len(points), 1))


def _short(numbers: Array) -> list[float]:
    """Round to a ten-thousandth: a twentieth of a pixel, and a third of the bytes."""
    return np.round(np.asarray(numbers, np.float64), 4).tolist()
