"""The training curves: which run is drawn, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import curves


def log(folder: Path, rows: list[tuple[int, float, float]]) -> Path:
    """Write a run's log: step, seconds and loss of each checkpoint."""
    folder.mkdir()
    lines = [json.dumps(dict(zip(("step", "seconds", "loss"), row, strict=True))) for row in rows]
    (folder / "loss.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_the_last_run_of_a_folder_is_read(tmp_path: Path) -> None:
    rows = [(50, 240.0, 0.9), (100, 480.0, 0.8), (40, 240.0, 0.5), (90, 480.0, 0.4), (95, 490, 0.3)]
    points = curves.read_losses(log(tmp_path / "frames", rows) / "loss.jsonl")
    assert points == [(4.0, 40, 0.5), (8.0, 90, 0.4), (490 / 60, 95, 0.3)]


def test_the_curve_falls_from_left_to_right() -> None:
    picture = np.asarray(curves.plot("frames", [(4, 60, 0.3), (50, 700, 0.2), (95, 1400, 0.15)]))
    rows, columns = np.nonzero((picture == curves._LINE).all(-1))
    left, right = rows[columns < 200].mean(), rows[columns > 700].mean()
    assert left < right, "higher up on the left"
    assert columns.min() < 80 and columns.max() > 860


def test_the_command_draws_a_plot_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(60, 240.0, 0.3), (120, 480.0, 0.2)]
    folders = [log(tmp_path / "vae", rows), log(tmp_path / "frames", rows)]
    out = tmp_path / "docs/loss.png"
    curves.main([*map(str, folders), "--out", str(out)])
    assert Image.open(out).size == (900, 2 * 320)
    assert "frames: 0.3000 to 0.2000 in 8 minutes, 120 steps" in capsys.readouterr().out


def test_a_run_without_two_points_is_refused(tmp_path: Path) -> None:
    folder = log(tmp_path / "frames", [(60, 240.0, 0.3)])
    with pytest.raises(SystemExit, match="holds 1 points of its last run"):
        curves.main([str(folder), "--out", str(tmp_path / "loss.png")])
    with pytest.raises(SystemExit, match="loss.jsonl"):
        curves.main([str(tmp_path), "--out", str(tmp_path / "loss.png")])
