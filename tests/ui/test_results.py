"""A pair's files and its settings on their way back. No server."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.animation import PairResult
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import dump_openpose_json
from ui import poses, results

NASTY = "<img src=x onerror=alert(1)>"


def a_result(clip, guarded: bool = True) -> PairResult:
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    settings = {
        "profile": "embedded", "prompt": "a person", "guards": {"poseguard": 0.85}, "seed": 9,
        "steps": 12, "guidance_scale": 2.5, "guidance_interval": [0.7, 1.0],
        "pose": json.loads(dump_openpose_json(clip)),
    }  # fmt: skip
    return PairResult(frames, frames if guarded else None, frames, settings)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_result_is_written_with_its_seed_and_reads_back(tmp_path, guarded):
    clip = poses.placed(poses.library()["walk"], 256, True)
    made = a_result(clip, guarded)
    unguarded, held, settings = results.save_pair(made, tmp_path, 8)
    gif, pose = results.save_extras(made, tmp_path, 8)
    assert (held is not None) == guarded
    for path in (unguarded, settings, gif, pose):
        assert "seed-9" in path.name
    assert gif.name.startswith("pair" if guarded else "unguarded")
    with Image.open(gif) as pair:
        assert pair.n_frames == 4
        assert pair.size == (2 * 64 + 8 if guarded else 64, 64 + 12)
    read = results.read_settings(settings)
    assert (read.prompt, read.seed, read.steps, read.guidance_scale) == ("a person", 9, 12, 2.5)
    assert read.guards == {"poseguard": 0.85}
    assert read.guided_until == 0.7
    # The pose is the same to the pixel, in the settings and in its own file.
    wanted = draw_clip(clip, 256, 16)
    for again in (read.pose, poses.read_pose(pose)):
        np.testing.assert_array_equal(draw_clip(again, 256, 16), wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, '"seed" is -1; wanted a whole number from 0'),
        ({"seed": 1.5}, '"seed" is 1.5'),
        ({"seed": True}, '"seed" is True; wanted a whole number'),
        ({"steps": 51}, '"steps" is 51; wanted a whole number from 1 to 50'),
        ({"guidance_scale": float("nan")}, '"guidance_scale" is nan'),
        ({"guidance_scale": NASTY}, '"guidance_scale" is text; wanted a number$'),
        ({"redraw": 1}, '"redraw" is a number; wanted true or false'),
        ({"guidance_interval": [0.5]}, '"guidance_interval" must be a list of two'),
        ({"guidance_interval": [0.5, 0.8]}, r'"guidance_interval\[1\]" is 0.8'),
        ({"guidance_interval": [0.99, 1]}, r'"guidance_interval\[0\]" is 0.99'),
        ({"prompt": " "}, '"prompt" is text of 1 characters'),
        ({"prompt": "x" * 301}, '"prompt" is text of 301 characters'),
        ({"prompt": None}, '"prompt" is null'),
        ({"guards": ["poseguard"]}, '"guards" is a list'),
        ({"guards": {"poseguard": 2}}, '"guards.poseguard" is 2'),
        ({"pose": {"people": []}}, '"pose": no person found'),
        ({"pose": 7}, '"pose": the JSON is a number'),
    ],
)
def test_wrong_settings_are_refused_by_field(tmp_path, change, words):
    settings = a_result(poses.library()["walk"]).settings | change
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(results.SettingsError, match=words):
        results.read_settings(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "settings.json is not JSON. Choose a file saved with “Settings JSON”."),
        ("[" * 100_000, "settings.json is not JSON. Choose a file saved with “Settings JSON”."),
        ("\xff", "settings.json is not JSON. Choose a file saved with “Settings JSON”."),
        ("[]", "settings.json holds a list. Choose a file"),
        ('{"people": []}', 'no field "prompt", "seed", "steps", .*. Choose a file'),
        (" " * 8_000_001, "8.0 MB; the limit is 8 MB"),
    ],
)
def test_other_files_are_no_settings(tmp_path, content, words):
    path = tmp_path / "settings.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(results.SettingsError, match=words):
        results.read_settings(path)
