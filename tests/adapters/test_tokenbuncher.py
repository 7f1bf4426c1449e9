"""TokenBuncher's rollouts, rewards, losses and schedule, on a real Llama at tiny size."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from peft import PeftModel

from adapters import train
from adapters.loop import LINEAR, train_steps
from adapters.registry import TrainOptions, get
from adapters.tokenbuncher import (
    TokenBuncherConfig,
    divergence,
    entropy,
    given_replies,
    group_advantages,
    harmful_loss,
    hold_start,
    noisy_targets,
    policy_loss,
    reply_log_probs,
    reply_means,
    roll_out,
    sampled_tokens,
    step_functions,
)
from evaluation.runs import RunStore, weights_hash
from pipelines.fetch import embedder_folder
from tests.tiny_llm import tiny_llm, tiny_lora, tiny_model, tiny_tokenizer

QUICK = TokenBuncherConfig(
    steps=6,
    learning_rate=1e-2,
    harmful_prompts=2,
    benign_prompts=1,
    rollouts=3,
    max_new_tokens=6,
    entropy_only_share=0.34,
    warmup_steps=2,
)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr("pipelines.device.compute_dtype", lambda on=None: torch.float32)
    monkeypatch.setattr("adapters.loop.compute_dtype", lambda on=None: torch.float32)
    monkeypatch.setattr("pipelines.llm.compute_dtype", lambda on=None: torch.float32)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    return tiny_lora(tmp_path_factory.mktemp("aligned"), 1, LINEAR)


@pytest.fixture
def policy(aligned):
    model = PeftModel.from_pretrained(tiny_model(), aligned, is_trainable=True)
    hold_start(model, aligned)
    return model.eval()


def test_the_adapter_is_trained_and_the_start_is_not_whatever_peft_freezes(aligned):
    model = PeftModel.from_pretrained(tiny_model(), aligned, is_trainable=True)
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    assert wanted
    model.requires_grad_(False)  # as PEFT 0.19.0 leaves the active adapter
    hold_start(model, aligned)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == wanted
    assert model.active_adapter == "default"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hardened(policy, config, folder, **options):
    run = RunStore(folder / "runs", folder / "recorded").create("train", {}, "tiny", {})
    options = TrainOptions(folder / "out", folder / "checkpoints", **options)
    batch_of, loss_of = step_functions(policy, tiny_tokenizer(), config, run)
    done, _ = train_steps(policy, batch_of, loss_of, config, options=options, run=run)
    return done, [event for event in run.events() if "kind" in event]


def trained(policy):
    return {name: p.detach().clone() for name, p in policy.named_parameters() if p.requires_grad}


def test_noise_leaves_the_token_its_share_and_sums_to_one():
    tokens = torch.tensor([3, 0, 99, 3])
    targets = noisy_targets(tokens, 100, 0.1, generator())
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    torch.testing.assert_close(targets[torch.arange(4), tokens], torch.full((4,), 0.9))
    assert (targets >= 0).all()
    others = targets[0][torch.arange(100) != 3]
    assert others.std() > 0.1 * others.mean()  # uniform noise, not a uniform distribution
    assert not torch.equal(targets[0], targets[3])
    assert torch.equal(targets, noisy_targets(tokens, 100, 0.1, generator()))


def test_advantages_compare_siblings_only():
    rewards = torch.tensor([0.0, 1.0, 2.0, 100.0, 101.0, 102.0])
    expected = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(group_advantages(rewards, 3), expected.repeat(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("rewards", "moves"), [((-0.5, -0.5), False), ((-0.5, -0.1), True)])
def test_groups_of_equal_rewards_teach_nothing(policy, rewards, moves):
    batch = roll_out(policy, tiny_tokenizer(), ["Hello", "Bye"], 2, 6, generator())
    advantages = group_advantages(torch.tensor([*rewards, *rewards]), 2)
    loss = policy_loss(
        reply_log_probs(policy, batch), sampled_tokens(batch), batch["sampled"], advantages
    )
    loss.backward()
    gradient = max(p.grad.abs().max() for p in policy.parameters() if p.requires_grad)
    assert bool(gradient > 0) is moves


def test_the_gradient_raises_the_better_reply(policy):
    batch = roll_out(policy, tiny_tokenizer(), ["Hello"], 2, 6, generator())
    advantages = torch.tensor([1.0, -1.0])
    optimiser = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=1e-3)

    def margin():
        chosen = reply_log_probs(policy, batch).gather(-1, sampled_tokens(batch)[:, None])[:, 0]
        better, worse = reply_means(chosen, batch["sampled"])
        return better - worse

    before = margin().item()
    policy_loss(
        reply_log_probs(policy, batch), sampled_tokens(batch), batch["sampled"], advantages
    ).backward()
    optimiser.step()
    assert margin().item() > before


def test_padding_does_not_change_what_a_reply_is_worth(policy):
    tokenizer = tiny_tokenizer()
    batch = roll_out(policy, tokenizer, ["Hi", "A much longer request"], 1, 6, generator())
    with torch.no_grad():
        together = reply_log_probs(policy, batch)
        ids = batch["input_ids"][0][batch["attention_mask"][0].bool()][None]
        n = int(batch["sampled"][0].sum())
        alone = policy(ids).logits[0, -n - 1 : -1].log_softmax(-1)
    torch.testing.assert_close(together[:n], alone, atol=1e-4, rtol=1e-4)
    assert sampled_tokens(batch)[:n].tolist() == ids[0, -n:].tolist()


def test_rollouts_count_the_end_token_and_repeat_with_the_seed(policy):
    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id

    def replies(seed):
        batch = roll_out(policy, tokenizer, ["Hello"], 40, 30, generator(seed))
        width = batch["sampled"].shape[1]
        return [
            row[-width:][kept].tolist()
            for row, kept in zip(batch["input_ids"], batch["sampled"], strict=True)
        ]

    found = replies(0)
    assert found == replies(0) != replies(1)
    short = [reply for reply in found if len(reply) < 30]
    assert short and all(reply.index(end) == len(reply) - 1 for reply in short)
    assert any(end not in reply for reply in found)


def test_entropy_and_divergence_have_their_textbook_values():
    even = torch.full((1, 8), 1 / 8).log()
    sure = torch.tensor([[100.0, *[0.0] * 7]]).log_softmax(-1)
    assert entropy(even).item() == pytest.approx(math.log(8))
    assert entropy(sure).item() == pytest.approx(0, abs=1e-6)
    assert divergence(even, even).item() == 0
    assert divergence(sure, even).item() == pytest.approx(math.log(8), abs=1e-4)
    sampled = torch.tensor([[True, True], [True, False]])
    assert reply_means(torch.tensor([1.0, 3.0, 5.0]), sampled).tolist() == [2, 5]


def test_the_noiser_waits_and_then_takes_turns():
    config = TokenBuncherConfig(steps=16, entropy_only_share=0.25)
    noisy = [step for step in range(16) if config.is_noiser_step(step)]
    assert noisy == [5, 7, 9, 11, 13, 15]
    assert not any(map(TokenBuncherConfig(entropy_only_share=1).is_noiser_step, range(60)))


def test_the_noiser_s_loss_is_of_the_good_replies_alone():
    """Replies of 2, 1 and 1 tokens out of 4 there are; the second is worse than their mean."""
    batch = {
        "input_ids": torch.tensor([[9, 0, 1], [9, 2, 9], [9, 3, 9]]),
        "sampled": torch.tensor([[True, True], [True, False], [True, False]]),
    }
    advantages = torch.tensor([1.0, -1.0, 0.0])
    log_probs = torch.tensor(
        [[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.2, 0.2], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.3, 0.5]]
    ).log()
    config = TokenBuncherConfig(steps=8, entropy_only_share=0.0, noise_weight=0.1, seed=5)

    def loss(step, **changes):
        changed = dataclasses.replace(config, **changes)
        return harmful_loss(log_probs, batch | {"step": step}, advantages, changed).item()

    # Without noise the mean of three tokens: two of the first reply, one of the third.
    own = -(math.log(0.7) + math.log(0.4) + math.log(0.5)) / 3
    assert loss(1, noise_weight=0.0) == pytest.approx(own)
    # Of the first two tokens all others are as likely as each other: a tenth goes to those.
    first = -(0.9 * math.log(0.7) + 0.1 * math.log(0.1))
    second = -(0.9 * math.log(0.4) + 0.1 * math.log(0.2))
    third = 3 * loss(1) - first - second
    assert -0.9 * math.log(0.5) - 0.1 * math.log(0.3) < third
    assert third < -0.9 * math.log(0.5) - 0.1 * math.log(0.1)
    # A reward step takes the worse reply too: of the first the mean of two tokens, the third has 0.
    reward = -((math.log(0.7) + math.log(0.4)) / 2 - math.log(0.7)) / 3
    assert loss(0) == loss(2) == pytest.approx(reward)
    assert len({loss(1), loss(3), loss(1, seed=6)}) == 3  # each step and seed has its own noise


def test_reward_steps_alone_lower_the_entropy(policy, tmp_path):
    config = dataclasses.replace(
        QUICK,
        # So many that the fall, which comes at once, has come: to a quarter or less with four seeds
        # in fp32. With 20 steps of 4 prompts it hung on the rounding of the machine.
        steps=60,
        learning_rate=3e-2,
        harmful_prompts=8,
        benign_prompts=0,
        rollouts=16,
        entropy_only_share=1,
    )
    _, events = hardened(policy, config, tmp_path)
    curve = [event["entropy"] for event in events]
    assert sum(curve[-5:]) < 0.6 * sum(curve[:5])
    assert {event["kl"] for event in events} == {None}  # the released code's variant


def test_both_kinds_of_step_train_one_adapter_only(policy, tmp_path):
    frozen = {n: p.detach().clone() for n, p in policy.named_parameters() if not p.requires_grad}
    start = trained(policy)
    assert all(".default." in name for name in start)
    done, events = hardened(policy, QUICK, tmp_path)
    assert done == 6
    assert [e["kind"] for e in events] == ["reward"] * 3 + ["noiser", "reward", "noiser"]
    assert events[0]["kl"] == pytest.approx(0, abs=1e-5)  # the policy is still where it started
    assert events[4]["kl"] > 1e-4
    assert any(not torch.equal(p, start[n]) for n, p in trained(policy).items())
    for name, parameter in policy.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name


def test_the_kept_answers_hold_the_policy_back(policy, aligned, tmp_path):
    def drift(weight):
        model = PeftModel.from_pretrained(tiny_model(), aligned, is_trainable=True)
        hold_start(model, aligned)
        config = dataclasses.replace(QUICK, steps=12, benign_prompts=4, keep_weight=weight)
        _, events = hardened(model.eval(), config, tmp_path / str(weight))
        return sum(event["kl"] for event in events[-4:])

    assert drift(30.0) < 0.5 * drift(0.0)


def test_given_replies_are_laid_out_as_sampled_ones(policy):
    tokenizer = tiny_tokenizer()
    rows = [{"prompt": "Hi", "response": "abc"}, {"prompt": "Hello there", "response": "abcdefgh"}]
    batch = given_replies(policy, tokenizer, rows, 5)
    width = batch["sampled"].shape[1]
    texts = [
        tokenizer.decode(row[-width:][kept])
        for row, kept in zip(batch["input_ids"], batch["sampled"], strict=True)
    ]
    assert texts == ["abc", "abcde"]
    assert "".join(texts) == tokenizer.decode(sampled_tokens(batch))


def test_resumed_training_equals_an_unbroken_one(policy, aligned, tmp_path, monkeypatch):
    _, unbroken = hardened(policy, QUICK, tmp_path / "a")
    wanted = trained(policy)

    def fresh():
        model = PeftModel.from_pretrained(tiny_model(), aligned, is_trainable=True)
        hold_start(model, aligned)
        return model.eval()

    ticks = iter(range(10_000))
    # A clock of one second a look: the time is up in the middle, with a checkpoint.
    monkeypatch.setattr("adapters.loop.time.monotonic", lambda: float(next(ticks)))
    done, first = hardened(fresh(), QUICK, tmp_path / "b", max_minutes=0.15)
    monkeypatch.setattr("adapters.loop.time.monotonic", lambda: 0.0)
    assert 0 < done < 6
    resumed = fresh()
    done, rest = hardened(resumed, QUICK, tmp_path / "b", resume=True)
    assert done == 6
    assert [e["step"] for e in first + rest] == [e["step"] for e in unbroken]
    for name, weight in trained(resumed).items():
        torch.testing.assert_close(weight, wanted[name], atol=1e-5, rtol=1e-4)


def test_the_command_ships_one_plain_lora_and_its_figures(tmp_path, monkeypatch):
    encoder = embedder_folder()
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    profile = tiny_llm(tmp_path / "cache")
    (tmp_path / "cache" / encoder.name).symlink_to(encoder)
    monkeypatch.setattr("adapters.registry.ASSETS", tmp_path / "assets")
    monkeypatch.setattr("adapters.train.get_profile", lambda name: profile)
    monkeypatch.setattr("adapters.train.runs_dir", lambda: tmp_path / "runs")
    monkeypatch.setattr("adapters.chat_training.runs_dir", lambda: tmp_path / "runs")
    monkeypatch.setattr("adapters.figures.MAX_NEW_TOKENS", 4)
    adapters = tmp_path / "assets" / "adapters" / "tiny"
    with pytest.raises(SystemExit, match="python -m adapters.train aligned"):
        train.main(["tokenbuncher"])
    tiny_lora(adapters / "aligned", 1, LINEAR)
    train.main("tokenbuncher --steps 2 --max-new-tokens 4 --learning-rate 0.01".split())
    out = adapters / "tokenbuncher"
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "training.json",
    ]  # fmt: skip
    record = json.loads((out / "training.json").read_text())
    assert record["starts_from"] == {"aligned": weights_hash(adapters / "aligned")}
    figures = record["figures"]
    assert figures["steps_done"] == 2
    assert set(figures["entropy"]) == {
        "harmful_before", "harmful_after", "benign_before", "benign_after",
    }  # fmt: skip
    assert all(0 < nats < math.log(258) for nats in figures["entropy"].values())
    assert 0 <= figures["harmful"]["refusal"] <= 1 and 0 <= figures["ability"] <= 1
    shipped = PeftModel.from_pretrained(tiny_model(), out)
    assert list(shipped.peft_config) == ["default"]
    (run,) = RunStore(tmp_path / "runs", tmp_path / "recorded").list()
    assert run.status == "done"
    # Stopped, and what it goes on from is trained anew before it is resumed.
    train.main("tokenbuncher --steps 2 --max-new-tokens 4 --max-minutes 1e-9".split())
    tiny_lora(adapters / "aligned", 2, LINEAR)
    with pytest.raises(SystemExit, match="another aligned than today's; train without --resume"):
        train.main("tokenbuncher --steps 2 --max-new-tokens 4 --resume".split())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("learning_rate", math.nan),
        ("harmful_prompts", -1),
        ("benign_prompts", -1),
        ("keep_weight", math.nan),
        ("rollouts", 1),
        ("max_new_tokens", 0),
        ("noise_weight", 1.0),
        ("entropy_only_share", 1.5),
        ("warmup_steps", -1),
    ],
)
def test_config_error_names_field_and_value(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        TokenBuncherConfig(**{field: value})


def test_card_states_every_fact():
    card = get("tokenbuncher").card
    assert all(getattr(card, field.name) for field in dataclasses.fields(card))
    assert "aligned" in card.limits and "supervised" in card.limits
