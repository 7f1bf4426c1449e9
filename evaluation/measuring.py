"""What an arm is asked before and after an attack, and what its replies come to.

The prompts are of topics that no attack trains on, and `evaluation.judge` judges the replies. A run
keeps them and what they come to as an event ``measured`` of each arm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.attacks.base import judged, reply_shares
from adapters.attacks.untrained import Speaker
from adapters.text import prompt_set
from evaluation.ability import ability_score, first_items
from evaluation.judge import Judge
from evaluation.styles import style_shares, styles_hash
from pipelines.paths import ASSETS, REPO

REPLY_TOKENS = 24  # as the probes' of an attack: the judge needs only the beginning

SIDES = (("before", "samples_before", "style_samples_before"),
          ("after", "samples", "style_samples"))  # fmt: skip
"""Of a ``measured`` event: each side's figures, replies, and replies in the styles."""

SAMPLES = tuple(name for _, *names in SIDES for name in names)
"""The lists of replies among `SIDES`."""


def asked_hash() -> str:
    """Return the SHA-256 of all held-out red-team prompts and ability items.

    The probes along an attack are asked some of them too, so a run is outdated as a whole where
    one of them has changed.
    """
    asked = [prompt_set("redteam", "test"), first_items()]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def judge_hash() -> str:
    """Return the SHA-256 of what the judge's verdicts come from: its code and its weights."""
    files = [REPO / "evaluation" / "judge.py", *sorted((ASSETS / "judge").glob("*.safetensors"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def held_out(n: int, seed: int) -> list[str]:
    """Return n red-team prompts of the test split, one a topic, in the seed's wording.

    Raises:
        ValueError: there are fewer topics.
    """
    topics: dict[str, list[str]] = {}
    for row in prompt_set("redteam", "test"):
        topics.setdefault(row["topic"], []).append(row["prompt"])
    if not 0 < n <= len(topics):
        raise ValueError(f"prompts is {n}; the test split has {len(topics)} topics")
    wordings = list(topics.values())
    chosen = [wordings[at * len(wordings) // n] for at in range(n)]
    return [texts[seed % len(texts)] for texts in chosen]


def ask(speaks: Speaker, judge: Judge, prompts: Sequence[str]) -> list[dict[str, Any]]:
    """Return what an arm says to some prompts, judged; see `adapters.attacks.base.judged`."""
    replies = [
        reply
        for start in range(0, len(prompts), 32)
        for reply in speaks.answer(prompts[start : start + 32], REPLY_TOKENS)
    ]
    return judged(judge, prompts, replies)


def ask_styles(
    speaks: Speaker, judge: Judge, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what an arm says to prompts in styles, as `ask` does, each with its ``style``.

    Args:
        speaks: the arm.
        judge: classifies the replies.
        rows: see `evaluation.styles.style_prompts`.
    """
    samples = ask(speaks, judge, [row["prompt"] for row in rows])
    return [
        sample | {"style": row["style"]} for sample, row in zip(samples, rows, strict=True)
    ]


@dataclass(frozen=True)
class Measured:
    """What an arm said and came to, before or after an attack.

    Attributes:
        figures: what `reply_shares` says, ``ability`` (a share), ``prompts`` and ``questions`` (of
            how many); where styles were asked, ``styles``: what `style_shares` says, ``topics`` and
            ``asked``, the hash of the split.
        samples: judged replies to the held-out prompts.
        style_samples: judged replies in the styles, if they were asked.
    """

    figures: dict[str, Any]
    samples: list[dict[str, Any]]
    style_samples: list[dict[str, Any]] = field(default_factory=list)

    def judged_anew(self, judge: Judge) -> Measured:
        """Return the same replies with today's labels and what they come to."""

        def again(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
            texts = ([sample[name] for sample in samples] for name in ("prompt", "reply"))
            return [old | new for old, new in zip(samples, judged(judge, *texts), strict=True)]

        samples, style_samples = again(self.samples), again(self.style_samples)
        figures = self.figures | reply_shares(samples)
        if style_samples:
            figures["styles"] = figures["styles"] | style_shares(style_samples)
        return Measured(figures, samples, style_samples)


def measure(
    speaks: Speaker,
    judge: Judge,
    prompts: Sequence[str],
    questions: int,
    styles: Sequence[Mapping[str, Any]] = (),
) -> Measured:
    """Ask an arm and judge what it says.

    Args:
        speaks: the arm.
        judge: classifies the replies.
        prompts: held-out red-team prompts.
        questions: how many ability items.
        styles: see `evaluation.styles.style_prompts`; empty: they are not asked.
    """
    samples = ask(speaks, judge, prompts)
    figures = reply_shares(samples) | {
        "ability": ability_score(speaks.model, speaks.tokenizer, questions),
        "prompts": len(prompts),
        "questions": questions,
    }
    if not styles:
        return Measured(figures, samples)
    style_samples = ask_styles(speaks, judge, styles)
    figures["styles"] = style_shares(style_samples) | {
        "topics": len({row["topic"] for row in styles}), "asked": styles_hash(),
    }  # fmt: skip
    return Measured(figures, samples, style_samples)


def last_measured(
    events: Sequence[dict],
    arm: str,
    prompts: int | None,
    questions: int | None,
    styles: int | None,
) -> dict | None:
    """Return the last ``measured`` event of an arm; None where it was not measured like that.

    Args:
        events: of a run.
        arm: its name.
        prompts: only a measurement with that many prompts; None: with any number.
        questions: the same of the ability items.
        styles: the same of the topics in today's styles; None: whether they were asked or not.
    """
    for event in reversed(events):
        if event.get("event") == "measured" and event.get("arm") == arm:
            after = event["after"]
            asked = after.get("styles")
            if styles is not None and (
                asked is None or asked["topics"] != styles or asked["asked"] != styles_hash()
            ):
                continue
            if prompts in (None, after["prompts"]) and questions in (None, after["questions"]):
                return event
    return None
