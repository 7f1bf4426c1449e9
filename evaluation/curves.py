"""Draw the loss of a training run: ``python -m evaluation.curves checkpoints/frames``.

Reads ``loss.jsonl``, to which a training run adds a line with every checkpoint (mean loss of the
last 100 steps), and writes ``docs/avatar-sd-loss.png`` for the model card. Several folders are
drawn below one another, each with its own scale, since their losses mean different things.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipelines.paths import REPO

Point = tuple[float, int, float]
"""Minutes, step and loss."""

_SIZE = (900, 320)  # of one run's plot, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 40, 48  # its margins
_INK, _FAINT, _LINE = (40, 44, 52), (214, 217, 222), (24, 110, 160)
_TICKS = 5


def read_losses(file: Path) -> list[Point]:
    """Read the last run of a ``loss.jsonl``, oldest first.

    A resumed run goes on counting; where the seconds fall back, a new one began in that folder.

    Raises:
        ValueError: it holds fewer than two points of the last run.
        FileNotFoundError: it is not there.
    """
    points: list[Point] = []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        minutes = row["seconds"] / 60
        if points and minutes < points[-1][0]:
            points = []
        points.append((minutes, row["step"], row["loss"]))
    if len(points) < 2:
        raise ValueError(f"{file} holds {len(points)} points of its last run; wanted 2 or more")
    return points


def plot(title: str, points: Sequence[Point]) -> Image.Image:
    """Draw one run's loss over its minutes of training, with the steps below.

    Args:
        title: said above the plot.
        points: of `read_losses`.

    Returns:
        RGB of 900 × 320 px.
    """
    image = Image.new("RGB", _SIZE, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    minutes, steps, losses = zip(*points, strict=True)
    room = 0.08 * (max(losses) - min(losses)) or 0.01
    low, high = min(losses) - room, max(losses) + room
    right, bottom = _SIZE[0] - _RIGHT, _SIZE[1] - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - minutes[0]) / (minutes[-1] - minutes[0] or 1)
        return _LEFT + across * (right - _LEFT), bottom - (y - low) / (high - low) * (bottom - _TOP)

    for k in range(_TICKS):
        y = low + k / (_TICKS - 1) * (high - low)
        pen.line([place(minutes[0], y), place(minutes[-1], y)], _FAINT)
        pen.text((_LEFT - 8, place(0, y)[1]), f"{y:.3f}", _INK, font, anchor="rm")
    last = len(points) - 1
    for i in sorted({round(k / (_TICKS - 1) * last) for k in range(_TICKS)}):
        x = place(minutes[i], low)[0]
        pen.line([(x, bottom), (x, bottom + 5)], _INK)
        anchor = "ra" if i == last else "ma"
        pen.text((x, bottom + 9), f"{minutes[i]:.0f} min, step {steps[i]}", _INK, font, anchor)
    pen.line([place(x, y) for x, _, y in points], _LINE, 3, "curve")
    pen.text((_LEFT, 12), title, _INK, font)
    return image


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the runs of some folders."""
    p = argparse.ArgumentParser(prog="python -m evaluation.curves", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folders", nargs="+", type=Path, metavar="FOLDER",
                   help="of a run, such as checkpoints/frames")
    p.add_argument("--out", type=Path, default=REPO / "docs" / "avatar-sd-loss.png", metavar="FILE")
    args = p.parse_args(arguments)
    try:
        runs = [(folder.name, read_losses(folder / "loss.jsonl")) for folder in args.folders]
    except (FileNotFoundError, ValueError) as problem:
        raise SystemExit(str(problem)) from problem
    sheet = Image.new("RGB", (_SIZE[0], _SIZE[1] * len(runs)))
    for number, (name, points) in enumerate(runs):
        sheet.paste(plot(f"{name}: loss, mean of 100 steps", points), (0, number * _SIZE[1]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, optimize=True)
    for name, points in runs:
        print(f"{name}: {points[0][2]:.4f} to {points[-1][2]:.4f} in {points[-1][0]:.0f} minutes, "
              f"{points[-1][1]} steps")


if __name__ == "__main__":
    main()
