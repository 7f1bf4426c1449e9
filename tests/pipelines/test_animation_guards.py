"""Guards: they act on their own arm only, fit the model or are refused, and can be removed."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from pipelines.animation import AnimationEngine
from pipelines.fetch import MissingWeights
from tests.pipelines.animating import PROMPT, clip, result_of
from tests.tiny import tiny_profile, tiny_unet

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_guard_acts_on_the_guarded_arm_only(engine):
    alone = result_of(engine.pair(clip(), PROMPT, {}, 7))
    both = result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7))
    assert alone.guarded is None
    assert np.array_equal(alone.unguarded, both.unguarded)
    assert not np.array_equal(both.unguarded, both.guarded)
    half = result_of(engine.pair(clip(), PROMPT, {"kneeling": 0.5}, 7))
    assert not np.array_equal(half.guarded, both.guarded)
    off = result_of(engine.pair(clip(), PROMPT, {"kneeling": 0.0}, 7))
    assert np.array_equal(off.guarded, alone.unguarded)


def test_a_guard_equals_its_weights_merged_into_the_spatial_layers(engine, folder, guard):
    merged = AnimationEngine(tiny_profile(folder), torch.float32)
    state = load_file(guard / "adapter_model.safetensors")
    layers = dict(merged.pipe.unet.named_modules())
    for key in [key for key in state if ".lora_A." in key]:
        down, up = state[key], state[key.replace(".lora_A.", ".lora_B.")]
        weight = layers[key.removeprefix("base_model.model.").split(".lora_A.")[0]].weight
        # alpha / r = 2; a convolution's LoRA is a k x k convolution followed by a 1 x 1 one.
        weight.data += 2 * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    expected = result_of(merged.pair(clip(), PROMPT, {}, 7)).unguarded
    made = result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7)).guarded
    assert np.abs(made.astype(int) - expected).max() <= 1
    names = [name for name, _ in engine.pipe.unet.named_parameters() if ".lora_" in name]
    assert len(names) == len(state)
    assert not any("motion_modules" in name for name in names)


def test_adapters_that_do_not_fit_are_refused(engine, guard, tmp_path):
    with pytest.raises(ValueError, match="name is 'kneeling', which is taken"):
        engine.add_guard("kneeling", guard)
    with pytest.raises(ValueError, match="name is '../x'"):
        engine.add_guard("../x", guard)
    with pytest.raises(MissingWeights, match="python -m adapters.train poseguard_hardened$"):
        engine.add_guard("other", tmp_path / "poseguard_hardened")
    wider = UNet2DConditionModel.from_config({**tiny_unet().config, "block_out_channels": (16, 16)})
    config = LoraConfig(r=2, target_modules=["to_q"])
    get_peft_model(wider, config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="fits no layer"):
        engine.add_guard("other", tmp_path)
    assert engine.guards == ("kneeling",)


@pytest.mark.parametrize("half", ["A", "B"])
def test_a_guard_whose_halves_do_not_go_together_is_refused(engine, guard, tmp_path, half):
    state = load_file(guard / "adapter_model.safetensors")
    key = next(key for key in state if f".lora_{half}." in key)
    rank = state[key].shape[0 if half == "A" else 1]
    cut = state[key][:-1] if half == "A" else state[key][:, :-1]
    (tmp_path / "adapter_config.json").write_text((guard / "adapter_config.json").read_text())
    for changed, words in (
        ({key: cut.contiguous()}, rf"of rank {rank}, .* of rank {rank - 1}|{rank - 1}, .* {rank};"),
        ({key: None}, "rank none; the file is damaged"),
    ):
        weights = {name: value for name, value in (state | changed).items() if value is not None}
        save_file(weights, tmp_path / "adapter_model.safetensors")
        with pytest.raises(ValueError, match=words):
            engine.add_guard("other", tmp_path)
    assert engine.guards == ("kneeling",)


def test_a_pair_whose_guard_is_removed_meanwhile_says_so(folder, guard):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    work = engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7)
    next(work)
    engine.remove_guard("kneeling")
    with pytest.raises(ValueError, match="'kneeling' was removed meanwhile"):
        list(work)


def other_guard(guard: Path, target: Path) -> Path:
    """The guard turned round."""
    state = load_file(guard / "adapter_model.safetensors")
    save_file({k: -v if ".lora_A." in k else v for k, v in state.items()},
              target / "adapter_model.safetensors")  # fmt: skip
    config = (guard / "adapter_config.json").read_text()
    (target / "adapter_config.json").write_text(config)
    return target


def test_a_pair_goes_on_with_no_other_guard_of_the_same_name(folder, guard, tmp_path):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    before = engine.weights(["kneeling"])
    stepping, stepped = (engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7) for _ in range(2))
    next(stepping)
    for item in stepped:
        if item.message == "decoding the frames":
            break
    engine.remove_guard("kneeling")
    engine.add_guard("kneeling", other_guard(guard, tmp_path))
    with pytest.raises(ValueError, match="'kneeling' was removed meanwhile"):
        list(stepping)
    # No step is left: what was made names the weights that made it.
    engine.remove_guard("kneeling")
    assert result_of(stepped).settings["weights"] == before


def test_of_two_guards_that_are_added_under_one_name_at_once_one_is(folder, guard, monkeypatch):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    both = threading.Barrier(2, timeout=60)
    # Each reads its file before the other one is there.
    monkeypatch.setattr(
        "pipelines.animation_guards.load_file", lambda path: both.wait() >= 0 and load_file(path)
    )
    refused = []

    def add() -> None:
        try:
            engine.add_guard("kneeling", guard)
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["name is 'kneeling', which is taken; remove_guard() that one first"]
    assert engine.guards == ("kneeling",)


def test_a_guard_can_be_removed(folder, guard):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    before = result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded
    engine.add_guard("kneeling", guard)
    engine.remove_guard("kneeling")
    assert engine.guards == ()
    assert np.array_equal(before, result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded)
    engine.add_guard("kneeling", guard)
    assert result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7)).guarded is not None
