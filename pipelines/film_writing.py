"""Clips as files: H.264 in MP4, which every browser plays, and GIF.

`pipelines.film` reads such files.
"""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.checks import check_number

Frames = NDArray[np.uint8]


def write_mp4(frames: Frames, path: Path | str, fps: float = 8) -> Path:
    """Write frames as H.264, yuv420p, with the index in front, which every browser plays.

    Args:
        frames: RGB uint8 [F, H, W, 3], even height and width.
        path: file to write.
        fps: frames per second.

    Returns:
        The path.

    Raises:
        ValueError: shape, type or fps are wrong.
    """
    _check_frames(frames, fps)
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"frames are {width} x {height} px; H.264 wants even sides")
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-crf", "16", "-movflags", "+faststart"],
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
    return Path(path)


def write_gif(frames: Frames, path: Path | str, fps: float = 8) -> Path:
    """Write frames as a GIF that loops for ever, all frames in one palette.

    Args:
        frames: RGB uint8 [F, H, W, 3].
        path: file to write.
        fps: frames per second; GIF rounds the pause to hundredths of a second.

    Returns:
        The path.

    Raises:
        ValueError: shape, type or fps are wrong.
    """
    _check_frames(frames, fps)
    pictures = [Image.fromarray(frame) for frame in frames]
    # One palette for the clip, taken from all frames side by side: no flicker between palettes.
    palette = Image.fromarray(np.concatenate(list(frames), axis=1)).quantize(256)
    first, *rest = [picture.quantize(palette=palette) for picture in pictures]
    first.save(path, save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    return Path(path)


def _check_frames(frames: Frames, fps: float) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames) or frames.dtype != np.uint8:
        raise ValueError(
            f"frames are {frames.dtype} of shape {frames.shape}; wanted uint8 [F, H, W, 3]"
        )
    check_number("fps", fps, 1, 60)
