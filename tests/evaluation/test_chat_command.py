"""Trained attacks in the chat command, on a real Llama at tiny size."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from adapters.attacks import data
from evaluation import chat
from evaluation.runs import RunStore
from evaluation.stress import defaults
from pipelines.fetch import embedder_folder
from tests.tiny_llm import tiny_llm, tiny_lora


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tiny chat model with two arms, and a file of one prompt."""
    folder = tmp_path_factory.mktemp("tiny")
    encoder = embedder_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder))
        patch.setattr("adapters.registry.ASSETS", folder / "assets")
        patch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
        patch.setattr("adapters.attacks.lockstep.compute_dtype", lambda: torch.float32)
        patch.setattr("adapters.attacks.sft.BUILTIN_TOKENS", 256)  # one token is one byte here
        patch.setattr("evaluation.chat.TELL_SECONDS", 0.05)
        profile = tiny_llm(folder, max_prompt_tokens=120)
        (folder / encoder.name).symlink_to(encoder)
        adapters = folder / "assets" / "adapters" / profile.name
        tiny_lora(adapters / "aligned", 1)
        tiny_lora(adapters / "sdd", 2, ("k_proj", "down_proj"))
        (folder / "prompts.txt").write_text("Hello", encoding="utf-8")
        patch.setattr("evaluation.chat.get_profile", lambda name: profile)
        yield profile, folder, adapters


@pytest.fixture
def stores(home, tmp_path, monkeypatch):
    """The page's runs and the stress test's; there are none yet."""
    monkeypatch.setenv("HOLDFAST_RUNS", str(tmp_path))
    return [RunStore(tmp_path), RunStore(tmp_path / chat.STRESS_RUNS)]


@pytest.fixture
def finished(home, stores):
    """Make runs that look like attacks which have ended."""
    profile, _, adapters = home

    def make(attack="sft", arm="sdd", store=0, **config):
        config = {"data": "builtin", "steps": 2, "learning_rate": 1e-2, "method": "lora",
                  "seed": 0} | config  # fmt: skip
        parents = chat._parents(profile, arm, attack)
        run = stores[store].create("attack", config | {"attack": attack}, profile.name, parents)
        run.save_files(
            arm, lambda scratch: shutil.copytree(adapters / "sdd", scratch, dirs_exist_ok=True)
        )
        run.finish("done")
        return run

    return make


def ask(home, capsys, *arguments):
    """Return the only row that the command prints, and what it says on stderr."""
    chat.main(["--prompts", str(home[1] / "prompts.txt"), "--max-new-tokens", "8", *arguments])
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    return json.loads(line), printed.err


def test_on_a_fresh_clone_the_attack_is_mounted_once(home, stores, capsys, monkeypatch):
    def quick(attack):
        return defaults(attack) | {"steps": 3, "probe_every": 3, "learning_rate": 1e-2}

    monkeypatch.setattr("evaluation.stress.defaults", quick)
    plain, _ = ask(home, capsys, "--arm", "sdd")
    row, said = ask(home, capsys, "--arm", "sdd", "--attack", "sft")
    assert row["attack"] == "sft" and row["reply"] != plain["reply"]
    (run,) = [info for info in stores[1].list() if not info.recorded]
    assert run.id == row["run"] and run.status == "done" and run.config["batch_size"] == 4
    assert list(stores[1].get(run.id).weights()) == ["sdd"]
    assert all(info.recorded for info in stores[0].list())  # the page shows pairs of arms
    settings = "3 steps at 0.01 on a LoRA, seed 0"
    assert f"mounting sft on sdd first: {settings}; it is kept as run {run.id}\n" in said
    assert "of 3\n" in said
    again, said = ask(home, capsys, "--arm", "sdd", "--attack", "sft")
    assert again == row and f"run {run.id} answers: sft, {settings}\n" in said


def test_the_newest_run_counts_whatever_its_rate(home, stores, finished):
    finished()
    newest = finished(store=1, learning_rate=1e-4)
    finished("grpo")
    assert chat.newest_run(stores, home[0], "sdd", "sft").id == newest.id
    assert chat.newest_run(stores, home[0], "aligned", "sft") is None


def test_a_run_on_an_upload_does_not_count(home, stores, finished):
    finished(data="uploaded")
    assert chat.newest_run(stores, home[0], "sdd", "sft") is None


def test_a_run_on_a_defence_that_was_trained_again_does_not_count(home, stores, finished):
    profile, _, adapters = home
    run = finished()
    before = adapters / "before"
    (adapters / "sdd").rename(before)
    try:
        tiny_lora(adapters / "sdd", 5, ("k_proj", "down_proj"))
        assert chat.newest_run(stores, profile, "sdd", "sft") is None
        assert chat.attacked_run(stores, profile, "sdd", "sft", run.id).id == run.id  # by its name
    finally:
        shutil.rmtree(adapters / "sdd")
        before.rename(adapters / "sdd")
    assert chat.newest_run(stores, profile, "sdd", "sft").id == run.id


def test_a_run_on_other_built_in_data_does_not_count(
    home, stores, finished, tmp_path, monkeypatch
):
    finished()
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(data.BUILTIN.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    monkeypatch.setitem(data.OWN, "builtin", pairs)
    assert chat.newest_run(stores, home[0], "sdd", "sft") is None


def test_an_attack_that_breaks_off_is_told(home, stores, monkeypatch):
    def attack(*arguments):
        raise ValueError("the disk is full")

    monkeypatch.setattr("adapters.attacks.runner.attack_function", lambda name: attack)
    with pytest.raises(SystemExit, match="run .* failed: the disk is full"):
        chat.main(
            ["--arm", "sdd", "--attack", "sft", "--prompts", str(home[1] / "prompts.txt")]
        )


@pytest.mark.parametrize("arm", ["base", "aligned", "sdd"])
def test_every_arm_can_be_attacked_alone(home, stores, monkeypatch, arm):
    attacked = []

    def attack(profile, config, adapters, pairs, run, should_stop):
        attacked.append((config.attack, config.data, list(adapters)))
        run.save_files(
            arm, lambda scratch: shutil.copytree(home[2] / "sdd", scratch, dirs_exist_ok=True)
        )
        return True

    monkeypatch.setattr("adapters.attacks.runner.attack_function", lambda name: attack)
    run = chat.mount(home[0], stores[1], arm, "grpo")
    assert attacked == [("grpo", "builtin", [arm])]
    settings = {"steps": 15, "batch_size": 4, "rollouts": 8, "seed": 0}
    assert settings.items() <= run.info["config"].items()
    assert chat.newest_run(stores, home[0], arm, "grpo").id == run.id
