"""Guards: safety LoRAs that the animation model's UNet holds and switches on for some passes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import torch
from diffusers import UNetMotionModel
from peft import LoraConfig
from safetensors.torch import load_file

from pipelines.animation_weights import fingerprint
from pipelines.checks import check_number
from pipelines.fetch import MissingWeights
from pipelines.loading import loading

MAX_STRENGTH = 1.5
"""Strongest setting of a guard; 1 is the strength it was trained at."""

_GUARD_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Guards:
    """The guards of one UNet; each is off but within `switched_on`.

    Attributes:
        weights: what identifies the weights of each guard, by name.
    """

    def __init__(
        self, unet: UNetMotionModel, base: str, on: torch.device, dtype: torch.dtype, lock: Lock
    ) -> None:
        """Begin without any.

        Args:
            unet: that they are loaded into.
            base: name or folder of the model, for errors.
            on: where the UNet is.
            dtype: number format of the UNet.
            lock: held by whoever runs or changes the UNet. `add` and `remove` take it themselves.
        """
        self.weights: dict[str, str] = {}
        self._unet = unet
        self._base = base
        self._device = on
        self._dtype = dtype
        self._lock = lock

    def add(self, name: str, adapter_folder: Path | str) -> None:
        """Load a safety LoRA in PEFT format; it stays off but within `switched_on`.

        It may have been trained on the spatial UNet (`UNet2DConditionModel`): the spatial layers of
        the `UNetMotionModel` have the same names. Layers are matched by the names of the stored
        weights and not by the patterns of ``target_modules``, which would put idle LoRAs on the
        motion modules too.

        Args:
            name: lower-case letters, digits, ``-`` and ``_``.
            adapter_folder: holds adapter_config.json and adapter_model.safetensors.

        Raises:
            MissingWeights: a file is not there.
            ValueError: the name is taken or malformed, or the weights do not fit the UNet.
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
        identity = fingerprint([weights])
        with loading(), self._lock:
            if name in self.weights:
                raise ValueError(f"name is {name!r}, which is taken; remove_guard() that one first")
            self._check_fit(name, state)
            self._unet.load_lora_adapter(
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
            for parameter_name, parameter in self._unet.named_parameters():
                if ".lora_" in parameter_name:
                    parameter.data = parameter.data.to(self._device, self._dtype)
            self._unet.requires_grad_(False)
            self._unet.disable_lora()
            self.weights[name] = identity

    def remove(self, name: str) -> None:
        """Unload a guard. A pair that is running with it fails at its next step.

        Raises:
            ValueError: there is no such guard.
        """
        with self._lock:
            self.check({name: 1.0})
            self._unet.delete_adapters(name)
            del self.weights[name]

    def check(self, guards: dict[str, float]) -> None:
        """Check that guards are there and their strengths in range. Needs the lock.

        Args:
            guards: name → strength, 0 to `MAX_STRENGTH`.

        Raises:
            ValueError: one is not.
        """
        for name, strength in guards.items():
            if name not in self.weights:
                known = ", ".join(self.weights) or "none is loaded"
                raise ValueError(f"guards names {name!r}; there is: {known}")
            check_number(f"guards[{name!r}]", strength, 0, MAX_STRENGTH)

    @contextmanager
    def switched_on(self, guards: dict[str, float], weights: dict[str, str]) -> Iterator[None]:
        """Switch guards on for the block; they are off again after it. Needs the lock.

        Args:
            guards: name → strength.
            weights: what identified each one's weights when it was asked for, by name.

        Raises:
            ValueError: one is gone, or another has its name.
        """
        if not guards:
            yield
            return
        gone = [name for name in guards if self.weights.get(name) != weights[name]]
        if gone:  # PEFT would go on without it, or with another, and say nothing
            raise ValueError(f"guard {gone[0]!r} was removed meanwhile; generate the pair again")
        unet = self._unet
        unet.enable_lora()
        try:
            unet.set_adapters(list(guards), weights=list(guards.values()))
            yield
        finally:
            unet.disable_lora()

    def _check_fit(self, name: str, state: dict[str, torch.Tensor]) -> None:
        """Check that a guard's weights fit layers of the UNet. Needs the lock: others add theirs.

        Raises:
            ValueError: they do not.
        """
        known = dict(self._unet.named_modules())
        for key, value in state.items():
            module = known.get(key.rsplit(".lora_", 1)[0])
            base = getattr(getattr(module, "base_layer", module), "weight", None)
            # LoRA's A maps from the layer's inputs, its B to the layer's outputs; the other axis of
            # both is the rank.
            axis = 1 if ".lora_A." in key else 0
            if base is None or value.shape[axis] != base.shape[axis]:
                raise ValueError(
                    f"guard {name!r}: weight {key} of shape {tuple(value.shape)} fits no layer of "
                    f"this UNet; it was trained on another model than {Path(self._base).name}"
                )
            half = ("A", "B") if axis else ("B", "A")
            mate = state.get(key.replace(f".lora_{half[0]}.", f".lora_{half[1]}."))
            if mate is None or mate.shape[axis] != value.shape[1 - axis]:
                rank = "none" if mate is None else mate.shape[axis]
                raise ValueError(
                    f"guard {name!r}: weight {key} is of rank {value.shape[1 - axis]}, its "
                    f"lora_{half[1]} of rank {rank}; the file is damaged"
                )
