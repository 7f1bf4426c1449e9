"""What the attacks on picture models share: they are runs, and what they leave can be drawn with.

An attack is a run (`evaluation.runs`): what was drawn at each probe lies in its events, so that a
reload, a second visitor and a recorded attack are the same read.
"""

from __future__ import annotations

import html
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from evaluation.runs import public_error
from ui.blocks import PRIVATE, QUIET, picker
from ui.markup import decimal, empty, note, scroller

if TYPE_CHECKING:
    from gradio.events import Dependency

    from evaluation.runs import Run, RunInfo, RunStore
    from ui.session import Left, Session, Sessions, Turns

LAYERS = {"attention (usual)": "attention", "all layers": "all"}
"""What an attacker's LoRA may be on, by the words that offer it (`adapters.pictures.ATTACKED`)."""
SHOWN_RUNS = 12
"""Attacks that are listed, besides the recorded ones."""
KEPT_RUNS = 200
"""Attacks of a kind whose runs are kept; a run's pictures take some 200 kB."""

_ENDED = {"stopped": "stopped", "interrupted": "broken off", "failed": "failed"}


@dataclass(frozen=True)
class RunKind:
    """How runs of one kind are shown.

    Attributes:
        kind: of the runs.
        what: they are, in a visitor's words, as in "Attacks on picture models".
        title: settings → what was attacked, plain text.
        show: run → HTML; empty while it has measured nothing.
        reopened: what is said of a run of this server's that a page shows again.
    """

    kind: str
    what: str
    title: Callable[[Mapping[str, Any]], str]
    show: Callable[[Run], str]
    reopened: str


class RunList:
    """The list of the runs of a kind, and what the browser keeps of the one that is shown."""

    def __init__(
        self, kind: RunKind, store: RunStore, sessions: Sessions, turns: Callable[[Session], Turns],
        elem_id: str,
    ) -> None:  # fmt: skip
        """Lay it out; `wire` makes it work.

        Args:
            kind: which runs.
            store: where they are.
            sessions: what each visitor has open.
            turns: which of a session's turns such a run takes; while it does, it is shown.
            elem_id: of the list, and where the browser keeps which one is shown.
        """
        self._kind, self._store, self._sessions, self._turns = kind, store, sessions, turns
        self._key = elem_id
        self.list = picker(self.html(""), elem_id=elem_id)
        self.last = gr.State("")  # the run that is shown
        self.kept = gr.JSON(visible=False)  # what the browser keeps of it

    def wire(self, said: gr.HTML, shown: gr.HTML) -> None:
        """Let runs be opened.

        Args:
            said: where something is said of one.
            shown: where it is shown.
        """
        self._shown = [said, shown, self.list]
        # The state's own event comes also while an attack is under way, but not of what skips the
        # queue.
        keep = f"(run) => {{ sessionStorage.setItem('{self._key}', JSON.stringify(run ?? [])); }}"
        for event in (
            self.list.select(self.open, None, [*self._shown, self.kept], queue=False, **QUIET),
            self.last.change(lambda run: [run], self.last, self.kept, queue=False, **QUIET),
        ):
            event.then(None, self.kept, None, js=keep, **PRIVATE)

    def connect(self, arrived: Dependency) -> None:
        """Show the browser's last run when the page is opened again.

        Args:
            arrived: the event after which the tab that the address names is open. What is sent
                while Gradio is about to open it is lost.
        """
        kept = f"() => [JSON.parse(sessionStorage.getItem('{self._key}') ?? '[]')]"
        arrived.then(self.come_back, self.kept, self._shown, js=kept, queue=False, **QUIET)

    def open(self, event: gr.EventData, request: gr.Request) -> tuple:
        """Show a run of the list, unless one is under way, which is being shown."""
        run = self.find(event.pick)
        if run is None:
            return note("That attack is gone.", "warn"), gr.skip(), self.html(""), gr.skip()
        if self._turns(self._sessions.of(request)).busy:
            return (gr.skip(),) * 4
        return "", self._kind.show(run), self.html(run.id), [run.id]

    def come_back(self, kept: Any, request: gr.Request) -> tuple:
        """Show the browser's last run, and say that what it left is not held any more.

        Args:
            kept: its run's id in a list, or whatever somebody has written into their browser.
            request: the visitor's.
        """
        run = self.find(kept[0] if isinstance(kept, list) and kept else "")
        if run is None or self._turns(self._sessions.of(request)).busy:
            return gr.skip(), gr.skip(), self.html("")
        words = "" if run.recorded else self._kind.reopened
        return note(words), self._kind.show(run), self.html(run.id)

    def find(self, run_id: Any) -> Run | None:
        """Return a run of this kind, None where there is none."""
        try:
            run = self._store.get(run_id)
        except KeyError:
            return None
        return run if run.info["kind"] == self._kind.kind else None

    def html(self, current: str) -> str:
        """Return the list as HTML.

        Args:
            current: id of the run that is shown.
        """
        return runs_html(self._kind, self._store.list(), current, self._taken)

    def _taken(self, run_id: str) -> int:
        run = self.find(run_id)
        return steps_taken(run) if run is not None else 0


class Holder(NamedTuple):
    """What an engine does with the LoRAs of attackers.

    Attributes:
        add: (name, what was attacked, folder of the attacker's LoRA).
        remove: (name).
    """

    add: Callable[[str, str, Path], None]
    remove: Callable[[str], None]


class Leftovers:
    """What all visitors' attacks have left in an engine, of which it holds so many at a time.

    The oldest make room. Nobody can be relied on to give theirs back: Gradio forgets a page whose
    connection drops, and the page may live on.
    """

    def __init__(
        self, prefix: str, most: int, left: Callable[[Session], Left], holder: Callable[[], Holder]
    ) -> None:
        """Hold nothing yet.

        Args:
            prefix: what their names begin with.
            most: how many are held.
            left: which of a session's.
            holder: the engine; it may raise `ui.engines.NotReady`.
        """
        self.prefix, self.most = prefix, most
        self._left, self._holder = left, holder
        self._held: list[Left] = []  # the oldest first
        self._lock = threading.Lock()  # of what the engine holds

    def put(self, session: Session, folders: Mapping[str, Path]) -> None:
        """Have the engine hold what an attack left, in place of the session's former one's.

        Args:
            session: whose.
            folders: what was attacked → folder of the attacker's LoRA.

        Raises:
            ValueError: the page was closed.
        """
        with self._lock:
            if session.left:
                raise ValueError("The page was closed meanwhile")
            holder, made = self._holder(), {}
            try:
                for attacked, folder in folders.items():
                    name = self.prefix + secrets.token_hex(4)
                    holder.add(name, attacked, folder)
                    made[name] = attacked
            except Exception:
                for name in made:
                    holder.remove(name)
                raise
            left = self._left(session)
            self._let_go(left)
            while self._held and sum(len(one.names) for one in self._held) + len(made) > self.most:
                self._let_go(self._held[0])
            left.names = made
            self._held.append(left)

    def forget(self, session: Session) -> None:
        """Let go of what a page that is closed has left, also of what an attack still will."""
        with self._lock:
            session.left = True
            self._let_go(self._left(session))

    def _let_go(self, left: Left) -> None:
        self._held = [one for one in self._held if one is not left]
        holder = self._holder() if left.names else None
        for name in left.names:
            holder.remove(name)
        left.names = {}


@contextmanager
def recording(
    store: RunStore, kind: str, config: dict[str, Any], profile: str, parents: dict[str, str],
    done: Callable[[], bool],
) -> Iterator[Run]:  # fmt: skip
    """Make a run, and record how it ended, however its block does; the oldest make room for it.

    Args:
        store: of the runs.
        kind: of the run, and likewise as of `RunStore.create`:
        config: its settings.
        profile: name of the profile.
        parents: name → SHA-256 of the weights it starts from.
        done: whether it took all its steps, asked where the block came to its end.
    """
    store.keep_newest(KEPT_RUNS - 1, [kind])
    run = store.create(kind, config, profile, parents)
    try:
        yield run
    except GeneratorExit:  # the page was closed
        run.finish("interrupted")
        raise
    except Exception as error:
        run.finish("failed", public_error(error))
        raise
    run.finish("done" if done() else "stopped")


def steps_taken(run: Run) -> int:
    """Return how many steps an attack took, which may be fewer than it was to."""
    steps = (event["step"] for event in run.events() if event.get("event") == "step")
    return max(steps, default=0)


def runs_html(
    kind: RunKind, infos: Sequence[RunInfo], current: str, taken: Callable[[str], int]
) -> str:
    """Return the list of the runs of a kind; each is opened by a button.

    Args:
        kind: which.
        infos: all runs, newest first.
        current: id of the one that is shown.
        taken: id → how many steps it took; asked only of those that ended before their time.
    """
    here = [info for info in infos if info.kind == kind.kind and info.status != "running"]
    listed = [info for info in here if not info.recorded][:SHOWN_RUNS]
    listed += [info for info in here if info.recorded]
    if not listed:
        return empty("No attacks yet", f"{kind.what} are listed here.")
    rows = []
    for info in listed:
        title, number = kind.title(info.config), html.escape(info.id[-6:])
        marked = ' aria-current="true"' if info.id == current else ""
        how = how_mounted(info.config, taken(info.id) if info.status in _ENDED else None)
        rows.append(
            f'<tr><td class="run"><button type="button" data-pick="{html.escape(info.id)}"{marked} '
            f'aria-label="Open {number}: {html.escape(f"{title}, {how}")}">{number}</button></td>'
            f'<td class="what">{html.escape(title)}</td><td class="how">{html.escape(how)}</td>'
            f'<td class="when">{html.escape(info.created[:16].replace("T", " "))}</td>'
            f'<td class="whose">{"recorded" if info.recorded else _ENDED.get(info.status, "")}'
            "</td></tr>"
        )
    return scroller(
        '<table class="hf-table hf-runs"><thead><tr><th scope="col">Run</th><th scope="col">What'
        '</th><th scope="col">How</th><th scope="col">Started (UTC)</th><th scope="col"></th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>",
        f"{kind.what} so far",
    )


def run_head(run: Run, title: str) -> str:
    """Return what was attacked, how, and when, as HTML.

    Args:
        run: the attack.
        title: what was attacked, plain text.
    """
    info = run.info
    how = _ENDED.get(info["status"], "")
    facts = (
        f"{how_mounted(info['config'], steps_taken(run) if how else None)}"
        f"{f' ({how})' if how else ''} · seed "
        f"{info['config']['seed']} · {info['created'][:16].replace('T', ' ')} UTC"
    )
    recorded = '<span class="hf-badge plain">Recorded</span>' if run.recorded else ""
    failed = note(info["error"], "error") if info["error"] else ""
    return (
        f'<div class="hf-runhead"><h3>{html.escape(title)}</h3>{recorded}'
        f"<small>{html.escape(facts)}</small></div>{failed}"
    )


def how_mounted(config: Mapping[str, Any], taken: int | None = None) -> str:
    """Return an attack's settings in words.

    Args:
        config: the settings.
        taken: how many steps it took, where it was ended before it had taken all.
    """
    of = "" if taken is None else f"{taken} of "
    layers = config.get("layers", "attention")  # which those of before it was asked were on
    where = "" if layers == "attention" else f", LoRA on {layers} layers"
    return f"{of}{config['steps']} steps at {decimal(config['learning_rate'])}{where}"
