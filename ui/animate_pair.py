"""Making a pair: one clip without and one with guards, reported on the way."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from pipelines.pose import PoseError
from ui import results, stage
from ui.animate_answers import buttons, downloads, kept_files, no_files, refused, unchanged
from ui.animate_choice import PoseChoice, library_mark
from ui.animate_guards import GuardPanel, guard_note
from ui.engines import Engines, NotReady, told
from ui.markup import duration, note
from ui.results import MAX_PROMPT
from ui.session import Scratch, Session, Sessions, Shown


class PairMaker:
    """The handlers of Generate and Stop. It has no components.

    A press is two events: `prepare` answers at once, also while another visitor's pair is under
    way; `generate` is queued, and its press can be taken back until its turn comes
    (`ui.session.Turns`).

    The pair before stays on the page until there is a picture of the new one, and comes back where
    that one is not finished.
    """

    def __init__(
        self, engines: Engines, sessions: Sessions, scratch: Scratch, choice: PoseChoice,
        guards: GuardPanel,
    ) -> None:  # fmt: skip
        """Use these parts.

        Args:
            engines: the models.
            sessions: what each visitor has open.
            scratch: where clips go on their way to the browser.
            choice: tells the pose.
            guards: tells which are on.
        """
        self.engines = engines
        self.sessions = sessions
        self.scratch = scratch
        self.choice = choice
        self.guards = guards

    def prepare(
        self, request: gr.Request, fit: bool, marked: str, prompt: str, *switches: bool
    ) -> tuple:
        """Say at once that the pair is on its way, and make Stop work."""
        try:
            session = self.choice.session(request, marked)
        except PoseError as error:
            return refused(error)
        session.animation.press()
        try:
            _check(prompt)
        except ValueError as error:
            session.animation.take_back()  # its place in the queue is still to come
            return refused(error)
        if shown := _shown(session):
            base, files = shown.stage, kept_files()
        else:
            base = self.choice.idle(self.choice.pose(session, fit), guarded=any(switches))
            files = no_files()
        state = stage.running(base, "waiting for the model", 0.0, "", None, None)
        return state, "", *buttons(busy=True), *files

    def generate(
        self, request: gr.Request, fit: bool, marked: str, prompt: str, seed: float | None,
        steps: float, guidance: float, guided_until: float, redraw: bool, *guards: Any,
    ) -> Iterator[tuple]:  # fmt: skip
        """Make a pair and report on the way.

        `guards` are the values of `GuardPanel.inputs`.

        Of a press that was taken back while it waited nothing comes.
        """
        if not self.sessions.of(request).animation.take_up():
            yield unchanged()
            return
        try:
            session = self.choice.session(request, marked)
        except PoseError as error:
            yield refused(error)
            return
        chosen, attacked = self.guards.read(guards)
        pose, title = self.choice.pose(session, fit)
        mark = library_mark(session.chosen)
        base = self.choice.idle((pose, title), guarded=bool(chosen))
        settings = {
            "steps": int(steps),
            "guidance_scale": float(guidance),
            "guidance_interval": (float(guided_until), 1.0),
            "redraw": bool(redraw),
        }
        message = ""
        try:
            chosen = self.guards.checked(session, chosen, attacked)
            if seed is None:
                raise ValueError("Enter a seed")
            _check(prompt)
            work = self.engines.guarded_animation(chosen).pair(
                pose, prompt, chosen, int(seed),
                should_stop=session.animation.stop.is_set, **settings,
            )  # fmt: skip
            made = yield from self._follow(session, work, base, chosen, pose.notes)
            if made is not None:
                session.made = {"settings": made, "marked": mark}
                return
        except (NotReady, ValueError) as error:
            message = note(told(error), "error")
        except Exception as error:  # whatever it was, the page must be usable again
            message = note(f"The pair could not be made: {told(error)}", "error")
        state, files = self._before(session, fit)
        if not message:
            kept = "The pair before is shown again." if session.shown else "Nothing was kept."
            message = note(f"Stopped. {kept}")
        session.animation.ended = message
        yield state, message, *buttons(busy=False), *files

    def give_up(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """Make the page usable again after an error that Gradio has shown."""
        # Its turn came without reaching `generate`.
        if not self.sessions.of(request).animation.take_up():
            return unchanged()
        try:
            state, files = self._before(self.choice.session(request, marked), fit)
        except PoseError as error:
            return refused(error)
        message = note("Nothing was made; correct the settings.", "error")
        return state, message, *buttons(busy=False), *files

    def stop_now(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """End this session's animation after the step it is in, or take back what waits.

        Returns:
            Values of the stage, the message, Generate, Stop, and the downloads.
        """
        session = self.sessions.of(request)
        if not session.animation.take_back():
            session.animation.stop.set()
            words = note("Stopping at the next step.")
            return gr.skip(), words, gr.skip(), gr.Button(interactive=False), *kept_files()
        session.animation.ended = None  # what follows are the last words
        try:
            state, files = self._before(self.choice.session(request, marked), fit)
        except PoseError as error:
            return refused(error)
        return state, note("Stopped before its turn came."), *buttons(busy=False), *files

    def settle(self, request: gr.Request) -> Any:
        """Say again how the animation ended, if it has.

        Its last words and those of `stop_now` reach the page by two ways, in either order.
        """
        session = self.sessions.of(request)
        return gr.skip() if session.animation.ended is None else session.animation.ended

    def _before(self, session: Session, fit: bool) -> tuple[dict[str, Any], list[Any]]:
        """Return the stage and the downloads where no pair was made: as they were before.

        Another pose may have been chosen meanwhile; then they are empty.
        """
        if shown := _shown(session):
            return stage.ended(shown.stage), downloads(shown.files)
        return stage.ended(self.choice.idle(self.choice.pose(session, fit))), no_files()

    def _follow(
        self,
        session: Session,
        work: Iterator[Any],
        base: dict[str, Any],
        chosen: dict[str, float],
        said: tuple[str, ...],
    ) -> Generator[tuple, None, dict[str, Any] | None]:
        """Turn an engine's progress and result into what the page shows.

        Returns:
            Settings of the result, None where there is none.
        """
        previews: tuple = (None, None)
        for item in work:
            if hasattr(item, "fraction"):
                new = (item.preview, item.preview_guarded)
                previews = tuple(
                    before if now is None else now
                    for before, now in zip(previews, new, strict=True)
                )
                eta = "" if item.seconds_left is None else f"{duration(item.seconds_left)} left"
                begun = any(preview is not None for preview in previews)
                shown = None if begun else _shown(session)
                state = stage.running(
                    shown.stage if shown else base, item.message, item.fraction, eta, *previews
                )
                files = kept_files() if shown else no_files()
                yield state, "", *buttons(busy=True), *files
                continue
            folder = self.scratch.new()
            item = results.measured(item, self.engines.reader)
            unguarded, guarded, settings = results.save_pair(item, folder, self.choice.spec.fps)
            files = (unguarded, guarded, *results.save_extras(item, folder, self.choice.spec.fps),
                     settings)  # fmt: skip
            # What there was to say on the pose stands beside the pose already.
            remarks = "\n".join(text for text in item.settings["notes"] if text not in said)
            state = stage.done(base, unguarded, guarded, guard_note(chosen))
            state["note_open"] = results.short(item.settings)
            state["figures_open"], state["figures_held"] = results.figures(item.settings)
            session.animation.ended = note(remarks, "warn")
            session.shown = Shown(state, files)
            yield state, session.animation.ended, *buttons(busy=False), *downloads(files)
            return item.settings
        return None


def _shown(session: Session) -> Shown | None:
    """Return the pair that the page shows of the chosen pose, if it can be shown again."""
    if session.shown is not None and not session.shown.is_there():
        session.shown = None
    return session.shown


def _check(prompt: str) -> None:
    """Check that a prompt says something, and no more than is read.

    Raises:
        ValueError: it does not.
    """
    if not prompt.strip():
        raise ValueError("Describe the person first, for example “a woman in red”.")
    if len(prompt) > MAX_PROMPT:
        raise ValueError(
            f"The description is {len(prompt)} characters long; it must be at most {MAX_PROMPT}."
        )
