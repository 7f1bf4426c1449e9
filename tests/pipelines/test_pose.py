"""Pose clips: resampling, fitting, and what their errors say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.pose import MAX_FRAMES, PoseClip, PoseError
from tests.pipelines.figures import STANDING, clip_of, moving

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


def test_arms_that_the_lower_edge_cuts_off_hang_down():
    real = STANDING[None]
    bust = replace(without(3, 4, 6, 7, *range(8, 14)), height=95)  # of a photo down to the chest
    whole = bust.with_arms()
    assert whole.seen[:, :8].all() and not whole.seen[:, 8:14].any()
    arms = [3, 4, 6, 7]
    assert np.abs(whole.keypoints[:, arms] - real[:, arms]).max() < 16, "about where they were"
    fitted = bust.fit(256)
    assert fitted.seen[:, arms].all() and fitted.keypoints[:, arms, 1].max() <= 0.97 * 256 + 0.5
    forearms = replace(without(4, 7, *range(8, 14)), height=120).with_arms()
    assert np.abs(forearms.keypoints[:, [4, 7]] - real[:, [4, 7]]).max() < 6
    assert (forearms.keypoints[:, [3, 6]] == real[:, [3, 6]]).all()


def test_arms_are_left_as_they_are_where_the_lower_edge_does_not_hide_them():
    for clip in (
        without(3, 4, 6, 7),  # the picture goes on below them
        clip_of(STANDING[None]),
        replace(without(2, 3, 4, 5, 6, 7), height=95),  # no shoulder tells where they would be
        without(*range(1, 18)),
    ):
        assert clip.with_arms() is clip
    # A hand that is raised is no end of an arm that hangs.
    raised = STANDING[None].copy()
    raised[0, [4, 7]] = [[98, 30], [158, 30]]
    confidence = without(3, 6, *range(8, 14)).confidence
    waving = clip_of(raised, confidence, height=95)
    assert waving.with_arms() is waving
    # One in front of the chest may be.
    raised[0, 4] = [120, 85]
    folded = clip_of(raised, confidence, height=95).with_arms()
    assert folded.seen[0, 3] and not folded.seen[0, 6]
    assert (folded.keypoints[0, 4] == [120, 85]).all()


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
