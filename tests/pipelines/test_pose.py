"""Pose clips: JSON in and out, resampling, fitting, drawing, and what their errors say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.pose import (
    COLOURS,
    LIMBS,
    MAX_FRAMES,
    PoseClip,
    PoseError,
    bridged,
    draw_clip,
    draw_skeleton,
    dump_openpose_json,
    load_openpose_json,
)

# A standing figure, 200 px tall, in a 256 px frame.
STANDING = np.array(
    [
        [128, 45], [128, 70], [108, 70], [100, 105], [96, 138], [148, 70], [156, 105], [160, 138],
        [116, 135], [114, 180], [113, 225], [140, 135], [142, 180], [143, 225],
        [123, 40], [133, 40], [117, 43], [139, 43],
    ],
    np.float32,
)  # fmt: skip


def clip_of(keypoints: np.ndarray, confidence: np.ndarray | None = None, **more) -> PoseClip:
    keypoints = np.asarray(keypoints, np.float32)
    if confidence is None:
        confidence = np.ones(keypoints.shape[:2])
    return PoseClip(keypoints, confidence, **{"face": None, "width": 256, "height": 256} | more)


def frame_json(joints: np.ndarray = STANDING, confidence: float = 0.9, **more) -> dict:
    row = np.concatenate([joints, np.full((len(joints), 1), confidence)], 1)
    person = {"pose_keypoints_2d": row.reshape(-1).tolist()}
    return {"people": [person], "canvas_width": 256, "canvas_height": 256} | more


def moving(frames: int) -> np.ndarray:
    """The standing figure, moved right by 2 px a frame."""
    return STANDING + np.arange(frames)[:, None, None] * np.array([2.0, 0.0])


# --- the clip itself ---------------------------------------------------------------------------


def test_clip_is_read_only_and_zeroes_what_is_not_seen():
    confidence = np.ones((1, 18))
    confidence[0, 4] = 0.01
    keypoints = STANDING[None].copy()
    keypoints[0, 4] = np.nan
    clip = clip_of(keypoints, confidence)
    assert clip.keypoints[0, 4].tolist() == [0, 0]
    assert clip.confidence[0, 4] == 0
    with pytest.raises(ValueError, match="read-only"):
        clip.keypoints[0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keypoints": np.zeros((2, 17, 2))}, "18"),
        ({"confidence": np.ones((2, 18))}, "confidence"),
        ({"face": np.zeros((1, 70, 2))}, "68 landmarks"),
        ({"width": 0}, "width is 0"),
        ({"height": 99_999}, "height is 99999"),
        ({"keypoints": np.full((1, 18, 2), np.inf)}, "not finite"),
    ],
)
def test_clip_refuses_what_does_not_fit(changes, words):
    fields = {"keypoints": STANDING[None], "confidence": np.ones((1, 18)), "face": None,
              "width": 256, "height": 256} | changes  # fmt: skip
    with pytest.raises(PoseError, match=words):
        PoseClip(**fields)


def test_too_many_frames_names_the_limit():
    with pytest.raises(PoseError, match=f"{MAX_FRAMES + 1} frames; wanted 1 to {MAX_FRAMES}"):
        clip_of(np.zeros((MAX_FRAMES + 1, 18, 2)))


# --- time --------------------------------------------------------------------------------------


def test_resample_is_linear_and_keeps_the_ends():
    clip = clip_of(moving(31)).resample(16)
    assert len(clip) == 16
    np.testing.assert_allclose(clip.keypoints, moving(31)[::2], atol=1e-4)


def test_filled_bridges_frames_without_anybody():
    confidence = np.ones((8, 18))
    confidence[[0, 3, 4, 7]] = 0
    confidence[5, 4] = 0  # a joint that one neighbour of the gap lacks stays missing in it
    clip = clip_of(moving(8), confidence).filled()
    kept = [joint for joint in range(18) if joint != 4]
    np.testing.assert_allclose(clip.keypoints[3:5, kept], moving(8)[3:5, kept], atol=1e-4)
    np.testing.assert_array_equal(clip.keypoints[0], clip.keypoints[1])
    np.testing.assert_array_equal(clip.keypoints[7], clip.keypoints[6])
    assert not clip.seen[3:6, 4].any() and clip.seen[[1, 2, 6], 4].all()


def test_filled_bridges_a_face_that_is_away_for_a_frame():
    face = np.stack([np.full((68, 2), 10.0 * frame) for frame in range(8)])
    face[[0, 2]] = np.nan
    clip = bridged(clip_of(moving(8), np.zeros((8, 18)), face=face), "wait")
    np.testing.assert_allclose(clip.face[:, 0, 0], [10, 10, 20, 30, 40, 50, 60, 70])
    assert clip.notes == ("no person in 2 of 8 frames: interpolated",)


def test_filled_leaves_a_frame_that_shows_a_face_alone():
    confidence = np.ones((3, 18))
    confidence[1] = 0
    face = np.full((3, 68, 2), np.nan)
    face[1] = 7.0
    clip = clip_of(moving(3), confidence, face=face)
    assert clip.filled() is clip and not clip.filled().seen[1].any()


def test_filled_leaves_a_clip_without_anybody():
    assert not clip_of(moving(3), np.zeros((3, 18))).filled().seen.any()


def test_smoothing_takes_tremble_and_leaves_movement():
    rng = np.random.default_rng(0)
    still = np.repeat(STANDING[None], 16, 0)
    trembling = clip_of(still + rng.normal(0, 1.0, still.shape))
    smooth = trembling.smoothed(1 / 8)
    assert (
        np.abs(smooth.keypoints - still).mean() < 0.7 * np.abs(trembling.keypoints - still).mean()
    )
    np.testing.assert_array_equal(smooth.confidence, trembling.confidence)
    # A wrist that beats up and down by a fifth of the body in each frame.
    beating = still.copy()
    beating[::2, 4, 1] -= 40
    np.testing.assert_allclose(clip_of(beating).smoothed(1 / 8).keypoints, beating, atol=0.5)
    # Frames far apart in time are left alone.
    np.testing.assert_allclose(trembling.smoothed(1.3).keypoints, trembling.keypoints, atol=1e-3)


def test_smoothing_uses_only_what_is_seen():
    confidence = np.ones((5, 18))
    confidence[2, 4] = 0
    clip = clip_of(np.repeat(STANDING[None], 5, 0), confidence).smoothed(0.1)
    np.testing.assert_allclose(clip.keypoints[:2], np.repeat(STANDING[None], 2, 0), atol=1e-4)
    assert not clip.seen[2, 4]
    with pytest.raises(PoseError, match="step is 0"):
        clip.smoothed(0)


@pytest.mark.parametrize(
    ("hidden", "names"),
    [
        ((), ()),
        ((16,), ()),
        ((4,), ("right wrist",)),
        ((10, 13), ("feet",)),
        ((6, 7), ("left arm",)),
        ((8, 9, 10, 11, 12, 13), ("hips", "legs")),
        ((0, 14, 15, 16, 17), ("head",)),
    ],
)
def test_missing_names_what_no_frame_shows(hidden, names):
    confidence = np.ones((2, 18))
    confidence[:, list(hidden)] = 0
    assert clip_of(moving(2), confidence).missing() == names


def test_resample_to_the_same_length_changes_nothing():
    clip = clip_of(moving(16))
    np.testing.assert_allclose(clip.resample(16).keypoints, clip.keypoints, atol=1e-5)


def test_one_frame_is_held():
    clip = clip_of(STANDING[None]).resample(16)
    assert len(clip) == 16
    np.testing.assert_array_equal(clip.keypoints, np.repeat(STANDING[None], 16, 0))


def test_resample_bridges_short_gaps_and_leaves_long_ones():
    confidence = np.ones((16, 18))
    confidence[6:8, 4] = 0  # two frames: bridged
    confidence[3:12, 7] = 0  # nine frames: too long to guess
    confidence[:, 10] = 0  # never seen
    confidence[13:, 2] = 0  # lost at the end
    keypoints = moving(16)
    clip = clip_of(keypoints, confidence).resample(16)
    assert clip.seen[:, 4].all()
    np.testing.assert_allclose(clip.keypoints[:, 4], keypoints[:, 4], atol=1e-4)
    assert clip.seen[:, 7].tolist() == [True] * 3 + [False] * 9 + [True] * 4
    assert not clip.seen[:, 10].any()
    assert clip.seen[:, 2].tolist() == [True] * 13 + [False] * 3


def test_resample_interpolates_the_face_and_its_gaps():
    face = np.full((5, 68, 2), np.nan)
    face[0], face[4] = 10, 20
    face[2:, 0] = np.nan
    clip = clip_of(moving(5), face=face).resample(3)
    assert clip.face is not None
    assert np.isnan(clip.face[2, 0]).all()
    np.testing.assert_allclose(clip.face[2, 1:], 20)


# --- place -------------------------------------------------------------------------------------


def test_to_square_pads_and_does_not_stretch():
    clip = clip_of(moving(2), width=512, height=256).to_square(256)
    assert (clip.width, clip.height) == (256, 256)
    # Half the size; 64 px of padding above and below.
    np.testing.assert_allclose(clip.keypoints[0], (STANDING + 0.5) / 2 - 0.5 + [0, 64], atol=1e-4)


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_fit_does_not_depend_on_the_original_scale(scale):
    reference = clip_of(moving(4)).fit(256).keypoints
    clip = clip_of(moving(4) * scale + 500, width=4000, height=3000).fit(256)
    np.testing.assert_allclose(clip.keypoints, reference, atol=0.05)


def test_fit_keeps_everything_inside_the_margin():
    clip = clip_of(moving(60)).fit(256, margin=0.1)
    assert clip.keypoints.min() >= 0.1 * 256 - 1
    assert clip.keypoints.max() <= 0.9 * 256 + 1


def test_fit_does_not_blow_up_a_crouching_figure():
    crouching = STANDING.copy()
    crouching[[9, 12]] = [[105, 150], [151, 150]]  # foreshortened thighs and shins
    crouching[[10, 13]] = [[110, 170], [146, 170]]
    standing, low = clip_of(STANDING[None]).fit(256), clip_of(crouching[None]).fit(256)

    def shoulders(clip: PoseClip) -> float:
        return float(np.linalg.norm(clip.keypoints[0, 2] - clip.keypoints[0, 5]))

    assert shoulders(low) < 1.15 * shoulders(standing)


def without(*joints: int, frames: int = 1) -> PoseClip:
    """Somebody who stands, some joints of whom no frame shows."""
    confidence = np.ones((frames, 18))
    confidence[:, joints] = 0
    return clip_of(moving(frames) if frames > 1 else STANDING[None], confidence)


def test_who_has_no_feet_is_cut_off_by_the_lower_edge():
    """As in the upper bodies that the model was trained on, not as a torso in mid-air."""
    whole, half = clip_of(STANDING[None]).fit(256), without(9, 10, 12, 13).fit(256)
    assert half.keypoints[0, [8, 11], 1].max() == pytest.approx(0.79 * 256, abs=0.5)
    torso, larger = (np.linalg.norm(c.keypoints[0, 1] - c.keypoints[0, 8]) for c in (whole, half))
    assert 1.4 < larger / torso < 1.7
    thigh = 256 - half.keypoints[0, 8, 1]
    assert thigh < larger * 0.245 / 0.288, "knees would be out of the frame"
    assert half.keypoints[0, [14, 15], 1].min() > 20, "and the crown is in it"


def test_knees_without_feet_are_near_the_lower_edge():
    clip = without(10, 13).fit(256)
    assert clip.keypoints[0, [9, 12], 1].max() == pytest.approx(0.97 * 256, abs=0.5)
    assert without(10).fit(256).keypoints[0, 13, 1] < 0.9 * 256, "one foot is enough"


def test_arms_that_need_the_room_make_an_upper_body_smaller_and_lower():
    spread = STANDING.copy()
    upper, fore = (np.linalg.norm(STANDING[a] - STANDING[a + 1]) for a in (2, 3))
    spread[[3, 6]] = spread[[2, 5]] + [[-upper, 0], [upper, 0]]
    spread[[4, 7]] = spread[[3, 6]] + [[-fore, 0], [fore, 0]]
    confidence = np.ones((1, 18))
    confidence[0, [9, 10, 12, 13]] = 0
    clip = clip_of(spread[None], confidence).fit(256)
    seen = clip.keypoints[clip.seen]
    assert seen[:, 0].min() == pytest.approx(0.08 * 256, abs=1)
    assert seen[:, 0].max() == pytest.approx(0.92 * 256, abs=1)
    walks = np.stack([spread, spread + [150, 0]])
    far = clip_of(walks, np.repeat(confidence, 2, 0)).fit(256)
    assert far.keypoints[0, 8, 1] > clip.keypoints[0, 8, 1] + 5, "lower, or knees would be in it"
    thigh = np.linalg.norm(far.keypoints[0, 1] - far.keypoints[0, 8]) * 0.245 / 0.288
    assert 256 - far.keypoints[0, 8, 1] < 1.1 * thigh
    raised = STANDING.copy()
    raised[[4, 7], 1] = raised[1, 1] - 200
    above = clip_of(raised[None], confidence).fit(256)
    assert above.keypoints[above.seen].min(0)[1] >= 0.08 * 256 - 0.5


@pytest.mark.parametrize("hands", [150, 260, 500])
def test_hands_below_the_hips_stay_in_the_frame(hands):
    """Of somebody without feet who bends down, or hangs upside down."""
    bent, confidence = STANDING.copy(), np.ones((1, 18))
    bent[[4, 7], 1] = bent[[2, 5], 1] + hands
    confidence[0, [9, 10, 12, 13]] = 0
    clip = clip_of(bent[None], confidence).fit(256)
    assert clip.keypoints[clip.seen].max(0)[1] <= 0.97 * 256 + 0.01
    assert clip.keypoints[clip.seen].min(0)[1] >= 0.08 * 256 - 0.01


def test_a_bust_gets_hips_below_its_shoulders():
    bust = without(*range(8, 14), frames=3)
    whole = bust.with_hips()
    assert whole.seen[:, [8, 11]].all() and not whole.seen[:, [9, 10, 12, 13]].any()
    real = moving(3)
    torso = np.linalg.norm(real[:, 1] - real[:, 8], axis=-1).mean()
    off = np.linalg.norm(whole.keypoints[:, [8, 11]] - real[:, [8, 11]], axis=-1)
    assert (off < 0.25 * torso).all(), "about where they were"
    fitted = bust.fit(256)
    assert fitted.keypoints[:, [8, 11], 1].max() == pytest.approx(0.79 * 256, abs=0.5)
    assert clip_of(STANDING[None]).with_hips().keypoints.tolist() == [STANDING.tolist()]
    nobody = without(2, *range(8, 14))
    assert nobody.with_hips() is nobody, "one shoulder tells nothing"


def test_fit_leaves_room_for_the_head_around_a_face():
    face = np.stack([np.linspace(300, 400, 68), np.linspace(500, 600, 68)], -1)[None]
    clip = clip_of(STANDING[None], np.zeros((1, 18)), face=face, width=900, height=900).fit(256)
    assert clip.face is not None
    tall = np.ptp(clip.face[0, :, 1]) / 256
    assert 0.35 < tall < 0.45
    above, below = clip.face[0, :, 1].min(), 256 - clip.face[0, :, 1].max()
    assert above > 1.5 * below > 0


def test_fit_without_any_joint_says_so():
    with pytest.raises(PoseError, match="no joint is seen"):
        clip_of(STANDING[None], np.zeros((1, 18))).fit()
    with pytest.raises(PoseError, match="margin is 0.7"):
        clip_of(STANDING[None]).fit(margin=0.7)


# --- drawing -----------------------------------------------------------------------------------


def test_draw_skeleton_puts_each_colour_at_its_joint():
    picture = draw_skeleton(STANDING, np.ones(18), 256)
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    for joint in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13):
        x, y = STANDING[joint].astype(int)
        assert tuple(int(v) for v in picture[y, x]) == COLOURS[joint]
    a, b = LIMBS[7]
    x, y = ((STANDING[a] + STANDING[b]) / 2).astype(int)
    assert tuple(int(v) for v in picture[y, x]) == tuple(int(0.6 * c) for c in COLOURS[7])


def test_draw_skeleton_leaves_out_missing_joints_and_their_limbs():
    confidence = np.ones(18)
    confidence[3] = 0.04
    picture = draw_skeleton(STANDING, confidence, 256)
    x, y = STANDING[3].astype(int)
    assert not picture[y - 3 : y + 4, x - 3 : x + 4].any()
    assert not draw_skeleton(STANDING, np.zeros(18), 256).any()


def test_draw_skeleton_survives_joints_far_outside():
    far = STANDING.copy()
    far[4] = [1e9, -1e9]
    assert draw_skeleton(far, np.ones(18), 64).shape == (64, 64, 3)


def test_draw_skeleton_draws_the_face_white():
    face = np.full((68, 2), np.nan)
    face[0] = [30, 40]
    picture = draw_skeleton(STANDING, np.zeros(18), 256, face)
    assert (picture[40, 30] > 200).all()
    assert 1 <= (picture.max(-1) > 60).sum() <= 12


def test_draw_clip_scales_and_resamples():
    pictures = draw_clip(clip_of(moving(5), width=512, height=512), 128, 8)
    assert pictures.shape == (8, 128, 128, 3)
    assert pictures.any((1, 2, 3)).all()


# --- JSON --------------------------------------------------------------------------------------


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


def test_null_joints_and_empty_hands_are_missing_joints():
    frame = frame_json()
    frame["people"][0]["pose_keypoints_2d"][9:12] = [None, None, None]
    frame["people"][0] |= {"hand_left_keypoints_2d": None, "face_keypoints_2d": []}
    clip = load_openpose_json(json.dumps(frame))
    assert not clip.seen[0, 3] and clip.seen.sum() == 17


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
        ('{"persons": []}', 'no field "people"; found: persons'),
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
