"""Train a defence: `python -m adapters.train <defence> [--profile --seed --max-minutes ...]`.

Every field of the defence's config is an option (`--learning-rate 1e-4`); `--help` after the name
shows them with their defaults. The adapter is written to assets/adapters/<defence>/, or to the
folder `--out`, together with training.json: command, settings, versions, seconds, the hash of what
it goes on from (another defence's adapter, or what the trainer tells of), and the figures measured
on held-out prompts. It trains in one process; several devices are not supported.

A checkpoint belongs to `--out`, to the settings and to what the training goes on from, so trainings
that differ in any of them may run at once. After `--resume` the seconds are those of all sessions:
of the last one all, of those before it what its steps took up to the checkpoint.

`--llm NAME_OR_FOLDER` trains on another causal language model than the profile's. Its adapters go
to adapters/<model>/<defence>/ among the runs, where the commands of `evaluation` look for them with
the same `--llm`, and never into assets. The benign answers that a defence is trained to keep are
still SmolLM2's, and so are the default settings meant for it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import adapters  # noqa: F401 (registers the defences)
from adapters.registry import TrainOptions, adapter_folder, adapter_target, defences, get
from evaluation.runs import weights_hash
from pipelines.fetch import LLM_HELP, MissingWeights, llm_folder, with_llm
from pipelines.paths import ASSETS, runs_dir
from pipelines.profiles import PROFILES, get_profile

VERSIONED = ("torch", "transformers", "peft", "accelerate", "diffusers")


def parser_for(name: str) -> argparse.ArgumentParser:
    """Return the options of one defence: the common ones and its config's fields.

    Raises:
        ValueError: there is no such defence.
    """
    defence = get(name)
    parser = argparse.ArgumentParser(
        prog=f"python -m adapters.train {name}",
        description=f"{defence.card.title}: {defence.card.idea}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--profile", default="embedded", choices=[p.name for p in PROFILES])
    if defence.card.pipeline == "llm":
        parser.add_argument("--llm", default="", metavar="NAME_OR_FOLDER", help=LLM_HELP)
    parser.add_argument("--max-minutes", type=float, help="stop and save after this time")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--out", type=Path, help="another folder for the adapter")
    hints = get_type_hints(defence.config_cls)
    for field in fields(defence.config_cls):
        kind = hints[field.name]
        option = "--" + field.name.replace("_", "-")
        if kind is bool:
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=field.default, help=" "
            )
        else:
            parser.add_argument(option, type=kind, default=field.default, help=" ")
    return parser


def as_option(name: str, value: object) -> str:
    """Return how a setting is written on the command line."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {value}"


def main(argv: list[str] | None = None) -> None:
    """Train the defence that the command line names."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0].startswith("-"):
        sys.exit(f"usage: python -m adapters.train {{{','.join(defences())}}} [options]")
    try:
        args = vars(parser_for(argv[0]).parse_args(argv[1:]))
        named = args.pop("profile")
        profile = get_profile(named)
        llm = args.pop("llm", "")
        if llm:
            profile = with_llm(profile, llm)
        out = args.pop("out") or adapter_target(argv[0], profile)
        if llm and out.resolve().is_relative_to(ASSETS):
            raise ValueError(
                f"out is {str(out)!r}, but what is in assets was trained on a profile's own model; "
                "with --llm choose another folder"
            )
        # Named after the folder of the adapter: another one is another training.
        place = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]
        options = TrainOptions(
            out=out,
            checkpoints=runs_dir() / "checkpoints" / profile.name / argv[0] / place,
            max_minutes=args.pop("max_minutes"),
            resume=args.pop("resume"),
        )
        defence = get(argv[0])
        defence.check_profile(profile)
        config = defence.config_cls(**args)
        starts_from = {}
        if parent := defence.starts_from:
            starts_from[parent] = weights_hash(adapter_folder(parent, profile))
    except (ValueError, MissingWeights) as error:
        sys.exit(str(error))
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        trained = defence.train(config, profile, options)
    except (ValueError, MissingWeights) as error:
        sys.exit(str(error))
    figures = {"steps_done": trained.steps, **trained.figures}
    weights = out / "adapter_model.safetensors"
    record = {
        "defence": argv[0],
        # The folder is left out: it may be a path of the machine that trained.
        "command": f"python -m adapters.train {argv[0]} "
        + (f"--profile {named} " if named != "embedded" else "")
        + (f"--llm {Path(llm).name if Path(llm).is_dir() else llm} " if llm else "")
        + " ".join(as_option(name, value) for name, value in asdict(config).items()),
        "profile": profile.name,
        # Of the model that `--llm` named: a folder's path would be one of the machine that trained.
        **({"llm_sha256": weights_hash(llm_folder(profile))} if llm else {}),
        "config": asdict(config),
        "seconds": round(trained.seconds_before + time.monotonic() - started, 1),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in VERSIONED}},
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "starts_from": starts_from | trained.starts_from,
        "figures": figures,
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
