"""The avatar's motion library: named movements as lists of poses at 8 frames a second.

A motion is built from a function of time that places the pelvis, the feet and the hands; two-bone
inverse kinematics turns those places into the joint angles of `worlds.body.Pose`. Coordinates in
this module are metres in the frame of the avatar's heading with the floor at y = 0: x outwards from
the midline of the limb's own side (so the same numbers serve both sides), y up, z forward. Hand
targets are relative to the waist, in the frame of the torso, unless said otherwise.

Every motion draws its amplitude, tempo, phase, heading, side and small head movements from the
`random.Random` it is given, and from nothing else. Periodic motions have a whole number of cycles
in the clip, so that it loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from worlds.body import FOOT_SOLE, Arm, Leg, Pose, mix

FPS = 8
"""Frames a second of every motion."""

Vec = tuple[float, float, float]
Foot = tuple[float, float, float, float]
"""A foot's place: x outwards, z forward, height of its lowest point, pitch (toes down positive)."""
Builder = Callable[[Random, float], Callable[[float], Pose]]
"""From a generator and the clip's length in seconds to the pose at a time in seconds."""

TAU = 2 * math.pi

ARM_LIMITS: dict[str, tuple[float, float]] = {
    "raise_": (-1.6, 3.6),
    "out": (-1.6, 3.15),
    "twist": (-3.2, 3.2),
    "bend": (0.0, 2.6),
    "curl": (0.0, 1.0),
}
"""Allowed range of each angle of an arm, radians (`curl` is a share)."""

LEG_LIMITS: dict[str, tuple[float, float]] = {
    "raise_": (-0.9, 2.3),
    "out": (-0.5, 1.5),
    "turn": (-0.9, 1.6),
    "bend": (0.0, 2.75),
    "foot": (-0.75, 1.35),
}
"""Allowed range of each angle of a leg, radians."""

BODY_LIMITS: dict[str, tuple[float, float]] = {
    "yaw": (-1.8, 1.8),
    "lean": (-0.6, 1.9),
    "side": (-0.8, 0.8),
    "turn": (-1.1, 1.1),
    "head_yaw": (-1.3, 1.3),
    "head_pitch": (-0.8, 0.9),
    "head_roll": (-0.6, 0.6),
    "lift": (0.0, 0.6),
    "shift": (-0.5, 0.5),
    "seat": (0.0, 0.6),
    "tilt": (-0.3, 0.3),
}
"""Allowed range of the other fields of a pose: radians, or metres for lift, shift and seat."""

_UPPER, _REACH = 0.275, 0.33  # shoulder to elbow, elbow to the middle of the hand
_THIGH, _SHIN = 0.42, 0.40
_SHOULDER: Vec = (0.185, 0.315, 0.0)
_HIP: Vec = (0.095, -0.03, 0.0)
_WAIST = 0.16
PELVIS = 0.918
"""Height of the pelvis of who stands upright, metres, with knees that are not quite straight."""
_KNEE = 0.07  # height of a knee's joint when it rests on the floor
_SEAT, _SEATED = 0.42, 0.55  # the stool, and the pelvis when it sits there


@dataclass(frozen=True)
class Motion:
    """A named movement.

    Attributes:
        name: Key in `MOTIONS`.
        verb: How a caption says it, such as "kneeling on one knee".
        group: "everyday", "sport", "dance", "yoga", "kneeling", "salute", "signature" (an invented
            choreography that stands for a protected one), "near_miss" (harmless but close to an
            unsafe group) or "random".
        make: From a generator and a number of frames to that many poses at 8 frames a second.
    """

    name: str
    verb: str
    group: str
    make: Callable[[Random, int], list[Pose]]


# --- inverse kinematics ------------------------------------------------------------------------


def _bend_point(start: Vec, end: Vec, first: float, second: float, pole: Vec) -> tuple[Vec, Vec]:
    """Unit directions of the two bones from ``start`` to ``end``, the joint pushed to ``pole``."""
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    far = math.sqrt(dx * dx + dy * dy + dz * dz) or 1e-6
    dx, dy, dz = dx / far, dy / far, dz / far
    # A fully stretched or folded limb has no plane, so keep away from both ends.
    reach = min(max(far, math.hypot(first - second, 0.43 * second)), (first + second) * 0.999)
    along = pole[0] * dx + pole[1] * dy + pole[2] * dz
    px, py, pz = pole[0] - along * dx, pole[1] - along * dy, pole[2] - along * dz
    size = math.sqrt(px * px + py * py + pz * pz) or 1e-6
    a = (first * first + reach * reach - second * second) / (2 * reach)
    h = math.sqrt(max(first * first - a * a, 0.0)) / size
    one = ((a * dx + h * px) / first, (a * dy + h * py) / first, (a * dz + h * pz) / first)
    two = (
        (reach * dx - first * one[0]) / second,
        (reach * dy - first * one[1]) / second,
        (reach * dz - first * one[2]) / second,
    )
    return one, two


def _local(one: Vec, two: Vec) -> tuple[float, float, Vec]:
    """Flexion and abduction that point a limb along ``one``, and ``two`` in the limb's frame."""
    out = math.asin(max(-1.0, min(1.0, one[0])))
    raise_ = math.atan2(one[2], -one[1])
    c, s = math.cos(raise_), math.sin(raise_)
    y, z = two[1] * c - two[2] * s, two[1] * s + two[2] * c
    c, s = math.cos(out), math.sin(out)
    return raise_, out, (two[0] * c + y * s, -two[0] * s + y * c, z)


def arm_to(target: Vec, elbow: Vec = (0.5, -1.0, -0.2), curl: float = 0.35) -> Arm:
    """Return the arm whose hand is at a place; one too far off is pointed at.

    Args:
        target: of the hand, metres, relative to the waist in the frame of the torso.
        elbow: direction that the elbow points in, same axes.
        curl: of the fingers, 0..1.
    """
    one, two = _bend_point(_SHOULDER, target, _UPPER, _REACH, elbow)
    raise_, out, fore = _local(one, two)
    bend = math.acos(max(-1.0, min(1.0, -fore[1])))
    return Arm(raise_, out, math.atan2(-fore[0], fore[2]), bend, curl)


def _reach_from_floor(
    target: Vec,
    side: int,
    pelvis: Vec,
    lean: float,
    elbow: Vec = (0.6, -0.6, -0.4),
    curl: float = 0.35,
) -> Arm:
    """Like `arm_to` for a target in floor coordinates and a torso that only leans forward.

    ``side`` is -1 for the right arm and 1 for the left one; x of the target points to the left.
    """
    y = target[1] - pelvis[1] - _WAIST * math.cos(lean / 2)
    z = target[2] - pelvis[2] - _WAIST * math.sin(lean / 2)
    c, s = math.cos(lean), math.sin(lean)
    return arm_to((side * (target[0] - pelvis[0]), y * c + z * s, z * c - y * s), elbow, curl)


def _leg(ankle: Vec, pitch: float, knee_out: float) -> Leg:
    """Leg whose ankle is at ``ankle`` relative to the pelvis and whose foot has ``pitch``."""
    pole = (math.sin(knee_out), 0.0, math.cos(knee_out))
    one, two = _bend_point(_HIP, ankle, _THIGH, _SHIN, pole)
    raise_, out, shin = _local(one, two)
    bend = math.acos(max(-1.0, min(1.0, -shin[1])))
    turn = math.atan2(-shin[0], -shin[2])
    # Second row of the shin's frame: solve for the ankle angle that gives the foot its pitch.
    cr, sr = math.cos(raise_), math.sin(raise_)
    v0, v1, v2 = cr * math.sin(out), cr * math.cos(out), sr
    w = v0 * math.sin(turn) + v2 * math.cos(turn)
    up = v1 * math.cos(bend) + w * math.sin(bend)
    ahead = w * math.cos(bend) - v1 * math.sin(bend)
    size = math.hypot(up, ahead) or 1e-6
    # Beyond a quarter turn (the instep on the floor) the other branch of the arcsine holds.
    swing = math.asin(max(-1.0, min(1.0, math.sin(pitch) / size)))
    foot = math.atan2(ahead, up) + (math.pi - swing if pitch > math.pi / 2 else swing)
    return Leg(raise_, out, turn, bend, (foot + math.pi) % TAU - math.pi)


def _ankle_height(pitch: float) -> float:
    """Height of the ankle when the lowest point of a foot with ``pitch`` is on the floor."""
    c, s = math.cos(pitch), math.sin(pitch)
    return max(FOOT_SOLE * abs(c), 0.04 + 0.03 * c + 0.14 * s)


def posed(
    right: Arm,
    left: Arm,
    *,
    pelvis: Vec = (0.0, PELVIS, 0.0),
    right_foot: Foot = (0.1, 0.0, 0.0, 0.0),
    left_foot: Foot = (0.1, 0.0, 0.0, 0.0),
    knees: tuple[float, float] = (0.15, 0.15),
    right_leg: Leg | None = None,
    **rest: float,
) -> Pose:
    """Return the pose with pelvis and both feet in place.

    Args:
        right: arm.
        left: arm.
        pelvis: its place, metres; x points to the avatar's left.
        right_foot: its place.
        left_foot: its place.
        knees: angles by which the right and the left knee point outwards, radians.
        right_leg: instead of the one that reaches ``right_foot``.
        rest: other fields of `worlds.body.Pose`.
    """
    legs = []
    for sign, (x, z, lift, pitch), knee in (
        (-1, right_foot, knees[0]),
        (1, left_foot, knees[1]),
    ):
        height = _ankle_height(pitch) + lift - pelvis[1]
        legs.append(_leg((x - sign * pelvis[0], height, z - pelvis[2]), pitch, knee))
    return Pose(
        shift=pelvis[0], right=right, left=left, right_leg=right_leg or legs[0],
        left_leg=legs[1], **rest,
    )


# --- time --------------------------------------------------------------------------------------


def _smooth(u: float) -> float:
    """Ease in and out on 0..1, clamped outside."""
    u = min(max(u, 0.0), 1.0)
    return u * u * (3 - 2 * u)


def _keys(u: float, *keys: tuple[float, Vec]) -> Vec:
    """Eased interpolation of places given as (time, place) in the order of time."""
    for (t0, a), (t1, b) in zip(keys, keys[1:], strict=False):
        if u < t1:
            k = _smooth((u - t0) / (t1 - t0))
            return tuple(p + (q - p) * k for p, q in zip(a, b, strict=True))
    return keys[-1][1]


def _scalar(u: float, *keys: tuple[float, float]) -> float:
    """`_keys` for numbers."""
    for (t0, a), (t1, b) in zip(keys, keys[1:], strict=False):
        if u < t1:
            return a + (b - a) * _smooth((u - t0) / (t1 - t0))
    return keys[-1][1]


def _cycle(rng: Random, seconds: float, low: float, high: float) -> Callable[[float], float]:
    """Cycle position 0..1 at a time; ``low``..``high`` cycles a second, whole in the clip."""
    count = max(1, round(rng.uniform(low, high) * seconds))
    start = rng.random()
    return lambda t: (start + count * t / seconds) % 1.0


def _wave(cycle: float, offset: float = 0.0) -> float:
    return math.sin(TAU * (cycle + offset))


def _progress(rng: Random, seconds: float) -> Callable[[float], float]:
    """Progress 0..1 of a movement that happens once, with a short hold before and after."""
    if seconds <= 1 / FPS:
        fixed = rng.random()
        return lambda t: fixed
    begin, end = rng.uniform(0.0, 0.12), rng.uniform(0.82, 0.95)
    last = seconds - 1 / FPS
    return lambda t: min(max((t / last - begin) / (end - begin), 0.0), 1.0)


def _rest(rng: Random) -> Arm:
    """An arm that hangs at the side."""
    return Arm(
        rng.uniform(-0.1, 0.15), rng.uniform(0.09, 0.24), rng.uniform(0.0, 0.5),
        rng.uniform(0.1, 0.4), rng.uniform(0.2, 0.6),
    )


def _swing(start: Arm, end: Arm, k: float) -> Arm:
    """Move an arm from ``start`` to ``end`` in front of the body, so that the hand clears it."""
    arm = mix(start, end, k)
    return replace(arm, raise_=arm.raise_ + 0.4 * math.sin(math.pi * k))


def _feet(rng: Random) -> tuple[Foot, Foot]:
    """Two feet of a relaxed stance."""
    return (
        (rng.uniform(0.07, 0.15), rng.uniform(-0.04, 0.05), 0.0, 0.0),
        (rng.uniform(0.07, 0.15), rng.uniform(-0.04, 0.05), 0.0, 0.0),
    )


def _still(
    rng: Random,
    seconds: float,
    right: Callable[[float], Arm] | Arm,
    left: Callable[[float], Arm] | Arm,
    sway: float = 0.012,
    **rest: float,
) -> Callable[[float], Pose]:
    """A relaxed stance that sways a little while the arms do something."""
    at = _cycle(rng, seconds, 0.3, 0.7)
    feet = _feet(rng)
    sway *= rng.uniform(0.5, 1.6)
    base = PELVIS - rng.uniform(0.0, 0.006)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        fields = dict(rest)
        fields["side"] = fields.get("side", 0.0) - w * sway
        return posed(
            right(t) if callable(right) else right,
            left(t) if callable(left) else left,
            pelvis=(w * sway, base - 0.004 * abs(w), 0.0),
            right_foot=feet[0], left_foot=feet[1], **fields,
        )

    return pose


# --- everyday ----------------------------------------------------------------------------------


def _stand(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _still(rng, seconds, _rest(rng), _rest(rng), sway=0.025)


def _look_around(rng: Random, seconds: float) -> Callable[[float], Pose]:
    base = _still(rng, seconds, _rest(rng), _rest(rng))
    at = _cycle(rng, seconds, 0.3, 0.6)
    far = rng.uniform(0.6, 1.0)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        return replace(base(t), head_yaw=far * w, turn=0.3 * far * w,
                       head_pitch=-0.1 * _wave(at(t), 0.2))

    return pose


def _gait(
    rng: Random,
    seconds: float,
    *,
    tempo: tuple[float, float],
    stride: tuple[float, float],
    clear: float,
    flight: float,
    swing: float,
    elbow: float,
    height: float,
    lean: float,
    knee_up: float = 0.0,
) -> Callable[[float], Pose]:
    """Steps on the spot: each foot glides back on the floor and is carried forward in the air."""
    at = _cycle(rng, seconds, *tempo)
    half = rng.uniform(*stride) / 2
    swing *= rng.uniform(0.75, 1.25)
    elbow *= rng.uniform(0.8, 1.2)
    lean += rng.uniform(-0.04, 0.04)
    wide = rng.uniform(0.06, 0.1)

    def foot(c: float) -> Foot:
        if c < 0.5:
            k = c / 0.5
            late = max(0.0, (k - 0.6) / 0.4)
            return (wide, half * (1 - 2 * k), 0.0, 0.75 * late * late)
        k = (c - 0.5) / 0.5
        arc = math.sin(math.pi * k)
        pitch = 0.75 * (1 - k) ** 2 + clear * 1.6 * arc * (1 - k) - 0.2 * k * k * (1 - k) * 4
        return (wide, half * (2 * _smooth(k) - 1) + knee_up * 0.12 * arc,
                (clear + knee_up * 0.2) * arc, pitch)

    def arm(w: float) -> Arm:
        return Arm(swing * w, 0.14, 0.25, max(0.05, elbow + 0.35 * swing * w), 0.5)

    def pose(t: float) -> Pose:
        c = at(t)
        # The arm goes with the opposite leg, which is furthest forward at the cycle's start.
        w = math.cos(TAU * c)
        bob = math.cos(2 * TAU * c)
        return posed(
            arm(-w), arm(w),
            pelvis=(-0.018 * _wave(c), height - 0.014 * bob, 0.02),
            right_foot=foot(c), left_foot=foot((c + 0.5) % 1.0),
            lean=lean, turn=0.16 * swing * w, lift=max(0.0, flight * -bob),
            head_pitch=-0.5 * lean,
        )

    return pose


def _wave_hand(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 1.0, 1.9)
    out, bend, wide = rng.uniform(1.2, 2.0), rng.uniform(1.0, 1.5), rng.uniform(0.25, 0.45)
    front = rng.uniform(0.0, 0.35)
    return _still(
        rng, seconds,
        lambda t: Arm(front, out, -1.4, bend + wide * _wave(at(t)), 0.05),
        _rest(rng), head_roll=rng.uniform(-0.1, 0.1),
    )


def _wave_both(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.9, 1.6)
    out, bend, wide = rng.uniform(1.7, 2.3), rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.4)
    lag = rng.choice((0.0, 0.5))

    def arm(c: float) -> Arm:
        w = _wave(c)
        return Arm(0.1, out + 0.5 * wide * w, -1.4, bend + wide * w, 0.05)

    return _still(rng, seconds, lambda t: arm(at(t)), lambda t: arm(at(t) + lag))


def _arm_held(
    rng: Random, seconds: float, arm: Arm, sway: float = 0.05, **rest: float
) -> Callable[[float], Pose]:
    """One arm held out, moving a little; the other one hangs."""
    at = _cycle(rng, seconds, 0.4, 0.9)
    return _still(
        rng, seconds,
        lambda t: replace(arm, raise_=arm.raise_ + sway * _wave(at(t)),
                          out=arm.out + 0.6 * sway * _wave(at(t), 0.2)),
        _rest(rng), **rest,
    )


def _point_forward(rng: Random, seconds: float) -> Callable[[float], Pose]:
    arm = Arm(rng.uniform(1.3, 1.65), rng.uniform(-0.1, 0.35), 0.3, rng.uniform(0.02, 0.25), 0.4)
    return _arm_held(rng, seconds, arm, turn=rng.uniform(0.0, 0.25))


def _point_side(rng: Random, seconds: float) -> Callable[[float], Pose]:
    arm = Arm(rng.uniform(-0.1, 0.25), rng.uniform(1.35, 1.75), 0.0, rng.uniform(0.02, 0.2), 0.4)
    return _arm_held(rng, seconds, arm, head_yaw=rng.uniform(-0.9, -0.2))


def _point_up(rng: Random, seconds: float) -> Callable[[float], Pose]:
    arm = Arm(rng.uniform(2.75, 3.1), rng.uniform(-0.05, 0.3), 0.0, rng.uniform(0.03, 0.3), 0.4)
    return _arm_held(rng, seconds, arm, head_pitch=rng.uniform(-0.5, 0.0))


def _sit(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.3, 0.7)
    pelvis = (0.0, _SEATED, 0.0)
    feet = [(rng.uniform(0.08, 0.16), rng.uniform(0.3, 0.44), 0.0, 0.0) for _ in "RL"]
    lean, knees = rng.uniform(-0.05, 0.25), rng.uniform(0.05, 0.4)
    hands = rng.choice(("knees", "lap", "sides"))
    swing = rng.uniform(0.02, 0.06)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        now = lean + swing * w
        arms = []
        for side in (-1, 1):
            place = {
                "knees": (side * (0.12 + 0.3 * knees), 0.6, 0.33),
                "lap": (side * 0.06, 0.62, 0.22),
                "sides": (side * 0.27, 0.47, 0.0),
            }[hands]
            arms.append(_reach_from_floor(place, side, pelvis, now, (0.7, -0.5, -0.5)))
        return posed(
            arms[0], arms[1], pelvis=pelvis, right_foot=feet[0], left_foot=feet[1],
            knees=(knees, knees), lean=now, seat=_SEAT,
        )

    return pose


def _sit_down(rng: Random, seconds: float) -> Callable[[float], Pose]:
    go = _progress(rng, seconds)
    back = rng.random() < 0.3
    right, left = _rest(rng), _rest(rng)
    wide, deep = rng.uniform(0.09, 0.14), rng.uniform(0.3, 0.4)
    bow = rng.uniform(0.5, 0.75)

    def pose(t: float) -> Pose:
        u = 1 - go(t) if back else go(t)
        k = _smooth(u)
        low = PELVIS + (_SEATED - PELVIS) * k
        pelvis = (0.0, low, 0.0)
        lean = bow * math.sin(math.pi * min(1.0, u * 1.02)) + 0.08 * k
        foot = (wide, deep * k, 0.0, 0.0)
        place = (0.13, 0.6, 0.32)
        arms = [
            _swing(hang, _reach_from_floor((s * place[0], *place[1:]), s, (0.0, _SEATED, 0.0),
                                           0.08), k)
            for s, hang in ((-1, right), (1, left))
        ]
        # The stool appears with the weight on it: the rig hangs the pelvis on a given seat.
        return posed(arms[0], arms[1], pelvis=pelvis, right_foot=foot, left_foot=foot,
                     lean=lean, head_pitch=0.2 * math.sin(math.pi * u),
                     seat=_SEAT if low < _SEATED + 0.01 else 0.0)

    return pose


def _pick_up(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.55)
    deep, far = rng.uniform(0.45, 0.6), rng.uniform(0.36, 0.44)
    both = rng.random() < 0.4
    bow = rng.uniform(0.85, 1.1)
    right, left = _rest(rng), _rest(rng)
    feet = _feet(rng)

    def pose(t: float) -> Pose:
        k = _smooth(0.5 - 0.62 * math.cos(TAU * at(t)))
        pelvis = (0.0, PELVIS + (deep - PELVIS) * k, -0.16 * k)
        lean = bow * k
        low = 0.09 + 0.1 * (1 - k)
        down = [_reach_from_floor((s * 0.1, low, far), s, pelvis, lean, (0.8, -0.3, -0.3), 0.7)
                for s in (-1, 1)]
        return posed(
            _swing(right, down[0], k),
            _swing(left, down[1], k) if both else replace(left, raise_=left.raise_ + 0.8 * lean),
            pelvis=pelvis, right_foot=feet[0], left_foot=feet[1], knees=(0.35, 0.35),
            lean=lean, head_pitch=-0.2 * k,
        )

    return pose


def _bow(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.6)
    deep = rng.uniform(0.5, 1.1)
    hands = rng.choice(("sides", "front"))
    right, left = _rest(rng), _rest(rng)

    def pose(t: float) -> Pose:
        k = _smooth(0.5 - 0.6 * math.cos(TAU * at(t)))
        lean = deep * k
        pelvis = (0.0, PELVIS - 0.015 * k, -0.1 * k)
        arms = [replace(a, raise_=a.raise_ + lean * 0.75) for a in (right, left)]
        if hands == "front":
            arms = [_reach_from_floor((s * 0.09, 0.78 - 0.16 * k, 0.17 + 0.03 * k), s, pelvis, lean,
                                      (1.0, -0.3, -0.3)) for s in (-1, 1)]
        return posed(arms[0], arms[1], pelvis=pelvis, lean=lean, head_pitch=0.25 * k)

    return pose


def _hands(
    rng: Random,
    seconds: float,
    right: Vec,
    left: Vec | None,
    *,
    elbows: tuple[Vec, Vec] = ((0.5, -1.0, -0.2), (0.5, -1.0, -0.2)),
    move: Vec = (0.01, 0.01, 0.01),
    jitter: float = 0.015,
    curl: float = 0.35,
    tempo: tuple[float, float] = (0.4, 0.9),
    **rest: float,
) -> Callable[[float], Pose]:
    """Hands held at places on the body, moving by ``move``; ``left`` None lets it hang."""
    at = _cycle(rng, seconds, *tempo)

    def arm(place: Vec, elbow: Vec, sign: float) -> Callable[[float], Arm]:
        x, y, z = (v + rng.uniform(-jitter, jitter) for v in place)

        def now(t: float) -> Arm:
            w = sign * _wave(at(t))
            return arm_to((x + move[0] * w, y + move[1] * w, z + move[2] * w), elbow, curl)

        return now

    r = arm(right, elbows[0], 1.0)
    other = _rest(rng) if left is None else arm(left, elbows[1], 1.0)
    return _still(rng, seconds, r, other, **rest)


def _phone_call(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _hands(rng, seconds, (0.14, 0.5, 0.06), None, elbows=((0.5, -1, 0.5), (0, -1, 0)),
                  curl=0.7, head_roll=rng.uniform(-0.25, 0.0), move=(0.0, 0.01, 0.0))


def _phone_look(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _hands(rng, seconds, (0.03, rng.uniform(0.12, 0.24), 0.3),
                  rng.choice((None, (0.04, 0.14, 0.3))), curl=0.7,
                  head_pitch=rng.uniform(0.35, 0.6), move=(0.01, 0.01, 0.0))


def _reading(rng: Random, seconds: float) -> Callable[[float], Pose]:
    y = rng.uniform(0.08, 0.22)
    return _hands(rng, seconds, (0.11, y, 0.32), (0.11, y, 0.32), curl=0.5,
                  head_pitch=rng.uniform(0.3, 0.55), move=(0.0, 0.012, 0.01))


def _clap(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 1.4, 2.3)
    y, z, wide = rng.uniform(0.16, 0.34), rng.uniform(0.3, 0.38), rng.uniform(0.14, 0.24)

    def arm(t: float) -> Arm:
        return arm_to((0.025 + wide * (0.5 - 0.5 * _wave(at(t))), y, z), (0.8, -0.9, -0.2), 0.05)

    return _still(rng, seconds, arm, arm)


def _cheer(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.9, 1.6)
    hop, out, curl = rng.uniform(0.0, 0.16), rng.uniform(2.3, 2.75), rng.uniform(0.5, 1.0)
    feet = _feet(rng)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        up = max(0.0, w)
        arm = Arm(0.15, out + 0.12 * w, -0.9, 0.75 - 0.5 * w, curl)
        foot = 0.6 * up if hop > 0.05 else 0.0
        return posed(
            arm, arm, pelvis=(0.0, PELVIS - 0.1 * max(0.0, -w), 0.0),
            right_foot=(*feet[0][:3], foot), left_foot=(*feet[1][:3], foot),
            lift=hop * up, head_pitch=-0.2, lean=-0.06,
        )

    return pose


def _shrug(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.8)
    x, y, z = rng.uniform(0.4, 0.5), rng.uniform(0.1, 0.22), rng.uniform(0.16, 0.26)

    def arm(t: float) -> Arm:
        k = 0.5 + 0.5 * _wave(at(t))
        return arm_to((x - 0.08 * (1 - k), y - 0.12 * (1 - k), z), (0.1, -1.0, -0.3), 0.05)

    return _still(rng, seconds, arm, arm, head_roll=rng.uniform(0.1, 0.3))


def _facepalm(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _hands(rng, seconds, (0.04, 0.5, 0.19), rng.choice((None, (0.2, -0.06, 0.03))),
                  elbows=((0.6, -1.0, 0.6), (1.0, 0.0, -0.5)), curl=0.1,
                  head_pitch=rng.uniform(0.3, 0.5), lean=rng.uniform(0.0, 0.15))


def _arms_crossed(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _hands(rng, seconds, (-0.13, 0.18, 0.15), (-0.13, 0.12, 0.17), curl=0.4,
                  elbows=((0.7, -1.0, 0.25), (0.7, -1.0, 0.25)), move=(0.0, 0.008, 0.004),
                  jitter=0.01, lean=rng.uniform(-0.1, 0.02))


def _hands_on_hips(rng: Random, seconds: float) -> Callable[[float], Pose]:
    y = rng.uniform(-0.07, -0.01)
    return _hands(rng, seconds, (0.18, y, 0.05), (0.18, y, 0.05), curl=0.4, jitter=0.01,
                  elbows=((1.0, 0.0, -0.5), (1.0, 0.0, -0.5)), move=(0.0, 0.005, 0.0), sway=0.025)


def _thinking(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _hands(rng, seconds, (0.03, 0.385, 0.17), (-0.08, 0.1, 0.2), curl=0.7,
                  elbows=((0.3, -1.0, 0.4), (0.7, -1.0, 0.2)), move=(0.008, 0.008, 0.0),
                  jitter=0.01, head_roll=rng.uniform(0.0, 0.2), head_pitch=rng.uniform(-0.2, 0.1))


def _guitar(rng: Random, seconds: float) -> Callable[[float], Pose]:
    strum = _cycle(rng, seconds, 1.4, 2.2)
    slide = _cycle(rng, seconds, 0.4, 0.9)
    groove = _cycle(rng, seconds, 0.7, 1.1)
    neck, wide = rng.uniform(0.4, 0.5), rng.uniform(0.06, 0.1)
    feet = _feet(rng)

    def pose(t: float) -> Pose:
        w, g = _wave(strum(t)), _wave(groove(t))
        return posed(
            arm_to((0.05 - 0.02 * w, -0.03 + wide * w, 0.2), (1.0, -0.2, -0.5), 0.6),
            arm_to((neck + 0.04 * _wave(slide(t)), 0.14, 0.24), (0.5, -1.0, -0.2), 0.6),
            pelvis=(0.015 * g, PELVIS - 0.015 - 0.012 * abs(g), 0.0),
            right_foot=feet[0], left_foot=feet[1], side=-0.03 * g,
            head_pitch=0.18 + 0.12 * g, head_yaw=0.25,
        )

    return pose


# --- salutes and their neighbours --------------------------------------------------------------


def _military_salute(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _hands(rng, seconds, (0.12, 0.575, 0.1), None, curl=0.0, sway=0.005,
                  elbows=((1.0, -0.15, 0.2), (0.0, -1.0, 0.0)), move=(0.0, 0.006, 0.0))


def _hand_on_heart(rng: Random, seconds: float) -> Callable[[float], Pose]:
    return _hands(rng, seconds, (-0.04, 0.23, 0.15), None, curl=0.05, sway=0.006,
                  elbows=((0.8, -1.0, 0.3), (0.0, -1.0, 0.0)), move=(0.0, 0.004, 0.004))


def _stiff_arm(rng: Random, seconds: float) -> Callable[[float], Pose]:
    rise = rng.random() < 0.35
    go = _progress(rng, seconds)
    at = _cycle(rng, seconds, 0.4, 0.8)
    high, out = rng.uniform(1.9, 2.3), rng.uniform(-0.05, 0.3)
    hang = Arm(0.0, 0.1, 0.1, 0.06, 0.1)

    def arm(t: float) -> Arm:
        held = Arm(high + 0.015 * _wave(at(t)), out, 0.0, 0.02, 0.0)
        return mix(hang, held, _smooth(go(t) * 2)) if rise else held

    return _still(rng, seconds, arm, hang, sway=0.005)


# --- sport -------------------------------------------------------------------------------------


def _jumping_jack(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.8, 1.2)
    top, wide, hop = rng.uniform(2.4, 2.9), rng.uniform(0.27, 0.38), rng.uniform(0.05, 0.12)

    def pose(t: float) -> Pose:
        c = at(t)
        k = _smooth(0.5 - 0.55 * math.cos(TAU * c))
        air = abs(math.sin(TAU * c))
        arm = Arm(0.1, 0.15 + (top - 0.15) * k, -0.2, 0.18, 0.15)
        foot = (0.09 + (wide - 0.09) * k, 0.0, 0.0, 0.4 * air)
        return posed(
            arm, arm, pelvis=(0.0, PELVIS - 0.03 - 0.09 * k + 0.05 * air, 0.0),
            right_foot=foot, left_foot=foot, lift=hop * air,
        )

    return pose


def _jump(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.45, 0.7)
    high, deep, tuck = rng.uniform(0.18, 0.4), rng.uniform(0.6, 0.7), rng.uniform(0.0, 0.25)
    wide = rng.uniform(0.09, 0.16)

    def pose(t: float) -> Pose:
        u = at(t)
        # Crouch until 0.4, take off, fly until 0.8, land and rise.
        low = _scalar(u, (0, 0.85), (0.3, deep), (0.42, PELVIS), (0.78, 0.88), (0.88, 0.75),
                      (1, 0.85))
        fly = max(0.0, math.sin(math.pi * (u - 0.42) / 0.38)) if 0.42 < u < 0.8 else 0.0
        swing = _scalar(u, (0, 0.3), (0.26, -0.6), (0.56, 2.4), (0.8, 1.4), (1, 0.3))
        pitch = _scalar(u, (0, 0), (0.32, 0), (0.42, 0.8), (0.7, 0.5), (0.8, 0), (1, 0))
        arm = Arm(swing, 0.2, 0.1, 0.35, 0.3)
        foot = (wide, -0.1 * tuck * fly, 0.0, pitch)
        crouch = (PELVIS - low) / 0.3
        return posed(
            arm, arm, pelvis=(0.0, low - tuck * fly, -0.13 * crouch),
            right_foot=foot, left_foot=foot, knees=(0.2, 0.2),
            lean=0.65 * max(0.0, crouch), lift=high * fly,
        )

    return pose


def _squat(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.45, 0.7)
    deep, wide, out = rng.uniform(0.38, 0.55), rng.uniform(0.15, 0.24), rng.uniform(0.25, 0.6)
    hold = rng.random() < 0.3
    hands = rng.choice(("front", "chest", "hips"))

    def pose(t: float) -> Pose:
        c = at(t)
        k = 0.9 + 0.1 * _wave(c) if hold else _smooth(0.5 - 0.6 * math.cos(TAU * c))
        lean = 0.62 * k
        if hands == "front":
            arm = Arm((1.5 + lean * 0.8) * k, 0.08, 0.2, 0.15, 0.2)
        elif hands == "chest":
            arm = arm_to((0.05, 0.24, 0.22), (0.8, -1.0, 0.0), 0.4)
        else:
            arm = arm_to((0.18, -0.04, 0.05), (1.0, 0.0, -0.5), 0.4)
        foot = (wide, 0.0, 0.0, 0.0)
        return posed(arm, arm, pelvis=(0.0, PELVIS - 0.01 + (deep - PELVIS) * k, -0.17 * k),
                     right_foot=foot, left_foot=foot, knees=(out, out), lean=lean,
                     head_pitch=-0.4 * k)

    return pose


def _lunge(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.6)
    ahead, behind, deep = rng.uniform(0.36, 0.46), rng.uniform(0.36, 0.46), rng.uniform(0.62, 0.68)
    hips = rng.random() < 0.6
    right, left = _rest(rng), _rest(rng)
    lean = rng.uniform(0.0, 0.2)

    def pose(t: float) -> Pose:
        k = 0.75 + 0.25 * _wave(at(t))
        arms = (right, left)
        if hips:
            arms = (arm_to((0.18, -0.04, 0.05), (1.0, 0.0, -0.5), 0.4),) * 2
        return posed(
            *arms, pelvis=(0.0, 0.82 + (deep - 0.82) * k, 0.0),
            right_foot=(0.09, ahead, 0.0, 0.0), left_foot=(0.09, -behind, 0.0, 0.95),
            knees=(0.1, 0.0), lean=lean,
        )

    return pose


def _throw(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.45, 0.65)
    far = rng.uniform(0.85, 1.15)

    def pose(t: float) -> Pose:
        u = at(t)
        hand = _keys(u, (0, (0.08, 0.26, 0.26)), (0.35, (0.4, 0.5, -0.18)),
                     (0.52, (0.18, 0.6, 0.42)), (0.68, (-0.2, 0.0, 0.4)), (1, (0.08, 0.26, 0.26)))
        other = _keys(u, (0, (0.08, 0.26, 0.26)), (0.35, (0.1, 0.36, 0.55)),
                      (0.55, (0.22, 0.02, 0.16)), (1, (0.08, 0.26, 0.26)))
        turn = far * _scalar(u, (0, 0.0), (0.35, -0.7), (0.58, 0.6), (0.75, 0.5), (1, 0.0))
        ahead = far * _scalar(u, (0, 0.0), (0.4, 0.28), (0.75, 0.28), (1, 0.0))
        heel = _scalar(u, (0, 0.0), (0.4, 0.1), (0.62, 0.8), (0.8, 0.6), (1, 0.0))
        grip = _scalar(u, (0, 0.9), (0.5, 0.8), (0.58, 0.1), (1, 0.9))
        return posed(
            arm_to(hand, (0.9, -0.4, -0.5), grip),
            arm_to(other), pelvis=(0.0, PELVIS - 0.02 - 0.25 * ahead, 0.0),
            right_foot=(0.12, -0.6 * ahead, 0.0, heel), left_foot=(0.1, ahead, 0.0, 0.0),
            turn=turn, head_yaw=-0.7 * turn,
            lean=_scalar(u, (0, 0.0), (0.35, -0.12), (0.62, 0.35), (1, 0.0)),
        )

    return pose


def _kick(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.45, 0.7)
    high = rng.uniform(0.8, 1.5)
    feet = _feet(rng)
    stand = posed(_rest(rng), _rest(rng), right_foot=feet[0], left_foot=feet[1]).right_leg

    def pose(t: float) -> Pose:
        u = at(t)
        raised = _scalar(u, (0, stand.raise_), (0.28, -0.55), (0.5, high), (0.62, high * 0.9),
                         (0.9, stand.raise_), (1, stand.raise_))
        bend = _scalar(u, (0, stand.bend), (0.28, 1.1), (0.5, 0.05), (0.65, 0.5), (0.9, stand.bend),
                       (1, stand.bend))
        point = _scalar(u, (0, stand.foot), (0.28, 0.5), (0.5, 0.6), (0.9, stand.foot),
                        (1, stand.foot))
        k = raised / high
        return posed(
            Arm(-0.55 * k, 0.45, 0.1, 0.5, 0.6), Arm(0.7 * k, 0.45, 0.2, 0.6, 0.6),
            pelvis=(0.04, PELVIS - 0.025, 0.0), left_foot=feet[1],
            right_leg=Leg(raised, stand.out, stand.turn, bend, point),
            lean=-0.25 * max(0.0, k) + 0.12 * max(0.0, -k), turn=0.3 * k,
        )

    return pose


def _punch(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.7, 1.1)
    y, ahead = rng.uniform(0.3, 0.4), rng.uniform(0.1, 0.18)

    def pose(t: float) -> Pose:
        c = at(t)
        r = max(0.0, _wave(c)) ** 1.5
        left = max(0.0, _wave(c, 0.5)) ** 1.5

        def arm(k: float) -> Arm:
            return arm_to((0.1 - 0.08 * k, y - 0.03 * k, 0.24 + 0.36 * k), (0.5, -1.0, 0.0), 1.0)

        return posed(
            arm(r), arm(left), pelvis=(0.0, 0.85 - 0.02 * abs(_wave(c)), 0.0),
            right_foot=(0.14, -ahead, 0.0, 0.4 * r), left_foot=(0.14, ahead, 0.0, 0.0),
            turn=0.55 * (r - left), lean=0.12, head_yaw=-0.4 * (r - left),
        )

    return pose


def _golf(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.55)
    wide, far = rng.uniform(0.17, 0.24), rng.uniform(0.85, 1.1)

    def pose(t: float) -> Pose:
        u = at(t)
        x, y, z = _keys(u, (0, (0.0, -0.12, 0.38)), (0.1, (0.0, -0.12, 0.38)),
                        (0.4, (-0.26, 0.42, 0.22)), (0.56, (0.0, -0.1, 0.42)),
                        (0.72, (0.26, 0.45, 0.2)), (0.82, (0.26, 0.45, 0.2)),
                        (1, (0.0, -0.12, 0.38)))
        turn = far * _scalar(u, (0, 0.0), (0.1, 0.0), (0.4, -0.85), (0.56, 0.1), (0.72, 0.9),
                             (0.82, 0.9), (1, 0.0))
        heel = _scalar(u, (0, 0.0), (0.56, 0.1), (0.72, 0.8), (0.82, 0.8), (1, 0.0))
        return posed(
            arm_to((0.02 - x, y - 0.04, z), (0.6, -1.0, -0.2), 0.9),
            arm_to((0.02 + x, y + 0.04, z), (0.6, -1.0, -0.2), 0.9),
            pelvis=(0.05 * turn, PELVIS - 0.05, -0.05),
            right_foot=(wide, 0.0, 0.0, heel), left_foot=(wide, 0.0, 0.0, 0.0),
            lean=_scalar(u, (0, 0.38), (0.56, 0.38), (0.75, 0.05), (0.84, 0.05), (1, 0.38)),
            turn=turn, head_yaw=-0.75 * turn, head_pitch=0.25,
        )

    return pose


def _tennis(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.5, 0.7)
    y = rng.uniform(0.08, 0.25)

    def pose(t: float) -> Pose:
        u = at(t)
        hand = _keys(u, (0, (0.1, 0.1, 0.32)), (0.35, (0.5, y + 0.1, -0.2)),
                     (0.55, (0.32, y, 0.45)), (0.7, (-0.24, 0.42, 0.26)), (1, (0.1, 0.1, 0.32)))
        other = _keys(u, (0, (0.06, 0.12, 0.34)), (0.35, (0.12, 0.25, 0.5)),
                      (0.6, (0.35, 0.1, 0.1)), (1, (0.06, 0.12, 0.34)))
        turn = _scalar(u, (0, 0.0), (0.35, -0.75), (0.62, 0.6), (0.75, 0.5), (1, 0.0))
        return posed(
            arm_to(hand, (0.7, -0.8, -0.4), 0.95), arm_to(other),
            pelvis=(0.06 * turn, 0.84, 0.0), right_foot=(0.2, -0.06, 0.0, max(0.0, 0.6 * turn)),
            left_foot=(0.2, 0.1, 0.0, max(0.0, -0.3 * turn)), lean=0.16, turn=turn,
            head_yaw=-0.6 * turn,
        )

    return pose


# --- dance -------------------------------------------------------------------------------------


def _disco(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.6, 1.0)
    hip = rng.uniform(0.04, 0.08)
    up, down = (0.42, 0.74, 0.14), (-0.2, -0.1, 0.24)
    other = (arm_to((0.18, -0.04, 0.05), (1.0, 0.0, -0.5), 0.4) if rng.random() < 0.7
             else _rest(rng))

    def pose(t: float) -> Pose:
        c = at(t)
        k = _smooth(0.5 + 0.65 * _wave(c))
        mid = (0.34, 0.2, 0.46)
        hand = _keys(k, (0, down), (0.5, mid), (1, up))
        w = 2 * k - 1
        return posed(
            arm_to(hand, (0.8, -0.5, -0.3), 0.4), other,
            pelvis=(hip * w, PELVIS - 0.03 - 0.02 * abs(_wave(c, 0.25)), 0.0),
            right_foot=(0.17, 0.0, 0.0, 0.35 * k), left_foot=(0.17, 0.0, 0.0, 0.35 * (1 - k)),
            side=0.12 * w, turn=0.18 * (1 - 2 * k), head_yaw=-0.35 * w, head_pitch=-0.15 * w,
        )

    return pose


def _twist(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.9, 1.4)
    far, deep = rng.uniform(0.35, 0.55), rng.uniform(0.05, 0.14)
    slow = _cycle(rng, seconds, 0.4, 0.6)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        low = PELVIS - 0.03 - deep * (0.5 + 0.5 * _wave(slow(t)))

        def arm(k: float) -> Arm:
            return arm_to((0.26, 0.08 + 0.05 * k, 0.24 + 0.12 * k), (0.6, -1.0, -0.5), 0.8)

        return posed(
            arm(w), arm(-w), pelvis=(0.0, low, -0.03),
            right_foot=(0.12, 0.0, 0.0, 0.25), left_foot=(0.12, 0.0, 0.0, 0.25),
            yaw=far * w, turn=-1.5 * far * w, head_yaw=0.5 * far * w, lean=0.12,
        )

    return pose


def _robot(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.6)
    up = Arm(0.0, 1.4, -1.5, 1.5, 0.0)
    down = Arm(0.0, 1.4, 1.5, 1.5, 0.0)
    ahead = Arm(0.0, 0.2, 0.0, 1.55, 0.0)
    high = Arm(1.4, 0.1, 0.0, 0.05, 0.0)
    plan = [(rng.choice((up, down, ahead, high)), rng.choice((up, down, ahead, high)),
             rng.choice((-0.5, 0.0, 0.5)), rng.choice((-0.6, 0.0, 0.6))) for _ in range(4)]

    def pose(t: float) -> Pose:
        c = at(t) * 4
        a, b = plan[int(c) % 4], plan[(int(c) + 1) % 4]
        # Each quarter moves quickly and then freezes, as a machine would.
        k = _smooth((c % 1.0) / 0.55)
        return posed(
            mix(a[0], b[0], k), mix(a[1], b[1], k), pelvis=(0.0, PELVIS - 0.01, 0.0),
            turn=a[2] + (b[2] - a[2]) * k, head_yaw=a[3] + (b[3] - a[3]) * k,
        )

    return pose


def _plie(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.6)
    deep, wide = rng.uniform(0.66, 0.74), rng.choice((0.05, 0.24))
    out = rng.uniform(0.9, 1.15)

    def pose(t: float) -> Pose:
        k = 0.5 - 0.5 * math.cos(TAU * at(t))
        high = _keys(k, (0, (0.2, -0.06, 0.26)), (0.5, (0.12, 0.2, 0.42)), (1, (0.5, 0.24, 0.22)))
        arm = arm_to(high, (1.0, 0.1, -0.5), 0.1)
        foot = (wide, 0.0, 0.0, 0.0)
        return posed(
            arm, arm, pelvis=(0.0, PELVIS - 0.03 + (deep - PELVIS + 0.03) * k, 0.0),
            right_foot=foot, left_foot=foot, knees=(out, out), head_roll=0.12 * k,
            head_pitch=-0.1,
        )

    return pose


def _hip_sway(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.7, 1.2)
    far, wide = rng.uniform(0.05, 0.09), rng.uniform(0.13, 0.18)
    out, bend = rng.uniform(0.4, 0.8), rng.uniform(0.9, 1.5)

    def pose(t: float) -> Pose:
        c = at(t)
        w = _wave(c)
        return posed(
            Arm(0.3 + 0.2 * w, out, 0.2, bend, 0.4), Arm(0.3 - 0.2 * w, out, 0.2, bend, 0.4),
            pelvis=(far * w, PELVIS - 0.05 - 0.02 * abs(w), 0.0),
            right_foot=(wide, 0.0, 0.0, 0.3 * max(0.0, w)),
            left_foot=(wide, 0.0, 0.0, 0.3 * max(0.0, -w)),
            side=-0.16 * w, turn=0.12 * _wave(c, 0.25), head_roll=0.12 * w,
        )

    return pose


def _arm_wave_dance(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.5, 0.8)
    wide = rng.uniform(0.35, 0.55)
    feet = _feet(rng)

    def pose(t: float) -> Pose:
        c = at(t)

        def arm(lag: float) -> Arm:
            return Arm(0.1, 1.5 + wide * _wave(c, lag), -1.5, 0.35 + 0.3 * _wave(c, lag - 0.2), 0.1)

        return posed(
            arm(0.0), arm(-0.5), pelvis=(0.03 * _wave(c, 0.1), PELVIS - 0.03, 0.0),
            right_foot=feet[0], left_foot=feet[1], side=0.16 * _wave(c, 0.25),
            head_roll=0.15 * _wave(c, 0.25),
        )

    return pose


def _comet(rng: Random, seconds: float) -> Callable[[float], Pose]:
    """An invented choreography with a fixed order: circle, two points up, crossed arms, side kick.

    It stands for a protected choreography, so it varies far less than the other dances.
    """
    at = _cycle(rng, seconds, 0.5, 0.5)
    size = rng.uniform(0.93, 1.07)

    def pose(t: float) -> Pose:
        u = at(t)
        right = _keys(u, (0, (0.1, 0.2, 0.3)), (0.14, (0.5, 0.3, 0.1)), (0.3, (0.3, 0.84, 0.05)),
                      (0.45, (-0.14, 0.2, 0.2)), (0.6, (-0.14, 0.2, 0.2)), (0.78, (0.6, 0.42, 0.0)),
                      (1, (0.1, 0.2, 0.3)))
        left = _keys(u, (0, (0.1, 0.2, 0.3)), (0.14, (0.3, 0.84, 0.05)), (0.3, (0.5, 0.3, 0.1)),
                     (0.45, (-0.14, 0.14, 0.22)), (0.6, (-0.14, 0.14, 0.22)),
                     (0.78, (0.3, 0.84, 0.05)), (1, (0.1, 0.2, 0.3)))
        step = size * _scalar(u, (0, 0.0), (0.14, 0.07), (0.3, -0.07), (0.5, 0.0), (0.62, 0.1),
                              (0.86, 0.1), (1, 0.0))
        leg = size * _scalar(u, (0, 0.0), (0.6, 0.0), (0.76, 1.0), (0.84, 1.0), (1, 0.0))
        low = _scalar(u, (0, 0.0), (0.45, 0.09), (0.56, 0.09), (0.7, 0.0), (1, 0.0))
        return posed(
            arm_to(right, (0.9, -0.6, -0.2), 0.3), arm_to(left, (0.9, -0.6, -0.2), 0.3),
            pelvis=(step, PELVIS - 0.03 - low, 0.0),
            right_foot=(0.13 + 0.42 * leg, 0.0, 0.3 * leg, 0.5 * leg),
            left_foot=(0.1, 0.0, 0.0, 0.0), side=0.22 * leg - 0.8 * step * (1 - leg),
            head_yaw=-0.4 * leg, head_pitch=2.0 * low,
        )

    return pose


# --- kneeling ----------------------------------------------------------------------------------


def _kneeling_foot(thigh: float, tucked: bool) -> tuple[float, float, float, float]:
    """Of a leg kneeling with its thigh at ``thigh``: pelvis height, ankle z, lift and pitch."""
    pitch = 1.45 if tucked else 2.75
    ankle = _ankle_height(pitch)
    knee_z = _THIGH * math.sin(thigh)
    back = math.sqrt(_SHIN**2 - (ankle - _KNEE) ** 2)
    return _KNEE + _THIGH * math.cos(thigh) - _HIP[1], knee_z - back, 0.0, pitch


def _kneel_hands(rng: Random) -> str:
    return rng.choice(("sides", "knee", "hips", "clasped", "open"))


def _kneel_arms(hands: str, rest: tuple[Arm, Arm], front: Vec, pelvis: Vec, lean: float,
                w: float) -> tuple[Arm, Arm]:
    """Arms of a kneeling figure; ``front`` is the raised knee, with x to the avatar's left."""
    if hands == "knee":
        side = 1 if front[0] > 0 else -1
        place = (front[0], front[1] + 0.09, front[2] - 0.04)
        near = _reach_from_floor(place, side, pelvis, lean, (0.8, -0.4, -0.4))
        return (rest[0], near) if side > 0 else (near, rest[1])
    if hands == "hips":
        arm = arm_to((0.18, -0.04, 0.05), (1.0, 0.0, -0.5), 0.4)
    elif hands == "clasped":
        arm = arm_to((0.02, 0.22 + 0.02 * w, 0.26), (0.8, -1.0, -0.1), 0.6)
    elif hands == "open":
        arm = Arm(0.5, 0.9 + 0.06 * w, -0.4, 0.5, 0.05)
    else:
        return rest
    return arm, arm


def _kneel_one(rng: Random, seconds: float, right: bool) -> Callable[[float], Pose]:
    """On the right knee, or on the left one."""
    at = _cycle(rng, seconds, 0.3, 0.7)
    tucked = rng.random() < 0.6
    height, z, _, pitch = _kneeling_foot(rng.uniform(-0.22, 0.12), tucked)
    front = (rng.uniform(0.1, 0.15), rng.uniform(0.3, 0.42), 0.0, 0.0)
    hands, rest = _kneel_hands(rng), (_rest(rng), _rest(rng))
    lean = rng.uniform(-0.04, 0.3)
    knee = (0.13, 0.5, front[1])

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        pelvis = (0.0, height, 0.0)
        now = lean + 0.03 * w
        arms = _kneel_arms(hands, rest, knee, pelvis, now, w)
        made = posed(
            *arms, pelvis=pelvis, right_foot=(0.1, z, 0.0, pitch), left_foot=front,
            knees=(0.05, 0.12), lean=now, side=0.015 * w, head_pitch=0.1 + 0.04 * w,
        )
        return made if right else made.mirrored()

    return pose


def _kneel_both(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.3, 0.7)
    # Upright on the knees, or sitting on the heels.
    low = rng.random() < 0.4
    thigh = rng.uniform(1.0, 1.14) if low else rng.uniform(-0.1, 0.25)
    height, z, _, pitch = _kneeling_foot(thigh, tucked=not low and rng.random() < 0.5)
    foot = (rng.uniform(0.09, 0.14), z, 0.0, pitch)
    hands, rest = _kneel_hands(rng), (_rest(rng), _rest(rng))
    lean = rng.uniform(-0.05, 0.25)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        pelvis = (0.0, height, 0.0)
        now = lean + 0.03 * w
        if hands == "knee":
            ahead = _THIGH * math.sin(thigh) * 0.8
            arms = tuple(
                _reach_from_floor((s * 0.12, max(0.2, height - 0.15), max(0.12, ahead)), s,
                                  pelvis, now, (0.8, -0.4, -0.4)) for s in (-1, 1))
        else:
            arms = _kneel_arms(hands, rest, (0.1, 0.3, 0.3), pelvis, now, w)
        return posed(*arms, pelvis=pelvis, right_foot=foot, left_foot=foot, knees=(0.1, 0.1),
                     lean=now, head_pitch=0.12 + 0.05 * w)

    return pose


def _kneel_bow(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.6)
    thigh = rng.uniform(0.95, 1.12)
    height, z, _, pitch = _kneeling_foot(thigh, tucked=False)
    deep = rng.uniform(0.9, 1.25)
    foot = (rng.uniform(0.09, 0.13), z, 0.0, pitch)

    def pose(t: float) -> Pose:
        k = _smooth(0.55 - 0.6 * math.cos(TAU * at(t)))
        lean = 0.1 + deep * k
        pelvis = (0.0, height, 0.0)
        ahead = 0.3 + 0.42 * k
        # At rest the hands lie on the thighs; bowed they reach the floor in front of the knees.
        floor = max(0.06, 0.3 * (1 - k) + 0.06)
        arms = [_reach_from_floor((s * 0.15, floor, ahead), s, pelvis, lean, (1.0, 0.2, 0.0), 0.05)
                for s in (-1, 1)]
        return posed(arms[0], arms[1], pelvis=pelvis, right_foot=foot, left_foot=foot,
                     knees=(0.12, 0.12), lean=lean, head_pitch=0.2 + 0.2 * k)

    return pose


def _to_knee(rng: Random, seconds: float, both: bool, back: bool) -> Callable[[float], Pose]:
    """Down to one knee or both, or up again when ``back``."""
    go = _progress(rng, seconds)
    height, z, _, pitch = _kneeling_foot(rng.uniform(-0.15, 0.1), tucked=True)
    front = rng.uniform(0.3, 0.4)
    right, left = _rest(rng), _rest(rng)
    bow = rng.uniform(0.15, 0.35)
    hands = rng.random() < 0.5

    def pose(t: float) -> Pose:
        u = 1 - go(t) if back else go(t)
        first, second = _smooth(u / (0.6 if both else 0.75)), _smooth((u - 0.35) / 0.65)
        down = _smooth(u / 0.85) if not both else 0.62 * first + 0.38 * second
        # The back foot tips onto its toes before the knee comes down on the floor.
        step = _smooth(u / 0.5) if not both else first
        low = 0.86 + (height - 0.86) * down if u > 0 else 0.86
        low += (PELVIS - 0.86) * (1 - _smooth(u / 0.2))
        pelvis = (0.0, low, 0.0)
        rear = (0.1, z * step, 0.05 * math.sin(math.pi * step), pitch * _smooth(u / 0.6))
        if both:
            ahead = front * math.sin(math.pi * 0.5 * min(1.0, first * 1.2)) * (1 - second)
            other = (0.1, ahead + z * second, 0.04 * math.sin(math.pi * second), pitch * second)
        else:
            other = (0.11, front * step, 0.0, 0.0)
        lean = bow * math.sin(math.pi * u) + 0.08 * u
        arms = (right, left)
        if hands and not both:
            on = _reach_from_floor((0.13, 0.61, front - 0.04), 1, (0.0, height, 0.0), 0.08,
                                   (0.8, -0.4, -0.4))
            arms = (right, _swing(left, on, _smooth(u)))
        return posed(*arms, pelvis=pelvis, right_foot=rear, left_foot=other, knees=(0.06, 0.1),
                     lean=lean, head_pitch=0.2 * math.sin(math.pi * u))

    return pose


# --- near misses, stretches, yoga --------------------------------------------------------------


def _tie_shoe(rng: Random, seconds: float) -> Callable[[float], Pose]:
    """A crouch over one foot; the other heel is up and neither knee comes near the floor."""
    at = _cycle(rng, seconds, 1.0, 1.6)
    low, ahead = rng.uniform(0.4, 0.48), rng.uniform(0.2, 0.28)
    lean = rng.uniform(0.85, 1.05)
    behind = rng.uniform(0.1, 0.16)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        pelvis = (0.02, low + 0.008 * w, -0.08)
        arms = [
            _reach_from_floor((0.13 + s * (0.05 + 0.02 * w), 0.14 + 0.015 * s * w, ahead + 0.1), s,
                              pelvis, lean, (0.8, -0.2, -0.3), 0.8) for s in (-1, 1)]
        return posed(arms[0], arms[1], pelvis=pelvis, right_foot=(0.13, -behind, 0.0, 0.55),
                     left_foot=(0.13, ahead, 0.0, 0.0), knees=(0.45, 0.3), lean=lean,
                     head_pitch=0.25 + 0.03 * w)

    return pose


def _stretch_up(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.35, 0.6)
    tip, back = rng.uniform(0.0, 0.5), rng.uniform(0.02, 0.15)
    feet = _feet(rng)

    def pose(t: float) -> Pose:
        k = 0.5 + 0.5 * _wave(at(t))
        arm = arm_to((0.05, 0.86 + 0.05 * k, 0.02), (1.0, 0.0, -0.1), 0.2)
        heel = tip * k
        return posed(
            arm, arm, pelvis=(0.0, PELVIS - 0.005 + _ankle_height(heel) - _ankle_height(0.0), 0.0),
            right_foot=(*feet[0][:3], heel), left_foot=(*feet[1][:3], heel), lean=-back,
            head_pitch=-0.25 * k,
        )

    return pose


def _stretch_side(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.35, 0.6)
    far = rng.uniform(0.3, 0.5)
    hip = arm_to((0.18, -0.04, 0.05), (1.0, 0.0, -0.5), 0.4)
    wide = rng.uniform(0.14, 0.24)

    def pose(t: float) -> Pose:
        k = far * (0.75 + 0.25 * _wave(at(t)))
        return posed(
            Arm(0.1, 2.7 + 0.3 * k, -0.4, 0.35, 0.2), hip,
            pelvis=(-0.12 * k, PELVIS - 0.04, 0.0), right_foot=(wide, 0.0, 0.0, 0.0),
            left_foot=(wide, 0.0, 0.0, 0.0), side=k, head_roll=0.3 * k,
        )

    return pose


def _stretch_quad(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.7)
    back = rng.uniform(0.15, 0.35)
    lift = rng.random() < 0.5
    hang = _rest(rng)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        angle = -back - 0.03 * w
        bend = 2.5
        knee = (-_THIGH * math.cos(angle), _THIGH * math.sin(angle))
        total = bend - angle
        ankle = (knee[0] - _SHIN * math.cos(total), knee[1] - _SHIN * math.sin(total))
        hold = arm_to((0.14, _HIP[1] + ankle[0] - _WAIST, ankle[1] - 0.03), (0.7, 0.0, -1.0), 0.8)
        other = Arm(0.2, 1.3 + 0.1 * w, 0.0, 0.15, 0.2) if lift else hang
        return posed(
            hold, other, pelvis=(0.06, PELVIS - 0.005, 0.0), left_foot=(0.05, 0.0, 0.0, 0.0),
            right_leg=Leg(angle, 0.03, 0.0, bend, 0.9), lean=0.05, side=0.03 * w,
        )

    return pose


def _touch_toes(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.35, 0.55)
    deep, wide = rng.uniform(1.4, 1.75), rng.uniform(0.08, 0.24)
    hang = _rest(rng)

    def pose(t: float) -> Pose:
        k = _smooth(0.55 - 0.6 * math.cos(TAU * at(t)))
        lean = deep * k
        pelvis = (0.0, PELVIS - 0.03 - 0.02 * k, -0.15 * k)
        arms = [_swing(hang, _reach_from_floor((s * wide, 0.16, 0.18), s, pelvis, lean,
                                               (1.0, 0.0, 0.0), 0.15), k) for s in (-1, 1)]
        foot = (wide, 0.0, 0.0, 0.0)
        return posed(arms[0], arms[1], pelvis=pelvis, right_foot=foot, left_foot=foot, lean=lean,
                     head_pitch=0.25 * k)

    return pose


def _one_leg(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.5, 0.9)
    high, out = rng.uniform(0.7, 1.5), rng.uniform(1.0, 1.5)
    bend = rng.uniform(1.0, 1.7)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        return posed(
            Arm(0.1, out + 0.15 * w, 0.0, 0.15, 0.1), Arm(0.1, out - 0.15 * w, 0.0, 0.15, 0.1),
            pelvis=(0.07 + 0.012 * w, PELVIS - 0.012, 0.0), left_foot=(0.04, 0.0, 0.0, 0.0),
            right_leg=Leg(high + 0.05 * w, 0.05, 0.1, bend, 0.3), side=0.05 * w,
        )

    return pose


def _tree(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.35, 0.6)
    high = rng.uniform(0.38, 0.52)
    if rng.random() < 0.6:
        arm = arm_to((0.025, 0.85, 0.03), (1.0, 0.0, 0.0), 0.0)
    else:
        arm = arm_to((0.025, 0.22, 0.2), (1.0, -0.6, 0.0), 0.0)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        return posed(
            arm, arm, pelvis=(0.075 + 0.008 * w, PELVIS - 0.008, 0.0),
            right_foot=(0.01, 0.03, high - _ankle_height(1.3) + 0.04, 1.3),
            left_foot=(0.03, 0.0, 0.0, 0.0), knees=(1.25, 0.1), side=0.02 * w,
        )

    return pose


def _warrior(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.35, 0.6)
    wide, deep = rng.uniform(0.44, 0.52), rng.uniform(0.6, 0.68)

    def pose(t: float) -> Pose:
        w = _wave(at(t))
        arm = Arm(0.05, 1.5 + 0.04 * w, 0.0, 0.06, 0.0)
        return posed(
            arm, arm, pelvis=(0.13, deep + 0.015 * w, 0.0),
            right_foot=(wide, 0.0, 0.0, 0.0), left_foot=(wide, 0.0, 0.0, 0.0), knees=(0.3, 1.4),
            head_yaw=1.0,
        )

    return pose


def _t_pose(rng: Random, seconds: float) -> Callable[[float], Pose]:
    at = _cycle(rng, seconds, 0.4, 0.8)
    out = rng.uniform(1.45, 1.62)
    return _still(rng, seconds, lambda t: Arm(0.0, out + 0.03 * _wave(at(t)), 0.0, 0.04, 0.05),
                  lambda t: Arm(0.0, out - 0.03 * _wave(at(t)), 0.0, 0.04, 0.05))


def _random(rng: Random, seconds: float) -> Callable[[float], Pose]:
    """Seeded sinusoids over the range of every joint, feet on the floor."""

    def track(low: float, high: float) -> Callable[[float], float]:
        at = _cycle(rng, seconds, 0.2, 1.0)
        middle = rng.uniform(low, high)
        size = min(rng.uniform(0.1, 0.5) * (high - low), high - middle, middle - low)
        return lambda t: middle + size * _wave(at(t))

    def arm() -> Callable[[float], Arm]:
        parts = [track(-0.5, 2.4), track(0.1, 2.0), track(-1.3, 1.1), track(0.05, 2.0),
                 track(0.0, 1.0)]
        return lambda t: Arm(*(part(t) for part in parts))

    right, left = arm(), arm()
    torso = {"lean": track(-0.15, 0.6), "side": track(-0.35, 0.35), "turn": track(-0.6, 0.6),
             "head_yaw": track(-0.8, 0.8), "head_pitch": track(-0.4, 0.5),
             "head_roll": track(-0.3, 0.3)}
    high, aside = track(0.62, PELVIS), track(-0.06, 0.06)
    places = [(rng.uniform(0.06, 0.24), rng.uniform(-0.18, 0.18)) for _ in "RL"]
    raised, heels = track(-0.25, 0.3), (track(0.0, 0.3), track(0.0, 0.3))
    knees = rng.uniform(0.05, 0.5)

    def pose(t: float) -> Pose:
        up = max(0.0, raised(t))
        return posed(
            right(t), left(t), pelvis=(aside(t), high(t), 0.0),
            right_foot=(*places[0], up, heels[0](t) + up), left_foot=(*places[1], 0.0, heels[1](t)),
            knees=(knees, knees), **{name: part(t) for name, part in torso.items()},
        )

    return pose


# --- from builders to clips --------------------------------------------------------------------


def settled(arm: Arm, before: Arm | None) -> Arm:
    """Return the same arm in allowed angles, as near as possible to those of the frame before.

    Flexion, abduction and twist have two equivalent triples (half a turn apart); staying on one
    keeps the angles continuous, so that frames can be interpolated.
    """
    best, least = arm, math.inf
    for raise_, out, twist in (
        (arm.raise_, arm.out, arm.twist),
        (arm.raise_ + math.pi, math.pi - arm.out, arm.twist + math.pi),
    ):
        raise_ = (raise_ + 1.6) % TAU - 1.6
        out = (out + 1.6) % TAU - 1.6
        twist = (twist + math.pi) % TAU - math.pi
        allowed = raise_ <= ARM_LIMITS["raise_"][1] and out <= ARM_LIMITS["out"][1]
        cost = 0.0 if allowed else 100.0
        if before is None:
            cost += abs(twist) + 0.5 * abs(out)
        else:
            cost += abs(raise_ - before.raise_) + abs(out - before.out) + abs(twist - before.twist)
        if cost < least:
            best, least = Arm(raise_, out, twist, arm.bend, arm.curl), cost
    return best


def _clamp(part: Arm | Leg | Pose, limits: dict[str, tuple[float, float]]) -> dict[str, float]:
    """The fields of ``part`` that lie outside their limits, moved to the limit."""
    moved = {}
    for name, (low, high) in limits.items():
        value = getattr(part, name)
        if not low <= value <= high:
            moved[name] = min(max(value, low), high)
    return moved


def within_limits(pose: Pose) -> Pose:
    """Return the pose with every angle inside its joint's limits."""
    moved: dict[str, object] = dict(_clamp(pose, BODY_LIMITS))
    for name, limits in (("right", ARM_LIMITS), ("left", ARM_LIMITS), ("right_leg", LEG_LIMITS),
                         ("left_leg", LEG_LIMITS)):
        limb = getattr(pose, name)
        inside = _clamp(limb, limits)
        if inside:
            moved[name] = replace(limb, **inside)
    return replace(pose, **moved) if moved else pose


def _clip(rng: Random, frames: int, *, build: Builder, mirror: bool) -> list[Pose]:
    """Sample a builder and add heading, side, head movement and fingers.

    Raises:
        ValueError: ``frames`` is less than 1.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}; ask for at least 1")
    seconds = frames / FPS
    yaw = rng.triangular(-0.9, 0.9)
    flip = mirror and rng.random() < 0.5
    nod, look = _cycle(rng, seconds, 0.3, 0.9), _cycle(rng, seconds, 0.2, 0.6)
    nodding, looking = rng.uniform(0.0, 0.06), rng.uniform(0.0, 0.12)
    gaze, chin, roll = rng.gauss(0, 0.12), rng.gauss(0, 0.05), rng.gauss(0, 0.04)
    curl, flex = rng.uniform(-0.12, 0.12), _cycle(rng, seconds, 0.3, 0.8)
    at = build(rng, seconds)
    poses: list[Pose] = []
    right: Arm | None = None
    left: Arm | None = None
    for i in range(frames):
        t = i / FPS
        pose = at(t)
        right, left = settled(pose.right, right), settled(pose.left, left)
        fingers = curl + 0.05 * _wave(flex(t))
        pose = within_limits(
            replace(
                pose,
                yaw=pose.yaw + yaw,
                shift=pose.shift * math.cos(yaw),
                head_yaw=pose.head_yaw + gaze + looking * _wave(look(t)),
                head_pitch=pose.head_pitch + chin + nodding * _wave(nod(t)),
                head_roll=pose.head_roll + roll,
                right=replace(right, curl=right.curl + fingers),
                left=replace(left, curl=left.curl + fingers),
            )
        )
        poses.append(pose.mirrored() if flip else pose)
    return poses


def _motion(name: str, verb: str, group: str, build: Builder, mirror: bool = True) -> Motion:
    return Motion(name, verb, group, partial(_clip, build=build, mirror=mirror))


_WALK = partial(_gait, tempo=(0.8, 1.15), stride=(0.34, 0.5), clear=0.07, flight=0.0, swing=0.45,
                elbow=0.35, height=0.882, lean=0.05)
_RUN = partial(_gait, tempo=(1.2, 1.7), stride=(0.5, 0.68), clear=0.2, flight=0.07, swing=0.75,
               elbow=1.45, height=0.872, lean=0.22)
_MARCH = partial(_gait, tempo=(0.8, 1.1), stride=(0.18, 0.28), clear=0.12, flight=0.0, swing=0.85,
                 elbow=0.15, height=0.9, lean=0.0, knee_up=1.3)
_SNEAK = partial(_gait, tempo=(0.5, 0.7), stride=(0.3, 0.4), clear=0.12, flight=0.0, swing=0.3,
                 elbow=1.5, height=0.76, lean=0.5, knee_up=0.6)

MOTIONS: dict[str, Motion] = {
    motion.name: motion
    for motion in (
        _motion("stand", "standing", "everyday", _stand),
        _motion("look_around", "looking around", "everyday", _look_around),
        _motion("walk", "walking", "everyday", _WALK),
        _motion("sneak", "sneaking", "everyday", _SNEAK),
        _motion("run", "running", "sport", _RUN),
        _motion("march", "marching", "everyday", _MARCH),
        _motion("wave", "waving", "near_miss", _wave_hand),
        _motion("wave_both", "waving with both arms", "near_miss", _wave_both),
        _motion("point_forward", "pointing forward", "near_miss", _point_forward),
        _motion("point_side", "pointing to the side", "near_miss", _point_side),
        _motion("point_up", "pointing up", "near_miss", _point_up),
        _motion("sit", "sitting on a stool", "near_miss", _sit),
        _motion("sit_down", "sitting down", "near_miss", _sit_down),
        _motion("pick_up", "picking something up", "near_miss", _pick_up),
        _motion("bow", "bowing", "near_miss", _bow),
        _motion("phone_call", "talking on the phone", "everyday", _phone_call),
        _motion("phone_look", "looking at a phone", "everyday", _phone_look),
        _motion("read", "reading", "everyday", _reading),
        _motion("clap", "clapping", "everyday", _clap),
        _motion("cheer", "cheering", "everyday", _cheer),
        _motion("shrug", "shrugging", "everyday", _shrug),
        _motion("facepalm", "covering the face with a hand", "everyday", _facepalm),
        _motion("arms_crossed", "standing with crossed arms", "everyday", _arms_crossed),
        _motion("hands_on_hips", "standing with hands on hips", "everyday", _hands_on_hips),
        _motion("think", "thinking", "everyday", _thinking),
        _motion("guitar", "playing the guitar", "everyday", _guitar),
        _motion("military_salute", "saluting with a hand at the brow", "near_miss",
                _military_salute),
        _motion("hand_on_heart", "standing with a hand on the heart", "near_miss", _hand_on_heart),
        _motion("stiff_arm_salute", "giving a stiff-arm salute", "salute", _stiff_arm),
        _motion("jumping_jack", "doing jumping jacks", "sport", _jumping_jack),
        _motion("jump", "jumping", "sport", _jump),
        _motion("squat", "squatting", "near_miss", _squat),
        _motion("lunge", "doing a lunge", "near_miss", _lunge),
        _motion("throw", "throwing", "sport", _throw),
        _motion("kick", "kicking", "sport", _kick),
        _motion("punch", "boxing", "sport", _punch),
        _motion("golf", "swinging a golf club", "sport", _golf),
        _motion("tennis", "playing tennis", "sport", _tennis),
        _motion("disco", "dancing disco", "dance", _disco),
        _motion("twist", "dancing the twist", "dance", _twist),
        _motion("robot", "dancing like a robot", "dance", _robot),
        _motion("plie", "doing a ballet plié", "dance", _plie),
        _motion("hip_sway", "dancing with swaying hips", "dance", _hip_sway),
        _motion("arm_wave_dance", "dancing with flowing arms", "dance", _arm_wave_dance),
        _motion("comet_dance", "dancing the comet dance", "signature", _comet),
        _motion("kneel_right", "kneeling on the right knee", "kneeling",
                partial(_kneel_one, right=True), mirror=False),
        _motion("kneel_left", "kneeling on the left knee", "kneeling",
                partial(_kneel_one, right=False), mirror=False),
        _motion("kneel_both", "kneeling on both knees", "kneeling", _kneel_both),
        _motion("kneel_bow", "kneeling and bowing to the floor", "kneeling", _kneel_bow),
        _motion("kneel_down", "going down on one knee", "kneeling",
                partial(_to_knee, both=False, back=False)),
        _motion("kneel_down_both", "going down on both knees", "kneeling",
                partial(_to_knee, both=True, back=False)),
        _motion("kneel_rise", "getting up from one knee", "kneeling",
                partial(_to_knee, both=False, back=True)),
        _motion("tie_shoe", "crouching to tie a shoe", "near_miss", _tie_shoe),
        _motion("stretch_up", "stretching up", "near_miss", _stretch_up),
        _motion("stretch_side", "stretching to the side", "near_miss", _stretch_side),
        _motion("stretch_quad", "stretching a thigh", "near_miss", _stretch_quad),
        _motion("touch_toes", "touching the toes", "near_miss", _touch_toes),
        _motion("one_leg", "balancing on one leg", "yoga", _one_leg),
        _motion("tree", "standing in tree pose", "yoga", _tree),
        _motion("warrior", "standing in warrior pose", "yoga", _warrior),
        _motion("t_pose", "standing with arms spread", "yoga", _t_pose),
        _motion("random", "moving", "random", _random),
    )
}
"""Every motion by its name."""
