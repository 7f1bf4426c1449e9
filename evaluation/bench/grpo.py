"""Steps of the GRPO attack against TRL's stock trainer in float32, with both curves.

The figures, and what stock means, are in `evaluation.bench.attack`.
"""

from __future__ import annotations

import argparse
from typing import Any

from evaluation.bench.attack import add_steps, run_attack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    add_steps(parser, default=15)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the embedded profile; raises what `evaluation.bench.attack.run_attack` does."""
    return run_attack("grpo", args.steps)
