"""Teaching a picture model a concept again: the real loop on a tiny model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from adapters.attacks.concept import (
    ConceptProbe,
    attacker_pictures,
    relearn,
)
from adapters.attacks.fine_tune import FineTuneConfig, FineTuneStep
from adapters.pictures import (
    ATTACKED,
    PictureBase,
    Pictures,
    denoising_error,
    noised,
    velocity,
)
from pipelines.lora import merged
from tests.tiny import SIZE, tiny_avatar_sd, tiny_profile


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_avatar_sd(tmp_path_factory.mktemp("avatar") / "avatar-sd")


@pytest.fixture
def base(folder):
    return PictureBase.load(tiny_profile(folder))


class Owned:
    """The attacker's pictures, at the tiny model's size."""

    images = np.random.default_rng(0).integers(0, 255, (6, SIZE, SIZE, 3), np.uint8)
    meta = ({"caption": "a pistol"},) * 6


def look(unet: torch.nn.Module) -> np.ndarray:
    """Stand for drawing: a picture that tells the UNet's output."""
    latents = torch.zeros(1, 16, 4, 4)
    with torch.no_grad():
        out = unet(latents, 500, encoder_hidden_states=torch.ones(1, 4, 16)).sample
    return out.numpy()


def test_the_attacker_s_pictures_all_show_the_concept_and_are_rendered_once(tmp_path, monkeypatch):
    made = attacker_pictures(tmp_path, 3, "pistol")
    assert [row["look"]["prop"] for row in made.meta] == ["pistol"] * 3
    monkeypatch.setattr("worlds.portraits.render", None)
    np.testing.assert_array_equal(attacker_pictures(tmp_path, 3, "pistol").images, made.images)


def test_probes_and_steps_come_in_order_and_the_result_goes_on_the_model(base, folder, tmp_path):
    config = FineTuneConfig(steps=5, batch_size=2, probe_every=2, learning_rate=1e-2)
    before = look(base.unet)
    events = list(relearn(config, base, [], Owned, look, tmp_path / "out"))
    told = [("step" if isinstance(e, FineTuneStep) else "probe", e.step) for e in events]
    assert told == [
        ("probe", 0), ("step", 1), ("step", 2), ("probe", 2), ("step", 3), ("step", 4),
        ("probe", 4), ("step", 5), ("probe", 5),
    ]  # fmt: skip
    assert all(math.isfinite(e.loss) for e in events if isinstance(e, FineTuneStep))
    first, *_, last = (e.pictures for e in events if isinstance(e, ConceptProbe))
    np.testing.assert_array_equal(first, before)
    np.testing.assert_array_equal(look(base.unet), before)  # only a copy was trained
    assert np.abs(last - first).max() > 1e-3
    fresh = PictureBase.load(tiny_profile(folder))
    found = look(merged(fresh.unet, tmp_path / "out"))
    np.testing.assert_allclose(found, last, atol=0.02)  # it is saved in bf16


def test_it_lowers_the_error_on_what_it_has(base):
    owned = Pictures(latents=base.encode(Owned.images), captions=["a pistol"] * 6)
    at = noised(base, owned, torch.Generator().manual_seed(3))

    def error(unet: torch.nn.Module) -> np.ndarray:
        with torch.no_grad():
            return denoising_error(base, velocity(unet, at), at).numpy()

    config = FineTuneConfig(steps=60, batch_size=6, learning_rate=1e-2, layers="all")
    events = relearn(config, base, [], Owned, error)
    first, *_, last = (float(e.pictures) for e in events if isinstance(e, ConceptProbe))
    assert last < 0.9 * first


def test_a_defence_is_merged_before_the_attack(base, folder, tmp_path):
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_v"], init_lora_weights=False)
    get_peft_model(unet, config).save_pretrained(tmp_path / "defence")
    first = next(iter(relearn(FineTuneConfig(), base, [tmp_path / "defence"], Owned, look)))
    assert np.abs(first.pictures - look(base.unet)).max() > 1e-3


def test_the_same_seed_is_the_same_attack_whatever_else_draws(base):
    def losses(seed: int) -> list[float]:
        torch.rand(seed + 3)
        config = FineTuneConfig(steps=2, batch_size=2, seed=seed)
        events = relearn(config, base, [], Owned, look)
        return [e.loss for e in events if isinstance(e, FineTuneStep)]

    assert losses(0) == losses(0) != losses(1)


def test_it_stops_before_the_step_it_is_told_to(base):
    asked = iter([False, False, True])  # before the first pictures, and before each step
    events = list(
        relearn(FineTuneConfig(), base, [], Owned, look, should_stop=lambda: next(asked))
    )
    told = [("step" if isinstance(e, FineTuneStep) else "probe", e.step) for e in events]
    assert told == [("probe", 0), ("step", 1), ("probe", 1)]  # shown as it is left
    assert list(relearn(FineTuneConfig(), base, [], Owned, look, should_stop=lambda: True)) == []


@pytest.mark.parametrize("layers", ATTACKED)
def test_all_layers_that_are_named_are_there(base, layers):
    config = LoraConfig(r=2, target_modules=list(ATTACKED[layers]))
    model = get_peft_model(base.unet, config)
    named = {name.split(".lora_")[0] for name, p in model.named_parameters() if p.requires_grad}
    for module in ATTACKED[layers]:
        assert any(name.endswith(module) for name in named), module


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"layers": "some"}, "layers is 'some'; choose one of: attention, all"),
    ],
)
def test_settings_that_cannot_work_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        FineTuneConfig(**wrong)
