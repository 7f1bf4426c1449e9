"""Perplexity on held-out prose."""

from __future__ import annotations

import math

import pytest
import torch

from adapters.text import PROMPTS, read_jsonl
from evaluation.perplexity import paragraphs, perplexity
from pipelines.llm import load_llm
from pipelines.profiles import get_profile
from tests.tiny_llm import tiny_model, tiny_tokenizer

TEXTS = ["A short one.", "One that is a good deal longer than the first.", "x"] * 4


def test_batches_equal_reading_one_token_after_the_other():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    total, count = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(text).input_ids
        for at in range(1, len(ids)):
            with torch.no_grad():
                logits = model(torch.tensor([ids[:at]])).logits[0, -1]
            total -= logits.log_softmax(-1)[ids[at]].item()
            count += 1
    found, tokens = perplexity(model.train(), tokenizer, TEXTS)
    # bf16 where the machine has it
    assert tokens == count and math.log(found) == pytest.approx(total / count, abs=0.03)
    assert model.training


def test_a_model_that_knows_nothing_is_as_lost_as_its_vocabulary_is_large():
    model = tiny_model()
    torch.nn.init.zeros_(model.lm_head.weight)
    assert perplexity(model, tiny_tokenizer())[0] == pytest.approx(258, rel=1e-3)


def test_a_destroyed_model_has_no_finite_figure_but_no_error_either():
    model = tiny_model()
    model.lm_head.weight.data *= 1e5
    assert perplexity(model, tiny_tokenizer(), TEXTS)[0] == math.inf


def test_nothing_to_predict_is_an_error():
    for texts in (["x", "y"], []):
        with pytest.raises(ValueError, match=f"texts is {len(texts)} texts"):
            perplexity(tiny_model(), tiny_tokenizer(), texts)


def test_the_published_model_reads_prose_and_not_shuffled_words():
    model, tokenizer = load_llm(get_profile("embedded"))
    texts = paragraphs()[:4]
    shuffled = [" ".join(sorted(text.split())) for text in texts]
    prose, _ = perplexity(model, tokenizer, texts)
    assert 5 < prose < 150 and perplexity(model, tokenizer, shuffled)[0] > 3 * prose


def test_the_prose_is_sixty_paragraphs_of_its_own():
    rows = read_jsonl(PROMPTS / "prose.jsonl")
    assert len(rows) == len({row["id"] for row in rows}) == 60
    assert len({row["subject"] for row in rows}) == len({row["text"] for row in rows}) == 60
    assert all(60 <= len(row["text"].split()) <= 90 for row in rows)
    trained = "\n".join(
        file.read_text(encoding="utf-8") for file in PROMPTS.glob("*.jsonl")
        if file.name != "prose.jsonl"
    )  # fmt: skip
    for row in rows:
        words = row["text"].split()
        runs = (" ".join(words[at : at + 8]) for at in range(len(words) - 7))
        assert not any(run in trained for run in runs), row["id"]
