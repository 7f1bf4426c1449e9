"""Mounts the stress test's cells: one by one, on processes of this machine or on a Ray cluster.

With Ray each outstanding cell is one task (`evaluation.cluster`). It works in a folder of its own
and returns the files of the runs that it made, which are put among this machine's runs. Whether the
machine has the same adapters and weights is checked when a run arrives. Runs that have ended but
were not measured are measured here.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from adapters.attacks.base import UNTRAINED
from evaluation.cluster import Files, read_files, run_tasks, write_files
from evaluation.mounting import Cell, StressTest
from evaluation.rows import rows_of
from evaluation.runs import Run, RunStore
from pipelines.profiles import Profile


def run_cells(
    cells: Sequence[Cell], profile: Profile, root: Path, workers: int = 1, ray: str = ""
) -> Iterator[tuple[int, list[dict]]]:
    """Run cells and yield the position and the rows of each as it ends.

    One that fails is told on stderr and has no rows.

    Args:
        cells: what to run.
        profile: which models.
        root: folder of the runs.
        workers: processes; each loads its own models.
        ray: address of a Ray cluster that runs them instead (`evaluation.cluster`); "": none.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at that address.
    """
    if ray:
        yield from _on_ray(cells, profile, root, ray)
        return
    if workers == 1:
        test = StressTest(profile, RunStore(root))
        for position, cell in enumerate(cells):
            yield position, _rows(test, cell)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {
            pool.submit(_in_a_process, profile, root, cell): position
            for position, cell in enumerate(cells)
        }
        for job in as_completed(jobs):
            try:
                rows = job.result()
            except BrokenProcessPool:
                print(f"  failed: {_name(cells[jobs[job]])}: its process died", file=sys.stderr)
                rows = []
            yield jobs[job], rows


def _on_ray(
    cells: Sequence[Cell], profile: Profile, root: Path, address: str
) -> Iterator[tuple[int, list[dict]]]:
    test = StressTest(profile, RunStore(root))
    outstanding = []
    for position, cell in enumerate(cells):
        if test.mounted(cell) is None:
            outstanding.append(position)
        else:
            yield position, _rows(test, cell)

    def job(cell: Cell) -> tuple[Profile, dict[str, Any], dict[str, Files]]:
        # Asked when the task begins: by then a run may be done that attacked the undefended arm.
        twin = None if cell.attack in UNTRAINED else test.twin(cell)
        print(_name(cell), file=sys.stderr, flush=True)
        return profile, asdict(cell), {} if twin is None else {twin.id: read_files(twin.folder)}

    jobs = [partial(job, cells[position]) for position in outstanding]
    for number, result, words in run_tasks(address, mount_cell, jobs) if jobs else ():
        position = outstanding[number]
        cell, run = cells[position], None
        if result is not None:
            made, words = result
            for run_id, files in made.items():
                write_files(root / run_id, files)
            run = None if words else test.mounted(cell)
            if run is None:
                words = words or (
                    "the machine has other weights, data or prompts than this one, or computes in "
                    "another number format"
                )
        if run is None:
            print(f"  failed: {_name(cell)}: {words}", file=sys.stderr, flush=True)
        yield position, [] if run is None else _rows_of_cell(run, cell)


def mount_cell(
    profile: Profile, cell: dict[str, Any], given: dict[str, Files]
) -> tuple[dict[str, Files], str]:
    """Run a cell of the stress test on a machine of the cluster.

    Args:
        profile: which models.
        cell: fields of `evaluation.mounting.Cell`.
        given: id → files of the runs that may spare a part of the work.

    Returns:
        Id → files of the runs that were made; and "" or, in words, why the cell failed.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-ray-") as scratch:
        root, words = Path(scratch), ""
        for run_id, files in given.items():
            write_files(root / run_id, files)
        try:
            StressTest(profile, RunStore(root)).run(Cell(**cell))
        except Exception as error:  # its record is worth having all the same
            words = f"{type(error).__name__}: {error}"
        made = {path.name: read_files(path) for path in root.iterdir() if path.name not in given}
    return made, words


def _in_a_process(profile: Profile, root: Path, cell: Cell) -> list[dict]:
    return _rows(StressTest(profile, RunStore(root)), cell)


def _rows(test: StressTest, cell: Cell) -> list[dict]:
    print(_name(cell), file=sys.stderr, flush=True)
    try:
        run = test.run(cell)
    except Exception as error:  # the other cells are still worth having
        print(f"  failed: {_name(cell)}: {type(error).__name__}: {error}",
              file=sys.stderr, flush=True)  # fmt: skip
        return []
    return _rows_of_cell(run, cell)


def _rows_of_cell(run: Run, cell: Cell) -> list[dict]:
    return rows_of(run, cell.prompts, cell.questions, cell.styles or None)


def _name(cell: Cell) -> str:
    how = ""
    if cell.attack not in UNTRAINED:
        how = f" ({cell.config.method}) at {cell.config.learning_rate:g}"
    return f"{cell.defence}, {cell.attack}{how}, seed {cell.seed}"
