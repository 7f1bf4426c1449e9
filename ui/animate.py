"""The Animate tab: a pose and a prompt in, an unguarded and a guarded clip out, same seed."""

from __future__ import annotations

import html
import json
import random
import traceback
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from adapters import registry
from pipelines.paths import ASSETS
from pipelines.pose import PoseClip, PoseError
from ui import poses, stage
from ui.blocks import PRIVATE, QUIET, heading, markup, pose_picker
from ui.engines import Engines, NotReady
from ui.markup import duration, note
from ui.session import Scratch, Session, Sessions

if TYPE_CHECKING:
    from pipelines.animation import PairResult

MAX_PROMPT = 300
"""Longest prompt accepted, in characters."""


@lru_cache(maxsize=1)
def prompt_guide() -> dict[str, Any]:
    """Return ``examples`` and ``vocabulary`` of the prompts that the embedded model knows."""
    return json.loads((ASSETS / "prompts" / "animate.json").read_text(encoding="utf-8"))


def guard_note(guards: dict[str, float]) -> str:
    """Return guards and strengths as shown beside a clip."""
    titles = {name: defence.card.title for name, defence in registry.defences().items()}
    return ", ".join(f"{titles.get(name, name)} × {value:g}" for name, value in guards.items())


class AnimateTab:
    """Builds the tab inside the current `gr.Tab` and holds its handlers."""

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
        self.guards = [
            name for name, d in registry.defences().items() if d.card.pipeline == "animation"
        ]
        names = list(poses.library())
        self.first = "wave" if "wave" in names else (names[0] if names else "")
        self._lay_out()
        self._wire()

    def _lay_out(self) -> None:
        guide = prompt_guide()
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=360, elem_classes="hf-panel"):
                self.pose = gr.State(self.first)
                heading("1 · Pose")
                self.picker = pose_picker(self.first, elem_id="hf-poses")
                self.upload = gr.UploadButton(
                    "Bring your own: OpenPose JSON, skeleton picture or photo",
                    file_types=[".json", "image"],
                    size="md",
                    elem_id="hf-upload",
                )
                self.pose_note = markup(elem_id="hf-pose-note")
                self.prompt = gr.Textbox(
                    guide["examples"][0],
                    label="2 · Person",
                    lines=2,
                    max_lines=4,
                    max_length=MAX_PROMPT,
                    elem_id="hf-prompt",
                )
                with gr.Row(elem_classes="hf-chips"):
                    self.examples = [
                        gr.Button(_short(text), size="sm") for text in guide["examples"]
                    ]
                with gr.Accordion("Words the model knows", open=False):
                    markup(_vocabulary(guide["vocabulary"]))
            with gr.Column(scale=8, min_width=520, elem_classes="hf-panel"):
                self.stage = stage.component(self._idle(self._library_pose(self.first)))
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
                with gr.Row(equal_height=True):
                    self.files = [
                        gr.DownloadButton(label, size="md", visible=False, elem_id=elem)
                        for label, elem in (
                            ("Unguarded MP4", "hf-get-open"),
                            ("Guarded MP4", "hf-get-held"),
                            ("Settings JSON", "hf-get-settings"),
                        )
                    ]
                with gr.Row(equal_height=False):
                    with gr.Column(scale=2, min_width=320, elem_classes="hf-panel"):
                        heading("3 · Guards")
                        self.switches, self.strengths = [], []
                        for name in self.guards:
                            self._guard(name)
                        if not self.guards:
                            markup(note("No guard for animation is installed."))
                    with gr.Column(scale=1, min_width=240, elem_classes="hf-panel"):
                        heading("4 · Chance")
                        self.seed = gr.Number(
                            7, label="Seed", precision=0, minimum=0, maximum=2**32 - 1,
                            info="The same on both sides, and the same again tomorrow.",
                        )  # fmt: skip
                        self.dice = gr.Button("New seed", size="md", elem_id="hf-dice")
                        with gr.Accordion("More settings", open=False):
                            self.steps = gr.Slider(
                                1,
                                50,
                                self.spec.steps,
                                step=1,
                                label="Denoising steps",
                                elem_id="hf-denoise",
                            )
                            self.guidance = gr.Slider(
                                1, 12, self.spec.guidance_scale, step=0.1,
                                label="Guidance scale",
                                info="How strictly the prompt is followed; 1 switches it off.",
                            )  # fmt: skip

    def _guard(self, name: str) -> None:
        card = registry.get(name).card
        missing = self.engines.missing_adapter(name)
        with gr.Column(elem_classes="hf-guard"):
            self.switches.append(
                gr.Checkbox(
                    not missing,
                    label=card.title,
                    info=f"Aimed at: {card.aimed_at}",
                    interactive=not missing,
                )
            )
            self.strengths.append(
                gr.Slider(0, 1.5, 1.0, step=0.05, label="Strength", interactive=not missing)
            )
            if missing:
                markup(note(missing, "warn"))

    def _wire(self) -> None:
        self.picker.select(
            self.choose,
            None,
            [self.pose, self.picker, self.stage, self.pose_note],
            queue=False,
            **QUIET,
        )
        self.upload.upload(
            self.take_pose, [self.upload, self.pose],
            [self.pose, self.picker, self.stage, self.pose_note],
            show_progress="minimal", show_progress_on=self.upload, **PRIVATE,
        )  # fmt: skip
        for button, text in zip(self.examples, prompt_guide()["examples"], strict=True):
            button.click(None, None, self.prompt, js=f"() => {json.dumps(text)}", **PRIVATE)
        self.dice.click(lambda: random.randrange(2**32), None, self.seed, **QUIET)
        outputs = [self.stage, self.message, self.go, self.stop, *self.files]
        inputs = [self.pose, self.prompt, self.seed, self.steps, self.guidance]
        # Two events: the first answers at once, also while another visitor's pair is in the queue.
        made = self.go.click(
            self.prepare, self.pose, outputs, queue=False, **QUIET
        ).then(
            self.generate, [*inputs, *self.switches, *self.strengths], outputs,
            concurrency_id="animation", concurrency_limit=1, **QUIET,
        )  # fmt: skip
        # Gradio refuses a seed out of range before the handler runs, and says so itself.
        made.failure(self.give_up, self.pose, outputs[:4], queue=False, **QUIET)
        self.stop.click(self.stop_now, None, self.stop, queue=False, **QUIET)

    def choose(self, event: gr.EventData) -> tuple[str, str, dict[str, Any], str]:
        """Take a clip of the library and show its skeleton."""
        name = event.pick if event.pick in poses.library() else self.first
        return name, name, self._idle(self._library_pose(name)), ""

    def take_pose(self, file: str, before: str, request: gr.Request) -> tuple[str, Any, Any, str]:
        """Read an uploaded pose; a wrong one leaves the chosen pose as it was."""
        session = self.sessions.of(request)
        try:
            session.pose = poses.read_pose(Path(file)).fit(self.spec.size)
        except (PoseError, FileNotFoundError) as error:
            return before, gr.skip(), gr.skip(), note(str(error), "error")
        session.pose_name = Path(file).name
        found = f"Using {session.pose_name}: {len(session.pose)} frame(s)."
        state = self._idle((session.pose, "your pose"))
        return "", "", state, note("\n".join([found, *session.pose.notes]), "good")

    def prepare(self, name: str, request: gr.Request) -> tuple:
        """Say at once that the pair is on its way, and make Stop work."""
        session = self.sessions.of(request)
        session.stop_animation.clear()
        base = self._idle(self._pose(name, session))
        state = stage.running(base, "waiting for the model", 0.0, "", None, None)
        return state, "", *_buttons(busy=True), *_no_files()

    def generate(
        self, request: gr.Request, name: str, prompt: str, seed: float, steps: float,
        guidance: float, *guards: Any,
    ) -> Iterator[tuple]:  # fmt: skip
        """Make a pair and report on the way; `guards` are all switches, then all strengths."""
        session = self.sessions.of(request)
        switches, strengths = guards[: len(self.guards)], guards[len(self.guards) :]
        chosen = {
            guard: float(strength)
            for guard, on, strength in zip(self.guards, switches, strengths, strict=True)
            if on
        }
        pose, title = self._pose(name, session)
        base = self._idle((pose, title))
        settings = {"steps": int(steps), "guidance_scale": float(guidance)}
        try:
            work = self.engines.animation.pair(
                pose, prompt, chosen, int(seed or 0),
                should_stop=session.stop_animation.is_set, **settings,
            )  # fmt: skip
            yield from self._follow(work, base, chosen)
        except (NotReady, ValueError) as error:
            yield base, note(str(error), "error"), *_buttons(busy=False), *_no_files()
        except Exception as error:  # whatever it was, the page must be usable again
            traceback.print_exc()
            message = f"The pair could not be made: {error}"
            yield base, note(message, "error"), *_buttons(busy=False), *_no_files()

    def _follow(
        self, work: Iterator[Any], base: dict[str, Any], chosen: dict[str, float]
    ) -> Iterator[tuple]:
        """Turn an engine's progress and result into what the page shows."""
        previews: tuple = (None, None)
        for item in work:
            if hasattr(item, "fraction"):
                if item.preview is not None:
                    previews = (item.preview, item.preview_guarded)
                eta = "" if item.seconds_left is None else f"{duration(item.seconds_left)} left"
                state = stage.running(base, item.message, item.fraction, eta, *previews)
                yield state, "", *_buttons(busy=True), *_no_files()
                continue
            files = save_pair(item, self.scratch.new(), self.spec.fps)
            remarks = "\n".join(item.settings["notes"])
            downloads = [gr.DownloadButton(value=file, visible=file is not None) for file in files]
            state = stage.done(base, files[0], files[1], guard_note(chosen))
            yield state, note(remarks, "warn"), *_buttons(busy=False), *downloads
            return
        yield base, note("Stopped. Nothing was kept."), *_buttons(busy=False), *_no_files()

    def give_up(self, name: str, request: gr.Request) -> tuple:
        """Make the page usable again after an error that Gradio has shown."""
        base = self._idle(self._pose(name, self.sessions.of(request)))
        return base, note("Nothing was made; correct the settings.", "error"), *_buttons(busy=False)

    def stop_now(self, request: gr.Request) -> gr.Button:
        """End this session's animation after the step it is in."""
        self.sessions.of(request).stop_animation.set()
        return gr.Button(interactive=False)

    def _library_pose(self, name: str) -> tuple[PoseClip, str]:
        return poses.library()[name], poses.title(name)

    def _pose(self, name: str, session: Session) -> tuple[PoseClip, str]:
        """Return the chosen pose; an empty name stands for the session's own."""
        if name or session.pose is None:
            return self._library_pose(name if name in poses.library() else self.first)
        return session.pose, "your pose"

    def _idle(self, pose: tuple[PoseClip, str]) -> dict[str, Any]:
        clip, title = pose
        return stage.idle(poses.for_player(clip, self.spec.frames), title, self.spec.fps)


def save_pair(result: PairResult, folder: Path, fps: int) -> tuple[Path, Path | None, Path]:
    """Write a pair's files.

    Args:
        result: what the engine made.
        folder: where to.
        fps: frames per second.

    Returns:
        The unguarded MP4, the guarded MP4 (None without guards) and the settings as JSON.
    """
    from pipelines.animation import write_mp4  # torch: only once a pair exists

    unguarded = write_mp4(result.unguarded, folder / "unguarded.mp4", fps)
    guarded = None
    if result.guarded is not None:
        guarded = write_mp4(result.guarded, folder / "guarded.mp4", fps)
    settings = folder / "settings.json"
    settings.write_text(json.dumps(result.settings, indent=1), encoding="utf-8")
    return unguarded, guarded, settings


def _buttons(*, busy: bool) -> tuple[gr.Button, gr.Button]:
    return gr.Button(interactive=not busy), gr.Button(interactive=busy)


def _no_files() -> list[gr.DownloadButton]:
    return [gr.DownloadButton(visible=False)] * 3


def _short(prompt: str) -> str:
    """Return what tells an example apart: everything after "wearing"."""
    return prompt.rsplit("wearing ", 1)[-1]


def _vocabulary(words: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(kind)}</th><td>{html.escape(text)}</td></tr>"
        for kind, text in words.items()
    )
    return f'<table class="hf-table"><tbody>{rows}</tbody></table>'
