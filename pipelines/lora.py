"""LoRAs in PEFT format: written in half precision, and merged into diffusers' UNets."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import PeftModel
from safetensors.torch import load_file, save_file

from pipelines.fetch import MissingWeights
from pipelines.loading import check_loaded, loading


def save_lora(model: PeftModel, folder: Path) -> None:
    """Write the LoRA in PEFT format with half-precision weights.

    bf16 has fewer digits than fp16, but it is what the weights are served in. Each file is replaced
    whole, the weights last, since an adapter counts as there once they are.

    Raises:
        ValueError: a weight is not finite; nothing is written then.
    """
    with tempfile.TemporaryDirectory() as made:  # PEFT would write a model card, too
        model.save_pretrained(made, safe_serialization=True, save_embedding_layers=False)
        state = load_file(Path(made) / "adapter_model.safetensors")
        config = json.loads((Path(made) / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None  # a path of this machine
    if isinstance(config["target_modules"], list):  # and no pattern; PEFT lists a set as it comes
        config["target_modules"].sort()
    lost = [name for name, value in state.items() if not value.isfinite().all()]
    if lost:
        raise ValueError(
            f"{len(lost)} of {len(state)} weights are not finite, {lost[0]} first: the training "
            "diverged and nothing was saved; lower the learning rate"
        )
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.to(torch.bfloat16).contiguous() for name, value in state.items()}
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as made:
        names = ("adapter_config.json", "adapter_model.safetensors")
        (Path(made) / names[0]).write_text(json.dumps(config, indent=2), encoding="utf-8")
        save_file(state, Path(made) / names[1], metadata={"format": "pt"})
        for name in names:
            os.replace(Path(made) / name, folder / name)


@loading()
def merged(
    unet: UNet2DConditionModel, folder: Path, command: str = ""
) -> UNet2DConditionModel:
    """Merge a LoRA in PEFT format into a UNet, in place, and return it.

    Args:
        unet: a float32 one.
        folder: of the LoRA.
        command: that makes it; by default that of the defence which the folder is named after.

    Raises:
        MissingWeights: it is not there.
    """
    command = command or f"python -m adapters.train {folder.name}"
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / file).is_file():
            raise MissingWeights(f"The LoRA {folder.name}", folder / file, command)
    # PEFT would first fill it from torch's generator, which an attack that runs at the same time
    # draws its replies from.
    model = PeftModel.from_pretrained(unet, str(folder), low_cpu_mem_usage=True)
    check_loaded(model)
    return model.merge_and_unload()
