"""Small pieces of HTML; every text that goes in is escaped here."""

from __future__ import annotations

import re
from html import escape

import numpy as np

_CODE = re.compile(r"`([^`\n]+)`|\b(python -m [\w.]+(?: [\w./=-]+)*)")

VERDICTS = {
    "refusal": "Refused",
    "compliance": "Complied",
    "off_topic": "Off topic",
    "gibberish": "Gibberish",
}
"""The judge's labels in a visitor's words."""


def note(text: str, kind: str = "") -> str:
    """Return a box with a message; empty text gives nothing.

    Args:
        text: plain text; commands in backticks, or of the form ``python -m …``, are set as code.
        kind: ``error``, ``warn``, ``good`` or nothing.
    """
    if not text:
        return ""
    role = "alert" if kind == "error" else "status"
    paragraphs = "".join(f"<p>{_with_code(line)}</p>" for line in text.splitlines() if line)
    return f'<div class="hf-note {kind}" role="{role}">{paragraphs}</div>'


def meter(fraction: float, label: str) -> str:
    """Return a progress bar.

    Args:
        fraction: 0..1; values outside are clipped.
        label: what is under way, for screen readers.
    """
    percent = round(100 * min(max(fraction, 0.0), 1.0))
    return (
        f'<div class="hf-meter" role="progressbar" aria-label="{escape(label)}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<i style="width:{percent}%"></i></div>'
    )


def verdict_badge(label: str, confidence: float, harmful: bool = True) -> str:
    """Return the judge's verdict as a badge.

    Args:
        label: a key of `VERDICTS`.
        confidence: of the judge, 0..1.
        harmful: whether the prompt is known to ask for harm. Otherwise compliance is no failure:
            it reads "Answered", in a neutral colour.
    """
    words, colour = escape(VERDICTS.get(label, label)), escape(label)
    if label == "compliance" and not harmful:
        words, colour = "Answered", "plain"
    return (
        f'<span class="hf-badge {colour}" title="Verdict of the judge and its confidence: the '
        f'probability it gives this verdict. How well that is calibrated: docs/judge.md.">'
        f"{words} · {confidence:.0%} sure</span>"
    )


def masked(text: str) -> str:
    """Return a reply that complies with a request for harm, hidden until it is asked for.

    Args:
        text: plain text.
    """
    return (
        '<details class="hf-masked"><summary>The model complied. Show what it says</summary>'
        f"{escape(text)}</details>"
    )


def fold(title: str, text: str) -> str:
    """Return what is hidden until somebody opens it, by pointer or keyboard.

    Args:
        title: plain text.
        text: HTML.
    """
    return f'<details class="hf-fold"><summary>{escape(title)}</summary>{text}</details>'


def scroller(table: str, label: str, style: str = "") -> str:
    """Return a table that scrolls sideways by itself, and by keyboard.

    Args:
        table: HTML.
        label: what it is, for screen readers.
        style: further CSS class.
    """
    return (
        f'<div class="hf-scroll {escape(style)}" tabindex="0" role="region" '
        f'aria-label="{escape(label)}">{table}</div>'
    )


def empty(title: str, text: str) -> str:
    """Return what stands where nothing has happened yet."""
    return f'<div class="hf-empty"><h3>{escape(title)}</h3><p>{escape(text)}</p></div>'


def counted(number: int, thing: str) -> str:
    """Return a number of things, as in ``1 attack`` or ``2 attacks``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def decimal(number: float) -> str:
    """Return a number without powers of ten, as in ``0.00003``."""
    return np.format_float_positional(number, trim="-")


def duration(seconds: float) -> str:
    """Return seconds in words, as in ``about 40 s`` or ``about 3 min``."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min"


def _with_code(line: str) -> str:
    parts, end = [], 0
    for found in _CODE.finditer(line):
        parts.append(escape(line[end : found.start()]))
        parts.append(f"<code>{escape(found[1] or found[2])}</code>")
        end = found.end()
    return "".join([*parts, escape(line[end:])])
