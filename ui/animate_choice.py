"""Which pose a visitor uses, in the model's frame, and what the page shows of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from pipelines.pose import PoseClip, PoseError
from pipelines.pose_json import load_openpose_json
from ui import joints, poses, stage
from ui.animate_answers import kept_files, no_files, only
from ui.engines import Engines, told
from ui.markup import note
from ui.session import Choice, Session, Sessions

CHOSEN = object()
"""What `Session.reading` is once a pose was chosen."""

_CLOSE = (
    "A close-up. Begin the prompt with “face close-up of”, and end it with an expression, as in "
    "“…, smiling, studio”: the words of a whole figure get into the hair."
)
_LONGEST_NAME = 36  # characters of a pose's name on a button
_LOST = "Your pose was lost with the connection; bring it again."


class PoseChoice:
    """The choice of a pose: what it is, and the handlers that change it. It has no components.

    Every way to a pose (library, upload, webcam, editor, settings) ends in `use`.

    Attributes:
        first: name of the clip that is chosen at first.
    """

    def __init__(self, engines: Engines, sessions: Sessions) -> None:
        """Use these parts.

        Args:
            engines: the models; their profile says how large and long a clip is.
            sessions: what each visitor has open.
        """
        self.engines = engines
        self.sessions = sessions
        self.spec = engines.profile.animation
        names = list(poses.library())
        self.first = "wave" if "wave" in names else (names[0] if names else "")

    def choose(self, event: gr.EventData, fit: bool, request: gr.Request) -> tuple:
        """Take a clip of the library and show its skeleton."""
        name = event.pick if event.pick in poses.library() else self.first
        return self.use(self.sessions.of(request), self.of_library(name), fit)

    def go_back(self, fit: bool, request: gr.Request) -> tuple:
        """Change places with the pose before; pressed twice, all is as it was."""
        session = self.sessions.of(request)
        if session.former is None:  # the button is there only while there is one
            return only(note(_LOST, "error"), gr.Button(visible=False))
        return self.use(session, session.former, fit)

    def refit(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """Show the chosen pose fitted to the frame or as it was."""
        try:
            session = self.session(request, marked)
        except PoseError as error:
            return gr.skip(), note(told(error), "error"), *kept_files()
        if session.chosen.clip is None or session.chosen.framed:
            # Nothing to move, and a result would be gone.
            return gr.skip(), gr.skip(), *kept_files()
        session.shown = None
        return self.idle(self.pose(session, fit)), "", *no_files()

    def open_editor(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """Open the joint editor on the chosen pose, in the frame as the stage shows it."""
        try:
            clip, title = self.pose(self.session(request, marked), fit)
        except PoseError as error:
            return gr.skip(), note(told(error), "error")
        return joints.state(clip, title, self.spec.frames, self.spec.fps), gr.skip()

    def edit_file(self, event: gr.EventData, fit: bool) -> dict[str, Any]:
        """Open the joint editor on an OpenPose JSON file that it was given; a wrong one is told."""
        try:
            clip = poses.placed(load_openpose_json(str(event.clip)), self.spec.size, fit)
        except PoseError as error:
            return joints.refusal(told(error))
        name = str(event.title)[:_LONGEST_NAME]
        opened = joints.state(clip, name, self.spec.frames, self.spec.fps)
        return opened | {"notes": " ".join(self._told(clip))}

    def take_edited(self, event: gr.EventData, fit: bool, request: gr.Request) -> tuple:
        """Use the pose that the joint editor sent, at the place in the frame that it has there."""
        try:
            clip = joints.read(event.clip)
        except PoseError as error:
            return only(note(told(error), "error"))
        choice = replace(self.own("the edited pose", clip), framed=True)
        return self.use(self.sessions.of(request), choice, fit)

    def use(self, session: Session, choice: Choice, fit: bool) -> tuple:
        """Make a pose the session's own choice, and keep the one before it to go back to.

        Args:
            session: the visitor's.
            choice: a clip of the library or one that the visitor brought.
            fit: whether own poses are fitted to the frame.

        Returns:
            Values of the library, the stage, the note on the pose, the button back, the message
            under the stage, and the downloads.
        """
        before = session.chosen or Choice(self.first)
        # Between two clips of the library a click does it; an own pose would be gone.
        if before.clip is not None or choice.clip is not None:
            session.former = before
        session.chosen, session.shown = choice, None
        session.reading = CHOSEN  # whatever is still being read comes too late
        return self._shown(session, fit)

    def of_library(self, name: str) -> Choice:
        """Describe a clip of the library."""
        close = name.startswith("face_") and self.engines.profile.drawing == "embedded"
        return Choice(name, remark=note(_CLOSE if close else ""))

    def own(self, name: str, clip: PoseClip) -> Choice:
        """Describe a pose that a visitor brought."""
        frames, *notes = self._told(clip)
        remark = "\n".join([f"Using {name}: {frames}", *notes])
        return Choice(name, clip, remark=note(remark, "good"))

    def session(self, request: gr.Request, marked: str) -> Session:
        """Return the visitor's session, with a pose chosen.

        Gradio closes a session when its connection drops, and the page may live on. What its
        library marks is chosen again then.

        Args:
            request: the visitor's.
            marked: name of the clip that the page marks; an empty one stands for an own pose.

        Raises:
            PoseError: the own pose is gone.
        """
        session = self.sessions.of(request)
        if session.chosen is None:
            if marked not in poses.library():
                raise PoseError(_LOST)
            session.chosen = Choice(marked)
        return session

    def at_first(self) -> dict[str, Any]:
        """Return the stage before anything was chosen."""
        return self.idle(self._library_pose(self.first))

    def pose(self, session: Session, fit: bool) -> tuple[PoseClip, str]:
        """Return the chosen pose in the model's frame, and its title."""
        chosen = session.chosen
        if chosen.clip is None:
            return self._library_pose(chosen.name)
        fit = fit and not chosen.framed
        return poses.placed(chosen.clip, self.spec.size, fit), "your pose"

    def idle(self, pose: tuple[PoseClip, str], guarded: bool = True) -> dict[str, Any]:
        """Return the stage before a result.

        Args:
            pose: as `pose` returns it.
            guarded: whether a guard is on, or may yet be.
        """
        clip, title = pose
        return stage.idle(poses.for_player(clip, self.spec.frames), title, self.spec.fps, guarded)

    def _shown(self, session: Session, fit: bool) -> tuple:
        """Return what the page shows of a pose just chosen; of a result before it, nothing."""
        chosen, former = session.chosen, session.former
        back = gr.Button(visible=False)
        if former is not None:
            name = former.name if former.clip is not None else poses.title(former.name)
            short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
            back = gr.Button(f"Back to {short}", visible=True)
        idle = self.idle(self.pose(session, fit))
        return library_mark(chosen), idle, chosen.remark, back, "", *no_files()

    def _told(self, clip: PoseClip) -> list[str]:
        """Return what there is to say on a clip that was read: its length, then its notes."""
        frames = "1 frame" if len(clip) == 1 else f"{len(clip)} frames"
        if len(clip) > self.spec.frames:
            frames += f", of which {self.spec.frames} are taken, evenly"
        return [f"{frames}.", *(f"{text[:1].upper()}{text[1:]}." for text in clip.notes)]

    def _library_pose(self, name: str) -> tuple[PoseClip, str]:
        return poses.library()[name], poses.title(name)


def library_mark(chosen: Choice) -> str:
    """Return which clip the library marks: none where the pose is the visitor's own."""
    return chosen.name if chosen.clip is None else ""
