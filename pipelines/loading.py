"""One model is loaded at a time in this process.

To load without filling weights first, diffusers (by accelerate's ``init_empty_weights``) and PEFT
(by ``low_cpu_mem_usage``) replace `torch.nn.Module.register_parameter` for the whole process and
put back what they found. transformers does likewise with torch's default number format and the
functions that fill new weights. None of them locks anything: of two threads that load at the same
time, one puts weights of the other on the meta device or leaves them as memory happened to be, and
a replacement can stay for good. Some such loads fail; others end with a model of garbage.

So every load, every mounting of adapters, and whatever else makes a module or gives one a new
parameter while others may be loading, happens within `loading`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the page imports what is loaded with while torch still loads
    import torch

_LOCK = RLock()


@contextmanager
def loading() -> Iterator[None]:
    """Keep all other loads waiting; as a context, or as a decorator of a function that loads.

    A thread may enter it again. Nothing is computed within it but what makes a model ready. It
    comes before the locks that engines hold for a step of their work, and never after one: who
    holds such a lock would have all sessions wait until some other model is loaded, and two threads
    that took the two the other way round would wait for ever.
    """
    with _LOCK:
        yield


def check_loaded(model: torch.nn.Module) -> None:
    """Check that all of a model's weights are there, which costs no look at their values.

    Raises:
        RuntimeError: some have no data.
    """
    tensors = (*model.named_parameters(), *model.named_buffers())
    empty = [name for name, value in tensors if value.is_meta]
    if empty:
        raise RuntimeError(
            f"{len(empty)} of the weights of {type(model).__name__} were not loaded, {empty[0]} "
            "first"
        )
