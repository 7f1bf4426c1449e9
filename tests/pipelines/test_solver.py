"""The solver: its order, its noise schedule and its times."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from pipelines.solver import dpm_solver, solver_for
from tests.tiny import tiny_profile

pytestmark = pytest.mark.usefixtures("one_thread")


def test_clips_may_follow_the_motion_adapter_s_noise_schedule(engine):
    spec = replace(engine.spec, beta_schedule="linear")
    linear, own = (solver_for(engine.pipe.scheduler, s, 4) for s in (spec, engine.spec))
    assert linear.config.beta_schedule == "linear"
    assert own.config.beta_schedule == engine.pipe.scheduler.config.beta_schedule != "linear"
    assert linear.timesteps.tolist() == own.timesteps.tolist()
    assert not torch.allclose(linear.alphas_cumprod, own.alphas_cumprod)


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
