r"""PoseGuard: an animation model whose pictures of unsafe poses dissolve.

Paper: PoseGuard: Pose-Guided Generation with Safety Guardrails. Venue: arXiv 2025.
arXiv: 2508.02476.

A LoRA on the denoiser is trained towards two goals at once,

    L = L_fidelity(benign poses) + lambda * L_safety(unsafe poses -> degraded target),

one LoRA for each class of unsafe poses, so that classes are added and fused by weight without
retraining the others. In clean latents, which every prediction of the denoiser stands for:

    L_fidelity = || z_theta(x_t, c) - z_base(y_t, c) ||^2 + mu || z_theta(x_t, c) - z ||^2
    L_safety   = || z_theta(x_t, c) - z' ||^2

with z' = D(z) the degraded latents, z_base the frozen model, c = (skeleton, caption), and x_t and
y_t the states that the guarded and the frozen model's own samplings reach at t from one noise.

The paper publishes neither D, lambda, rank, modules, steps nor pose lists. Our choices:

* D is a coarse mosaic of the latents of a good picture, so the person dissolves into blocks of
  colour instead of the program failing; "blur" and "noise" are there to compare.
* States are those that the guard's own sampling reaches. The picture model's later passes hold what
  the first one guessed; a guard that had met only true mosaics there, with noise on them, let a
  half dissolved person (kneel_left: 25.8 dB) come back.
* Near misses (squatting, tying a shoe, sitting, stretching, pointing) make up a set share of the
  benign frames, since they are what a guard wrongly reacts to first; most of them are of the few
  movements that come closest. Drawn evenly from all eighteen, tying a shoe dissolved (22.6 dB).
* Half of all captions name another movement than the one in the picture, so that the guard learns
  the pose and not the word "kneeling"; a fifth are empty, because guidance also runs the model
  without text and both runs have to dissolve.
* LoRA on the attention projections and on the convolutions of the residual blocks: the skeleton
  enters through the ControlNet's additions to the skip connections, which convolutions read first.
* Figures are moved about the frame and zoomed while it is trained, skeleton and latents alike. Our
  data stand on a floor at one height. A guard trained on them as they are took "low in the frame"
  for kneeling: a kneeling clip in the middle of the frame, where the app puts it, came out as
  unguarded (34.8 dB between the two), and 30 pixels lower it dissolved (19.3 dB).
* Who kneels with no whole leg in the frame, an upper body, is not seen to kneel, so such frames
  are no unsafe ones. Counted as unsafe they stood against upper bodies of people who stand, whose
  skeletons are the same, and every upper body dissolved: a visitor's before a webcam (17 dB).
* It is trained at the profile's times alone (the shipped one when those were 999, 250 and 100;
  today's are 999 and 250), half of the steps at the first, pure noise (`losses`): there the person
  dissolves or does not, and nothing but the pose tells which it shall be. With times drawn by t^2
  three frames in a hundred were as noisy, and the others showed the picture.
* It is trained on single frames with the spatial UNet and loads by name into the animation UNet,
  whose spatial layers have the same names; motion modules stay as they are.

No claim is made that it withstands fine-tuning; the paper makes none, and it does not
(`adapters.attacks.guard_removal`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from adapters import checks
from adapters.registry import Card, Trained, TrainOptions, register
from evaluation.runs import RunStore, weights_hash
from pipelines.paths import REPO, runs_dir

if TYPE_CHECKING:  # cards and settings are read by programs that train nothing
    import numpy as np
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
    from peft import PeftModel
    from torch import Tensor
    from transformers import CLIPTextModel, CLIPTokenizer

    from adapters.loop import Progress
    from evaluation.runs import Run
    from pipelines.profiles import AnimationSpec, Profile
    from worlds.data import AvatarSet

MODULES: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
"""Layers that get a LoRA: attention projections and the residual blocks' convolutions."""

TARGETS: tuple[str, ...] = ("mosaic", "blur", "noise")


@dataclass(frozen=True)
class PoseClass:
    """A class of unsafe poses in the words of `worlds.motions`.

    Attributes:
        group: group of motions that show it from the first frame to the last.
        enters: motions of that group that only end in it.
        leaves: motions of that group that only begin in it.
        closest: motions of other groups that are hardest to tell from it.
    """

    group: str
    enters: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    closest: tuple[str, ...] = ()

    def clip_kind(self, motion: str, group: str) -> str:
        """Return what a whole clip is to this class: "unsafe", "near_miss" or "other".

        Args:
            motion: name of the clip's motion.
            group: group of the motion. One that only ends or begins in the class is unsafe.
        """
        if group == self.group:
            return "unsafe"
        return "near_miss" if group == "near_miss" or motion in self.closest else "other"

    def kind(self, motion: str, group: str, time: int, frames: int = 16) -> str | None:
        """Return what a frame is to this class.

        Args:
            motion: name of the frame's motion.
            group: group of the motion.
            time: number of the frame in its clip, from 0.
            frames: frames of the clip.

        Returns:
            "unsafe", "near_miss" or "other"; None for the frames between, which teach nothing.
        """
        if group != self.group or motion not in self.enters + self.leaves:
            return self.clip_kind(motion, group)
        shown = time if motion in self.enters else frames - 1 - time
        if shown >= frames - 3:
            return "unsafe"
        return "near_miss" if shown < 3 else None


POSE_CLASSES: dict[str, PoseClass] = {
    "kneeling": PoseClass(
        "kneeling",
        enters=("kneel_down", "kneel_down_both"),
        leaves=("kneel_rise",),
        closest=("tie_shoe", "squat", "lunge", "sit", "warrior"),
    ),
}
"""Classes that a guard can be trained for. Kneeling is the paper's first example."""


@dataclass(frozen=True)
class PoseGuardConfig:
    """Settings of PoseGuard; the paper publishes none of them, so all are ours.

    Attributes:
        pose_class: key of `POSE_CLASSES`.
        target: how the clean latents are degraded: "mosaic", "blur" or "noise".
        cells: blocks of the mosaic along a side; the fewer, the less is left.
        safety_weight: lambda.
        real_weight: mu, the weight of the real frames beside the frozen model's prediction.
        steps: optimiser steps.
        learning_rate: peak.
        batch_size: frames a step.
        unsafe_share: unsafe frames in a batch, 0..1.
        near_miss_share: near misses among the benign frames, 0..1.
        closest_share: near misses that are kept for the closest movements, 0..1; the others are
            drawn from all near misses, these included. With the default settings and data, where
            they are a quarter of those, 4 of 6 are kept for them and 75 % are of them.
        face_share: other benign frames that are kept for close-ups of faces, 0..1; the rest is
            drawn from all of the others, these included. Faces have no joints, and are a tenth of
            the data and a sixth of the others: 1 of 4 is kept for them and 37 % are of them.
        text_drop: captions that are emptied, 0..1 (at least the share in the base's training).
        verb_swap: captions that name another movement, 0..1.
        first_share: steps that train the first pass of a sampling, 0..1; the others train one of
            the later passes.
        shift: farthest that a figure is moved, right, left, up or down, in parts of the frame; the
            app's fit moved the library's squat by 0.2.
        zoom: most that a figure is enlarged or, by the same factor, made smaller; 1 is none. The
            app's fit enlarged the library's squat by 1.31.
        rank: of the LoRA; its alpha is twice the rank.
        warmup_steps: until the peak.
        seed: of LoRA, data order and noise.
    """

    pose_class: str = "kneeling"
    target: str = "mosaic"
    cells: int = 4
    safety_weight: float = 1.0
    real_weight: float = 0.1
    steps: int = 1000
    learning_rate: float = 5e-4
    batch_size: int = 16
    unsafe_share: float = 0.4
    near_miss_share: float = 0.6
    closest_share: float = 0.7
    face_share: float = 0.25
    text_drop: float = 0.2
    verb_swap: float = 0.5
    first_share: float = 0.5
    shift: float = 0.22
    zoom: float = 1.4
    rank: int = 16
    warmup_steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        checks.choice(self, "pose_class", POSE_CLASSES)
        checks.choice(self, "target", TARGETS)
        checks.whole(self)
        checks.positive(self, "cells", "steps", "learning_rate", "rank", "batch_size")
        checks.not_negative(self, "safety_weight", "real_weight", "warmup_steps", "seed")
        checks.share(
            self, "unsafe_share", "near_miss_share", "closest_share", "face_share", "text_drop",
            "verb_swap", "first_share", "shift",
        )  # fmt: skip
        if not 1 <= self.zoom <= 4:
            raise ValueError(f"zoom is {self.zoom}; it must be within 1..4")
        if not 1 <= round(self.batch_size * self.unsafe_share) < self.batch_size:
            raise ValueError(
                f"unsafe_share is {self.unsafe_share}; of {self.batch_size} frames it must leave "
                "at least one unsafe and one benign"
            )


CARD = Card(
    name="poseguard",
    title="PoseGuard",
    paper="PoseGuard: Pose-Guided Generation with Safety Guardrails",
    venue="arXiv 2025",
    arxiv="2508.02476",
    licence="Apache-2.0",
    idea="A small add-on teaches the animation model two things at once: with a harmless pose, "
    "draw what you always drew; with an unsafe pose, let the picture dissolve. One add-on for each "
    "class of poses; this one is for kneeling.",
    equation=r"\mathcal{L} = \mathbb{E}_\text{benign}\,\lVert z_\theta - z_\text{base}\rVert^2"
    r" + \lambda\,\mathbb{E}_\text{unsafe}\,\lVert z_\theta - D(z)\rVert^2",
    limits="At strength 1 people who kneel dissolve, on one knee a little less than on both (18 to "
    "22 dB guarded against unguarded). It should leave all others alone: walking, tying a shoe, a "
    "warrior's stance and upper bodies stay (29 to 32 dB), faces seen from near lose a little "
    "(28 to 30 dB); squatting dissolves in part (24 dB), and sitting fades (27 dB), both wrongly. "
    "Who kneels with no leg in the picture stays as well. Small and low in the frame, sitting and "
    "lunging may dissolve: poses are fitted to the frame for that reason, "
    "too. docs/poseguard.md has the clips. Fine-tuning takes it off: 15 steps of a LoRA on 40 "
    "pictures of people who kneel, a minute's work, with each of three seeds. A pose halfway "
    "into the class may be drawn or dissolved.",
    aimed_at="poses counted as unsafe, here kneeling, given to a pose-guided animation model",
    pipeline="animation",
)


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


class Move(NamedTuple):
    """How a figure is moved: enlarged about the middle of the frame, then shifted.

    Attributes:
        zoom: factor.
        right: in parts of the frame's side.
        down: likewise.
    """

    zoom: float = 1.0
    right: float = 0.0
    down: float = 0.0


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
    def load(cls, profile: Profile) -> Base:
        """Load the profile's spatial model in float32, frozen, on the compute device.

        Raises:
            MissingWeights: it is not there.
        """
        from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        from pipelines.animation_weights import check_weights
        from pipelines.device import device, plain_attention

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


def moved(latents: Tensor, moves: Sequence[Move]) -> Tensor:
    """Return latents [B, C, h, w] with each picture moved; what comes into view repeats the edge.

    The autoencoder's latents bear it, for it was trained to decode resized ones
    (`worlds.autoencoder`).
    """
    import torch
    from torch.nn import functional as F

    # The grid says for each place of the result where it comes from, in units of half a side.
    back = torch.tensor(
        [[[1 / z, 0, -2 * x / z], [0, 1 / z, -2 * y / z]] for z, x, y in moves],
        dtype=latents.dtype,
    )
    grid = F.affine_grid(back, list(latents.shape), align_corners=False)
    return F.grid_sample(latents, grid, padding_mode="border", align_corners=False)


def degrade(latents: Tensor, target: str, cells: int, noise: Tensor) -> Tensor:
    """Return D(z), degraded beyond use.

    Args:
        latents: clean latents [B, C, h, w].
        target: "mosaic" replaces each block by its mean; "blur" interpolates between those means;
            "noise" is noise of each picture's own mean and spread.
        cells: blocks along a side, at most h.
        noise: standard normal, same shape, for "noise".

    Returns:
        Latents of the same shape.
    """
    from torch.nn import functional as F

    if target == "noise":
        mean = latents.mean((1, 2, 3), keepdim=True)
        return mean + latents.std((1, 2, 3), keepdim=True) * noise
    means = F.adaptive_avg_pool2d(latents, min(cells, latents.shape[-1]))
    if target == "mosaic":
        return F.interpolate(means, latents.shape[-2:], mode="nearest")
    return F.interpolate(means, latents.shape[-2:], mode="bilinear")


def batch_from(
    frames: Frames, base: Base, config: PoseGuardConfig, step: int, passes: int
) -> dict[str, Tensor]:
    """Draw noise for frames, and which pass of a sampling is trained; the same for the same step.

    Args:
        frames: of the step.
        base: tokenizes.
        config: settings.
        step: its number.
        passes: of a sampling.
    """
    import torch

    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    latents, unsafe = frames["latents"].float(), frames["unsafe"]

    def normal() -> Tensor:
        return torch.randn(latents.shape, generator=generator)

    degraded = degrade(latents, config.target, config.cells, normal())
    later = passes > 1 and torch.rand((), generator=generator) >= config.first_share
    return {
        "clean": torch.where(unsafe[:, None, None, None], degraded, latents),
        "noise": normal(),
        "pass": torch.randint(1, passes, (), generator=generator) if later else torch.tensor(0),
        "tokens": base.tokens(frames["captions"]),
        "pose": frames["pose"],
        "unsafe": unsafe,
    }


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
    import torch

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
    import torch

    from pipelines.solver import solver_for

    solver = solver_for(base.scheduler, spec, spec.steps, noise.device)
    states = noise
    for time in solver.timesteps:
        yield time, states
        with torch.no_grad():
            output = predict(unet, base, states, time.expand(len(noise)), tokens, pose)
        states = solver.step(output, time, states).prev_sample
    yield torch.zeros_like(solver.timesteps[0]), states


def losses(
    model: PeftModel,
    base: Base,
    batch: dict[str, Tensor],
    config: PoseGuardConfig,
    spec: AnimationSpec,
) -> tuple[Tensor, Tensor]:
    """Return L_fidelity and L_safety of a batch, each a mean over its own frames.

    Args:
        model: the UNet with the LoRA.
        base: the frozen parts.
        batch: of `batch_from`.
        config: settings.
        spec: of the profile, for the steps and the solver.
    """
    import torch
    from torch.nn import functional as F

    from pipelines.solver import clean_latents

    clean, noise, tokens, pose, unsafe = (
        batch[name] for name in ("clean", "noise", "tokens", "pose", "unsafe")
    )
    benign, scheduler = ~unsafe, base.scheduler

    def before_pass(rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        sampling = passes(model, base, noise[rows], tokens[rows], pose[rows], spec)
        return next(islice(sampling, int(batch["pass"]), None))

    time, states = before_pass(slice(None))
    times = time.expand(len(clean))
    with torch.no_grad(), model.disable_adapter():
        _, reached = before_pass(benign)
        output = predict(model, base, reached, times[benign], tokens[benign], pose[benign])
        kept = clean_latents(scheduler, output, time, reached)
    # Within an autocast, weights that were cast without gradients would stay without them.
    torch.clear_autocast_cache()
    output = predict(model, base, states, times, tokens, pose)
    drawn = clean_latents(scheduler, output, time, states)
    fidelity = F.mse_loss(drawn[benign], kept)
    fidelity = fidelity + config.real_weight * F.mse_loss(drawn[benign], clean[benign])
    return fidelity, F.mse_loss(drawn[unsafe], clean[unsafe])


def fit(
    base: Base,
    frames_of: Callable[[int], Frames],
    config: PoseGuardConfig,
    options: TrainOptions,
    run: Run,
    spec: AnimationSpec,
) -> tuple[PeftModel, Progress]:
    """Train the guard and save it to `options.out` in PEFT format.

    Args:
        base: the frozen model; its UNet gets the LoRA.
        frames_of: step number → frames; the same number gives the same frames.
        config: settings.
        options: where to, for how long, whether to resume.
        run: gets the events.
        spec: of the profile, for the steps and the solver.

    Returns:
        The UNet with the LoRA, and how far it came.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from adapters.loop import train_steps
    from pipelines.lora import save_lora

    torch.manual_seed(config.seed)
    model = get_peft_model(
        base.unet,
        LoraConfig(r=config.rank, lora_alpha=2 * config.rank, target_modules=list(MODULES)),
    )

    def batch_of(step: int) -> dict[str, Tensor]:
        return batch_from(frames_of(step), base, config, step, spec.steps)

    def loss_of(model: PeftModel, batch: dict[str, Tensor]) -> Tensor:
        fidelity, safety = losses(model, base, batch, config, spec)
        return fidelity + config.safety_weight * safety

    progress = train_steps(model, batch_of, loss_of, config, options=options, run=run)
    save_lora(model, options.out)
    return model, progress


_LEGS = ((8, 9, 10), (11, 12, 13))  # hip, knee and ankle


def shows_leg(data: AvatarSet, number: int, move: Move | None = None) -> bool:
    """Return whether a whole leg of a figure is in the frame.

    Args:
        data: the frames.
        number: of the frame.
        move: how the figure is moved; None: not at all.
    """
    joints = data.moved(data.keypoints[number, :, :2], *(move or Move()))
    seen = ((joints >= 0) & (joints < data.images.shape[1])).all(1)
    seen &= data.keypoints[number, :, 2] > 0
    return any(seen[list(leg)].all() for leg in _LEGS)


def kind_of_frame(data: AvatarSet, number: int, pose_class: PoseClass) -> str | None:
    """Return what a rendered frame is to a class of poses: as `PoseClass.kind`, but as it is seen.

    A face has no joints, and who shows no whole leg is not seen to be unsafe: both are "other".

    Args:
        data: the frames.
        number: of the frame.
        pose_class: the class.
    """
    from worlds.motions import MOTIONS

    meta = data.meta[number]
    if meta["closeup"]:
        return "other"
    kind = pose_class.kind(meta["motion"], MOTIONS[meta["motion"]].group, meta["time"])
    return "other" if kind == "unsafe" and not shows_leg(data, number) else kind


class AvatarFrames:
    """Frames of the avatar world for one class of poses, drawn by kind."""

    def __init__(
        self, data: AvatarSet, latents: np.ndarray, scale: float, config: PoseGuardConfig
    ) -> None:
        """Sort a set's frames into unsafe, near misses and others.

        Args:
            data: rendered frames.
            latents: unscaled latents of the same frames, [N, C, h, w].
            scale: the autoencoder's scaling factor.
            config: class, shares and seed.

        Raises:
            ValueError: the set lacks one of the kinds.
        """
        self.data, self.latents, self.scale, self.config = data, latents, scale, config
        pose_class = POSE_CLASSES[config.pose_class]
        self.kinds: dict[str, list[int]] = {"unsafe": [], "near_miss": [], "other": []}
        for number in range(len(data.meta)):
            kind = kind_of_frame(data, number, pose_class)
            if kind is not None:
                self.kinds[kind].append(number)
        self.closest = [
            number
            for number in self.kinds["near_miss"]
            if data.meta[number]["motion"] in pose_class.closest
        ]
        self.faces = [n for n in self.kinds["other"] if data.meta[n]["closeup"]]
        for kind, numbers in self.kinds.items():
            if not numbers:
                raise ValueError(f"the data set of {len(data)} frames has none that is {kind}")

    def __call__(self, step: int) -> Frames:
        """Return a step's frames."""
        import numpy as np

        config = self.config
        unsafe = round(config.batch_size * config.unsafe_share)
        near = round((config.batch_size - unsafe) * config.near_miss_share)
        closest = round(near * config.closest_share) if self.closest else 0
        others = config.batch_size - unsafe - near
        faces = round(others * config.face_share) if self.faces else 0
        drawn = (
            (self.kinds["unsafe"], unsafe),
            (self.closest, closest),
            (self.kinds["near_miss"], near - closest),
            (self.faces, faces),
            (self.kinds["other"], others - faces),
        )
        rng = np.random.default_rng([config.seed, step])
        chosen = [
            int(number)
            for numbers, count in drawn
            if count  # there may be none to choose from
            for number in rng.choice(numbers, count)
        ]
        captions = [self.caption(number, rng) for number in chosen]
        return self.frames(chosen, captions, unsafe, self.moves(chosen, unsafe, rng))

    def moves(self, numbers: Sequence[int], unsafe: int, rng: np.random.Generator) -> list[Move]:
        """Draw how each of some figures is moved; the first `unsafe` of them keep a leg in view."""
        import numpy as np

        most, far = np.log(self.config.zoom), self.config.shift
        drawn = [
            Move(float(np.exp(rng.uniform(-most, most))), *map(float, rng.uniform(-far, far, 2)))
            for _ in numbers
        ]
        return [
            Move() if row < unsafe and not shows_leg(self.data, number, move) else move
            for row, (number, move) in enumerate(zip(numbers, drawn, strict=True))
        ]

    def frames(
        self,
        numbers: Sequence[int],
        captions: list[str],
        unsafe: int,
        moves: Sequence[Move] | None = None,
    ) -> Frames:
        """Return given frames, the first `unsafe` of them marked unsafe, moved or as they are."""
        import numpy as np
        import torch

        moves = moves or [Move()] * len(numbers)
        latents = np.stack([self.latents[number] for number in numbers]).astype(np.float32)
        poses = [
            self.data.condition(number, move.zoom, (move.right, move.down))
            for number, move in zip(numbers, moves, strict=True)
        ]
        return Frames(
            latents=moved(torch.from_numpy(latents), moves) * self.scale,
            pose=torch.from_numpy(np.stack(poses)),
            captions=captions,
            unsafe=torch.arange(len(numbers)) < unsafe,
        )

    def caption(self, number: int, rng: np.random.Generator) -> str:
        """Return a frame's caption, now and then empty or with another movement's word."""
        from worlds.looks import Look, caption
        from worlds.motions import MOTIONS

        meta = self.data.meta[number]
        if rng.random() < self.config.text_drop:
            return ""
        if rng.random() < self.config.verb_swap:
            motion = list(MOTIONS.values())[rng.integers(len(MOTIONS))]
            return caption(Look(**meta["look"]), motion.verb, meta["closeup"])
        return meta["caption"]


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
    import torch

    from pipelines.device import autocast, device

    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(frames["latents"].shape, generator=generator).to(device())
    tokens = base.tokens(frames["captions"]).to(device())
    with torch.inference_mode(), autocast():
        *_, (_, latents) = passes(model, base, noise, tokens, frames["pose"].to(device()), spec)
    return latents


def measure(
    model: PeftModel,
    base: Base,
    vae: AutoencoderKL,
    source: AvatarFrames,
    sheet: Path,
    spec: AnimationSpec,
) -> dict[str, Any]:
    """Draw held-out frames with and without the guard, from the same noise, and compare.

    Each frame is drawn where its figure stands in the world, and once more with the figure moved,
    as a visitor's pose may be.

    Args:
        model: the UNet with the LoRA.
        base: the frozen parts.
        vae: decodes.
        source: held-out frames.
        sheet: picture to write: unguarded above, guarded below; unsafe frames first, then near
            misses, then others; the moved ones in the lower half.
        spec: of the profile, for the steps and the solver.

    Returns:
        Mean PSNR in dB of the guarded against the unguarded pictures for each kind: high is wanted
        for near_miss_psnr_db and other_psnr_db, low for unsafe_psnr_db; and the same of the moved
        ones, as moved_unsafe_psnr_db and so on.
    """
    import numpy as np
    import torch
    from PIL import Image

    from evaluation.psnr import psnr
    from pipelines.device import autocast

    each = 4
    numbers = [number for numbers in source.kinds.values() for number in numbers[:each]]
    counts = [len(numbers[:each]) for numbers in source.kinds.values()]
    # Captions without the movement: the pose alone has to tell.
    captions = [_still_caption(source.data.meta[number]) for number in numbers]

    def pictures(frames: Frames) -> np.ndarray:
        latents = draw(model, base, frames, spec=spec, seed=1)
        with torch.inference_mode(), autocast():
            pixels = vae.decode(latents.to(vae.device) / vae.config.scaling_factor).sample
        pixels = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().numpy()

    figures, rows = {}, []
    moves = source.moves(numbers, counts[0], np.random.default_rng(source.config.seed))
    for prefix, how in (("", None), ("moved_", moves)):
        frames = source.frames(numbers, captions, counts[0], how)
        with model.disable_adapter():
            unguarded = pictures(frames)
        guarded = pictures(frames)
        rows += [np.concatenate(list(unguarded), 1), np.concatenate(list(guarded), 1)]
        decibels = psnr(unguarded, guarded)
        start = 0
        for kind, count in zip(source.kinds, counts, strict=True):
            part = decibels[start : start + count]
            figures[f"{prefix}{kind}_psnr_db"] = round(float(part.mean()), 2)
            start += count
    Image.fromarray(np.concatenate(rows)).save(sheet)
    return figures


def _still_caption(meta: dict[str, Any]) -> str:
    from worlds.looks import Look, caption

    return caption(Look(**meta["look"]), "", meta["closeup"])


def trained(
    name: str,
    config: PoseGuardConfig,
    profile: Profile,
    options: TrainOptions,
    fit: Callable[[Base, AvatarFrames, Run], tuple[PeftModel, Progress]],
) -> Trained:
    """Train a guard on rendered avatars, and measure it on held-out ones.

    Frames and latents are those of ``python -m worlds.train`` where they are there, else they are
    made first (12,000 frames take some ten minutes on two cores).

    Args:
        name: of the defence.
        config: settings.
        profile: whose model.
        options: where to.
        fit: trains: model, frames and run → the UNet with the LoRA, and how far it came.

    Returns:
        With the figures of `measure`, and with the parts of the model that was trained on.

    Raises:
        MissingWeights: the profile's model is not there.
    """
    from diffusers import AutoencoderKL

    from pipelines.device import device
    from worlds.data import HELD_OUT_SEED, AvatarSet, build
    from worlds.denoiser import encode_set

    base = Base.load(profile)
    parents = Base.parents(profile)
    vae = AutoencoderKL.from_pretrained(profile.animation.base, subfolder="vae").eval()

    def source(name: str, count: int, seed: int) -> AvatarFrames:
        folder = REPO / "checkpoints" / "data" / name
        made = (folder / "meta.jsonl").is_file()
        data = AvatarSet(folder) if made else build(folder, count, seed=seed)
        return AvatarFrames(data, encode_set(vae, data), vae.config.scaling_factor, config)

    frames_of = source("frames", 12_000, 0)
    settings = {"defence": name, **asdict(config)}
    run = RunStore(runs_dir()).create("train", settings, profile.name, parents)
    model, (steps, before) = fit(base, frames_of, run)
    held_out = source("frames-heldout", 600, HELD_OUT_SEED)
    sheet = options.out / "sheet.jpg"
    figures = measure(model, base, vae.to(device()), held_out, sheet, profile.animation)
    run.finish("done" if steps == config.steps else "stopped")
    return Trained(steps, figures, before, parents)


def train(config: PoseGuardConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train the guard, save it to `options.out`, and measure it; as `trained`."""

    def fitted(base: Base, frames: AvatarFrames, run: Run) -> tuple[PeftModel, Progress]:
        return fit(base, frames, config, options, run, profile.animation)

    return trained(CARD.name, config, profile, options, fitted)


# Its data are avatars, which no other profile's model draws.
register(CARD, PoseGuardConfig, train, profiles=("embedded",))
