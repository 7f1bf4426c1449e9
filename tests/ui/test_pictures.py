"""The Image tab, called as Gradio would, with real classes at tiny size behind it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.pictures import Shown
from pipelines.portraits import PortraitEngine
from pipelines.profiles import get_profile
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.ui.conftest import tiny_guard
from ui.engines import Engines, NotReady
from ui.pictures import (
    ATTACKED,
    BASE,
    MAX_ATTACKED,
    RATES,
    PicturesTab,
    arm_title,
    attack_html,
    drawn_html,
    measured_html,
    prompt_of,
)
from ui.session import Scratch, Sessions

VISITOR = SimpleNamespace(session_hash="visitor")
OTHER = SimpleNamespace(session_hash="other")
USUAL = list(RATES)[1]
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
def tab(folder, monkeypatch):
    monkeypatch.setattr("adapters.registry.ASSETS", folder / "assets")
    monkeypatch.setenv("HOLDFAST_CACHE", str(folder / "cache"))
    monkeypatch.setattr("pipelines.portraits.compute_dtype", lambda: torch.float32)
    engines = Engines(tiny_profile(folder / "avatar-sd"), set_up=False)
    assert engines.draws_pictures
    engines._pictures.load()
    with gr.Blocks():
        return PicturesTab(engines, Sessions(), Scratch())


def draw(tab, arms, count=2, request=VISITOR, seed=1.0, prompt=PROMPT):
    tab.prepare(request)
    return list(tab.draw(prompt, "pistol", 3, count, seed, arms, request))


def teach(tab, request=VISITOR, steps=10):
    tab.prepare_attack(request)
    return list(tab.teach("gift", steps, USUAL, request))


def test_people_are_drawn_by_all_that_are_chosen_and_can_be_downloaded(tab):
    waiting = tab.prepare(VISITOR)
    assert "Waiting" in waiting[0] and waiting[3].interactive and not waiting[2].interactive
    *under_way, (said, shown, go, stop, sheet) = tab.draw(
        PROMPT, "pistol", 3, 2, 1.0, ["gift", BASE], VISITOR
    )
    assert any("GIFT: step 2 of" in step[0] and "left" in step[0] for step in under_way)
    assert all(not step[2].interactive and step[3].interactive for step in under_way)
    assert "Drawn in" in said and go.interactive and not stop.interactive
    assert shown.count("<img") == 4 and shown.count("% sure") == 4
    assert shown.index("No defence") < shown.index("GIFT")  # in the list's order
    assert shown.count(f'title="{PROMPT}"') == 4  # one's own prompt, from two seeds
    assert sheet.visible
    assert Image.open(sheet.value["path"]).size == (2 * 64, 2 * 64)


def test_the_page_s_prompt_is_followed_by_the_next_people_s(tab):
    *_, (_, shown, *_) = draw(tab, [BASE], prompt=prompt_of("pistol", 3))
    assert prompt_of("pistol", 3) in shown and prompt_of("pistol", 4) in shown


def test_what_gradio_refuses_leaves_the_page_usable(tab):
    said, _, go, stop, _ = tab.refused()
    assert "out of its range" in said and go.interactive and not stop.interactive


def test_a_drawing_that_is_stopped_says_so(tab):
    tab.prepare(VISITOR)
    going = tab.draw(PROMPT, "pistol", 3, 1, 1.0, [BASE], VISITOR)
    next(step for step in going if "Step 2" in step[0])
    said, button = tab.stop_drawing(VISITOR)
    assert "Stopping" in said and not button.interactive
    *_, (said, _, go, stop, _) = going
    assert "Stopped" in said and go.interactive and not stop.interactive


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": []}, "choose at least one model"),
        ({"arms": [BASE, "relearnt-0"]}, "attack again"),
        ({"arms": [BASE], "count": 3}, "numbers of pictures"),
        ({"arms": [BASE], "seed": None}, "Enter a seed"),
        ({"arms": [BASE], "prompt": "x" * 400}, "at most 300 characters"),
        ({"arms": [BASE], "seed": -1.0}, "seed is -1"),
    ],
)
def test_what_is_wrong_is_told_and_the_page_is_usable_again(tab, change, words):
    *_, answer = draw(tab, **change)
    assert words in answer[0] and answer[2].interactive and not answer[3].interactive


def test_while_the_model_loads_the_page_says_so(tab, monkeypatch):
    def loading(self):
        raise NotReady("The picture model is loading")

    monkeypatch.setattr(Engines, "pictures", property(loading))
    (answer,) = draw(tab, [BASE])
    assert "is loading" in answer[0] and answer[2].interactive


def test_an_attack_tells_how_far_it_is_and_both_results_can_be_drawn_with(tab):
    waiting = tab.prepare_attack(VISITOR)
    assert "Waiting" in waiting[0] and waiting[3].interactive
    *under_way, (said, _, go, halt, arms) = tab.teach("gift", 10, USUAL, VISITOR)
    assert any("Step 3 of 10" in step[0] and "left" in step[0] for step in under_way)
    assert all(not step[2].interactive and step[3].interactive for step in under_way)
    assert "10 steps each" in said and go.interactive and not halt.interactive
    for words in ("Harm", "Ability", "GIFT, after 10 steps", "Concept ablation, before the attack"):
        assert words in under_way[-1][1]
    made = tab.sessions.of(VISITOR).relearnt
    assert list(made.values()) == ["Concept ablation, attacked", "GIFT, attacked"]
    assert arms.value == ["erased", "gift", *made]
    *_, (said, shown, *_) = draw(tab, ["gift", *made], 1)
    assert "Drawn in" in said and "GIFT, attacked" in shown and shown.count("<img") == 3
    *_, answer = draw(tab, list(made), 1, OTHER)  # another visitor's are not to be had
    assert "attack again" in answer[0]


def test_a_second_attack_takes_the_place_of_the_first_and_closing_lets_go(tab):
    teach(tab)
    first = set(tab.sessions.of(VISITOR).relearnt)
    teach(tab)
    engine = tab.engines.pictures
    assert not first & set(engine.arms)
    assert len([arm for arm in engine.arms if arm.startswith(ATTACKED)]) == 2
    tab.forget(VISITOR)
    assert not [arm for arm in engine.arms if arm.startswith(ATTACKED)]


def test_stopping_an_attack_keeps_the_steps_that_were_taken(tab):
    tab.prepare_attack(VISITOR)
    going = tab.teach("gift", 20, USUAL, VISITOR)
    next(step for step in going if "Step 13" in step[0])
    tab.stop_teaching(VISITOR)
    *_, last, (said, _, go, halt, arms) = going
    assert "13 steps each (stopped)" in said and len(arms.value) == 4
    for name in ("Concept ablation", "GIFT"):  # as many of both, and shown as they are mounted
        assert f"{name}, after 13 steps" in last[1]


def test_stopped_before_its_turn_nothing_is_attacked(tab):
    tab.prepare_attack(VISITOR)
    tab.stop_teaching(VISITOR)
    ((said, _, go, halt, _),) = tab.teach("gift", 10, USUAL, VISITOR)
    assert "before its turn" in said and go.interactive and not halt.interactive


def test_an_attack_that_cannot_be_is_told(tab):
    for target, steps in (("gift", 500), ("erased", 10)):
        (answer,) = list(tab.teach(target, steps, USUAL, VISITOR))
        assert "steps must be within" in answer[0] and answer[2].interactive
    engine = tab.engines.pictures
    for number in range(MAX_ATTACKED - 1):
        engine.add_arm(f"{ATTACKED}{number}", [])
    (answer,) = teach(tab)  # before anything is trained
    assert "of other visitors" in answer[0] and answer[2].interactive


def test_a_second_attack_that_fails_leaves_the_first_one_s_models(tab, monkeypatch):
    teach(tab)
    made, engine = dict(tab.sessions.of(VISITOR).relearnt), tab.engines.pictures
    real, calls = engine.add_arm, []

    def second_fails(name, loras):
        calls.append(name)
        if len(calls) == 2:
            raise RuntimeError("no room")
        real(name, loras)

    monkeypatch.setattr(engine, "add_arm", second_fails)
    *_, answer = teach(tab)
    assert "broke off" in answer[0]
    assert tab.sessions.of(VISITOR).relearnt == made
    assert {arm for arm in engine.arms if arm.startswith(ATTACKED)} == set(made)


def test_a_closed_page_s_attack_is_thrown_away(tab):
    tab.prepare_attack(VISITOR)
    going = tab.teach("gift", 10, USUAL, VISITOR)
    next(step for step in going if "Step 2" in step[0])
    tab.forget(VISITOR)
    *_, answer = going
    assert "closed meanwhile" in answer[0]
    assert not [arm for arm in tab.engines.pictures.arms if arm.startswith(ATTACKED)]


def test_the_same_number_is_the_same_person_whatever_is_held():
    pistol, bare = prompt_of("pistol", 5), prompt_of("none", 5)
    assert pistol.replace(" holding a pistol", "") == bare
    assert prompt_of("pistol", 6) != pistol


def test_a_profile_without_picture_defences_has_no_such_tab():
    assert not Engines(get_profile("hub"), set_up=False).draws_pictures


def test_pictures_are_shown_with_all_text_escaped():
    pictures = {"base": np.zeros((1, 32, 32, 3), np.uint8)}
    shown = drawn_html(pictures, {"base": [0.93]}, {"base": "<b>"}, ['"><script>'])
    assert "<script>" not in shown and "<h4>&lt;b&gt;" in shown
    assert "Pistol · 93% sure" in shown
    assert "sure" not in drawn_html(pictures, {}, {"base": "x"}, ["y"])
    assert "No pistol · 80% sure" in drawn_html(pictures, {"base": [0.2]}, {"base": "x"}, ["y"])


def test_nothing_is_drawn_of_an_attack_before_both_have_a_probe():
    class Probe:
        step, pictures = 0, np.zeros((10, 32, 32, 3), np.uint8)

    probe = (Probe, Shown(0.5, 0.9, 0.8, 0.9))
    assert attack_html({}) == "" and attack_html({"erased": [probe], "gift": []}) == ""
    assert "pistol in 50%" in attack_html({"erased": [probe], "gift": [probe]})


def test_the_table_tells_what_held_and_the_steps_of_each_seed():
    row = {
        "arm": "gift", "learning_rate": 1e-3, "steps": 40, "layers": "attention",
        "harm": [0.6, 0.3, 0.9],
        "ability": [0.8, 0.7, 0.9], "harm_before": 0.0, "ability_before": 0.9, "broken": True,
        "steps_to_break": [10, None], "seeds": 2,
    }  # fmt: skip
    spoilt = row | {"broken": False, "ability": [0.5, 0.4, 0.6], "arm": "gone"}
    shown = measured_html([row, row | {"broken": False}, spoilt])
    for words in ("GIFT", "0% → <b>60%</b>", "30%–90%", "Broken", "Held", "10, –", "Useless"):
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
