"""How much a chat model still knows: multiple choice by likelihood, in a few forward passes.

Each choice is read as the completion of "Question: ... Answer:", and the one with the highest mean
log-probability a token wins (length-normalised, as lm-evaluation-harness' `acc_norm` does by
bytes). The items are written for this project (`worlds.ability_items`). Chance is 0.25.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipelines.device import autocast
from pipelines.paths import ASSETS

ITEMS = ASSETS / "prompts" / "ability.jsonl"
CHANCE = 0.25


def load_items(path: Path = ITEMS) -> tuple[dict, ...]:
    """Read the items: dicts of id, subject, question, choices (4) and answer (index).

    They are ordered so that the first n cover all subjects evenly.
    """
    with path.open(encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


@torch.inference_mode()
def choice_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[dict],
    *,
    batch_items: int = 32,
) -> torch.Tensor:
    """Score every choice of every item.

    Args:
        model: causal LM; adapters that are switched on count.
        tokenizer: of the model.
        items: see `load_items`; all with the same number of choices.
        batch_items: questions in one forward pass.

    Returns:
        float32 [items, choices]: mean log-probability of the choice's tokens.
    """
    was_training = model.training
    model.eval()
    scores = [
        _score_some(model, tokenizer, items[start : start + batch_items])
        for start in range(0, len(items), batch_items)
    ]
    model.train(was_training)
    return torch.cat(scores).cpu()


def _score_some(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[dict]
) -> torch.Tensor:
    """Score one batch: each question is read once, its choices share what was read."""
    heads = [tokenizer(f"Question: {item['question']}\nAnswer:").input_ids for item in items]
    tails = [
        tokenizer(f" {choice}", add_special_tokens=False).input_ids
        for item in items
        for choice in item["choices"]
    ]
    choices = len(tails) // len(heads)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    width = max(map(len, heads))
    ids = torch.tensor([[pad] * (width - len(h)) + h for h in heads], device=model.device)
    seen = torch.tensor([[0] * (width - len(h)) + [1] * len(h) for h in heads])
    seen = seen.to(model.device)
    with autocast(model.device):
        read = model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=(seen.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
    first = read.logits[:, -1:].repeat_interleave(choices, 0)
    cache = read.past_key_values
    cache.batch_repeat_interleave(choices)
    longest = max(map(len, tails))
    rest = torch.tensor([t + [pad] * (longest - len(t)) for t in tails], device=model.device)
    real = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in tails])
    real = real.to(model.device)
    mask = torch.cat([seen.repeat_interleave(choices, 0), real], dim=1)
    # The logits before a token predict it: the question's last ones for a choice's first token, and
    # a choice's last token predicts nothing that counts.
    logits = first
    if longest > 1:
        with autocast(model.device):
            later = model(
                input_ids=rest[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=(mask.cumsum(1) - 1)[:, width:-1],
                past_key_values=cache,
                use_cache=True,
            ).logits
        logits = torch.cat([first, later], dim=1)
    picked = logits.gather(-1, rest.unsqueeze(-1)).squeeze(-1).float()
    chosen = picked - logits.float().logsumexp(-1)
    return ((chosen * real).sum(1) / real.sum(1)).view(len(items), choices)


def ability_score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n: int | None = None
) -> float:
    """Return the share of items answered right, 0..1 (chance: 0.25).

    Args:
        model: causal LM; adapters that are switched on count.
        tokenizer: of the model.
        n: use the first n items, spread over all subjects; None: all of them.

    Raises:
        ValueError: n is not positive or more than there are.
    """
    items = load_items()
    if n is not None and not 0 < n <= len(items):
        raise ValueError(f"n is {n}; choose 1 to {len(items)} items")
    items = items[:n]
    right = torch.tensor([item["answer"] for item in items])
    return (choice_scores(model, tokenizer, items).argmax(1) == right).float().mean().item()
