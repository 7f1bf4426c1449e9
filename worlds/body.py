"""The avatar's skeleton: joint angles in, joint positions and frames out.

World frame: x to the viewer's right, y up, z towards the viewer; lengths in metres for a doll of
about 1.75 m. At rest the avatar stands upright, arms down, facing the viewer (+z), so its right
side is at negative x. All angles are radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np

FOOT_SOLE = 0.055
"""Distance from the ankle joint down to the sole, metres."""

_LIMBS = ("toe", "kn", "hand")
_CONTACT_RADIUS = {"toe": 0.04, "kn": 0.07, "hand": 0.05, "pelvis": 0.13}


@dataclass(frozen=True)
class Arm:
    """Angles of one arm.

    Attributes:
        raise_: Shoulder flexion; 0 hangs down, pi/2 points forward, pi points up.
        out: Shoulder abduction; 0 at the side, pi/2 horizontal to the side.
        twist: Rotation of the upper arm about its own axis; turns the plane of the elbow.
        bend: Elbow flexion; 0 straight, 2.4 hand at the shoulder.
        curl: Finger flexion; 0 flat hand, 1 fist.
    """

    raise_: float = 0.0
    out: float = 0.12
    twist: float = 0.0
    bend: float = 0.15
    curl: float = 0.35


@dataclass(frozen=True)
class Leg:
    """Angles of one leg.

    Attributes:
        raise_: Hip flexion; 0 straight down, pi/2 thigh forward; negative is backwards.
        out: Hip abduction.
        turn: Rotation of the thigh about its own axis (positive turns the knee outwards).
        bend: Knee flexion; 0 straight, 2.4 heel at the seat.
        foot: Ankle: positive points the toes down.
    """

    raise_: float = 0.0
    out: float = 0.04
    turn: float = 0.08
    bend: float = 0.0
    foot: float = 0.0


@dataclass(frozen=True)
class Pose:
    """A whole-body pose; lengths in metres, angles in radians.

    Attributes:
        yaw: Heading; 0 faces the viewer, positive turns towards the avatar's left (viewer's right).
        lean: Torso forward.
        side: Torso to the avatar's left.
        turn: Shoulders against hips about the spine.
        head_yaw: Head to the avatar's left.
        head_pitch: Head down.
        head_roll: Head towards the avatar's left shoulder.
        lift: Height of the lowest contact point above the floor (a jump).
        shift: Sideways displacement of the pelvis.
        seat: Height of the stool under the pelvis, or 0 for none.
        tilt: Whole body forward about the pelvis (a fall, a push-up); 0 upright.
        right: The avatar's right arm.
        left: The avatar's left arm.
        right_leg: The avatar's right leg.
        left_leg: The avatar's left leg.
    """

    yaw: float = 0.0
    lean: float = 0.0
    side: float = 0.0
    turn: float = 0.0
    head_yaw: float = 0.0
    head_pitch: float = 0.0
    head_roll: float = 0.0
    lift: float = 0.0
    shift: float = 0.0
    seat: float = 0.0
    tilt: float = 0.0
    right: Arm = field(default_factory=Arm)
    left: Arm = field(default_factory=Arm)
    right_leg: Leg = field(default_factory=Leg)
    left_leg: Leg = field(default_factory=Leg)

    def mirrored(self) -> Pose:
        """Return the pose with left and right exchanged."""
        return replace(
            self,
            yaw=-self.yaw,
            side=-self.side,
            turn=-self.turn,
            head_yaw=-self.head_yaw,
            head_roll=-self.head_roll,
            shift=-self.shift,
            right=self.left,
            left=self.right,
            right_leg=self.left_leg,
            left_leg=self.right_leg,
        )


def mix(a: Pose, b: Pose, t: float) -> Pose:
    """Interpolate linearly between two poses; ``t`` = 0 gives ``a``, 1 gives ``b``."""

    def blend(x: object, y: object) -> object:
        if isinstance(x, float | int):
            return (1 - t) * x + t * y
        return replace(
            x, **{f.name: blend(getattr(x, f.name), getattr(y, f.name)) for f in fields(x)}
        )

    return blend(a, b)


def rot_x(a: float) -> np.ndarray:
    """Rotation by ``a`` about x, [3, 3]."""
    c, s = np.cos(a), np.sin(a)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rot_y(a: float) -> np.ndarray:
    """Rotation by ``a`` about y, [3, 3]."""
    c, s = np.cos(a), np.sin(a)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def rot_z(a: float) -> np.ndarray:
    """Rotation by ``a`` about z, [3, 3]."""
    c, s = np.cos(a), np.sin(a)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Skeleton:
    """Joint positions (metres) and local frames of one posed avatar.

    ``joints`` maps a name to a [3] position: pelvis, waist, chest, neck, head and, with the prefix
    R or L: sh, el, wr, hand, hp, kn, an, toe. ``frames`` maps torso, hips, head, and with prefix R
    or L: upper, fore, thigh, shin, foot to [3, 3] rotations whose y column points up the part at
    rest.
    """

    joints: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    seat: float


def place_joints(
    frames: dict[str, np.ndarray], belly: np.ndarray, build: float = 1.0
) -> dict[str, np.ndarray]:
    """Place the doll's joints, the pelvis at the origin, where its parts point as they are to.

    Args:
        frames: Rotations of the parts, as in `Skeleton.frames`.
        belly: Rotation of what is between hips and torso, [3, 3].
        build: Relative width of the body, 0.85 (slim) to 1.2 (broad).
    """
    torso, hips = frames["torso"], frames["hips"]
    j: dict[str, np.ndarray] = {"pelvis": np.zeros(3)}
    j["waist"] = belly @ np.array([0, 0.16, 0])
    j["chest"] = j["waist"] + torso @ np.array([0, 0.24, 0])
    j["neck"] = j["waist"] + torso @ np.array([0, 0.345, 0])
    nape = j["neck"] + torso @ np.array([0, 0.09, 0.01])
    j["head"] = nape + frames["head"] @ np.array([0, 0.1, 0.01])
    for side, sign in (("R", -1), ("L", 1)):
        fore = frames[side + "fore"]
        shoulder = j["waist"] + torso @ np.array([sign * 0.185 * build, 0.315, 0])
        elbow = shoulder + frames[side + "upper"] @ np.array([0, -0.275, 0])
        wrist = elbow + fore @ np.array([0, -0.245, 0])
        j[side + "sh"], j[side + "el"], j[side + "wr"] = shoulder, elbow, wrist
        j[side + "hand"] = wrist + fore @ np.array([0, -0.085, 0])
        hip = hips @ np.array([sign * 0.095 * build, -0.03, 0])
        knee = hip + frames[side + "thigh"] @ np.array([0, -0.42, 0])
        ankle = knee + frames[side + "shin"] @ np.array([0, -0.4, 0])
        j[side + "hp"], j[side + "kn"], j[side + "an"] = hip, knee, ankle
        j[side + "toe"] = ankle + frames[side + "foot"] @ np.array([0, -0.03, 0.14])
    return j


def lowest(joints: dict[str, np.ndarray], frames: dict[str, np.ndarray]) -> float:
    """Return the height of the body's lowest point, metres: of a sole, toe, knee, hand or seat."""
    return min(
        min(joints[s + "an"][1] - FOOT_SOLE * abs(frames[s + "foot"][1, 1]) for s in "RL"),
        min(joints[s + part][1] - _CONTACT_RADIUS[part] for part in _LIMBS for s in "RL"),
        joints["pelvis"][1] - _CONTACT_RADIUS["pelvis"],
    )


def forward_kinematics(pose: Pose, build: float = 1.0) -> Skeleton:
    """Place the joints of a pose so that its lowest point touches the floor (y = 0).

    Args:
        pose: Joint angles.
        build: Relative width of the body, 0.85 (slim) to 1.2 (broad).
    """
    heading = rot_y(pose.yaw) @ rot_x(pose.tilt)
    torso = heading @ rot_x(pose.lean) @ rot_z(-pose.side) @ rot_y(pose.turn)
    f: dict[str, np.ndarray] = {"hips": heading, "torso": torso}
    f["head"] = torso @ rot_y(pose.head_yaw) @ rot_x(pose.head_pitch) @ rot_z(-pose.head_roll)
    for side, sign, arm, leg in (
        ("R", -1, pose.right, pose.right_leg),
        ("L", 1, pose.left, pose.left_leg),
    ):
        upper = torso @ rot_x(-arm.raise_) @ rot_z(sign * arm.out) @ rot_y(-sign * arm.twist)
        f[side + "upper"], f[side + "fore"] = upper, upper @ rot_x(-arm.bend)
        thigh = heading @ rot_x(-leg.raise_) @ rot_z(sign * leg.out) @ rot_y(sign * leg.turn)
        shin = thigh @ rot_x(leg.bend)
        f[side + "thigh"], f[side + "shin"] = thigh, shin
        f[side + "foot"] = shin @ rot_x(leg.foot)
    j = place_joints(f, heading @ rot_x(pose.lean * 0.5), build)
    low = lowest(j, f)
    if pose.seat > 0:
        low = -_CONTACT_RADIUS["pelvis"] - pose.seat
    origin = np.array([pose.shift, pose.lift - low, 0.0])
    return Skeleton({k: v + origin for k, v in j.items()}, f, pose.seat)
