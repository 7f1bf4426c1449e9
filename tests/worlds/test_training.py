"""The base-model trainers' parts, on real classes at tiny size."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from torch import nn

from pipelines.animation import AnimationEngine, PairResult
from pipelines.portraits import PortraitEngine
from pipelines.pose import PoseClip
from pipelines.profiles import PictureSpec, get_profile
from tests.tiny import tiny_profile
from worlds.autoencoder import (
    load_autoencoder,
    new_autoencoder,
    random_crops,
    reconstruction_loss,
    same_latents,
)
from worlds.data import AvatarSet, build
from worlds.denoiser import (
    CHAIN,
    Denoiser,
    chain,
    chain_times,
    denoising_loss,
    detail_shares,
    encode_poses,
    figure_weights,
    freeze_coarse,
    heads,
    load_weights,
    new_scheduler,
    new_tokenizer,
    noisy_first,
    passes_loss,
    pose_pixels,
    poses_embedded,
    split,
)
from worlds.export import read_records, write_records
from worlds.looks import CHARACTERS, caption
from worlds.loop import Float32Muon, TrainingLoop
from worlds.motion import new_motion_adapter
from worlds.portraits import build_portraits
from worlds.train import STAGES, parser


def _loop(folder: Path, module: nn.Module, **options: object) -> TrainingLoop:
    return TrainingLoop(module, folder, minutes=1e6, warmup=1, **options)


def _descend(loop: TrainingLoop, module: nn.Module, steps: int) -> None:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    for done, step in enumerate(loop, 1):
        # What is asked for turns to and fro: a step depends on what the optimiser remembers.
        wanted = (-1) ** (step // 3) * x.flip(1)
        loop.backward((module(x) - wanted).square().mean())
        if done == steps:
            break


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_muon_in_float32_does_what_torchs_does_in_bf16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(4, *shape)
    ended = []
    for kind in (torch.optim.Muon, Float32Muon):
        weight = nn.Parameter(start.clone())
        optimizer = kind([weight], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        ended.append(weight.detach())
        assert set(optimizer.state[weight]) >= {"momentum_buffer"}, "as checkpoints name it"
    with pytest.raises(ValueError, match="adjust_lr_fn is 'original'"):
        Float32Muon([weight], lr=0.1, weight_decay=0.1, adjust_lr_fn="original")
    moved = (ended[0] - start).norm()
    assert (ended[0] - ended[1]).norm() < 0.02 * moved


@pytest.mark.parametrize("muon", [False, True])
def test_resumed_training_equals_uninterrupted(tmp_path: Path, muon: bool) -> None:
    torch.manual_seed(0)
    straight = nn.Linear(4, 4)
    broken = nn.Linear(4, 4)
    broken.load_state_dict(straight.state_dict())
    options = {"muon": muon, "learning_rate": 0.05}
    whole = _loop(tmp_path / "a", straight, **options)
    _descend(whole, straight, 20)
    first = _loop(tmp_path / "b", broken, **options)
    _descend(first, broken, 10)
    first.step += 1  # the break leaves the loop before it counts the step
    first.save()
    fresh = nn.Linear(4, 4)
    second = _loop(tmp_path / "b", fresh, resume=True, **options)
    assert second.step == 10
    _descend(second, fresh, 10)
    for one, other in zip(
        [*straight.parameters(), *whole.ema.shadow_params],
        [*fresh.parameters(), *second.ema.shadow_params],
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("takes", [2.0, 20.0, 200.0])
def test_slow_steps_count_in_full_and_a_pause_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    clock = [0.0]
    monkeypatch.setattr("worlds.loop.time.monotonic", lambda: clock[0])
    loop = _loop(tmp_path, nn.Linear(1, 1))
    for step in loop:
        if step == 12:
            break
        clock[0] += 10_000 if step == 10 else takes
        counted = loop.seconds
    # Of the first step nobody knows how long one takes here, nor is more known of the tenth.
    first = min(takes, 60)
    assert counted == pytest.approx(first + 9 * takes + max(60, 5 * takes))


def test_muon_trains_convolutions_as_matrices_and_leaves_tables_and_norms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(4, 8), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 6, 2))
    before = [p.detach().clone() for p in net.parameters()]
    loop = _loop(tmp_path, net, learning_rate=0.1, muon=True)
    kinds = [type(optimizer).__name__ for optimizer, _ in loop._seen]
    assert [kind.removeprefix("Float32") for kind in kinds] == ["AdamW", "Muon", "AdamW"]
    next(iter(loop))
    loop.backward(net(torch.arange(4)).square().sum())
    step = (net[2].weight.detach() - before[1] * (1 - 0.1 * 1e-3)).flatten(1)
    # Orthogonalised: all directions that the four inputs span are moved about as far.
    far = torch.linalg.svdvals(step)[:4] / (0.1 * 0.2 * 8**0.5)
    assert far.min() > 0.6 and far.max() < 1.3
    assert all((p != old).any() for p, old in zip(net.parameters(), before, strict=True))
    assert all(p.grad is None for p in net.parameters())


def test_a_run_that_has_had_its_time_is_not_resumed(tmp_path: Path) -> None:
    loop = _loop(tmp_path, nn.Linear(1, 1))
    loop.seconds = 60 * loop.minutes
    loop.save()
    with pytest.raises(ValueError, match=r"max-minutes is .* has had .* leave --resume out"):
        _loop(tmp_path, nn.Linear(1, 1), resume=True)


def test_resume_without_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--resume"):
        _loop(tmp_path, nn.Linear(1, 1), resume=True)


def test_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max-minutes"):
        TrainingLoop(nn.Linear(1, 1), tmp_path, minutes=0)


def test_the_figure_weighs_more() -> None:
    x, y = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)
    plain = reconstruction_loss(x, y, torch.ones(1, 1, 4, 4))
    assert plain == pytest.approx(0.1 + 2 * 0.01)
    assert reconstruction_loss(x, y, torch.full((1, 1, 4, 4), 4.0)) == pytest.approx(4 * plain)


def test_crops_lie_around_the_figure(tmp_path: Path) -> None:
    data = build(tmp_path / "set", 6, workers=1)
    pixels, weight = random_crops(data, 16, np.random.default_rng(0), size=64)
    assert pixels.shape == (16, 3, 64, 64) and weight.shape == (16, 1, 64, 64)
    assert pixels.min() >= -1 and pixels.max() <= 1
    assert (weight.amax((1, 2, 3)) > 1).float().mean() > 0.7


def test_autoencoder_reduces_eight_times() -> None:
    vae = new_autoencoder((8, 8, 8, 8), latent_channels=4, groups=4)
    latents = vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode()
    assert latents.shape == (1, 4, 8, 8)
    assert vae.decode(latents).sample.shape == (1, 3, 64, 64)


def _narrow(scale: float = 1.0, seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    vae = new_autoencoder((8, 8, 8, 8), groups=4)
    vae.register_to_config(scaling_factor=scale)
    return vae


def test_the_autoencoder_is_the_exported_or_the_last_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets, work = tmp_path / "assets", tmp_path / "work"
    monkeypatch.setattr("worlds.autoencoder.ASSETS", assets)
    with pytest.raises(FileNotFoundError, match="no autoencoder in .*work or assets"):
        load_autoencoder(work, exported=False)
    for scale, folder in enumerate((work / "decoder/model", work / "vae/model"), 2):
        _narrow(scale).save_pretrained(folder)
        os.utime(folder / "config.json", (scale, scale))
        write_records(folder, [{"stage": "vae", "seed": scale}])
    with pytest.raises(FileNotFoundError, match="no autoencoder in assets/avatar-sd"):
        load_autoencoder(work, exported=True)
    _narrow(1).save_pretrained(assets / "avatar-sd/vae")
    write_records(assets / "avatar-sd", [{"stage": "vae", "seed": 1}, {"stage": "frames"}])

    def loaded(exported: bool) -> tuple[float, list]:
        vae, records = load_autoencoder(work, exported=exported)
        return vae.config.scaling_factor, [record["seed"] for record in records]

    assert loaded(True) == (1, [1])
    assert loaded(False) == (3, [3])
    os.utime(work / "decoder/model/config.json", (9, 9))
    assert loaded(False) == (2, [2])
    shutil.rmtree(work)
    assert loaded(False) == (1, [1])


def test_decoders_of_the_same_latents_are_told_from_others() -> None:
    one, other = _narrow(), _narrow()
    other.decoder.requires_grad_(False).conv_in.weight += 1
    assert same_latents(one, other.half())
    assert not same_latents(one, _narrow(seed=1))
    assert not same_latents(one, new_autoencoder((8, 8, 8), groups=4))


def test_every_word_of_the_vocabulary_is_one_token() -> None:
    tokenizer = new_tokenizer()
    for look in CHARACTERS.values():
        text = caption(look, "waving")
        words = text.replace(",", " ,").replace("-", " - ").split()
        assert len(tokenizer.tokenize(text)) == len(words)


def test_the_loss_of_noised_latents_is_that_of_the_velocity() -> None:
    scheduler, one = new_scheduler(), torch.ones(2, 1, 1, 1)
    x, noise = torch.randn(2, 2, 16, 4, 4)
    t = torch.tensor([10, 990])
    states, target = scheduler.add_noise(x, noise, t), scheduler.get_velocity(x, noise, t)
    assert denoising_loss(scheduler, x, target, states, noise, t, one, 0) == 0
    off = denoising_loss(scheduler, x, target + 1, states, noise, t, one, 0)
    assert off == pytest.approx(1.0)


def test_the_error_of_own_states_is_that_of_the_picture_at_every_time() -> None:
    scheduler, one = new_scheduler(), torch.ones(4, 1, 1, 1)
    x, states, noise = torch.randn(3, 4, 8, 4, 4)
    t = torch.tensor([200, 600, 999, 300])
    alphas = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    v = (alphas.sqrt() * states - (x + 2)) / (1 - alphas).sqrt()  # two too much, from any state
    assert denoising_loss(scheduler, x, v, states, noise, t, one, 4) == pytest.approx(4.0, rel=1e-4)
    v[3] = scheduler.get_velocity(x, noise, t)[3] + 1
    mixed = denoising_loss(scheduler, x, v, states, noise, t, one, 3)
    assert mixed == pytest.approx(0.75 * 4 + 0.25 * 1, rel=1e-4)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(new_tokenizer(), channels=(16, 32, 64), width=32)


def test_the_pose_reaches_the_output_from_the_start(denoiser: Denoiser) -> None:
    x, t = torch.randn(1, 8, 32, 32), torch.tensor([500])
    tokens = denoiser.tokens(["Mira Solano, park"])
    black, white = torch.zeros(1, 3, 256, 256), torch.ones(1, 3, 256, 256)
    with torch.no_grad():
        spoken = [denoiser(x, t, tokens, pose, torch.ones(1)) for pose in (black, white)]
        silent = [denoiser(x, t, tokens, pose, torch.zeros(1)) for pose in (black, white)]
    assert not torch.allclose(*spoken, atol=1e-3)
    assert torch.equal(*silent)


def test_skeletons_embedded_once_give_the_same_output(denoiser: Denoiser, tmp_path: Path) -> None:
    data = build(tmp_path / "set", 2, workers=1)
    x, t, one = torch.randn(2, 8, 32, 32), torch.tensor([100, 700]), torch.ones(2)
    tokens = denoiser.tokens(["park", ""])
    embedded = torch.from_numpy(encode_poses(denoiser.controlnet, data).astype(np.float32))
    pictures = pose_pixels(np.stack([data.condition(i) for i in range(2)]))
    with torch.no_grad():
        direct = denoiser(x, t, tokens, pictures, one)
        with poses_embedded(denoiser.controlnet):
            cached = denoiser(x, t, tokens, embedded, one)
        again = denoiser(x, t, tokens, pictures, one)
    assert torch.allclose(direct, cached, atol=0.05)
    assert torch.equal(direct, again)


def test_a_chain_goes_on_from_what_was_drawn(denoiser: Denoiser) -> None:
    noise, tokens = torch.randn(2, 8, 32, 32), denoiser.tokens(["park", "beach"])
    poses, (first, second, third) = torch.rand(2, 3, 256, 256), (999, 250, 100)
    passes = [*chain(denoiser, noise, tokens, poses, (first, second, third))]
    assert [t.tolist() for _, t, _ in passes] == [[t] * 2 for t in (first, second, third)]
    assert torch.equal(passes[0][0], noise)
    scheduler = DPMSolverMultistepScheduler.from_config(
        denoiser.scheduler.config, algorithm_type="dpmsolver++", solver_order=1
    )
    scheduler.set_timesteps(timesteps=[first, second, third])
    states = noise
    for (seen, t, predicted), time in zip(passes, scheduler.timesteps, strict=True):
        assert torch.allclose(seen, states, atol=1e-3), "as the product samples"
        assert not seen.requires_grad and predicted.requires_grad
        with torch.no_grad():
            again = denoiser(seen, t, tokens, poses, torch.ones(2))
        assert torch.allclose(again, predicted, atol=1e-5)
        states = scheduler.step(predicted.detach(), time, states).prev_sample


def test_all_passes_of_a_step_weigh_the_same() -> None:
    scheduler, (x, noise) = new_scheduler(), torch.randn(2, 3, 8, 4, 4)
    weight = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)

    def off_by(state: torch.Tensor, clean: torch.Tensor, t: int) -> tuple:
        times = torch.full((len(state),), t)
        a = scheduler.alphas_cumprod[t]
        return state, times, (a.sqrt() * state - clean) / (1 - a).sqrt()

    first, others = x[:1], (noise[1:], torch.tensor([999, 999]), -x[1:] - 1)
    passes = [off_by(torch.randn_like(first), first + by, t) for by, t in ((2, 999), (3, 250))]
    # Two passes of the first picture, one of each other; at pure noise the velocity is the picture.
    expected = (1 * 4 + 1 * 9 + 2 * 1 + 3 * 1) / 4
    assert passes_loss(scheduler, x, noise, weight, passes, others) == pytest.approx(
        expected, rel=1e-3
    )


def test_three_passes_in_four_belong_to_chains() -> None:
    length = len(CHAIN)
    assert split(32 * length) == (24, 8 * length)
    for passes in (length + 1, 4, 32, 63):
        chained, noised = split(passes)
        assert chained >= 1 <= noised and chained * length + noised == passes
        assert abs(chained * length - 0.75 * passes) <= length
    with pytest.raises(ValueError, match=f"at least {length + 1} passes, got {length}"):
        split(length)


def test_pictures_with_fine_details_are_drawn_more_often(tmp_path: Path) -> None:
    data = build(tmp_path / "set", 24, workers=1)
    shares = detail_shares(data)
    assert shares.sum() == pytest.approx(1)
    looks = [row["look"] for row in data.meta]
    plain = [
        k
        for k, look in enumerate(looks)
        if (look["pattern"], look["prop"], look["glasses"], look["style"])
        == ("plain", "none", False, "3d")
    ]
    assert plain and len(plain) < len(looks)
    assert set(shares[plain]) == {shares.min()}
    dotted = next(k for k, look in enumerate(looks) if look["pattern"] == "dotted")
    assert shares[dotted] >= 2 * shares.min()


def test_noisy_times_come_first_and_all_times_at_the_end() -> None:
    torch.manual_seed(0)
    first, last = noisy_first(4000, 0.0), noisy_first(4000, 1.0)
    assert first.min() >= 0 and first.max() <= 999
    assert (first > 800).float().mean() == pytest.approx(0.49, abs=0.03)
    assert (last > 800).float().mean() == pytest.approx(0.20, abs=0.03)


def test_latents_on_the_figure_weigh_more(tmp_path: Path) -> None:
    data = build(tmp_path / "set", 3, workers=1)
    weights, head = figure_weights(data, np.arange(3)), heads(data.keypoints)
    assert weights.shape == head.shape == (3, 1, 32, 32)
    assert weights.mean() == pytest.approx(1.0)
    figure = torch.from_numpy(data.mask(0).reshape(32, 8, 32, 8).any((1, 3)))[None]
    rest = weights[0][~figure]
    body, face = (weights[0][figure & (head[0] == of)] for of in (0, 1))
    assert rest.max() == weights.min() and len(face) and len(body)
    assert body.min() == body.max() > 2 * rest.max()
    assert face.min() == face.max() == pytest.approx(float(2 * body[0] - rest[0]))


def test_a_smaller_figure_weighs_more_by_the_latent(tmp_path: Path) -> None:
    data = build(tmp_path / "set", 12, workers=1)
    areas = np.array([data.mask(i).reshape(32, 8, 32, 8).any((1, 3)).sum() for i in range(12)])
    small, large = areas.argmin(), areas.argmax()
    weights = figure_weights(data, np.array([small, large]))[:, 0]
    ground = weights.amin((1, 2))
    assert ground[0] == ground[1]
    assert weights[0].max() > weights[1].max()
    ratio = (weights[0].max() - ground[0]) / (weights[1].max() - ground[1])
    assert ratio == pytest.approx((areas[large] / areas[small]) ** 0.5, rel=1e-3)


def test_a_head_reaches_as_far_as_the_neck() -> None:
    joints = np.zeros((1, 18, 3), np.float32)
    joints[0, :, :2] = 100, 84
    joints[0, 1, :2] = 100, 124  # the neck, forty pixels under the face
    head = heads(joints)[0, 0]
    rows, columns = (np.unique(where) for where in np.nonzero(head.numpy()))
    assert (rows.min(), rows.max()) == (5, 15), "five latents up and down from 84 / 8 = 10.5"
    assert (columns.min(), columns.max()) == (7, 17)
    assert head[10, 12] == 1 and head[5, 7] == 0, "a disc, not a square"


def test_a_resumed_session_draws_on_and_a_new_one_from_the_start(tmp_path: Path) -> None:
    loop = _loop(tmp_path, nn.Linear(1, 1))
    torch.manual_seed(5)
    first = loop.generator(5, 2).random(4)
    assert (first == loop.generator(5, 2).random(4)).all()
    assert torch.initial_seed() == 5, "as the model's making left it"
    loop.step = 30
    later = loop.generator(5, 2).random(4)
    assert (later != first).all() and (later != loop.generator(5).random(4)).any()
    assert torch.initial_seed() == 35


def test_half_the_chains_take_the_times_of_the_product() -> None:
    torch.manual_seed(0)
    drawn = [chain_times() for _ in range(400)]
    own = [times for times in drawn if times != CHAIN]
    assert 0.4 < len(own) / len(drawn) < 0.6
    assert all(len(t) == len(CHAIN) and t[0] == CHAIN[0] for t in own)
    assert all([*t, 0] == sorted({*t, 0}, reverse=True) for t in own), "falling"
    assert np.mean([t[1:] for t in own]) == pytest.approx(500, abs=50)


def test_the_coarsest_levels_are_those_around_the_middle() -> None:
    net = Denoiser(new_tokenizer(), channels=(16, 32, 64), width=32)
    freeze_coarse(net.unet, 0)
    assert all(p.requires_grad for p in net.unet.parameters())
    freeze_coarse(net.unet, 1)
    freeze_coarse(net.controlnet, 2)
    unet = {n.removeprefix("unet.") for n, p in net.named_parameters() if not p.requires_grad}
    places = ("down_blocks.2.", "mid_block.", "up_blocks.0.")
    assert {next((k for k in places if name.startswith(k)), name)
            for name in unet if not name.startswith("controlnet")} == set(places)  # fmt: skip
    kept = {name for name, p in net.controlnet.named_parameters() if p.requires_grad}
    assert not any(n.startswith(("down_blocks.1.", "down_blocks.2.", "mid_block.")) for n in kept)
    assert any(name.startswith("down_blocks.0.") for name in kept)
    with pytest.raises(ValueError, match="freeze-coarse must be 0 to 3, got 4"):
        freeze_coarse(net.unet, 4)


def test_the_embedding_comes_back_after_an_error(denoiser: Denoiser) -> None:
    with pytest.raises(RuntimeError), poses_embedded(denoiser.controlnet):
        denoiser(
            torch.randn(1, 8, 32, 32),
            torch.tensor([1]),
            denoiser.tokens([""]),
            torch.zeros(1, 3, 256, 256),
            torch.ones(1),
        )
    assert isinstance(denoiser.controlnet.controlnet_cond_embedding.conv_out, nn.Conv2d)


@pytest.fixture
def former(denoiser: Denoiser, tmp_path: Path) -> Path:
    """An export of before there was attention at the finest level."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    types = {
        "down_block_types": ["DownBlock2D", *denoiser.unet.config.down_block_types[1:]],
        "up_block_types": [*denoiser.unet.config.up_block_types[:-1], "UpBlock2D"],
    }
    unet = UNet2DConditionModel.from_config({**denoiser.unet.config, **types})
    controlnet = ControlNetModel.from_config(
        {**denoiser.controlnet.config, "down_block_types": types["down_block_types"]}
    )
    for name, part in (
        ("unet", unet),
        ("controlnet", controlnet),
        ("text_encoder", denoiser.text_encoder),
    ):
        part.save_pretrained(tmp_path / name)
    return tmp_path


def test_a_grown_model_starts_as_the_one_it_grew_from(denoiser: Denoiser, former: Path) -> None:
    grown = Denoiser(denoiser.tokenizer, channels=(16, 32, 64), width=32)
    load_weights(grown, former)
    x, t, tokens = torch.randn(2, 8, 32, 32), torch.tensor([900, 20]), grown.tokens(["red", "hat"])
    picture, told = torch.rand(2, 3, 256, 256), torch.ones(2)
    with torch.no_grad():
        new = grown(x, t, tokens, picture, told)
        for name in ("unet", "controlnet"):
            part = getattr(denoiser, name)
            setattr(denoiser, name, type(part).from_pretrained(former / name))
        old = denoiser(x, t, tokens, picture, told)
    assert torch.allclose(new, old, atol=1e-4)


def test_a_grown_model_learns_with_what_is_new(denoiser: Denoiser, former: Path) -> None:
    grown = Denoiser(denoiser.tokenizer, channels=(16, 32, 64), width=32)
    load_weights(grown, former)
    grown(
        torch.randn(1, 8, 32, 32),
        torch.tensor([900]),
        grown.tokens(["red"]),
        torch.rand(1, 3, 256, 256),
        torch.ones(1),
    ).square().mean().backward()
    for block in (grown.unet.down_blocks[0], grown.unet.up_blocks[-1]):
        assert block.attentions[0].proj_out.weight.grad.abs().sum() > 0


def test_an_export_of_another_shape_is_refused(denoiser: Denoiser, former: Path) -> None:
    other = Denoiser(denoiser.tokenizer, channels=(16, 32), width=32)
    with pytest.raises(RuntimeError, match="up_blocks.2"):
        load_weights(other, former)


def test_motion_modules_start_as_identity(denoiser: Denoiser) -> None:
    from diffusers import UNetMotionModel

    motion = UNetMotionModel.from_unet2d(denoiser.unet, new_motion_adapter(denoiser.unet, 4))
    x, t = torch.randn(1, 8, 4, 16, 16), torch.tensor([300])
    text = torch.randn(1, 8, 32)
    with torch.no_grad():
        clip = motion(x, t, text.expand(4, -1, -1)).sample
        frame = denoiser.unet(x[:, :, 2], t, text).sample
    assert torch.allclose(clip[:, :, 2], frame, atol=1e-4)


@pytest.mark.slow
def test_the_stages_build_on_one_another_and_make_what_the_engine_draws_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of `python -m worlds.train` but reader and refiner: narrow networks, a step each."""

    def few(folder: Path, count: int, *, clips: bool = False, **others: int) -> AvatarSet:
        return build(folder, min(count, 1 if clips else 6), clips=clips, **others)

    for module in ("autoencoder", "denoiser", "motion"):
        monkeypatch.setattr(f"worlds.{module}.ASSETS", tmp_path)
        monkeypatch.setattr(f"worlds.{module}.build", few)
    monkeypatch.setattr("worlds.autoencoder.new_autoencoder", _narrow)
    monkeypatch.setattr("worlds.denoiser.Denoiser", partial(Denoiser, channels=(16, 32), width=32))
    export, work = tmp_path / "avatar-sd", tmp_path / "work"

    def run(*words: str) -> list[str]:
        STAGES[words[0]](parser().parse_args([*words, *"--max-minutes 0.001 --batch 4".split()]),
                         work)  # fmt: skip
        return [record["stage"] for record in read_records(export)]

    assert run("vae") == [], "other latents need another denoiser first"
    assert run("frames") == ["vae", "frames"]
    shipped = AutoencoderKL.from_pretrained(export / "vae")
    assert same_latents(shipped, AutoencoderKL.from_pretrained(work / "vae/model"))
    run("vae", "--seed", "1")  # a trial, of other latents
    assert not same_latents(shipped, AutoencoderKL.from_pretrained(work / "vae/model"))
    assert run("vae", "--decoder-only") == ["vae", "frames"]
    assert run("motion") == ["vae", "frames", "motion"]
    assert run("vae", "--decoder-only", "--from-export") == ["vae", "vae", "frames", "motion"]
    assert run("frames", "--from-export") == ["vae", "vae", "frames", "motion", "frames"]
    assert same_latents(shipped, AutoencoderKL.from_pretrained(export / "vae"))

    def few_portraits(folder: Path, count: int, **others: int) -> AvatarSet:
        return build_portraits(folder, 16, **others)

    monkeypatch.setattr("worlds.stills.ASSETS", tmp_path)
    monkeypatch.setattr("worlds.stills.PORTRAITS", tmp_path / "portraits")
    monkeypatch.setattr("worlds.stills.build_portraits", few_portraits)
    words = "portraits --max-minutes 0.001 --batch 4".split()
    STAGES["portraits"](parser().parse_args(words), work)
    assert [record["stage"] for record in read_records(tmp_path / "portraits")] == ["portraits"]
    spec = PictureSpec(
        str(export), str(tmp_path / "portraits"), fine_attention=False, steps=1, guidance_scale=1.0
    )
    *_, drawn = PortraitEngine(replace(get_profile("embedded"), pictures=spec)).draw(["a cat"], 1)
    assert drawn.pictures["base"].shape == (1, 256, 256, 3)

    engine = AnimationEngine(tiny_profile(export, size=256, steps=1, guidance_scale=1.0))
    pose = PoseClip(np.full((4, 18, 2), 90.0), np.ones((4, 18)), None, 256, 256)
    *_, result = engine.pair(pose, "red shirt", {}, 7)
    assert isinstance(result, PairResult)
    assert result.unguarded.shape == (4, 256, 256, 3) and result.unguarded.std() > 0
