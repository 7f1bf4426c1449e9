"""The guard's figures: kinds of clips, separation by hand, and the command on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from peft import LoraConfig, get_peft_model

from adapters.pose_classes import POSE_CLASSES
from evaluation import avatar_sd, concept, guard, motion_capture
from pipelines.animation import AnimationEngine
from pipelines.pose import PoseClip
from tests.tiny import tiny_avatar_sd, tiny_profile, tiny_unet
from ui import poses
from worlds.motions import MOTIONS
from worlds.poses import LIBRARY


def test_every_library_clip_is_of_a_kind() -> None:
    kinds = {path.stem: guard.kind_of(path.stem, "kneeling") for path in guard.POSES.glob("*.json")}
    assert {k for k, v in kinds.items() if v == "unsafe"} == {
        "kneel_both", "kneel_bow", "kneel_down", "kneel_left", "kneel_right",
    }  # fmt: skip
    assert kinds["face_nod"] == "other"
    assert kinds["tie_shoe"] == kinds["squat"] == "near_miss" and kinds["walk"] == "other"
    # Of another group, and one of the motions that the guard's training counts as closest.
    assert kinds["warrior"] == "near_miss"
    assert sum(kind == "near_miss" for kind in kinds.values()) == 13


def test_a_clip_is_to_the_class_what_its_frames_are_in_training() -> None:
    kneeling = POSE_CLASSES["kneeling"]
    for motion in LIBRARY:
        kinds = {kneeling.kind(motion, MOTIONS[motion].group, time) for time in range(16)}
        assert guard.kind_of(motion, "kneeling") in kinds
        if motion not in kneeling.enters + kneeling.leaves:
            assert len(kinds) == 1


def test_separation_by_hand() -> None:
    assert guard.separation([20.0, 25.0], [30.0, 31.0]) == 1.0
    assert guard.separation([20.0, 32.0], [30.0, 31.0]) == 0.5
    assert guard.separation([30.0], [30.0]) == 0.5


def test_summary_means_each_kind_and_leaves_out_what_is_not_there() -> None:
    figures = guard.summary({"kneel_bow": 20.0, "kneel_both": 22.0, "walk": 35.0}, "kneeling")
    assert figures == {
        "unsafe_psnr_db": 21.0, "near_miss_psnr_db": None, "other_psnr_db": 35.0, "separation": 1.0,
    }  # fmt: skip
    assert guard.summary({"walk": 35.0}, "kneeling")["separation"] is None


@pytest.fixture
def tiny_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command find a tiny model and a guard of random weights for it."""
    folder = tiny_avatar_sd(tmp_path / "avatar-sd")
    adapter = tmp_path / "poseguard"
    config = LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False)
    get_peft_model(tiny_unet(), config).save_pretrained(adapter)
    (adapter / "training.json").write_text(json.dumps({"config": {"pose_class": "kneeling"}}))
    monkeypatch.setattr(guard, "get_profile", lambda name: tiny_profile(folder))
    monkeypatch.setattr(guard.registry, "adapter_folder", lambda name, profile: adapter)


def test_the_command_measures_and_draws(
    tiny_guard: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    guard.main(["--clips", "kneel_both", "walk", "--sheet", str(sheet)])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures["clips"]) == {"kneel_both", "walk"}
    assert figures["unsafe_psnr_db"] == figures["clips"]["kneel_both"]
    assert all(np.isfinite(value) for value in figures["clips"].values())
    assert cv2.imread(str(sheet)).shape == (2 * 128, 6 * 128, 3)


def test_poses_are_drawn_as_the_app_draws_them(
    tiny_guard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, redrawn, pair = [], [], AnimationEngine.pair

    def listening(engine: AnimationEngine, pose: PoseClip, *rest: Any, redraw: bool) -> Any:
        drawn.append(pose)
        redrawn.append(redraw)
        return pair(engine, pose, *rest, redraw=redraw)

    monkeypatch.setattr(AnimationEngine, "pair", listening)
    guard.main(["--clips", "squat"])
    np.testing.assert_array_equal(drawn[0].keypoints, poses.library()["squat"].keypoints)
    guard.main(["--clips", "squat", "--as-drawn"])
    assert redrawn == [True, False]


def test_a_clip_that_is_not_in_the_library_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        guard.main(["--clips", "moonwalk"])
    assert "moonwalk" in capsys.readouterr().err


def test_a_defence_that_guards_no_clips_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        guard.main(["--guard", "gift"])
    assert "invalid choice: 'gift'" in capsys.readouterr().err


@pytest.mark.parametrize("record", [None, "{", '{"config": {}}'])
def test_a_guard_without_a_readable_record_is_refused(
    tiny_guard: None, tmp_path: Path, record: str | None
) -> None:
    file = tmp_path / "poseguard" / "training.json"
    file.unlink() if record is None else file.write_text(record)
    with pytest.raises(SystemExit, match="guard is 'poseguard', .* tells no pose_class"):
        guard.main(["--clips", "walk"])


@pytest.mark.parametrize("sheet", ["sheet.gif", "missing/sheet.png"])
def test_a_sheet_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sheet: str
) -> None:
    for command in (guard.main, concept.main, avatar_sd.main, motion_capture.main):
        with pytest.raises(SystemExit):
            command(["--sheet", str(tmp_path / sheet)])
        assert "argument --sheet: it is" in capsys.readouterr().err


def test_upper_bodies_are_of_no_kind_and_faces_are_left_out(
    tiny_guard: None, capsys: pytest.CaptureFixture[str]
) -> None:
    guard.main(["--upper-bodies", "--clips", "kneel_both", "walk", "face_nod"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(figures["clips"]) == ["kneel_both", "walk"] and "separation" not in figures
    mean = sum(figures["clips"].values()) / 2
    assert figures["upper_body_psnr_db"] == pytest.approx(mean, abs=0.01)
    walk = guard.load_openpose_json(guard.POSES / "walk.json")
    half = guard.upper_body(walk, 256)
    assert half.seen[:, [8, 11]].any() and not half.seen[:, [9, 10, 12, 13]].any()
    assert half.keypoints[half.seen].max() < 256
    with pytest.raises(SystemExit, match="faces alone"):
        guard.main(["--upper-bodies", "--clips", "face_nod"])
