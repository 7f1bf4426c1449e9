"""The panel of the pose: the library, the joint editor, and the ways to bring one's own."""

from __future__ import annotations

import html
from collections.abc import Sequence

import gradio as gr
from gradio.data_classes import FileData

from pipelines.film import MAX_SECONDS
from pipelines.pose_json import MAX_JSON_BYTES
from ui import joints, poses
from ui.animate_choice import PoseChoice
from ui.animate_reading import PoseReading
from ui.blocks import QUIET, heading, markup, pose_picker
from ui.session import CACHE_SECONDS
from ui.theme import static

ACCEPTED = (
    "Photo, skeleton or OpenPose JSON, of a clip also a file for each frame; video (mp4, webm, "
    f"mov, gif) up to {MAX_SECONDS:.0f} s and 1920 × 1080. At most {poses.MAX_UPLOAD_MB} MB, JSON "
    f"{MAX_JSON_BYTES / 1e6:.0f} MB."
)
"""What can be brought, as the page states it."""
_KEPT = (
    "Of what you bring only the joints are used. The server deletes the file within "
    f"{sum(CACHE_SECONDS) / 3600:g} hours; the joints of your last pair stay in this browser tab "
    "until you close it or press Reset."
)
_LONGEST_FILM = MAX_SECONDS - 1  # of the webcam: what is longer than the limit is not read
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


class PosePanel:
    """Builds the panel inside the current layout, and wires it to the handlers of the pose.

    Attributes:
        inputs: what tells the handlers of the pose: whether own poses are fitted to the frame, and
            which clip of the library is marked.
        shown: what a handler that may change the pose fills; there once `wire` was called.
    """

    def __init__(self, choice: PoseChoice, reading: PoseReading) -> None:
        """Lay out the panel; `wire` makes it work.

        Args:
            choice: handlers of the pose that is chosen.
            reading: handlers of poses that are brought.
        """
        self.choice = choice
        self.reading = reading
        heading("1 · Pose")
        self.picker = pose_picker(choice.first, elem_id="hf-poses")
        self.editor = joints.component()
        self._lay_out_sources()
        self.inputs = [self.fit, self.picker]

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
                markup(f'<p class="hf-small">{html.escape(ACCEPTED)}</p>')
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

    def wire(self, stage: gr.HTML, message: gr.HTML, files: Sequence[gr.DownloadButton]) -> None:
        """Make the panel work.

        Args:
            stage: where the pose is shown.
            message: below it; what it says of a result goes with the result.
            files: the downloads of a result.
        """
        self.shown = [self.picker, stage, self.pose_note, self.back, message, *files]
        choice, reading = self.choice, self.reading
        self.picker.select(choice.choose, self.fit, self.shown, queue=False, **QUIET)
        waiting = [self.pose_note, self.cancel]
        for event, source, take in (
            (self.upload.upload, self.upload, reading.take_files),
            (self.film.change, self.film, reading.take_film),
            (self.webcam.input, self.webcam, reading.take_webcam),
        ):
            # Two events, as for Generate: while others' files are being read, the first one says
            # so and lets it be cancelled. "multiple": a second file takes over from the first.
            event(
                reading.announce, source, waiting, queue=False, trigger_mode="multiple", **QUIET
            ).then(
                take, [source, self.fit], [*self.shown, self.cancel],
                concurrency_id="reading", concurrency_limit=2, trigger_mode="multiple", **QUIET,
            )  # fmt: skip
        self.cancel.click(reading.stop_reading, None, waiting, queue=False, **QUIET)
        self.back.click(choice.go_back, self.fit, self.shown, queue=False, **QUIET)
        self.fit.input(choice.refit, self.inputs, [stage, message, *files], queue=False, **QUIET)
        self.editor.edit(
            choice.open_editor, self.inputs, [self.editor, self.pose_note], queue=False, **QUIET
        )
        self.editor.upload(choice.edit_file, self.fit, self.editor, queue=False, **QUIET)
        self.editor.submit(choice.take_edited, self.fit, self.shown, queue=False, **QUIET)
