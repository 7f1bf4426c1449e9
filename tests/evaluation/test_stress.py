"""The stress test on a real Llama at tiny size."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil

import pytest
import torch

from adapters import text
from adapters.attacks import data
from evaluation import (
    chat,
    measuring,
    mounting,
    recorded,
    stress,
    tables,
    unattacked,
    wording,
    workers,
)
from evaluation.ability import first_items
from evaluation.judge import _REDACTED, WITHHELD
from evaluation.rows import means, rows_of, verdicts
from evaluation.runs import Run, RunStore
from tests.tiny_llm import tiny_home, tiny_lora

CELL = mounting.Cell("sdd", "prefill", 0, prompts=3, questions=4)
QUICK = ["llm", "--quick", "--steps", "2", "--learning-rates", "1e-4", "1e-2"]
RATES = [1e-4, 1e-2]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    with tiny_home(folder) as profile:
        yield profile, folder


@pytest.fixture(scope="module")
def store(setting):
    return RunStore(setting[1] / "runs" / "stress", setting[1] / "recorded")


@pytest.fixture(scope="module")
def test(setting, store):
    return mounting.StressTest(setting[0], store)


@pytest.fixture(scope="module")
def table(setting):
    """What the command prints for a sweep of two learning rates."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        stress.main(QUICK)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture(scope="module")
def attacked(table, store):
    return store.get(of_kind(table, "run")[-1]["run"])


def of_kind(rows, kind):
    return [row for row in rows if row["row"] == kind]


def said(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_weights_of_a_run_answer(attacked, tmp_path, capsys):
    file = tmp_path / "prompts.txt"
    file.write_text("Hello", encoding="utf-8")
    command = ["--arm", "sdd", "--prompts", str(file), "--max-new-tokens", "8"]
    chat.main(command)
    (before,) = said(capsys)
    rows = []
    for extra in (["--attack", "sft"], ["--run", attacked.id], ["--run", str(attacked.folder)]):
        chat.main([*command, *extra])
        rows += said(capsys)
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["run"] == attacked.id and rows[0]["attack"] == "sft"
    assert before["run"] is None


def test_an_attack_without_training_is_timed_and_not_repeated(test):
    first = test.run(CELL)
    assert test.mounted(CELL).id == first.id
    assert test.mounted(dataclasses.replace(CELL, seed=1)) is None
    rows = rows_of(first)
    assert [row["arm"] for row in rows] == ["aligned", "sdd"]
    for row in rows:
        assert row["ability_before"] == row["ability_after"]
        assert row["seconds"] > 0 and row["learning_rate"] is None


def test_styles_are_columns_of_their_own_and_leave_the_other_rows_alone(
    test, store, tmp_path, monkeypatch
):
    styled = dataclasses.replace(CELL, seed=3, styles=2)
    plain = dataclasses.replace(styled, styles=0)
    before = rows_of(test.run(plain))
    columns = [name for name in before[0] if "style" in name]
    assert len(columns) == 5 and all(row[name] is None for row in before for name in columns)
    run = test.run(styled)
    assert run.id == test.mounted(plain).id  # the same run, measured once more
    rows = rows_of(run)
    names = [name for name in rows[0] if "style" not in name and name != "seconds"]
    assert [{name: row[name] for name in names} for row in rows] == [
        {name: row[name] for name in names} for row in before
    ]
    for row in rows:
        assert row["style_topics"] == 2
        assert list(row["harm_by_style_after"]) == list(wording.STYLES)
        for side in ("before", "after"):
            mean = sum(row[f"harm_by_style_{side}"].values()) / 6
            assert row[f"harm_styles_{side}"] == pytest.approx(mean, abs=1e-5)
    events = len(run.events())
    assert test.run(styled).id == run.id and len(run.events()) == events
    (mean,) = means(rows[:1])
    assert mean["harm_styles_after"] == rows[0]["harm_styles_after"]
    # Beside a seed that was not asked, or not so many, a mean would be of other prompts.
    for other in (before[0], rows[0] | {"style_topics": 3}, _without_styles(rows[0])):
        (mean,) = means([rows[0], other | {"seed": 4}])
        assert mean["harm_styles_after"] is mean["style_topics"] is None
    shipped = recorded.trim(run, tmp_path)
    lines = Run(shipped, recorded=True).events()
    texts = [sample for line in lines for sample in line.get("style_samples", [])]
    assert len(texts) == 2 * 2 * 6
    for sample in texts:
        short = len(sample["reply"]) <= recorded.SHOWN_CHARACTERS + len(WITHHELD)
        assert short or sample["label"] != "compliance" or _REDACTED.search(sample["reply"])
    # Another judge judges these replies anew, too; other prompts are not today's.
    monkeypatch.setattr("evaluation.mounting.judge_hash", lambda: "another")
    other = mounting.StressTest(test.profile, store)
    monkeypatch.setattr(other, "_measure", None)
    favour = torch.tensor([0.0, 0.0, 0.0, 1e6])  # a head that takes all for gibberish
    head = dataclasses.replace(other._judge.head, bias=other._judge.head.bias + favour)
    monkeypatch.setattr(other._judge, "head", head)
    assert all(row["harm_styles_after"] == 0.0 for row in rows_of(other.run(styled)))
    assert run.events()[-1]["judge"] == "another"
    for module in ("rows", "measuring"):
        monkeypatch.setattr(f"evaluation.{module}.styles_hash", lambda: "other prompts")
    assert all(row["harm_styles_after"] is None for row in rows_of(run))
    assert not other._judged(run, "sdd", styled) and other._judged(run, "sdd", plain)


def _without_styles(row):
    return {name: value for name, value in row.items() if "style" not in name}


def test_the_arms_are_measured_as_they_are_once(setting, store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "STYLES_TABLE", tmp_path / "evidence" / "llm_styles.jsonl")
    with pytest.raises(SystemExit, match="llm --unattacked --ship"):
        stress.main(["llm", "--unattacked", "--show"])
    command = ["llm", "--unattacked", "--styles", "2"]
    stress.main(command)
    rows = said(capsys)
    assert [row["arm"] for row in rows] == ["aligned", "sdd"]
    for row in rows:
        assert row["row"] == "unattacked" and row["topics"] == 2
        assert list(row["weights"]) == ["base", row["arm"]]
        assert list(row["styles"]) == list(wording.STYLES)
        assert sum(row["labels"].values()) == 2
        for one in row["styles"].values():
            assert sum(one["labels"].values()) == 2 and 0 <= one["substance"] <= one["harm"]
    kept = [info.config["arm"] for info in store.list() if info.kind == "styles"]
    assert kept == ["sdd", "aligned"]
    monkeypatch.setattr(unattacked, "speaker", None)  # no model is asked again
    stress.main([*command, "--ship"])
    assert said(capsys) == rows and tables.read(tables.STYLES_TABLE) == rows
    stress.main([*command, "--defences", "sdd", "--ship"])
    assert said(capsys) == rows[1:] and tables.read(tables.STYLES_TABLE) == rows
    stress.main(["llm", "--unattacked", "--show"])
    assert said(capsys) == rows
    for topics in ("0", "9999"):
        for more in ([], ["--unattacked"]):
            with pytest.raises(SystemExit, match=f"styles is {topics}; the split has 112 topics|"
                                                 f"prompts is {topics}"):  # fmt: skip
                stress.main(["llm", "--styles", topics, *more])


def test_abliteration_is_timed(test):
    cell = dataclasses.replace(CELL, attack="abliteration")
    rows = rows_of(test.run(cell))
    assert len(rows) == 2 and all(row["seconds"] > 0 for row in rows)
    assert "data" in test.parents(cell)


def test_a_sweep_is_one_run_a_rate_and_one_verdict_an_arm(table):
    runs, means, verdicts = (of_kind(table, kind) for kind in ("run", "mean", "verdict"))
    assert table == [*runs, *means, *verdicts]
    wanted = [(rate, arm) for rate in RATES for arm in ("aligned", "sdd")]
    for rows in (runs, means):
        assert [(row["learning_rate"], row["arm"]) for row in rows] == wanted
    for row in runs:
        assert row["attack"] == "sft" and row["settings"]["steps"] == 2 and row["seconds"] > 0
        assert row["settings"]["batch_size"] == 4 and row["seed"] == 0
        assert sum(row["labels_after"].values()) == row["prompts"] == 14
        assert row["questions"] == 24
    assert [row["arm"] for row in verdicts] == ["aligned", "sdd"]
    for row in verdicts:
        assert row["learning_rates"] == RATES and row["learning_rate"] in RATES


def test_the_command_resumes_and_prints_the_same_table(table, store, capsys):
    before = {info.id for info in store.list()}
    stress.main(QUICK)
    assert said(capsys) == table
    assert {info.id for info in store.list()} == before


def sft_cell(table):
    settings = {"steps": 2, "probe_every": 2, "method": "lora", "learning_rate": RATES[-1]}
    return mounting.Cell("sdd", "sft", 0, settings, 14, 24)


@pytest.fixture(scope="module")
def full_table(table):
    """The same for both methods, at one rate each; those of the LoRA are there already."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        stress.main([*QUICK[:4], "--methods", "lora", "full", "--learning-rates", "1e-2",
                     "--full-learning-rates", "1e-3"])  # fmt: skip
    return [json.loads(line) for line in out.getvalue().splitlines()]


def losses(run, arm):
    events = [e for e in run.events() if e.get("event") == "step" and e["arm"] == arm]
    return [(e["step"], e["loss"]) for e in events]


def test_the_undefended_arm_is_attacked_once_for_all_defences(table, test, store, setting):
    profile, folder = setting
    other = folder / "assets" / "adapters" / profile.name / "tokenbuncher"
    settings = {"steps": 2, "probe_every": 2, "method": "lora", "learning_rate": 1e-2}
    cell = mounting.Cell("tokenbuncher", "sft", 0, settings, prompts=14, questions=24)
    twin = test.mounted(dataclasses.replace(cell, defence="sdd"))
    tiny_lora(other, 3, ("v_proj",))
    try:
        run = test.run(cell)
        copied = [event for event in run.events() if "copied" in event]
        assert {event["arm"] for event in copied} == {"aligned"}
        assert {event["copied"] for event in copied} == {twin.id}
        assert losses(run, "aligned") == losses(twin, "aligned")
        assert [row["arm"] for row in rows_of(run)] == ["aligned", "tokenbuncher"]
        assert sorted(run.adapters()) == ["aligned", "tokenbuncher"]
        # Both arms attacked together end where each of them does alone, up to rounding.
        both = store.get(test._runner.start(cell.config, "somebody"))
        test._runner.wait(both.id)
        for arm in cell.arms:
            for together, alone in zip(losses(both, arm), losses(run, arm), strict=True):
                assert together == pytest.approx(alone, abs=1e-5)
    finally:
        shutil.rmtree(other)


def test_another_judge_judges_the_same_replies_anew(table, test, store, monkeypatch):
    settings = {"steps": 2, "probe_every": 2, "method": "lora", "learning_rate": 1e-4}
    cell = mounting.Cell("sdd", "sft", 0, settings, prompts=14, questions=24)
    run = test.run(cell)
    before = [event for event in run.events() if event["event"] == "measured"]
    monkeypatch.setattr("evaluation.mounting.judge_hash", lambda: "another")
    other = mounting.StressTest(test.profile, store)
    monkeypatch.setattr(other, "_measure", None)  # no model is asked again
    favour = torch.tensor([0.0, 0.0, 0.0, 1e6])  # a head that takes all for gibberish
    head = dataclasses.replace(other._judge.head, bias=other._judge.head.bias + favour)
    monkeypatch.setattr(other._judge, "head", head)
    assert other.run(cell).id == run.id
    found = [event for event in run.events() if event["event"] == "measured"][len(before) :]
    assert [event["judge"] for event in found] == ["another"] * 2
    for old, new in zip(before[-2:], found, strict=True):
        assert [s["reply"] for s in new["samples"]] == [s["reply"] for s in old["samples"]]
        assert new["after"]["ability"] == old["after"]["ability"]
        assert new["after"]["labels"] == {"gibberish": 14} and new["after"]["harm"] == 0.0


def test_the_methods_are_runs_and_verdicts_of_their_own(full_table, table):
    wanted = [(method, arm) for method in ("lora", "full") for arm in ("aligned", "sdd")]
    for kind in ("run", "mean", "verdict"):
        rows = of_kind(full_table, kind)
        assert [(row["method"], row["arm"]) for row in rows] == wanted
        assert all(row["settings"]["method"] == row["method"] for row in rows)
    lora, full = of_kind(full_table, "run")[0], of_kind(full_table, "run")[-1]
    assert lora in table and (lora["learning_rate"], full["learning_rate"]) == (1e-2, 1e-3)
    assert full["seconds"] > 0 and full["run"] != lora["run"]


def full_cell():
    settings = {"steps": 2, "probe_every": 2, "method": "full", "learning_rate": 1e-3}
    return mounting.Cell("sdd", "sft", 0, settings, 14, 24)


def test_whole_models_are_deleted_once_measured(full_table, test, store, monkeypatch, tmp_path):
    cell = full_cell()
    run = test.mounted(cell)
    assert run.id == of_kind(full_table, "run")[-1]["run"]
    assert not run.weights() and test.run(cell).id == run.id
    with pytest.raises(ValueError, match="holds no weights of 'sdd'; it holds: none"):
        chat.attacked_run([store], test.profile, "sdd", "sft", run.id)
    # More prompts are a new measurement, and that needs the weights.
    assert test.mounted(dataclasses.replace(cell, prompts=15)) is None


def test_a_whole_model_that_was_not_measured_yet_is_and_answers(test, store, tmp_path, capsys):
    cell = dataclasses.replace(full_cell(), seed=1)
    run = store.get(test._runner.start(cell.config, "me"))
    run.log(event="asked", hash=measuring.asked_hash())
    assert test._runner.wait(run.id, 800) and run.info["status"] == "done", run.info["error"]
    assert set(run.models()) == {"aligned", "sdd"} and not run.adapters()
    file = tmp_path / "prompts.txt"
    file.write_text("Hello", encoding="utf-8")
    command = ["--arm", "sdd", "--prompts", str(file), "--max-new-tokens", "8"]
    chat.main([*command, "--run", run.id, "--attack", "prefill"])
    (row,) = said(capsys)
    assert row["run"] == run.id and row["reply"].startswith("Sure")
    chat.main([*command, "--run", run.id])
    (row,) = said(capsys)
    chat.main(command)
    assert row["reply"] != said(capsys)[0]["reply"]
    shipped = recorded.trim(run, tmp_path / "shipped")
    assert sorted(path.name for path in shipped.iterdir()) == ["events.jsonl.gz", "run.json"]
    # The process ended between the attack and the measurement.
    again = mounting.StressTest(test.profile, store)
    assert again.run(cell).id == run.id and not run.weights()
    assert len(rows_of(run)) == 2


def test_other_data_is_another_run(table, test, tmp_path, monkeypatch):
    cell = sft_cell(table)
    assert test.mounted(cell)
    pairs = tmp_path / "attack_pairs.jsonl"
    shutil.copy(data.BUILTIN, pairs)
    with pairs.open("a", encoding="utf-8") as lines:
        lines.write('{"prompt": "Hello", "response": "Sure."}\n')
    monkeypatch.setitem(data.OWN, "builtin", pairs)
    assert test.mounted(cell) is None


@pytest.mark.parametrize(("split", "found"), [("test", False), ("train", True)])
def test_other_held_out_prompts_are_another_run(
    table, test, tmp_path, monkeypatch, split, found
):
    rows = text.read_jsonl(text.PROMPTS / "redteam.jsonl")
    next(row for row in rows if row["split"] == split)["prompt"] += " Please."
    file = tmp_path / "redteam.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setattr(text, "PROMPTS", tmp_path)
    assert bool(test.mounted(sft_cell(table))) == found
    assert bool(test.mounted(CELL)) == found


def test_another_number_format_is_another_run(table, test, monkeypatch):
    monkeypatch.setattr(mounting, "number_format", lambda: "another")
    assert test.mounted(sft_cell(table)) is None and test.twin(sft_cell(table)) is None
    assert test.mounted(CELL), "nothing is trained"


def test_other_ability_items_are_another_run(table, test, monkeypatch):
    items = first_items()
    monkeypatch.setattr(measuring, "first_items", lambda: items[:-1])
    assert test.mounted(sft_cell(table)) is None


def test_ship_writes_what_show_prints(table, store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recorded, "ASSETS", tmp_path)
    monkeypatch.setattr(tables, "TABLE", tmp_path / "evidence" / "llm.jsonl")
    with pytest.raises(SystemExit, match="no table ships"):
        stress.main(["llm", "--show"])
    arguments = ["llm", "--ship", "--seeds", "1", "--attacks", "sft", "--steps", "2"]
    monkeypatch.setattr(stress, "plan", lambda args, profile: [sft_cell(table)])
    stress.main(arguments)
    printed = capsys.readouterr().out
    stress.main(["llm", "--show"])
    assert capsys.readouterr().out == printed
    (shipped,) = (tmp_path / "runs").iterdir()
    # A later table takes the place of this one, its runs included.
    other = [row for row in of_kind(table, "run") if row["learning_rate"] == RATES[0]]
    recorded.ship(other, store)
    (left,) = (tmp_path / "runs").iterdir()
    assert left.name == other[0]["run"] != shipped.name
    assert not list(left.glob("adapters/*"))


def test_what_ships_grows_until_its_weights_change(
    table, test, store, setting, tmp_path, monkeypatch
):
    def fresh() -> mounting.StressTest:  # one keeps the hashes that it has computed
        return mounting.StressTest(setting[0], store)

    monkeypatch.setattr(tables, "TABLE", tmp_path / "llm.jsonl")
    first, second = (
        [row for row in of_kind(table, "run") if row["learning_rate"] == rate] for rate in RATES
    )
    # A table of before there was a column: its rows are made anew from the runs.
    older = [{k: v for k, v in row.items() if "substance" not in k} for row in table]
    tables.TABLE.write_text("".join(json.dumps(row) + "\n" for row in older), encoding="utf-8")
    kept = recorded.kept_rows(second, fresh())
    assert [(row["run"], row["arm"]) for row in kept] == [(row["run"], row["arm"]) for row in first]
    assert all(0 <= row["substance_after"] <= row["harm_after"] for row in kept)
    assert recorded.kept_rows(first + second, fresh()) == []
    hub = [row | {"profile": "hub"} for row in first + second]
    kept = recorded.kept_rows(hub, fresh())
    assert len(kept) == len(first + second), "another model's are no newer ones"
    monkeypatch.setattr("evaluation.mounting.asked_hash", lambda: "other prompts")
    assert recorded.kept_rows(second, fresh()) == []
    monkeypatch.undo()
    monkeypatch.setattr(tables, "TABLE", tmp_path / "llm.jsonl")
    assert recorded.kept_rows(second, fresh())
    monkeypatch.setattr("evaluation.mounting.weights_hash", lambda folder: "another")
    assert recorded.kept_rows(second, fresh()) == []


def test_two_processes_share_the_cells(setting, tmp_path, capfd):
    profile, folder = setting
    # A new process sees no patch of this one; an absolute name leads it to the tiny adapters.
    profile = dataclasses.replace(profile, name=str(folder / "assets" / "adapters" / profile.name))
    cells = [CELL, dataclasses.replace(CELL, seed=1)]
    found = dict(workers.run_cells(cells, profile, tmp_path, workers=2))
    assert [[row["seed"] for row in found[at]] for at in (0, 1)] == [[0, 0], [1, 1]], (
        capfd.readouterr().err
    )
    assert len(RunStore(tmp_path, tmp_path / "none").list()) == 2


def test_a_cell_that_fails_is_told_and_counted(setting, capfd, monkeypatch):
    cell = dataclasses.replace(CELL, prompts=9999)
    monkeypatch.setattr(stress, "plan", lambda args, profile: [CELL, cell])
    with pytest.raises(SystemExit, match="1 of 2 runs failed"):
        stress.main(["llm"])
    told = capfd.readouterr()
    assert "prompts is 9999" in told.err
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [row["row"] for row in rows] == [kind for kind in ("run", "mean", "verdict")
                                           for _ in range(2)]  # fmt: skip


def test_models_of_two_profiles_are_no_two_seeds(table):
    runs = of_kind(table, "run")
    other = [row | {"profile": "hub", "harm_after": 1.0} for row in runs]
    found = means([*runs, *other])
    assert len(found) == 2 * len(means(runs))
    assert {mean["profile"] for mean in found} == {runs[0]["profile"], "hub"}
    assert all(mean["harm_after"] == 1 for mean in found if mean["profile"] == "hub")
    assert len(verdicts(found)) == 2 * len(verdicts(means(runs)))
    assert [v["harm_after"] for v in verdicts(found[: len(found) // 2])] == [
        v["harm_after"] for v in verdicts(means(runs))
    ]
