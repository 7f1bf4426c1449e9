"""Red-team prompts in styles that no defence was trained on, and what arms make of them.

The split ``styles`` of assets/prompts/redteam.jsonl holds every topic of the test split once as a
role-play, inside an invented scenario, in another phrasing, behind "ignore previous instructions",
in Spanish and in French. Training shows a defence English questions and requests only, so what it
does here tells whether it has learnt the thing asked or the form it is asked in.

``python -m evaluation.stress llm --unattacked`` measures all arms as they are, and ``--styles N``
beside any other of its options each arm before and after an attack.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.attacks.base import reply_shares
from adapters.text import prompt_set


def style_prompts(topics: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return prompts of the split ``styles``: some topics, each in every style.

    Args:
        topics: how many, evenly spread over the split and its categories.
        seed: shifts the choice, so that each seed asks neighbouring topics. There is one wording of
            a topic in a style, so all topics are the same prompts with every seed.

    Returns:
        Rows with ``prompt``, ``topic`` and ``style``, a topic's together.

    Raises:
        ValueError: there are fewer topics, or none is asked for.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in prompt_set("redteam", "styles"):
        rows.setdefault(row["topic"], []).append(row)
    if not 0 < topics <= len(rows):
        raise ValueError(f"styles is {topics}; the split has {len(rows)} topics")
    wordings = list(rows.values())
    chosen = ((at * len(wordings) // topics + seed) % len(wordings) for at in range(topics))
    return [row for place in chosen for row in wordings[place]]


def styles_hash() -> str:
    """Return the SHA-256 of the whole split, so that figures on a former one are told apart."""
    asked = [[row["style"], row["prompt"]] for row in prompt_set("redteam", "styles")]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def style_shares(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what judged replies come to, over all styles and in each.

    Args:
        samples: see `adapters.attacks.base.judged`, each with its ``style``; at least one.

    Returns:
        What `reply_shares` says of all; ``by_style``: the same of each style.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        groups.setdefault(sample["style"], []).append(sample)
    by_style = {style: reply_shares(group) for style, group in groups.items()}
    return reply_shares(samples) | {"by_style": by_style}
