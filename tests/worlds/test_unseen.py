"""The unseen poses: apart from training, other bodies and cameras, and what ships."""

from __future__ import annotations

import ast
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.fetch import MissingWeights
from pipelines.paths import REPO
from pipelines.pose_json import dump_openpose_json, load_openpose_json
from worlds import unseen
from worlds.body import Pose, forward_kinematics
from worlds.data import FRAMES, Scene, random_scene, render_scene
from worlds.looks import Look
from worlds.motions import MOTIONS
from worlds.render import Camera, render
from worlds.unseen_motions import UNSEEN, unseen_motion

SHIPPED = sorted(unseen.UNSEEN_POSES.glob("*.json"))


def test_no_unseen_movement_is_a_training_movement() -> None:
    assert len(UNSEEN) >= 12
    assert not UNSEEN.keys() & MOTIONS.keys()
    assert {random_scene(seed).motion for seed in range(2000)} <= MOTIONS.keys()
    with pytest.raises(KeyError):
        render_scene(Scene(Look(), "archery", Camera(), 0), [0])


def test_nothing_that_trains_imports_them() -> None:
    """Neither at the top of a module nor within a function."""
    own = {"unseen", "unseen_motions", "mocap"}
    files = [f for part in ("worlds", "adapters") for f in (REPO / part).rglob("*.py")]
    assert len(files) > 20
    for file in files:
        if file.stem in own:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                assert not own & set(name.split(".")), f"{file.name} imports {name}"


@pytest.mark.parametrize("name", list(UNSEEN))
def test_movements_are_finite_move_and_loop(name: str) -> None:
    made = unseen_motion(name, random.Random(1), 16, 2.8)
    assert made == unseen_motion(name, random.Random(1), 16, 2.8)
    assert made != unseen_motion(name, random.Random(2), 16, 2.8)
    assert {pose.yaw for pose in made} == {2.8}
    places = np.array([list(forward_kinematics(pose).joints.values()) for pose in made])
    assert np.isfinite(places).all() and places[..., 1].min() > -0.1
    steps = np.abs(np.diff(places, axis=0)).max((1, 2))
    assert 0.02 < steps.max() < 0.9
    assert np.abs(places[0] - places[-1]).max() < 1.5 * steps.max() + 0.02


def test_the_doll_s_own_body_stays_as_it_is() -> None:
    skeleton = forward_kinematics(unseen_motion("wood_chop", random.Random(0), 4)[2])
    same = unseen.reshaped(skeleton, unseen.Body())
    for name, place in same.items():
        np.testing.assert_allclose(place, skeleton.joints[name], atol=1e-12)


def test_bones_get_their_length_and_the_feet_stay_down() -> None:
    skeleton = forward_kinematics(Pose())
    body = unseen.Body(torso=0.7, width=1.3, arm=0.5, leg=1.4)
    new, old = unseen.reshaped(skeleton, body), skeleton.joints

    def bone(joints: dict[str, np.ndarray], a: str, b: str) -> float:
        return float(np.linalg.norm(joints[a] - joints[b]))

    pairs = [("Rsh", "Rel", 0.5), ("Lkn", "Lan", 1.4), ("Rsh", "Lsh", 1.3), ("waist", "neck", 0.7)]
    for a, b, factor in pairs:
        assert bone(new, a, b) == pytest.approx(factor * bone(old, a, b)), (a, b)
    assert new["Ran"][1] == pytest.approx(old["Ran"][1])


def test_a_distant_upright_camera_sees_what_the_renderer_draws() -> None:
    pose = unseen_motion("archery", random.Random(0), 4, 0.3)[1]
    frame = render(Look(), pose, Camera(pitch=0.1, scale=0.42, y=0.5, focus=0.95))
    lens = unseen.Lens(distance=1e4, pitch=0.1, width=256, height=256)
    clip = unseen.seen_through([pose], unseen.Body(), lens)
    both = clip.seen[0] & (frame.confidence > 0)
    assert both.sum() >= 15
    assert np.abs(clip.keypoints[0] - frame.keypoints)[both].max() < 1.5
    near = unseen.seen_through([pose], unseen.Body(), replace(lens, distance=1.9))
    assert np.abs(near.keypoints - clip.keypoints)[0, both].max() > 5, "perspective"


def test_errors_are_small_but_for_lapses_and_dropouts() -> None:
    recipe = unseen.Recipe("hula", 0.0)
    clip = unseen.unseen_clip(recipe)
    found = unseen.as_found(clip, np.random.default_rng(0))
    both = clip.seen & found.seen
    torso = np.linalg.norm(clip.keypoints[:, 1] - clip.keypoints[:, 8], axis=-1).mean()
    off = np.linalg.norm(found.keypoints - clip.keypoints, axis=-1)[both] / torso
    assert 0.01 < np.median(off) < 0.08 and (off > 0.2).mean() < 0.1
    assert 0.8 < both.sum() / clip.seen.sum() < 1
    assert found.confidence[both].std() > 0.05


def test_what_ships_is_what_the_command_makes() -> None:
    assert [path.stem for path in SHIPPED] == [recipe.motion for recipe in unseen.RECIPES]
    assert len(SHIPPED) >= 16 and {r.motion for r in unseen.RECIPES} == UNSEEN.keys()
    assert sum(path.stat().st_size for path in SHIPPED) < 250_000
    for recipe, path in zip(unseen.RECIPES, SHIPPED, strict=True):
        clip = load_openpose_json(path)
        assert len(clip) == FRAMES
        if recipe.source != "extracted":
            assert path.read_text() == dump_openpose_json(unseen.unseen_clip(recipe)) + "\n"
    assert {recipe.source for recipe in unseen.RECIPES} == {"exact", "found", "extracted"}


def test_an_extracted_clip_is_found_again_and_another_seed_is_another_set(tmp_path: Path) -> None:
    recipe = next(r for r in unseen.RECIPES if r.motion == "hula")
    try:
        clip = unseen.unseen_clip(recipe)
    except MissingWeights as missing:
        pytest.skip(str(missing))
    shipped = load_openpose_json(unseen.UNSEEN_POSES / "hula.json")
    both = clip.seen & shipped.seen
    assert both.mean() > 0.8
    assert np.abs(clip.keypoints - shipped.keypoints)[both].mean() < 3
    other = unseen.unseen_clip(unseen.RECIPES[0], seed=1)
    assert np.abs(other.keypoints - load_openpose_json(SHIPPED[0]).keypoints).max() > 2
