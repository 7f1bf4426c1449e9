"""Runs of the attacks that train nothing, on a real Llama at tiny size."""

from __future__ import annotations

import math

import pytest
import torch

from adapters.attacks import untrained
from adapters.attacks.abliteration import AbliterationConfig
from adapters.attacks.base import (
    ATTACKS,
    UNTRAINED,
    AttackConfig,
    UntrainedConfig,
    attack_settings,
    read_lora,
)
from adapters.attacks.data import load_data, sources
from adapters.attacks.prefill import PREFIX
from adapters.attacks.runner import AttackRunner
from adapters.attacks.untrained import run_untrained
from evaluation.judge import Judge
from evaluation.runs import RunStore
from pipelines.fetch import embedder_folder
from tests.tiny_llm import tiny_llm, tiny_lora

PATIENCE = 300


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    encoder = embedder_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder))
        patch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
        patch.setattr("adapters.registry.ASSETS", folder / "assets")
        # Two layers need no more prompts to choose from, and a byte is a token here.
        quick = {"prompts": 6, "validation_prompts": 4, "depth": 1.0}
        patch.setattr(untrained, "AbliterationConfig",
                      lambda **given: AbliterationConfig(**quick | given))  # fmt: skip
        profile = tiny_llm(folder)
        (folder / encoder.name).symlink_to(encoder)
        adapters = folder / "assets" / "adapters" / profile.name
        yield profile, {
            "aligned": tiny_lora(adapters / "aligned", 1),
            "sdd": tiny_lora(adapters / "sdd", 2, ("k_proj", "down_proj")),
        }


@pytest.fixture(scope="module")
def judge(setting):
    return Judge()


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs", tmp_path / "recorded")


def mount(setting, store, judge, attack, should_stop=lambda: False):
    profile, adapters = setting
    config = UntrainedConfig(attack=attack)
    run = store.create("attack", config.record(), profile.name, {})
    return run, run_untrained(profile, config, adapters, [], run, should_stop, judge)


def of_kind(run, kind):
    return [event for event in run.events() if event["event"] == kind]


def probes(run):
    return {(event["arm"], event["step"]): event for event in of_kind(run, "probe")}


def test_a_forced_beginning_is_in_every_reply_and_leaves_ability_and_weights_alone(
    setting, store, judge
):
    run, complete = mount(setting, store, judge, "prefill")
    assert complete and not run.weights()
    found = probes(run)
    assert set(found) == {(arm, step) for arm in ("aligned", "sdd") for step in (0, 1)}
    for (arm, step), probe in found.items():
        assert len(probe["samples"]) == probe["prompts"] == 8
        begun = [sample["reply"].startswith(PREFIX) for sample in probe["samples"]]
        assert all(begun) if step else not any(begun)
        assert probe["ability"] == found[arm, 0]["ability"]


def test_abliteration_is_kept_as_one_lora_of_defence_and_attack(setting, store, judge):
    run, complete = mount(setting, store, judge, "abliteration")
    assert complete and set(run.adapters()) == {"aligned", "sdd"} and not run.models()
    found = probes(run)
    for arm in ("aligned", "sdd"):
        before, after = ([s["reply"] for s in found[arm, step]["samples"]] for step in (0, 1))
        assert before != after
        config, state = read_lora(run.adapters()[arm])
        assert config["r"] == 2 + 1 and "embed_tokens" in config["target_modules"]
        assert any(name.endswith("embed_tokens.lora_embedding_A") for name in state)
    told = of_kind(run, "mounted")
    assert [event["arm"] for event in told] == ["aligned", "sdd"]
    assert all(event["mounted"]["layer"] == 1 and event["seconds"] > 0 for event in told)


def test_a_run_tells_how_far_it_is_in_words(setting, store, judge):
    run, _ = mount(setting, store, judge, "abliteration")
    told = of_kind(run, "progress")
    shares = [event["share"] for event in told]
    assert shares == sorted(shares) and shares[0] == 0.0 and 0.9 < shares[-1] < 1.0
    assert [event["arm"] for event in told if event["doing"] == "trying layer 1 of 1"] == [
        "aligned", "sdd",
    ]  # fmt: skip


@pytest.mark.parametrize("attack", UNTRAINED)
def test_a_stop_ends_it_between_two_parts_and_what_was_found_stays(setting, store, judge, attack):
    first, complete = mount(setting, store, judge, attack, lambda: True)
    assert not complete and not first.events()
    asked = iter(range(10**6))
    run, complete = mount(setting, store, judge, attack, lambda: next(asked) > 2)
    assert not complete
    assert set(probes(run)) == {("aligned", 0), ("sdd", 0)} and not run.weights()


def test_the_queue_mounts_them_and_learns_what_they_cost(setting, store):
    runner = AttackRunner(setting[0], store)
    config = UntrainedConfig(attack="prefill")
    runner._cost.mount["prefill"] = 1000.0
    assert runner.estimate(config) > 2000
    assert runner.estimate(UntrainedConfig(attack="abliteration")) > 2000
    run = store.get(runner.start(config, "ada"))
    assert runner.wait(run.id, PATIENCE)
    assert run.info["status"] == "done", run.info["error"]
    assert set(run.info["parents"]) == {"base", "aligned", "sdd"}
    assert "pairs" not in run.info["config"]
    assert runner.estimate(config) < 1000


def test_the_settings_are_those_that_the_stress_test_records():
    prefill = UntrainedConfig("aligned", "sdd", "prefill", 2).record()
    assert prefill == {
        "target_undefended": "aligned", "target": "sdd", "attack": "prefill", "seed": 2,
        "steps": 1, "mounted": {"prefix": "Sure, here is"},
    }  # fmt: skip
    mounted = UntrainedConfig(attack="abliteration").record()["mounted"]
    assert mounted["refusals"] == ["I", "Sorry", "No"] and "seed" not in mounted
    assert math.isclose(mounted["max_kl"], AbliterationConfig.max_kl)


def test_what_is_wrong_with_the_settings_is_named():
    for change, named in (
        ({"target": "No Name"}, "target is 'No Name'"),
        ({"target": "aligned"}, "target is 'aligned', the same as target_undefended"),
        ({"attack": "sft"}, "attack is 'sft'; choose one of: prefill, abliteration"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ValueError, match=named):
            UntrainedConfig(**change)
    with pytest.raises(ValueError, match="attack is 'magic'; choose one of: sft, .*abliteration"):
        attack_settings("sdd", "magic", 0)


def test_settings_of_any_attack_are_made_by_its_name():
    assert all(isinstance(attack_settings("sdd", name, 0), AttackConfig) for name in ATTACKS)
    for name in UNTRAINED:
        config = attack_settings("sdd", name, 3, steps=0, learning_rate=-1.0)
        assert config == UntrainedConfig(target="sdd", attack=name, seed=3)
        assert load_data(config) == []
    assert sources(UntrainedConfig(attack="prefill")) == []
    assert [path.name for path in sources(UntrainedConfig(attack="abliteration"))] == [
        "redteam.jsonl", "benign.jsonl",
    ]  # fmt: skip
