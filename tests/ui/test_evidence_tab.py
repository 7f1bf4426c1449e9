"""The Evidence tab's tables and charts. No server."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from evaluation.cells import cells
from evaluation.claims import claims
from evaluation.wording import SHARED, STYLES, format_text, rules
from tests.tiny_table import tiny_table
from ui import evidence as shown
from ui.charts import Mark, scatter, shape_legend

BROKEN, HELD = (0.8, 0.8), (0.0, 0.8)
NASTY = "<img src=x onerror=alert(1)>"


def test_the_table_s_cells_open_their_runs(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, (0.8, 0.4)),
                                  ("sdd", "prefill"): (BROKEN, HELD)}, seeds=2)  # fmt: skip
    found = cells(table)
    runs = [row for row in table if row["row"] == "run"]
    for drawn in (shown.matrix_html(found), shown.runs_html(runs)):
        ElementTree.fromstring(drawn)
        picked = re.findall(r'<button type="button" data-pick="([^"]+)"', drawn)
        assert sorted(picked) == sorted(row["run"] for row in runs)
        for words in ("Ability destroyed", "Held", "Broken", "0% → "):
            assert words in drawn
    matrix = shown.matrix_html(found)
    assert matrix.count('<th scope="row">') == 2 and "69–88%" in matrix
    assert "Nothing of that kind" in shown.matrix_html([])
    assert "Nothing of that kind" in shown.runs_html([])


def test_defences_stand_in_the_registry_s_order_whichever_was_measured_first(tmp_path):
    names = ("no_longer_there", "tokenbuncher", "seam_tokenbuncher", "seam", "sdd")
    table = tiny_table(tmp_path, {(name, "sft"): (BROKEN, HELD) for name in names}, seeds=1)
    found = shown.in_order(cells(table))
    assert [cell.defence for cell in found] == [
        "aligned", "sdd", "seam", "tokenbuncher", "seam_tokenbuncher", "no_longer_there",
    ]  # fmt: skip
    assert shown.in_order([]) == []


def test_attacks_that_asked_other_topics_are_a_table_of_their_own(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, HELD)}, seeds=2)
    assert shown.unseen_html(table) == ""
    other = [
        row | {"settings": row["settings"] | {"data": "unseen"}, "run": f"other-{number}"}
        for number, row in enumerate(table) if row["row"] != "run" or row["arm"] == "sdd"
    ]  # fmt: skip
    drawn = shown.unseen_html([*table, *other])
    body = ElementTree.fromstring(drawn).find(".//tbody")
    lines = {line.find("th").text: line for line in body}
    assert set(lines) == {"Undefended", shown.defence_title("sdd")}
    opens = [button.get("data-pick") for button in lines[shown.defence_title("sdd")].iter("button")]
    assert opens == [row["run"] for row in other if row["row"] == "run"] and len(opens) == 2
    assert not list(lines["Undefended"].iter("button"))
    assert shown.matrix_html(cells([*table, *other])) == shown.matrix_html(cells(table))


def test_harm_in_new_styles_is_drawn_where_it_was_measured(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, HELD)}, seeds=2)
    assert "In new styles" not in shown.matrix_html(cells(table)) + shown.runs_html(
        [row for row in table if row["row"] == "run"]
    )
    each = dict.fromkeys(STYLES, 0.613)
    columns = {"harm_styles_before": 0.04, "harm_styles_after": 0.613, "style_topics": 8,
               "harm_by_style_before": each, "harm_by_style_after": each}  # fmt: skip
    table = [row | (columns if row["arm"] == "sdd" else {}) for row in table]
    drawn = shown.matrix_html(cells(table))
    assert drawn.count("In new styles") == 1
    assert "4% → 61%<small>Role-play 61%," in drawn
    drawn = shown.runs_html([row for row in table if row["row"] == "run"])
    assert drawn.count("<td>4% → 61%</td>") == drawn.count("<td>not measured</td>") == 2
    arms = [{"arm": arm, "topics": 112, "harm": 0.01, "harm_styles": 0.2,
             "styles": {style: {"harm": 0.2} for style in STYLES}} for arm in ("aligned", NASTY)]
    drawn = shown.unattacked_html(arms)
    assert drawn.count("<tr>") == 3 and drawn.count("<td>20%</td>") == 2 * 7
    assert "Undefended" in drawn and NASTY not in drawn


def test_the_evidence_chart_marks_every_cell_and_has_a_key(tmp_path):
    found = cells(tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, (0.8, 0.4)),
                                        ("tokenbuncher", "sft"): (BROKEN, HELD)}))  # fmt: skip
    drawn = shown.chart_html(found)
    svg = ElementTree.fromstring(re.search(r"<svg viewBox=\"0 0 620.*?</svg>", drawn)[0])
    tips = [title.text for title in svg.iter("title")]
    assert tips == [
        "Undefended, Supervised: harm after the attack 80%, ability left, of its start 100%",
        "SDD (Self-Degraded Defense), Supervised: harm after the attack 80%, "
        "ability left, of its start 50%",
        "TokenBuncher, Supervised: harm after the attack 0%, ability left, of its start 100%",
    ]
    assert len(svg.findall("path")) == 2 and len(svg.findall("circle")) == 1
    one, other = (mark.get("d") for mark in svg.findall("path"))
    assert one != other and one in drawn.split("</div>")[0]  # the key shows the same shapes


def test_claims_are_drawn_with_their_verdicts(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, BROKEN)})
    drawn = shown.claims_html(claims(table))
    baseline, sdd, *_ = ElementTree.fromstring(drawn)
    assert baseline.find("header/span").text == "Baseline"
    first, second = sdd.findall("p")  # before any figure
    assert first.text.startswith("After 20 steps of fine-tuning, SDD agreed to 80% of harmful")
    assert second.find("b").text == "Claimed:" and baseline.findall("p")[1].find("b") is None
    assert sdd.find("details").get("open") is None and sdd.find("details/ul/li") is not None
    assert '<article class="hf-claim open"><header><h3>SDD</h3>' in drawn
    assert "Does not hold" in drawn and "Not measured" in drawn
    how = format_text(table[0])  # this machine's
    assert f"Supervised ({how}): harm 0% → 80%" in drawn and "not in the table" in drawn
    retained = {("sdd", name): (BROKEN, BROKEN) for name in ("sft", "sft_retain")}
    once = tiny_table(tmp_path / "once", retained, seeds=1)
    assert '<span class="hf-badge plain">Undecided ‡</span>' in shown.claims_html(claims(once))
    assert "Broken ‡</span>" in shown.matrix_html(cells(once))
    assert "‡" not in shown.matrix_html(cells(table)) + shown.runs_html(once[:2])


def test_the_notes_name_attacks_as_the_page_does():
    words = shown._named(f"{rules()} {SHARED}")
    for name in ("grpo_skill", "sft_retain", "aligned", "benign"):
        assert name not in words and name in f"{rules()} {SHARED}"
    assert "“Control: harmless fine-tuning”" in words


def test_nothing_of_a_table_gets_into_the_page_unescaped(tmp_path):
    table = tiny_table(tmp_path, {("sdd", "sft"): (BROKEN, HELD)}, seeds=1)
    for row in table:
        row |= {"attack": NASTY, "run": NASTY, "defence": NASTY}
        row["arm"] = NASTY if row["arm"] == "sdd" else row["arm"]
    found = cells(table)
    drawn = [shown.matrix_html(found), shown.chart_html(found)]
    drawn.append(shown.runs_html([row for row in table if row["row"] == "run"]))
    drawn.append(scatter(NASTY, NASTY, [Mark(NASTY, "held", 0, 0.5, 0.5)], (NASTY, NASTY),
                         x_max=1.0, x_lines=(), y_lines=()))  # fmt: skip
    drawn.append(shape_legend([("held", 0, NASTY)]))
    for each in drawn:
        assert "<img" not in each and "&lt;img" in each


def test_the_table_says_what_was_not_measured(tmp_path):
    ends = {("sdd", "sft"): (BROKEN, (0.8, 0.4)), ("seam", "grpo"): (BROKEN,) * 2}
    table = tiny_table(tmp_path, ends)
    words = shown._measured(cells(table))
    assert "Supervised on SEAM" in words and "Abliteration;" in words
    assert "Abliteration on" not in words and "training of all weights" in words
