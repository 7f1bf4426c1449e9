"""The Animate tab's handlers on poses and settings, called as Gradio would. No server, no model."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from gradio.data_classes import FileData
from PIL import Image

from adapters import registry
from pipelines.animation import PairResult, Progress, write_gif
from pipelines.fetch import MissingWeights
from pipelines.pose import draw_clip, dump_openpose_json
from pipelines.profiles import get_profile
from tests.tiny import tiny_avatar_sd, tiny_profile
from tests.ui.conftest import tiny_guard
from ui.animate import AnimateTab, Recording, _instead
from ui.engines import Engines, NotReady
from ui.poses import library
from ui.results import MAX_PROMPT
from ui.session import Scratch, Sessions

VISITOR = SimpleNamespace(session_hash="visitor")
SKIPPED = gr.skip()
KEPT = (SKIPPED,) * 7  # stage, message and downloads


@pytest.fixture(scope="module")
def page():
    engines = Engines(get_profile("embedded"), set_up=False)
    with gr.Blocks():
        tab = AnimateTab(engines, Sessions(), Scratch())
    return tab


@pytest.fixture
def tab(page) -> AnimateTab:
    page.sessions = Sessions()
    return page


@pytest.fixture
def walk(tmp_path) -> str:
    path = tmp_path / "walk.gif"
    return str(write_gif(draw_clip(library()["walk"], 128, 16), path, 8))


def take(tab: AnimateTab, *files: object, fit: bool = True) -> tuple:
    *_, last = tab.take_files([str(file) for file in files], fit, VISITOR)
    return last


def pick(tab: AnimateTab, name: str) -> tuple:
    return tab.choose(SimpleNamespace(pick=name), True, VISITOR)


def tall(stage: dict) -> float:
    """Height of the figure on the stage, as a part of the frame."""
    joints = np.array(stage["pose"])
    return float(np.ptp(joints[joints[..., 2] > 0][:, 1]))


def test_a_video_is_read_with_a_bar_and_can_be_taken_back(tab, walk):
    *told, (mark, stage, remark, back, *_, cancel) = tab.take_files([walk], True, VISITOR)
    assert len(told) == 33
    assert "Opening the video" in told[0][2]
    assert "frame 3 of 16" in told[3][2] and 'role="progressbar"' in told[3][2]
    assert told[3][-1].visible and not cancel.visible
    assert (mark, stage["title"]) == ("", "your pose")
    assert "Using walk.gif: 16 frames." in remark
    assert back.visible and back.value == "Back to wave"
    mark, stage, remark, back, *_ = tab.go_back(True, VISITOR)
    assert (mark, stage["title"], remark) == ("wave", "wave", "")
    assert back.value == "Back to walk.gif"
    assert tab.go_back(True, VISITOR)[0] == ""


def test_cancelling_leaves_the_pose_as_it_was(tab, walk):
    reading = tab.take_files([walk], True, VISITOR)
    next(reading)
    assert not tab.stop_reading(VISITOR)[1].interactive
    *_, last = reading
    assert "Cancelled" in last[2] and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen is None


def test_a_file_that_waits_to_be_read_says_so_and_can_be_taken_back(tab, walk):
    remark, cancel = tab.announce([walk], VISITOR)
    assert "Waiting for its turn" in remark and cancel.visible and cancel.interactive
    remark, cancel = tab.stop_reading(VISITOR)
    assert "Cancelled" in remark and not cancel.visible
    (last,) = tab.take_files([walk], True, VISITOR)
    assert "Cancelled" in last[2] and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen is None


def test_a_choice_made_while_a_file_waits_wins_over_it(tab, walk):
    tab.announce([walk], VISITOR)
    pick(tab, "run")
    (last,) = tab.take_files([walk], True, VISITOR)
    assert last[2] == "" and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen.name == "run"


def test_of_two_files_that_wait_the_later_one_counts(tab, walk, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(dump_openpose_json(library()["run"]))
    for file in (walk, str(other)):
        tab.announce([file], VISITOR)
    (passed_over,) = tab.take_files([walk], True, VISITOR)
    assert passed_over == (SKIPPED,) * 11, "what the other one says stays"
    assert tab.sessions.of(VISITOR).chosen is None
    assert "Using other.json" in take(tab, other)[2]


def test_a_camera_that_is_cleared_keeps_no_place(tab, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(dump_openpose_json(library()["run"]))
    assert tab.announce(None, VISITOR) == (SKIPPED,) * 2
    assert tab.take_webcam(None, True, VISITOR) == (SKIPPED,) * 11
    tab.announce("film.webm", VISITOR)  # cleared before its turn came
    (cleared,) = tab.take_film(None, True, VISITOR)
    assert cleared[2] == "" and not cleared[-1].visible
    tab.announce([str(other)], VISITOR)
    assert "Using other.json" in take(tab, other)[2]


def test_openpose_s_own_files_of_a_frame_each_are_one_clip(tab, tmp_path):
    frames = json.loads(dump_openpose_json(library()["walk"].resample(3)))
    # Gradio keeps each file in a folder of its own, in no order.
    files = [tmp_path / f"{9 - number}" / f"walk_{number}_keypoints.json" for number in range(3)]
    for file, frame in zip(files, frames, strict=True):
        file.parent.mkdir()
        file.write_text(json.dumps(frame))
    told = take(tab, files[2], files[0], files[1])[2]
    assert "Using walk_0_keypoints.json and 2 more: 3 frames." in told
    kept = tab.sessions.of(VISITOR).chosen.clip
    assert np.allclose(kept.keypoints, library()["walk"].resample(3).keypoints, atol=0.01)
    picture = tmp_path / "broken.png"
    picture.write_bytes(b"no picture")
    assert "broken.png" in take(tab, files[0], picture)[2], "beside a picture it alone counts"


def test_a_choice_made_meanwhile_wins_over_the_video(tab, walk):
    reading = tab.take_files([walk], True, VISITOR)
    next(reading)
    assert pick(tab, "run")[0] == "run"
    *_, last = reading
    assert last[2] == "" and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen.name == "run"


def test_a_second_file_takes_over_from_the_first(tab, walk, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(dump_openpose_json(library()["run"]))
    reading = tab.take_files([walk], True, VISITOR)
    next(reading)
    take(tab, other)
    *_, last = reading
    assert "other.json" in last[2]
    assert tab.sessions.of(VISITOR).chosen.name == "other.json"


def test_frames_without_leading_zeros_are_put_in_the_order_of_their_numbers(tab, tmp_path):
    walk = library()["walk"].resample(12)
    frames = json.loads(dump_openpose_json(walk))
    files = [tmp_path / f"frame{number}.json" for number in range(1, 13)]
    for file, frame in zip(files, frames, strict=True):
        file.write_text(json.dumps(frame))
    take(tab, *sorted(files))
    read = tab.sessions.of(VISITOR).chosen.clip
    np.testing.assert_allclose(read.keypoints, walk.keypoints, atol=0.01)


@pytest.mark.parametrize("name", ["film.mp4", "film.gif", "pose.json", "photo.png", "<b>.png"])
def test_a_wrong_file_is_named_and_changes_nothing(tab, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind")
    _, _, told, *_, cancel = take(tab, path)
    assert 'role="alert"' in told and "<b>" not in told
    assert "wanted" in told.lower() and not cancel.visible
    assert tab.sessions.of(VISITOR).chosen is None


def test_only_a_file_of_the_wrong_kind_is_told_what_else_is_read(tab, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"nothing of the kind")
    assert "GIF or BMP, a video or OpenPose JSON" in take(tab, path)[2]
    Image.new("L", (4950, 4950)).save(path)
    assert "24 million pixels; make it smaller<" in take(tab, path)[2]


def test_a_pose_of_one_s_own_can_be_had_again_after_two_of_the_library(tab, walk):
    take(tab, walk)
    pick(tab, "run")
    assert pick(tab, "jump")[3].value == "Back to walk.gif"


def test_the_switch_keeps_the_framing_of_own_poses_only(tab, tmp_path):
    small = replace(library()["walk"].fit(100), width=400, height=400)
    path = tmp_path / "small.json"
    path.write_text(dump_openpose_json(small))
    assert tab.refit(False, "wave", VISITOR) == KEPT
    fitted = tall(take(tab, path)[1])
    assert fitted > 0.6
    assert tall(tab.refit(False, "", VISITOR)[0]) < 0.3
    assert tall(take(tab, path, fit=False)[1]) < 0.3


def test_settings_fill_the_form(tab, tmp_path):
    small = replace(library()["walk"].fit(100), width=400, height=400)
    path = tmp_path / "settings.json"
    settings = {
        "profile": "elsewhere", "prompt": "a knight", "seed": 11, "steps": 9,
        "guidance_scale": 3.5, "guidance_interval": [0.6, 1.0], "guards": {"nobody": 1.0},
        "pose": json.loads(dump_openpose_json(small)),
    }  # fmt: skip
    path.write_text(json.dumps(settings))
    mark, stage, _, back, *rest = tab.load_settings(str(path), True, VISITOR)
    told, *fields = rest[6:]  # after the message and the downloads
    assert mark == "" and back.value == "Back to wave"
    assert tall(stage) < 0.3  # framed as in the result, though the switch is on
    assert fields[:6] == ["a knight", 11, 9, 3.5, 0.6, False]
    assert not any(switch.value for switch in fields[6 : 6 + len(tab.guards)])
    assert "seed 11" in told and "nobody" in told and "profile elsewhere" in told
    assert tab.refit(False, "", VISITOR) == KEPT

    del settings["seed"]
    path.write_text(json.dumps(settings))
    answer = tab.load_settings(str(path), True, VISITOR)
    assert len(answer) == len(tab.filled)
    assert "&quot;seed&quot;" in answer[10] and answer[0] == answer[-1] == SKIPPED
    assert tab.sessions.of(VISITOR).chosen.clip is not None


def kept(**others: object) -> dict:
    """What a browser kept of a pair."""
    settings = {
        "profile": "embedded", "prompt": "a knight", "seed": 11, "steps": 9, "guidance_scale": 1,
        "guards": {}, "pose": json.loads(dump_openpose_json(library()["run"])),
    }  # fmt: skip
    return {"settings": settings | others, "marked": "run"}


def test_the_last_pair_s_settings_come_back_after_a_reload(tab):
    mark, stage, remark, back, message, *rest = tab.come_back(kept(), True, VISITOR)
    assert mark == "run" and stage["title"] == "run" and not back.visible and remark == ""
    assert "of your last pair" in message and "differ" not in message
    assert rest[6:12] == ["a knight", 11, 9, 1, 0, False]
    assert tab.sessions.of(VISITOR).chosen.clip is None  # the library's own, to be refitted by none


def test_an_own_pose_comes_back_with_the_settings_framed_as_it_was(tab):
    mark, stage, remark, _, message, *_ = tab.come_back(kept() | {"marked": ""}, True, VISITOR)
    assert mark == "" and stage["title"] == "your pose" and "framed as it was" in remark
    assert "of your last pair" in message


@pytest.mark.parametrize(
    "found",
    [
        None, 3, {}, {"settings": None}, kept(seed=-1), kept(pose={"people": 1}),
        kept(prompt="x" * (MAX_PROMPT + 1)), kept(guards=["poseguard"]),
    ],
)  # fmt: skip
def test_what_was_not_kept_by_the_page_brings_nothing_back(tab, found):
    assert set(map(str, tab.come_back(found, True, VISITOR))) == {str(SKIPPED)}
    assert tab.sessions.of(VISITOR).chosen is None


def test_nothing_comes_back_over_a_pose_that_was_chosen_since(tab):
    pick(tab, "walk")
    assert set(map(str, tab.come_back(kept(), True, VISITOR))) == {str(SKIPPED)}
    assert tab.sessions.of(VISITOR).chosen.name == "walk"


def test_nobody_in_a_webcam_picture_is_said_and_clearing_it_does_nothing(tab):
    tab.announce(None, VISITOR)
    assert tab.take_webcam(None, True, VISITOR) == (SKIPPED,) * 11
    tiny = np.zeros((20, 20, 3), np.uint8)
    assert "20 × 20 px; wanted at least 64" in tab.take_webcam(tiny, True, VISITOR)[2]
    drawn = draw_clip(library()["walk"], 256, 1)[0]
    assert "Using webcam picture: 1 frame." in tab.take_webcam(drawn, True, VISITOR)[2]


def test_a_pose_chosen_while_a_webcam_picture_is_read_stays(tab, monkeypatch):
    def read(picture):
        pick(tab, "run")
        return library()["walk"]

    monkeypatch.setattr("ui.poses.read_picture", read)
    drawn = np.zeros((64, 64, 3), np.uint8)
    assert tab.take_webcam(drawn, True, VISITOR)[:2] == (SKIPPED,) * 2
    assert tab.sessions.of(VISITOR).chosen.name == "run"


def test_a_webcam_picture_that_cannot_be_read_is_told_without_a_path(tab, monkeypatch, caplog):
    def fail(picture):
        raise OSError("/srv/secret is gone")

    monkeypatch.setattr("ui.poses.read_picture", fail)
    told = tab.take_webcam(np.zeros((64, 64, 3), np.uint8), True, VISITOR)[2]
    assert "could not be read" in told and "secret" not in told
    assert "the log of the server says more" in told and "/srv/secret is gone" in caplog.text


# --- the pair ----------------------------------------------------------------------------------


@pytest.fixture
def ready(tab, monkeypatch) -> SimpleNamespace:
    """An engine that is ready at once and makes nothing but grey frames."""
    frames = np.full((4, 64, 64, 3), 90, np.uint8)

    def pair(pose, prompt, guards, seed, *, should_stop, **settings):
        engine.asked.append((pose, guards, seed))
        engine.settings = settings
        yield Progress(0.0, "step 1 of 2")
        if engine.error is not None:
            raise engine.error
        if should_stop():
            return
        made = {"seed": seed, "steps": 2, "notes": [], "pose": json.loads(dump_openpose_json(pose))}
        yield PairResult(frames, frames if guards else None, frames, made)

    engine = SimpleNamespace(
        pair=pair, asked=[], error=None, guards=("poseguard",), number_format="bfloat16",
        weights=lambda guards: {"base": "avatar-sd:1", **dict.fromkeys(guards, "2")},
    )  # fmt: skip
    monkeypatch.setattr(tab.engines, "_animation", SimpleNamespace(get=lambda: engine))
    return engine


def generate(
    tab: AnimateTab, marked: str, guard: bool = True, seed: float | None = 7, steps: int = 2,
    prompt: str = "a person", redraw: bool = True,
):  # fmt: skip
    switches = [guard and name == "poseguard" for name in tab.guards]
    strengths = [1.0] * len(tab.guards)
    form = (True, marked, prompt, seed, steps, 1.0, 0.0, redraw)
    return tab.generate(VISITOR, *form, *switches, *strengths)


def labels(downloads: tuple) -> list[str]:
    return [button.label for button in downloads if button.visible]


def clears_the_result(answer: tuple) -> bool:
    """Say whether an answer ends in an empty message and no downloads."""
    message, *files = answer[-6:]
    return message == "" and not any(button.visible for button in files)


def test_a_dropped_connection_leaves_the_marked_pose_chosen(tab, ready):
    pick(tab, "run")
    tab.sessions.close(VISITOR)
    assert tab.prepare(VISITOR, True, "run", True)[0]["title"] == "run"
    tab.sessions.close(VISITOR)
    *_, last = generate(tab, "run")
    assert last[0]["state"] == "done" and last[0]["title"] == "run"
    made = tab.keep(VISITOR)
    assert made["marked"] == "run" and made["settings"]["seed"] == 7
    np.testing.assert_array_equal(ready.asked[0][0].keypoints, library()["run"].keypoints)
    tab.sessions.close(VISITOR)
    assert tab.open_editor(True, "run", VISITOR)[0]["title"] == "run"
    tab.sessions.close(VISITOR)
    assert tab.give_up(True, "run", VISITOR)[0]["title"] == "run"
    tab.sessions.close(VISITOR)
    assert tab.refit(True, "run", VISITOR) == KEPT


def test_an_own_pose_that_a_dropped_connection_took_is_asked_for_again(tab, ready, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(dump_openpose_json(library()["run"]))
    take(tab, path)
    tab.sessions.close(VISITOR)
    (only,) = generate(tab, "")
    for answer in (tab.prepare(VISITOR, True, "", True), only, tab.give_up(True, "", VISITOR)):
        stage, message, go, stop, *files = answer
        assert "lost with the connection" in message and files == [SKIPPED] * 5
        assert stage == SKIPPED and go.interactive and not stop.interactive
    assert "lost with the connection" in tab.open_editor(True, "", VISITOR)[1]
    assert "lost with the connection" in tab.refit(True, "", VISITOR)[1]
    mark, stage, told, back, *_ = tab.go_back(True, VISITOR)
    assert mark == stage == SKIPPED and "lost with the connection" in told and not back.visible
    assert not ready.asked
    take(tab, path)
    *_, last = generate(tab, "")
    assert last[0]["state"] == "done" and last[0]["title"] == "your pose"


def test_a_new_pose_takes_the_downloads_of_the_old_one_away(tab, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(dump_openpose_json(library()["run"]))
    edited = SimpleNamespace(clip=dump_openpose_json(library()["run"].fit(512)))
    for answer in (
        pick(tab, "run"), take(tab, path)[:-1], tab.refit(False, "", VISITOR),
        tab.go_back(True, VISITOR), tab.take_edited(edited, True, VISITOR),
    ):  # fmt: skip
        assert clears_the_result(answer)
    path.write_text("nothing")
    assert take(tab, path)[4:10] == (SKIPPED,) * 6


def test_after_stop_or_an_error_the_stage_shows_the_pose_that_is_chosen_now(tab, ready):
    for error in (None, ValueError("steps is 0"), RuntimeError("/srv/secret/weights is gone")):
        ready.error = error
        pick(tab, "run")
        tab.prepare(VISITOR, True, "run", True)
        work = generate(tab, "run")
        assert next(work)[0]["title"] == "run"
        pick(tab, "walk")
        assert "Stopping" in tab.stop_now(True, "walk", VISITOR)[1]
        assert tab.settle(VISITOR) == SKIPPED  # it goes on to its next step
        *_, last = work
        # If the page got these before the words of Stop, it gets them again.
        assert tab.settle(VISITOR) == last[1] and "Stopping" not in last[1]
        assert last[0]["state"] == "idle" and last[0]["title"] == "walk"
        assert last[2].interactive and not labels(last[4:])


def test_stop_while_others_are_drawn_is_done_at_once_and_holds_for_that_press_alone(tab, ready):
    first = generate(tab, "wave", seed=1)
    tab.prepare(VISITOR, True, "wave", True)
    stage, message, go, stop = tab.stop_now(True, "wave", VISITOR)
    assert stage["state"] == "idle" and "before its turn came" in message
    assert go.interactive and not stop.interactive and tab.settle(VISITOR) == SKIPPED
    # The place in the queue is still to come, and that of the next press comes after it.
    assert tab.prepare(VISITOR, True, "wave", True)[0]["state"] == "running"
    second = generate(tab, "wave", seed=2)
    assert list(first) == [(SKIPPED,) * 9] and not ready.asked
    *_, last = second
    assert last[0]["state"] == "done" and [seed for *_, seed in ready.asked] == [2]
    assert "next step" in tab.stop_now(True, "wave", VISITOR)[1]


def test_a_press_whose_settings_gradio_refuses_leaves_its_place_to_no_other(tab, ready):
    tab.prepare(VISITOR, True, "wave", True)
    assert tab.give_up(True, "wave", VISITOR)[0]["state"] == "idle"
    tab.prepare(VISITOR, True, "wave", True)
    tab.stop_now(True, "wave", VISITOR)
    tab.prepare(VISITOR, True, "wave", True)
    assert tab.give_up(True, "wave", VISITOR) == (SKIPPED,) * 9  # of the one that was taken back
    *_, last = generate(tab, "wave")
    assert last[0]["state"] == "done"


def test_a_page_that_is_closed_gives_up_what_waits(tab, ready):
    tab.prepare(VISITOR, True, "wave", True)
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
    assert [switch.value for switch in tab.switches].count(True) <= 1
    assert not _instead(1, True).value and _instead(1, False) == SKIPPED
    assert [other.value for other in _instead(2, True)] == [False, False]


def test_without_a_guard_nothing_promises_one(tab, ready):
    assert tab.prepare(VISITOR, True, "wave", False)[0]["hint_held"] == "No guard was switched on"
    first, last = generate(tab, "wave", guard=False)
    assert first[0]["hint_held"] == last[0]["hint_held"] == "No guard was switched on"
    assert labels(last[4:]) == ["Unguarded MP4", "GIF", "Pose JSON", "Settings JSON"]
    assert "with the guard on" in tab.prepare(VISITOR, True, "wave", True)[0]["hint_held"]
    first, last = generate(tab, "wave")
    assert "with the guard on" in first[0]["hint_held"]
    assert "Pair GIF" in labels(last[4:])


def test_an_empty_seed_is_asked_for(tab, ready):
    (last,) = generate(tab, "wave", seed=None)
    assert "Enter a seed" in last[1] and last[2].interactive and not ready.asked
    *_, last = generate(tab, "wave", seed=0)
    assert last[0]["state"] == "done" and ready.asked[0][2] == 0


def test_details_are_redrawn_unless_switched_off(tab, ready, tmp_path):
    assert tab.redraw.visible and tab.redraw.value
    for switch in (True, False):
        *_, last = generate(tab, "run", redraw=switch)
        assert last[0]["state"] == "done" and ready.settings["redraw"] is switch
    path = tmp_path / "settings.json"
    settings = {
        "prompt": "a knight", "seed": 11, "steps": 2, "guidance_scale": 1.0, "guards": {},
        "pose": json.loads(dump_openpose_json(library()["run"])), "redraw": True,
    }  # fmt: skip
    for found, told in ((True, "details redrawn"), (False, "details as drawn")):
        path.write_text(json.dumps(settings | {"redraw": found}))
        answer = tab.load_settings(str(path), True, VISITOR)
        assert told in answer[10] and answer[16] is found


def test_a_profile_without_a_refiner_offers_none(tmp_path):
    profile = tiny_profile(tiny_avatar_sd(tmp_path / "avatar-sd"))
    with gr.Blocks():
        tab = AnimateTab(Engines(profile, set_up=False), Sessions(), Scratch())
    assert not tab.redraw.visible and not tab.redraw.value
    path = tmp_path / "settings.json"
    settings = {
        "prompt": "a knight", "seed": 11, "steps": 2, "guidance_scale": 1.0, "guards": {},
        "pose": json.loads(dump_openpose_json(library()["run"])), "redraw": True,
    }  # fmt: skip
    path.write_text(json.dumps(settings))
    answer = tab.load_settings(str(path), True, VISITOR)
    assert "Made with details redrawn" in answer[10] and answer[16] is False


def test_settings_from_another_sampler_or_model_are_no_promise(tab, ready, tmp_path):
    path = tmp_path / "settings.json"
    same = {
        "profile": "embedded", "prompt": "a knight", "seed": 11, "steps": 4,
        "guidance_scale": 1.0, "guards": {"poseguard": 1.0},
        "pose": json.loads(dump_openpose_json(library()["run"])),
        "sampler": tab.spec.sampler, "noise_share": tab.spec.noise_share,
        "number_format": "bfloat16", "weights": {"base": "avatar-sd:1", "poseguard": "2"},
    }  # fmt: skip

    def told(**change) -> str:
        path.write_text(json.dumps(same | change))
        return tab.load_settings(str(path), True, VISITOR)[10]

    assert "hf-note good" in told() and "differ" not in told()
    for change, words in (
        ({"sampler": "DDIM"}, "another sampler"),
        ({"noise_share": 0.25}, "another share of noise"),
        ({"prompt": "a woman"}, "another reading of the prompt"),
        ({"number_format": "float32"}, "another number format"),
        ({"weights": {"base": "avatar-sd:0"}}, "other weights"),
        ({"weights": {"poseguard": "0"}}, "other weights"),
        ({"sampler": "DDIM", "weights": {"base": "x"}}, "another sampler and other weights"),
    ):
        assert f"Made with {words}" in told(**change) and "hf-note warn" in told(**change)
    assert "differ" not in told(prompt="a woman", read="a person")
    for silent in ({"sampler": 7}, {"weights": None}, {"number_format": []}, {"noise_share": None}):
        assert "hf-note good" in told(**silent)

    def loading():
        raise NotReady("it is loading")

    tab.engines._animation.get = loading
    assert "another sampler" in told(sampler="DDIM") and "differ" not in told(weights={"base": "x"})


def test_a_guard_made_while_the_app_runs_can_be_used_with_loaded_settings(monkeypatch, tmp_path):
    monkeypatch.setattr("adapters.registry.ASSETS", tmp_path / "assets")
    avatar_sd = tiny_avatar_sd(tmp_path / "avatar-sd")
    engines = Engines(tiny_profile(avatar_sd), set_up=False)
    for part in (engines.setup, engines._animation):
        part.load()
    with gr.Blocks() as page:
        tab = AnimateTab(engines, Sessions(), Scratch())
    words = [str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert any("adapters.train poseguard" in text and "restart the app" in text for text in words)
    path = tmp_path / "settings.json"
    settings = {
        "prompt": "a knight", "seed": 11, "steps": 1, "guidance_scale": 1.0,
        "guards": {"poseguard": 0.5}, "weights": {"poseguard": "another"},
        "pose": json.loads(dump_openpose_json(library()["run"])),
    }  # fmt: skip
    path.write_text(json.dumps(settings))

    def loaded() -> tuple:
        answer = tab.load_settings(str(path), True, VISITOR)
        parts = (
            tab.load_note, tab.switches[0], tab.strengths[0], tab.lacking["poseguard"]
        )  # fmt: skip
        return tuple(answer[tab.filled.index(part)] for part in parts)

    told, switch, strength, remark = loaded()
    assert "Not installed here, so left off: poseguard" in told
    assert not switch.value and not switch.interactive and not strength.interactive
    assert remark == SKIPPED
    tiny_guard(avatar_sd, registry.adapter_target("poseguard", engines.profile))
    told, switch, strength, remark = loaded()
    assert "left off" not in told and "Made with other weights" in told
    assert switch.value and switch.interactive
    assert strength.constructor_args == {"value": 0.5, "interactive": True}  # its ends stay
    assert remark == ""  # how to make it is no longer to be said
    *_, last = generate(tab, "", steps=1)
    assert last[0]["state"] == "done" and "Guarded MP4" in labels(last[4:])
    assert engines.animation.guards == ("poseguard",)
    settings["guards"] = {}  # of those that are installed all can be switched on
    path.write_text(json.dumps(settings))
    told, switch, strength, _ = loaded()
    assert not switch.value and switch.interactive and strength.interactive


@pytest.mark.parametrize("profile", ["embedded", "hub"])
def test_words_of_the_embedded_model_are_not_offered_for_another(profile):
    with gr.Blocks() as page:
        tab = AnimateTab(Engines(get_profile(profile), set_up=False), Sessions(), Scratch())
    folded = [block.label for block in page.blocks.values() if isinstance(block, gr.Accordion)]
    assert bool(tab.examples) == ("Words the model knows" in folded) == (profile == "embedded")


def test_a_film_of_the_webcam_is_read_as_the_browser_made_it(tab, tmp_path):
    assert Recording(sources=["webcam"]).preprocess(FileData(path="film.webm")) == "film.webm"
    assert Recording().preprocess(None) is None
    tab.announce(None, VISITOR)
    (cleared,) = tab.take_film(None, True, VISITOR)
    assert all(value == SKIPPED for value in cleared)
    broken = tmp_path / "film.webm"
    broken.write_bytes(b"\x1aE\xdf\xa3 and no more")
    *_, last = tab.take_film(str(broken), True, VISITOR)
    assert "film.webm" in last[2]
    film = write_gif(draw_clip(library()["walk"], 128, 16), tmp_path / "sample.gif", 8)
    *_, last = tab.take_film(str(film), True, VISITOR)
    assert "Using your film: 16 frames." in last[2]


def test_pictures_of_a_clip_are_its_frames_in_their_order(tab, tmp_path):
    files = []
    for number, frame in enumerate(draw_clip(library()["walk"], 128, 20), 1):
        files.append(tmp_path / f"walk{number}.png")
        Image.fromarray(frame).save(files[-1])
    *told, last = tab.take_files([str(file) for file in reversed(files)], True, VISITOR)
    assert "walk1.png" in told[0][2] and "picture 16 of 16" in told[-1][2]
    assert "Using walk1.png and 19 more: 16 frames." in last[2]
    assert "16 of 20 pictures are taken, evenly" in last[2]
    found = tab.sessions.of(VISITOR).chosen.clip
    asked = library()["walk"].to_square(128).resample(20)
    for frame, of in ((0, 0), (-1, -1)):
        off = np.linalg.norm(found.keypoints[frame] - asked.keypoints[of], axis=-1)
        assert np.median(off[found.seen[frame]]) < 2


def test_files_of_several_kinds_are_no_clip_and_that_is_said(tab, tmp_path, walk):
    pose = tmp_path / "pose.json"
    pose.write_text(dump_openpose_json(library()["wave"]))
    picture = tmp_path / "a.png"
    Image.fromarray(draw_clip(library()["walk"], 128, 1)[0]).save(picture)
    remark = take(tab, picture, walk, pose)[2]
    assert "Using pose.json: 16 frames." in remark
    assert "The last file is taken, and 2 more are not." in remark


def test_a_longer_clip_is_said_to_be_thinned_out(tab, tmp_path):
    pose = tmp_path / "long.json"
    pose.write_text(dump_openpose_json(library()["wave"].resample(240)))
    assert "240 frames, of which 16 are taken, evenly" in take(tab, pose)[2]
