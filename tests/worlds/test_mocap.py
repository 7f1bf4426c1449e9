"""Motion capture: the format by hand, the doll's body after a person's, and the real recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.fetch import ensure_files
from pipelines.paths import cache_dir
from pipelines.pose_json import load_openpose_json
from worlds import mocap
from worlds.body import Arm, Leg, Pose, forward_kinematics, place_joints
from worlds.data import FRAMES
from worlds.looks import Look
from worlds.render import Camera, render

BONES = {
    "chest": (0, 1, 0), "neck": (0, 0.8, 0),
    "right_hip": (0, 0, 0.4), "right_knee": (0, -1.6, 0), "right_ankle": (0, -1.6, 0),
    "left_hip": (0, 0, -0.4), "left_knee": (0, -1.6, 0), "left_ankle": (0, -1.6, 0),
    "right_shoulder": (0, 0.8, 0.8), "right_elbow": (0, -1.2, 0), "right_wrist": (0, -1.0, 0),
    "left_shoulder": (0, 0.8, -0.8), "left_elbow": (0, -1.2, 0), "left_wrist": (0, -1.0, 0),
}  # fmt: skip
"""Of a made-up body, four times life size, as the package's file has it."""


def body(folder: Path) -> Path:
    joints = "".join(
        f'<joint name="{name}"><origin xyz="{" ".join(map(str, at))}"/></joint>'
        for name, at in BONES.items()
    )
    path = folder / "humanoid.urdf"
    path.write_text(f"<robot>{joints}</robot>\n\0", encoding="utf-8")
    return path


def frame(
    seconds: float = 0.125, height: float = 0.9, balls: dict[str, Rotation] | None = None,
    hinges: dict[str, float] | None = None,
) -> np.ndarray:  # fmt: skip
    """A frame of a recording: upright, facing along x, but for what is given."""
    values = np.zeros(44)
    values[0], values[2] = seconds, height
    at = {"root": mocap._ROOT, **mocap._BALLS}
    for name, where in at.items():
        turned = (balls or {}).get(name, Rotation.identity()).as_quat()
        values[where] = np.roll(turned, 1)
    for name, angle in (hinges or {}).items():
        values[mocap._HINGES[name]] = angle
    return values


def written(folder: Path, frames: list[np.ndarray], loop: str = "none") -> Path:
    path = folder / "humanoid3d_hop.txt"
    path.write_text(json.dumps({"Loop": loop, "Frames": [list(f) for f in frames]}))
    return path


def test_who_stands_faces_the_viewer_with_the_right_side_at_the_viewer_s_left(tmp_path: Path):
    joints = mocap.recorded_joints(mocap.rotations(frame()), mocap.bones_of(body(tmp_path)))
    np.testing.assert_allclose(joints["Rhp"], [-0.1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(joints["Ran"], [-0.1, -0.8, 0], atol=1e-12)
    np.testing.assert_allclose(joints["neck"], [0, 0.45, 0], atol=1e-12)
    np.testing.assert_allclose(joints["Lwr"], [0.2, 0.45 - 0.55, 0], atol=1e-12)
    assert joints["head"][1] == pytest.approx(0.45 + mocap._HEAD_UP)


def test_elbows_bend_forwards_and_knees_back(tmp_path: Path):
    bent = frame(hinges={"right_elbow": np.pi / 2, "left_knee": -np.pi / 2})
    joints = mocap.recorded_joints(mocap.rotations(bent), mocap.bones_of(body(tmp_path)))
    np.testing.assert_allclose(joints["Rwr"] - joints["Rel"], [0, 0, 0.25], atol=1e-12)
    np.testing.assert_allclose(joints["Lan"] - joints["Lkn"], [0, 0, -0.4], atol=1e-12)
    np.testing.assert_allclose(joints["Rel"] - joints["Rsh"], [0, -0.3, 0], atol=1e-12)


def test_what_hangs_from_the_chest_turns_with_it(tmp_path: Path):
    bowed = frame(balls={"chest": Rotation.from_euler("z", -np.pi / 2)})
    joints = mocap.recorded_joints(mocap.rotations(bowed), mocap.bones_of(body(tmp_path)))
    np.testing.assert_allclose(joints["neck"], [0, 0.25, 0.2], atol=1e-12)
    np.testing.assert_allclose(joints["Rwr"], [-0.2, 0.25, 0.2 - 0.55], atol=1e-12)
    np.testing.assert_allclose(joints["Rkn"], [-0.1, -0.4, 0], atol=1e-12)


def test_the_doll_stands_raises_and_bends_as_the_renderer_s_own_pose_does():
    """Raised right arm and bent left leg: the same rotations as by `forward_kinematics`."""
    pose = Pose(right=Arm(raise_=1.0, out=0.0, bend=0.6), left=Arm(out=0.0, bend=0.0),
                right_leg=Leg(out=0.0, turn=0.0), left_leg=Leg(0.8, 0.0, 0.0, 1.1))  # fmt: skip
    recorded = frame(
        balls={"right_shoulder": Rotation.from_euler("z", 1.0),
               "left_hip": Rotation.from_euler("z", 0.8)},
        hinges={"right_elbow": 0.6, "left_knee": -1.1},
    )  # fmt: skip
    frames, own = mocap.doll_frames(mocap.rotations(recorded)), forward_kinematics(pose)
    for name, rotation in own.frames.items():
        np.testing.assert_allclose(frames[name], rotation, atol=1e-12, err_msg=name)
    joints = place_joints(frames, frames["hips"])
    for name, place in own.joints.items():
        np.testing.assert_allclose(
            joints[name] - joints["pelvis"], place - own.joints["pelvis"], atol=1e-12, err_msg=name
        )


def test_the_doll_is_drawn_at_its_heading_and_stays_above_the_floor():
    """Wherever the recording headed, its first frame faces as it is told to."""
    turned = frame(balls={"root": Rotation.from_euler("y", 2.0)}, height=0.2)
    drawn = mocap.drawn(np.stack([turned] * 2), 0.7, Look())
    still = Pose(yaw=0.7, left=Arm(out=0.0, bend=0.0), right=Arm(out=0.0, bend=0.0),
                 left_leg=Leg(out=0.0, turn=0.0), right_leg=Leg(out=0.0, turn=0.0))  # fmt: skip
    same = render(Look(), still, Camera(mocap.LENS.pitch, focus=0.9))
    assert len(drawn) == 2
    np.testing.assert_array_equal(drawn[1].confidence, same.confidence)
    np.testing.assert_allclose(drawn[1].keypoints, same.keypoints, atol=0.01)


def test_who_leaves_the_floor_is_drawn_in_the_air():
    jump = mocap.drawn(np.stack([frame(height=0.92), frame(height=1.4)]), 0.0, Look())
    risen = jump[0].keypoints[:, 1] - jump[1].keypoints[:, 1]
    assert risen[13] > 30 and np.ptp(risen) < 1


def test_a_camera_follows_and_sees_the_heading(tmp_path: Path):
    bones = mocap.bones_of(body(tmp_path))
    ahead = np.stack([frame(), frame()])
    ahead[1, 1] = 3.0  # has walked on
    clip = mocap.seen_clip(ahead, bones, 0.9)
    np.testing.assert_array_equal(clip.keypoints[0], clip.keypoints[1])
    assert clip.seen[0].sum() == 17 and not clip.seen[0, 17], "its left ear is turned away"
    # x of the right shoulder is to the left of the left one's; from behind it is not.
    assert clip.keypoints[0, 2, 0] < clip.keypoints[0, 5, 0]
    behind = mocap.seen_clip(ahead, bones, np.pi)
    assert behind.keypoints[0, 2, 0] > behind.keypoints[0, 5, 0] and not behind.seen[0, 0]


def test_clips_take_the_nearest_frames_and_loop_or_stay(tmp_path: Path):
    frames = [frame(0.125, 0.5 + 0.01 * n) for n in range(9)]  # one second
    loops = mocap.Recording.load(written(tmp_path, frames, "wrap"))
    assert loops.name == "hop" and loops.loops
    (clip,) = loops.clips()
    numbers = [round((row[2] - 0.5) / 0.01) for row in clip]
    assert numbers == [0, 1, 2, 3, 4, 5, 6, 7] * 2
    (clip,) = mocap.Recording.load(written(tmp_path, frames)).clips()
    assert [round((row[2] - 0.5) / 0.01) for row in clip] == [*range(8), *[8] * 8]
    longer = [frame(0.125, 0.5 + 0.01 * n) for n in range(33)]  # four seconds
    first, second = mocap.Recording.load(written(tmp_path, longer)).clips()
    assert first[0, 2] == pytest.approx(0.5) and second[0, 2] == pytest.approx(0.66)
    assert [name for name, *_ in mocap.cut([loops])] == ["hop_1a", "hop_1b"]


def test_another_format_is_refused_by_name(tmp_path: Path):
    path = written(tmp_path, [frame()[:40], frame()[:40]])
    with pytest.raises(ValueError, match=r"humanoid3d_hop.txt has frames of shape \(2, 40\)"):
        mocap.Recording.load(path)


def test_the_real_recordings_are_people_who_move(tmp_path: Path):
    if not any(cache_dir().glob("mocap*")):
        pytest.skip("the recordings were not fetched: python -m worlds.mocap does")
    assert ensure_files("mocap", mocap.WHEEL, ["*.none"]).is_dir(), "nothing is fetched again"
    mocap.main(["--out", str(tmp_path)])
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 36
    clips = {path.stem: load_openpose_json(path) for path in files}
    assert all(len(clip) == FRAMES for clip in clips.values())
    walk, flip = clips["walk_1a"], clips["backflip_1a"]
    assert (walk.keypoints[:, 0, 1] < walk.keypoints[:, 8, 1]).all(), "heads are above hips"
    assert (flip.keypoints[:, 1, 1] > flip.keypoints[:, 8, 1]).any(), "but in a somersault"
    # A stride: each foot is once well ahead of the other.
    step = walk.keypoints[:, 10, 1] - walk.keypoints[:, 13, 1]
    assert step.max() > 5 and step.min() < -5
