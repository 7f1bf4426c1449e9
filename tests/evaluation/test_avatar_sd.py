"""The measurement of Avatar-SD: figures by hand, and a run on a tiny model of the real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from evaluation import avatar_sd
from evaluation.frames import SHEET_SIDE, resized
from evaluation.reader import ATTRIBUTES, Reader, ReaderNet, Reading
from evaluation.scenes import Scene, pose_scenes, scenes
from pipelines.animation import AnimationEngine
from pipelines.pose import PoseClip
from pipelines.pose_json import dump_openpose_json
from tests.tiny import FRAMES, SIZE, tiny_avatar_sd, tiny_profile
from worlds import motion
from worlds.autoencoder import to_images
from worlds.data import HELD_OUT_SEED, TEST_SEED, AvatarSet, build
from worlds.unseen import RECIPES, UNSEEN_POSES


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> AvatarSet:
    return build(tmp_path_factory.mktemp("clips"), 2, clips=True, seed=avatar_sd.CLIP_SEED,
                 workers=1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnimationEngine]:
    folder = tiny_avatar_sd(tmp_path_factory.mktemp("avatar-sd"))
    yield AnimationEngine(tiny_profile(folder))


def test_fidelity_by_hand() -> None:
    pictures = np.full((1, 32, 32, 3), 100, np.uint8)
    psnr_db, ssim = avatar_sd.fidelity(pictures, pictures + np.uint8(10))
    # Mean squared error 100: 10 log10(255² / 100). SSIM of flat pictures is its luminance term.
    assert psnr_db == pytest.approx(28.13, abs=0.01)
    assert ssim == pytest.approx((2 * 100 * 110 + 6.5025) / (100**2 + 110**2 + 6.5025), abs=1e-4)
    assert avatar_sd.fidelity(pictures, pictures) == (100.0, pytest.approx(1.0))


def test_what_is_reported_is_measured_on_scenes_of_no_other_set() -> None:
    assert avatar_sd.N_FRAMES >= 500 and avatar_sd.N_CLIPS >= 64
    starts = [0, motion.CLIP_SEED, HELD_OUT_SEED, HELD_OUT_SEED + motion.CLIP_SEED,
              TEST_SEED, avatar_sd.CLIP_SEED]  # fmt: skip
    assert np.diff(starts).min() >= 400_000, "far more than a set has scenes"


def test_reconstruction_keeps_shape_and_is_what_the_engine_decodes(
    engine: AnimationEngine, clips: AvatarSet
) -> None:
    pictures = resized(np.asarray(clips.images[:3]), SIZE)
    copies = avatar_sd.reconstruct(engine, pictures, batch=2)
    assert copies.shape == pictures.shape and copies.dtype == np.uint8
    vae = engine.pipe.vae
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        latents = vae.encode(x.to(engine.dtype)).latent_dist.mode() * vae.config.scaling_factor
        video = engine.pipe.decode_latents(latents.transpose(0, 1)[None])[0].transpose(0, 1)
    decoded = to_images(video)
    assert np.ptp(decoded) > 20, "the tiny autoencoder draws something"
    for other in (decoded, avatar_sd.reconstruct(engine, pictures, batch=1)):
        assert np.abs(copies.astype(int) - other).max() <= 1  # rounding goes by the batch


class Told(Reader):
    """Finds in generated pictures what is asked for, whatever they show.

    Attributes:
        asked: the scenes, in the order in which they are generated.
        torsos: how far off it finds the joints of each.
        wrong: attributes that it reads wrongly.
        drawn: reads pictures that are not of the model's size; None: what is rendered reads as
            what is generated, but rightly.
    """

    def __init__(
        self,
        asked: list[Scene],
        torsos: tuple[float, ...] = (0, 0),
        wrong: tuple[str, ...] = (),
        drawn: Reader | None = None,
    ) -> None:
        self.asked, self.torsos, self.wrong, self.drawn = asked, torsos, wrong, drawn
        self.generated = 0

    def read(self, pictures: np.ndarray, batch: int = 32) -> Reading:
        if self.drawn is not None and pictures.shape[1] != SIZE:
            return self.drawn.read(pictures)
        for scene in self.asked:
            if pictures is scene.rendered:
                return self._found(scene, 0, ())
        self.generated += 1
        at = self.generated - 1
        return self._found(self.asked[at], self.torsos[at], self.wrong)

    def features(self, pictures: np.ndarray, batch: int = 32) -> np.ndarray:
        return pictures[:, 0, 0].astype(np.float32)

    def _found(self, scene: Scene, torsos: float, wrong: tuple[str, ...]) -> Reading:
        joints = scene.pose.keypoints
        torso = np.linalg.norm(joints[:, 5] - joints[:, 8], axis=1)[:, None]
        found = {name: [scene.look[name]] * len(joints) for name in ATTRIBUTES}
        for name in wrong:
            other = next(value for value in ATTRIBUTES[name] if value != scene.look[name])
            found[name] = [other] * len(joints)
        return Reading(joints + torsos * torso[..., None], np.ones(joints.shape[:2]), found)


def test_what_is_found_as_asked_scores_one_and_what_is_not_nothing(
    engine: AnimationEngine, clips: AvatarSet
) -> None:
    asked = list(scenes(clips, 2, SIZE, FRAMES))
    found = avatar_sd.evaluate_clips(engine, Told(asked), asked)
    names = ("pck", "attributes", "identity", "finder_pck_clips", "finder_attributes_clips")
    assert [found[name] for name in names] == [1.0] * 5
    off = avatar_sd.evaluate_clips(engine, Told(asked, (1, 1), ("top",)), asked)
    assert off["pck"] == 0 and off["finder_pck_clips"] == off["finder_attributes_clips"] == 1
    expected = {name: float(name != "top") for name in found["attribute_by_name"]}
    assert off["attribute_by_name"] == expected
    assert off["attributes"] == pytest.approx(1 - 1 / len(expected), abs=1e-4)
    assert off["identity"] == 1, "wrong, but of one kind throughout"
    half = avatar_sd.evaluate_clips(engine, Told(asked, (0, 1)), asked)
    joints = [(scene.judged & scene.judged[:, [5, 8]].all(1, keepdims=True)).sum()
              for scene in asked]  # fmt: skip
    assert half["pck"] == pytest.approx(joints[0] / sum(joints), abs=1e-4), "by the joint"


def test_evaluation_runs_on_a_tiny_model(
    engine: AnimationEngine, clips: AvatarSet, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    reader = Reader(ReaderNet((4, 4, 8, 8), fused=4))
    sheet = tmp_path / "sheet.png"
    found = avatar_sd.evaluate(engine, reader, clips, clips, 5, 2, sheet)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["n_frames"] == 5 and found["n_clips"] == 2
    for name in ("ssim", "pck", "finder_pck", "attributes", "finder_attributes",
                 "finder_pck_clips", "finder_attributes_clips"):  # fmt: skip
        assert 0 <= found[name] <= 1, name
    assert found["psnr_db"] > 0 and found["flicker_ratio"] > 0
    assert set(found["attribute_by_name"]) <= set(ATTRIBUTES)
    assert found["flicker_ratio"] == max(v for v in found["flicker_by_part"].values() if v)
    assert found["steps"] == engine.spec.steps
    side = SHEET_SIDE
    assert cv2.imread(str(sheet)).shape == (3 * side, 2 * side, 3)
    again = avatar_sd.evaluate(engine, reader, clips, clips, 5, 2)
    assert again == found, "same seeds, same figures"


def test_evaluation_without_a_reader_leaves_out_what_only_it_can_tell(
    engine: AnimationEngine, clips: AvatarSet
) -> None:
    found = avatar_sd.evaluate(engine, None, clips, clips, 3, 1)
    assert found["psnr_db"] > 0 and found["flicker_ratio"] > 0 and found["n_clips"] == 1
    assert all(found[k] is None for k in ("pck", "finder_pck", "attributes", "finder_attributes"))
    assert found["attribute_by_name"] == {} and json.dumps(found, allow_nan=False)


def test_any_folder_of_poses_is_measured(engine: AnimationEngine, tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(20, 300, (3, 18, 2))
    clip = PoseClip(points, np.ones((3, 18)), None, 640, 360)
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(dump_openpose_json(clip))
    asked = pose_scenes(tmp_path, SIZE, FRAMES)
    assert [len(scene.pose) for scene in asked] == [FRAMES, FRAMES]
    assert asked[0].pose.width == SIZE and asked[0].judged.all()
    assert asked[0].caption != asked[1].caption
    torch.manual_seed(0)
    found = avatar_sd.evaluate_poses(engine, Reader(ReaderNet((4, 4, 8, 8), fused=4)), asked)
    assert found["n_clips"] == 2 and found["n_frames"] == 0
    assert all(0 <= found[name] <= 1 for name in ("pck", "attributes", "identity"))
    for name in ("psnr_db", "ssim", "flicker_ratio", "frechet", "frechet_floor",
                 "finder_pck_clips", "finder_attributes_clips"):  # fmt: skip
        assert found[name] is None, name
    json.dumps(found, allow_nan=False)


def test_the_unseen_poses_are_measured_with_their_reader_s_limit(engine: AnimationEngine) -> None:
    reader = Reader.load()
    found = avatar_sd.evaluate_unseen(engine, reader, every=9)
    assert found["finder_pck_unseen"] > 0.4, "it can read what the renderer draws"
    assert found["n_unseen"] == 2
    for name in ("pck_unseen", "pck_unseen_readable", "attributes_unseen", "finder_pck_unseen"):
        assert 0 <= found[name] <= 1, name
    motions = ["arabesque", RECIPES[9].motion]
    assert list(found["pck_unseen_by_clip"]) == motions
    asked = pose_scenes(UNSEEN_POSES, SIZE, FRAMES)[::9]
    told = avatar_sd.evaluate_unseen(engine, Told(asked, (0, 1), drawn=reader), every=9)
    assert told["pck_unseen_by_clip"] == dict(zip(motions, (1, 0), strict=True))
    assert 0 < told["pck_unseen"] < 1 == told["attributes_unseen"]
    assert told["finder_pck_unseen"] == found["finder_pck_unseen"]
    json.dumps(found, allow_nan=False)
    nothing = avatar_sd.evaluate_unseen(engine, None)
    assert nothing == {**dict.fromkeys(found), "pck_unseen_by_clip": {}, "n_unseen": 0}


def test_close_ups_are_measured_with_the_reader_s_own_limit(
    engine: AnimationEngine, tmp_path: Path
) -> None:
    frames = build(tmp_path, 40, workers=1)
    there = sum(row["closeup"] for row in frames.meta)
    found = avatar_sd.evaluate_closeups(engine, Reader.load(), frames, 2)
    assert found["n_closeups"] == min(2, there) > 0
    # At this size hardly anything of the rendering is left, and a tiny model draws noise.
    assert 0 <= found["attributes_closeups"] < found["finder_closeups"] <= 1
    nothing = avatar_sd.evaluate_closeups(engine, None, frames, 2)
    assert nothing == dict.fromkeys(found) | {"n_closeups": 0}


def test_a_quick_run_takes_an_unseen_clip_of_every_source() -> None:
    quick = RECIPES[:: avatar_sd.QUICK_UNSEEN]
    assert [recipe.source for recipe in quick] == ["exact", "found", "extracted"]


def test_the_command_names_poses_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SystemExit, match="broken.json: "):
        avatar_sd.main(["--poses", str(tmp_path)])


def test_clips_can_be_measured_as_they_were_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tiny_profile(tiny_avatar_sd(tmp_path / "avatar-sd"), refiner=str(tmp_path / "none"))
    monkeypatch.setattr(avatar_sd, "get_profile", lambda name: profile)
    poses = tmp_path / "poses"
    poses.mkdir()
    shutil.copy(UNSEEN_POSES / "archery.json", poses)
    with pytest.raises(SystemExit, match=r"refiner.*python -m worlds.train refiner"):
        avatar_sd.main(["--poses", str(poses)])
    capsys.readouterr()
    avatar_sd.main(["--poses", str(poses), "--as-drawn"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["redraw"] is False and told["n_clips"] == 1
