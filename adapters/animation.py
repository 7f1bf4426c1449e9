"""What the guards of the animation model share: the frozen model, its frames, and how it samples.

It is the spatial model: a frame is a picture of its own, drawn without the motion modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from evaluation.runs import weights_hash
from pipelines.animation_weights import check_weights
from pipelines.device import autocast, device, plain_attention
from pipelines.loading import loading
from pipelines.solver import solver_for

if TYPE_CHECKING:
    from peft import PeftModel

    from pipelines.profiles import AnimationSpec, Profile


class Frames(TypedDict):
    """Frames to train on.

    Attributes:
        latents: float [B, C, h, w], scaled as the denoiser sees them.
        pose: uint8 [B, H, W, 3], skeleton pictures.
        captions: B texts.
        unsafe: bool [B].
    """

    latents: Tensor
    pose: Tensor
    captions: list[str]
    unsafe: Tensor


@dataclass(frozen=True)
class Base:
    """The frozen model that is guarded."""

    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    @staticmethod
    def parents(profile: Profile) -> dict[str, str]:
        """Return what a guard's training starts from: part → SHA-256 of its weights."""
        return {"unet": weights_hash(Path(profile.animation.base) / "unet")}

    @classmethod
    @loading()
    def load(cls, profile: Profile) -> Base:
        """Load the profile's spatial model in float32, frozen, on the compute device.

        Raises:
            MissingWeights: it is not there.
        """
        spec = profile.animation
        check_weights(spec, motion=False)
        text_encoder = CLIPTextModel.from_pretrained(spec.base, subfolder="text_encoder")
        base = cls(
            UNet2DConditionModel.from_pretrained(spec.base, subfolder="unet"),
            ControlNetModel.from_pretrained(spec.controlnet),
            text_encoder.float(),
            CLIPTokenizer.from_pretrained(spec.base, subfolder="tokenizer"),
            DDIMScheduler.from_pretrained(spec.base, subfolder="scheduler"),
        )
        plain_attention(base.unet, base.controlnet)
        for module in (base.unet, base.controlnet, base.text_encoder):
            module.requires_grad_(False).eval().to(device())
        return base

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Return token numbers [B, tokens] of captions."""
        return self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids


def predict(
    unet: UNet2DConditionModel | PeftModel,
    base: Base,
    noisy: Tensor,
    time: Tensor,
    tokens: Tensor,
    pose: Tensor,
) -> Tensor:
    """Run the frozen parts without gradients and the UNet on what they say.

    Args:
        unet: with or without the LoRA.
        base: the frozen parts.
        noisy: latents [B, C, h, w].
        time: [B].
        tokens: [B, tokens].
        pose: uint8 [B, H, W, 3].

    Returns:
        The UNet's output [B, C, h, w], float32.
    """
    with torch.no_grad():
        text = base.text_encoder(tokens).last_hidden_state
        down, middle = base.controlnet(
            noisy,
            time,
            encoder_hidden_states=text,
            controlnet_cond=pose.permute(0, 3, 1, 2).float() / 255,
            return_dict=False,
        )
    return unet(
        noisy,
        time,
        encoder_hidden_states=text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        return_dict=False,
    )[0].float()


def passes(
    unet: UNet2DConditionModel | PeftModel,
    base: Base,
    noise: Tensor,
    tokens: Tensor,
    pose: Tensor,
    spec: AnimationSpec,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample as the product draws the profile's clips, but for the motion modules.

    Args:
        unet: with or without the LoRA.
        base: the frozen parts.
        noise: [B, C, h, w].
        tokens: [B, tokens].
        pose: uint8 [B, H, W, 3].
        spec: of the profile, for the steps and the solver.

    Yields:
        Before each pass, which is made when the next item is asked for, its time and the state
        [B, C, h, w] that it starts from; at last 0 and the finished latents.
    """
    solver = solver_for(base.scheduler, spec, spec.steps, noise.device)
    states = noise
    for time in solver.timesteps:
        yield time, states
        with torch.no_grad():
            output = predict(unet, base, states, time.expand(len(noise)), tokens, pose)
        states = solver.step(output, time, states).prev_sample
    yield torch.zeros_like(solver.timesteps[0]), states


def draw(model: PeftModel, base: Base, frames: Frames, *, spec: AnimationSpec, seed: int) -> Tensor:
    """Draw latents for frames' skeletons and captions with the model as it stands.

    As the product draws the profile's clips, but for the motion modules.

    Args:
        model: the UNet with the LoRA, which may be disabled.
        base: the frozen parts.
        frames: their latents only tell the shape.
        spec: of the profile, for the steps and the solver.
        seed: of the initial noise.

    Returns:
        Scaled latents [B, C, h, w], float32.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(frames["latents"].shape, generator=generator).to(device())
    tokens = base.tokens(frames["captions"]).to(device())
    with torch.inference_mode(), autocast():
        *_, (_, latents) = passes(model, base, noise, tokens, frames["pose"].to(device()), spec)
    return latents
