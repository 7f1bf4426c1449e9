"""What all trainings of chat-model defences do before and after their own steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, PeftModel

from adapters import chat_training, registry
from adapters.chat_training import ChatTraining
from adapters.loop import LINEAR
from adapters.registry import TrainOptions
from evaluation.runs import RunStore, weights_hash
from pipelines.fetch import MissingWeights
from tests.tiny_llm import tiny_llm, tiny_lora, tiny_model


@dataclass(frozen=True)
class Config:
    steps: int = 2
    learning_rate: float = 1e-2
    warmup_steps: int = 0
    rank: int = 2
    seed: int = 3


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Begin a training of a defence on the tiny model, with a judge that knows nothing."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    profile = tiny_llm(tmp_path / "cache")
    monkeypatch.setattr("adapters.registry.ASSETS", tmp_path / "assets")
    monkeypatch.setattr("adapters.loop.compute_dtype", lambda on=None: torch.float32)
    monkeypatch.setattr("pipelines.llm.compute_dtype", lambda on=None: torch.float32)
    monkeypatch.setattr(chat_training, "runs_dir", lambda: tmp_path / "runs")
    monkeypatch.setattr(chat_training, "Judge", lambda: None)
    monkeypatch.setattr(chat_training, "measure", lambda *_: ({"ability": 0.5}, [{"kind": "x"}]))
    options = TrainOptions(tmp_path / "out", tmp_path / "checkpoints")

    def begin(name, config=Config(), **changes):
        return ChatTraining.begin(
            name, config, profile, TrainOptions(**(vars(options) | changes))
        )

    begin.adapters = registry.adapter_target("aligned", profile).parent
    begin.root = tmp_path
    return begin


def sum_of_weights(model, batch):
    return sum(p.sum() for p in model.parameters() if p.requires_grad) * batch["one"]


def one(step):
    return {"one": torch.tensor(1.0)}


def runs(begun):
    return RunStore(begun.root / "runs", begun.root / "recorded").list()


def test_a_defence_without_a_parent_begins_with_a_new_lora_by_its_seed(begun):
    first, same = (begun("aligned").model.state_dict() for _ in range(2))
    assert first.keys() == same.keys()
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    other = begun("aligned", Config(seed=4)).model.state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in first.items())
    last = begun("aligned")
    assert last.start is None and last.run.info["parents"] == {}


def test_a_defence_goes_on_from_the_parent_that_it_is_registered_with(begun):
    with pytest.raises(MissingWeights, match="adapters.train aligned"):
        begun("sdd")
    assert not (begun.root / "runs").exists()
    parent = tiny_lora(begun.adapters / "aligned", 1, LINEAR)
    training = begun("sdd")
    assert training.start == parent
    wanted = PeftModel.from_pretrained(tiny_model(), parent).state_dict()
    found = training.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert any(p.requires_grad for p in training.model.parameters())
    (run,) = runs(begun)
    assert training.run.info["parents"] == {"aligned": weights_hash(parent)}
    assert run.config["defence"] == "sdd" and run.config["rank"] == 2


def test_what_is_trained_is_saved_before_anything_is_measured(begun, monkeypatch):
    training = begun("aligned")
    training.minimise(one, sum_of_weights)
    kept = weights_hash(begun.root / "out")

    def fails(*_):
        raise OSError("no memory")

    monkeypatch.setattr(chat_training, "measure", fails)
    with pytest.raises(OSError, match="no memory"):
        training.finish(training.minimise(one, sum_of_weights))
    assert weights_hash(begun.root / "out") != kept


def test_the_defence_s_adapter_is_saved_and_measured_alone(begun, monkeypatch):
    training = begun("aligned")
    training.model.add_adapter(
        "other", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    measured = []

    def measure(model, *_):
        measured.extend(model.peft_config)
        return {}, []

    monkeypatch.setattr(chat_training, "measure", measure)
    training.finish(training.minimise(one, sum_of_weights))
    assert measured == ["default"]
    shipped = PeftModel.from_pretrained(tiny_model(), begun.root / "out")
    assert list(shipped.peft_config) == ["default"]


@pytest.mark.parametrize(("minutes", "status"), [(None, "done"), (1e-9, "stopped")])
def test_the_end_is_told_with_own_figures_last(begun, minutes, status):
    training = begun("aligned", max_minutes=minutes)
    told = training.finish(training.minimise(one, sum_of_weights), cosine=0.25)
    assert list(told.figures.items()) == [("ability", 0.5), ("cosine", 0.25)]
    assert told.steps == (2 if minutes is None else 0)
    assert told.seconds_before == 0.0 and told.starts_from == {}
    (run,) = runs(begun)
    assert run.status == status
    assert (begun.root / "runs" / run.id / "samples.jsonl").read_text() == '{"kind": "x"}\n'


def test_the_seconds_of_an_earlier_session_are_told(begun, monkeypatch):
    ticks = iter(range(10_000))
    # A clock of one second a look: the time is up in the middle, with a checkpoint.
    monkeypatch.setattr("adapters.loop.time.monotonic", lambda: float(next(ticks)))
    training = begun("aligned", Config(steps=4), max_minutes=0.05)
    told = training.finish(training.minimise(one, sum_of_weights))
    assert 0 < told.steps < 4
    resumed = begun("aligned", Config(steps=4), resume=True)
    again = resumed.finish(resumed.minimise(one, sum_of_weights))
    assert again.steps == 4 and again.seconds_before > 0
    assert math.isfinite(again.seconds_before)
