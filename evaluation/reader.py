"""A small network that reads pictures of avatars: where the joints are, and what is worn and held.

It judges generated pictures by what was asked for: 18 OpenPose joints from heatmaps with integral
regression (Sun et al. 2018, "Integral Human Pose Regression", arXiv 1711.08229; at inference over
a window around the peak, so that two rival peaks are not averaged, and over the picture and its
mirror image), and one classifier an attribute
on features pooled by its own spatial attention. It is trained on rendered avatars by
``python -m worlds.train reader`` and ships in ``assets/reader``.

Of `worlds` this module takes only the vocabulary tables: they define what there is to read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from pipelines.device import autocast
from pipelines.fetch import MissingWeights
from pipelines.loading import loading
from pipelines.paths import ASSETS
from worlds.looks import (
    BACKGROUNDS,
    CLOTH,
    HAIR,
    HAIRSTYLES,
    HATS,
    LEGS,
    PATTERNS,
    PROPS,
    SKIN,
    SLEEVES,
    STYLES,
)

SIZE = 256
"""Side in pixels of the pictures that the network takes."""

HEATMAP = 64
"""Side in cells of its heatmaps; a cell is ``SIZE / HEATMAP`` pixels wide."""

JOINTS = 18

ATTRIBUTES: dict[str, tuple[str | bool, ...]] = {
    "top": tuple(CLOTH),
    "bottom": tuple(CLOTH),
    "skin": tuple(SKIN),
    "hair": tuple(HAIR),
    "hairstyle": HAIRSTYLES,
    "sleeve": tuple(SLEEVES),
    "leg": tuple(LEGS),
    "pattern": PATTERNS,
    "prop": PROPS,
    "hat": HATS,
    "glasses": (False, True),
    "background": BACKGROUNDS,
    "style": STYLES,
}
"""What is read besides joints: fields of `worlds.looks.Look` and the values they take."""

WEIGHTS = ASSETS / "reader"
TRAIN_COMMAND = "python -m worlds.train reader"

MIRRORED = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
"""For each joint the one that it is in the mirror."""

_ATTENTION_MAPS = 2  # regions an attribute looks at
_WINDOW = 5  # cells; side of the window around a heatmap's peak
# Joints as numbered in pipelines.pose.JOINTS.
_FACE, _NECK, _SHOULDERS, _ELBOWS = [0, 14, 15], 1, [2, 5], [3, 6]
_RIGHT_WRIST, _HIPS, _KNEES = 4, [8, 11], [9, 12]
_LEFT_SHOULDER, _RIGHT_HIP = 5, 8


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    padding = 0 if size == stride else size // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(self.first(x)))


class ReaderNet(nn.Module):
    """Backbone, feature pyramid, heatmaps and attention-pooled attribute classifiers.

    Levels of 32, 16 and 8 cells a side are fused from coarse to fine; each cell of the finest gives
    2 × 2 cells of the heatmaps (sub-pixel convolution, Shi et al. 2016, arXiv 1609.05158), which
    halves the cost of fusing at 64. Batch normalisation, since the backward pass of group
    normalisation is slow on CPUs.

    Args:
        widths: channels of the stem (64 cells a side) and of the three levels.
        fused: channels of the fused features.
    """

    def __init__(
        self, widths: tuple[int, int, int, int] = (32, 64, 128, 136), fused: int = 64
    ) -> None:
        super().__init__()
        self.widths, self.fused = tuple(widths), fused
        one, two, three, four = widths
        self.stem = nn.Sequential(_conv(3, one, 4, 4), _conv(one, one))
        self.levels = nn.ModuleList(
            (
                nn.Sequential(_conv(one, two, 3, 2), _Residual(two), _Residual(two)),
                nn.Sequential(_conv(two, three, 3, 2), _Residual(three), _Residual(three)),
                nn.Sequential(_conv(three, four, 3, 2), _Residual(four)),
            )
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, fused, 1) for width in widths[1:])
        self.smooth = nn.ModuleList(_conv(fused, fused) for _ in range(2))
        self.heatmaps = nn.Conv2d(fused, 4 * JOINTS, 1)
        self.attention = nn.Conv2d(fused, _ATTENTION_MAPS * len(ATTRIBUTES), 1)
        pooled = _ATTENTION_MAPS * (fused + two) + four
        self.heads = nn.ModuleDict(
            {name: nn.Linear(pooled, len(values)) for name, values in ATTRIBUTES.items()}
        )

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Read pictures.

        Args:
            pictures: float [B, 3, 256, 256] in -1..1.

        Returns:
            Heatmap logits, float32 [B, 18, 64, 64], and class logits of each attribute, float32
            [B, classes].
        """
        features = self._backbone(pictures)
        x = self.lateral[2](features[-1])
        for i in (1, 0):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest") + self.lateral[i](features[i])
            x = self.smooth[i](x)
        # The softmax over the cells is taken in float32. The two sorts of features are pooled
        # apart: concatenating them first makes the backward pass of the backbone slow.
        attention = self.attention(x).float().flatten(2).softmax(-1)
        pooled = [torch.bmm(attention, f.flatten(2).mT.to(attention)) for f in (x, features[0])]
        with torch.autocast(x.device.type, enabled=False):
            regions = torch.cat([p.float() for p in pooled], 2)
            regions = regions.unflatten(1, (len(ATTRIBUTES), _ATTENTION_MAPS)).flatten(2)
            whole = _whole(features)
            attributes = {
                name: head(torch.cat([regions[:, i], whole], 1))
                for i, (name, head) in enumerate(self.heads.items())
            }
        return F.pixel_shuffle(self.heatmaps(x).float(), 2), attributes

    def summary(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the coarsest level's features, averaged over the picture.

        Every attribute's classifier takes them in, beside those of its own regions.

        Args:
            pictures: float [B, 3, 256, 256] in -1..1.

        Returns:
            float32 [B, widths[3]].
        """
        return _whole(self._backbone(pictures))

    def _backbone(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of the three levels, fine to coarse."""
        features, x = [], self.stem(pictures)
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


def _whole(features: list[torch.Tensor]) -> torch.Tensor:
    return features[-1].float().mean((2, 3))


def soft_argmax(heatmaps: torch.Tensor) -> torch.Tensor:
    """Return the mean position under each heatmap's softmax, in pixels of the 256 px picture.

    Args:
        heatmaps: logits [B, J, 64, 64].

    Returns:
        float32 [B, J, 2], x then y; differentiable.
    """
    share = heatmaps.flatten(2).softmax(-1).view_as(heatmaps)
    return _mean_position(share)


def peaks(heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where each heatmap peaks, and how much of it lies there.

    Args:
        heatmaps: logits [B, J, 64, 64].

    Returns:
        Positions float32 [B, J, 2] in pixels of the 256 px picture, x then y (mean over 5 × 5 cells
        around the peak), and the share of the softmax in that window, [B, J] in 0..1.
    """
    share = heatmaps.flatten(2).softmax(-1)
    best = share.argmax(-1)[..., None, None]
    side = heatmaps.shape[-1]
    cells = torch.arange(side, device=heatmaps.device)
    near_row = (cells[:, None] - best // side).abs() <= _WINDOW // 2
    near_column = (cells[None, :] - best % side).abs() <= _WINDOW // 2
    window = share.view_as(heatmaps) * (near_row & near_column)
    mass = window.sum((2, 3))
    return _mean_position(window / mass[..., None, None]), mass


def _mean_position(share: torch.Tensor) -> torch.Tensor:
    """Return the mean cell of distributions [B, J, 64, 64], in pixels, [B, J, 2]."""
    cell = SIZE / share.shape[-1]
    centres = (torch.arange(share.shape[-1], device=share.device) + 0.5) * cell - 0.5
    return torch.stack([share.sum(2) @ centres, share.sum(3) @ centres], -1)


@dataclass(frozen=True)
class Reading:
    """What was read in N pictures.

    Attributes:
        keypoints: float32 [N, 18, 2], pixels of the pictures read.
        confidence: float32 [N, 18] in 0..1, the share of the joint's heatmap at its peak.
        attributes: name → the N values read, entries of `ATTRIBUTES`.
    """

    keypoints: NDArray[np.float32]
    confidence: NDArray[np.float32]
    attributes: dict[str, list[str | bool]]


class Reader:
    """A trained `ReaderNet` with its reading conventions. Safe to share between threads."""

    def __init__(self, net: ReaderNet) -> None:
        self.net = net.eval()

    @classmethod
    @loading()
    def load(cls, folder: Path = WEIGHTS) -> Reader:
        """Load a reader's folder: ``reader.safetensors`` and ``reader.json``.

        Raises:
            MissingWeights: a file is not there.
            ValueError: it was trained on another vocabulary than this code's.
        """
        for file in (folder / "reader.safetensors", folder / "reader.json"):
            if not file.is_file():
                raise MissingWeights("The picture reader", file, TRAIN_COMMAND)
        record = json.loads((folder / "reader.json").read_text())
        vocabulary = {name: list(values) for name, values in ATTRIBUTES.items()}
        if record["attributes"] != vocabulary:
            raise ValueError(
                f"attributes in {folder.name}/reader.json are not the vocabulary of worlds.looks; "
                f"train again: {TRAIN_COMMAND}"
            )
        net = ReaderNet(tuple(record["widths"]), record["fused"])
        state = load_file(folder / "reader.safetensors")
        # Stored in float16; the network runs in float32 or autocast.
        net.load_state_dict({k: v.float() if v.is_floating_point() else v
                             for k, v in state.items()})
        return cls(net)

    @torch.inference_mode()
    def read(self, pictures: NDArray[np.uint8], batch: int = 32) -> Reading:
        """Read pictures of any square size.

        Args:
            pictures: RGB uint8 [N, S, S, 3].
            batch: pictures at once.

        Raises:
            ValueError: shape or type are wrong.
        """
        _check_pictures(pictures)
        keypoints, confidence = [], []
        classes: dict[str, list[int]] = {name: [] for name in ATTRIBUTES}
        for start in range(0, len(pictures), batch):
            x = to_network(pictures[start : start + batch])
            heatmaps, attributes = self._both_ways(x)
            where, mass = peaks(heatmaps)
            keypoints.append(where.numpy())
            confidence.append(mass.numpy())
            for name, logits in attributes.items():
                classes[name] += logits.argmax(1).tolist()
        scale = pictures.shape[1] / SIZE
        # Pixel centres have whole numbers, so scaling is about the corner at (-0.5, -0.5).
        return Reading(
            (np.concatenate(keypoints) + 0.5) * scale - 0.5,
            np.concatenate(confidence),
            {name: [ATTRIBUTES[name][i] for i in found] for name, found in classes.items()},
        )

    def _both_ways(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run the network on pictures and on their mirror images; mean logits, as `ReaderNet`'s.

        The "flip test" of pose estimators (Sun et al. 2019, HRNet, arXiv 1902.09212, section 4.1).
        """
        with autocast(torch.device("cpu")):
            heatmaps, attributes = self.net(x)
            mirrored, others = self.net(x.flip(-1))
        heatmaps = (heatmaps + mirrored.flip(-1)[:, MIRRORED]) / 2
        return heatmaps, {name: (a + others[name]) / 2 for name, a in attributes.items()}

    @torch.inference_mode()
    def features(self, pictures: NDArray[np.uint8], batch: int = 32) -> NDArray[np.float32]:
        """Return `ReaderNet.summary` of pictures of any square size, float32 [N, widths[3]].

        Args:
            pictures: RGB uint8 [N, S, S, 3].
            batch: pictures at once.

        Raises:
            ValueError: shape or type are wrong.
        """
        _check_pictures(pictures)
        found = []
        for start in range(0, len(pictures), batch):
            with autocast(torch.device("cpu")):
                found.append(self.net.summary(to_network(pictures[start : start + batch])).numpy())
        return np.concatenate(found)


def _check_pictures(pictures: NDArray[np.uint8]) -> None:
    square = pictures.ndim == 4 and pictures.shape[1] == pictures.shape[2]
    if not square or pictures.shape[3] != 3 or pictures.dtype != np.uint8 or not len(pictures):
        raise ValueError(
            f"pictures are {pictures.dtype} of shape {pictures.shape}; wanted uint8 "
            f"[N, S, S, 3] with N at least 1"
        )


def to_network(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Bring RGB uint8 [N, S, S, 3] to what `ReaderNet` takes, float32 [N, 3, 256, 256] in -1..1."""
    side = pictures.shape[1]
    if side != SIZE:
        how = cv2.INTER_AREA if side > SIZE else cv2.INTER_LINEAR
        pictures = np.stack([cv2.resize(p, (SIZE, SIZE), interpolation=how) for p in pictures])
    x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).contiguous()
    return x.float() / 127.5 - 1


def applicable(confidence: NDArray[Any], closeup: bool = False) -> dict[str, bool]:
    """Say which attributes a picture can show, from the joints that lie in its frame.

    Whether a thing is seen must not depend on what it is, or the missing ones would give it away;
    so the rules ask for joints alone: legs need a knee in the frame, glasses a face that is turned
    to the viewer, a prop the right wrist that holds it.

    Args:
        confidence: [18] of the asked or rendered joints; 0 is out of the frame or looking away.
        closeup: whether the picture is a close-up of the face.
    """
    seen = np.asarray(confidence) > 0
    knee, shoulder = bool(seen[_KNEES].any()), bool(seen[_SHOULDERS].any())
    body = not closeup
    return {
        "top": shoulder,
        "bottom": body and (knee or bool(seen[_HIPS].all())),
        "skin": True,
        "hair": bool(seen[_NECK] or seen[_FACE].any()),
        "hairstyle": bool(seen[_NECK] or seen[_FACE].any()),
        "sleeve": body and bool(seen[_ELBOWS].any()),
        "leg": body and knee,
        "pattern": body and shoulder,
        "prop": body and bool(seen[_RIGHT_WRIST]),
        "hat": bool(seen[_NECK] or seen[_FACE].any()),
        "glasses": bool(seen[_FACE].all()),
        "background": True,
        "style": True,
    }


def pck(
    asked: NDArray[Any], confidence: NDArray[Any], found: NDArray[Any], fraction: float = 0.1
) -> float:
    """Percentage of correct keypoints: the share of joints found within ``fraction`` of the torso.

    Yang and Ramanan 2013 ("Articulated Human Detection with Flexible Mixtures of Parts"), relative
    to the torso's length, left shoulder to right hip of the asked skeleton, as in Sapp and Taskar
    2013 ("MODEC"). Joints of confidence 0 are not asked for, and pictures where an end of the torso
    is not are left out.

    Args:
        asked: [N, 18, 2] in pixels.
        confidence: [N, 18] of the asked joints.
        found: [N, 18, 2] in the same pixels.
        fraction: of the torso's length.

    Returns:
        0..1; NaN where no picture could be measured.
    """
    correct = keypoint_hits(asked, confidence, found, fraction)
    return float(np.nanmean(correct)) if np.isfinite(correct).any() else float("nan")


def keypoint_hits(
    asked: NDArray[Any], confidence: NDArray[Any], found: NDArray[Any], fraction: float = 0.1
) -> NDArray[np.float64]:
    """Judge every joint as in `pck`: float [N, 18], 1 right, 0 wrong, NaN not judged."""
    asked, confidence = np.asarray(asked, float), np.asarray(confidence)
    torso = np.linalg.norm(asked[:, _LEFT_SHOULDER] - asked[:, _RIGHT_HIP], axis=-1)
    measured = (confidence[:, [_LEFT_SHOULDER, _RIGHT_HIP]] > 0).all(1)
    distance = np.linalg.norm(asked - np.asarray(found, float), axis=-1)
    hits = (distance <= fraction * torso[:, None]).astype(float)
    hits[~(measured[:, None] & (confidence > 0))] = np.nan
    return hits


def attribute_accuracy(
    reading: Reading, looks: list[Mapping[str, Any]], shown: list[Mapping[str, bool]]
) -> dict[str, float]:
    """Share of pictures in which an attribute was read as it was asked for.

    Args:
        reading: of N pictures.
        looks: what was asked for, N mappings that have the names of `ATTRIBUTES`.
        shown: which attributes each picture can show, from `applicable`.

    Returns:
        name → 0..1; attributes that no picture can show are left out.

    Raises:
        ValueError: the numbers of pictures differ.
    """
    if not len(reading.keypoints) == len(looks) == len(shown):
        raise ValueError(
            f"reading has {len(reading.keypoints)} pictures, looks {len(looks)}, shown "
            f"{len(shown)}; wanted as many of each"
        )
    accuracy = {}
    for name, found in reading.attributes.items():
        right = [
            value == look[name]
            for value, look, can in zip(found, looks, shown, strict=True)
            if can[name]
        ]
        if right:
            accuracy[name] = sum(right) / len(right)
    return accuracy
