"""What becomes of memory that was freed.

glibc gives large blocks back to the system as soon as they are freed, and the next layer of a model
takes them again, page by page: 590,000 page faults a pair in fp32, and 1.4 of 9.6 s on two cores
(docs/speed.md). So the app keeps what it has freed, in one arena for all threads (each would keep
its own else), and gives it back when something large is over, such as an attack.

Other C libraries (macOS, musl) are left as they are.

Before version 2.38, glibc also hardly ever uses an aligned block again, which all of torch's are: a
third of what an attack takes is holes between such blocks, and looking for one costs time.
gperftools' malloc has neither trouble, so where it is installed the app runs with it
(docs/speed.md).
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from ctypes.util import find_library

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1


def restart_with_tcmalloc() -> None:
    """Start this process anew with gperftools' malloc, on Linux and where that is installed.

    It must be there before the first allocation, so the process is replaced; call this first of
    all. Where the variable LD_PRELOAD is set, if to nothing, whoever set it has chosen, and nothing
    is done.
    """
    if platform.libc_ver()[0] != "glibc" or "LD_PRELOAD" in os.environ:
        return
    if library := find_library("tcmalloc_minimal"):
        with suppress(OSError):  # it is not needed
            os.execve(sys.executable, sys.orig_argv, {**os.environ, "LD_PRELOAD": library})


def keep_freed_memory() -> bool:
    """Have this process keep freed memory for its next use; call it before threads are started.

    Returns:
        Whether that was done: only glibc's malloc can. (gperftools' keeps it by itself.)
    """
    libc = _glibc()
    if libc is None or _has_tcmalloc(libc):
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
        if _has_tcmalloc(libc):
            libc.MallocExtension_ReleaseFreeMemory()
    torch = sys.modules.get("torch")  # where nobody has imported it, no GPU holds anything
    if torch is not None:
        torch.cuda.empty_cache()


def _has_tcmalloc(libc: ctypes.CDLL) -> bool:
    return hasattr(libc, "MallocExtension_ReleaseFreeMemory")


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
