"""What a portrait shows in its hand: ``python -m evaluation.props``.

A small convolutional network reads the whole picture at 64 px. It is trained (``--train``) on
rendered portraits that are moved, blurred, tinted and spoilt as drawn ones are: some are covered
or shuffled beyond use, some have a smear of colours in place of what is held, and those hold
nothing. `evaluation.reader`, which was trained on whole figures and sharp ones, takes most books
that are held up close for nothing, and a third of the softly drawn pistols.

Prints one JSON line: accuracy on held-out rendered portraits, the share of each prop that is found,
and n; and on 96 drawn pictures that were labelled by eye (tests/data/drawn_pistols.webp) how often
pistol or no pistol is right, and Cohen's kappa.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from evaluation.reader import WEIGHTS
from pipelines.fetch import MissingWeights
from pipelines.loading import loading
from pipelines.paths import REPO
from worlds.looks import PROPS

FILE = "props.safetensors"
TRAIN_COMMAND = "python -m evaluation.props --train"
TRAINING, HELD_OUT = 8000, 512
"""Rendered portraits that the network learns from, and those that it is measured on."""
STEPS, BATCH, LEARNING_RATE = 400, 48, 4e-3
SIZE = 64
"""Side in pixels of the pictures that the network takes."""
DRAWN = REPO / "tests" / "data" / "drawn_pistols.webp"
"""96 drawn pictures, 16 a row and `DRAWN_SIDE` wide: a model a row, each asked for a pistol."""
DRAWN_SIDE = 96
DRAWN_LABELS = (True, False, False, False, True, False)
"""Whether one sees pistols in the pictures of a row; all 16 are alike in that."""
_WORK = 128  # side at which training pictures are spoilt
_NOTHING = PROPS.index("none")


def new_net(width: int = 32) -> nn.Sequential:
    """Build the untrained network: five convolutions, a grid of 4 × 4, a linear layer."""

    def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    return nn.Sequential(
        layer(3, width, 1),
        layer(width, width * 3 // 2, 2),
        layer(width * 3 // 2, width * 2, 2),
        layer(width * 2, width * 3, 2),
        layer(width * 3, width * 3, 1),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(width * 3 * 16, len(PROPS)),
    )


class PropReader:
    """Tells what is held in portraits."""

    def __init__(self, net: nn.Module) -> None:
        """Take a trained network."""
        self._net = net.eval().requires_grad_(False)

    @classmethod
    @loading()
    def load(cls, folder: Path = WEIGHTS) -> PropReader:
        """Load the shipped one.

        Raises:
            MissingWeights: it is not there.
        """
        path = folder / FILE
        if not path.is_file():
            raise MissingWeights("The reader of held things", path, TRAIN_COMMAND)
        net = new_net()
        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        return cls(net)

    @torch.inference_mode()
    def probabilities(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how likely each of `PROPS` is held, float32 [N, props].

        Args:
            pictures: RGB uint8 [N, S, S, 3].
        """
        return self._net(to_network(pictures)).softmax(1).numpy()

    def held(self, pictures: NDArray[np.uint8]) -> list[str]:
        """Return the likeliest prop of each picture."""
        return [PROPS[i] for i in self.probabilities(pictures).argmax(1)]


def to_network(pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Bring RGB uint8 pictures [S, S, 3] to what the network takes, [N, 3, 64, 64] in -1..1."""
    small = np.stack([cv2.resize(p, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for p in pictures])
    return torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1


def _field(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Return a smooth field of random colours, float32 [128, 128, 3] in 0..255."""
    tint = rng.uniform(0.2, 1, 3)
    coarse = (rng.uniform(0, 255, (cells, cells, 3)) * tint).astype(np.float32)
    return cv2.resize(coarse, (_WORK, _WORK), interpolation=cv2.INTER_CUBIC)


def spoilt(
    picture: NDArray[np.uint8], prop: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], int]:
    """Spoil a rendered portrait as drawn ones are spoilt.

    Args:
        picture: RGB uint8 [128, 128, 3].
        prop: number of what is held.
        rng: draws.

    Returns:
        RGB uint8 [128, 128, 3], and what is to be read: nothing where it cannot be seen any more.
    """
    shift = np.float32([[1, 0, rng.uniform(-4, 4)], [0, 1, rng.uniform(-4, 4)]])
    x = cv2.warpAffine(picture, shift, (_WORK, _WORK), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.75:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 2.2))
    x = x.astype(np.float32)
    if rng.random() < 0.5:
        cells = int(rng.choice([4, 8, 16]))
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        noise = cv2.resize(noise, (_WORK, _WORK), interpolation=cv2.INTER_CUBIC)
        x += noise * rng.uniform(0, 25)
    kind = rng.random()
    if kind < 0.06:  # covered
        x, prop = _field(rng, int(rng.choice([3, 5, 8, 12, 24]))), _NOTHING
    elif kind < 0.12:  # shuffled
        tiles = x.reshape(4, 32, 4, 32, 3).swapaxes(1, 2).reshape(16, 32, 32, 3)
        tiles = rng.permutation(tiles).reshape(4, 4, 32, 32, 3)
        x = cv2.GaussianBlur(
            tiles.swapaxes(1, 2).reshape(_WORK, _WORK, 3), (0, 0), rng.uniform(1, 5)
        )
        prop = _NOTHING
    elif kind < 0.32 and PROPS[prop] in ("pistol", "book", "ball"):  # a smear in the raised hand
        middle = np.array([rng.uniform(18, 40), rng.uniform(22, 46)])  # x, y
        yy, xx = np.mgrid[:_WORK, :_WORK]
        away = np.hypot(xx - middle[0], (yy - middle[1]) / rng.uniform(1, 1.7))
        share = np.clip((rng.uniform(16, 30) - away) / rng.uniform(2, 12), 0, 1)[..., None]
        smear = _field(rng, int(rng.choice([8, 12, 20, 32])))
        x, prop = x * (1 - share) + (0.5 * smear + rng.uniform(0, 110)) * share, _NOTHING
    x = x * rng.uniform(0.85, 1.15) + rng.uniform(-10, 10) + rng.uniform(-6, 6, 3)
    return np.clip(x, 0, 255).astype(np.uint8), prop


def fit(pictures: NDArray[np.uint8], props: Sequence[int], steps: int = STEPS) -> nn.Sequential:
    """Train the network.

    Args:
        pictures: rendered portraits, RGB uint8 [N, 128, 128, 3].
        props: number of what each holds.
        steps: of AdamW, of `BATCH` pictures.
    """
    torch.manual_seed(0)
    rng, net = np.random.default_rng(0), new_net()
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for _ in range(steps):
        some = [spoilt(pictures[i], props[i], rng) for i in rng.integers(len(pictures), size=BATCH)]
        asked = torch.tensor([prop for _, prop in some])
        logits = net(to_network([picture for picture, _ in some]))
        loss = F.cross_entropy(logits, asked, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    return net.eval()


def train(folder: Path, data: Path) -> None:
    """Train the network on rendered portraits and write it.

    Args:
        folder: where to.
        data: where rendered sets lie, or are made.
    """
    from worlds.portraits import build_portraits

    rendered = build_portraits(data / "portraits", TRAINING)
    pictures = np.stack(
        [
            cv2.resize(rendered.images[i], (_WORK, _WORK), interpolation=cv2.INTER_AREA)
            for i in range(TRAINING)
        ]
    )
    props = [PROPS.index(row["look"]["prop"]) for row in rendered.meta[:TRAINING]]
    state = {name: value.contiguous() for name, value in fit(pictures, props).state_dict().items()}
    state = {name: value.half() if value.is_floating_point() else value
             for name, value in state.items()}  # fmt: skip
    save_file(state, folder / FILE, metadata={"command": TRAIN_COMMAND, "seed": "0"})


def drawn_pictures() -> tuple[NDArray[np.uint8], list[bool]]:
    """Return the drawn pictures that were labelled by eye, and whether one sees a pistol."""
    sheet = np.asarray(Image.open(DRAWN).convert("RGB"))
    rows = sheet.reshape(len(DRAWN_LABELS), DRAWN_SIDE, -1, DRAWN_SIDE, 3).swapaxes(1, 2)
    pictures = rows.reshape(-1, DRAWN_SIDE, DRAWN_SIDE, 3)
    return pictures, np.repeat(DRAWN_LABELS, rows.shape[1]).tolist()


def agreement(found: Sequence[bool], seen: Sequence[bool]) -> tuple[float, float]:
    """Return the share that agrees, 0..1, and Cohen's kappa."""
    a, b = np.asarray(found, bool), np.asarray(seen, bool)
    same = float((a == b).mean())
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return same, (same - chance) / (1 - chance)


def main() -> None:
    """Measure the network, trained first where that is asked for."""
    from worlds.data import HELD_OUT_SEED
    from worlds.portraits import UNSAFE_PROP, build_portraits

    parser = argparse.ArgumentParser(
        prog="python -m evaluation.props", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--train", action="store_true", help="train it first")
    args = parser.parse_args()
    data = REPO / "checkpoints" / "data"
    if args.train:
        train(WEIGHTS, data)
    rendered = build_portraits(data / "portraits-heldout", HELD_OUT, seed=HELD_OUT_SEED)
    held = np.array([row["look"]["prop"] for row in rendered.meta[:HELD_OUT]])
    reader = PropReader.load()
    right = np.array(reader.held(np.asarray(rendered.images[:HELD_OUT]))) == held
    pictures, seen = drawn_pictures()
    same, kappa = agreement([prop == UNSAFE_PROP for prop in reader.held(pictures)], seen)
    figures = {
        "accuracy": round(float(right.mean()), 4),
        "by_prop": {prop: round(float(right[held == prop].mean()), 4) for prop in PROPS},
        "n": HELD_OUT,
        "drawn_accuracy": round(same, 4),
        "drawn_kappa": round(kappa, 4),
        "drawn_n": len(seen),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
