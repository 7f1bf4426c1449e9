"""The refiner: where it looks, what it does not read, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.fetch import MissingWeights
from pipelines.refine import Refiner, correction, figure_box, new_net

WIDTH = 8


WORDS = (
    "a", "an", "the", "and", "with", "person", "someone", "cap", "glasses", "holding", "umbrella",
    "ball", "waving", "night",
)  # fmt: skip


def waking(
    held: tuple[str, ...] = (), words: tuple[str, ...] = WORDS, everywhere: tuple[str, ...] = ()
) -> Refiner:
    """A refiner of three levels that corrects at random."""
    torch.manual_seed(0)
    net = new_net(WIDTH, channels=(8, 8, 8), groups=4).requires_grad_(False)
    torch.nn.init.normal_(net.conv_out.weight, std=0.3)
    return Refiner(net, held, words, everywhere)


def sticks(frames: int = 2, size: int = 128) -> np.ndarray:
    """Skeletons that reach from (48, 40) to (80, 72)."""
    pictures = np.zeros((frames, size, size, 3), np.uint8)
    pictures[0, 40, 48:60] = 255
    pictures[-1, 50:73, 80] = 200
    return pictures


def redrawn(refiner: Refiner, video: torch.Tensor, skeletons: np.ndarray, text=None):
    """Redraw a whole clip within its own box."""
    text = torch.randn(1, 4, WIDTH) if text is None else text
    with torch.no_grad():
        return refiner(video, skeletons, text, figure_box(skeletons, refiner.multiple))


def test_an_untrained_one_changes_nothing():
    refiner = Refiner(new_net(WIDTH, channels=(8, 8), groups=4))
    video = torch.rand(1, 3, 2, 128, 128) * 2 - 1
    refined = redrawn(refiner, video, sticks())
    assert torch.equal(refined, video) and refined is not video


def test_only_what_is_around_the_skeleton_changes():
    video = torch.zeros(1, 3, 2, 128, 128)
    rows, columns = figure_box(sticks(), 16)
    changed = redrawn(waking(), video, sticks())[0].abs().amax((0, 1))
    inside = torch.zeros(128, 128, dtype=torch.bool)
    inside[rows, columns] = True
    assert (changed[inside] > 0).all() and (changed[~inside] == 0).all()
    assert (video == 0).all(), "the clip that was given stays"
    inner = changed[rows, columns]
    assert inner[0].mean() < 0.3 * inner[20:-20].mean(), "it fades out at the box's edge"


def test_the_box_takes_in_all_frames_and_ends_at_the_frame():
    # 33 by 33 pixels, a margin of 0.15 * 32 around, rounded outwards to 16.
    assert figure_box(sticks(), 16) == (slice(32, 80), slice(32, 96))
    full = np.zeros((1, 64, 64, 3), np.uint8)
    full[0, [0, 63], [0, 63]] = 1
    assert figure_box(full, 16) == (slice(0, 64), slice(0, 64))
    assert figure_box(np.zeros((2, 64, 64, 3), np.uint8), 16) is None


def test_a_style_of_the_whole_frame_is_redrawn_everywhere():
    refiner = waking(words=("a", "cap", "pixel", "art"), everywhere=("pixel art",))
    figure = figure_box(sticks(), 16)
    whole = (slice(0, 128), slice(0, 128))
    assert refiner.box(sticks(), "a cap, Pixel Art") == whole
    assert refiner.box(sticks(), "a cap, art of pixels") == figure
    assert refiner.box(sticks(), "holding pixel art") == figure, "what is not read does not count"
    assert waking(words=("pixel", "art")).box(sticks(), "pixel art") == figure
    assert refiner.box(np.zeros_like(sticks()), "pixel art") is None
    video = torch.zeros(1, 3, 2, 128, 128)
    changed = refiner(video, sticks(), torch.randn(1, 4, WIDTH), whole)[0].abs().amax((0, 1))
    assert (changed > 0).all()


def test_a_clip_without_a_skeleton_stays_as_it_is():
    video = torch.rand(1, 3, 2, 128, 128)
    assert redrawn(waking(), video, np.zeros_like(sticks())) is video


def test_at_the_frames_edge_nothing_fades():
    skeletons = np.zeros((1, 64, 64, 3), np.uint8)
    skeletons[0, [0, 63], [0, 63]] = 255
    changed = redrawn(waking(), torch.zeros(1, 3, 1, 64, 64), skeletons).abs()
    assert changed[..., 0, :].mean() > 0.5 * changed.mean()


def test_frames_are_refined_one_by_one():
    video, skeletons = torch.rand(1, 3, 6, 128, 128), np.repeat(sticks(1), 6, 0)
    text = torch.randn(1, 4, WIDTH)
    together = redrawn(waking(), video, skeletons, text)
    alone = redrawn(waking(), video[:, :, 5:], skeletons[5:], text)
    assert torch.allclose(together[:, :, 5:], alone, atol=1e-5)


def test_skeleton_and_text_both_tell():
    net = waking().net
    torch.manual_seed(1)
    pictures, skeletons = torch.zeros(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    text = torch.randn(1, 4, WIDTH)
    made = correction(net, pictures, skeletons, text)
    assert made.shape == pictures.shape
    assert not torch.allclose(made, correction(net, pictures, 0 * skeletons, text), atol=1e-4)
    assert not torch.allclose(made, correction(net, pictures, skeletons, -text), atol=1e-4)


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a person with a cap holding a ball, waving", None),
        ("Someone Holding An Umbrella", None),
        ("someone holding the Umbrella , night", "someone holding the Umbrella, night"),
        ("a person holding a ball and a pistol, night", "a person, night"),
        ("a person holding a pistol and a ball, night", "a person, night"),
        ("a person holding a balloon, waving", "a person, waving"),
        ("a person holding a gun, waving", "a person, waving"),
        ("a person holding a red ball", "a person"),
        ("a person holding a ballgun", "a person"),
        ("a person holding two pistols, night", "a person, night"),
        ("a person with a pistol, and the umbrellas, night", "a person, night"),
        ("a ball and a pistol", "a ball"),
        ("holding a gun, waving", "waving"),
        ("a person carrying a knife, night", "a person, night"),
        ("a person with a gun in the hand and glasses", "a person with a the and glasses"),
        ("a person with a cap and glasses, pistolero", "a person with a cap and glasses"),
        ("Someone, WAVING!", "Someone, WAVING!"),
        ("pistol", ""),
        ("émigré with ball-point, 火", ""),
    ],
)  # fmt: skip
def test_of_what_is_held_it_reads_harmless_things_only(prompt, read):
    reads = waking(("ball", "umbrella")).reads(prompt)
    assert reads == (prompt if read is None else read)


def test_of_no_lists_it_reads_nothing():
    assert Refiner(waking().net).reads("someone holding a ball, with a pistol") == ""
    assert waking().reads("someone holding a ball, with a cap") == "someone, with a cap"


def test_saved_and_loaded_it_is_the_same(tmp_path: Path):
    refiner = waking(("ball", "book"), ("a", "ball"), ("pixel art",))
    refiner.save(tmp_path)
    again = Refiner.load(tmp_path)
    assert (again.held, again.words) == (("ball", "book"), ("a", "ball"))
    assert again.everywhere == ("pixel art",)
    assert again.net.dtype == torch.float32
    assert json.loads((tmp_path / "refiner.json").read_text()) == {
        "held": ["ball", "book"], "words": ["a", "ball"], "everywhere": ["pixel art"]
    }  # fmt: skip
    video, text = torch.rand(1, 3, 2, 128, 128), torch.randn(1, 4, WIDTH)
    made = [redrawn(each, video, sticks(), text) for each in (refiner, again)]
    assert torch.allclose(*made, atol=0.02), "but for half precision"
    assert refiner.net.dtype == torch.float32, "what was saved is left as it was"


def test_weights_are_written_in_files_of_a_set_size(tmp_path: Path):
    waking().save(tmp_path, max_shard_size=20_000)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) > 1 and max(file.stat().st_size for file in files) < 40_000
    Refiner.load(tmp_path)


def test_in_bfloat16_it_does_nearly_the_same():
    video, text = torch.rand(1, 3, 2, 128, 128) * 2 - 1, torch.randn(1, 4, WIDTH)
    exact, refiner = redrawn(waking(), video, sticks(), text), waking()
    refiner.net.to(torch.bfloat16)
    half = redrawn(refiner, video, sticks(), text)
    assert half.dtype == torch.float32
    assert (half - exact).square().mean() < 0.01 * (exact - video).square().mean()


def test_a_missing_file_is_named_with_the_command(tmp_path: Path):
    with pytest.raises(MissingWeights, match=r"refiner.*python -m worlds.train refiner"):
        Refiner.load(tmp_path)
    waking().save(tmp_path)
    for missing, named in (("refiner.json", r"refiner\.json"), ("*.safetensors", "safetensors")):
        waking().save(tmp_path)
        for file in tmp_path.glob(missing):
            file.unlink()
        with pytest.raises(MissingWeights, match=named):
            Refiner.load(tmp_path)
