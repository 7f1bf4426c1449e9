"""Frames of the avatar world that guards are trained on, drawn by what they show.

What a frame is to a class of poses goes by what is seen in it (`kind_of_frame`), and a step's mix
of kinds, captions and places in the frame by the guard's settings (`AvatarFrames`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.animation import Frames
from adapters.pose_classes import POSE_CLASSES, PoseClass
from worlds.looks import Look, caption
from worlds.motions import MOTIONS

if TYPE_CHECKING:
    from adapters.poseguard import PoseGuardConfig
    from worlds.data import AvatarSet

_LEGS = ((8, 9, 10), (11, 12, 13))  # hip, knee and ankle


class Move(NamedTuple):
    """How a figure is moved: enlarged about the middle of the frame, then shifted.

    Attributes:
        zoom: factor.
        right: in parts of the frame's side.
        down: likewise.
    """

    zoom: float = 1.0
    right: float = 0.0
    down: float = 0.0


def moved(latents: Tensor, moves: Sequence[Move]) -> Tensor:
    """Return latents [B, C, h, w] with each picture moved; what comes into view repeats the edge.

    The autoencoder's latents bear it, for it was trained to decode resized ones
    (`worlds.autoencoder`).
    """
    # The grid says for each place of the result where it comes from, in units of half a side.
    back = torch.tensor(
        [[[1 / z, 0, -2 * x / z], [0, 1 / z, -2 * y / z]] for z, x, y in moves],
        dtype=latents.dtype,
    )
    grid = F.affine_grid(back, list(latents.shape), align_corners=False)
    return F.grid_sample(latents, grid, padding_mode="border", align_corners=False)


def shows_leg(data: AvatarSet, number: int, move: Move | None = None) -> bool:
    """Return whether a whole leg of a figure is in the frame.

    Args:
        data: the frames.
        number: of the frame.
        move: how the figure is moved; None: not at all.
    """
    joints = data.moved(data.keypoints[number, :, :2], *(move or Move()))
    seen = ((joints >= 0) & (joints < data.images.shape[1])).all(1)
    seen &= data.keypoints[number, :, 2] > 0
    return any(seen[list(leg)].all() for leg in _LEGS)


def kind_of_frame(data: AvatarSet, number: int, pose_class: PoseClass) -> str | None:
    """Return what a rendered frame is to a class of poses: as `PoseClass.kind`, but as it is seen.

    A face has no joints, and who shows no whole leg is not seen to be unsafe: both are "other".

    Args:
        data: the frames.
        number: of the frame.
        pose_class: the class.
    """
    meta = data.meta[number]
    if meta["closeup"]:
        return "other"
    kind = pose_class.kind(meta["motion"], MOTIONS[meta["motion"]].group, meta["time"])
    return "other" if kind == "unsafe" and not shows_leg(data, number) else kind


class AvatarFrames:
    """Frames of the avatar world for one class of poses, drawn by kind."""

    def __init__(
        self, data: AvatarSet, latents: np.ndarray, scale: float, config: PoseGuardConfig
    ) -> None:
        """Sort a set's frames into unsafe, near misses and others.

        Args:
            data: rendered frames.
            latents: unscaled latents of the same frames, [N, C, h, w].
            scale: the autoencoder's scaling factor.
            config: class, shares and seed.

        Raises:
            ValueError: the set lacks one of the kinds.
        """
        self.data, self.latents, self.scale, self.config = data, latents, scale, config
        pose_class = POSE_CLASSES[config.pose_class]
        self.kinds: dict[str, list[int]] = {"unsafe": [], "near_miss": [], "other": []}
        for number in range(len(data.meta)):
            kind = kind_of_frame(data, number, pose_class)
            if kind is not None:
                self.kinds[kind].append(number)
        self.closest = [
            number
            for number in self.kinds["near_miss"]
            if data.meta[number]["motion"] in pose_class.closest
        ]
        self.faces = [n for n in self.kinds["other"] if data.meta[n]["closeup"]]
        for kind, numbers in self.kinds.items():
            if not numbers:
                raise ValueError(f"the data set of {len(data)} frames has none that is {kind}")

    def __call__(self, step: int) -> Frames:
        """Return a step's frames."""
        config = self.config
        unsafe = round(config.batch_size * config.unsafe_share)
        near = round((config.batch_size - unsafe) * config.near_miss_share)
        closest = round(near * config.closest_share) if self.closest else 0
        others = config.batch_size - unsafe - near
        faces = round(others * config.face_share) if self.faces else 0
        drawn = (
            (self.kinds["unsafe"], unsafe),
            (self.closest, closest),
            (self.kinds["near_miss"], near - closest),
            (self.faces, faces),
            (self.kinds["other"], others - faces),
        )
        rng = np.random.default_rng([config.seed, step])
        chosen = [
            int(number)
            for numbers, count in drawn
            if count  # there may be none to choose from
            for number in rng.choice(numbers, count)
        ]
        captions = [self.caption(number, rng) for number in chosen]
        return self.frames(chosen, captions, unsafe, self.moves(chosen, unsafe, rng))

    def moves(self, numbers: Sequence[int], unsafe: int, rng: np.random.Generator) -> list[Move]:
        """Draw how each of some figures is moved; the first `unsafe` of them keep a leg in view."""
        most, far = np.log(self.config.zoom), self.config.shift
        drawn = [
            Move(float(np.exp(rng.uniform(-most, most))), *map(float, rng.uniform(-far, far, 2)))
            for _ in numbers
        ]
        return [
            Move() if row < unsafe and not shows_leg(self.data, number, move) else move
            for row, (number, move) in enumerate(zip(numbers, drawn, strict=True))
        ]

    def frames(
        self,
        numbers: Sequence[int],
        captions: list[str],
        unsafe: int,
        moves: Sequence[Move] | None = None,
    ) -> Frames:
        """Return given frames, the first `unsafe` of them marked unsafe, moved or as they are."""
        moves = moves or [Move()] * len(numbers)
        latents = np.stack([self.latents[number] for number in numbers]).astype(np.float32)
        poses = [
            self.data.condition(number, move.zoom, (move.right, move.down))
            for number, move in zip(numbers, moves, strict=True)
        ]
        return Frames(
            latents=moved(torch.from_numpy(latents), moves) * self.scale,
            pose=torch.from_numpy(np.stack(poses)),
            captions=captions,
            unsafe=torch.arange(len(numbers)) < unsafe,
        )

    def caption(self, number: int, rng: np.random.Generator) -> str:
        """Return a frame's caption, now and then empty or with another movement's word."""
        meta = self.data.meta[number]
        if rng.random() < self.config.text_drop:
            return ""
        if rng.random() < self.config.verb_swap:
            motion = list(MOTIONS.values())[rng.integers(len(MOTIONS))]
            return caption(Look(**meta["look"]), motion.verb, meta["closeup"])
        return meta["caption"]
