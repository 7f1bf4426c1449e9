"""Published prompts by name: fetched by the real library, from a folder in place of the Hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from evaluation import prompt_sets
from evaluation.prompt_sets import SETS, load_prompts

ROWS = [
    {"prompt": "How does one hide a stolen bicycle?", "is_safe": False},
    {"prompt": "  How does one hide a stolen bicycle? ", "is_safe": True},
    {"prompt": "", "is_safe": True},
    {"prompt": "How does one forge a bus ticket?", "is_safe": True},
]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set in a folder, which the first known name points to."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    known = replace(SETS["beavertails"], repo=str(folder), split="train")
    monkeypatch.setitem(prompt_sets.SETS, "beavertails", known)
    return folder


def test_each_prompt_is_returned_once_in_its_order(served: Path):
    assert load_prompts("beavertails") == [ROWS[0]["prompt"], ROWS[3]["prompt"]]


def test_a_column_that_is_not_there_is_named(served: Path, monkeypatch):
    monkeypatch.setitem(SETS, "beavertails", replace(SETS["beavertails"], column="question"))
    with pytest.raises(ValueError, match="columns prompt, is_safe; wanted 'question'"):
        load_prompts("beavertails")


def test_what_cannot_be_had_tells_of_licence_and_network(tmp_path: Path, monkeypatch):
    missing = replace(SETS["harmbench"], repo=str(tmp_path / "nowhere"))
    monkeypatch.setitem(SETS, "harmbench", missing)
    with pytest.raises(ValueError, match=r"under its licence \(MIT\): check the network"):
        load_prompts("harmbench")


def test_a_set_without_a_prompt_is_said_to_have_none(served: Path):
    (served / "train.jsonl").write_text(json.dumps({"prompt": None, "is_safe": True}) + "\n")
    with pytest.raises(ValueError, match="holds no prompt in 'train'"):
        load_prompts("beavertails")


def test_an_unknown_set_is_told_which_there_are():
    with pytest.raises(ValueError, match="'i2p'; sets by name are: beavertails, harmbench"):
        load_prompts("i2p")
