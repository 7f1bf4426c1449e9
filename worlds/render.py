"""The avatar renderer: a look, a pose and a camera in, a picture with exact keypoints out.

Deterministic, about 20 ms a frame at 256 px on one core. The picture is drawn at twice its size and
averaged down.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from worlds import raster as r
from worlds.body import Pose, Skeleton, forward_kinematics, rot_x, rot_z
from worlds.looks import BACKGROUNDS, CLOTH, EXPRESSIONS, HAIR, SKIN, Colour, Look

SIZE = 256
SUPERSAMPLING = 2
HORIZON = 0.70
_FLOOR_AT = 1.05  # frame heights; looked at from above, the floor is higher than that says
HEAD_SCALE = 1.16
"""The head is drawn this much larger than life, so that a face of 35 pixels can be read."""

_SKY = {
    "studio": (1.0, 1.0, 1.02),
    "park": (0.98, 1.02, 1.06),
    "beach": (1.05, 1.03, 1.0),
    "night": (0.84, 0.86, 1.0),
    "stage": (1.08, 0.95, 0.9),
    "room": (1.05, 1.0, 0.92),
}
_GROUND = {
    "studio": (0.72, 0.72, 0.75),
    "park": (0.62, 0.74, 0.55),
    "beach": (0.85, 0.78, 0.65),
    "night": (0.52, 0.52, 0.64),
    "stage": (0.62, 0.48, 0.46),
    "room": (0.74, 0.62, 0.5),
}


@dataclass(frozen=True)
class Camera:
    """An orthographic camera.

    Attributes:
        pitch: Radians looked down, 0 to 0.3.
        scale: Frame heights per metre (0.43 shows the whole avatar).
        x: Where the focus lies in the frame, 0 left to 1 right.
        y: Where the focus lies in the frame, 0 top to 1 bottom.
        focus: Height above the floor that is put at (x, y), metres; or the head when None.
    """

    pitch: float = 0.1
    scale: float = 0.43
    x: float = 0.5
    y: float = 0.52
    focus: float | None = 0.9

    @property
    def shows_floor(self) -> bool:
        """Whether the frame reaches down to where the avatar stands; not of the head or a bust."""
        return self.focus is not None and self.y + self.focus * self.scale < _FLOOR_AT


@dataclass(frozen=True)
class Frame:
    """One rendered picture and what is known about it.

    Attributes:
        image: uint8 [256, 256, 3] RGB.
        keypoints: float32 [18, 2] OpenPose-18 joints in pixels, x right, y down.
        confidence: float32 [18]: 1 seen, 0.5 hidden behind the avatar itself, 0 out of frame or a
            face point that looks away.
        landmarks: float32 [68, 2] face landmarks (iBUG order) in pixels.
        mask: bool [256, 256], the figure.
    """

    image: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    landmarks: np.ndarray
    mask: np.ndarray


@lru_cache(maxsize=len(BACKGROUNDS))
def background(name: str, size: int = SIZE * SUPERSAMPLING) -> np.ndarray:
    """Paint a background, float32 [size, size, 3], the same for every scene.

    Trees, sun and window once stood elsewhere in each scene. No word of a prompt says where, so the
    model had to draw lots, and drew other ones in each frame of a clip.
    """
    rng = random.Random(4)
    h = int(size * HORIZON)
    u = size / 512
    top, low, near, far = {
        "studio": ((214, 217, 224), (236, 238, 242), (196, 198, 206), (172, 174, 184)),
        "park": ((128, 190, 240), (206, 232, 248), (104, 172, 84), (132, 194, 100)),
        "beach": ((96, 186, 238), (196, 232, 250), (240, 218, 168), (226, 200, 146)),
        "night": ((16, 20, 54), (52, 54, 104), (50, 48, 74), (38, 36, 60)),
        "stage": ((104, 24, 42), (128, 34, 54), (82, 56, 46), (54, 36, 32)),
        "room": ((238, 226, 202), (246, 236, 216), (176, 128, 86), (150, 106, 70)),
    }[name]
    img = np.empty((size, size, 3), np.float32)
    t = np.linspace(0, 1, h)[:, None, None]
    img[:h] = np.array(top) * (1 - t) + np.array(low) * t
    t = np.linspace(0, 1, size - h)[:, None, None]
    img[h:] = np.array(far) * (1 - t) + np.array(near) * t

    def disc(x: float, y: float, radius: float, colour: Colour) -> None:
        cv2.circle(img, (int(x), int(y)), int(radius), colour, -1, cv2.LINE_AA)

    if name == "park":
        for x, y, radius in ((74, 74, 58), (196, 54, 40), (444, 66, 52)):
            x, y, radius = x * u, h - y * u, radius * u
            cv2.rectangle(
                img, (int(x - 8 * u), int(y)), (int(x + 8 * u), int(h + 6 * u)), (112, 82, 56), -1
            )
            disc(x, y - radius * 0.4, radius, (66, 138, 74))
            disc(x - radius * 0.25, y - radius * 0.65, radius * 0.62, (84, 158, 86))
    elif name == "beach":
        img[int(h * 0.86) : h] = (64, 156, 206)
        disc(404 * u, 74 * u, 34 * u, (255, 240, 178))
    elif name == "night":
        for _ in range(34):
            disc(
                rng.uniform(0, size),
                rng.uniform(0, h * 0.9),
                rng.choice([1.6, 2.4]) * u,
                (226, 226, 205),
            )
        disc(108 * u, 70 * u, 28 * u, (244, 238, 206))
        disc(121 * u, 62 * u, 24 * u, (20, 24, 60))
    elif name == "stage":
        for x in range(0, size, int(64 * u)):
            cv2.rectangle(img, (x, 0), (int(x + 28 * u), h), (150, 42, 62), -1)
        cv2.ellipse(
            img,
            (size // 2, int(size * 0.9)),
            (int(size * 0.36), int(44 * u)),
            0,
            0,
            360,
            (178, 146, 112),
            -1,
            cv2.LINE_AA,
        )
    elif name == "room":
        x = int(340 * u)
        w, y0, y1 = int(130 * u), int(70 * u), int(220 * u)
        cv2.rectangle(img, (x, y0), (x + w, y1), (178, 218, 244), -1)
        cv2.rectangle(img, (x, y0), (x + w, y1), (132, 94, 62), int(8 * u))
        cv2.line(img, (x + w // 2, y0), (x + w // 2, y1), (132, 94, 62), int(6 * u))
        img[h - int(8 * u) : h] = (206, 186, 152)
    return img


class _Parts:
    """Collects primitives in camera pixels (x right, y up, z to the viewer)."""

    def __init__(self, view: np.ndarray, scale: float, offset: np.ndarray) -> None:
        self.view, self.scale, self.offset = view, scale, offset
        self.rows: list[tuple] = []

    def scaled_about(self, point: np.ndarray, factor: float) -> _Parts:
        """A view on the same list in which everything is ``factor`` larger about ``point``."""
        larger = self.view @ point * self.scale * factor
        view = _Parts(self.view, self.scale * factor, self.project(point) - larger)
        view.rows = self.rows
        return view

    def project(self, p: np.ndarray) -> np.ndarray:
        return self.view @ p * self.scale + self.offset

    def _add(
        self,
        kind: int,
        a: np.ndarray,
        b: np.ndarray,
        ra: float,
        rb: float,
        inv: np.ndarray,
        frame: np.ndarray,
        origin: np.ndarray,
        clip: tuple,
        group: int,
        material: int,
        colour: Colour,
        second: Colour,
    ) -> None:
        local = (self.view @ frame).T / self.scale
        self.rows.append(
            (
                kind,
                a,
                b,
                ra,
                rb,
                inv,
                local,
                self.project(origin),
                clip,
                group,
                material,
                colour,
                second,
            )
        )

    def cone(
        self,
        a: np.ndarray,
        b: np.ndarray,
        ra: float,
        rb: float,
        colour: Colour,
        frame: np.ndarray,
        *,
        origin: np.ndarray | None = None,
        material: int = r.PLAIN,
        second: Colour = (0, 0, 0),
        clip: tuple = (0, 0, 0, 1e6, 0),
        group: int = 0,
    ) -> None:
        """Add a round cone from ``a`` to ``b`` (world metres) with radii ``ra``, ``rb``."""
        self._add(
            r.CONE,
            self.project(a),
            self.project(b),
            ra * self.scale,
            rb * self.scale,
            np.eye(3),
            frame,
            a if origin is None else origin,
            clip,
            group,
            material,
            colour,
            second,
        )

    def solid(
        self,
        centre: np.ndarray,
        half: tuple[float, float, float],
        colour: Colour,
        frame: np.ndarray,
        *,
        origin: np.ndarray | None = None,
        material: int = r.PLAIN,
        second: Colour = (0, 0, 0),
        clip: tuple = (0, 0, 0, 1e6, 0),
        group: int = 0,
        box: bool = False,
    ) -> None:
        """Add an ellipsoid, or a box, with half axes ``half`` (metres) along ``frame``."""
        inv = np.diag(1 / (np.array(half) * self.scale)) @ (self.view @ frame).T
        bound = (math.hypot(*half) if box else max(half)) * self.scale
        c = self.project(centre)
        self._add(
            r.BOX if box else r.ELLIPSOID,
            c,
            c,
            bound,
            bound,
            inv,
            frame,
            centre if origin is None else origin,
            clip,
            group,
            material,
            colour,
            second,
        )


def _shade_of(colour: Colour, gain: float) -> Colour:
    return tuple(min(255.0, v * gain) for v in colour)


def _pattern_second(colour: Colour) -> Colour:
    return (250, 248, 240) if sum(colour) < 560 else (92, 112, 150)


def _body(parts: _Parts, s: Skeleton, look: Look, curls: tuple[float, float]) -> None:
    """Add body, clothes, hair and hat."""
    j, f, m = s.joints, s.frames, look.build
    top, bottom, skin, hair = CLOTH[look.top], CLOTH[look.bottom], SKIN[look.skin], HAIR[look.hair]
    cloth = {"plain": r.PLAIN, "striped": r.STRIPED, "dotted": r.DOTTED}[look.pattern]
    second = _pattern_second(top)
    T, Hp, Hd = f["torso"], f["hips"], f["head"]
    at = lambda base, frame, *v: base + frame @ np.array(v, float)  # noqa: E731
    shirt = dict(colour=top, material=cloth, second=second, origin=j["waist"])
    # Torso: chest, belly and a hem that hangs over the trousers.
    parts.solid(at(j["waist"], T, 0, 0.215, 0), (0.162 * m, 0.15, 0.108), frame=T, **shirt)
    parts.solid(at(j["waist"], T, 0, 0.05, 0.004), (0.138 * m, 0.17, 0.106), frame=T, **shirt)
    parts.cone(
        at(j["Rsh"], T, 0.02, -0.005, 0),
        at(j["Lsh"], T, -0.02, -0.005, 0),
        0.062,
        0.062,
        frame=T,
        **shirt,
    )
    parts.cone(j["chest"], at(j["neck"], T, 0, 0.0, 0), 0.1, 0.062, frame=T, **shirt)
    parts.solid(
        at(j["pelvis"], Hp, 0, 0.05, 0),
        (0.153 * m, 0.13, 0.122),
        frame=Hp,
        clip=(0, -1, 0, 0.035 - 0.05 + 0.07, 0),
        **(shirt | {"origin": j["pelvis"]}),
    )
    parts.solid(at(j["pelvis"], Hp, 0, -0.02, 0), (0.147 * m, 0.12, 0.116), bottom, Hp)
    parts.cone(at(j["neck"], T, 0, -0.03, 0.0), j["head"], 0.047, 0.047, skin, T, material=r.SKIN)
    parts.cone(
        at(j["neck"], T, 0, 0.005, 0),
        at(j["neck"], T, 0, 0.03, 0.004),
        0.062,
        0.058,
        _shade_of(top, 0.86),
        T,
        origin=at(j["neck"], T, 0, 0.03, 0),
        clip=(0, 1, -0.3, 0.008, 0),
    )
    for side, sign, curl in zip("RL", (-1, 1), curls, strict=True):
        sh, el, wr = j[side + "sh"], j[side + "el"], j[side + "wr"]
        U, F = f[side + "upper"], f[side + "fore"]
        parts.cone(sh, el, 0.046 * m, 0.040, skin, U, material=r.SKIN)
        parts.cone(el, wr, 0.040, 0.030, skin, F, material=r.SKIN)
        sleeve = dict(colour=top, material=cloth, second=second)
        if look.sleeve == "long":
            parts.cone(sh, el, 0.062 * m, 0.054, frame=U, **sleeve)
            parts.cone(
                el,
                at(wr, F, 0, -0.02, 0),
                0.053,
                0.046,
                frame=F,
                clip=(0, -1, 0, 0.225, 0),
                **sleeve,
            )
        else:
            parts.cone(
                sh,
                at(sh, U, 0, -0.22, 0),
                0.064 * m,
                0.068,
                frame=U,
                clip=(0, -1, 0, 0.175, 0),
                **sleeve,
            )
        _hand(parts, wr, F, skin, sign, curl)
        hp, kn, an = j[side + "hp"], j[side + "kn"], j[side + "an"]
        G, S, Ft = f[side + "thigh"], f[side + "shin"], f[side + "foot"]
        parts.cone(hp, kn, 0.074 * m, 0.053, skin, G, material=r.SKIN)
        parts.cone(kn, an, 0.052, 0.036, skin, S, material=r.SKIN)
        if look.leg == "long":
            parts.cone(hp, kn, 0.090 * m, 0.068, bottom, G)
            parts.cone(
                kn, at(an, S, 0, -0.03, 0), 0.067, 0.058, bottom, S, clip=(0, -1, 0, 0.385, 0)
            )
        else:
            parts.cone(
                hp, at(hp, G, 0, -0.36, 0), 0.091 * m, 0.088, bottom, G, clip=(0, -1, 0, 0.295, 0)
            )
        shoe = dict(material=r.SHOE, origin=an)
        dark = (74, 62, 66)
        parts.cone(at(an, Ft, 0, -0.012, 0.0), j[side + "toe"], 0.046, 0.037, dark, Ft, **shoe)
        parts.cone(an, at(an, Ft, 0, -0.022, -0.03), 0.042, 0.036, dark, Ft, **shoe)
    _head(parts, j["head"], Hd, T, look, skin, hair)


def _hand(
    parts: _Parts, wrist: np.ndarray, fore: np.ndarray, skin: Colour, sign: int, curl: float
) -> None:
    """Add palm, thumb and four fingers; the palm faces the body at rest."""
    at = lambda *v: wrist + fore @ np.array(v, float)  # noqa: E731
    parts.solid(at(0, -0.05, 0), (0.021, 0.052, 0.040), skin, fore, material=r.SKIN)
    inward = -sign
    for k in range(4):
        z = 0.030 - 0.02 * k
        length = (0.040, 0.046, 0.043, 0.034)[k]
        bend = 1.7 * curl
        knuckle = at(0, -0.088, z)
        mid = knuckle + fore @ (length * np.array([inward * math.sin(bend), -math.cos(bend), 0]))
        tip = mid + fore @ (
            0.75 * length * np.array([inward * math.sin(2 * bend), -math.cos(2 * bend), 0])
        )
        parts.cone(knuckle, mid, 0.0125, 0.0115, skin, fore, material=r.SKIN)
        parts.cone(mid, tip, 0.0115, 0.0105, skin, fore, material=r.SKIN)
    parts.cone(
        at(0, -0.03, 0.032),
        at(inward * 0.022, -0.078, 0.055),
        0.015,
        0.012,
        skin,
        fore,
        material=r.SKIN,
    )


def _head(
    parts: _Parts,
    head: np.ndarray,
    Hd: np.ndarray,
    torso: np.ndarray,
    look: Look,
    skin: Colour,
    hair: Colour,
) -> None:
    """Add skull, jaw, nose, ears, hair and hat in the head's frame."""
    parts = parts.scaled_about(head, HEAD_SCALE)
    at = lambda *v: head + Hd @ np.array(v, float)  # noqa: E731
    face = dict(frame=Hd, origin=head, material=r.HEAD)
    parts.solid(at(0, 0.02, 0), (0.117, 0.125, 0.122), skin, **face)
    parts.solid(at(0, -0.055, 0.016), (0.094, 0.088, 0.094), skin, **face)
    parts.solid(
        at(0, -0.022, 0.118), (0.0145, 0.02, 0.02), _shade_of(skin, 0.96), Hd, material=r.SKIN
    )
    for sign in (-1, 1):
        parts.solid(
            at(sign * 0.117, -0.005, -0.008), (0.016, 0.030, 0.02), skin, Hd, material=r.SKIN
        )
    cut = (0, 0, 0, 1e6, 1)
    strands = dict(material=r.HAIR, origin=head, group=1)
    parts.solid(at(0, 0.032, -0.010), (0.130, 0.130, 0.134), hair, Hd, clip=cut, **strands)
    if look.hairstyle == "long":
        back = head + Hd @ np.array([0, -0.08, -0.06])
        fall = back + torso @ np.array([0, -0.2, -0.055])
        parts.cone(
            at(0, 0.02, -0.045), back, 0.112, 0.112, hair, Hd, clip=(0, 0, 1, 0.015, 0), **strands
        )
        parts.cone(back, fall, 0.110, 0.072, hair, Hd, clip=(0, 0, 1, 0.015, 0), **strands)
        for sign in (-1, 1):
            parts.cone(
                at(sign * 0.118, 0.03, 0.0),
                at(sign * 0.112, -0.13, 0.005),
                0.028,
                0.022,
                hair,
                Hd,
                **strands,
            )
            parts.cone(
                at(sign * 0.112, -0.13, 0.005),
                at(sign * 0.112, -0.13, 0.0) + torso @ np.array([-sign * 0.012, -0.1, 0.0]),
                0.022,
                0.016,
                hair,
                Hd,
                **strands,
            )
    elif look.hat == "none":
        parts.cone(
            at(-0.05, 0.112, 0.085), at(0.06, 0.118, 0.075), 0.030, 0.034, hair, Hd, **strands
        )
    felt = dict(frame=Hd, group=2)
    if look.hat == "cap":
        parts.solid(
            at(0, 0.05, -0.008),
            (0.138, 0.128, 0.142),
            (44, 110, 190),
            clip=(0, -1, 0, 0, 0),
            **felt,
        )
        parts.solid(at(0, 0.052, 0.13), (0.092, 0.014, 0.10), (30, 84, 156), **felt)
    elif look.hat == "beanie":
        parts.solid(
            at(0, 0.045, -0.01), (0.138, 0.140, 0.142), (222, 92, 60), clip=(0, -1, 0, 0, 0), **felt
        )
        parts.solid(at(0, 0.062, -0.01), (0.145, 0.034, 0.149), (248, 196, 84), **felt)
        parts.solid(at(0, 0.20, -0.01), (0.034, 0.034, 0.034), (250, 236, 214), **felt)
    elif look.hat == "top hat":
        parts.cone(
            at(0, 0.09, -0.01),
            at(0, 0.30, -0.01),
            0.118,
            0.118,
            (38, 38, 46),
            origin=at(0, 0.2, 0),
            clip=(0, 1, 0, 0.1, 0),
            **felt,
        )
        parts.solid(at(0, 0.30, -0.01), (0.118, 0.012, 0.118), (52, 52, 62), **felt)
        parts.cone(
            at(0, 0.105, -0.01),
            at(0, 0.13, -0.01),
            0.122,
            0.122,
            (176, 44, 60),
            origin=at(0, 0.105, 0),
            clip=(0, 1, 0, 0.03, 0),
            **felt,
        )
        parts.solid(at(0, 0.09, -0.01), (0.195, 0.012, 0.19), (38, 38, 46), **felt)


def _prop(parts: _Parts, s: Skeleton, look: Look) -> None:
    """Add what the avatar holds in its right hand (the guitar hangs before the body)."""
    j, f = s.joints, s.frames
    hand, F = j["Rhand"], f["Rfore"]
    up = np.array([0.0, 1.0, 0.0])
    world = np.eye(3)
    if look.prop == "umbrella":
        tip = hand + up * 0.62
        parts.cone(
            hand - up * 0.1, tip, 0.012, 0.012, (96, 68, 48), world, material=r.WOOD, group=3
        )
        parts.solid(
            tip - up * 0.16,
            (0.40, 0.21, 0.40),
            (62, 120, 214),
            world,
            material=r.CANOPY,
            second=(246, 246, 246),
            clip=(0, -1, 0, 0, 0),
            group=4,
        )
        parts.cone(tip, tip + up * 0.1, 0.012, 0.004, (96, 68, 48), world, group=3)
    elif look.prop == "balloon":
        knot = hand + np.array([0.06, 0.50, 0.0])
        parts.cone(hand, knot, 0.006, 0.006, (120, 120, 126), world, group=3)
        parts.solid(
            knot + up * 0.155,
            (0.125, 0.155, 0.125),
            (232, 58, 84),
            world,
            group=4,
            material=r.METAL,
        )
    elif look.prop == "ball":
        parts.solid(
            hand + F @ np.array([0.0, -0.15, 0.0]),
            (0.15, 0.15, 0.15),
            (240, 120, 40),
            F,
            material=r.BEACH_BALL,
            second=(46, 120, 210),
            group=4,
        )
    elif look.prop == "book":
        tilt = F @ rot_x(-0.5)
        parts.solid(
            hand + tilt @ np.array([0.0, -0.05, 0.05]),
            (0.115, 0.15, 0.028),
            (168, 40, 48),
            tilt,
            material=r.BOOK,
            box=True,
            group=4,
        )
    elif look.prop == "guitar":
        T = f["torso"] @ rot_z(0.55)
        c = j["waist"] + f["torso"] @ np.array([-0.06, 0.02, 0.155])
        at = lambda *v: c + T @ np.array(v, float)  # noqa: E731
        wood = dict(frame=T, material=r.GUITAR, group=4)
        parts.solid(
            at(-0.10, 0, 0), (0.155, 0.145, 0.04), (204, 128, 62), origin=at(-0.02, 0, 0), **wood
        )
        parts.solid(
            at(0.06, 0, 0), (0.115, 0.108, 0.04), (204, 128, 62), origin=at(-0.02, 0, 0), **wood
        )
        parts.solid(
            at(0.32, 0, 0.025),
            (0.20, 0.020, 0.014),
            (84, 52, 34),
            T,
            material=r.WOOD,
            group=5,
            box=True,
        )
        parts.solid(
            at(0.55, 0, 0.025),
            (0.05, 0.034, 0.014),
            (54, 34, 26),
            T,
            material=r.WOOD,
            group=5,
            box=True,
        )
    elif look.prop == "pistol":
        at = lambda *v: hand + F @ np.array(v, float)  # noqa: E731
        steel = dict(frame=F, material=r.METAL, box=True)
        parts.solid(at(0, -0.13, 0.058), (0.026, 0.175, 0.039), (58, 60, 68), group=4, **steel)
        parts.solid(at(0, -0.013, 0.0), (0.025, 0.042, 0.085), (34, 34, 38), group=5, **steel)
        parts.solid(at(0, -0.11, 0.006), (0.010, 0.039, 0.010), (34, 34, 38), group=5, **steel)


def _stool(parts: _Parts, s: Skeleton) -> None:
    c = s.joints["pelvis"] * np.array([1, 0, 1]) + np.array([0, s.seat - 0.02, 0])
    parts.solid(c, (0.19, 0.035, 0.19), (150, 104, 66), np.eye(3), material=r.WOOD, group=6)
    for angle in (0.6, 2.2, 3.9, 5.4):
        foot = np.array([0.15 * math.cos(angle), -s.seat + 0.02, 0.15 * math.sin(angle)])
        parts.cone(
            c + foot * np.array([0.7, 0, 0.7]),
            c + foot,
            0.018,
            0.016,
            (122, 82, 50),
            np.eye(3),
            material=r.WOOD,
            group=6,
        )


_BONES = (
    ("neck", "pelvis", 0.15),
    ("head", "neck", 0.13),
    ("Rsh", "Rel", 0.06),
    ("Rel", "Rhand", 0.05),
    ("Lsh", "Lel", 0.06),
    ("Lel", "Lhand", 0.05),
    ("Rhp", "Rkn", 0.09),
    ("Rkn", "Ran", 0.07),
    ("Lhp", "Lkn", 0.09),
    ("Lkn", "Lan", 0.07),
    ("Ran", "Rtoe", 0.05),
    ("Lan", "Ltoe", 0.05),
)


def _shadow(parts: _Parts, s: Skeleton, size: int) -> np.ndarray:
    """Soft shadow on the floor, float32 [size, size], 0 none to 1 full."""
    n = size // 4
    mask = np.zeros((n, n), np.float32)

    def floor(p: np.ndarray) -> tuple[int, int]:
        q = parts.project(np.array([p[0] + 0.35 * p[1], 0.0, p[2] - 0.45 * p[1]]))
        return int(round(q[0] / 4)), int(round((size - q[1]) / 4))

    for a, b, radius in _BONES:
        cv2.line(
            mask,
            floor(s.joints[a]),
            floor(s.joints[b]),
            1.0,
            max(1, int(2 * radius * parts.scale / 4 * 0.55)),
            cv2.LINE_AA,
        )
    for side in "RL":
        cv2.circle(mask, floor(s.joints[side + "an"] * np.array([1, 0, 1])), 4, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 2.2)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR)


def face_landmarks(expression: tuple[float, float, float, float, float]) -> np.ndarray:
    """The 68 landmarks (iBUG order) in head-local metres, float [68, 3].

    Args:
        expression: smile, mouth open, brow raise, eyelid, brow tilt, as in looks.EXPRESSIONS.
    """
    smile, mouth, brow, lid, tilt = expression
    a = np.linspace(-1.0, 1.0, 17)
    jaw = np.stack([np.sin(a * np.pi / 2) * 0.108, 0.0 - 0.143 * np.cos(a * np.pi / 2)], 1)
    bx = np.linspace(0.074, 0.02, 5)
    by = 0.047 + 0.012 * brow + 0.35 * (bx - 0.046) * tilt - 9.0 * (bx - 0.05) ** 2
    brows = np.concatenate([np.stack([-bx, by], 1), np.stack([bx[::-1], by[::-1]], 1)])
    bridge = np.stack([np.zeros(4), np.linspace(0.02, -0.02, 4)], 1)
    base = np.stack([np.linspace(-0.016, 0.016, 5), [-0.036, -0.039, -0.041, -0.039, -0.036]], 1)
    o = max(0.05, 1 - lid)
    eye = np.array(
        [
            [-0.0225, 0],
            [-0.010, 0.0145 * o],
            [0.010, 0.0145 * o],
            [0.0225, 0],
            [0.010, -0.0145],
            [-0.010, -0.0145],
        ]
    )
    eyes = np.concatenate([eye + [-0.046, 0.014], eye + [0.046, 0.014]])
    half = 0.034 + 0.006 * smile - 0.006 * mouth * (1 - abs(smile))

    def lip(t: np.ndarray, lift: float, sign: float) -> np.ndarray:
        curve = -0.072 + 0.014 * smile * t**2 - 0.004 * smile
        gap = 0.024 * mouth * (1 - t**2)
        edge = 0.25 * gap if sign > 0 else -gap
        return np.stack([half * t, curve + edge + sign * lift * (1 - 0.55 * t**2)], 1)

    upper, lower = np.linspace(-1, 1, 7), np.linspace(0.67, -0.67, 5)
    inner = np.linspace(-0.8, 0.8, 5)
    lips = np.concatenate(
        [
            lip(upper, 0.0048, 1),
            lip(lower, 0.0048, -1),
            lip(inner, -0.001, 1),
            lip(inner[1:4][::-1], -0.001, -1),
        ]
    )
    flat = np.concatenate([jaw, brows, bridge, base, eyes, lips])
    z = np.zeros(68)
    for centre, half_axes in (
        ((0, 0.02, 0), (0.117, 0.125, 0.122)),
        ((0, -0.055, 0.016), (0.094, 0.088, 0.094)),
    ):
        q = 1 - ((flat[:, 0] - centre[0]) / half_axes[0]) ** 2
        q -= ((flat[:, 1] - centre[1]) / half_axes[1]) ** 2
        z = np.maximum(z, centre[2] + half_axes[2] * np.sqrt(np.clip(q, 0, 1)))
    z[27:36] += np.array([0.004, 0.008, 0.014, 0.02, 0.008, 0.011, 0.013, 0.011, 0.008])
    return np.column_stack([flat, z])


_KEYPOINT_JOINTS = (
    "neck",
    "Rsh",
    "Rel",
    "Rwr",
    "Lsh",
    "Lel",
    "Lwr",
    "Rhp",
    "Rkn",
    "Ran",
    "Lhp",
    "Lkn",
    "Lan",
)
_FACE_POINTS = {
    0: (0, -0.022, 0.135),
    14: (-0.046, 0.014, 0.112),
    15: (0.046, 0.014, 0.112),
    16: (-0.13, -0.005, -0.008),
    17: (0.13, -0.005, -0.008),
}


_FACE_DIRECTIONS = {
    0: (0, 0, 1),
    14: (-0.45, 0, 0.9),
    15: (0.45, 0, 0.9),
    16: (-0.95, 0, 0.3),
    17: (0.95, 0, 0.3),
}


def joint_places(
    joints: dict[str, np.ndarray], head_frame: np.ndarray, head_scale: float = HEAD_SCALE
) -> np.ndarray:
    """Places of the OpenPose-18 joints in the world, metres, float [18, 3].

    Args:
        joints: by name, as in `worlds.body.Skeleton.joints`.
        head_frame: rotation of the head, [3, 3].
        head_scale: size of the head, over life size.
    """
    world = np.zeros((18, 3))
    world[1:14] = [joints[k] for k in _KEYPOINT_JOINTS]
    for k, local in _FACE_POINTS.items():
        world[k] = joints["head"] + head_scale * (head_frame @ np.array(local))
    return world


def towards_viewer(head_frame: np.ndarray) -> np.ndarray:
    """Which of the 18 joints the head itself does not hide, bool [18].

    Like a detector, it drops eyes and ears on the far side, and the nose seen from behind.

    Args:
        head_frame: rotation of the head in the camera's frame, [3, 3].
    """
    shown = np.ones(18, bool)
    for k, direction in _FACE_DIRECTIONS.items():
        shown[k] = head_frame[2] @ np.array(direction) >= -0.05
    return shown


def _pencil(image: np.ndarray, z_buf: np.ndarray, id_buf: np.ndarray) -> np.ndarray:
    """Redraw a lit picture as a tinted pencil sketch on paper."""
    h, w = z_buf.shape
    tone = cv2.GaussianBlur(image, (0, 0), 1.0)
    grey = tone.mean(2)
    depth = np.where(id_buf < 0, z_buf[id_buf >= 0].min() - 60 if (id_buf >= 0).any() else 0, z_buf)
    edge = (np.abs(cv2.Laplacian(depth.astype(np.float32), cv2.CV_32F)) > 9).astype(np.float32)
    step = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    edge = np.maximum(edge, np.clip((step - 90) / 110, 0, 1) * 0.7)
    edge = cv2.GaussianBlur(edge, (0, 0), 1.1)
    yy, xx = np.mgrid[:h, :w]
    hatch = 0.5 + 0.5 * np.sin((xx + yy) * (2 * np.pi / 9))
    dark = np.clip((150 - grey) / 150, 0, 1)
    paper = np.array([250, 247, 238], np.float32)
    tint = np.where((id_buf >= 0)[..., None], 0.62, 0.25).astype(np.float32)
    out = paper * (1 - tint) + tone * tint
    out *= (1 - 0.30 * dark * hatch)[..., None]
    return out * (1 - 0.85 * np.clip(edge * 1.6, 0, 1))[..., None]


def _pixel_art(image: np.ndarray, cells: int = 64) -> np.ndarray:
    """Redraw a picture as ``cells`` × ``cells`` flat squares in a reduced palette."""
    small = cv2.resize(image, (cells, cells), interpolation=cv2.INTER_AREA)
    small = np.round(small / 25.5) * 25.5
    return cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)


def render(look: Look, pose: Pose, camera: Camera) -> Frame:
    """Draw one avatar.

    Args:
        look: What it looks like, including background and drawing style.
        pose: Its joint angles.
        camera: Where it is seen from.
    """
    curls = pose.right.curl, pose.left.curl
    return render_skeleton(look, forward_kinematics(pose, look.build), camera, curls)


def render_skeleton(
    look: Look, s: Skeleton, camera: Camera, curls: tuple[float, float] = (0.35, 0.35)
) -> Frame:
    """Draw one avatar whose joints have been placed.

    Args:
        look: What it looks like, including background and drawing style.
        s: Its joints and the frames of its parts, of the doll's size.
        camera: Where it is seen from.
        curls: How far the fingers of the right and the left hand are bent, see `worlds.body.Arm`.
    """
    size = SIZE * SUPERSAMPLING
    view = rot_x(camera.pitch)
    scale = camera.scale * size
    focus = s.joints["head"] if camera.focus is None else np.array([0.0, camera.focus, 0.0])
    at = view @ focus * scale
    offset = np.array([camera.x * size - at[0], (1 - camera.y) * size - at[1], 0.0])
    parts = _Parts(view, scale, offset)
    _body(parts, s, look, curls)
    _prop(parts, s, look)
    if s.seat > 0:
        _stool(parts, s)
    columns = list(zip(*parts.rows, strict=True))
    kind, a, b, ra, rb, inv, frame, origin, clip, group, material, colour, second = (
        np.array(c, np.int64 if i in (0, 9, 10) else np.float64) for i, c in enumerate(columns)
    )
    z_buf = np.full((size, size), -1e9)
    n_buf = np.zeros((size, size, 3))
    id_buf = np.full((size, size), -1, np.int64)
    r.rasterise(
        kind, a, b, ra, rb, inv, frame, origin, clip, group, 0.014 * scale, z_buf, n_buf, id_buf
    )
    expression = EXPRESSIONS[look.expression]
    image = background(look.background) * (1 - 0.38 * _shadow(parts, s, size)[..., None])
    image = image.astype(np.float64)
    r.shade(
        z_buf,
        n_buf,
        id_buf,
        material,
        colour,
        second,
        frame,
        origin,
        np.array(expression),
        np.array(SKIN[look.skin], float),
        np.array(HAIR[look.hair], float),
        np.array(
            {
                "light": (70, 120, 170),
                "tan": (96, 120, 60),
                "brown": (92, 58, 34),
                "dark": (66, 42, 30),
            }[look.skin],
            float,
        ),
        float(look.glasses),
        np.array(_SKY[look.background]),
        np.array(_GROUND[look.background]),
        image,
    )
    if look.style == "pencil sketch":
        image = _pencil(image.astype(np.float32), z_buf, id_buf)
    picture = cv2.resize(image.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    if look.style == "pixel art":
        picture = _pixel_art(picture)
    mask = (
        cv2.resize((id_buf >= 0).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        > 0.5
    )

    def to_pixels(points: np.ndarray) -> np.ndarray:
        q = points @ view.T * scale + offset
        return np.stack([q[:, 0], size - q[:, 1], q[:, 2]], 1)

    head, Hd = s.joints["head"], s.frames["head"]
    projected = to_pixels(joint_places(s.joints, Hd))
    keypoints = (projected[:, :2] / SUPERSAMPLING).astype(np.float32)
    inside = ((keypoints >= 0) & (keypoints < SIZE)).all(1)
    col, row = (np.clip(projected[:, i], 0, size - 1).astype(int) for i in (0, 1))
    hidden = z_buf[row, col] > projected[:, 2] + 0.1 * scale
    confidence = np.where(hidden, 0.5, 1.0) * inside
    confidence[~towards_viewer(view @ Hd)] = 0.0
    landmarks = (
        to_pixels(head + HEAD_SCALE * face_landmarks(expression) @ Hd.T)[:, :2] / SUPERSAMPLING
    )
    return Frame(
        np.clip(picture, 0, 255).astype(np.uint8),
        keypoints,
        confidence.astype(np.float32),
        landmarks.astype(np.float32),
        mask,
    )


def random_camera(rng: random.Random) -> Camera:
    """Draw a camera that shows the whole avatar, or (one in eight) its upper body."""
    if rng.random() < 1 / 8:
        return Camera(
            rng.uniform(0.0, 0.2),
            rng.uniform(0.62, 0.85),
            rng.uniform(0.42, 0.58),
            rng.uniform(0.56, 0.66),
            1.12,
        )
    return Camera(
        rng.uniform(0.02, 0.24),
        rng.uniform(0.40, 0.49),
        rng.uniform(0.40, 0.60),
        rng.uniform(0.50, 0.56),
        0.90,
    )


def closeup_camera(rng: random.Random) -> Camera:
    """Draw a camera that shows the face."""
    return Camera(
        rng.uniform(-0.05, 0.15),
        rng.uniform(1.5, 2.0),
        rng.uniform(0.44, 0.56),
        rng.uniform(0.48, 0.56),
        None,
    )
