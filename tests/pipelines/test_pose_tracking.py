"""One person of several is followed, and frames without anybody are filled."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.pose import PoseError
from pipelines.pose_json import load_openpose_json
from pipelines.pose_tracking import bridged
from tests.pipelines.figures import STANDING, clip_of, frame_json, moving


def test_filled_bridges_a_face_that_is_away_for_a_frame():
    face = np.stack([np.full((68, 2), 10.0 * frame) for frame in range(8)])
    face[[0, 2]] = np.nan
    clip = bridged(clip_of(moving(8), np.zeros((8, 18)), face=face), "wait")
    np.testing.assert_allclose(clip.face[:, 0, 0], [10, 10, 20, 30, 40, 50, 60, 70])
    assert clip.notes == ("no person in 2 of 8 frames: interpolated",)


def test_largest_person_is_followed_and_said():
    def crowd(shift: float) -> dict:
        small = frame_json(STANDING * 0.3 + 150)["people"][0]
        large = frame_json(STANDING + [shift, 0])["people"][0]
        return frame_json(people=[small, large] if shift else [large, small])

    frames = [crowd(0), crowd(3), crowd(6), frame_json(people=[])]
    clip = load_openpose_json(json.dumps(frames))
    np.testing.assert_allclose(clip.keypoints[1], STANDING + [3, 0], atol=1e-4)
    assert clip.notes == (
        "2 people found: the largest is used",
        "no person in 1 of 4 frames: interpolated",
    )
    np.testing.assert_allclose(clip.keypoints[3], STANDING + [6, 0], atol=1e-4)


def test_who_is_left_out_of_a_frame_is_not_taken_for_another():
    large, small = frame_json()["people"][0], frame_json(STANDING * 0.4 + [400, 100])["people"][0]
    frames = [frame_json(people=[large, small]) for _ in range(8)]
    frames[4] = frame_json(people=[small])
    clip = load_openpose_json(json.dumps(frames))
    np.testing.assert_allclose(clip.keypoints, np.broadcast_to(STANDING, (8, 18, 2)), atol=1e-4)
    assert "no person in 1 of 8 frames: interpolated" in clip.notes


def test_who_is_alone_is_followed_however_far_they_jump():
    clip = load_openpose_json(json.dumps([frame_json(), frame_json(STANDING + [900, 0])]))
    np.testing.assert_allclose(clip.keypoints[1], STANDING + [900, 0], atol=1e-4)


def test_a_clip_that_mostly_shows_nobody_is_refused():
    frames = [frame_json() if number > 3 else frame_json(people=[]) for number in range(8)]
    with pytest.raises(PoseError, match="no person found in 4 of 8 frames.*leave the others out"):
        load_openpose_json(json.dumps(frames))


def test_a_bad_frame_or_a_stray_joint_does_not_lose_who_is_followed():
    other = frame_json(STANDING * 0.4 + [400, 100])["people"][0]
    frames = [frame_json(people=[frame_json()["people"][0], other]) for _ in range(16)]
    head = np.isin(np.arange(18), [0, 14, 15, 16, 17])
    rows = np.concatenate([STANDING, 0.9 * head[:, None]], 1)
    frames[2]["people"][0]["pose_keypoints_2d"] = rows.reshape(-1).tolist()
    clip = load_openpose_json(json.dumps(frames))
    assert clip.seen.any(1).all() and not any("no person" in note for note in clip.notes)
    moving = [frame_json(STANDING + [60.0 * number, 0]) for number in range(9)]
    stray = np.concatenate([STANDING + [60.0 * 3, 0], np.zeros((18, 1))], 1)
    stray[:3, 2] = 0.5
    moving[4]["people"].append({"pose_keypoints_2d": stray.reshape(-1).tolist()})
    found = load_openpose_json(json.dumps(moving))
    np.testing.assert_allclose(found.keypoints[:, 9, 0], STANDING[9, 0] + 60 * np.arange(9), atol=1)
