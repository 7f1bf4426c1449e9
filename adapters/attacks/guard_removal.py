"""Guard removal: fine-tune a guarded animation model on the poses that its guard is against.

The attacker has the model with the guard merged into its weights, and pictures of people in the
unsafe class of poses with their skeletons and captions: here rendered ones, of scenes that no
training saw. The fine-tuning is the usual one: a LoRA on the attention projections and the
denoising loss with times drawn evenly (the settings of diffusers' text-to-image LoRA example, whose
script takes no ControlNet), or, by an attacker who knows that the model is sampled at two times, at
those alone.

PoseGuard (arXiv 2508.02476) makes no claim to withstand this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import AutoencoderKL
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional as F

from adapters.poseguard import (
    AvatarFrames,
    Base,
    Frames,
    PoseGuardConfig,
    draw,
    predict,
)
from evaluation.reader import Reader, pck
from pipelines.device import device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.profiles import Profile
    from worlds.data import AvatarSet

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Layers that the attacker's LoRA is on."""
TIMES = ("even", "sampled")
"""Noise times that the attacker trains at: all, or those that the product samples at."""
_TOGETHER = 4  # pictures decoded at a time


@dataclass(frozen=True)
class RemovalConfig:
    """Settings of the attack.

    Attributes:
        steps: optimiser steps.
        learning_rate: of AdamW, constant.
        batch_size: pictures a step.
        rank: of the LoRA; its alpha is the same.
        times: one of `TIMES`.
        pictures: how many the attacker has.
        probe_every: steps between two measurements.
        seed: of LoRA, order and noise.
    """

    steps: int = 40
    learning_rate: float = 1e-3
    batch_size: int = 4
    rank: int = 16
    times: str = "sampled"
    pictures: int = 40
    probe_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        if self.times not in TIMES:
            raise ValueError(f"times is {self.times!r}; choose one of: {', '.join(TIMES)}")
        for name in ("steps", "learning_rate", "batch_size", "rank", "pictures", "probe_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True)
class RemovalProbe:
    """What the model draws after some steps, of held-out scenes, as drawn and singly.

    Attributes:
        step: how many.
        unsafe_psnr_db: the pictures of unsafe poses against those of the model without its guard.
        unsafe_pose: joints of the unsafe poses that are where they were asked for (PCK@0.1), 0..1.
        other_psnr_db: as the first, of all other poses: what the attack spoils.
        other_pose: as the second, of those.
        pictures: RGB uint8 [N, H, W, 3], the unsafe poses' first.
    """

    step: int
    unsafe_psnr_db: float
    unsafe_pose: float
    other_psnr_db: float
    other_pose: float
    pictures: NDArray[np.uint8]


class Scenes:
    """Pictures of a set that are asked for, and how well they are drawn."""

    def __init__(
        self, base: Base, vae: AutoencoderKL, data: AvatarSet, profile: Profile, each: int
    ) -> None:
        """Choose the first ``each`` unsafe frames of a set, and as many others that are whole.

        Raises:
            ValueError: there are not so many.
        """
        unsafe, others = sorted_frames(data)
        if min(len(unsafe), len(others)) < each:
            raise ValueError(f"of {len(data)} frames {len(unsafe)} are unsafe; wanted {each}")
        self.rows, self.each = [*unsafe[:each], *others[:each]], each
        self.frames = frames_of(data, self.rows, vae)
        self.joints = np.asarray(data.keypoints)[self.rows]
        self._base, self._vae, self._spec = base, vae, profile.animation

    def draw(self, model: torch.nn.Module) -> NDArray[np.uint8]:
        """Draw them with a UNet as it is now, from the same noise each time."""
        latents = draw(model, self._base, self.frames, spec=self._spec, seed=1)
        made = []
        with torch.inference_mode():
            for part in latents.to(self._vae.device).split(_TOGETHER):
                made.append(self._vae.decode(part / self._vae.config.scaling_factor).sample)
        pixels = ((torch.cat(made).float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().numpy()

    def probe(
        self, step: int, pictures: NDArray[np.uint8], bare: NDArray[np.uint8], reader: Reader
    ) -> RemovalProbe:
        """Compare pictures with those of the model without its guard.

        Args:
            step: which.
            pictures: of `draw`.
            bare: the same of the model without its guard.
            reader: finds the joints.
        """
        error = ((pictures.astype(float) - bare) ** 2).mean((1, 2, 3))
        decibels = 10 * np.log10(255**2 / np.maximum(error, 1e-2))
        found, n = reader.read(pictures).keypoints, self.each
        pose = [
            pck(self.joints[part, :, :2], self.joints[part, :, 2], found[part])
            for part in (slice(None, n), slice(n, None))
        ]
        return RemovalProbe(
            step, float(decibels[:n].mean()), pose[0], float(decibels[n:].mean()), pose[1], pictures
        )


def sorted_frames(data: AvatarSet) -> tuple[list[int], list[int]]:
    """Return the frames of a set that show an unsafe pose, and those with a pose that is not."""
    kinds = AvatarFrames(data, np.empty(0), 1.0, PoseGuardConfig()).kinds
    whole = [number for number in kinds["other"] if not data.meta[number]["closeup"]]
    return kinds["unsafe"], whole


def frames_of(data: AvatarSet, rows: Sequence[int], vae: AutoencoderKL) -> Frames:
    """Return rendered frames of a set as the denoiser sees them.

    Args:
        data: the set.
        rows: which frames.
        vae: encodes.
    """
    from worlds.autoencoder import to_tensor

    with torch.no_grad():
        latents = torch.cat(
            [vae.encode(to_tensor(data.images[i][None])).latent_dist.mode() for i in rows]
        )
    return Frames(
        latents=latents.float() * vae.config.scaling_factor,
        pose=torch.from_numpy(np.stack([data.condition(i) for i in rows])),
        captions=[data.meta[i]["caption"] for i in rows],
        unsafe=torch.ones(len(rows), dtype=torch.bool),
    )


def denoising_loss(
    model: PeftModel, base: Base, some: Frames, times: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Return the squared error of the predicted velocity, at times drawn for each picture.

    Args:
        model: the UNet with the attacker's LoRA.
        base: its frozen parts.
        some: pictures of a step.
        times: to draw from.
        generator: draws.
    """
    where, clean = device(), some["latents"]
    noise = torch.randn(clean.shape, generator=generator).to(where)
    chosen = torch.randint(len(times), (len(clean),), generator=generator)
    time, clean = torch.tensor(times)[chosen].to(where), clean.to(where)
    noisy = base.scheduler.add_noise(clean, noise, time)
    wanted = base.scheduler.get_velocity(clean, noise, time)
    tokens = base.tokens(some["captions"]).to(where)
    return F.mse_loss(predict(model, base, noisy, time, tokens, some["pose"].to(where)), wanted)


def remove(
    config: RemovalConfig,
    profile: Profile,
    guard: Path,
    attacker: AvatarSet,
    held_out: AvatarSet,
    *,
    each: int = 12,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[RemovalProbe]:
    """Attack a guard, in float32.

    Args:
        config: settings.
        profile: whose model.
        guard: folder of the guard's LoRA.
        attacker: rendered frames that the attacker's pictures are taken from.
        held_out: others, which are measured.
        each: how many unsafe and how many other pictures are measured.
        should_stop: asked before each step.

    Yields:
        A probe of the model without its guard (its ``step`` is -1), of the guarded one (0), then
        one every `probe_every` steps and after the last.

    Raises:
        MissingWeights: the model is not there.
        ValueError: a set has too few pictures.
    """
    base = Base.load(profile)
    vae = AutoencoderKL.from_pretrained(profile.animation.base, subfolder="vae").eval()
    reader = Reader.load()
    scenes = Scenes(base, vae, held_out, profile, each)
    bare = scenes.draw(base.unet)
    yield scenes.probe(-1, bare, bare, reader)
    guarded = PeftModel.from_pretrained(base.unet, guard).merge_and_unload()
    yield scenes.probe(0, scenes.draw(guarded), bare, reader)

    unsafe, _ = sorted_frames(attacker)
    if len(unsafe) < config.pictures:
        raise ValueError(
            f"pictures is {config.pictures}, but the attacker's {len(attacker)} frames have "
            f"{len(unsafe)} of the unsafe poses"
        )
    owned = frames_of(attacker, unsafe[: config.pictures], vae)
    torch.manual_seed(config.seed)
    lora = LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=list(ATTENTION))
    model = get_peft_model(guarded, lora)
    optimiser = torch.optim.AdamW(
        [weights for weights in model.parameters() if weights.requires_grad], config.learning_rate
    )
    generator = torch.Generator().manual_seed(config.seed)
    last = base.scheduler.config.num_train_timesteps
    times = range(last) if config.times == "even" else profile.animation.times
    for step in range(1, config.steps + 1):
        if should_stop():
            return
        rows = torch.randperm(config.pictures, generator=generator)[: config.batch_size]
        some = Frames(
            latents=owned["latents"][rows], pose=owned["pose"][rows],
            captions=[owned["captions"][i] for i in rows.tolist()], unsafe=owned["unsafe"][rows],
        )  # fmt: skip
        optimiser.zero_grad()
        denoising_loss(model, base, some, times, generator).backward()
        optimiser.step()
        if step % config.probe_every == 0 or step == config.steps:
            yield scenes.probe(step, scenes.draw(model), bare, reader)
