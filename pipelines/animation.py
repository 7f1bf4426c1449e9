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
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from diffusers import (
    AnimateDiffControlNetPipeline,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    MotionAdapter,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNetMotionModel,
)
from numpy.typing import NDArray
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file

from pipelines.checks import check_number
from pipelines.device import compute_dtype, device
from pipelines.fetch import MissingWeights, hub_revision, picture_folder
from pipelines.noise import mixed_noise
from pipelines.pose import PoseClip
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import dump_openpose_json
from pipelines.profiles import AnimationSpec, Profile
from pipelines.prompts import check_text
from pipelines.refine import Box, Refiner, check_refiner, share_of
from pipelines.sharpen import sharpened
from pipelines.solver import clean_latents, dpm_solver, solver_for
from pipelines.still import background_share, settle, still_background, torso_length
from pipelines.wording import taught

Frames = NDArray[np.uint8]

MAX_STRENGTH = 1.5
"""Strongest setting of a guard; 1 is the strength it was trained at."""

MAX_SEED = 2**32 - 1
"""Largest seed; every JSON reader keeps integers of this size exact."""

MAX_STEPS = 100
"""Most denoising steps accepted."""

MAX_GUIDANCE = 20.0
"""Strongest classifier-free guidance accepted."""

TRAIN_COMMAND = (
    "python -m worlds.train vae && python -m worlds.train frames && python -m worlds.train motion"
)
"""Makes the embedded profile's animation model."""

_PREVIEW_SECONDS = 0.7  # between previews; each costs one decoded frame an arm
_DECODE_CHUNK = 2  # frames decoded at once: two fp32 cores do 1, 2, 4 about equally fast
_DECODE_PASSES = 2  # decoding a clip takes about as long as two passes of it through the UNet
_REDRAW_PASSES = 2  # and redrawing its details, were it everywhere, as long as so many
_GUARD_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


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


@dataclass
class _Arm:
    """One side of a pair while it is denoised."""

    guards: dict[str, float]
    weights: dict[str, str]  # what identifies those of its guards
    scheduler: DPMSolverMultistepScheduler
    latents: torch.Tensor  # float32 [1, C, F, h, w]
    clean: torch.Tensor = field(init=False)  # the current guess at the clean latents
    previewed: float = -math.inf  # when it was shown last


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
        self.pipe = _load_pipeline(profile, self.device, self.dtype)
        self._refiner = _load_refiner(self.spec, self.device, self.dtype)
        self._weights = _fingerprints(profile)
        self._guards: dict[str, str] = {}
        self._lock = Lock()
        self._pass_seconds: float | None = None
        self._still: StableDiffusionPipeline | None = None

    @property
    def guards(self) -> tuple[str, ...]:
        """Names of the guards that can be switched on."""
        return tuple(self._guards)

    @property
    def number_format(self) -> str:
        """Number format of the models, as results name it."""
        return str(self.dtype).removeprefix("torch.")

    def weights(self, guards: Iterable[str]) -> dict[str, str]:
        """Return what identifies the weights of the pipeline's parts and of guards, by name."""
        return {**self._weights, **{name: self._guards[name] for name in guards}}

    def add_guard(self, name: str, adapter_folder: Path | str) -> None:
        """Load a safety LoRA in PEFT format; it stays off until a pair asks for it.

        It may have been trained on the spatial UNet (`UNet2DConditionModel`): the spatial layers of
        the `UNetMotionModel` have the same names. Layers are matched by the names of the stored
        weights and not by the patterns of ``target_modules``, which would put idle LoRAs on the
        motion modules too.

        Args:
            name: lower-case letters, digits, ``-`` and ``_``.
            adapter_folder: holds adapter_config.json and adapter_model.safetensors.

        Raises:
            MissingWeights: a file is not there.
            ValueError: the name is taken or malformed, or the weights do not fit this UNet.
        """
        if not _GUARD_NAME.fullmatch(name):
            raise ValueError(
                f"name is {name!r}; wanted lower-case letters, digits, - and _, at most 64"
            )
        folder = Path(adapter_folder)
        weights = folder / "adapter_model.safetensors"
        for file in (folder / "adapter_config.json", weights):
            if not file.is_file():
                command = f"python -m adapters.train {folder.name}"
                raise MissingWeights(f"Guard {name}", file, command)
        config = LoraConfig.from_pretrained(str(folder))
        prefix = "base_model.model."
        state = {key.removeprefix(prefix): value for key, value in load_file(weights).items()}
        identity = _sha256([weights])
        with self._lock:
            if name in self._guards:
                raise ValueError(f"name is {name!r}, which is taken; remove_guard() that one first")
            self._check_fit(name, state)
            self.pipe.unet.load_lora_adapter(
                state,
                prefix=None,
                adapter_name=name,
                # Else PEFT would first fill it from torch's generator, which an attack that runs at
                # the same time draws its replies from.
                low_cpu_mem_usage=True,
                metadata={
                    "r": config.r,
                    "lora_alpha": config.lora_alpha,
                    "target_modules": sorted({key.rsplit(".lora_", 1)[0] for key in state}),
                    "rank_pattern": config.rank_pattern,
                    "alpha_pattern": config.alpha_pattern,
                    "use_rslora": config.use_rslora,
                },
            )
            for parameter_name, parameter in self.pipe.unet.named_parameters():
                if ".lora_" in parameter_name:
                    parameter.data = parameter.data.to(self.device, self.dtype)
            self.pipe.unet.requires_grad_(False)
            self.pipe.unet.disable_lora()
            self._guards[name] = identity

    def remove_guard(self, name: str) -> None:
        """Unload a guard. A pair that is running with it fails at its next step.

        Raises:
            ValueError: there is no such guard.
        """
        with self._lock:
            self._check_guards({name: 1.0})
            self.pipe.unet.delete_adapters(name)
            del self._guards[name]

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
            self._check_guards(guards)
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
            "prompt": self._read(prompt)[0],
            "negative_prompt": self.spec.hint,
            "height": size,
            "width": size,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "generator": torch.Generator().manual_seed(seed),
            "output_type": "np",
        }
        with self._lock:
            if self._still is None:
                self._still = self._image_pipeline()
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
        guided = self._guided(timesteps, guidance, interval)
        pose_frames = draw_clip(pose, self.spec.size, self.spec.frames)
        read, reworded = self._read(prompt)
        box = self._refiner.box(pose_frames, read) if redraw else None
        # Work is counted in passes of a clip through the models: a guided step takes two.
        finishing = _DECODE_PASSES + _REDRAW_PASSES * share_of(box, self.spec.size)
        total = arm_count * (sum(1 + on for on in guided) + finishing)
        left = None if self._pass_seconds is None else self._pass_seconds * total
        yield Progress(0.0, "reading the prompt and the pose", left)

        with self._lock, torch.inference_mode():
            text, notes = self._encode_text(read, guidance)
            pictures = self._embed_pictures(pose_frames, guidance)
            if redraw:
                details, _ = self._encode_text(self._refiner.reads(read), 1.0)
        notes = [*pose.notes, *reworded, *notes]
        noise = self._noise(seed)
        arms = []
        for arm_guards in ({}, active)[:arm_count]:
            scheduler = solver_for(self.pipe.scheduler, self.spec, steps, self.device)
            used = {name: weights[name] for name in arm_guards}
            arms.append(_Arm(arm_guards, used, scheduler, noise * scheduler.init_noise_sigma))

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
                    residuals = self._control(arm, timestep, text, pictures, scale)
                self._step(arm, timestep, text, residuals, scale)
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

    def _preview(self, arm: _Arm) -> Frames | None:
        """Return the middle frame of an arm's guess, or None if it was shown a moment ago."""
        if time.perf_counter() - arm.previewed < _PREVIEW_SECONDS:
            return None
        middle = self.spec.frames // 2
        picture = self._finished(self._pixels(arm.clean[:, :, middle : middle + 1]))[0]
        arm.previewed = time.perf_counter()
        return picture

    def _sample(self, arm: _Arm, timestep: torch.Tensor, guidance: float) -> torch.Tensor:
        """Return what the models see of an arm, [1 or 2, C, F, h, w]."""
        sample = arm.scheduler.scale_model_input(arm.latents, timestep).to(self.dtype)
        return torch.cat([sample, sample]) if guidance > 1 else sample

    def _control(
        self,
        arm: _Arm,
        timestep: torch.Tensor,
        text: torch.Tensor,
        pictures: torch.Tensor,
        guidance: float,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the ControlNet's residuals, those of the UNet's way down and of its middle.

        Args: as of `_step`, and
            pictures: embedded skeletons [F or 2 F, C, h, w].
        """
        if guidance <= 1:
            text, pictures = text[-self.spec.frames :], pictures[-self.spec.frames :]
        with self._lock, torch.inference_mode():
            return self.pipe.controlnet(
                self._sample(arm, timestep, guidance).transpose(1, 2).flatten(0, 1),
                timestep,
                encoder_hidden_states=text,
                controlnet_cond=pictures,
                return_dict=False,
            )

    def _step(
        self,
        arm: _Arm,
        timestep: torch.Tensor,
        text: torch.Tensor,
        residuals: tuple[list[torch.Tensor], torch.Tensor],
        guidance: float,
    ) -> None:
        """Advance one arm by one denoising step; `arm` is changed.

        Args:
            arm: the arm.
            timestep: where it is.
            text: text states [F or 2 F, tokens, width], the prompt's last.
            residuals: of `_control`.
            guidance: classifier-free guidance of this step; up to 1 is none.
        """
        if guidance <= 1:
            text = text[-self.spec.frames :]
        down, middle = residuals
        with self._lock, self._switched_on(arm), torch.inference_mode():
            sample = self._sample(arm, timestep, guidance)
            output = self.pipe.unet(
                sample,
                timestep,
                encoder_hidden_states=text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                return_dict=False,
            )[0].float()
            if guidance > 1:
                without, along = output.chunk(2)
                output = without + guidance * (along - without)
            arm.clean = clean_latents(arm.scheduler, output, timestep, arm.latents)
            arm.latents = arm.scheduler.step(output, timestep, arm.latents, return_dict=False)[0]

    def _guided(
        self, timesteps: torch.Tensor, guidance: float, interval: tuple[float, float]
    ) -> list[bool]:
        """Say for each step whether guidance is on."""
        low, high = interval
        last = self.pipe.scheduler.config.num_train_timesteps
        return [guidance > 1 and low < (int(t) + 1) / last <= high for t in timesteps]

    @contextmanager
    def _switched_on(self, arm: _Arm) -> Iterator[None]:
        """Switch an arm's guards on for the block; they are off again after it. Needs the lock."""
        guards = arm.guards
        if not guards:
            yield
            return
        gone = [name for name in guards if self._guards.get(name) != arm.weights[name]]
        if gone:  # PEFT would go on without it, or with another, and say nothing
            raise ValueError(f"guard {gone[0]!r} was removed meanwhile; generate the pair again")
        unet = self.pipe.unet
        unet.enable_lora()
        try:
            unet.set_adapters(list(guards), weights=list(guards.values()))
            yield
        finally:
            unet.disable_lora()

    def _read(self, prompt: str) -> tuple[str, list[str]]:
        """Return a prompt in words that the model was taught, and a note on those replaced."""
        if not self.spec.whole_words:
            return prompt, []
        read, replaced = taught(prompt)
        said = ", ".join(f"“{word}” as “{known}”" for word, known in replaced.items())
        return read, [f"read {said}"] if said else []

    def _unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that the tokenizer spells out, where it has all others."""
        if not self.spec.whole_words:
            return []
        words = dict.fromkeys(re.findall(r"[^\W\d_]+", prompt.lower()))
        return [word for word in words if len(self.pipe.tokenizer.tokenize(word)) > 1]

    def _encode_text(self, prompt: str, guidance: float) -> tuple[torch.Tensor, list[str]]:
        """Return text states [F or 2 F, tokens, width], the negative prompt's first, and notes."""
        tokenizer = self.pipe.tokenizer
        tokens = len(tokenizer(prompt).input_ids)
        limit = tokenizer.model_max_length
        notes = []
        if tokens > limit:
            notes.append(f"the prompt has {tokens} tokens; only the first {limit} were read")
        if unknown := self._unknown_words(prompt):
            notes.append(f"words that the model was not taught: {', '.join(unknown)}")
        along, without = self.pipe.encode_prompt(
            prompt, self.device, 1, guidance > 1, self.spec.hint if guidance > 1 else None
        )
        text = torch.cat([without, along]) if guidance > 1 else along
        return text.repeat_interleave(self.spec.frames, dim=0), notes

    def _embed_pictures(self, pose_frames: Frames, guidance: float) -> torch.Tensor:
        """Return the ControlNet's embedding of the skeletons, [F or 2 F, C, h, w]."""
        pictures = torch.from_numpy(pose_frames).to(self.device).permute(0, 3, 1, 2)
        pictures = (pictures.float() / 255).to(self.dtype)
        embedded = self.pipe.controlnet.controlnet_cond_embedding(pictures)
        return torch.cat([embedded, embedded]) if guidance > 1 else embedded

    def _noise(self, seed: int) -> torch.Tensor:
        """Return the initial noise, float32 [1, C, F, h, w]; the same on every device."""
        side = self.spec.size // self.pipe.vae_scale_factor
        shape = (1, self.pipe.unet.config.in_channels, self.spec.frames, side, side)
        generator = torch.Generator().manual_seed(seed)
        return mixed_noise(shape, self.spec.noise_share, generator).to(self.device)

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

    def _image_pipeline(self) -> StableDiffusionPipeline:
        """Return the stock image pipeline, sharing all but the UNet with the clip pipeline."""
        unet = UNet2DConditionModel.from_pretrained(
            picture_folder(self.spec.base, self.profile), subfolder="unet", dtype=self.dtype
        ).to(self.device)
        return StableDiffusionPipeline(
            vae=self.pipe.vae,
            text_encoder=self.pipe.text_encoder,
            tokenizer=self.pipe.tokenizer,
            unet=unet,
            scheduler=dpm_solver(self.pipe.scheduler, self.spec.solver_order),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def _check_fit(self, name: str, state: dict[str, torch.Tensor]) -> None:
        """Check that a guard's weights fit layers of the UNet. Needs the lock: others add theirs.

        Raises:
            ValueError: they do not.
        """
        known = dict(self.pipe.unet.named_modules())
        for key, value in state.items():
            module = known.get(key.rsplit(".lora_", 1)[0])
            base = getattr(getattr(module, "base_layer", module), "weight", None)
            # LoRA's A maps from the layer's inputs, its B to the layer's outputs.
            axis = 1 if ".lora_A." in key else 0
            if base is None or value.shape[axis] != base.shape[axis]:
                raise ValueError(
                    f"guard {name!r}: weight {key} of shape {tuple(value.shape)} fits no layer of "
                    f"this UNet; it was trained on another model than {Path(self.spec.base).name}"
                )

    def _check_guards(self, guards: dict[str, float]) -> None:
        for name, strength in guards.items():
            if name not in self._guards:
                known = ", ".join(self._guards) or "none is loaded"
                raise ValueError(f"guards names {name!r}; there is: {known}")
            check_number(f"guards[{name!r}]", strength, 0, MAX_STRENGTH)


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


def _load_refiner(spec: AnimationSpec, on: torch.device, dtype: torch.dtype) -> Refiner | None:
    """Load what redraws details, None where a profile has none.

    Raises:
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


def _load_pipeline(
    profile: Profile, on: torch.device, dtype: torch.dtype
) -> AnimateDiffControlNetPipeline:
    """Load the pipeline, its ControlNet made to take pictures that are embedded already."""
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


def _fingerprints(profile: Profile) -> dict[str, str]:
    """Return what identifies the weights: a hash for a folder, name and commit for a Hub id."""
    spec, prints = profile.animation, {}
    parts = {"base": spec.base, "controlnet": spec.controlnet, "motion": spec.motion_adapter}
    if spec.refiner:
        parts["refiner"] = spec.refiner
    for role, part in parts.items():
        folder = Path(part)
        if folder.is_dir():
            files = sorted(folder.rglob("*.safetensors"))
            prints[role] = f"{folder.name}:{_sha256(files)}"
        else:
            prints[role] = f"{part}@{hub_revision(picture_folder(part, profile))}"
    return prints


def _sha256(files: list[Path]) -> str:
    """Return the first 16 hex digits of the files' joint SHA-256."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


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
