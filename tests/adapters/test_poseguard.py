"""PoseGuard: both goals move the LoRA, the base stays, the adapter loads into the clip pipeline."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from adapters import train as command
from adapters.poseguard import POSE_CLASSES as CLASSES
from adapters.poseguard import (
    AvatarFrames,
    Base,
    Frames,
    Move,
    PoseGuardConfig,
    batch_from,
    degrade,
    fit,
    losses,
    measure,
    passes,
)
from adapters.registry import TrainOptions, get
from evaluation.psnr import EXACT_DB
from evaluation.runs import RunStore, weights_hash
from pipelines.animation import AnimationEngine, PairResult
from pipelines.paths import ASSETS
from pipelines.pose import PoseClip
from tests.tiny import SIZE, tiny_avatar_sd, tiny_profile
from worlds.data import AvatarSet
from worlds.motions import MOTIONS

CONFIG = PoseGuardConfig(
    steps=100, batch_size=8, unsafe_share=0.5, learning_rate=1e-2, rank=4, warmup_steps=2, cells=1
)
SPEC = tiny_profile(Path("none"), times=(999, 250, 100), solver_order=1).animation


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar_sd(tmp_path_factory.mktemp("weights") / "avatar-sd")


def frames_of(step: int) -> Frames:
    """Random frames whose skeleton picture is white where the pose is unsafe, else black."""
    generator = torch.Generator().manual_seed(step)
    unsafe = torch.arange(8) < 4
    pose = (255 * unsafe.to(torch.uint8))[:, None, None, None].expand(8, SIZE, SIZE, 3)
    latents = torch.randn(8, 16, 4, 4, generator=generator)
    return Frames(latents=latents, pose=pose, captions=["red shirt"] * 8, unsafe=unsafe)


def run_of(tmp_path: Path):
    return RunStore(tmp_path / "runs").create("train", asdict(CONFIG), "embedded", {})


def options(tmp_path: Path, **changes: object) -> TrainOptions:
    return TrainOptions(out=tmp_path / "out", checkpoints=tmp_path / "checkpoints", **changes)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    tmp_path = tmp_path_factory.mktemp("guard")
    base = Base.load(tiny_profile(folder))
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    run = run_of(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, (done, _) = fit(base, frames_of, CONFIG, options(tmp_path), run, SPEC)
    finally:
        torch.set_num_threads(threads)
    return base, model, done, before, tmp_path, run


def test_training_reaches_for_both_goals_and_leaves_the_base(trained):
    base, model, done, before, _, run = trained
    assert done == CONFIG.steps and len(run.events()) == CONFIG.steps
    pairs = []
    for step in range(1000, 1010):
        batch = batch_from(frames_of(step), base, CONFIG, step, SPEC.steps)
        with torch.no_grad():
            after = losses(model, base, batch, CONFIG, SPEC)
            with model.disable_adapter():
                pairs.append([*after, *losses(model, base, batch, CONFIG, SPEC)])
    fidelity, safety, fidelity_before, safety_before = torch.tensor(pairs).mean(0)
    # A random frozen network can follow only so far: what counts is which way each goal moved.
    assert safety < 0.9 * safety_before
    assert fidelity - fidelity_before < 0.5 * (safety_before - safety)
    for name, value in base.unet.state_dict().items():
        name = name.removeprefix("base_model.model.").replace(".base_layer", "")
        assert ".lora_" in name or torch.equal(value, before[name])


def test_half_of_the_steps_train_the_first_pass(trained):
    base = trained[0]
    drawn = [
        int(batch_from(frames_of(0), base, CONFIG, step, 3)["pass"]) for step in range(200)
    ]
    assert 80 < drawn.count(0) < 120 and min(drawn.count(1), drawn.count(2)) > 30
    only = [int(batch_from(frames_of(0), base, CONFIG, step, 1)["pass"]) for step in range(9)]
    assert not any(only)


def test_states_are_those_of_the_guarded_sampling(trained):
    base, model, *_ = trained
    frames = frames_of(0)
    noise, tokens = torch.randn(8, 16, 4, 4), base.tokens(frames["captions"])
    sampled = [*passes(model, base, noise, tokens, frames["pose"], SPEC)]
    assert [int(time) for time, _ in sampled] == [999, 250, 100, 0]
    assert torch.equal(sampled[0][1], noise)
    batch = batch_from(frames, base, CONFIG, 0, 3) | {"noise": noise}
    seen = []
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for number in range(3):
        seen.clear()
        losses(model, base, batch | {"pass": torch.tensor(number)}, CONFIG, SPEC)
        assert torch.allclose(seen[-1], sampled[number][1], atol=1e-5)
    hook.remove()


@pytest.mark.parametrize("number", [0, 2])
def test_both_goals_reach_the_lora_under_autocast(trained, number):
    base, model, *_ = trained
    batch = batch_from(frames_of(0), base, CONFIG, 0, 3) | {"pass": torch.tensor(number)}
    lora = [p for name, p in model.named_parameters() if "lora_B" in name]
    for goal in (0, 1):
        with torch.autocast("cpu", torch.bfloat16):
            loss = losses(model, base, batch, CONFIG, SPEC)[goal]
        grads = torch.autograd.grad(loss, lora, allow_unused=True)
        assert all(grad is not None and grad.abs().max() > 0 for grad in grads)


def test_the_adapter_loads_into_the_clip_pipeline_and_names_no_machine(trained, folder):
    tmp_path = trained[4]
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert str(tmp_path.parent) not in (out / "adapter_config.json").read_text()
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("poseguard", out)
    pose = PoseClip(np.full((4, 18, 2), 30.0), np.ones((4, 18)), None, SIZE, SIZE)
    *_, result = engine.pair(pose, "red shirt", {"poseguard": 1.0}, 7)
    assert isinstance(result, PairResult)
    assert not np.array_equal(result.unguarded, result.guarded)


def test_stopped_and_resumed_equals_in_one_go(folder, tmp_path, monkeypatch):
    config = PoseGuardConfig(**{**asdict(CONFIG), "steps": 4})
    base = Base.load(tiny_profile(folder))
    whole, _ = fit(base, frames_of, config, options(tmp_path), run_of(tmp_path), SPEC)
    half = TrainOptions(tmp_path / "half", tmp_path / "half-checkpoints", max_minutes=0.1)
    resumed = TrainOptions(half.out, half.checkpoints, resume=True)
    base = Base.load(tiny_profile(folder))
    ticks = iter(range(10_000))
    # A clock of one second a look: the time is up in the middle, with a checkpoint.
    monkeypatch.setattr("adapters.loop.time.monotonic", lambda: float(next(ticks)))
    _, (done, _) = fit(base, frames_of, config, half, run_of(tmp_path), SPEC)
    monkeypatch.undo()
    assert 0 < done < 4
    base = Base.load(tiny_profile(folder))
    again, (done, before) = fit(base, frames_of, config, resumed, run_of(tmp_path), SPEC)
    assert done == 4 and before > 0
    for (name, one), two in zip(
        whole.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.allclose(one, two, atol=1e-6), name


def test_degraded_latents_hold_no_detail():
    torch.manual_seed(0)
    latents = torch.randn(2, 16, 16, 16)
    noise = torch.randn(2, 16, 16, 16)
    mosaic = degrade(latents, "mosaic", 4, noise)
    assert torch.equal(mosaic[:, :, :4, :4], mosaic[:, :, :1, :1].expand(2, 16, 4, 4))
    assert torch.allclose(mosaic.mean((2, 3)), latents.mean((2, 3)), atol=1e-6)
    assert degrade(latents, "blur", 4, noise).std() < 0.5 * latents.std()
    noisy = degrade(3 * latents + 1, "noise", 4, noise)
    assert torch.allclose(noisy.mean(), torch.tensor(1.0), atol=0.2)
    assert torch.allclose(noisy.std(), torch.tensor(3.0), atol=0.2)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (("kneel_both", "kneeling", 8), "unsafe"),
        (("kneel_down", "kneeling", 0), "near_miss"),
        (("kneel_down", "kneeling", 8), None),
        (("kneel_down", "kneeling", 15), "unsafe"),
        (("kneel_rise", "kneeling", 0), "unsafe"),
        (("kneel_rise", "kneeling", 15), "near_miss"),
        (("squat", "near_miss", 3), "near_miss"),
        (("walk", "everyday", 3), "other"),
    ],
)
def test_frames_are_sorted_by_what_they_show(frame, kind):
    assert CLASSES["kneeling"].kind(*frame) == kind


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pose_class": "dancing"}, "pose_class is 'dancing'; choose one of: kneeling"),
        ({"target": "black"}, "target is 'black'"),
        ({"rank": 0}, "rank is 0"),
        ({"text_drop": 1.5}, "text_drop is 1.5"),
        ({"safety_weight": -1.0}, "safety_weight is -1.0"),
        ({"zoom": 0.9}, "zoom is 0.9"),
        ({"shift": -0.1}, "shift is -0.1"),
        ({"first_share": 2.0}, "first_share is 2.0"),
        ({"batch_size": 1}, "unsafe_share is 0.4"),
    ],
)
def test_wrong_settings_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        PoseGuardConfig(**change)


def test_batches_mix_the_kinds_and_hide_the_word(avatars):
    latents = np.random.default_rng(0).standard_normal((6, 16, 16, 16)).astype(np.float16)
    source = AvatarFrames(avatars, latents, 2.0, PoseGuardConfig())
    assert source.kinds == {"unsafe": [0, 4], "near_miss": [1, 3], "other": [2, 5]}
    first, again = source(3), source(3)
    assert torch.equal(first["latents"], again["latents"])
    assert first["captions"] == again["captions"]
    assert first["unsafe"].tolist() == [True] * 6 + [False] * 10
    assert first["latents"].std() > 1 and first["pose"].shape == (16, 256, 256, 3)
    captions = [text for step in range(40) for text in source(step)["captions"]]
    empty, own = captions.count(""), sum(text in avatars_names(avatars) for text in captions)
    assert 0.12 < empty / len(captions) < 0.28 and 0.3 < own / len(captions) < 0.5
    assert source.closest == [1]  # squatting is nearer to kneeling than waving is
    plain = PoseGuardConfig(closest_share=1, text_drop=0, verb_swap=0)
    assert AvatarFrames(avatars, latents, 2.0, plain)(3)["captions"][6:12] == ["squat"] * 6
    with pytest.raises(ValueError, match="has none that is other"):
        avatars.__dict__["meta"] = [avatars.meta[0], avatars.meta[1]]
        AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())


def test_every_batch_shows_a_face_if_there_are_any(avatars):
    latents = np.zeros((6, 8, 16, 16), np.float16)
    plain = PoseGuardConfig(text_drop=0, verb_swap=0)
    assert AvatarFrames(avatars, latents, 1.0, plain).faces == []
    avatars.meta[5] |= {"closeup": True, "caption": "a face"}
    source = AvatarFrames(avatars, latents, 1.0, plain)
    assert source.faces == [5] and source.kinds["other"] == [2, 5]
    assert all(source(step)["captions"][12] == "a face" for step in range(8))
    assert any("walk" in source(step)["captions"][13:] for step in range(8))
    none = replace(plain, face_share=0)
    assert not all("a face" in AvatarFrames(avatars, latents, 1.0, none)(k)["captions"]
                   for k in range(8))  # fmt: skip


def test_shares_of_the_closest_and_of_faces_are_what_is_kept_for_them_at_least(avatars):
    """What is left is drawn from all of the kind, so that more of a batch are of them."""
    avatars.meta[5] |= {"closeup": True, "caption": "a face"}
    plain = PoseGuardConfig(text_drop=0, verb_swap=0)
    source = AvatarFrames(avatars, np.zeros((6, 1, 16, 16), np.float16), 1.0, plain)
    assert len(source.kinds["near_miss"]) == len(source.kinds["other"]) == 2
    drawn = [source(step)["captions"] for step in range(200)]
    near, others = (np.array([batch[part] for batch in drawn]) for part in (slice(6, 12),
                                                                        slice(12, 16)))  # fmt: skip
    assert (near == "squat").sum(1).min() == 4 and (others == "a face").sum(1).min() == 1
    # Of the rest half, as half of what there is to choose from.
    assert (near == "squat").mean() == pytest.approx((4 + 2 / 2) / 6, abs=0.03)
    assert (others == "a face").mean() == pytest.approx((1 + 3 / 2) / 4, abs=0.05)


def test_movements_that_come_closest_are_near_misses_whatever_their_group():
    kneeling = CLASSES["kneeling"]
    assert kneeling.kind("warrior", "yoga", 8) == "near_miss"
    assert kneeling.kind("tree", "yoga", 8) == "other"
    assert set(kneeling.closest) <= set(MOTIONS)


def test_skeleton_and_latents_are_moved_alike(avatars):
    """A figure at one place of both, wherever it is moved to, still is at one place of both."""
    avatars.__dict__["keypoints"] = np.ones((6, 18, 3), np.float32) * [100, 140, 1]
    latents = np.zeros((6, 1, 256, 256), np.float16)
    latents[:, :, 139:142, 99:102] = 1
    source = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())
    moves = [Move(), Move(1.25, 0.1, -0.15), Move(0.8, -0.15, 0.1)]
    frames = source.frames([0, 2, 4], ["", "", ""], 1, moves)
    for drawn, skeleton, move in zip(frames["latents"], frames["pose"], moves, strict=True):
        zoom, *shift = move
        asked = (np.array([100, 140]) - 127.5) * zoom + 127.5 + 256 * np.array(shift)
        for picture in (drawn[0], skeleton.sum(-1)):
            y, x = np.nonzero(picture.numpy())
            assert np.abs(np.array([x.mean(), y.mean()]) - asked).max() < 1.5
    every = source.moves([0] * 200, 0, np.random.default_rng(0))
    assert 1 / 1.4 <= min(every).zoom < 0.8 < 1.3 < max(every).zoom <= 1.4
    assert 0.2 < max(abs(move.down) for move in every) <= 0.22


def test_who_kneels_without_a_leg_in_view_is_not_seen_to_kneel(avatars):
    """An upper body looks the same whoever it is of: if one is unsafe, all dissolve."""
    latents = np.zeros((6, 1, 16, 16), np.float16)
    legs = avatars.keypoints.copy()
    legs[:, [8, 11]], legs[:, [9, 12]], legs[:, [10, 13]] = [99, 150, 1], [99, 190, 1], [99, 200, 1]
    avatars.__dict__["keypoints"] = legs
    source = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())
    assert source.kinds["unsafe"] == [0, 4]
    every = source.moves([4] * 300, 150, np.random.default_rng(0))
    lowest = [(200 - 127.5) * zoom + 127.5 + 256 * down for zoom, _, down in every]
    assert max(lowest[:150]) < 256 < max(lowest[150:]), "only the unsafe ones stay in the frame"
    legs[4, 10] = [99, 300, 0]  # one foot out of the frame, the other in it
    assert AvatarFrames(avatars, latents, 1.0, PoseGuardConfig()).kinds["unsafe"] == [0, 4]
    legs[4, 13] = [99, 300, 0]
    kinds = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig()).kinds
    assert kinds["unsafe"] == [0] and 4 in kinds["other"]


def avatars_names(avatars: AvatarSet) -> set[str]:
    return {meta["caption"] for meta in avatars.meta}


def test_measure_compares_from_the_same_noise(trained, folder, avatars, tmp_path):
    base, model, *_ = trained
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    latents = np.zeros((6, 16, 16, 16), np.float16)
    source = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())
    spec = tiny_profile(folder).animation
    figures = measure(model, base, vae, source, tmp_path / "sheet.jpg", spec)
    kinds = ("unsafe_psnr_db", "near_miss_psnr_db", "other_psnr_db")
    assert set(figures) == {*kinds, *(f"moved_{kind}" for kind in kinds)}
    assert (tmp_path / "sheet.jpg").stat().st_size > 0
    assert all(0 < value < EXACT_DB for value in figures.values())
    guard = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_B" in name}
    try:
        for name in guard:
            model.get_parameter(name).data.zero_()
        figures = measure(model, base, vae, source, tmp_path / "sheet.jpg", spec)
    finally:
        for name, weights in guard.items():
            model.get_parameter(name).data.copy_(weights)
    assert set(figures.values()) == {EXACT_DB}, "a guard that does nothing changes nothing"


def test_it_is_registered_and_refuses_a_model_that_draws_no_avatars(tmp_path):
    assert get("poseguard").card.pipeline == "animation"
    with pytest.raises(SystemExit, match="no PoseGuard for the profile 'hub'"):
        command.main(["poseguard", "--profile", "hub", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_command_records_which_model_the_guard_was_trained_on(
    folder, avatars, tmp_path, monkeypatch
):
    data = tmp_path / "checkpoints" / "data"
    data.mkdir(parents=True)
    for name in ("frames", "frames-heldout"):
        (data / name).symlink_to(avatars.folder)
    monkeypatch.setattr("adapters.poseguard.REPO", tmp_path)
    monkeypatch.setattr("worlds.denoiser.GRID", 16)  # of the tiny autoencoder
    monkeypatch.setattr("adapters.train.get_profile", lambda name: tiny_profile(folder))
    for module in ("train", "poseguard"):
        monkeypatch.setattr(f"adapters.{module}.runs_dir", lambda: tmp_path / "runs")
    command.main(f"poseguard --steps 1 --batch-size 4 --out {tmp_path / 'out'}".split())
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["starts_from"] == {"unet": weights_hash(folder / "unet")}
    assert record["figures"]["steps_done"] == 1 and "starts_from" not in record["figures"]


def test_the_shipped_guard_was_trained_on_the_shipped_model():
    record = json.loads((ASSETS / "adapters" / "poseguard" / "training.json").read_text())
    assert record["starts_from"] == {"unet": weights_hash(ASSETS / "avatar-sd" / "unet")}, (
        "train it anew: python -m adapters.train poseguard"
    )
