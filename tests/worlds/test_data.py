"""Rendered sets: the same numbers give the same pictures; clips are consecutive."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from worlds.body import Pose
from worlds.data import FRAMES, AvatarSet, build, random_scene, render_scene
from worlds.looks import Look
from worlds.render import closeup_camera, random_camera, render


def test_build_writes_once_and_reads_back(tmp_path: Path) -> None:
    data = build(tmp_path / "set", 4, workers=1)
    again = build(tmp_path / "set", 4, workers=1)
    assert len(data) == len(again) == 4
    assert data.images.shape == (4, 256, 256, 3)
    scene = random_scene(2)
    image, keypoints, _, mask, meta = render_scene(scene, [data.meta[2]["time"]])[0]
    assert np.array_equal(data.images[2], image)
    assert np.allclose(data.keypoints[2], keypoints)
    assert np.array_equal(data.mask(2), np.unpackbits(mask).reshape(256, 256).astype(bool))
    assert data.meta[2]["caption"] == meta["caption"]


def test_clips_keep_look_and_background(tmp_path: Path) -> None:
    data = build(tmp_path / "clips", 2, clips=True, workers=1)
    assert len(data) == 2 * FRAMES
    for clip in data.clips():
        assert len({data.meta[i]["caption"] for i in clip}) == 1
        assert [data.meta[i]["time"] for i in clip] == list(range(FRAMES))
        assert data.condition(clip[0]).any()


def test_closeups_are_led_by_landmarks(tmp_path: Path) -> None:
    data: AvatarSet = build(tmp_path / "many", 40, workers=1)
    close = [i for i in range(40) if data.meta[i]["closeup"]]
    assert close
    picture = data.condition(close[0])
    assert picture.any()
    assert (picture[picture.any(-1)] == picture[picture.any(-1)][:, :1]).all(), "white dots only"


def test_a_set_that_was_interrupted_is_made_again(tmp_path: Path) -> None:
    first = build(tmp_path / "set", 1, workers=1)
    (tmp_path / "set" / "latents-of-it.npy").touch()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(json, "dumps", _interrupted)
        build(tmp_path / "set", 2, workers=1)
    assert len(AvatarSet(tmp_path / "set").meta) == 1, "the former set stays until then"
    again = build(tmp_path / "set", 2, workers=1)
    assert len(again.meta) == 2 and again.images[1].any()
    assert first.images[0].any(), "who has the former one open can go on"
    assert not (tmp_path / "set" / "latents-of-it.npy").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def _interrupted(*_: object) -> str:
    raise KeyboardInterrupt


def test_a_set_of_other_scenes_is_replaced(tmp_path: Path) -> None:

    def seeds(numbers: list[int] | None, seed: int = 5) -> list[int]:
        data = build(tmp_path / "set", 2, seed=seed, workers=0, numbers=numbers)
        return [row["seed"] for row in data.meta]

    first, again, other = seeds([3, 4]), seeds([3, 4]), seeds([3, 6])
    assert first == again and first[0] == other[0] and first[1] != other[1]
    assert seeds(None, seed=9) == other, "without numbers any will do"


def test_a_camera_knows_whether_it_shows_the_floor() -> None:
    """That is, whether the ankles of somebody who stands are in the frame."""
    shown = {True: 0, False: 0}
    for seed in range(150):
        camera = random_camera(random.Random(seed))
        frame = render(Look(), Pose(), camera)
        shown[camera.shows_floor] += 1
        assert (frame.confidence[[10, 13]] > 0).all() == camera.shows_floor, seed
    assert shown[True] > 4 * shown[False] > 0
    assert not closeup_camera(random.Random(0)).shows_floor
