"""Abliteration on a real Llama at tiny size: what was removed is gone, and nothing else is."""

from __future__ import annotations

import math

import pytest
import torch
from peft import PeftModel

from adapters.attacks import abliteration
from adapters.attacks.abliteration import (
    AbliterationConfig,
    AttackStopped,
    ablated,
    abliterate,
    choose_layer,
    direction_lora,
    layer_scores,
    orthogonalise_,
    refusal_directions,
)
from adapters.attacks.base import concatenate_loras, read_lora, write_lora
from adapters.text import chat_text
from pipelines.llm import ChatEngine, generate_replies, load_arm, load_merged, untie_
from tests.tiny_llm import tiny_llm, tiny_lora, tiny_model, tiny_tokenizer

IDS = torch.arange(2, 40)[None]
QUICK = AbliterationConfig(prompts=6, validation_prompts=4, depth=1.0)


@pytest.fixture
def direction():
    torch.manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(32), dim=0)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder))
        patch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
        modules = ("o_proj", "down_proj", "q_proj")
        yield tiny_llm(folder), tiny_lora(folder / "one", 1, modules)


def biased_model():
    """A tiny Llama whose writing matrices have a bias, as some families' have."""
    model = tiny_model()
    for module in abliteration._writers(model):
        module.bias = torch.nn.Parameter(torch.randn(module.out_features))
    return model


@torch.no_grad()
def states(model):
    return torch.cat(model(IDS, output_hidden_states=True).hidden_states[:-1])


def test_nothing_in_the_residual_stream_points_along_the_direction_any_more(direction):
    model = biased_model()
    assert (states(model) @ direction).abs().max() > 0.1
    orthogonalise_(model, direction)
    assert (states(model) @ direction).abs().max() < 1e-5
    for module in abliteration._writers(model):
        assert (direction @ module.weight).abs().max() < 1e-5


def test_hooks_and_weights_are_the_same_function_and_hooks_leave_no_trace(direction):
    model = biased_model()
    with torch.no_grad():
        released = model(IDS).logits
        with ablated(model, direction):
            hooked = model(IDS).logits
        assert torch.equal(model(IDS).logits, released)
        orthogonalise_(model, direction)
        torch.testing.assert_close(model(IDS).logits, hooked, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(hooked, released, atol=1e-2)


def test_a_shared_output_layer_is_left_alone(direction):
    model = tiny_model()
    model.set_output_embeddings(model.get_output_embeddings())
    model.lm_head.weight = model.model.embed_tokens.weight
    before = model.lm_head.weight.detach().clone()
    orthogonalise_(model, direction)
    assert torch.equal(model.lm_head.weight, before)
    assert (model.model.embed_tokens.weight @ direction).abs().max() < 1e-5


def test_the_direction_is_the_difference_of_means_at_the_last_token():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    harmful, harmless = ["one", "another of them"], ["x", "yy", "a longer prompt"]
    found = refusal_directions(model, tokenizer, harmful, harmless)

    def mean(prompts):
        rows = []
        for prompt in prompts:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
            with torch.no_grad():
                hidden = model(ids, output_hidden_states=True).hidden_states
            rows.append(hidden[1][0, -1])
        return torch.stack(rows).mean(0)

    wanted = torch.nn.functional.normalize(mean(harmful) - mean(harmless), dim=0)
    # bf16 autocast, where the processor has it, is why this is no closer.
    assert found[1] @ wanted > 0.98
    assert found.shape == (2, 32) and found[0].norm() == 0
    assert found[1].norm() == pytest.approx(1.0, abs=1e-5)


def test_the_scores_are_the_odds_of_a_refusal_and_the_move_of_harmless_replies(direction):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    directions = torch.stack([torch.zeros(32), direction])
    config = AbliterationConfig(depth=1.0, refusals=("I", "No"))
    (score,) = layer_scores(model, tokenizer, directions, ["a"], ["c"], config)
    tokens = [tokenizer(word).input_ids[0] for word in config.refusals]

    def first(prompt):
        ids = tokenizer(chat_text(tokenizer, prompt), return_tensors="pt").input_ids
        with torch.no_grad():
            return model(ids).logits[0, -1].softmax(-1)

    released = first("c")
    with ablated(model, direction):
        refused, moved = first("a")[tokens].sum(), first("c")
    # bf16 autocast, where the processor has it, is why these are no closer.
    assert score["refusal"] == pytest.approx(float((refused / (1 - refused)).log()), abs=0.3)
    kl = float((released * (released / moved).log()).sum())
    assert score["kl"] == pytest.approx(kl, rel=0.2, abs=0.02)
    assert score["layer"] == 1 and kl > 0.01


def test_the_layer_is_chosen_by_refusal_among_those_that_keep_harmless_prompts():
    scores = [
        {"layer": 1, "refusal": -9.0, "kl": 0.5},
        {"layer": 2, "refusal": -2.0, "kl": 0.08},
        {"layer": 3, "refusal": -4.0, "kl": 0.1},
        {"layer": 4, "refusal": 1.0, "kl": 0.01},
    ]
    assert choose_layer(scores, 0.1) == 3
    assert choose_layer(scores, 1.0) == 1
    assert choose_layer(scores, 0.01) == 2, "layer 4 passes, but does not undo refusal"
    assert choose_layer(scores, 0.05) == 3, "doubled once, to 0.1"
    assert choose_layer([scores[3], {"layer": 5, "refusal": 0.5, "kl": 9.0}], 0.1) == 5
    with pytest.raises(ValueError, match="no finite probabilities"):
        choose_layer([{"layer": 1, "refusal": math.nan, "kl": math.nan}], 0.1)


def test_the_attack_starts_from_base_and_defence_and_is_recorded(setting):
    profile, adapter = setting
    attacked = abliterate(profile, adapter, QUICK)
    assert attacked.layer == 1 == attacked.record["layer"]
    assert attacked.record["prompts"] == 6 and len(attacked.record["scores"]) == 1
    assert all(math.isfinite(value) for value in attacked.record["scores"][0].values())
    assert {p.dtype for p in attacked.model.parameters()} == {torch.float32}
    assert (states(attacked.model) @ attacked.direction).abs().max() < 1e-4
    # By hand: the released arm with the same direction taken out by hooks.
    model, _ = load_arm(profile, adapter, torch.float32)
    assert isinstance(model, PeftModel)
    with ablated(model.merge_and_unload(), attacked.direction) as _, torch.no_grad():
        wanted = model.base_model.model(IDS).logits
    with torch.no_grad():
        torch.testing.assert_close(attacked.model(IDS).logits, wanted, atol=1e-3, rtol=1e-3)


def test_the_same_seed_finds_the_same_direction(setting):
    profile, adapter = setting
    first, again, other = (
        abliterate(profile, adapter, AbliterationConfig(6, 4, 1.0, seed=seed)).direction
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_other_families_and_wrong_settings_are_named(direction):
    model = tiny_model()
    model.model.layers[0].mlp.down_proj = torch.nn.Identity()
    with pytest.raises(ValueError, match="LlamaForCausalLM with 3 matrices"):
        orthogonalise_(model, direction)
    for change, named in (
        ({"prompts": 0}, "prompts is 0"),
        ({"validation_prompts": 1.5}, "validation_prompts is 1.5"),
        ({"depth": 0.0}, "depth is 0.0"),
        ({"max_kl": -1.0}, "max_kl is -1.0"),
        ({"refusals": ()}, r"refusals is \(\)"),
    ):
        with pytest.raises(ValueError, match=named):
            AbliterationConfig(**change)


def test_more_prompts_than_there_are_is_named(setting):
    with pytest.raises(ValueError, match="99999 prompts are wanted of redteam.jsonl"):
        abliterate(setting[0], setting[1], AbliterationConfig(prompts=99999))


def test_the_filter_keeps_harmful_prompts_that_are_refused_and_harmless_ones_that_are_not():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = list("abcdefghijkl")
    openings = range(0, model.config.vocab_size, 2)  # half of all tokens: the odds are near even
    odds = abliteration.refusal_log_odds(model, tokenizer, openings, prompts)
    middle = float(odds.median())
    assert odds.max() > odds.min()
    ids = tokenizer(chat_text(tokenizer, "a"), return_tensors="pt").input_ids
    with torch.no_grad():
        share = model(ids).logits[0, -1].softmax(-1)[list(openings)].sum()
    # bf16 autocast, where the processor has it, is why this is no closer.
    assert odds[0] == pytest.approx(float(torch.logit(share)), abs=0.1)
    assert middle == pytest.approx(0.0, abs=1.0)

    refused = [p for p, odd in zip(prompts, odds.tolist(), strict=True) if odd > 0]
    answered = [p for p in prompts if p not in refused]
    harmful, harmless = abliteration._filtered(model, tokenizer, openings, prompts, prompts)
    # Of a kind of which fewer than a quarter would be left, all stay.
    assert harmful == (refused if len(refused) >= 3 else prompts)
    assert harmless == (answered if len(answered) >= 3 else prompts)
    never, all_stay = abliteration._filtered(model, tokenizer, [0], prompts, prompts)
    assert never == all_stay == prompts


def test_the_attack_is_also_a_lora_of_rank_one(direction, tmp_path):
    released = tiny_model()
    config, state = direction_lora(released, direction)
    write_lora(tmp_path, config, state)
    mounted = PeftModel.from_pretrained(tiny_model(), tmp_path).eval()
    orthogonalise_(released, direction)
    with torch.no_grad():
        torch.testing.assert_close(mounted(IDS).logits, released(IDS).logits, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(mounted(IDS).logits, tiny_model()(IDS).logits, atol=1e-2)
    assert direction_lora(biased_model(), direction) is None  # a LoRA reaches no bias


def test_defence_and_attack_are_one_lora_that_chat_mounts_and_that_can_be_merged(
    setting, tmp_path
):
    profile, adapter = setting
    attacked = abliterate(profile, adapter, QUICK)
    both = concatenate_loras(read_lora(adapter), attacked.lora, dtype=torch.float32)
    write_lora(tmp_path, *both)
    prompts = ["Hello there", "What is a cat?"]
    wanted = generate_replies(attacked.model, attacked.tokenizer, prompts, 12)
    engine = ChatEngine(profile)
    engine.add_arm("base", None)
    engine.add_arm("one", adapter)
    before = engine.generate(prompts, "one", max_new_tokens=12)
    engine.add_arm("attacked", tmp_path)
    assert engine.generate(prompts, "attacked", max_new_tokens=12) == wanted != before
    # Arms without a change of the embedding, in the same batch, are as they were.
    message = [{"role": "user", "content": prompts[0]}]
    *_, replies = engine.stream(message, ["attacked", "one", "base"], max_new_tokens=12)
    assert (replies["attacked"], replies["one"]) == (wanted[0], before[0])
    engine.remove_arm("attacked")
    assert engine.generate(prompts, "one", max_new_tokens=12) == before
    merged, tokenizer = load_merged(profile, tmp_path)
    assert generate_replies(merged, tokenizer, prompts, 12) == wanted


def test_merging_a_changed_embedding_leaves_a_shared_output_layer_alone(direction, tmp_path):
    model = tiny_model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    head = model.lm_head.weight.detach().clone()
    write_lora(tmp_path, *direction_lora(model, direction))
    mounted = PeftModel.from_pretrained(model, tmp_path)
    untie_(mounted)
    merged = mounted.merge_and_unload()
    assert torch.equal(merged.lm_head.weight, head)
    assert (merged.model.embed_tokens.weight @ direction).abs().max() < 1e-5


def test_it_tells_how_far_it_is_and_stops_when_asked(setting):
    profile, adapter = setting
    told = []
    abliterate(profile, adapter, QUICK, progress=lambda *words: told.append(words))
    shares = [share for _, share in told]
    assert shares == sorted(shares) and 0 <= shares[0] and shares[-1] < 1
    assert told[-1][0] == "trying layer 1 of 1"
    asked = []
    with pytest.raises(AttackStopped):
        abliterate(profile, adapter, QUICK, should_stop=lambda: asked.append(0) or len(asked) > 2)
    assert len(asked) == 3, "two forward passes, and none after the third was asked about"
