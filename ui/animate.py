"""The Animate tab: a pose and a prompt in, an unguarded and a guarded clip out, same seed.

This lays the tab out and wires it. Its parts: the panel of the pose (`ui.animate_poses`) with what
is chosen (`ui.animate_choice`) and what is being read (`ui.animate_reading`), the panel of the
guards (`ui.animate_guards`), the making of a pair (`ui.animate_pair`), and settings that come back
(`ui.animate_restore`). What their handlers return is told in `ui.animate_answers`.
"""

from __future__ import annotations

import html
import json
import secrets
from functools import lru_cache
from typing import Any

import gradio as gr

from pipelines.paths import ASSETS
from ui import results, stage
from ui.animate_answers import DOWNLOADS
from ui.animate_choice import PoseChoice
from ui.animate_guards import GuardPanel
from ui.animate_pair import PairMaker
from ui.animate_poses import PosePanel
from ui.animate_reading import PoseReading
from ui.animate_restore import BACK, KEEP, START_ANEW, Restoring
from ui.blocks import PRIVATE, QUIET, count_letters, heading, markup
from ui.engines import Engines
from ui.results import MAX_PROMPT
from ui.session import Scratch, Sessions


@lru_cache(maxsize=1)
def prompt_guide() -> dict[str, Any]:
    """Return ``examples`` and ``vocabulary`` of the prompts that the embedded model knows."""
    return json.loads((ASSETS / "prompts" / "animate.json").read_text(encoding="utf-8"))


class AnimateTab:
    """Builds the tab inside the current `gr.Tab` out of its parts."""

    def __init__(self, engines: Engines, sessions: Sessions, scratch: Scratch) -> None:
        """Lay out the tab and wire it.

        Args:
            engines: the models.
            sessions: what each visitor has open.
            scratch: where clips go on their way to the browser.
        """
        self.engines = engines
        self.sessions = sessions
        self.scratch = scratch
        self.spec = engines.profile.animation
        self.choice = PoseChoice(engines, sessions)
        self.reading = PoseReading(sessions, self.choice)
        self._lay_out()
        self.pair = PairMaker(engines, sessions, scratch, self.choice, self.guards)
        self._wire()

    def _lay_out(self) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=360, elem_classes="hf-panel"):
                self.poses = PosePanel(self.choice, self.reading)
                self._lay_out_prompt()
            with gr.Column(scale=8, min_width=520, elem_classes="hf-panel"):
                self.stage = stage.component(self.choice.at_first())
                with gr.Row(equal_height=True):
                    self.go = gr.Button(
                        "Generate the pair", variant="primary", scale=3,
                        elem_id="hf-generate", elem_classes="hf-key-go",
                    )  # fmt: skip
                    self.stop = gr.Button(
                        "Stop", variant="stop", scale=1, interactive=False,
                        elem_id="hf-animate-stop", elem_classes="hf-key-stop",
                    )  # fmt: skip
                self.message = markup(elem_id="hf-animate-message")
                self.kept = gr.JSON(visible=False)  # what the browser keeps of the last pair
                with gr.Row(equal_height=True):
                    self.files = [
                        gr.DownloadButton(label, size="sm", visible=False, elem_id=elem)
                        for label, elem in DOWNLOADS
                    ]
                with gr.Row(equal_height=False):
                    with gr.Column(scale=2, min_width=320, elem_classes="hf-panel"):
                        self.guards = GuardPanel(self.engines, self.sessions, self.scratch)
                    with gr.Column(scale=1, min_width=240, elem_classes="hf-panel"):
                        self._lay_out_chance()

    def _lay_out_prompt(self) -> None:
        guide = prompt_guide()
        self.prompt = gr.Textbox(
            guide["examples"][0],
            label="2 · Person",
            lines=2,
            max_lines=4,
            elem_id="hf-prompt",
        )
        count_letters(self.prompt, MAX_PROMPT)
        self.examples = []
        if self.engines.profile.drawing == "embedded":  # another model knows more words
            with gr.Row(elem_classes="hf-chips"):
                self.examples = [
                    (gr.Button(_short(text), size="sm"), text) for text in guide["examples"]
                ]
            with gr.Accordion("Words the model knows", open=False):
                markup(_vocabulary(guide["vocabulary"]))

    def _lay_out_chance(self) -> None:
        heading("4 · Seed and settings")
        self.seed = gr.Number(
            7, label="Seed", precision=0, minimum=0, maximum=2**32 - 1,
            info="The same on both sides, and the same again tomorrow.",
        )  # fmt: skip
        self.dice = gr.Button("New seed", size="md", elem_id="hf-dice")
        self.load = gr.UploadButton(
            "Load settings", file_types=[".json"], size="md", elem_id="hf-load"
        )
        self.load_note = markup(elem_id="hf-load-note")
        self.anew = gr.Button("Reset", size="md", elem_id="hf-anew")
        with gr.Accordion("More settings", open=False):
            self.steps = gr.Slider(
                1, results.MAX_STEPS, self.spec.steps, step=1,
                label="Denoising steps", elem_id="hf-denoise",
            )  # fmt: skip
            self.guidance = gr.Slider(
                *results.GUIDANCE, self.spec.guidance_scale, step=0.1,
                label="Guidance scale", elem_id="hf-guidance",
                info="How strictly the prompt is followed. 1 switches it off; "
                "above 1 each guided step takes twice as long.",
            )  # fmt: skip
            self.guided_until = gr.Slider(
                *results.GUIDED_UNTIL, self.spec.guidance_interval[0], step=0.05,
                label="Guidance ends at noise time", elem_id="hf-guided-until",
                info="Only with a guidance scale above 1. Noise goes from 1 to 0; "
                "0 guides every step, more is faster.",
            )  # fmt: skip
            self.redraw = gr.Checkbox(
                bool(self.spec.refiner), label="Redraw small details",
                elem_id="hf-redraw", visible=bool(self.spec.refiner),
                info="A second network corrects faces, glasses and patterns of "
                "both clips alike. It reads the words of its training only, no "
                "weapon among them. Off: as the model drew them.",
            )  # fmt: skip

    def _wire(self) -> None:
        self.poses.wire(self.stage, self.message, self.files)
        drawing = [
            self.prompt, self.seed, self.steps, self.guidance, self.guided_until, self.redraw
        ]  # fmt: skip
        self.restoring = Restoring(
            self.engines, self.sessions, self.choice, self.guards,
            [*self.poses.shown, self.load_note, *drawing, *self.guards.fields],
        )  # fmt: skip
        self.load.upload(
            self.restoring.load_settings, [self.load, self.poses.fit], self.restoring.filled,
            **QUIET,
        )  # fmt: skip
        self.guards.wire()
        for button, text in self.examples:
            button.click(None, None, self.prompt, js=f"() => {json.dumps(text)}", **PRIVATE)
        self.anew.click(None, None, None, js=START_ANEW, **PRIVATE)
        self.dice.click(lambda: secrets.randbelow(2**32), None, self.seed, **QUIET)
        pose, pair = self.poses.inputs, self.pair
        outputs = [self.stage, self.message, self.go, self.stop, *self.files]
        # "multiple": each press has its own place in the queue, also where the one before was taken
        # back and its place is still to come.
        made = self.go.click(
            pair.prepare, [*pose, self.prompt, *self.guards.switches], outputs, queue=False, **QUIET
        ).then(
            pair.generate, [*pose, *drawing, *self.guards.inputs], outputs,
            concurrency_id="animation", concurrency_limit=1, trigger_mode="multiple", **QUIET,
        )  # fmt: skip
        # Gradio refuses a seed out of range before the handler runs, and says so itself.
        made.failure(pair.give_up, pose, outputs, queue=False, **QUIET)
        made.success(self.restoring.keep, None, self.kept, queue=False, **QUIET).then(
            None, self.kept, None, js=KEEP, **PRIVATE
        )
        self.stop.click(
            pair.stop_now, pose, outputs, queue=False, **QUIET
        ).then(pair.settle, None, self.message, queue=False, **QUIET)  # fmt: skip

    def connect(self, app: gr.Blocks) -> None:
        """Have the settings of the last pair come back when the page is opened again."""
        app.load(
            self.restoring.come_back, [self.kept, self.poses.fit], self.restoring.filled, js=BACK,
            queue=False, **QUIET,
        )  # fmt: skip


def _short(prompt: str) -> str:
    """Return what tells an example apart: everything after "wearing"."""
    return prompt.rsplit("wearing ", 1)[-1]


def _vocabulary(words: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(kind)}</th><td>{html.escape(text)}</td></tr>"
        for kind, text in words.items()
    )
    return f'<table class="hf-table"><tbody>{rows}</tbody></table>'
