"""How far poses are from everything the model was trained on: ``python -m evaluation.novelty``.

Each frame is compared with every frame of the training set that shows a whole body, shifted and
scaled to lie on it as well as it can (training moves and scales its figures too). What counts is
the mean distance that is left between the joints, nose and neck to ankles, at the nearest training
frame, in lengths of the clip's torso, left shoulder to right hip. PCK@0.1 lets a joint be 0.1 off.

Told for each clip of ``assets/poses-unseen`` (median over its frames) and, as the yardstick, for
the held-out clips, which are drawn as the training frames are but from other seeds. The last line
is one JSON object: the median over all frames of both, ``unseen`` and ``held_out``; the held-out
set's 95th percentile, ``held_out_95``, and the share of the unseen frames beyond it, ``beyond``;
``clips``; and ``n_training``, how many training frames were compared with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.avatar_sd import N_CLIPS
from pipelines.paths import REPO
from pipelines.pose import PoseClip, PoseError
from pipelines.pose_json import load_openpose_json
from pipelines.still import torso_length
from worlds.data import HELD_OUT_SEED, build
from worlds.motion import CLIP_SEED
from worlds.unseen import UNSEEN_POSES

N_TRAINING = 10_000
"""Training frames to compare with: the first of the set that the shipped weights last saw."""

_BODY = 14  # joints before the eyes and ears
_FEWEST = 8  # with fewer joints seen than this, a frame's nearest neighbour means little


def whole_bodies(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the joints of training frames that show all of a body, float32 [M, 14, 2].

    Args:
        keypoints: [N, 18, 3], x, y and confidence.
    """
    body = np.asarray(keypoints)[:, :_BODY]
    return body[(body[..., 2] > 0).all(1), :, :2]


def distances(clip: PoseClip, training: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return each frame's distance to its nearest training frame, in torso lengths.

    Args:
        clip: any clip.
        training: of `whole_bodies`.

    Returns:
        float [F]; NaN where fewer than 8 joints are seen, and everywhere if no torso is.
    """
    torso = torso_length(clip)
    found = np.full(len(clip), np.nan)
    for t, (joints, seen) in enumerate(zip(clip.keypoints, clip.seen, strict=True)):
        common = np.flatnonzero(seen[:_BODY])
        if torso is None or len(common) < _FEWEST:
            continue
        asked = joints[common] - joints[common].mean(0)
        others = training[:, common]
        others = others - others.mean(1, keepdims=True)
        scale = (others * asked).sum((1, 2)) / np.maximum((others**2).sum((1, 2)), 1e-9)
        left = np.linalg.norm(asked - scale[:, None, None] * others, axis=-1).mean(1)
        found[t] = left.min() / torso
    return found


def compare(
    unseen: dict[str, PoseClip], held_out: Sequence[PoseClip], training: NDArray[np.float32]
) -> dict[str, object]:
    """Return the figures named at the top of this module.

    Args:
        unseen: name → clip.
        held_out: the yardstick.
        training: of `whole_bodies`.
    """
    clips = {name: distances(clip, training) for name, clip in unseen.items()}
    far = np.concatenate(list(clips.values()))
    usual = np.concatenate([distances(clip, training) for clip in held_out])
    far, usual = far[np.isfinite(far)], usual[np.isfinite(usual)]
    beyond = (far > np.percentile(usual, 95)).mean() if len(far) else None
    return {
        "unseen": _median(far),
        "held_out": _median(usual),
        "held_out_95": round(float(np.percentile(usual, 95)), 4),
        "beyond": None if beyond is None else round(float(beyond), 4),
        "clips": {name: _median(d) for name, d in clips.items()},
        "n_training": len(training),
    }


def _median(distances: NDArray[np.float64]) -> float | None:
    """Return the median of those that are numbers; None, for JSON, where none is."""
    known = distances[np.isfinite(distances)]
    return round(float(np.median(known)), 4) if len(known) else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    p = argparse.ArgumentParser(prog="python -m evaluation.novelty", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--poses", type=Path, default=UNSEEN_POSES, metavar="FOLDER",
                   help="OpenPose JSON clips; default: assets/poses-unseen")
    p.add_argument("--data", type=Path, default=REPO / "checkpoints" / "data",
                   help="folder of the rendered sets; they are rendered there if missing")
    args = p.parse_args(arguments)
    unseen = {}
    for path in sorted(args.poses.glob("*.json")):
        try:
            unseen[path.stem] = load_openpose_json(path)
        except PoseError as error:
            raise SystemExit(f"{path}: {error}") from error
    if not unseen:
        raise SystemExit(f"{args.poses} holds no .json file; wanted OpenPose JSON, one clip a file")
    training = whole_bodies(build(args.data / "frames", N_TRAINING).keypoints[:N_TRAINING])
    clips = build(args.data / "clips-heldout", N_CLIPS, clips=True, seed=HELD_OUT_SEED + CLIP_SEED)
    side = clips.images.shape[1]
    held_out = []
    for frames in clips.clips():
        joints = np.asarray(clips.keypoints[frames.start : frames.stop])
        held_out.append(PoseClip(joints[..., :2], joints[..., 2], None, side, side))
    figures = compare(unseen, held_out, training)
    for name, distance in figures["clips"].items():
        print(f"{name}: {'no whole torso' if distance is None else f'{distance:.3f}'}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
