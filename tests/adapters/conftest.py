"""What several tests share: a real Llama of a few thousand weights, and a set of avatars."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from numpy.lib.format import open_memmap
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from worlds.data import AvatarSet
from worlds.looks import random_look

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level tokenizer without merges: every character of plain English is one token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Two layers of width 16, random weights from a fixed seed."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.3,  # the usual 0.02 leaves a head this narrow almost no say
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def avatars(tmp_path: Path) -> AvatarSet:
    """An avatar set with the real files, its pictures empty."""
    motions = ["kneel_both", "squat", "walk", "wave", "kneel_left", "run"]
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, kind, *shape in (
        ("images", np.uint8, 256, 256, 3),
        ("masks", np.uint8, 256 * 32),
        ("keypoints", np.float32, 18, 3),
        ("landmarks", np.float32, 68, 2),
    ):
        array = open_memmap(folder / f"{name}.npy", "w+", kind, (len(motions), *shape))
        array[:] = np.random.default_rng(0).integers(1, 200, array.shape)
    rng = Random(0)
    metas = [
        {
            "look": asdict(random_look(rng)),
            "motion": motion,
            "time": 8,
            "closeup": False,
            "caption": motion,
        }
        for motion in motions
    ]
    (folder / "meta.jsonl").write_text("\n".join(map(json.dumps, metas)) + "\n")
    return AvatarSet(folder)
