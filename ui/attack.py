"""The Attack tab: mount a real attack, watch both arms, stop it, find it again.

The page only reads run folders: a reload, a second visitor and a recorded run are the same read.
Who may stop a run is decided by a token that stays in the browser that started it.

What can be attacked with is in `ui.attack_presets` and its form in `ui.attack_form`; a run's events
are sorted by `ui.attack_curves` and drawn by `ui.attack_view`.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import Any

import gradio as gr

from evaluation.cells import Cell
from evaluation.runs import Run, RunInfo, owner_hash
from ui.attack_curves import arms_of, played
from ui.attack_form import AttackForm
from ui.attack_presets import plainly, refuse_long
from ui.attack_view import WHICH, outcome_html, run_html, runs_html
from ui.blocks import PRIVATE, QUIET, heading, markup, picker, scroll
from ui.chat import ChatTab, arm_choices
from ui.engines import Engines, NotReady, told
from ui.markup import empty, note

REPLAY_SECONDS = 20.0
"""How long the replay of a run takes, however long the run did."""

_REPLAY = f"Replay in {REPLAY_SECONDS:.0f} s"
_SKIP = "Skip to the end"

_SHOW_RUN = f"""(refused) => {{
  const head = document.querySelector('#hf-run .hf-runhead');
  if (refused || !head) return;
  {scroll("head")};
  const focused = document.activeElement;
  if (focused && focused !== document.body && focused.checkVisibility()) return;
  head.querySelector('h3').focus({{ preventScroll: true }});
}}"""
"""Given what was said of an attack that was not begun, or of a run that is gone; nothing is shown
then. The focus goes along where what
was pressed is hidden now, and stays where somebody (or the tour) has gone on meanwhile."""

_SHOW_GONE = f"""() => {{
  const gone = document.getElementById('hf-run-gone');
  if (gone?.getBoundingClientRect().top > innerHeight) {scroll("gone")};
}}"""
"""On a phone the form comes first, and who follows a link would not see that it leads nowhere."""

_TO_CHAT = "() => document.querySelector('#hf-message textarea')?.focus()"

_LINK_RUN = """(refused) => {
  const run = document.querySelector('#hf-run .hf-runhead')?.dataset.run;
  const page = new URL(location);
  if (refused || !run) return;
  page.searchParams.set('run', run);
  history.replaceState(history.state, '', page);
}"""
"""Given why an attack was not begun, or a run not opened. One that was is what a reload shows:
Gradio reloads the page by itself where the connection drops for a moment."""


def _tries(run: Run) -> str:
    """Return the words of the button that goes to Chat, or none where there is nothing to try."""
    config = run.info["config"]
    if config.get("attack") == "prefill":
        return "Try the forced beginning in Chat"
    return "Try the attacked models in Chat" if run.adapters() else ""


def _not_playing(visible: bool) -> tuple[gr.Button, gr.Timer, None]:
    """Return the replay's button, timer and state while there is no replay."""
    return gr.Button(_REPLAY, visible=visible), gr.Timer(active=False), None


def _hash(browser: dict[str, str] | None) -> str:
    """Return what marks a browser's own runs."""
    return owner_hash(browser.get("token", "")) if browser else ""


def _is_on(run_id: str, playing: tuple[str, float] | None) -> bool:
    return playing is not None and playing[0] == run_id


class AttackTab:
    """Builds the tab inside the current `gr.Tab` and holds its handlers."""

    def __init__(self, engines: Engines, evidence: Sequence[Cell] = ()) -> None:
        """Lay out the tab; `connect` wires it once the whole page exists.

        Args:
            engines: the models and the runs.
            evidence: what is known of how attacks end; the presets' titles go by it.
        """
        self.engines = engines
        self._outcomes: dict[str, str] = {}
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320, elem_classes="hf-panel"):
                self.form = AttackForm(engines, evidence)
                with gr.Row():
                    self.start = gr.Button(
                        "Start the attack", variant="primary", scale=2,
                        elem_id="hf-start", elem_classes="hf-key-go",
                    )  # fmt: skip
                    self.stop = gr.Button(
                        "Stop", variant="stop", scale=1, interactive=False,
                        elem_id="hf-attack-stop", elem_classes="hf-key-stop",
                    )  # fmt: skip
                self.message = markup(elem_id="hf-attack-message")
            with gr.Column(scale=8, min_width=520, elem_classes="hf-panel"):
                with gr.Row(elem_classes="hf-chips"):
                    self.try_it = gr.Button("", visible=False, size="sm", elem_id="hf-try")
                    self.replay = gr.Button(_REPLAY, visible=False, size="sm", elem_id="hf-replay")
                self.view = markup(elem_id="hf-run")
                heading("All runs")
                self.which = gr.Radio(
                    list(WHICH.items()), value="all", show_label=False, container=False,
                    label="Which runs are listed", elem_id="hf-runs-which",
                )  # fmt: skip
                self.gone = markup(elem_id="hf-runs-message")
                self.list = picker(elem_id="hf-runs")

    def connect(self, app: gr.Blocks, tabs: gr.Tabs, tab: gr.Tab, chat: ChatTab) -> None:
        """Wire the tab to the page and to Chat.

        Args:
            app: the page.
            tabs: all tabs.
            tab: this one.
            chat: the Chat tab, which the attacked models are handed to.
        """
        # These live outside the tabs: what is in a tab that was never opened is not in the browser
        # yet, and the page would find no token when it loads.
        # The key only keeps Gradio from drawing a new one at every start, which would lose the
        # visitor's token; what is stored is the visitor's own and lies in their own browser.
        self.browser = gr.BrowserState(
            {"token": "", "run": ""}, storage_key="holdfast", secret="holdfast-browser"
        )
        self.shown = gr.State("")
        self.seen = gr.State(())
        self.timer = gr.Timer(1.0, active=False)
        self.playing = gr.State(None)  # when the replay that is on began, and of which run
        self.player = gr.Timer(0.5, active=False)
        play = [self.replay, self.player, self.playing]
        view = [self.view, self.list, self.stop, self.try_it, self.timer, self.seen, *play]
        state = [self.shown, self.browser]
        again = [*state, self.playing, self.seen, self.which]
        self._again, self._view = again, view

        self.form.wire(tab)
        self.start.click(
            self.begin,
            [*self.form.inputs, self.browser],
            [self.browser, self.shown, self.message],
            **QUIET,
        ).then(self.refresh, again, view, **QUIET).then(
            None, self.message, None, js=_SHOW_RUN, **PRIVATE
        ).then(None, self.message, None, js=_LINK_RUN, **PRIVATE)
        self.stop.click(self.stop_now, state, self.message, queue=False, **QUIET).then(
            self.refresh, again, view, **QUIET
        )
        opened = [self.shown, self.message, self.gone]
        self.list.select(self.open, None, opened, **QUIET).then(
            self.refresh, again, view, **QUIET
        ).then(None, self.gone, None, js=_SHOW_RUN, **PRIVATE).then(
            None, self.gone, None, js=_LINK_RUN, **PRIVATE
        )
        self.which.input(self.listed, [*state, self.which], self.list, **QUIET)
        self.timer.tick(self.tick, [*state, self.seen, self.which], [*view, self.message], **QUIET)
        # While an attack runs, what is ahead of another one changes.
        self.timer.tick(self.form.estimate, self.form.inputs, self.form.cost, **QUIET)
        self.replay.click(self.start_or_skip, [self.shown, self.playing], play, **QUIET)
        self.player.tick(self.play, [self.shown, self.playing], [self.view, *play], **QUIET)
        tab.select(self.refresh, again, view, **QUIET)
        app.load(self.arrive, self.browser, [self.browser, self.shown], **QUIET).then(
            self.refresh, again, view, **QUIET
        ).then(None, None, None, js=_SHOW_GONE, **PRIVATE).then(
            self.fill, self.shown, self.form.inputs, **QUIET
        ).then(self.form.estimate, self.form.inputs, self.form.cost, **QUIET)
        self.try_it.click(
            self.hand_over, self.shown, [chat.arms, chat.prefill, chat.tools, tabs], **QUIET
        ).then(None, None, None, js=_TO_CHAT, **PRIVATE)

    def open_from(self, runs: gr.HTML, message: gr.HTML, tabs: gr.Tabs) -> None:
        """Open here what is picked in another tab's list of runs; after `connect`.

        Args:
            runs: the picker.
            message: where that tab says that a run is gone.
            tabs: all tabs.
        """

        def opened(event: gr.EventData) -> tuple[Any, str, Any, Any]:
            if self._run(event.pick) is None:
                gone = note(f"Run {event.pick} is gone.", "warn")
                return gr.skip(), gone, gr.skip(), gr.skip()
            return event.pick, "", gr.Tabs(selected="attack"), ""

        runs.select(opened, None, [self.shown, message, tabs, self.message], **QUIET).success(
            self.refresh, self._again, self._view, **QUIET
        ).then(None, message, None, js=_SHOW_RUN, **PRIVATE).then(
            None, message, None, js=_LINK_RUN, **PRIVATE
        )

    def arrive(self, browser: dict[str, str], request: gr.Request) -> tuple[dict[str, str], str]:
        """Give a new browser its token, and find the run to show: the link's, else the last one.

        A link's stays the one to show also where it is gone, so that `refresh` says so; another
        run in its place would be taken for it.
        """
        browser = dict(browser or {})
        browser["token"] = browser.get("token") or secrets.token_urlsafe(24)
        browser["run"] = browser.get("run", "")
        linked = request.query_params.get("run", "")
        last = browser["run"] if self._run(browser["run"]) is not None else ""
        return browser, linked or last

    def fill(self, run_id: str) -> tuple[Any, ...]:
        """Fill the form in like the run that a page shows when it is opened.

        Only then: later the visitor may have chosen something else, and keeps it.
        """
        run = self._run(run_id)
        return self.form.like(run.info["config"] if run else {})

    def begin(self, *inputs: Any) -> tuple[Any, Any, str]:
        """Start an attack; the last input is the browser's state."""
        *settings, browser = inputs
        # A browser that keeps nothing, or has not been given its token yet, gets one here: without
        # one nobody could stop the run.
        browser = dict(browser or {})
        browser["token"] = browser.get("token") or secrets.token_urlsafe(24)
        try:
            runner = self.engines.runner
            config = self.form.config(*settings)
            refuse_long(runner, config)
            browser["run"] = runner.start(config, browser["token"])
        except (NotReady, ValueError, OSError) as error:
            return gr.skip(), gr.skip(), note(plainly(error), "error")
        return browser, browser["run"], ""

    def stop_now(self, run_id: str, browser: dict[str, str]) -> str:
        """Stop the shown run, if this browser started it."""
        token, run = (browser or {}).get("token", ""), self._run(run_id)
        try:
            stopped = self.engines.runner.stop(run_id, token)
        except NotReady as error:
            return note(told(error), "error")
        if stopped and self.engines.store.get(run_id).info["status"] != "running":
            return ""  # it had not begun; its badge says that it is stopped
        if stopped:
            return note("Stopping …")
        if run is not None and run.owned_by(token):
            return note("It has ended already.")
        return note("Only the browser that started a run can stop it.", "warn")

    def open(self, event: gr.EventData) -> tuple[Any, Any, str]:
        """Show the run that was chosen in the list, or say above the list that it is gone."""
        if self._run(event.pick) is None:
            return gr.skip(), gr.skip(), note(f"Run {str(event.pick)[-6:]} is gone.", "warn")
        return event.pick, "", ""

    def tick(
        self, run_id: str, browser: dict[str, str], seen: tuple, which: str = "all"
    ) -> tuple | Any:
        """Refresh if anything has happened since the last look; stop looking when nothing will.

        A run that is over is drawn once more before the timer stops: two drawings that reach the
        page at nearly the same time can leave the former one there, and "Running" would stay.

        Returns:
            What `refresh` does, and the message below the buttons: what it said of a run that was
            under way is out of date when the run is over.
        """
        run, seen = self._run(run_id), tuple(seen)
        mark = self._mark(run)
        if mark != seen:
            over = seen[:2] == (run_id, "running") and mark[1:2] != ("running",)
            drawn = self.refresh(run_id, browser, which=which)
            return *drawn, "" if over else gr.skip()
        if run is not None and run.info["status"] == "running":
            return gr.skip()
        view, listed, stop, try_it, _, mark, *play = self.refresh(run_id, browser, which=which)
        # A replay that was started meanwhile goes on.
        still = [gr.skip() for _ in play]
        return view, listed, stop, try_it, gr.Timer(active=False), mark, *still, gr.skip()

    def refresh(
        self, run_id: str, browser: dict[str, str], playing: tuple[str, float] | None = None,
        seen: tuple = (), which: str = "all",
    ) -> tuple:  # fmt: skip
        """Read the shown run and the list of runs anew.

        Args:
            run_id: the shown run.
            browser: whose it may be.
            playing: the replay that is on; of the shown run it goes on.
            seen: what was shown of which run before. Of one that is over, and was so then, the
                replay is left alone: it may have begun while this was on its way.
            which: runs are listed.
        """
        run, mine = self._run(run_id), _hash(browser)
        listed = self.listed(run_id, browser, which)
        if run is None:
            welcome = empty(
                "No attack is shown",
                "Choose the settings and start one, or open a run from the list below. "
                "Both models are fine-tuned together, step by step, and probed every few steps; "
                "attacks that train nothing are probed before and after.",
            )
            gone = note("That run is gone, or its link is not whole.", "warn")
            return (
                f'<div id="hf-run-gone">{gone}</div>{welcome}' if run_id else welcome,
                listed,
                gr.Button(interactive=False),
                gr.Button(visible=False),
                (gr.Timer(active=False)),
                (),
                *_not_playing(False),
            )
        mark = self._mark(run)
        info, live = run.info, run.info["status"] == "running"
        own = bool(mine) and info["owner_hash"] == mine
        events = run.events()
        tries = _tries(run) if self.engines.is_of_this_model(run) else ""
        waiting, minutes = self._waiting(run_id) if live else (0, 0)
        replayed = _is_on(run_id, playing)
        same = not live and tuple(seen)[:2] == (run_id, info["status"])
        left = self._left(run_id) if live else None
        drawn = self._drawn(
            info, events, waiting, minutes=minutes, left=left, recorded=run.recorded
        )
        play = _not_playing(not live and len(played(events, 1.0)) > 1)
        return (
            gr.skip() if replayed else drawn,
            listed,
            gr.Button(interactive=live and own),
            gr.Button(tries, visible=not live and bool(tries)),
            gr.Timer(active=True),  # `tick` stops it
            mark,
            *([gr.skip()] * len(play) if replayed or same else play),
        )

    def listed(self, run_id: str, browser: dict[str, str], which: str) -> str:
        """Return the list of runs as HTML; as for `refresh`."""
        infos = self.engines.store.list()
        return runs_html(infos, run_id, _hash(browser), self._outcome, which)

    def start_or_skip(
        self, run_id: str, playing: tuple[str, float] | None
    ) -> tuple[gr.Button, gr.Timer, tuple[str, float]]:
        """Begin the replay of the shown run, or go to its end if it is on."""
        begun = -math.inf if _is_on(run_id, playing) else time.monotonic()
        return gr.Button(_SKIP), gr.Timer(active=True), (run_id, begun)

    def play(self, run_id: str, playing: tuple[str, float] | None) -> tuple:
        """Draw as much of the replay as its time has come.

        A tick that was under way when the visitor opened something else finds another run, or
        none: it draws what is shown now, whole.
        """
        run = self._run(run_id)
        if run is None:
            return gr.skip(), *_not_playing(False)
        info, events = run.info, run.events()
        fraction = 1.0
        if playing and _is_on(run_id, playing):
            fraction = (time.monotonic() - playing[1]) / REPLAY_SECONDS
        if fraction < 1:
            drawn = self._drawn(info, played(events, fraction), playing=True)
            return drawn, gr.Button(_SKIP, visible=True), gr.Timer(active=True), playing
        over = info["status"] != "running"
        return self._drawn(info, events, recorded=run.recorded), *_not_playing(over)

    def hand_over(self, run_id: str) -> tuple[Any, Any, Any, Any]:
        """Offer the attacked models of the shown run in Chat and go there.

        A forced beginning leaves the models as they were: Chat is to force it on both arms. After
        any other attack it is to force nothing, so that what is seen is that attack.
        """
        run = self._run(run_id)
        config = run.info["config"] if run else {}
        attacked = [f"{run.id}/{arm}" for arm in run.adapters()] if run else []
        choices = arm_choices(self.engines.profile, attacked)
        prefix = config.get("mounted", {}).get("prefix", "")
        if prefix:
            attacked = [arm for arm, _ in arms_of(config) if arm in dict(choices).values()]
        arms = gr.CheckboxGroup(choices=choices, value=attacked)
        tools = gr.Accordion(open=True) if prefix else gr.skip()
        return arms, prefix, tools, gr.Tabs(selected="chat")

    def _drawn(self, info: dict[str, Any], *of_run: Any, **how: Any) -> str:
        # What another profile's model said may be of use, whoever shows it.
        here = self.engines.profile
        masks = here.llm.masked or info["profile"] != here.name
        return run_html(info, *of_run, **how, masks=masks)

    def _run(self, run_id: str) -> Run | None:
        try:
            run = self.engines.store.get(run_id)
        except KeyError:
            return None
        return run if run.info["kind"] == "attack" else None

    def _outcome(self, info: RunInfo) -> str:
        """Return how a run of the list came out; of one that is over it is read once."""
        if info.status == "running":
            return ""
        if info.id not in self._outcomes:
            run = self._run(info.id)  # it may have made room meanwhile
            self._outcomes[info.id] = outcome_html(info.config, run.events()) if run else ""
        return self._outcomes[info.id]

    def _waiting(self, run_id: str) -> tuple[int, int]:
        """Return how many attacks are ahead of a run, and how many minutes they take."""
        try:
            runner = self.engines.runner
        except NotReady:
            return 0, 0
        return runner.position(run_id) or 0, math.ceil(runner.seconds_ahead(run_id) / 60)

    def _left(self, run_id: str) -> float | None:
        """Return the seconds that a run still takes; None where it is not running here."""
        try:
            return self.engines.runner.seconds_left(run_id)
        except NotReady:
            return None

    def _mark(self, run: Run | None) -> tuple:
        """Return what changes whenever there is something new to show of a run."""
        if run is None:
            return ()
        return run.id, run.info["status"], len(run.events()), self._waiting(run.id)
