"""Data sets of rendered avatars, on disk as memory-mapped arrays.

A set is a folder: ``images.npy`` uint8 [N, 256, 256, 3], ``keypoints.npy`` float32 [N, 18, 3]
(x, y in pixels, confidence), ``landmarks.npy`` float32 [N, 68, 2], ``masks.npy`` packed bits of the
figure, ``meta.jsonl`` one line a picture. Frames of a clip are consecutive. The training and the
held-out sets draw from disjoint seeds: number ``i`` of a set always is the same picture.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from pipelines.pose_drawing import draw_skeleton
from worlds.looks import Look, caption, random_look
from worlds.motions import MOTIONS
from worlds.render import SIZE, Camera, closeup_camera, random_camera, render

FRAMES = 16
HELD_OUT_SEED = 1_000_003
"""Of the sets that no training learns from, and that settings and weights are chosen by."""
TEST_SEED = 2_000_003
"""Of the sets that only the reported figures are measured on; nothing is chosen by them."""
CLOSEUP_SHARE = 0.1
"""Share of single pictures that show a face, led by landmarks instead of joints."""


@dataclass(frozen=True)
class Scene:
    """Everything that makes a clip but its time: who, what, seen from where."""

    look: Look
    motion: str
    camera: Camera
    seed: int
    closeup: bool = False


def random_scene(seed: int, closeups: bool = True) -> Scene:
    """Draw scene number ``seed``.

    Args:
        seed: Number of the scene.
        closeups: Whether face close-ups may come up.
    """
    rng = random.Random(seed)
    look = random_look(rng)
    motion = rng.choice(list(MOTIONS))
    closeup = closeups and rng.random() < CLOSEUP_SHARE
    return Scene(
        look,
        motion,
        closeup_camera(rng) if closeup else random_camera(rng),
        rng.randrange(2**31),
        closeup,
    )


def render_scene(scene: Scene, frames: Sequence[int]) -> list[tuple]:
    """Render some of a scene's 16 frames: image, keypoints [18, 3], landmarks, mask, meta."""
    rng = random.Random(scene.seed)
    poses = MOTIONS[scene.motion].make(rng, FRAMES)
    rows = []
    for t in frames:
        frame = render(scene.look, poses[t], scene.camera)
        meta = {
            "look": asdict(scene.look),
            "motion": scene.motion,
            "time": t,
            "closeup": scene.closeup,
            "seed": scene.seed,
            "caption": caption(scene.look, MOTIONS[scene.motion].verb, scene.closeup),
        }
        keypoints = np.concatenate([frame.keypoints, frame.confidence[:, None]], 1)
        rows.append((frame.image, keypoints, frame.landmarks, np.packbits(frame.mask), meta))
    return rows


def _render_number(number: int, clips: bool, seed: int) -> list[tuple]:
    if clips:
        return render_scene(random_scene(seed + number, closeups=False), range(FRAMES))
    scene = random_scene(seed + number)
    return render_scene(scene, [time_of(scene)])


def time_of(scene: Scene) -> int:
    """Return which of a scene's frames stands for it in a set of single pictures."""
    return random.Random(scene.seed + 1).randrange(FRAMES)


def build(
    folder: Path,
    count: int,
    *,
    clips: bool = False,
    seed: int = 0,
    workers: int = 2,
    numbers: Sequence[int] | None = None,
    job: Callable[[int], list[tuple]] | None = None,
) -> AvatarSet:
    """Render a set into ``folder``, or return it if it is already there and large enough.

    Args:
        folder: Where to write.
        count: Number of pictures, or of 16-frame clips.
        clips: Whether to render whole clips.
        seed: First scene number; ``HELD_OUT_SEED`` for held-out sets, ``TEST_SEED`` for test sets.
        workers: Processes; 0 renders in this one.
        numbers: Of the scenes, ``count`` of them, counted from ``seed``; by default the first ones.
            A set of single pictures of others that is there is replaced.
        job: Renders the frames of a number, in place of those of scenes.
    """
    total = count * (FRAMES if clips else 1)
    if (folder / "meta.jsonl").exists():
        there = AvatarSet(folder)
        asked = None if clips or job is not None else numbers
        same = asked is None or [row["seed"] for row in there.meta[:total]] == [
            random_scene(seed + number).seed for number in asked
        ]
        if len(there) >= total and same:
            return there
    # Beside it, and then in its place: whoever has a former set mapped keeps it, and what was
    # computed from that one (latents, embedded skeletons) goes with it.
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)

    def array(name: str, dtype: type, *shape: int) -> np.ndarray:
        return np.lib.format.open_memmap(unfinished / f"{name}.npy", "w+", dtype, (total, *shape))

    images, masks = array("images", np.uint8, SIZE, SIZE, 3), array("masks", np.uint8, SIZE**2 // 8)
    keypoints = array("keypoints", np.float32, 18, 3)
    landmarks = array("landmarks", np.float32, 68, 2)
    metas = []
    job = job or partial(_render_number, clips=clips, seed=seed)
    chosen = range(count) if numbers is None else numbers
    with ProcessPoolExecutor(workers) if workers else nullcontext() as pool:
        chunk = 1 if clips else 16
        rendered = pool.map(job, chosen, chunksize=chunk) if pool else map(job, chosen)
        for rows in rendered:
            for image, points, face, mask, meta in rows:
                i = len(metas)
                images[i], keypoints[i], landmarks[i], masks[i] = image, points, face, mask
                metas.append(json.dumps(meta))
    for part in (images, masks, keypoints, landmarks):
        part.flush()
    (unfinished / "meta.jsonl").write_text("\n".join(metas) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return AvatarSet(folder)


class AvatarSet:
    """A rendered set, read lazily."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        load = partial(np.load, mmap_mode="r")
        self.images = load(folder / "images.npy")
        self.keypoints = load(folder / "keypoints.npy")
        self.landmarks = load(folder / "landmarks.npy")
        self._masks = load(folder / "masks.npy")

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    @cached_property
    def meta(self) -> list[dict]:
        """What is known about each picture: look, motion, time, closeup, caption."""
        with (self.folder / "meta.jsonl").open() as lines:
            return [json.loads(line) for line in lines]

    def mask(self, i: int) -> np.ndarray:
        """The figure in picture ``i``, bool [256, 256]."""
        return np.unpackbits(self._masks[i]).reshape(SIZE, SIZE).astype(bool)

    def condition(
        self, i: int, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
    ) -> np.ndarray:
        """The ControlNet picture of ``i``: joints, or landmarks up close.

        Args:
            i: Number of the picture.
            zoom: Scales the figure about the middle of the frame.
            shift: Then moves it right and down, in parts of the frame's side.

        Returns:
            RGB uint8 [256, 256, 3].
        """
        if self.meta[i]["closeup"]:
            return draw_skeleton(
                np.zeros((18, 2), np.float32),
                np.zeros(18, np.float32),
                SIZE,
                face=self.moved(self.landmarks[i], zoom, *shift),
            )
        joints = self.moved(self.keypoints[i, :, :2], zoom, *shift)
        return draw_skeleton(joints, self.keypoints[i, :, 2], SIZE)

    @staticmethod
    def moved(points: np.ndarray, zoom: float, right: float, down: float) -> np.ndarray:
        """Move points [N, 2], in pixels, as `condition` moves a figure."""
        middle = (SIZE - 1) / 2
        return (points - middle) * zoom + middle + SIZE * np.asarray((right, down), np.float32)

    def clips(self) -> Iterator[range]:
        """Index ranges of the 16-frame clips of a clip set."""
        for start in range(0, len(self) - FRAMES + 1, FRAMES):
            yield range(start, start + FRAMES)
