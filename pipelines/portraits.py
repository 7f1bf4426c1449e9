"""Pictures from a text alone, several arms beside one another from the same initial noise.

`PortraitEngine` holds one UNet an arm: the base, and the base with LoRAs merged into it (a defence,
an attacker's LoRA on top of a defence). What is drawn is what the stock `StableDiffusionPipeline`
(Rombach et al., CVPR 2022, arXiv 2112.10752) draws with that UNet; its loop is written out here so
that progress, stopping and several arms need no thread. A test holds it to the stock pipeline.

The embedded profile's base is Avatar-SD's UNet with a LoRA that taught it portraits
(`worlds.stills`), for without a skeleton it drew none.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.checks import check_number
from pipelines.device import compute_dtype, device
from pipelines.fetch import picture_folder
from pipelines.loading import loading
from pipelines.lora import merged
from pipelines.pose_drawing import draw_skeleton
from pipelines.profiles import PictureSpec, Profile
from pipelines.prompts import check_text
from pipelines.refine import Box, Refiner
from pipelines.sharpen import sharpened
from pipelines.wording import taught

Pictures = NDArray[np.uint8]

BASE = "base"
"""Name of the arm that draws everything."""
MAX_PICTURES = 32
"""Most pictures of an arm in one request."""
MAX_SEED = 2**32 - 1
"""No picture's seed reaches it; every JSON reader keeps integers of this size exact."""
MAX_STEPS = 100
"""Most denoising steps accepted."""
MAX_GUIDANCE = 20
"""Strongest classifier-free guidance accepted."""
HEAD: dict[int, tuple[float, float]] = {
    0: (155.0, 78.9), 1: (154.9, 112.8), 2: (113.4, 119.4), 5: (196.4, 119.4), 14: (143.1, 69.3),
    15: (166.8, 69.3), 16: (121.5, 72.0), 17: (188.4, 72.1),
}  # fmt: skip
"""Where the OpenPose joints of a portrait's head and shoulders are, x and y in pixels of 256: means
of 2,000 rendered portraits (`worlds.portraits`)."""
HEAD_BOX: Box = (slice(16, 144), slice(80, 240))
"""Rows and columns about that head."""
_DECODED = 4  # pictures at a time
_DECODE_STEPS = 2.0  # decoding a picture, its head included, takes as long as so many passes


@dataclass(frozen=True)
class Drawing:
    """How far a request is.

    Attributes:
        fraction: 0..1.
        message: what is being done.
        seconds_left: estimate; None before anything was measured.
    """

    fraction: float
    message: str
    seconds_left: float | None = None


@dataclass(frozen=True)
class Drawn:
    """Finished pictures.

    Attributes:
        pictures: arm → RGB uint8 [N, H, W, 3], one a prompt.
        notes: what was read otherwise than it was written.
    """

    pictures: dict[str, Pictures]
    notes: tuple[str, ...]


@loading()
def spatial_unet(folder: Path | str, *, fine_attention: bool = True) -> UNet2DConditionModel:
    """Load a model folder's UNet in float32, without attention at its finest level if so wished.

    In Avatar-SD that attention takes half of a pass's time. It came last into the UNet, by layers
    that began at nothing (`worlds.denoiser.load_weights`), and a portrait has little use for it.

    Args:
        folder: of the model, with a folder ``unet``.
        fine_attention: whether the finest level keeps its attention.
    """
    folder = Path(folder)
    whole = UNet2DConditionModel.from_pretrained(folder / "unet").float()
    if fine_attention:
        return whole
    config = dict(UNet2DConditionModel.load_config(folder / "unet"))
    config["down_block_types"] = ("DownBlock2D", *config["down_block_types"][1:])
    config["up_block_types"] = (*config["up_block_types"][:-1], "UpBlock2D")
    with torch.device("meta"):  # no random weights, whose numbers an attack may be drawing from
        unet = UNet2DConditionModel.from_config(config)
    weights = whole.state_dict()
    unet.load_state_dict({name: weights[name] for name in unet.state_dict()}, assign=True)
    return unet


def base_unet(spec: PictureSpec, folder: Path | str = "") -> UNet2DConditionModel:
    """Load the UNet that draws a profile's pictures, in float32, its LoRA merged in.

    Args:
        spec: of the profile.
        folder: where ``spec.base`` lies, if that is a Hub id.

    Raises:
        MissingWeights: the LoRA is not there.
        OSError: the model is not there.
    """
    unet = spatial_unet(folder or spec.base, fine_attention=spec.fine_attention)
    if not spec.lora:
        return unet
    return merged(unet, Path(spec.lora), "python -m worlds.train portraits")


class PortraitEngine:
    """Draws pictures with several arms. One engine serves every session.

    Sessions may call it from several threads: a lock is held for one denoising step at a time and
    never across a yield.
    """

    @loading()
    def __init__(self, profile: Profile, dtype: torch.dtype | None = None) -> None:
        """Load the profile's picture model.

        Args:
            profile: says which weights, and the defaults of a picture.
            dtype: number format of the models; None takes the fast one, `compute_dtype()`.

        Raises:
            MissingWeights: the model's LoRA is not there.
            OSError: another part is not there.
        """
        self.spec = profile.pictures
        self.device = device()
        self.dtype = dtype or compute_dtype()
        folder = Path(picture_folder(self.spec.base, profile))
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self._text_encoder = self._ready(CLIPTextModel.from_pretrained(folder / "text_encoder"))
        self._vae = self._ready(AutoencoderKL.from_pretrained(folder / "vae"))
        self._vae.to(memory_format=torch.channels_last)
        self._refiner = load_refiner(self.spec, self.device, self.dtype)
        self._schedule = DDIMScheduler.from_pretrained(folder / "scheduler")
        self._bare = base_unet(self.spec, folder)
        self._arms = {BASE: self._ready(copy.deepcopy(self._bare))}
        self._lock = Lock()
        self._pass_seconds: float | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that can be asked."""
        return tuple(self._arms)

    def add_arm(self, name: str, loras: Sequence[Path]) -> None:
        """Add an arm: the base with LoRAs merged into it, one after the other.

        Raises:
            MissingWeights: one is not there.
            ValueError: the name is taken.
        """
        if name in self._arms:
            raise ValueError(f"arm is {name!r}, which is taken; remove_arm() that one first")
        unet = copy.deepcopy(self._bare)
        for folder in loras:
            unet = merged(unet, folder)
        with self._lock:
            self._arms[name] = self._ready(unet)

    def remove_arm(self, name: str) -> None:
        """Let go of an arm. A request that has it goes on with it to its end.

        Raises:
            ValueError: there is none, or it is the base.
        """
        self._check_arms([name])
        if name == BASE:
            raise ValueError("The base cannot be removed")
        with self._lock:
            del self._arms[name]

    def draw(
        self,
        prompts: Sequence[str],
        seed: int,
        arms: Sequence[str] = (BASE,),
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[Drawing | Drawn]:
        """Draw one picture a prompt with each arm, from the same noise bit for bit.

        The arguments are checked at once, before the first item is asked for.

        Args:
            prompts: 1 to `MAX_PICTURES` texts.
            seed: of the first picture's noise, 0..`MAX_SEED` less the number of prompts; the next
                one has the next seed.
            arms: names.
            steps: denoising steps, 1..`MAX_STEPS`; None takes the profile's.
            guidance_scale: classifier-free guidance (arXiv 2207.12598), 0..`MAX_GUIDANCE`, up to 1
                none; None takes the profile's.
            should_stop: asked before each step of each arm; once True, the iterator ends.

        Returns:
            An iterator of `Drawing`, and a `Drawn` last unless it was stopped.

        Raises:
            ValueError: an argument is out of range or names an unknown arm.
        """
        steps = self.spec.steps if steps is None else steps
        guidance = self.spec.guidance_scale if guidance_scale is None else guidance_scale
        if not 1 <= len(prompts) <= MAX_PICTURES:
            raise ValueError(f"prompts are {len(prompts)}; wanted 1 to {MAX_PICTURES}")
        for prompt in prompts:
            check_text("prompt", prompt, "describe the picture")
        check_number("seed", seed, 0, MAX_SEED - len(prompts), whole=True)
        check_number("steps", steps, 1, MAX_STEPS, whole=True)
        check_number("guidance_scale", guidance, 0, MAX_GUIDANCE)
        self._check_arms(arms)
        unets = {arm: self._arms[arm] for arm in arms}
        return self._draw(list(prompts), seed, unets, steps, guidance, should_stop)

    def _draw(
        self,
        prompts: list[str],
        seed: int,
        unets: dict[str, torch.nn.Module],
        steps: int,
        guidance: float,
        should_stop: Callable[[], bool] | None,
    ) -> Iterator[Drawing | Drawn]:
        count, sides = len(prompts), 2 if guidance > 1 else 1
        total = len(unets) * count * (steps * sides + _DECODE_STEPS)
        done, started = 0.0, time.perf_counter()

        def progress(message: str) -> Drawing:
            if done:
                self._pass_seconds = (time.perf_counter() - started) / done
            left = None if self._pass_seconds is None else self._pass_seconds * (total - done)
            return Drawing(done / total, message, left)

        yield progress("reading the prompt")
        read, notes = self._read(prompts)
        text = self._text(([self.spec.hint] * count if sides == 2 else []) + read)
        told = [self._refiner.reads(words) for words in read] if self._refiner else read
        faces = self._text(told)
        noise = self._noise(count, seed)
        pictures: dict[str, Pictures] = {}
        for arm, unet in unets.items():
            of = f"{arm}: " if len(unets) > 1 else ""
            solver, x = solver_of(self._schedule, steps), noise
            for number, moment in enumerate(solver.timesteps, 1):
                if should_stop is not None and should_stop():
                    return
                with self._lock, torch.inference_mode():
                    v = guided(unet, x, moment, text, guidance, self.dtype)
                    x = solver.step(v, moment, x).prev_sample
                done += count * sides
                yield progress(f"{of}step {number} of {steps}")
            parts = []
            for part, face in zip(x.split(_DECODED), faces.split(_DECODED), strict=True):
                if should_stop is not None and should_stop():
                    return
                parts.append(self._decoded(part, face))
                done += len(part) * _DECODE_STEPS
                yield progress(f"{of}decoding")
            pictures[arm] = np.concatenate(parts)
        yield Drawn(pictures, tuple(notes))

    def _read(self, prompts: list[str]) -> tuple[list[str], list[str]]:
        """Return prompts in words that the model was taught, and notes on what was changed."""
        read, notes = prompts, []
        if self.spec.whole_words:
            both = [taught(prompt) for prompt in prompts]
            replaced = {word: known for _, words in both for word, known in words.items()}
            said = ", ".join(f"“{word}” as “{known}”" for word, known in replaced.items())
            read, notes = [words for words, _ in both], [f"read {said}"] if said else []
        limit = self._tokenizer.model_max_length
        longest = max(len(self._tokenizer(prompt).input_ids) for prompt in read)
        if longest > limit:
            notes.append(f"the prompt has {longest} tokens; only the first {limit} were read")
        return read, notes

    def _text(self, prompts: list[str]) -> torch.Tensor:
        """Return text states [B, tokens, width]."""
        tokens = self._tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        with self._lock, torch.inference_mode():
            return self._text_encoder(tokens.to(self.device)).last_hidden_state

    def _noise(self, count: int, seed: int) -> torch.Tensor:
        """Return the initial noise, float32 [N, C, h, w]; a picture's depends on its seed alone."""
        side = self.spec.size // 2 ** (len(self._vae.config.block_out_channels) - 1)
        shape = (1, self._vae.config.latent_channels, side, side)
        made = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed + i))
            for i in range(count)
        ]
        return torch.cat(made).to(self.device)

    def _decoded(self, latents: torch.Tensor, faces: torch.Tensor) -> Pictures:
        """Return finished pictures of latents; ``faces`` are text states as the refiner reads."""
        with self._lock, torch.inference_mode():
            scaled = (latents / self._vae.config.scaling_factor).to(self.dtype)
            return finished(self._vae.decode(scaled).sample, faces, self._refiner, self.spec)

    def _ready(self, module: torch.nn.Module) -> torch.nn.Module:
        # torch's own: diffusers' warns of modules to be kept in float32, of which there are none.
        return torch.nn.Module.to(module.requires_grad_(False).eval(), self.device, self.dtype)

    def _check_arms(self, arms: Sequence[str]) -> None:
        if not arms:
            raise ValueError("arms is empty; name at least one")
        for name in arms:
            if name not in self._arms:
                raise ValueError(f"arms names {name!r}; there is: {', '.join(self._arms)}")


def load_refiner(spec: PictureSpec, on: torch.device, dtype: torch.dtype) -> Refiner | None:
    """Load what redraws heads; None where a profile has none.

    Raises:
        MissingWeights: it is not there.
        ValueError: the profile's pictures are of another size than `HEAD` is told for.
    """
    if not spec.refiner:
        return None
    if spec.size != 256:
        raise ValueError(f"size is {spec.size}; heads are redrawn in pictures of 256 pixels")
    refiner = Refiner.load(spec.refiner)
    torch.nn.Module.to(refiner.net.requires_grad_(False).eval(), on, dtype)
    return refiner


def with_faces(pixels: torch.Tensor, texts: torch.Tensor, refiner: Refiner) -> torch.Tensor:
    """Return portraits with their heads redrawn by the refiner of clips.

    It is told of a skeleton where a head is. A portrait has none, but all portraits stand in one
    place: `HEAD` is where the joints of rendered ones are on average, and they are 2 to 4 pixels
    off. The rest of the picture, above all what is held, is left as it was drawn.

    Args:
        pixels: [B, 3, 256, 256] in -1..1.
        texts: text states [B, tokens, width] of what the refiner reads of each prompt.
        refiner: of the profile.
    """
    joints, shown = np.zeros((18, 2), np.float32), np.zeros(18, np.float32)
    for joint, place in HEAD.items():
        joints[joint], shown[joint] = place, 1.0
    skeleton = draw_skeleton(joints, shown, pixels.shape[-1])[None]
    pictures = [
        refiner(picture[None, :, None].float(), skeleton, text[None], HEAD_BOX)[0, :, 0]
        for picture, text in zip(pixels, texts, strict=True)
    ]
    return torch.stack(pictures)


def finished(
    pixels: torch.Tensor, texts: torch.Tensor, refiner: Refiner | None, spec: PictureSpec
) -> Pictures:
    """Turn decoded pictures into what visitors see, RGB uint8 [B, H, W, 3].

    Args:
        pixels: [B, 3, H, W] in -1..1.
        texts: as for `with_faces`.
        refiner: None leaves heads as they are.
        spec: of the profile, for the sharpening.
    """
    pixels = pixels.float()
    if refiner is not None:
        pixels = with_faces(pixels, texts, refiner)
    pixels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return sharpened(pixels.permute(0, 2, 3, 1).cpu().numpy(), spec.sharpening)


def guided(
    unet: torch.nn.Module,
    x: torch.Tensor,
    moment: torch.Tensor,
    text: torch.Tensor,
    guidance: float,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return a UNet's output [B, C, h, w] in float32, with classifier-free guidance above 1.

    Args:
        unet: of one arm.
        x: states [B, C, h, w].
        moment: their time, one for all.
        text: text states [B, tokens, width], or [2 B, …] with guidance, the prompts' last.
        guidance: scale.
        dtype: that the UNet is in.
    """
    twice = guidance > 1
    states = (torch.cat([x, x]) if twice else x).to(dtype)
    out = unet(states, moment, encoder_hidden_states=text.to(dtype)).sample.float()
    if not twice:
        return out
    without, along = out.chunk(2)
    return without + guidance * (along - without)


def sampled(
    unet: torch.nn.Module,
    schedule: DDIMScheduler,
    noise: torch.Tensor,
    text: torch.Tensor,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Draw latents with a UNet in float32, or within an autocast.

    Args:
        unet: of one arm.
        schedule: of the model.
        noise: [B, C, h, w].
        text: text states [2 B, tokens, width], the hints' first and then the prompts'.
        steps: denoising steps.
        guidance: scale; the hints are read above 1.

    Returns:
        Scaled latents [B, C, h, w], float32.
    """
    solver, x = solver_of(schedule, steps), noise
    text = text if guidance > 1 else text[len(noise) :]
    for moment in solver.timesteps:
        x = solver.step(guided(unet, x, moment, text, guidance), moment, x).prev_sample
    return x


def solver_of(schedule: DDIMScheduler, steps: int) -> DDIMScheduler:
    """Return a fresh DDIM solver (arXiv 2010.02502) of a model's schedule, "trailing" times."""
    solver = DDIMScheduler.from_config(schedule.config, timestep_spacing="trailing")
    solver.set_timesteps(steps)
    return solver
