"""The training loop that the defences share: a plain loop, a LoRA, a checkpoint.

It is built on `accelerate`, so the same command runs on a CPU or a GPU, in one process. The batch
of a step depends on the seed and the step's number only, which is why a checkpoint needs no random
state to resume exactly.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import PreTrainedModel

from adapters.text import IGNORE
from pipelines.device import compute_dtype, device

if TYPE_CHECKING:
    from adapters.registry import TrainOptions
    from evaluation.runs import Run

CHECKPOINT_EVERY_SECONDS = 120.0
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Batch = dict[str, torch.Tensor]


class Schedule(Protocol):
    """What the loop reads of a defence's settings, which are frozen: hence properties."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""

    @property
    def learning_rate(self) -> float:
        """Its peak."""

    @property
    def warmup_steps(self) -> int:
        """Steps until the peak."""


class Progress(NamedTuple):
    """How far a training has come.

    Attributes:
        steps: that are done, in all sessions together.
        seconds_before: that earlier sessions spent on theirs; 0 unless the training was resumed.
    """

    steps: int
    seconds_before: float


def new_lora(model: PreTrainedModel, rank: int, modules: tuple[str, ...], seed: int) -> PeftModel:
    """Put a fresh trainable LoRA (alpha = 2 rank, no dropout) on a model.

    On a model that names its layers otherwise than Llama, it is on all linear ones but the head.
    """
    torch.manual_seed(seed)
    named = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        # Not some of them: of fused layers only half would be found.
        target_modules=list(modules) if set(modules) <= named else "all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def pair_loss(model: PeftModel, batch: Batch) -> torch.Tensor:
    """Return the cross-entropy of the replies, averaged over tokens and then over pairs.

    Averaging by pair first keeps a long benign answer from outweighing a short refusal.
    """
    logits = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    learnt = labels != IGNORE
    row = learnt.nonzero()[:, 0]
    per_token = torch.nn.functional.cross_entropy(
        logits[learnt].float(), labels[learnt], reduction="none"
    )
    return (per_token / learnt.sum(1)[row]).sum() / len(labels)


def train_steps(
    model: PeftModel,
    batch_of: Callable[[int], Batch],
    loss_of: Callable[[PeftModel, Batch], torch.Tensor],
    config: Schedule,
    *,
    options: TrainOptions,
    run: Run,
) -> Progress:
    """Minimise a loss over the LoRA's weights with AdamW, linear warm-up and cosine decay.

    Args:
        model: with a trainable LoRA.
        batch_of: step number (0-based) → batch; the same number gives the same batch.
        loss_of: (model, batch) → scalar.
        config: of the defence, for the number of steps and the learning rate over them.
        options: time limit, checkpoint folder, resume.
        run: gets one event a step: step, loss, seconds. Its settings and its parents, the hashes of
            the weights that the training starts from, are kept in the checkpoint and name it.

    Returns:
        All steps of the settings, or fewer if the time was up.

    Raises:
        ValueError: the only checkpoints to resume were begun from other parents or with other
            settings; or there are several processes.
    """
    mixed = "bf16" if compute_dtype(device()) is torch.bfloat16 else "no"
    accelerator = Accelerator(mixed_precision=mixed, cpu=device().type == "cpu")
    check_processes(accelerator.num_processes)
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=0.0)

    steps, warmup_steps = config.steps, config.warmup_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        return 0.1 + 0.45 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())

    model, optimiser = accelerator.prepare(model, optimiser)
    begun, first, earlier = {key: run.info[key] for key in ("parents", "config")}, 0, 0.0
    path = _checkpoint_path(options.checkpoints, begun)
    if options.resume and path.is_file():
        first, earlier = _restore(path, weights, optimiser)
    elif options.resume:
        _refuse_others(options.checkpoints, begun)
    model.train()
    started = saved = time.monotonic()
    step = first
    for step in range(first, steps):
        seconds = time.monotonic() - started
        if options.max_minutes is not None and seconds > 60 * options.max_minutes:
            break
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * factor(step)
        batch = {name: value.to(accelerator.device) for name, value in batch_of(step).items()}
        with accelerator.autocast():
            loss = loss_of(model, batch)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seconds = time.monotonic() - started
        run.log(step=step + 1, loss=loss.item(), seconds=round(seconds, 2))
        print(f"step {step + 1}/{steps}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)
        if time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
            _store(path, weights, optimiser, step + 1, earlier + seconds, begun)
            saved = time.monotonic()
    else:
        step = steps
    model.eval()
    if step < steps:
        _store(path, weights, optimiser, step, earlier + seconds, begun)
    else:
        path.unlink(missing_ok=True)
    return Progress(step, earlier)


def check_processes(count: int) -> None:
    """Refuse to train in several processes, which would all take the same batches.

    Raises:
        ValueError: there is more than one.
    """
    if count > 1:
        raise ValueError(
            f"this loop trains in one process, not {count}; start it without accelerate launch"
        )


def _checkpoint_path(folder: Path, begun: dict[str, dict[str, Any]]) -> Path:
    """Return the file of a training's checkpoint: of other settings or parents it is another one.

    Args:
        folder: of checkpoints.
        begun: parents and settings (config) of the training.
    """
    key = hashlib.sha256(json.dumps(begun, sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{key}.safetensors"


def _store(
    path: Path,
    weights: dict[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    step: int,
    seconds: float,
    begun: dict[str, dict[str, Any]],
) -> None:
    """Write weights, Adam's two moments, step, seconds spent, the parents' hashes and settings."""
    tensors = {f"weight.{name}": p.detach() for name, p in weights.items()}
    for name, p in weights.items():
        for key in ("exp_avg", "exp_avg_sq"):
            if key in optimiser.state[p]:
                tensors[f"{key}.{name}"] = optimiser.state[p][key]
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same training may run twice at once: each writes a file of its own.
    partial = path.with_suffix(f".{os.getpid()}.partial")
    metadata = {"step": str(step), "seconds": str(seconds)}
    metadata |= {key: json.dumps(value) for key, value in begun.items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, metadata)
    os.replace(partial, path)


def _refuse_others(folder: Path, begun: dict[str, dict[str, Any]]) -> None:
    """Refuse to begin anew, where going on was asked for, beside checkpoints of other trainings.

    Raises:
        ValueError: there is one; the message tells in what the newest differs.
    """
    from safetensors import safe_open

    others = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    if not others:
        return
    with safe_open(others[-1], "pt") as file:
        metadata = file.metadata()
    for kind, word in (("parents", "from"), ("config", "with")):
        held, wanted = json.loads(metadata[kind]), json.loads(json.dumps(begun[kind]))
        if held != wanted:
            names = " and ".join(n for n in held | wanted if held.get(n) != wanted.get(n))
            raise ValueError(
                f"checkpoint {others[-1]} was begun {word} another {names} than today's; "
                "train without --resume, which begins anew"
            )


def _restore(
    path: Path, weights: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Read what `_store` wrote; return the number of steps done and the seconds spent on them."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    step = int(metadata["step"])
    for name, p in weights.items():
        p.data.copy_(tensors[f"weight.{name}"])
        if f"exp_avg.{name}" in tensors:
            optimiser.state[p] = {
                "step": torch.tensor(float(step)),
                "exp_avg": tensors[f"exp_avg.{name}"].to(p.device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(p.device),
            }
    return step, float(metadata["seconds"])
