"""Kinds of command-line options that several programs have, as `type` of an argparse argument."""

from __future__ import annotations

import argparse
from pathlib import Path

SUFFIXES = (".png", ".jpg")
"""Of a picture that a program writes."""


def positive(text: str) -> int:
    """Read how many of something: a whole number, 1 or more.

    Raises:
        argparse.ArgumentTypeError: it is none; argparse adds the option's name.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"it is {text!r}; it must be a whole number, 1 or more")
    return number


def sheet_file(text: str) -> Path:
    """Read where a picture goes, before the work that it shows, which can take minutes.

    Raises:
        argparse.ArgumentTypeError: it could not be written there.
    """
    file = Path(text)
    if file.suffix not in SUFFIXES or not file.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"it is {text!r}; wanted a {' or '.join(SUFFIXES)} in a folder that exists"
        )
    return file
