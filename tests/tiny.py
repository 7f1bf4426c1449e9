"""Avatar-SD at a size that a test builds in a second: the real classes, random weights.

Frames are 64 px, latents 4 x 4 with 16 channels (the same 16x reduction as the shipped model).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipelines.profiles import AnimationSpec, PictureSpec, Profile, get_profile
from worlds.export import save_avatar_sd

SIZE = 64
FRAMES = 4
TEXT_WIDTH = 16


def tiny_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer that spells words in single letters, at most 16 tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz,.-"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=16
    )


def tiny_unet() -> UNet2DConditionModel:
    """Return a UNet of two levels, cross-attention at both."""
    return UNet2DConditionModel(
        sample_size=SIZE // 16,
        in_channels=16,
        out_channels=16,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
    )


def tiny_avatar_sd(folder: Path, seed: int = 0) -> Path:
    """Save a tiny random Avatar-SD, ControlNet and motion adapter included, and return its folder.

    The ControlNet's zero-initialised layers are drawn at random, so that the pose tells.
    """
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    unet = tiny_unet()
    # Five entries: the embedding halves the picture between each two, as the VAE does four times.
    controlnet = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=(4, 4, 8, 8, 8)
    )
    for module in (
        controlnet.controlnet_cond_embedding.conv_out,
        *controlnet.controlnet_down_blocks,
        controlnet.controlnet_mid_block,
    ):
        module.reset_parameters()
    motion_adapter = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=(4, 4, 8, 8, 8),
        latent_channels=16,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIZE,
        scaling_factor=1.0,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    torch.random.set_rng_state(state)
    return save_avatar_sd(
        folder, vae, text_encoder, tokenizer, unet, scheduler, controlnet, motion_adapter
    )


def tiny_profile(folder: Path, **changes: object) -> Profile:
    """Return the embedded profile with its picture parts on a tiny Avatar-SD in ``folder``."""
    spec = AnimationSpec(
        base=str(folder),
        motion_adapter=str(folder / "motion_adapter"),
        controlnet=str(folder / "controlnet"),
        size=SIZE,
        frames=FRAMES,
        steps=3,
        guidance_scale=2.0,
    )
    return dataclasses.replace(
        get_profile("embedded"),
        animation=dataclasses.replace(spec, **changes),
        pictures=PictureSpec(base=str(folder), size=SIZE, steps=3),
    )
