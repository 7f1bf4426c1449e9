"""Tasks on a Ray cluster, and the files they bring: ``evaluation.stress llm --ray ADDRESS``.

Each outstanding run is one task (`evaluation.workers`), on one GPU where the cluster has any, else
on one CPU. A task returns the files of the run folders that it made, so no folder has to be shared.
What a machine of the cluster does need is this repository at a place where Python finds it (the
same path as here, or ``PYTHONPATH``), the same adapters and the fetched weights
(``python -m pipelines.fetch``).

Ray is optional and only imported here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

INSTALL = "pip install --constraint constraints.txt ray"
"""What brings Ray."""

Files = dict[str, bytes]
"""Path inside a folder → content."""


def run_tasks(
    address: str, work: Callable[..., Any], jobs: Sequence[Callable[[], tuple]]
) -> Iterator[tuple[int, Any, str]]:
    """Run a function once a job, as many at a time as the cluster has room for.

    Args:
        address: of the cluster, as ``ray.init`` takes it: "auto" (the one that this machine is
            part of), "local" (a new one on this machine, for as long as this lasts) or host:port.
        work: a function of a module that the cluster's machines have.
        jobs: return the arguments of a call, and are asked when its turn has come.

    Yields:
        Position of the job, what `work` returned, and "" or, in words, why it returned nothing.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at that address.
    """
    try:
        import ray
    except ImportError:
        raise ValueError(f"ray is {address!r}, but Ray is not installed: {INSTALL}") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local cluster reports to nobody
    # Nobody looks at the dashboard of a cluster that lasts as long as the command.
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=True, **own)
    except Exception as error:  # Ray raises plain ones as well, of a node that is slow to start
        raise ValueError(f"ray is {address!r}: {error}") from error
    try:
        on_gpu = ray.cluster_resources().get("GPU", 0) >= 1
        # A task that died is not tried again: the next run of the command does that.
        task = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_retries=0)(work)
        waiting, running = list(range(len(jobs))), {}
        while waiting or running:
            room = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
            while waiting and len(running) < max(1, room):
                position = waiting.pop(0)
                running[task.remote(*jobs[position]())] = position
            (ended,), _ = ray.wait(list(running), num_returns=1)
            position = running.pop(ended)
            try:
                yield position, ray.get(ended), ""
            except ray.exceptions.RayError as error:
                yield position, None, f"{type(error).__name__}: {error}"
    finally:
        ray.shutdown()


def read_files(folder: Path) -> Files:
    """Return all files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def write_files(folder: Path, files: Files) -> None:
    """Make a folder of these files, which is seen whole or not at all.

    Args:
        folder: is not there yet, or is left as it is.
        files: see `read_files`.

    Raises:
        ValueError: a path leads out of the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in files.items():
            path = scratch / name
            if not path.resolve().is_relative_to(scratch.resolve()):
                raise ValueError(f"{name!r} leads out of the run's folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        scratch.chmod(0o755)  # as of any other folder; mkdtemp's is the owner's alone
        if not folder.exists():
            os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
