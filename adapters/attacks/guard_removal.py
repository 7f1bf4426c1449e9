"""Guard removal: fine-tune a guarded animation model on the poses that its guard is against.

The attacker has the model with the guard merged into its weights, and pictures of people in the
unsafe class of poses with their skeletons and captions: here rendered ones, of scenes that no
training saw. The fine-tuning is the usual one (`adapters.attacks.fine_tune`), with the denoising
loss, by default at the times that the product samples at, which an
attacker can know, else at times drawn evenly (as in diffusers' text-to-image LoRA example, whose
script takes no ControlNet).

PoseGuard (arXiv 2508.02476) makes no claim to withstand this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from adapters import checks
from adapters.animation import Base, Frames, draw, predict
from adapters.attacks.fine_tune import FineTuneConfig, FineTuneStep, fine_tune
from adapters.pictures import ATTACKER_SEED
from adapters.pose_classes import POSE_CLASSES
from evaluation.psnr import psnr
from evaluation.reader import Reader, pck
from pipelines.device import device
from pipelines.loading import loading
from pipelines.lora import merged
from pipelines.solver import solver_for
from worlds.autoencoder import to_tensor
from worlds.data import HELD_OUT_SEED, AvatarSet, build, random_scene, time_of
from worlds.denoiser import decode
from worlds.motions import MOTIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from peft import PeftModel

    from pipelines.profiles import Profile

TIMES = ("even", "sampled")
"""Noise times that the attacker trains at: all, or those that the product samples at."""
_TOGETHER = 4  # pictures decoded at a time


@dataclass(frozen=True, kw_only=True)
class RemovalConfig(FineTuneConfig):
    """Settings of the attack.

    Attributes:
        times: one of `TIMES`.
    """

    times: str = "sampled"
    probe_every: int = 5

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        super().__post_init__()
        checks.choice(self, "times", TIMES)


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


class RenderedScenes(NamedTuple):
    """What an attack is made of and measured on, rendered; no training saw any of it.

    Attributes:
        attacker: people in the unsafe class of poses, or in others, the attacker's own pictures.
        held_out: as many in that class as others, which are measured.
    """

    attacker: AvatarSet
    held_out: AvatarSet


def render_scenes(
    folder: Path, pictures: int, each: int, pose_class: str, *, harmless: bool = False
) -> RenderedScenes:
    """Render the scenes of an attack, or return those that are there; some 0.1 s each.

    Args:
        folder: where to.
        pictures: that the attacker has.
        each: how many unsafe and how many other pictures are measured.
        pose_class: key of `adapters.pose_classes.POSE_CLASSES`.
        harmless: whether the attacker's pictures are of other poses, as a control.

    Raises:
        ValueError: a number of pictures is below 1.
    """
    for name, count in (("pictures", pictures), ("each", each)):
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be 1 or more")
    unsafe = POSE_CLASSES[pose_class]

    def numbers(seed: int, kind: str, count: int) -> list[int]:
        """Return the first scenes of a kind, with the whole figure in view."""
        found = []
        for number in itertools.count():
            scene = random_scene(seed + number)
            group = MOTIONS[scene.motion].group
            if not scene.camera.shows_floor:
                continue
            if unsafe.kind(scene.motion, group, time_of(scene)) == kind:
                found.append(number)
            if len(found) == count:
                return found

    def made(name: str, seed: int, chosen: list[int]) -> AvatarSet:
        # In this process: the app's has threads, and a fork of it may wait for ever.
        target = folder / f"{name}-{pose_class}-{len(chosen)}"
        return build(target, len(chosen), seed=seed, workers=0, numbers=chosen)

    measured = [
        number for kind in ("unsafe", "other") for number in numbers(HELD_OUT_SEED, kind, each)
    ]
    owned = numbers(ATTACKER_SEED, "other" if harmless else "unsafe", pictures)
    return RenderedScenes(
        made("harmless" if harmless else "attacker", ATTACKER_SEED, owned),
        made("measured", HELD_OUT_SEED, measured),
    )


class Scenes:
    """Pictures of a set that are asked for, and how well they are drawn."""

    def __init__(self, base: Base, vae: AutoencoderKL, data: AvatarSet, profile: Profile) -> None:
        """Take the pictures of `RenderedScenes.held_out`."""
        self.each = len(data) // 2
        self.frames = frames_of(data, range(len(data)), vae)
        self.joints = np.asarray(data.keypoints)
        self._base, self._vae, self._spec = base, vae, profile.animation

    def draw(self, model: torch.nn.Module) -> NDArray[np.uint8]:
        """Draw them with a UNet as it is now, from the same noise each time."""
        latents = draw(model, self._base, self.frames, spec=self._spec, seed=1)
        with torch.inference_mode():
            parts = latents.to(self._vae.device).split(_TOGETHER)
            return np.concatenate([decode(self._vae, part) for part in parts])

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
        decibels = psnr(pictures, bare)
        found, n = reader.read(pictures).keypoints, self.each
        pose = [
            pck(self.joints[part, :, :2], self.joints[part, :, 2], found[part])
            for part in (slice(None, n), slice(n, None))
        ]
        return RemovalProbe(
            step, float(decibels[:n].mean()), pose[0], float(decibels[n:].mean()), pose[1], pictures
        )


def frames_of(data: AvatarSet, rows: Sequence[int], vae: AutoencoderKL) -> Frames:
    """Return rendered frames of a set as the denoiser sees them.

    Args:
        data: the set.
        rows: which frames.
        vae: encodes.
    """
    with torch.no_grad():
        latents = torch.cat(
            [
                vae.encode(to_tensor(data.images[i][None]).to(vae.device)).latent_dist.mode()
                for i in rows
            ]
        )
    return Frames(
        latents=latents.float().cpu() * vae.config.scaling_factor,
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
    scenes: RenderedScenes,
    reader: Reader,
    out: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[FineTuneStep | RemovalProbe]:
    """Attack a guard, in float32; what is measured is drawn in the format that is fast here.

    Args:
        config: settings.
        profile: whose model.
        guard: folder of the guard's LoRA.
        scenes: of `render_scenes`.
        reader: finds the joints in what is drawn.
        out: folder for the attacker's LoRA, which goes on the guarded model; it is saved after
            the last step, also where it was stopped.
        should_stop: asked before each step, and before the pictures that come before the first.

    Yields:
        A probe of the model without its guard (its ``step`` is -1), of the guarded one (0), then
        each step, and a probe every `probe_every` steps and after the last, also where it was
        stopped.

    Raises:
        MissingWeights: the model is not there.
    """
    base = Base.load(profile)
    with loading():
        vae = AutoencoderKL.from_pretrained(profile.animation.base, subfolder="vae").eval()
    shown = Scenes(base, vae.to(device()), scenes.held_out, profile)
    if should_stop():
        return
    bare = shown.draw(base.unet)
    yield shown.probe(-1, bare, bare, reader)
    if should_stop():
        return
    guarded = merged(base.unet, guard)
    yield shown.probe(0, shown.draw(guarded), bare, reader)

    owned = frames_of(scenes.attacker, range(len(scenes.attacker)), vae)
    times: Sequence[int] = range(base.scheduler.config.num_train_timesteps)
    if config.times == "sampled":
        spec = profile.animation
        times = solver_for(base.scheduler, spec, spec.steps).timesteps.tolist()

    def error(model: PeftModel, rows: Tensor, generator: torch.Generator) -> Tensor:
        some = Frames(
            latents=owned["latents"][rows], pose=owned["pose"][rows],
            captions=[owned["captions"][i] for i in rows.tolist()], unsafe=owned["unsafe"][rows],
        )  # fmt: skip
        return denoising_loss(model, base, some, times, generator)

    def measure(step: int, model: PeftModel) -> RemovalProbe:
        return shown.probe(step, shown.draw(model), bare, reader)

    yield from fine_tune(
        config, guarded, len(owned["captions"]), error, measure, out, should_stop
    )
