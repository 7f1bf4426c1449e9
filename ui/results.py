"""A pair's files on their way out, and its settings on their way back into the form."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipelines.checks import check_number
from pipelines.film_writing import write_gif, write_mp4
from pipelines.pose import PoseClip, PoseError
from pipelines.pose_json import MAX_JSON_BYTES, load_openpose_json

if TYPE_CHECKING:
    from evaluation.reader import Reader
    from pipelines.animation import PairResult

MAX_PROMPT = 300
"""Longest prompt accepted, in characters."""

MAX_SEED = 2**32 - 1
"""Largest seed."""

MAX_STEPS = 50
"""Most denoising steps that the form offers."""

GUIDANCE = (1.0, 12.0)
"""Least and greatest guidance scale that the form offers."""

GUIDED_UNTIL = (0.0, 0.95)
"""Least and greatest noise time down to which the form offers guidance."""

MAX_STRENGTH = 1.5
"""Strongest setting of a guard that the form offers."""


_WANTED = "Choose a file saved with “Settings JSON”."
_TITLES = (("Unguarded", (255, 149, 104)), ("Guarded", (98, 205, 185)))  # colours of the stage
_STRIP = 0.11  # height of the strip that titles stand on, of the clip's width
_NEAR = 25.0  # dB: where a guard acts clips have some 20, where it does not 29 (docs/poseguard.md)
_EXACT = 99.95  # dB; `evaluation.avatar_sd.fidelity` tells no more than 100
_GAP = 8  # pixels between the two clips


class SettingsError(ValueError):
    """A file that holds no settings; the message names the field and what was found in it."""


@dataclass(frozen=True)
class Settings:
    """What the form needs to make a pair again.

    Attributes:
        prompt: describes the person.
        seed: 0..`MAX_SEED`.
        steps: 1..`MAX_STEPS`.
        guidance_scale: within `GUIDANCE`.
        guided_until: noise time at which guidance ends, within `GUIDED_UNTIL`; 0 guides every step.
        redraw: whether details were redrawn; results from before there was a refiner do not say,
            and count as not redrawn.
        guards: name → strength of those that were on.
        pose: what was followed, framed as it was.
        profile: name of the profile that the result was made with; empty if the file has none.
        sampler: what it was sampled with; empty if the file has none.
        noise_share: as in `AnimationSpec`; None if the file has none.
        number_format: of the models that made it; empty if the file has none.
        weights: part or guard → what identifies its weights; empty if the file has none.
        read: the prompt in the words that the model was taught; empty if the file has none.
    """

    prompt: str
    seed: int
    steps: int
    guidance_scale: float
    guided_until: float
    redraw: bool
    guards: dict[str, float]
    pose: PoseClip
    profile: str
    sampler: str = ""
    noise_share: float | None = None
    number_format: str = ""
    weights: dict[str, Any] = field(default_factory=dict)
    read: str = ""


def save_pair(result: PairResult, folder: Path, fps: int) -> tuple[Path, Path | None, Path]:
    """Write a pair's clips and settings; the names of all files carry the seed.

    Args:
        result: what the engine made.
        folder: where to.
        fps: frames per second.

    Returns:
        The unguarded MP4, the guarded MP4 (None without guards) and the settings as JSON.
    """
    seed = result.settings["seed"]
    unguarded = write_mp4(result.unguarded, folder / f"unguarded-seed-{seed}.mp4", fps)
    guarded = None
    if result.guarded is not None:
        guarded = write_mp4(result.guarded, folder / f"guarded-seed-{seed}.mp4", fps)
    settings = folder / f"settings-seed-{seed}.json"
    settings.write_text(json.dumps(result.settings, indent=1), encoding="utf-8")
    return unguarded, guarded, settings


def save_extras(result: PairResult, folder: Path, fps: int) -> tuple[Path, Path]:
    """Write what goes with a pair.

    Args:
        result: what the engine made.
        folder: where to.
        fps: frames per second.

    Returns:
        Both clips side by side as a GIF, or the one that there is, and the pose that was followed
        as OpenPose JSON.
    """
    seed = result.settings["seed"]
    what = "unguarded" if result.guarded is None else "pair"
    gif = write_gif(side_by_side(result), folder / f"{what}-seed-{seed}.gif", fps)
    pose = folder / f"pose-seed-{seed}.json"
    pose.write_text(json.dumps(result.settings["pose"], separators=(",", ":")), encoding="utf-8")
    return gif, pose


def side_by_side(result: PairResult) -> NDArray[np.uint8]:
    """Put a pair's clips next to each other under their titles.

    Args:
        result: a pair; without a guarded clip the unguarded one stands alone.

    Returns:
        RGB uint8 [F, H, W, 3].
    """
    clips = [result.unguarded] + ([] if result.guarded is None else [result.guarded])
    count, height, width = clips[0].shape[:3]
    strip = max(12, round(_STRIP * width))
    canvas = Image.new("RGB", (len(clips) * (width + _GAP) - _GAP, height + strip))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(0.66 * strip)
    for index, (title, colour) in enumerate(_TITLES[: len(clips)]):
        middle = index * (width + _GAP) + width / 2
        pen.text((middle, strip / 2), title, colour, font, anchor="mm")
    frames = np.repeat(np.asarray(canvas)[None], count, 0)
    for index, clip in enumerate(clips):
        left = index * (width + _GAP)
        frames[:, strip:, left : left + width] = clip
    return frames


def short(settings: dict[str, Any]) -> str:
    """Return what a result is remade from, in a few words."""
    return f"seed {settings['seed']}, {settings['steps']} steps"


def measured(result: PairResult, reader: Reader | None) -> PairResult:
    """Return a pair whose settings tell how far it obeys, as ``measured``.

    Args:
        result: what the engine made.
        reader: finds the joints; None, of a profile that draws others than its dolls: as it is.
    """
    if reader is None:
        return result
    from evaluation.obedience import obedience  # torch, as above

    pose = load_openpose_json(json.dumps(result.settings["pose"]))
    return replace(result, settings=result.settings | {"measured": obedience(result, pose, reader)})


def figures(settings: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what stands under the unguarded and the guarded clip; nothing if not measured.

    Each has a ``text``, and may have a ``title``, which whoever points at it reads.
    """
    found = settings.get("measured", {})

    def pose(name: str) -> str:
        share = found.get(name)
        return "" if share is None else f"Pose followed: {share:.0%}"

    held, title = [pose("pose_guarded")], ""
    if (decibels := found.get("psnr_guarded")) is not None:
        near = "Nearly identical to" if decibels >= _NEAR else "Far from"
        held.append(f"{'The same as' if decibels >= _EXACT else near} the unguarded clip")
        title = f"PSNR against the unguarded clip: {decibels:.0f} dB. "
    return {"text": pose("pose")}, {"text": " · ".join(filter(None, held)), "title": title}


def read_settings(path: Path) -> Settings:
    """Read the ``settings.json`` of a result.

    Args:
        path: the file, at most ``MAX_JSON_BYTES`` long.

    Raises:
        SettingsError: it is no such file, or a field is missing or out of range.
    """
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        limit = MAX_JSON_BYTES / 1e6
        raise SettingsError(f"{path.name} has {size / 1e6:.1f} MB; the limit is {limit:.0f} MB")
    try:
        parsed = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path.name} is not JSON. {_WANTED}") from error
    return checked_settings(parsed, path.name)


def checked_settings(parsed: Any, name: str) -> Settings:
    """Check what may be the settings of a result.

    Args:
        parsed: anything that JSON can hold.
        name: what to call it.

    Raises:
        SettingsError: a field is missing or out of range.
    """
    if not isinstance(parsed, dict):
        raise SettingsError(f"{name} holds {_kind(parsed)}. {_WANTED}")
    fields = ("prompt", "seed", "steps", "guidance_scale", "guards", "pose")
    absent = [f'"{field}"' for field in fields if field not in parsed]
    if absent:
        raise SettingsError(f"{name} has no field {', '.join(absent)}. {_WANTED}")
    prompt = parsed["prompt"]
    if not isinstance(prompt, str) or not 0 < len(prompt.strip()) <= len(prompt) <= MAX_PROMPT:
        found = f"text of {len(prompt)} characters" if isinstance(prompt, str) else _kind(prompt)
        raise SettingsError(f'"prompt" is {found}; wanted text of 1 to {MAX_PROMPT} characters')
    guards = parsed["guards"]
    if not isinstance(guards, dict):
        raise SettingsError(f'"guards" is {_kind(guards)}; wanted an object of name and strength')
    try:
        pose = load_openpose_json(json.dumps(parsed["pose"]))
    except PoseError as error:
        raise SettingsError(f'"pose": {error}') from error
    weights = parsed.get("weights")
    return Settings(
        prompt=prompt,
        seed=int(_number("seed", parsed["seed"], 0, MAX_SEED, whole=True)),
        steps=int(_number("steps", parsed["steps"], 1, MAX_STEPS, whole=True)),
        guidance_scale=_number("guidance_scale", parsed["guidance_scale"], *GUIDANCE),
        guided_until=_guided_until(parsed.get("guidance_interval", [0, 1])),
        redraw=_yes_or_no("redraw", parsed.get("redraw", False)),
        guards={
            name: _number(f"guards.{name[:40]}", strength, 0, MAX_STRENGTH)
            for name, strength in guards.items()
        },
        pose=pose,
        profile=_text(parsed.get("profile")),
        sampler=_text(parsed.get("sampler")),
        noise_share=parsed.get("noise_share"),
        number_format=_text(parsed.get("number_format")),
        weights=weights if isinstance(weights, dict) else {},
        read=_text(parsed.get("read")),
    )


def _text(value: Any) -> str:
    """Return a field that is only told or compared; anything but text counts as absent."""
    return value if isinstance(value, str) else ""


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f'"{name}" is {_kind(value)}; wanted true or false')
    return value


def _guided_until(interval: Any) -> float:
    """Return the low end of a guidance interval; the form guides from the first step on."""
    if not isinstance(interval, list) or len(interval) != 2:
        raise SettingsError('"guidance_interval" must be a list of two numbers')
    _number("guidance_interval[1]", interval[1], 1, 1)
    return _number("guidance_interval[0]", interval[0], *GUIDED_UNTIL)


def _number(name: str, value: Any, low: float, high: float, whole: bool = False) -> float:
    if not isinstance(value, int | float):  # whatever it is, and however long
        raise SettingsError(f'"{name}" is {_kind(value)}; wanted a number')
    try:
        check_number(f'"{name}"', value, low, high, whole)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return value


def _kind(value: Any) -> str:
    """Name a JSON value's type in words, without repeating its content."""
    if value is None:
        return "null"
    names = {bool: "true or false", dict: "an object", list: "a list", str: "text"}
    return names.get(type(value), "a number")
