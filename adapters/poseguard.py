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

How the model samples is in `adapters.animation`, which frames are unsafe and how they are drawn in
`adapters.pose_classes` and `adapters.avatar_frames`, and data and figures of the training in
`adapters.guard_training`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from adapters import checks
from adapters.pose_classes import POSE_CLASSES
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:  # cards and settings are read by programs that train nothing
    from peft import PeftModel
    from torch import Tensor

    from adapters.animation import Base, Frames
    from adapters.avatar_frames import AvatarFrames
    from adapters.loop import Progress
    from evaluation.runs import Run
    from pipelines.profiles import AnimationSpec, Profile

MODULES: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
"""Layers that get a LoRA: attention projections and the residual blocks' convolutions."""

TARGETS: tuple[str, ...] = ("mosaic", "blur", "noise")


@dataclass(frozen=True)
class PoseGuardConfig:
    """Settings of PoseGuard; the paper publishes none of them, so all are ours.

    Attributes:
        pose_class: key of `adapters.pose_classes.POSE_CLASSES`.
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

    from adapters.animation import passes, predict
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


def train(config: PoseGuardConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train the guard, save it to `options.out`, and measure it.

    As `adapters.guard_training.train_guard`.
    """
    from adapters.guard_training import train_guard

    def fitted(base: Base, frames: AvatarFrames, run: Run) -> tuple[PeftModel, Progress]:
        return fit(base, frames, config, options, run, profile.animation)

    return train_guard(CARD.name, config, profile, options, fitted)


# Its data are avatars, which no other profile's model draws.
register(CARD, PoseGuardConfig, train, profiles=("embedded",))
