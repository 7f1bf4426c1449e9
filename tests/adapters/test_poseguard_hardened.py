"""The hardened guard: the attacker beside it learns, the guard learns from what is left of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from adapters.animation import Base
from adapters.avatar_frames import AvatarFrames
from adapters.poseguard import batch_from
from adapters.poseguard_hardened import (
    GUARD,
    Attacker,
    HardenedConfig,
    attacked_safety,
    fit,
)
from adapters.registry import TrainOptions
from evaluation.runs import RunStore
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.ui.conftest import tiny_guard

ATTENTION, ALL = "attention", "all"
CONFIG = HardenedConfig(
    steps=4, batch_size=4, unsafe_share=0.5, rank=4, attack_steps=3, attack_batch=2,
    attack_pictures=4, attack_rate_low=1e-2, attack_rate_high=1e-2, harmless_share=0.0,
    all_layers_share=0.0,
)  # fmt: skip
SPEC = tiny_profile(Path("none"), times=(999, 250), solver_order=1).animation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weights")
    tiny_guard(tiny_avatar_sd(made / "avatar-sd"), made / "guard")
    return made


@pytest.fixture
def base(folder) -> Base:
    return Base.load(tiny_profile(folder / "avatar-sd"))


@pytest.fixture
def source(avatars) -> AvatarFrames:
    latents = np.random.default_rng(0).standard_normal((6, 16, 16, 16)).astype(np.float16)
    return AvatarFrames(avatars, latents, 1.0, CONFIG)


@pytest.fixture
def guarded(base, folder) -> PeftModel:
    return PeftModel.from_pretrained(base.unet, folder / "guard", is_trainable=True)


def weights(model: PeftModel, name: str) -> dict[str, torch.Tensor]:
    named = model.named_parameters()
    return {key: value.detach().clone() for key, value in named if f".{name}." in key}


def moved(model: PeftModel, name: str, before: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(value, before[key]) for key, value in weights(model, name).items())


@pytest.mark.parametrize(
    ("share", "layers", "other"), [(0.0, ATTENTION, ALL), (1.0, ALL, ATTENTION)]
)
def test_an_attacker_s_step_trains_its_own_lora_and_leaves_the_others(
    guarded, base, source, share, layers, other
):
    attacker = Attacker(guarded, base, source, replace(CONFIG, all_layers_share=share))
    guard, own, idle = (weights(guarded, name) for name in (GUARD, layers, other))
    attacker.step(0, SPEC.times)
    assert attacker.age == 1 and attacker.rate == pytest.approx(1e-2) and not attacker.harmless
    assert attacker.layers == layers and moved(guarded, layers, own)
    assert not moved(guarded, GUARD, guard) and not moved(guarded, other, idle)
    assert all(p.grad is None for name, p in guarded.named_parameters() if f".{GUARD}." in name)
    trainable = {name for name, p in guarded.named_parameters() if p.requires_grad}
    assert trainable and all(f".{GUARD}." in name for name in trainable)


def test_a_lora_on_all_layers_is_on_more_than_attention(guarded, base, source):
    Attacker(guarded, base, source, CONFIG)
    assert len(weights(guarded, ALL)) > len(weights(guarded, ATTENTION)) > 0


def test_an_attacker_begins_anew_when_its_steps_are_done(guarded, base, source):
    attacker = Attacker(guarded, base, source, CONFIG)
    ages, learnt = [], []
    for step in range(5):
        attacker.step(step, SPEC.times)
        ages.append(attacker.age)
        up = weights(guarded, ATTENTION)
        learnt.append(sum(float(v.abs().sum()) for k, v in up.items() if "lora_B" in k))
    assert ages == [1, 2, 3, 1, 2]
    assert learnt[3] < learnt[2]  # it starts from nothing


def test_harmless_attackers_own_other_pictures(guarded, base, avatars):
    latents = np.zeros((6, 16, 16, 16), np.float16)
    for share, kind in ((0.0, "unsafe"), (1.0, "other")):
        config = HardenedConfig(attack_pictures=3, attack_batch=1, harmless_share=share)
        source = AvatarFrames(avatars, latents, 1.0, config)
        attacker = Attacker(guarded, base, source, config)
        attacker.step(0, SPEC.times)
        assert set(attacker._owned) <= set(source.kinds[kind])
        for name in (ATTENTION, ALL):
            guarded.delete_adapter(name)


def test_the_loss_after_an_attack_is_of_the_attacked_model_and_reaches_the_guard(
    guarded, base, source
):
    attacker = Attacker(guarded, base, source, CONFIG)
    for step in range(3):
        attacker.step(step, SPEC.times)
    batch = batch_from(source(0), base, CONFIG, 0, SPEC.steps) | {"pass": torch.tensor(1)}
    after = attacked_safety(guarded, ATTENTION, base, batch, CONFIG, SPEC)
    lora = [p for name, p in guarded.named_parameters() if f".{GUARD}." in name and "_B" in name]
    grads = torch.autograd.grad(after, lora, allow_unused=True)
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads)
    with torch.no_grad():
        for name, value in guarded.named_parameters():
            if f".{ATTENTION}." in name and "lora_B" in name:
                value.zero_()  # an attack that has not begun
        before = attacked_safety(guarded, ATTENTION, base, batch, CONFIG, SPEC)
    assert not torch.isclose(after, before)


def test_within_an_autocast_the_attacker_s_new_weights_are_used(guarded, base, source):
    attacker = Attacker(guarded, base, source, CONFIG)
    batch = batch_from(source(0), base, CONFIG, 0, SPEC.steps) | {"pass": torch.tensor(0)}
    seen = []
    with torch.autocast("cpu", torch.bfloat16):
        for step in range(3):
            attacker.step(step, SPEC.times)
            with torch.no_grad():
                seen.append(float(attacked_safety(guarded, ATTENTION, base, batch, CONFIG, SPEC)))
    assert len(set(seen)) == 3


def test_a_training_saves_the_guard_alone_and_tells_of_every_attack(
    base, folder, source, tmp_path
):
    run = RunStore(tmp_path / "runs").create("train", {"seed": 0}, "embedded", {})
    options = TrainOptions(out=tmp_path / "out", checkpoints=tmp_path / "checkpoints")
    start = weights(PeftModel.from_pretrained(base.unet, folder / "guard"), GUARD)
    fresh = Base.load(tiny_profile(folder / "avatar-sd"))
    model, (done, _) = fit(fresh, folder / "guard", source, CONFIG, options, run, SPEC)
    assert done == CONFIG.steps and moved(model, GUARD, start)
    told = [event for event in run.events() if "attacked" in event]
    assert [event["attack_steps"] for event in told] == [1, 2, 3, 1]
    again = PeftModel.from_pretrained(
        Base.load(tiny_profile(folder / "avatar-sd")).unet, tmp_path / "out"
    )
    assert list(again.peft_config) == [GUARD]
    assert set(weights(again, GUARD)) == set(start)


def test_the_loss_after_an_attack_counts_by_its_weight(folder, source, tmp_path):
    def trained(weight):
        out = tmp_path / str(weight)
        config = replace(CONFIG, steps=2, attack_weight=weight)
        run = RunStore(out / "runs").create("train", {"seed": 0}, "embedded", {})
        options = TrainOptions(out=out / "out", checkpoints=out / "checkpoints")
        fresh = Base.load(tiny_profile(folder / "avatar-sd"))
        model, _ = fit(fresh, folder / "guard", source, config, options, run, SPEC)
        events = run.events()
        for parts, step in zip(events[::2], events[1::2], strict=True):
            expected = parts["fidelity"] + config.safety_weight * parts["safety"]
            expected += weight * parts["attacked"]
            assert step["loss"] == pytest.approx(expected, rel=1e-3)
        return weights(model, GUARD)

    without, with_it = trained(0.0), trained(2.0)
    assert any(not torch.equal(value, without[key]) for key, value in with_it.items())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"attack_weight": -1}, "attack_weight is -1"),
        ({"attack_steps": 0}, "attack_steps is 0"),
        ({"attack_rate_high": 1e-5}, "attack_rate_high is 1e-05; it must be attack_rate_low"),
        ({"harmless_share": 2}, "harmless_share is 2"),
        ({"pose_class": "flying"}, "pose_class is 'flying'"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        HardenedConfig(**wrong)
