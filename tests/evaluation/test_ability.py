"""Likelihood scoring of choices."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from evaluation.ability import (
    CHANCE,
    ability_score,
    by_subject,
    choice_scores,
    load_items,
    report,
    trained_adapters,
)
from evaluation.perplexity import perplexity
from evaluation.tasks import task_score
from pipelines.fetch import llm_folder
from pipelines.llm import load_llm
from pipelines.profiles import get_profile
from tests.tiny_llm import tiny_model, tiny_tokenizer


def test_batched_scores_equal_scoring_one_choice_at_a_time():
    tokenizer = PreTrainedTokenizerFast.from_pretrained(llm_folder(get_profile("embedded")))
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    ).eval()
    items = load_items()[:3]
    scores = choice_scores(model, tokenizer, items, batch_items=2)
    for i, item in enumerate(items):
        for j, choice in enumerate(item["choices"]):
            head = tokenizer(f"Question: {item['question']}\nAnswer:").input_ids
            tail = tokenizer(f" {choice}").input_ids
            logits = model(torch.tensor([head + tail])).logits[0].float().log_softmax(-1)
            wanted = torch.stack(
                [logits[len(head) + k - 1, token] for k, token in enumerate(tail)]
            ).mean()
            assert scores[i, j].item() == pytest.approx(wanted.item(), abs=0.05)


def test_scoring_restores_the_mode_of_training_even_if_it_fails():
    model, tokenizer = tiny_model().train(), tiny_tokenizer()
    items = [*load_items()[:2], {"question": "?", "choices": [], "answer": 0}]
    choice_scores(model, tokenizer, items[:2])
    assert model.training
    with pytest.raises(ValueError):
        choice_scores(model, tokenizer, items, batch_items=2)
    assert model.training


def test_the_published_model_is_clearly_above_chance():
    model, tokenizer = load_llm(get_profile("embedded"))
    assert ability_score(model, tokenizer, 24) > CHANCE + 0.3


def test_subjects_are_counted_apart():
    items = [{"subject": name} for name in ("food", "animals", "food", "food")]
    shares = by_subject(items, torch.tensor([True, False, False, True]))
    assert shares == {"animals": 0.0, "food": 0.6667}


def test_a_report_agrees_with_the_score():
    items = load_items()[:48]
    model, tokenizer = tiny_model(), tiny_tokenizer()
    found = report("base", model, tokenizer, items)
    assert found["score"] == pytest.approx(ability_score(model, tokenizer, 48), abs=1e-4)
    assert (found["arm"], found["n"], found["chance"]) == ("base", 48, 0.25)
    assert found["tasks"] == pytest.approx(task_score(model, tokenizer, 48), abs=1e-4)
    assert found["tasks_n"] == 48
    lost, tokens = perplexity(model, tokenizer)
    assert found["perplexity"] == pytest.approx(lost, abs=1e-3) and lost > 1
    assert found["perplexity_tokens"] == tokens > 10_000  # bytes
    mean = sum(found["by_subject"].values()) / 24  # two items each
    assert len(found["by_subject"]) == 24
    assert mean == pytest.approx(found["score"], abs=1e-3)


def test_arms_are_the_language_adapters_and_not_the_animation_ones():
    arms = trained_adapters(get_profile("embedded"))
    assert {"aligned", "sdd"} <= set(arms)
    assert "poseguard" not in arms


def test_arms_are_those_with_weights_where_the_profile_has_its_adapters(tmp_path):
    profile = dataclasses.replace(get_profile("embedded"), adapters=tmp_path)
    assert trained_adapters(profile) == {}
    for name in ("sdd", "gift", "else"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").touch()
    assert trained_adapters(profile) == {"sdd": tmp_path / "sdd"}


@pytest.mark.parametrize("n", [0, 100_000])
def test_a_wrong_number_of_items_is_named(n):
    model, tokenizer = None, None
    with pytest.raises(ValueError, match=f"n is {n}"):
        ability_score(model, tokenizer, n)
