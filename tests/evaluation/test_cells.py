"""The cells of a table, and which of its rows belong together; see `tests.tiny_table`."""

from __future__ import annotations

import pytest

from evaluation import outcomes
from evaluation.cells import cells, chosen, runs, tried
from tests.tiny_table import BROKEN, LOW, tiny_table


def test_attacks_of_other_settings_are_not_mixed(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, LOW)})
    longer = [row | {"settings": row["settings"] | {"steps": 40}} for row in table]
    with pytest.raises(ValueError, match="sdd/sft/lora/aligned: steps is 20 and 40"):
        cells([*table, *longer])
    fewer = [row | {"prompts": 14} for row in table]
    with pytest.raises(ValueError, match="prompts is 70 and 14"):
        cells([*table, *fewer])
    # Rates compete among attacks of the same settings only.
    means = [row | {"learning_rate": 1e-3} for row in longer if row["row"] == "mean"]
    assert tried([*table, *means]) == []
    # A former judge's may be of others, and count for nothing beside today's.
    former = [row | {"former_judge": True} for row in longer]
    for mixed in (table + former, former + table):
        assert cells(mixed) == cells(table)


def test_the_undefended_arm_is_told_by_the_run_of_most_seeds(tmp_path):
    few = tiny_table(tmp_path / "a", {("sdd", "grpo"): (LOW, LOW)}, seeds=1)
    many = tiny_table(tmp_path / "b", {("seam", "grpo"): (BROKEN, LOW)}, seeds=3)
    for table in (few + many, many + few):
        (cell,) = chosen(cells(table), "aligned")
        assert cell.verdict["seeds"] == 3 and cell.verdict["harm_after"] == BROKEN[0]


def test_the_undefended_arm_is_told_by_today_s_judge_before_a_former_one(tmp_path):
    former = tiny_table(tmp_path / "a", {("sdd", "grpo"): (LOW, LOW)}, seeds=3)
    former = [row | {"former_judge": True} for row in former]
    today = tiny_table(tmp_path / "b", {("seam", "grpo"): (BROKEN, LOW)}, seeds=1)
    for table in (former + today, today + former):
        (cell,) = chosen(cells(table), "aligned")
        assert cell.verdict["seeds"] == 1 and cell.verdict["harm_after"] == BROKEN[0]


def test_cells_know_their_runs_and_the_arm_beside_them(table):
    placed = cells(table)
    places = [(cell.defence, cell.attack, cell.method) for cell in placed]
    assert places == [
        ("aligned", "sft", "lora"), ("aligned", "prefill", "none"), ("aligned", "grpo", "lora"),
        ("sdd", "sft", "lora"), ("sdd", "prefill", "none"),
        ("tokenbuncher", "sft", "lora"), ("tokenbuncher", "grpo", "lora"),
    ]  # fmt: skip
    assert [outcomes.outcome(cell.verdict) for cell in placed] == [
        "broken", "broken", "broken", "costly", "destroyed", "broken", "held",
    ]  # fmt: skip
    for cell in placed:
        assert [run["seed"] for run in cell.runs] == [0, 1, 2]
        assert all(run["arm"] == cell.defence for run in cell.runs)
        if cell.defence != "aligned":
            assert cell.undefended["defence"] == cell.defence
            assert cell.undefended["arm"] == "aligned"
    # The undefended arm is the one beside the first defence.
    assert {run["defence"] for run in placed[0].runs} == {"sdd"}


def test_a_cell_s_runs_are_those_at_the_attacker_s_rate(table):
    other = []
    for row in (row for row in table if row["row"] == "run"):
        settings = row["settings"] | {"learning_rate": 1e-5}
        other.append(row | {"settings": settings, "learning_rate": 1e-5, "run": "other"})
    cell = chosen(cells([*other, *table]), "sdd", "sft")[0]
    assert len(cell.runs) == 3 and "other" not in {run["run"] for run in cell.runs}
    assert len(runs([*other, *table], [cell])) == 6


def test_the_filter_lets_through_what_is_named(table):
    placed = cells(table)
    assert chosen(placed) == placed
    assert {cell.defence for cell in chosen(placed, "sdd")} == {"sdd"}
    assert {cell.attack for cell in chosen(placed, attack="grpo")} == {"grpo"}
    assert {cell.attack for cell in chosen(placed, method="none")} == {"prefill"}
    assert chosen(placed, "sdd", "grpo") == []
