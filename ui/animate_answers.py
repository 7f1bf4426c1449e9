"""What the Animate tab's handlers answer with: values for its outputs, in their order.

There are two kinds of answers. That of a handler that may change the pose fills the library's mark,
the stage, the note on the pose, the button back, the message under the stage, and the downloads
(`only` leaves most of it as it is). That of one that makes a pair fills the stage, the message,
Generate, Stop, and the downloads (`refused`, `unchanged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ui.engines import told
from ui.markup import note

DOWNLOADS = (
    ("Unguarded MP4", "hf-get-open"),
    ("Guarded MP4", "hf-get-held"),
    ("Pair GIF", "hf-get-gif"),
    ("Pose JSON", "hf-get-pose"),
    ("Settings JSON", "hf-get-settings"),
)
"""Of a result: each file's label and the id of its button."""


def only(remark: Any, back: gr.Button | None = None) -> tuple:
    """Return the answer where the pose, and a result of it, stay as they are.

    Args:
        remark: the note on the pose.
        back: the button back, if it changes.
    """
    return gr.skip(), gr.skip(), remark, back or gr.skip(), gr.skip(), *kept_files()


def refused(error: Exception) -> tuple:
    """Return the answer of Generate where nothing begins and the stage stays as it is."""
    return gr.skip(), note(told(error), "error"), *buttons(busy=False), *kept_files()


def unchanged() -> tuple:
    """Return the answer of Generate where the page stays as it is."""
    return (gr.skip(),) * (4 + len(DOWNLOADS))


def buttons(*, busy: bool) -> tuple[gr.Button, gr.Button]:
    """Return Generate and Stop."""
    return gr.Button(interactive=not busy), gr.Button(interactive=busy)


def downloads(files: Sequence[Path | None]) -> list[gr.DownloadButton]:
    """Return the downloads of a result.

    Args:
        files: of each; None where there is none.
    """
    labels = [label for label, _ in DOWNLOADS]
    if files[1] is None:
        labels[2] = "GIF"  # of one clip
    return [
        gr.DownloadButton(label, value=file, visible=file is not None)
        for label, file in zip(labels, files, strict=True)
    ]


def no_files() -> list[gr.DownloadButton]:
    """Return the downloads where there is no result."""
    return [gr.DownloadButton(visible=False)] * len(DOWNLOADS)


def kept_files() -> list[Any]:
    """Return the downloads where they stay as they are."""
    return [gr.skip()] * len(DOWNLOADS)
