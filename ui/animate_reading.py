"""Poses that visitors bring: files, films and pictures of the webcam are read in turn.

What is brought is two events: the first announces it at once, the second is queued and reads it.
Between them it has a place in `Session.readings`. `Session.reading` says which one is wanted: who
cancels, chooses a pose, or brings something else changes it, and the reading that finds it changed
ends without touching the pose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from pipelines.film import is_film
from pipelines.pose import PoseClip, PoseError
from ui import poses
from ui.animate_answers import only
from ui.animate_choice import CHOSEN, PoseChoice
from ui.engines import told
from ui.markup import meter, note
from ui.session import Choice, Session, Sessions

_CANCELLED = "Cancelled. The pose is as it was."


class PoseReading:
    """The handlers of what is brought, of its waiting and of Cancel. It has no components."""

    def __init__(self, sessions: Sessions, choice: PoseChoice) -> None:
        """Use these parts.

        Args:
            sessions: what each visitor has open.
            choice: what becomes of a pose that was read.
        """
        self.sessions = sessions
        self.choice = choice

    def announce(self, source: Any, request: gr.Request) -> tuple[Any, Any]:
        """Say that what was brought waits to be read, and offer to cancel it.

        Returns:
            Values of the note on the pose and of Cancel.
        """
        session, mine = self.sessions.of(request), object()
        session.readings.append(mine)  # for each a place, also where nothing is to be read
        if source is None:  # cleared for the next one
            return gr.skip(), gr.skip()
        session.reading = mine
        return note("Waiting for its turn …"), gr.Button(visible=True, interactive=True)

    def stop_reading(self, request: gr.Request) -> tuple[Any, gr.Button]:
        """End the reading of a video after the frame it is at, or take back what waits.

        Returns:
            Values of the note on the pose and of Cancel.
        """
        session = self.sessions.of(request)
        waits, session.reading = session.reading in session.readings, None
        if waits:
            return note(_CANCELLED), gr.Button(visible=False)
        return gr.skip(), gr.Button(interactive=False)

    def take_files(self, files: list[str], fit: bool, request: gr.Request) -> Iterator[tuple]:
        """Read what was uploaded: one file, or OpenPose JSON or pictures, each a frame."""
        paths = [Path(file) for file in files]
        kinds = {"film" if is_film(path) else path.suffix.lower() == ".json" for path in paths}
        # By name: Gradio keeps every file in a folder that is called after its content.
        taken = sorted(paths, key=_numbered)
        if len(kinds) > 1 or "film" in kinds:  # no frames of one clip: the last one counts
            taken = paths[-1:]
        name = taken[0].name + (f" and {len(taken) - 1} more" if len(taken) > 1 else "")
        yield from self._take(taken, name, fit, request, len(paths) - len(taken))

    def take_film(self, file: str | None, fit: bool, request: gr.Request) -> Iterator[tuple]:
        """Read what the webcam filmed; nothing is read when it is cleared for the next film."""
        if file is None:
            yield self._cleared(request)
        else:
            yield from self._take([Path(file)], "your film", fit, request)

    def take_webcam(
        self, picture: NDArray[np.uint8] | None, fit: bool, request: gr.Request
    ) -> tuple:
        """Find the pose in a picture that the webcam took; `picture` is RGB uint8 [H, W, 3]."""
        if picture is None:
            return self._cleared(request)
        session = self.sessions.of(request)
        mine, hidden = self._its_turn(session), gr.Button(visible=False)
        clip, remark = None, ""
        try:
            if session.reading is mine:
                clip = poses.read_picture(picture)
        except (PoseError, FileNotFoundError) as error:
            remark = note(told(error), "error")
        except Exception as error:  # the page must be told, and of no path
            remark = note(f"The picture could not be read: {told(error)}", "error")
        if session.reading is None:
            return *only(note(_CANCELLED)), hidden
        if session.reading is not mine:
            return _too_late(session)
        if clip is None:
            return *only(remark), hidden
        return *self.choice.use(session, self.choice.own("webcam picture", clip), fit), hidden

    def _take(
        self, paths: list[Path], name: str, fit: bool, request: gr.Request, left_out: int = 0
    ) -> Iterator[tuple]:
        """Read a pose; a wrong one leaves the chosen pose as it was.

        Args:
            paths: a file, or OpenPose JSON or a picture of each frame.
            name: what to call it.
            fit: whether own poses are fitted to the frame.
            request: the visitor's.
            left_out: how many more files were brought along, which is said.
        """
        session = self.sessions.of(request)
        mine = self._its_turn(session)
        clip, remark = None, ""
        wanted = session.reading is mine  # not cancelled or overtaken while it waited
        try:
            moving = is_film(paths[0]) or len(paths) > 1 and paths[0].suffix.lower() != ".json"
            if wanted and not moving:
                yield *only(note("Finding the pose …")), gr.skip()
                clip = poses.read_pose(*paths)
            elif wanted:
                reading = (
                    poses.read_shots(paths, self.choice.spec.frames)
                    if len(paths) > 1
                    else poses.read_film(paths[0], self.choice.spec.frames, self.choice.spec.fps)
                )
                for step in reading:
                    if session.reading is not mine:
                        break
                    if isinstance(step, PoseClip):
                        clip = step
                        break
                    remark = note(step.message) + meter(step.fraction, "Reading the frames")
                    yield *only(remark), gr.Button(visible=True, interactive=True)
        except (PoseError, FileNotFoundError) as error:
            remark = note(told(error), "error")
        except Exception as error:  # a broken file must not leave the bar standing
            remark = note(f"{name} could not be read: {told(error)}", "error")
        hidden = gr.Button(visible=False)
        if clip is not None and left_out:
            clip = clip.with_notes(f"the last file is taken, and {left_out} more are not")
        if clip is not None and session.reading is mine:
            yield *self.choice.use(session, self.choice.own(name, clip), fit), hidden
        elif session.reading is mine:
            yield *only(remark), hidden
        elif session.reading is None:
            yield *only(note(_CANCELLED)), hidden
        else:
            yield _too_late(session)

    def _its_turn(self, session: Session) -> object:
        """Take up what has waited longest to be read; a dropped connection may have lost it."""
        if session.readings:
            return session.readings.popleft()
        session.reading = object()
        return session.reading

    def _cleared(self, request: gr.Request) -> tuple:
        """Give up the place of a camera that holds nothing: it was cleared for the next take.

        Perhaps only after what it held was announced; the note on it goes then.
        """
        session = self.sessions.of(request)
        if self._its_turn(session) is session.reading:
            return *only(""), gr.Button(visible=False)
        return *only(gr.skip()), gr.skip()


def _too_late(session: Session) -> tuple:
    """Return what a reading shows that something else took over from.

    Of a pose that was chosen its note, in case the reading's came in between; nothing where another
    reading has notes of its own.
    """
    if session.reading is CHOSEN:
        return *only((session.chosen or Choice("")).remark), gr.Button(visible=False)
    return *only(gr.skip()), gr.skip()


def _numbered(path: Path) -> list[str | int]:
    """Return a file's name for sorting, its numbers as such: frame 2 comes before frame 10."""
    # Split by groups of digits, every second part is one.
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
