"""BlazePose on avatars: how often it finds them, how exactly, and what its errors say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.extract import (
    MAX_FRAMES,
    Landmarks,
    PoseExtractor,
    Region,
    extract_clip,
    extract_pose,
    extract_steps,
    load_picture,
)
from pipelines.fetch import MissingWeights, mediapipe_folder
from pipelines.film import Film
from pipelines.film_writing import write_mp4
from pipelines.pose import PoseError
from pipelines.pose_drawing import draw_skeleton
from worlds.data import Scene, random_scene, render_scene


def _fetched() -> bool:
    try:
        return mediapipe_folder().is_dir()
    except MissingWeights:
        return False


needs_models = pytest.mark.skipif(
    not _fetched(), reason="the MediaPipe models are not there: python -m pipelines.fetch"
)


def scenes(count: int) -> list[Scene]:
    """Scenes in the main drawing style, the whole figure in view."""
    drawn = (random_scene(seed, closeups=False) for seed in range(40, 400))
    plain = [s for s in drawn if s.look.style == "3d" and s.camera.scale < 0.5]
    return plain[:count]


def avatar(scene: Scene, frames: tuple[int, ...] = (5,)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures and joints [18, 3]."""
    return [(image, keypoints) for image, keypoints, *_ in render_scene(scene, frames)]


def torso(keypoints: np.ndarray) -> float:
    """Torso diameter: shoulder to the opposite hip, the longer diagonal."""
    return float(max(np.linalg.norm(keypoints[2, :2] - keypoints[11, :2]),
                     np.linalg.norm(keypoints[5, :2] - keypoints[8, :2])))  # fmt: skip


@needs_models
def test_avatars_are_found_and_followed():
    errors, found, count = [], 0, 12
    for scene in scenes(count):
        ((image, keypoints),) = avatar(scene)
        try:
            clip = extract_pose(image)
        except PoseError:
            continue
        found += 1
        assert (clip.width, clip.height, len(clip)) == (256, 256, 1)
        body = (keypoints[:, 2] > 0) & (np.arange(18) > 0) & (np.arange(18) < 14)
        error = np.linalg.norm(clip.keypoints[0] - keypoints[:, :2], axis=-1) / torso(keypoints)
        errors.append(np.where(clip.seen[0], error, 9.0)[body])
    assert found >= 0.9 * count
    joined = np.concatenate(errors)
    assert (joined < 0.1).mean() > 0.7
    assert (joined < 0.2).mean() > 0.85


@needs_models
def test_place_and_shape_of_the_picture_do_not_matter():
    ((image, _),) = avatar(scenes(1)[0])
    reference = extract_pose(image, thorough=False)
    wide = np.full((300, 700, 3), 127, np.uint8)
    wide[20:276, 400:656] = image
    moved = extract_pose(wide, thorough=False)
    both = reference.seen[0] & moved.seen[0]
    assert both.sum() >= 14
    shift = np.linalg.norm(moved.keypoints[0] - [400, 20] - reference.keypoints[0], axis=-1)
    assert np.median(shift[both]) < 4
    large = extract_pose(np.kron(image, np.ones((6, 6, 1), np.uint8)), thorough=False)
    assert np.median(np.linalg.norm(large.keypoints[0] / 6 - reference.keypoints[0], axis=-1)) < 3


@needs_models
def test_largest_of_two_people_is_used_and_said():
    first, second = (avatar(scene)[0][0] for scene in scenes(2))
    small = np.asarray(Image.fromarray(second).resize((150, 150)))
    picture = np.full((256, 420, 3), 200, np.uint8)
    picture[:, :256], picture[90:240, 262:412] = first, small
    clip = extract_pose(picture, thorough=False)
    assert clip.notes == ("2 people found: the largest is used",)
    assert clip.keypoints[0, clip.seen[0], 0].mean() < 256


@needs_models
def test_nobody_is_said_to_be_there():
    flat = np.tile(np.linspace(90, 200, 256, dtype=np.uint8)[:, None, None], (1, 256, 3))
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    for picture in (flat, noise, np.zeros((256, 256, 3), np.uint8)):
        with pytest.raises(PoseError, match="no person found in the picture of 256 × 256 px"):
            extract_pose(picture)


@needs_models
def test_mirrored_crops_agree():
    """The mirrored view must name left and right as the straight one does."""
    extractor = PoseExtractor(mediapipe_folder())
    ((image, _),) = avatar(scenes(1)[0])
    region = extractor.detect(image)[0]
    straight, mirrored = (extractor.locate(image, region, mirror) for mirror in (False, True))
    apart = np.linalg.norm(straight.points[11:29] - mirrored.points[11:29], axis=-1)
    assert np.median(apart) < 6


@needs_models
def test_clip_follows_the_person():
    shots = avatar(scenes(1)[0], tuple(range(0, 16, 3)))
    told: list[float] = []
    blank = np.full((256, 256, 3), 200, np.uint8)
    clip = extract_clip([image for image, _ in shots] + [blank], on_progress=told.append)
    assert len(clip) == len(shots) + 1
    assert told[-1] == 1.0 and told == sorted(told)
    assert "no person in 1 of 7 frames: interpolated" in clip.notes
    np.testing.assert_array_equal(clip.keypoints[-1], clip.keypoints[-2])
    for (_, keypoints), points, seen in zip(shots, clip.keypoints, clip.seen, strict=False):
        error = np.linalg.norm(points - keypoints[:, :2], axis=-1)[seen & (keypoints[:, 2] > 0)]
        assert np.median(error) < 0.15 * torso(keypoints)


@needs_models
def test_a_video_of_an_avatar_gives_its_motion(tmp_path):
    frames = avatar(scenes(1)[0], tuple(range(0, 16)))
    path = write_mp4(np.stack([image for image, _ in frames]), tmp_path / "doll.mp4", 8)
    film = Film.open(path)
    *counted, clip = extract_steps(list(film.sample(16)), film.seconds - 1 / film.fps)
    assert counted == list(range(1, 17))
    assert len(clip) == 16
    truth = np.stack([keypoints for _, keypoints in frames])
    scale = np.array([torso(keypoints) for keypoints in truth])[:, None]
    error = np.linalg.norm(clip.keypoints - truth[..., :2], axis=-1) / scale
    body = (truth[..., 2] > 0) & clip.seen & (np.arange(18) > 0) & (np.arange(18) < 14)
    assert body.sum() > 180
    assert (error[body] < 0.1).mean() > 0.9


@needs_models
def test_the_largest_of_two_people_in_a_video_is_followed():
    large, small = (avatar(scene, (0, 3, 6, 9)) for scene in scenes(2))
    shots = []
    for (image, _), (other, _) in zip(large, small, strict=True):
        picture = np.full((256, 420, 3), 200, np.uint8)
        picture[:, 164:] = image
        picture[90:240, 6:156] = np.asarray(Image.fromarray(other).resize((150, 150)))
        shots.append(picture)
    clip = extract_clip(shots)
    assert "2 people found: the largest is used" in clip.notes
    assert all(
        x[seen].mean() > 164 for x, seen in zip(clip.keypoints[..., 0], clip.seen, strict=True)
    )


@needs_models
def test_who_comes_into_a_video_later_is_told_and_not_followed():
    first, second = (avatar(scene, (0, 3, 6, 9)) for scene in scenes(2))
    shots = []
    for number, ((image, _), (other, _)) in enumerate(zip(first, second, strict=True)):
        picture = np.full((256, 512, 3), 200, np.uint8)
        picture[:, :256] = image
        if number >= 2:
            picture[:, 256:] = other
        shots.append(picture)
    clip = extract_clip(shots)
    assert clip.notes == ("2 people found later on: the one from the beginning is followed",)
    assert all(
        x[seen].mean() < 256 for x, seen in zip(clip.keypoints[..., 0], clip.seen, strict=True)
    )


@needs_models
def test_an_upper_body_is_enough():
    ((image, keypoints),) = avatar(scenes(1)[0])
    hips = int(keypoints[[8, 11], 1].mean())
    clip = extract_pose(image[: hips - 8])
    seen = clip.seen[0]
    assert seen[[0, 1, 2, 5]].all() and not seen[[9, 10, 12, 13]].any()
    assert "legs" in clip.missing()
    fitted = clip.fit(256)
    assert fitted.keypoints[0, seen].min() >= 0 and fitted.keypoints[0, seen].max() <= 255
    # Room is left below for the legs that nobody saw.
    assert fitted.keypoints[0, seen, 1].max() < 200


@needs_models
def test_a_video_without_anybody_in_most_frames_is_refused_with_the_count():
    ((image, _),) = avatar(scenes(1)[0])
    blank = np.full((256, 256, 3), 200, np.uint8)
    with pytest.raises(
        PoseError, match="no person found in 3 of 8 frames; wanted one in at least 6"
    ):
        extract_clip([image] * 5 + [blank] * 3)
    with pytest.raises(PoseError, match="in any of the 3 frames"):
        extract_clip([blank] * 3)


def test_skeleton_pictures_need_no_model():
    ((_, keypoints),) = avatar(scenes(1)[0])
    picture = draw_skeleton(keypoints[:, :2], keypoints[:, 2], 256)
    clip = extract_pose(picture)
    seen = clip.seen[0]
    assert np.linalg.norm(clip.keypoints[0] - keypoints[:, :2], axis=-1)[seen].max() < 2
    assert len(extract_clip([picture] * 3)) == 3


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("photo.png", "str is not a picture"),
        (np.zeros((90, 90)), "float64"),
        (np.zeros((90, 90, 4), np.uint8), r"\[90, 90, 4\]"),
        (np.zeros((90, 40, 3), np.uint8), "40 × 90 px; wanted at least 64"),
    ],
)
def test_wrong_pictures_are_named(image, words):
    with pytest.raises(PoseError, match=words):
        extract_pose(image)


@pytest.mark.parametrize("size", [(64, 32_000), (32_000, 64)])
def test_a_picture_too_narrow_to_find_anybody_in_is_named(size):
    width, height = size
    with pytest.raises(PoseError, match=f"{width} × {height} px; wanted one side at most 20 times"):
        extract_pose(np.full((height, width, 3), 200, np.uint8))


def test_a_narrow_picture_can_be_cropped():
    narrow = np.full((1280, 3, 3), 200, np.uint8)
    crop = Region(np.array([1.5, 640.0]), 2048.0, 0.0, 1.0).crop(narrow, 224)
    assert crop.shape == (224, 224, 3)


def test_wrong_films_are_named():
    frame = np.zeros((90, 90, 3), np.uint8)
    with pytest.raises(PoseError, match="0 frames"):
        extract_clip([])
    with pytest.raises(PoseError, match=f"wanted 1 to {MAX_FRAMES}"):
        extract_clip([frame] * (MAX_FRAMES + 1))
    with pytest.raises(PoseError, match="frame 2 has 80 × 90 px, but frame 1 has 90 × 90"):
        extract_clip([frame, np.zeros((90, 80, 3), np.uint8)])


def test_region_turns_with_the_person():
    upright = Region.around(np.array([50.0, 60.0]), np.array([50.0, 20.0]), 1.0)
    assert upright.side == pytest.approx(100) and upright.angle == pytest.approx(0)
    lying = Region.around(np.array([50.0, 60.0]), np.array([90.0, 60.0]), 1.0)
    assert lying.angle == pytest.approx(np.pi / 2)
    # The crop's upper middle is where the tip points.
    matrix = lying.matrix(256)
    np.testing.assert_allclose(matrix @ [128, 0, 1], [100, 60], atol=1e-9)


def test_crop_of_the_whole_picture_is_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    whole = Region(np.array([32.0, 32.0]), 64.0, 0.0, 1.0)
    np.testing.assert_array_equal(whole.crop(picture, 64), picture)


def test_joints_map_the_neck_and_drop_what_is_absent():
    points = np.arange(70, dtype=float).reshape(35, 2)
    presence = np.ones(35)
    presence[16] = 0.1
    joints, confidence = Landmarks(points, np.full(35, 0.8), presence, 1.0).joints
    np.testing.assert_allclose(joints[1], points[[11, 12]].mean(0))
    assert confidence[4] == 0 and confidence[7] == pytest.approx(0.8)


def test_picture_files(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGBA", (80, 70), (255, 0, 0, 0)).save(buffer, "PNG")
    assert load_picture(buffer.getvalue()).shape == (70, 80, 3)
    assert not load_picture(buffer.getvalue()).any()
    file = tmp_path / "words.png"
    file.write_text("no picture")
    with pytest.raises(PoseError, match="not a picture that can be read"):
        load_picture(file)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_grey_of_16_bits_is_scaled(kind):
    values = np.arange(0, 65536, 16, dtype=kind).reshape(64, 64)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    with Image.open(buffer) as picture:
        assert picture.mode.startswith("I")  # else this file tests nothing
    picture = load_picture(buffer.getvalue())
    np.testing.assert_array_equal(picture, np.repeat(values[..., None] // 256, 3, -1))


def test_a_phone_s_photo_is_read_at_a_part_of_its_size_and_turned_as_it_was_held():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: to be turned by a quarter
    half = Image.new("RGB", (5712, 4284), "white")
    half.paste("red", (0, 0, 2856, 4284))
    half.save(buffer, "JPEG", exif=exif)
    picture = load_picture(buffer.getvalue())
    assert picture.shape == (2856, 2142, 3)
    assert picture[:1400, :, 1].max() < 20 and picture[1450:, :, 1].min() > 235


@pytest.mark.parametrize(("kind", "size", "most"), [("JPEG", 7800, 60), ("PNG", 4950, 24)])
def test_a_picture_that_is_too_large_is_told_the_limit(kind, size, most):
    buffer = io.BytesIO()
    Image.new("L", (size, size)).save(buffer, kind)
    with pytest.raises(PoseError, match=f"{size} px; the limit is {most} million pixels; make it"):
        load_picture(buffer.getvalue())
