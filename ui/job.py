"""What takes long and is begun by a button: it waits for its turn, tells how it goes, and stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.fetch import MissingWeights
from ui.blocks import PRIVATE, QUIET, scroll
from ui.engines import NotReady, told
from ui.markup import note

if TYPE_CHECKING:
    from ui.session import Session, Sessions, Turns

Work = Callable[..., Iterator[tuple]]
"""(session, inputs…) → what to say as HTML, then a value for each component that is shown. What is
said last is how it ended; `NotReady`, `MissingWeights` and `ValueError` are told as they stand."""

_WAITING = note("Waiting for its turn …")
_STOPPING = note("Stopping at the next step …")
_REFUSED = note("A setting is out of its range, or what it names is gone; change it", "error")


class Job:
    """A button that begins something, the one that stops it, and what is said of it.

    Its beginning is two events. The first answers at once, also while another visitor's job is
    under way; the second is queued, and its press can be taken back until its turn comes.
    """

    def __init__(
        self, sessions: Sessions, turns: Callable[[Session], Turns], go: gr.Button,
        stop: gr.Button, said: gr.HTML,
    ) -> None:  # fmt: skip
        """Name the parts; `wire` makes them work.

        Args:
            sessions: what each visitor has open.
            turns: which of a session's turns the job takes.
            go: begins it.
            stop: ends it, or takes it back.
            said: where it is told how it goes.
        """
        self._sessions, self._turns = sessions, turns
        self._buttons, self._said = (go, stop), said

    def wire(
        self, work: Work, inputs: Sequence[gr.components.Component],
        shown: Sequence[gr.components.Component], lane: str, *, go_there: bool = False,
    ) -> None:  # fmt: skip
        """Let the buttons do it.

        Args:
            work: what is done.
            inputs: its settings.
            shown: components that it fills, besides what is said.
            lane: jobs of one lane take turns, whatever they are.
            go_there: whether the page scrolls to what is said, where that is far from the button.
        """
        self._work, self._shown = work, len(shown)
        outputs = [self._said, *self._buttons, *shown]
        go, stop = self._buttons
        # "multiple": each press has its own place in the lane, also where the one before was taken
        # back and its place is still to come.
        pressed = go.click(self.prepare, None, outputs, queue=False, **QUIET)
        if go_there:
            there = scroll(f"document.getElementById('{self._said.elem_id}')")
            pressed.then(None, None, None, js=f"() => {there}", **PRIVATE)
        begun = pressed.then(
            self.run, list(inputs), outputs, concurrency_id=lane, concurrency_limit=1,
            trigger_mode="multiple", **QUIET,
        )  # fmt: skip
        # Gradio itself refuses what is out of a component's range, and then runs no handler.
        begun.failure(self.refused, None, outputs, queue=False, **QUIET)
        stop.click(
            self.stop_now, None, [self._said, *self._buttons], queue=False, **QUIET
        ).then(self.settle, None, self._said, queue=False, **QUIET)

    def prepare(self, request: gr.Request) -> tuple:
        """Say at once that it waits for its turn, and make Stop work."""
        self._turns(self._sessions.of(request)).press()
        return _WAITING, *_busy(True), *self._unchanged()

    def run(self, request: gr.Request, *inputs: Any) -> Iterator[tuple]:
        """Do it and tell how it goes; of a press that was taken back nothing comes."""
        session = self._sessions.of(request)
        turns = self._turns(session)
        if not turns.take_up():
            yield gr.skip(), gr.skip(), gr.skip(), *self._unchanged()
            return
        words = ""
        try:
            for words, *values in self._work(session, *inputs):
                stopping = turns.stop.is_set()
                yield _STOPPING if stopping else words, *_busy(True, stopping), *values
        except (NotReady, MissingWeights, ValueError) as error:
            words = note(told(error), "error")
        except Exception as error:  # whatever it was, the page must be usable again
            words = note(f"It broke off: {told(error)}", "error")
        turns.ended = words
        yield words, *_busy(False), *self._unchanged()

    def refused(self, request: gr.Request) -> tuple:
        """Make the page usable again where a setting was refused before `run` was reached."""
        self._turns(self._sessions.of(request)).take_up()
        return _REFUSED, *_busy(False), *self._unchanged()

    def stop_now(self, request: gr.Request) -> tuple:
        """Take back what waits, or end what is under way before its next step."""
        turns = self._turns(self._sessions.of(request))
        if turns.take_back():
            turns.ended = note("Stopped before its turn came.")
            return turns.ended, *_busy(False)
        turns.stop.set()
        return _STOPPING, gr.skip(), gr.Button(interactive=False)

    def settle(self, request: gr.Request) -> Any:
        """Say again how it ended, if it has.

        Its last words and those of `stop_now` reach the page by two ways, in either order.
        """
        ended = self._turns(self._sessions.of(request)).ended
        return gr.skip() if ended is None else ended

    def _unchanged(self) -> list[Any]:
        return [gr.skip() for _ in range(self._shown)]


def buttons(label: str, elem_id: str, what: str, *, key: bool = False) -> tuple[gr.Button, ...]:
    """Lay out a job's two buttons in a row.

    Args:
        label: of the one that begins it.
        elem_id: of that one; the other's has ``-stop`` behind it.
        what: what the other one stops, as in "Stop the attack".
        key: whether Ctrl+Enter begins it; Esc stops it in any case.
    """
    with gr.Row(equal_height=True):
        go = gr.Button(
            label, variant="primary" if key else "secondary", elem_id=elem_id, scale=3,
            elem_classes=["hf-key-go"] if key else [], min_width=110,
        )  # fmt: skip
        stop = gr.Button(
            f"Stop {what}", variant="stop", interactive=False, elem_id=f"{elem_id}-stop", scale=1,
            elem_classes=["hf-key-stop"], size="sm", min_width=110,
        )  # fmt: skip
    return go, stop


def _busy(busy: bool, stopping: bool = False) -> tuple[gr.Button, gr.Button]:
    return gr.Button(interactive=not busy), gr.Button(interactive=busy and not stopping)
