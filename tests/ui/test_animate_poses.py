"""Animate's ways to a pose, called as Gradio would. No server, no model."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from gradio.data_classes import FileData
from PIL import Image

from pipelines.film_writing import write_gif
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import dump_openpose_json
from tests.ui.animating import KEPT, SKIPPED, VISITOR, pick, take, tall
from ui.animate_poses import Recording
from ui.poses import library


def test_a_video_is_read_with_a_bar_and_can_be_taken_back(tab, walk):
    *told, (mark, stage, remark, back, *_, cancel) = tab.reading.take_files([walk], True, VISITOR)
    assert len(told) == 33
    assert "Opening the video" in told[0][2]
    assert "frame 3 of 16" in told[3][2] and 'role="progressbar"' in told[3][2]
    assert told[3][-1].visible and not cancel.visible
    assert (mark, stage["title"]) == ("", "your pose")
    assert "Using walk.gif: 16 frames." in remark
    assert back.visible and back.value == "Back to wave"
    mark, stage, remark, back, *_ = tab.choice.go_back(True, VISITOR)
    assert (mark, stage["title"], remark) == ("wave", "wave", "")
    assert back.value == "Back to walk.gif"
    assert tab.choice.go_back(True, VISITOR)[0] == ""


def test_cancelling_leaves_the_pose_as_it_was(tab, walk):
    reading = tab.reading.take_files([walk], True, VISITOR)
    next(reading)
    assert not tab.reading.stop_reading(VISITOR)[1].interactive
    *_, last = reading
    assert "Cancelled" in last[2] and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen is None


def test_a_file_that_waits_to_be_read_says_so_and_can_be_taken_back(tab, walk):
    remark, cancel = tab.reading.announce([walk], VISITOR)
    assert "Waiting for its turn" in remark and cancel.visible and cancel.interactive
    remark, cancel = tab.reading.stop_reading(VISITOR)
    assert "Cancelled" in remark and not cancel.visible
    (last,) = tab.reading.take_files([walk], True, VISITOR)
    assert "Cancelled" in last[2] and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen is None


def test_a_choice_made_while_a_file_waits_wins_over_it(tab, walk):
    tab.reading.announce([walk], VISITOR)
    pick(tab, "run")
    (last,) = tab.reading.take_files([walk], True, VISITOR)
    assert last[2] == "" and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen.name == "run"


def test_of_two_files_that_wait_the_later_one_counts(tab, walk, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(dump_openpose_json(library()["run"]))
    for file in (walk, str(other)):
        tab.reading.announce([file], VISITOR)
    (passed_over,) = tab.reading.take_files([walk], True, VISITOR)
    assert passed_over == (SKIPPED,) * 11, "what the other one says stays"
    assert tab.sessions.of(VISITOR).chosen is None
    assert "Using other.json" in take(tab, other)[2]


def test_a_camera_that_is_cleared_keeps_no_place(tab, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(dump_openpose_json(library()["run"]))
    assert tab.reading.announce(None, VISITOR) == (SKIPPED,) * 2
    assert tab.reading.take_webcam(None, True, VISITOR) == (SKIPPED,) * 11
    tab.reading.announce("film.webm", VISITOR)  # cleared before its turn came
    (cleared,) = tab.reading.take_film(None, True, VISITOR)
    assert cleared[2] == "" and not cleared[-1].visible
    tab.reading.announce([str(other)], VISITOR)
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
    reading = tab.reading.take_files([walk], True, VISITOR)
    next(reading)
    assert pick(tab, "run")[0] == "run"
    *_, last = reading
    assert last[2] == "" and not last[-1].visible
    assert tab.sessions.of(VISITOR).chosen.name == "run"


def test_a_second_file_takes_over_from_the_first(tab, walk, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(dump_openpose_json(library()["run"]))
    reading = tab.reading.take_files([walk], True, VISITOR)
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
    assert tab.choice.refit(False, "wave", VISITOR) == KEPT
    fitted = tall(take(tab, path)[1])
    assert fitted > 0.6
    assert tall(tab.choice.refit(False, "", VISITOR)[0]) < 0.3
    assert tall(take(tab, path, fit=False)[1]) < 0.3


def test_nobody_in_a_webcam_picture_is_said_and_clearing_it_does_nothing(tab):
    tab.reading.announce(None, VISITOR)
    assert tab.reading.take_webcam(None, True, VISITOR) == (SKIPPED,) * 11
    tiny = np.zeros((20, 20, 3), np.uint8)
    assert "20 × 20 px; wanted at least 64" in tab.reading.take_webcam(tiny, True, VISITOR)[2]
    drawn = draw_clip(library()["walk"], 256, 1)[0]
    assert "Using webcam picture: 1 frame." in tab.reading.take_webcam(drawn, True, VISITOR)[2]


def test_a_pose_chosen_while_a_webcam_picture_is_read_stays(tab, monkeypatch):
    def read(picture):
        pick(tab, "run")
        return library()["walk"]

    monkeypatch.setattr("ui.poses.read_picture", read)
    drawn = np.zeros((64, 64, 3), np.uint8)
    assert tab.reading.take_webcam(drawn, True, VISITOR)[:2] == (SKIPPED,) * 2
    assert tab.sessions.of(VISITOR).chosen.name == "run"


def test_a_webcam_picture_that_cannot_be_read_is_told_without_a_path(tab, monkeypatch, caplog):
    def fail(picture):
        raise OSError("/srv/secret is gone")

    monkeypatch.setattr("ui.poses.read_picture", fail)
    told = tab.reading.take_webcam(np.zeros((64, 64, 3), np.uint8), True, VISITOR)[2]
    assert "could not be read" in told and "secret" not in told
    assert "the log of the server says more" in told and "/srv/secret is gone" in caplog.text


def clears_the_result(answer: tuple) -> bool:
    """Say whether an answer ends in an empty message and no downloads."""
    message, *files = answer[-6:]
    return message == "" and not any(button.visible for button in files)


def test_a_new_pose_takes_the_downloads_of_the_old_one_away(tab, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(dump_openpose_json(library()["run"]))
    edited = SimpleNamespace(clip=dump_openpose_json(library()["run"].fit(512)))
    for answer in (
        pick(tab, "run"), take(tab, path)[:-1], tab.choice.refit(False, "", VISITOR),
        tab.choice.go_back(True, VISITOR), tab.choice.take_edited(edited, True, VISITOR),
    ):  # fmt: skip
        assert clears_the_result(answer)
    path.write_text("nothing")
    assert take(tab, path)[4:10] == (SKIPPED,) * 6


def test_a_film_of_the_webcam_is_read_as_the_browser_made_it(tab, tmp_path):
    assert Recording(sources=["webcam"]).preprocess(FileData(path="film.webm")) == "film.webm"
    assert Recording().preprocess(None) is None
    tab.reading.announce(None, VISITOR)
    (cleared,) = tab.reading.take_film(None, True, VISITOR)
    assert all(value == SKIPPED for value in cleared)
    broken = tmp_path / "film.webm"
    broken.write_bytes(b"\x1aE\xdf\xa3 and no more")
    *_, last = tab.reading.take_film(str(broken), True, VISITOR)
    assert "film.webm" in last[2]
    film = write_gif(draw_clip(library()["walk"], 128, 16), tmp_path / "sample.gif", 8)
    *_, last = tab.reading.take_film(str(film), True, VISITOR)
    assert "Using your film: 16 frames." in last[2]


def test_pictures_of_a_clip_are_its_frames_in_their_order(tab, tmp_path):
    files = []
    for number, frame in enumerate(draw_clip(library()["walk"], 128, 20), 1):
        files.append(tmp_path / f"walk{number}.png")
        Image.fromarray(frame).save(files[-1])
    *told, last = tab.reading.take_files([str(file) for file in reversed(files)], True, VISITOR)
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
