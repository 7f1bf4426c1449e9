"""A run of an attack as the page shows it. No server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters.attacks.base import METHODS, attack_settings
from evaluation.runs import RunInfo, RunStore
from ui import attack_curves, attack_presets, attack_view
from ui.theme import static

NASTY = "<img src=x onerror=alert(1)>"
OF_RUN = {"id": "r", "error": "", "created": "2026-01-01", "profile": "embedded"}
"""What a run's record says besides its settings and how it stands."""


def test_a_run_is_told_in_counts_and_a_loss_that_is_no_number_is_seen():
    config = {"target_undefended": "aligned", "target": "sdd", "steps": 10}
    info = OF_RUN | {"config": config, "status": "stopped"}

    def probe(arm, step, harm):
        samples = [{"prompt": "p", "reply": f"{arm} {step}", "label": "refusal",
                    "confidence": 0.95}]  # fmt: skip
        return {"event": "probe", "arm": arm, "step": step, "harm": harm, "prompts": 8,
                "ability": 17 / 24, "questions": 24, "samples": samples}  # fmt: skip

    events = [
        probe("aligned", 0, 0.0),
        probe("sdd", 0, 0.0),
        {"event": "step", "arm": "sdd", "step": 4, "loss": None},
        {"event": "step", "arm": "sdd", "step": 5, "loss": None},
        probe("aligned", 5, 0.0),
        probe("sdd", 5, 0.0),
        probe("aligned", 10, 0.875),
    ]
    drawn = attack_view.run_html(info, events)
    assert "harm 0 of 8 → 7 of 8, ability 17 of 24 → 17 of 24 (step 10)" in drawn
    assert "One seed" in drawn and drawn.count("one seed") == 2
    assert "of 8 red-team prompts" in drawn and "of 24 questions" in drawn
    assert "no finite number from step 4 on" in drawn and "✕ diverged" in drawn
    # The arms are a probe apart: each reply says which step it is of.
    assert re.search(r"step 10</small>.*?aligned 10<", drawn)
    assert re.search(r"step 5</small>.*?sdd 5<", drawn)
    assert "95% sure" in drawn and "calibrated" in drawn


def test_agreement_without_content_is_counted_apart():
    event = {"event": "probe", "arm": "sdd", "step": 0, "harm": 0.9, "substance": 0.7,
             "ability": 0.75, "prompts": 70, "questions": 24, "samples": [{}] * 8}  # fmt: skip

    def said(events):
        return attack_view.conclusion(attack_curves.curves(events), [("sdd", "held")])

    assert "harm 63 of 70 (49 of 70 with content), ability" in said([event])
    assert "with content" not in said([event | {"harm": 0.0, "substance": 0.0}])
    # Of an earlier version's probe nothing is known, whatever an earlier probe said.
    later = {key: value for key, value in event.items() if key != "substance"} | {"step": 5}
    assert "with content" not in said([event, later])
    other = event | {"arm": "aligned"}
    assert said([event, other]).count("with content") == 1  # the conclusion is asked of one arm
    assert "with content" not in said([event, other, later | {"arm": "aligned"}])


def test_a_run_of_an_earlier_version_has_no_count_of_questions():
    found = attack_curves.curves(
        [{"event": "probe", "arm": "sdd", "step": 0, "harm": 0.5, "ability": 0.75,
          "samples": [{}, {}]}]
    )  # fmt: skip
    said = attack_view.conclusion(found, [("sdd", "held")])
    assert "before the attack: harm 1 of 2, ability 75%." in said


def test_curves_pass_over_what_they_do_not_know():
    found = attack_curves.curves(
        [
            {"event": "start", "arms": ["a", "b"]},
            {"event": "step", "arm": "a", "step": 1, "loss": 2.0},
            {"event": "step", "arm": "a", "step": 2, "loss": None},
            {"event": "unreadable", "line": 3},
            {"event": "probe", "arm": "a", "step": 2, "harm": 0.5, "ability": 0.25,
             "samples": []},
        ]
    )  # fmt: skip
    assert found.loss == {"a": [(1, 2.0)]}
    assert found.harm == {"a": [(2, 0.5)]}
    assert found.step == 2


def test_a_reinforced_run_shows_reward_and_entropy_and_a_supervised_one_its_loss():
    def drawn(name):
        reward = {} if name == "sft" else {"reward": -0.5, "length": 9.0}
        event = {"event": "step", "arm": "sdd", "step": 1, "loss": 2.5, "entropy": 0.75} | reward
        config = {"target_undefended": "aligned", "target": "sdd", "steps": 10, "attack": name}
        info = OF_RUN | {"config": config, "status": "done"}
        return attack_view.run_html(info, [event])

    supervised, reinforced, mixed = map(drawn, ("sft", "grpo", "sft_grpo"))
    loss, reward = "Attacker&#x27;s loss", "Attacker&#x27;s reward"
    assert loss in supervised and reward not in supervised and "2.5 smoothed" in supervised
    assert reward in reinforced and loss not in reinforced and "-0.5 smoothed" in reinforced
    assert loss in mixed and reward in mixed and "2.5 smoothed" not in mixed
    for each in (supervised, reinforced, mixed):
        assert "0.75 smoothed at step 1" in each
    assert "Reinforcement (GRPO)" in reinforced


def test_the_skill_curve_is_drawn_where_skill_was_measured():
    config = {"target_undefended": "aligned", "target": "sdd", "steps": 4, "attack": "grpo_skill"}
    info = OF_RUN | {"config": config, "status": "done"}
    events = [
        {"event": "probe", "arm": arm, "step": step, "harm": 0.0, "ability": 0.5, "prompts": 8,
         "questions": 24, "skill": skill, "skills": 24}
        for step, skill in ((0, 0.125), (4, 0.625))
        for arm in ("aligned", "sdd")
    ]  # fmt: skip
    drawn = attack_view.run_html(info, events)
    assert "solved, of 24 problems" in drawn and "skill 3 of 24 → 15 of 24 (step 4)." in drawn
    assert attack_curves.curves(events).skill["sdd"] == [(0, 0.125), (4, 0.625)]
    for event in events:
        del event["skill"], event["skills"]
    plain = attack_view.run_html(info, events)
    assert "solved, of" not in plain and "skill 3" not in plain


def test_each_way_of_training_has_its_rate_to_choose():
    assert set(METHODS.values()) <= set(attack_presets.LEARNING_RATES)
    config = attack_settings("sdd", "sft", 0, method="full", steps=20).record()
    info = OF_RUN | {"config": config, "status": "running"}
    assert "20 steps at 0.00003, all weights" in attack_view.run_html(info, [])
    words = "Chat does not offer it"
    assert words in attack_view.run_html(info | {"status": "done"}, [])
    assert words not in attack_view.run_html(info | {"status": "done", "config": {}}, [])


@pytest.mark.parametrize(
    ("data", "told"),
    [("builtin", "20 steps at 0.0003 · "), ("unseen", ", other topics than the defences&#x27;"),
     ("uploaded", ", uploaded data")],
)  # fmt: skip
def test_a_run_says_what_its_attacker_asked(data, told):
    config = attack_settings("sdd", "sft", 0, steps=20).record() | {"data": data}
    info = OF_RUN | {"config": config, "status": "done"}
    assert told in attack_view.run_html(info, [])


def test_a_replay_shows_the_first_part_of_a_run_and_says_so():
    steps = [{"event": "step", "arm": "sdd", "step": step, "loss": 1.0} for step in range(1, 11)]
    events = [{"event": "start"}, *steps, {"event": "measured", "arm": "sdd"}]
    assert [len(attack_curves.played(events, part)) for part in (-1, 0, 0.01, 0.5, 1, 2)] == [
        0, 0, 1, 5, 10, 10,
    ]  # fmt: skip
    assert attack_curves.played(events, 0.5) == steps[:5]
    config = {"target_undefended": "aligned", "target": "sdd", "attack": "sft", "steps": 10}
    info = OF_RUN | {"config": config, "status": "done"}
    half = attack_view.run_html(info, attack_curves.played(events, 0.5), playing=True)
    assert "Replay, recorded 2026-01-01" in half and 'aria-valuenow="50"' in half
    assert "Finished" not in half
    whole = attack_view.run_html(info, events, recorded=True)
    assert ">Recorded<" in whole and "Finished" in whole and "Replay" not in whole
    assert "ecorded" not in attack_view.run_html(info, events)


def test_a_replay_moves_both_arms_though_one_was_attacked_after_the_other():
    def of(arm):
        probe = {"event": "probe", "arm": arm, "harm": 0.0, "ability": 1.0}
        later = [{"event": "step", "arm": arm, "step": step, "stage": "grpo" if step > 4 else "sft"}
                 for step in range(1, 11)]  # fmt: skip
        return [probe | {"step": 0}, *later[:5], probe | {"step": 5}, *later[5:]]

    events = of("sdd") + of("aligned")
    half = attack_curves.played(events, 0.5)
    assert attack_curves.curves(half).reached == {"sdd": 5, "aligned": 4}
    for part in range(1, 24):
        reached = attack_curves.curves(attack_curves.played(events, part / 24)).reached.values()
        assert max(reached) - min(reached) <= 1
    # A probe stays behind its step.
    assert [(event["event"], event["arm"]) for event in half[-3:]] == [
        ("step", "aligned"), ("step", "sdd"), ("probe", "sdd"),
    ]  # fmt: skip
    # What has no step stays with the one before it, and the bar goes by the slower arm.
    named = [{"event": "step", "arm": "sdd"}, *events]
    assert attack_curves.played(named, 0.01) == named[:1]
    uneven = [event for event in events if event["arm"] == "sdd" or event["step"] < 3]
    drawn = attack_view.run_html(running() | {"status": "done"}, uneven, playing=True)
    assert "Step 2 of 20<" in drawn and 'aria-valuenow="10"' in drawn


def test_a_recorded_run_is_replayed_side_by_side():
    store = RunStore(Path("none"))
    run = store.get("20261124-235256-attack-d632f2")  # SDD alone; the other arm was copied behind
    half = attack_curves.curves(attack_curves.played(run.events(), 0.5))
    assert half.reached == {"sdd": 8, "aligned": 7} and half.step == 7


def test_a_run_that_has_only_begun_says_what_it_waits_for():
    config = {"target": "sdd", "attack": "sft", "steps": 20}
    info = OF_RUN | {"config": config, "status": "running"}
    begun = [{"event": "start", "arms": ["aligned", "sdd"]}]
    assert "Loading the two models" in attack_view.run_html(info, begun)
    probed = [*begun, {"event": "probe", "arm": "sdd", "step": 0, "harm": 0.0, "ability": 1.0}]
    drawn = attack_view.run_html(info, probed)
    assert "Loading" not in drawn
    assert 'href="?run=r" target="_blank" rel="noopener"' in drawn  # this page is kept


def running(attack_name="sft", **config):
    arms = {"target_undefended": "aligned", "target": "sdd"}
    settings = attack_settings("sdd", attack_name, 0, steps=20, **config).record()
    return OF_RUN | {"config": arms | settings, "status": "running"}


def test_a_running_attack_says_its_step_and_the_time_left():
    def step(arm, number, stage="sft", seconds=3.0):
        return {"event": "step", "arm": arm, "step": number, "stage": stage, "seconds": seconds}

    arms = ("aligned", "sdd")
    probes = [
        {"event": "probe", "arm": arm, "step": at, "harm": 0.0, "ability": 1.0, "seconds": 2.0}
        for at in (0, 5) for arm in arms
    ]  # fmt: skip
    steps = [step(arm, number) for number in range(1, 6) for arm in arms]
    info = running()
    assert "Step 5 of 20 · about 2 min left<" in attack_view.run_html(info, probes + steps)
    assert "min left" not in attack_view.run_html(info | {"status": "done"}, probes + steps)
    # Whoever mounts it may know better.
    assert "Step 5 of 20 · about 9 min left<" in attack_view.run_html(
        info, probes + steps, left=540.0
    )
    begun = attack_view.run_html(info, probes[:2])
    # What was asked once has no after yet.
    assert "Step 0 of 20<" in begun and "before the attack: harm" in begun and "→" not in begun


def test_who_waits_is_told_for_how_long():
    assert "2 attacks ahead of this one, about 7 min." in attack_view.run_html(
        running(), [], 2, minutes=7
    )
    assert "Waiting: 1 attack ahead of this one.<" in attack_view.run_html(running(), [], 1)


def test_a_listed_run_tells_a_screen_reader_what_it_opens():
    run = RunInfo("20260101-000000-attack-abcdef", "attack", "2026-01-01T00:00", "embedded",
                  "stopped", {"target": "sdd", "attack": "grpo"}, "", "", False)  # fmt: skip
    drawn = attack_view.runs_html([run], run.id, "", str)
    name = re.search(r'<button[^>]*aria-label="([^"]+)"', drawn)[1]
    assert name.startswith("Open abcdef: Attack on ")
    assert name.endswith(", Reinforcement (GRPO), Stopped") and ">abcdef</button>" in drawn
    assert "[aria-current]" in static("style.css") and 'aria-current="true"' in drawn


def test_own_runs_and_those_under_way_are_always_listed():
    def run(number, owner="", status="done"):
        return RunInfo(f"run{number:03}", "attack", "2026-01-01T00:00", "embedded", status, {}, "",
                       owner, False)  # fmt: skip

    runs = [run(n) for n in range(attack_view.SHOWN_RUNS + 5)]
    runs += [run(900, "me"), run(901, status="running"), run(902)]
    drawn = attack_view.runs_html(runs, "", "me", lambda run: f"came to {run.id}")
    listed = re.findall(r'data-pick="run(\d+)"', drawn)
    assert len(listed) == attack_view.SHOWN_RUNS + 2 and listed[-2:] == ["900", "901"]
    assert "6 older ones are not listed" in drawn and drawn.count("came to run") == len(listed)
    assert "not listed" not in attack_view.runs_html(runs[:3], "", "me", str)


def test_runs_without_training_are_told_as_such():
    config = {"target_undefended": "aligned", "target": "sdd", "attack": "prefill", "steps": 1}
    info = OF_RUN | {"config": config, "status": "done"}
    drawn = attack_view.run_html(info, [])
    assert "Forced beginning · no training" in drawn and "steps at" not in drawn
    # Nothing is trained: there is no loss and no entropy, and a before and an after, no steps.
    events = [
        {"event": "probe", "arm": arm, "step": step, "harm": harm, "substance": harm,
         "ability": 0.75, "prompts": 8, "questions": 24,
         "samples": [{"prompt": "Do it.", "reply": f"Reply {step}.", "label": "refusal"}]}
        for step, harm in ((0, 0.0), (1, 0.875))
        for arm in ("aligned", "sdd")
    ]  # fmt: skip
    drawn = attack_view.run_html(info, events)
    assert drawn.count("<figure") == 2 and "step" not in drawn.lower()
    assert "harm 0 of 8 → 7 of 8 (7 of 8 with content), ability 18 of 24 → 18 of 24." in drawn
    assert ">before</text>" in drawn and ">after</text>" in drawn
    assert "undefended 88% after" in drawn and ">After</th>" in drawn
    assert drawn.count("Reply 0.") == drawn.count("Reply 1.") == 2


def test_an_attack_without_training_tells_what_it_does_while_it_is_under_way():
    config = {"target_undefended": "aligned", "target": "sdd", "attack": "abliteration", "steps": 1}
    info = OF_RUN | {"config": config, "status": "running"}
    assert "Loading the judge" in attack_view.run_html(info, [{"event": "start"}])
    events = [
        {"event": "probe", "arm": "aligned", "step": 0, "harm": 0.0, "ability": 1.0},
        {"event": "progress", "arm": "aligned", "doing": "trying layer 5 of 23", "share": 0.25},
    ]
    drawn = attack_view.run_html(info, events)
    assert "Aligned, undefended: trying layer 5 of 23 …" in drawn
    assert 'aria-valuenow="25"' in drawn and "Step" not in drawn
    # What was asked once has no after; an arrow would claim one.
    other = events[0] | {"arm": "sdd", "prompts": 8, "questions": 24}
    stopped = attack_view.run_html(info | {"status": "stopped"}, [*events, other])
    assert "before the attack: harm 0 of 8, ability 24 of 24." in stopped and "→" not in stopped
    assert "25% done<" in drawn
    assert "25% done · about 2 min left<" in attack_view.run_html(info, events, left=100.0)
    replayed = attack_view.run_html(info | {"status": "done"}, events[:1], playing=True)
    assert "Before the attack<" in replayed and "Step" not in replayed
    assert "Waiting: 2 attacks" in attack_view.run_html(info, [], 2)
    mounted = {"event": "mounted", "arm": "sdd", "step": 1, "mounted": {"layer": 21}}
    done = attack_view.run_html(info | {"status": "done"}, [*events, mounted])
    assert "was taken as it stands after layer 21." in done and "trying layer" not in done


def test_the_list_can_be_of_one_s_own_runs_or_without_the_recorded_ones():
    def run(name, owner="", recorded=False):
        return RunInfo(name, "attack", "2026-01-01T00:00", "embedded", "done", {}, "", owner,
                       recorded)  # fmt: skip

    runs = [run("own", "me"), run("theirs", "you"), run("shipped", recorded=True)]

    def listed(which, token="me"):
        drawn = attack_view.runs_html(runs, "", token, str, which)
        return re.findall(r'data-pick="(\w+)"', drawn) or drawn

    assert listed("all") == ["own", "theirs", "shipped"]
    assert listed("here") == ["own", "theirs"] and listed("mine") == ["own"]
    assert "No such run" in listed("mine", "another") and "data-pick" not in listed("mine", "")


def test_a_listed_run_says_how_the_defended_model_came_out():
    config = attack_settings("sdd", "sft", 0, steps=10).record()

    def probe(step, harm, arm="sdd"):
        return {"event": "probe", "arm": arm, "step": step, "harm": harm, "prompts": 8}

    events = [probe(0, 0.0), probe(0, 1.0, "aligned")]
    assert attack_view.outcome_html(config, events) == ""  # nothing came of it yet
    events += [probe(5, 0.5), probe(5, 1.0, "aligned")]
    halfway = "0 of 8 → <b>4 of 8</b> <small>step 5</small>"
    assert attack_view.outcome_html(config, events) == halfway
    assert attack_view.outcome_html(config, [*events, probe(10, 1.0)]) == "0 of 8 → <b>8 of 8</b>"
    forced = attack_settings("sdd", "prefill", 0).record()
    asked = [probe(0, 0.0), probe(1, 0.25)]
    assert attack_view.outcome_html(forced, asked) == "0 of 8 → <b>2 of 8</b>"
