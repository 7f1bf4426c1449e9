"""The picture reader: heatmaps to pixels, figures by hand, augmentation, training end to end."""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.reader import (
    ATTRIBUTES,
    HEATMAP,
    MIRRORED,
    SIZE,
    Reader,
    ReaderNet,
    Reading,
    applicable,
    attribute_accuracy,
    keypoint_hits,
    pck,
    peaks,
    soft_argmax,
    to_network,
)
from pipelines.fetch import MissingWeights
from worlds import reader as training
from worlds.data import build
from worlds.looks import CHARACTERS


def tiny_net() -> ReaderNet:
    torch.manual_seed(0)
    return ReaderNet((4, 4, 8, 12), fused=4)


def test_net_reads_joints_and_every_attribute() -> None:
    heatmaps, attributes = tiny_net()(torch.zeros(2, 3, SIZE, SIZE))
    assert heatmaps.shape == (2, 18, HEATMAP, HEATMAP)
    assert {k: v.shape for k, v in attributes.items()} == {
        k: (2, len(v)) for k, v in ATTRIBUTES.items()
    }
    assert set(ATTRIBUTES) <= set(vars(CHARACTERS["Mira Solano"]))


def test_shipped_size_stays_light() -> None:
    assert sum(p.numel() for p in ReaderNet().parameters()) <= 1_500_000


def test_heatmap_cell_is_read_at_its_centre() -> None:
    heatmaps = torch.full((1, 1, HEATMAP, HEATMAP), -100.0)
    heatmaps[0, 0, 10, 20] = 100.0
    # A cell is 4 px wide: column 20 covers pixels 80 to 83, whose middle is 81.5.
    assert soft_argmax(heatmaps)[0, 0].tolist() == pytest.approx([81.5, 41.5])
    where, mass = peaks(heatmaps)
    assert where[0, 0].tolist() == pytest.approx([81.5, 41.5])
    assert mass.item() == pytest.approx(1.0)


def test_two_rival_peaks_are_not_averaged() -> None:
    heatmaps = torch.full((1, 1, HEATMAP, HEATMAP), -100.0)
    heatmaps[0, 0, 10, 20], heatmaps[0, 0, 50, 60] = np.log(3.0), 0.0
    where, mass = peaks(heatmaps)
    assert where[0, 0].tolist() == pytest.approx([81.5, 41.5], abs=1e-3)
    assert mass.item() == pytest.approx(0.75, abs=1e-4)


def test_target_heatmaps_are_distributions_centred_on_the_joint() -> None:
    joints = torch.tensor([[[100.3, 57.9], [200.0, 128.0]]])
    target = training.target_heatmaps(joints)
    assert target.sum((2, 3)).flatten().tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    assert torch.allclose(soft_argmax(target.clamp_min(1e-30).log()), joints, atol=0.05)


def skeleton(count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Joints whose torso is 10 px long: left shoulder at (0, 0), right hip at (6, 8)."""
    asked = np.zeros((count, 18, 2))
    asked[:, 8] = 6, 8
    return asked, np.ones((count, 18))


def test_pck_counts_joints_within_a_tenth_of_the_torso() -> None:
    asked, confidence = skeleton()
    found = asked.copy()
    found[0, 3] += (0.0, 1.0)  # exactly on the threshold of 1 px
    found[0, 4] += (1.0, 0.5)  # 1.12 px off
    found[0, 7] += (30.0, 0.0)
    assert pck(asked, confidence, found) == pytest.approx(16 / 18)
    assert pck(asked, confidence, found, fraction=0.2) == pytest.approx(17 / 18)
    confidence[0, 7] = 0.0  # not asked for
    assert pck(asked, confidence, found) == pytest.approx(16 / 17)


def test_pck_leaves_out_pictures_without_a_torso() -> None:
    asked, confidence = skeleton(2)
    found = asked.copy()
    found[1] += 100
    confidence[1, 8] = 0.0
    assert pck(asked, confidence, found) == 1.0
    assert np.isnan(keypoint_hits(asked, confidence, found)[1]).all()
    assert np.isnan(pck(asked, np.zeros((2, 18)), found))


def test_only_what_can_be_seen_is_judged() -> None:
    assert all(applicable(np.ones(18)).values())
    upper = np.ones(18)
    upper[[9, 10, 12, 13]] = 0  # knees and ankles below the frame
    hidden = {k for k, v in applicable(upper).items() if not v}
    assert hidden == {"leg"}
    upper[[8, 11]] = 0
    assert {k for k, v in applicable(upper).items() if not v} == {"leg", "bottom"}
    behind = np.ones(18)
    behind[[0, 14, 15]] = 0
    assert {k for k, v in applicable(behind).items() if not v} == {"glasses"}
    close = {k for k, v in applicable(np.ones(18), closeup=True).items() if not v}
    assert close == {"bottom", "leg", "sleeve", "pattern", "prop"}


def test_attribute_accuracy_by_hand() -> None:
    looks = [vars(CHARACTERS["Mira Solano"]), vars(CHARACTERS["Pip Marlow"])]
    found = {name: [look[name] for look in looks] for name in ATTRIBUTES}
    found["top"] = ["yellow", "red"]  # the second wears blue
    found["leg"] = ["short", "long"]  # both wrong, but only the first can be seen
    reading = Reading(np.zeros((2, 18, 2)), np.zeros((2, 18)), found)
    shown = [dict.fromkeys(ATTRIBUTES, True), {**dict.fromkeys(ATTRIBUTES, True), "leg": False}]
    accuracy = attribute_accuracy(reading, looks, shown)
    assert accuracy["top"] == 0.5
    assert accuracy["leg"] == 0.0
    assert all(accuracy[name] == 1.0 for name in set(ATTRIBUTES) - {"top", "leg"})
    with pytest.raises(ValueError, match="looks 1"):
        attribute_accuracy(reading, looks[:1], shown)


def test_reader_reads_any_square_size_in_its_own_pixels() -> None:
    reader = Reader(tiny_net())
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    doubled = small.repeat(8, 1).repeat(8, 2)
    one = reader.read(doubled[:, ::2, ::2], batch=2)
    two = reader.read(doubled)
    assert one.keypoints.shape == (3, 18, 2)
    assert ((one.confidence > 0) & (one.confidence <= 1)).all()
    assert np.allclose(two.keypoints, (one.keypoints + 0.5) * 2 - 0.5, atol=1e-2)
    assert one.attributes == two.attributes
    assert all(len(values) == 3 for values in one.attributes.values())
    with pytest.raises(ValueError, match=r"\(3, 64, 32, 3\)"):
        reader.read(small[:, :, :32])


def test_a_mirrored_picture_reads_as_the_mirror_image() -> None:
    reader = Reader(tiny_net())
    pictures = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    with torch.inference_mode():
        heatmaps, attributes = reader._both_ways(to_network(pictures))
        mirrored, others = reader._both_ways(to_network(pictures[:, :, ::-1]))
        alone = reader.net(to_network(pictures))[0]
    # Not to the last digit, for the network runs in bfloat16.
    assert torch.allclose(mirrored.flip(-1)[:, MIRRORED], heatmaps, atol=0.02)
    assert (alone - heatmaps).abs().max() > 0.1, "one way round, it would read otherwise"
    for name, logits in attributes.items():
        assert torch.allclose(others[name], logits, atol=0.02)


def test_joints_stay_on_their_pixels_when_a_picture_is_moved_and_mirrored() -> None:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[98:103, 158:163] = 255
    points = np.zeros((18, 3), np.float32)
    points[4] = 160, 100, 1
    points[0] = 5, 5, 1
    moved, at = training.move(image, points, 1.1, -20, 10)
    rows, columns = np.nonzero(moved[..., 0] > 127)
    assert at[4, :2] == pytest.approx([columns.mean(), rows.mean()], abs=0.3)
    assert at[0, 2] == 0, "left the frame"
    mirrored, at = training.mirror(moved, at)
    rows, columns = np.nonzero(mirrored[..., 0] > 127)
    assert at[7, :2] == pytest.approx([columns.mean(), rows.mean()], abs=0.3), "now a left wrist"


def test_degraded_pictures_stay_recognisable() -> None:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[:, 128:] = 200
    for seed in range(20):
        worse = training.degrade(image, np.random.default_rng(seed))
        assert worse.shape == image.shape and worse.dtype == np.uint8
        assert abs(float(worse[:, 160:].mean()) - 200) < 45
        assert float(worse[:, :96].mean()) < 30


def test_what_degrades_a_picture_is_drawn_from_its_generator_in_any_thread() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)

    def worse(seed: int) -> np.ndarray:
        return training.degrade(image, np.random.default_rng(seed))

    here = {seed: worse(seed) for seed in range(20)}
    with ThreadPoolExecutor(1) as pool:  # as `batches` does, and not in the same order
        for seed, there in zip(reversed(here), pool.map(worse, reversed(here)), strict=True):
            assert np.array_equal(here[seed], there), seed


def test_hidden_attributes_take_no_part_in_the_loss() -> None:
    net = tiny_net()
    heatmaps, attributes = net(torch.randn(2, 3, SIZE, SIZE))
    joints = torch.zeros(2, 18, 3)
    ignored = torch.full((2, len(ATTRIBUTES)), training.IGNORED)
    assert training.reading_loss(heatmaps, attributes, joints, ignored).item() == 0.0
    ignored[0, 0] = 3
    training.reading_loss(heatmaps, attributes, joints, ignored).backward()
    assert net.heads["top"].weight.grad.abs().sum() > 0
    assert net.heads["bottom"].weight.grad is None or not net.heads["bottom"].weight.grad.any()


def test_save_and_load_keep_the_reading(tmp_path: Path) -> None:
    net = tiny_net().eval()
    training.save_reader(net, tmp_path, {"seed": 0})
    picture = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        heatmaps, attributes = net(picture)
        again, read_again = Reader.load(tmp_path).net(picture)
    assert torch.allclose(again, heatmaps, atol=0.01), "but for float16"
    assert all(torch.allclose(read_again[k], v, atol=0.01) for k, v in attributes.items())
    record = json.loads((tmp_path / "reader.json").read_text())
    record["attributes"]["top"].append("tartan")
    (tmp_path / "reader.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="vocabulary"):
        Reader.load(tmp_path)


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="python -m worlds.train reader"):
        Reader.load(tmp_path)


def test_loss_falls_on_a_few_pictures(tmp_path: Path) -> None:
    data = build(tmp_path / "frames", 6, workers=1)
    pictures, joints, classes = training.draw_batch(data, 8, np.random.default_rng(0))
    assert pictures.shape == (8, 3, SIZE, SIZE) and joints.shape == (8, 18, 3)
    assert classes.shape == (8, len(ATTRIBUTES))
    net = tiny_net().train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = training.reading_loss(*net(pictures), joints, classes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_training_writes_a_reader_with_its_figures_and_resumes(tmp_path: Path) -> None:
    args = argparse.Namespace(seed=3, max_minutes=0.02, frames=6, batch=2, learning_rate=None,
                              resume=False, from_export=False, muon=False)
    training.train(args, tmp_path, tmp_path / "export")
    record = json.loads((tmp_path / "export/reader.json").read_text())
    assert record["seed"] == 3 and record["steps"] >= 1
    assert set(record["held_out"]["attribute_by_name"]) <= set(ATTRIBUTES)
    assert (tmp_path / "export/reader.safetensors").stat().st_size < 4_000_000
    args.resume, args.max_minutes = True, record["minutes"] + 0.02
    training.train(args, tmp_path, tmp_path / "export")
    longer = json.loads((tmp_path / "export/reader.json").read_text())
    assert longer["steps"] > record["steps"]
    args.from_export, args.resume, args.max_minutes, args.muon = True, False, 0.02, True
    training.train(args, tmp_path, tmp_path / "export")
    further = json.loads((tmp_path / "export/reader.json").read_text())
    assert "--from-export" in further["command"] and "--muon" in further["command"]
    assert further["parent"]["command"] == longer["command"]
    reading = Reader.load(tmp_path / "export").read(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    assert np.isfinite(reading.keypoints).all()


def test_pictures_become_network_input() -> None:
    x = to_network(np.full((1, 128, 128, 3), 255, np.uint8))
    assert x.shape == (1, 3, SIZE, SIZE) and x.max().item() == 1.0 and x.dtype == torch.float32


def test_features_are_the_coarsest_level_of_each_picture() -> None:
    reader = Reader(tiny_net())
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    pictures //= np.array([1, 4, 16], np.uint8)[:, None, None, None]
    features = reader.features(pictures, batch=2)
    with torch.inference_mode():
        coarsest = reader.net._backbone(to_network(pictures))[-1].mean((2, 3)).numpy()
    assert features.shape == (3, 12) and features.dtype == np.float32
    # Not to the last digit, for the network may run in bfloat16.
    assert np.abs(features - coarsest).max() < 0.05 * np.ptp(coarsest, 0).max()
    with pytest.raises(ValueError, match="wanted uint8"):
        reader.features(pictures[0])
