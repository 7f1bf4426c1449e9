"""What every model asks of a prompt before it reads it."""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")


def check_text(name: str, text: str, wanted: str) -> None:
    """Refuse what is no text, says nothing, or has half a character in it.

    JSON can hold half of an emoji, which a browser leaves where a text is cut. No tokenizer takes
    it: they raise a TypeError that names neither the field nor the fault.

    Args:
        name: of the field.
        text: its value.
        wanted: what the message asks for instead of a value that is no text or says nothing.

    Raises:
        ValueError: it is such; the message names the field and the value.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is {text!r}; {wanted}")
    check_whole(name, text)


def check_whole(name: str, text: str) -> None:
    """Refuse text with half a character in it, as `check_text`.

    Raises:
        ValueError: there is one; the message names the field and the value.
    """
    if half := _HALF.search(text):
        raise ValueError(
            f"{name} is {text!r}, in which {half[0]!r} is half a character; take it out"
        )
