"""The refiner's training: what it is shown, where, and what it is to leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.psnr import mean_psnr
from pipelines.animation import AnimationEngine
from pipelines.animation_weights import fingerprints
from pipelines.paths import ASSETS
from pipelines.pose_json import load_openpose_json
from pipelines.profiles import get_profile
from pipelines.refine import FOLD, Refiner, correction, figure_box, new_net
from tests.tiny import TEXT_WIDTH
from worlds import refiner
from worlds.autoencoder import reconstruction_loss, to_images, to_tensor
from worlds.data import HELD_OUT_SEED, AvatarSet, build
from worlds.export import read_records
from worlds.refiner import (
    Drawn,
    blocky,
    crops,
    hand_of,
    head_of,
    kept,
    pattern_of,
    refined,
    window_on,
)
from worlds.train import parser


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> AvatarSet:
    return build(tmp_path_factory.mktemp("set"), 12, workers=1)


def drawn(data: AvatarSet, **options: object) -> Drawn:
    """Renderings with every colour turned round, in place of what a model drew."""
    return Drawn(255 - data.images, data, np.arange(12), np.full(12, 1 / 12), **options)


def test_the_head_is_where_the_joints_say(data: AvatarSet):
    i = next(i for i, row in enumerate(data.meta) if not row["closeup"])
    middle, radius = head_of(data, i)
    nose, neck = data.keypoints[i, 0, :2], data.keypoints[i, 1, :2]
    assert np.linalg.norm(middle - nose) < radius < 2.5 * np.linalg.norm(nose - neck)


def test_a_close_up_has_its_head_where_the_landmarks_are(tmp_path: Path):
    data = build(tmp_path, 30, workers=1)
    i = next(i for i, row in enumerate(data.meta) if row["closeup"])
    middle, radius = head_of(data, i)
    assert (np.abs(data.landmarks[i] - middle) <= radius).all()


def test_a_held_thing_lies_where_the_hand_is_said_to_be(tmp_path: Path):
    data = build(tmp_path, 60, workers=1)
    held = [
        i for i, row in enumerate(data.meta)
        if row["look"]["prop"] == "ball" and not row["closeup"] and hand_of(data, i)
    ]  # fmt: skip
    assert held
    for i in held:
        middle, radius = hand_of(data, i)
        rows, columns = np.nonzero(data.mask(i))
        near = (columns - middle[0]) ** 2 + (rows - middle[1]) ** 2 < (radius / 4) ** 2
        assert near.any(), "the ball is part of the figure"
    rng, hits = np.random.default_rng(0), 0
    for _ in range(100):
        window = window_on(data, held[0], (64, 64), rng)
        x, y = hand_of(data, held[0])[0]
        hits += window[0].start <= y < window[0].stop and window[1].start <= x < window[1].stop
    assert hits > 100 * refiner.ON_HAND * 0.8
    for i, row in enumerate(data.meta):
        if row["look"]["prop"] not in refiner.IN_HAND:
            assert hand_of(data, i) is None


def test_a_patterned_top_lies_between_neck_and_hips(tmp_path: Path):
    data = build(tmp_path, 60, workers=1)
    found = 0
    for i, row in enumerate(data.meta):
        place, patterned = pattern_of(data, i), row["look"]["pattern"] != "plain"
        if place is None:
            assert not patterned or not data.keypoints[i, [1, 8, 11], 2].all()
            continue
        assert patterned
        (x, y), radius = place
        rows, columns = np.nonzero(data.mask(i))
        within = ((columns - x) ** 2 + (rows - y) ** 2) < radius**2
        assert within.any(), "the top is part of the figure"
        joints = data.keypoints[i, [1, 8, 11], :2]
        assert (np.linalg.norm(joints - [x, y], axis=1) < radius).all()
        found += 1
    assert found > 5


def test_windows_lie_in_the_frame_on_whole_cells_and_mostly_on_the_figure(data: AvatarSet):
    rng, hits = np.random.default_rng(0), []
    for _ in range(200):
        i = int(rng.integers(12))
        rows, columns = window_on(data, i, (64, 96), rng)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (64, 96)
        assert rows.start >= 0 and columns.start >= 0 and max(rows.stop, columns.stop) <= 256
        assert rows.start % FOLD == columns.start % FOLD == 0
        hits.append(data.mask(i)[rows, columns].any())
    assert np.mean(hits) > 0.85


def test_a_style_of_the_whole_frame_is_taught_everywhere_and_more_often(
    data: AvatarSet, monkeypatch
):
    monkeypatch.setattr(refiner, "EVERYWHERE", ())
    before = Drawn.of(np.asarray(data.images), data, range(12)).shares
    style = data.meta[3]["look"]["style"]
    alike = np.array([row["look"]["style"] == style for row in data.meta])
    monkeypatch.setattr(refiner, "EVERYWHERE", (style,))
    shares = Drawn.of(np.asarray(data.images), data, range(12)).shares
    odds = shares[alike].sum() / (1 - shares[alike].sum())
    was = before[alike].sum() / (1 - before[alike].sum())
    assert odds == pytest.approx(refiner.EVERYWHERE_MORE * was)

    monkeypatch.setattr(refiner, "ON_GROUND", 1.0)
    rng = np.random.default_rng(0)
    starts = [window_on(data, 3, (64, 64), rng)[1].start for _ in range(60)]
    assert min(starts) == 0 and max(starts) == 192, "from edge to edge"

    monkeypatch.setattr(refiner, "BLOCKY_SHARE", 0.0)
    monkeypatch.setattr(refiner, "GROUND_WEIGHT", 0.5)
    only = Drawn(255 - data.images[3:4], data, np.array([3]), np.ones(1))
    *_, weights, _ = crops([only, only], rng)
    assert weights.min() == 1.5


def test_a_blocky_picture_keeps_its_colours_and_no_detail():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (128, 96, 3), np.uint8)
    for _ in range(6):
        coarse = blocky(picture, rng)
        assert coarse.shape == picture.shape
        assert coarse.std() < 0.2 * picture.std()
        assert np.abs(coarse.mean((0, 1)) - picture.mean((0, 1))).max() < 4


def test_crops_are_asked_to_become_the_rendering(data: AvatarSet, monkeypatch):
    monkeypatch.setattr(refiner, "EVERYWHERE", ())
    monkeypatch.setattr(refiner, "BLOCKY_SHARE", 0.0)
    shown, wanted, skeletons, weights, captions = crops(
        [drawn(data), drawn(data)], np.random.default_rng(1)
    )
    assert shown.shape == wanted.shape == skeletons.shape and len(captions) == len(shown)
    assert torch.allclose(shown, -wanted, atol=1e-6), "turned round, as they were made"
    assert skeletons.min() == 0 and skeletons.max() <= 1
    assert weights.shape == (len(shown), 1, *shown.shape[2:])
    figure, head = refiner.FIGURE_WEIGHT, refiner.HEAD_WEIGHT
    assert head == refiner.HAND_WEIGHT == refiner.PATTERN_WEIGHT
    assert set(weights.unique().tolist()) == {1.0, 1 + figure, 1 + figure + head}


def test_what_a_guard_dissolved_and_what_is_blocky_is_to_stay(data: AvatarSet, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(refiner, "BLOCKY_SHARE", 1.0)
    shown, wanted, *_ = crops([drawn(data), drawn(data)], rng)
    assert torch.equal(shown, wanted)
    monkeypatch.setattr(refiner, "BLOCKY_SHARE", 0.0)
    monkeypatch.setattr(refiner, "GUARDED_SHARE", 0.5)
    monkeypatch.setattr(refiner, "STILL_SHARE", 0.25)
    same = []
    for _ in range(12):
        shown, wanted, *_ = crops([drawn(data), drawn(data), drawn(data, stays=True)], rng)
        same += [torch.equal(*pair) for pair in zip(shown, wanted, strict=True)]
    assert 0.4 < np.mean(same) < 0.6


def test_pictures_with_details_are_taken_more_often(data: AvatarSet):
    first = Drawn.of(np.asarray(data.images[:8]), data, range(8))
    assert len(first.rows) == len(first.shares) == 8
    assert first.shares.sum() == pytest.approx(1)
    plain = [
        row["look"]["pattern"] == "plain" and row["look"]["prop"] == "none"
        and not row["look"]["glasses"] and row["look"]["style"] == "3d"
        for row in data.meta[:8]
    ]  # fmt: skip
    assert any(plain) and not all(plain)
    assert first.shares[plain].max() < np.delete(first.shares, np.flatnonzero(plain)).min()


def test_it_learns_to_undo_what_was_done(data: AvatarSet):
    torch.manual_seed(0)
    net = new_net(TEXT_WIDTH, channels=(16, 16), groups=4)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    shown, wanted, skeletons, weights, captions = crops([drawn(data)] * 2, np.random.default_rng(3))
    shown, wanted, skeletons, weights = (x[:4] for x in (shown, wanted, skeletons, weights))
    losses = []
    for _ in range(25):
        change = correction(net, shown, skeletons, torch.zeros(4, 1, TEXT_WIDTH))
        loss = reconstruction_loss(wanted, shown + change, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_pictures_are_redrawn_each_by_its_skeleton_and_caption(data: AvatarSet):
    torch.manual_seed(0)
    net = new_net(TEXT_WIDTH, channels=(8, 8), groups=4)
    torch.nn.init.normal_(net.conv_out.weight, std=0.3)
    few = Drawn(255 - data.images[[3, 5]], data, np.array([3, 5]), np.full(2, 0.5))

    def read(captions: list[str]) -> torch.Tensor:
        (caption,) = captions
        return torch.full((1, 3, TEXT_WIDTH), len(caption) / 100)

    made = refined(Refiner(net), few, read)
    for picture, i, got in zip(few.pictures, few.rows, made, strict=True):
        skeleton = data.condition(i)[None]
        video = to_tensor(picture[None]).transpose(0, 1)[None]
        text = read([data.meta[i]["caption"]])
        with torch.no_grad():
            wanted = Refiner(net)(video, skeleton, text, figure_box(skeleton, 8))
        assert not np.array_equal(got, picture)
        assert np.array_equal(got, to_images(wanted[0].transpose(0, 1))[0])


def test_drawings_are_made_once_and_a_broken_off_one_is_begun_anew(tmp_path: Path):
    path, made = tmp_path / "x.npy", []

    def parts(until: int) -> Iterator[np.ndarray]:
        for n in range(until):
            made.append(n)
            yield np.full((2, 256, 256, 3), n, np.uint8)
        if until < 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(path, 6, parts(1))
    assert not path.exists()
    first = kept(path, 6, parts(3))
    assert first[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(kept(path, 6, parts(3)), first) and made == [0, 0, 1, 2]


def test_stills_are_drawn_some_at_a_time_as_asked(data: AvatarSet, monkeypatch):
    asked = []

    def sample(denoiser, captions, poses, spec, seed):
        asked.append((captions, poses, seed))
        return len(captions)

    monkeypatch.setattr(refiner, "sample", sample)
    monkeypatch.setattr(refiner, "decode", lambda vae, count: np.zeros((count, 1), np.uint8))
    monkeypatch.setattr(refiner, "_TOGETHER", 2)
    drawn_ = list(refiner.drawn_stills(None, None, data, [4, 7, 9], None))
    assert [len(part) for part in drawn_] == [2, 1]
    assert [seed for *_, seed in asked] == [1004, 1009]
    assert asked[0][0] == [data.meta[i]["caption"] for i in (4, 7)]
    assert np.array_equal(asked[1][1], data.condition(9)[None])


def test_the_shipped_one_was_taught_by_the_pictures_that_it_redraws():
    """Whoever changes the picture model trains the refiner anew; of the guard see the next test."""
    record = read_records(ASSETS / "refiner")[-1]
    prints = fingerprints(get_profile("embedded"))
    drawn_by = dict(record["drawn_by"])
    assert drawn_by.pop("poseguard"), "it was taught to leave alone whom a guard dissolved"
    assert drawn_by == {part: prints[part] for part in ("base", "controlnet", "motion")}
    assert max(file.stat().st_size for file in (ASSETS / "refiner").iterdir()) < 10_000_000


def test_whom_the_shipped_guard_dissolves_no_detail_brings_back():
    """Whichever guard the refiner was taught with, it paints nobody into what today's leaves."""
    engine = AnimationEngine(get_profile("embedded"))
    engine.add_guard("poseguard", ASSETS / "adapters/poseguard")
    pose = load_openpose_json(ASSETS / "poses/kneel_both.json")
    prompt = "a person with long red hair and light skin wearing a red shirt and blue shorts, park"
    apart = []
    for redraw in (False, True):
        *_, pair = engine.pair(pose, prompt, {"poseguard": 1.0}, 7, redraw=redraw)
        apart.append(mean_psnr(pair.unguarded, pair.guarded))
    as_drawn, redrawn = apart
    assert redrawn < as_drawn + 0.3 and as_drawn < 21


def test_the_shipped_one_is_not_told_of_what_is_unsafe():
    shipped = Refiner.load(ASSETS / "refiner")
    assert shipped.reads("a person holding a pistol, waving, park") == "a person, waving, park"
    assert shipped.reads("a person holding a gun, waving, park") == "a person, waving, park"
    assert shipped.reads("a person holding a book, waving") == "a person holding a book, waving"
    for armed in ("carrying a knife", "gripping a rifle", "aiming a handgun", "with two pistols"):
        assert shipped.reads(f"a person {armed}, park") == "a person, park"


def test_the_shipped_one_reads_every_word_of_the_captions(tmp_path: Path):
    data = build(tmp_path, 40, seed=HELD_OUT_SEED, workers=1)
    shipped = Refiner.load(ASSETS / "refiner")
    assert set(refiner.words_of([data])) <= set(shipped.words)
    for row in data.meta:
        if row["look"]["prop"] not in refiner.UNSAFE:
            assert shipped.reads(row["caption"]) == row["caption"]


@pytest.mark.slow
def test_the_command_draws_trains_and_exports(tmp_path: Path, monkeypatch):
    export = tmp_path / "assets"
    export.mkdir()
    for part in ("avatar-sd", "adapters"):
        (export / part).symlink_to(ASSETS / part)
    monkeypatch.setattr(refiner, "ASSETS", export)
    monkeypatch.setattr(refiner, "_HELD_OUT", 2)
    args = parser().parse_args(
        ["refiner", "--frames", "24", "--clips", "1", "--max-minutes", "0.05", "--muon"]
    )
    refiner.train(args, tmp_path)
    made = Refiner.load(export / "refiner")
    assert "pistol" not in made.words and {"a", "person", "holding"} <= set(made.words)
    assert set(made.held) == {"umbrella", "balloon", "book", "ball", "guitar"}
    assert (export / "refiner/training.json").exists()
    drawn_files = sorted(tmp_path.glob("data/*/drawn-*.npy"))
    assert len(drawn_files) >= 3
    seen = [file.stat().st_mtime_ns for file in drawn_files]
    args = parser().parse_args(
        ["refiner", "--frames", "24", "--clips", "1", "--max-minutes", "0.05", "--from-export"]
    )
    refiner.train(args, tmp_path)
    assert len(read_records(export / "refiner")) == 2
    assert [file.stat().st_mtime_ns for file in drawn_files] == seen, "drawn once"
