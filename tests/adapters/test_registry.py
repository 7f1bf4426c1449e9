"""The register of defences and the command line that trains them."""

from __future__ import annotations

import dataclasses
import json

import pytest

import adapters  # noqa: F401
from adapters import registry, train
from evaluation.runs import weights_hash
from pipelines.fetch import MissingWeights
from pipelines.paths import ASSETS
from pipelines.profiles import get_profile
from tests.tiny_llm import tiny_llm


@pytest.mark.parametrize("name", registry.defences())
def test_card_states_every_fact(name):
    card = registry.get(name).card
    for field in dataclasses.fields(card):
        # LCFDSD's paper is not on arXiv.
        assert getattr(card, field.name) or (name, field.name) == ("lcfdsd", "arxiv"), field.name


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
    "name",
    ["aligned", "sdd", "seam", "tokenbuncher", "seam_tokenbuncher", "erased", "gift", "lcfdsd"],
)
def test_numbers_of_things_are_whole_and_none_is_negative(name):
    config_class = registry.get(name).config_cls
    with pytest.raises(ValueError, match="warmup_steps is -1; it must be 0 or more"):
        config_class(warmup_steps=-1)
    for field in dataclasses.fields(config_class):
        if field.type == "int":
            wrong = field.default + 0.5
            with pytest.raises(ValueError, match=f"{field.name} is {wrong}; it must be a whole"):
                config_class(**{field.name: wrong})


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


@pytest.mark.parametrize("name", registry.defences())
def test_no_setting_is_left_out_and_the_command_gives_all_of_them_back(name):
    config = registry.get(name).config_cls()
    options = [train.as_option(*setting) for setting in dataclasses.asdict(config).items()]
    args = vars(train.parser_for(name).parse_args(" ".join(options).split()))
    assert {field: args[field] for field in dataclasses.asdict(config)} == vars(config)


def test_command_line_reports_a_wrong_defence():
    with pytest.raises(SystemExit, match="choose one of"):
        train.main(["nothing"])


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_that_is_none_is_refused(minutes, tmp_path):
    with pytest.raises(ValueError, match=f"max_minutes is {minutes}"):
        registry.TrainOptions(tmp_path, tmp_path, max_minutes=minutes)
    with pytest.raises(SystemExit, match=f"max_minutes is {minutes}"):
        train.main(["aligned", "--out", str(tmp_path), "--max-minutes", str(minutes)])


@pytest.mark.parametrize("error", [ValueError("alpha is odd"),
                                   MissingWeights("The judge", ASSETS, "make judge")])  # fmt: skip
def test_what_a_trainer_finds_wrong_is_told_in_a_line(error, tmp_path, monkeypatch):
    def fails(config, profile, options):
        raise error

    known = dataclasses.replace(registry.get("aligned"), train=fails)
    monkeypatch.setitem(registry._DEFENCES, "aligned", known)
    with pytest.raises(SystemExit) as told:
        train.main(["aligned", "--out", str(tmp_path)])
    assert told.value.code == str(error)


def test_each_folder_has_checkpoints_and_all_sessions_seconds_of_its_own(tmp_path, monkeypatch):
    folders = []

    def trains(config, profile, options):
        folders.append(options.checkpoints)
        (options.out / "adapter_model.safetensors").write_bytes(b"")
        return registry.Trained(1, {}, seconds_before=1000.0)

    known = dataclasses.replace(registry.get("aligned"), train=trains)
    monkeypatch.setitem(registry._DEFENCES, "aligned", known)
    for out in ("a", "b", "a"):
        train.main(["aligned", "--out", str(tmp_path / out)])
        record = json.loads((tmp_path / out / "training.json").read_text())
        assert 1000 <= record["seconds"] < 1100
    assert folders[0] == folders[2] != folders[1]


def test_settings_without_a_seed_or_with_a_field_that_has_no_default_are_refused():
    known = registry.get("aligned")

    def registered(*settings):
        config_class = dataclasses.make_dataclass("Config", settings)
        registry.register(known.card, config_class, known.train)

    with pytest.raises(TypeError, match="'aligned' must be a dataclass with a field 'seed'"):
        registered(("steps", int, 1))
    with pytest.raises(TypeError, match="'aligned' must give defaults to: steps, seed"):
        registered(("steps", int), ("seed", int))
    assert registry.get("aligned") is known


def test_aligned_looks_for_the_judge_before_it_trains(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HOLDFAST_CACHE", str(cache))
    profile = tiny_llm(cache)  # and no sentence encoder
    monkeypatch.setattr("adapters.train.get_profile", lambda name: profile)
    monkeypatch.setattr("adapters.chat_training.runs_dir", lambda: tmp_path / "runs")
    with pytest.raises(SystemExit, match="pipelines.fetch"):
        train.main(["aligned", "--out", str(tmp_path / "out"), "--steps", "1"])
    assert not (tmp_path / "runs").exists(), "it has trained"


def shipped_records():
    return {
        name: json.loads(file.read_text())
        for name in registry.defences()
        if (file := ASSETS / "adapters" / name / "training.json").is_file()
    }


@pytest.mark.parametrize("name", shipped_records())
def test_the_defaults_make_the_shipped_arm(name):
    config_class = registry.get(name).config_cls
    # A setting that is newer than the record has the value that it was trained with as default.
    assert config_class() == config_class(**shipped_records()[name]["config"])


@pytest.mark.parametrize("name", shipped_records())
def test_a_shipped_arm_went_on_from_the_weights_that_ship_beside_it(name):
    record, parent = shipped_records()[name], registry.get(name).starts_from
    if parent:
        assert parent in record["starts_from"]
    for other in set(record.get("starts_from", {})) & set(registry.defences()):
        assert record["starts_from"][other] == weights_hash(ASSETS / "adapters" / other)


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
        ("poseguard", {"learning_rate": float("nan")}, "learning_rate is nan"),
        ("poseguard", {"safety_weight": float("inf")}, "safety_weight is inf"),
        ("poseguard", {"real_weight": float("nan")}, "real_weight is nan"),
    ],
)
def test_settings_that_cannot_train_the_defence_are_refused(name, change, told):
    config_class = registry.get(name).config_cls
    with pytest.raises(ValueError, match=told):
        config_class(**({"batch_size": 16} | change))


def test_two_forms_of_a_guard_are_not_put_together():
    assert registry.rivals("poseguard", ["poseguard_hardened", "gift"]) == ["poseguard_hardened"]
    assert registry.rivals("poseguard_hardened", ["poseguard"]) == ["poseguard"]
    assert registry.rivals("sdd", ["aligned"]) == []  # a chat model has one adapter at a time
    registry.check_together(["poseguard"])
    with pytest.raises(ValueError, match="PoseGuard and PoseGuard, hardened are two forms"):
        registry.check_together(["poseguard", "poseguard_hardened"])
