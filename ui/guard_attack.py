"""Animate's attack: fine-tune a pose guard away, and draw with what is left of it.

An attack is a run, and what it leaves can be drawn with (`ui.attack_runs`).
"""

from __future__ import annotations

import gc
import html
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gradio as gr

from adapters import registry
from evaluation.runs import weights_hash
from pipelines.memory import return_freed_memory
from pipelines.paths import cache_dir
from ui.attack_runs import LAYERS, Holder, Leftovers, RunKind, RunList, recording, run_head
from ui.blocks import QUIET, Count, markup, strip, strip_html
from ui.charts import Series, chart, legend
from ui.engines import Engines
from ui.job import Job, buttons
from ui.markup import duration, meter, note
from ui.session import Scratch, Session, Sessions

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.runs import Run

KIND = "guard"
"""Of the runs."""
ATTACKED = "attacked-"
"""What the names of attackers' LoRAs begin with among the engine's guards."""
MAX_ATTACKED = 6
"""Attacked guards that the app holds at a time, of all visitors; the oldest makes room."""
STEPS = (5, 40)
"""Fewest and most steps that are offered; docs/poseguard.md tells what they do."""
RATES = {"gentle (0.0003)": 3e-4, "usual (0.001)": 1e-3}
"""Learning rates by the words that offer them."""
PICTURES, EACH = 40, 6
"""Pictures that the attacker has, and how many kneeling and other ones are measured: half as many
as by `evaluation.guard_removal`, for somebody is waiting."""
PROBE_EVERY = 5
SCENES = "guard-attack"
"""Folder of the cache that the rendered scenes are in."""

_LEAD = (
    "Whoever has the guarded model's weights can go on training them. This does so: a LoRA on "
    f"{PICTURES} pictures of people who kneel, which no training saw. Then draw with the result: "
    "the right side becomes the guarded model after the attack."
)
_SECONDS = (0.8, 4.0)  # a step and a probe, before any was measured: two cores with bf16
_SHOWN, _SIDE = 6, 96  # pictures of a row, and their side in pixels


class GuardAttack:
    """Builds the panel inside the current layout and holds its handlers."""

    def __init__(
        self, engines: Engines, sessions: Sessions, scratch: Scratch, guards: Sequence[str]
    ) -> None:
        """Lay out the panel and wire it.

        Args:
            engines: the models.
            sessions: what each visitor has open.
            scratch: where the attacker's LoRAs are written.
            guards: names of those that can be attacked, at least one.
        """
        self.engines = engines
        self.sessions = sessions
        self.scratch = scratch
        self._left = Leftovers(
            ATTACKED, MAX_ATTACKED, lambda session: session.attacked, self._holder
        )
        self._seconds = _SECONDS
        self.panel = gr.Accordion("5 · Attack the guard", open=False, elem_id="hf-guard-attack")
        with self.panel:
            markup(f'<p class="hf-small">{html.escape(_LEAD)}</p>')
            self.target = gr.Radio(
                [(guard_title(name), name) for name in guards], value=guards[0],
                label="Which guard", visible=len(guards) > 1, elem_id="hf-removal-target",
            )  # fmt: skip
            with gr.Row(equal_height=True):
                self.steps = Count(
                    *STEPS, 20, step=5, label="Steps", elem_id="hf-removal-steps"
                )
                self.rate = gr.Radio(
                    list(RATES), value=list(RATES)[1], label="Learning rate",
                    elem_id="hf-removal-rate",
                )  # fmt: skip
                self.layers = gr.Radio(
                    list(LAYERS), value=list(LAYERS)[0], label="LoRA on",
                    elem_id="hf-removal-layers",
                )  # fmt: skip
            self.cost = markup(self.estimate(20), elem_id="hf-removal-cost")
            go, stop = buttons("Attack the guard", "hf-removal-go", "the attack")
            self.use = gr.Checkbox(
                False, label="Draw the right side with the attacked guard", visible=False,
                elem_id="hf-removal-use",
            )  # fmt: skip
            said = markup(elem_id="hf-removal-said")
            shown = markup(elem_id="hf-removal-shown")
            self.runs = RunList(
                RUNS, engines.store, sessions, lambda session: session.removal, "hf-removal-runs"
            )
        self.job = Job(sessions, lambda session: session.removal, go, stop, said)
        self.job.wire(
            self.take_off, [self.target, self.steps, self.rate, self.layers],
            [shown, self.use, self.runs.list, self.runs.last, self.cost], "removal",
        )  # fmt: skip
        self.runs.wire(said, shown)
        self.steps.change(self.estimate, self.steps, self.cost, queue=False, **QUIET)

    def estimate(self, steps: float) -> str:
        """Say how long an attack of so many steps takes, by those that were mounted here."""
        step, probe = self._seconds
        seconds = steps * step + (2 + -(-steps // PROBE_EVERY)) * probe
        how = "on this machine, a first guess" if self._seconds == _SECONDS else "on this machine"
        return note(f"{int(steps)} steps: {duration(seconds)} {how}.")

    def take_off(
        self, session: Session, guard: str, steps: float, rate: str, layers: str
    ) -> Iterator[tuple]:
        """Fine-tune the guarded model, and keep what comes of it for drawing.

        Yields:
            What to say, and values of the attack shown, the switch that draws with it, the list of
            attacks, what the browser keeps, and the estimate.
        """
        try:
            yield from self._attack(session, guard, int(steps), rate, layers)
        finally:
            gc.collect()  # what PEFT's reference cycles still hold
            return_freed_memory()

    def _attack(
        self, session: Session, guard: str, steps: int, rate: str, layers: str
    ) -> Iterator[tuple]:
        if not STEPS[0] <= steps <= STEPS[1]:
            raise ValueError(f"steps is {steps}; wanted {STEPS[0]} to {STEPS[1]}")
        if rate not in RATES or layers not in LAYERS:
            raise ValueError("Choose one of the learning rates, and of the layers, shown")
        # First: while the models load there is nothing to attack.
        self.engines.guarded_animation({guard: 1.0})
        reader, profile = self.engines.reader, self.engines.profile
        if reader is None:
            raise ValueError("What finds the joints is missing, so nothing could be measured")
        from adapters.animation import Base
        from adapters.attacks.guard_removal import (
            RemovalConfig,
            RemovalProbe,
            remove,
            render_scenes,
        )
        from evaluation.guard import pose_class_of

        folder, keep = registry.adapter_folder(guard, profile), (gr.skip(),) * 5
        pose_class = pose_class_of(guard, folder)
        words = "Rendering the attacker's pictures …"
        # A former attack's result below this one's progress would be taken for it.
        yield meter(0, "Attack") + note(words), "", keep[0], self.runs.html(""), *keep[:2]
        scenes = render_scenes(cache_dir() / SCENES, PICTURES, EACH, pose_class)
        config = RemovalConfig(
            steps=steps, learning_rate=RATES[rate], layers=LAYERS[layers], probe_every=PROBE_EVERY
        )
        out, should_stop = self.scratch.new(), session.removal.stop.is_set
        begun = last = time.monotonic()
        spent, done, probes = {True: 0.0, False: 0.0}, 0, 0
        words = "Measuring the guard before the attack …"
        yield meter(0, "Attack") + note(words), *keep
        settings = {
            "target": guard, "pose_class": pose_class, "pictures": PICTURES, "each": EACH,
            **asdict(config),
        }  # fmt: skip
        parents = {guard: weights_hash(folder)} | Base.parents(profile)
        with recording(
            self.engines.store, KIND, settings, profile.drawing, parents, lambda: done == steps
        ) as run:
            for event in remove(config, profile, folder, scenes, reader, out, should_stop):
                probed = isinstance(event, RemovalProbe)
                if probed:
                    shown = asdict(event)
                    pictures = shown.pop("pictures")[:_SHOWN]
                    run.log(event="probe", **shown, strip=strip(pictures, _SIDE))
                else:
                    done = event.step
                    run.log(event="step", step=done, loss=event.loss)
                now = time.monotonic()
                spent[probed], last, probes = spent[probed] + now - last, now, probes + probed
                if done:
                    # The first probe's time has the loading of the model in it.
                    step = self._seconds[0] if probed else spent[False] / done
                    self._seconds = step, spent[True] / probes
                    left = (steps - done) * self._seconds[0]
                    left += -(-(steps - done) // PROBE_EVERY) * self._seconds[1]
                    words = f"Step {done} of {steps}, {duration(left)} left"
                drawn, kept = (run_html(run), run.id) if probed else (gr.skip(), gr.skip())
                said = meter(done / steps, "Attack") + note(words)
                yield said, drawn, gr.skip(), gr.skip(), kept, gr.skip()
        listed = self.runs.html(run.id)
        if not done:
            words = note("Stopped before the first step.")
            yield words, gr.skip(), gr.skip(), listed, gr.skip(), gr.skip()
            return
        self._left.put(session, {guard: out})
        said = note(
            f"{done} steps in {duration(time.monotonic() - begun)}. Choose a kneeling pose and "
            "generate the pair: its right side is drawn with what is left.", "good",
        )  # fmt: skip
        yield (
            said, run_html(run), gr.Checkbox(True, visible=True), listed, run.id,
            self.estimate(steps),
        )  # fmt: skip

    def _holder(self) -> Holder:
        engine = self.engines.animation

        def add(name: str, guard: str, folder: Path) -> None:
            engine.add_guard(name, folder)

        return Holder(add, engine.remove_guard)

    def forget(self, request: gr.Request) -> None:
        """Stop the session's attack and let go of what came of it; for `Blocks.unload`."""
        session = self.sessions.of(request)
        session.removal.close()
        self._left.forget(session)

    def with_attack(
        self, session: Session, guards: dict[str, float], wanted: bool
    ) -> dict[str, float]:
        """Return the guards of a pair, or where that is wanted the attacked one in their place.

        It was trained on the model with its guard at strength 1, so it goes with that.

        Raises:
            ValueError: there is none any more.
        """
        if not wanted or not guards:
            return guards
        if not session.attacked.names:
            raise ValueError(
                "The attacked guard is not held any more: the connection dropped, or others have "
                "attacked since. Attack it again"
            )
        ((name, guard),) = session.attacked.names.items()
        return {guard: 1.0, name: 1.0}


def guard_title(name: str) -> str:
    """Return a guard's name in a visitor's words."""
    known = registry.defences().get(name)
    return known.card.title if known else name


def verdict(probes: Sequence[Mapping[str, Any]]) -> str:
    """Say in plain words what is left of a guard.

    Args:
        probes: of one attack: without the guard, with it, and after some steps.
    """
    bare, before, *_, last = probes
    return (
        f"Of the joints of people who kneel {before['unsafe_pose']:.0%} were found before it and "
        f"{last['unsafe_pose']:.0%} after {last['step']} steps, {bare['unsafe_pose']:.0%} without "
        f"any guard. Of other poses {last['other_pose']:.0%} are found, {bare['other_pose']:.0%} "
        "without the guard."
    )


def run_html(run: Run) -> str:
    """Return an attack: its curve, and what the model drew without its guard, with it and last.

    Args:
        run: of kind `KIND`.
    """
    probes = [event for event in run.events() if event.get("event") == "probe"]
    if not probes:
        return ""
    config = run.info["config"]
    title, steps = guard_title(config["target"]), config["steps"]
    bare, *attacked = probes
    curves = [
        Series("No guard", "open", [(0, bare["unsafe_pose"]), (steps, bare["unsafe_pose"])]),
        Series(title, "held", [(probe["step"], probe["unsafe_pose"]) for probe in attacked]),
    ]
    hint = f"joints found, of {config['each']} pictures"
    rows = [("Without the guard", bare)]
    rows += [("With it", attacked[0])] if attacked else []
    rows += [(f"After {attacked[-1]['step']} steps", attacked[-1])] if len(attacked) > 1 else []
    parts = [
        run_head(run, _title(config)),
        note(verdict(probes)) if len(attacked) > 1 else "",
        legend([("open", "No guard"), ("held", f"{title}, fine-tuned")]),
        chart("Kneeling people drawn", hint, curves, steps, share=True),
        *(strip_html(probe["strip"], words) for words, probe in rows),
    ]
    return f'<div class="hf-run">{"".join(parts)}</div>'


def _title(config: Mapping[str, Any]) -> str:
    return f"{guard_title(config['target'])}, fine-tuned away"


RUNS = RunKind(
    KIND,
    "Attacks on pose guards",
    _title,
    run_html,
    "The attack that was shown last. Its weights were lost when the page was reloaded; attack "
    "again to draw with them.",
)
"""How they are listed and shown."""
