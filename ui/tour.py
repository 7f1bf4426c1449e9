"""The guided tour: a dock that walks a presenter, or a visitor alone, through the app.

Each stop opens a tab, marks what to look at and, at a press of "Show it", does what a visitor
would: chooses a pose, sends a message, replays a recorded run. It only presses the page's own
buttons, so it shows nothing that a visitor could not do. What a stop says of results is read from
the table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import gradio as gr

from evaluation.cells import Cell, chosen
from evaluation.claims import Finding
from evaluation.wording import plain
from ui.attack import REPLAY_SECONDS
from ui.blocks import markup
from ui.chat import RED_TEAM_EXAMPLES
from ui.evidence import short_title
from ui.pictures import FIRST, prompt_of
from ui.relearn import CONCEPT
from ui.theme import static

if TYPE_CHECKING:
    from evaluation.runs import RunInfo

START = (
    '<button type="button" class="hf-tour-start" aria-haspopup="dialog">Take the tour</button>'
)
"""Opens the tour; anywhere on the page."""

_STAND = {
    "holds": ("holds here", "hold here"),
    "weaker": ("holds weaker", "hold weaker"),
    "fails": ("does not hold", "do not hold"),
    "undecided": ("is undecided", "are undecided"),
    "unmeasured": ("is not measured", "are not measured"),
}
"""How one claim stands, and several, in a sentence."""

RUNNING = "Running: watch the outlined area."

_REPLAYED, _MOUNTED = ("sdd", "sft"), "hf-preset-prefill"


@dataclass(frozen=True)
class Press:
    """Something that "Show it" does.

    Attributes:
        at: CSS selector of a button to press, or of a text box.
        text: what to write into the text box; empty: it is a button.
        until: CSS selector of what shows that the page has taken it in.
        gone: CSS selector of what is hidden then.
        optional: pressed where it is there, and left out where it is not.
    """

    at: str
    text: str = ""
    until: str = ""
    gone: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Stop:
    """One stop of the tour.

    Attributes:
        tab: name of the tab that is opened.
        title: what the stop is about.
        says: two or three sentences, to be read or said aloud.
        look: CSS selector of what is marked.
        acts: what "Show it" does, in order; none: there is nothing to press.
        shows: what is marked after that, if it is something else.
        top: CSS selector of the part of it that comes to the top of the window, if not all of it.
        told: what is said once "Show it" is through.
    """

    tab: str
    title: str
    says: str
    look: str
    acts: tuple[Press, ...] = ()
    shows: str = ""
    top: str = ""
    told: str = RUNNING


_BARE = "#hf-picture-arms label:first-of-type"
"""The first of those who draw, which is the model without a defence."""


def stops(
    guards: Sequence[str],
    poses: Sequence[str],
    found: Sequence[Cell],
    findings: Sequence[Finding],
    pictures: Sequence[str] = (),
    removal: RunInfo | None = None,
) -> list[Stop]:
    """Return the stops that this installation can make.

    Args:
        guards: of the animation model, those that can be switched on.
        poses: names of the library's clips.
        found: the cells of the evidence; those that open a recorded run give a stop.
        findings: the claims and how they stand.
        pictures: defences of the picture model that can be used.
        removal: a recorded attack on a guard, which is opened; None: one is started.
    """
    route = []
    if guards and {"kneel_both", "wave"} <= set(poses):
        route += [
            Stop(
                "Animate", "A pose that the guard is aimed at",
                "Kneeling on both knees, drawn twice from one seed. Left the bare model, right the "
                "same model with a guard: there the person should fall apart.",
                "#hf-stage", _pair("kneel_both", guards),
            ),
            Stop(
                "Animate", "A pose that it should leave alone",
                "The same person, waving. Both sides should look alike: a guard that spoils "
                "everything would be no guard.",
                "#hf-stage", _pair("wave", guards),
            ),
        ]  # fmt: skip
    if guards:
        route.append(
            Stop(
                "Animate", "And if somebody trains on",
                "Whoever has the guarded model's weights can fine-tune them. " + (
                    f"Here somebody did, for {removal.config['steps']} steps: see what the model "
                    "draws without the guard, with it, and with what is left of it. “Attack the "
                    "guard” does the same live, in a minute or two."
                    if removal else
                    "This takes a minute or two, and Stop works. Then draw the kneeling pose once "
                    "more, with what is left of the guard."
                ),
                "#hf-guard-attack", _attack_on_guard(removal),
                "#hf-removal-shown" if removal else "",
                told="Opened: see the outlined area." if removal else RUNNING,
            )
        )  # fmt: skip
    route.append(
        Stop(
            "Chat", "Before any attack",
            "One language model, and in each column another adapter; a judge sorts every "
            "reply. A refusal now proves little: what is left after fine-tuning?",
            "#hf-talk", (Press("#hf-message textarea", RED_TEAM_EXAMPLES[0]), Press("#hf-send")),
            top="#hf-talk .hf-turn:last-child",
        )
    )  # fmt: skip
    for cell in chosen(found, *_REPLAYED):
        if cell.runs:
            run = cell.runs[0]["run"]
            picked = Press(
                f"#hf-evidence button[data-pick={json.dumps(run)}]",
                until=f"#hf-run .hf-runhead a[href$={json.dumps(f'?run={run}')}]",
            )
            route.append(
                Stop(
                    "Evidence", "A recorded attack",
                    "Every cell of the table opens the runs behind it. This one is replayed in "
                    f"{REPLAY_SECONDS:.0f} seconds: a defended and the undefended model, their "
                    f"harm, ability and what they say. {_told(cell, findings)}",
                    "#hf-evidence", (picked, Press("#hf-replay")), "#hf-run",
                )
            )  # fmt: skip
            break
    route.append(
        Stop(
            "Attack", "Now one for real",
            "The shortest attack trains nothing: every reply is forced to begin as if the model "
            "had agreed. It runs on this machine, now. The others take longer; the estimate stands "
            "above the button, and Stop works at any step.",
            "#hf-start",
            (Press(f"#{_MOUNTED}", gone="#hf-training"), Press("#hf-start")), "#hf-run",
        )
    )  # fmt: skip
    if pictures:
        route.append(
            Stop(
                "Image", "A thing that must not be drawn",
                "One prompt, several models, the same noise. It asks for a person with a pistol; "
                "the first model draws one, the others should not. Below, “Attack both” teaches "
                "two of them again: watch who learns.",
                "#hf-drawing",
                (
                    Press("#hf-picture-prompt textarea", prompt_of(CONCEPT, FIRST)),
                    Press(f"{_BARE} input:not(:checked)", optional=True),
                    Press("#hf-draw"),
                ),
            )
        )  # fmt: skip
    if findings and found:
        route.append(
            Stop(
                "Evidence", "What holds and what does not",
                f"Each paper's claim against what was measured here. {_counted(findings)}",
                "#hf-claims",
            )
        )  # fmt: skip
    route.append(
        Stop(
            "How it works", "Your turn",
            "What each defence does, by its equation, and where its limits are. Your goal: make a "
            "defended side fail.",
            "#hf-how",
        )
    )
    return route


def tour(route: Sequence[Stop]) -> gr.HTML:
    """Make the dock, which is hidden until somebody presses `START`."""
    script = static("tour.js").replace("__STOPS__", json.dumps([asdict(stop) for stop in route]))
    return markup(static("tour.html"), js_on_load=script, elem_id="hf-tour")


def _pair(pose: str, guards: Sequence[str]) -> tuple[Press, ...]:
    button = f"#hf-poses button[data-pick={json.dumps(pose)}]"
    off = (f"#hf-guard-{guard} input:not(:checked):not(:disabled)" for guard in guards)
    return (
        Press(button, until=f"{button}[aria-pressed=true]"),
        *(Press(switch, optional=True) for switch in off),  # whoever had switched it off
        Press("#hf-generate"),
    )


def _attack_on_guard(removal: RunInfo | None) -> tuple[Press, ...]:
    closed = Press("#hf-guard-attack > button:not(.open)", optional=True)
    if removal is None:
        return closed, Press("#hf-removal-go")
    listed = f"#hf-removal-runs button[data-pick={json.dumps(removal.id)}]"
    return closed, Press(listed, until=f"{listed}[aria-current]")


def _told(cell: Cell, findings: Sequence[Finding]) -> str:
    held = next(
        held for finding in findings for held in finding.held if held.row == cell.verdict
    )  # fmt: skip
    return plain(held, short_title(cell.defence))


def _counted(findings: Sequence[Finding]) -> str:
    """Say how the claims stand, as in ``4 of 6 claims do not hold``."""
    verdicts = [finding.verdict for finding in findings if finding.verdict != "baseline"]
    counts = [(verdicts.count(name), words) for name, words in _STAND.items() if name in verdicts]
    told = [f"{count} {words[count > 1]}" for count, words in counts]
    first, _, rest = told[0].partition(" ")
    told[0] = f"{first} of {len(verdicts)} claims {rest}"
    return f"{'; '.join(told)}."
