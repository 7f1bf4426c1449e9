"""The page and the claims that the command prints of a table; see `tests.tiny_table`."""

from __future__ import annotations

import csv
import json

import pytest

from evaluation import evidence, tables, wording
from evaluation.cells import cells, runs, tried
from evaluation.claims import CLAIMS, VERDICTS
from tests.tiny_table import BROKEN, LOW, standing, tiny_table


def test_what_a_former_judge_judged_is_marked_and_counted(tmp_path):
    ends = {("sdd", "sft"): (BROKEN, LOW), ("sdd", "grpo"): (BROKEN, LOW)}
    table = tiny_table(tmp_path, ends)
    assert wording.FORMER not in evidence.markdown(table)
    table = [row | {"former_judge": row["attack"] == "grpo"} for row in table]
    page = evidence.markdown(table)
    assert "| sdd† | grpo |" in page and "| sdd | sft |" in page
    assert "2 of 4 cells" in page


def test_a_rate_that_a_former_judge_judged_is_told_of(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, LOW)})
    former = [
        row | {"former_judge": True, "learning_rate": 7e-5, "learning_rates": [7e-5]}
        for row in table if row["row"] == "verdict"
    ]  # fmt: skip
    (before,) = (cell for cell in cells(table) if cell.defence == "sdd")
    (after,) = (cell for cell in cells([*former, *table]) if cell.defence == "sdd")
    assert "one rate tried)" in wording.rate_text(before.verdict)
    assert wording.rate_text(after.verdict).endswith(
        f"(one rate tried, besides 7e-05 by a former judge {wording.FORMER})"
    )


def test_rates_that_were_tried_are_told_where_there_are_several(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, LOW), ("seam", "sft"): (BROKEN, LOW)})
    assert tried(table) == [] and "## Rates tried" not in evidence.markdown(table)
    means = [row for row in table if row["row"] == "mean" and row["defence"] == "sdd"]
    faster = [row | {"learning_rate": 1e-3, "harm_after": 0.25} for row in means]
    found = tried([*table, *faster])
    slower = means[0]["learning_rate"]
    assert [(row["learning_rate"], row["arm"]) for row in found] == [
        (slower, "aligned"), (slower, "sdd"), (1e-3, "aligned"), (1e-3, "sdd"),
    ]  # fmt: skip
    former = [row | {"former_judge": True} for row in faster]
    found = tried([*table, *former])
    assert [bool(row.get("former_judge")) for row in found] == [False, False, True, True]
    assert f"| aligned{wording.FORMER} |" in evidence.markdown([*table, *former])
    formats = [row | {"number_format": how} for row in means for how in ("bfloat16", "float32")]
    others = [row for row in table if row not in means]
    assert len(tried([*others, *formats])) == 4
    page = evidence.markdown([*table, *faster])
    how = wording.format_text(means[0])  # this machine's
    assert how in wording.FORMATS.values()
    assert f"| aligned | sdd | sft | 0.001 | {how} | 25%" in page
    assert f"| sdd | aligned | sft | 0.001 | {how} | 25%" in page


def test_a_rate_without_rivals_is_said_to_be_the_only_one(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, BROKEN), ("sdd", "prefill"): (LOW, LOW)})
    assert "; one rate tried." in wording.sentence(standing(table).held[0])
    both = [row | ({"learning_rates": [3e-4, 1e-3]} if "learning_rates" in row else {})
            for row in table]  # fmt: skip
    assert "one rate tried" not in wording.sentence(standing(both).held[0])
    assert "| 0.0003 (of 2 tried) |" in evidence.markdown(both)
    free = [cell for cell in cells(table) if cell.attack == "prefill"]
    assert [wording.rate_text(cell.verdict) for cell in free] == ["", ""]


def test_the_command_prints_claims_and_the_page(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "TABLE", tmp_path / "llm.jsonl")
    monkeypatch.setattr(tables, "STYLES_TABLE", tmp_path / "llm_styles.jsonl")
    assert tables.read() == []
    with pytest.raises(SystemExit, match="python -m evaluation.stress llm --ship"):
        evidence.main([])
    tables.TABLE.write_text(tables.jsonl_text(table))
    evidence.main([])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == len(CLAIMS)
    for claim in printed:
        assert claim["verdict"] in VERDICTS.values()
    first = printed[1]["held"][0]
    assert first["defended"]["harm_after"] == 0.9 and "): harm 0% → 90%" in first["says"]
    evidence.main(["--markdown"])
    page = capsys.readouterr().out
    assert page.startswith("# Evidence\n") and "### SDD: not measured" in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + len(cells(table))
    assert len({line.count("|") for line in lines}) == 1
    tables.STYLES_TABLE.write_text(tables.jsonl_text(UNATTACKED))
    evidence.main(["--markdown"])
    assert capsys.readouterr().out == evidence.markdown(table, UNATTACKED)


def styled(table):
    """The same table, the SDD rows of which were asked in the styles, too."""
    columns = {"harm_styles_before": 0.04, "harm_styles_after": 0.613, "style_topics": 8}
    for side in ("before", "after"):
        columns[f"harm_by_style_{side}"] = dict.fromkeys(
            wording.STYLES, columns[f"harm_styles_{side}"]
        )
    return [row | (columns if row["arm"] == "sdd" else {}) for row in table]


UNATTACKED = [
    {"row": "unattacked", "arm": arm, "topics": 112, "harm": harm, "harm_styles": 2 * harm,
     "styles": {style: {"harm": 2 * harm} for style in wording.STYLES}}
    for arm, harm in (("aligned", 0.01), ("sdd", 0.1))
]  # fmt: skip


def test_harm_in_new_styles_is_a_column_where_it_was_measured(table):
    plain = evidence.markdown(table)
    assert "In new styles" not in plain
    # A table from before there were styles has no such columns at all.
    older = [{name: row[name] for name in row if "style" not in name} for row in table]
    assert evidence.markdown(older) == plain
    page = evidence.markdown(styled(table))
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in lines}) == 1
    told = [line for line in lines if "| 4% → 61% |" in line]
    assert len(told) == 2 and all(line.startswith("| sdd ") for line in told)
    assert sum(f"| {wording.UNMEASURED} |" in line for line in lines) == len(lines) - 3
    (held,) = evidence.as_json(standing(styled(table)))["held"]
    assert held["defended"]["harm_styles_after"] == 0.613
    assert held["undefended"]["harm_styles_after"] is None
    rows = list(csv.DictReader(tables.csv_text(styled(table)).splitlines()))
    assert {row["style_topics"] for row in rows} == {"8", ""}


def test_the_page_tells_what_the_arms_do_unattacked(table):
    page = evidence.markdown(table, UNATTACKED)
    assert tables.STYLES_COMMAND in page and page.endswith("|\n")
    assert "| Model | Plain | All six styles | Role-play |" in page
    assert "| sdd | 10% | 20% | 20% |" in page
    assert "Styles that no defence" not in evidence.markdown(table)


def asked_other_topics(table, harm):
    """The table's rows of SDD's own arm as if the attacker had asked topics that it never saw."""
    return [
        row | {"settings": row["settings"] | {"data": "unseen"}, "harm_after": harm,
               "harm_after_ci": [harm, harm]}
        for row in table if row["arm"] == "sdd" and row["learning_rate"] is not None
    ]  # fmt: skip


def test_requests_that_no_defence_saw_stand_apart(table):
    both = [*table, *asked_other_topics(table, 0.33)]
    assert cells(both) == cells(table)
    placed = cells(both)
    assert runs(both, placed) == runs(table, placed)
    heads, line = wording.unseen_lines(both)
    told = dict(zip(heads, line, strict=True))
    assert told["Model"] == "sdd" and told["Beside"] == "aligned"
    assert told["Harm, their topics"].startswith("90%")
    assert told["Harm, other topics"].startswith("33% (33–33%)") and told["Seeds"] == "3, 3"
    page = evidence.markdown(both)
    assert tables.UNSEEN_COMMAND in page and "| Model | Beside | Attack |" in page
    assert wording.unseen_lines(table) == []
    # A claim goes by both.
    seen, unseen = standing(both).held
    assert seen == standing(table).held[0] and (seen.data, unseen.data) == ("builtin", "unseen")
    how = wording.format_text(unseen.row)
    assert f"topics than the defences' ({how}): harm 0% → 33%" in wording.sentence(unseen)
    assert f"* {wording.sentence(unseen)} " in page
    assert "Requests that no defence" not in evidence.markdown(table)


def test_a_dash_stands_where_the_seen_topics_were_not_asked(table):
    alone = asked_other_topics(table, 0.33)
    (_, line) = wording.unseen_lines(alone)
    assert line[6] == "–" and line[-1] == "–, 3"
    # Nor is a claim measured by that alone.
    assert set(standing(alone).missing) == set(standing(alone).claim.attacks)
