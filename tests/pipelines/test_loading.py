"""Models that are loaded at the same time come out as they do one after the other."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from peft import LoraConfig, get_peft_model

from adapters.animation import Base
from adapters.attacks.base import load_target
from pipelines.animation import AnimationEngine
from pipelines.animation_guards import Guards
from pipelines.animation_weights import load_pipeline
from pipelines.llm import ChatEngine, load_arm
from pipelines.loading import check_loaded, loading
from pipelines.lora import merged, save_lora
from pipelines.portraits import PortraitEngine
from pipelines.profiles import Profile
from tests.pipelines.animating import clip
from tests.tiny import tiny_avatar_sd, tiny_profile, tiny_unet
from tests.tiny_llm import tiny_llm, tiny_lora

SECONDS = 2.0
"""How long two threads load. Without the lock a load fails, or its weights differ, well before."""

PATIENCE = 60.0
"""Seconds after which somebody who should not wait counts as waiting for ever."""


class Home(NamedTuple):
    """Tiny models and adapters on disk."""

    chat: Profile
    arm: Path
    drawing: Profile
    guard: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder))
        lora = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
        save_lora(get_peft_model(tiny_unet(), lora), folder / "guard")
        yield Home(
            tiny_llm(folder),
            tiny_lora(folder / "arm", 1),
            tiny_profile(tiny_avatar_sd(folder / "avatar")),
            folder / "guard",
        )


@pytest.fixture
def loads(home) -> dict[str, Callable[[], list[torch.nn.Module]]]:
    """What the app loads, by name: functions that load it and return its models."""

    def clips() -> list[torch.nn.Module]:
        pipe = load_pipeline(home.drawing, torch.device("cpu"), torch.float32)
        guards = Guards(pipe.unet, "tiny", pipe.device, torch.float32, threading.Lock())
        guards.add("guard", home.guard)
        return [pipe.unet, pipe.controlnet, pipe.vae, pipe.text_encoder]

    def chat_arms() -> list[torch.nn.Module]:
        engine = ChatEngine(home.chat)
        engine.add_arm("arm", home.arm)
        engine.add_arm("other", home.arm)
        return [engine._model]

    def portraits() -> list[torch.nn.Module]:
        engine = PortraitEngine(home.drawing)
        engine.add_arm("guarded", [home.guard])
        return [*engine._arms.values(), engine._text_encoder, engine._vae]

    def guard_attack() -> list[torch.nn.Module]:
        base = Base.load(home.drawing)
        return [merged(base.unet, home.guard), base.controlnet, base.text_encoder]

    return {
        "an arm": lambda: [load_arm(home.chat, home.arm)[0]],
        "chat arms": chat_arms,
        "an attacked arm": lambda: [load_target(home.chat, home.arm, 2, 0)[0]],
        "clips": clips,
        "portraits": portraits,
        "a guard attack": guard_attack,
    }


def _state(models: list[torch.nn.Module]) -> list[dict[str, torch.Tensor]]:
    return [copy.deepcopy(model.state_dict()) for model in models]


def _same(found: list[dict[str, torch.Tensor]], wanted: list[dict[str, torch.Tensor]]) -> bool:
    return all(
        one.keys() == other.keys()
        and all(
            value.dtype == other[name].dtype and torch.equal(value, other[name])
            for name, value in one.items()
        )
        for one, other in zip(found, wanted, strict=True)
    )


@pytest.fixture(autouse=True)
def torch_as_it_was(monkeypatch) -> None:
    """Undo at the end what a load without the lock leaves replaced."""
    monkeypatch.setattr(torch.nn.Module, "register_parameter", torch.nn.Module.register_parameter)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("an arm", "a guard attack"),
        ("an attacked arm", "clips"),
        ("chat arms", "portraits"),
        ("portraits", "clips"),
    ],
)
def test_what_two_threads_load_at_once_is_what_one_loads_alone(loads, one, other):
    wanted = {name: _state(loads[name]()) for name in (one, other)}
    wrong: list[str] = []
    until = time.monotonic() + SECONDS

    def load(name: str) -> None:
        done = 0
        while not wrong and (time.monotonic() < until or done < 3):
            try:
                if not _same(_state(loads[name]()), wanted[name]):
                    wrong.append(f"{name}: other weights")
            except Exception as error:  # whatever a half-made model raises
                wrong.append(f"{name}: {type(error).__name__}: {error}")
            done += 1

    threads = [threading.Thread(target=load, args=[name]) for name in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    # Nothing of torch stays replaced.
    assert torch.nn.Module.register_parameter.__qualname__ == "Module.register_parameter"
    assert torch.get_default_dtype() is torch.float32


def _goes_on(work: Callable[[], object], waiting: Callable[[], object]) -> bool:
    """Whether somebody gets his work done while another waits to load."""
    with loading():
        loader = threading.Thread(target=waiting)
        loader.start()
        time.sleep(0.2)  # until it waits
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(PATIENCE)
        done = not worker.is_alive()
    loader.join()
    return done


def test_a_reply_goes_on_while_an_arm_waits_to_be_loaded(home):
    engine = ChatEngine(home.chat)
    engine.add_arm("base", None)
    messages = [{"role": "user", "content": "Hello"}]
    assert _goes_on(
        lambda: list(engine.stream(messages, ["base"], max_new_tokens=3)),
        lambda: engine.add_arm("arm", home.arm),
    )
    assert engine.arms == ["base", "arm"]


def test_a_clip_goes_on_while_a_guard_waits_to_be_loaded(home):
    engine = AnimationEngine(home.drawing, torch.float32)
    assert _goes_on(
        lambda: list(engine.pair(clip(), "a person", {}, 0)),
        lambda: engine.add_guard("guard", home.guard),
    )
    assert engine.guards == ("guard",)


def test_a_clip_goes_on_while_the_model_of_stills_waits_to_be_loaded(home):
    engine = AnimationEngine(home.drawing, torch.float32)
    assert _goes_on(
        lambda: list(engine.pair(clip(), "a person", {}, 0)),
        lambda: engine.still("a person", 0, steps=1),
    )


def test_a_model_that_lacks_weights_is_refused(loads):
    for model in loads["clips"]():
        check_loaded(model)
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1, device="meta"))
    with pytest.raises(RuntimeError, match=r"2 of the weights of Sequential .*, 1.weight first"):
        check_loaded(net)
