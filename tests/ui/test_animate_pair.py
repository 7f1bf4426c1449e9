"""The making of a pair in Animate, called as Gradio would. No server, no model."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from pipelines.fetch import MissingWeights
from pipelines.pose_json import dump_openpose_json
from pipelines.profiles import get_profile
from tests.ui.animating import KEPT, SKIPPED, VISITOR, generate, labels, pick, take
from ui.animate import AnimateTab
from ui.animate_guards import _instead
from ui.engines import Engines
from ui.poses import library
from ui.results import MAX_PROMPT
from ui.session import Scratch, Sessions


def test_a_dropped_connection_leaves_the_marked_pose_chosen(tab, ready):
    pick(tab, "run")
    tab.sessions.close(VISITOR)
    assert tab.pair.prepare(VISITOR, True, "run", "a person", True)[0]["title"] == "run"
    tab.sessions.close(VISITOR)
    *_, last = generate(tab, "run")
    assert last[0]["state"] == "done" and last[0]["title"] == "run"
    made = tab.restoring.keep(VISITOR)
    assert made["marked"] == "run" and made["settings"]["seed"] == 7
    np.testing.assert_array_equal(ready.asked[0][0].keypoints, library()["run"].keypoints)
    tab.sessions.close(VISITOR)
    assert tab.choice.open_editor(True, "run", VISITOR)[0]["title"] == "run"
    tab.sessions.close(VISITOR)
    assert tab.pair.give_up(True, "run", VISITOR)[0]["title"] == "run"
    tab.sessions.close(VISITOR)
    assert tab.choice.refit(True, "run", VISITOR) == KEPT


def test_an_own_pose_that_a_dropped_connection_took_is_asked_for_again(tab, ready, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(dump_openpose_json(library()["run"]))
    take(tab, path)
    tab.sessions.close(VISITOR)
    (only,) = generate(tab, "")
    prepared = tab.pair.prepare(VISITOR, True, "", "a person", True)
    for answer in (prepared, only, tab.pair.give_up(True, "", VISITOR)):
        stage, message, go, stop, *files = answer
        assert "lost with the connection" in message and files == [SKIPPED] * 5
        assert stage == SKIPPED and go.interactive and not stop.interactive
    assert "lost with the connection" in tab.choice.open_editor(True, "", VISITOR)[1]
    assert "lost with the connection" in tab.choice.refit(True, "", VISITOR)[1]
    mark, stage, told, back, *_ = tab.choice.go_back(True, VISITOR)
    assert mark == stage == SKIPPED and "lost with the connection" in told and not back.visible
    assert not ready.asked
    take(tab, path)
    *_, last = generate(tab, "")
    assert last[0]["state"] == "done" and last[0]["title"] == "your pose"


def test_after_stop_or_an_error_the_stage_shows_the_pose_that_is_chosen_now(tab, ready):
    for error in (None, ValueError("steps is 0"), RuntimeError("/srv/secret/weights is gone")):
        ready.error = error
        pick(tab, "run")
        tab.pair.prepare(VISITOR, True, "run", "a person", True)
        work = generate(tab, "run")
        assert next(work)[0]["title"] == "run"
        pick(tab, "walk")
        assert "Stopping" in tab.pair.stop_now(True, "walk", VISITOR)[1]
        assert tab.pair.settle(VISITOR) == SKIPPED  # it goes on to its next step
        *_, last = work
        # If the page got these before the words of Stop, it gets them again.
        assert tab.pair.settle(VISITOR) == last[1] and "Stopping" not in last[1]
        assert last[0]["state"] == "idle" and last[0]["title"] == "walk"
        assert last[2].interactive and not labels(last[4:])


def test_stop_while_others_are_drawn_is_done_at_once_and_holds_for_that_press_alone(tab, ready):
    first = generate(tab, "wave", seed=1)
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    stage, message, go, stop, *files = tab.pair.stop_now(True, "wave", VISITOR)
    assert stage["state"] == "idle" and "before its turn came" in message
    assert go.interactive and not stop.interactive and tab.pair.settle(VISITOR) == SKIPPED
    assert not labels(files)
    # The place in the queue is still to come, and that of the next press comes after it.
    assert tab.pair.prepare(VISITOR, True, "wave", "a person", True)[0]["state"] == "running"
    second = generate(tab, "wave", seed=2)
    assert list(first) == [(SKIPPED,) * 9] and not ready.asked
    *_, last = second
    assert last[0]["state"] == "done" and [seed for *_, seed in ready.asked] == [2]
    assert "next step" in tab.pair.stop_now(True, "wave", VISITOR)[1]


def finished(tab: AnimateTab, seed: int) -> tuple[list, list]:
    """Make a pair of the pose ``wave``; return the clips on the stage, and the downloads."""
    *_, last = generate(tab, "wave", seed=seed)
    assert last[0]["state"] == "done"
    return clips(last), [button.value for button in last[4:]]


def clips(answer: tuple) -> list[str | None]:
    return [(answer[0].get(side) or {}).get("path") for side in ("open", "held")]


def is_back(answer: tuple, pair: tuple[list, list]) -> bool:
    """Whether an answer shows a pair, with its downloads, and lets another be made."""
    stage, _, go, stop, *files = answer
    given = [file.value for file in files]
    return (
        stage["state"] == "done" and stage["ended"] and (clips(answer), given) == pair
        and all(file.visible for file in files) and go.interactive and not stop.interactive
    )  # fmt: skip


def test_the_pair_before_stays_until_there_is_a_picture_of_the_new_one(tab, ready):
    pair = finished(tab, 1)
    waits = tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    ready.preview = np.zeros((64, 64, 3), np.uint8)
    first, pictured, last = generate(tab, "wave", seed=2)
    for answer in (waits, first):
        assert answer[0]["state"] == "running" and clips(answer) == pair[0]
        assert answer[4:] == (SKIPPED,) * 5
    assert clips(pictured) == [None, None] and not labels(pictured[4:])
    assert pictured[0]["preview_open"] and last[0]["state"] == "done" and clips(last) != pair[0]


@pytest.mark.parametrize("pictured", [False, True])
@pytest.mark.parametrize("error", [None, ValueError("steps is 0"), RuntimeError("gone")])
def test_after_stop_or_an_error_the_pair_before_is_back_with_its_downloads(
    tab, ready, error, pictured
):
    pair = finished(tab, 1)
    ready.error, ready.preview = error, np.zeros((64, 64, 3), np.uint8) if pictured else None
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    work = generate(tab, "wave", seed=2)
    next(work)
    tab.pair.stop_now(True, "wave", VISITOR)
    *_, last = work
    assert is_back(last, pair)
    assert ("pair before is shown again" in last[1]) == (error is None)
    # A second time, too.
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    assert is_back(tab.pair.stop_now(True, "wave", VISITOR), pair)
    list(generate(tab, "wave"))  # the place of the press that was taken back
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    assert is_back(tab.pair.give_up(True, "wave", VISITOR), pair)


@pytest.mark.parametrize("prompt", ["", " \n", "x" * (MAX_PROMPT + 1)])
def test_a_press_without_a_usable_prompt_changes_nothing_on_the_page(tab, ready, prompt):
    pair = finished(tab, 1)
    refused = tab.pair.prepare(VISITOR, True, "wave", prompt, True)
    stage, message, go, stop, *files = refused
    assert stage == SKIPPED and files == [SKIPPED] * 5
    assert go.interactive and not stop.interactive
    wanted = "Describe the person first, for example" if not prompt.strip() else "at most 300"
    assert wanted in message and "prompt is" not in message
    # The second event of the press says nothing more, and the next press is made.
    assert list(generate(tab, "wave", prompt=prompt)) == [(SKIPPED,) * 9]
    assert len(ready.asked) == 1
    *_, last = generate(tab, "wave", prompt=prompt)  # as a script may
    assert is_back(last, pair) and wanted in last[1]


def test_of_a_pair_of_another_pose_or_whose_files_are_gone_nothing_comes_back(tab, ready):
    finished(tab, 1)
    pick(tab, "run")
    tab.pair.prepare(VISITOR, True, "run", "a person", True)
    stopped = tab.pair.stop_now(True, "run", VISITOR)
    assert stopped[0]["state"] == "idle" and not labels(stopped[4:])
    assert list(generate(tab, "run")) == [(SKIPPED,) * 9]
    (unguarded, _), _ = finished(tab, 1)
    Path(unguarded).unlink()
    waits = tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    assert clips(waits) == [None, None] and not labels(waits[4:])
    assert tab.pair.stop_now(True, "wave", VISITOR)[0]["state"] == "idle"


def test_a_press_whose_settings_gradio_refuses_leaves_its_place_to_no_other(tab, ready):
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    assert tab.pair.give_up(True, "wave", VISITOR)[0]["state"] == "idle"
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    tab.pair.stop_now(True, "wave", VISITOR)
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    # Of the one that was taken back.
    assert tab.pair.give_up(True, "wave", VISITOR) == (SKIPPED,) * 9
    *_, last = generate(tab, "wave")
    assert last[0]["state"] == "done"


def test_a_page_that_is_closed_gives_up_what_waits(tab, ready):
    tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    waiting = tab.sessions.of(VISITOR).animation
    tab.sessions.close(VISITOR)
    assert not waiting.take_up()


def test_a_prompt_that_is_too_long_is_refused_also_without_the_form(tab, ready):
    *_, last = generate(tab, "wave", prompt="x" * (MAX_PROMPT + 1))
    assert f"{MAX_PROMPT + 1} characters long" in last[1] and not ready.asked


def test_errors_name_no_folder_of_the_server(tab, ready, monkeypatch, tmp_path):
    secret = "/srv/secret/weights is gone"

    def fail(*_):
        raise RuntimeError(secret)

    ready.error = RuntimeError(secret)
    *_, last = generate(tab, "wave")
    assert "RuntimeError" in last[1] and "secret" not in last[1]
    monkeypatch.setattr("ui.poses.read_pose", fail)
    told = take(tab, tmp_path / "mine.json")[2]
    assert "mine.json could not be read: RuntimeError" in told and "secret" not in told
    monkeypatch.setattr("ui.poses.read_pose", lambda _: load_missing(tmp_path))
    told = take(tab, tmp_path / "mine.json")[2]
    assert "python -m pipelines.fetch" in told and str(tmp_path) not in told


def load_missing(folder) -> None:
    raise MissingWeights("The pose model", folder / "pose", "python -m pipelines.fetch")


def test_one_form_of_a_guard_is_on_at_first_and_switches_the_other_off(tab):
    assert [switch.value for switch in tab.guards.switches].count(True) <= 1
    assert not _instead(1, True).value and _instead(1, False) == SKIPPED
    assert [other.value for other in _instead(2, True)] == [False, False]


def test_without_a_guard_nothing_promises_one(tab, ready):
    prepared = tab.pair.prepare(VISITOR, True, "wave", "a person", False)
    assert prepared[0]["hint_held"] == "No guard was switched on"
    first, last = generate(tab, "wave", guard=False)
    assert first[0]["hint_held"] == last[0]["hint_held"] == "No guard was switched on"
    assert labels(last[4:]) == ["Unguarded MP4", "GIF", "Pose JSON", "Settings JSON"]
    pick(tab, "wave")
    prepared = tab.pair.prepare(VISITOR, True, "wave", "a person", True)
    assert "with the guard on" in prepared[0]["hint_held"]
    first, last = generate(tab, "wave")
    assert "with the guard on" in first[0]["hint_held"]
    assert "Pair GIF" in labels(last[4:])


def test_an_empty_seed_is_asked_for(tab, ready):
    (last,) = generate(tab, "wave", seed=None)
    assert "Enter a seed" in last[1] and last[2].interactive and not ready.asked
    *_, last = generate(tab, "wave", seed=0)
    assert last[0]["state"] == "done" and ready.asked[0][2] == 0


@pytest.mark.parametrize("profile", ["embedded", "hub"])
def test_words_of_the_embedded_model_are_not_offered_for_another(profile):
    with gr.Blocks() as page:
        tab = AnimateTab(Engines(get_profile(profile), set_up=False), Sessions(), Scratch())
    folded = [block.label for block in page.blocks.values() if isinstance(block, gr.Accordion)]
    assert bool(tab.examples) == ("Words the model knows" in folded) == (profile == "embedded")
