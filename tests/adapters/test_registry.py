"""The register of defences and the command line that trains them."""

from __future__ import annotations

import dataclasses

import pytest

import adapters  # noqa: F401
from adapters import registry, train
from pipelines.fetch import MissingWeights
from pipelines.paths import ASSETS
from pipelines.profiles import get_profile


@pytest.mark.parametrize("name", ["aligned", "sdd"])
def test_card_states_every_fact(name):
    card = registry.get(name).card
    for field in dataclasses.fields(card):
        assert getattr(card, field.name), field.name


def test_unknown_defence_is_named_with_the_choices():
    with pytest.raises(ValueError, match="'sde'.*sdd"):
        registry.get("sde")


def test_missing_adapter_names_the_command():
    with pytest.raises(MissingWeights, match="adapters.train sdd --profile hub"):
        registry.adapter_folder("sdd", get_profile("hub"))


def test_adapter_folder_refuses_what_is_no_defence():
    with pytest.raises(ValueError, match="aligned"):
        registry.adapter_folder("../aligned")


@pytest.mark.parametrize("change", [{"name": "no good"}, {"pipeline": "audio"}])
def test_card_checks_what_code_branches_on(change):
    card = registry.get("sdd").card
    with pytest.raises(ValueError, match=repr(next(iter(change.values())))):
        dataclasses.replace(card, **change)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("aligned", "steps", 0),
        ("aligned", "refusal_share", 1.5),
        ("sdd", "learning_rate", -1e-4),
        ("sdd", "max_cosine", 2.0),
    ],
)
def test_config_error_names_field_and_value(name, field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        registry.get(name).config_cls(**{field: value})


def test_every_setting_is_an_option():
    args = vars(train.parser_for("sdd").parse_args(["--max-cosine", "0.2", "--steps", "7"]))
    assert args["max_cosine"] == 0.2
    assert args["steps"] == 7
    assert args["retain_share"] == registry.get("sdd").config_cls().retain_share


def test_command_line_reports_a_wrong_defence():
    with pytest.raises(SystemExit, match="choose one of"):
        train.main(["nothing"])


def test_only_trained_defences_are_offered_where_there_are_any(monkeypatch):
    # The served app of tests/ui has adapters of its own for as long as it lives.
    monkeypatch.setattr(registry, "ASSETS", ASSETS)
    embedded, hub = (registry.offered("llm", get_profile(name)) for name in ("embedded", "hub"))
    trained = [name for name in hub if not _missing(name)]
    assert embedded == trained and {"aligned", "sdd"} <= set(embedded)
    assert hub == [n for n, d in registry.defences().items() if d.card.pipeline == "llm"]


def _missing(name: str) -> bool:
    try:
        registry.adapter_folder(name)
    except MissingWeights:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("sdd", {"learning_rate": float("nan")}, "learning_rate is nan"),
        ("sdd", {"retain_share": 0.98}, "retain_share is 0.98; of 16 pairs"),
        ("aligned", {"learning_rate": float("inf")}, "learning_rate is inf"),
        ("aligned", {"refusal_share": 0.02}, "refusal_share is 0.02; of 16 pairs"),
    ],
)
def test_settings_that_cannot_train_the_defence_are_refused(name, change, told):
    config_class = registry.get(name).config_cls
    with pytest.raises(ValueError, match=told):
        config_class(**({"batch_size": 16} | change))
