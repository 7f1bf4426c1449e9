"""Measure Avatar-SD on scenes that no training run saw: ``python -m evaluation.avatar_sd``.

Two held-out sets are rendered once, from seeds apart from all training sets: single frames for the
autoencoder alone and for the picture reader that judges the rest (`evaluation.reader`), and clips
whose skeletons and captions are asked of `AnimationEngine` at the product's own settings. The third
set, ``assets/poses-unseen``, has movements, bodies and cameras that no training set has
(`worlds.unseen`). Of `worlds` only the renderer and its sets are used, never its training code.

What is reported, as one JSON object in the last line:

========================= ==========================================================================
psnr_db, ssim             rendered frame against its reconstruction by the autoencoder (posterior
                          mode), mean over frames (SSIM: Wang et al. 2004, window of 7 px)
pck                       PCK@0.1 of the torso between asked joints and those found in generated
                          clips, all frames
attributes                how often what the caption asks for is read in generated frames, mean over
attribute_by_name         the attributes, and each
finder_pck_clips,         the same figures of the reader itself on the same clips rendered: what is
finder_attributes_clips   not found there cannot be asked of generated ones
finder_pck,               and on the held-out single frames, of which a tenth are close-ups, as no
finder_attributes,        clip is
finder_attribute_by_name
flicker_ratio,            frame-to-frame change of generated clips over that of the same clips
flicker_by_part           rendered: background, and mean colour of top and of bottom; the worst
identity                  share of a clip's frames whose attributes read like the clip's majority
pck_unseen,               pck of clips generated from the unseen poses, all and each, and their
pck_unseen_by_clip,       attributes
attributes_unseen
finder_pck_unseen         PCK of the reader itself on the same movements as the renderer draws them,
                          in the doll's own body: bodies and cameras of the set cannot be drawn
pck_unseen_readable       pck_unseen of those joints alone that the reader finds when drawn so
attributes_closeups,      attributes of face close-ups, generated as clips that stand still, in
finder_closeups           their middle frame, and of the same close-ups rendered
frechet, frechet_floor    Fréchet distance of generated from rendered clips in the reader's pooled
                          coarsest features (136 numbers), and of rendered from other rendered
                          clips; only the two together, of one run and one reader, mean anything,
                          and little with ``--quick``, whose halves are three clips
n_frames, n_clips,        how many of each were measured
n_unseen, n_closeups
steps, guidance_scale,    settings of the clips; redraw: whether their details were redrawn
guidance_interval, redraw (`pipelines.refine`; not with ``--as-drawn``)
seconds                   the whole run
========================= ==========================================================================

What could not be measured is null: all that the reader judges, where its weights are missing, and,
with ``--poses FOLDER`` (any OpenPose JSON clips or photographs), all that takes a rendering to
compare with.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from evaluation.psnr import mean_psnr
from evaluation.reader import (
    Reader,
    Reading,
    applicable,
    attribute_accuracy,
    keypoint_hits,
    pck,
)
from pipelines.animation import AnimationEngine, PairResult
from pipelines.extract import extract_pose, load_picture
from pipelines.fetch import MissingWeights
from pipelines.paths import REPO
from pipelines.pose import PoseClip, PoseError
from pipelines.pose_json import load_openpose_json
from pipelines.profiles import get_profile
from worlds.data import HELD_OUT_SEED, TEST_SEED, AvatarSet, build
from worlds.looks import Look, caption, random_look
from worlds.render import Frame
from worlds.unseen import RECIPES, UNSEEN_POSES, drawn

Frames = NDArray[np.uint8]

N_FRAMES, N_CLIPS = 600, 64
"""Sizes of the held-out sets."""

QUICK = 10
"""``--quick`` measures the first of so many parts of each set."""

CLOSEUPS = 20
"""Face close-ups that are measured; each takes as long as a clip. ``--quick``: a tenth."""

QUICK_UNSEEN = 6
"""``--quick`` takes each of so many unseen clips: one computed, one with errors, one extracted."""

CLIP_SEED = TEST_SEED + 500_009
"""First scene of the test clips."""

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of the photographs that ``--poses`` takes."""

POSES_SEED = HELD_OUT_SEED + 900_001
"""Draws the prompt of the first clip of ``--poses``."""

PARTS = ("background", "top", "bottom")
"""Parts of a picture whose flicker is measured."""

_SHEET_SIDE = 160  # pixels of a picture in the contact sheet
_SHEET_COLUMNS = 10
_TORSO = [2, 5, 11, 8]  # shoulders and hips, around
_THIGHS = ((8, 9), (11, 12))


@dataclass(frozen=True)
class Scene:
    """A held-out clip: what is asked of the model, and how it looks rendered.

    Attributes:
        pose: its joints, in pixels of the model's frame, as many frames as the model makes.
        judged: bool [F, 18], joints that are asked for and truly there: the pose bridges short
            gaps, but a joint that was interpolated is not held against the model.
        caption: the prompt.
        look: what the caption says, the fields of `worlds.looks.Look`.
        rendered: RGB uint8 [F, S, S, 3]; None where nothing was rendered.
        figure: bool [F, S, S], where the rendered figure is; None likewise.
    """

    pose: PoseClip
    judged: NDArray[np.bool_]
    caption: str
    look: dict[str, Any]
    rendered: Frames | None = None
    figure: NDArray[np.bool_] | None = None


def scenes(data: AvatarSet, count: int, size: int, frames: int) -> Iterator[Scene]:
    """Bring the first ``count`` clips of a set to the model's frame size and number of frames."""
    for clip in list(data.clips())[:count]:
        joints = np.asarray(data.keypoints[clip.start : clip.stop])
        side = data.images.shape[1]
        whole = PoseClip(joints[..., :2], joints[..., 2], None, side, side)
        nearest = np.linspace(0, len(clip) - 1, frames).round().astype(int)
        pose = whole.to_square(size).resample(frames)
        chosen = [clip[i] for i in nearest]
        masks = np.stack([data.mask(i) for i in chosen]).astype(np.uint8)
        yield Scene(
            pose,
            pose.seen & whole.seen[nearest],
            data.meta[clip[0]]["caption"],
            data.meta[clip[0]]["look"],
            resized(np.stack([data.images[i] for i in chosen]), size),
            resized(masks * 255, size) > 127,
        )


def resized(pictures: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring square pictures, uint8 [N, S, S] or [N, S, S, 3], to ``size`` pixels a side."""
    if pictures.shape[1] == size:
        return pictures
    how = cv2.INTER_AREA if pictures.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(p, (size, size), interpolation=how) for p in pictures])


def reconstruct(engine: AnimationEngine, pictures: Frames, batch: int = 8) -> Frames:
    """Encode (posterior mode) and decode pictures by the engine's autoencoder, as it runs there.

    Args:
        engine: holds the autoencoder.
        pictures: RGB uint8 [N, S, S, 3], S divisible by the autoencoder's reduction.
        batch: pictures at once.
    """
    vae, out = engine.pipe.vae, []
    for start in range(0, len(pictures), batch):
        x = torch.from_numpy(np.array(pictures[start : start + batch])).permute(0, 3, 1, 2)
        x = (x.float() / 127.5 - 1).to(engine.device, engine.dtype)
        with torch.inference_mode():
            y = vae.decode(vae.encode(x).latent_dist.mode()).sample
        y = ((y.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        out.append(y.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


def fidelity(pictures: Frames, copies: Frames) -> tuple[float, float]:
    """Mean PSNR in dB and mean SSIM of uint8 pictures [N, S, S, 3] and their copies.

    SSIM takes sixty times as long as `evaluation.psnr` alone.
    """
    similarity = [
        structural_similarity(one, other, channel_axis=2, data_range=255)
        for one, other in zip(pictures, copies, strict=True)
    ]
    return mean_psnr(pictures, copies), float(np.mean(similarity))


def generate(engine: AnimationEngine, scene: Scene, seed: int) -> PairResult:
    """Make a scene's clip at the profile's own settings, unguarded."""
    *_, result = engine.pair(scene.pose, scene.caption, {}, seed)
    return result


def flicker(frames: Frames, scene: Scene) -> dict[str, float]:
    """Frame-to-frame change of a clip that shows a scene, in grey levels of 0..255.

    The background is what neither frame's rendered figure covers, with a margin of a sixteenth of
    the picture for a figure that stands a little elsewhere. A garment's colour is the mean over the
    inner torso, or over the upper thighs, of the asked skeleton.

    Args:
        frames: RGB uint8 [F, S, S, 3], generated or rendered.
        scene: the scene that it shows, with its rendering.

    Returns:
        Mean change of each of `PARTS` over the pairs of frames; NaN where it is never seen.
    """
    pictures = frames.astype(np.float32)
    margin = max(1, frames.shape[1] // 16)
    kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    figure = [cv2.dilate(mask.astype(np.uint8), kernel) > 0 for mask in scene.figure]
    changes: dict[str, list[float]] = {part: [] for part in PARTS}
    colours = [_garments(*row) for row in zip(pictures, scene.pose.keypoints, scene.judged,
                                              strict=True)]
    for t in range(len(pictures) - 1):
        free = ~(figure[t] | figure[t + 1])
        if free.any():
            difference = np.abs(pictures[t + 1] - pictures[t])
            changes["background"].append(float(difference[free].mean()))
        for part in PARTS[1:]:
            if part in colours[t] and part in colours[t + 1]:
                difference = np.abs(colours[t + 1][part] - colours[t][part])
                changes[part].append(float(difference.mean()))
    return {part: float(np.mean(c)) if c else math.nan for part, c in changes.items()}


def _garments(
    picture: NDArray[np.float32], joints: NDArray[np.float32], seen: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """Mean colour [3] of the garments of one frame, those that its joints let one find."""
    size = picture.shape[0]
    found = {}
    if seen[_TORSO].all():
        corners = joints[_TORSO]
        inner = corners.mean(0) + 0.7 * (corners - corners.mean(0))
        area = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(area, cv2.convexHull(inner.round().astype(np.int32)), 1)
        if area.any():
            found["top"] = picture[area > 0].mean(0)
    area = np.zeros((size, size), np.uint8)
    for hip, knee in _THIGHS:
        if seen[hip] and seen[knee]:
            ends = [joints[hip] + k * (joints[knee] - joints[hip]) for k in (0.2, 0.6)]
            start, end = (tuple(int(v) for v in e.round()) for e in ends)
            cv2.line(area, start, end, 1, max(1, size // 64))
    if area.any():
        found["bottom"] = picture[area > 0].mean(0)
    return found


def flicker_ratios(
    generated: Sequence[dict[str, float]], rendered: Sequence[dict[str, float]]
) -> dict[str, float]:
    """Mean change of generated clips over mean change of rendered ones, of each part.

    Args:
        generated: `flicker` of the clips as generated.
        rendered: `flicker` of the same clips as rendered.

    Returns:
        part → ratio; NaN where it was not seen in any clip or never changes when rendered.
    """
    ratios = {}
    for part in PARTS:
        pairs = np.array([(g[part], r[part]) for g, r in zip(generated, rendered, strict=True)])
        pairs = pairs.reshape(-1, 2)  # there may be no clip
        pairs = pairs[np.isfinite(pairs).all(1)]
        total = pairs[:, 1].sum() if len(pairs) else 0.0
        ratios[part] = float(pairs[:, 0].sum() / total) if total > 0 else math.nan
    return ratios


def contact_sheet(columns: Sequence[tuple[Frames, ...]]) -> Frames:
    """Lay out pictures, one column a clip: skeleton, rendered, generated, ten columns a block.

    Args:
        columns: RGB uint8 [S, S, 3] of each row, as many rows in every column.
    """
    blank = np.full((_SHEET_SIDE, _SHEET_SIDE, 3), 255, np.uint8)
    blocks = []
    for start in range(0, len(columns), _SHEET_COLUMNS):
        block = [list(resized(np.stack(c), _SHEET_SIDE))
                 for c in columns[start : start + _SHEET_COLUMNS]]
        width = min(len(columns), _SHEET_COLUMNS)
        block += [[blank] * len(columns[0])] * (width - len(block))
        blocks.append(np.concatenate([np.concatenate(c) for c in block], 1))
    return np.concatenate(blocks)


def frechet_distance(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features.

    |m₁ − m₂|² + tr(S₁ + S₂ − 2 (S₁ S₂)^½) (Heusel et al. 2017, arXiv 1706.08500, equation 6). The
    trace of the root is the sum of the singular values of X₁ X₂ᵀ, X the centred features over the
    root of their number less one: the same number without the root of a matrix, which is
    ill-conditioned where there are fewer pictures than features.

    Args:
        one: features [N, D], N at least 2.
        other: features [M, D], M at least 2.
    """
    means = [np.asarray(x, np.float64).mean(0) for x in (one, other)]
    centred = [(x - m) / math.sqrt(len(x) - 1) for x, m in zip((one, other), means, strict=True)]
    spread = sum(float((x**2).sum()) for x in centred)
    shared = float(np.linalg.norm(centred[0] @ centred[1].T, "nuc"))
    return float(((means[0] - means[1]) ** 2).sum()) + spread - 2 * shared


def frechet_figures(
    generated: Sequence[NDArray[np.float32]], rendered: Sequence[NDArray[np.float32]]
) -> tuple[float, float]:
    """Fréchet distance of generated clips to rendered ones, and its floor.

    Small sets seem further apart than they are (Chong and Forsyth 2020, arXiv 1911.07023), and
    frames of one clip are near copies. So only halves of equal size are compared, of which no scene
    is in both: generated even clips with rendered odd ones, generated odd with rendered even (mean
    of the two), and for the floor rendered even with rendered odd. A perfect model scores about the
    floor. A last clip of an odd number is left out.

    Args:
        generated: features [F, D] of each clip as generated.
        rendered: the same of the same clips as rendered.

    Returns:
        The distance and the floor; NaN for fewer than two clips.
    """
    pairs = len(rendered) // 2
    if not pairs:
        return math.nan, math.nan
    made, real = ([np.concatenate(clips[i : 2 * pairs : 2]) for i in (0, 1)]
                  for clips in (generated, rendered))
    distance = (frechet_distance(made[0], real[1]) + frechet_distance(made[1], real[0])) / 2
    return distance, frechet_distance(real[0], real[1])


def identity(reading: Reading, shown: Sequence[dict[str, bool]]) -> float:
    """Share of a clip's readings that agree with the clip's own majority.

    Args:
        reading: of the frames of one clip.
        shown: which attributes each frame can show, from `applicable`.

    Returns:
        Mean over the attributes, 1 / frames..1; NaN where no frame can show any.
    """
    shares = []
    for name, values in reading.attributes.items():
        visible = [value for value, can in zip(values, shown, strict=True) if can[name]]
        if visible:
            shares.append(Counter(visible).most_common(1)[0][1] / len(visible))
    return float(np.mean(shares)) if shares else math.nan


def pose_scenes(folder: Path, size: int, frames: int) -> list[Scene]:
    """Read a folder of OpenPose JSON clips and photographs, fitted to the model's frame.

    Prompts are captions of looks drawn by the file's number, in the order of the files' names.

    Args:
        folder: holds ``.json`` files, or pictures (`PICTURES`), whose poses are extracted.
        size: side of the model's frame.
        frames: of the model's clips.

    Raises:
        PoseError: there is no such file, or one is not a usable clip; the message names it.
        MissingWeights: there is a picture and the pose models have not been fetched.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in (".json", *PICTURES))
    if not files:
        raise PoseError(
            f"{folder} holds no .json file and no picture; wanted OpenPose JSON, one clip a file, "
            "or photographs"
        )
    asked = []
    for number, file in enumerate(files):
        try:
            if file.suffix.lower() in PICTURES:
                clip = extract_pose(load_picture(file))
            else:
                clip = load_openpose_json(file)
            asked.append(scene_of(clip, number, size, frames))
        except PoseError as error:
            raise PoseError(f"{file.name}: {error}") from error
    return asked


def scene_of(clip: PoseClip, number: int, size: int, frames: int) -> Scene:
    """Fit a clip to the model's frame and ask for a look that is drawn by its number.

    Args:
        clip: of any size and length.
        number: of the clip.
        size: side of the model's frame.
        frames: of the model's clips.

    Raises:
        PoseError: the clip shows nobody.
    """
    whole = clip.fit(size)
    nearest = np.linspace(0, len(whole) - 1, frames).round().astype(int)
    pose = whole.resample(frames)
    look = random_look(random.Random(POSES_SEED + number))
    return Scene(pose, pose.seen & clip.seen[nearest], caption(look), asdict(look))


def evaluate_frames(
    engine: AnimationEngine, reader: Reader | None, frames: AvatarSet, count: int
) -> dict[str, Any]:
    """Measure the autoencoder and the reader itself on the first ``count`` rendered frames."""
    images = np.asarray(frames.images[:count])
    small = resized(images, engine.spec.size)
    psnr_db, ssim = fidelity(small, reconstruct(engine, small))
    print(f"autoencoder on {len(images)} frames: {psnr_db:.2f} dB, SSIM {ssim:.4f}", flush=True)
    finder_pck, finder = math.nan, {}
    if reader is not None:
        joints, meta = np.asarray(frames.keypoints[:count]), frames.meta[:count]
        reading = reader.read(images)
        finder_pck = pck(joints[..., :2], joints[..., 2], reading.keypoints)
        finder = attribute_accuracy(
            reading,
            [row["look"] for row in meta],
            [applicable(joints[i, :, 2], row["closeup"]) for i, row in enumerate(meta)],
        )
        print(f"reader on them: PCK {finder_pck:.4f}, attributes {_mean(finder):.4f}", flush=True)
    return {
        "psnr_db": _rounded(psnr_db, 2),
        "ssim": _rounded(ssim),
        "finder_pck": _rounded(finder_pck),
        "finder_attributes": _rounded(_mean(finder)),
        "finder_attribute_by_name": {name: _rounded(value) for name, value in finder.items()},
        "n_frames": len(images),
    }


def _visible(scene: Scene) -> list[dict[str, bool]]:
    """Say for each frame of a scene which attributes it can show."""
    return [applicable(seen) for seen in scene.judged]


@dataclass
class _Read:
    """What a reader found in clips, held against what their scenes ask for.

    Attributes:
        readings: of each clip.
        hits: `keypoint_hits` of each clip.
        looks: of each frame of all clips.
        shown: likewise.
    """

    readings: list[Reading] = field(default_factory=list)
    hits: list[NDArray[np.float64]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, bool]] = field(default_factory=list)

    def add(self, reading: Reading, scene: Scene) -> None:
        """Take in the reading of a clip that shows a scene."""
        self.readings.append(reading)
        self.hits.append(keypoint_hits(scene.pose.keypoints, scene.judged, reading.keypoints))
        self.looks += [scene.look] * len(scene.judged)
        self.shown += _visible(scene)

    def pck(self) -> float:
        """Return `evaluation.reader.pck` of all clips; NaN for none."""
        return _mean_or_nan(np.concatenate(self.hits)) if self.hits else math.nan

    def attributes(self) -> dict[str, float]:
        """Return `attribute_accuracy` of all clips; empty for none."""
        if not self.readings:
            return {}
        return attribute_accuracy(_joined(self.readings), self.looks, self.shown)


def evaluate_clips(
    engine: AnimationEngine,
    reader: Reader | None,
    asked: Iterable[Scene],
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Generate clips and measure them; clip ``i`` is generated from seed ``i``.

    Args:
        engine: the product's engine.
        reader: judges pictures; None leaves out what only it can tell.
        asked: the scenes; those without a rendering leave out what is measured against it.
        sheet: where to write the contact sheet of the first twenty clips, if anywhere.
    """
    made, rendered, kept, columns = _Read(), _Read(), [], []
    moving: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    features: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    settings: dict[str, Any] = {}
    for number, scene in enumerate(asked):
        result = generate(engine, scene, seed=number)
        settings = result.settings
        pictures = result.unguarded
        if reader is not None:
            reading = reader.read(pictures)
            made.add(reading, scene)
            kept.append(identity(reading, _visible(scene)))
        middle = len(pictures) // 2
        column = [result.pose_frames[middle], pictures[middle]]
        if scene.rendered is not None:
            moving[0].append(flicker(pictures, scene))
            moving[1].append(flicker(scene.rendered, scene))
            column.insert(1, scene.rendered[middle])
            if reader is not None:
                rendered.add(reader.read(scene.rendered), scene)
                features[0].append(reader.features(pictures))
                features[1].append(reader.features(scene.rendered))
        columns.append(tuple(column))
        obedience = f"PCK {_mean_or_nan(made.hits[-1]):.3f}, " if made.hits else ""
        print(f"clip {number + 1}: {obedience}{settings['seconds']:.1f} s, {scene.caption}",
              flush=True)
    attributes = made.attributes()
    ratios = flicker_ratios(*moving)
    frechet, frechet_floor = frechet_figures(*features)
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(sheet), contact_sheet(columns[: 2 * _SHEET_COLUMNS])[..., ::-1])
    seen_ratios = [ratio for ratio in ratios.values() if math.isfinite(ratio)]
    return {
        "pck": _rounded(made.pck()),
        "attributes": _rounded(_mean(attributes)),
        "attribute_by_name": {name: _rounded(value) for name, value in attributes.items()},
        "finder_pck_clips": _rounded(rendered.pck()),
        "finder_attributes_clips": _rounded(_mean(rendered.attributes())),
        "identity": _rounded(_mean_or_nan(np.array(kept))),
        "flicker_ratio": _rounded(max(seen_ratios, default=math.nan), 3),
        "flicker_by_part": {part: _rounded(ratio, 3) for part, ratio in ratios.items()},
        "frechet": _rounded(frechet),
        "frechet_floor": _rounded(frechet_floor),
        "n_clips": len(columns),
        "steps": settings["steps"],
        "guidance_scale": settings["guidance_scale"],
        "guidance_interval": settings["guidance_interval"],
        "redraw": settings["redraw"],
    }


def evaluate(
    engine: AnimationEngine,
    reader: Reader | None,
    frames: AvatarSet,
    clips: AvatarSet,
    n_frames: int,
    n_clips: int,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Measure everything on the first pictures and clips of two held-out sets.

    Args:
        engine: the product's engine.
        reader: judges pictures; None leaves out what only it can tell.
        frames: held-out frames.
        clips: held-out clips.
        n_frames: frames to measure.
        n_clips: clips to measure; clip ``i`` is generated from seed ``i``.
        sheet: where to write the contact sheet of the first twenty clips, if anywhere.

    Returns:
        The figures named at the top of this module, but for ``seconds``.
    """
    asked = scenes(clips, n_clips, engine.spec.size, engine.spec.frames)
    return {
        **evaluate_frames(engine, reader, frames, n_frames),
        **evaluate_clips(engine, reader, asked, sheet),
    }


def evaluate_poses(
    engine: AnimationEngine, reader: Reader | None, asked: Sequence[Scene],
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Measure clips of `pose_scenes`: the figures of `evaluate`, null where a rendering is needed.

    Args:
        engine: the product's engine.
        reader: judges pictures; None leaves out what only it can tell.
        asked: at least one scene.
        sheet: where to write the contact sheet of the first twenty clips, if anywhere.
    """
    nothing = dict.fromkeys(("psnr_db", "ssim", "finder_pck", "finder_attributes"))
    return {**nothing, "finder_attribute_by_name": {}, "n_frames": 0, **_UNSEEN_UNKNOWN,
            **evaluate_clips(engine, reader, asked, sheet)}


def evaluate_closeups(
    engine: AnimationEngine, reader: Reader | None, frames: AvatarSet, count: int
) -> dict[str, Any]:
    """Measure face close-ups, led by 68 landmarks that stand still; number ``i`` is of seed ``i``.

    Args:
        engine: the product's engine.
        reader: judges pictures; None leaves out what only it can tell.
        frames: rendered frames, a tenth of which are close-ups.
        count: how many of these.
    """
    rows = [i for i, row in enumerate(frames.meta) if row["closeup"]][: count if reader else 0]
    drawn, side = [], frames.images.shape[1]
    for number, i in enumerate(rows):
        landmarks, nobody = np.asarray(frames.landmarks[i], float)[None], np.zeros((1, 18))
        pose = PoseClip(np.zeros((1, 18, 2)), nobody, landmarks, side, side)
        *_, result = engine.pair(
            pose.to_square(engine.spec.size), frames.meta[i]["caption"], {}, number
        )
        drawn.append(result.unguarded[len(result.unguarded) // 2])
    figures: dict[str, Any] = dict.fromkeys(("attributes_closeups", "finder_closeups"))
    if rows and reader is not None:
        looks = [frames.meta[i]["look"] for i in rows]
        shown = [applicable(frames.keypoints[i, :, 2], True) for i in rows]
        rendered = resized(np.stack([frames.images[i] for i in rows]), engine.spec.size)
        for name, pictures in zip(figures, (np.stack(drawn), rendered), strict=True):
            figures[name] = _rounded(
                _mean(attribute_accuracy(reader.read(pictures), looks, shown))
            )
        print(f"close-ups: attributes {figures['attributes_closeups']}", flush=True)
    return figures | {"n_closeups": len(rows)}


_UNSEEN_UNKNOWN = {
    **dict.fromkeys(
        ("pck_unseen", "pck_unseen_readable", "attributes_unseen", "finder_pck_unseen")
    ),
    "pck_unseen_by_clip": {},
    "n_unseen": 0,
}


def evaluate_unseen(
    engine: AnimationEngine, reader: Reader | None, every: int = 1
) -> dict[str, Any]:
    """Measure clips generated from the unseen poses that ship.

    Args:
        engine: the product's engine.
        reader: judges pictures; without it nothing can be measured, and nothing is generated.
        every: takes each of so many clips, the first one among them.

    Returns:
        The figures named at the top of this module that have "unseen" in them.
    """
    if reader is None:
        return dict(_UNSEEN_UNKNOWN)
    size, count = engine.spec.size, engine.spec.frames
    asked = pose_scenes(UNSEEN_POSES, size, count)[::every]
    named = [
        (recipe.motion, scene, partial(drawn, recipe))
        for recipe, scene in zip(RECIPES[::every], asked, strict=True)
    ]
    figures, _ = measure_movements(engine, reader, named)
    return {f"{name}_unseen": figures[name] for name in ("pck", "attributes", "finder_pck")} | {
        "pck_unseen_readable": figures["pck_readable"],
        "pck_unseen_by_clip": figures["pck_by_clip"],
        "n_unseen": len(named),
    }


def measure_movements(
    engine: AnimationEngine,
    reader: Reader,
    named: Iterable[tuple[str, Scene, Callable[[Look], list[Frame]]]],
) -> tuple[dict[str, Any], list[tuple[Frames, ...]]]:
    """Measure clips of movements that the renderer can draw, if in another body; seeds by number.

    Args:
        engine: the product's engine.
        reader: judges pictures.
        named: name, what is asked of the model, and what draws the doll in the same movement with
            a look.

    Returns:
        ``pck``, ``attributes`` and ``pck_by_clip`` of the model's clips; ``finder_pck`` of the
        reader itself on the drawn ones; ``pck_readable``, that of those joints alone which it finds
        there; ``finder_pck_by_clip``. And a column of `contact_sheet` for each clip.
    """
    made, findable, names, columns = _Read(), [], [], []
    for number, (name, scene, draw) in enumerate(named):
        result = generate(engine, scene, seed=number)
        rendered = draw(Look(**scene.look))
        made.add(reader.read(result.unguarded), scene)
        findable.append(_found_when_drawn(reader, rendered, len(scene.pose)))
        names.append(name)
        middle = len(scene.pose) // 2
        picture = resized(rendered[len(rendered) // 2].image[None], engine.spec.size)[0]
        columns.append((result.pose_frames[middle], picture, result.unguarded[middle]))
        print(f"{name}: PCK {_mean_or_nan(made.hits[-1]):.3f}, of the reader when drawn "
              f"{_mean_or_nan(findable[-1]):.3f}", flush=True)
    found, drawn_right = np.concatenate(made.hits), np.concatenate(findable)

    def by_clip(of: Sequence[NDArray[np.float64]]) -> dict[str, float | None]:
        return {name: _rounded(_mean_or_nan(hits)) for name, hits in zip(names, of, strict=True)}

    return {
        "pck": _rounded(made.pck()),
        "pck_readable": _rounded(_mean_or_nan(found[drawn_right == 1])),
        "attributes": _rounded(_mean(made.attributes())),
        "finder_pck": _rounded(_mean_or_nan(drawn_right)),
        "pck_by_clip": by_clip(made.hits),
        "finder_pck_by_clip": by_clip(findable),
    }, columns


def _found_when_drawn(
    reader: Reader, frames: Sequence[Frame], count: int
) -> NDArray[np.float64]:
    """`keypoint_hits` of the reader on a drawn movement of ``count`` frames, [count, 18]."""
    frames = [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]
    reading = reader.read(np.stack([frame.image for frame in frames]))
    joints = np.stack([frame.keypoints for frame in frames])
    return keypoint_hits(joints, np.stack([f.confidence for f in frames]), reading.keypoints)


def _joined(readings: Sequence[Reading]) -> Reading:
    return Reading(
        np.concatenate([r.keypoints for r in readings]),
        np.concatenate([r.confidence for r in readings]),
        {name: [v for r in readings for v in r.attributes[name]]
         for name in readings[0].attributes},
    )


def _mean(by_name: dict[str, float]) -> float:
    return float(np.mean(list(by_name.values()))) if by_name else math.nan


def _mean_or_nan(hits: NDArray[np.float64]) -> float:
    return float(np.nanmean(hits)) if np.isfinite(hits).any() else math.nan


def _rounded(value: float, digits: int = 4) -> float | None:
    """Round for the report; None (JSON's null) for what could not be measured."""
    return round(value, digits) if math.isfinite(value) else None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m evaluation.avatar_sd", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true",
                   help=f"measure {N_FRAMES // QUICK} frames, {N_CLIPS // QUICK} clips and "
                        f"every {QUICK_UNSEEN}th of the unseen ones, or every {QUICK}th of --poses")
    p.add_argument("--poses", type=Path, metavar="FOLDER",
                   help="measure the OpenPose JSON clips and photographs of a folder "
                        "instead of the held-out sets")
    p.add_argument("--sheet", type=Path, metavar="PATH",
                   help="write a contact sheet (PNG): skeleton, rendered, generated")
    p.add_argument("--as-drawn", action="store_true",
                   help="without what redraws the details of finished frames")
    p.add_argument("--data", type=Path, default=REPO / "checkpoints" / "data",
                   help="folder of the rendered sets; they are rendered there if missing")
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurement and print its figures."""
    args = parser().parse_args(arguments)
    started = time.perf_counter()
    share = QUICK if args.quick else 1
    n_frames, n_clips = N_FRAMES // share, N_CLIPS // share
    profile = get_profile("embedded")
    if args.as_drawn:
        profile = replace(profile, animation=replace(profile.animation, refiner=""))
    reader = None
    try:
        reader = Reader.load()
    except MissingWeights as missing:
        print(f"{missing}\nUntil then pck and attributes stay null.", flush=True)
    try:
        if args.poses is not None:
            asked = pose_scenes(args.poses, profile.animation.size, profile.animation.frames)
            asked = asked[:: QUICK if args.quick else 1]
            figures = evaluate_poses(AnimationEngine(profile), reader, asked, args.sheet)
            _print_figures(figures, started)
            return
        # Rendered before the engine is loaded: the renderer's worker processes are forked.
        frames = build(args.data / "frames-test", n_frames, seed=TEST_SEED)
        clips = build(args.data / "clips-test", n_clips, clips=True, seed=CLIP_SEED)
        engine = AnimationEngine(profile)
    except (MissingWeights, PoseError) as problem:
        raise SystemExit(str(problem)) from problem
    figures = evaluate(engine, reader, frames, clips, n_frames, n_clips, args.sheet)
    figures |= evaluate_unseen(engine, reader, QUICK_UNSEEN if args.quick else 1)
    figures |= evaluate_closeups(engine, reader, frames, CLOSEUPS // (QUICK if args.quick else 1))
    _print_figures(figures, started)


def _print_figures(figures: dict[str, Any], started: float) -> None:
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({**figures, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
