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


def test_the_command_draws_a_plot_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(60, 240.0, 0.3), (120, 480.0, 0.2)]
    folders = [log(tmp_path / "vae", rows), log(tmp_path / "frames", rows)]
    out = tmp_path / "docs/loss.png"
    curves.main([*map(str, folders), "--out", str(out)])
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    assert picture.shape == (2 * 320, 900, 3)
    for half in (picture[:320], picture[320:]):
        rows, columns = np.nonzero(np.ptp(half, -1) > 60)  # only the curve has a colour
        assert rows[columns < 200].mean() < rows[columns > 700].mean(), "falls to the right"
    assert "frames: 0.3000 to 0.2000 in 8 minutes, 120 steps" in capsys.readouterr().out


def test_a_run_without_two_points_is_refused(tmp_path: Path) -> None:
    folder = log(tmp_path / "frames", [(60, 240.0, 0.3)])
    with pytest.raises(SystemExit, match="holds 1 points of its last run"):
        curves.main([str(folder), "--out", str(tmp_path / "loss.png")])
    with pytest.raises(SystemExit, match="loss.jsonl"):
        curves.main([str(tmp_path), "--out", str(tmp_path / "loss.png")])
