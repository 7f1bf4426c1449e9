"""What a portrait shows in its hand: ``python -m evaluation.props``.

`evaluation.reader` was trained on whole figures and takes most books that are held up close for
nothing. So portraits have a classifier of their own, a linear one on what that network pools for
props, trained on rendered portraits (``--train``), each as it is and once more degraded as decoders
degrade. It ships in ``assets/reader`` beside the network that it reads from.

Prints one JSON line: accuracy on held-out rendered portraits, the same of the network's own
classifier, the share of each prop that is found, and n.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from evaluation.reader import WEIGHTS, Reader, to_network
from evaluation.runs import weights_hash
from pipelines.device import autocast
from pipelines.fetch import MissingWeights
from pipelines.paths import REPO
from worlds.looks import PROPS

HEAD = "props.safetensors"
TRAIN_COMMAND = "python -m evaluation.props --train"
TRAINING, HELD_OUT = 3000, 512
"""Rendered portraits that the classifier learns from, and those that it is measured on."""
_BATCH = 32


class PropReader:
    """Tells what is held in portraits."""

    def __init__(self, reader: Reader, head: nn.Linear) -> None:
        """Take the network and the classifier on top of it."""
        self._reader, self._head = reader, head

    @classmethod
    def load(cls, folder: Path = WEIGHTS, reader: Reader | None = None) -> PropReader:
        """Load the shipped one.

        Args:
            folder: of the network and of the classifier.
            reader: the network, where it is loaded already.

        Raises:
            MissingWeights: it is not there.
            ValueError: it belongs to another network.
        """
        path = folder / HEAD
        if not path.is_file():
            raise MissingWeights("The reader of held things", path, TRAIN_COMMAND)
        with safe_open(path, "pt") as file:
            parent = (file.metadata() or {}).get("reader_sha256")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if parent != weights_hash(folder / "reader.safetensors"):
            raise ValueError(f"{HEAD} belongs to another reader; make it anew: {TRAIN_COMMAND}")
        head = nn.Linear(weights["weight"].shape[1], len(PROPS))
        head.load_state_dict(weights)
        return cls(reader or Reader.load(folder), head)

    @torch.inference_mode()
    def probabilities(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how likely each of `PROPS` is held, float32 [N, props].

        Args:
            pictures: RGB uint8 [N, S, S, 3].
        """
        return self._head(features(self._reader, pictures)).softmax(1).numpy()

    def held(self, pictures: NDArray[np.uint8]) -> list[str]:
        """Return the likeliest prop of each picture."""
        return [PROPS[i] for i in self.probabilities(pictures).argmax(1)]


@torch.inference_mode()
def features(reader: Reader, pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Return what the network pools for props, float32 [N, features].

    Args:
        reader: the network.
        pictures: RGB uint8 [N, S, S, 3].
    """
    parts = []
    for start in range(0, len(pictures), _BATCH):
        with autocast(torch.device("cpu")):
            x = to_network(pictures[start : start + _BATCH])
            parts.append(reader.net.pooled(x, "prop").float())
    return torch.cat(parts)


def fit_head(rows: torch.Tensor, classes: torch.Tensor, decay: float = 1e-3) -> nn.Linear:
    """Fit a linear classifier of `PROPS` by L-BFGS.

    Args:
        rows: features [N, features].
        classes: their class numbers [N].
        decay: weight of the squared weights, of standardised features.
    """
    mean, spread = rows.mean(0), rows.std(0) + 1e-3
    x = (rows - mean) / spread
    head = nn.Linear(rows.shape[1], len(PROPS))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(head(x), classes) + decay * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():  # back to the features as they are
        head.bias -= head.weight @ (mean / spread)
        head.weight /= spread
    return head.requires_grad_(False)


def train(folder: Path, data: Path) -> None:
    """Fit the classifier on rendered portraits and write it beside the network.

    Args:
        folder: of the network.
        data: where rendered sets lie, or are made.
    """
    from worlds.portraits import build_portraits
    from worlds.reader import degrade

    rendered = build_portraits(data / "portraits", TRAINING)
    rng, reader = np.random.default_rng(0), Reader.load(folder)
    images = np.asarray(rendered.images[:TRAINING])
    classes = [PROPS.index(row["look"]["prop"]) for row in rendered.meta[:TRAINING]]
    degraded = np.stack([degrade(image, rng) for image in images])
    rows = torch.cat([features(reader, images), features(reader, degraded)])
    head = fit_head(rows, torch.tensor(classes * 2))
    state = {name: value.contiguous() for name, value in head.state_dict().items()}
    parent = weights_hash(folder / "reader.safetensors")
    about = {"command": TRAIN_COMMAND, "seed": "0", "reader_sha256": parent}
    save_file(state, folder / HEAD, metadata=about)


def accuracy(found: Sequence[str], held: Sequence[str]) -> float:
    """Return the share that is right, 0..1."""
    return float(np.mean([a == b for a, b in zip(found, held, strict=True)]))


def main() -> None:
    """Measure the classifier, trained first where that is asked for."""
    from worlds.data import HELD_OUT_SEED
    from worlds.portraits import build_portraits

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
    images = np.asarray(rendered.images[:HELD_OUT])
    held = [row["look"]["prop"] for row in rendered.meta[:HELD_OUT]]
    found = PropReader.load().held(images)
    figures = {
        "accuracy": round(accuracy(found, held), 4),
        "reader": round(accuracy([str(p) for p in Reader.load().read(images).attributes["prop"]],
                                 held), 4),
        "by_prop": {
            prop: round(accuracy(*zip(*[(f, h) for f, h in zip(found, held, strict=True)
                                        if h == prop], strict=True)), 4)
            for prop in PROPS
        },
        "n": len(held),
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
