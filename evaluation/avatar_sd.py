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
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from evaluation.flicker import flicker, flicker_ratios
from evaluation.found import Found, identity, mean_of, mean_or_nan, rounded, shown_in
from evaluation.frames import SHEET_COLUMNS, Frames, resized, save_contact_sheet
from evaluation.frechet import frechet_figures
from evaluation.movements import measure_movements
from evaluation.options import sheet_file
from evaluation.psnr import mean_psnr
from evaluation.reader import Reader, applicable, attribute_accuracy, pck
from evaluation.scenes import Scene, generate, pose_scenes, scenes
from pipelines.animation import AnimationEngine
from pipelines.fetch import MissingWeights
from pipelines.paths import REPO
from pipelines.pose import PoseClip, PoseError
from pipelines.profiles import get_profile
from worlds.data import TEST_SEED, AvatarSet, build
from worlds.unseen import RECIPES, UNSEEN_POSES, drawn

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
        print(f"reader on them: PCK {finder_pck:.4f}, attributes {mean_of(finder):.4f}", flush=True)
    return {
        "psnr_db": rounded(psnr_db, 2),
        "ssim": rounded(ssim),
        "finder_pck": rounded(finder_pck),
        "finder_attributes": rounded(mean_of(finder)),
        "finder_attribute_by_name": {name: rounded(value) for name, value in finder.items()},
        "n_frames": len(images),
    }


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
    made, rendered, kept, columns = Found(), Found(), [], []
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
            kept.append(identity(reading, shown_in(scene)))
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
        obedience = f"PCK {mean_or_nan(made.hits[-1]):.3f}, " if made.hits else ""
        print(f"clip {number + 1}: {obedience}{settings['seconds']:.1f} s, {scene.caption}",
              flush=True)
    attributes = made.attributes()
    ratios = flicker_ratios(*moving)
    frechet, frechet_floor = frechet_figures(*features)
    if sheet is not None:
        save_contact_sheet(sheet, columns[: 2 * SHEET_COLUMNS])
    seen_ratios = [ratio for ratio in ratios.values() if math.isfinite(ratio)]
    return {
        "pck": rounded(made.pck()),
        "attributes": rounded(mean_of(attributes)),
        "attribute_by_name": {name: rounded(value) for name, value in attributes.items()},
        "finder_pck_clips": rounded(rendered.pck()),
        "finder_attributes_clips": rounded(mean_of(rendered.attributes())),
        "identity": rounded(mean_or_nan(np.array(kept))),
        "flicker_ratio": rounded(max(seen_ratios, default=math.nan), 3),
        "flicker_by_part": {part: rounded(ratio, 3) for part, ratio in ratios.items()},
        "frechet": rounded(frechet),
        "frechet_floor": rounded(frechet_floor),
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
            figures[name] = rounded(
                mean_of(attribute_accuracy(reader.read(pictures), looks, shown))
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
    p.add_argument("--sheet", type=sheet_file, metavar="FILE",
                   help="a .png or .jpg: skeleton, rendered, generated")
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
