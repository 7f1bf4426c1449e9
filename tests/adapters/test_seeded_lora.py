"""An attacker's first LoRA weights go by the seed alone, and are those that PEFT would draw."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model

from adapters.attacks.base import seeded_lora
from adapters.pictures import ATTACKED
from tests.tiny import tiny_avatar_sd
from tests.tiny_llm import tiny_model


@pytest.fixture(scope="module", params=["chat model, bf16", "UNet, all layers"])
def made(request, tmp_path_factory):
    """A function that makes a model, and a LoRA for it."""
    if request.param.startswith("chat"):
        config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
        return lambda: tiny_model().to(torch.bfloat16), config
    folder = tiny_avatar_sd(tmp_path_factory.mktemp("avatar") / "avatar-sd")
    config = LoraConfig(r=4, lora_alpha=4, target_modules=list(ATTACKED["all"]))
    return lambda: UNet2DConditionModel.from_pretrained(folder, subfolder="unet"), config


def test_they_are_those_that_peft_draws_after_setting_the_seed(made):
    make, config = made
    torch.manual_seed(7)
    wanted = get_peft_model(make(), config)
    found = seeded_lora(make(), config, 7)
    theirs = dict(wanted.named_parameters())
    for name, weights in found.named_parameters():
        assert weights.dtype == theirs[name].dtype, name
        assert weights.requires_grad == theirs[name].requires_grad, name
        assert torch.equal(weights, theirs[name]), name


def test_other_threads_neither_change_them_nor_notice(made):
    make, config = made
    model = make()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    seeded_lora(model, config, 7)
    assert torch.equal(torch.get_rng_state(), before)
