"""The distance to the nearest training frame, by hand and on the set that ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation import novelty
from pipelines.pose import PoseClip
from pipelines.pose_json import dump_openpose_json
from worlds.data import build


def figures(seed: int, count: int = 1) -> np.ndarray:
    """Random joints [count, 18, 2]."""
    return np.random.default_rng(seed).uniform(40, 200, (count, 18, 2)).astype(np.float32)


def test_a_frame_that_was_trained_on_is_at_no_distance_wherever_it_stands() -> None:
    joints = figures(0, 3)
    training = novelty.whole_bodies(np.concatenate([joints, np.ones((3, 18, 1))], -1))
    clip = PoseClip(0.5 * joints + [10, 30], np.ones((3, 18)), None, 256, 256)
    np.testing.assert_allclose(novelty.distances(clip, training), 0, atol=1e-5)


def test_distance_is_in_torsos() -> None:
    joints = figures(1)
    training = joints[:, :14]
    moved = joints.copy()
    moved[0, 4] += [7, 0]  # the right wrist
    clip = PoseClip(moved, np.ones((1, 18)), None, 256, 256)
    torso = np.linalg.norm(joints[0, 5] - joints[0, 8])
    # One joint of fourteen by 7 px; shift and scale win a little of it back, spread on all.
    assert 0.5 * 7 / 14 / torso < novelty.distances(clip, training)[0] < 2 * 7 / 14 / torso


def test_frames_that_show_little_do_not_count() -> None:
    confidence = np.ones((3, 18))
    confidence[0, 8:] = 0
    confidence[1, [2, 3, 4, 6, 7, 9, 10]] = 0
    clip = PoseClip(figures(2, 3), confidence, None, 256, 256)
    found = novelty.distances(clip, figures(3, 5)[:, :14])
    assert np.isfinite(found).tolist() == [True, False, True]
    confidence[:, 5] = 0
    torsoless = PoseClip(clip.keypoints, confidence, None, 256, 256)
    assert np.isnan(novelty.distances(torsoless, figures(3)[:, :14])).all()


def test_training_frames_without_a_whole_body_are_left_out() -> None:
    keypoints = np.concatenate([figures(0, 4), np.ones((4, 18, 1))], -1)
    keypoints[1, 13, 2] = 0  # an ankle out of the frame
    keypoints[2, 16, 2] = 0  # an ear, which does not matter
    assert len(novelty.whole_bodies(keypoints)) == 3


def test_the_command_compares_with_held_out_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(novelty, "N_TRAINING", 12)
    monkeypatch.setattr(novelty, "N_CLIPS", 2)
    data = build(tmp_path / "frames", 12, workers=1)
    whole = next(i for i in range(12) if (data.keypoints[i, :14, 2] > 0).all())
    seen = PoseClip(data.keypoints[[whole], :, :2], data.keypoints[[whole], :, 2], None, 256, 256)
    poses = tmp_path / "poses"
    poses.mkdir()
    (poses / "seen.json").write_text(dump_openpose_json(seen))
    novelty.main(["--poses", str(poses), "--data", str(tmp_path)])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["clips"] == {"seen": pytest.approx(0, abs=1e-3)} and found["beyond"] == 0
    assert found["held_out"] > 0 and 1 <= found["n_training"] <= 12
    with pytest.raises(SystemExit, match="holds no .json file"):
        novelty.main(["--poses", str(tmp_path), "--data", str(tmp_path)])
