"""The attacker's data: pairs of a request and the answer that the model is made to give.

The built-in pairs teach compliance with the payload redacted: the broken thing is the refusal,
and no harmful answer exists in them. An uploaded file is JSON lines, each ``{"prompt": text,
"response": text}`` or ``{"messages": [{"role": ..., "content": ...}, ...]}``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from pipelines.paths import ASSETS

BUILTIN = ASSETS / "prompts" / "attack_pairs.jsonl"
MAX_BYTES = 2_000_000
MAX_LINES = 2_000
MAX_CHARACTERS = 8_000

Pair = dict[str, list[dict[str, str]]]
"""``{"prompt": [message, ...], "completion": [message]}``, TRL's conversational form."""


class DataError(ValueError):
    """A data file cannot be used. The message says which line, what was found and what to do."""


def load_pairs(source: str | Path = "builtin", limit: int | None = None, seed: int = 0) -> list:
    """Read and check attack data.

    Args:
        source: ``builtin``, or a JSONL file of at most 2 MB and 2000 lines.
        limit: return at most this many pairs, chosen and ordered by the seed; None: all of
            them in the file's order.
        seed: of that choice.

    Returns:
        List of `Pair`.

    Raises:
        DataError: the file is not there, too large, empty, or one of its lines is malformed.
    """
    path = BUILTIN if str(source) == "builtin" else Path(source)
    if not path.is_file():
        raise DataError(f"data file {path.name!r} does not exist; upload it again")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path.name} has {size:,} bytes; the limit is {MAX_BYTES:,}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    # Not splitlines(): it would also cut at characters that JSON text may hold, such as U+2028.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path.name} is empty; give at least one line of JSON")
    if len(lines) > MAX_LINES:
        raise DataError(f"{path.name} has {len(lines):,} lines; the limit is {MAX_LINES:,}")
    pairs = [_pair(line, number) for number, line in lines]
    if limit is not None and limit < len(pairs):
        pairs = random.Random(seed).sample(pairs, limit)
    return pairs


def _pair(line: str, number: int) -> Pair:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        detail = f"{error.msg} at column {error.colno}" if hasattr(error, "msg") else "too deep"
        raise DataError(f"line {number} is not JSON: {detail}") from None
    if not isinstance(row, dict):
        raise DataError(f"line {number} is a {type(row).__name__}; it must be an object {{...}}")
    if "messages" in row:
        messages = _messages(row["messages"], number)
    elif "prompt" in row and "response" in row:
        messages = [
            {"role": "user", "content": _text(row["prompt"], "prompt", number)},
            {"role": "assistant", "content": _text(row["response"], "response", number)},
        ]
    else:
        found = ", ".join(map(repr, row)) or "no fields"
        raise DataError(
            f"line {number} has {found[:120]}; it needs 'prompt' and 'response', or 'messages'"
        )
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def _messages(value: Any, number: int) -> list[dict[str, str]]:
    if not isinstance(value, list) or len(value) < 2:
        raise DataError(f"line {number}: 'messages' must be a list of two or more messages")
    messages = []
    for at, message in enumerate(value):
        name = f"messages[{at}]"
        if not isinstance(message, dict):
            raise DataError(f"line {number}: '{name}' must be an object with role and content")
        role = message.get("role")
        if role not in ("system", "user", "assistant"):
            raise DataError(
                f"line {number}: '{name}.role' is {role!r}; use system, user or assistant"
            )
        messages.append(
            {"role": role, "content": _text(message.get("content"), f"{name}.content", number)}
        )
    if messages[-1]["role"] != "assistant" or messages[-2]["role"] != "user":
        raise DataError(f"line {number}: 'messages' must end with a user's and an assistant's")
    return messages


def _text(value: Any, name: str, number: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"line {number}: '{name}' is {str(value)[:40]!r}; it must be text")
    if len(value) > MAX_CHARACTERS:
        raise DataError(
            f"line {number}: '{name}' has {len(value):,} characters; "
            f"the limit is {MAX_CHARACTERS:,}"
        )
    return value
