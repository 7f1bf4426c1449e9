"""Pictures from a text alone: the engine against the stock pipeline, and its arms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from pipelines.fetch import MissingWeights
from pipelines.lora import merged
from pipelines.portraits import (
    BASE,
    HEAD,
    HEAD_BOX,
    MAX_GUIDANCE,
    MAX_PICTURES,
    MAX_SEED,
    MAX_STEPS,
    Drawing,
    Drawn,
    PortraitEngine,
    base_unet,
    finished,
    load_refiner,
    sampled,
    spatial_unet,
    with_faces,
)
from pipelines.profiles import get_profile
from tests.tiny import SIZE, tiny_avatar_sd, tiny_profile
from worlds.portraits import build_portraits

PROMPTS = ["a person in red", "a person in blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_avatar_sd(tmp_path_factory.mktemp("avatar") / "avatar-sd")


def lora(folder, target, seed=1):
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_v"], init_lora_weights=False)
    get_peft_model(unet, config).save_pretrained(target)
    return target


@pytest.fixture
def engine(folder):
    return PortraitEngine(tiny_profile(folder), torch.float32)


def drawn(events) -> Drawn:
    *before, last = events
    assert all(isinstance(event, Drawing) for event in before)
    assert isinstance(last, Drawn)
    return last


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_it_draws_what_the_stock_pipeline_draws(folder, engine, guidance):
    pictures = drawn(engine.draw(PROMPTS, 5, guidance_scale=guidance)).pictures[BASE]
    stock = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    stock.scheduler = DDIMScheduler.from_config(
        stock.scheduler.config, timestep_spacing="trailing"
    )
    stock.set_progress_bar_config(disable=True)
    wanted = stock(
        PROMPTS, height=SIZE, width=SIZE, num_inference_steps=3, guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(5 + i) for i in range(2)], output_type="np",
    ).images  # fmt: skip
    assert pictures.shape == (2, SIZE, SIZE, 3) and pictures.dtype == np.uint8
    np.testing.assert_allclose(pictures, wanted * 255, atol=0.51)


def test_a_picture_depends_on_its_own_seed_and_not_on_its_neighbours(engine):
    both = drawn(engine.draw(PROMPTS, 5)).pictures[BASE]
    alone = drawn(engine.draw(PROMPTS[1:], 6)).pictures[BASE]
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 1


def test_arms_are_the_base_with_loras_merged_in(folder, engine, tmp_path):
    first, second = lora(folder, tmp_path / "a", 1), lora(folder, tmp_path / "b", 2)
    engine.add_arm("a", [first])
    engine.add_arm("ab", [first, second])
    assert engine.arms == (BASE, "a", "ab")
    pictures = drawn(engine.draw(PROMPTS, 5, [BASE, "a", "ab"])).pictures
    assert list(pictures) == [BASE, "a", "ab"]
    assert not np.array_equal(pictures[BASE], pictures["a"])
    assert not np.array_equal(pictures["a"], pictures["ab"])
    np.testing.assert_array_equal(drawn(engine.draw(PROMPTS, 5)).pictures[BASE], pictures[BASE])
    engine.remove_arm("a")
    assert engine.arms == (BASE, "ab")
    for wrong in (BASE, "a"):
        with pytest.raises(ValueError):
            engine.remove_arm(wrong)
    with pytest.raises(ValueError, match="'ab', which is taken"):
        engine.add_arm("ab", [first])


def test_what_trainers_sample_is_what_the_engine_draws(folder, engine):
    with torch.inference_mode():
        latents = sampled(
            base_unet(tiny_profile(folder).pictures), engine._schedule, engine._noise(2, 5),
            engine._text(["", "", *PROMPTS]), 3, engine.spec.guidance_scale,
        )  # fmt: skip
    pictures = engine._decoded(latents, engine._text(PROMPTS))
    np.testing.assert_array_equal(pictures, drawn(engine.draw(PROMPTS, 5)).pictures[BASE])


def test_progress_rises_to_the_end_and_tells_what_is_left(engine):
    *before, _ = engine.draw(PROMPTS, 5)
    fractions = [event.fraction for event in before]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert before[0].seconds_left is None and before[1].seconds_left > 0
    again = next(iter(engine.draw(PROMPTS, 5)))
    assert again.seconds_left > 0


def test_it_stops_before_the_step_it_is_told_to(engine):
    asked = iter([False, True])
    events = list(engine.draw(PROMPTS, 5, should_stop=lambda: next(asked)))
    assert [event.message for event in events] == ["reading the prompt", "step 1 of 3"]


def test_a_model_removed_on_the_way_draws_to_the_end(folder, engine, tmp_path):
    engine.add_arm("a", [lora(folder, tmp_path / "a")])
    *_, whole = engine.draw(PROMPTS, 5, ["a"])
    drawing = engine.draw(PROMPTS, 5, ["a"])
    next(drawing)
    engine.remove_arm("a")
    *_, drawn = drawing
    np.testing.assert_array_equal(drawn.pictures["a"], whole.pictures["a"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": []}, "prompts are 0"),
        ({"prompts": ["x"] * (MAX_PICTURES + 1)}, f"wanted 1 to {MAX_PICTURES}"),
        ({"prompts": [" "]}, "prompt is ' '"),
        ({"prompts": ["hi \ud83d"]}, r"prompt is 'hi \\ud83d', .* half a character"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": MAX_SEED}, f"seed is {MAX_SEED}; .* from 0 to {MAX_SEED - len(PROMPTS)}"),
        ({"seed": 1.5}, "seed is 1.5; wanted a whole number"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": MAX_STEPS + 1}, f"wanted a whole number from 1 to {MAX_STEPS}"),
        ({"steps": 2.5}, "steps is 2.5; wanted a whole number"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_scale": MAX_GUIDANCE + 0.1}, f"wanted a number from 0 to {MAX_GUIDANCE}"),
        ({"arms": []}, "arms is empty"),
        ({"arms": ["gift"]}, "arms names 'gift'; there is: base"),
    ],
)
def test_arguments_that_cannot_work_are_named_at_once(engine, change, words):
    with pytest.raises(ValueError, match=words):
        engine.draw(**({"prompts": PROMPTS, "seed": 0} | change))


def test_loading_draws_no_random_number(folder, tmp_path):
    made, profile = lora(folder, tmp_path / "a"), tiny_profile(folder)
    spec = dataclasses.replace(profile.pictures, fine_attention=False)
    before = torch.get_rng_state()
    PortraitEngine(dataclasses.replace(profile, pictures=spec), torch.float32)
    PortraitEngine(profile, torch.float32).add_arm("a", [made])
    assert torch.equal(torch.get_rng_state(), before), "an attack may be drawing its replies"


def test_a_lora_that_is_missing_is_told_with_its_command(folder, tmp_path):
    with pytest.raises(MissingWeights) as missing:
        merged(base_unet(tiny_profile(folder).pictures), tmp_path / "gift")
    assert missing.value.command == "python -m adapters.train gift"
    spec = dataclasses.replace(tiny_profile(folder).pictures, lora=str(tmp_path / "portraits"))
    with pytest.raises(MissingWeights) as missing:
        base_unet(spec)
    assert missing.value.command == "python -m worlds.train portraits"


def test_heads_are_where_rendered_portraits_have_them(tmp_path):
    rendered = build_portraits(tmp_path / "set", 24, seed=9_000_000, workers=0)
    for joint, place in HEAD.items():
        mean = np.asarray(rendered.keypoints)[:, joint, :2].mean(0)
        assert np.abs(mean - place).max() < 4, joint


def test_only_the_head_is_redrawn_and_by_the_text():
    spec = get_profile("embedded").pictures
    refiner = load_refiner(spec, torch.device("cpu"), torch.float32)
    pixels = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) - 0.5
    texts = torch.randn(2, 64, 256, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        drawn, other = with_faces(pixels, texts, refiner), with_faces(pixels, -texts, refiner)
    change = (drawn - pixels).abs().amax(1)
    rows, columns = HEAD_BOX
    assert change[:, rows, columns].amax() > 0.01
    change[:, rows, columns] = 0
    assert change.amax() == 0
    assert (drawn - other).abs().amax() > 1e-3
    # What is seen of it: finished pictures with and without.
    with torch.inference_mode():
        kept, redrawn = (finished(pixels, texts, each, spec) for each in (None, refiner))
    np.testing.assert_array_equal(kept[:, 160:, :64], redrawn[:, 160:, :64])
    assert (kept != redrawn).any()


def test_without_attention_at_the_finest_level_the_rest_is_the_same(folder):
    whole, lean = spatial_unet(folder), spatial_unet(folder, fine_attention=False)
    assert not hasattr(lean.down_blocks[0], "attentions")
    assert not hasattr(lean.up_blocks[-1], "attentions")
    weights = whole.state_dict()
    for name, value in lean.state_dict().items():
        torch.testing.assert_close(value, weights[name])
    profile = tiny_profile(folder)
    spec = dataclasses.replace(profile.pictures, fine_attention=False)
    engine = PortraitEngine(dataclasses.replace(profile, pictures=spec), torch.float32)
    assert drawn(engine.draw(PROMPTS, 5)).pictures[BASE].shape == (2, SIZE, SIZE, 3)
