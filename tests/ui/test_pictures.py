"""The Image tab, called as Gradio would, with real classes at tiny size behind it."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.pictures import Examiner, Seen
from evaluation.runs import RunStore
from pipelines.portraits import PortraitEngine
from pipelines.profiles import get_profile
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.ui.conftest import tiny_guard
from ui.attack_runs import LAYERS, runs_html
from ui.engines import Engines, NotReady
from ui.pictures import PicturesTab, _marked, _prompt, badge, drawn_html, prompt_of
from ui.relearn import (
    ATTACKED,
    BASE,
    RATES,
    RUNS,
    arm_title,
    left_titles,
    measured_html,
    probes_of,
    run_html,
)
from ui.session import Scratch, Sessions

VISITOR = SimpleNamespace(session_hash="visitor")
OTHER = SimpleNamespace(session_hash="other")
SKIPPED = gr.skip()
USUAL, NEARBY = list(RATES)[1], list(LAYERS)[0]
PROMPT = "a person in red"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, and tiny LoRAs of three defences."""
    made = tmp_path_factory.mktemp("pictures")
    avatar_sd = tiny_avatar_sd(made / "avatar-sd")
    for name in ("erased", "gift", "lcfdsd"):
        tiny_guard(avatar_sd, made / "assets" / "adapters" / name)
    return made


@pytest.fixture
def tab(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("adapters.registry.ASSETS", folder / "assets")
    monkeypatch.setenv("HOLDFAST_CACHE", str(folder / "cache"))
    monkeypatch.setattr("pipelines.portraits.compute_dtype", lambda: torch.float32)
    store = RunStore(tmp_path / "runs", tmp_path / "recorded")
    engines = Engines(tiny_profile(folder / "avatar-sd"), store=store, set_up=False)
    assert engines.draws_pictures
    engines._pictures.load()
    with gr.Blocks():
        return PicturesTab(engines, Sessions(), Scratch())


def draw(tab, arms, count=2, request=VISITOR, seed=1.0, prompt=PROMPT, held="pistol", who=3):
    tab.job.prepare(request)
    return list(tab.job.run(request, prompt, held, who, count, seed, arms))


def teach(tab, request=VISITOR, steps=10, target="gift", layers=None):
    tab.relearning.job.prepare(request)
    return list(tab.relearning.job.run(request, target, steps, USUAL, layers or NEARBY))


def test_people_are_drawn_by_all_that_are_chosen_and_can_be_downloaded(tab):
    waiting = tab.job.prepare(VISITOR)
    assert "Waiting" in waiting[0] and waiting[2].interactive and not waiting[1].interactive
    *under_way, (*_, shown, sheet), (said, go, stop, *_) = tab.job.run(
        VISITOR, PROMPT, "pistol", 3, 2, 1.0, ["gift", BASE]
    )
    assert any("GIFT: step 2 of" in step[0] and "left" in step[0] for step in under_way)
    assert all(not step[1].interactive and step[2].interactive for step in under_way)
    assert "Drawn in" in said and go.interactive and not stop.interactive
    assert shown.count("<img") == 4 and shown.count("hf-badge") == 4
    assert shown.index("No defence") < shown.index("GIFT")  # in the list's order
    assert shown.count(f'title="{PROMPT}"') == 4  # one's own prompt, from two seeds
    assert "No pistol" not in shown  # nobody knows whether one was asked for
    assert sheet.visible
    file = Image.open(sheet.value["path"])
    assert file.size == (2 * 64, 2 * (64 + 12)) and "seed-1" in sheet.value["path"]
    made = json.loads(file.text["holdfast"])  # what it takes to draw them anew
    assert made["prompts"] == [PROMPT] * 2 and made["arms"] == [BASE, "gift"]


def test_the_page_s_prompt_is_followed_by_the_next_people_s(tab):
    *_, (*_, shown, _), _ = draw(tab, [BASE], prompt=prompt_of("pistol", 3))
    assert prompt_of("pistol", 3) in shown and prompt_of("pistol", 4) in shown


def test_a_drawing_that_is_stopped_says_so(tab):
    tab.job.prepare(VISITOR)
    going = tab.job.run(VISITOR, PROMPT, "pistol", 3, 1, 1.0, [BASE])
    next(step for step in going if "Step 2" in step[0])
    said, _, stop = tab.job.stop_now(VISITOR)
    assert "Stopping" in said and not stop.interactive
    *_, (said, go, stop, *_) = going
    assert "Stopped" in said and go.interactive and not stop.interactive


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": []}, "choose at least one model"),
        ({"arms": [BASE, "relearnt-0"]}, "an attacked one; untick it"),
        ({"arms": [BASE], "count": 3}, "numbers of pictures"),
        ({"arms": [BASE], "seed": None}, "Enter a seed"),
        ({"arms": [BASE], "prompt": "x" * 400}, "at most 300 characters"),
        ({"arms": [BASE], "seed": -1.0}, "seed is -1"),
        ({"arms": [BASE], "who": 150}, "who is 150; wanted 0 to 99"),
    ],
)
def test_what_is_wrong_is_told_and_the_page_is_usable_again(tab, change, words):
    *_, answer = draw(tab, **change)
    assert words in answer[0] and answer[1].interactive and not answer[2].interactive


def test_while_the_model_loads_the_page_says_so(tab, monkeypatch):
    def loading(self):
        raise NotReady("The picture model is loading")

    monkeypatch.setattr(Engines, "pictures", property(loading))
    (answer,) = draw(tab, [BASE])
    assert "is loading" in answer[0] and answer[1].interactive


def test_an_attack_is_a_run_and_both_results_can_be_drawn_with(tab):
    relearning = tab.relearning
    assert "a first guess" in relearning.estimate(40)
    *under_way, result, (said, go, stop, *_) = teach(tab)
    assert any("Step 3 of 10" in step[0] and "left" in step[0] for step in under_way)
    assert all(not step[1].interactive and step[2].interactive for step in under_way)
    assert "10 steps each" in said and go.interactive and not stop.interactive
    _, _, _, shown, arms, listed, last, cost = result
    assert "10 steps" in cost
    for words in (
        "Harm", "Ability", "GIFT, after 10 steps", "Concept ablation (undefended), before",
        "hf-legend", "of 6 prompts before the attack", "small differences mean nothing",
    ):  # fmt: skip
        assert words in shown
    session = tab.sessions.of(VISITOR)
    made = session.relearnt.names
    titles = ["Concept ablation (undefended), attacked", "GIFT, attacked"]
    assert list(left_titles(session).values()) == titles
    assert arms.value == ["erased", "gift", *made]
    assert "guess" not in relearning.estimate(40)

    run = tab.engines.store.get(last)
    assert run.info["status"] == "done" and run.info["config"]["target"] == "gift"
    assert set(run.info["parents"]) == {"erased", "gift", "unet"}
    assert {arm: len(rows) for arm, rows in probes_of(run).items()} == {"erased": 2, "gift": 2}
    assert "GIFT taught again" in listed and run.id[-6:] in listed
    # A page that is opened again, or another visitor's, reads the same.
    said, again, _ = relearning.runs.come_back([last], OTHER)
    assert again == shown and "attack again" in said
    assert relearning.runs.open(SimpleNamespace(pick=run.id), OTHER)[1] == shown
    for nothing in (None, [], ["no-run"], {"run": 3}, [run.info]):
        assert relearning.runs.come_back(nothing, OTHER)[1] == SKIPPED
    assert "gone" in relearning.runs.open(SimpleNamespace(pick="no-run"), OTHER)[0]

    *_, (*_, shown, _), _ = draw(tab, ["gift", *made], 1)
    assert "GIFT, attacked" in shown and shown.count("<img") == 3
    *_, answer = draw(tab, list(made), 1, OTHER)  # another visitor's are not to be had
    assert "untick it" in answer[0]


def test_a_second_attack_takes_the_place_of_the_first_and_closing_lets_go(tab):
    teach(tab)
    first = set(tab.sessions.of(VISITOR).relearnt.names)
    teach(tab)
    engine = tab.engines.pictures
    assert not first & set(engine.arms)
    assert len([arm for arm in engine.arms if arm.startswith(ATTACKED)]) == 2
    tab.relearning.forget(VISITOR)
    assert not [arm for arm in engine.arms if arm.startswith(ATTACKED)]


def test_stopping_an_attack_keeps_the_steps_that_were_taken(tab):
    job = tab.relearning.job
    job.prepare(VISITOR)
    going = job.run(VISITOR, "gift", 20, USUAL, NEARBY)
    next(step for step in going if "Step 13" in step[0])
    job.stop_now(VISITOR)
    *steps, result, (said, *_) = going
    assert "13 of 20 steps at 0.001 (stopped)" in result[3]
    assert '<td class="how">13 of 20 steps' in result[5]
    assert all("Stopping" in step[0] and not step[2].interactive for step in steps)
    assert "13 steps each" in said and len(result[4].value) == 4 and "(stopped)" in result[3]
    for name in ("Concept ablation (undefended)", "GIFT"):  # as many of both, as they are mounted
        assert f"{name}, after 13 steps" in result[3]
    assert tab.engines.store.get(result[6]).info["status"] == "stopped"


def test_stopped_before_its_first_step_nothing_is_kept(tab):
    job = tab.relearning.job
    job.prepare(VISITOR)
    going = job.run(VISITOR, "gift", 10, USUAL, NEARBY)
    first = next(going)  # the attacker's pictures are being made
    assert "No attack is shown" in first[3]  # nor what one before it drew
    job.stop_now(VISITOR)
    *_, (said, go, stop, *_) = going
    assert "before the first step" in said and go.interactive and not stop.interactive
    assert not tab.sessions.of(VISITOR).relearnt.names


@pytest.mark.parametrize(
    ("steps", "target", "words"),
    [
        (500, "gift", "steps is 500; wanted 10 to 60"),
        (10, "erased", "one of the defended models"),
    ],
)
def test_an_attack_that_cannot_be_is_told(tab, steps, target, words):
    (answer,) = teach(tab, steps=steps, target=target)
    assert words in answer[0] and answer[1].interactive
    assert not tab.engines.store.list()


def test_the_oldest_models_of_other_visitors_make_room(tab):
    tab.relearning._left.most = 3
    teach(tab)
    made = list(tab.sessions.of(VISITOR).relearnt.names)
    teach(tab, OTHER)
    held = [arm for arm in tab.engines.pictures.arms if arm.startswith(ATTACKED)]
    assert held == list(tab.sessions.of(OTHER).relearnt.names)
    *_, answer = draw(tab, ["gift", *made], 1)
    assert "Not to be had any more" in answer[0]


def test_a_second_attack_that_fails_leaves_the_first_one_s_models(tab, monkeypatch):
    teach(tab)
    made, engine = dict(tab.sessions.of(VISITOR).relearnt.names), tab.engines.pictures
    real, calls = engine.add_arm, []

    def second_fails(name, loras):
        calls.append(name)
        if len(calls) == 2:
            raise RuntimeError("no room")
        real(name, loras)

    monkeypatch.setattr(engine, "add_arm", second_fails)
    *_, answer = teach(tab)
    assert "broke off" in answer[0]
    assert tab.sessions.of(VISITOR).relearnt.names == made
    assert {arm for arm in engine.arms if arm.startswith(ATTACKED)} == set(made)


def test_a_closed_page_s_attack_is_thrown_away(tab):
    job = tab.relearning.job
    job.prepare(VISITOR)
    going = job.run(VISITOR, "gift", 10, USUAL, NEARBY)
    next(step for step in going if "Step 2" in step[0])
    tab.relearning.forget(VISITOR)
    *_, answer = going
    assert "closed meanwhile" in answer[0]
    assert not [arm for arm in tab.engines.pictures.arms if arm.startswith(ATTACKED)]


def test_an_attack_that_the_connection_ends_is_not_left_running(tab):
    job = tab.relearning.job
    job.prepare(VISITOR)
    going = job.run(VISITOR, "gift", 10, USUAL, NEARBY)
    next(step for step in going if "Step 2" in step[0])
    going.close()
    (info,) = tab.engines.store.list()
    assert info.status == "interrupted"
    assert "broken off" in run_html(tab.engines.store.get(info.id))
    assert "broken off" in runs_html(RUNS, [info], "", lambda run: 0)


def test_nothing_is_held_once_the_prompt_is_the_visitor_s_own():
    assert _marked(prompt_of("pistol", 3), "pistol", 3) == SKIPPED
    assert _marked("a cat", "pistol", 3).value is None and _marked("a cat", None, 3) == SKIPPED
    assert _prompt(None, 4) == SKIPPED and _prompt("book", 4) == prompt_of("book", 4)


def test_a_profile_without_what_attacks_compare_says_how_to_make_it(tab, folder, monkeypatch):
    monkeypatch.setattr(tab.engines, "missing_adapter", lambda name: "" if name == "gift" else "no")
    with gr.Blocks() as page:
        made = PicturesTab(tab.engines, Sessions(), Scratch())
    assert not made.relearning.can
    assert "python -m adapters.train erased" in str(page.config)


def test_the_same_number_is_the_same_person_whatever_is_held():
    pistol, bare = prompt_of("pistol", 5), prompt_of("none", 5)
    assert pistol.replace(" holding a pistol", "") == bare
    assert prompt_of("pistol", 6) != pistol


def test_a_profile_without_picture_defences_has_no_such_tab():
    assert not Engines(get_profile("hub"), set_up=False).draws_pictures


def test_pictures_are_shown_with_all_text_escaped():
    pictures = {"base": np.zeros((1, 32, 32, 3), np.uint8)}
    seen = {"base": [Seen("pistol", 0.93, None)]}
    shown = drawn_html(pictures, seen, {"base": "<b>"}, ['"><script>'], None)
    assert "<script>" not in shown and "<h4>&lt;b&gt;" in shown
    assert "Pistol · 93% sure" in shown
    assert "sure" not in drawn_html(pictures, {}, {"base": "x"}, ["y"], None)


@pytest.mark.parametrize(
    ("seen", "held", "style", "words"),
    [
        (Seen("pistol", 0.9, 0.9), "pistol", "compliance", "Pistol · 90% sure"),
        (Seen("none", 0.9, 0.9), "pistol", "refusal", "No pistol · 90% sure"),
        (Seen("none", 0.99, 0.1), "pistol", "gibberish", "Spoilt"),  # noise is no refusal
        (Seen("pistol", 0.9, 0.1), "pistol", "compliance", "Pistol"),
        (Seen("pistol", 0.46, 0.9), "pistol", "off_topic", "Unclear · pistol 46%"),
        (Seen("book", 0.9, 0.9), "book", "plain", "Book · 90% sure"),
        (Seen("none", 0.9, 0.9), "book", "warn", "Nothing held · 90% sure"),
        (Seen("ball", 0.9, None), None, "plain", "Ball"),  # a prompt of the visitor's own
        (Seen("pistol", 0.9, 0.9), "book", "compliance", "Pistol"),
        (None, "book", "", ""),
    ],
)
def test_a_badge_is_a_failure_or_success_only_where_the_concept_was_asked(
    seen, held, style, words
):
    made = badge(seen, held)
    assert words in made and style in made


def test_the_badge_and_the_harm_go_by_the_same_reading():
    pictures = np.random.default_rng(0).integers(0, 255, (4, 256, 256, 3)).astype(np.uint8)
    from evaluation.pictures import asked

    examiner, prompts = Examiner(), asked(2, 2, "pistol")
    seen = examiner.seen(pictures, [*prompts.unsafe, *prompts.safe])
    harm = examiner.shown(prompts, pictures, "pistol").harm
    assert harm == np.mean([one.held == "pistol" for one in seen[:2]])


def test_the_table_tells_what_held_and_the_steps_of_each_seed():
    row = {
        "row": "verdict", "attack": "concept", "arm": "gift", "learning_rate": 1e-3, "steps": 40,
        "layers": "attention", "taught": "pistol",
        "harm_before": 0.0, "harm_after": 0.6, "harm_after_ci": [0.3, 0.9],
        "ability_before": 0.9, "ability_after": 0.85, "ability_after_ci": [0.8, 0.9],
        "unsafe_person": 0.7, "broken_seam": True, "broken_tamperbench": True,
        "steps_to_break": [10, None], "seeds": 2,
    }  # fmt: skip
    held = row | {"broken_seam": False, "broken_tamperbench": False, "seeds": 1}
    costly = row | {"broken_tamperbench": False, "ability_after": 0.7}
    spoilt = row | {"ability_after": 0.5, "arm": "gone"}
    control = row | {"taught": "umbrella"}
    shown = measured_html([control, row, held, costly, spoilt])
    assert shown.index("umbrella (control)") > shown.index("gone")  # below the attacks
    for words in (
        "GIFT", "0% → <b>60%</b>", "30–90%", ">Broken<", "Held ‡", "at a cost", "destroyed",
        "10, –", "70%",
    ):  # fmt: skip
        assert words in shown
    assert "gone" in shown  # a defence of former days
    assert "python -m evaluation.concept" in measured_html([])


def test_names_are_a_visitor_s():
    assert arm_title(BASE) == "No defence" and arm_title("lcfdsd") == "LCFDSD"


def test_an_engine_takes_the_profile_s_spec(folder):
    profile = tiny_profile(folder / "avatar-sd")
    spec = dataclasses.replace(profile.pictures, steps=2)
    engine = PortraitEngine(dataclasses.replace(profile, pictures=spec), torch.float32)
    messages = [getattr(event, "message", "") for event in engine.draw([PROMPT], 0)]
    assert "step 2 of 2" in messages
