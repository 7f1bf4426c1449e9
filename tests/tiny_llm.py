"""A chat model at a size that a test builds in a second: a real Llama, random weights.

The tokenizer spells bytes, so any text can be written and characters can be cut in half.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.fetch import embedder_folder
from pipelines.profiles import LLMSpec, Profile, get_profile

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer without merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|im_start|>", "<|im_end|>"]
    vocab = {token: number for number, token in enumerate([*special, *alphabet])}
    raw = Tokenizer(models.BPE(vocab, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=special[0], eos_token=special[1], pad_token=special[1]
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    """Return a Llama of two layers and width 32 with weights large enough to have opinions."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=258,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            initializer_range=0.4,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    torch.random.set_rng_state(state)
    return model.eval()


def tiny_llm(cache: Path, max_prompt_tokens: int = 400) -> Profile:
    """Save a tiny chat model where ``HOLDFAST_CACHE=cache`` finds it, and return its profile."""
    folder = cache / "llm" / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    embedded = get_profile("embedded")
    spec = LLMSpec(
        repo="holdfast/tiny", wheel=embedded.llm.wheel, max_prompt_tokens=max_prompt_tokens
    )
    return dataclasses.replace(embedded, name="tiny", llm=spec)


def tiny_lora(folder: Path, seed: int, modules: tuple[str, ...] = ("q_proj", "v_proj")) -> Path:
    """Save a LoRA of the tiny model that changes its answers, and return the folder."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=list(modules), task_type="CAUSAL_LM")
    model = get_peft_model(tiny_model(), config)
    for name, weight in model.named_parameters():
        # Of each kind of layer the factor that PEFT begins with zeros.
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder, save_embedding_layers=False)
    torch.random.set_rng_state(state)
    return folder


@contextlib.contextmanager
def tiny_home(folder: Path) -> Iterator[Profile]:
    """Point this process to a tiny chat model with the arms ``aligned`` and ``sdd``.

    The commands `evaluation.chat` and `evaluation.stress` find it by any profile's name.

    Args:
        folder: gets the model, the adapters (``assets/adapters/<profile>``) and the runs.

    Yields:
        Its profile.
    """
    encoder = embedder_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder))
        patch.setenv("HOLDFAST_RUNS", str(folder / "runs"))
        patch.setattr("adapters.registry.ASSETS", folder / "assets")
        patch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
        patch.setattr("adapters.attacks.lockstep.compute_dtype", lambda: torch.float32)
        patch.setattr("adapters.attacks.sft.BUILTIN_TOKENS", 256)  # one token is one byte here
        profile = tiny_llm(folder, max_prompt_tokens=120)
        (folder / encoder.name).symlink_to(encoder)
        adapters = folder / "assets" / "adapters" / profile.name
        tiny_lora(adapters / "aligned", 1)
        tiny_lora(adapters / "sdd", 2, ("k_proj", "down_proj"))
        patch.setattr("evaluation.chat.get_profile", lambda name: profile)
        patch.setattr("evaluation.stress.get_profile", lambda name: profile)
        yield profile
