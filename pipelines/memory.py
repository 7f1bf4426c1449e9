"""What the C library does with memory that was freed.

glibc gives large blocks back to the system as soon as they are freed, and the next layer of a model
takes them again, page by page: 590,000 page faults a pair in fp32, and 1.4 of 9.6 s on two cores
(docs/speed.md). So the app keeps what it has freed, in one arena for all threads (each would keep
its own else), and gives it back when something large is over, such as an attack.

Other C libraries (macOS, musl) are left as they are.
"""

from __future__ import annotations

import ctypes
import platform
import sys

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_freed_memory() -> bool:
    """Have this process keep freed memory for its next use; call it before threads are started.

    Returns:
        Whether that was done: only glibc can.
    """
    libc = _glibc()
    if libc is None:
        return False
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))
    return all([libc.mallopt(option, value) == 1 for option, value in wanted])


def return_freed_memory() -> None:
    """Give freed memory back to the system, and a GPU's to its driver.

    Now, whatever `keep_freed_memory` said.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))
    torch = sys.modules.get("torch")  # where nobody has imported it, no GPU holds anything
    if torch is not None:
        torch.cuda.empty_cache()


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
