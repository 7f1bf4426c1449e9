"""The stage of the Animate tab: unguarded clip, skeleton and guarded clip, played in step.

One `gr.HTML` with a fixed template; everything that changes arrives in its value and is put in
place by the script below, as text, never as markup. The skeleton is drawn in the browser from
the joints, so it keeps step with the clips and can be laid over them.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from pipelines.pose import LIMBS
from pipelines.pose_drawing import COLOURS
from ui.theme import static

_NO_GUARD = "No guard was switched on"


def component(value: dict[str, Any]) -> gr.HTML:
    """Make the stage: three screens and one transport.

    A plain `gr.HTML`, not a subclass: Gradio writes a stub file beside every subclass.

    Args:
        value: one of the states that the functions below return.
    """
    script = static("stage.js").replace("__LIMBS__", json.dumps(LIMBS))
    return gr.HTML(
        value,
        html_template=static("stage.html"),
        js_on_load=script.replace("__COLOURS__", json.dumps(COLOURS)),
        apply_default_css=False,
        elem_id="hf-stage",
    )


def idle(pose: list, title: str, fps: int, guarded: bool = True) -> dict[str, Any]:
    """Return the stage before a result: the skeleton moves, the screens are empty.

    Args:
        pose: joints as from `ui.poses.for_player`.
        title: name of the pose.
        fps: frames per second.
        guarded: whether a guard is on, or may yet be.
    """
    return {
        "state": "idle",
        "pose": pose,
        "fps": fps,
        "title": title,
        "hint_open": "What the model makes of this pose",
        "hint_held": "The same pose, prompt and seed, with the guard on" if guarded else _NO_GUARD,
    }


def running(
    base: dict[str, Any],
    message: str,
    fraction: float,
    eta: str,
    preview_open: np.ndarray | None,
    preview_held: np.ndarray | None,
) -> dict[str, Any]:
    """Return the stage at work.

    Args:
        base: the idle state it started from.
        message: what is being done.
        fraction: 0..1.
        eta: time left, in words.
        preview_open: RGB uint8 [H, W, 3], unguarded, or None.
        preview_held: the same, guarded.
    """
    return base | {
        "state": "running",
        "message": message,
        "fraction": fraction,
        "eta": eta,
        "preview_open": None if preview_open is None else _data_url(preview_open),
        "preview_held": None if preview_held is None else _data_url(preview_held),
    }


def done(
    base: dict[str, Any], unguarded: Path, guarded: Path | None, note_guarded: str
) -> dict[str, Any]:
    """Return the stage with its clips.

    Args:
        base: the idle state it started from.
        unguarded: MP4 file.
        guarded: MP4 file, or None if no guard was on.
        note_guarded: which guards, at which strengths.
    """
    return base | {
        "state": "done",
        "open": _file(unguarded),
        "held": None if guarded is None else _file(guarded),
        "note_held": note_guarded,
        "hint_held": _NO_GUARD if guarded is None else "",
    }


def ended(base: dict[str, Any]) -> dict[str, Any]:
    """Return the stage after work that made nothing, which is told to who cannot see it.

    Args:
        base: the idle state to show.
    """
    return base | {"ended": True}


def _file(path: Path) -> dict[str, Any]:
    """Describe a file so that Gradio moves it into its cache and adds its address."""
    return gr.FileData(path=str(path), mime_type="video/mp4").model_dump()


def _data_url(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
