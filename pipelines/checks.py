"""What models check of the numbers in a request before they run."""

from __future__ import annotations


def check_number(name: str, value: float, low: float, high: float, whole: bool = False) -> None:
    """Refuse what is no number, or is out of range.

    Args:
        name: of the argument.
        value: its value.
        low: smallest that is accepted.
        high: largest that is accepted.
        whole: whether only whole numbers are.

    Raises:
        ValueError: it is such; the message names argument, value and range.
    """
    kind = "a whole number" if whole else "a number"
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; wanted {kind} from {low} to {high}")
