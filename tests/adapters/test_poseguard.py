"""PoseGuard: both goals move the LoRA, the base stays, the adapter loads into the clip pipeline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters import train as command
from adapters.animation import Base, Frames, passes
from adapters.poseguard import PoseGuardConfig, batch_from, degrade, fit, losses
from adapters.registry import TrainOptions, get
from evaluation.runs import RunStore, weights_hash
from pipelines.animation import AnimationEngine, PairResult
from pipelines.paths import ASSETS
from pipelines.pose import PoseClip
from tests.tiny import SIZE, tiny_avatar_sd, tiny_profile

CONFIG = PoseGuardConfig(
    steps=100, batch_size=8, unsafe_share=0.5, learning_rate=1e-2, rank=4, warmup_steps=2, cells=1
)
SPEC = tiny_profile(Path("none"), times=(999, 250, 100), solver_order=1).animation


pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_it_is_registered_and_refuses_a_model_that_draws_no_avatars(tmp_path):
    assert get("poseguard").card.pipeline == "animation"
    with pytest.raises(SystemExit, match="no PoseGuard for the profile 'hub'"):
        command.main(["poseguard", "--profile", "hub", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_shipped_guard_was_trained_on_the_shipped_model():
    record = json.loads((ASSETS / "adapters" / "poseguard" / "training.json").read_text())
    assert record["starts_from"] == {"unet": weights_hash(ASSETS / "avatar-sd" / "unet")}, (
        "train it anew: python -m adapters.train poseguard"
    )
