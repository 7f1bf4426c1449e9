"""The critic and its losses, on real classes at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from worlds.loop import TrainingLoop
from worlds.sharpen import Critic, joined_gradient, matched, on_figure, preferred


def _critic() -> Critic:
    torch.manual_seed(0)
    return Critic(latent_channels=8, pose_channels=4, text_width=6, width=8)


def test_the_critic_judges_at_three_scales_and_knows_pose_and_words() -> None:
    critic, x = _critic(), torch.randn(2, 8, 32, 32)
    words, poses = torch.randn(2, 6), torch.randn(2, 4, 32, 32)
    verdicts, features = critic(x, words, poses)
    assert [tuple(v.shape) for v in verdicts] == [(2, 1, 32, 32), (2, 1, 16, 16), (2, 1, 8, 8)]
    assert [f.shape[1] for f in features] == [8, 16, 32]
    for other in (critic(x, words + 1, poses), critic(x, words, poses + 1)):
        assert not torch.allclose(other[0][2], verdicts[2], atol=1e-4)


def test_only_the_figure_counts() -> None:
    figure = torch.zeros(1, 1, 256, 256)
    figure[:, :, :64, :64] = 1
    maps = [torch.full((1, 3, 32, 32), 5.0), torch.full((1, 3, 8, 8), 5.0)]
    maps[0][:, :, :8, :8] = 1.0
    maps[1][:, :, :2, :2] = 3.0
    assert on_figure(maps, figure) == pytest.approx(2.0)
    assert on_figure(maps, torch.zeros_like(figure)) == 0


def test_the_preferred_picture_is_told_place_by_place() -> None:
    figure = torch.ones(1, 1, 4, 4)
    low, high = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 4.0)
    undecided = preferred([low], [low], figure)
    assert undecided == pytest.approx(0.6931, abs=1e-4)
    assert preferred([high], [low], figure) < 0.05 < undecided < preferred([low], [high], figure)


def test_features_that_match_cost_nothing_and_their_spread_does_not_matter() -> None:
    figure, real = torch.ones(2, 1, 4, 4), torch.randn(2, 3, 4, 4)
    assert matched([real], [real], figure) == 0
    off = matched([real + real.std()], [real], figure)
    assert off == pytest.approx(1.0, rel=1e-4)
    assert matched([10 * (real + real.std())], [10 * real], figure) == pytest.approx(float(off))


def test_the_critics_gradient_is_scaled_to_the_errors() -> None:
    errors, verdict = torch.tensor([3.0, 4.0]), torch.tensor([0.0, -0.01])
    assert torch.allclose(joined_gradient(errors, verdict, 0.5), torch.tensor([3.0, 1.5]))
    assert torch.equal(joined_gradient(errors, verdict, 0.0), errors)
    assert torch.equal(joined_gradient(errors, torch.zeros(2), 1.0), errors)


def test_a_critic_learns_to_tell_smoothed_latents_from_sharp_ones() -> None:
    critic = _critic()
    optimiser = torch.optim.AdamW(critic.parameters(), lr=3e-3)
    figure, words, poses = torch.ones(4, 1, 32, 32), torch.zeros(4, 6), torch.zeros(4, 4, 32, 32)
    losses = []
    for _ in range(30):
        sharp = torch.randn(4, 8, 32, 32)
        smooth = nn.functional.avg_pool2d(sharp, 3, 1, 1)
        loss = preferred(critic(sharp, words, poses)[0], critic(smooth, words, poses)[0], figure)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(0.69, abs=0.05) and losses[-1] < 0.2


def test_parts_of_a_module_train_at_their_own_rate(tmp_path: Path) -> None:
    pair = nn.ModuleDict({"slow": nn.Linear(1, 1), "fast": nn.Linear(1, 1)})
    before = {name: p.detach().clone() for name, p in pair.named_parameters()}
    loop = TrainingLoop(pair, tmp_path, 1e6, 1e-3, warmup=1, rates={"fast": 10.0})
    for _ in loop:
        loop.backward(sum(part(torch.ones(4, 1)).mean() for part in pair.values()))
        break
    moved = {n: float((p - before[n]).abs()) for n, p in pair.named_parameters()}
    assert moved["fast.bias"] == pytest.approx(10 * moved["slow.bias"], rel=0.02)
