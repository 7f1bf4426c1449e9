"""What one visitor has open: pose, results, stop flags. Nothing is shared between visitors.

Gradio's `State` copies its value, so objects that must keep their identity (a stop flag, a
decoded clip) live here, found by the session's hash and freed when the page is closed.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

if TYPE_CHECKING:
    from pipelines.pose import PoseClip
    from ui.chat import Question


CACHE_SECONDS = (1800, 7200)
"""How often Gradio looks through what visitors have uploaded and made, and how old it lets it get;
for ``gr.Blocks(delete_cache=)``."""


@dataclass(frozen=True)
class Choice:
    """A pose that is chosen, or was.

    Attributes:
        name: of a clip of the library, or what to call the visitor's own.
        clip: the visitor's own, as it was read, on its own canvas; None for the library's.
        framed: whether the clip's scale and place are meant as they are, whatever the switch says.
        remark: note about it, as HTML.
    """

    name: str
    clip: PoseClip | None = None
    framed: bool = False
    remark: str = ""


@dataclass
class Session:
    """One browser tab or API client.

    Attributes:
        chosen: the pose in use; None until one was asked for, also after a dropped connection.
        former: the pose before it, to go back to.
        reading: which upload is being read or to be read; another value ends the one that finds it
            changed.
        readings: those whose turn to be read has not come, in their order.
        pressed: a flag for each press on Generate whose turn has not come, in their order. One that
            is set was taken back.
        stop_animation: set to end the session's animation after the current step.
        ended: what the page was told when the session's last animation ended, as HTML; None while
            one is under way.
        made: of the session's last pair its ``settings``, and which clip of the library was
            ``marked``; None before the first.
        stop_removal: set to end the session's attack on a guard before its next step.
        attacked: name of what came of it among the engine's guards; empty if nothing.
        stop_drawing: set to end the session's drawing of pictures before its next step.
        stop_teaching: set to end the session's attack on picture models before its next step.
        relearnt: what came of it among the picture engine's arms: name → name for people.
        left: whether the page was closed; what an attack that still ends has made is thrown away.
        stop_chat: set to end the session's replies after the current token.
        asked: the question of Chat that waits or is being answered; a reply that finds another one,
            or none, shows nothing more.
        unsent: the question that could not be answered, until it is given back.
        lock: held while `asked`, or a flag of `pressed`, is taken up, taken back or given up.
    """

    chosen: Choice | None = None
    former: Choice | None = None
    reading: object | None = None
    readings: deque[object] = field(default_factory=deque)
    pressed: deque[threading.Event] = field(default_factory=deque)
    stop_animation: threading.Event = field(default_factory=threading.Event)
    ended: str | None = None
    made: dict[str, Any] | None = None
    stop_removal: threading.Event = field(default_factory=threading.Event)
    attacked: str = ""
    left: bool = False
    stop_drawing: threading.Event = field(default_factory=threading.Event)
    stop_teaching: threading.Event = field(default_factory=threading.Event)
    relearnt: dict[str, str] = field(default_factory=dict)
    stop_chat: threading.Event = field(default_factory=threading.Event)
    asked: Question | None = None
    unsent: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


def take_back(session: Session) -> bool:
    """Take back the presses on Generate whose turn has not come; return whether there were any."""
    with session.lock:
        waiting = [flag for flag in session.pressed if not flag.is_set()]
        for flag in waiting:
            flag.set()
        return bool(waiting)


def take_up(session: Session) -> bool:
    """Take up the press on Generate whose turn has come.

    Its flag becomes the one that stops the animation.

    Returns:
        Whether it is still wanted. One that a dropped connection forgot is.
    """
    with session.lock:
        flag = session.pressed.popleft() if session.pressed else threading.Event()
        if not flag.is_set():
            session.stop_animation = flag
        return not flag.is_set()


class Sessions:
    """The sessions that are open, by Gradio's session hash."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many sessions hold something."""
        return len(self._open)

    def of(self, request: gr.Request) -> Session:
        """Return the session that a request belongs to, opened on its first use."""
        with self._lock:
            if request.session_hash not in self._open:
                self._open[request.session_hash] = Session()
            return self._open[request.session_hash]

    def close(self, request: gr.Request) -> None:
        """Stop what the session runs and forget it; for `Blocks.unload`."""
        with self._lock:
            session = self._open.pop(request.session_hash, None)
        if session is not None:
            take_back(session)
            session.stop_animation.set()
            session.stop_chat.set()  # a reply keeps what it has: the page may live on
            session.reading = None


class Scratch:
    """Folders for files on their way to Gradio, which copies them into its own cache."""

    def __init__(self, keep_seconds: float = 1800.0) -> None:
        """Make the scratch space; it goes when the process ends.

        Args:
            keep_seconds: how long a folder stays.
        """
        self.keep_seconds = keep_seconds
        self._root = tempfile.TemporaryDirectory(prefix="holdfast-")

    def new(self) -> Path:
        """Return a new empty folder, after removing those that have had their time."""
        root = Path(self._root.name)
        for old in root.iterdir():
            if time.time() - old.stat().st_mtime > self.keep_seconds:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=root))
