"""Puts the tabs together into one Gradio app."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from adapters import registry
from evaluation import concept_table, tables
from evaluation.cells import cells
from evaluation.claims import claims
from evaluation.runs import RunInfo, RunStore
from pipelines.profiles import Profile
from ui import guard_attack, poses, theme, tour
from ui.animate import AnimateTab
from ui.api import Api
from ui.attack import AttackTab
from ui.blocks import PRIVATE, QUIET, heading, markup
from ui.chat import ChatTab
from ui.engines import Engines
from ui.evidence import EvidenceTab
from ui.how import how_tab
from ui.markup import meter, note
from ui.pictures import PicturesTab
from ui.relearn import measured_html
from ui.session import CACHE_SECONDS, Scratch, Sessions

_HEADER = f"""<header class="hf-head"><div class="hf-brand">{theme.LOGO}<div><h1>Holdfast</h1>
<p>See a safety guardrail work, then try to break it.</p></div></div>
<dl class="hf-role">
<dt>Your goal</dt><dd>Make the defended side fail, by pose, prompt or fine-tuning.</dd>
<dt>The rules</dt><dd>Both sides get the same input and the same seed. You may not switch the
defence off and call it broken.</dd></dl>{tour.START}</header>"""
_TAB_OF_ADDRESS = """const page = new URL(location), asked = page.searchParams;
  const named = asked.get('tab') || (asked.get('run') ? 'attack' : 'animate');"""
"""Reads the address as `linked_tab` does."""
_LINK_TAB = """() => {
  if (!document.body.dataset.arrived) return;
  __NAMED__
  if (named === __TAB__) return;
  asked.set('tab', __TAB__);
  history.pushState(history.state, '', page);
}""".replace("__NAMED__", _TAB_OF_ADDRESS)
"""With the name of a tab that was opened: a reload shows it again, and the browser's Back the one
before. Gradio reloads the page by itself where the connection drops for a moment. It also tells of
the first tab, before the address was read, which must be left as it is until then; and of one that
was opened because the address names it."""
_WENT_BACK = """
const back = () => element.isConnected ? trigger('select') : removeEventListener('popstate', back);
addEventListener('popstate', back);
"""
_NAMED_TAB = """() => {
  __NAMED__
  return { __type__: 'update', ...(__TABS__.includes(named) && { selected: named }) };
}""".replace("__NAMED__", _TAB_OF_ADDRESS)
"""With the names of all tabs: opens the one that the address names."""
_ARRIVED = "() => { document.body.dataset.arrived = 'yes'; }"
_RETRY_LOOK_SECONDS = 10.0  # between two looks of the page at a part that could not be loaded
_LEADS = {
    "animate": "Choose a pose, describe a person, and compare: left the bare model, right the same "
    "model with a guard. Poses the guard is aimed at should fall apart; all others should stay as "
    "they are. Then try to fine-tune the guard away.",
    "chat": "One message, several answers at once. The same language model speaks in every "
    "column; only its adapter differs.",
    "attack": "Play the attacker: fine-tune the undefended and the defended model on the same "
    "data, or attack both without any training, and watch whether harm rises, and what it costs "
    "in ability.",
    "image": "Pictures from a text alone. The forbidden concept is a held pistol. One model was "
    "only made safe (concept ablation), two have a published defence that is meant to keep them "
    "from learning it again. Draw with each, then fine-tune them and see.",
    "evidence": "Attacks on every defence, measured: what of the papers' claims "
    "holds on these models, and what does not. Each cell opens the runs behind it.",
}

_PICTURES = (
    "Only figures are kept. On the Image tab such attacks can be mounted, and recorded ones be "
    "opened."
)


def build_app(
    profile: Profile, *, engines: Engines | None = None, store: RunStore | None = None
) -> gr.Blocks:
    """Build the app and start loading its models in the background.

    Args:
        profile: which weights.
        engines: parts to use instead of the profile's own; they are started here too.
        store: where runs live, if not in the usual place.

    Returns:
        The app; launch it with `launch_options`.
    """
    engines = engines or Engines(profile, store=store)
    sessions, scratch = Sessions(), Scratch()
    table = tables.read()
    # Of another profile's models the table says nothing.
    of_profile = [row for row in table if row["profile"] == engines.profile.name]
    known = cells(of_profile)
    with gr.Blocks(
        title="Holdfast", fill_width=True, analytics_enabled=False, delete_cache=CACHE_SECONDS
    ) as app:
        markup(_HEADER)
        with gr.Tabs(elem_id="hf-tabs") as tabs:
            with gr.Tab("Animate", id="animate"):
                banner_animate = _top("animate")
                animate = AnimateTab(engines, sessions, scratch)
            with gr.Tab("Chat", id="chat"):
                banner_chat = _top("chat")
                chat = ChatTab(engines, sessions)
            with gr.Tab("Attack", id="attack") as attack_tab:
                banner_attack = _top("attack")
                attack = AttackTab(engines, known)
            pictures, banner_image = None, None
            if engines.draws_pictures:
                with gr.Tab("Image", id="image"):
                    banner_image = _top("image")
                    pictures = PicturesTab(engines, sessions, scratch)
            with gr.Tab("Evidence", id="evidence"):
                _lead("evidence")
                shown = EvidenceTab(table, scratch, tables.read(tables.STYLES_TABLE))
                if pictures is not None:
                    heading("Picture models that are taught a forbidden thing again")
                    markup(f'<p class="hf-small">{_PICTURES}</p>')
                    markup(measured_html(concept_table.means(concept_table.read())))
            with gr.Tab("How it works", id="how"):
                how_tab(engines.profile)
        for tab in tabs.children:
            link = _LINK_TAB.replace("__TAB__", json.dumps(tab.id))
            tab.select(None, None, None, js=link, **PRIVATE)
        every = [tab.id for tab in tabs.children]
        named = _NAMED_TAB.replace("__TABS__", json.dumps(every))
        markup(js_on_load=_WENT_BACK).select(None, None, tabs, js=named, **PRIVATE)
        names = gr.State(every)
        arrived = app.load(linked_tab, names, tabs, queue=False, **QUIET).then(
            None, None, None, js=_ARRIVED, **PRIVATE
        )
        animate.connect(app)
        chat.connect(app)
        attack.connect(app, tabs, attack_tab, chat)
        if animate.guards.attack is not None:
            animate.guards.attack.runs.connect(arrived)
        if pictures is not None:
            pictures.relearning.connect(arrived)
        for table_of_runs in shown.tables:
            attack.open_from(table_of_runs, shown.message, tabs)
        _watch_loading(
            app,
            engines,
            {
                banner_animate: ("animation",),
                banner_chat: ("chat", "judge"),
                banner_attack: ("runner",),
                **({banner_image: ("pictures",)} if banner_image is not None else {}),
            },
        )
        usable = [name for name in animate.guards.names if name not in animate.guards.lacking]
        first = [n for i, n in enumerate(usable) if not registry.rivals(n, usable[:i])]
        findings, drawing = claims(of_profile), pictures.defences if pictures else ()
        removal = recorded_removal(engines.store.list(), first)
        tour.tour(tour.stops(first, list(poses.library()), known, findings, drawing, removal))
        Api(engines, scratch).register()
        if animate.guards.attack is not None:
            app.unload(animate.guards.attack.forget)
        if pictures is not None:
            app.unload(pictures.relearning.forget)
        app.unload(sessions.close)
    # Closed to calls that go around the queue and its limits; Gradio's clients all go through it.
    app.queue(default_concurrency_limit=None, api_open=False)
    engines.start()
    return app


def launch_options() -> dict[str, Any]:
    """Return what `gr.Blocks.launch` needs for the app to look and behave as meant."""
    return {
        "theme": theme.theme(),
        "css": theme.css(),
        "head": theme.head(),
        "favicon_path": theme.STATIC / "favicon.svg",
        "run_history": False,
        "max_file_size": f"{poses.MAX_UPLOAD_MB}mb",
        "footer_links": ["api", "settings"],
        "show_error": False,  # gr.Error is told all the same; others may hold paths
        "ssr_mode": False,
        # Sessions whose state stays in memory, closed ones among them: 0.4 MB each. Gradio's own is
        # 10,000; of those beyond, an open page would lose its conversation.
        "state_session_capacity": 1000,
    }


def linked_tab(names: Sequence[str], request: gr.Request) -> Any:
    """Open the tab that the page's address names, or Attack where it names a run and no tab.

    Args:
        names: of all tabs.
        request: the page's.
    """
    asked = request.query_params
    name = asked.get("tab", "attack" if asked.get("run") else "")
    return gr.Tabs(selected=name) if name in names else gr.skip()


def recorded_removal(runs: Sequence[RunInfo], guards: Sequence[str]) -> RunInfo | None:
    """Return a recorded attack on one of the guards, on the first that there is one of.

    Args:
        runs: all there are.
        guards: names of guards.
    """
    whole = {
        info.config["target"]: info for info in runs
        if info.kind == guard_attack.KIND and info.recorded and info.status == "done"
    }  # fmt: skip
    return next((whole[guard] for guard in guards if guard in whole), None)


def _lead(tab: str) -> None:
    markup(f'<p class="hf-lead">{_LEADS[tab]}</p>')


def _top(tab: str) -> gr.HTML:
    """Add a tab's opening words and the place for its loading message."""
    _lead(tab)
    return markup(elem_id=f"hf-loading-{tab}")


def _watch_loading(
    app: gr.Blocks, engines: Engines, banners: dict[gr.HTML, tuple[str, ...]]
) -> None:
    """Keep each tab's banner true until all its parts are loaded.

    Those that failed are looked at now and then: once what is missing was made, the first use loads
    them.
    """
    timer = gr.Timer(1.0)

    def look() -> list[Any]:
        texts = [loading_note(engines, *names) for names in banners.values()]
        states = {part.state for names in banners.values() for part in engines.status(*names)}
        return [*texts, next_look(states)]

    for event in (timer.tick, app.load):
        event(look, None, [*banners, timer], **QUIET)


def next_look(states: set[str]) -> gr.Timer:
    """Return when the page looks again at its parts: soon, now and then, or not at all.

    Args:
        states: of the parts that are not ready.
    """
    under_way = bool(states & {"waiting", "loading"})
    return gr.Timer(1.0 if under_way else _RETRY_LOOK_SECONDS, active=bool(states))


def loading_note(engines: Engines, *names: str) -> str:
    """Return what to say while parts are not ready; nothing once they are.

    Args:
        engines: the parts.
        names: which of them, as for `Engines.status`.
    """
    parts = engines.status(*names)
    failed = [part.message for part in parts if part.state == "failed"]
    if failed:
        return note("\n".join(dict.fromkeys(failed)), "error")
    loading = [part for part in parts if part.state == "loading"] or parts
    if not loading:
        return ""
    part = loading[0]
    text = note(f"{part.message or f'{part.label} is loading'} … you can look around meanwhile.")
    return text if part.fraction is None else text + meter(part.fraction, part.label)
