"""Run records: every attack and every training is a folder that outlives its process.

::

    <root>/<id>/
        run.json        what was run, on what, by whom, and how it ended
        events.jsonl    one JSON object a line, append-only, flushed to disk line by line;
                        of a run that ships with the code packed, as events.jsonl.gz
        adapters/<arm>/ the weights each arm ended with (PEFT format), or,
        models/<arm>/   where the attacker trained all weights, the whole model (transformers)

Killing the process at any moment loses at most the line in flight. A page refresh, a second
visitor and a replay on stage are the same read of the same folder. Runs that ship with the code
(``assets/runs``) are listed beside the visitor's own and marked as recorded.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import secrets
import shlex
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psutil

from pipelines.fetch import MissingWeights
from pipelines.paths import ASSETS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATUSES = ("running", "done", "stopped", "failed", "interrupted")
"""How a run can stand. ``interrupted``: its process died before it could say anything else."""

SEE_LOG = "the log of the server says more"
"""How `public_error` ends where it keeps something back; the caller has to log it."""

PACKED = "events.jsonl.gz"
"""Name of the events of a run that ships: a tenth of their size, which counts in a repository."""

_FULL_DISK = "No space left on device"
"""What a full disk is called also where it is no `OSError`, as by safetensors."""

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{1,24}-[0-9a-f]{6}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_ABSOLUTE_PATH = re.compile(r"(?<![\w.])(?:/|[A-Za-z]:\\)[\w.@ -]+[/\\]")
_PACKAGES = ("torch", "transformers", "peft", "trl", "diffusers", "accelerate")


def owner_hash(owner: str) -> str:
    """Return what a run keeps of its owner: a hash, so that a run folder names nobody."""
    return hashlib.sha256(owner.encode()).hexdigest() if owner else ""


def public_error(error: Exception) -> str:
    """Return what anybody may read of an error; the caller puts the rest into the log.

    A run's folder and the page are read by all visitors, and the messages of libraries and of the
    operating system name folders of this machine. So only what is wrong with a setting or with
    data (`ValueError`) and what is missing is told (of a folder in its command the name), that the
    disk or a GPU's memory is full, and of all else its kind.
    """
    if isinstance(error, MissingWeights):
        words = [Path(w).name if os.path.isabs(w) else w for w in shlex.split(error.command)]
        return f"{error.what} is missing. Make it with: {shlex.join(words)}"
    text = str(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or _FULL_DISK in text:
        return "The server's disk is full; tell whoever runs it"
    # Its name and not its class: this module is read where torch is not loaded.
    if type(error).__name__ == "OutOfMemoryError":
        return "The GPU's memory is full; a smaller model, or fewer rollouts, need less"
    if isinstance(error, ValueError) and text and not _ABSOLUTE_PATH.search(text):
        return text
    return f"{type(error).__name__}; {SEE_LOG}"


def weights_hash(path: Path) -> str:
    """Return the SHA-256 of a weights file, or of all .safetensors files of a folder.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds no .safetensors.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path.name} holds no .safetensors file to hash")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class RunInfo:
    """One line of the list of runs.

    Attributes:
        id: the run's name, unique.
        kind: what was run, for example ``attack``.
        created: start, ISO 8601, UTC.
        profile: ``embedded`` or ``hub``.
        status: one of `STATUSES`.
        config: the settings it was started with.
        error: why it failed, or was ended by the app and not by its owner; else empty.
        owner_hash: `owner_hash` of who started it; empty if nobody in particular.
        recorded: it ships with the code and was not made here.
    """

    id: str
    kind: str
    created: str
    profile: str
    status: str
    config: dict[str, Any]
    error: str
    owner_hash: str
    recorded: bool


Parsed = TypeVar("Parsed")
"""What a file holds."""


class _Parsed(Generic[Parsed]):
    """Files as they were parsed last, for as long as they do not change.

    A page looks every second, and each visitor's does. Safe to use from several threads.
    """

    def __init__(self, parse: Callable[[bytes], Parsed], most: int) -> None:
        """Keep nothing yet.

        Args:
            parse: given a file's content; what it returns is handed out again and again.
            most: how many files are kept; the one unused for longest makes room.
        """
        self._parse = parse
        self._most = most
        self._kept: OrderedDict[Path, tuple[tuple[int, ...], Parsed]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path) -> Parsed:
        """Return what a file holds now, not to be changed by the caller.

        Raises:
            OSError: it cannot be read.
        """
        # Before it is read: what is written meanwhile makes the next look read again.
        found = path.stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            known = self._kept.get(path)
            if known is not None and known[0] == state:
                self._kept.move_to_end(path)
                return known[1]
        parsed = self._parse(path.read_bytes())
        with self._lock:
            self._kept[path] = state, parsed
            self._kept.move_to_end(path)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return parsed


class _Files:
    """What the runs of a store hold, as far as it was read."""

    def __init__(self) -> None:
        self.infos = _Parsed(json.loads, 10_000)  # more than are kept: all are read at each look
        self.events = _Parsed(_events, 16)  # with all replies: a long run's take some megabyte
        self.packed = _Parsed(lambda data: _events(gzip.decompress(data)), 16)


class Run:
    """One run folder. Made by `RunStore`."""

    def __init__(self, folder: Path, recorded: bool = False, files: _Files | None = None) -> None:
        """Open a run folder that exists.

        Args:
            folder: the run's folder; its name is the run's id.
            recorded: the run ships with the code and must not be written to.
            files: what the store has read so far; None: nothing.
        """
        self._files = files or _Files()
        self.folder = folder
        self.recorded = recorded
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def info(self) -> dict[str, Any]:
        """What ``run.json`` holds now, with ``status`` corrected if the process has died."""
        info = dict(self._files.infos.read(self.folder / "run.json"))
        if info["status"] == "running" and not _alive(info["process"]):
            info["status"] = "interrupted"
        return info

    def owned_by(self, owner: str) -> bool:
        """Return whether this owner started the run."""
        held = self.info["owner_hash"]
        return bool(held) and secrets.compare_digest(held, owner_hash(owner))

    def log(self, **event: Any) -> None:
        """Append one event as one line and put it on disk before returning.

        Numbers that JSON cannot hold (NaN, infinities) become null. Where a writer was killed
        within its line, that line ends there and this one begins anew.
        """
        line = (json.dumps(_finite(event), ensure_ascii=False) + "\n").encode()
        with self._lock, self._writable("events.jsonl").open("a+b") as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    line = b"\n" + line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())

    def events(self, since_line: int = 0) -> list[dict[str, Any]]:
        """Return the events from a line on; a half-written last line is left for later.

        Args:
            since_line: how many events the caller has seen; only newer ones are returned.
        """
        for files, name in ((self._files.events, "events.jsonl"), (self._files.packed, PACKED)):
            with contextlib.suppress(FileNotFoundError):
                return files.read(self.folder / name)[since_line:]
        return []

    def finish(self, status: str, error: str = "") -> None:
        """Record how the run ended.

        Args:
            status: ``done``, ``stopped``, ``failed`` or ``interrupted``.
            error: for ``failed``: what happened, in words for everybody (see `public_error`). For
                ``stopped``: why, if not because its owner said so.

        Raises:
            ValueError: the status is not an ending.
        """
        if status not in STATUSES[1:]:
            raise ValueError(f"status is {status!r}; choose one of: {', '.join(STATUSES[1:])}")
        path = self._writable("run.json")
        with self._lock:
            info = json.loads(path.read_text(encoding="utf-8"))
            info["status"] = status
            info["error"] = error
            info["finished"] = _now()
            _write_json(path, info)

    def save_files(self, arm: str, write: Callable[[Path], Path]) -> Path:
        """Put the files of an arm's adapter in place, each one whole or not at all.

        Args:
            arm: name of the arm.
            write: given a scratch folder, writes the files and returns the folder they are in.

        Returns:
            The arm's folder.
        """
        return self._put("adapters", arm, write)

    def save_model(self, arm: str, model: PreTrainedModel) -> Path:
        """Save a whole model as this arm's weights; a later call replaces it.

        Args:
            arm: name of the arm.
            model: dense, in the number format that it is to be saved in.

        Returns:
            The folder, which `pipelines.llm.load_arm` can load.
        """

        def write(scratch: Path) -> Path:
            model.save_pretrained(scratch)
            return scratch

        return self._put("models", arm, write)

    def _put(self, kind: str, arm: str, write: Callable[[Path], Path]) -> Path:
        target = self._writable(kind) / _checked_arm(arm)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=self.folder) as scratch:
            made = write(Path(scratch))
            target.mkdir(parents=True, exist_ok=True)
            # The config last: a model whose config is there is all there.
            for file in sorted(made.iterdir(), key=lambda file: file.name == "config.json"):
                if file.suffix in (".json", ".safetensors"):
                    os.replace(file, target / file.name)
        return target

    def adapters(self) -> dict[str, Path]:
        """Return arm → folder of the adapters that can be loaded, in the order of their names."""
        return self._held("adapters", "adapter_model.safetensors")

    def models(self) -> dict[str, Path]:
        """Return arm → folder of the whole models that can be loaded, in the order of their names.

        They are no LoRAs and do not fit into a mixed batch beside other arms.
        """
        return self._held("models", "config.json")

    def weights(self) -> dict[str, Path]:
        """Return arm → folder of what the arms ended with, adapters or whole models."""
        return self.adapters() | self.models()

    def drop_models(self) -> None:
        """Delete the whole models, which take hundreds of megabytes an arm."""
        shutil.rmtree(self._writable("models"), ignore_errors=True)

    def drop_adapters(self) -> None:
        """Delete the LoRAs, which take tens of megabytes; what the run tells stays."""
        shutil.rmtree(self._writable("adapters"), ignore_errors=True)

    def _held(self, kind: str, file: str) -> dict[str, Path]:
        found = sorted((self.folder / kind).glob(f"*/{file}"))
        return {path.parent.name: path.parent for path in found}

    def _writable(self, name: str) -> Path:
        if self.recorded:
            raise PermissionError(f"run {self.id} is recorded and cannot be changed")
        return self.folder / name


class RunStore:
    """All runs under one folder, and the recorded ones that ship with the code."""

    def __init__(self, root: Path, recorded_root: Path = ASSETS / "runs") -> None:
        """Use a folder of runs; it need not exist yet.

        Args:
            root: where new runs are written.
            recorded_root: where recorded runs are read from.
        """
        self.root = root
        self.recorded_root = recorded_root
        self._files = _Files()

    def create(
        self,
        kind: str,
        config: dict[str, Any],
        profile: str,
        parents: dict[str, str],
        owner: str = "",
    ) -> Run:
        """Make a new run folder with status ``running``.

        Args:
            kind: what is run, 1..24 of a-z and 0-9.
            config: its settings; must be JSON. ``config["seed"]`` is repeated at the top level.
            profile: name of the profile.
            parents: name → SHA-256 of the weights it starts from.
            owner: who started it; only a hash is kept.

        Raises:
            ValueError: the kind cannot be part of a run's id.
        """
        created = _now()
        stamp = re.sub(r"[-:]", "", created)[:15].replace("T", "-")
        run_id = f"{stamp}-{kind}-{secrets.token_hex(3)}"
        if not _ID.fullmatch(run_id):
            raise ValueError(f"kind is {kind!r}; it must be 1 to 24 of a-z and 0-9")
        folder = self.root / run_id
        folder.mkdir(parents=True)
        process = psutil.Process()
        info = {
            "id": run_id,
            "kind": kind,
            "created": created,
            "finished": "",
            "profile": profile,
            "status": "running",
            "error": "",
            "seed": config.get("seed"),
            "config": config,
            "parents": parents,
            "versions": _versions(),
            "number_format": _number_format(),
            "owner_hash": owner_hash(owner),
            "process": {"pid": process.pid, "started": process.create_time()},
        }
        _write_json(folder / "run.json", info)
        return Run(folder, files=self._files)

    def list(self) -> list[RunInfo]:
        """Return all runs, newest first; folders that are no run are passed over."""
        found = []
        for root, recorded in ((self.root, False), (self.recorded_root, True)):
            for path in root.glob("*/run.json"):
                if not _ID.fullmatch(path.parent.name):
                    continue
                try:
                    info = Run(path.parent, recorded, self._files).info
                    fields = {name: info[name] for name in RunInfo.__annotations__ if name in info}
                    found.append(RunInfo(**fields | {"recorded": recorded}))
                except (OSError, ValueError, KeyError, TypeError):
                    continue
        return sorted(found, key=lambda info: (info.created, info.id), reverse=True)

    def keep_weights(self, models: int, adapters: int) -> None:
        """Delete the weights of all runs but the newest that hold some; what they tell stays.

        Args:
            models: how many runs keep their whole models.
            adapters: how many keep their LoRAs.
        """
        runs = [Run(self.root / info.id) for info in self.list() if not info.recorded]
        for run in [run for run in runs if run.models()][models:]:
            run.drop_models()
        for run in [run for run in runs if run.adapters()][adapters:]:
            run.drop_adapters()

    def keep_newest(self, count: int, kinds: Sequence[str]) -> None:
        """Delete the oldest runs of some kinds that have ended; recorded ones stay.

        Args:
            count: how many of these kinds are kept.
            kinds: of which.
        """
        own = [info for info in self.list() if info.kind in kinds and not info.recorded]
        for info in own[count:]:
            if info.status != "running":
                shutil.rmtree(self.root / info.id, ignore_errors=True)

    def get(self, run_id: str) -> Run:
        """Return a run by its id.

        Raises:
            KeyError: there is no such run, or the text is no run id.
        """
        if isinstance(run_id, str) and _ID.fullmatch(run_id):
            for root, recorded in ((self.root, False), (self.recorded_root, True)):
                folder = root / run_id
                if (folder / "run.json").is_file():
                    return Run(folder, recorded, self._files)
        raise KeyError(f"there is no run {str(run_id)[:80]!r}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _number_format() -> str:
    from pipelines.device import number_format  # torch: not before something is run

    return number_format()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _alive(process: dict[str, Any]) -> bool:
    # The start time tells a live process from a later one that was given the same number.
    try:
        return abs(psutil.Process(process["pid"]).create_time() - process["started"]) < 2.0
    except (psutil.Error, KeyError, TypeError):
        return False


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _events(data: bytes) -> list[dict[str, Any]]:
    # Whatever follows the last newline is still being written, or was cut off by a kill.
    return [_parse(line, number) for number, line in enumerate(data.split(b"\n")[:-1])]


def _parse(line: bytes, number: int) -> dict[str, Any]:
    # An unreadable line keeps its place, so that the line numbers of the others stay true.
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"event": "unreadable", "line": number}


def _checked_arm(arm: str) -> str:
    if not _NAME.fullmatch(arm):
        raise ValueError(f"arm is {arm!r}; it must be up to 48 of a-z, 0-9, - and _")
    return arm


def _write_json(path: Path, data: dict[str, Any]) -> None:
    scratch = path.with_suffix(".tmp")
    with scratch.open("w", encoding="utf-8") as stream:
        json.dump(data, stream, indent=1, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(scratch, path)
