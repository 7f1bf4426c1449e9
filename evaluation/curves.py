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

from pipelines.paths import REPO

Point = tuple[float, int, float]
"""Minutes, step and loss."""


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


def draw(runs: Sequence[tuple[str, Sequence[Point]]], out: Path) -> None:
    """Write a picture of some runs' losses over their minutes of training.

    Args:
        runs: name and points (of `read_losses`) of each.
        out: a file whose ending says the format; its folder is made.
    """
    from matplotlib.figure import Figure  # a developer's package: the app does without

    figure = Figure((9, 3.2 * len(runs)), layout="constrained")
    plots = figure.subplots(len(runs), squeeze=False)[:, 0]
    for plot, (name, points) in zip(plots, runs, strict=True):
        minutes, steps, losses = zip(*points, strict=True)
        plot.plot(minutes, losses)
        plot.grid(alpha=0.3)
        plot.set(title=f"{name}: loss, mean of 100 steps", ylabel="loss",
                 xlabel=f"minutes of training ({steps[-1]} steps)")  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


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
    draw(runs, args.out)
    for name, points in runs:
        print(f"{name}: {points[0][2]:.4f} to {points[-1][2]:.4f} in {points[-1][0]:.0f} minutes, "
              f"{points[-1][1]} steps")


if __name__ == "__main__":
    main()
