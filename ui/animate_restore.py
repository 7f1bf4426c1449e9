"""Settings of a result on their way back into the form: from a file, or after a reload.

The browser keeps the settings of its last pair. A page that is loaded anew hands them over; Gradio
loads it anew by itself where the connection drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.pose import PoseClip
from pipelines.pose_json import dump_openpose_json
from pipelines.wording import taught
from ui import poses, results
from ui.animate_answers import only
from ui.animate_choice import PoseChoice
from ui.animate_guards import GuardPanel, guard_note
from ui.engines import Engines, NotReady, told
from ui.guard_attack import ATTACKED
from ui.markup import note
from ui.session import Choice, Sessions

KEEP = """(pair) => {
  if (!pair) return;
  try {
    sessionStorage.removeItem('holdfast-pair');
    sessionStorage.setItem('holdfast-pair', JSON.stringify(pair));
  } catch {}
}"""
"""Has the browser keep a pair. It may be too long for it, or not allowed; then nothing comes
back."""
START_ANEW = """() => {
  try { sessionStorage.removeItem('holdfast-pair'); } catch {}
  location.reload();
}"""
"""Forgets the last pair. A page that is loaded has all its defaults, the tour's among them."""
BACK = """(pair, fit) => {
  try { return [JSON.parse(sessionStorage.getItem('holdfast-pair') ?? 'null'), fit]; } catch {}
  return [null, fit];
}"""
"""Has the browser give back the pair that it kept, None where it kept none."""

_AGAIN = (
    "The page was loaded anew. Pose, prompt and settings are those of your last pair; "
    "“Generate the pair” makes it anew, “Reset” forgets it."
)


class Restoring:
    """The handlers that fill the form with a result's settings, and keep those of the last pair.

    Attributes:
        filled: the components that `load_settings` and `come_back` fill.
    """

    def __init__(
        self, engines: Engines, sessions: Sessions, choice: PoseChoice, guards: GuardPanel,
        filled: Sequence[gr.components.Component],
    ) -> None:  # fmt: skip
        """Use these parts.

        Args:
            engines: the models.
            sessions: what each visitor has open.
            choice: takes the result's pose over.
            guards: takes its guards over.
            filled: `PosePanel.shown`, the note on what was loaded, prompt, seed, steps, guidance
                and its end, whether details are redrawn, and `GuardPanel.fields`.
        """
        self.engines = engines
        self.sessions = sessions
        self.choice = choice
        self.guards = guards
        self.spec = engines.profile.animation
        self.filled = list(filled)

    def load_settings(self, file: str, fit: bool, request: gr.Request) -> tuple:
        """Fill the form with the settings of a result; a wrong file changes nothing."""
        path = Path(file)
        try:
            found = results.read_settings(path)
        except results.SettingsError as error:
            told_so = (*only(gr.skip()), note(told(error), "error"))
            return *told_so, *[gr.skip()] * (len(self.filled) - len(told_so))
        remarks, form = self._form(found)
        usable = self.guards.usable(found.guards)
        restored = (
            f"Restored from {path.name}: pose, prompt, seed {found.seed}, {found.steps} steps, "
            f"guidance {found.guidance_scale:g}, guards: {guard_note(usable) or 'none'}, "
            f"details {'redrawn' if found.redraw else 'as drawn'}."
        )
        own = Choice(
            f"pose of {path.name}", found.pose, framed=True,
            remark=note(f"Using the pose of {path.name}, framed as it was.", "good"),
        )  # fmt: skip
        shown = self.choice.use(self.sessions.of(request), own, fit)
        kind = "warn" if remarks else "good"
        return *shown, note("\n".join([restored, *remarks]), kind), *form

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
            choice = self.choice.of_library(marked)
        else:
            remark = note("Using the pose of your last pair, framed as it was.", "good")
            choice = Choice("pose of your last pair", found.pose, framed=True, remark=remark)
        remarks, form = self._form(found)
        if session.chosen is not None:  # while that was looked up
            return nothing
        mark, base, *rest = self.choice.use(session, choice, fit)
        said = note("\n".join([_AGAIN, *remarks]), "warn" if remarks else "")
        rest[2] = said  # under the stage
        return (mark, base, *rest, "", *form)

    def _form(self, found: results.Settings) -> tuple[list[str], tuple]:
        """Return what there is to warn of, and what the form shows, where settings are taken over.

        Returns:
            Remarks, and values of the fields from the prompt on (`filled`).
        """
        usable = self.guards.usable(found.guards)
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
            *self.guards.restored(found.guards),
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


def _same(clip: PoseClip, other: PoseClip) -> bool:
    return dump_openpose_json(clip) == dump_openpose_json(other)
