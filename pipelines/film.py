"""Still frames from video files, evenly spaced: mp4, mov and webm by OpenCV, gif by Pillow.

What a file is, is told by its first bytes, never by its name: FFmpeg, which decodes for OpenCV,
would otherwise also open play lists that point elsewhere. How long a video plays is told by its
frames' times: headers give a count and a rate, wrong ones where frames come unevenly, and a
browser's recorder none. So each is gone through twice; the first pass takes about half as long as
the second, 1.3 s for 20 s at 1920 × 1080 on two cores.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.pose import PoseError

Frame = NDArray[np.uint8]

FORMATS = (".mp4", ".webm", ".mov", ".gif")
"""What is read, as names of files end."""

MAX_SECONDS = 20.0
"""Longest film accepted, of a video up to when its last frame begins."""

MAX_PIXELS = 1920 * 1080
"""Largest frame accepted, in pixels; lying or standing."""

_MAX_FPS = 240  # with MAX_SECONDS it bounds the work of one film
_LARGEST_SIDE = 1280  # finding poses gains nothing from more, and 16 frames stay below 50 MB
# First boxes of an ISO media file; old QuickTime files need not begin with "ftyp".
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Brands of HEIC and AVIF, photos in the same boxes.
_PHOTO_BRANDS = (b"heic", b"heix", b"mif1", b"avif")


@dataclass(frozen=True)
class Film:
    """A video file that was looked at and is within the limits.

    Attributes:
        path: the file.
        kind: ``gif`` or ``video``.
        seconds: how long it plays.
        fps: frames per second: the mean where they vary, in a gif those of its shortest pause.
        width: of a frame, in the file's own pixels.
        height: the same.
    """

    path: Path
    kind: str
    seconds: float
    fps: float
    width: int
    height: int

    @classmethod
    def open(cls, path: Path) -> Film:
        """Look at a file.

        Args:
            path: mp4, webm, mov or animated gif.

        Raises:
            PoseError: it is none of these, cannot be decoded, or is longer or larger than the
                limits; the message names what was found and the limit.
        """
        kind = _kind_of(path)
        if not kind:
            raise _unreadable(path)
        return _open_gif(path) if kind == "gif" else _open_video(path)

    def sample(self, count: int) -> Iterator[Frame]:
        """Take frames at even distances from the first to the last.

        Args:
            count: how many, at least 1. A film with fewer gives as many as it has.

        Yields:
            RGB uint8 [H, W, 3], no side longer than 1280 px: what is on the screen at each of
            these times, the same one again while a film rests on it.

        Raises:
            PoseError: not a single frame can be decoded.
        """
        count = min(count, max(1, round(self.seconds * self.fps)))
        times = deque(np.linspace(0, max(0.0, self.seconds - 1 / self.fps), count))
        shots = _gif_shots(self.path) if self.kind == "gif" else _video_shots(self.path)
        shown = None
        try:
            for time, frame in shots:
                # Half a frame early is nearer than half a frame late.
                while shown is not None and times and times[0] + 0.5 / self.fps < time:
                    times.popleft()
                    yield _shrunk(shown)
                if not times:
                    return
                shown = frame if frame is not None else shown
        except (OSError, SyntaxError, EOFError) as error:  # a gif that breaks off
            raise _unreadable(self.path) from error
        finally:
            shots.close()
        if shown is None:
            raise _unreadable(self.path)
        for _ in times:
            yield _shrunk(shown)


def is_film(path: Path) -> bool:
    """Tell whether a file is a video or a gif that moves, by its content.

    Args:
        path: any file.

    Raises:
        PoseError: it is a HEIC or AVIF photo, which nothing here reads; the message says what to
            save it as.
    """
    try:
        if _kind_of(path) == "video":
            return True
        with Image.open(path, formats=("GIF",)) as gif:
            return gif.n_frames > 1
    except PoseError:  # a ValueError too
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _kind_of(path: Path) -> str:
    """Return ``gif``, ``video``, or nothing for any other file; refuse HEIC and AVIF photos."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"GIF8":
        return "gif"
    if head[4:8] == b"ftyp" and head[8:] in _PHOTO_BRANDS:
        raise PoseError(
            f"{path.name} is a HEIC or AVIF picture, which cannot be read; save it as JPEG or PNG"
        )
    if head[:4] == b"\x1a\x45\xdf\xa3" or head[4:8] in _ISO_BOXES:
        return "video"
    return ""


def _open_video(path: Path) -> Film:
    capture = _capture(path)
    try:
        width, height = (
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
    finally:
        capture.release()
    _check_size(path, width, height)
    last, count = 0.0, 0
    shots = _video_shots(path, decoded=False)
    for time, _ in shots:
        last, count = time, count + 1
        if time > MAX_SECONDS or count > MAX_SECONDS * _MAX_FPS:
            shots.close()
            found = f"is longer than {MAX_SECONDS:.0f} s"
            if time <= MAX_SECONDS:
                found = f"has more than {MAX_SECONDS * _MAX_FPS:.0f} frames"
            raise _too_long(path, found)
    if not count:
        raise _unreadable(path)
    fps = (count - 1) / last if last > 0 else 1.0
    return Film(path, "video", last + 1 / fps, fps, width, height)


def _open_gif(path: Path) -> Film:
    seconds, shortest, width, height = 0.0, MAX_SECONDS, 0, 0
    try:
        for gif in _gif_frames(path):
            width, height = gif.size
            seconds, shortest = seconds + _pause(gif), min(shortest, _pause(gif))
            if seconds > MAX_SECONDS:
                raise _too_long(path, f"is longer than {MAX_SECONDS:.0f} s")
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _unreadable(path) from error
    return Film(path, "gif", seconds, 1 / shortest, width, height)


def _video_shots(path: Path, decoded: bool = True) -> Iterator[tuple[float, Frame | None]]:
    """Yield each frame's time in seconds and its RGB, None for a broken one and if not wanted."""
    capture = _capture(path)
    try:
        first = math.nan
        while capture.grab():
            time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first = time if math.isnan(first) else first  # edited films need not begin at 0
            good, frame = capture.retrieve() if decoded else (False, None)
            yield time - first, frame[..., ::-1] if good else None
    finally:
        capture.release()


def _gif_shots(path: Path) -> Iterator[tuple[float, Frame]]:
    """The same for a gif, on black where it is transparent."""
    time = 0.0
    for gif in _gif_frames(path):
        frame = gif.convert("RGBA")
        black = Image.new("RGBA", frame.size, (0, 0, 0, 255))
        yield time, np.asarray(Image.alpha_composite(black, frame).convert("RGB"))
        time += _pause(gif)


def _gif_frames(path: Path) -> Iterator[Image.Image]:
    """Yield a gif at each of its frames in turn, before it is decoded; refuse too large ones."""
    with Image.open(path, formats=("GIF",)) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            # Pillow enlarges the picture for a frame that leaves the screen which the header names.
            _check_size(path, *gif.size)
            yield gif


def _pause(gif: Image.Image) -> float:
    """Seconds that a gif's frame is shown; 0.1 where it names less than browsers keep to."""
    pause = gif.info.get("duration", 0) / 1000
    return pause if pause >= 0.02 else 0.1


def _capture(path: Path) -> cv2.VideoCapture:
    # FFmpeg by name: OpenCV's other readers take patterns in the name for lists of pictures.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise _unreadable(path)
    return capture


def _shrunk(frame: Frame) -> Frame:
    frame = np.ascontiguousarray(frame)
    height, width = frame.shape[:2]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    if scale == 1.0:
        return frame
    side = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(frame, side, interpolation=cv2.INTER_AREA)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PoseError(
            f"{path.name} has {width} × {height} px; the limit is 1920 × 1080, lying or standing"
        )


def _too_long(path: Path, found: str) -> PoseError:
    return PoseError(f"{path.name} {found}; the limit is {MAX_SECONDS:.0f} s: cut it")


def _unreadable(path: Path) -> PoseError:
    return PoseError(
        f"{path.name} is no video that can be read; wanted mp4, webm, mov or an animated gif"
    )
