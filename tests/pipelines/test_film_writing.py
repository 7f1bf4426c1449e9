"""Files of clips play in a browser."""

from __future__ import annotations

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from pipelines.film_writing import write_gif, write_mp4
from tests.tiny import SIZE


def test_mp4_plays_everywhere(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (16, SIZE, SIZE, 3), np.uint8)
    path = write_mp4(frames, tmp_path / "clip.mp4", fps=8)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    assert len(list(reader)) == 16
    assert (meta["size"], meta["fps"], meta["codec"]) == ((SIZE, SIZE), 8.0, "h264")
    assert meta["pix_fmt"].startswith("yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with pytest.raises(ValueError, match="frames are float64"):
        write_mp4(frames / 255, tmp_path / "wrong.mp4")
    with pytest.raises(ValueError, match="even sides"):
        write_mp4(frames[:, 1:], tmp_path / "wrong.mp4")


def test_gif_loops(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (4, SIZE, SIZE, 3), np.uint8)
    with Image.open(write_gif(frames, tmp_path / "clip.gif")) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (4, 0, 120)
