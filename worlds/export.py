"""Write Avatar-SD as a diffusers folder that git and a Space take as it is.

Layout, the same as a Stable Diffusion repository with two parts added::

    avatar-sd/
      model_index.json    StableDiffusionPipeline
      vae/ text_encoder/ tokenizer/ unet/ scheduler/
      controlnet/         ControlNetModel, where one is given
      motion_adapter/     MotionAdapter, where one is given

Weights are float16 safetensors in shards of at most 9 MB (a Space wants files over 10 MB in LFS)
under the plain file names, without a ``variant``. Plain diffusers reads them back::

    StableDiffusionPipeline.from_pretrained(folder)
    AnimateDiffControlNetPipeline.from_pretrained(
        folder,
        controlnet=ControlNetModel.from_pretrained(folder, subfolder="controlnet"),
        motion_adapter=MotionAdapter.from_pretrained(folder, subfolder="motion_adapter"),
    )
"""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    MotionAdapter,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

MAX_SHARD_SIZE = 8_900_000
"""Largest sum of tensors in a weight file, in bytes; the file's header comes on top."""

PARTS: tuple[str, ...] = (
    "vae",
    "text_encoder",
    "tokenizer",
    "unet",
    "scheduler",
    "controlnet",
    "motion_adapter",
)
"""Folders that an export owns: all are replaced by the next one, even by their absence."""


RECORDS = "training.json"
"""File beside the weights: a list of the runs that made them, oldest first."""


def training_record(stage: str, seed: int, steps: int, seconds: float) -> dict[str, Any]:
    """Describe a finished run by the command line that starts it, also where it was resumed."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    return {
        "stage": stage,
        "command": "python -m worlds.train " + shlex.join(words),
        "seed": seed,
        "steps": steps,
        "minutes": round(seconds / 60, 1),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Read the records beside some weights; none where there is no file."""
    path = folder / RECORDS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def write_records(folder: Path, records: list[dict[str, Any]]) -> None:
    """Write records beside some weights."""
    (folder / RECORDS).write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def save_avatar_sd(
    folder: Path | str,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: SchedulerMixin,
    controlnet: ControlNetModel | None = None,
    motion_adapter: MotionAdapter | None = None,
) -> Path:
    """Save the parts of Avatar-SD in the layout above; the modules given are left untouched.

    Everything is written beside the folder first and moved in at the end, so a process killed
    on the way leaves the former export whole. Files of other names in the folder (a model card, a
    training record) stay; a ControlNet or motion adapter of a former export goes when none is
    given now, since it belonged to another UNet.

    Args:
        folder: made if it is not there.
        vae: autoencoder; any precision.
        text_encoder: text encoder.
        tokenizer: its tokenizer.
        unet: the spatial UNet. A `UNetMotionModel` is refused: save what it was made from, and its
            motion modules as ``motion_adapter``.
        scheduler: carries the noise schedule and the prediction type.
        controlnet: pose ControlNet.
        motion_adapter: motion modules, trained with the normalisation groups of ``unet``
            (`UNetMotionModel.from_unet2d` builds them with those, whatever the adapter says).

    Returns:
        The folder.

    Raises:
        TypeError: ``unet`` is not a `UNet2DConditionModel`.
        ValueError: a weight is not finite in float16, or the motion adapter disagrees with the
            UNet on normalisation groups.
    """
    if not isinstance(unet, UNet2DConditionModel):
        raise TypeError(f"unet is a {type(unet).__name__}; wanted a UNet2DConditionModel")
    if motion_adapter is not None:
        groups = motion_adapter.config.motion_norm_num_groups
        if groups != unet.config.norm_num_groups:
            raise ValueError(
                f"motion_adapter.motion_norm_num_groups is {groups}, unet.norm_num_groups is "
                f"{unet.config.norm_num_groups}; make them equal, since diffusers uses the UNet's"
            )
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=_half(vae, "vae"),
        text_encoder=_half(text_encoder, "text_encoder"),
        tokenizer=tokenizer,
        unet=_half(unet, "unet"),
        scheduler=copy.deepcopy(scheduler),  # the pipeline corrects its config in place
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(partial, max_shard_size=MAX_SHARD_SIZE)
    for name, module in (("controlnet", controlnet), ("motion_adapter", motion_adapter)):
        if module is not None:
            _half(module, name).save_pretrained(partial / name, max_shard_size=MAX_SHARD_SIZE)
    # transformers loads in the precision that the config names, diffusers in float32 unless told
    # otherwise: name float32, or a plain from_pretrained mixes the two.
    config = partial / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2))
    for config in partial.glob("*/config.json"):
        forget_origin(config)
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        shutil.rmtree(folder / name, ignore_errors=True)
        if (partial / name).exists():
            (partial / name).rename(folder / name)
    (partial / "model_index.json").replace(folder / "model_index.json")
    shutil.rmtree(partial)
    return folder


def forget_origin(config: Path) -> None:
    """Take out of a config where its module was loaded from: a path of the machine that trained it.

    diffusers notes it there.
    """
    fields = json.loads(config.read_text())
    fields.pop("_name_or_path", None)
    config.write_text(json.dumps(fields, indent=2) + "\n")


def _half(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """Return a float16 copy of a module on the CPU, or raise if a weight does not fit."""
    half = copy.deepcopy(module).cpu().half()
    for key, value in half.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{name}: weight {key} is not finite in float16")
    return half
