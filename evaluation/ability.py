"""How much a chat model still knows: multiple choice by likelihood, in a few forward passes.

`python -m evaluation.ability` prints one JSON line an arm, the base model and every trained
adapter: arm, score, chance, n, by_subject (share right of each subject's items), tasks (share of
the problems of `evaluation.tasks` solved), tasks_n, perplexity (on held-out prose, see
`evaluation.perplexity`) and perplexity_tokens (that it is the mean over).

Each choice is read as the completion of "Question: ... Answer:", and the one with the highest mean
log-probability a token wins (length-normalised, as lm-evaluation-harness' `acc_norm` does by
bytes). The items are written for this project (`worlds.ability_items`). Chance is 0.25.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adapters import registry
from evaluation.perplexity import perplexity
from evaluation.tasks import task_score
from pipelines.device import autocast
from pipelines.fetch import LLM_HELP, MissingWeights, with_llm
from pipelines.llm import load_llm
from pipelines.paths import ASSETS
from pipelines.profiles import PROFILES, Profile, get_profile

ITEMS = ASSETS / "prompts" / "ability.jsonl"
CHANCE = 0.25
TASKS_N = 48
"""Problems of `evaluation.tasks` in a report."""

_SCORED_ROWS = 8


def load_items(path: Path = ITEMS) -> tuple[dict, ...]:
    """Read the items: dicts of id, subject, question, choices (4) and answer (index).

    They are ordered so that the first n cover all subjects evenly; exactly so if n is a multiple of
    their number, 24, up to 288.
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
    try:
        scores = [
            _score_some(model, tokenizer, items[start : start + batch_items])
            for start in range(0, len(items), batch_items)
        ]
    finally:
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
    cache = read.past_key_values
    cache.batch_repeat_interleave(choices)
    longest = max(map(len, tails))
    rest = torch.tensor([t + [pad] * (longest - len(t)) for t in tails], device=model.device)
    real = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in tails])
    real = real.to(model.device)
    mask = torch.cat([seen.repeat_interleave(choices, 0), real], dim=1)
    # The logits before a token predict it: the question's last ones for a choice's first token, and
    # a choice's last token predicts nothing that counts.
    first = read.logits[:, -1:].repeat_interleave(choices, 0)
    scores = [_log_probs(first, rest[:, :1])]
    if longest > 1:
        with autocast(model.device):
            later = model(
                input_ids=rest[:, :-1],
                attention_mask=mask[:, :-1],
                position_ids=(mask.cumsum(1) - 1)[:, width:-1],
                past_key_values=cache,
                use_cache=True,
            ).logits
        scores.append(_log_probs(later, rest[:, 1:]))
    chosen = torch.cat(scores, dim=1)
    return ((chosen * real).sum(1) / real.sum(1)).view(len(items), choices)


def _log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each token [rows, length], float32.

    A few rows at a time: in float32 the logits of all would take more memory than the model.

    Args:
        logits: that predict the tokens [rows, length, vocabulary].
        tokens: [rows, length].
    """
    parts = zip(logits.split(_SCORED_ROWS), tokens.split(_SCORED_ROWS), strict=True)
    return torch.cat(
        [
            part.gather(-1, wanted.unsqueeze(-1)).squeeze(-1).float() - part.float().logsumexp(-1)
            for part, wanted in parts
        ]
    )


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
    items = first_items(n)
    return answered_right(model, tokenizer, items).float().mean().item()


def first_items(n: int | None = None) -> tuple[dict, ...]:
    """Return the first n items, or all of them.

    Raises:
        ValueError: n is not positive or more than there are.
    """
    items = load_items()
    if n is not None and not 0 < n <= len(items):
        raise ValueError(f"n is {n}; choose 1 to {len(items)} items")
    return items[:n]


def answered_right(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[dict]
) -> torch.Tensor:
    """Return which items are answered right, bool [items]; see `choice_scores`."""
    right = torch.tensor([item["answer"] for item in items])
    return choice_scores(model, tokenizer, items).argmax(1) == right


def by_subject(items: Sequence[dict], right: torch.Tensor) -> dict[str, float]:
    """Return the share of right answers, 0..1, of each subject.

    Args:
        items: see `load_items`.
        right: bool [items].
    """
    answers: dict[str, list[bool]] = {}
    for item, hit in zip(items, right.tolist(), strict=True):
        answers.setdefault(item["subject"], []).append(hit)
    return {subject: round(sum(hits) / len(hits), 4) for subject, hits in sorted(answers.items())}


def trained_adapters(profile: Profile) -> dict[str, Path]:
    """Return arm → folder of the profile's trained language-model adapters, by name."""
    folders = {
        name: registry.adapter_target(name, profile)
        for name, defence in sorted(registry.defences().items())
        if defence.card.pipeline == "llm"
    }
    return {
        name: folder
        for name, folder in folders.items()
        if (folder / "adapter_model.safetensors").is_file()
    }


def report(
    arm: str,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[dict],
) -> dict:
    """Measure one arm.

    Args:
        arm: its name.
        model: causal LM; adapters that are switched on count.
        tokenizer: of the model.
        items: multiple choice, see `load_items`.

    Returns:
        ``arm``, ``score`` (0..1), ``chance``, ``n``, ``by_subject``, ``tasks`` (0..1),
        ``tasks_n``, ``perplexity`` (1 or more; null: beyond all bounds) and ``perplexity_tokens``.
    """
    right = answered_right(model, tokenizer, items)
    lost, tokens = perplexity(model, tokenizer)
    return {
        "arm": arm,
        "score": round(right.float().mean().item(), 4),
        "chance": CHANCE,
        "n": len(items),
        "by_subject": by_subject(items, right),
        "tasks": round(task_score(model, tokenizer, TASKS_N), 4),
        "tasks_n": TASKS_N,
        "perplexity": round(lost, 3) if math.isfinite(lost) else None,
        "perplexity_tokens": tokens,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every arm and print its figures."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.ability", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--profile", default="embedded", choices=[p.name for p in PROFILES])
    parser.add_argument("--llm", default="", metavar="NAME_OR_FOLDER", help=LLM_HELP)
    parser.add_argument("-n", type=int, help="only the first n items (default: all)")
    args = parser.parse_args(arguments)
    profile = get_profile(args.profile)
    try:
        items = first_items(args.n)
        if args.llm:
            profile = with_llm(profile, args.llm)
        model, tokenizer = load_llm(profile)
    except (ValueError, MissingWeights) as error:
        raise SystemExit(str(error)) from error
    print(json.dumps(report("base", model, tokenizer, items)), flush=True)
    for arm, folder in trained_adapters(profile).items():
        # In the base model's own precision, as Chat mounts it.
        mounted = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
        print(json.dumps(report(arm, mounted, tokenizer, items)), flush=True)
        model = mounted.unload()


if __name__ == "__main__":
    main()
