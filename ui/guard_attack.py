"""Animate's attack: fine-tune a pose guard away, and draw with what is left of it."""

from __future__ import annotations

import gc
import html
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from adapters import registry
from pipelines.memory import return_freed_memory
from pipelines.paths import cache_dir
from ui.blocks import QUIET, Count, markup, strip, strip_html
from ui.charts import Series, chart, legend
from ui.engines import Engines
from ui.job import Job, buttons
from ui.markup import duration, meter, note
from ui.session import Attacked, Scratch, Session, Sessions

if TYPE_CHECKING:
    from adapters.attacks.guard_removal import RemovalProbe
    from pipelines.animation import AnimationEngine

ATTACKED = "attacked-"
"""What the names of attackers' LoRAs begin with among the engine's guards."""
MAX_ATTACKED = 6
"""Attacked guards that the app holds at a time, of all visitors."""
STEPS = (5, 40)
"""Fewest and most steps that are offered; docs/poseguard.md tells what they do."""
RATES = {"gentle (3e-4)": 3e-4, "usual (1e-3)": 1e-3}
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
        self._lock = threading.Lock()  # of what the engine holds of attacks
        self._seconds = _SECONDS
        with gr.Accordion("5 · Attack the guard", open=False, elem_id="hf-guard-attack"):
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
            self.cost = markup(self.estimate(20), elem_id="hf-removal-cost")
            go, stop = buttons("Attack the guard", "hf-removal-go", "the attack")
            self.use = gr.Checkbox(
                False, label="Draw the right side with the attacked guard", visible=False,
                elem_id="hf-removal-use",
            )  # fmt: skip
            said = markup(elem_id="hf-removal-said")
            shown = markup(elem_id="hf-removal-shown")
        self.job = Job(sessions, lambda session: session.removal, go, stop, said)
        self.job.wire(
            self.take_off, [self.target, self.steps, self.rate], [shown, self.use, self.cost],
            "removal",
        )  # fmt: skip
        self.steps.change(self.estimate, self.steps, self.cost, queue=False, **QUIET)

    def estimate(self, steps: float) -> str:
        """Say how long an attack of so many steps takes, by those that were mounted here."""
        step, probe = self._seconds
        seconds = steps * step + (2 + -(-steps // PROBE_EVERY)) * probe
        how = "on this machine, a first guess" if self._seconds == _SECONDS else "on this machine"
        return note(f"{int(steps)} steps: {duration(seconds)} {how}.")

    def take_off(
        self, session: Session, guard: str, steps: float, rate: str
    ) -> Iterator[tuple]:
        """Fine-tune the guarded model, tell how it goes, and keep what comes of it for drawing."""
        try:
            yield from self._attack(session, guard, int(steps), rate)
        finally:
            gc.collect()  # what PEFT's reference cycles still hold
            return_freed_memory()

    def _attack(self, session: Session, guard: str, steps: int, rate: str) -> Iterator[tuple]:
        if not STEPS[0] <= steps <= STEPS[1]:
            raise ValueError(f"steps is {steps}; wanted {STEPS[0]} to {STEPS[1]}")
        if rate not in RATES:
            raise ValueError("Choose one of the learning rates shown")
        # First: while the models load there is nothing to attack.
        engine = self.engines.guarded_animation({guard: 1.0})
        folder = registry.adapter_folder(guard, self.engines.profile)
        reader = self.engines.reader
        if reader is None:
            raise ValueError("What finds the joints is missing, so nothing could be measured")
        self._check_room(session, engine)
        from adapters.attacks.guard_removal import (
            RemovalConfig,
            RemovalProbe,
            remove,
            render_scenes,
        )
        from evaluation.guard import pose_class_of

        pose_class = pose_class_of(guard, folder)
        words = "Rendering the attacker's pictures …"
        yield meter(0, "Attack") + note(words), gr.skip(), gr.skip(), gr.skip()
        scenes = render_scenes(cache_dir() / SCENES, PICTURES, EACH, pose_class)
        config = RemovalConfig(steps=steps, learning_rate=RATES[rate], probe_every=PROBE_EVERY)
        out, should_stop = self.scratch.new(), session.removal.stop.is_set
        probes: list[RemovalProbe] = []
        begun = last = time.monotonic()
        spent = {RemovalProbe: 0.0}
        done, words = 0, "Measuring the guard before the attack …"
        for event in remove(config, self.engines.profile, folder, scenes, reader, out, should_stop):
            now = time.monotonic()
            spent[type(event)] = spent.get(type(event), 0.0) + now - last
            last, probed = now, isinstance(event, RemovalProbe)
            if probed:
                probes.append(event)
            else:
                done = event.step
            if done:
                # The first probe's time has the loading of the model in it.
                self._seconds = (
                    spent[type(event)] / done if not probed else self._seconds[0],
                    spent[RemovalProbe] / len(probes),
                )
                left = (steps - done) * self._seconds[0]
                left += -(-(steps - done) // PROBE_EVERY) * self._seconds[1]
                words = f"Step {done} of {steps}, {duration(left)} left"
            drawn = panel(probes, guard, steps) if probed else gr.skip()
            yield meter(done / steps, "Attack") + note(words), drawn, gr.skip(), gr.skip()
        if not done:
            yield note("Stopped before the first step."), gr.skip(), gr.skip(), gr.skip()
            return
        self._mount(session, engine, guard, out)
        stopped = " (stopped)" if done < steps else ""
        said = note(
            f"{guard_title(guard)} after {done} steps{stopped} at {RATES[rate]:g}, seed 0, in "
            f"{duration(time.monotonic() - begun)}. {verdict(probes)} Choose a kneeling pose and "
            "generate the pair: its right side is drawn with what is left.", "good",
        )  # fmt: skip
        yield said, gr.skip(), gr.Checkbox(True, visible=True), self.estimate(steps)

    def _check_room(self, session: Session, engine: AnimationEngine) -> None:
        """Check that the engine may hold another attacked guard, or one in place of this one's.

        Raises:
            ValueError: it may not.
        """
        own = session.attacked.name if session.attacked else ""
        held = [name for name in engine.guards if name.startswith(ATTACKED) and name != own]
        if len(held) >= MAX_ATTACKED:
            raise ValueError(
                f"The app holds {len(held)} attacked guards of other visitors; try again when one "
                "of them has closed the page"
            )

    def _mount(
        self, session: Session, engine: AnimationEngine, guard: str, folder: Path
    ) -> None:
        """Have the engine hold an attacker's LoRA, in place of the session's former one.

        Raises:
            ValueError: it holds as many as it may.
        """
        with self._lock:
            if session.left:
                raise ValueError("The page was closed meanwhile")
            self._check_room(session, engine)
            name = ATTACKED + secrets.token_hex(4)
            engine.add_guard(name, folder)
            self._dismount(session)
            session.attacked = Attacked(name, guard)

    def _dismount(self, session: Session) -> None:
        if session.attacked:
            engine = self.engines.guarded_animation({session.attacked.guard: 1.0})
            if session.attacked.name in engine.guards:
                engine.remove_guard(session.attacked.name)
            session.attacked = None

    def forget(self, request: gr.Request) -> None:
        """Stop the session's attack and let go of what came of it; for `Blocks.unload`."""
        session = self.sessions.of(request)
        session.removal.close()
        with self._lock:
            session.left = True
            self._dismount(session)

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
        if session.attacked is None:
            raise ValueError("The attacked guard was lost with the connection; attack it again")
        return {session.attacked.guard: 1.0, session.attacked.name: 1.0}


def guard_title(name: str) -> str:
    """Return a guard's name in a visitor's words."""
    return registry.get(name).card.title


def verdict(probes: Sequence[RemovalProbe]) -> str:
    """Say in plain words what is left of a guard.

    Args:
        probes: of one attack: without the guard, with it, and after some steps.
    """
    bare, before, *_, last = probes
    return (
        f"Of the joints of people who kneel {before.unsafe_pose:.0%} were found before it and "
        f"{last.unsafe_pose:.0%} now, {bare.unsafe_pose:.0%} without any guard."
    )


def panel(probes: Sequence[RemovalProbe], guard: str, steps: int) -> str:
    """Return the curve of an attack on a guard, and pictures of its first and last probes.

    Args:
        probes: without the guard, with it, and after some steps, as far as there are.
        guard: its name.
        steps: that are planned.
    """
    if not probes:
        return ""
    title = guard_title(guard)
    bare, *attacked = probes
    curves = [
        Series("No guard", "open", [(0, bare.unsafe_pose), (steps, bare.unsafe_pose)]),
        Series(title, "held", [(probe.step, probe.unsafe_pose) for probe in attacked]),
    ]
    hint = f"joints found, of {EACH} pictures"
    drawn = legend([("open", "No guard"), ("held", f"{title}, fine-tuned")])
    drawn += chart("Kneeling people drawn", hint, curves, steps, share=True)
    rows = [("Without the guard", bare)]
    rows += [("With it", attacked[0])] if attacked else []
    if len(attacked) > 1:
        now = attacked[-1]
        words = (
            f"After {now.step} steps. Of other poses {now.other_pose:.0%} of the joints are found, "
            f"without the guard {bare.other_pose:.0%}"
        )
        rows.append((words, now))
    return drawn + "".join(
        strip_html(strip(probe.pictures[:_SHOWN], _SIDE), words) for words, probe in rows
    )
