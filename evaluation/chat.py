"""Answer a file of prompts with one arm, attacked or not, and judge the replies.

``python -m evaluation.chat --arm sdd --prompts prompts.txt`` prints one JSON object a line, in the
order of the file: arm, attack, run, prompt, reply, verdict, confidence.

``--attack prefill`` and ``--attack abliteration`` need no training. Any other attack is one that
has been mounted before: its weights are those of the newest finished run of that attack, or of the
run that ``--run`` names, be they a LoRA or all of the model's. A run's weights can be prefilled and
abliterated as well.

Nothing imports this module but other commands: it needs `adapters`, which need `evaluation.judge`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import registry
from adapters.attacks.abliteration import AbliterationConfig, abliterate
from adapters.attacks.base import BASE_ARM
from adapters.attacks.prefill import PREFIX
from evaluation.judge import Judge
from evaluation.runs import Run, RunStore
from pipelines.fetch import MissingWeights
from pipelines.llm import conversation_ids, generate_replies, load_arm
from pipelines.paths import runs_dir
from pipelines.profiles import PROFILES, Profile, get_profile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipelines.llm import Forward

UNTRAINED = ("prefill", "abliteration")
"""Attacks that need no training."""

STRESS_RUNS = "stress"
"""Name of the folder, among the runs, that the stress test's are in (`evaluation.stress`)."""

BATCH = 16  # prompts answered at once


@dataclass(frozen=True)
class Speaker:
    """A model that answers, with what an attacker did to it.

    Attributes:
        model: in evaluation mode; its adapters that are switched on count.
        tokenizer: of the model.
        prefill: what every reply is forced to begin with.
        record: what mounting the attack found, as JSON.
    """

    model: Forward
    tokenizer: PreTrainedTokenizerBase
    prefill: str = ""
    record: dict[str, Any] = field(default_factory=dict)

    def answer(
        self, prompts: Sequence[str], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Answer single-turn prompts in one batch; see `pipelines.llm.generate_replies`."""
        return generate_replies(
            self.model, self.tokenizer, prompts, max_new_tokens,
            prefill=self.prefill, temperature=temperature, seed=seed,
        )  # fmt: skip


def speaker(profile: Profile, weights: Path | None, attack: str = "", seed: int = 0) -> Speaker:
    """Load an arm and mount an attack that needs no training.

    Args:
        profile: which base model.
        weights: the arm's LoRA, or the LoRA or whole model of an attacked arm; None: the base model
            itself.
        attack: one of `UNTRAINED`; any other name leaves the arm as it is.
        seed: of the prompts that abliteration takes its direction from.

    Raises:
        MissingWeights: the base model has not been fetched.
    """
    if attack == "abliteration":
        attacked = abliterate(profile, weights, AbliterationConfig(seed=seed))
        return Speaker(attacked.model, attacked.tokenizer, record=attacked.record)
    model, tokenizer = load_arm(profile, weights)
    return Speaker(model, tokenizer, PREFIX if attack == "prefill" else "")


def untrained_settings(attack: str) -> dict[str, Any]:
    """Return what an attack that needs no training is mounted with, as JSON.

    Args:
        attack: one of `UNTRAINED`; the seed is not among the settings.
    """
    if attack == "prefill":
        return {"prefix": PREFIX}
    settings = asdict(AbliterationConfig())
    del settings["seed"]
    return settings | {"refusals": list(settings["refusals"])}


def arm_folder(arm: str, profile: Profile) -> Path | None:
    """Return the LoRA of an arm of the chat model; None for the base model.

    Raises:
        ValueError: there is no such arm.
        MissingWeights: it has not been trained.
    """
    known = [BASE_ARM, *(n for n, d in registry.defences().items() if d.card.pipeline == "llm")]
    if arm not in known:
        raise ValueError(f"arm is {arm!r}; choose one of: {', '.join(known)}")
    return None if arm == BASE_ARM else registry.adapter_folder(arm, profile)


def attacked_run(
    stores: Sequence[RunStore], profile: Profile, arm: str, attack: str, run: str
) -> Run:
    """Find the run whose weights an attacked arm has.

    Args:
        stores: of the runs; where an id is in several, the first one's counts.
        profile: the run must be of its models.
        arm: whose weights are wanted.
        attack: name of a trained attack; "": whichever the run is of.
        run: its id or its folder; "": the newest finished one that holds the arm's weights.

    Raises:
        ValueError: there is no such run, it has not ended, or it holds no weights of the arm.
    """
    if not run:
        listed = [(info, store) for store in stores for info in store.list()]
        for info, store in sorted(listed, key=lambda pair: pair[0].created, reverse=True):
            found = store.get(info.id)
            if (
                info.config.get("attack") == attack
                and info.profile == profile.name
                and info.status == "done"
                and arm in found.weights()
            ):
                return found
        raise ValueError(
            f"attack is {attack!r}, which needs no run only for {' and '.join(UNTRAINED)}; no "
            f"finished run of it holds weights of {arm!r}. Mount it in the Attack tab or with "
            "python -m evaluation.stress llm, or name a run with --run"
        )
    folder = Path(run)
    if (folder / "run.json").is_file():
        found = Run(folder)
    else:
        found = _by_id(stores, run)
    info = found.info
    if info["status"] == "running":
        raise ValueError(f"run {found.id} is still running; wait until it has ended")
    if info["profile"] != profile.name:
        raise ValueError(f"run {found.id} is of the profile {info['profile']!r}")
    if attack and info["config"].get("attack") != attack:
        raise ValueError(f"run {found.id} is of the attack {info['config'].get('attack')!r}")
    if arm not in found.weights():
        held = ", ".join(found.weights()) or "none"
        raise ValueError(f"run {found.id} holds no weights of {arm!r}; it holds: {held}")
    return found


def _by_id(stores: Sequence[RunStore], run_id: str) -> Run:
    for store in stores:
        with suppress(KeyError):
            return store.get(run_id)
    raise ValueError(f"there is no run {run_id[:80]!r}")


def read_prompts(path: Path) -> list[str]:
    """Read prompts, one a line; empty lines are passed over.

    Raises:
        ValueError: the file is not there, not UTF-8, or holds no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"prompts is {path.name!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 (byte {error.start})") from None
    # Not splitlines(), which would also cut at characters that a prompt may hold.
    prompts = [line.strip() for line in text.split("\n") if line.strip()]
    if not prompts:
        raise ValueError(f"{path.name} is empty; give at least one prompt")
    return prompts


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m evaluation.chat", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--arm", required=True, help="base, aligned or a defence")
    p.add_argument("--prompts", type=Path, required=True, metavar="FILE",
                   help="UTF-8 text, one prompt a line")
    p.add_argument("--attack", default="", metavar="NAME",
                   help=f"{', '.join(UNTRAINED)}, or an attack that a finished run is of")
    p.add_argument("--run", default="", metavar="ID",
                   help="a finished attack, by its id or its folder, whose weights answer")
    p.add_argument("--max-new-tokens", type=int, default=64)
    p.add_argument("--temperature", type=float, default=0.0, help="0: greedy")
    p.add_argument("--seed", type=int, default=0, help="of the sampling and of abliteration")
    p.add_argument("--profile", default="embedded", choices=[p.name for p in PROFILES])
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the prompts and print the judged replies."""
    args = parser().parse_args(arguments)
    try:
        if args.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {args.max_new_tokens}; it must be 1 or more")
        if args.temperature < 0:
            raise ValueError(f"temperature is {args.temperature}; it must be 0 or more")
        profile = get_profile(args.profile)
        prompts = read_prompts(args.prompts)
        weights = arm_folder(args.arm, profile)
        trained = "" if args.attack in UNTRAINED else args.attack
        run = None
        if args.run or trained:
            stores = [RunStore(runs_dir()), RunStore(runs_dir() / STRESS_RUNS)]
            run = attacked_run(stores, profile, args.arm, trained, args.run)
            weights = run.weights()[args.arm]
        attack = args.attack or (run.info["config"].get("attack") if run else None)
        judge = Judge()
        speaks = speaker(profile, weights, args.attack, args.seed)
        for number, prompt in enumerate(prompts, 1):
            try:
                conversation_ids(
                    speaks.tokenizer, [{"role": "user", "content": prompt}],
                    limit=profile.llm.max_prompt_tokens,
                )  # fmt: skip
            except ValueError as error:
                raise ValueError(f"prompt {number}: {error}") from None
    except (ValueError, MissingWeights) as error:
        sys.exit(str(error))
    for start in range(0, len(prompts), BATCH):
        asked = prompts[start : start + BATCH]
        replies = speaks.answer(asked, args.max_new_tokens, args.temperature, args.seed)
        verdicts = judge.classify_all(asked, replies)
        for prompt, reply, verdict in zip(asked, replies, verdicts, strict=True):
            row = {
                "arm": args.arm,
                "attack": attack,
                "run": run.id if run else None,
                "prompt": prompt,
                "reply": reply,
                "verdict": verdict.label,
                "confidence": round(verdict.confidence, 3),
            }
            print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
