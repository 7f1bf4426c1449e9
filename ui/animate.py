"""The Animate tab: a pose and a prompt in, an unguarded and a guarded clip out, same seed."""

from __future__ import annotations

import html
import json
import re
import secrets
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import FileData
from numpy.typing import NDArray

from adapters import registry
from pipelines.film import MAX_SECONDS, is_film
from pipelines.paths import ASSETS
from pipelines.pose import (
    MAX_JSON_BYTES,
    PoseClip,
    PoseError,
    dump_openpose_json,
    load_openpose_json,
)
from pipelines.wording import taught
from ui import joints, poses, results, stage
from ui.blocks import PRIVATE, QUIET, heading, markup, pose_picker
from ui.engines import Engines, NotReady, told
from ui.guard_attack import ATTACKED, GuardAttack
from ui.markup import duration, meter, note
from ui.results import MAX_PROMPT
from ui.session import CACHE_SECONDS, Choice, Scratch, Session, Sessions
from ui.theme import static

_ACCEPTED = (
    "Photo, skeleton or OpenPose JSON, of a clip also a file for each frame; video (mp4, webm, "
    f"mov, gif) up to {MAX_SECONDS:.0f} s and 1920 × 1080. At most {poses.MAX_UPLOAD_MB} MB, JSON "
    f"{MAX_JSON_BYTES / 1e6:.0f} MB."
)
_CLOSE = (
    "A close-up. Begin the prompt with “face close-up of”, and end it with an expression, as in "
    "“…, smiling, studio”: the words of a whole figure get into the hair."
)
_KEPT = (
    "Of what you bring only the joints are used. The server deletes the file within "
    f"{sum(CACHE_SECONDS) / 3600:g} hours; the joints of your last pair stay in this browser tab "
    "until you close it or start anew."
)
_LONGEST_FILM = MAX_SECONDS - 1  # of the webcam: what is longer than the limit is not read
_LONGEST_NAME = 36  # characters of a pose's name on a button
_DOWNLOADS = (
    ("Unguarded MP4", "hf-get-open"),
    ("Guarded MP4", "hf-get-held"),
    ("Pair GIF", "hf-get-gif"),
    ("Pose JSON", "hf-get-pose"),
    ("Settings JSON", "hf-get-settings"),
)
_CANCELLED = "Cancelled. The pose is as it was."
_CHOSEN = object()  # what `Session.reading` is once a pose was chosen
_KEEP = """(pair) => {
  if (!pair) return;
  try {
    sessionStorage.removeItem('holdfast-pair');
    sessionStorage.setItem('holdfast-pair', JSON.stringify(pair));
  } catch {}
}"""
"""It may be too long for the browser, or not allowed; then nothing comes back."""
_START_ANEW = """() => {
  try { sessionStorage.removeItem('holdfast-pair'); } catch {}
  location.reload();
}"""
_BACK = """(pair, fit) => {
  try { return [JSON.parse(sessionStorage.getItem('holdfast-pair') ?? 'null'), fit]; } catch {}
  return [null, fit];
}"""
_AGAIN = (
    "The page was loaded anew. Pose, prompt and settings are those of your last pair; "
    "“Generate the pair” makes it anew, “Start anew” forgets it."
)
_LOST = "Your pose was lost with the connection; bring it again."


@lru_cache(maxsize=1)
def prompt_guide() -> dict[str, Any]:
    """Return ``examples`` and ``vocabulary`` of the prompts that the embedded model knows."""
    return json.loads((ASSETS / "prompts" / "animate.json").read_text(encoding="utf-8"))


def guard_note(guards: dict[str, float]) -> str:
    """Return guards and strengths as shown beside a clip."""
    titles = {name: defence.card.title for name, defence in registry.defences().items()}
    return ", ".join(
        "attacked" if name.startswith(ATTACKED) else f"{titles.get(name, name)} × {value:g}"
        for name, value in guards.items()
    )


_CAMERA = {"video": {"width": {"ideal": 1280}, "height": {"ideal": 720}}}
"""What is asked of a camera that films; left alone, some give more than `film` accepts."""


class Recording(gr.Video):
    """A film of the visitor's webcam, without sound.

    It is handed on as the browser recorded it: Gradio would have ffmpeg take out a sound track that
    is not there, and ffmpeg is on few machines.
    """

    is_template = True  # to Gradio's page it is a video like any other

    def preprocess(self, payload: FileData | None) -> str | None:
        """Return the path of the recording; None where there is none."""
        return payload.path if payload else None


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
        self.guards = registry.names("animation")
        names = list(poses.library())
        self.first = "wave" if "wave" in names else (names[0] if names else "")
        self.attack: GuardAttack | None = None
        self._lay_out()
        self._wire()

    def _lay_out(self) -> None:
        guide = prompt_guide()
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=360, elem_classes="hf-panel"):
                heading("1 · Pose")
                self.picker = pose_picker(self.first, elem_id="hf-poses")
                self.editor = joints.component()
                self._lay_out_sources()
                self.prompt = gr.Textbox(
                    guide["examples"][0],
                    label="2 · Person",
                    lines=2,
                    max_lines=4,
                    max_length=MAX_PROMPT,
                    elem_id="hf-prompt",
                )
                self.examples = []
                if self.engines.profile.drawing == "embedded":  # another model knows more words
                    with gr.Row(elem_classes="hf-chips"):
                        self.examples = [
                            (gr.Button(_short(text), size="sm"), text) for text in guide["examples"]
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
                self.kept = gr.JSON(visible=False)  # what the browser keeps of the last pair
                with gr.Row(equal_height=True):
                    self.files = [
                        gr.DownloadButton(label, size="sm", visible=False, elem_id=elem)
                        for label, elem in _DOWNLOADS
                    ]
                with gr.Row(equal_height=False):
                    with gr.Column(scale=2, min_width=320, elem_classes="hf-panel"):
                        heading("3 · Guards")
                        self.switches, self.strengths = [], []
                        # Of each guard that was not trained when the page was made: how to.
                        self.lacking: dict[str, gr.HTML] = {}
                        # Of each other guard: why it cannot be used, should the model refuse it.
                        self.refused: dict[str, gr.HTML] = {}
                        for name in self.guards:
                            self._guard(name)
                        if not self.guards:
                            markup(note("No guard for animation is installed."))
                        if self.refused:
                            self.attack = GuardAttack(
                                self.engines, self.sessions, self.scratch, list(self.refused)
                            )
                    with gr.Column(scale=1, min_width=240, elem_classes="hf-panel"):
                        heading("4 · Chance")
                        self.seed = gr.Number(
                            7, label="Seed", precision=0, minimum=0, maximum=2**32 - 1,
                            info="The same on both sides, and the same again tomorrow.",
                        )  # fmt: skip
                        self.dice = gr.Button("New seed", size="md", elem_id="hf-dice")
                        self.load = gr.UploadButton(
                            "Load settings", file_types=[".json"], size="md", elem_id="hf-load"
                        )
                        self.load_note = markup(elem_id="hf-load-note")
                        self.anew = gr.Button("Start anew", size="md", elem_id="hf-anew")
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

    def _lay_out_sources(self) -> None:
        """Lay out the ways to bring a pose of one's own."""
        with gr.Tabs(elem_id="hf-sources"):
            with gr.Tab("File"):
                self.upload = gr.UploadButton(
                    "Bring your own pose",
                    file_types=poses.FILE_TYPES,
                    file_count="multiple",
                    size="md",
                    elem_id="hf-upload",
                )
                markup(f'<p class="hf-small">{html.escape(_ACCEPTED)}</p>')
            with gr.Tab("Webcam"):
                # The browser's camera starts only at a click inside.
                self.webcam = gr.Image(
                    sources=["webcam"],
                    # As the film's: mirrored, right and left would be changed over.
                    webcam_options=gr.WebcamOptions(mirror=False),
                    type="numpy",
                    show_label=False,
                    buttons=[],
                    height=300,
                    elem_id="hf-webcam",
                )
                markup('<p class="hf-small">Step back until you are in view from head to foot, '
                       "then take the picture.</p>")  # fmt: skip
            with gr.Tab("Film yourself"):
                self.film = Recording(
                    sources=["webcam"],
                    include_audio=False,
                    webcam_options=gr.WebcamOptions(mirror=False, constraints=_CAMERA),
                    show_label=False,
                    buttons=[],
                    height=300,
                    elem_id="hf-film",
                )
                markup(
                    '<p class="hf-small">Record, move, and stop the recording; it ends by itself '
                    f"after {_LONGEST_FILM:.0f} s. Keep head and feet in view.</p>",
                    js_on_load=static("film.js").replace("__SECONDS__", f"{_LONGEST_FILM:g}"),
                )
        markup(f'<p class="hf-small">{_KEPT}</p>')
        self.fit = gr.Checkbox(
            True,
            label="Fit to the frame (off: keep size and place)",
            container=False,
            elem_id="hf-fit",
        )
        self.pose_note = markup(elem_id="hf-pose-note")
        with gr.Row(equal_height=True, elem_classes="hf-chips"):
            self.cancel = gr.Button(
                "Cancel reading", size="sm", visible=False,
                elem_id="hf-cancel-reading", elem_classes="hf-key-stop",
            )  # fmt: skip
            self.back = gr.Button("Back", size="sm", visible=False, elem_id="hf-pose-back")

    def _guard(self, name: str) -> None:
        card = registry.get(name).card
        missing = self.engines.missing_adapter(name)
        # One of each kind at first.
        rivals = registry.rivals(name, [*self.lacking, *self.refused])
        with gr.Column(elem_classes="hf-guard"):
            self.switches.append(
                gr.Checkbox(
                    not missing and not rivals,
                    label=card.title,
                    info=f"Aimed at: {card.aimed_at}",
                    interactive=not missing,
                    elem_id=f"hf-guard-{name}",
                )
            )
            self.strengths.append(
                gr.Slider(
                    0,
                    results.MAX_STRENGTH,
                    1.0,
                    step=0.05,
                    label="Strength",
                    interactive=not missing,
                )
            )
            if missing:
                self.lacking[name] = markup(_why_not(missing))
            else:
                self.refused[name] = markup()

    def _wire(self) -> None:
        shown = [
            self.picker, self.stage, self.pose_note, self.back, self.message, *self.files
        ]  # fmt: skip
        self.picker.select(self.choose, self.fit, shown, queue=False, **QUIET)
        reading = [self.pose_note, self.cancel]
        for event, source, take in (
            (self.upload.upload, self.upload, self.take_files),
            (self.film.change, self.film, self.take_film),
            (self.webcam.input, self.webcam, self.take_webcam),
        ):
            # Two events, as for Generate: while others' files are being read, the first one says
            # so and lets it be cancelled. "multiple": a second file takes over from the first.
            event(
                self.announce, source, reading, queue=False, trigger_mode="multiple", **QUIET
            ).then(
                take, [source, self.fit], [*shown, self.cancel],
                concurrency_id="reading", concurrency_limit=2, trigger_mode="multiple", **QUIET,
            )  # fmt: skip
        self.cancel.click(self.stop_reading, None, reading, queue=False, **QUIET)
        self.back.click(self.go_back, self.fit, shown, queue=False, **QUIET)
        pose = [self.fit, self.picker]
        self.fit.input(
            self.refit, pose, [self.stage, self.message, *self.files], queue=False, **QUIET
        )
        self.editor.edit(
            self.open_editor, pose, [self.editor, self.pose_note], queue=False, **QUIET
        )
        self.editor.upload(self.edit_file, self.fit, self.editor, queue=False, **QUIET)
        self.editor.submit(self.take_edited, self.fit, shown, queue=False, **QUIET)
        self.filled = [
            *shown, self.load_note, self.prompt, self.seed, self.steps, self.guidance,
            self.guided_until, self.redraw, *self.switches, *self.strengths,
            *self.lacking.values(), *([self.attack.use] if self.attack else []),
        ]  # fmt: skip
        self.load.upload(self.load_settings, [self.load, self.fit], self.filled, **QUIET)
        for name, switch in zip(self.guards, self.switches, strict=True):
            rivals = registry.rivals(name, self.guards)
            off = [self.switches[self.guards.index(rival)] for rival in rivals]
            if off:
                switch.input(partial(_instead, len(off)), switch, off, queue=False, **QUIET)
        if self.refused:
            some = [self.guards.index(name) for name in self.refused]
            fields = [field[at] for field in (self.switches, self.strengths) for at in some]
            # At each opening of the page: only the loaded model tells which guards fit.
            noted = [*fields, *self.refused.values()]
            gr.on(None, self.leave_out, None, noted, queue=False, **QUIET)
        for button, text in self.examples:
            button.click(None, None, self.prompt, js=f"() => {json.dumps(text)}", **PRIVATE)
        # A page that is loaded has all its defaults, the tour's among them.
        self.anew.click(None, None, None, js=_START_ANEW, **PRIVATE)
        self.dice.click(lambda: secrets.randbelow(2**32), None, self.seed, **QUIET)
        outputs = [self.stage, self.message, self.go, self.stop, *self.files]
        inputs = [
            *pose, self.prompt, self.seed, self.steps, self.guidance, self.guided_until,
            self.redraw,
        ]  # fmt: skip
        # Two events: the first answers at once, also while another visitor's pair is in the queue.
        # "multiple": each press has its own place in it, also where the one before was taken back
        # and its place is still to come.
        made = self.go.click(
            self.prepare, [*pose, *self.switches], outputs, queue=False, **QUIET
        ).then(
            self.generate,
            [
                *inputs, *self.switches, *self.strengths,
                *([self.attack.use] if self.attack else []),
            ],
            outputs,
            concurrency_id="animation", concurrency_limit=1, trigger_mode="multiple", **QUIET,
        )  # fmt: skip
        # Gradio refuses a seed out of range before the handler runs, and says so itself.
        made.failure(self.give_up, pose, outputs, queue=False, **QUIET)
        made.success(self.keep, None, self.kept, queue=False, **QUIET).then(
            None, self.kept, None, js=_KEEP, **PRIVATE
        )
        self.stop.click(
            self.stop_now, pose, [self.stage, self.message, self.go, self.stop], queue=False,
            **QUIET,
        ).then(self.settle, None, self.message, queue=False, **QUIET)  # fmt: skip

    def choose(self, event: gr.EventData, fit: bool, request: gr.Request) -> tuple:
        """Take a clip of the library and show its skeleton."""
        name = event.pick if event.pick in poses.library() else self.first
        return self.use(self.sessions.of(request), self._of_library(name), fit)

    def _of_library(self, name: str) -> Choice:
        """Describe a clip of the library."""
        close = name.startswith("face_") and self.engines.profile.drawing == "embedded"
        return Choice(name, remark=note(_CLOSE if close else ""))

    def use(self, session: Session, choice: Choice, fit: bool) -> tuple:
        """Make a pose the session's own choice, and keep the one before it to go back to.

        Args:
            session: the visitor's.
            choice: a clip of the library or one that the visitor brought.
            fit: whether own poses are fitted to the frame.

        Returns:
            Values of the library, the stage, the note on the pose, the button back, the message
            under the stage, and the downloads.
        """
        before = session.chosen or Choice(self.first)
        # Between two clips of the library a click does it; an own pose would be gone.
        if before.clip is not None or choice.clip is not None:
            session.former = before
        session.chosen = choice
        session.reading = _CHOSEN  # whatever is still being read comes too late
        return self._shown(session, fit)

    def announce(self, source: Any, request: gr.Request) -> tuple[Any, Any]:
        """Say that what was brought waits to be read, and offer to cancel it.

        Returns:
            Values of the note on the pose and of Cancel.
        """
        session, mine = self.sessions.of(request), object()
        session.readings.append(mine)  # for each a place, also where nothing is to be read
        if source is None:  # cleared for the next one
            return gr.skip(), gr.skip()
        session.reading = mine
        return note("Waiting for its turn …"), gr.Button(visible=True, interactive=True)

    def take_files(self, files: list[str], fit: bool, request: gr.Request) -> Iterator[tuple]:
        """Read what was uploaded: one file, or OpenPose JSON or pictures, each a frame."""
        paths = [Path(file) for file in files]
        kinds = {"film" if is_film(path) else path.suffix.lower() == ".json" for path in paths}
        # By name: Gradio keeps every file in a folder that is called after its content.
        taken = sorted(paths, key=_numbered)
        if len(kinds) > 1 or "film" in kinds:  # no frames of one clip: the last one counts
            taken = paths[-1:]
        name = taken[0].name + (f" and {len(taken) - 1} more" if len(taken) > 1 else "")
        yield from self._take(taken, name, fit, request, len(paths) - len(taken))

    def _take(
        self, paths: list[Path], name: str, fit: bool, request: gr.Request, left_out: int = 0
    ) -> Iterator[tuple]:
        """Read a pose; a wrong one leaves the chosen pose as it was.

        Args:
            paths: a file, or OpenPose JSON or a picture of each frame.
            name: what to call it.
            fit: whether own poses are fitted to the frame.
            request: the visitor's.
            left_out: how many more files were brought along, which is said.
        """
        session = self.sessions.of(request)
        mine = self._its_turn(session)
        clip, remark = None, ""
        wanted = session.reading is mine  # not cancelled or overtaken while it waited
        try:
            moving = is_film(paths[0]) or len(paths) > 1 and paths[0].suffix.lower() != ".json"
            if wanted and not moving:
                yield *_only(note("Finding the pose …")), gr.skip()
                clip = poses.read_pose(*paths)
            elif wanted:
                reading = (
                    poses.read_shots(paths, self.spec.frames)
                    if len(paths) > 1
                    else poses.read_film(paths[0], self.spec.frames, self.spec.fps)
                )
                for step in reading:
                    if session.reading is not mine:
                        break
                    if isinstance(step, PoseClip):
                        clip = step
                        break
                    remark = note(step.message) + meter(step.fraction, "Reading the frames")
                    yield *_only(remark), gr.Button(visible=True, interactive=True)
        except (PoseError, FileNotFoundError) as error:
            remark = note(told(error), "error")
        except Exception as error:  # a broken file must not leave the bar standing
            remark = note(f"{name} could not be read: {told(error)}", "error")
        hidden = gr.Button(visible=False)
        if clip is not None and left_out:
            clip = clip.with_notes(f"the last file is taken, and {left_out} more are not")
        if clip is not None and session.reading is mine:
            yield *self.use(session, self._own(name, clip), fit), hidden
        elif session.reading is mine:
            yield *_only(remark), hidden
        elif session.reading is None:
            yield *_only(note(_CANCELLED)), hidden
        else:
            yield _too_late(session)

    def take_film(self, file: str | None, fit: bool, request: gr.Request) -> Iterator[tuple]:
        """Read what the webcam filmed; nothing is read when it is cleared for the next film."""
        if file is None:
            yield self._cleared(request)
        else:
            yield from self._take([Path(file)], "your film", fit, request)

    def stop_reading(self, request: gr.Request) -> tuple[Any, gr.Button]:
        """End the reading of a video after the frame it is at, or take back what waits.

        Returns:
            Values of the note on the pose and of Cancel.
        """
        session = self.sessions.of(request)
        waits, session.reading = session.reading in session.readings, None
        if waits:
            return note(_CANCELLED), gr.Button(visible=False)
        return gr.skip(), gr.Button(interactive=False)

    def _its_turn(self, session: Session) -> object:
        """Take up what has waited longest to be read; a dropped connection may have lost it."""
        if session.readings:
            return session.readings.popleft()
        session.reading = object()
        return session.reading

    def _cleared(self, request: gr.Request) -> tuple:
        """Give up the place of a camera that holds nothing: it was cleared for the next take.

        Perhaps only after what it held was announced; the note on it goes then.
        """
        session = self.sessions.of(request)
        if self._its_turn(session) is session.reading:
            return *_only(""), gr.Button(visible=False)
        return *_only(gr.skip()), gr.skip()

    def take_webcam(
        self, picture: NDArray[np.uint8] | None, fit: bool, request: gr.Request
    ) -> tuple:
        """Find the pose in a picture that the webcam took; `picture` is RGB uint8 [H, W, 3]."""
        if picture is None:
            return self._cleared(request)
        session = self.sessions.of(request)
        mine, hidden = self._its_turn(session), gr.Button(visible=False)
        clip, remark = None, ""
        try:
            if session.reading is mine:
                clip = poses.read_picture(picture)
        except (PoseError, FileNotFoundError) as error:
            remark = note(told(error), "error")
        except Exception as error:  # the page must be told, and of no path
            remark = note(f"The picture could not be read: {told(error)}", "error")
        if session.reading is None:
            return *_only(note(_CANCELLED)), hidden
        if session.reading is not mine:
            return _too_late(session)
        if clip is None:
            return *_only(remark), hidden
        return *self.use(session, self._own("webcam picture", clip), fit), hidden

    def open_editor(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """Open the joint editor on the chosen pose, in the frame as the stage shows it."""
        try:
            clip, title = self._pose(self._session(request, marked), fit)
        except PoseError as error:
            return gr.skip(), note(told(error), "error")
        return joints.state(clip, title, self.spec.frames, self.spec.fps), gr.skip()

    def edit_file(self, event: gr.EventData, fit: bool) -> dict[str, Any]:
        """Open the joint editor on an OpenPose JSON file that it was given; a wrong one is told."""
        try:
            clip = poses.placed(load_openpose_json(str(event.clip)), self.spec.size, fit)
        except PoseError as error:
            return joints.refusal(told(error))
        name = str(event.title)[:_LONGEST_NAME]
        opened = joints.state(clip, name, self.spec.frames, self.spec.fps)
        return opened | {"notes": " ".join(self._told(clip))}

    def take_edited(self, event: gr.EventData, fit: bool, request: gr.Request) -> tuple:
        """Use the pose that the joint editor sent, at the place in the frame that it has there."""
        try:
            clip = joints.read(event.clip)
        except PoseError as error:
            return _only(note(told(error), "error"))
        choice = replace(self._own("the edited pose", clip), framed=True)
        return self.use(self.sessions.of(request), choice, fit)

    def go_back(self, fit: bool, request: gr.Request) -> tuple:
        """Change places with the pose before; pressed twice, all is as it was."""
        session = self.sessions.of(request)
        if session.former is None:  # the button is there only while there is one
            return _only(note(_LOST, "error"), gr.Button(visible=False))
        return self.use(session, session.former, fit)

    def refit(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """Show the chosen pose fitted to the frame or as it was."""
        kept = [gr.skip()] * len(_DOWNLOADS)
        try:
            session = self._session(request, marked)
        except PoseError as error:
            return gr.skip(), note(told(error), "error"), *kept
        if session.chosen.clip is None or session.chosen.framed:
            return gr.skip(), gr.skip(), *kept  # nothing to move, and a result would be gone
        return self._idle(self._pose(session, fit)), "", *_no_files()

    def leave_out(self) -> list[Any]:
        """Switch guards off that the model refused, and say why.

        Returns:
            Switches, then strengths, then notes of the guards that were there when the page was
            made.
        """
        reasons = [self.engines.missing_adapter(name) for name in self.refused]
        return [
            *[gr.Checkbox(False, interactive=False) if why else gr.skip() for why in reasons],
            *[gr.Slider(interactive=False) if why else gr.skip() for why in reasons],
            *map(_why_not, reasons),
        ]

    def connect(self, app: gr.Blocks) -> None:
        """Have the settings of the last pair come back when the page is opened again."""
        app.load(
            self.come_back, [self.kept, self.fit], self.filled, js=_BACK, queue=False, **QUIET
        )

    def keep(self, request: gr.Request) -> Any:
        """Return what the browser keeps of the session's last pair, if there was one."""
        made = self.sessions.of(request).made
        return gr.skip() if made is None else made

    def come_back(self, kept: Any, fit: bool, request: gr.Request) -> tuple:
        """Fill the form with the last pair's settings from before a reload.

        Nothing happens where the browser kept none, or what was not given to it, or where a pose
        was chosen already.
        """
        session = self.sessions.of(request)
        nothing = (gr.skip(),) * len(self.filled)
        if not isinstance(kept, dict) or session.chosen is not None:
            return nothing
        try:
            found = results.checked_settings(kept.get("settings"), "The last pair")
        except results.SettingsError:
            return nothing
        marked = kept.get("marked")
        if marked in list(poses.library()) and _same(poses.library()[marked], found.pose):
            choice = self._of_library(marked)
        else:
            remark = note("Using the pose of your last pair, framed as it was.", "good")
            choice = Choice("pose of your last pair", found.pose, framed=True, remark=remark)
        remarks, form = self._form(found)
        if session.chosen is not None:  # while that was looked up
            return nothing
        mark, base, *rest = self.use(session, choice, fit)
        said = note("\n".join([_AGAIN, *remarks]), "warn" if remarks else "")
        rest[2] = said  # under the stage
        return (mark, base, *rest, "", *form)

    def load_settings(self, file: str, fit: bool, request: gr.Request) -> tuple:
        """Fill the form with the settings of a result; a wrong file changes nothing."""
        path = Path(file)
        try:
            found = results.read_settings(path)
        except results.SettingsError as error:
            told_so = (*_only(gr.skip()), note(told(error), "error"))
            return *told_so, *[gr.skip()] * (len(self.filled) - len(told_so))
        remarks, form = self._form(found)
        usable = {name: strength for name, strength in found.guards.items() if self._here(name)}
        restored = (
            f"Restored from {path.name}: pose, prompt, seed {found.seed}, {found.steps} steps, "
            f"guidance {found.guidance_scale:g}, guards: {guard_note(usable) or 'none'}, "
            f"details {'redrawn' if found.redraw else 'as drawn'}."
        )
        own = Choice(
            f"pose of {path.name}", found.pose, framed=True,
            remark=note(f"Using the pose of {path.name}, framed as it was.", "good"),
        )  # fmt: skip
        shown = self.use(self.sessions.of(request), own, fit)
        kind = "warn" if remarks else "good"
        return *shown, note("\n".join([restored, *remarks]), kind), *form

    def _here(self, guard: str) -> bool:
        """Tell whether a guard can be used; since the page was made it may have been trained."""
        return guard in self.guards and not self.engines.missing_adapter(guard)

    def _form(self, found: results.Settings) -> tuple[list[str], tuple]:
        """Return what there is to warn of, and what the form shows, where settings are taken over.

        Returns:
            Remarks, and values of the fields from the prompt on (`filled`).
        """
        here = [name for name in self.guards if self._here(name)]
        usable = {name: strength for name, strength in found.guards.items() if name in here}
        remarks = []
        lost = sorted(set(found.guards) - set(usable))
        if any(name.startswith(ATTACKED) for name in lost):
            remarks.append("It was drawn with an attacked guard, which is not kept.")
        lost = [name for name in lost if not name.startswith(ATTACKED)]
        if lost:
            remarks.append(f"Not installed here, so left off: {', '.join(lost)[:200]}.")
        profile = self.engines.profile.drawing
        if found.profile and found.profile != profile:
            remarks.append(f"It was made with profile {found.profile[:40]}; this is {profile}.")
        others = self._others(found, usable)
        if others:
            remarks.append(f"Made with {' and '.join(others)}, so the clips will differ.")
        return remarks, (
            found.prompt, found.seed, found.steps, found.guidance_scale,
            found.guided_until, found.redraw and bool(self.spec.refiner),
            *[gr.Checkbox(name in usable, interactive=name in here) for name in self.guards],
            *[
                gr.Slider(value=usable[name], interactive=True) if name in usable
                else gr.Slider(interactive=name in here)
                for name in self.guards
            ],
            *["" if name in here else gr.skip() for name in self.lacking],
            *([gr.Checkbox(False)] if self.attack else []),
        )  # fmt: skip

    def _others(self, found: results.Settings, guards: dict[str, float]) -> list[str]:
        """Name what a result was made with that the form cannot set and that is another here.

        What its file does not say, or what a model that is still loading would tell, is left out.
        """
        others = []
        read = taught(found.prompt)[0] if self.spec.whole_words else found.prompt
        if (found.read or found.prompt) != read:
            others.append("another reading of the prompt")
        if found.sampler not in ("", self.spec.sampler):
            others.append("another sampler")
        if found.noise_share not in (None, self.spec.noise_share):
            others.append("another share of noise in common")
        if found.redraw and not self.spec.refiner:
            others.append("details redrawn")
        try:
            engine = self.engines.guarded_animation(guards)
        except (NotReady, ValueError):
            return others  # a guard that does not fit is told of when the pair is made
        if found.number_format not in ("", engine.number_format):
            others.append("another number format")
        here = engine.weights(name for name in guards if name in engine.guards)
        if not found.redraw:
            here.pop("refiner", None)  # it took no part
        if any(found.weights.get(part, own) != own for part, own in here.items()):
            others.append("other weights")
        return others

    def prepare(self, request: gr.Request, fit: bool, marked: str, *switches: bool) -> tuple:
        """Say at once that the pair is on its way, and make Stop work."""
        try:
            session = self._session(request, marked)
        except PoseError as error:
            return _refused(error)
        session.animation.press()
        base = self._idle(self._pose(session, fit), guarded=any(switches))
        state = stage.running(base, "waiting for the model", 0.0, "", None, None)
        return state, "", *_buttons(busy=True), *_no_files()

    def generate(
        self, request: gr.Request, fit: bool, marked: str, prompt: str, seed: float | None,
        steps: float, guidance: float, guided_until: float, redraw: bool, *guards: Any,
    ) -> Iterator[tuple]:  # fmt: skip
        """Make a pair and report on the way.

        `guards` are all switches, then all strengths, then, if there is one, whether the right side
        is to be drawn with the attacked guard.

        Of a press that was taken back while it waited nothing comes.
        """
        if not self.sessions.of(request).animation.take_up():
            yield _unchanged()
            return
        try:
            session = self._session(request, marked)
        except PoseError as error:
            yield _refused(error)
            return
        count = len(self.guards)
        switches, strengths = guards[:count], guards[count : 2 * count]
        attacked = any(guards[2 * count :])
        chosen = {
            guard: float(strength)
            for guard, on, strength in zip(self.guards, switches, strengths, strict=True)
            if on
        }
        pose, title = self._pose(session, fit)
        mark = _mark(session.chosen)
        base = self._idle((pose, title), guarded=bool(chosen))
        settings = {
            "steps": int(steps),
            "guidance_scale": float(guidance),
            "guidance_interval": (float(guided_until), 1.0),
            "redraw": bool(redraw),
        }
        message = note("Stopped. Nothing was kept.")
        try:
            registry.check_together(list(chosen))
            if self.attack is not None:
                chosen = self.attack.with_attack(session, chosen, attacked)
            if seed is None:
                raise ValueError("Enter a seed")
            if len(prompt) > MAX_PROMPT:  # a script need not heed the form's limit
                raise ValueError(
                    f"prompt is {len(prompt)} characters long; it must be at most {MAX_PROMPT}"
                )
            work = self.engines.guarded_animation(chosen).pair(
                pose, prompt, chosen, int(seed),
                should_stop=session.animation.stop.is_set, **settings,
            )  # fmt: skip
            made = yield from self._follow(session, work, base, chosen, pose.notes)
            if made is not None:
                session.made = {"settings": made, "marked": mark}
                return
        except (NotReady, ValueError) as error:
            message = note(told(error), "error")
        except Exception as error:  # whatever it was, the page must be usable again
            message = note(f"The pair could not be made: {told(error)}", "error")
        # Another pose may have been chosen meanwhile.
        idle, session.animation.ended = stage.ended(self._idle(self._pose(session, fit))), message
        yield idle, message, *_buttons(busy=False), *_no_files()

    def _follow(
        self,
        session: Session,
        work: Iterator[Any],
        base: dict[str, Any],
        chosen: dict[str, float],
        said: tuple[str, ...],
    ) -> Generator[tuple, None, dict[str, Any] | None]:
        """Turn an engine's progress and result into what the page shows.

        Returns:
            Settings of the result, None where there is none.
        """
        previews: tuple = (None, None)
        for item in work:
            if hasattr(item, "fraction"):
                new = (item.preview, item.preview_guarded)
                previews = tuple(
                    before if now is None else now
                    for before, now in zip(previews, new, strict=True)
                )
                eta = "" if item.seconds_left is None else f"{duration(item.seconds_left)} left"
                state = stage.running(base, item.message, item.fraction, eta, *previews)
                yield state, "", *_buttons(busy=True), *_no_files()
                continue
            folder = self.scratch.new()
            item = results.measured(item, self.engines.reader)
            unguarded, guarded, settings = results.save_pair(item, folder, self.spec.fps)
            files = (unguarded, guarded, *results.save_extras(item, folder, self.spec.fps),
                     settings)  # fmt: skip
            # What there was to say on the pose stands beside the pose already.
            remarks = "\n".join(text for text in item.settings["notes"] if text not in said)
            labels = [label for label, _ in _DOWNLOADS]
            if guarded is None:
                labels[2] = "GIF"  # of one clip
            downloads = [
                gr.DownloadButton(label, value=file, visible=file is not None)
                for label, file in zip(labels, files, strict=True)
            ]
            state = stage.done(base, unguarded, guarded, guard_note(chosen))
            state["note_open"] = results.short(item.settings)
            state["figures_open"], state["figures_held"] = results.figures(item.settings)
            session.animation.ended = note(remarks, "warn")
            yield state, session.animation.ended, *_buttons(busy=False), *downloads
            return item.settings
        return None

    def give_up(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """Make the page usable again after an error that Gradio has shown."""
        # Its turn came without reaching `generate`.
        if not self.sessions.of(request).animation.take_up():
            return _unchanged()
        try:
            base = self._idle(self._pose(self._session(request, marked), fit))
        except PoseError as error:
            return _refused(error)
        message = note("Nothing was made; correct the settings.", "error")
        return stage.ended(base), message, *_buttons(busy=False), *_no_files()

    def stop_now(self, fit: bool, marked: str, request: gr.Request) -> tuple:
        """End this session's animation after the step it is in, or take back what waits.

        Returns:
            Values of the stage, the message, Generate and Stop.
        """
        session = self.sessions.of(request)
        if not session.animation.take_back():
            session.animation.stop.set()
            words = note("Stopping at the next step.")
            return gr.skip(), words, gr.skip(), gr.Button(interactive=False)
        session.animation.ended = None  # what follows are the last words
        try:
            idle = self._idle(self._pose(self._session(request, marked), fit))
        except PoseError as error:
            return _refused(error)[:4]
        return stage.ended(idle), note("Stopped before its turn came."), *_buttons(busy=False)

    def settle(self, request: gr.Request) -> Any:
        """Say again how the animation ended, if it has.

        Its last words and those of `stop_now` reach the page by two ways, in either order.
        """
        session = self.sessions.of(request)
        return gr.skip() if session.animation.ended is None else session.animation.ended

    def _session(self, request: gr.Request, marked: str) -> Session:
        """Return the visitor's session, with a pose chosen.

        Gradio closes a session when its connection drops, and the page may live on. What its
        library marks is chosen again then.

        Args:
            request: the visitor's.
            marked: name of the clip that the page marks; an empty one stands for an own pose.

        Raises:
            PoseError: the own pose is gone.
        """
        session = self.sessions.of(request)
        if session.chosen is None:
            if marked not in poses.library():
                raise PoseError(_LOST)
            session.chosen = Choice(marked)
        return session

    def _library_pose(self, name: str) -> tuple[PoseClip, str]:
        return poses.library()[name], poses.title(name)

    def _own(self, name: str, clip: PoseClip) -> Choice:
        """Describe a pose that a visitor brought."""
        frames, *notes = self._told(clip)
        remark = "\n".join([f"Using {name}: {frames}", *notes])
        return Choice(name, clip, remark=note(remark, "good"))

    def _told(self, clip: PoseClip) -> list[str]:
        """Return what there is to say on a clip that was read: its length, then its notes."""
        frames = "1 frame" if len(clip) == 1 else f"{len(clip)} frames"
        if len(clip) > self.spec.frames:
            frames += f", of which {self.spec.frames} are taken, evenly"
        return [f"{frames}.", *(f"{text[:1].upper()}{text[1:]}." for text in clip.notes)]

    def _pose(self, session: Session, fit: bool) -> tuple[PoseClip, str]:
        """Return the chosen pose in the model's frame, and its title."""
        chosen = session.chosen
        if chosen.clip is None:
            return self._library_pose(chosen.name)
        fit = fit and not chosen.framed
        return poses.placed(chosen.clip, self.spec.size, fit), "your pose"

    def _shown(self, session: Session, fit: bool) -> tuple:
        """Return what the page shows of a pose just chosen; of a result before it, nothing."""
        chosen, former = session.chosen, session.former
        back = gr.Button(visible=False)
        if former is not None:
            name = former.name if former.clip is not None else poses.title(former.name)
            short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
            back = gr.Button(f"Back to {short}", visible=True)
        idle = self._idle(self._pose(session, fit))
        return _mark(chosen), idle, chosen.remark, back, "", *_no_files()

    def _idle(self, pose: tuple[PoseClip, str], guarded: bool = True) -> dict[str, Any]:
        clip, title = pose
        return stage.idle(poses.for_player(clip, self.spec.frames), title, self.spec.fps, guarded)


def _numbered(path: Path) -> list[str | int]:
    """Return a file's name for sorting, its numbers as such: frame 2 comes before frame 10."""
    # Split by groups of digits, every second part is one.
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _instead(count: int, on: bool) -> Any:
    """Switch the other forms of a guard off where it was switched on."""
    others = [gr.Checkbox(False) if on else gr.skip() for _ in range(count)]
    return others if count > 1 else others[0]


def _why_not(reason: str) -> str:
    """Return the note beside a guard that cannot be used; nothing without a reason."""
    return note(reason, "warn")


def _same(clip: PoseClip, other: PoseClip) -> bool:
    return dump_openpose_json(clip) == dump_openpose_json(other)


def _mark(chosen: Choice) -> str:
    """Return which clip the library marks: none where the pose is the visitor's own."""
    return chosen.name if chosen.clip is None else ""


def _only(remark: Any, back: gr.Button | None = None) -> tuple:
    """Return what `AnimateTab.use` does where the pose, and a result of it, stay as they are."""
    kept = [gr.skip()] * len(_DOWNLOADS)
    return gr.skip(), gr.skip(), remark, back or gr.skip(), gr.skip(), *kept


def _too_late(session: Session) -> tuple:
    """Return what a reading shows that something else took over from.

    Of a pose that was chosen its note, in case the reading's came in between; nothing where another
    reading has notes of its own.
    """
    if session.reading is _CHOSEN:
        return *_only((session.chosen or Choice("")).remark), gr.Button(visible=False)
    return *_only(gr.skip()), gr.skip()


def _refused(error: Exception) -> tuple:
    """Return the outputs of Generate where nothing begins and the stage stays as it is."""
    kept = [gr.skip()] * len(_DOWNLOADS)
    return gr.skip(), note(told(error), "error"), *_buttons(busy=False), *kept


def _unchanged() -> tuple:
    """Return the outputs of Generate where the page stays as it is."""
    return (gr.skip(),) * (4 + len(_DOWNLOADS))


def _buttons(*, busy: bool) -> tuple[gr.Button, gr.Button]:
    return gr.Button(interactive=not busy), gr.Button(interactive=busy)


def _no_files() -> list[gr.DownloadButton]:
    return [gr.DownloadButton(visible=False)] * len(_DOWNLOADS)


def _short(prompt: str) -> str:
    """Return what tells an example apart: everything after "wearing"."""
    return prompt.rsplit("wearing ", 1)[-1]


def _vocabulary(words: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(kind)}</th><td>{html.escape(text)}</td></tr>"
        for kind, text in words.items()
    )
    return f'<table class="hf-table"><tbody>{rows}</tbody></table>'
