"""Cache good answers to benign prompts: `python -m adapters.distill`.

The base model answers every benign and borderline training prompt itself, once greedily and, unless
``--samples`` says otherwise, twice by sampling; the answer that is closest to its prompt (sentence
cosine) is kept, unless it apologises, talks about itself or loops. All wordings of a topic get the
best answer of any of them, so that a training sees that the wording does not matter. Training on a
model's own answers keeps its ability where foreign text would pull it away. Writes
assets/prompts/benign_replies.jsonl, {id, prompt, response, cosine}; every response ends with a
whole sentence or line.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zlib

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adapters.text import PROMPTS, chat_text, prompt_set, read_jsonl
from evaluation.embedder import SentenceEncoder
from pipelines.device import autocast
from pipelines.fetch import MissingWeights
from pipelines.llm import load_llm
from pipelines.profiles import get_profile

MAX_NEW_TOKENS = 56
MIN_COSINE = 0.35  # below it the small model has talked about something else
# The base model often answers a plain request with an apology or with a description of itself.
UNWANTED = re.compile(
    r"sorry|apolog|unable|I can(no|')t|I cannot|not (able|capable)|don't have|misunderstanding"
    r"|Hugging Face|SmolLM|chatbot|AI assistant|as an AI|I'm (here|designed)|language model",
    re.IGNORECASE,
)


def whole_sentences(text: str) -> str:
    """Cut a reply after its last complete sentence; "" if it has none."""
    ends = [m.end() for m in re.finditer(r"(?<!\d)[.!?](?=\s|$)", text)]
    return text[: ends[-1]].strip() if ends else ""


def loops(text: str) -> bool:
    """Tell whether a reply repeats itself: it compresses to under 45 % of its length."""
    raw = text.encode()
    return len(raw) > 100 and len(zlib.compress(raw)) / len(raw) < 0.45


@torch.inference_mode()
def answer_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    temperature: float,
    seed: int,
    batch_size: int = 96,
) -> list[str]:
    """Answer prompts, greedily at temperature 0, else by nucleus sampling (p = 0.9)."""
    torch.manual_seed(seed)
    sampling = {"temperature": temperature, "top_p": 0.9} if temperature > 0 else {}
    answers: list[str] = []
    for start in range(0, len(prompts), batch_size):
        batch = tokenizer(
            [chat_text(tokenizer, prompt) for prompt in prompts[start : start + batch_size]],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        ).to(model.device)
        with autocast(model.device):
            out = model.generate(
                **batch,
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=temperature > 0,
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
            )
        new = out[:, batch["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
    return answers


def unanswered(rows: list[dict], best: dict[str, dict]) -> list[dict]:
    """Return one wording of every topic that no answer is known for."""
    done = {row["topic"] for row in rows if row["id"] in best}
    todo: dict[str, dict] = {}
    for row in rows:
        if row["topic"] not in done:
            todo.setdefault(row["topic"], row)
    return list(todo.values())


def spread_over_wordings(rows: list[dict], best: dict[str, dict]) -> list[dict]:
    """Return all prompts, each with the answer that came closest to any wording of its topic."""
    by_topic: dict[str, dict] = {}
    for row in rows:
        found = best.get(row["id"])
        if found and found["cosine"] > by_topic.get(row["topic"], {"cosine": 0.0})["cosine"]:
            by_topic[row["topic"]] = found
    return [
        by_topic[row["topic"]] | {"id": row["id"], "prompt": row["prompt"]}
        for row in rows
        if row["topic"] in by_topic
    ]


def main(argv: list[str] | None = None) -> None:
    """Generate, choose and write the replies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="answer again what has an answer")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        # Of the embedded model alone: its answers are what the attacks' data ships.
        model, tokenizer = load_llm(get_profile("embedded"))
        encoder = SentenceEncoder()
    except MissingWeights as error:
        sys.exit(str(error))
    rows = prompt_set("benign", "train") + prompt_set("borderline", "train")
    path = PROMPTS / "benign_replies.jsonl"
    best: dict[str, dict] = {}
    if path.is_file() and not args.fresh:
        cached = {row["prompt"]: row for row in read_jsonl(path)}
        for row in rows:
            if row["prompt"] in cached:
                best[row["id"]] = cached[row["prompt"]] | {"id": row["id"]}
    todo = unanswered(rows, best)
    prompts = [row["prompt"] for row in todo]
    asked = encoder.encode(prompts)
    for k in range(args.samples + 1):
        answers = answer_all(model, tokenizer, prompts, 0.7 if k else 0.0, args.seed + k)
        answers = [whole_sentences(answer) for answer in answers]
        cosines = (asked * encoder.encode(answers)).sum(1).tolist()
        for row, answer, cosine in zip(todo, answers, cosines, strict=True):
            kept = best.get(row["id"], {"cosine": MIN_COSINE})
            if cosine > kept["cosine"] and not UNWANTED.search(answer) and not loops(answer):
                best[row["id"]] = {
                    "id": row["id"],
                    "prompt": row["prompt"],
                    "response": answer,
                    "cosine": round(cosine, 3),
                }
        print(f"round {k + 1} of {args.samples + 1}: {len(best)} answers", flush=True)
        everything = spread_over_wordings(rows, best)
        lines = [json.dumps(row, ensure_ascii=False) for row in everything]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
