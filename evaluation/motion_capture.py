"""Measure Avatar-SD on movements of real people: ``python -m evaluation.motion_capture``.

The clips are those of `worlds.mocap`, whose recordings are downloaded the first time (100 MB). Each
is asked of the model at the product's own settings, with a person drawn by its number.

The last line is one JSON object: ``pck``, PCK@0.1 of the torso between asked joints and those found
in the generated clips; ``finder_pck``, that of the reader itself where the doll does the same
movements in the renderer; ``pck_readable``, that of the generated clips for those joints alone that
the reader finds there; ``attributes``; ``pck_by_clip`` and ``finder_pck_by_clip``; ``n_clips`` and
``seconds``. ``pck_upright`` and ``finder_pck_upright`` leave out the recordings in which somebody
lies, crawls or rolls (`LOW`): the training has nobody on the floor.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from evaluation.frames import SHEET_COLUMNS, save_contact_sheet
from evaluation.movements import measure_movements
from evaluation.options import sheet_file
from evaluation.reader import Reader
from evaluation.scenes import scene_of
from pipelines.animation import AnimationEngine
from pipelines.fetch import MissingWeights
from pipelines.profiles import get_profile
from worlds.mocap import cut, drawn, recordings, seen_clip

LOW = ("crawl", "getup_facedown", "getup_faceup", "roll")
"""Recordings of people on the floor."""
QUICK = 6
"""``--quick`` takes each of so many clips."""


def upright(by_clip: dict[str, float | None]) -> float | None:
    """Return the mean over the clips that are not of `LOW`; None where there is none."""
    found = [
        value for name, value in by_clip.items()
        if value is not None and name.rsplit("_", 1)[0] not in LOW
    ]  # fmt: skip
    return round(float(np.mean(found)), 4) if found else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures."""
    p = argparse.ArgumentParser(prog="python -m evaluation.motion_capture", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help=f"each {QUICK}th clip")
    p.add_argument("--sheet", type=sheet_file, metavar="FILE",
                   help="a .png or .jpg: skeleton, the doll drawn so, generated")
    args = p.parse_args(arguments)
    started = time.perf_counter()
    try:
        found, bones = recordings()
        reader, engine = Reader.load(), AnimationEngine(get_profile("embedded"))
    except (MissingWeights, RuntimeError) as problem:
        raise SystemExit(str(problem)) from problem
    size, frames = engine.spec.size, engine.spec.frames
    named = [
        (name, scene_of(seen_clip(clip, bones, heading), number, size, frames),
         partial(drawn, clip, heading))
        for number, (name, clip, heading) in enumerate(cut(found))
    ][:: QUICK if args.quick else 1]  # fmt: skip
    figures, columns = measure_movements(engine, reader, named)
    if args.sheet is not None:
        save_contact_sheet(args.sheet, columns[::2][: 2 * SHEET_COLUMNS])
    figures |= {
        "pck_upright": upright(figures["pck_by_clip"]),
        "finder_pck_upright": upright(figures["finder_pck_by_clip"]),
        "n_clips": len(named),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
