"""What a run of an attack has logged, sorted for drawing.

A run's folder is all there is to read, so a run under way, one that is over and the first part of a
replay are the same read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ui.chat import arm_title


@dataclass
class Curves:
    """A run's events, sorted for drawing.

    Attributes:
        loss: arm → (step, training loss) of supervised steps. That of a policy gradient is about
            zero at every step and says nothing.
        harm: arm → (step, share of red-team prompts complied with).
        substance: arm → (step, share of them that comply and say more than the request did).
        ability: arm → (step, share of multiple-choice questions right).
        skill: arm → (step, share of held-out problems solved); the attack on skill only.
        entropy: arm → (step, mean entropy of the trained tokens in nats).
        reward: arm → (step, mean reward of the sampled replies); reinforcement only.
        samples: arm → step → replies as they were logged.
        prompts: how many prompts harm is a share of; 0 where it is not known.
        questions: how many questions ability is a share of; 0 where it is not known.
        skills: how many problems skill is a share of; 0 where it is not known.
        diverged: arm → first step whose loss was no finite number.
        layers: arm → how many layers lie before the place where abliteration found its direction.
        reached: arm → its furthest step.
        share: how much of an attack without training is done, 0..1.
        doing: what it does just now, in words.
    """

    loss: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    harm: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    substance: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    ability: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    skill: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    entropy: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    reward: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    samples: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)
    prompts: int = 0
    questions: int = 0
    skills: int = 0
    diverged: dict[str, int] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    share: float = 0.0
    doing: str = ""

    @property
    def step(self) -> int:
        """The step that all arms have come to: the slower one's."""
        return min(self.reached.values(), default=0)


def curves(events: Sequence[dict[str, Any]]) -> Curves:
    """Sort a run's events; what is not known is passed over."""
    found = Curves()
    for event in events:
        arm, step = event.get("arm"), event.get("step")
        if event.get("event") == "progress":
            found.share, found.doing = event["share"], f"{arm_title(arm)}: {event['doing']}"
        if not isinstance(arm, str) or not isinstance(step, int):
            continue
        if event.get("event") == "mounted" and "layer" in event["mounted"]:
            found.layers[arm] = event["mounted"]["layer"]
        found.reached[arm] = max(found.reached.get(arm, 0), step)
        for name in ("loss", "harm", "substance", "ability", "skill", "entropy", "reward"):
            if name == "loss" and "reward" in event:
                continue
            if isinstance(event.get(name), int | float):
                getattr(found, name).setdefault(arm, []).append((step, float(event[name])))
        if "loss" in event and event["loss"] is None:  # what a run records of NaN and infinity
            found.diverged.setdefault(arm, step)
        for name in ("prompts", "questions", "skills"):
            if isinstance(event.get(name), int):
                setattr(found, name, event[name])
        if isinstance(event.get("samples"), list):
            found.samples.setdefault(arm, {})[step] = event["samples"]
            found.prompts = found.prompts or len(event["samples"])
    return found


def arms_of(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (arm, style) of a run's two sides, the undefended first."""
    arms = (config.get("target_undefended", "aligned"), config.get("target", ""))
    return [(str(arm), style) for arm, style in zip(arms, ("open", "held"), strict=True) if arm]


def played(events: Sequence[dict[str, Any]], fraction: float) -> list[dict[str, Any]]:
    """Return the steps and probes of the first part of a run, both arms side by side.

    In many recorded runs one arm was attacked after the other, or copied from a run that had
    attacked it already: in the order of the file one line would stand still while the other moves.

    Args:
        events: of the run.
        fraction: how much of it, by their number; 0 gives none, 1 or more all.
    """
    drawn = _in_step([event for event in events if event.get("event") in ("step", "probe")])
    return drawn[: math.ceil(len(drawn) * min(max(fraction, 0.0), 1.0))]


def _in_step(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events by step, and those of a step by arm; what has no step follows its arm's last.

    A second stage counts its steps on, so a step's number tells its place in the whole attack.
    """
    arms = {arm: at for at, arm in enumerate(dict.fromkeys(e.get("arm") for e in events))}
    last, placed = dict.fromkeys(arms, 0), []
    for event in events:
        arm, step = event.get("arm"), event.get("step")
        last[arm] = step if isinstance(step, int) else last[arm]
        placed.append((last[arm], arms[arm], event))
    return [event for *_, event in sorted(placed, key=lambda place: place[:2])]
