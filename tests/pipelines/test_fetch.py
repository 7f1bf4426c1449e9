"""Set-up: folders appear whole or not at all, and a second run has nothing to do."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pipelines import fetch
from pipelines.fetch import MissingWeights, embedder_folder, ensure, llm_folder, mediapipe_folder
from pipelines.llm import ChatEngine
from pipelines.profiles import WheelSpec, get_profile

EMBEDDED = get_profile("embedded")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_missing_weights_name_the_thing_and_the_command(empty_cache):
    for look in (lambda: llm_folder(EMBEDDED), embedder_folder, mediapipe_folder):
        with pytest.raises(MissingWeights, match="python -m pipelines.fetch --profile embedded"):
            look()
    assert not fetch.is_complete(EMBEDDED)


def test_what_is_set_up_is_left_alone():
    messages = []
    ensure(EMBEDDED, lambda message, fraction: messages.append((message, fraction)))
    assert messages == [("Everything is set up", 1.0)]
    assert fetch.main(["--profile", "embedded"]) == 0


def test_a_failed_job_leaves_nothing_behind(empty_cache):
    def job(into, say):
        (into / "half").write_text("x")
        raise RuntimeError("the line dropped")

    with pytest.raises(RuntimeError, match="dropped"):
        fetch._make(empty_cache / "thing", job, lambda message, fraction: None)
    assert list(empty_cache.iterdir()) == []


@pytest.mark.slow
def test_a_wheel_that_cannot_be_had_says_so(tmp_path):
    wheel = WheelSpec("holdfast-no-such-package==0.0.1", "0" * 64)
    pose = dataclasses.replace(EMBEDDED.pose, wheel=wheel)
    with pytest.raises(RuntimeError, match="could not download holdfast-no-such-package"):
        fetch._fetch_mediapipe(
            dataclasses.replace(EMBEDDED, pose=pose), tmp_path, lambda message, fraction: None
        )


def test_the_tokenizer_splits_numbers_and_keeps_the_chat_template():
    folder = llm_folder(EMBEDDED)
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    kinds = [part["type"] for part in data["pre_tokenizer"]["pretokenizers"]]
    assert kinds == ["Digits", "ByteLevel"]
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text(encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["eos_token_id"] == 2
    assert "quantization_config" not in config


def test_the_pose_models_are_there():
    names = {path.name for path in mediapipe_folder().iterdir()}
    assert {"pose_detection.tflite", "pose_landmark_full.tflite"} <= names
    assert all(name.endswith(".tflite") for name in names)


def test_the_converted_model_talks():
    engine = ChatEngine(EMBEDDED)
    engine.add_arm("base", None)
    reply = engine.generate(["What is the capital of France?"], "base", max_new_tokens=12)[0]
    assert "Paris" in reply
