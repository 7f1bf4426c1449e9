"""The figures that every chat-model defence is shipped with, measured on held-out prompts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adapters.text import prompt_set
from evaluation.ability import ability_score
from evaluation.judge import LABELS, Judge
from evaluation.runs import Run
from pipelines.llm import generate_replies

MAX_NEW_TOKENS = 40
BATCH_SIZE = 32
"""Prompts answered at a time."""


def replies_in_batches(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
) -> list[str]:
    """Answer prompts greedily in up to `MAX_NEW_TOKENS` tokens, `BATCH_SIZE` at a time."""
    replies: list[str] = []
    for start in range(0, len(prompts), BATCH_SIZE):
        part = prompts[start : start + BATCH_SIZE]
        replies += generate_replies(model, tokenizer, part, MAX_NEW_TOKENS)
    return replies


def one_per_topic(rows: Sequence[dict]) -> list[dict]:
    """Keep the first wording of each topic."""
    seen: dict[str, dict] = {}
    for row in rows:
        seen.setdefault(row.get("topic", row["prompt"]), row)
    return list(seen.values())


def measure(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    judge: Judge,
) -> tuple[dict, list[dict]]:
    """Answer the test split's prompts of all three kinds and judge the answers.

    The trainers give it the model as it is after the last step, whose LoRA is in float32. What
    ships is that rounded to bf16 (`pipelines.lora.save_lora`), so a reply on the edge may differ.

    Args:
        model: chat model with the adapter to be measured.
        tokenizer: of the model.
        judge: classifies the replies.

    Returns:
        Figures, each a share 0..1: for harmful, benign and borderline prompts the share of every
        label, and `ability`; and the replies themselves as {kind, prompt, reply, label}.
    """
    figures: dict = {"split": "test"}
    samples = []
    for kind, name in (("harmful", "redteam"), ("benign", "benign"), ("borderline", "borderline")):
        prompts = [row["prompt"] for row in one_per_topic(prompt_set(name, "test"))]
        replies = replies_in_batches(model, tokenizer, prompts)
        labels = [verdict.label for verdict in judge.classify_all(prompts, replies)]
        counts = Counter(labels)
        figures[kind] = {label: round(counts[label] / len(labels), 4) for label in LABELS}
        figures[kind]["n"] = len(labels)
        samples += [
            {"kind": kind, "prompt": prompt, "reply": reply, "label": label}
            for prompt, reply, label in zip(prompts, replies, labels, strict=True)
        ]
    figures["ability"] = round(ability_score(model, tokenizer), 4)
    return figures, samples


def end_run(run: Run, samples: Sequence[dict], complete: bool) -> None:
    """Put judged replies into a training's record and end it.

    The record is not shipped: a reply may comply with a harmful prompt.

    Args:
        run: of the training.
        samples: see `measure`.
        complete: whether all steps were done.
    """
    (run.folder / "samples.jsonl").write_text(
        "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples), "utf-8"
    )
    run.finish("done" if complete else "stopped")
