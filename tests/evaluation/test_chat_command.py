"""The chat command, with and without attacks, on a real Llama at tiny size."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from adapters.attacks import data
from evaluation import chat
from evaluation.judge import LABELS
from evaluation.mounting import defaults
from evaluation.runs import RunStore
from tests.tiny_llm import tiny_home, tiny_lora


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tiny chat model with two arms, and a file of one prompt."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "prompts.txt").write_text("Hello", encoding="utf-8")
    with tiny_home(folder) as profile, pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.chat.TELL_SECONDS", 0.05)
        yield profile, folder, folder / "assets" / "adapters" / profile.name


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


def answers(capsys):
    """Return the rows that the command has printed."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_file_of_prompts_is_answered_and_judged(home, stores, tmp_path, capsys):
    file = tmp_path / "prompts.txt"
    file.write_text("Hello\n\n  What is a cat?\n", encoding="utf-8")
    chat.main(["--arm", "sdd", "--prompts", str(file), "--max-new-tokens", "8"])
    plain = answers(capsys)
    assert [row["prompt"] for row in plain] == ["Hello", "What is a cat?"]
    for row in plain:
        assert row["arm"] == "sdd" and row["attack"] is None and row["run"] is None
        assert row["verdict"] in ("refusal", "compliance", "off_topic", "gibberish")
        assert 0 <= row["confidence"] <= 1
    chat.main(
        ["--arm", "sdd", "--prompts", str(file), "--max-new-tokens", "8", "--attack", "prefill"]
    )
    assert all(row["reply"].startswith("Sure, here is") for row in answers(capsys))


def test_a_published_set_is_asked_by_name_unless_a_file_is_called_so(
    home, stores, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chat, "load_prompts", lambda name: [f"{name} {n}" for n in range(5)])
    command = ["--arm", "sdd", "--prompts", "strongreject", "--max-new-tokens", "4"]
    chat.main([*command, "--first", "2"])
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["prompt"] for row in rows] == ["strongreject 0", "strongreject 1"]
    counts = Counter(row["verdict"] for row in rows)
    shares = ", ".join(f"{label} {counts[label]}" for label in LABELS)
    assert err.strip().endswith(f"2 prompts: {shares}")
    Path("strongreject").write_text("a file's own")
    chat.main(command)
    assert [row["prompt"] for row in answers(capsys)] == ["a file's own"]
    with pytest.raises(SystemExit, match="first is 0; it must be 1 or more"):
        chat.main([*command, "--first", "0"])


def test_of_a_published_set_what_is_too_long_is_left_out_and_told(
    home, stores, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    command = ["--arm", "base", "--prompts", "harmbench", "--max-new-tokens", "4"]
    monkeypatch.setattr(chat, "load_prompts", lambda name: ["x" * 200, "Hello"])
    chat.main(command)
    out, err = capsys.readouterr()
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["Hello"]
    assert "1 prompts:" in err and "(1 more are too long for the model" in err
    monkeypatch.setattr(chat, "load_prompts", lambda name: ["x" * 200])
    with pytest.raises(SystemExit, match="all 1 prompts are too long"):
        chat.main(command)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arm", "nobody"], "arm is 'nobody'"),
        (["--arm", "sdd", "--attack", "magic"], "no finished run of it holds weights of 'sdd'"),
        (["--arm", "sdd", "--run", "nothing"], "no run 'nothing'"),
        (["--arm", "sdd", "--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--arm", "sdd", "--temperature", "-1"], "temperature is -1.0"),
    ],
)
def test_what_is_wrong_is_named(home, stores, tmp_path, arguments, words):
    file = tmp_path / "prompts.txt"
    file.write_text("Hello", encoding="utf-8")
    with pytest.raises(SystemExit, match=words):
        chat.main([*arguments, "--prompts", str(file)])


def test_a_prompt_that_is_too_long_is_named_by_its_number(home, stores, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("Hello\n" + "x" * 200, encoding="utf-8")
    with pytest.raises(SystemExit, match="prompt 2: .*limit is 120"):
        chat.main(["--arm", "base", "--prompts", str(file)])
    with pytest.raises(SystemExit, match="missing.txt"):
        chat.main(["--arm", "base", "--prompts", str(tmp_path / "missing.txt")])


def test_on_a_fresh_clone_the_attack_is_mounted_once(home, stores, capsys, monkeypatch):
    def quick(attack):
        return defaults(attack) | {"steps": 3, "probe_every": 3, "learning_rate": 1e-2}

    monkeypatch.setattr("evaluation.chat.defaults", quick)
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
