"""The measurement on motion capture: what the figures leave out, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation import motion_capture
from pipelines.animation import AnimationEngine
from pipelines.paths import cache_dir
from tests.tiny import tiny_avatar_sd, tiny_profile


def test_upright_leaves_out_who_is_on_the_floor() -> None:
    by_clip = {"walk_1a": 0.9, "spin_2b": 0.5, "roll_1a": 0.1, "getup_faceup_2b": 0, "run_1a": None}
    assert motion_capture.upright(by_clip) == 0.7
    assert motion_capture.upright({"crawl_1a": 0.4}) is None


def test_a_run_on_a_tiny_model_prints_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not any(cache_dir().glob("mocap*")):
        pytest.skip("the recordings were not fetched: python -m worlds.mocap does")
    profile = tiny_profile(tiny_avatar_sd(tmp_path / "avatar-sd"))
    monkeypatch.setattr(motion_capture, "AnimationEngine", lambda _: AnimationEngine(profile))
    monkeypatch.setattr(motion_capture, "QUICK", 18)
    motion_capture.main(["--quick", "--sheet", str(tmp_path / "sheet.png")])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["n_clips"] == 2
    assert list(figures["pck_by_clip"]) == ["backflip_1a", "jump_1a"]
    assert figures["finder_pck_by_clip"]["jump_1a"] > 0.9, "the reader reads the drawn jump"
    assert 0 <= figures["pck"] < figures["finder_pck"] <= 1, "a tiny model draws noise"
    assert figures["finder_pck_upright"] == pytest.approx(
        sum(figures["finder_pck_by_clip"].values()) / 2, abs=1e-3
    )
    assert (tmp_path / "sheet.png").stat().st_size > 1000
