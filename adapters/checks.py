"""Checks of a defence's settings, for its config's `__post_init__`.

Each raises a ValueError that names the field, the value found and what is wanted. They are written
so that NaN, which compares false, is refused too.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def whole(config: DataclassInstance) -> None:
    """Refuse a fraction in any field that is annotated as an int.

    Args:
        config: of a module with postponed annotations, as all here are.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type == "int" and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{field.name} is {value}; it must be a whole number")


def choice(config: DataclassInstance, name: str, choices: Collection[str]) -> None:
    """Refuse what is none of the choices in the named field."""
    value = getattr(config, name)
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of: {', '.join(choices)}")


def positive(config: DataclassInstance, *names: str) -> None:
    """Refuse what is not above 0 and finite in the named fields."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be positive")


def not_negative(config: DataclassInstance, *names: str) -> None:
    """Refuse what is below 0 or not finite in the named fields."""
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be 0 or more")


def share(config: DataclassInstance, *names: str) -> None:
    """Refuse what is outside 0..1 in the named fields."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be within 0..1")
