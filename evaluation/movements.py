"""Clips of movements that the renderer can draw, too: drawn, they tell what the reader can find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.found import Found, mean_of, mean_or_nan, rounded
from evaluation.frames import Frames, resized
from evaluation.reader import Reader, keypoint_hits
from evaluation.scenes import Scene, generate
from pipelines.animation import AnimationEngine
from worlds.looks import Look
from worlds.render import Frame


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
        there; ``finder_pck_by_clip``. And a column of `evaluation.frames.contact_sheet` for each
        clip.
    """
    made, findable, names, columns = Found(), [], [], []
    for number, (name, scene, draw) in enumerate(named):
        result = generate(engine, scene, seed=number)
        rendered = draw(Look(**scene.look))
        made.add(reader.read(result.unguarded), scene)
        findable.append(_found_when_drawn(reader, rendered, len(scene.pose)))
        names.append(name)
        middle = len(scene.pose) // 2
        picture = resized(rendered[len(rendered) // 2].image[None], engine.spec.size)[0]
        columns.append((result.pose_frames[middle], picture, result.unguarded[middle]))
        print(f"{name}: PCK {mean_or_nan(made.hits[-1]):.3f}, of the reader when drawn "
              f"{mean_or_nan(findable[-1]):.3f}", flush=True)
    found, drawn_right = np.concatenate(made.hits), np.concatenate(findable)

    def by_clip(of: Sequence[NDArray[np.float64]]) -> dict[str, float | None]:
        return {name: rounded(mean_or_nan(hits)) for name, hits in zip(names, of, strict=True)}

    return {
        "pck": rounded(made.pck()),
        "pck_readable": rounded(mean_or_nan(found[drawn_right == 1])),
        "attributes": rounded(mean_of(made.attributes())),
        "finder_pck": rounded(mean_or_nan(drawn_right)),
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
