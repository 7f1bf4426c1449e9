"""Answer a file of prompts with one arm, attacked or not, and judge the replies.

``python -m evaluation.chat --arm sdd --prompts prompts.txt`` prints one JSON object a line, in the
order of the file: arm, attack, run, prompt, reply, verdict, confidence; how many replies of each
verdict there were is told on stderr at the end. In place of a file a published set may be named
(`evaluation.prompt_sets`), which is fetched from the Hub under its own licence; ``--first N`` asks
the first N prompts only.

``--attack prefill`` and ``--attack abliteration`` need no training. With any other attack the
weights of its newest finished run answer, be they a LoRA or all of the model's. Its steps and its
learning rate may be any, and are told on stderr; but it must have used the built-in data, and have
started from the base model and the arm as they are now. Where no such run holds weights, as on a
fresh clone (the runs that ship hold none), the attack is mounted first, on this arm alone, with the
settings of the stress test (`evaluation.mounting.defaults`) and seed 0. That takes minutes, is told
on stderr too, and is kept among the stress test's runs for the next time.

``--run`` names a run instead, and then any that has ended will do. A run's weights can be prefilled
and abliterated as well.

Nothing imports this module: it needs `adapters`, which need `evaluation.judge`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from adapters.attacks.base import ATTACKS, BASE_ARM, UNTRAINED, AttackConfig
from adapters.attacks.data import data_hash, sources
from adapters.attacks.runner import AttackRunner
from adapters.attacks.untrained import speaker
from evaluation.arms import arm_folder
from evaluation.judge import LABELS, Judge
from evaluation.mounting import STRESS_RUNS, defaults
from evaluation.prompt_sets import SETS, load_prompts
from evaluation.runs import Run, RunStore, weights_hash
from evaluation.tables import UNDEFENDED
from pipelines.fetch import LLM_HELP, MissingWeights, llm_folder, with_llm
from pipelines.llm import PromptTooLong, conversation_ids, load_tokenizer
from pipelines.paths import runs_dir
from pipelines.profiles import PROFILES, Profile, get_profile

BATCH = 16  # prompts answered at once
TELL_SECONDS = 5.0  # between two looks at how far an attack has come


class AttackFailed(RuntimeError):
    """An attack that was to be mounted first did not get to its end."""


def attacked_run(
    stores: Sequence[RunStore], profile: Profile, arm: str, attack: str, run: str
) -> Run:
    """Find the run that a visitor named, whose weights an attacked arm has.

    Args:
        stores: of the runs; where an id is in several, the first one's counts.
        profile: the run must be of its models.
        arm: whose weights are wanted.
        attack: name of a trained attack; "": whichever the run is of.
        run: its id or its folder.

    Raises:
        ValueError: there is no such run, it has not ended, or it holds no weights of the arm.
    """
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


def newest_run(
    stores: Sequence[RunStore], profile: Profile, arm: str, attack: str
) -> Run | None:
    """Find the newest finished run of a trained attack that says what it does to an arm of today.

    Its settings may be any, but the data is the built-in one of today, and so are the base model
    and the arm that it started from.

    Args:
        stores: of the runs.
        profile: the run must be of its models.
        arm: whose weights the run must hold.
        attack: one of `ATTACKS`.

    Returns:
        The run; None if there is none.

    Raises:
        ValueError: there is no such attack or arm.
        MissingWeights: the base model has not been fetched, or the arm not been trained.
    """
    wanted = _parents(profile, arm, attack)
    listed = [(info, store) for store in stores for info in store.list()]
    for info, store in sorted(listed, key=lambda pair: pair[0].created, reverse=True):
        asked = {"attack": attack, "data": "builtin"}.items() <= info.config.items()
        if not asked or info.profile != profile.name or info.status != "done":
            continue
        found = store.get(info.id)
        if arm in found.weights() and wanted.items() <= found.info["parents"].items():
            return found
    return None


def _parents(profile: Profile, arm: str, attack: str) -> dict[str, str]:
    """Return the hashes that a run of an attack on an arm records if it is started today."""
    parents = {BASE_ARM: weights_hash(llm_folder(profile))}
    if folder := arm_folder(arm, profile):
        parents[arm] = weights_hash(folder)
    return parents | {"data": data_hash(sources(AttackConfig(attack=attack)))}


def mount(profile: Profile, store: RunStore, arm: str, attack: str) -> Run:
    """Mount a trained attack on one arm, with the stress test's settings, and wait for its end.

    How far it has come is told on stderr.

    Args:
        profile: which models.
        store: where the run is kept.
        arm: which is attacked.
        attack: one of `ATTACKS`.

    Returns:
        The run, which holds the arm's weights.

    Raises:
        AttackFailed: it broke off.
        ValueError: there is no such attack or arm.
        MissingWeights: the base model has not been fetched, or the arm not been trained.
    """
    # The settings name two arms. What one of them becomes does not depend on the other, which is
    # not attacked here.
    other = UNDEFENDED if arm != UNDEFENDED else BASE_ARM
    config = AttackConfig(other, arm, attack, **defaults(attack))
    runner = AttackRunner(profile, store)
    run = store.get(runner.start(config, "evaluation.chat", arms=[arm]))
    _tell(f"mounting {attack} on {arm} first: {_settings(run)}; it is kept as run {run.id}")
    told = 0
    while not runner.wait(run.id, TELL_SECONDS):
        step = max((event.get("step", 0) for event in run.events()), default=0)
        if step > told:
            told = step
            _tell(f"  step {step} of {config.steps}")
    info = run.info
    if info["status"] != "done":
        raise AttackFailed(f"run {run.id} {info['status']}: {info['error']}")
    return run


def _settings(run: Run) -> str:
    config = run.info["config"]
    weights = "all weights" if config["method"] == "full" else "a LoRA"
    return (
        f"{config['steps']} steps at {config['learning_rate']:g} on {weights}, "
        f"seed {config['seed']}"
    )


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # stdout is for the replies


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


def short_enough(
    prompts: list[str], tokenizer: PreTrainedTokenizerBase, limit: int, *, leave_out: bool
) -> tuple[list[str], int]:
    """Return the prompts that the model can read, and how many were left out.

    Args:
        prompts: all of them.
        tokenizer: the model's.
        limit: most tokens of a prompt.
        leave_out: whether longer ones are left out: nobody can shorten those of a published set.

    Raises:
        ValueError: one is too long, or all are.
    """
    kept = []
    for number, prompt in enumerate(prompts, 1):
        try:
            conversation_ids(tokenizer, [{"role": "user", "content": prompt}], limit=limit)
        except PromptTooLong as error:
            if not leave_out:
                raise ValueError(f"prompt {number}: {error}") from None
        else:
            kept.append(prompt)
    if not kept:
        raise ValueError(f"all {len(prompts)} prompts are too long for the model")
    return kept, len(prompts) - len(kept)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m evaluation.chat", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--arm", required=True, help="base, aligned or a defence")
    p.add_argument("--prompts", required=True, metavar="FILE_OR_SET",
                   help=f"UTF-8 text, one prompt a line, or one of: {', '.join(SETS)}")
    p.add_argument("--first", type=int, metavar="N", help="ask so many of them; default: all")
    p.add_argument("--attack", default="", metavar="NAME",
                   help=f"{', '.join(UNTRAINED)}, or a trained one, which is mounted first, in "
                        f"minutes, unless a finished run of it fits: {', '.join(ATTACKS)}")
    p.add_argument("--run", default="", metavar="ID",
                   help="an attack that has ended, by its id or its folder, whose weights answer")
    p.add_argument("--max-new-tokens", type=int, default=64)
    p.add_argument("--temperature", type=float, default=0.0, help="0: greedy")
    p.add_argument("--seed", type=int, default=0, help="of the sampling and of abliteration")
    p.add_argument("--profile", default="embedded", choices=[p.name for p in PROFILES])
    p.add_argument("--llm", default="", metavar="NAME_OR_FOLDER", help=LLM_HELP)
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the prompts and print the judged replies."""
    args = parser().parse_args(arguments)
    try:
        if args.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {args.max_new_tokens}; it must be 1 or more")
        if not 0 <= args.temperature < math.inf:
            raise ValueError(f"temperature is {args.temperature}; it must be 0 or more")
        profile = get_profile(args.profile)
        if args.llm:
            profile = with_llm(profile, args.llm)
        if args.first is not None and args.first < 1:
            raise ValueError(f"first is {args.first}; it must be 1 or more")
        # A file of that name comes first: it was there when somebody wrote the command.
        named = args.prompts in SETS and not Path(args.prompts).is_file()
        prompts = load_prompts(args.prompts) if named else read_prompts(Path(args.prompts))
        tokenizer = load_tokenizer(profile)
        # Before an attack is mounted for them, which takes minutes.
        prompts, longer = short_enough(
            prompts[: args.first], tokenizer, profile.llm.max_prompt_tokens, leave_out=named
        )
        weights = arm_folder(args.arm, profile)
        trained = "" if args.attack in UNTRAINED else args.attack
        run = None
        stores = [RunStore(runs_dir()), RunStore(runs_dir() / STRESS_RUNS)]
        if args.run:
            run = attacked_run(stores, profile, args.arm, trained, args.run)
        elif trained:
            if trained not in ATTACKS:
                raise ValueError(
                    f"attack is {trained!r}; no finished run of it holds weights of {args.arm!r}, "
                    f"and only these can be mounted: {', '.join((*UNTRAINED, *ATTACKS))}"
                )
            run = newest_run(stores, profile, args.arm, trained)
            if run is None:
                # Not among the page's own runs, where both arms are expected.
                run = mount(profile, stores[1], args.arm, trained)
            else:
                _tell(f"run {run.id} answers: {trained}, {_settings(run)}")
        if run is not None:
            weights = run.weights()[args.arm]
        attack = args.attack or (run.info["config"].get("attack") if run else None)
        judge = Judge()
        speaks = speaker(profile, weights, args.attack, args.seed)
    except (ValueError, MissingWeights, AttackFailed) as error:
        sys.exit(str(error))
    counts: Counter[str] = Counter()
    for start in range(0, len(prompts), BATCH):
        asked = prompts[start : start + BATCH]
        replies = speaks.answer(asked, args.max_new_tokens, args.temperature, args.seed)
        verdicts = judge.classify_all(asked, replies)
        counts.update(verdict.label for verdict in verdicts)
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
    shares = ", ".join(f"{label} {counts[label]}" for label in LABELS)
    left_out = f" ({longer} more are too long for the model and were left out)" if longer else ""
    _tell(f"{len(prompts)} prompts: {shares}{left_out}")


if __name__ == "__main__":
    main()
