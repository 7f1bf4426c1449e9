"""Charts as SVG: small enough to redraw every second, sharp on a projector, no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 360, 214
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 46, 12, 30


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: what it shows, for the tooltip and screen readers.
        style: ``open`` (undefended, dashed) or ``held`` (defended, solid).
        points: (x, y), x ascending.
        smooth: draw an exponential mean as the line, and the points themselves thin behind it.
        diverged: x from which on there is no number to draw, because the value was NaN or infinite.
    """

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    smooth: bool = False
    diverged: float | None = None


@dataclass(frozen=True)
class Mark:
    """One mark of a scatter chart.

    Attributes:
        name: what it shows, for the tooltip and screen readers.
        style: ``open`` (undefended) or ``held`` (defended).
        shape: number of its shape, from 0; after the last one they come round again.
        x: 0 or more; above the chart's right end it stands at that end.
        y: 0..1.
    """

    name: str
    style: str
    shape: int
    x: float
    y: float


def chart(
    title: str,
    hint: str,
    series: Sequence[Series],
    x_max: float,
    *,
    share: bool = False,
    x_words: Mapping[float, str] | None = None,
) -> str:
    """Draw lines over steps.

    Args:
        title: of the chart.
        hint: what up or down means, in a few words.
        series: the lines; empty ones are left out.
        x_max: right end of the x axis, at least 1.
        share: the values are shares of 0..1, shown as percent on a fixed axis.
        x_words: what to write for an x in place of its number, where x counts no steps.

    Returns:
        A ``<figure>`` element.
    """
    shown = [line for line in series if line.points]
    values = [y for line in shown for _, y in line.points]
    low, high = (0.0, 1.0) if share or not values else (min(0.0, min(values)), max(values))
    ticks = [0.0, 0.5, 1.0] if share else _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    x_max = max(x_max, 1.0)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / x_max,
            _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (y - low) / ((high - low) or 1.0)),
        )

    parts = []
    for tick in ticks:
        _, y = at(0, tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_number(tick, share)}</text>'
        )

    def when(x: float) -> str:
        return f"step {x:g}" if x_words is None else x_words.get(x, f"{x:g}")

    for step in dict.fromkeys((0, round(x_max / 2), round(x_max))):
        x, _ = at(step, low)
        words = f"{step}" if x_words is None else escape(when(step))
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{words}</text>')
    if x_words is None:
        parts.append(f'<text x="{_LEFT - 10}" y="{_HEIGHT - 10}" text-anchor="end">step</text>')
    ends = []
    for line in shown:
        points = _smoothed(line.points) if line.smooth else line.points
        if line.smooth:
            parts.append(_polyline(f"raw {line.style}", [at(*point) for point in line.points]))
        parts.append(_polyline(line.style, [at(*point) for point in points]))
        if not line.smooth:
            for point in points:
                x, y = at(*point)
                tip = escape(f"{line.name}, {when(point[0])}: {_number(point[1], share)}")
                parts.append(_marker(line.style, x, y, tip))
        ends.append((*at(*points[-1]), _number(points[-1][1], share), line.style))
    parts.extend(_labels(ends))
    spoken = [
        f"{line.name} {words}{' smoothed' if line.smooth else ''} "
        f"{'at ' if x_words is None else ''}{when(line.points[-1][0])}"
        for line, (_, _, words, _) in zip(shown, ends, strict=True)
    ]
    # An attack that has blown up must be seen: its curve would merely end.
    for number, line in enumerate([line for line in series if line.diverged is not None]):
        x, _ = at(line.diverged, low)
        side = "end" if x > _WIDTH / 2 else "start"
        parts.append(
            f'<text class="last {line.style}" x="{x:.1f}" y="{_TOP + 12 + 15 * number}" '
            f'text-anchor="{side}">✕ diverged</text>'
        )
        spoken.append(f"{line.name} diverged at step {line.diverged:g}")
    return (
        f'<figure class="hf-chart"><figcaption>{escape(title)} <span>{escape(hint)}</span>'
        f'</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: {escape("; ".join(spoken) or "no values yet")}">'
        f"{''.join(parts)}</svg></figure>"
    )


def scatter(
    title: str,
    hint: str,
    marks: Sequence[Mark],
    axes: tuple[str, str],
    *,
    x_max: float,
    x_lines: Sequence[float],
    y_lines: Sequence[float],
) -> str:
    """Draw marks by two shares, both shown as percent.

    Args:
        title: of the chart.
        hint: which corner means what, in a few words.
        marks: what to draw; later ones lie on top.
        axes: what runs to the right and what upward, in a word or two.
        x_max: right end of the x axis; the y axis ends at 1.
        x_lines: x of the dashed limits.
        y_lines: y of the dashed limits.

    Returns:
        A ``<figure>`` element.
    """
    width, height, left, right, top, bottom = 620, 330, 48, 16, 12, 44

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (width - left - right) * min(max(x, 0.0), x_max) / x_max,
            top + (height - top - bottom) * (1 - y),
        )

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(tick, tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:.0%}</text>'
            f'<text x="{x:.1f}" y="{height - bottom + 17}" text-anchor="middle">{tick:.0%}</text>'
        )
    for limit in x_lines:
        x, _ = at(limit, 0)
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" '
                     f'y2="{height - bottom}"/>')  # fmt: skip
    for limit in y_lines:
        _, y = at(0, limit)
        parts.append(f'<line class="limit" x1="{left}" x2="{width - right}" y1="{y:.1f}" '
                     f'y2="{y:.1f}"/>')  # fmt: skip
    parts.append(
        f'<text x="{width - right}" y="{height - 8}" text-anchor="end">{escape(axes[0])} →</text>'
        f'<text x="{left + 6}" y="{top + 11}">↑ {escape(axes[1])}</text>'
    )
    for mark in marks:
        tip = f"{mark.name}: {axes[1]} {mark.y:.0%}, {axes[0]} {mark.x:.0%}"
        parts.append(_shape(mark.style, mark.shape, *at(mark.x, mark.y), escape(tip)))
    spoken = f"{len(marks)} marks; the table above says their values" if marks else "no values yet"
    return (
        f'<figure class="hf-chart hf-scatter"><figcaption>{escape(title)} '
        f'<span>{escape(hint)}</span></figcaption><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}: {spoken}">{"".join(parts)}</svg></figure>'
    )


def shape_legend(names: Sequence[tuple[str, int, str]]) -> str:
    """Return the key of a scatter chart.

    Args:
        names: (style, shape, words) of each kind of mark.
    """
    keys = "".join(
        f'<span><svg viewBox="0 0 16 16" aria-hidden="true">'
        f"{_shape(style, shape, 8, 8)}</svg>{escape(words)}</span>"
        for style, shape, words in names
    )
    return f'<div class="hf-legend hf-shapes">{keys}</div>'


_SHAPES = ("M-5-5H5V5H-5Z", "M0-6.5L6 4.5H-6Z", "M0-7L7 0 0 7-7 0Z", "M0 6.5L6-4.5H-6Z",
           "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z")  # fmt: skip
"""Outlines about the origin: square, triangle, diamond, triangle on its tip, cross."""


def _shape(style: str, shape: int, x: float, y: float, tip: str = "") -> str:
    """Return a mark: a ring for the undefended, else the shape of that number."""
    title = f"<title>{tip}</title>" if tip else ""
    if style == "open":
        return f'<circle class="mark open" cx="{x:.1f}" cy="{y:.1f}" r="5.4">{title}</circle>'
    path = _SHAPES[shape % len(_SHAPES)]
    return (
        f'<path class="mark {style}" d="{path}" transform="translate({x:.1f} {y:.1f})">{title}'
        "</path>"
    )


def legend(names: Sequence[tuple[str, str]]) -> str:
    """Return the key of the charts.

    Args:
        names: (style, words) of each line.
    """
    keys = "".join(
        f'<span><svg viewBox="0 0 38 12" aria-hidden="true"><line class="{style}" x1="1" x2="37" '
        f'y1="6" y2="6"/></svg>{escape(words)}</span>'
        for style, words in names
    )
    return f'<div class="hf-legend">{keys}</div>'


def _polyline(style: str, points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{path}"/>'


def _marker(style: str, x: float, y: float, tip: str) -> str:
    # The two sides differ in shape too: a ring for the undefended, a filled square for the other.
    shape = (
        f'<circle class="mark {style}" cx="{x:.1f}" cy="{y:.1f}" r="4.2">'
        if style == "open"
        else f'<rect class="mark {style}" x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" '
        'width="7.2" height="7.2" rx="1">'
    )
    return f"{shape}<title>{tip}</title></{'circle' if style == 'open' else 'rect'}>"


def _labels(ends: Sequence[tuple[float, float, str, str]]) -> list[str]:
    """Write the last value beside each line's end, pushed apart where they would overlap."""
    ordered = sorted(ends, key=lambda end: end[1])
    placed: list[float] = []
    for _, y, *_ in ordered:
        placed.append(max(y, placed[-1] + 15) if placed else y)
    # Those pushed below the axis, where its own words stand, push the others up.
    lowest = float(_HEIGHT - _BOTTOM)
    for at in reversed(range(len(placed))):
        placed[at] = min(placed[at], lowest)
        lowest = placed[at] - 15
    return [
        f'<text class="last {style}" x="{x + 8:.1f}" y="{y + 4.5:.1f}">{words}</text>'
        for (x, _, words, style), y in zip(ordered, placed, strict=True)
    ]


def _smoothed(
    points: Sequence[tuple[float, float]], keep: float = 0.7
) -> list[tuple[float, float]]:
    """Return the exponential mean, corrected for its start (as Adam corrects its moments)."""
    mean, out = 0.0, []
    for number, (x, y) in enumerate(points, start=1):
        mean = keep * mean + (1 - keep) * y
        out.append((x, mean / (1 - keep**number)))
    return out


def _ticks(low: float, high: float) -> list[float]:
    """Return three to five round numbers that take in ``low`` and ``high``."""
    span = (high - low) or 1.0
    magnitude = 10 ** math.floor(math.log10(span / 3))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if span / (m * magnitude) <= 4)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _number(value: float, share: bool) -> str:
    return f"{value:.0%}" if share else f"{value:.3g}"
