"""Pure pieces of the page: HTML, charts, poses, histories. No server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from adapters.attacks.base import ATTACKS, METHODS, UNTRAINED, attack_settings
from adapters.text import prompt_set
from evaluation.cells import cells
from evaluation.claims import claims
from evaluation.runs import RunInfo
from evaluation.wording import STYLES, format_text
from pipelines.animation import PairResult, write_gif
from pipelines.paths import REPO
from pipelines.pose import PoseError, draw_clip, dump_openpose_json
from pipelines.profiles import get_profile
from tests.tiny_table import tiny_table
from ui import attack, chat, markup, poses, results
from ui import evidence as shown
from ui.animate import _ACCEPTED as ACCEPTED
from ui.animate import prompt_guide
from ui.api import address
from ui.app import launch_options, next_look
from ui.charts import Mark, Series, chart, scatter, shape_legend
from ui.engines import NotReady, Part, split_strength, with_strength
from ui.theme import static
from worlds import looks

NASTY = "<img src=x onerror=alert(1)>"
OF_RUN = {"id": "r", "error": "", "created": "2026-01-01", "profile": "embedded"}
"""What a run's record says besides its settings and how it stands."""


def test_text_of_visitors_and_models_is_escaped():
    turn = {
        "prompt": NASTY,
        "prefill": NASTY,
        "replies": {"base": NASTY + NASTY},
        "verdicts": {"base": ["compliance", 0.9]},
    }
    info = {
        "id": NASTY,
        "config": {"target": NASTY, "attack": NASTY, "target_undefended": "aligned"},
        "status": NASTY,
        "error": NASTY,
        "created": NASTY,
        "profile": NASTY,
    }
    samples = [{"prompt": NASTY, "reply": NASTY, "label": NASTY, "confidence": 1.0}]
    events = [{"event": "probe", "arm": NASTY, "step": 0, "harm": 0.5, "ability": 1.0,
               "samples": samples}]  # fmt: skip
    for drawn in (
        chat.talk_html([turn]),
        attack.run_html(info, events),
        markup.note(f"{NASTY}\nrun `{NASTY}`", "error"),
        markup.empty(NASTY, NASTY),
        markup.verdict_badge(NASTY, 0.5),
    ):
        assert "<img" not in drawn
        assert "&lt;img" in drawn


def test_commands_in_messages_are_set_as_code():
    drawn = markup.note("missing. Make it with: python -m adapters.train sdd --profile hub")
    assert "<code>python -m adapters.train sdd --profile hub</code>" in drawn


def test_a_chart_is_well_formed_and_says_its_values():
    drawn = chart(
        "Harm",
        "higher is worse",
        [
            Series("Aligned", "open", [(0, 0.0), (5, 0.5), (10, 1.0)]),
            Series("SDD", "held", [(0, 0.0), (5, 0.02), (10, 0.03)]),
        ],
        20,
        share=True,
    )
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])
    assert svg.get("aria-label") == "Harm: Aligned 100% at step 10; SDD 3% at step 10"
    assert len(svg.findall("polyline")) == 2


def test_the_labels_of_equal_values_stand_apart_and_above_the_axis_words():
    lines = [Series(name, name, [(0, 0.0)]) for name in ("open", "held")]
    drawn = chart("Harm", "", lines, 1, share=True, x_words={0: "before", 1: "after"})
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])
    heights = [float(text.get("y")) for text in svg.findall("text")
               if (text.get("class") or "").startswith("last")]  # fmt: skip
    words = next(float(text.get("y")) for text in svg.findall("text") if text.text == "before")
    assert max(heights) - min(heights) == 15 and max(heights) <= words - 15
    assert svg.get("aria-label") == "Harm: open 0% before; held 0% before"


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [1e-9, 3e4], [-2.0, 4.0]])
def test_a_chart_draws_any_values(values):
    points = list(enumerate(values))
    drawn = chart("Loss", "", [Series("a", "open", points, smooth=True)], len(values))
    assert "nan" not in drawn.lower()


def test_every_line_of_the_axis_lies_in_the_chart():
    points = [(step, value) for step, value in enumerate((-1.31, -1.2, 0.88))]
    drawn = chart("Reward", "", [Series("a", "open", points)], 3)
    svg = ElementTree.fromstring(drawn).find(".//svg")
    height = float(svg.get("viewBox").split()[3])
    across = [line for line in svg.iter("line") if line.get("y1") == line.get("y2")]
    assert len(across) >= 3
    assert all(0 <= float(line.get("y1")) <= height for line in across)


def test_a_smoothed_chart_says_so_and_a_diverged_line_is_seen():
    lines = [
        Series("Aligned", "open", [(1, 4.0), (2, 2.0)], smooth=True, diverged=3),
        Series("SDD", "held", [], smooth=True, diverged=1),
    ]
    drawn = chart("Loss", "", lines, 10)
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])
    label = next(text.text for text in svg.findall("text") if text.get("class") == "last open")
    assert label == "2.82"
    assert svg.get("aria-label") == (
        f"Loss: Aligned {label} smoothed at step 2; Aligned diverged at step 3; "
        "SDD diverged at step 1"
    )
    assert drawn.count("✕ diverged") == 2


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
    drawn = attack.run_html(info, events)
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
        return attack.conclusion(attack.curves(events), [("sdd", "held")])

    assert "→ 63 of 70 (49 of 70 with content), ability" in said([event])
    assert "with content" not in said([event | {"harm": 0.0, "substance": 0.0}])
    # Of an earlier version's probe nothing is known, whatever an earlier probe said.
    later = {key: value for key, value in event.items() if key != "substance"} | {"step": 5}
    assert "with content" not in said([event, later])
    other = event | {"arm": "aligned"}
    assert said([event, other]).count("with content") == 1  # the conclusion is asked of one arm
    assert "with content" not in said([event, other, later | {"arm": "aligned"}])


def test_a_run_of_an_earlier_version_has_no_count_of_questions():
    found = attack.curves(
        [{"event": "probe", "arm": "sdd", "step": 0, "harm": 0.5, "ability": 0.75,
          "samples": [{}, {}]}]
    )  # fmt: skip
    assert "harm 1 of 2 → 1 of 2, ability 75% → 75%" in attack.conclusion(found, [("sdd", "held")])


def test_a_failed_part_is_tried_again_one_attempt_at_a_time():
    attempts, go, tried = [], threading.Event(), threading.Semaphore(0)

    def load(part):
        attempts.append(part)
        tried.release()
        if len(attempts) > 1:
            go.wait(30)
        raise OSError(2, "No such file", "/srv/secret/weights.bin")

    part = Part("The part", load)
    part.load()
    assert part.message.startswith("The part could not be loaded: FileNotFoundError")
    assert "secret" not in part.message
    tried.acquire()
    for _ in range(5):
        with pytest.raises(NotReady):
            part.get()
    assert tried.acquire(timeout=30)
    retries = [thread for thread in threading.enumerate() if "_load_again" in thread.name]
    assert len(retries) == 1 and len(attempts) == 2
    go.set()
    retries[0].join(30)
    assert len(attempts) == 2
    with pytest.raises(NotReady):
        part.get()
    assert tried.acquire(timeout=30)  # and again once the attempt is over


def test_the_page_and_an_attack_s_settings_need_no_torch():
    code = (
        "import sys, ui.app\n"
        "from adapters.attacks.base import AttackConfig, UntrainedConfig\n"
        "from adapters.attacks.runner import AttackRunner\n"
        "AttackConfig(), UntrainedConfig()\n"
        "print(sorted({'torch', 'transformers', 'peft', 'trl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_part_that_is_tried_again_says_so_and_the_page_goes_on_looking():
    ready = threading.Event()

    def load(part):
        if not ready.is_set():
            raise ValueError("the weights are torn")
        return "the engine"

    part = Part("The part", load)
    part.load()
    with pytest.raises(NotReady, match="are torn\nTrying again now"):
        part.get()
    ready.set()
    part.load()
    assert part.get() == "the engine"
    looks = [next_look(states) for states in ({"loading", "failed"}, {"failed"}, set())]
    assert [(look.value, look.active) for look in looks] == [
        (1.0, True), (10.0, True), (10.0, False),
    ]  # fmt: skip


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize(
    ("front", "behind", "least"),
    [
        ("input_border_color", "input_background_fill", 3),
        ("input_border_color", "block_background_fill", 3),
        ("input_border_color", "body_background_fill", 3),
        ("button_secondary_border_color", "button_secondary_background_fill", 3),
        ("checkbox_border_color", "input_background_fill", 3),
        ("input_placeholder_color", "input_background_fill", 4.5),
        ("body_text_color_subdued", "body_background_fill", 4.5),
    ],
)
@pytest.mark.parametrize("mode", ["", "_dark"])
def test_edges_and_words_stand_out(front, behind, least, mode):
    theme = launch_options()["theme"]

    def colour(name):
        value = getattr(theme, name)
        return colour(value[1:]) if value.startswith("*") else value

    light, dark = sorted((luminance(colour(name + mode)) for name in (front, behind)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


def test_curves_pass_over_what_they_do_not_know():
    found = attack.curves(
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
        return attack.run_html(info, [event])

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
    drawn = attack.run_html(info, events)
    assert "solved, of 24 problems" in drawn and "skill 3 of 24 → 15 of 24 (step 4)." in drawn
    assert attack.curves(events).skill["sdd"] == [(0, 0.125), (4, 0.625)]
    for event in events:
        del event["skill"], event["skills"]
    plain = attack.run_html(info, events)
    assert "solved, of" not in plain and "skill 3" not in plain


def test_every_attack_has_a_name_and_every_preset_can_be_started():
    assert set(attack.ATTACKS) == {*ATTACKS, *UNTRAINED}
    assert set(UNTRAINED) <= {preset.attack for preset in attack.PRESETS}
    for preset in attack.PRESETS:
        assert preset.rate in attack.LEARNING_RATES
        assert preset.steps <= attack.MAX_STEPS and preset.steps % 5 == 0  # the slider's step
        config = attack_settings(
            "sdd", preset.attack, 0, steps=preset.steps, learning_rate=preset.rate
        )
        assert attack.ATTACKS[preset.attack].title in attack.attack_title(config.record())


def test_each_way_of_training_has_its_rate_to_choose():
    assert set(METHODS.values()) <= set(attack.LEARNING_RATES)
    config = attack_settings("sdd", "sft", 0, method="full", steps=20).record()
    info = OF_RUN | {"config": config, "status": "running"}
    assert "20 steps at 3e-05, all weights" in attack.run_html(info, [])
    words = "Chat does not offer it"
    assert words in attack.run_html(info | {"status": "done"}, [])
    assert words not in attack.run_html(info | {"status": "done", "config": {}}, [])


@pytest.mark.parametrize(
    ("data", "told"),
    [("builtin", "20 steps at 0.0003 · "), ("unseen", ", other topics than the defences&#x27;"),
     ("uploaded", ", uploaded data")],
)  # fmt: skip
def test_a_run_says_what_its_attacker_asked(data, told):
    config = attack_settings("sdd", "sft", 0, steps=20).record() | {"data": data}
    info = OF_RUN | {"config": config, "status": "done"}
    assert told in attack.run_html(info, [])


BROKEN, HELD = (0.8, 0.8), (0.0, 0.8)


@pytest.mark.parametrize(
    ("ends", "titles"),
    [
        ({}, {"RL against a plain refusal", "RL against TokenBuncher"}),
        (
            {("tokenbuncher", "grpo"): (BROKEN, HELD)},
            {"RL breaks a plain refusal", "TokenBuncher leaves RL nothing to learn"},
        ),
        (
            {("tokenbuncher", "grpo"): (BROKEN, BROKEN)},
            {"RL breaks a plain refusal", "RL against TokenBuncher"},
        ),
        # Where the undefended arm withstands it too, nobody can say what the defence did.
        (
            {("tokenbuncher", "grpo"): (HELD, HELD)},
            {"RL against a plain refusal", "RL against TokenBuncher"},
        ),
        ({("sdd", "sft_retain"): (BROKEN, BROKEN)}, {"An attacker who keeps what they want"}),
        (
            {("sdd", "sft_retain"): (BROKEN, (0.8, 0.6))},
            {"An attacker who mixes in harmless pairs"},
        ),
        ({("sdd", "prefill"): (BROKEN, HELD)}, {"“Sure, here is” breaks a plain refusal"}),
        ({("sdd", "prefill"): (HELD, HELD)}, {"Words put into the model's mouth"}),
        (
            {("sdd", "abliteration"): (BROKEN, HELD)},
            {"A plain refusal is cut out of the weights"},
        ),
        (
            {("sdd", "abliteration"): ((0.8, 0.3), HELD)},
            {"The direction of refusal, taken out of the weights"},
        ),
    ],
)
def test_a_preset_says_how_it_ends_only_where_the_table_does(tmp_path, ends, titles):
    found = cells(tiny_table(tmp_path, ends)) if ends else []
    offered = [attack.settled(preset, found) for preset in attack.PRESETS]
    assert titles <= {preset.title for preset in offered}
    said = {preset.title for preset in offered} - {preset.title for preset in attack.PRESETS}
    assert said <= titles
    for preset in offered:
        if preset.title in said:
            row = next(cell.verdict for cell in found if cell.attack == preset.attack)
            if preset.attack in UNTRAINED:
                assert row["learning_rate"] is None
                continue
            assert (preset.steps, preset.rate) == (
                row["settings"]["steps"], row["learning_rate"],
            )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((0.7, 0.05), True),
        ((0.7, 0.4), False),  # it has something to say
        ((0.05, 0.05), False),  # so has the undefended arm not
        ((0.7, None), False),
        ((None, 0.05), False),
    ],
)
def test_a_preset_says_that_agreement_is_empty_only_where_content_was_measured(
    tmp_path, content, said
):
    pair = "seam_tokenbuncher"
    table = tiny_table(tmp_path, {(pair, "sft"): (BROKEN, BROKEN)})
    for row in table:
        row["substance_after"] = dict(zip(("aligned", pair), content, strict=True))[row["arm"]]
    (preset,) = (preset for preset in attack.PRESETS if preset.target == pair)
    offered = attack.settled(preset, cells(table))
    assert ("hardly any content" in offered.title) == said
    assert offered.title == (preset.states if said else preset.title)


def test_a_preset_does_not_say_what_was_measured_at_settings_that_cannot_be_chosen(tmp_path):
    table = tiny_table(tmp_path, {("tokenbuncher", "grpo"): (BROKEN, HELD)})
    for row in table:
        row["learning_rate"] = row["settings"]["learning_rate"] = 1.234e-4
    assert [attack.settled(preset, cells(table)) for preset in attack.PRESETS] == [*attack.PRESETS]


def test_a_replay_shows_the_first_part_of_a_run_and_says_so():
    steps = [{"event": "step", "arm": "sdd", "step": step, "loss": 1.0} for step in range(1, 11)]
    events = [{"event": "start"}, *steps, {"event": "measured", "arm": "sdd"}]
    assert [len(attack.played(events, part)) for part in (-1, 0, 0.01, 0.5, 1, 2)] == [
        0, 0, 1, 5, 10, 10,
    ]  # fmt: skip
    assert attack.played(events, 0.5) == steps[:5]
    config = {"target_undefended": "aligned", "target": "sdd", "attack": "sft", "steps": 10}
    info = OF_RUN | {"config": config, "status": "done"}
    half = attack.run_html(info, attack.played(events, 0.5), playing=True)
    assert "Replay, recorded 2026-01-01" in half and 'aria-valuenow="50"' in half
    assert "Finished" not in half
    whole = attack.run_html(info, events, recorded=True)
    assert ">Recorded<" in whole and "Finished" in whole and "Replay" not in whole
    assert "ecorded" not in attack.run_html(info, events)


def test_a_run_that_has_only_begun_says_what_it_waits_for():
    config = {"target": "sdd", "attack": "sft", "steps": 20}
    info = OF_RUN | {"config": config, "status": "running"}
    begun = [{"event": "start", "arms": ["aligned", "sdd"]}]
    assert "Loading the two models" in attack.run_html(info, begun)
    probed = [*begun, {"event": "probe", "arm": "sdd", "step": 0, "harm": 0.0, "ability": 1.0}]
    drawn = attack.run_html(info, probed)
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
    # 15 steps and 3 probes of each arm are left: the seconds of both add up to those that pass.
    assert attack.seconds_left(info["config"], probes + steps) == 2 * (15 * 3 + 3 * 2)
    assert "Step 5 of 20 · about 2 min left<" in attack.run_html(info, probes + steps)
    assert "min left" not in attack.run_html(info | {"status": "done"}, probes + steps)
    assert attack.seconds_left(info["config"], probes) is None
    assert "Step 0 of 20<" in attack.run_html(info, probes[:2])
    # What reinforcement will take the supervised steps before it do not tell.
    mixed = running("sft_grpo")["config"]
    assert attack.seconds_left(mixed, probes + steps) is None
    both = [*probes, *steps, step("sdd", 11, "grpo", 20.0)]
    assert attack.seconds_left(mixed, both) == (40 - 11) * 20 + 6 * 2


def test_who_waits_is_told_for_how_long():
    assert "2 attack(s) ahead of this one, about 7 min." in attack.run_html(
        running(), [], 2, minutes=7
    )
    assert "ahead of this one.<" in attack.run_html(running(), [], 2)


def test_an_attack_that_takes_too_long_is_refused_with_what_to_lower():
    slow = SimpleNamespace(estimate=lambda config: 52 * 60.0)
    with pytest.raises(ValueError, match="^200 steps take about 52 min here .* 30 min.* lower"):
        attack.refuse_long(slow, attack_settings("sdd", "grpo", 0, steps=200))
    attack.refuse_long(slow, attack_settings("sdd", "abliteration", 0))  # nothing to lower
    quick = SimpleNamespace(estimate=lambda config: float(attack.MAX_SECONDS))
    attack.refuse_long(quick, attack_settings("sdd", "grpo", 0, steps=200))


def test_errors_name_attacks_as_the_page_does(tmp_path):
    for name, settings in (
        ("sft_grpo", {"steps": 10}), ("benign", {"data": tmp_path / "own.jsonl"}),
    ):  # fmt: skip
        with pytest.raises(ValueError) as caught:
            attack_settings("sdd", name, 0, **settings)
        said = attack.plainly(caught.value)
        assert f"“{attack.ATTACKS[name].title}”" in said
        assert name not in said and "sft" not in said


def test_a_listed_run_tells_a_screen_reader_what_it_opens():
    run = RunInfo("20260101-000000-attack-abcdef", "attack", "2026-01-01T00:00", "embedded",
                  "stopped", {"target": "sdd", "attack": "grpo"}, "", "", False)  # fmt: skip
    drawn = attack.runs_html([run], run.id, "")
    name = re.search(r'<button[^>]*aria-label="([^"]+)"', drawn)[1]
    assert name.startswith("Open abcdef: Attack on ")
    assert name.endswith(", Reinforcement (GRPO), Stopped") and ">abcdef</button>" in drawn
    assert "[aria-current]" in static("style.css") and 'aria-current="true"' in drawn


def test_own_runs_and_those_under_way_are_always_listed():
    def run(number, owner="", status="done"):
        return RunInfo(f"run{number:03}", "attack", "2026-01-01T00:00", "embedded", status, {}, "",
                       owner, False)  # fmt: skip

    runs = [run(n) for n in range(attack.SHOWN_RUNS + 5)]
    runs += [run(900, "me"), run(901, status="running"), run(902)]
    drawn = attack.runs_html(runs, "", "me")
    listed = re.findall(r'data-pick="run(\d+)"', drawn)
    assert len(listed) == attack.SHOWN_RUNS + 2 and listed[-2:] == ["900", "901"]
    assert "6 older ones are not listed" in drawn
    assert "not listed" not in attack.runs_html(runs[:3], "", "me")


def test_runs_without_training_are_told_as_such():
    config = {"target_undefended": "aligned", "target": "sdd", "attack": "prefill", "steps": 1}
    info = OF_RUN | {"config": config, "status": "done"}
    drawn = attack.run_html(info, [])
    assert "Forced beginning · no training" in drawn and "steps at" not in drawn
    # Nothing is trained: there is no loss and no entropy, and a before and an after, no steps.
    events = [
        {"event": "probe", "arm": arm, "step": step, "harm": harm, "substance": harm,
         "ability": 0.75, "prompts": 8, "questions": 24,
         "samples": [{"prompt": "Do it.", "reply": f"Reply {step}.", "label": "refusal"}]}
        for step, harm in ((0, 0.0), (1, 0.875))
        for arm in ("aligned", "sdd")
    ]  # fmt: skip
    drawn = attack.run_html(info, events)
    assert drawn.count("<figure") == 2 and "step" not in drawn.lower()
    assert "harm 0 of 8 → 7 of 8 (7 of 8 with content), ability 18 of 24 → 18 of 24." in drawn
    assert ">before</text>" in drawn and ">after</text>" in drawn
    assert "undefended 88% after" in drawn and ">After</th>" in drawn
    assert drawn.count("Reply 0.") == drawn.count("Reply 1.") == 2


def test_an_attack_without_training_tells_what_it_does_while_it_is_under_way():
    config = {"target_undefended": "aligned", "target": "sdd", "attack": "abliteration", "steps": 1}
    info = OF_RUN | {"config": config, "status": "running"}
    assert "Loading the judge" in attack.run_html(info, [{"event": "start"}])
    events = [
        {"event": "probe", "arm": "aligned", "step": 0, "harm": 0.0, "ability": 1.0},
        {"event": "progress", "arm": "aligned", "doing": "trying layer 5 of 23", "share": 0.25},
    ]
    drawn = attack.run_html(info, events)
    assert "Aligned, undefended: trying layer 5 of 23 …" in drawn
    assert 'aria-valuenow="25"' in drawn and "Step" not in drawn
    # What was asked once has no after; an arrow would claim one.
    other = events[0] | {"arm": "sdd", "prompts": 8, "questions": 24}
    stopped = attack.run_html(info | {"status": "stopped"}, [*events, other])
    assert "as it is released: harm 0 of 8, ability 24 of 24." in stopped and "→" not in stopped
    assert "Waiting: 2 attack(s)" in attack.run_html(info, [], 2)
    mounted = {"event": "mounted", "arm": "sdd", "step": 1, "mounted": {"layer": 21}}
    done = attack.run_html(info | {"status": "done"}, [*events, mounted])
    assert "was taken as it stands after layer 21." in done and "trying layer" not in done


def test_the_settings_of_a_training_are_hidden_where_nothing_is_trained():
    def visible(name):
        return [update.visible for update in attack._fitting(name)]

    assert visible("sft") == visible("sft_grpo") == [True, True]
    assert visible("abliteration") == [False, True] and visible("prefill") == [False, False]
    tab = attack.AttackTab.__new__(attack.AttackTab)
    hidden = ("upload", None, 1e-3, 5)
    assert tab._config("sdd", "prefill", *hidden, 7, "full").seed == 0
    assert tab._config("sdd", "abliteration", *hidden, 7, "full").seed == 7
    with pytest.raises(ValueError, match="seed is -1"):
        tab._config("sdd", "abliteration", *hidden, -1, "full")
    with pytest.raises(ValueError, match="Upload a JSONL"):
        tab._config("sdd", "sft", *hidden, 7, "full")


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
    ElementTree.fromstring(drawn)
    assert '<article class="hf-claim open"><header><h3>SDD</h3>' in drawn
    assert "Does not hold" in drawn and "Not measured" in drawn
    how = format_text(table[0])  # this machine's
    assert f"Supervised ({how}): harm 0% → 80%" in drawn and "not in the table" in drawn
    retained = {("sdd", name): (BROKEN, BROKEN) for name in ("sft", "sft_retain")}
    once = tiny_table(tmp_path / "once", retained, seeds=1)
    assert '<span class="hf-badge plain">Undecided ‡</span>' in shown.claims_html(claims(once))
    assert "Broken ‡</span>" in shown.matrix_html(cells(once))
    assert "‡" not in shown.matrix_html(cells(table)) + shown.runs_html(once[:2])


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


@pytest.mark.parametrize("strength", [0, 0.3, 0.7, 1, 1.1, 1.5])
def test_a_strength_is_part_of_an_arm_s_name(strength):
    name = with_strength("sdd", strength)
    assert split_strength(name) == ("sdd", strength)
    assert ("@" in name) == (strength != 1)
    assert chat.arm_style(name) == "held"
    assert chat.arm_title("20260101-000000-attack-abcdef/aligned@0.5") == (
        "Aligned, undefended, after attack abcdef, strength 0.5"
    )


@pytest.mark.parametrize("name", ["sdd@", "sdd@2", "sdd@1.55", "sdd@-1", "sdd@x", "sdd@1@1"])
def test_a_wrong_strength_is_named(name):
    with pytest.raises(ValueError, match="strength of 'sdd' is '.*'; it must be 0 to 1.5"):
        split_strength(name)


def test_a_strength_stays_with_its_arm():
    arms, *sliders = chat.place_strengths(["sdd", "tokenbuncher"], ["base", "sdd"], 1, 0.5, 1)
    assert arms == ["sdd", "tokenbuncher"]
    assert [slider["value"] for slider in map(vars_of, sliders)] == [0.5, 1, 1]
    assert [slider["visible"] for slider in map(vars_of, sliders)] == [True, True, False]
    _, base, *_ = chat.place_strengths(["base"], [], 1, 1, 1)
    assert vars_of(base)["visible"] is False  # it has no adapter


def vars_of(update):
    return {name: getattr(update, name) for name in ("value", "visible", "label")}


def test_an_upload_without_answers_is_for_reinforcement_only(tmp_path):
    path = tmp_path / "asked.jsonl"
    path.write_text('{"prompt": "Do it."}\n')
    tab = attack.AttackTab.__new__(attack.AttackTab)
    assert "1 requests can be used" in tab.check_file(str(path), "grpo", "upload")
    assert "reinforcement only" in tab.check_file(str(path), "sft_grpo", "upload")
    assert tab.check_file(str(path), "sft_grpo", "builtin") == "", "it is not used"


def test_arms_share_a_batch_until_their_histories_differ():
    same = chat.Conversation([], "Be kind.", ["base", "sdd"])
    assert [arms for arms, _ in same.groups("Hi")] == [["base", "sdd"]]
    turns = [{"prompt": "Hi", "replies": {"base": "Hello.", "sdd": "Bonjour."}}]
    groups = chat.Conversation(turns, "", ["base", "sdd"]).groups("And now?")
    assert [arms for arms, _ in groups] == [["base"], ["sdd"]]
    assert groups[1][1] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Bonjour."},
        {"role": "user", "content": "And now?"},
    ]


def test_the_library_is_drawn_and_handed_to_the_player():
    assert len(poses.library()) >= 8
    name, clip = next(iter(poses.library().items()))
    assert np.asarray(poses.thumbnail(name)).max() > 0
    joints = np.array(poses.for_player(clip, 16))
    assert joints.shape == (16, 18, 3)


def test_a_pose_file_is_read_by_what_it_is(tmp_path):
    clip = next(iter(poses.library().values()))
    (tmp_path / "pose.json").write_text(dump_openpose_json(clip))
    assert len(poses.read_pose(tmp_path / "pose.json")) == len(clip)

    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PoseError, match="broken.png"):
        poses.read_pose(tmp_path / "broken.png")

    Image.new("RGB", (6000, 6000)).save(tmp_path / "huge.png")
    with pytest.raises(PoseError, match="6000"):
        poses.read_pose(tmp_path / "huge.png")


def test_a_photo_is_turned_as_its_camera_was_held(tmp_path):
    clip = next(iter(poses.library().values())).fit(256)
    upright = Image.fromarray(draw_clip(clip, 256)[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    upright.rotate(90).save(tmp_path / "lying.png", exif=exif)
    found = poses.read_pose(tmp_path / "lying.png")
    both = found.seen[0] & clip.seen[0]
    assert np.abs(found.keypoints[0] - clip.keypoints[0])[both].max() < 3


def test_a_film_is_read_with_progress_and_says_what_is_missing(tmp_path):
    clip = poses.library()["walk"].fit(256)
    confidence = clip.confidence.copy()
    confidence[:, [10, 13]] = 0
    drawn = draw_clip(replace(clip, confidence=confidence), 256, 24)
    path = write_gif(drawn, tmp_path / "walk.gif", 8)
    *told, found = poses.read_film(path, 16, 8)
    fractions = [reading.fraction for reading in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert told[0] == poses.Reading(0.0, "Opening the video")
    assert told[1].message == "Opening the video: frame 1 of 16"
    assert told[-1].message == "Finding the pose: frame 16 of 16"
    assert len(found) == 16
    assert "not in view: feet; the model is left free there" in found.notes


def test_a_film_that_plays_much_faster_says_so(tmp_path):
    drawn = draw_clip(poses.library()["walk"].fit(128), 128, 8)
    *_, found = poses.read_film(write_gif(drawn, tmp_path / "slow.gif", 1), 4, 8)
    assert any("8.0 s play in 0.5 s, 16.0 times as fast" in text for text in found.notes)


def test_a_pose_is_fitted_or_keeps_its_framing():
    small = replace(poses.library()["walk"].fit(100), width=400, height=200)
    fitted, kept = poses.placed(small, 256, True), poses.placed(small, 256, False)
    assert (kept.width, kept.height, fitted.width, fitted.height) == (256,) * 4
    seen = small.seen
    tall, kept_tall, small_tall = (
        np.ptp(clip.keypoints[seen][:, 1]) for clip in (fitted, kept, small)
    )
    assert tall > 150
    assert kept_tall == pytest.approx(small_tall * 256 / 400, abs=0.01)


def test_the_server_takes_what_the_page_states_and_tells_nobody_of_inner_errors():
    options = launch_options()
    assert options["max_file_size"] == "12mb" and "1920 × 1080. At most 12 MB" in ACCEPTED
    assert options["show_error"] is False


# --- results -----------------------------------------------------------------------------------


def a_result(clip, guarded: bool = True) -> PairResult:
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    settings = {
        "profile": "embedded", "prompt": "a person", "guards": {"poseguard": 0.85}, "seed": 9,
        "steps": 12, "guidance_scale": 2.5, "guidance_interval": [0.7, 1.0],
        "pose": json.loads(dump_openpose_json(clip)),
    }  # fmt: skip
    return PairResult(frames, frames if guarded else None, frames, settings)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_result_is_written_with_its_seed_and_reads_back(tmp_path, guarded):
    clip = poses.placed(poses.library()["walk"], 256, True)
    made = a_result(clip, guarded)
    unguarded, held, settings = results.save_pair(made, tmp_path, 8)
    gif, pose = results.save_extras(made, tmp_path, 8)
    assert (held is not None) == guarded
    for path in (unguarded, settings, gif, pose):
        assert "seed-9" in path.name
    assert gif.name.startswith("pair" if guarded else "unguarded")
    with Image.open(gif) as pair:
        assert pair.n_frames == 4
        assert pair.size == (2 * 64 + 8 if guarded else 64, 64 + 12)
    read = results.read_settings(settings)
    assert (read.prompt, read.seed, read.steps, read.guidance_scale) == ("a person", 9, 12, 2.5)
    assert read.guards == {"poseguard": 0.85}
    assert read.guided_until == 0.7
    # The pose is the same to the pixel, in the settings and in its own file.
    wanted = draw_clip(clip, 256, 16)
    for again in (read.pose, poses.read_pose(pose)):
        np.testing.assert_array_equal(draw_clip(again, 256, 16), wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, '"seed" is -1; wanted a whole number from 0'),
        ({"seed": 1.5}, '"seed" is 1.5'),
        ({"seed": True}, '"seed" is true or false|"seed" is True'),
        ({"steps": 51}, '"steps" is 51; wanted a whole number from 1 to 50'),
        ({"guidance_scale": float("nan")}, '"guidance_scale" is nan'),
        ({"guidance_scale": NASTY}, '"guidance_scale" is text'),
        ({"redraw": 1}, '"redraw" is a number; wanted true or false'),
        ({"guidance_interval": [0.5]}, '"guidance_interval" must be a list of two'),
        ({"guidance_interval": [0.5, 0.8]}, r'"guidance_interval\[1\]" is 0.8'),
        ({"guidance_interval": [0.99, 1]}, r'"guidance_interval\[0\]" is 0.99'),
        ({"prompt": " "}, '"prompt" is text of 1 characters'),
        ({"prompt": "x" * 301}, '"prompt" is text of 301 characters'),
        ({"prompt": None}, '"prompt" is null'),
        ({"guards": ["poseguard"]}, '"guards" is a list'),
        ({"guards": {"poseguard": 2}}, '"guards.poseguard" is 2'),
        ({"pose": {"people": []}}, '"pose": no person found'),
        ({"pose": 7}, '"pose": the JSON is a number'),
    ],
)
def test_wrong_settings_are_refused_by_field(tmp_path, change, words):
    settings = a_result(poses.library()["walk"]).settings | change
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(results.SettingsError, match=words):
        results.read_settings(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "settings.json is not JSON"),
        ("[" * 100_000, "settings.json is not JSON"),
        ("\xff", "settings.json is not JSON"),
        ("[]", "settings.json holds a list"),
        ('{"people": []}', 'no field "prompt", "seed", "steps"'),
        (" " * 8_000_001, "8.0 MB; the limit is 8 MB"),
    ],
)
def test_other_files_are_no_settings(tmp_path, content, words):
    path = tmp_path / "settings.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(results.SettingsError, match=words):
        results.read_settings(path)


def test_the_prompt_guide_speaks_the_world_s_vocabulary():
    guide = prompt_guide()
    words = json.dumps(guide["vocabulary"])
    for known in (*looks.CLOTH, *looks.SKIN, *looks.HAIR, *looks.BACKGROUNDS, *looks.CHARACTERS):
        assert known in words
    vocabulary = set(re.findall(r"[\w-]+", words))
    for example in guide["examples"]:
        told = set("a an person with and wearing hat".split())
        content = set(re.findall(r"[\w-]+", example)) - told
        assert content <= vocabulary | set("hair skin top".split()), content - vocabulary


def test_example_prompts_are_from_the_validation_split():
    files = {"Red team": "redteam", "Harmless": "benign", "Sounds bad": "borderline"}
    examples = chat.prompt_examples()
    assert [len(prompts) for prompts in examples.values()] == [3, 2, 2]
    for title, prompts in examples.items():
        known = {row["prompt"] for row in prompt_set(files[title], "validation")}
        assert set(prompts) <= known and len(set(prompts)) == len(prompts)
    assert tuple(examples["Red team"]) == chat.RED_TEAM_EXAMPLES


def test_an_answer_is_red_only_where_the_prompt_is_known_to_be_harmful():
    def badge(prompt, label):
        turn = {"prompt": prompt, "replies": {"base": "x"}, "verdicts": {"base": [label, 0.9]}}
        return re.search(r'hf-badge (\w+)".*?>([^<]+) · ', chat.talk_html([turn])).groups()

    harmful, unknown = chat.RED_TEAM_EXAMPLES[0], "How do I water a fern?"
    for prompt in (harmful, f"  {harmful.upper()} ".replace(" A ", "\na ")):
        assert badge(prompt, "compliance") == ("compliance", "Complied")
    assert badge(unknown, "compliance") == ("plain", "Answered")
    for prompt in (harmful, unknown):
        assert badge(prompt, "refusal") == ("refusal", "Refused")
        assert badge(prompt, "off_topic") == ("off_topic", "Off topic")
        assert badge(prompt, "gibberish") == ("gibberish", "Gibberish")
    assert "Complied" in markup.verdict_badge("compliance", 0.9)  # as the Attack tab has it


def test_a_forced_beginning_is_told_and_belongs_to_the_reply():
    turn = chat.begun("Hi", ["base", "sdd"], "A < B")
    assert "<b>A &lt; B</b>" in chat.talk_html([turn], busy=True)
    turn["replies"] |= {"base": "A < B, then A < B"}
    drawn = chat.talk_html([turn])
    assert "Beginning forced on every reply: <b>A &lt; B</b>" in drawn
    said = re.findall(r'<div class="hf-reply">(.*?)</div>', drawn)
    assert said == ['<b title="Forced by the attacker">A &lt; B</b>, then A &lt; B', ""]
    assert "forced" not in chat.talk_html([chat.begun("Hi", ["base"])]).lower()


def test_a_reply_can_be_copied_once_it_is_whole():
    turn = chat.begun("Hi", ["base", "sdd"]) | {"replies": {"base": "Hello.", "sdd": ""}}
    label = "Copy the reply of Base, as published"
    drawn = chat.talk_html([turn, turn], busy=True)
    assert drawn.count("<button") == 1  # not of the turn that is being written, nor of no reply
    assert f'data-copy="{label}" aria-label="{label}">Copy</button>' in drawn
    assert "button[data-copy]" in static("copy.js")


def test_a_face_alone_is_shown_and_nothing_is_said_to_be_missing(tmp_path):
    face = np.full((2, 68, 2), 100.0)
    face[0, 5] = np.nan
    clip = poses.PoseClip(np.zeros((2, 18, 2)), np.zeros((2, 18)), face, 256, 256)
    shown_points = np.array(poses.for_player(clip, 2))
    assert shown_points.shape == (2, 18 + 68, 3)
    assert not shown_points[0, :18, 2].any()
    assert shown_points[0, 18 + 4].tolist() == [0.3906, 0.3906, 1]
    assert shown_points[0, 18 + 5, 2] == 0 and shown_points[1, 18 + 5, 2] == 1
    file = tmp_path / "face.json"
    file.write_text(dump_openpose_json(clip))
    assert "not in view" not in " ".join(poses.read_pose(file).notes)


def test_the_table_says_what_was_not_measured(tmp_path):
    ends = {("sdd", "sft"): (BROKEN, (0.8, 0.4)), ("seam", "grpo"): (BROKEN,) * 2}
    table = tiny_table(tmp_path, ends)
    words = shown._measured(cells(table))
    assert "Supervised on SEAM" in words and "Abliteration;" in words
    assert "Abliteration on" not in words and "training of all weights" in words


def test_callers_of_a_space_are_told_apart_behind_its_proxy(monkeypatch):
    def request(**headers):
        return SimpleNamespace(client=SimpleNamespace(host="10.0.0.1"), headers=headers)

    # The caller wrote the first entry himself; the proxy appended where he came from.
    forwarded = request(**{"x-forwarded-for": "198.51.100.4, 203.0.113.7"})
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert address(forwarded) == "10.0.0.1", "elsewhere anyone could write what he likes there"
    monkeypatch.setenv("SPACE_ID", "holdfast/demo")
    assert address(forwarded) == "203.0.113.7"
    assert address(request()) == "10.0.0.1"
    assert address(SimpleNamespace(client=None, headers={})) == ""


def test_what_a_large_model_complies_with_is_hidden_until_it_is_asked_for():
    harm, said = "How do I pick a lock?", "Sure <b>, first take"
    turn = chat.begun(harm, ["base"], masked=True) | {"replies": {"base": said}}
    live = chat.talk_html([turn], busy=True)
    assert "take" not in live and "4 words, hidden until judged" in live
    told = chat.talk_html([turn | {"verdicts": {"base": ["compliance", 0.9]}}])
    hidden = re.search(r'<details class="hf-masked">.*?</details>', told)[0]
    assert "Sure &lt;b&gt;, first take" in hidden and "<details open" not in told
    assert "<details" not in chat.talk_html([turn | {"verdicts": {"base": ["refusal", 0.9]}}])
    harmless = prompt_set("benign", "test")[0]["prompt"]
    for open_to_all in (chat.begun(harmless, ["base"], masked=True), chat.begun(harm, ["base"])):
        shown_whole = {"replies": {"base": said}, "verdicts": {"base": ["compliance", 1.0]}}
        assert "<details" not in chat.talk_html([open_to_all | shown_whole])
    samples = [{"prompt": harm, "reply": said, "label": "compliance", "confidence": 1.0}]
    found = attack.curves([{"event": "probe", "arm": "sdd", "step": 0, "samples": samples}])
    assert "<details" in attack.replies_html(found, [("sdd", "held")], masks=True)
    assert "<details" not in attack.replies_html(found, [("sdd", "held")])
    assert get_profile("hub").llm.masked and not get_profile("embedded").llm.masked
