"""The supervised attack, its queue and the weights it leaves, on a real Llama at tiny size."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch
from peft import PeftModel

from adapters.attacks import sft
from adapters.attacks.base import (
    AttackConfig,
    Probe,
    concatenate_loras,
    held_out_prompts,
    load_full_target,
    load_target,
    read_lora,
    write_lora,
)
from adapters.attacks.data import load_pairs
from adapters.attacks.runner import AttackRunner
from adapters.attacks.sft import run_sft
from evaluation.judge import Judge
from evaluation.runs import Run, RunStore
from pipelines.fetch import MissingWeights, embedder_folder
from pipelines.llm import ChatEngine, load_arm, load_llm
from tests.tiny_llm import tiny_llm, tiny_lora, tiny_model

PATIENCE = 800  # seconds for what takes ten on an idle machine
QUICK = AttackConfig(
    target_undefended="one", target="two", steps=3, batch_size=2, rank=2, probe_every=2
)


@pytest.fixture(scope="module")
def judge():
    return Judge()


@pytest.fixture(scope="module")
def setting(tmp_path_factory, judge):
    """A profile of a tiny chat model, and two defences."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        encoder = embedder_folder()
        patch.setenv("HOLDFAST_CACHE", str(folder))
        patch.setattr("pipelines.llm.compute_dtype", lambda: torch.float32)
        patch.setattr("adapters.attacks.lockstep.compute_dtype", lambda: torch.float32)
        profile = tiny_llm(folder)
        (folder / encoder.name).symlink_to(encoder)
        adapters = {
            "one": tiny_lora(folder / "one", 1),
            "two": tiny_lora(folder / "two", 2, ("k_proj", "down_proj")),
        }
        yield profile, adapters


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs", tmp_path / "recorded")


def attack(setting, store, judge, config, adapters=None, should_stop=lambda: False):
    profile, shipped = setting
    run = store.create("attack", config.record(), profile.name, {})
    pairs = load_pairs("builtin", 8, config.seed)
    complete = run_sft(profile, config, adapters or shipped, pairs, run, should_stop, judge)
    return complete, run


@pytest.fixture(scope="module")
def finished(setting, tmp_path_factory, judge):
    folder = tmp_path_factory.mktemp("runs")
    config = dataclasses.replace(QUICK, learning_rate=1e-2)
    complete, run = attack(setting, RunStore(folder, folder / "recorded"), judge, config)
    assert complete
    return run


def test_both_arms_advance_together_and_are_probed(finished):
    events = [event for event in finished.events() if "arm" in event]
    for arm in ("one", "two"):
        assert [(e["event"], e["step"]) for e in events if e["arm"] == arm] == [
            ("probe", 0),
            ("step", 1),
            ("step", 2), ("saved", 2), ("probe", 2),
            ("step", 3), ("saved", 3), ("probe", 3),
        ]  # fmt: skip
    # Within a step the arms compute side by side, but none begins one before all have ended theirs.
    steps = [event["step"] for event in events]
    assert steps == sorted(steps)
    for event in (e for e in events if e["event"] != "saved"):
        assert event["seconds"] > 0
        if event["event"] == "step":
            assert event["loss"] > 0 and event["entropy"] > 0
        else:
            assert 0 <= event["harm"] <= 1 and 0 <= event["ability"] <= 1
            assert [s["prompt"] for s in event["samples"]] == held_out_prompts(8)
            assert {"reply", "label", "confidence"} <= event["samples"][0].keys()


def test_the_saved_weights_are_defence_and_attack_in_one(finished, setting):
    profile, adapters = setting
    assert set(finished.adapters()) == {"one", "two"}
    engine = ChatEngine(profile)
    engine.add_arm("base", None)
    for arm, folder in finished.adapters().items():
        engine.add_arm(arm, adapters[arm])
        engine.add_arm(f"{arm}_attacked", folder)
        config, state = read_lora(folder)
        assert config["r"] == 4 and config["base_model_name_or_path"] is None
        assert {value.dtype for value in state.values()} == {torch.bfloat16}
    question = [{"role": "user", "content": "Hello"}]
    *_, last = engine.stream(question, engine.arms, max_new_tokens=24)
    assert len(set(last.values())) == 5


@pytest.fixture(scope="module")
def fully(setting, tmp_path_factory, judge):
    """A run on all weights, and the models as they were in memory when they were saved."""
    folder = tmp_path_factory.mktemp("full")
    config = dataclasses.replace(QUICK, method="full", learning_rate=1e-3)
    held = {}

    class Watched(Run):
        def save_model(self, arm, model):
            held[arm] = model
            return super().save_model(arm, model)

    store = RunStore(folder, folder / "recorded")
    run = Watched(store.create("attack", config.record(), setting[0].name, {}).folder)
    pairs = load_pairs("builtin", 8)
    assert run_sft(setting[0], config, setting[1], pairs, run, lambda: False, judge)
    return run, held


def test_all_weights_are_trained_and_saved_once(fully, setting):
    run, held = fully
    assert not run.adapters() and set(run.models()) == set(run.weights()) == {"one", "two"}
    saved = [(e["step"], e["arm"]) for e in run.events() if e["event"] == "saved"]
    assert saved == [(3, "one"), (3, "two")]
    profile, adapters = setting
    prompts = torch.arange(40).reshape(2, 20)
    for arm, folder in run.models().items():
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json", "generation_config.json", "model.safetensors",
        ]  # fmt: skip
        text = (folder / "config.json").read_text(encoding="utf-8")
        assert str(folder) not in text and "/tiny" not in text
        model, tokenizer = load_arm(profile, folder)
        released, _ = load_full_target(profile, adapters[arm])
        state = released.state_dict()
        for name, weight in model.state_dict().items():
            assert not torch.equal(weight, state[name].bfloat16().to(weight)), name
        trained = tiny_model()
        trained.load_state_dict(held[arm].state_dict())
        with torch.inference_mode():
            memory = trained(prompts).logits
            torch.testing.assert_close(model(prompts).logits, memory)
            assert not torch.allclose(released(prompts).logits, memory, atol=1e-2)
        with pytest.raises(MissingWeights):
            ChatEngine(profile).add_arm(arm, folder)
        assert tokenizer.chat_template


def test_all_weights_start_from_the_defended_function(setting, judge, monkeypatch):
    profile, adapters = setting
    monkeypatch.setattr("pipelines.device.compute_dtype", lambda on=None: torch.float32)
    base = None
    for adapter in (None, adapters["two"]):
        lora, tokenizer = load_target(profile, adapter, 2, 0)
        full, _ = load_full_target(profile, adapter)
        assert all(weight.requires_grad for weight in full.parameters())
        probe = Probe(tokenizer, judge)
        found = probe.measure(full)
        assert found == probe.measure(lora) and found != base
        base = found


def test_two_arms_share_the_base_model_s_weights_and_nothing_else(setting):
    profile, adapters = setting
    base, _ = load_llm(profile, torch.float32, training=True)
    released = {name: weight.clone() for name, weight in base.state_dict().items()}
    ids = torch.arange(20)[None]
    arms = {}
    for arm, adapter in adapters.items():
        arms[arm], _ = load_target(profile, adapter, 2, 0, base=base)
        alone, _ = load_target(profile, adapter, 2, 0)
        torch.testing.assert_close(arms[arm](ids).logits, alone.float()(ids).logits)
    mine = {weight.data_ptr() for weight in base.parameters()}
    for model in arms.values():
        frozen = {w.data_ptr() for name, w in model.named_parameters() if "lora_" not in name}
        trained = {w.data_ptr() for w in model.parameters() if w.requires_grad}
        assert frozen == mine and trained and not trained & mine
    arms["one"](ids).logits.sum().backward()
    assert all(weight.grad is None for weight in (*base.parameters(), *arms["two"].parameters()))
    assert base.state_dict().keys() == released.keys()  # no adapter in the base model itself
    assert all(torch.equal(weight, released[name]) for name, weight in base.state_dict().items())


def test_joining_two_loras_is_exact(tmp_path, setting):
    _, adapters = setting
    ids = torch.arange(20)[None]
    first, second = (read_lora(adapters[arm]) for arm in ("one", "two"))
    merged = PeftModel.from_pretrained(tiny_model(), adapters["one"]).merge_and_unload()
    with torch.inference_mode():
        wanted = PeftModel.from_pretrained(merged, adapters["two"]).eval()(ids).logits
        base = tiny_model()(ids).logits
        for pair in ((first, second), (None, second)):
            write_lora(tmp_path, *concatenate_loras(*pair, dtype=torch.float32))
            joined = PeftModel.from_pretrained(tiny_model(), tmp_path).eval()(ids).logits
            alone = PeftModel.from_pretrained(tiny_model(), adapters["two"]).eval()(ids).logits
            torch.testing.assert_close(joined, wanted if pair[0] else alone, atol=1e-3, rtol=1e-3)
            assert not torch.allclose(joined, base)


def test_other_kinds_of_adapter_are_refused(setting):
    config, state = read_lora(setting[1]["one"])
    with pytest.raises(ValueError, match="use_dora is True"):
        concatenate_loras(None, (config | {"use_dora": True}, state))


def test_the_same_weights_see_the_same_data_in_the_same_order(setting, store, judge):
    same = {"one": setting[1]["one"], "two": setting[1]["one"]}
    config = dataclasses.replace(QUICK, steps=4, probe_every=4, learning_rate=1e-2)
    _, run = attack(setting, store, judge, config, same)
    curves = {
        arm: [e["loss"] for e in run.events() if e["event"] == "step" and e["arm"] == arm]
        for arm in ("one", "two")
    }
    assert curves["one"] == curves["two"] and len(curves["one"]) == 4


def test_stop_ends_both_arms_within_a_step(setting, store, judge):
    config = dataclasses.replace(QUICK, steps=50, probe_every=50)
    run = store.create("attack", config.record(), "tiny", {})

    def stop():
        return any(e["event"] == "step" and e["step"] == 2 for e in run.events())

    profile, adapters = setting
    pairs = load_pairs("builtin", 8)
    assert not run_sft(profile, config, adapters, pairs, run, stop, judge)
    last = [
        max(e["step"] for e in run.events() if e["event"] == "step" and e["arm"] == arm)
        for arm in ("one", "two")
    ]
    assert max(last) <= 3 and abs(last[0] - last[1]) <= 1
    assert set(run.adapters()) == {"one", "two"}


def test_a_stop_in_the_last_step_leaves_a_whole_attack(setting, store, judge):
    config = dataclasses.replace(QUICK, steps=2, probe_every=2)
    run = store.create("attack", config.record(), "tiny", {})

    def stop():
        steps = [e["arm"] for e in run.events() if e["event"] == "step" and e["step"] == 2]
        return set(steps) == {"one"}

    profile, adapters = setting
    alone = {"one": adapters["one"]}
    assert run_sft(profile, config, alone, load_pairs("builtin", 8), run, stop, judge)
    probed = [e["step"] for e in run.events() if e["event"] == "probe"]
    assert probed[-1] == 2 and stop()


def test_another_model_s_longer_prompts_leave_room_for_an_answer(setting, monkeypatch):
    pairs = load_pairs("builtin", 8)
    _, tokenizer = load_llm(setting[0])
    text = [
        tokenizer.apply_chat_template(pair["prompt"], tokenize=False, add_generation_prompt=True)
        for pair in pairs
    ]
    longest = max(len(tokenizer(each, add_special_tokens=False).input_ids) for each in text)
    monkeypatch.setattr(sft, "BUILTIN_TOKENS", longest)
    assert sft.builtin_tokens(pairs, tokenizer) == longest + sft.ANSWER_TOKENS
    monkeypatch.setattr(sft, "BUILTIN_TOKENS", longest + 100)
    assert sft.builtin_tokens(pairs, tokenizer) == longest + 100


def test_a_failing_arm_ends_the_attack(setting, store, judge):
    config = dataclasses.replace(QUICK, steps=20, probe_every=20)
    pairs = load_pairs("builtin", 8)

    class FullDisk(type(store.create("attack", {}, "tiny", {}))):
        def log(self, **event):
            if event.get("step") == 1 and event["arm"] == "two":
                raise OSError("no space left on device")
            super().log(**event)

    run = FullDisk(store.create("attack", config.record(), "tiny", {}).folder)
    with pytest.raises(OSError, match="no space left"):
        run_sft(setting[0], config, setting[1], pairs, run, lambda: False, judge)
    assert max(event["step"] for event in run.events()) <= 2


@pytest.fixture
def runner(setting, store, monkeypatch):
    profile, adapters = setting
    # The two tiny defences are not in the registry.
    monkeypatch.setattr("adapters.attacks.runner._check_arm", lambda arm: None)
    monkeypatch.setattr(AttackRunner, "_adapter", lambda self, arm: adapters[arm])
    return AttackRunner(profile, store)


def test_the_queue_runs_one_at_a_time_and_only_owners_stop(runner, store):
    long = dataclasses.replace(QUICK, steps=200, probe_every=200)
    first = runner.start(long, "ada")
    second = runner.start(QUICK, "bob")
    third = runner.start(long, "eve")
    assert [runner.position(run) for run in (first, second, third)] == [0, 1, 2]
    assert not runner.stop(first, "eve")
    assert not runner.stop("20200101-000000-attack-abcdef", "ada")
    assert runner.stop(third, "eve")
    assert store.get(third).info["status"] == "stopped"
    assert runner.position(third) is None
    assert runner.stop(first, "ada")
    assert runner.wait(first, PATIENCE) and runner.wait(second, 300)
    assert store.get(first).info["status"] == "stopped"
    info = store.get(second).info
    assert info["status"] == "done", info["error"]
    assert info["config"]["data"] == "builtin" and set(info["parents"]) == {
        "base", "data", "one", "two",
    }  # fmt: skip
    assert not any(thread.name.startswith("holdfast-attack-") for thread in threading.enumerate())
    assert runner.position(second) is None
    assert not runner.stop(second, "bob")


def test_a_failure_is_recorded_and_the_queue_goes_on(runner, store, monkeypatch, setting):
    broken = dict(setting[1], two=setting[1]["two"].parent / "nothing")
    monkeypatch.setattr("adapters.attacks.runner.weights_hash", lambda folder: "")
    monkeypatch.setattr(AttackRunner, "_adapter", lambda self, arm: broken[arm])
    first = runner.start(QUICK, "ada")
    assert runner.wait(first, PATIENCE)
    info = store.get(first).info
    assert info["status"] == "failed" and info["error"]
    assert str(broken["two"].parent) not in info["error"]  # everybody reads it
    monkeypatch.setattr(AttackRunner, "_adapter", lambda self, arm: setting[1][arm])
    second = runner.start(QUICK, "ada")
    assert runner.wait(second, PATIENCE)
    assert store.get(second).info["status"] == "done"


def test_the_estimate_grows_with_the_work(setting, store):
    runner = AttackRunner(setting[0], store)
    short = runner.estimate(QUICK)
    assert runner.estimate(dataclasses.replace(QUICK, steps=30)) > short > 0
    assert runner.estimate(dataclasses.replace(QUICK, batch_size=16)) > short


def test_each_method_s_cost_is_learnt_by_itself(runner):
    full = dataclasses.replace(QUICK, method="full", learning_rate=1e-3)

    def twenty_steps(config):
        longer, shorter = (
            dataclasses.replace(config, steps=steps, probe_every=1000) for steps in (40, 20)
        )
        return runner.estimate(longer) - runner.estimate(shorter)

    runner._cost.part["full", "sft"] = 1000.0
    lora, guess = twenty_steps(QUICK), twenty_steps(full)
    run_id = runner.start(full, "ada")
    assert runner.wait(run_id, PATIENCE)
    assert twenty_steps(QUICK) == pytest.approx(lora) and twenty_steps(full) < guess


def test_old_attacks_on_all_weights_give_their_disk_space_back(runner, setting, store):
    full = dataclasses.replace(QUICK, method="full", learning_rate=1e-3, steps=1)
    first = runner.start(full, "ada")
    assert runner.wait(first, PATIENCE) and store.get(first).models()
    thrifty = AttackRunner(setting[0], store, keep=(1, 1))
    second = thrifty.start(full, "ada")
    assert thrifty.wait(second, PATIENCE)
    assert not store.get(first).models() and store.get(second).models()


def test_unknown_arms_are_refused_at_once(setting, store):
    runner = AttackRunner(setting[0], store)
    with pytest.raises(ValueError, match="defence is 'nothing'"):
        runner.start(AttackConfig(target="nothing"), "ada")
    assert store.list() == []


def test_an_arm_that_is_not_attacked_need_not_be_there(setting, store, monkeypatch):
    profile, adapters = setting
    monkeypatch.setattr("adapters.attacks.runner._check_arm", lambda arm: None)

    def folder(runner, arm):
        if arm == "one":
            raise MissingWeights("one", "nowhere", "train it")
        return adapters[arm]

    monkeypatch.setattr(AttackRunner, "_adapter", folder)
    runner = AttackRunner(profile, store)
    with pytest.raises(MissingWeights, match="train it"):
        runner.start(QUICK, "ada")
    for wrong in (["two", "three"], []):
        with pytest.raises(ValueError, match="choose among: one, two"):
            runner.start(QUICK, "ada", arms=wrong)
    assert store.list() == []
    run = runner.start(QUICK, "ada", arms=["two"])
    assert runner.wait(run, PATIENCE)
    info = store.get(run).info
    assert info["status"] == "done", info["error"]
    assert set(info["parents"]) == {"base", "data", "two"}
    assert set(store.get(run).adapters()) == {"two"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"batch_size": 1000}, "batch_size is 1000"),
        ({"rank": True}, "rank is True"),
        ({"seed": -1}, "seed is -1"),
        ({"probe_every": 0}, "probe_every is 0"),
        ({"attack": "magic"}, "attack is 'magic'"),
        ({"method": "half"}, "method is 'half'; choose one of: lora, full"),
        ({"method": "full", "learning_rate": 0.2}, "learning_rate is 0.2"),
        ({"target": "aligned"}, "the same as target_undefended"),
        ({"target": "../x"}, "target is '../x'"),
        ({"data": ""}, "data is ''"),
    ],
)
def test_settings_are_checked_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        AttackConfig(**change)


def test_the_usual_learning_rate_goes_by_what_is_trained():
    lora, full = AttackConfig(), AttackConfig(method="full")
    assert (lora.method, lora.learning_rate, full.learning_rate) == ("lora", 3e-4, 3e-5)
    assert full.record()["method"] == "full" and full.record()["learning_rate"] == 3e-5


def test_the_record_keeps_no_path(tmp_path):
    assert AttackConfig(data=tmp_path / "mine.jsonl").record()["data"] == "uploaded"
    assert AttackConfig(steps=7).probe_steps() == [0, 5, 7]
    assert AttackConfig(steps=10).probe_steps() == [0, 5, 10]
