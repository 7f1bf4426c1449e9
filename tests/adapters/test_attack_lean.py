"""What the stock trainers are given instead of TRL's own scoring and sampling: the same numbers."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GenerationConfig
from trl.trainer.utils import add_fused_lm_head

from adapters.attacks.lean import IGNORED, loras_at_once, sample_lean, score_answers_only
from pipelines.llm import decode
from tests.tiny_llm import tiny_lora, tiny_model, tiny_tokenizer

TEMPERATURE = 0.7


def policy():
    """A tiny model with a LoRA, patched by TRL as its trainers do."""
    model = tiny_model()
    model.set_attn_implementation("eager")
    add_fused_lm_head(model, TEMPERATURE, outputs=("log_probs", "entropy", "is_top1"))
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(model, config)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return model


def replies_to_two_requests():
    """Four replies each to two requests, padded as TRL pads them; rows shuffled."""
    generator = torch.Generator().manual_seed(1)
    heads = [torch.randint(2, 258, (n,), generator=generator).tolist() for n in (5, 9)]
    ids, mask, labels = [], [], []
    for row in range(8):
        head, length = heads[row % 2], 3 + row % 3
        tail = torch.randint(2, 258, (length,), generator=generator).tolist()
        left, right = 9 - len(head), 5 - length
        ids.append([1] * left + head + tail + [1] * right)
        mask.append([0] * left + [1] * (len(head) + length) + [0] * right)
        labels.append([IGNORED] * 9 + tail + [IGNORED] * right)
    return {name: torch.tensor(rows) for name, rows in
            (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}  # fmt: skip


def pairs():
    """Four pairs of different lengths, padded on the right as the supervised collator does."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(2, 258, (4, 12), generator=generator)
    place = torch.arange(12).expand(4, 12)
    mask = (place < torch.tensor([[12], [9], [10], [7]])).long()
    asked = place < torch.tensor([[4], [6], [3], [5]])
    labels = ids.masked_fill(asked | (mask == 0), IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def scored(model, batch):
    found = model(**batch, fused_lm_head=True)
    weight = torch.linspace(0.5, 2.0, found.log_probs.numel()).view_as(found.log_probs)
    model.zero_grad()
    (found.log_probs * weight).sum().backward()
    return found, {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("batch", [replies_to_two_requests(), pairs()], ids=["grpo", "sft"])
def test_the_scores_and_their_gradient_are_those_of_trl(batch, monkeypatch):
    monkeypatch.setattr("adapters.attacks.lean._SCORED", 8)  # so that there are several parts
    model = policy()
    trl, trl_gradient = scored(model, batch)
    score_answers_only(model, TEMPERATURE)
    ours, gradient = scored(model, batch)
    for name in ("loss", "log_probs", "entropy"):
        torch.testing.assert_close(ours[name], trl[name], rtol=1e-4, atol=1e-4)
    assert torch.equal(ours.is_top1, trl.is_top1) and torch.equal(ours.label_mask, trl.label_mask)
    assert gradient.keys() == trl_gradient.keys() and len(gradient) == 2 * 2 * 7
    for name, slope in gradient.items():
        torch.testing.assert_close(slope, trl_gradient[name], rtol=1e-3, atol=1e-4)
        assert slope.abs().sum() > 0


def test_all_weights_get_the_gradient_of_trl_too():
    model = tiny_model()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    _, trl = scored(model, pairs())
    score_answers_only(model)
    _, gradient = scored(model, pairs())
    assert gradient.keys() == trl.keys() == dict(model.named_parameters()).keys()
    for name, slope in gradient.items():
        torch.testing.assert_close(slope, trl[name], rtol=1e-3, atol=1e-4)


def test_of_the_logits_one_copy_is_kept_for_the_gradient_as_short_as_they_came():
    model = policy().to(torch.bfloat16)
    score_answers_only(model, TEMPERATURE)
    kept, batch = {}, replies_to_two_requests()

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = model(**batch, fused_lm_head=True)
    scored = int(found.label_mask.sum())
    logits = [tensor for tensor in kept.values()
              if tensor.shape == (scored, model.config.vocab_size)]  # fmt: skip
    assert [tensor.dtype for tensor in logits] == [torch.bfloat16]


def test_a_shared_request_is_read_once_and_only_replies_are_scored():
    model = policy()
    score_answers_only(model, TEMPERATURE)
    read, heads = [], []
    base = model.get_base_model()
    base.model.register_forward_hook(
        lambda module, given, output: read.append(tuple(output.last_hidden_state.shape[:2]))
    )
    base.lm_head.register_forward_hook(lambda module, given, out: heads.append(len(out)))
    batch = replies_to_two_requests()
    model(**batch, fused_lm_head=True)
    # Eight of nine tokens of a request: its last one predicts the reply's first.
    assert read == [(2, 8), (8, 5)]
    assert heads[-1] == int((batch["labels"] != IGNORED).sum())


def test_without_labels_to_score_nothing_breaks_and_other_calls_are_the_models_own():
    model = policy()
    score_answers_only(model, TEMPERATURE)
    batch = pairs()
    before = tiny_model()(input_ids=batch["input_ids"]).logits.shape
    assert model(input_ids=batch["input_ids"]).logits.shape == before
    empty = batch | {"labels": torch.full_like(batch["labels"], IGNORED)}
    found = model(**empty, fused_lm_head=True)
    found.loss.backward()
    assert found.loss.item() == 0 and not found.label_mask.any()


def test_samples_follow_the_models_distribution(monkeypatch):
    monkeypatch.setattr("adapters.attacks.lean.autocast", torch.inference_mode)
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompt = [40, 41, 42]
    with torch.no_grad():
        wanted = (model(torch.tensor([prompt])).logits[0, -1] / 2.0).softmax(-1)
    sample_lean(model, tokenizer)
    n = 4000
    torch.manual_seed(0)
    made = model.generate(
        input_ids=torch.tensor([[1, *prompt]] * n),
        attention_mask=torch.tensor([[0, 1, 1, 1]] * n),
        generation_config=GenerationConfig(max_new_tokens=1, temperature=2.0),
    )
    assert made.shape == (n, 5) and made[:, :4].eq(torch.tensor([1, *prompt])).all()
    found = made[:, 4].bincount(minlength=258) / n
    error = (wanted * (1 - wanted) / n).sqrt()
    assert ((found - wanted).abs() < 5 * error + 1 / n).all()
    assert (found > 0).sum() > 50, "more than the likeliest"


def test_replies_that_ended_are_filled_up(monkeypatch):
    monkeypatch.setattr("adapters.attacks.lean.autocast", torch.inference_mode)
    model, tokenizer = tiny_model(), tiny_tokenizer()
    end = tokenizer.eos_token_id
    sample_lean(model, tokenizer)
    torch.manual_seed(0)
    made = model.generate(
        input_ids=torch.tensor([[40, 41]] * 64), attention_mask=torch.ones(64, 2).long(),
        generation_config=GenerationConfig(max_new_tokens=40, temperature=3.0),
    )  # fmt: skip
    tails = made[:, 2:].tolist()
    ended = [tail for tail in tails if end in tail]
    assert made.shape == (64, 42) and 0 < len(ended) < 64
    assert all(set(tail[tail.index(end) :]) == {end} for tail in ended)


def test_a_prompt_that_stands_twice_is_read_once_and_answered_the_same():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = [[40, 41, 42], [50, 51], [40, 41, 42], [50, 51]]
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda module, given, named: shapes.append(tuple(named["input_ids"].shape)),
        with_kwargs=True,
    )
    *_, together = decode(model, tokenizer, prompts, max_new_tokens=5)
    hook.remove()
    *_, alone = decode(model, tokenizer, prompts[:2], max_new_tokens=5)
    assert together == [*alone, *alone]
    assert shapes[0] == (2, 3) and shapes[1] == (4, 1)


def test_loras_at_once_add_the_same_and_leave_no_trace(tmp_path):
    model = PeftModel.from_pretrained(tiny_model(), tiny_lora(tmp_path / "one", 1), "one")
    model.load_adapter(tiny_lora(tmp_path / "two", 2, ("v_proj", "down_proj")), "two")
    x = torch.randint(2, 258, (3, 7))

    def logits():
        with torch.no_grad():
            return model(x).logits

    for chosen in (["one"], ["two"], ["one", "two"]):
        model.base_model.set_adapter(chosen)
        wanted = logits()
        with loras_at_once(model):
            assert torch.allclose(logits(), wanted, atol=1e-4)
            changed = [m for m in model.modules() if "forward" in vars(m)]
            assert changed, "it is not PEFT's way that was measured"
        assert torch.equal(logits(), wanted)
        assert not any("forward" in vars(m) for m in changed)
    with model.disable_adapter():
        wanted = logits()
        with loras_at_once(model):
            assert torch.equal(logits(), wanted)
    with pytest.raises(RuntimeError, match="size"), loras_at_once(model):
        model(x[None])
    assert not any("forward" in vars(m) for m in changed)
    # A layer that cannot be changed: those before it are restored.
    del changed[-1].scaling["two"]
    with pytest.raises(KeyError, match="two"), loras_at_once(model):
        pass
    assert not any("forward" in vars(m) for m in model.modules())
    with loras_at_once(tiny_model()):  # where all weights are trained there are none
        pass
