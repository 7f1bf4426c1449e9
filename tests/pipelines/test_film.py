"""Films: evenly sampled frames from every format, and what is refused."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from pipelines.film import MAX_SECONDS, Film, is_film
from pipelines.film_writing import write_gif, write_mp4
from pipelines.pose import PoseError

SIZE = 64


def steps(count: int) -> np.ndarray:
    """Frames whose grey tells their number: 4 times it."""
    greys = 4 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (count, SIZE, SIZE, 3)).copy()


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean()) / 4) for frame in frames]


def as_webm(source: Path, target: Path, header: bool) -> Path:
    """Encode again; without a header the file is written as a browser's recorder does."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(source)]
    command += ["-c:v", "libvpx", "-b:v", "2M", "-deadline", "realtime", "-f", "webm"]
    if header:
        subprocess.run([*command, str(target)], check=True)
    else:
        target.write_bytes(subprocess.run([*command, "-"], check=True, capture_output=True).stdout)
    return target


def as_recorded(source: Path, target: Path) -> Path:
    """Encode as a browser records: frames come unevenly, and no header names rate or length."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(source)]
    command += ["-vf", r"settb=1/1000,setpts=PTS+mod(N*N*7\,29)", "-fps_mode", "vfr"]
    command += ["-enc_time_base", "1/1000", "-c:v", "libvpx", "-b:v", "2M"]
    command += ["-deadline", "realtime", "-f", "webm", "-"]
    webm = subprocess.run(command, check=True, capture_output=True).stdout
    rate = webm.index(b"\x23\xe3\x83\x84")  # DefaultDuration with 4 bytes of content
    void = b"\xec\x86" + bytes(6)  # an element of the same length that says nothing
    target.write_bytes(webm[:rate] + void + webm[rate + 8 :])
    return target


@pytest.fixture(scope="module")
def mp4(tmp_path_factory) -> Path:
    return write_mp4(steps(46), tmp_path_factory.mktemp("films") / "steps.mp4", 15)


def test_frames_are_taken_evenly_from_first_to_last(mp4):
    film = Film.open(mp4)
    assert (film.width, film.height, film.kind) == (SIZE, SIZE, "video")
    assert film.seconds == pytest.approx(46 / 15, abs=0.01)
    assert numbers(list(film.sample(16))) == list(range(0, 46, 3))
    assert numbers(list(film.sample(1))) == [0]


@pytest.mark.parametrize("header", [True, False])
def test_webm_is_read_with_and_without_a_length_in_its_header(mp4, tmp_path, header):
    film = Film.open(as_webm(mp4, tmp_path / "steps.webm", header))
    assert film.seconds == pytest.approx(46 / 15, abs=0.02)
    found = np.array(numbers(list(film.sample(16))))
    assert np.abs(found - np.arange(0, 46, 3)).max() <= 1


def test_a_browser_s_recording_is_measured_where_its_rate_is_told_wrong(mp4, tmp_path):
    path = as_recorded(mp4, tmp_path / "recorded.webm")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    told = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    assert told[0] == 1000 and told[1] < 0  # else this file tests nothing
    film = Film.open(path)
    assert film.seconds == pytest.approx(46 / 15, abs=0.06)
    assert film.fps == pytest.approx(15, abs=0.3)
    found = np.array(numbers(list(film.sample(16))))
    assert np.abs(found - np.arange(0, 46, 3)).max() <= 1


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_film_is_as_long_as_its_frames_say_where_they_come_unevenly(mp4, tmp_path, kind):
    path = tmp_path / f"uneven.{kind}"
    # A second at 30 frames a second, then two a second: what headers tell is too short or too long.
    pts = r"setpts=if(lt(N\,30)\,N/30\,1+(N-30)/2)/TB"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(mp4)]
    command += ["-vf", f"settb=1/1000,{pts}", "-fps_mode", "vfr", "-enc_time_base", "1/1000"]
    subprocess.run([*command, str(path)], check=True)
    film = Film.open(path)
    times = np.array([n / 30 if n < 30 else 1 + (n - 30) / 2 for n in range(46)])
    assert film.seconds - 1 / film.fps == pytest.approx(times[-1], abs=0.01)
    wanted = np.searchsorted(times, np.linspace(0, times[-1], 16), side="right") - 1
    found = numbers(list(film.sample(16)))
    assert len(found) == 16 and found[-1] == 45
    assert np.abs(found - wanted).max() <= 2  # half a frame of the mean rate early


def test_slow_motion_is_read_up_to_a_number_of_frames(tmp_path):
    def made(count: int) -> Path:
        path = tmp_path / f"{count}.mp4"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi"]
        command += ["-i", "color=size=64x64:rate=480", "-frames:v", str(count), str(path)]
        subprocess.run(command, check=True)
        return path

    film = Film.open(made(48))
    assert film.seconds == pytest.approx(0.1, abs=0.002)
    assert len(list(film.sample(16))) == 16
    with pytest.raises(PoseError, match="4801.mp4 has more than 4800 frames; the limit is 20 s"):
        Film.open(made(4801))


def test_a_gif_is_sampled_by_its_own_pauses(tmp_path):
    pictures = [Image.fromarray(frame) for frame in steps(11)]
    path = tmp_path / "slow_start.gif"
    # Half of the time passes on the first picture.
    pauses = [1000, *[100] * 10]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=pauses)
    film = Film.open(path)
    assert film.seconds == pytest.approx(2.0)
    found = numbers(list(film.sample(5)))
    assert found[0] == 0 and found[1] <= 2 and found[-1] >= 9


@pytest.mark.parametrize(
    ("pauses", "wanted"),
    [
        ([1000, *[100] * 10], [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 6, 7, 8, 9, 10]),
        ([*[100] * 10, 1000], [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 10, 10, 10, 10, 10, 10]),
        ([*[100] * 5, 1000, *[100] * 5], [0, 1, 2, 3, *[5] * 8, 6, 7, 9, 10]),
    ],
)
def test_where_a_film_rests_its_frame_is_taken_again(tmp_path, pauses, wanted):
    pictures = [Image.fromarray(frame) for frame in steps(11)]
    path = tmp_path / "rests.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=pauses)
    found = np.array(numbers(list(Film.open(path).sample(16))))
    assert len(found) == 16 and found[0] == 0 and found[-1] == 10
    assert np.abs(found - wanted).max() <= 1


def test_a_short_film_gives_all_that_it_has(tmp_path):
    path = write_gif(steps(5), tmp_path / "short.gif", 8)
    assert numbers(list(Film.open(path).sample(16))) == [0, 1, 2, 3, 4]


def test_large_frames_are_shrunk(tmp_path):
    path = write_mp4(np.zeros((2, 1080, 1920, 3), np.uint8), tmp_path / "hd.mp4", 8)
    (frame,) = Film.open(path).sample(1)
    assert frame.shape == (720, 1280, 3)


def test_what_is_too_long_or_too_large_is_refused_with_both_figures(tmp_path):
    long = write_mp4(steps(46), tmp_path / "long.mp4", 2)
    with pytest.raises(
        PoseError, match=rf"long.mp4 is longer than 20 s; the limit is {MAX_SECONDS:.0f} s"
    ):
        Film.open(long)
    endless = as_webm(long, tmp_path / "endless.webm", header=False)
    with pytest.raises(PoseError, match="endless.webm is longer than 20 s; the limit is 20 s"):
        Film.open(endless)
    slow = write_gif(steps(30), tmp_path / "slow.gif", 1)
    with pytest.raises(PoseError, match="slow.gif is longer than 20 s"):
        Film.open(slow)
    large = write_mp4(np.zeros((2, 1090, 1924, 3), np.uint8), tmp_path / "large.mp4", 8)
    with pytest.raises(PoseError, match="1924 × 1090 px; the limit is 1920 × 1080"):
        Film.open(large)


def test_a_gif_whose_later_frames_are_too_large_is_refused_before_they_are_decoded(tmp_path):
    def encoded(side: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("L", (side, side)).save(buffer, "GIF")
        return buffer.getvalue()

    small, large = encoded(SIZE), encoded(1500)
    path = tmp_path / "grows.gif"
    descriptor = b",\x00\x00\x00\x00"  # of a picture at the upper left corner
    path.write_bytes(small.removesuffix(b";") + large[large.index(descriptor) :])
    with Image.open(path) as gif:
        assert gif.size == (SIZE, SIZE) and gif.n_frames == 2  # else this file tests nothing
    words = "grows.gif has 1500 × 1500 px; the limit is 1920 × 1080"
    with pytest.raises(PoseError, match=words):
        Film.open(path)
    with pytest.raises(PoseError, match=words):
        list(Film(path, "gif", 0.2, 10, SIZE, SIZE).sample(2))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no film",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"\x00\x00\x00\x18ftypmp42 and nothing more",
        b"\x1a\x45\xdf\xa3 and nothing more",
        b"GIF89a and nothing more",
    ],
)
def test_what_is_no_film_is_refused_whatever_its_name(tmp_path, content):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(PoseError, match="film.mp4 is no video that can be read; wanted mp4"):
        list(Film.open(path).sample(4))


def test_a_film_that_breaks_off_gives_what_is_there(mp4, tmp_path):
    webm = as_webm(mp4, tmp_path / "whole.webm", header=True).read_bytes()
    path = tmp_path / "half.webm"
    path.write_bytes(webm[: len(webm) // 2])
    film = Film.open(path)
    found = numbers(list(film.sample(16)))
    assert len(found) == min(16, round(film.seconds * film.fps))
    assert found == sorted(found) and 1 <= found[-1] < 45


def test_films_are_told_from_pictures_by_content(mp4, tmp_path):
    assert is_film(mp4)
    assert is_film(write_gif(steps(3), tmp_path / "moves.gif", 8))
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "still.gif")
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "picture.mp4", "PNG")
    for name in ("still.gif", "picture.mp4"):
        assert not is_film(tmp_path / name)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"avif"])
def test_a_phone_s_photo_is_refused_with_what_to_save_it_as(tmp_path, brand):
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\x00\x00\x00\x18ftyp" + brand + b"\x00\x00\x00\x00mif1heic")
    for look in (is_film, Film.open):
        with pytest.raises(PoseError, match="IMG_1.HEIC is a HEIC or AVIF .* save it as JPEG"):
            look(path)
