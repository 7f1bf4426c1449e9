"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with tests of the served app last, whatever was named first.

    It is served once for all of them and points the process to folders of its own; tests of the
    shipped weights that came after would look for them there.
    """
    last = {
        item.path for item in items
        if {"served", "shown"} & set(getattr(item, "fixturenames", ()))
    }  # fmt: skip
    items.sort(key=lambda item: item.path in last)


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Forget accelerate's process-wide state, which one program sets once and tests set often."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch: tiny models are faster so."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
