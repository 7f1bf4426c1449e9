"""Clips: the loop equals the untouched pipeline, guards act on their own arm only, Stop stops."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AnimateDiffControlNetPipeline,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.animation import (
    _DECODE_CHUNK,
    AnimationEngine,
    PairResult,
    Progress,
)
from pipelines.fetch import MissingWeights
from pipelines.pose import PoseClip
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import load_openpose_json
from pipelines.profiles import get_profile
from pipelines.refine import Refiner, new_net
from pipelines.sharpen import sharpened
from pipelines.solver import dpm_solver, solver_for
from tests.pipelines.test_fetch import HUB_SHA, in_the_hubs_cache
from tests.tiny import FRAMES, SIZE, TEXT_WIDTH, tiny_avatar_sd, tiny_profile, tiny_unet

PROMPT = "red shirt"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar_sd(tmp_path_factory.mktemp("weights") / "avatar-sd")


@pytest.fixture(scope="module")
def guard(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LoRA made on the spatial UNet, as a guard's trainer makes it."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["to_q", "to_k", "to_v", "to_out.0", "conv1"],
        init_lora_weights=False,
    )
    target = tmp_path_factory.mktemp("guard")
    get_peft_model(unet, config).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def engine(folder: Path, guard: Path) -> AnimationEngine:
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    return engine


def clip(seed: int = 0, frames: int = FRAMES) -> PoseClip:
    points = np.random.default_rng(seed).uniform(4, SIZE - 4, (frames, 18, 2))
    return PoseClip(points, np.ones((frames, 18)), None, SIZE, SIZE)


def result_of(items) -> PairResult:
    *_, last = items
    assert isinstance(last, PairResult)
    return last


def test_pair_streams_progress_and_ends_in_a_result(engine):
    items = list(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, seed=7))
    *progress, result = items
    assert all(isinstance(item, Progress) for item in progress)
    # The first before any work, one behind each arm's step, and each of their parts but the last.
    parts = 2 * math.ceil(FRAMES / _DECODE_CHUNK)
    assert len(progress) == 1 + 2 * engine.spec.steps + parts - 1
    assert {item.message for item in progress[-parts:]} == {"decoding the frames"}
    fractions = [item.fraction for item in progress]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] < 1
    assert all(item.seconds_left > 0 for item in progress[1:])
    assert progress[1].preview.shape == progress[2].preview_guarded.shape == (SIZE, SIZE, 3)
    assert progress[1].preview_guarded is None and progress[2].preview is None
    for frames in (result.unguarded, result.guarded, result.pose_frames):
        assert frames.shape == (FRAMES, SIZE, SIZE, 3) and frames.dtype == np.uint8


def test_words_that_the_model_was_not_taught_are_told():
    engine = AnimationEngine(get_profile("embedded"))
    said = "A person in a Red t-shirt, close-up, with a plain jacket"
    assert engine._unknown_words(said) == ["plain", "jacket"]


def test_clips_may_follow_the_motion_adapter_s_noise_schedule(engine):
    spec = replace(engine.spec, beta_schedule="linear")
    linear, own = (solver_for(engine.pipe.scheduler, s, 4) for s in (spec, engine.spec))
    assert linear.config.beta_schedule == "linear"
    assert own.config.beta_schedule == engine.pipe.scheduler.config.beta_schedule != "linear"
    assert linear.timesteps.tolist() == own.timesteps.tolist()
    assert not torch.allclose(linear.alphas_cumprod, own.alphas_cumprod)


def test_the_motion_modules_are_held_once(engine):
    assert engine.pipe.motion_adapter is None


def test_a_solver_of_first_order_is_ddim(engine):
    ddim = DDIMScheduler.from_config(engine.pipe.scheduler.config)
    solver = dpm_solver(engine.pipe.scheduler, 1)
    ends = []
    for scheduler in (ddim, solver):
        scheduler.set_timesteps(4)
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        for t in scheduler.timesteps:
            x = scheduler.step(torch.sin(x) + t / 1000, t, x).prev_sample
        ends.append(x)
    assert ddim.timesteps.tolist() == solver.timesteps.tolist()
    assert torch.allclose(*ends, atol=1e-4)


def test_times_are_the_profiles_or_trailing(folder, engine):
    spec = tiny_profile(folder, times=(999, 250, 100)).animation
    assert solver_for(engine.pipe.scheduler, spec, 3).timesteps.tolist() == [999, 250, 100]
    solver = dpm_solver(engine.pipe.scheduler, 1)
    for steps in (1, 2, 4, 25):
        solver.set_timesteps(steps)
        made = solver_for(engine.pipe.scheduler, spec, steps).timesteps
        assert made.tolist() == solver.timesteps.tolist()


def test_the_loop_equals_the_untouched_pipeline(engine, folder):
    stock = AnimateDiffControlNetPipeline.from_pretrained(
        folder,
        controlnet=ControlNetModel.from_pretrained(folder, subfolder="controlnet"),
        motion_adapter=MotionAdapter.from_pretrained(folder, subfolder="motion_adapter"),
    )
    stock.scheduler = dpm_solver(stock.scheduler, engine.spec.solver_order)
    stock.set_progress_bar_config(disable=True)
    for guidance in (2.0, 1.0):
        expected = stock(
            PROMPT,
            negative_prompt=engine.spec.hint,
            num_frames=FRAMES,
            height=SIZE,
            width=SIZE,
            num_inference_steps=3,
            guidance_scale=guidance,
            latents=engine._noise(7),
            conditioning_frames=[Image.fromarray(frame) for frame in draw_clip(clip(), SIZE)],
            output_type="np",
        ).frames[0]
        made = result_of(engine.pair(clip(), PROMPT, {}, seed=7, guidance_scale=guidance)).unguarded
        assert np.abs(made / 255 - expected).max() < 1.01 / 255


def test_the_controlnet_runs_once_for_both_arms_of_the_first_step(engine):
    passes = []
    hook = engine.pipe.controlnet.register_forward_hook(lambda *_: passes.append(None))
    try:
        result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7, steps=3))
    finally:
        hook.remove()
    assert len(passes) == 1 + 2 + 2
    # What the arms show is what they show alone; a later step must not reuse the other arm's.
    both = result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7, steps=3))
    alone = result_of(engine.pair(clip(), PROMPT, {}, 7, steps=3)).unguarded
    assert np.array_equal(both.unguarded, alone)
    assert not np.array_equal(both.guarded, alone)


def test_the_background_rests_only_where_the_profile_says_so(folder):
    # A figure in the upper left corner, so that a tiny frame has a background at all.
    pose = PoseClip(clip().keypoints / 8, np.ones((FRAMES, 18)), None, SIZE, SIZE)
    moving, resting = (
        AnimationEngine(tiny_profile(folder, still_background=rests), torch.float32)
        for rests in (False, True)
    )
    before, after = (result_of(e.pair(pose, PROMPT, {}, 7)) for e in (moving, resting))
    corner = np.s_[:, SIZE - 8 :, SIZE - 8 :]
    assert np.ptp(before.unguarded[corner].astype(int), axis=0).max() > 0
    assert np.ptp(after.unguarded[corner].astype(int), axis=0).max() == 0
    assert "still background" in after.settings["sampler"]
    assert "still background" not in before.settings["sampler"]


def test_steps_are_taken_at_the_profiles_times(folder, engine):
    timed = AnimationEngine(tiny_profile(folder, times=(999, 250, 100)), torch.float32)
    made, even = (result_of(e.pair(clip(), PROMPT, {}, 7)) for e in (timed, engine))
    assert not np.array_equal(made.unguarded, even.unguarded)
    assert "3 steps at 999, 250, 100" in made.settings["sampler"]


def test_guidance_acts_within_its_interval_only(engine):
    def made(scale: float, interval: tuple[float, float]) -> np.ndarray:
        items = engine.pair(
            clip(), PROMPT, {}, 7, guidance_scale=scale, guidance_interval=interval
        )
        return result_of(items).unguarded

    # Three steps, at times 1, 2/3 and 1/3 (rounded to thousandths).
    always, never = made(3.0, (0.0, 1.0)), made(1.0, (0.0, 1.0))
    assert np.array_equal(made(3.0, (0.0, 0.2)), never), "no step lies in it"
    assert np.array_equal(made(3.0, (0.2, 1.0)), always), "all do"
    first = made(3.0, (0.9, 1.0))
    assert not np.array_equal(first, always) and not np.array_equal(first, never)


def test_seed_pose_and_prompt_decide_the_clip(engine):
    base = result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded
    assert np.array_equal(base, result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded)
    for other in (
        engine.pair(clip(), PROMPT, {}, 8),
        engine.pair(clip(1), PROMPT, {}, 7),
        engine.pair(clip(), "blue hat", {}, 7),
    ):
        assert not np.array_equal(base, result_of(other).unguarded)


def test_a_profile_may_sharpen_the_frames_and_its_results_say_so(folder):
    soft, crisp = (
        result_of(
            AnimationEngine(tiny_profile(folder, sharpening=amount), torch.float32).pair(
                clip(), PROMPT, {}, 3
            )
        )
        for amount in (0.0, 0.7)
    )
    assert np.array_equal(crisp.unguarded, sharpened(soft.unguarded, 0.7))
    assert "sharpened by 0.7" in crisp.settings["sampler"]
    assert "sharpened" not in soft.settings["sampler"]


def test_settings_make_the_same_clip_again(engine):
    first = result_of(engine.pair(clip(frames=9), PROMPT, {"kneeling": 0.5}, 7, steps=2))
    settings = json.loads(json.dumps(first.settings))
    again = result_of(
        engine.pair(
            load_openpose_json(json.dumps(settings["pose"])),
            settings["prompt"],
            settings["guards"],
            settings["seed"],
            steps=settings["steps"],
            guidance_scale=settings["guidance_scale"],
        )
    )
    assert np.array_equal(first.unguarded, again.unguarded)
    assert np.array_equal(first.guarded, again.guarded)
    assert set(settings["weights"]) == {"base", "controlnet", "motion", "kneeling"}
    assert settings["weights"] == engine.weights(["kneeling"])
    assert settings["noise_share"] == engine.spec.noise_share


def test_weights_of_the_hub_are_identified_by_their_commit(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    parts = {"base": folder, "motion": folder / "motion_adapter", "control": folder / "controlnet"}
    for name, made in parts.items():
        in_the_hubs_cache(tmp_path, f"org/{name}", made, ())
    profile = tiny_profile(
        folder, base="org/base", motion_adapter="org/motion", controlnet="org/control"
    )
    hub = AnimationEngine(replace(profile, pictures=replace(profile.pictures, base="org/base")))
    assert hub.weights([]) == {
        "base": f"org/base@{HUB_SHA}",
        "motion": f"org/motion@{HUB_SHA}",
        "controlnet": f"org/control@{HUB_SHA}",
    }


def test_a_guard_acts_on_the_guarded_arm_only(engine):
    alone = result_of(engine.pair(clip(), PROMPT, {}, 7))
    both = result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7))
    assert alone.guarded is None
    assert np.array_equal(alone.unguarded, both.unguarded)
    assert not np.array_equal(both.unguarded, both.guarded)
    half = result_of(engine.pair(clip(), PROMPT, {"kneeling": 0.5}, 7))
    assert not np.array_equal(half.guarded, both.guarded)
    off = result_of(engine.pair(clip(), PROMPT, {"kneeling": 0.0}, 7))
    assert np.array_equal(off.guarded, alone.unguarded)


def test_a_guard_equals_its_weights_merged_into_the_spatial_layers(engine, folder, guard):
    merged = AnimationEngine(tiny_profile(folder), torch.float32)
    state = load_file(guard / "adapter_model.safetensors")
    layers = dict(merged.pipe.unet.named_modules())
    for key in [key for key in state if ".lora_A." in key]:
        down, up = state[key], state[key.replace(".lora_A.", ".lora_B.")]
        weight = layers[key.removeprefix("base_model.model.").split(".lora_A.")[0]].weight
        # alpha / r = 2; a convolution's LoRA is a k x k convolution followed by a 1 x 1 one.
        weight.data += 2 * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    expected = result_of(merged.pair(clip(), PROMPT, {}, 7)).unguarded
    made = result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7)).guarded
    assert np.abs(made.astype(int) - expected).max() <= 1
    names = [name for name, _ in engine.pipe.unet.named_parameters() if ".lora_" in name]
    assert len(names) == len(state)
    assert not any("motion_modules" in name for name in names)


def test_two_sessions_in_turn_do_not_see_each_others_guards(engine):
    alone = result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded
    guarded = engine.pair(clip(1), PROMPT, {"kneeling": 1.5}, 8)
    plain = engine.pair(clip(), PROMPT, {}, 7)
    last = None
    for item in plain:
        next(guarded, None)
        last = item
    assert np.array_equal(last.unguarded, alone)


def test_stop_ends_within_one_step_and_the_engine_goes_on(engine):
    def said(steps):
        """Return the messages of a pair that is stopped when it asks for the fourth time."""
        asks, guards = iter([False] * 3), {"kneeling": 1.0}
        made = engine.pair(
            clip(), PROMPT, guards, 7, steps=steps, should_stop=lambda: next(asks, True)
        )
        return [item.message for item in made][1:]

    # Both arms of step 1, the first arm of step 2.
    assert said(50) == ["step 1 of 50"] * 2 + ["step 2 of 50"]
    # Both arms of the only step, and the decoding of the first.
    assert said(1) == ["step 1 of 1"] + ["decoding the frames"] * 2
    dropped = engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7)
    next(dropped), next(dropped)
    dropped.close()
    assert result_of(engine.pair(clip(), PROMPT, {}, 7)).guarded is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "  "}, "prompt is '  '"),
        ({"prompt": "hi \ud83d"}, r"prompt is 'hi \\ud83d', .* half a character"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_interval": (0.0, 1.5)}, r"guidance_interval\[1\] is 1.5"),
        ({"guidance_interval": (0.8, 0.2)}, r"guidance_interval is \(0.8, 0.2\)"),
        ({"guidance_interval": []}, r"guidance_interval is \[\]; wanted two numbers"),
        ({"guidance_interval": (0.0, 0.5, 1.0)}, r"guidance_interval is \(0.0, 0.5, 1.0\)"),
        ({"guidance_interval": 0.5}, "guidance_interval is 0.5; wanted two numbers"),
        ({"guards": {"waving": 1.0}}, "guards names 'waving'; there is: kneeling"),
        ({"guards": {"kneeling": 1.6}}, r"guards\['kneeling'\] is 1.6"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(engine, change, words):
    request = {"pose": clip(), "prompt": PROMPT, "guards": {}, "seed": 7, **change}
    with pytest.raises(ValueError, match=words):
        engine.pair(**request)


def test_a_prompt_that_is_cut_is_noted(engine):
    result = result_of(engine.pair(clip(), "a very long prompt indeed", {}, 7, steps=1))
    assert "only the first 16 were read" in result.settings["notes"][0]


def test_adapters_that_do_not_fit_are_refused(engine, guard, tmp_path):
    with pytest.raises(ValueError, match="name is 'kneeling', which is taken"):
        engine.add_guard("kneeling", guard)
    with pytest.raises(ValueError, match="name is '../x'"):
        engine.add_guard("../x", guard)
    with pytest.raises(MissingWeights, match="python -m adapters.train poseguard_hardened$"):
        engine.add_guard("other", tmp_path / "poseguard_hardened")
    wider = UNet2DConditionModel.from_config({**tiny_unet().config, "block_out_channels": (16, 16)})
    config = LoraConfig(r=2, target_modules=["to_q"])
    get_peft_model(wider, config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="fits no layer"):
        engine.add_guard("other", tmp_path)
    assert engine.guards == ("kneeling",)


def test_a_pair_whose_guard_is_removed_meanwhile_says_so(folder, guard):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    work = engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7)
    next(work)
    engine.remove_guard("kneeling")
    with pytest.raises(ValueError, match="'kneeling' was removed meanwhile"):
        list(work)


def other_guard(guard: Path, target: Path) -> Path:
    """The guard turned round."""
    state = load_file(guard / "adapter_model.safetensors")
    save_file({k: -v if ".lora_A." in k else v for k, v in state.items()},
              target / "adapter_model.safetensors")  # fmt: skip
    config = (guard / "adapter_config.json").read_text()
    (target / "adapter_config.json").write_text(config)
    return target


def test_a_pair_goes_on_with_no_other_guard_of_the_same_name(folder, guard, tmp_path):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    before = engine.weights(["kneeling"])
    stepping, stepped = (engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7) for _ in range(2))
    next(stepping)
    for item in stepped:
        if item.message == "decoding the frames":
            break
    engine.remove_guard("kneeling")
    engine.add_guard("kneeling", other_guard(guard, tmp_path))
    with pytest.raises(ValueError, match="'kneeling' was removed meanwhile"):
        list(stepping)
    # No step is left: what was made names the weights that made it.
    engine.remove_guard("kneeling")
    assert result_of(stepped).settings["weights"] == before


def test_of_two_guards_that_are_added_under_one_name_at_once_one_is(folder, guard, monkeypatch):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    both = threading.Barrier(2, timeout=60)
    # Each reads its file before the other one is there.
    monkeypatch.setattr(
        "pipelines.animation.load_file", lambda path: both.wait() >= 0 and load_file(path)
    )
    refused = []

    def add() -> None:
        try:
            engine.add_guard("kneeling", guard)
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["name is 'kneeling', which is taken; remove_guard() that one first"]
    assert engine.guards == ("kneeling",)


def test_loading_draws_no_random_number(folder, guard):
    before = torch.get_rng_state()
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    engine.add_guard("kneeling", guard)
    assert torch.equal(torch.get_rng_state(), before), "an attack may be drawing its replies"


def test_a_guard_can_be_removed(folder, guard):
    engine = AnimationEngine(tiny_profile(folder), torch.float32)
    before = result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded
    engine.add_guard("kneeling", guard)
    engine.remove_guard("kneeling")
    assert engine.guards == ()
    assert np.array_equal(before, result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded)
    engine.add_guard("kneeling", guard)
    assert result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7)).guarded is not None


def test_missing_weights_are_named_with_the_command(tmp_path):
    with pytest.raises(MissingWeights, match=r"avatar-sd.*python -m worlds.train vae"):
        AnimationEngine(tiny_profile(tmp_path / "avatar-sd"))


def test_bfloat16_makes_nearly_the_same_clip(engine, folder):
    half = AnimationEngine(tiny_profile(folder), torch.bfloat16)
    made = result_of(half.pair(clip(), PROMPT, {}, 7)).unguarded.astype(float)
    exact = result_of(engine.pair(clip(), PROMPT, {}, 7)).unguarded
    assert 20 * np.log10(255 / np.sqrt(np.mean((made - exact) ** 2))) > 25


def test_a_refiner_redraws_both_sides_alike(folder, guard, engine, tmp_path):
    torch.manual_seed(3)
    net = new_net(TEXT_WIDTH, channels=(8, 8, 8), groups=4)
    torch.nn.init.normal_(net.conv_out.weight, std=0.3)
    Refiner(net, words=["person", "red"]).save(tmp_path)
    refining = AnimationEngine(tiny_profile(folder, refiner=str(tmp_path)), torch.float32)
    refining.add_guard("kneeling", guard)
    plain = result_of(engine.pair(clip(), PROMPT, {"kneeling": 1.0}, 7))
    made = result_of(refining.pair(clip(), PROMPT, {"kneeling": 1.0}, 7))
    for side in ("unguarded", "guarded"):
        assert not np.array_equal(getattr(made, side), getattr(plain, side))
    again = result_of(refining.pair(clip(), PROMPT, {}, 7))
    assert np.array_equal(again.unguarded, made.unguarded)
    idle = result_of(refining.pair(clip(), PROMPT, {"kneeling": 0.0}, 7))
    assert np.array_equal(idle.guarded, made.unguarded)
    off = result_of(refining.pair(clip(), PROMPT, {"kneeling": 1.0}, 7, redraw=False))
    for side in ("unguarded", "guarded"):
        assert np.array_equal(getattr(off, side), getattr(plain, side))
    assert [each.settings["redraw"] for each in (made, off, plain)] == [True, False, False]
    assert made.settings["weights"]["refiner"].startswith(f"{tmp_path.name}:")
    assert all("refiner" not in each.settings["weights"] for each in (off, plain))


def test_the_refiner_hears_the_prompt_without_what_it_is_not_told_of(folder, tmp_path):
    torch.manual_seed(3)
    net = new_net(TEXT_WIDTH, channels=(8, 8, 8), groups=4)
    torch.nn.init.normal_(net.conv_out.weight, std=0.3)
    Refiner(net, words=["red"]).save(tmp_path)
    engine = AnimationEngine(tiny_profile(folder, refiner=str(tmp_path)), torch.float32)
    read = []
    encode = engine._encode_text
    engine._encode_text = lambda prompt, guidance: read.append(prompt) or encode(prompt, guidance)
    result_of(engine.pair(clip(), "red, holding a ball", {}, 7))
    assert read == ["red, holding a ball", "red"]
    read.clear()
    result_of(engine.pair(clip(), "ball", {}, 7))  # nothing is left to read
    assert read == ["ball", ""]
    read.clear()
    result_of(engine.pair(clip(), "ball", {}, 7, redraw=False))
    assert read == ["ball"]


def test_a_style_of_the_whole_frame_is_redrawn_to_its_corners(folder, tmp_path):
    torch.manual_seed(3)
    net = new_net(TEXT_WIDTH, channels=(8, 8, 8), groups=4)
    torch.nn.init.normal_(net.conv_out.weight, std=0.3)
    Refiner(net, words=["red", "night"], everywhere=["night"]).save(tmp_path)
    engine = AnimationEngine(tiny_profile(folder, refiner=str(tmp_path)), torch.float32)
    small = PoseClip(SIZE / 2 + clip().keypoints / 40, np.ones((FRAMES, 18)), None, SIZE, SIZE)
    for prompt, corners in (("red", False), ("red, night", True)):
        made, plain = (
            result_of(engine.pair(small, prompt, {}, 7, redraw=redraw)).unguarded
            for redraw in (True, False)
        )
        assert not np.array_equal(made, plain)
        assert np.array_equal(made[:, :4, :4], plain[:, :4, :4]) is not corners


def test_a_refiner_that_is_missing_or_does_not_fit_is_told_of_at_once(folder, tmp_path):
    with pytest.raises(MissingWeights, match="python -m worlds.train refiner"):
        AnimationEngine(tiny_profile(folder, refiner=str(tmp_path)))
    Refiner(new_net(TEXT_WIDTH, channels=(8, 8, 8), groups=4)).save(tmp_path)
    with pytest.raises(ValueError, match="size is 72; .* wants a multiple of 16"):
        AnimationEngine(tiny_profile(folder, refiner=str(tmp_path), size=72))


def test_still_follows_prompt_seed_and_pose(engine):
    first = engine.still(PROMPT, 7)
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, engine.still(PROMPT, 7))
    assert not np.array_equal(first, engine.still(PROMPT, 7, pose=clip()))
