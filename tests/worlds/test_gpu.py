"""On a machine with a GPU the trainers compute there, and no operation mixes the two devices.

No GPU is at hand: torch's fake tensors have a device, though no numbers, and refuse such a mixture
as a GPU would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from worlds import reader, refiner
from worlds.autoencoder import latent_scale, new_autoencoder, noised, reconstruct
from worlds.data import AvatarSet, build
from worlds.denoiser import Denoiser
from worlds.loop import TrainingLoop
from worlds.portraits import build_portraits
from worlds.refiner import Drawn
from worlds.train import STAGES, parser

GPU = torch.device("cuda:0")


class Stepped(Exception):
    """A training has come to the end of its first step."""


def moved(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Put fakes on the GPU in the place of a module's weights and buffers."""
    with mode:
        for part in module.modules():
            for held in (part._parameters, part._buffers):
                for name, value in held.items():
                    if value is None:
                        continue
                    fake = mode.from_tensor(value.detach()).to(GPU)
                    if isinstance(value, nn.Parameter):
                        fake = nn.Parameter(fake, requires_grad=value.requires_grad)
                    held[name] = fake
    return module


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """A loop takes its module to the GPU and ends after the first step's loss."""
    mode, move = FakeTensorMode(allow_non_fake_inputs=True), nn.Module.to
    accelerator = SimpleNamespace(device=GPU, autocast=nullcontext)

    def to(module: nn.Module, *where: object, **how: object) -> nn.Module:
        return moved(module, mode) if where == (GPU,) else move(module, *where, **how)

    def steps(loop: TrainingLoop) -> Iterator[int]:
        mode.__enter__()
        yield 1

    def backward(loop: TrainingLoop, loss: torch.Tensor) -> None:
        assert loss.device == GPU and loss.requires_grad
        assert {p.device for p in loop.parameters} == {GPU}
        mode.__exit__(None, None, None)
        raise Stepped

    monkeypatch.setattr(nn.Module, "to", to)
    monkeypatch.setattr(FakeTensor, "__bool__", lambda tensor: True)  # there is no number to ask
    monkeypatch.setattr(TrainingLoop, "__iter__", steps)
    monkeypatch.setattr(TrainingLoop, "backward", backward)
    for module in ("autoencoder", "denoiser", "motion", "stills", "refiner", "reader"):
        made = partial(TrainingLoop, accelerator=accelerator)
        monkeypatch.setattr(f"worlds.{module}.TrainingLoop", made)
    yield mode
    while torch._C._len_torch_dispatch_stack():  # of a step that failed
        mode.__exit__(None, None, None)


def few(folder: Path, count: int, *, clips: bool = False, **others: int) -> AvatarSet:
    return build(folder, min(count, 1 if clips else 4), clips=clips, **others)


def few_portraits(folder: Path, count: int, **others: int) -> AvatarSet:
    return build_portraits(folder, 4, **others)


def unmasked(
    x: torch.Tensor, y: torch.Tensor, where: torch.Tensor, filters: torch.Tensor
) -> torch.Tensor:
    """Stand in for the distance of patches, whose tiles depend on numbers."""
    return (nn.functional.conv2d(x - y, filters).mean() * where.float()).mean()


def scenes(work: Path, stills: int, clips: int) -> tuple[list[Drawn], Drawn, dict[str, str]]:
    data = few(work / "data", 4)
    taught = Drawn.of(np.asarray(data.images), data, range(len(data)))
    return [taught, taught], taught, {}


@pytest.mark.parametrize(
    "words",
    [
        "vae", "vae --decoder-only", "frames", "frames --freeze-poses", "motion", "portraits",
        "refiner", "reader",
    ],
)  # fmt: skip
def test_a_step_of_every_trainer_is_taken_on_the_gpu(
    words: str, gpu: FakeTensorMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("autoencoder", "denoiser", "motion", "reader"):
        monkeypatch.setattr(f"worlds.{module}.build", few)
    monkeypatch.setattr("worlds.denoiser.Denoiser", partial(Denoiser, channels=(16, 32), width=32))
    monkeypatch.setattr("worlds.stills.build_portraits", few_portraits)
    monkeypatch.setattr("worlds.stills.chain_times", lambda passes: (999, 500, 250))
    monkeypatch.setattr(refiner, "drawings", scenes)
    monkeypatch.setattr(refiner, "patch_distance", unmasked)
    # Without the thread that draws ahead, to which the fakes do not reach.
    monkeypatch.setattr(
        reader, "batches", lambda data, n, rng: iter([reader.draw_batch(data, n, rng)])
    )
    args = parser().parse_args([*words.split(), "--batch", "4"])
    with pytest.raises(Stepped):
        STAGES[args.stage](args, tmp_path)


def test_pictures_go_to_where_the_autoencoder_is(gpu: FakeTensorMode) -> None:
    vae = moved(new_autoencoder((8, 8), 4, groups=4), gpu)
    seen: list[torch.device] = []
    vae.encoder.register_forward_pre_hook(lambda layer, given: seen.append(given[0].device))
    calls: tuple[Callable[..., object], ...] = (reconstruct, latent_scale)
    with gpu:
        assert noised(torch.ones(2, 4, 8, 8, device=GPU)).device == GPU
        for call in calls:
            # What comes after is numbers, which a fake has not.
            with pytest.raises(Exception, match="data_dependent|_local_scalar_dense|numpy"):
                call(vae, np.zeros((1, 32, 32, 3), np.uint8))
    assert seen == [GPU, GPU]


