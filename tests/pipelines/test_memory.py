"""Freed memory is kept by the process, and given back when asked."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from ctypes.util import find_library

import pytest

from pipelines.memory import keep_freed_memory, restart_with_tcmalloc
from pipelines.paths import REPO

PROGRAM = """
import ctypes, json, resource, sys, threading
from pipelines.memory import keep_freed_memory, return_freed_memory

def held():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()

def layers(n=20):
    for _ in range(n):
        b"x" * 40_000_000

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages would hide the faults
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):  # a server answers each visitor in another thread
    thread = threading.Thread(target=layers)
    thread.start()
    thread.join()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
layers()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = held()
return_freed_memory()
print(json.dumps({"faults": faults, "kept": kept, "after": held()}))
"""
BLOCK = 40_000_000  # bytes, as in the program

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told what to do with memory"
)


def run(how):
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@glibc
def test_freed_memory_is_used_again_in_all_threads_and_can_be_given_back():
    usual, kept = run("usual"), run("keep")
    pages = 20 * BLOCK / resource.getpagesize()
    assert usual["faults"] > 0.5 * pages  # else there is nothing to save
    assert kept["faults"] < 0.02 * pages
    # One block is kept and no more, whatever the number of threads; then it is gone.
    assert 0.9 * BLOCK < kept["kept"] - kept["after"] < 2 * BLOCK


def test_other_c_libraries_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


TCMALLOC = """
import json, resource, sys
from pipelines.memory import restart_with_tcmalloc, return_freed_memory

restart_with_tcmalloc()

def held():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()

with open("/proc/self/maps") as maps:
    mapped = "libtcmalloc_minimal" in maps.read()
blocks = [b"x" * 1_000_000 for _ in range(200)]
del blocks
kept = held()
return_freed_memory()
print(json.dumps({"mapped": mapped, "words": sys.argv[1:], "kept": kept, "after": held()}))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not find_library("tcmalloc_minimal"),
    reason="libtcmalloc-minimal4 is not installed",
)
def test_with_gperftools_malloc_a_process_starts_anew_once_and_gives_memory_back(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TCMALLOC)
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [sys.executable, str(program), "two words", "more"]
    done = subprocess.run(command, env={**env, "PYTHONPATH": str(REPO)}, cwd=REPO,
                          capture_output=True, text=True, check=True)  # fmt: skip
    told = json.loads(done.stdout)
    assert told["mapped"] and told["words"] == ["two words", "more"]
    assert told["after"] < told["kept"] - 100_000_000


@pytest.mark.parametrize(
    ("preloaded", "found", "restarts"),
    [(None, "theirs.so", True), (None, None, False), ("mine.so", "theirs.so", False)],
)
def test_a_process_starts_anew_only_where_the_malloc_is_there_and_none_was_chosen(
    monkeypatch, preloaded, found, restarts
):
    calls = []
    monkeypatch.setattr("pipelines.memory.platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr("pipelines.memory.find_library", lambda name: found)
    monkeypatch.setattr("pipelines.memory.os.execve", lambda *call: calls.append(call))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    if preloaded:
        monkeypatch.setenv("LD_PRELOAD", preloaded)
    restart_with_tcmalloc()
    assert len(calls) == restarts
    if restarts:
        program, words, env = calls[0]
        assert program == sys.executable and words == sys.orig_argv
        assert env == {**os.environ, "LD_PRELOAD": found}
