"""Details redrawn: a small network between the decoder and the finished frame.

What a small denoiser draws is right in the large and soft in the small: its latents are 8 px apart,
a doll's whole face is three of them, and eyes, rims of glasses and rows of dots lie below. As
Stable Diffusion XL's refiner and face restorers do for larger models (Podell et al. 2023, arXiv
2307.01952; Wang et al. 2021, GFP-GAN, arXiv 2101.04061), a second network gets the finished picture
and corrects it, knowing where the joints are and what was asked for. It works on pixels folded four
to a cell (space to depth, Shi et al. 2016, arXiv 1609.05158), which is not bound to what the
autoencoder can show.

In a safety demo it must not draw what a guard took away:

* both sides of a pair go through it alike;
* it was taught to leave kneeling people whom PoseGuard dissolved, and coarse blocks of colour, as
  they are (`worlds.refiner`; docs/poseguard.md has the guard's figures with it and without);
* it reads the words of its own captions only, "pistol" not among them, and of what somebody holds
  harmless things only. All else is taken out of the prompt before it reads it, and so corrected
  from its pixels or not at all.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch.nn import functional as F

from pipelines.fetch import MissingWeights
from pipelines.loading import loading

FOLD = 4
"""Pixels along a side of a cell."""

SETTINGS = "refiner.json"
"""File beside the weights that lists which words and which held things are read."""

TRAIN_COMMAND = "python -m worlds.train refiner"

MARGIN = 0.15
"""How far around the skeleton is looked after, in parts of the longer side of its bounding box: as
far as hands, feet and hats reach. Twice as much takes a third longer, for 0.001 of attributes."""

WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
"""A word of a prompt."""

_DANGLING = re.compile(r"(?:\s*\b(?:an?|the|with|and)\b)+\s*(?=,|$)", re.IGNORECASE)
_FADE = 8  # pixels over which a correction fades out towards the edge of what is looked after

Box = tuple[slice, slice]
"""Rows and columns of a frame."""


class Refiner:
    """A trained refiner.

    Attributes:
        net: predicts a correction of folded pixels from folded pixels, skeleton and text.
        held: things that it reads of when a prompt has somebody hold one of them and nothing else.
            Whatever else is held is taken out.
        words: what it reads, in small letters; all other words are taken out of prompts.
        everywhere: words that ask for something of the whole frame and not of the figure alone.
    """

    def __init__(
        self,
        net: UNet2DConditionModel,
        held: Sequence[str] = (),
        words: Sequence[str] = (),
        everywhere: Sequence[str] = (),
    ) -> None:
        self.net = net
        self.everywhere = tuple(everywhere)
        self.held, self.words = tuple(held), tuple(words)
        self._read = frozenset(words)
        # Lists of what may be read, not of what may not: nobody can list all names of a pistol.
        things = "|".join(map(re.escape, held)) or "(?!)"  # of nothing, nothing
        harmless = rf"\s+(?:an?\s+|the\s+)?(?:{things})\s*(?:,|$)"
        self._others = re.compile(rf"\s*\bholding\b(?!{harmless})[^,]*", re.IGNORECASE)

    @property
    def multiple(self) -> int:
        """What the sides of frames must be divisible by."""
        return FOLD * 2 ** (len(self.net.config.block_out_channels) - 1)

    @classmethod
    @loading()
    def load(cls, folder: Path | str) -> Refiner:
        """Load what `save` wrote, in float32 on the CPU.

        Raises:
            MissingWeights: a file is not there.
        """
        check_refiner(folder)
        settings = json.loads((Path(folder) / SETTINGS).read_text(encoding="utf-8"))
        return cls(UNet2DConditionModel.from_pretrained(folder).float(), **settings)

    def save(self, folder: Path | str, max_shard_size: int | str = "10GB") -> None:
        """Write weights in float16, in files of at most ``max_shard_size`` bytes, and settings."""
        half = copy.deepcopy(self.net).half()
        half.save_pretrained(folder, max_shard_size=max_shard_size)
        settings = {"held": self.held, "words": self.words, "everywhere": self.everywhere}
        (Path(folder) / SETTINGS).write_text(json.dumps(settings) + "\n", encoding="utf-8")

    def reads(self, prompt: str) -> str:
        """Return a prompt as the refiner reads it, without what it is not told of."""

        def read(word: re.Match[str]) -> str:
            return word[0] if word[0].lower() in self._read else ""

        left = " ".join(WORD.sub(read, self._others.sub("", prompt)).split())
        return re.sub(r"(\s*,)+", ",", _DANGLING.sub("", left)).strip(" ,")

    def box(self, skeletons: NDArray[np.uint8], prompt: str) -> Box | None:
        """Return where it redraws a clip: about the figure, or all of it if the prompt asks so.

        Args:
            skeletons: RGB uint8 [F, H, W, 3], black but for the skeleton.
            prompt: of the clip; only what `reads` leaves of it counts.

        Returns:
            Rows and columns; None where there is nobody to redraw.
        """
        figure = figure_box(skeletons, self.multiple)
        asked = self.reads(prompt).lower()
        if figure is None or not any(words in asked for words in self.everywhere):
            return figure
        return slice(0, skeletons.shape[1]), slice(0, skeletons.shape[2])

    @torch.no_grad()
    def __call__(
        self,
        video: torch.Tensor,
        skeletons: NDArray[np.uint8],
        text: torch.Tensor,
        box: Box | None,
    ) -> torch.Tensor:
        """Return frames of a decoded clip with their details redrawn.

        Args:
            video: [1, 3, F, H, W] in -1..1; not changed.
            skeletons: RGB uint8 [F, H, W, 3], black but for the skeleton.
            text: states of the text encoder [1, tokens, width] of what `reads` returns.
            box: that of the whole clip, the same for all its frames, lest its edge moves; None
                leaves the frames as they are.
        """
        if box is None:
            return video
        rows, columns = box
        pictures = video[0, :, :, rows, columns].transpose(0, 1).to(self.net.dtype)
        sticks = torch.from_numpy(skeletons[:, rows, columns]).permute(0, 3, 1, 2)
        sticks = sticks.to(self.net.device, self.net.dtype) / 255
        text = text.to(self.net.dtype).expand(len(pictures), -1, -1)
        change = correction(self.net, pictures, sticks, text).float()
        change = change * _faded(rows, columns, skeletons.shape[1:3]).to(video.device)
        refined = video.clone()
        refined[0, :, :, rows, columns] += change.transpose(0, 1)
        return refined


def check_refiner(folder: Path | str) -> None:
    """Check that a refiner's folder is whole.

    Raises:
        MissingWeights: a file is not there; the message holds the command that makes it.
    """
    folder = Path(folder)
    for file in (folder / "config.json", folder / SETTINGS):
        if not file.is_file():
            raise MissingWeights("The refiner", file, TRAIN_COMMAND)
    if not any(folder.glob("*.safetensors")):
        raise MissingWeights("The refiner", folder / "*.safetensors", TRAIN_COMMAND)


def new_net(
    text_width: int, channels: tuple[int, ...] = (64, 96, 128), groups: int = 16
) -> UNet2DConditionModel:
    """Build an untrained network whose correction is nothing.

    Args:
        text_width: of the text encoder's states.
        channels: from the finest level, a cell of `FOLD` pixels, to the coarsest, where it reads.
        groups: of its normalisations.
    """
    plain = len(channels) - 1
    net = UNet2DConditionModel(
        in_channels=2 * 3 * FOLD**2,
        out_channels=3 * FOLD**2,
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=text_width,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
        # diffusers reads this as the number of heads, whatever its name says.
        attention_head_dim=tuple(max(1, c // 32) for c in channels),
        norm_num_groups=groups,
    )
    torch.nn.init.zeros_(net.conv_out.weight)
    torch.nn.init.zeros_(net.conv_out.bias)
    return net


def correction(
    net: UNet2DConditionModel,
    pictures: torch.Tensor,
    skeletons: torch.Tensor,
    text: torch.Tensor,
) -> torch.Tensor:
    """Return what to add to pictures.

    Args:
        net: of `new_net`.
        pictures: [B, 3, H, W] in -1..1, H and W divisible by `FOLD` and by two for each further
            level.
        skeletons: [B, 3, H, W] in 0..1.
        text: states of the text encoder [B, tokens, width].

    Returns:
        [B, 3, H, W].
    """
    cells = F.pixel_unshuffle(torch.cat([pictures, skeletons], 1), FOLD)
    return F.pixel_shuffle(net(cells, 0, text).sample, FOLD)


def figure_box(skeletons: NDArray[np.uint8], multiple: int) -> Box | None:
    """Return the rows and columns around all skeletons of a clip, None where there is none.

    Args:
        skeletons: RGB uint8 [F, H, W, 3], black but for the skeleton.
        multiple: what both bounds are divisible by, as H and W are.
    """
    drawn = skeletons.any((0, 3))
    if not drawn.any():
        return None
    spans = [np.flatnonzero(drawn.any(axis))[[0, -1]] for axis in (1, 0)]
    margin = MARGIN * max(last - first for first, last in spans)
    bounds = []
    for (first, last), side in zip(spans, drawn.shape, strict=True):
        low = max(0, int((first - margin) // multiple) * multiple)
        high = min(side, -int(-(last + 1 + margin) // multiple) * multiple)
        bounds.append(slice(low, high))
    return bounds[0], bounds[1]


def share_of(box: Box | None, side: int) -> float:
    """Return which part of a square frame of some side in pixels a box is, 0..1."""
    if box is None:
        return 0.0
    rows, columns = box
    return (rows.stop - rows.start) * (columns.stop - columns.start) / side**2


def _faded(rows: slice, columns: slice, frame: tuple[int, ...]) -> torch.Tensor:
    """Return weights [h, w] that fall towards those edges of a box that are not the frame's."""
    along = []
    for span, side in zip((rows, columns), frame, strict=True):
        place = torch.arange(span.start, span.stop) + 0.5
        weight = torch.ones(len(place))
        if span.start > 0:
            weight = weight.minimum((place - span.start) / _FADE)
        if span.stop < side:
            weight = weight.minimum((span.stop - place) / _FADE)
        along.append(weight.clamp(max=1))
    return along[0][:, None] * along[1][None]
