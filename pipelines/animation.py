"""Pose-guided clips, unguarded beside guarded, from the same initial noise.

`AnimationEngine` loads an `AnimateDiffControlNetPipeline` (AnimateDiff, Guo et al., ICLR 2024,
arXiv 2307.04725, with a ControlNet, Zhang et al., ICCV 2023, arXiv 2302.05543) and denoises two
arms step by step: the base, and the base with safety LoRAs ("guards") switched on.

The denoising loop is the pipeline's own `__call__` written out, with these differences, none of
which changes what is computed but where it says so (a test holds it to the untouched pipeline's
result):

* it is a generator, so progress, previews and stopping need no thread;
* both arms advance together, each with its own solver state;
* the text is encoded once, and so are the skeleton pictures, which the pipeline would push through
  the ControlNet's embedding at every step (on a CPU most of the ControlNet's time);
* in the first step, where both arms are the same noise, the ControlNet runs once for both;
* guidance may be limited to an interval of the noise times, in which case the other steps take
  half the work (that does change the result; by default every step is guided where the scale
  is above 1);
* where a profile has a refiner, it redraws the details of the decoded frames (`pipelines.refine`;
  that changes the result too, and can be left out);
* where a profile says that the camera never moves, the background of the result is brought to rest
  (`pipelines.still`; that changes the result too, and is off by default), and where it gives an
  amount, the frames are sharpened (`pipelines.sharpen`; likewise);
* the models run in bfloat16 where that is fast, while latents and solver stay in float32.

A pair is made here from beginning to end. `pipelines.animation_denoising` has one step of it,
`pipelines.animation_guards` the LoRAs, and `pipelines.animation_weights` loads the models.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from pipelines.animation_denoising import Arm, ClipDenoiser
from pipelines.animation_guards import Guards
from pipelines.animation_weights import (
    fingerprints,
    load_image_pipeline,
    load_pipeline,
    load_refiner,
)
from pipelines.checks import check_number
from pipelines.device import compute_dtype, device
from pipelines.pose import PoseClip
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import dump_openpose_json
from pipelines.profiles import AnimationSpec, Profile
from pipelines.prompts import check_text
from pipelines.refine import Box, share_of
from pipelines.sharpen import sharpened
from pipelines.solver import solver_for
from pipelines.still import background_share, settle, still_background, torso_length

Frames = NDArray[np.uint8]

MAX_SEED = 2**32 - 1
"""Largest seed; every JSON reader keeps integers of this size exact."""

MAX_STEPS = 100
"""Most denoising steps accepted."""

MAX_GUIDANCE = 20.0
"""Strongest classifier-free guidance accepted."""

_PREVIEW_SECONDS = 0.7  # between previews; each costs one decoded frame an arm
_DECODE_CHUNK = 2  # frames decoded at once: two fp32 cores do 1, 2, 4 about equally fast
_DECODE_PASSES = 2  # decoding a clip takes about as long as two passes of it through the UNet
_REDRAW_PASSES = 2  # and redrawing its details, were it everywhere, as long as so many


@dataclass(frozen=True)
class Progress:
    """How far a pair is.

    Attributes:
        fraction: 0..1.
        message: what is being done.
        seconds_left: estimate in seconds; None before anything was measured.
        preview: RGB uint8 [H, W, 3], the middle frame as it looks now, unguarded; None in between.
        preview_guarded: the same of the guarded arm; None in between, too.
    """

    fraction: float
    message: str
    seconds_left: float | None = None
    preview: Frames | None = None
    preview_guarded: Frames | None = None


@dataclass(frozen=True)
class PairResult:
    """A finished pair.

    Attributes:
        unguarded: RGB uint8 [F, H, W, 3], the base model's clip.
        guarded: the same with the guards on; None when no guard was asked for.
        pose_frames: RGB uint8 [F, H, W, 3], the skeletons that were followed.
        settings: all that is needed to run it again, as JSON can hold it.
    """

    unguarded: Frames
    guarded: Frames | None
    pose_frames: Frames
    settings: dict[str, Any]


class AnimationEngine:
    """Makes clips from poses and prompts. One engine serves every session.

    Sessions may call it from several threads: a lock is held for one denoising step at a time and
    never across a yield, so an iterator that is dropped half-way blocks nobody.
    """

    def __init__(self, profile: Profile, dtype: torch.dtype | None = None) -> None:
        """Load the profile's animation pipeline (one to three seconds for the embedded one).

        Args:
            profile: says which weights, and the defaults of a clip.
            dtype: number format of the models; None takes the fast one, `compute_dtype()`.

        Raises:
            MissingWeights: a folder that the profile names is not there.
            ValueError: frames of the profile's size cannot be redrawn by its refiner.
        """
        self.profile = profile
        self.spec: AnimationSpec = profile.animation
        self.device = device()
        self.dtype = dtype or compute_dtype()
        self.pipe = load_pipeline(profile, self.device, self.dtype)
        self._refiner = load_refiner(self.spec, self.device, self.dtype)
        self._weights = fingerprints(profile)
        self._lock = Lock()
        self._guards = Guards(self.pipe.unet, self.spec.base, self.device, self.dtype, self._lock)
        self._denoiser = ClipDenoiser(
            self.pipe, self.spec, self.device, self.dtype, self._guards, self._lock
        )
        self._pass_seconds: float | None = None
        self._still: StableDiffusionPipeline | None = None

    @property
    def guards(self) -> tuple[str, ...]:
        """Names of the guards that can be switched on."""
        return tuple(self._guards.weights)

    @property
    def number_format(self) -> str:
        """Number format of the models, as results name it."""
        return str(self.dtype).removeprefix("torch.")

    def weights(self, guards: Iterable[str]) -> dict[str, str]:
        """Return what identifies the weights of the pipeline's parts and of guards, by name."""
        return {**self._weights, **{name: self._guards.weights[name] for name in guards}}

    def add_guard(self, name: str, adapter_folder: Path | str) -> None:
        """Load a safety LoRA in PEFT format; it stays off until a pair asks for it.

        Args:
            name: lower-case letters, digits, ``-`` and ``_``.
            adapter_folder: holds adapter_config.json and adapter_model.safetensors.

        Raises:
            MissingWeights: a file is not there.
            ValueError: the name is taken or malformed, or the weights do not fit this UNet.
        """
        self._guards.add(name, adapter_folder)

    def remove_guard(self, name: str) -> None:
        """Unload a guard. A pair that is running with it fails at its next step.

        Raises:
            ValueError: there is no such guard.
        """
        self._guards.remove(name)

    def pair(
        self,
        pose: PoseClip,
        prompt: str,
        guards: dict[str, float],
        seed: int,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        redraw: bool = True,
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[Progress | PairResult]:
        """Make a clip without and with guards, from the same initial noise bit for bit.

        The arguments are checked at once, before the first item is asked for.

        Args:
            pose: any clip; it is drawn at the model's frame size and number of frames.
            prompt: describes the person.
            guards: name → strength, 0..1.5. Empty: no guarded arm. All 0: the guarded clip equals
                the unguarded one and costs nothing.
            seed: 0..2**32 - 1.
            steps: denoising steps, 1..100; None takes the profile's.
            guidance_scale: classifier-free guidance (arXiv 2207.12598), 0..20; up to 1 is none;
                None takes the profile's.
            guidance_interval: low and high end of the noise times, parts of 0..1, in which guidance
                is on: low < time <= high, and the first step is at 1 (arXiv 2404.07724, where the
                interval is one of noise levels); None takes the profile's.
            redraw: whether the profile's refiner, if it has one, redraws the details of both clips.
            should_stop: asked before each step of each arm; once True, the iterator ends.

        Returns:
            An iterator of `Progress`, the first one before any model works, and a `PairResult` as
            its last item unless it was stopped. Closing it early is safe.

        Raises:
            ValueError: an argument is out of range or names an unknown guard.
        """
        steps = self.spec.steps if steps is None else steps
        guidance = self.spec.guidance_scale if guidance_scale is None else guidance_scale
        _check_prompt(prompt)
        check_number("seed", seed, 0, MAX_SEED, whole=True)
        check_number("steps", steps, 1, MAX_STEPS, whole=True)
        check_number("guidance_scale", guidance, 0, MAX_GUIDANCE)
        interval = self.spec.guidance_interval if guidance_interval is None else guidance_interval
        _check_interval(interval)
        with self._lock:  # a guard may go, and come back as another, while the pair is made
            self._guards.check(guards)
            weights = self.weights(guards)
        redraw = redraw and self._refiner is not None
        return self._pair(
            pose, prompt, dict(guards), weights, seed, steps, guidance, interval, redraw,
            should_stop,
        )  # fmt: skip

    def still(
        self,
        prompt: str,
        seed: int,
        *,
        pose: PoseClip | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Frames:
        """Make one picture with the spatial UNet alone, through the stock image pipeline.

        Args:
            prompt: describes the person.
            seed: 0..2**32 - 1.
            pose: its first frame is followed; None leaves the pose free.
            steps: denoising steps; None takes the profile's.
            guidance_scale: classifier-free guidance; None takes the profile's.

        Returns:
            RGB uint8 [H, W, 3].

        Raises:
            ValueError: an argument is out of range.
        """
        steps = self.spec.steps if steps is None else steps
        guidance = self.spec.guidance_scale if guidance_scale is None else guidance_scale
        _check_prompt(prompt)
        check_number("seed", seed, 0, MAX_SEED, whole=True)
        check_number("steps", steps, 1, MAX_STEPS, whole=True)
        check_number("guidance_scale", guidance, 0, MAX_GUIDANCE)
        size = self.spec.size
        request: dict[str, Any] = {
            "prompt": self._denoiser.read(prompt)[0],
            "negative_prompt": self.spec.hint,
            "height": size,
            "width": size,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "generator": torch.Generator().manual_seed(seed),
            "output_type": "np",
        }
        # Without the lock (`pipelines.loading` says why): two threads may load it, either will do.
        if self._still is None:
            self._still = load_image_pipeline(self.profile, self.pipe, self.device, self.dtype)
        with self._lock:
            pipe: Any = self._still
            if pose is not None:
                pipe = StableDiffusionControlNetPipeline(
                    **self._still.components,
                    controlnet=self.pipe.controlnet,
                    requires_safety_checker=False,
                )
                request["image"] = Image.fromarray(draw_clip(pose, size)[0])
            pipe.set_progress_bar_config(disable=True)
            picture = pipe(**request).images[0]
        return (picture * 255).round().astype(np.uint8)

    def _pair(
        self,
        pose: PoseClip,
        prompt: str,
        guards: dict[str, float],
        weights: dict[str, str],
        seed: int,
        steps: int,
        guidance: float,
        interval: tuple[float, float],
        redraw: bool,
        should_stop: Callable[[], bool] | None,
    ) -> Iterator[Progress | PairResult]:
        started = time.perf_counter()
        active = {name: float(strength) for name, strength in guards.items() if strength > 0}
        arm_count = 2 if active else 1
        timesteps = solver_for(self.pipe.scheduler, self.spec, steps, self.device).timesteps
        guided = self._denoiser.guided(timesteps, guidance, interval)
        pose_frames = draw_clip(pose, self.spec.size, self.spec.frames)
        read, reworded = self._denoiser.read(prompt)
        box = self._refiner.box(pose_frames, read) if redraw else None
        # Work is counted in passes of a clip through the models: a guided step takes two.
        finishing = _DECODE_PASSES + _REDRAW_PASSES * share_of(box, self.spec.size)
        total = arm_count * (sum(1 + on for on in guided) + finishing)
        left = None if self._pass_seconds is None else self._pass_seconds * total
        yield Progress(0.0, "reading the prompt and the pose", left)

        with self._lock, torch.inference_mode():
            text, notes = self._denoiser.encode_text(read, guidance)
            pictures = self._denoiser.embed_pictures(pose_frames, guidance)
            if redraw:
                details, _ = self._denoiser.encode_text(self._refiner.reads(read), 1.0)
        notes = [*pose.notes, *reworded, *notes]
        noise = self._denoiser.noise(seed)
        arms = []
        for arm_guards in ({}, active)[:arm_count]:
            scheduler = solver_for(self.pipe.scheduler, self.spec, steps, self.device)
            used = {name: weights[name] for name in arm_guards}
            arms.append(Arm(arm_guards, used, scheduler, noise * scheduler.init_noise_sigma))

        done = 0
        durations: list[float] = []
        for number, (timestep, on) in enumerate(zip(timesteps, guided, strict=True), start=1):
            residuals = None
            for arm in arms:
                if should_stop is not None and should_stop():
                    return
                begun = time.perf_counter()
                scale = guidance if on else 1.0
                # Both arms start from one noise, and no guard changes the ControlNet.
                if residuals is None or number > 1:
                    residuals = self._denoiser.control(arm, timestep, text, pictures, scale)
                self._denoiser.step(arm, timestep, text, residuals, scale)
                durations.append((time.perf_counter() - begun) / (1 + on))
                done += 1 + on
                # The median: the very first step also warms up the kernels.
                self._pass_seconds = float(np.median(durations[-8:]))
                shown = self._preview(arm)
                last = number == steps and arm is arms[-1]
                yield Progress(
                    done / total,
                    "decoding the frames" if last else f"step {number} of {steps}",
                    self._pass_seconds * (total - done),
                    shown if arm is arms[0] else None,
                    None if arm is arms[0] else shown,
                )

        clips, background = [], self._background(pose, pose_frames)
        chunks = len(arms[0].latents[0, 0].split(_DECODE_CHUNK))
        for arm in arms:
            parts = []
            for start, latents in zip(
                range(0, self.spec.frames, _DECODE_CHUNK),
                arm.latents.split(_DECODE_CHUNK, dim=2),
                strict=True,
            ):
                if should_stop is not None and should_stop():
                    return
                pixels = self._pixels(latents)
                if redraw:
                    shown = pose_frames[start : start + _DECODE_CHUNK]
                    pixels = self._redrawn(pixels, shown, details[:1], box)
                parts.append(pixels)
                done += finishing / chunks
                if done < total:
                    left = self._pass_seconds * (total - done)
                    yield Progress(done / total, "decoding the frames", left)
            clips.append(self._finished(torch.cat(parts, dim=2), background))
        guarded = clips[-1] if active else clips[0].copy() if guards else None
        settings = {
            "profile": self.profile.drawing,
            "prompt": prompt,
            "read": read,
            "negative_prompt": self.spec.hint,
            "guards": guards,
            "seed": seed,
            "steps": steps,
            "guidance_scale": guidance,
            "guidance_interval": list(interval),
            "sampler": self.spec.sampler,
            "redraw": redraw,
            "noise_share": self.spec.noise_share,
            "size": self.spec.size,
            "frames": self.spec.frames,
            "fps": self.spec.fps,
            "weights": {
                name: known for name, known in weights.items() if redraw or name != "refiner"
            },
            "number_format": self.number_format,
            "versions": {name: version(name) for name in ("torch", "diffusers", "peft")},
            "seconds": round(time.perf_counter() - started, 2),
            "notes": notes,
            "pose": json.loads(dump_openpose_json(pose)),
        }
        yield PairResult(clips[0], guarded, pose_frames, settings)

    def _preview(self, arm: Arm) -> Frames | None:
        """Return the middle frame of an arm's guess, or None if it was shown a moment ago."""
        if time.perf_counter() - arm.previewed < _PREVIEW_SECONDS:
            return None
        middle = self.spec.frames // 2
        picture = self._finished(self._pixels(arm.clean[:, :, middle : middle + 1]))[0]
        arm.previewed = time.perf_counter()
        return picture

    def _background(self, pose: PoseClip, pose_frames: Frames) -> torch.Tensor | None:
        """Return where a clip's background is to rest; None where it is not."""
        torso = torso_length(pose.to_square(self.spec.size)) if self.spec.still_background else None
        return None if torso is None else background_share(pose_frames, torso)

    def _pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode clean latents [1, C, F, h, w] to video [1, 3, F, H, W] in -1..1."""
        with self._lock, torch.inference_mode():
            return self.pipe.decode_latents(latents.to(self.dtype), _DECODE_CHUNK)

    def _redrawn(
        self, video: torch.Tensor, pose_frames: Frames, text: torch.Tensor, box: Box | None
    ) -> torch.Tensor:
        """Return decoded frames with their details redrawn, see `Refiner`; there must be one."""
        with self._lock, torch.inference_mode():
            return self._refiner(video, pose_frames, text, box)

    def _finished(self, video: torch.Tensor, background: torch.Tensor | None = None) -> Frames:
        """Turn decoded video [1, 3, F, H, W] into RGB uint8 [F, H, W, 3] as visitors see it.

        Args:
            video: in -1..1.
            background: share [F, H, W] of `background_share`, which is brought to rest.
        """
        if background is not None:
            video = still_background(video, background)
        if self.spec.still_background:
            video = settle(video)
        video = ((video[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return sharpened(video.permute(1, 2, 3, 0).cpu().numpy(), self.spec.sharpening)


def _check_prompt(prompt: str) -> None:
    check_text("prompt", prompt, "describe the person, such as 'a woman in red'")


def _check_interval(interval: tuple[float, float]) -> None:
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        raise ValueError(f"guidance_interval is {interval!r}; wanted two numbers from 0 to 1")
    low, high = interval
    check_number("guidance_interval[0]", low, 0, 1)
    check_number("guidance_interval[1]", high, 0, 1)
    if low > high:
        raise ValueError(
            f"guidance_interval is {tuple(interval)}; wanted its low end first, its high end second"
        )
