"""Encoding, the loop, its checkpoint, and SDD's pairing, on real classes at tiny size."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

from adapters import loop
from adapters.loop import (
    LINEAR,
    check_processes,
    new_lora,
    pair_loss,
    train_steps,
)
from adapters.registry import TrainOptions
from adapters.sdd import pair_irrelevant
from adapters.text import (
    IGNORE,
    PROMPTS,
    TEMPLATE_TOKENS,
    chat_text,
    collate,
    encode_pair,
    read_jsonl,
    shuffled_deck,
)
from evaluation.embedder import SentenceEncoder
from evaluation.runs import RunStore
from pipelines.llm import load_tokenizer
from pipelines.lora import save_lora
from pipelines.profiles import get_profile

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
    done, _ = train_steps(
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


def test_a_long_template_takes_no_room_from_the_pair(tiny_tokenizer):
    reply = "a reply of many letters"

    def learnt():
        _, labels = encode_pair(tiny_tokenizer, "hi", reply, max_tokens=40)
        return tiny_tokenizer.decode([token for token in labels if token != IGNORE])

    assert learnt() == reply[: 40 - len(chat_tokens(tiny_tokenizer, "hi"))]
    tiny_tokenizer.chat_template = "s" * 100 + tiny_tokenizer.chat_template
    assert learnt() == reply[: 40 - TEMPLATE_TOKENS - len("hi")]


def chat_tokens(tokenizer, prompt):
    return tokenizer(chat_text(tokenizer, prompt), add_special_tokens=False).input_ids


def test_the_default_model_gets_the_bound_as_it_is():
    tokenizer = load_tokenizer(get_profile("embedded"))
    for name in ("refusals", "benign_replies"):
        for row in read_jsonl(PROMPTS / f"{name}.jsonl")[::20]:
            head = chat_tokens(tokenizer, row["prompt"])
            tail = tokenizer(row["response"], add_special_tokens=False).input_ids
            ids, labels = encode_pair(tokenizer, row["prompt"], row["response"], finished=False)
            assert ids == [*head, *tail][:68]
            assert [token for token in labels if token != IGNORE] == tail[: 68 - len(head)]


@pytest.mark.parametrize(("prompt", "response"), [("ask " * 20, "no"), ("hi", "")])
def test_a_pair_that_leaves_nothing_to_learn_is_refused(tiny_tokenizer, prompt, response):
    """It would train on nothing, with a loss of 0."""
    with pytest.raises(ValueError, match="max_tokens is 68, but the prompt .* none to learn"):
        encode_pair(tiny_tokenizer, prompt, response, finished=False)


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
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with pytest.raises(ValueError, match="was begun with another steps than today's"):
        run_training(
            model, tiny_tokenizer, tmp_path, steps=3, parents={"aligned": "a1"}, resume=True
        )
    assert resumed({"aligned": "a1"})[0] == 2


def test_another_training_leaves_a_checkpoint_alone(tiny_model, tiny_tokenizer, tmp_path):
    model = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)
    stopped = {"parents": {"aligned": "a1"}, "max_minutes": 1e-9}
    assert run_training(model, tiny_tokenizer, tmp_path, steps=2, **stopped)[0] == 0
    (path,) = (tmp_path / "checkpoints").iterdir()
    held = path.read_bytes()
    for steps, parent in ((1, "a1"), (2, "b2")):
        run_training(model, tiny_tokenizer, tmp_path, steps=steps, parents={"aligned": parent})
        assert [*(tmp_path / "checkpoints").iterdir()] == [path] and path.read_bytes() == held
    run_training(model, tiny_tokenizer, tmp_path, steps=3, **stopped)
    assert len([*(tmp_path / "checkpoints").iterdir()]) == 2 and path.read_bytes() == held
    run_training(model, tiny_tokenizer, tmp_path, steps=2, parents={"aligned": "a1"}, resume=True)
    assert not path.exists()


def test_two_at_once_write_no_common_file(tmp_path, monkeypatch):
    written = []

    def written_down(tensors, path, metadata):
        written.append(path)
        save_file(tensors, path, metadata)

    monkeypatch.setattr(loop, "save_file", written_down)
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    for process in (1, 2):
        monkeypatch.setattr("adapters.loop.os.getpid", lambda process=process: process)
        loop._store(
            tmp_path / "a.safetensors", weights, torch.optim.AdamW(weights.values()), 1, 2.0, {}
        )
    assert len(set(written)) == 2 and [*tmp_path.iterdir()] == [tmp_path / "a.safetensors"]


def test_the_seconds_of_earlier_sessions_are_told(
    tiny_model, tiny_tokenizer, tmp_path, monkeypatch
):
    model = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)

    steps = iter(range(2))

    def killed(model, batch):
        if next(steps):
            raise KeyboardInterrupt
        return pair_loss(model, batch)

    def session(minutes, resume, loss_of=pair_loss):
        ticks = iter(range(10_000))
        monkeypatch.setattr("adapters.loop.time.monotonic", lambda: float(next(ticks)))
        options = TrainOptions(tmp_path / "out", tmp_path / "checkpoints", minutes, resume)
        run = RunStore(tmp_path / "runs", tmp_path / "recorded").create("train", {}, "tiny", {})
        config = SimpleNamespace(steps=6, learning_rate=1e-2, warmup_steps=2)
        return train_steps(
            model, batches(tiny_tokenizer), loss_of, config, options=options, run=run
        ).seconds_before

    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_SECONDS", 0.0)
    # Looks: at the start, before and after a step, and twice about its checkpoint.
    assert session(0.05, False) == 0.0
    assert session(0.05, True) == 5.0
    with pytest.raises(KeyboardInterrupt):
        session(None, True, killed)
    assert session(None, True) == 12.0


def test_steps_follow_the_schedule_with_clipped_gradients(tiny_model, tmp_path):
    """Adam's step is the learning rate where all gradients are the same, as these once clipped."""
    scales = (1e3, 1.0, 10.0, 1e2, 2.0, 50.0)
    model = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)
    weights = [p for name, p in model.named_parameters() if "lora_B" in name]
    seen = []

    def batch_of(step):
        seen.append(weights[0].detach()[0, 0].item())
        return {"scale": torch.tensor(scales[step])}

    run = RunStore(tmp_path / "runs", tmp_path / "recorded").create("train", {}, "tiny", {})
    train_steps(
        model,
        batch_of,
        lambda model, batch: batch["scale"] * sum(p.sum() for p in weights),
        SimpleNamespace(steps=6, learning_rate=1e-2, warmup_steps=2),
        options=TrainOptions(tmp_path / "out", tmp_path / "checkpoints"),
        run=run,
    )
    steps = np.diff([*seen, weights[0].detach()[0, 0].item()])
    # Up in two steps, then half a cosine down to a tenth.
    down = [0.1 + 0.45 * (1 + math.cos(math.pi * done / 4)) for done in range(4)]
    np.testing.assert_allclose(-steps, 1e-2 * np.array([0.5, 1.0, *down]), rtol=1e-3)


def test_small_gradients_are_not_made_larger(tiny_model, tmp_path):
    model = new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0)
    weights = [p for name, p in model.named_parameters() if "lora_B" in name]
    run = RunStore(tmp_path / "runs", tmp_path / "recorded").create("train", {}, "tiny", {})
    train_steps(
        model,
        # The second gradient is a tenth of the first, and neither is clipped.
        lambda step: {"scale": torch.tensor((1e-3, 1e-4)[step])},
        lambda model, batch: batch["scale"] * sum(p.sum() for p in weights),
        SimpleNamespace(steps=2, learning_rate=1e-2, warmup_steps=0),
        options=TrainOptions(tmp_path / "out", tmp_path / "checkpoints"),
        run=run,
    )
    # Adam's second step, by hand, at 0.55 of the rate.
    mean = (0.9 * 0.1 * 1e-3 + 0.1 * 1e-4) / (1 - 0.9**2)
    square = (0.999 * 0.001 * 1e-6 + 0.001 * 1e-8) / (1 - 0.999**2)
    moved = 1e-2 * (1 + 0.55 * mean / math.sqrt(square))
    assert -weights[0].detach()[0, 0].item() == pytest.approx(moved, rel=1e-3)


def test_saving_an_adapter_leaves_other_files_alone(tiny_model, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("mine")
    save_lora(new_lora(tiny_model, 4, ("q_proj", "v_proj"), seed=0), tmp_path)
    assert readme.read_text() == "mine"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "adapter_model.safetensors", "adapter_config.json"}


def test_the_modules_of_a_saved_adapter_are_in_order(tiny_model, tmp_path):
    """PEFT keeps them in a set, whose order differs from one process to the next."""
    save_lora(new_lora(tiny_model, 4, LINEAR, seed=0), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(LINEAR)


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
