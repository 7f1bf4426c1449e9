"""What the picture defences share, and each of them at tiny size: real classes, few steps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from adapters import erased, gift, lcfdsd, pictures
from adapters.pictures import (
    Noised,
    PictureBase,
    Pictures,
    PortraitPictures,
    clean_and_noise,
    denoising_error,
    noised,
    velocity,
)
from adapters.registry import TrainOptions, adapter_target, get
from evaluation.runs import RunStore, weights_hash
from pipelines.lora import merged
from pipelines.profiles import get_profile
from tests.tiny import tiny_avatar_sd, tiny_profile
from worlds.portraits import build_portraits

CONFIGS = {
    "erased": erased.ErasedConfig,
    "gift": gift.GiftConfig,
    "lcfdsd": lcfdsd.LcfdsdConfig,
}


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny_profile(tiny_avatar_sd(tmp_path_factory.mktemp("avatar") / "avatar-sd"))


class ShortTexts(PictureBase):
    """Reads of a caption what is held: the tiny text encoder takes no more than 16 letters."""

    def text(self, captions):
        return super().text([caption.rpartition(" holding ")[2][-14:] for caption in captions])


@pytest.fixture
def base(profile):
    return ShortTexts.load(profile)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Forty rendered portraits with random latents of the tiny model's shape."""
    data = build_portraits(tmp_path_factory.mktemp("portraits") / "set", 40, workers=0)
    latents = np.random.default_rng(0).standard_normal((40, 16, 4, 4), np.float32)
    return PortraitPictures(data, latents, 1.0, "pistol")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(count: int = 3) -> Pictures:
    latents = torch.randn(count, 16, 4, 4, generator=generator(7))
    return Pictures(latents=latents, captions=["a person"] * count)


def test_portraits_are_sorted_by_what_is_held(portraits):
    held = [row["look"]["prop"] for row in portraits.data.meta]
    assert {held[i] for i in portraits.rows["unsafe"]} == {"pistol"}
    assert {held[i] for i in portraits.rows["bare"]} == {"none"}
    assert len(portraits.rows["unsafe"]) + len(portraits.rows["safe"]) == 40
    drawn = portraits.draw("unsafe", 5, np.random.default_rng(1))
    assert drawn["latents"].shape == (5, 16, 4, 4)
    assert all("holding a pistol" in caption for caption in drawn["captions"])


def test_a_caption_without_the_concept_is_of_the_same_person(portraits):
    rows = portraits.rows["unsafe"][:3]
    for bare, row in zip(portraits.captions_with(rows, "none"), rows, strict=True):
        said = portraits.data.meta[row]["caption"]
        assert bare == said.replace(" holding a pistol", "")


def test_a_set_without_the_concept_is_refused(portraits):
    with pytest.raises(ValueError, match="none that is unsafe"):
        PortraitPictures(portraits.data, portraits.latents, 1.0, "trumpet")


def test_velocities_stand_for_the_clean_latents_and_the_noise(base):
    at = noised(base, some(), generator())
    right = base.scheduler.get_velocity(at.clean, at.noise, at.times)
    assert denoising_error(base, right, at) == 0
    clean, noise = clean_and_noise(base, right, at)
    torch.testing.assert_close(clean, at.clean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(noise, at.noise, atol=1e-4, rtol=1e-4)


def test_a_batch_holds_noised_pictures_and_gives_them_back(base):
    at = noised(base, some(), generator())
    batch = {**at.packed("at"), **noised(base, some(2), generator(1)).packed("other")}
    back = Noised.unpacked(batch, "at")
    for field, value in vars(at).items():
        assert torch.equal(getattr(back, field), value)
    assert len(Noised.unpacked(batch, "other").clean) == 2


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_s_batch_depends_on_its_number_alone(name, base, portraits):
    module, config = {"erased": erased, "gift": gift, "lcfdsd": lcfdsd}[name], CONFIGS[name]()
    one, same, other = (module.batch_from(base, portraits, config, n) for n in (3, 3, 4))
    for key, value in one.items():
        assert torch.equal(value, same[key])
    assert any(not torch.equal(value, other[key]) for key, value in one.items())


def trained(name, base, portraits, folder, **changes):
    """Train a defence for some steps; return the UNet with its LoRA and the losses."""
    config = CONFIGS[name](**({"steps": 12, "warmup_steps": 1, "learning_rate": 3e-3} | changes))
    module, centres = {"erased": erased, "gift": gift, "lcfdsd": lcfdsd}[name], lcfdsd.Centres()
    loss_of = {
        "erased": erased.loss_of,
        "gift": lambda model, batch: gift.loss_of(model, base, batch, config),
        "lcfdsd": lambda model, batch: lcfdsd.loss_of(model, base, batch, config, centres),
    }[name]
    run = RunStore(folder / "runs").create("train", {"defence": name}, "embedded", {})
    model, (done, _) = pictures.fit(
        base, config.rank, lambda step: module.batch_from(base, portraits, config, step), loss_of,
        config, TrainOptions(folder / "out", folder / "checkpoints"), run,
    )  # fmt: skip
    assert done == config.steps
    return model, [event["loss"] for event in run.events()]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_trainer_tells_its_figures_and_what_it_was_trained_on(
    name, profile, portraits, tmp_path, monkeypatch
):
    monkeypatch.setattr(pictures, "PictureBase", ShortTexts)
    monkeypatch.setattr(pictures, "runs_dir", lambda: tmp_path / "runs")
    asked = []
    monkeypatch.setattr(
        pictures, "training_portraits", lambda base, concept: asked.append(concept) or portraits
    )
    monkeypatch.setattr("evaluation.pictures.measure", lambda *given: {"measured": given})
    config = CONFIGS[name](steps=2, warmup_steps=1, batch_size=4)
    options = TrainOptions(tmp_path / "out", tmp_path / "checkpoints")
    told = get(name).train(config, profile, options)
    assert asked == ["pistol"] and told.steps == 2 and told.seconds_before == 0.0
    assert told.figures == {"measured": (profile, tmp_path / "out", "pistol")}
    assert told.starts_from == PictureBase.parents(profile)
    (run,) = RunStore(tmp_path / "runs", tmp_path / "recorded").list()
    assert run.status == "done" and run.config["defence"] == name
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_defence_is_saved_as_a_lora_that_goes_on_the_model(
    name, base, profile, portraits, tmp_path
):
    model, losses = trained(name, base, portraits, tmp_path)
    assert all(math.isfinite(loss) for loss in losses)
    fresh = PictureBase.load(profile)
    at = noised(fresh, some(), generator())
    with torch.no_grad():
        wanted, bare = velocity(model, at), velocity(fresh.unet, at)
        found = velocity(merged(fresh.unet, tmp_path / "out"), at)
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.02)  # it is saved in bf16
    assert (found - bare).abs().max() > 0.01


def test_what_is_erased_is_drawn_as_without_the_concept(base, portraits, tmp_path):
    _, losses = trained("erased", base, portraits, tmp_path, steps=40)
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:4])


def test_gift_takes_both_levels_in_turns(base, portraits):
    kinds = [
        bool(gift.batch_from(base, portraits, gift.GiftConfig(), n)["unsafe"]) for n in range(4)
    ]
    assert kinds == [False, True, False, True]
    alone = gift.GiftConfig(prior=False)
    assert all(gift.batch_from(base, portraits, alone, n)["unsafe"] for n in range(4))


def test_gift_s_upper_level_drives_the_concept_s_error_up(base, portraits, tmp_path):
    unsafe = noised(base, portraits.draw("unsafe", 4, np.random.default_rng(5)), generator())
    with torch.no_grad():
        before = denoising_error(base, velocity(base.unet, unsafe), unsafe)
    model, _ = trained("gift", base, portraits, tmp_path, steps=40, ceiling=20.0, prior=False)
    with torch.no_grad():
        assert denoising_error(base, velocity(model, unsafe), unsafe) > 1.02 * before


@pytest.mark.parametrize("name", ["gift", "lcfdsd"])
def test_the_safe_loss_asks_for_the_real_pictures(name, base, portraits):
    """Not for the frozen model's prediction alone, which the model begins with: no loss at all."""
    config, centres = CONFIGS[name](), lcfdsd.Centres()
    module = {"gift": gift, "lcfdsd": lcfdsd}[name]
    batch = module.batch_from(base, portraits, config, 0)
    model = torch_lora(base)
    other = dict(batch)
    kind = {"gift": "at", "lcfdsd": "clean"}[name]
    other[f"{kind}.clean"] = other[f"{kind}.clean"] + 1  # the same states of other pictures

    def loss(of):
        if name == "gift":
            return gift.loss_of(model, base, of, config)
        return lcfdsd.loss_of(model, base, of, config, centres)

    assert not torch.isclose(loss(batch), loss(other), rtol=0.02)


def torch_lora(base):
    """Return the tiny UNet with a LoRA that changes nothing yet."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(base.unet, LoraConfig(r=2, target_modules=["to_q"]))


def test_gift_leaves_an_error_above_the_ceiling_alone(base, portraits):
    config = gift.GiftConfig(ceiling=1e-6, noise_weight=0.0)
    batch = gift.batch_from(base, portraits, config, 1)
    base.unet.requires_grad_(True)
    # Without a LoRA: an unsafe step never asks for the frozen model.
    gift.loss_of(base.unet, base, batch, config).backward()
    assert all(p.grad is None or not p.grad.any() for p in base.unet.parameters())


def gift_loss(model, base, batch, **settings):
    return gift.loss_of(model, base, batch, gift.GiftConfig(**settings))


def test_gift_s_unsafe_loss_holds_the_noising_of_all_layers_with_a_noise_of_its_own(
    base, portraits
):
    batch = gift.batch_from(base, portraits, gift.GiftConfig(), 1)
    at = Noised.unpacked(batch, "at")
    model = torch_lora(base)
    with torch.no_grad():
        bare = gift_loss(model, base, batch, noise_weight=0.0)

        def term(step=1, **settings):
            of = batch | {"step": torch.tensor(step)}
            return float(gift_loss(model, base, of, **{"noise_weight": 1.0} | settings) - bare)

        with gift.activations(model) as layers:
            velocity(model, at)
        of_the_pictures = float(gift.noising(layers, 1))  # the stream that their noise is of
        assert term() == pytest.approx(of_the_pictures, rel=0.05)
        assert term(noise_weight=2.0) == pytest.approx(2 * term(), rel=1e-3)
        found = [of_the_pictures, term(), term(step=3), term(seed=1)]
    assert len({round(value, 5) for value in found}) == 4
    lora = [p for name, p in model.named_parameters() if "lora_B" in name]
    moves = [
        torch.autograd.grad(gift_loss(model, base, batch, noise_weight=weight), lora)
        for weight in (0.0, 1.0)
    ]
    assert any((one - none).abs().max() > 1e-4 for none, one in zip(*moves, strict=True))


def test_gift_s_safe_loss_holds_the_frozen_model_s_prediction(base, portraits):
    batch = gift.batch_from(base, portraits, gift.GiftConfig(), 0)
    at = Noised.unpacked(batch, "at")
    model = torch_lora(base)
    with torch.no_grad():
        assert gift_loss(model, base, batch) == gift_loss(model, base, batch, prior_weight=0.0)
        known = velocity(model, at)
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.add_(0.5)
        drawn = velocity(model, at)
        real, both = (gift_loss(model, base, batch, prior_weight=weight) for weight in (0.0, 3.0))
    away = float((drawn - known).square().mean())
    assert away > 1e-6
    assert float(both - real) == pytest.approx(3 * away, rel=1e-2)


def test_representation_noising_is_nothing_for_noise_of_the_same_kind_only():
    layer = torch.randn(4, 3, 8, 8, generator=generator(1)) * 3 + 5
    far = gift.noising([layer], 2)
    assert far == pytest.approx(2.0, rel=0.15)  # two draws of one distribution, in its units
    layer.requires_grad_(True)
    gift.noising([layer], 2).backward()
    assert layer.grad.abs().max() > 0


def test_activations_are_those_of_all_blocks_and_hooks_go(base):
    at = noised(base, some(2), generator())
    with gift.activations(base.unet) as seen, torch.no_grad():
        velocity(base.unet, at)
    assert len(seen) > 8 and all(layer.ndim == 4 for layer in seen)
    count = len(seen)
    with torch.no_grad():
        velocity(base.unet, at)
    assert len(seen) == count


def test_the_contrast_term_moves_the_weights(base, portraits):
    """The authors' released code computes it without a gradient."""
    model = torch_lora(base)
    lora = [p for name, p in model.named_parameters() if "lora_B" in name]
    batch = lcfdsd.batch_from(base, portraits, lcfdsd.LcfdsdConfig(), 0)

    def gradients(weight):
        config = lcfdsd.LcfdsdConfig(contrast_weight=weight)
        loss = lcfdsd.loss_of(model, base, batch, config, lcfdsd.Centres())
        return torch.autograd.grad(loss, lora)

    at = {kind: Noised.unpacked(batch, kind) for kind in ("clean", "harmful")}
    latents = {kind: clean_and_noise(base, velocity(model, at[kind]), at[kind])[0] for kind in at}
    centres = (latents[kind].detach().mean(0, keepdim=True) for kind in ("harmful", "clean"))
    term = lcfdsd.contrast(latents["harmful"], *centres, 1.0, 0.0)
    wanted = torch.autograd.grad(term, lora)
    assert max(float(gradient.abs().max()) for gradient in wanted) > 1e-3
    for one, none, own in zip(gradients(1.0), gradients(0.0), wanted, strict=True):
        torch.testing.assert_close(one - none, own, atol=1e-4, rtol=1e-3)


def test_contrast_falls_as_the_harmful_gather_and_the_clean_go():
    latents, zero = torch.randn(5, 2, 3, 3, generator=generator()), torch.zeros(1, 2, 3, 3)
    far = lcfdsd.contrast(latents, zero, zero + 9, 1.0, 0.0)
    assert far < lcfdsd.contrast(latents, zero, zero + 3, 1.0, 0.0)
    assert lcfdsd.contrast(0.1 * latents, zero, zero + 3, 0.0, 0.0) < lcfdsd.contrast(
        latents, zero, zero + 3, 0.0, 0.0
    )
    # Within the margin nothing is gained by going further.
    assert lcfdsd.contrast(latents, zero, zero, 1.0, 1e3) == pytest.approx(
        float(latents.flatten(1).norm(dim=1).sum()), rel=1e-5
    )


def test_centres_run_and_begin_with_the_first_batch():
    centres, ones = lcfdsd.Centres(memory=0.5), torch.ones(2, 1, 1, 1)
    assert centres.of("clean", ones) == 1
    assert centres.of("clean", 3 * ones) == 2
    assert centres.of("harmful", 5 * ones) == 5


def test_the_transformation_is_in_full_precision_within_an_autocast():
    latents = torch.randn(2, 8, 4, 4, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        turned = lcfdsd.transformed(latents, 3)
    assert turned.dtype is torch.float32
    turned = (turned - 1).permute(0, 2, 3, 1) @ lcfdsd.rotation(8, 3)
    torch.testing.assert_close(turned.permute(0, 3, 1, 2), latents, atol=1e-5, rtol=0)


def test_the_rotation_is_one_and_the_same_for_a_seed():
    r = lcfdsd.rotation(8, 3)
    torch.testing.assert_close(r @ r.T, torch.eye(8), atol=1e-5, rtol=0)
    assert torch.equal(r, lcfdsd.rotation(8, 3))
    assert not torch.equal(r, lcfdsd.rotation(8, 4))


@pytest.mark.parametrize("variant", lcfdsd.VARIANTS)
def test_either_variant_goes_where_it_is_meant_to(variant, base, portraits, tmp_path):
    unsafe = noised(base, portraits.draw("unsafe", 8, np.random.default_rng(5)), generator())
    turned = torch.einsum("dc,bchw->bdhw", lcfdsd.rotation(16, 0), unsafe.clean) + 1

    def away(model) -> float:
        """How far predictions on the concept are from the variant's target."""
        with torch.no_grad():
            clean, noise = clean_and_noise(base, velocity(model, unsafe), unsafe)
        return float(noise.mean() if variant == "ng" else (clean - turned).square().mean())

    before = away(base.unet)
    model, losses = trained("lcfdsd", base, portraits, tmp_path, steps=40, variant=variant)
    assert np.mean(losses[-8:]) < np.mean(losses[:4])
    assert away(model) < before - 0.02


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("erased", {"concept": "sabre"}, "concept is 'sabre'; choose one of: umbrella"),
        ("erased", {"batch_size": 6}, "batch_size is 6; it must be a multiple of 4"),
        ("erased", {"text_drop": 2}, "text_drop is 2"),
        ("erased", {"steps": 0}, "steps is 0"),
        ("gift", {"ceiling": math.nan}, "ceiling is nan"),
        ("gift", {"noise_weight": -1}, "noise_weight is -1"),
        ("gift", {"prior_weight": -1}, "prior_weight is -1"),
        ("gift", {"text_drop": 1.5}, "text_drop is 1.5"),
        ("lcfdsd", {"variant": "xt"}, "variant is 'xt'; choose one of: ng, lt"),
        ("lcfdsd", {"batch_size": 3}, "batch_size is 3; it must be even"),
        ("lcfdsd", {"margin": -1.0}, "margin is -1.0"),
    ],
)
def test_settings_that_cannot_work_are_named(name, wrong, words):
    with pytest.raises(ValueError, match=words):
        CONFIGS[name](**wrong)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_weights_were_trained_on_the_shipped_model(name):
    """One that goes with another model would be merged all the same, and do something else."""
    profile = get_profile("embedded")
    folder = adapter_target(name, profile)
    record = json.loads((folder / "training.json").read_text())
    assert record["starts_from"] == PictureBase.parents(profile)
    assert record["sha256"] == weights_hash(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("name", CONFIGS)
def test_they_are_registered_for_pictures_of_the_embedded_profile(name):
    defence = get(name)
    assert defence.card.pipeline == "pictures"
    assert defence.config_cls is CONFIGS[name]
    assert defence.profiles == ("embedded",)
