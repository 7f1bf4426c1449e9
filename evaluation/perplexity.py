"""How well a chat model still predicts plain prose: perplexity on text that no arm was trained on.

    perplexity = exp(-1/N Σ log p(token | the tokens of its paragraph before it))

over all N tokens of all paragraphs together, so that a long paragraph counts for more. The first
token of each has nothing before it and is context only (SmolLM2's tokenizer begins a text with no
special token). The text is no conversation and has no chat template around it.

The paragraphs, sixty on everyday subjects (`assets/prompts/prose.jsonl`), are written for this
project, and so they are in no training data, be it the base model's or a defence's. Perplexities
can be compared between models of one tokenizer only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from pipelines.device import autocast
from pipelines.paths import ASSETS

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROSE = ASSETS / "prompts" / "prose.jsonl"

_BATCH = 8  # paragraphs in one forward pass: the logits of one are its length × vocabulary
_IGNORED = -100


def paragraphs(path: Path = PROSE) -> tuple[str, ...]:
    """Read the held-out paragraphs, 60 to 90 words each."""
    with path.open(encoding="utf-8") as lines:
        return tuple(json.loads(line)["text"] for line in lines)


@torch.inference_mode()
def perplexity(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str] | None = None,
) -> tuple[float, int]:
    """Return the perplexity of texts, 1 or more, and how many tokens it is the mean over.

    Args:
        model: causal LM; adapters that are switched on count; its training mode is restored.
        tokenizer: of the model.
        texts: None: `paragraphs`.

    Raises:
        ValueError: no text has a second token to be predicted.
    """
    texts = paragraphs() if texts is None else texts
    was_training = model.training
    model.eval()
    try:
        found = [
            _loss(model, tokenizer, texts[start : start + _BATCH])
            for start in range(0, len(texts), _BATCH)
        ]
    finally:
        model.train(was_training)
    tokens = sum(count for _, count in found)
    if not tokens:
        raise ValueError(f"texts is {len(texts)} texts without a token that could be predicted")
    try:
        return math.exp(sum(loss for loss, _ in found) / tokens), tokens
    except OverflowError:  # a model that an attack has destroyed
        return math.inf, tokens


def _loss(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[float, int]:
    """Return the summed loss of a batch, in nats, and the number of predicted tokens."""
    batch = tokenizer(
        list(texts), padding=True, padding_side="right", return_tensors="pt"
    ).to(model.device)  # fmt: skip
    mask = batch["attention_mask"]
    with autocast(model.device):
        logits = model(input_ids=batch["input_ids"], attention_mask=mask).logits
    wanted = batch["input_ids"].masked_fill(mask == 0, _IGNORED)[:, 1:]
    loss = cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), wanted.flatten(), ignore_index=_IGNORED,
        reduction="sum",
    )  # fmt: skip
    return loss.item(), int((wanted != _IGNORED).sum())
