"""The weights of the animation pipeline: checked for, loaded, and told apart by their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from diffusers import (
    AnimateDiffControlNetPipeline,
    ControlNetModel,
    MotionAdapter,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNetMotionModel,
)

from pipelines.fetch import MissingWeights, hub_revision, picture_folder
from pipelines.loading import loading
from pipelines.profiles import AnimationSpec, Profile
from pipelines.refine import Refiner, check_refiner
from pipelines.solver import dpm_solver

TRAIN_COMMAND = (
    "python -m worlds.train vae && python -m worlds.train frames && python -m worlds.train motion"
)
"""Makes the embedded profile's animation model."""


def check_weights(spec: AnimationSpec, motion: bool = True) -> None:
    """Check that the folders which a profile names are there; Hub ids are left to the Hub.

    Args:
        spec: names the folders.
        motion: whether the motion adapter, and what redraws the details of clips, are needed too.

    Raises:
        MissingWeights: one is not; the message holds the commands that make it.
    """
    needed = [
        (spec.base, "The animation model Avatar-SD"),
        (spec.controlnet, "Avatar-SD's ControlNet"),
    ]
    if motion:
        needed.append((spec.motion_adapter, "Avatar-SD's motion adapter"))
    for part, name in needed:
        # A relative name such as "owner/model" is a Hub id; only an absolute one is a folder.
        if Path(part).is_absolute() and not (
            Path(part, "model_index.json").is_file() or Path(part, "config.json").is_file()
        ):
            raise MissingWeights(name, part, TRAIN_COMMAND)
    if motion and spec.refiner:
        check_refiner(spec.refiner)


@loading()
def load_pipeline(
    profile: Profile, on: torch.device, dtype: torch.dtype
) -> AnimateDiffControlNetPipeline:
    """Load the pipeline, its ControlNet made to take pictures that are embedded already.

    Args:
        profile: says which weights.
        on: where the models go.
        dtype: number format of the models.

    Raises:
        MissingWeights: a folder that the profile names is not there.
    """
    spec = profile.animation
    check_weights(spec)
    base, controlnet, motion = (
        picture_folder(name, profile) for name in (spec.base, spec.controlnet, spec.motion_adapter)
    )
    motion_adapter = MotionAdapter.from_pretrained(motion, dtype=dtype)
    pipe = AnimateDiffControlNetPipeline.from_pretrained(
        base,
        unet=_motion_unet(
            UNet2DConditionModel.from_pretrained(base, subfolder="unet", dtype=dtype),
            motion_adapter,
        ),
        controlnet=ControlNetModel.from_pretrained(controlnet, dtype=dtype),
        motion_adapter=motion_adapter,
        dtype=dtype,
    )
    pipe.motion_adapter = None  # the UNet has its weights
    pipe = pipe.to(on)
    pipe.controlnet.controlnet_cond_embedding = _EmbedOnce(
        pipe.controlnet.controlnet_cond_embedding
    )
    for module in (pipe.unet, pipe.controlnet, pipe.vae, pipe.text_encoder):
        module.requires_grad_(False).eval()
        # Halves the time of fp32 convolutions on a CPU, and takes a quarter from the autoencoder in
        # bf16; the UNet's and ControlNet's, small and many, gain nothing there.
        if dtype is torch.float32 or module is pipe.vae:
            module.to(memory_format=torch.channels_last)
    return pipe


def _motion_unet(spatial: UNet2DConditionModel, motion: MotionAdapter) -> UNetMotionModel:
    """Join a spatial UNet and a motion adapter, whose weights it shares.

    The pipeline would do so by itself, but fill the model from torch's generator first, which an
    attack that runs at the same time draws its replies from.
    """
    with torch.device("meta"):
        unet = UNetMotionModel.from_unet2d(spatial, motion, load_weights=False)
    unet.load_state_dict({**spatial.state_dict(), **motion.state_dict()}, assign=True)
    return unet


class _EmbedOnce(torch.nn.Module):
    """A ControlNet's conditioning embedding that lets an embedded picture pass as it is."""

    def __init__(self, embedding: torch.nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, conditioning: torch.Tensor) -> torch.Tensor:
        """Embed pictures [B, 3, H, W]; return [B, C, h, w] unchanged."""
        if conditioning.shape[1] == self.embedding.conv_in.in_channels:
            return self.embedding(conditioning)
        return conditioning


@loading()
def load_image_pipeline(
    profile: Profile, pipe: AnimateDiffControlNetPipeline, on: torch.device, dtype: torch.dtype
) -> StableDiffusionPipeline:
    """Return the stock image pipeline, sharing all but the UNet with the clip pipeline.

    Args:
        profile: says which weights.
        pipe: of `load_pipeline`, by the same profile.
        on: where the UNet goes.
        dtype: number format of the UNet.
    """
    spec = profile.animation
    unet = UNet2DConditionModel.from_pretrained(
        picture_folder(spec.base, profile), subfolder="unet", dtype=dtype
    ).to(on)
    return StableDiffusionPipeline(
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        unet=unet,
        scheduler=dpm_solver(pipe.scheduler, spec.solver_order),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_refiner(spec: AnimationSpec, on: torch.device, dtype: torch.dtype) -> Refiner | None:
    """Load what redraws details, None where a profile has none.

    Args:
        spec: of the profile.
        on: where it goes.
        dtype: its number format.

    Raises:
        MissingWeights: it is not there.
        ValueError: it does not go with the profile's frame size.
    """
    if not spec.refiner:
        return None
    refiner = Refiner.load(spec.refiner)
    if spec.size % refiner.multiple:
        raise ValueError(
            f"size is {spec.size}; the refiner {Path(spec.refiner).name} wants a multiple of "
            f"{refiner.multiple}"
        )
    refiner.net.requires_grad_(False).eval()
    refiner.net.to(on, dtype, memory_format=torch.channels_last)
    return refiner


def fingerprints(profile: Profile) -> dict[str, str]:
    """Return what identifies the weights: a hash for a folder, name and commit for a Hub id."""
    spec, prints = profile.animation, {}
    parts = {"base": spec.base, "controlnet": spec.controlnet, "motion": spec.motion_adapter}
    if spec.refiner:
        parts["refiner"] = spec.refiner
    for role, part in parts.items():
        folder = Path(part)
        if folder.is_dir():
            files = sorted(folder.rglob("*.safetensors"))
            prints[role] = f"{folder.name}:{fingerprint(files)}"
        else:
            prints[role] = f"{part}@{hub_revision(picture_folder(part, profile))}"
    return prints


def fingerprint(files: list[Path]) -> str:
    """Return the first 16 hex digits of the files' joint SHA-256."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
