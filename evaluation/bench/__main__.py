"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from evaluation.bench import animation, chat, grpo, sft
from pipelines.fetch import MissingWeights

BENCHMARKS = {"animation": animation, "chat": chat, "grpo": grpo, "sft": sft}
"""Name on the command line → module."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m evaluation.bench")
    names = p.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for name, module in BENCHMARKS.items():
        one = names.add_parser(name, help=module.__doc__.splitlines()[0],
                               description=module.__doc__,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(one)
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark and print its figures."""
    args = parser().parse_args(arguments)
    try:
        figures = BENCHMARKS[args.benchmark].run(args)
    except MissingWeights as missing:
        raise SystemExit(str(missing)) from missing
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
