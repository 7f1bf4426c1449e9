"""A visitor of the Animate tab: what they do, and what an answer leaves as it is."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import numpy as np

from ui.animate import AnimateTab

VISITOR = SimpleNamespace(session_hash="visitor")
SKIPPED = gr.skip()
KEPT = (SKIPPED,) * 7  # stage, message and downloads


def take(tab: AnimateTab, *files: object, fit: bool = True) -> tuple:
    *_, last = tab.reading.take_files([str(file) for file in files], fit, VISITOR)
    return last


def pick(tab: AnimateTab, name: str) -> tuple:
    return tab.choice.choose(SimpleNamespace(pick=name), True, VISITOR)


def generate(
    tab: AnimateTab, marked: str, guard: bool = True, seed: float | None = 7, steps: int = 2,
    prompt: str = "a person", redraw: bool = True,
):  # fmt: skip
    switches = [guard and name == "poseguard" for name in tab.guards.names]
    strengths = [1.0] * len(tab.guards.names)
    form = (True, marked, prompt, seed, steps, 1.0, 0.0, redraw)
    return tab.pair.generate(VISITOR, *form, *switches, *strengths)


def labels(downloads: tuple) -> list[str]:
    return [button.label for button in downloads if button.visible]


def tall(stage: dict) -> float:
    """Height of the figure on the stage, as a part of the frame."""
    joints = np.array(stage["pose"])
    return float(np.ptp(joints[joints[..., 2] > 0][:, 1]))
