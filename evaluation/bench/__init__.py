"""Speed and memory, measured: ``python -m evaluation.bench <name>``, one module a benchmark.

A module has ``add_arguments(parser)`` and ``run(args)``, which returns the figures that are printed
as JSON in the last line; `evaluation.bench.__main__` lists it.
"""
