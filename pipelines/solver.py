"""The solver that denoises: which one, on which noise schedule, at which times."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler

from pipelines.profiles import AnimationSpec


def solver_for(
    scheduler: Any, spec: AnimationSpec, steps: int, on: torch.device | None = None
) -> DPMSolverMultistepScheduler:
    """Return a fresh solver that takes so many steps as a profile's clips are sampled.

    Args:
        scheduler: the model's.
        spec: of the profile.
        steps: denoising steps.
        on: device of its time steps; None leaves them on the CPU.
    """
    solver = dpm_solver(scheduler, spec.solver_order, spec.beta_schedule)
    if steps == len(spec.times):
        solver.set_timesteps(timesteps=list(spec.times), device=on)
    else:
        solver.set_timesteps(steps, device=on)
    return solver


def dpm_solver(scheduler: Any, order: int, beta_schedule: str = "") -> DPMSolverMultistepScheduler:
    """Return a fresh solver on the model's own noise schedule, or on another one.

    DPM-Solver++ (Lu et al., arXiv 2211.01095), multistep, deterministic; timesteps are spaced
    "trailing" so that sampling starts at the noisiest step that was trained (Lin et al.,
    arXiv 2305.08891, section 3.3).

    Args:
        scheduler: the model's.
        order: 1 or 2; see `AnimationSpec`.
        beta_schedule: as `AnimationSpec` names it; "" is the model's own.
    """
    config = dict(copy.deepcopy(scheduler.config))
    if beta_schedule:
        config["beta_schedule"] = beta_schedule
    return DPMSolverMultistepScheduler.from_config(
        config,
        algorithm_type="dpmsolver++",
        solver_order=order,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        use_karras_sigmas=False,
    )


def clean_latents(
    scheduler: Any, output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    """Return the clean latents that a model output stands for (arXiv 2202.00512, appendix D).

    Args:
        scheduler: the model's; it says what the output is (velocity, noise or clean latents).
        output: of the model, [B, ...].
        timestep: one for all.
        sample: what the model was given, same shape.
    """
    alpha_bar = scheduler.alphas_cumprod.to(sample.device)[timestep]
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if scheduler.config.prediction_type == "v_prediction":
        return alpha * sample - sigma * output
    if scheduler.config.prediction_type == "epsilon":
        return (sample - sigma * output) / alpha
    return output
