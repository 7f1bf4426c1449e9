"""The compute device and the number format that is fast on it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import ModelMixin


@lru_cache(maxsize=1)
def device() -> torch.device:
    """Return the device that models run on: CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=4)
def compute_dtype(on: torch.device | None = None) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it natively, else float32.

    On a CPU with AVX512-BF16 or AMX, bf16 matrix products run about 5x faster than fp32;
    on one without, bf16 is emulated and slower.

    Args:
        on: device to ask about; the default is `device()`.
    """
    on = on or device()
    if on.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def number_format() -> str:
    """Return the name of `compute_dtype`: ``bfloat16`` or ``float32``.

    Trainings from one seed go different ways in the two.
    """
    return str(compute_dtype()).removeprefix("torch.")


def autocast(on: torch.device | None = None) -> AbstractContextManager[None]:
    """Return an autocast context to bf16, or one that does nothing where fp32 is faster."""
    on = on or device()
    if compute_dtype(on) is torch.float32:
        return nullcontext()
    return torch.autocast(on.type, torch.bfloat16)


def _cpu_has_bf16() -> bool:
    # torch spells these two with a leading underscore in every version we support; its
    # documented get_capabilities() came later than the oldest of them.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def plain_attention(*models: ModelMixin) -> None:
    """Have diffusers models attend by batched matrix products, for training on a CPU.

    The backward of torch's fused attention is slow there: 85 ms against 24 for 32 × 3 heads of 256
    tokens (one core, bf16), 34 against 5 for 32 × 6 heads of 64.

    Args:
        models: UNets and ControlNets.
    """
    from diffusers.models.attention_processor import AttnProcessor

    if device().type == "cpu":
        for model in models:
            model.set_attn_processor(AttnProcessor())
