"""The commands on a chat model that the command line names: a folder of a real Llama, tiny."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
import torch

import app
from adapters import registry, text, train
from evaluation import ability, chat, stress
from evaluation.runs import weights_hash
from pipelines.fetch import with_llm
from pipelines.paths import ASSETS
from pipelines.profiles import get_profile
from tests.tiny_llm import tiny_model, tiny_tokenizer
from ui.engines import Engines


@pytest.fixture(scope="module")
def few_prompts(tmp_path_factory):
    """One in 37 of the shipped prompts and replies, for trainings that take a second."""
    folder = tmp_path_factory.mktemp("prompts")
    for name in ("redteam", "benign", "borderline", "benign_replies", "refusals"):
        lines = (text.PROMPTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(True)
        (folder / f"{name}.jsonl").write_text("".join(lines[::37]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def llm(tmp_path_factory, few_prompts):
    """The folder, and where the runs go; `aligned` and `sdd` have been trained on it."""
    folder = tmp_path_factory.mktemp("any")
    tiny_model(7).save_pretrained(folder / "llama")
    tiny_tokenizer().save_pretrained(folder / "llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_RUNS", str(folder / "runs"))
        for module in ("pipelines.device", "adapters.loop", "pipelines.llm"):
            patch.setattr(f"{module}.compute_dtype", lambda on=None: torch.float32)
        patch.setattr("adapters.figures.MAX_NEW_TOKENS", 4)
        # The tiny tokenizer spells bytes: a pair of 68 tokens would be all prompt.
        patch.setattr("adapters.text.TEMPLATE_TOKENS", -100)
        with patch.context() as training, contextlib.redirect_stdout(io.StringIO()):
            training.setattr(text, "PROMPTS", few_prompts)
            for name in ("aligned", "sdd"):
                # A rate at which one step changes what is said.
                train.main([name, "--llm", str(folder / "llama"), "--steps", "1",
                            "--batch-size", "6", "--learning-rate", "0.1"])  # fmt: skip
        yield folder / "llama", folder / "runs"


def said(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_its_adapters_are_its_own(llm):
    (root,) = (llm[1] / "adapters").iterdir()
    assert root.name.startswith("llama-")
    assert sorted(path.name for path in root.iterdir()) == ["aligned", "sdd"]
    record = json.loads((root / "sdd" / "training.json").read_text(encoding="utf-8"))
    assert record["llm_sha256"] == weights_hash(llm[0]) and record["profile"] == root.name
    assert record["command"].startswith("python -m adapters.train sdd --llm llama --steps 1 ")
    assert record["starts_from"] == {"aligned": weights_hash(root / "aligned")}
    assert str(llm[0].parent) not in json.dumps(record)


def test_out_is_a_folder_outside_the_assets(llm, few_prompts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(text, "PROMPTS", few_prompts)
    command = ["aligned", "--llm", str(llm[0]), "--steps", "1", "--batch-size", "6"]
    with pytest.raises(SystemExit, match="out is .*, but what is in assets was trained on a"):
        train.main([*command, "--out", str(ASSETS / "adapters" / "aligned")])
    train.main([*command, "--out", str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "adapter_model.safetensors").is_file()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps_done"] == 1


def test_its_arms_answer(llm, tmp_path, capsys):
    file = tmp_path / "prompts.txt"
    file.write_text("Hello", encoding="utf-8")
    rows = {}
    for arm in ("base", "sdd"):
        chat.main(["--arm", arm, "--llm", str(llm[0]), "--prompts", str(file),
                   "--max-new-tokens", "8"])  # fmt: skip
        (rows[arm],) = said(capsys)
    assert rows["base"]["reply"] != rows["sdd"]["reply"]


def test_its_ability_is_measured_on_all_its_arms(llm, capsys):
    ability.main(["-n", "24", "--llm", str(llm[0])])
    assert [row["arm"] for row in said(capsys)] == ["base", "aligned", "sdd"]


def test_its_arms_are_attacked(llm, capsys):
    command = ["llm", "--quick", "--attacks", "prefill", "--llm", str(llm[0])]
    stress.main(command)
    rows = [row for row in said(capsys) if row["row"] == "run"]
    (root,) = (llm[1] / "adapters").iterdir()
    assert [row["arm"] for row in rows] == ["aligned", "sdd"]
    assert {row["profile"] for row in rows} == {root.name}
    with pytest.raises(SystemExit, match="llm is .*, and only a profile's own model ships"):
        stress.main([*command[:1], "--ship", "--llm", str(llm[0])])


def test_what_is_missing_is_told_with_the_command_that_makes_it(llm):
    with pytest.raises(SystemExit, match="python -m adapters.train seam --llm .*llama"):
        stress.main(["llm", "--defences", "seam", "--llm", str(llm[0])])


def test_the_app_chats_with_it_and_draws_with_the_profile_s_own(llm):
    profile = with_llm(get_profile("embedded"), str(llm[0]))
    engines = Engines(profile, set_up=False)
    engines._chat.load()
    assert {"base", "aligned", "sdd"} <= set(engines.chat.arms)
    assert engines.missing_adapter("sdd") == "" and "tokenbuncher" not in engines.chat.arms
    words = engines.missing_adapter("seam")  # without the server's folders
    assert "python -m adapters.train seam --llm llama, then restart" in words
    assert not engines.missing_adapter("poseguard") and engines.draws_pictures
    assert registry.adapter_folder("sdd", profile).is_relative_to(llm[1])
    assert registry.adapter_folder("gift", profile) == registry.adapter_folder("gift")
    with pytest.raises(ValueError, match="for the profile 'hub'"):
        registry.get("gift").check_profile(with_llm(get_profile("hub"), str(llm[0])))


def test_the_app_says_what_is_wrong_with_the_name_of_a_model(capsys):
    with pytest.raises(SystemExit):
        app.main(["--llm", "no/such/model"])
    assert "llm is 'no/such/model': no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "command"),
    [
        (train.main, ["aligned"]),
        (chat.main, ["--arm", "base", "--prompts", "none.txt"]),
        (stress.main, ["llm"]),
        (stress.main, ["llm", "--unattacked"]),
        (ability.main, []),
    ],
)
def test_every_command_names_a_model_that_is_not_there(main, command):
    with pytest.raises(SystemExit, match="llm is 'no/such/model': no such folder"):
        main([*command, "--llm", "no/such/model"])


def test_the_guard_of_the_pictures_has_no_such_option(capsys):
    with pytest.raises(SystemExit):
        train.main(["poseguard", "--llm", "x"])
    assert "unrecognized arguments: --llm x" in capsys.readouterr().err
