"""Train the embedded picture models: ``python -m worlds.train STAGE``.

The stages build on one another: ``vae`` (autoencoder), ``frames`` (text encoder, UNet and
ControlNet on single frames in latent space), ``motion`` (motion modules on clips). Each keeps its
data, checkpoints and sample sheets in ``checkpoints/``; ``frames`` and ``motion`` end by exporting
all parts to ``assets/avatar-sd``. The autoencoder is exported by ``frames``, since other latents
need another denoiser, and at once by ``vae --decoder-only``, if the latents are those of the
export. ``refiner`` trains what redraws the details of finished pictures, for the exported model.
``reader`` trains the network that judges pictures (``assets/reader``).
"""

from __future__ import annotations

import argparse

from pipelines.paths import REPO
from worlds import autoencoder, denoiser, motion, reader, refiner, stills

STAGES = {
    "vae": autoencoder.train,
    "frames": denoiser.train,
    "motion": motion.train,
    "refiner": refiner.train,
    "portraits": stills.train,
    "reader": reader.train,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m worlds.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("stage", choices=STAGES)
    p.add_argument("--max-minutes", type=float, default=60, help="time budget of the whole run")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    p.add_argument(
        "--from-export",
        action="store_true",
        help="start from the weights in assets/ instead of from nothing",
    )
    p.add_argument(
        "--decoder-only",
        action="store_true",
        help="vae: train the decoder alone, so that later stages stay valid",
    )
    p.add_argument(
        "--freeze-poses",
        action="store_true",
        help="frames: keep the skeletons' embedding as it is and compute it once (twice as fast)",
    )
    p.add_argument(
        "--freeze-coarse",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="LEVELS",
        help="frames, motion: leave the coarsest levels as they are; 1 (the default, at 4 x 4) "
        "holds 60 %% of the weights, 2 (8 x 8 too) holds 80 %%",
    )
    p.add_argument(
        "--muon",
        action="store_true",
        help="train matrices and convolutions by Muon",
    )
    p.add_argument(
        "--frames",
        type=int,
        default=12000,
        help="pictures in the training set; refiner: drawn by the model, of six times as many "
        "rendered ones",
    )
    p.add_argument("--clips", type=int, default=500, help="clips in the training set")
    p.add_argument(
        "--batch",
        type=int,
        default=None,
        help="a step's passes of pictures (frames) or of clips (motion), crops (vae), pictures "
        "(reader)",
    )
    p.add_argument("--learning-rate", type=float, default=None)
    return p


def main() -> None:
    """Run one stage."""
    args = parser().parse_args()
    STAGES[args.stage](args, REPO / "checkpoints")


if __name__ == "__main__":
    main()
