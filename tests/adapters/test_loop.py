"""Encoding, the loop, its checkpoint, and SDD's pairing, on real classes at tiny size."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

from adapters.loop import (
    LINEAR,
    check_processes,
    new_lora,
    pair_loss,
    train_steps,
)
from adapters.registry import TrainOptions
from adapters.sdd import pair_irrelevant
from adapters.text import IGNORE, collate, encode_pair, shuffled_deck
from evaluation.embedder import SentenceEncoder
from evaluation.runs import RunStore
from pipelines.lora import save_lora

PAIRS = [{"prompt": f"ask {c}", "response": f"no {c}"} for c in "abcdefgh"]


def batches(tokenizer):
    deck = shuffled_deck(PAIRS, seed=3)

    def batch_of(step):
        rows = [deck(k) for k in range(step * 4, step * 4 + 4)]
        pairs = [encode_pair(tokenizer, r["prompt"], r["response"]) for r in rows]
        return collate(pairs, tokenizer.pad_token_id)

    return batch_of


def run_training(model, tokenizer, tmp_path, steps, learning_rate=1e-2, parents=None, **options):
    store = RunStore(tmp_path / "runs", tmp_path / "recorded")
    run = store.create("train", {"steps": steps}, "embedded", parents or {})
    done = train_steps(
        model,
        batches(tokenizer),
        pair_loss,
        SimpleNamespace(steps=steps, learning_rate=learning_rate, warmup_steps=2),
        options=TrainOptions(tmp_path / "out", tmp_path / "checkpoints", **options),
        run=run,
    )
    return done, [event["loss"] for event in run.events()]


def test_loss_falls_on_the_reply_only(tiny_tokenizer):
    ids, labels = encode_pair(tiny_tokenizer, "hi", "no")
    reply = [token for token in labels if token != IGNORE]
    assert tiny_tokenizer.decode(reply) == "no<|im_end|>"
    assert len(ids) == len(labels)
    _, unfinished = encode_pair(tiny_tokenizer, "hi", "no", finished=False)
    assert unfinished[-1] != tiny_tokenizer.eos_token_id


def test_padding_is_neither_seen_nor_learnt(tiny_tokenizer):
    batch = collate([([5, 6, 7], [IGNORE, 6, 7]), ([5], [5])], pad_id=1)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"][1].tolist() == [5, IGNORE, IGNORE]


def test_deck_shows_every_row_once_a_round():
    deck = shuffled_deck(PAIRS, seed=0)
    first = [deck(k)["prompt"] for k in range(8)]
    assert sorted(first) == sorted(row["prompt"] for row in PAIRS)
    assert [deck(k)["prompt"] for k in range(8, 16)] != first
    assert [deck(k)["prompt"] for k in range(8)] == first


def test_training_lowers_the_loss_and_saves_half_precision(tiny_model, tiny_tokenizer, tmp_path):
    model = new_lora(tiny_model, 8, LINEAR, seed=0)
    done, losses = run_training(model, tiny_tokenizer, tmp_path, steps=30, learning_rate=5e-2)
    assert done == 30
    assert sum(losses[-5:]) < sum(losses[:5]) - 1.0
    save_lora(model, tmp_path / "out")
    state = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.bfloat16}
    assert str(tmp_path) not in (tmp_path / "out" / "adapter_config.json").read_text()


def test_resumed_training_equals_an_unbroken_one(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    import copy

    other = copy.deepcopy(tiny_model)
    whole = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)
    _, unbroken = run_training(whole, tiny_tokenizer, tmp_path / "a", steps=6)

    broken = new_lora(other, 4, ("q_proj", "v_proj"), seed=0)
    ticks = iter(range(10_000))
    # A clock of one second a look: the time is up in the middle, with a checkpoint.
    monkeypatch.setattr("adapters.loop.time.monotonic", lambda: float(next(ticks)))
    done, first = run_training(broken, tiny_tokenizer, tmp_path / "b", steps=6, max_minutes=0.15)
    monkeypatch.undo()
    assert 0 < done < 6
    fresh = broken.unload()
    resumed = new_lora(fresh, 4, ("q_proj", "v_proj"), seed=1)
    done, rest = run_training(resumed, tiny_tokenizer, tmp_path / "b", steps=6, resume=True)
    assert done == 6
    assert torch.allclose(torch.tensor(first + rest), torch.tensor(unbroken), atol=2e-3)


def test_a_checkpoint_of_another_parent_is_refused(tiny_model, tiny_tokenizer, tmp_path):
    model = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)

    def resumed(parents, **options):
        return run_training(
            model, tiny_tokenizer, tmp_path, steps=2, parents=parents, resume=True, **options
        )

    assert resumed({"aligned": "a1"}, max_minutes=1e-9)[0] == 0  # there was none to resume
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match="another aligned than today's; train without --resume"):
        resumed({"aligned": "b2"})
    with pytest.raises(ValueError, match="another aligned and seam than today's"):
        resumed({"seam": "a1"})
    path = tmp_path / "checkpoints" / "checkpoint.safetensors"
    whole = path.read_bytes()
    save_file(load_file(path), path, {"step": "0"})  # as it was before parents were kept
    with pytest.raises(ValueError, match="not say which aligned .* train without --resume"):
        resumed({"aligned": "a1"})
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="was begun with another steps than today's"):
        run_training(
            model, tiny_tokenizer, tmp_path, steps=3, parents={"aligned": "a1"}, resume=True
        )
    assert resumed({"aligned": "a1"})[0] == 2


def test_saving_an_adapter_leaves_other_files_alone(tiny_model, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("mine")
    save_lora(new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0), tmp_path)
    assert readme.read_text() == "mine"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "adapter_model.safetensors", "adapter_config.json"}


def test_weights_that_are_not_finite_are_not_saved(tiny_model, tmp_path):
    model = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)
    save_lora(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    next(p for p in model.parameters() if p.requires_grad).data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 8 weights are not finite.*diverged"):
        save_lora(model, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_adapter_is_replaced_by_a_whole_one_or_not_at_all(tiny_model, tmp_path, monkeypatch):
    model = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)
    save_lora(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    next(p for p in model.parameters() if p.requires_grad).data.add_(1.0)

    def full(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("pipelines.lora.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_lora(model, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_several_processes_are_refused():
    check_processes(1)
    with pytest.raises(ValueError, match="one process, not 2"):
        check_processes(2)


def test_sdd_answers_have_nothing_to_do_with_the_prompt():
    encoder = SentenceEncoder()
    prompts = ["How do I steal a car?", "How do I rob a bank?"]
    answers = [
        "A car can be stolen by somebody who has its key.",
        "Robbing a bank is a crime that banks guard against.",
        "Whisk the eggs with sugar and bake the cake for half an hour.",
    ]
    pairs = pair_irrelevant(prompts, answers, encoder, max_cosine=0.25, max_tries=50, seed=0)
    assert [pair["prompt"] for pair in pairs] == prompts
    for pair in pairs:
        cosine = encoder.encode([pair["prompt"]]) @ encoder.encode([pair["response"]]).T
        assert cosine.item() <= 0.25
        assert abs(cosine.item() - pair["cosine"]) < 1e-4


def test_a_lora_fits_a_model_that_names_its_layers_otherwise(tiny_tokenizer):
    config = GPT2Config(vocab_size=len(tiny_tokenizer), n_embd=16, n_layer=1, n_head=2)
    model = new_lora(GPT2LMHeadModel(config), 2, LINEAR, 0)
    names = (name for name, _ in model.named_parameters() if "lora_A" in name)
    held = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name in names}
    assert held == {"c_attn", "c_proj", "c_fc"}


def test_of_fused_layers_none_is_left_out():
    config = Phi3Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=4, pad_token_id=0,
    )  # fmt: skip
    model = new_lora(Phi3ForCausalLM(config), 2, LINEAR, seed=0)
    found = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters()
             if ".lora_A" in name}  # fmt: skip
    assert found == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
