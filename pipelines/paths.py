"""Where things live on disk: the repository, its assets, the cache and the runs.

Nothing is created at import; whoever writes makes the folder it writes to.
"""

from __future__ import annotations

import os
from pathlib import Path

REPO: Path = Path(__file__).resolve().parent.parent
"""Root of the repository."""

ASSETS: Path = REPO / "assets"
"""Weights, poses, prompts and recorded runs that ship with the code."""


def cache_dir() -> Path:
    """Return the folder of everything that `python -m pipelines.fetch` sets up.

    Returns:
        ``$HOLDFAST_CACHE`` if set, else ``~/.cache/holdfast``.
    """
    configured = os.environ.get("HOLDFAST_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "holdfast"


def runs_dir() -> Path:
    """Return the folder that run folders are written to.

    Returns:
        ``$HOLDFAST_RUNS`` if set, else ``runs/`` in the repository.
    """
    configured = os.environ.get("HOLDFAST_RUNS")
    return Path(configured).expanduser() if configured else REPO / "runs"
