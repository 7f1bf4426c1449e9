"""The whole app, served on this machine, with real classes at tiny size behind it.

And the Animate tab alone, whose handlers are called as Gradio would.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from gradio_client import Client
from peft import LoraConfig, get_peft_model

from evaluation.runs import RunStore
from pipelines.animation import PairResult, Progress
from pipelines.fetch import embedder_folder, mediapipe_folder
from pipelines.film_writing import write_gif
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import dump_openpose_json
from pipelines.profiles import get_profile
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.tiny_llm import tiny_llm, tiny_lora
from tests.tiny_table import tiny_table
from tests.ui.animating import VISITOR
from ui.animate import AnimateTab
from ui.app import build_app, launch_options
from ui.engines import Engines
from ui.poses import library
from ui.session import Scratch, Sessions

WAIT = 300.0
"""Seconds that anything may take; the machine may be busy with other things."""


def tiny_guard(avatar_sd: Path, target: Path) -> None:
    """Save a random LoRA of the tiny UNet, which its record says is against people who kneel."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(avatar_sd, subfolder="unet")
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_v"], init_lora_weights=False)
    get_peft_model(unet, config).save_pretrained(target)
    record = {"config": {"pose_class": "kneeling"}}
    (target / "training.json").write_text(json.dumps(record), encoding="utf-8")


def script(served: SimpleNamespace) -> Client:
    """A client of the app that is served, as patient as everything else."""
    return Client(served.url, verbose=False, httpx_kwargs={"timeout": WAIT})


def wait_until(true, seconds: float = WAIT) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Serve the app; all parts are loaded when the test starts."""
    folder = tmp_path_factory.mktemp("served")
    fetched = (embedder_folder(), mediapipe_folder())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
        patch.setattr("adapters.attacks.lockstep.compute_dtype", lambda: torch.float32)
        # First guesses are of the real model, and would refuse a long attack on the tiny one.
        patch.setattr("adapters.attacks.runner.FLOAT32_SLOWDOWN", 1.0)
        # Nor may one slow step of a busy machine, by which the app guesses from then on.
        patch.setattr("ui.attack_presets.MAX_SECONDS", 24 * 3600)
        patch.setattr("ui.guard_attack.PICTURES", 4)
        # Gradio gives a page three seconds to answer, while the parts are loaded beside it.
        patch.setattr("gradio.networking.url_ok", lambda url: True)
        # Long pairs: an attack of 200 steps must outlast a reload of the page.
        patch.setattr("adapters.attacks.sft.BUILTIN_TOKENS", 256)
        patch.setattr("adapters.registry.ASSETS", folder / "assets")
        profile = tiny_llm(folder / "cache")
        for path in fetched:
            (folder / "cache" / path.name).symlink_to(path)
        avatar_sd = tiny_avatar_sd(folder / "avatar-sd")
        tiny = tiny_profile(avatar_sd)
        profile = dataclasses.replace(profile, animation=tiny.animation, pictures=tiny.pictures)
        adapters = folder / "assets" / "adapters" / profile.name
        tiny_lora(adapters / "aligned", 1)
        tiny_lora(adapters / "sdd", 2, ("k_proj", "down_proj"))
        for name in ("poseguard", "erased", "gift"):
            tiny_guard(avatar_sd, adapters / name)
        ends = {("sdd", "sft"): ((0.8, 0.8), (0.8, 0.3)), ("sdd", "grpo"): ((0.9, 0.8),) * 2}
        tiny_table(folder / "assets", ends, seeds=2)
        patch.setattr("evaluation.tables.TABLE", folder / "assets" / "evidence" / "llm.jsonl")
        store = RunStore(folder / "runs", folder / "assets" / "runs")
        engines = Engines(profile, store=store, set_up=False)
        app = build_app(profile, engines=engines)
        _, url, _ = app.launch(
            server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options()
        )
        parts = ("chat", "judge", "animation", "runner", "pictures")
        wait_until(lambda: not engines.status(*parts))
        yield SimpleNamespace(url=url, engines=engines, store=store, app=app, folder=folder)
        app.close()


@pytest.fixture(scope="module")
def animate_page() -> AnimateTab:
    """An Animate tab of the usual profile, without its models."""
    engines = Engines(get_profile("embedded"), set_up=False)
    with gr.Blocks():
        return AnimateTab(engines, Sessions(), Scratch())


@pytest.fixture
def tab(animate_page: AnimateTab) -> AnimateTab:
    """The Animate tab as a visitor finds it who is new."""
    animate_page.sessions.close(VISITOR)
    return animate_page


@pytest.fixture
def walk(tmp_path: Path) -> str:
    """A film that a visitor may bring."""
    path = tmp_path / "walk.gif"
    return str(write_gif(draw_clip(library()["walk"], 128, 16), path, 8))


@pytest.fixture
def ready(tab: AnimateTab, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An engine that is ready at once and makes nothing but grey frames."""
    frames = np.full((4, 64, 64, 3), 90, np.uint8)

    def pair(pose, prompt, guards, seed, *, should_stop, **settings):
        engine.asked.append((pose, guards, seed))
        engine.settings = settings
        yield Progress(0.0, "step 1 of 2")
        if engine.preview is not None:
            yield Progress(0.5, "step 2 of 2", None, engine.preview)
        if engine.error is not None:
            raise engine.error
        if should_stop():
            return
        made = {"seed": seed, "steps": 2, "notes": [], "pose": json.loads(dump_openpose_json(pose))}
        yield PairResult(frames, frames if guards else None, frames, made)

    engine = SimpleNamespace(
        pair=pair, asked=[], error=None, preview=None, guards=("poseguard",),
        number_format="bfloat16",
        weights=lambda guards: {"base": "avatar-sd:1", **dict.fromkeys(guards, "2")},
    )  # fmt: skip
    monkeypatch.setattr(tab.engines, "_animation", SimpleNamespace(get=lambda: engine))
    return engine
