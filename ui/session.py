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
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Shown:
    """A pair that the page shows.

    Attributes:
        stage: its state, as of `ui.stage.done`.
        files: of the downloads, in their order; None where there is none.
    """

    stage: dict[str, Any]
    files: tuple[Path | None, ...]

    def is_there(self) -> bool:
        """Whether its files are, which go after some time."""
        return all(file is None or file.is_file() for file in self.files)


class Turns:
    """What a visitor asks of a queue: a press waits for its turn, and can be taken back till then.

    Attributes:
        stop: set to end what is under way before its next step.
        ended: what the page was told when the last one ended, as HTML, at first nothing; None while
            one is under way.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.ended: str | None = ""
        # A flag for each press whose turn has not come, in their order; one that is set was taken
        # back, and its place in the queue is still to come.
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    def press(self) -> None:
        """Wait for a turn; of two quick presses the later one counts."""
        self.take_back()
        with self._lock:
            self._waiting.append(threading.Event())

    def take_back(self) -> bool:
        """Take back what waits; return whether anything did."""
        with self._lock:
            waiting = [flag for flag in self._waiting if not flag.is_set()]
            for flag in waiting:
                flag.set()
            return bool(waiting)

    def take_up(self) -> bool:
        """Take up the press whose turn has come; its flag becomes `stop`.

        Returns:
            Whether it is still wanted. One that a dropped connection forgot is.
        """
        with self._lock:
            flag = self._waiting.popleft() if self._waiting else threading.Event()
            if not flag.is_set():
                self.stop, self.ended = flag, None
            return not flag.is_set()

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self.ended is None

    def close(self) -> None:
        """Take back what waits and stop what is under way."""
        self.take_back()
        self.stop.set()


@dataclass
class Left:
    """What a visitor's last attack left for drawing.

    Attributes:
        names: in the engine → what was attacked. Another attack's are put in their place.
    """

    names: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Session:
    """One browser tab or API client.

    Attributes:
        chosen: the pose in use; None until one was asked for, also after a dropped connection.
        former: the pose before it, to go back to.
        reading: which upload is being read or to be read; another value ends the one that finds it
            changed.
        readings: those whose turn to be read has not come, in their order.
        animation: the pairs that Animate is to make.
        shown: the pair of the chosen pose that the page of Animate shows, or showed before the one
            that is being made; None if there is none.
        removal: the attacks on a guard.
        drawing: what Image is to draw.
        teaching: the attacks on picture models.
        made: of the session's last pair its ``settings``, and which clip of the library was
            ``marked``; None before the first.
        attacked: what came of the attack on a guard: name among the engine's guards → guard.
        relearnt: what came of the one on picture models: name among the picture engine's arms →
            arm.
        left: whether the page was closed; what an attack that still ends has made is thrown away.
        stop_chat: set to end the session's replies after the current token.
        asked: the question of Chat that waits or is being answered; a reply that finds another one,
            or none, shows nothing more.
        unsent: the question that could not be answered, until it is given back.
        lock: held while `asked` is taken up, taken back or given up.
    """

    chosen: Choice | None = None
    former: Choice | None = None
    reading: object | None = None
    readings: deque[object] = field(default_factory=deque)
    animation: Turns = field(default_factory=Turns)
    shown: Shown | None = None
    removal: Turns = field(default_factory=Turns)
    drawing: Turns = field(default_factory=Turns)
    teaching: Turns = field(default_factory=Turns)
    made: dict[str, Any] | None = None
    attacked: Left = field(default_factory=Left)
    relearnt: Left = field(default_factory=Left)
    left: bool = False
    stop_chat: threading.Event = field(default_factory=threading.Event)
    asked: Question | None = None
    unsent: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


MOST_SESSIONS = 2000
"""Sessions that are kept; a script may name as many as it likes, and of a page whose connection
dropped once Gradio does not tell when it is closed."""


class Sessions:
    """The sessions that are open, by Gradio's session hash; the longest unused make room."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many sessions hold something."""
        return len(self._open)

    def of(self, request: gr.Request) -> Session:
        """Return the session that a request belongs to, opened on its first use."""
        with self._lock:
            session = self._open.pop(request.session_hash, None) or Session()
            self._open[request.session_hash] = session  # now the latest used
            if len(self._open) > MOST_SESSIONS:
                _end(self._open.pop(next(iter(self._open))))
            return session

    def close(self, request: gr.Request) -> None:
        """Stop what the session runs and forget it; for `Blocks.unload`."""
        with self._lock:
            session = self._open.pop(request.session_hash, None)
        if session is not None:
            _end(session)


def _end(session: Session) -> None:
    """Stop what a session runs."""
    for turns in (session.animation, session.removal, session.drawing, session.teaching):
        turns.close()
    session.stop_chat.set()  # a reply keeps what it has: the page may live on
    session.reading = None


class Scratch:
    """Folders for files on their way to Gradio, which copies them into its own cache."""

    def __init__(self, keep_seconds: float = CACHE_SECONDS[1]) -> None:
        """Make the scratch space; it goes when the process ends.

        Args:
            keep_seconds: how long a folder stays; by default as long as Gradio's copies, for a pair
                is shown again where the next one is stopped.
        """
        self.keep_seconds = keep_seconds
        self._root = tempfile.TemporaryDirectory(prefix="holdfast-")
        self._lock = threading.Lock()  # of two that clear at once one would find a folder gone

    def new(self) -> Path:
        """Return a new empty folder, after removing those that have had their time."""
        root = Path(self._root.name)
        with self._lock:
            for old in root.iterdir():
                if time.time() - old.stat().st_mtime > self.keep_seconds:
                    shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=root))
