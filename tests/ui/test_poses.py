"""The library of poses, and poses that are read from files. No server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines.film_writing import write_gif
from pipelines.pose import PoseError
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import dump_openpose_json
from ui import poses


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


def test_who_shows_head_and_shoulders_is_told_where_the_hips_come_from(tmp_path):
    clip = poses.library()["walk"].fit(256)
    confidence = clip.confidence.copy()
    confidence[:, 8:14] = 0
    file = tmp_path / "desk.json"
    file.write_text(dump_openpose_json(replace(clip, confidence=confidence)))
    found = poses.read_pose(file)
    (note,) = found.notes
    assert note.startswith("not in view: hips, legs; fitted to the frame, hips are put below")
    assert not found.seen[:, [8, 11]].any() and poses.placed(found, 256, True).seen[:, 8].all()
    assert not poses.placed(found, 256, False).seen[:, 8].any()
    # And where the arms do, of which the photo's edge shows nothing.
    confidence[:, [3, 4, 6, 7]] = 0
    chest = int(clip.keypoints[:, [2, 5], 1].max()) + 4
    file.write_text(dump_openpose_json(replace(clip, confidence=confidence, height=chest)))
    (note,) = poses.read_pose(file).notes
    assert "below the shoulders and arms that leave the picture hang down; else" in note


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
