"""Training of the picture reader (`evaluation.reader`) on rendered avatars.

Loss: cross-entropy of each joint's heatmap against a Gaussian of 1.25 cells plus the L1 distance of
its soft-argmax (both weighted by the joint's confidence), plus the cross-entropy of every attribute
that the picture can show. Pictures are moved, mirrored, recoloured and degraded (resampled,
blurred, JPEG, noise), so that the reader does not stumble over what a decoder leaves behind.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from evaluation.reader import (
    ATTRIBUTES,
    HEATMAP,
    MIRRORED,
    SIZE,
    WEIGHTS,
    Reader,
    ReaderNet,
    applicable,
    attribute_accuracy,
    pck,
    soft_argmax,
    to_network,
)
from worlds.data import HELD_OUT_SEED, AvatarSet, build
from worlds.loop import TrainingLoop

SIGMA = 1.25
"""Standard deviation of the target heatmaps, in cells."""

IGNORED = -100
"""Class of an attribute that a picture cannot show (cross-entropy's own ignore_index)."""

_RECALIBRATION_BATCHES = 24


def move(image: np.ndarray, keypoints: np.ndarray, scale: float, dx: float,
         dy: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale a picture about its centre and shift it, joints included.

    Args:
        image: uint8 [256, 256, 3].
        keypoints: [18, 3] x, y, confidence; joints that leave the frame get confidence 0.
        scale: above 1 is larger.
        dx: pixels to the right.
        dy: pixels down.
    """
    centre = (SIZE - 1) / 2
    shift = np.array([dx, dy]) + centre * (1 - scale)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    moved = cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REPLICATE)
    points = keypoints.copy()
    points[:, :2] = points[:, :2] * scale + shift
    points[~((points[:, :2] >= 0) & (points[:, :2] < SIZE)).all(1), 2] = 0
    return moved, points


def mirror(image: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror a picture left to right; the person's right joints become left ones."""
    points = keypoints[MIRRORED].copy()
    points[:, 0] = SIZE - 1 - points[:, 0]
    return image[:, ::-1], points


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Recolour a picture slightly and lose some of its detail, uint8 in and out."""
    kind = rng.random()
    if kind < 0.25:
        side = int(rng.integers(72, 200))
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    elif kind < 0.40:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6))
    elif kind < 0.55:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 85))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    if rng.random() < 0.25:
        # Noise of a half or a quarter of the resolution too: decoders err in patches.
        side = SIZE // int(rng.choice([1, 2, 4]))
        noise = rng.standard_normal((side, side, 3), np.float32) * np.float32(rng.uniform(2, 10))
        noise = cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    gain = (1 + rng.normal(0, 0.03) + rng.normal(0, 0.015, 3)).astype(np.float32)
    table = np.clip(np.arange(256)[:, None] * gain + rng.normal(0, 3), 0, 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table[:, None])


def classes_of(look: dict, shown: dict[str, bool]) -> list[int]:
    """Class numbers of a look in the order of `ATTRIBUTES`; `IGNORED` where not shown."""
    return [values.index(look[name]) if shown[name] else IGNORED
            for name, values in ATTRIBUTES.items()]


def draw_batch(data: AvatarSet, count: int, rng: np.random.Generator) -> tuple:
    """Draw augmented pictures.

    Returns:
        Pictures [B, 3, 256, 256] in -1..1, joints [B, 18, 3], classes int64 [B, attributes].
    """
    images, joints, classes = [], [], []
    for i in rng.integers(len(data), size=count):
        image, points = move(data.images[i], data.keypoints[i], rng.uniform(0.88, 1.12),
                             rng.uniform(-20, 20), rng.uniform(-10, 10))
        shown = applicable(points[:, 2], data.meta[i]["closeup"])
        classes.append(classes_of(data.meta[i]["look"], shown))
        if rng.random() < 0.5:
            image, points = mirror(image, points)
        images.append(degrade(image, rng))
        joints.append(points)
    return (to_network(np.stack(images)), torch.from_numpy(np.stack(joints)).float(),
            torch.tensor(classes))


def batches(data: AvatarSet, count: int, rng: np.random.Generator) -> Iterator[tuple]:
    """Draw batches without end, one ahead of the trainer."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(draw_batch, data, count, rng)
        while True:
            ready = ahead.result()
            ahead = pool.submit(draw_batch, data, count, rng)
            yield ready


def target_heatmaps(joints: torch.Tensor) -> torch.Tensor:
    """Gaussians [B, 18, 64, 64] that sum to 1, at joints [B, 18, 2] in pixels."""
    cells = torch.arange(HEATMAP, device=joints.device)
    where = (joints + 0.5) * HEATMAP / SIZE - 0.5
    column = torch.exp(-(cells - where[..., :1]).square() / (2 * SIGMA**2))
    row = torch.exp(-(cells - where[..., 1:]).square() / (2 * SIGMA**2))
    column, row = (x / x.sum(-1, keepdim=True).clamp_min(1e-6) for x in (column, row))
    return row[..., :, None] * column[..., None, :]


def reading_loss(heatmaps: torch.Tensor, attributes: dict[str, torch.Tensor],
                 joints: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Loss of a batch.

    Args:
        heatmaps: logits [B, 18, 64, 64].
        attributes: name → logits [B, classes].
        joints: [B, 18, 3] x, y in pixels, confidence (the weight).
        classes: int64 [B, attributes] in the order of `ATTRIBUTES`.
    """
    weight = joints[..., 2] / joints[..., 2].sum().clamp_min(1)
    log_share = heatmaps.flatten(2).log_softmax(-1)
    cross = -(target_heatmaps(joints[..., :2]).flatten(2) * log_share).sum(-1)
    distance = (soft_argmax(heatmaps) - joints[..., :2]).abs().sum(-1) * HEATMAP / SIZE
    loss = (weight * (cross + 0.5 * distance)).sum()
    for i, name in enumerate(ATTRIBUTES):
        if (classes[:, i] != IGNORED).any():
            loss = loss + 0.4 * F.cross_entropy(attributes[name], classes[:, i],
                                                ignore_index=IGNORED)
    return loss


def figures(reader: Reader, data: AvatarSet, count: int | None = None) -> dict:
    """Measure a reader on the first ``count`` pictures of a rendered set.

    Returns:
        ``pck`` (PCK@0.1), ``attributes`` (mean accuracy), ``attribute_by_name``, ``n_frames``.
    """
    count = min(len(data), count or len(data))
    meta, joints = data.meta[:count], np.asarray(data.keypoints[:count])
    reading = reader.read(np.asarray(data.images[:count]))
    shown = [applicable(joints[i, :, 2], meta[i]["closeup"]) for i in range(count)]
    by_name = attribute_accuracy(reading, [m["look"] for m in meta], shown)
    return {"pck": round(pck(joints[..., :2], joints[..., 2], reading.keypoints), 4),
            "attributes": round(float(np.mean(list(by_name.values()))), 4),
            "attribute_by_name": {k: round(v, 4) for k, v in by_name.items()},
            "n_frames": count}


@torch.no_grad()
def recalibrate(net: ReaderNet, drawn: Iterator[tuple], count: int) -> None:
    """Take the batch normalisation's statistics anew, for the weights that the net now holds."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches that follow
    net.train()
    where = next(net.parameters()).device
    for _ in range(count):
        net(next(drawn)[0].to(where))
    for norm in norms:
        norm.momentum = 0.1
    net.eval()


def save_reader(net: ReaderNet, folder: Path, record: dict) -> None:
    """Write ``reader.safetensors`` (float16) and ``reader.json`` (shape, vocabulary, record)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().half().contiguous() if v.is_floating_point() else v
             for k, v in net.state_dict().items()}
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"weight {name} is not finite in float16; train with a lower rate")
    save_file(state, folder / "reader.safetensors")
    (folder / "reader.json").write_text(json.dumps({**_shape(net), **record}, indent=2) + "\n")


def _reader(net: ReaderNet) -> Reader:
    """Return what reads with a network as it is now, on the CPU, where a `Reader` works."""
    return Reader(copy.deepcopy(net).cpu())


def _shape(net: ReaderNet) -> dict:
    """What a reader's record says of its network, besides how it was trained."""
    return {"widths": net.widths, "fused": net.fused, "attributes": ATTRIBUTES}


def _command(args: argparse.Namespace) -> str:
    words = ["python -m worlds.train reader", f"--max-minutes {args.max_minutes:g}"]
    words += [f"--frames {args.frames} --seed {args.seed}"]
    if args.from_export:
        words.append("--from-export")
    if args.muon:
        words.append("--muon")
    if args.learning_rate is not None:
        words.append(f"--learning-rate {args.learning_rate:g}")
    return " ".join(words)


def train(args: argparse.Namespace, work: Path, export: Path = WEIGHTS) -> None:
    """Train for ``args.max_minutes`` and write the reader, with its figures, to ``export``.

    ``args.from_export`` goes on from the reader that is there, whose record is kept as ``parent``.
    """
    torch.manual_seed(args.seed)
    data = build(work / "data/frames", args.frames)
    held_out = build(work / "data/frames-heldout", max(4, args.frames // 20), seed=HELD_OUT_SEED)
    net, parent = ReaderNet(), {}
    if args.from_export:
        net = Reader.load(export).net
        record = json.loads((export / "reader.json").read_text())
        parent = {"parent": {k: v for k, v in record.items() if k not in _shape(net)}}
    batch = args.batch or 24
    loop = TrainingLoop(net, work / "reader", args.max_minutes, args.learning_rate or 2e-3,
                        args.resume, args.muon, save_every_seconds=60)
    rng = loop.generator(args.seed, 3)
    drawn = batches(data, batch, rng)
    for step in loop:
        net.train()
        pictures, joints, classes = (part.to(loop.device) for part in next(drawn))
        with loop.accelerator.autocast():
            heatmaps, attributes = net(pictures)
        loop.backward(reading_loss(heatmaps, attributes, joints, classes))
        if step % 150 == 0:
            net.eval()
            found = figures(_reader(net), held_out, 100)
            print(f"step {step} {loop.seconds / 60:.1f} min loss {loop.recent_loss():.3f} "
                  f"held-out pck {found['pck']:.3f} attributes {found['attributes']:.3f}",
                  flush=True)
    with loop.averaged():
        recalibrate(net, drawn, _RECALIBRATION_BATCHES)
        record = {
            "command": _command(args),
            "seed": args.seed, "steps": loop.step, "batch": batch, "frames": len(data),
            "minutes": round(loop.seconds / 60, 2),
            "versions": {name: version(name) for name in ("torch", "numpy", "accelerate")},
            "held_out": figures(_reader(net), held_out),
            **parent,
        }
        save_reader(net, export, record)
    print(json.dumps(record["held_out"]), flush=True)
