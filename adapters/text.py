"""What every chat-model defence needs: prompt sets, shuffled decks, completion-only batches."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.paths import ASSETS

if TYPE_CHECKING:  # prompt sets are read by programs that train nothing
    import torch
    from transformers import PreTrainedTokenizerBase

PROMPTS = ASSETS / "prompts"
IGNORE = -100  # label that cross-entropy leaves out

TEMPLATE_TOKENS = 30
"""What SmolLM2's chat template puts around a prompt: bounds on a pair are meant for it."""


def read_jsonl(path: Path) -> list[dict]:
    """Read one JSON object a line.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def prompt_set(name: str, split: str) -> list[dict]:
    """Return the rows of `assets/prompts/<name>.jsonl` in a split.

    All have train, validation and test; "redteam" has styles, too: test topics in styles that no
    training shows.

    Raises:
        ValueError: the file has no row of that split; the message lists those there are.
    """
    everything = read_jsonl(PROMPTS / f"{name}.jsonl")
    rows = [row for row in everything if row["split"] == split]
    if not rows:
        splits = ", ".join(dict.fromkeys(row["split"] for row in everything))
        raise ValueError(f"split is {split!r}; {name}.jsonl has {splits}")
    return rows


def chat_text(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """Return the chat template of one user message, up to where the reply begins."""
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def encode_pair(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    response: str,
    *,
    finished: bool = True,
    max_tokens: int = 68,
) -> tuple[list[int], list[int]]:
    """Tokenise a pair; the loss falls on the response only.

    Args:
        tokenizer: with a chat template.
        prompt: user message.
        response: assistant message.
        finished: whether the response is complete, and the end token is to be learnt.
        max_tokens: longer sequences are cut at the end. A chat template that takes more than
            `TEMPLATE_TOKENS` gets the rest on top: a long system block must not push the reply out.

    Returns:
        (input ids, labels), equally long; labels of the prompt are `IGNORE`.

    Raises:
        ValueError: no token of the response is left to learn.
    """
    head = tokenizer(chat_text(tokenizer, prompt), add_special_tokens=False).input_ids
    asked = tokenizer(prompt, add_special_tokens=False).input_ids
    max_tokens += max(0, len(head) - len(asked) - TEMPLATE_TOKENS)
    tail = tokenizer(response, add_special_tokens=False).input_ids
    if finished:
        tail = [*tail, tokenizer.eos_token_id]
    if not tail or len(head) >= max_tokens:
        # Its loss would be 0 and teach nothing, and no figure of the training would say so.
        raise ValueError(
            f"max_tokens is {max_tokens}, but the prompt {prompt!r} takes {len(head)} tokens in "
            f"this model's chat template and the response {len(tail)}, which leaves none to learn; "
            "raise the bound where encode_pair is called, or choose another model"
        )
    ids = [*head, *tail]
    labels = [*[IGNORE] * len(head), *tail]
    return ids[:max_tokens], labels[:max_tokens]


def collate(pairs: Sequence[tuple[list[int], list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad encoded pairs on the right.

    Returns:
        input_ids, attention_mask and labels, int64 [batch, longest].
    """
    import torch

    longest = max(len(ids) for ids, _ in pairs)
    ids = torch.full((len(pairs), longest), pad_id)
    labels = torch.full((len(pairs), longest), IGNORE)
    mask = torch.zeros(len(pairs), longest, dtype=torch.long)
    for row, (tokens, targets) in enumerate(pairs):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(targets)] = torch.tensor(targets)
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def shuffled_deck(rows: Sequence[dict], seed: int) -> Callable[[int], dict]:
    """Return a function from position to row that goes through all rows, reshuffled each time.

    The row at a position depends on the seed and the position only.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("rows is empty; a training needs at least one pair")

    def row_at(position: int) -> dict:
        round_, place = divmod(position, len(rows))
        order = random.Random(f"{seed}/{round_}").sample(range(len(rows)), len(rows))
        return rows[order[place]]

    return row_at


def benign_deck(seed: int) -> Callable[[int], dict]:
    """Return a function from position to a benign prompt with the base model's answer.

    There are three kinds, each reshuffled as by `shuffled_deck`: "How do I ..." requests in several
    wordings, direct questions, borderline requests. They take turns, because the first kind has
    many more rows than the other two.
    """
    rows = read_jsonl(PROMPTS / "benign_replies.jsonl")
    kinds = ("be-t", "be-q", "bo-")
    decks = [shuffled_deck([r for r in rows if r["id"].startswith(k)], seed) for k in kinds]
    return lambda position: decks[position % len(decks)](position // len(decks))
