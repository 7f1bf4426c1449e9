"""Set-up: folders appear whole or not at all, and a second run has nothing to do."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from pipelines import fetch
from pipelines.fetch import (
    MissingWeights,
    embedder_folder,
    ensure,
    llm_folder,
    mediapipe_folder,
    with_llm,
)
from pipelines.llm import ChatEngine, generate_replies, load_llm
from pipelines.profiles import WheelSpec, get_profile
from tests.tiny_llm import tiny_model, tiny_tokenizer

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


@pytest.fixture
def folder(tmp_path):
    """A tiny chat model as save_pretrained leaves it."""
    tiny_model().save_pretrained(tmp_path / "my model")
    tiny_tokenizer().save_pretrained(tmp_path / "my model")
    return tmp_path / "my model"


def test_any_folder_of_a_causal_model_can_stand_in_for_the_profile_s(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_RUNS", str(tmp_path / "runs"))
    profile = with_llm(EMBEDDED, str(folder))
    assert llm_folder(profile) == folder.resolve()
    assert profile.adapters == tmp_path / "runs" / "adapters" / profile.name
    assert profile.name.startswith("my model-") and str(tmp_path) not in profile.name
    assert profile.llm.max_prompt_tokens == EMBEDDED.llm.max_prompt_tokens
    assert dataclasses.replace(profile, name="x", llm=None, adapters=None) == dataclasses.replace(
        EMBEDDED, name="x", llm=None
    )
    other = tmp_path / "elsewhere" / "my model"
    shutil.copytree(folder, other)
    assert with_llm(EMBEDDED, str(other)).name != profile.name


def test_a_tokenizer_without_padding_can_answer_in_batches(folder, monkeypatch):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    monkeypatch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
    model, tokenizer = load_llm(with_llm(EMBEDDED, str(folder)))
    assert len(generate_replies(model, tokenizer, ["Hi", "Good morning"], 3)) == 2


def _no_template(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def _pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _encoder(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))


def _no_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_template, "its tokenizer has no chat template"),
        (_pickled, "holds no .safetensors file, and no other weights are loaded"),
        (_encoder, "'clip' is no causal language model"),
        (_no_config, "config.json"),
    ],
)
def test_a_model_that_could_not_be_talked_to_is_refused(folder, spoil, words):
    spoil(folder)
    with pytest.raises(ValueError, match="llm is '.*my model': (?s:.*)" + words):
        with_llm(EMBEDDED, str(folder))


@pytest.mark.parametrize(
    ("llm", "words"),
    [
        ("no/such/folder", "no such folder, and no name that the Hub could know"),
        ("../no-such/x", "no such folder, and no name that the Hub could know"),
        ("nobody/nothing-at-all", "no such folder, and it could not be had from the Hub"),
    ],
)
def test_a_model_that_is_nowhere_is_named(llm, words):
    with pytest.raises(ValueError, match=f"llm is '{llm}': {words}"):
        with_llm(EMBEDDED, llm)


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
