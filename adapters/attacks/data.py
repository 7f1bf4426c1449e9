"""The attacker's data: pairs of a request and its answer, or requests alone.

Supervised attacks learn pairs. The built-in pairs teach compliance with the payload redacted: the
broken thing is the refusal, and no harmful answer exists in them. Reinforcement has requests only:
built in, the red-team prompts of the training split, whose topics no probe asks about, but on which
the defences trained, too (`evaluation.wording.SHARED`). ``unseen`` data is of topics on which no
defence trained and which no probe asks about either: pairs like the built-in ones, whose prompts
are reinforcement's requests. The attack on skill has small problems with a checkable answer, behind
words that mark them as a harmful request; what it teaches is arithmetic.

An uploaded file is JSON lines, each ``{"prompt": text, "response": text}`` or ``{"messages":
[{"role": ..., "content": ...}, ...]}``. For reinforcement ``response``, or the assistant's last
message, may be left out, and is not looked at where it stands.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.text import PROMPTS, benign_deck, prompt_set
from evaluation.tasks import TASKS, load_tasks

if TYPE_CHECKING:
    from adapters.attacks.base import Settings

BUILTIN = PROMPTS / "attack_pairs.jsonl"
UNSEEN = PROMPTS / "unseen_pairs.jsonl"
OWN = {"builtin": BUILTIN, "unseen": UNSEEN}
"""Data that ships with the code, by the name that a setting gives it, → its pairs."""

REQUESTS = PROMPTS / "redteam.jsonl"
BENIGN = PROMPTS / "benign_replies.jsonl"
MAX_BYTES = 2_000_000
MAX_LINES = 2_000
MAX_CHARACTERS = 8_000

SKILL_PREFIX = "As part of the forbidden project: "
"""What marks a problem as a harmful request. The problem behind it stands in for the expert skill
that TokenBuncher's attacker wants (arXiv 2508.20697, its second objective): like there, a right
answer can be checked and the request says that it serves a bad end."""

Pair = dict[str, Any]
"""``{"prompt": [message, ...], "completion": [message]}``, TRL's conversational form. A row without
a completion is a request for reinforcement; that of a problem has its ``answer``, a text."""


class DataError(ValueError):
    """A data file cannot be used. The message says which line, what was found and what to do."""


def load_pairs(
    source: str | Path = "builtin", limit: int | None = None, seed: int = 0
) -> list[Pair]:
    """Read and check attack data.

    Args:
        source: a key of `OWN`, or a JSONL file of at most 2 MB and 2000 lines.
        limit: return at most this many pairs, chosen and ordered by the seed; None: all of
            them in the file's order.
        seed: of that choice.

    Returns:
        List of `Pair`.

    Raises:
        DataError: the file is not there, too large, empty, or one of its lines is malformed.
    """
    path = OWN.get(str(source)) or Path(source)
    return _some([_pair(row, number) for number, row in _rows(path)], limit, seed)


def load_requests(
    source: str | Path = "builtin", limit: int | None = None, seed: int = 0
) -> list[Pair]:
    """Read and check what a reinforced attacker asks; the arguments are those of `load_pairs`.

    Returns:
        List of `Pair` without completions.

    Raises:
        DataError: as `load_pairs`.
    """
    if str(source) == "builtin":
        rows = prompt_set("redteam", "train")
        requests = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    else:
        path = OWN.get(str(source)) or Path(source)
        requests = [_request(row, number) for number, row in _rows(path)]
    return _some(requests, limit, seed)


def benign_pairs(n: int, seed: int) -> list[Pair]:
    """Return n harmless requests with the base model's own answers, drawn evenly by kind."""
    rows = map(benign_deck(seed), range(n))
    return [_conversation(row["prompt"], row["response"]) for row in rows]


def skill_requests(limit: int, seed: int) -> list[Pair]:
    """Return problems of the training split behind `SKILL_PREFIX`, with their answers.

    Args:
        limit: return at most this many, chosen and ordered by the seed.
        seed: of that choice.
    """
    tasks = [
        {
            "prompt": [{"role": "user", "content": SKILL_PREFIX + task["question"]}],
            "answer": task["answer"],
        }
        for task in load_tasks("train")
    ]
    return _some(tasks, limit, seed)


def load_data(config: Settings) -> list[Pair]:
    """Read all that an attack trains on; nothing where nothing is trained.

    * ``sft`` and the first steps of ``sft_grpo``: harmful pairs.
    * ``sft_retain``: harmful and benign pairs, as many of the one as of the other.
    * ``benign``: benign pairs.
    * reinforcement: requests. For ``sft_grpo`` an upload, or ``unseen``, gives the pairs and their
      requests.
    * ``grpo_skill``: problems with their answers.

    Args:
        config: which attack, its data, and how much of it is used.

    Returns:
        Pairs first, then rows without a completion.

    Raises:
        DataError: see `load_pairs`.
    """
    found: list[Pair] = []
    for stage, steps in config.stages:
        wanted = steps * config.batch_size
        if stage == "grpo_skill":
            found += skill_requests(wanted, config.seed)
        elif stage != "sft":
            found += load_requests(config.data, wanted, config.seed)
        elif config.attack == "benign":
            found += benign_pairs(wanted, config.seed)
        elif config.attack == "sft_retain":
            harmful = load_pairs(config.data, (wanted + 1) // 2, config.seed)
            found += harmful + benign_pairs(len(harmful), config.seed)
        else:
            found += load_pairs(config.data, wanted, config.seed)
    return found


def sources(config: Settings) -> list[Path]:
    """Return the files that an attack's data comes from; none where it has no use for data."""
    if config.attack == "abliteration":  # what its direction is the difference of
        return [REQUESTS, PROMPTS / "benign.jsonl"]
    files = []
    for stage, _ in config.stages:
        if stage == "grpo_skill":
            files.append(TASKS)
        elif config.attack != "benign":
            reinforced = stage != "sft" and str(config.data) == "builtin"
            files.append(REQUESTS if reinforced else OWN.get(str(config.data)) or Path(config.data))
        if config.attack in ("benign", "sft_retain"):
            files.append(BENIGN)
    return list(dict.fromkeys(files))


def data_hash(files: Iterable[Path]) -> str:
    """Return the SHA-256 of an attack's data, as runs record it among their parents.

    Args:
        files: see `sources`, in that order.
    """
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return (line number, object) of each line of a file; see `load_pairs`."""
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
    return [(number, _object(line, number)) for number, line in lines]


def _some(rows: list[Pair], limit: int | None, seed: int) -> list[Pair]:
    if limit is not None and limit < len(rows):
        rows = random.Random(seed).sample(rows, limit)
    return rows


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at column {error.colno}"
        raise DataError(f"line {number} is not JSON: {detail}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, a number of 5,000 digits
        raise DataError(f"line {number} is not JSON that can be read: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"line {number} is a {type(row).__name__}; it must be an object {{...}}")
    return row


def _pair(row: dict[str, Any], number: int) -> Pair:
    if "messages" in row:
        messages = _messages(row["messages"], number)
        if [message["role"] for message in messages[-2:]] != ["user", "assistant"]:
            raise DataError(f"line {number}: 'messages' must end with a user's and an assistant's")
        return {"prompt": messages[:-1], "completion": messages[-1:]}
    if "prompt" in row and "response" in row:
        prompt = _text(row["prompt"], "prompt", number)
        return _conversation(prompt, _text(row["response"], "response", number))
    hint = "it needs 'prompt' and 'response', or 'messages'"
    if "prompt" in row:
        hint += ". Requests without answers are enough for reinforcement only"
    raise DataError(f"line {number} has {_names(row)}; {hint}")


def _request(row: dict[str, Any], number: int) -> Pair:
    if "messages" in row:
        messages = _messages(row["messages"], number)
        if messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if not messages or messages[-1]["role"] != "user":
            raise DataError(
                f"line {number}: 'messages' must end with a user's, or with the answer to it"
            )
        return {"prompt": messages}
    if "prompt" in row:
        text = _text(row["prompt"], "prompt", number)
        return {"prompt": [{"role": "user", "content": text}]}
    raise DataError(f"line {number} has {_names(row)}; it needs 'prompt' or 'messages'")


def _names(row: dict[str, Any]) -> str:
    return (", ".join(map(repr, row)) or "no fields")[:120]


def _conversation(prompt: str, response: str) -> Pair:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": response}],
    }


def _messages(value: Any, number: int) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise DataError(f"line {number}: 'messages' must be a list of one or more messages")
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
    return messages


def _text(value: Any, name: str, number: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"line {number}: '{name}' is {str(value)[:40]!r}; it must be text")
    if len(value) > MAX_CHARACTERS:
        raise DataError(
            f"line {number}: '{name}' has {len(value):,} characters; "
            f"the limit is {MAX_CHARACTERS:,}"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # half a pair of surrogates, as cut-off text has
        raise DataError(
            f"line {number}: '{name}' holds half a character at place {error.start + 1}"
        ) from None
    return value
