"""OpenPose JSON in and out, and what its errors say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.pose import MAX_FRAMES, PoseError
from pipelines.pose_json import dump_openpose_json, load_openpose_json
from tests.pipelines.figures import STANDING, clip_of, frame_json, moving


@pytest.mark.parametrize("frames", [1, 7])
def test_json_round_trip(frames):
    confidence = np.linspace(0.1, 1, frames * 18).reshape(frames, 18)
    confidence[0, 3] = 0
    face = np.random.default_rng(0).uniform(100, 150, (frames, 68, 2))
    face[0, 5] = np.nan
    clip = clip_of(moving(frames), confidence, face=face, height=300)
    back = load_openpose_json(dump_openpose_json(clip))
    np.testing.assert_allclose(back.keypoints, clip.keypoints, atol=1e-3)
    np.testing.assert_allclose(back.confidence, clip.confidence, atol=1e-3)
    np.testing.assert_allclose(back.face, clip.face, atol=1e-3)
    assert (back.width, back.height, back.notes) == (256, 300, ())


def test_json_forms_are_equal(tmp_path):
    frames = [frame_json(points) for points in moving(3)]
    reference = load_openpose_json(json.dumps(frames))
    files = []
    for index, frame in enumerate(frames):
        files.append(tmp_path / f"{index}.json")
        files[-1].write_text(json.dumps(frame))
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps({"frames": frames}))
    for data in (files, whole, json.dumps(frames).encode()):
        np.testing.assert_array_equal(load_openpose_json(data).keypoints, reference.keypoints)


def test_body_25_is_reordered():
    body = np.zeros((25, 2))
    body[[*range(8), *range(9, 19)]] = STANDING
    body[8] = [128, 135]
    np.testing.assert_allclose(
        load_openpose_json(json.dumps(frame_json(body))).keypoints[0], STANDING
    )


def test_normalised_coordinates_are_recognised():
    frame = frame_json((STANDING + 0.5) / 256)
    np.testing.assert_allclose(
        load_openpose_json(json.dumps(frame)).keypoints[0], STANDING, atol=1e-3
    )


def test_missing_canvas_is_guessed_and_said():
    frame = frame_json()
    del frame["canvas_width"], frame["canvas_height"]
    clip = load_openpose_json(json.dumps(frame))
    assert clip.width > STANDING[:, 0].max() and clip.height > STANDING[:, 1].max()
    assert "no canvas size" in clip.notes[0]


@pytest.mark.parametrize(("side", "other"), [("width", "height"), ("height", "width")])
@pytest.mark.parametrize("parts", [False, True])
def test_the_one_side_of_a_canvas_that_is_named_is_kept(side, other, parts):
    frame = frame_json((STANDING + 0.5) / 300 if parts else STANDING)
    frame[f"canvas_{side}"] = 300
    del frame[f"canvas_{other}"]
    clip = load_openpose_json(json.dumps(frame))
    assumed = getattr(clip, other)
    assert getattr(clip, side) == 300
    assert clip.notes == (f"the JSON names no canvas_{other}: {assumed} px assumed",)
    if parts:
        assert assumed == 300
        np.testing.assert_allclose(clip.keypoints[0], STANDING, atol=1e-3)
    else:
        assert STANDING[:, int(other == "height")].max() < assumed < 300


def test_null_joints_and_empty_hands_are_missing_joints():
    frame = frame_json()
    frame["people"][0]["pose_keypoints_2d"][9:12] = [None, None, None]
    frame["people"][0] |= {"hand_left_keypoints_2d": None, "face_keypoints_2d": []}
    clip = load_openpose_json(json.dumps(frame))
    assert not clip.seen[0, 3] and clip.seen.sum() == 17


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "not JSON.*line 1"),
        (b"\xff\xfe\x00", "not (JSON|a text file)"),
        ("3", "the JSON is a number; wanted a frame"),
        ("[]", "0 frames; wanted 1"),
        ("[3]", "frame is a number"),
        ('{"frames": {}}', '"frames" is an object'),
        ('{"prompt": "a person", "pose": {}, "frames": 16}', "the settings of a result"),
        ('{"persons": []}', 'This is not an OpenPose file: it has no "people", only: persons'),
        ('[{"people": []}, {}]', 'file: frame 2 has no "people", only: nothing'),
        ('{"people": {}}', '"people" of the frame is an object'),
        ('{"people": []}', "no person found"),
        ('{"people": [7]}', "person 1 of the frame is a number"),
        ('{"people": [{"pose_keypoints": []}]}', '"pose_keypoints_2d"; found: pose_keypoints'),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "has 3 numbers; wanted 54 .* or 75"),
        ('{"people": [{"pose_keypoints_2d": "x"}]}', "is text; wanted a list"),
        (json.dumps(frame_json(canvas_width="wide")), '"canvas_width" of the frame is text'),
        (json.dumps(frame_json(canvas_height=0)), '"canvas_height" of the frame is 0'),
        (json.dumps(frame_json(confidence=0.0)), "no person found"),
        (json.dumps([frame_json()] * 300), f"300 frames; wanted 1 to {MAX_FRAMES}"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_wrong_json_says_what_and_where(data, words):
    with pytest.raises(PoseError, match=words):
        load_openpose_json(data)


@pytest.mark.parametrize("value", ["text", True, float("nan"), 1e300])
def test_wrong_numbers_are_named(value):
    frame = frame_json()
    frame["people"][0]["pose_keypoints_2d"][4] = value
    with pytest.raises(PoseError, match=r'"pose_keypoints_2d"\[4\] of person 1 of the frame'):
        load_openpose_json(json.dumps(frame))


def test_frames_with_different_canvases_are_refused():
    frames = [frame_json(), frame_json(canvas_width=300)]
    with pytest.raises(PoseError, match='"canvas_width" of frame 2 is 300.*earlier frame has 256'):
        load_openpose_json(json.dumps(frames))


def test_text_is_never_a_path(tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(json.dumps(frame_json()))
    with pytest.raises(PoseError, match="not JSON"):
        load_openpose_json(str(file))
