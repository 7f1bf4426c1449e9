"""The animation model's weights: missing ones are named, loaded ones identified."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipelines.animation import AnimationEngine
from pipelines.fetch import MissingWeights
from pipelines.refine import Refiner, new_net
from tests.pipelines.test_fetch import HUB_SHA, in_the_hubs_cache
from tests.tiny import TEXT_WIDTH, tiny_profile

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_motion_modules_are_held_once(engine):
    assert engine.pipe.motion_adapter is None


def test_weights_of_the_hub_are_identified_by_their_commit(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    parts = {"base": folder, "motion": folder / "motion_adapter", "control": folder / "controlnet"}
    for name, made in parts.items():
        in_the_hubs_cache(tmp_path, f"org/{name}", made, ())
    profile = tiny_profile(
        folder, base="org/base", motion_adapter="org/motion", controlnet="org/control"
    )
    hub = AnimationEngine(replace(profile, pictures=replace(profile.pictures, base="org/base")))
    assert hub.weights([]) == {
        "base": f"org/base@{HUB_SHA}",
        "motion": f"org/motion@{HUB_SHA}",
        "controlnet": f"org/control@{HUB_SHA}",
    }


def test_loading_draws_no_random_number(folder, guard):
    before = torch.get_rng_state()
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    assert torch.equal(torch.get_rng_state(), before), "an attack may be drawing its replies"


def test_missing_weights_are_named_with_the_command(tmp_path):
    with pytest.raises(MissingWeights, match=r"avatar-sd.*python -m worlds.train vae"):
        AnimationEngine(tiny_profile(tmp_path / "avatar-sd"))


def test_a_refiner_that_is_missing_or_does_not_fit_is_told_of_at_once(folder, tmp_path):
    with pytest.raises(MissingWeights, match="python -m worlds.train refiner"):
        AnimationEngine(tiny_profile(folder, refiner=str(tmp_path)))
    Refiner(new_net(TEXT_WIDTH, channels=(8, 8, 8), groups=4)).save(tmp_path)
    with pytest.raises(ValueError, match="size is 72; .* wants a multiple of 16"):
        AnimationEngine(tiny_profile(folder, refiner=str(tmp_path), size=72))
