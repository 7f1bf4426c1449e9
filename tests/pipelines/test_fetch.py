"""Set-up: folders appear whole or not at all, and a second run has nothing to do."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache
from transformers import (
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
)

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
from tests.tiny import tiny_avatar_sd
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


HUB_SHA = "0" * 40


def in_the_hubs_cache(cache: Path, repo: str, made: Path, left: tuple[str, ...] | None) -> None:
    """Lay files out as `snapshot_download` leaves them, with the list of all that the Hub has.

    Besides those made it has ``left``; None: there is no list.
    """
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / HUB_SHA
    shutil.copytree(made, snapshot)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(HUB_SHA)
    if left is None:
        return
    names = [path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()]
    write_tree_cache(str(root), HUB_SHA, {n: TreeCacheEntry(1, "0") for n in (*names, *left)})


def test_of_a_model_of_the_hub_only_what_is_read_need_be_there(folder, tmp_path, monkeypatch):
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    in_the_hubs_cache(hub, "org/chat", folder, (".gitattributes", "README.md", "model.bin"))
    profile = with_llm(EMBEDDED, "org/chat")
    assert profile.name == "org--chat"
    assert llm_folder(profile) == hub / "models--org--chat" / "snapshots" / HUB_SHA
    in_the_hubs_cache(hub, "org/half", folder, ("more.safetensors",))
    with pytest.raises(ValueError, match="could not be had from the Hub"):
        with_llm(EMBEDDED, "org/half")
    half = dataclasses.replace(
        profile, name="org--half", llm=dataclasses.replace(profile.llm, repo="org/half")
    )
    with pytest.raises(MissingWeights, match="Make it with: hf download org/half"):
        llm_folder(half)
    assert fetch.hub_revision(llm_folder(profile)) == HUB_SHA


def test_a_name_on_the_hub_may_pin_its_revision(folder, tmp_path, monkeypatch):
    hub, pin, asked = tmp_path / "hub", "1" * 40, []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    in_the_hubs_cache(hub, "org/chat", folder, None)
    snapshots = hub / "models--org--chat" / "snapshots"
    shutil.copytree(folder, snapshots / pin)
    pinned = with_llm(EMBEDDED, f"org/chat@{pin}")
    assert llm_folder(pinned) == snapshots / pin
    assert llm_folder(with_llm(EMBEDDED, "org/chat")) == snapshots / HUB_SHA
    assert pinned.adapters.name == f"org--chat@{pin}", "a LoRA fits these weights alone"
    shutil.rmtree(snapshots / pin)
    with pytest.raises(MissingWeights, match=f"hf download org/chat --revision {pin}"):
        llm_folder(pinned)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda repo, **how: asked.append((repo, how))
    )
    fetch._fetch_from_hub("org/chat@v1.0", ["*.json"])
    fetch._fetch_from_hub("org/chat", ["*.json"])
    assert [(repo, how["revision"]) for repo, how in asked] == [
        ("org/chat", "v1.0"), ("org/chat", None),
    ]  # fmt: skip


def _shard_left(folder: Path) -> None:
    tiny_model().save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    assert len(shards := sorted(folder.glob("model-*.safetensors"))) > 1
    shards[1].unlink()


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (_shard_left, "model-00002-of-"),
    ],
)
def test_a_download_that_broke_off_is_not_whole_though_nothing_lists_it(
    folder, tmp_path, monkeypatch, spoil, left
):
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = dataclasses.replace(EMBEDDED.llm, repo="org/half", wheel=None)
    half = dataclasses.replace(EMBEDDED, name="org--half", llm=spec)
    in_the_hubs_cache(hub, "org/whole", folder, None)
    whole = dataclasses.replace(half, llm=dataclasses.replace(spec, repo="org/whole"))
    assert llm_folder(whole).name == HUB_SHA
    spoil(folder)
    in_the_hubs_cache(hub, "org/half", folder, None)
    with pytest.raises(MissingWeights, match=f"org/half: {left}"):
        llm_folder(half)
    assert not fetch.is_complete(half)
    # What was fetched without an error and still lacks it has no such file.
    monkeypatch.setattr(fetch, "_fetch_from_hub", lambda repo, files: None)
    with pytest.raises(ValueError, match=f"llm is 'org/half': on the Hub it lacks .*{left}"):
        with_llm(EMBEDDED, "org/half")


def test_the_parts_of_the_hub_s_picture_model_are_fetched_at_set_up(folder, tmp_path, monkeypatch):
    hub, wanted = tmp_path / "hub", []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    profile = get_profile("hub")
    spec, told = profile.animation, []
    model = tiny_avatar_sd(tmp_path / "model")
    parts = {spec.controlnet: model / "controlnet", spec.motion_adapter: model / "motion_adapter",
             spec.base: model, profile.llm.repo: folder}  # fmt: skip
    for name in (spec.base, spec.controlnet, spec.motion_adapter):
        with pytest.raises(MissingWeights, match="pipelines.fetch --profile hub"):
            fetch.picture_folder(name, profile)

    def download(repo: str, files: Sequence[str]) -> None:
        wanted.append(repo)
        part = parts[repo]
        (part / "README.md").write_text("not wanted")
        whole = repo == profile.llm.repo  # of it every .safetensors is wanted
        others = () if whole else ("safety_checker/model.safetensors",)
        in_the_hubs_cache(hub, repo, part, ("all.ckpt", *others))

    monkeypatch.setattr(fetch, "_fetch_from_hub", download)
    assert not fetch.is_complete(profile)
    ensure(profile, lambda message, fraction: told.append((message, fraction)))
    assert wanted == [spec.base, spec.controlnet, spec.motion_adapter, profile.llm.repo]
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert told[-1][1] == 1.0 and spec.base in told[0][0]
    assert fetch.is_complete(profile)
    assert fetch.picture_folder(spec.base, profile).is_relative_to(hub)
    assert fetch.picture_folder(str(tmp_path / "x"), profile) == tmp_path / "x"


@pytest.mark.parametrize(
    "left",
    ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer", "scheduler"],
)
def test_a_picture_model_of_the_hub_lacks_what_a_broken_download_left(tmp_path, monkeypatch, left):
    hub, profile = tmp_path / "hub", get_profile("hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    model = tiny_avatar_sd(tmp_path / "model")
    name, part = profile.animation.base, profile.animation.controlnet
    in_the_hubs_cache(hub, part, model / "controlnet", None)
    assert fetch.picture_folder(part, profile).name == HUB_SHA
    if (model / left).is_dir():
        shutil.rmtree(model / left)
    else:
        (model / left).unlink()
    in_the_hubs_cache(hub, name, model, None)
    with pytest.raises(MissingWeights, match=f"{name}: {left}.*fetch --profile hub"):
        fetch.picture_folder(name, profile)


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
    assert profile.drawing == "embedded" and with_llm(profile, str(folder)).drawing == "embedded"
    changed = {"name": "x", "llm": None, "adapters": None, "base": ""}
    assert dataclasses.replace(profile, **changed) == dataclasses.replace(EMBEDDED, **changed)
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


QWEN = {
    "vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "config", "more"),
    [
        (Qwen3_5ForCausalLM, Qwen3_5TextConfig,
         {"layer_types": ["linear_attention", "full_attention"], "head_dim": 8}),
        (Lfm2ForCausalLM, Lfm2Config, {"layer_types": ["conv", "full_attention"]}),
        (FalconH1ForCausalLM, FalconH1Config, {"mamba_n_heads": 4, "mamba_d_ssm": 32}),
        (Mamba2ForCausalLM, Mamba2Config, {"num_heads": 4, "head_dim": 16}),
    ],
)  # fmt: skip
def test_a_model_that_keeps_more_than_keys_and_values_is_refused(tmp_path, model, config, more):
    model(config(**QWEN | more)).save_pretrained(tmp_path / "hybrid")
    tiny_tokenizer().save_pretrained(tmp_path / "hybrid")
    with pytest.raises(ValueError, match="llm is '.*hybrid': '.*' has layers of linear attention"):
        with_llm(EMBEDDED, str(tmp_path / "hybrid"))


@pytest.mark.parametrize(
    ("model", "config", "more"),
    [
        (Qwen2ForCausalLM, Qwen2Config, {}),
        (Gemma3ForCausalLM, Gemma3TextConfig, {"head_dim": 8, "sliding_window": 16}),
    ],
)
def test_a_model_that_attends_in_all_layers_is_taken_and_answers(
    tmp_path, monkeypatch, model, config, more
):
    model(config(**QWEN | more)).save_pretrained(tmp_path / "plain")
    tiny_tokenizer().save_pretrained(tmp_path / "plain")
    monkeypatch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
    loaded, tokenizer = load_llm(with_llm(EMBEDDED, str(tmp_path / "plain")))
    assert len(generate_replies(loaded, tokenizer, ["Hi", "Hi", "Good morning"], 3)) == 3


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


def test_another_pin_has_another_folder_and_the_present_one_stays(empty_cache):
    """Else a changed pin would leave every installation with the old weights."""
    assert fetch._llm_target(EMBEDDED) == empty_cache / "llm" / "smollm2-135m-instruct"
    assert fetch._embedder_target(EMBEDDED) == empty_cache / "all-minilm-l6-v2"
    assert fetch._mediapipe_target(EMBEDDED) == empty_cache / "mediapipe"
    wheel = WheelSpec("some==2", "c0ffee00" + "0" * 56)
    changed = dataclasses.replace(
        EMBEDDED,
        llm=dataclasses.replace(EMBEDDED.llm, wheel=wheel),
        embedder=dataclasses.replace(EMBEDDED.embedder, wheel=wheel),
        pose=dataclasses.replace(EMBEDDED.pose, wheel=wheel),
    )
    fetch._llm_target(EMBEDDED).mkdir(parents=True)
    assert llm_folder(EMBEDDED) and not fetch.is_complete(changed)
    for target in (fetch._llm_target, fetch._embedder_target, fetch._mediapipe_target):
        assert target(changed).name == f"{target(EMBEDDED).name}-c0ffee00"
    with pytest.raises(MissingWeights):
        llm_folder(changed)


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


def test_some_files_of_a_wheel_are_unpacked_once_without_their_folders(
    empty_cache, tmp_path, monkeypatch
):
    path, asked = tmp_path / "some-1-py3-none-any.whl", []
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("some/data/a.txt", "some/data/b.txt", "some/a.py", "some-1/METADATA"):
            archive.writestr(name, name)
    monkeypatch.setattr(fetch, "_download", lambda wheel, into, say: asked.append(wheel) or path)
    wheel = WheelSpec("some==1", "beef" * 16)
    for _ in range(2):
        folder = fetch.ensure_files("things", wheel, ["*/data/*.txt"])
        assert folder == empty_cache / "things-beefbeef"
        assert {file.name: file.read_text() for file in folder.iterdir()} == {
            "a.txt": "some/data/a.txt", "b.txt": "some/data/b.txt",
        }  # fmt: skip
    assert asked == [wheel]
