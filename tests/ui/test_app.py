"""The public endpoints, called as a script would, on the served app."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from adapters.attacks.base import attack_settings
from evaluation.cells import cells
from evaluation.tables import read
from pipelines.pose_json import dump_openpose_json
from tests.tiny_llm import tiny_lora
from tests.ui.conftest import WAIT, script, wait_until
from ui.api import Api
from ui.attack import REPLAY_SECONDS, AttackTab
from ui.chat import MAX_PREFILL, ChatTab, Conversation, answer, talk_html
from ui.engines import MAX_ATTACKED_ARMS
from ui.evidence import EvidenceTab
from ui.poses import library
from ui.session import Scratch, Sessions

PROMPT = "red shirt"


@pytest.fixture(scope="module")
def client(served):
    return script(served)


def a_clip() -> str:
    return next(iter(library()))


def is_mp4(path: str) -> bool:
    return Path(path).read_bytes()[4:8] == b"ftyp"


def test_the_page_opens_and_only_these_endpoints_are_public(served, client):
    page = httpx.get(served.url, timeout=WAIT)
    assert page.status_code == 200
    assert "Holdfast" in page.text
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/animate",
        "/pictures",
        "/chat",
        "/attack",
        "/runs",
    }


def test_animate_makes_a_pair_from_a_clip_of_the_library(client):
    unguarded, guarded, settings = client.predict(
        a_clip(), PROMPT, {"poseguard": 1.0}, 3, api_name="/animate"
    )
    assert is_mp4(unguarded) and is_mp4(guarded)
    assert Path(unguarded).read_bytes() != Path(guarded).read_bytes()
    assert (settings["seed"], settings["guards"]) == (3, {"poseguard": 1.0})


def test_draw_draws_with_all_or_some_models_and_tells_how(served, client):
    file, settings = client.predict(PROMPT, None, 3, 2, api_name="/pictures")
    assert settings["arms"] == ["base", "erased", "gift"] and settings["prompts"] == [PROMPT] * 2
    picture = Image.open(file)
    side = served.engines.pictures.spec.size
    assert picture.size[0] == 2 * side and json.loads(picture.text["holdfast"])["seed"] == 3
    _, settings = client.predict(PROMPT, ["gift"], api_name="/pictures")
    assert settings["arms"] == ["gift"] and settings["seed"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((PROMPT, ["nobody"]), "arms names 'nobody'; there is: base, erased, gift"),
        ((PROMPT, []), "arms is empty"),
        (("x" * 400,), "at most 300 characters"),
        ((PROMPT, None, -1), "seed is -1; it must be 0 to"),
        ((PROMPT, None, 0, 7), "count is 7; it must be 1 to 6"),
    ],
)
def test_draw_names_what_is_wrong(client, arguments, words):
    with pytest.raises(AppError, match=words):
        client.predict(*arguments, api_name="/pictures")


def test_animate_takes_openpose_json_and_no_guard(client, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(dump_openpose_json(library()[a_clip()]))
    unguarded, guarded, settings = client.predict(
        handle_file(file), PROMPT, {}, 0, api_name="/animate"
    )
    assert is_mp4(unguarded)
    assert guarded is None
    assert settings["prompt"] == PROMPT


def test_animate_makes_a_result_again_from_its_settings(client, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(dump_openpose_json(library()[a_clip()]))
    first, _, settings = client.predict(
        handle_file(file), PROMPT, {}, 5, 3, 2.0, [0.2, 1.0], api_name="/animate"
    )
    assert (settings["steps"], settings["guidance_scale"]) == (3, 2.0)
    file.write_text(json.dumps(settings["pose"]))
    again, _, same = client.predict(
        handle_file(file), settings["prompt"], settings["guards"], settings["seed"],
        settings["steps"], settings["guidance_scale"], settings["guidance_interval"],
        settings["redraw"], False, api_name="/animate",
    )  # fmt: skip
    assert Path(first).read_bytes() == Path(again).read_bytes()
    assert {**settings, "seconds": 0} == {**same, "seconds": 0}


@pytest.mark.parametrize(
    ("more", "words"),
    [((0,), "steps is 0"), ((51,), "at most 50"), ((2, 99.0), "guidance_scale"),
     ((2, 2.0, [1.0]), "list of two"), ((2, 2.0, [0.5, 0.1]), "low end first")],
)  # fmt: skip
def test_animate_names_a_setting_that_is_wrong(client, more, words):
    with pytest.raises(AppError, match=words):
        client.predict(a_clip(), PROMPT, {}, 0, *more, api_name="/animate")


@pytest.mark.parametrize(
    ("pose", "prompt", "guards", "words"),
    [
        ("no_such_clip", PROMPT, {}, "no_such_clip"),
        (None, " ", {}, "prompt"),
        (None, PROMPT, {"nobody": 1.0}, "nobody"),
        (None, PROMPT, {"poseguard": 9}, "poseguard"),
        (None, PROMPT, {"poseguard": 1, "poseguard_hardened": 1}, "two forms of one guard"),
        ({"path": "/etc/hostname"}, PROMPT, {}, "uploaded"),
        (7, PROMPT, {}, "uploaded"),
        (None, PROMPT, ["poseguard"], "guards must be an object"),
        (None, PROMPT, 7, "guards must be an object"),
    ],
)
def test_animate_names_what_is_wrong(client, pose, prompt, guards, words):
    with pytest.raises(AppError, match=words):
        client.predict(a_clip() if pose is None else pose, prompt, guards, 0, api_name="/animate")


def test_animate_says_what_is_wrong_with_a_json_file(client, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text('{"people": []}')
    with pytest.raises(AppError, match="no person|people"):
        client.predict(handle_file(file), PROMPT, {}, 0, api_name="/animate")


def test_chat_answers_with_every_arm(client):
    replies = client.predict("Hello", ["base", "aligned", "sdd"], api_name="/chat")
    assert list(replies) == ["base", "aligned", "sdd"]
    for told in replies.values():
        assert told["verdict"] in ("refusal", "compliance", "off_topic", "gibberish")
        assert 0 <= told["confidence"] <= 1


@pytest.mark.parametrize(
    ("message", "arms", "words"),
    [
        ("", ["base"], "message"),
        ("Hello", [], "arms"),
        ("Hello", ["base", "base"], "arms"),
        ("Hello", ["nobody"], "nobody"),
        ("Hello", ["20990101-000000-attack-abcdef/sdd"], "no run"),
        ("Hello", ["../../etc/sdd"], "no run"),
    ],
)
def test_chat_names_what_is_wrong(client, message, arms, words):
    with pytest.raises(AppError, match=words):
        client.predict(message, arms, api_name="/chat")


def test_an_attack_streams_its_events_and_its_models_can_be_chatted_with(served, client):
    lines = list(client.submit("sdd", "sft", 2, 1e-2, 0, api_name="/attack"))
    *events, last = map(json.loads, lines)
    assert last["status"] == "done"
    steps = [(event["arm"], event["step"]) for event in events if event["event"] == "step"]
    assert sorted(steps) == [("aligned", 1), ("aligned", 2), ("sdd", 1), ("sdd", 2)]
    assert {event["arm"] for event in events if event["event"] == "probe"} == {"aligned", "sdd"}

    listed = client.predict(api_name="/runs")
    assert listed[0]["id"] == last["run_id"]
    assert "owner_hash" not in listed[0]

    arms = [f"{last['run_id']}/{arm}" for arm in ("aligned", "sdd")]
    assert list(client.predict("Hello", arms, api_name="/chat")) == arms


def test_a_run_of_another_chat_model_is_named_masked_and_not_answered_for(served, client):
    run = served.store.create(
        "attack", {"target": "sdd", "target_undefended": "aligned", "attack": "sft", "steps": 1},
        "org--other", {},
    )  # fmt: skip
    sample = {"prompt": "How?", "reply": "Take a key.", "label": "compliance", "confidence": 0.9}
    for arm in ("aligned", "sdd"):
        run.log(event="probe", arm=arm, step=0, harm=1.0, ability=0.5, samples=[sample])
        run.save_files(arm, lambda scratch: tiny_lora(scratch, 1))
    run.finish("done")
    with gr.Blocks():
        tab = AttackTab(served.engines)
    view, listed, *_ = tab.refresh(run.id, {"token": ""})
    assert "of org--other" in view and "hf-masked" in view and "of org--other" in listed
    with pytest.raises(AppError, match="of another chat model, 'org--other'"):
        client.predict("Hello", [f"{run.id}/sdd"], api_name="/chat")


def test_the_attack_tab_shows_attacks_on_chat_models_alone(served):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    run = served.store.create("guard", {"target": "poseguard"}, "embedded", {})
    assert tab._run(run.id) is None
    run.finish("stopped")


def test_a_call_beside_one_that_was_cancelled_and_is_still_computed_is_told_so(served, tmp_path):
    api = Api(served.engines, Scratch())
    with api._lane("animate"), pytest.raises(gr.Error, match="cancelled is still being computed"):
        api.animate(a_clip(), PROMPT, {}, 0)
    unguarded, guarded, _ = api.animate(a_clip(), PROMPT, {}, 0)  # free again
    assert is_mp4(unguarded["path"]) and guarded is None


def test_calls_that_go_around_the_queue_are_refused(served):
    answer = httpx.post(f"{served.url}gradio_api/run/runs", json={"data": []}, timeout=WAIT)
    assert answer.status_code == 404 and "queue" in answer.text


def test_a_recorded_run_is_replayed_in_the_attack_tab(served, monkeypatch):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    recorded = next(info.id for info in served.store.list() if info.recorded)
    view, *_, button, player, playing = tab.refresh(recorded, {"token": ""})
    assert ">Recorded<" in view and button.visible and not player.active and playing is None
    # A second look on its way leaves alone a replay that has begun meanwhile.
    again = tab.refresh(recorded, {"token": ""}, None, (recorded, "done"))
    assert again[-3:] == (gr.skip(),) * 3
    button, player, playing = tab.start_or_skip(recorded, None)
    assert player.active and "Skip" in button.value
    now = playing[1]
    seen = []
    for seconds in (0.0, REPLAY_SECONDS / 4, REPLAY_SECONDS / 2):
        monkeypatch.setattr("ui.attack.time", SimpleNamespace(monotonic=lambda s=seconds: now + s))
        view, _, player, state = tab.play(recorded, playing)
        assert "Replay, recorded" in view and player.active and state == playing
        seen.append(int(re.search(r'aria-valuenow="(\d+)"', view)[1]))
    assert 0 == seen[0] < seen[1] < seen[2] < 100
    # Skipped, or played to its end, the whole run is shown as before.
    skipped = tab.start_or_skip(recorded, playing)[2]
    monkeypatch.setattr("ui.attack.time", SimpleNamespace(monotonic=lambda: now + REPLAY_SECONDS))
    for state in (skipped, playing):
        view, button, player, state = tab.play(recorded, state)
        assert ">Recorded<" in view and "Replay in" in button.value
        assert not player.active and state is None
    # Another run was opened meanwhile: it is shown whole.
    other = [info.id for info in served.store.list() if info.recorded][1]
    view, _, player, state = tab.play(other, playing)
    assert ">Recorded<" in view and not player.active and state is None


def test_the_list_of_runs_says_how_each_came_out(served):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    drawn = tab.listed("", {"token": ""}, "all")
    recorded = next(info for info in served.store.list() if info.recorded)
    row = re.search(f'data-pick="{recorded.id}".*?</tr>', drawn)[0]
    assert re.search(r'<td class="harm">0 of 8 → <b>[678] of 8</b></td>', row)
    assert recorded.id not in tab.listed("", {"token": ""}, "here")
    assert recorded.id not in tab.refresh("", {"token": ""}, which="mine")[1]


def test_a_run_that_is_over_is_drawn_once_more_before_the_page_stops_looking(served):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    run = next(info.id for info in served.store.list() if info.recorded)
    browser = {"token": ""}
    first = tab.refresh(run, browser)
    assert first[4].active
    again = tab.tick(run, browser, first[5])
    assert again[:2] == first[:2] and not again[4].active
    # What was said while it was under way goes when it is over; what is said of others stays.
    assert tab.tick(run, browser, (run, "running", 1, 0))[-1] == ""
    assert tab.tick(run, browser, ("another", "running", 1, 0))[-1] != ""


def test_presets_of_defences_without_weights_are_not_offered(served):
    with gr.Blocks():
        tab = AttackTab(served.engines, cells(read()))
    targets = {preset.target for _, preset in tab.form.presets}
    assert targets == {"", "sdd"}
    assert tab.form.presets[0][0].value == "RL breaks a plain refusal"


def test_the_evidence_tab_filters_its_table(served):
    with gr.Blocks():
        tab = EvidenceTab(read(), Scratch())
        empty = EvidenceTab([], Scratch())
    table, _ = tab.draw("", "", "", "means")
    assert table.count("data-pick") == 8
    table, chart = tab.draw("sdd", "grpo", "lora", "means")
    assert table.count("data-pick") == 2 and chart.count("<title>") == 1
    table, _ = tab.draw("sdd", "", "", "seeds")
    assert table.count("data-pick") == 4 and "hf-lines" in table
    assert "Nothing of that kind" in tab.draw("sdd", "", "full", "means")[0]
    assert not empty.tables


def test_the_page_says_how_to_make_a_table(served):
    with gr.Blocks() as page:
        EvidenceTab([], Scratch())
    words = " ".join(str(block.value) for block in page.blocks.values() if hasattr(block, "value"))
    assert "<code>python -m evaluation.stress llm --ship</code>" in words


def test_chat_answers_at_another_strength(served, client):
    arms = ["base", "sdd@0", "sdd@1.5"]
    replies = client.predict("Hello", arms, api_name="/chat")
    assert list(replies) == arms
    assert replies["base"]["reply"] == replies["sdd@0"]["reply"] != replies["sdd@1.5"]["reply"]
    assert len(served.engines._attacked) <= MAX_ATTACKED_ARMS
    wrongs = {"sdd@9": "strength of", "base@0.5": "no adapter", "x@0.5": "no model"}
    for wrong, words in wrongs.items():
        with pytest.raises(AppError, match=words):
            client.predict("Hello", [wrong], api_name="/chat")


def test_an_attacker_may_ask_what_no_defence_saw(served, client):
    lines = list(client.submit("sdd", "sft", 1, 1e-2, 0, "lora", "unseen", api_name="/attack"))
    run = served.store.get(json.loads(lines[-1])["run_id"])
    assert run.info["status"] == "done" and run.info["config"]["data"] == "unseen"
    with gr.Blocks():
        tab = AttackTab(served.engines)
    inputs = (None, 1e-2, 5, 0, "lora")
    assert tab.form.config("sdd", "sft", "unseen", *inputs).data == "unseen"
    # What no radio button offers is no path.
    assert tab.form.config("sdd", "sft", "/etc/passwd", *inputs).data == "builtin"


def test_a_fully_trained_model_is_no_arm_of_chat(served, client):
    lines = list(client.submit("sdd", "sft", 2, None, 0, "full", api_name="/attack"))
    last = json.loads(lines[-1])
    assert last["status"] == "done", last["error"]
    run = served.store.get(last["run_id"])
    assert (run.info["config"]["method"], run.info["config"]["learning_rate"]) == ("full", 3e-5)
    assert set(run.models()) == {"aligned", "sdd"} and not run.adapters()
    with pytest.raises(AppError, match="trained all weights"):
        client.predict("Hello", [f"{run.id}/sdd"], api_name="/chat")
    with gr.Blocks():
        tab = AttackTab(served.engines)
        view = tab.refresh(run.id, {"token": "me"})
    assert "All weights were trained" in view[0] and "all weights" in view[1]
    assert not view[3].visible  # the button that hands over to Chat
    served.store.get(run.id).drop_models()


def attacked_without_training(client, attack):
    lines = list(client.submit("sdd", attack, api_name="/attack"))
    last = json.loads(lines[-1])
    assert last["status"] == "done", last["error"]
    return last["run_id"]


def test_a_forced_beginning_is_handed_over_to_chat_as_such(served, client):
    run_id = attacked_without_training(client, "prefill")
    with gr.Blocks():
        tab = AttackTab(served.engines)
        view = tab.refresh(run_id, {"token": "me"})
        arms, prefix, tools, tabs = tab.hand_over(run_id)
    assert "harm" in view[0] and "Forced beginning, no training" in view[1]
    assert (view[3].visible, view[3].value) == (True, "Try the forced beginning in Chat")
    assert view[6].visible  # the replay
    assert (arms.value, prefix, tools.open) == (["aligned", "sdd"], "Sure, here is", True)
    assert tabs.selected == "chat"
    with pytest.raises(AppError, match="changed no weights"):
        client.predict("Hello", [f"{run_id}/sdd"], api_name="/chat")


def test_abliterated_models_can_be_chatted_with(served, client):
    run_id = attacked_without_training(client, "abliteration")
    attacked = [f"{run_id}/{arm}" for arm in ("aligned", "sdd")]
    with gr.Blocks():
        tab = AttackTab(served.engines)
        view = tab.refresh(run_id, {"token": "me"})
        arms, prefix, tools, _ = tab.hand_over(run_id)
    assert (view[3].visible, view[3].value) == (True, "Try the attacked models in Chat")
    assert (arms.value, prefix, tools) == (attacked, "", gr.skip())
    replies = client.predict("Hello", ["aligned", *attacked], api_name="/chat")
    assert list(replies) == ["aligned", *attacked]
    assert replies["aligned"]["reply"] != replies[attacked[0]]["reply"]


def test_the_cost_of_an_attack_without_training_is_told_without_steps(served):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    hidden = ("builtin", None, 1e-3, 5, 0, "lora")
    for attack in ("prefill", "abliteration"):
        told = tab.form.estimate("sdd", attack, *hidden)
        assert "nothing trained: about" in told and "steps" not in told
        assert ("first guess" in told) == (not served.engines.runner.measured(
            attack_settings("sdd", attack, 0)
        ))
    assert "target is &#x27;poseguard&#x27;" in tab.begin("poseguard", "prefill", *hidden, None)[2]


def test_an_attack_that_takes_too_long_is_not_begun(served, client, monkeypatch):
    monkeypatch.setattr("ui.attack_presets.MAX_SECONDS", 0)
    with gr.Blocks():
        tab = AttackTab(served.engines)
    settings = ("sdd", "grpo", "builtin", None, 1e-3, 200, 0, "lora")
    before = len(served.store.list())
    for told in (tab.begin(*settings, None)[2], tab.form.estimate(*settings)):
        assert "200 steps take about" in told and "lower the steps" in told
    with pytest.raises(AppError, match="lower the steps"):
        client.submit("sdd", "grpo", 200, api_name="/attack").result()
    assert len(served.store.list()) == before


def test_a_cancelled_attack_stops(served, client):
    job = client.submit("sdd", "sft", 200, 1e-3, 0, api_name="/attack")
    wait_until(lambda: any('"event": "step"' in line for line in job.outputs()))
    job.cancel()
    run_id = client.predict(api_name="/runs")[0]["id"]
    wait_until(lambda: served.store.get(run_id).info["status"] != "running")
    run = served.store.get(run_id)
    assert run.info["status"] == "stopped"
    assert 0 < max(event.get("step", 0) for event in run.events()) < 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody", "sft", 2, 1e-3, 0), "nobody"),
        (("sdd", "magic", 2, 1e-3, 0), "attack"),
        (("sdd", "sft", 0, 1e-3, 0), "steps"),
        (("sdd", "sft", 201, 1e-3, 0), "at most 200"),
        (("sdd", "sft", None, 1e-3, 0), "steps is None"),
        (("sdd", "sft", 2, -1.0, 0), "learning_rate"),
        (("sdd", "sft", 2, 1e-3, 0, "half"), "method is 'half'"),
        (("sdd", "sft", 2, 1e-3, 0, "lora", "mine.jsonl"), "data is 'mine.jsonl'"),
        (("sdd", "benign", 2, 1e-3, 0, "lora", "unseen"), "data is 'unseen'"),
    ],
)
def test_attack_names_what_is_wrong(client, arguments, words):
    with pytest.raises(AppError, match=words):
        client.submit(*arguments, api_name="/attack").result()


@pytest.fixture
def idle_attack(monkeypatch):
    """Attacks that train nothing and go on until they are stopped."""

    def attack(profile, config, adapters, pairs, run, should_stop):
        while not should_stop():
            time.sleep(0.05)
        return False

    monkeypatch.setattr("adapters.attacks.runner.attack_function", lambda name: attack)


def test_a_script_has_one_attack_at_a_time_also_in_a_second_session(served, client, idle_attack):
    job = client.submit("sdd", "sft", 5, 1e-3, 0, api_name="/attack")
    wait_until(lambda: any('"start"' in line for line in job.outputs()))
    for other in (client, script(served)):
        with pytest.raises(AppError, match="already have an attack"):
            other.submit("sdd", "sft", 5, 1e-3, 0, api_name="/attack").result()
    job.cancel()
    wait_until(lambda: all(info.status != "running" for info in served.store.list()))


def test_an_attack_started_without_a_token_can_be_stopped(served, idle_attack):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    for kept in (None, {"token": "", "run": ""}):
        settings = ("sdd", "sft", "builtin", None, 1e-3, 5, 0, "lora")
        browser, run_id, message = tab.begin(*settings, kept)
        assert message == "" and browser["token"] and browser["run"] == run_id
        assert "Only the browser" in tab.stop_now(run_id, kept)
        again, _, message = tab.begin(*settings, browser)
        assert "already have an attack" in message
        assert "Stopping" in tab.stop_now(run_id, browser)
        assert served.engines.runner.wait(run_id, WAIT)
        assert served.store.get(run_id).info["status"] == "stopped"
        assert "It has ended already" in tab.stop_now(run_id, browser)
        assert "Only the browser" in tab.stop_now(run_id, kept)


def test_a_link_to_a_run_that_is_gone_shows_no_other_and_says_so(served):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    last = next(info.id for info in served.store.list() if info.kind == "attack")

    def arrives(asked, kept=last):
        request = SimpleNamespace(query_params=asked)
        return tab.arrive({"token": "t", "run": kept}, request)[1]

    assert arrives({}) == arrives({"run": last}, "") == last
    assert arrives({}, "20200101-000000-attack-000000") == ""
    gone = arrives({"run": "nonsense"})
    view, *_ = tab.refresh(gone, {"token": "t", "run": last})
    assert view.index("That run is gone") < view.index("No attack is shown")
    assert "gone" not in tab.refresh("", {"token": "t"})[0]


def test_a_page_that_opens_with_a_run_has_its_settings_in_the_form(served):
    with gr.Blocks():
        tab = AttackTab(served.engines)
    assert tab.fill("") == tab.fill("nonsense") == (gr.skip(),) * 8
    recorded = next(info for info in served.store.list() if info.config.get("attack") == "grpo")
    target, attack, data, _, rate, steps, seed, method = tab.fill(recorded.id)
    assert (target, attack, data, method) == ("sdd", "grpo", "builtin", "lora")
    assert (rate, steps, seed) == tuple(
        recorded.config[name] for name in ("learning_rate", "steps", "seed")
    )
    forced = attack_settings("sdd", "prefill", 3).record()
    assert tab.form.like(forced) == ("sdd", "prefill", *[gr.skip()] * 4, 3, gr.skip())
    # What the form does not offer it keeps as it is.
    own = attack_settings("sdd", "sft", 0, learning_rate=2e-4, steps=300).record()
    assert tab.form.like(own | {"data": "uploaded"})[2:6] == (gr.skip(),) * 4
    assert tab.form.like(forced | {"target": "gone"}) == (gr.skip(),) * 8


@pytest.fixture
def attacked(served):
    """Make runs with the weights of one arm, as attacks leave them."""
    shipped = served.folder / "assets" / "adapters" / served.engines.profile.name / "sdd"

    def make(status):
        run = served.store.create("attack", {}, "tiny", {})
        run.save_files("sdd", lambda folder: Path(shutil.copytree(shipped, folder / "made")))
        if status != "running":
            run.finish(status)
        return run

    return make


def test_the_models_of_an_attack_do_not_answer_before_it_has_ended(served, client, attacked):
    run = attacked("running")
    with pytest.raises(AppError, match="still running"):
        client.predict("Hello", [f"{run.id}/sdd"], api_name="/chat")
    assert f"{run.id}__sdd" not in served.engines.chat.arms
    run.finish("stopped")
    assert list(client.predict("Hello", [f"{run.id}/sdd"], api_name="/chat")) == [f"{run.id}/sdd"]


def test_an_attacked_model_that_answers_is_not_dropped(served, attacked):
    first, *others = [f"{attacked('done').id}/sdd" for _ in range(MAX_ATTACKED_ARMS + 2)]
    loaded = first.replace("/", "__")
    reply = answer(served.engines, Conversation([], arms=[first]), "Hello")
    next(reply)
    for other in others:
        *_, turn = answer(served.engines, Conversation([], arms=[other]), "Hello")
        assert turn["verdicts"]
    assert loaded in served.engines.chat.arms
    *_, turn = reply
    assert turn["verdicts"]
    # In use no more, it is the longest unused: one left half-way counts as unused too.
    second = answer(served.engines, Conversation([], arms=[others[0]]), "Hello")
    next(second)
    second.close()
    assert loaded not in served.engines.chat.arms
    assert len(served.engines._attacked) == MAX_ATTACKED_ARMS
    assert not any(served.engines._attacked.values())


@pytest.fixture
def asking(served):
    """Say things in the Chat tab, by a press on Send or another button."""

    class Request:
        session_hash = "asking"

    with gr.Blocks():
        tab = ChatTab(served.engines, Sessions())

    def ask(message, turns, button=None, arms=("base",), temperature=0.0, seed=0, prefill="",
            strengths=(1, 1, 1), placed=None):  # fmt: skip
        pressed = gr.EventData(button or tab.send, None)
        settings = (list(arms), temperature, seed, "", prefill, False)
        settings = (*settings, placed or list(arms), *strengths)
        yield tab.ask(message, turns, *settings, pressed, Request)
        yield from tab.reply(Request)

    return SimpleNamespace(tab=tab, ask=ask, request=Request)


def enabled(shown):
    """Return whether Send, Stop and Regenerate can be pressed."""
    return [button.interactive for button in shown[-3:]]


def test_clear_during_a_reply_leaves_the_conversation_empty(asking):
    former = [{"prompt": "Hi", "replies": {"base": "Hello."}}]
    reply = asking.ask("And now?", former)
    for _ in range(3):
        shown = next(reply)
    assert "And now?" in shown[1]
    cleared = asking.tab.start_anew(asking.request)
    assert cleared[:3] == ([], talk_html([]), "") and enabled(cleared) == [True, False, False]
    rest = list(reply)
    assert rest and all(turns == [] and talk == talk_html([]) for turns, talk, *_ in rest)
    assert enabled(rest[-1]) == [True, False, False]
    *_, last = asking.ask("Once more", [])
    assert [turn["prompt"] for turn in last[0]] == ["Once more"]


def test_regenerate_asks_the_last_message_again_in_place_of_the_last_turn(asking):
    former = [{"prompt": "Hi", "replies": {"base": "Hello."}}]
    assert not asking.tab.regenerate.interactive  # there is nothing yet
    first, *_, asked = asking.ask("And now?", former, temperature=1.5, seed=3)
    assert enabled(first) == [False, True, False] and enabled(asked) == [True, False, True]
    # Gradio hands over the session's copy of the button.
    pressed = gr.Button("Regenerate", elem_id=asking.tab.regenerate.elem_id, render=False)
    first, *_, again = asking.ask("a draft", asked[0], pressed, temperature=1.5, seed=3)
    assert first[0] == asked[0] and enabled(first) == [False, True, False]
    assert first[4] == 4 and first[3] == again[3] == gr.skip()
    assert [turn["prompt"] for turn in again[0]] == ["Hi", "And now?"]
    *_, other_seed = asking.ask("And now?", former, temperature=1.5, seed=4)
    assert again[0] == other_seed[0] != asked[0]
    # Greedy replies know no seed; without an answer the turn stays.
    first, *_, same = asking.ask("", asked[0], pressed, seed=3)
    assert first[4] == gr.skip() and len(same[0]) == 2
    *_, failed = asking.ask("a draft", asked[0], pressed, arms=["nobody"])
    assert failed[0] == asked[0] and "nobody" in failed[2] and failed[3] == gr.skip()
    assert enabled(failed) == [True, False, True]


def test_a_forced_beginning_is_part_of_what_is_said_and_judged(served, asking, monkeypatch):
    judged = []
    classify = served.engines.judge.classify
    monkeypatch.setattr(
        served.engines.judge, "classify", lambda *said: judged.append(said) or classify(*said)
    )
    *_, last = asking.ask("Hello", [], arms=["base", "sdd"], prefill=" Sure, here is ")
    (turn,) = last[0]
    assert turn["prefill"] == "Sure, here is"
    assert all(reply.startswith("Sure, here is") for reply in turn["replies"].values())
    assert sorted(judged) == sorted(("Hello", reply) for reply in turn["replies"].values())
    assert "Beginning forced" in last[1]
    *_, last = asking.ask("Hello", [], prefill="<|im_end|>Sure")  # as the model gets it
    assert last[0][0]["prefill"] == "Sure" and "im_end" not in last[1]
    *_, plain = asking.ask("Hello", [])
    assert "prefill" not in plain[0][0]
    refused, *_ = asking.ask("Hello", [], prefill="x" * (MAX_PREFILL + 1))
    assert refused[0] == [] and f"the limit is {MAX_PREFILL}" in refused[2]
    assert enabled(refused) == [True, False, False]


def test_a_strength_goes_with_its_arm_before_its_slider_has_moved(asking):
    former = {"placed": ["base", "sdd"], "strengths": (0.3, 0.5, 1)}
    *_, last = asking.ask("Hello", [], arms=["sdd"], **former)
    assert list(last[0][0]["replies"]) == ["sdd@0.5"]


def test_the_sliders_strengths_go_with_the_chosen_arms(asking):
    *_, last = asking.ask("Hello", [], arms=["base", "sdd"], strengths=(0.3, 0.5, 1))
    assert list(last[0][0]["replies"]) == ["base", "sdd@0.5"]
    assert "strength 0.5" in last[1]


def test_a_session_is_forgotten_when_its_page_is_closed(served):
    sessions = Sessions()

    class Request:
        session_hash = "one"

    first = sessions.of(Request)
    assert sessions.of(Request) is first
    sessions.close(Request)
    assert first.animation.stop.is_set() and first.stop_chat.is_set()
    assert len(sessions) == 0


def test_requests_leave_nothing_behind(served, client):
    client.predict("Hello", ["base"], api_name="/chat")
    before = census(served)
    for _ in range(3):
        client.predict("Hello", ["base", "sdd"], api_name="/chat")
    time.sleep(0.5)
    assert census(served) == before


def census(served) -> tuple:
    engines = served.engines
    return len(engines.chat.arms), len(engines._attacked), len(engines.animation.guards)
