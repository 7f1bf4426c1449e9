"""Animate's attack: fine-tune the pose guard away, and draw with what is left of it."""

from __future__ import annotations

import gc
import html
import json
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from adapters import registry
from pipelines.fetch import MissingWeights
from pipelines.memory import return_freed_memory
from pipelines.paths import cache_dir
from ui.blocks import QUIET, data_address, markup
from ui.charts import Series, chart
from ui.engines import Engines, NotReady, told
from ui.markup import duration, meter, note
from ui.session import Scratch, Session, Sessions

if TYPE_CHECKING:
    from adapters.attacks.guard_removal import RemovalProbe

GUARD = "poseguard"
"""The guard that is attacked."""
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
SCENES = "guard-attack"
"""Folder of the cache that the rendered scenes are in."""

_LEAD = (
    "Whoever has the guarded model's weights can go on training them. This does so: a LoRA on "
    f"{PICTURES} pictures of people who kneel, which no training saw. Then draw with the result: "
    "the right side becomes the guarded model after the attack."
)
_SHOWN, _SIDE = 6, 96  # pictures of a row, and their side in pixels


class GuardAttack:
    """Builds the panel inside the current layout and holds its handlers."""

    def __init__(self, engines: Engines, sessions: Sessions, scratch: Scratch) -> None:
        """Lay out the panel and wire it.

        Args:
            engines: the models.
            sessions: what each visitor has open.
            scratch: where the attacker's LoRAs are written.
        """
        self.engines = engines
        self.sessions = sessions
        self.scratch = scratch
        self._lock = threading.Lock()  # of what the engine holds of attacks
        with gr.Accordion("5 · Attack the guard", open=False, elem_id="hf-guard-attack"):
            markup(f'<p class="hf-small">{html.escape(_LEAD)}</p>')
            with gr.Row(equal_height=True):
                self.steps = gr.Slider(
                    *STEPS, 20, step=5, label="Steps", elem_id="hf-removal-steps"
                )
                self.rate = gr.Radio(
                    list(RATES), value=list(RATES)[1], label="Learning rate",
                    elem_id="hf-removal-rate",
                )  # fmt: skip
            with gr.Row(equal_height=True):
                self.go = gr.Button("Attack the guard", elem_id="hf-removal-go", scale=3)
                self.stop = gr.Button(
                    "Stop", variant="stop", interactive=False, elem_id="hf-removal-stop", scale=1
                )
            self.use = gr.Checkbox(
                False, label="Draw the right side with the attacked guard", visible=False,
                elem_id="hf-removal-use",
            )  # fmt: skip
            self.said = markup(elem_id="hf-removal-said")
            self.shown = markup(elem_id="hf-removal-shown")
        outputs = [self.said, self.shown, self.go, self.stop, self.use]
        self.go.click(self.prepare, None, outputs, queue=False, **QUIET).then(
            self.take_off, [self.steps, self.rate], outputs,
            concurrency_id="removal", concurrency_limit=1, **QUIET,
        )  # fmt: skip
        self.stop.click(self.stop_now, None, [self.said, self.stop], queue=False, **QUIET)

    def prepare(self, request: gr.Request) -> tuple:
        """Say at once that the attack waits for its turn, and make Stop work."""
        session = self.sessions.of(request)
        session.stop_removal.clear()
        return (
            note("Waiting for its turn …"), gr.skip(), gr.Button(interactive=False),
            gr.Button(interactive=True), gr.skip(),
        )  # fmt: skip

    def take_off(self, steps: float, rate: str, request: gr.Request) -> Iterator[tuple]:
        """Fine-tune the guarded model, tell how it goes, and keep what comes of it for drawing."""
        session = self.sessions.of(request)
        try:
            yield from self._attack(session, int(steps), rate)
        except (NotReady, MissingWeights, ValueError) as error:
            yield self._ended(session, note(told(error), "error"))
        except Exception as error:  # whatever it was, the page must be usable again
            yield self._ended(session, note(f"The attack broke off: {told(error)}", "error"))
        finally:
            gc.collect()  # what PEFT's reference cycles still hold
            return_freed_memory()

    def _attack(self, session: Session, steps: int, rate: str) -> Iterator[tuple]:
        if rate not in RATES or not STEPS[0] <= steps <= STEPS[1]:
            raise ValueError(f"steps must be within {STEPS[0]}..{STEPS[1]}, and the rate one shown")
        if session.stop_removal.is_set():
            yield self._ended(session, note("Stopped before its turn came."))
            return
        # First: while the models load there is nothing to attack.
        engine = self.engines.guarded_animation({GUARD: 1.0})
        reader = self.engines.reader
        if reader is None:
            raise ValueError("What finds the joints is missing, so nothing could be measured")
        from adapters.attacks.guard_removal import (
            RemovalConfig,
            RemovalProbe,
            remove,
            render_scenes,
        )

        profile = self.engines.profile
        folder = registry.adapter_folder(GUARD, profile)
        pose_class = json.loads((folder / "training.json").read_text())["config"]["pose_class"]
        yield self._under_way(meter(0, "Attack") + note("Rendering the attacker's pictures …"), [])
        scenes = render_scenes(cache_dir() / SCENES, PICTURES, EACH, pose_class)
        config = RemovalConfig(steps=steps, learning_rate=RATES[rate])
        out = self.scratch.new()
        probes: list[RemovalProbe] = []
        begun = training = time.monotonic()
        done = 0
        for event in remove(
            config, profile, folder, scenes, reader, out, session.stop_removal.is_set
        ):
            if isinstance(event, RemovalProbe):
                probes.append(event)
                if event.step == 0:  # the first two cost no step
                    training = time.monotonic()
            else:
                done = event.step
            words = "Measuring the guard before the attack …"
            if done:
                left = (time.monotonic() - training) / done * (steps - done)
                words = f"Step {done} of {steps}, some {duration(left)} left"
            yield self._under_way(meter(done / steps, "Attack") + note(words), probes)
        if not done:
            yield self._ended(session, note("Stopped before the first step."))
            return
        self._mount(session, engine, out)
        stopped = " (stopped)" if done < steps else ""
        said = note(
            f"{done} steps{stopped} in {duration(time.monotonic() - begun)}. Choose a kneeling "
            "pose and generate the pair: its right side is drawn with what is left.", "good",
        )  # fmt: skip
        yield (
            said, panel(probes), gr.Button(interactive=True), gr.Button(interactive=False),
            gr.Checkbox(True, visible=True),
        )  # fmt: skip

    def _mount(self, session: Session, engine: Any, folder: Any) -> None:
        """Have the engine hold an attacker's LoRA, in place of the session's former one.

        Raises:
            ValueError: it holds as many as it may.
        """
        with self._lock:
            self._dismount(session)
            if session.left:
                raise ValueError("The page was closed meanwhile")
            if len([name for name in engine.guards if name.startswith(ATTACKED)]) >= MAX_ATTACKED:
                raise ValueError(
                    f"The app holds {MAX_ATTACKED} attacked guards of other visitors; try again "
                    "when one of them has closed the page"
                )
            name = ATTACKED + secrets.token_hex(4)
            engine.add_guard(name, folder)
            session.attacked = name

    def _dismount(self, session: Session) -> None:
        if session.attacked:
            engine = self.engines.guarded_animation({GUARD: 1.0})
            if session.attacked in engine.guards:
                engine.remove_guard(session.attacked)
            session.attacked = ""

    def forget(self, request: gr.Request) -> None:
        """Stop the session's attack and let go of what came of it; for `Blocks.unload`."""
        session = self.sessions.of(request)
        session.stop_removal.set()
        with self._lock:
            session.left = True
            self._dismount(session)

    def stop_now(self, request: gr.Request) -> tuple:
        """End the session's attack before its next step."""
        self.sessions.of(request).stop_removal.set()
        return note("Stopping at the next step."), gr.Button(interactive=False)

    def with_attack(
        self, session: Session, guards: dict[str, float], wanted: bool
    ) -> dict[str, float]:
        """Return the guards of a pair, the attacker's LoRA among them where that is wanted.

        It was trained on the model with the guard at strength 1, so it goes with that.

        Raises:
            ValueError: there is none any more.
        """
        if not wanted or GUARD not in guards:
            return guards
        if not session.attacked:
            raise ValueError("The attacked guard was lost with the connection; attack it again")
        return guards | {GUARD: 1.0, session.attacked: 1.0}

    def _under_way(self, said: str, probes: Sequence[RemovalProbe]) -> tuple:
        return (
            said, panel(probes), gr.Button(interactive=False), gr.Button(interactive=True),
            gr.skip(),
        )  # fmt: skip

    def _ended(self, session: Session, said: str) -> tuple:
        return (
            said, gr.skip(), gr.Button(interactive=True), gr.Button(interactive=False),
            gr.Checkbox(visible=bool(session.attacked)),
        )  # fmt: skip


def panel(probes: Sequence[RemovalProbe]) -> str:
    """Return the curve of an attack on a guard, and pictures of its first and last probes.

    Args:
        probes: without the guard, with it, and after some steps, as far as there are.
    """
    if not probes:
        return ""
    bare, *attacked = probes
    last = max(1, probes[-1].step)
    curves = [
        Series("without the guard", "open", [(0, bare.unsafe_pose), (last, bare.unsafe_pose)]),
        Series("guarded", "held", [(probe.step, probe.unsafe_pose) for probe in attacked]),
    ]
    drawn = chart("Kneeling people drawn", "share of their joints found", curves, last, share=True)
    rows = [("Without the guard", bare)]
    rows += [("With it", attacked[0])] if attacked else []
    if len(attacked) > 1:
        now = attacked[-1]
        words = (
            f"After {now.step} steps. Of other poses {now.other_pose:.0%} of the joints are found, "
            f"without the guard {bare.other_pose:.0%}"
        )
        rows.append((words, now))
    pictures = "".join(
        f'<figure class="hf-strip"><figcaption>{html.escape(words)}</figcaption>'
        f'<img src="{_strip(probe.pictures)}" alt="{html.escape(words)}"></figure>'
        for words, probe in rows
    )
    return drawn + pictures


def _strip(pictures: np.ndarray) -> str:
    """Return pictures side by side as a data address."""
    shown = [Image.fromarray(picture).resize((_SIDE, _SIDE)) for picture in pictures[:_SHOWN]]
    row = Image.new("RGB", (_SIDE * len(shown), _SIDE))
    for at, picture in enumerate(shown):
        row.paste(picture, (at * _SIDE, 0))
    return data_address(row, quality=85)
