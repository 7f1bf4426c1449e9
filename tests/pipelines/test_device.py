"""Which number format is computed in, on machines with bf16 and without."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
import torch

from pipelines import device
from pipelines.paths import REPO

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """To be changed; what was found out about the real one is forgotten before and after."""
    device.compute_dtype.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    device.compute_dtype.cache_clear()


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_bf16_where_it_has_it(
    machine: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    machine.setattr("pipelines.device._cpu_has_bf16", lambda: native)
    assert device.compute_dtype(CPU) is dtype
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with device.autocast(CPU):
        assert torch.is_autocast_enabled("cpu") == native
        assert layer(x).dtype is dtype
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_that_only_emulates_bf16_computes_in_fp32(
    machine: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    machine.setattr("pipelines.device._cpu_has_bf16", lambda: not native)
    machine.setattr(
        "torch.cuda.is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert device.compute_dtype(CUDA) is dtype


def test_nothing_else_chooses_the_format_of_autocast() -> None:
    """Written out elsewhere, bf16 would be emulated on a CPU that has none: 5x slower."""
    chosen = []
    for folder in ("pipelines", "worlds", "adapters", "evaluation", "ui"):
        for file in sorted((REPO / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or ast.unparse(node.func) != "torch.autocast":
                    continue
                if len(node.args) > 1 or "dtype" in {word.arg for word in node.keywords}:
                    chosen.append(file.relative_to(REPO).as_posix())
    assert chosen == ["pipelines/device.py"]
