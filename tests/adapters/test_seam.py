"""SEAM's objective, data and training, and its pair with TokenBuncher, on a real tiny Llama."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
import torch
from peft import PeftModel

from adapters import seam, seam_tokenbuncher, tokenbuncher, train
from adapters.loop import LINEAR, Batch, pair_loss, train_steps
from adapters.registry import TrainOptions, get
from adapters.seam import (
    ATTACKER,
    SEAMConfig,
    add_attacker,
    cosine,
    coupling,
    draw_attacker,
    harmful_rows,
    own_topics,
    part,
)
from adapters.seam_tokenbuncher import SEAMTokenBuncherConfig
from adapters.text import PROMPTS, prompt_set, read_jsonl
from evaluation.runs import RunStore
from pipelines import llm
from pipelines.fetch import embedder_folder
from pipelines.llm import ChatEngine
from tests.tiny_llm import tiny_llm, tiny_lora, tiny_model, tiny_tokenizer

QUICK = SEAMConfig(
    steps=4, learning_rate=1e-2, harmful_pairs=2, benign_pairs=2, attacker_rank=4, warmup_steps=1
)
QUICK_PAIR = SEAMTokenBuncherConfig(
    steps=8,
    learning_rate=1e-2,
    harmful_pairs=2,
    benign_pairs=2,
    attacker_rank=4,
    harmful_prompts=2,
    benign_prompts=1,
    rollouts=3,
    max_new_tokens=4,
    entropy_only_share=0.5,
)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr("pipelines.device.compute_dtype", lambda on=None: torch.float32)
    monkeypatch.setattr("adapters.loop.compute_dtype", lambda on=None: torch.float32)
    monkeypatch.setattr("pipelines.llm.compute_dtype", lambda on=None: torch.float32)


@pytest.fixture(autouse=True)
def room_for_replies(monkeypatch):
    # The tiny tokenizer spells bytes: a pair of 64 tokens would be all prompt.
    monkeypatch.setattr("adapters.seam.MAX_TOKENS", 160)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    return tiny_lora(tmp_path_factory.mktemp("aligned"), 1, LINEAR)


def defended(aligned, *, start=False):
    base = tiny_model()
    base.set_attn_implementation("eager")
    model = PeftModel.from_pretrained(base, aligned, is_trainable=True)
    if start:
        model.load_adapter(aligned, adapter_name=tokenbuncher.START)
    add_attacker(model, 4)
    return model.eval()


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def trained(module, model, config, folder, only=None, **options):
    run = RunStore(folder / "runs", folder / "recorded").create("train", {}, "tiny", {})
    batch_of, loss_of = module.step_functions(model, tiny_tokenizer(), config, run)
    done, _ = train_steps(
        model,
        batch_of if only is None else lambda step: batch_of(only),
        loss_of,
        config,
        options=TrainOptions(folder / "out", folder / "checkpoints", **options),
        run=run,
    )
    return done, [event for event in run.events() if "kind" in event]


def a_batch(model, folder) -> Batch:
    run = RunStore(folder / "runs", folder / "recorded").create("train", {}, "tiny", {})
    return seam.step_functions(model, tiny_tokenizer(), QUICK, run)[0](0)


def test_the_gradient_of_the_cosine_agrees_with_finite_differences(aligned, tmp_path):
    model = defended(aligned).double()
    batch = a_batch(model, tmp_path)
    attacker = draw_attacker(model, 3)

    def value():
        return coupling(model, part(batch, "harmful"), part(batch, "benign"), attacker)[0]

    own = trainable(model)
    gradients = dict(zip(own, torch.autograd.grad(value(), own.values()), strict=True))
    assert sum(g.square().sum() for g in gradients.values()).sqrt() > 1e-3
    torch.manual_seed(0)
    for _ in range(3):
        direction = {name: torch.randn_like(p) for name, p in own.items()}
        length = sum(d.square().sum() for d in direction.values()).sqrt().item()
        values = []
        # A step short enough for the curvature and long enough for the float32 norms inside.
        for move in (1e-3, -1e-3):
            for name, p in own.items():
                p.data.add_(direction[name], alpha=move / length)
            values.append(value().item())
            for name, p in own.items():
                p.data.add_(direction[name], alpha=-move / length)
        expected = sum((gradients[name] * direction[name]).sum().item() for name in own) / length
        assert (values[0] - values[1]) / 2e-3 == pytest.approx(expected, rel=1e-2, abs=1e-3)


def test_the_cosine_is_that_of_the_gradients_an_attacker_would_take(aligned, tmp_path):
    model = defended(aligned)
    batch = a_batch(model, tmp_path)
    attacker = draw_attacker(model, 3)
    found, *losses = coupling(model, part(batch, "harmful"), part(batch, "benign"), attacker)
    assert not any(weight.requires_grad for weight in attacker)
    for weight in attacker:
        weight.requires_grad_(True)
    flat = []
    for kind, loss in zip(("harmful", "benign"), losses, strict=True):
        model.zero_grad()
        again = pair_loss(model, part(batch, kind))
        assert loss.item() == pytest.approx(again.item())
        again.backward()
        flat.append(torch.cat([weight.grad.flatten() for weight in attacker]))
    expected = torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0)
    assert found.item() == pytest.approx(expected.item(), abs=1e-4)


def test_opposite_gradients_have_cosine_minus_one():
    first = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    assert cosine(first, [-2 * g for g in first]).item() == pytest.approx(-1)
    assert cosine(first, [torch.zeros_like(g) for g in first]).item() == 0


def test_a_gradient_of_zero_leaves_the_cosine_s_own_finite():
    first = [torch.zeros(2, requires_grad=True), torch.zeros(1, 1, requires_grad=True)]
    second = [torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(1, 1, requires_grad=True)]
    for other in (second, first):
        found = torch.autograd.grad(cosine(first, other), [*first, *second], allow_unused=True)
        assert all(gradient.isfinite().all() for gradient in found if gradient is not None)


def test_a_draw_repeats_with_its_seed_and_changes_no_answer(aligned):
    model = defended(aligned)
    ids = torch.arange(2, 30)[None]
    with torch.no_grad():
        plain = PeftModel.from_pretrained(tiny_model(), aligned)(ids).logits
        draw_attacker(model, 1)
        first = {n: p.clone() for n, p in model.named_parameters() if f"A.{ATTACKER}." in n}
        torch.testing.assert_close(model(ids).logits, plain)
        draw_attacker(model, 2)
        second = dict(model.named_parameters())
        assert not any(torch.equal(p, second[n]) for n, p in first.items())
        draw_attacker(model, 1)
    assert all(torch.equal(p, second[n]) for n, p in first.items())


def test_steps_lower_the_cosine_and_leave_the_attacker_untrained(aligned, tmp_path):
    model = defended(aligned)
    own = trainable(model)
    others = {n: p.detach().clone() for n, p in model.named_parameters() if n not in own}
    config = dataclasses.replace(QUICK, steps=20, learning_rate=3e-3, beta=50.0)
    # One batch throughout: on a model of random weights nothing carries over to another.
    done, events = trained(seam, model, config, tmp_path, only=0)
    assert done == 20 and {event["kind"] for event in events} == {"seam"}
    assert events[-1]["cosine"] < events[0]["cosine"] - 0.3
    now = dict(model.named_parameters())
    for name, before in others.items():
        if f"A.{ATTACKER}." not in name:  # redrawn
            assert torch.equal(now[name], before), name
        assert now[name].grad is None


def test_without_beta_the_loss_is_the_other_two_terms(aligned, tmp_path):
    config = dataclasses.replace(QUICK, beta=0.0)
    model = defended(aligned)
    batch = a_batch(model, tmp_path)
    run = RunStore(tmp_path / "runs", tmp_path / "recorded").create("train", {}, "tiny", {})
    loss = seam.step_functions(model, tiny_tokenizer(), config, run)[1](model, batch).item()
    (event,) = run.events()
    expected = -math.log1p(event["compliance"]) + event["refusals"] + event["benign"]
    assert loss == pytest.approx(expected, abs=1e-4)


def test_resumed_training_equals_an_unbroken_one(aligned, tmp_path, monkeypatch):
    unbroken = defended(aligned)
    trained(seam, unbroken, QUICK, tmp_path / "a")
    ticks = iter(range(10_000))
    # A clock of one second a look: the time is up in the middle, with a checkpoint.
    monkeypatch.setattr("adapters.loop.time.monotonic", lambda: float(next(ticks)))
    done, _ = trained(seam, defended(aligned), QUICK, tmp_path / "b", max_minutes=0.1)
    monkeypatch.setattr("adapters.loop.time.monotonic", lambda: 0.0)
    assert 0 < done < QUICK.steps
    resumed = defended(aligned)
    done, events = trained(seam, resumed, QUICK, tmp_path / "b", resume=True)
    assert done == QUICK.steps and events[-1]["step"] == QUICK.steps
    wanted = trainable(unbroken)
    for name, weight in trainable(resumed).items():
        torch.testing.assert_close(weight, wanted[name], atol=1e-5, rtol=1e-4)


def test_the_defender_shares_no_prompt_and_no_pair_with_the_attacker():
    prompts = prompt_set("redteam", "train")
    attacked = read_jsonl(PROMPTS / "attack_pairs.jsonl")
    refusals = read_jsonl(PROMPTS / "refusals.jsonl")
    rows = harmful_rows(prompts, attacked, refusals, seed=0)
    topics = {row["topic"] for row in rows}
    known = {row["topic"] for row in prompts}
    assert topics < known and len(topics) == len(known) // 2
    assert not {row["prompt"] for row in rows} & {row["prompt"] for row in attacked}
    assert not {row["response"] for row in rows} & {row["response"] for row in attacked}
    assert all(re.search(r"\[[a-z ]+\]", row["response"]) for row in rows)
    assert own_topics(sorted(known), 0) != own_topics(sorted(known), 1)


def test_the_defences_take_turns_each_with_its_own_schedule(aligned, tmp_path):
    model = defended(aligned, start=True)
    own = {name: p.detach().clone() for name, p in trainable(model).items()}
    assert all(".default." in name for name in own)
    done, events = trained(seam_tokenbuncher, model, QUICK_PAIR, tmp_path)
    assert done == 8
    assert [event["kind"] for event in events] == [
        "seam", "reward", "seam", "reward", "seam", "reward", "seam", "noiser",
    ]  # fmt: skip
    assert [event["step"] for event in events] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert events[1]["kl"] is not None
    assert any(not torch.equal(p, own[name]) for name, p in trainable(model).items())


def test_both_commands_ship_a_plain_lora_that_chat_can_load(tmp_path, monkeypatch):
    encoder = embedder_folder()
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    profile = tiny_llm(tmp_path / "cache")
    (tmp_path / "cache" / encoder.name).symlink_to(encoder)
    monkeypatch.setattr("adapters.registry.ASSETS", tmp_path / "assets")
    monkeypatch.setattr("adapters.train.get_profile", lambda name: profile)
    for module in ("train", "chat_training"):
        monkeypatch.setattr(f"adapters.{module}.runs_dir", lambda: tmp_path / "runs")
    monkeypatch.setattr("adapters.figures.MAX_NEW_TOKENS", 4)
    # As on a GPU, where a model is left with torch's fused attention.
    load = llm.load_llm
    monkeypatch.setattr(
        "adapters.chat_training.load_llm", lambda profile, training=False: load(profile)
    )
    folder = tmp_path / "assets" / "adapters" / "tiny"
    tiny_lora(folder / "aligned", 1, LINEAR)
    train.main("seam --steps 1 --harmful-pairs 1 --benign-pairs 1".split())
    train.main("seam_tokenbuncher --steps 2 --max-new-tokens 4 --harmful-pairs 1".split())
    for name in ("seam", "seam_tokenbuncher"):
        out = folder / name
        assert sorted(path.name for path in out.iterdir()) == [
            "adapter_config.json", "adapter_model.safetensors", "training.json",
        ]  # fmt: skip
        figures = json.loads((out / "training.json").read_text())["figures"]
        assert -1 <= figures["cosine"]["after"] <= 1
    assert set(figures["entropy"]) == {
        "harmful_before", "harmful_after", "benign_before", "benign_after",
    }  # fmt: skip
    engine = ChatEngine(profile)
    engine.add_arm("seam", folder / "seam")
    assert "seam" in engine.arms


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("learning_rate", math.nan),
        ("alpha", -1),
        ("beta", math.inf),
        ("harmful_pairs", 0),
        ("benign_pairs", 0),
        ("attacker_rank", 0),
        ("warmup_steps", -1),
    ],
)
@pytest.mark.parametrize("config", [SEAMConfig, SEAMTokenBuncherConfig])
def test_config_error_names_field_and_value(config, field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        config(**{field: value})


def test_the_pair_checks_what_is_tokenbunchers_too():
    with pytest.raises(ValueError, match="rollouts is 1"):
        SEAMTokenBuncherConfig(rollouts=1)
    with pytest.raises(ValueError, match="steps is 1"):
        SEAMTokenBuncherConfig(steps=1)


@pytest.mark.parametrize("name", ["seam", "seam_tokenbuncher"])
def test_card_states_every_fact(name):
    card = get(name).card
    assert all(getattr(card, field.name) for field in dataclasses.fields(card))
