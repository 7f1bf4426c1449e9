"""One step of denoising a clip, and all that it takes: text, skeletons, noise.

`pipelines.animation` says what of it differs from the pipeline's own loop.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import torch
from diffusers import AnimateDiffControlNetPipeline, DPMSolverMultistepScheduler
from numpy.typing import NDArray

from pipelines.animation_guards import Guards
from pipelines.noise import mixed_noise
from pipelines.profiles import AnimationSpec
from pipelines.solver import clean_latents
from pipelines.wording import taught

Frames = NDArray[np.uint8]


@dataclass
class Arm:
    """One side of a pair while it is denoised.

    Attributes:
        guards: name → strength of those that are on.
        weights: what identifies the weights of its guards, by name.
        scheduler: its own solver.
        latents: float32 [1, C, F, h, w].
        clean: the current guess at the clean latents; there after the first step.
        previewed: when it was shown last, on the clock of `time.perf_counter`.
    """

    guards: dict[str, float]
    weights: dict[str, str]
    scheduler: DPMSolverMultistepScheduler
    latents: torch.Tensor
    clean: torch.Tensor = field(init=False)
    previewed: float = -math.inf


@dataclass(eq=False)
class ClipDenoiser:
    """The models of a clip, one call at a time.

    Attributes:
        pipe: of `pipelines.animation_weights.load_pipeline`.
        spec: of the profile.
        device: where the models are.
        dtype: number format of the models.
        guards: of the pipeline's UNet.
        lock: held while a model runs. `control` and `step` take it themselves; whoever calls
            `encode_text` or `embed_pictures` holds it, in torch's inference mode.
    """

    pipe: AnimateDiffControlNetPipeline
    spec: AnimationSpec
    device: torch.device
    dtype: torch.dtype
    guards: Guards
    lock: Lock

    def read(self, prompt: str) -> tuple[str, list[str]]:
        """Return a prompt in words that the model was taught, and a note on those replaced."""
        if not self.spec.whole_words:
            return prompt, []
        read, replaced = taught(prompt)
        said = ", ".join(f"“{word}” as “{known}”" for word, known in replaced.items())
        return read, [f"read {said}"] if said else []

    def encode_text(self, prompt: str, guidance: float) -> tuple[torch.Tensor, list[str]]:
        """Return text states [F or 2 F, tokens, width], the negative prompt's first, and notes.

        Args:
            prompt: what is read; the profile's hint is the negative one.
            guidance: classifier-free guidance; up to 1 there is no negative prompt.
        """
        tokenizer = self.pipe.tokenizer
        tokens = len(tokenizer(prompt).input_ids)
        limit = tokenizer.model_max_length
        notes = []
        if tokens > limit:
            notes.append(f"the prompt has {tokens} tokens; only the first {limit} were read")
        if unknown := self._unknown_words(prompt):
            notes.append(f"the model does not know these words: {', '.join(unknown)}")
        along, without = self.pipe.encode_prompt(
            prompt, self.device, 1, guidance > 1, self.spec.hint if guidance > 1 else None
        )
        text = torch.cat([without, along]) if guidance > 1 else along
        return text.repeat_interleave(self.spec.frames, dim=0), notes

    def _unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that the tokenizer spells out, where it has all others."""
        if not self.spec.whole_words:
            return []
        words = dict.fromkeys(re.findall(r"[^\W\d_]+", prompt.lower()))
        return [word for word in words if len(self.pipe.tokenizer.tokenize(word)) > 1]

    def embed_pictures(self, pose_frames: Frames, guidance: float) -> torch.Tensor:
        """Return the ControlNet's embedding of the skeletons, [F or 2 F, C, h, w].

        Args:
            pose_frames: RGB uint8 [F, H, W, 3].
            guidance: classifier-free guidance; above 1 the embedding is there twice.
        """
        pictures = torch.from_numpy(pose_frames).to(self.device).permute(0, 3, 1, 2)
        pictures = (pictures.float() / 255).to(self.dtype)
        embedded = self.pipe.controlnet.controlnet_cond_embedding(pictures)
        return torch.cat([embedded, embedded]) if guidance > 1 else embedded

    def noise(self, seed: int) -> torch.Tensor:
        """Return the initial noise, float32 [1, C, F, h, w]; the same on every device."""
        side = self.spec.size // self.pipe.vae_scale_factor
        shape = (1, self.pipe.unet.config.in_channels, self.spec.frames, side, side)
        generator = torch.Generator().manual_seed(seed)
        return mixed_noise(shape, self.spec.noise_share, generator).to(self.device)

    def guided(
        self, timesteps: torch.Tensor, guidance: float, interval: tuple[float, float]
    ) -> list[bool]:
        """Say for each step whether guidance is on.

        Args:
            timesteps: of the solver.
            guidance: classifier-free guidance; up to 1 is none.
            interval: noise times in which it is on, see `AnimationEngine.pair`.
        """
        low, high = interval
        last = self.pipe.scheduler.config.num_train_timesteps
        return [guidance > 1 and low < (int(t) + 1) / last <= high for t in timesteps]

    def control(
        self,
        arm: Arm,
        timestep: torch.Tensor,
        text: torch.Tensor,
        pictures: torch.Tensor,
        guidance: float,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the ControlNet's residuals, those of the UNet's way down and of its middle.

        Args:
            arm: the arm.
            timestep: where it is.
            text: text states [F or 2 F, tokens, width], the prompt's last.
            pictures: embedded skeletons [F or 2 F, C, h, w].
            guidance: classifier-free guidance of this step; up to 1 is none.
        """
        if guidance <= 1:
            text, pictures = text[-self.spec.frames :], pictures[-self.spec.frames :]
        with self.lock, torch.inference_mode():
            return self.pipe.controlnet(
                self._sample(arm, timestep, guidance).transpose(1, 2).flatten(0, 1),
                timestep,
                encoder_hidden_states=text,
                controlnet_cond=pictures,
                return_dict=False,
            )

    def step(
        self,
        arm: Arm,
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
            residuals: of `control`.
            guidance: classifier-free guidance of this step; up to 1 is none.

        Raises:
            ValueError: one of its guards was removed meanwhile.
        """
        if guidance <= 1:
            text = text[-self.spec.frames :]
        down, middle = residuals
        with self.lock, self.guards.switched_on(arm.guards, arm.weights), torch.inference_mode():
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

    def _sample(self, arm: Arm, timestep: torch.Tensor, guidance: float) -> torch.Tensor:
        """Return what the models see of an arm, [1 or 2, C, F, h, w]."""
        sample = arm.scheduler.scale_model_input(arm.latents, timestep).to(self.dtype)
        return torch.cat([sample, sample]) if guidance > 1 else sample
