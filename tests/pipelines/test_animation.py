"""Clips: the loop equals the untouched pipeline, both arms are independent, Stop stops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffControlNetPipeline, ControlNetModel, MotionAdapter
from PIL import Image

from pipelines.animation import _DECODE_CHUNK, AnimationEngine, Progress
from pipelines.pose import PoseClip
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import load_openpose_json
from pipelines.refine import Refiner, new_net
from pipelines.sharpen import sharpened
from pipelines.solver import dpm_solver
from tests.pipelines.animating import PROMPT, clip, result_of
from tests.tiny import FRAMES, SIZE, TEXT_WIDTH, tiny_profile

pytestmark = pytest.mark.usefixtures("one_thread")


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
            latents=engine._denoiser.noise(7),
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
    denoiser, encode = engine._denoiser, engine._denoiser.encode_text
    denoiser.encode_text = lambda prompt, guidance: read.append(prompt) or encode(prompt, guidance)
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


def test_still_follows_prompt_seed_and_pose(engine):
    first = engine.still(PROMPT, 7)
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, engine.still(PROMPT, 7))
    assert not np.array_equal(first, engine.still(PROMPT, 7, pose=clip()))
