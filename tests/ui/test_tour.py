"""The tour stops where this installation has something to show, and points at what is there."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from evaluation.cells import cells
from evaluation.claims import claims
from evaluation.runs import RunInfo
from tests.tiny_table import tiny_table
from ui import tour
from ui.app import recorded_removal

ENDS = {("sdd", "sft"): ((0.8, 0.8), (0.8, 0.3))}
POSES = ("kneel_both", "wave", "walk")


@pytest.fixture
def table(tmp_path):
    return tiny_table(tmp_path, ENDS)


REMOVAL = RunInfo(
    id="20261128-130656-guard-f5cba8", kind="guard", created="2026-11-28T13:06:56+00:00",
    profile="tiny", status="done", config={"target": "poseguard", "steps": 40}, recorded=True,
    error="", owner_hash="",
)  # fmt: skip


def route(table, guards=("poseguard",), poses=POSES, pictures=("gift",), removal=None):
    return tour.stops(guards, poses, cells(table), claims(table), pictures, removal)


def test_every_tab_has_a_stop(table):
    assert [stop.tab for stop in route(table)] == [
        "Animate", "Animate", "Animate", "Chat", "Evidence", "Attack", "Image", "Evidence",
        "How it works",
    ]  # fmt: skip


def test_a_pair_is_drawn_with_the_guard_on(table):
    for stop in route(table, guards=("poseguard", "other"))[:2]:
        switches = [press.at for press in stop.acts if press.optional]
        off = "input:not(:checked):not(:disabled)"
        assert switches == [f"#hf-guard-poseguard {off}", f"#hf-guard-other {off}"]
        assert stop.acts[-1].at == "#hf-generate"


def test_what_is_not_there_is_left_out(table):
    assert [stop.tab for stop in route([])] == [
        "Animate", "Animate", "Animate", "Chat", "Attack", "Image", "How it works"
    ]  # fmt: skip
    assert "Image" not in [stop.tab for stop in route(table, pictures=())]
    assert route(table, guards=())[0].tab == "Chat"
    assert [stop.tab for stop in route(table, poses=("walk",))][:2] == ["Animate", "Chat"]


def test_a_recorded_attack_on_the_guard_is_opened_and_else_one_is_begun(table):
    opened, begun = (route(table, removal=removal)[2] for removal in (REMOVAL, None))
    listed = f'#hf-removal-runs button[data-pick="{REMOVAL.id}"]'
    assert opened.acts[-1] == tour.Press(listed, until=f"{listed}[aria-current]")
    assert "for 40 steps" in opened.says and "Opened" in opened.told
    assert opened.shows == "#hf-removal-shown"
    assert begun.acts[-1].at == "#hf-removal-go" and "Running" in begun.told
    assert opened.acts[0] == begun.acts[0] and begun.acts[0].optional  # the accordion


def test_the_attack_that_is_opened_is_a_recorded_one_on_the_first_guard():
    mine, other = replace(REMOVAL, recorded=False), replace(REMOVAL, kind="attack")
    hardened = replace(REMOVAL, id="hardened", config={"target": "hardened", "steps": 40})
    cut = replace(REMOVAL, status="stopped")
    runs = [mine, other, cut, hardened, REMOVAL]
    assert recorded_removal(runs, ["poseguard", "hardened"]) == REMOVAL
    assert recorded_removal(runs, ["hardened"]) == hardened
    assert recorded_removal([mine, other, cut], ["poseguard"]) is None
    assert recorded_removal(runs, []) is None


def test_a_stop_tells_the_table_s_figures_and_opens_its_run(table):
    recorded, standing = (stop for stop in route(table) if stop.tab == "Evidence")
    assert recorded.says.endswith(
        "say. After 20 steps of fine-tuning, SDD agreed to 80% of harmful requests (0% before), as "
        "did the undefended model, and its right answers to easy questions fell from "
        "80% to 30%."
    )
    cell = next(cell for cell in cells(table) if cell.defence == "sdd")
    assert f'data-pick="{cell.runs[0]["run"]}"' in recorded.acts[0].at
    claimed = len(claims(table)) - 1  # one of the findings is the baseline
    assert f"{claimed} of {claimed} claims are not measured." in standing.says


def test_claims_are_counted_in_a_sentence(table):
    baseline, *others = claims(table)

    def counted(*verdicts):
        findings = (replace(others[0], verdict=verdict) for verdict in verdicts)
        return tour._counted([baseline, *findings])

    assert counted(*["fails"] * 4, *["undecided"] * 2) == (
        "4 of 6 claims do not hold; 2 are undecided."
    )
    assert counted("weaker", "holds", "fails") == (
        "1 of 3 claims holds here; 1 holds weaker; 1 does not hold."
    )


def test_all_that_is_pointed_at_is_on_the_page(served, table):
    known = {part["props"].get("elem_id") for part in served.app.config["components"]}
    for stop in (*route(table), *route(table, removal=REMOVAL)):
        named = [stop.look, stop.shows, stop.top]
        named += [name for press in stop.acts for name in (press.at, press.until, press.gone)]
        for selector in filter(None, named):
            assert re.match(r"#([\w-]+)", selector)[1] in known


def test_the_script_gets_the_stops_as_data(table):
    script = tour.tour(route(table)).js_on_load
    assert "__STOPS__" not in script and "Kneeling on both knees" in script
