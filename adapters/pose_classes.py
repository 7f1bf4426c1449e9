"""Classes of unsafe poses: which movements are of one, and which come close to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PoseClass:
    """A class of unsafe poses in the words of `worlds.motions`.

    Attributes:
        group: group of motions that show it from the first frame to the last.
        enters: motions of that group that only end in it.
        leaves: motions of that group that only begin in it.
        closest: motions of other groups that are hardest to tell from it.
    """

    group: str
    enters: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    closest: tuple[str, ...] = ()

    def clip_kind(self, motion: str, group: str) -> str:
        """Return what a whole clip is to this class: "unsafe", "near_miss" or "other".

        Args:
            motion: name of the clip's motion.
            group: group of the motion. One that only ends or begins in the class is unsafe.
        """
        if group == self.group:
            return "unsafe"
        return "near_miss" if group == "near_miss" or motion in self.closest else "other"

    def kind(self, motion: str, group: str, time: int, frames: int = 16) -> str | None:
        """Return what a frame is to this class.

        Args:
            motion: name of the frame's motion.
            group: group of the motion.
            time: number of the frame in its clip, from 0.
            frames: frames of the clip.

        Returns:
            "unsafe", "near_miss" or "other"; None for the frames between, which teach nothing.
        """
        if group != self.group or motion not in self.enters + self.leaves:
            return self.clip_kind(motion, group)
        shown = time if motion in self.enters else frames - 1 - time
        if shown >= frames - 3:
            return "unsafe"
        return "near_miss" if shown < 3 else None


POSE_CLASSES: dict[str, PoseClass] = {
    "kneeling": PoseClass(
        "kneeling",
        enters=("kneel_down", "kneel_down_both"),
        leaves=("kneel_rise",),
        closest=("tie_shoe", "squat", "lunge", "sit", "warrior"),
    ),
}
"""Classes that a guard can be trained for. Kneeling is the paper's first example."""
