"""The public endpoints, called as a script would, on the served app."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pipelines.pose import dump_openpose_json
from tests.ui.conftest import wait_until
from ui.poses import library

PROMPT = "red shirt"


@pytest.fixture(scope="module")
def client(served):
    return Client(served.url, verbose=False)


def a_clip() -> str:
    return next(iter(library()))


def is_mp4(path: str) -> bool:
    return Path(path).read_bytes()[4:8] == b"ftyp"


def test_the_page_opens_and_only_four_endpoints_are_public(served, client):
    page = httpx.get(served.url)
    assert page.status_code == 200
    assert "Holdfast" in page.text
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/animate",
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


def test_animate_takes_openpose_json_and_no_guard(client, tmp_path):
    file = tmp_path / "pose.json"
    file.write_text(dump_openpose_json(library()[a_clip()]))
    unguarded, guarded, settings = client.predict(
        handle_file(file), PROMPT, {}, 0, api_name="/animate"
    )
    assert is_mp4(unguarded)
    assert guarded is None
    assert settings["prompt"] == PROMPT


@pytest.mark.parametrize(
    ("pose", "prompt", "guards", "words"),
    [
        ("no_such_clip", PROMPT, {}, "no_such_clip"),
        (None, " ", {}, "prompt"),
        (None, PROMPT, {"nobody": 1.0}, "nobody"),
        (None, PROMPT, {"poseguard": 9}, "poseguard"),
        ({"path": "/etc/hostname"}, PROMPT, {}, "uploaded"),
        (7, PROMPT, {}, "uploaded"),
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
    for answer in replies.values():
        assert answer["verdict"] in ("refusal", "compliance", "off_topic", "gibberish")
        assert 0 <= answer["confidence"] <= 1


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


def test_a_cancelled_attack_stops(served, client):
    job = client.submit("sdd", "sft", 500, 1e-3, 0, api_name="/attack")
    wait_until(lambda: any('"step"' in line for line in job.outputs()))
    job.cancel()
    run_id = client.predict(api_name="/runs")[0]["id"]
    wait_until(lambda: served.store.get(run_id).info["status"] != "running")
    run = served.store.get(run_id)
    assert run.info["status"] == "stopped"
    assert 0 < max(event.get("step", 0) for event in run.events()) < 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody", "sft", 2, 1e-3, 0), "nobody"),
        (("sdd", "magic", 2, 1e-3, 0), "attack"),
        (("sdd", "sft", 0, 1e-3, 0), "steps"),
        (("sdd", "sft", 2, -1.0, 0), "learning_rate"),
    ],
)
def test_attack_names_what_is_wrong(client, arguments, words):
    with pytest.raises(AppError, match=words):
        client.submit(*arguments, api_name="/attack").result()


def test_a_session_is_forgotten_when_its_page_is_closed(served):
    from ui.session import Sessions

    sessions = Sessions()

    class Request:
        session_hash = "one"

    first = sessions.of(Request)
    assert sessions.of(Request) is first
    sessions.close(Request)
    assert first.stop_animation.is_set() and first.stop_chat.is_set()
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
