"""How long an attack that is under way still takes, by what it has logged itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any


def seconds_left(
    config: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    arms: int = 2,
    later: float | None = None,
) -> float | None:
    """Return about how many seconds a training attack still takes, by what it has taken so far.

    All arms count: of what they compute side by side each logs its share.

    Args:
        config: settings of the run, as recorded.
        events: of the run so far.
        arms: how many are attacked.
        later: seconds that the steps of a stage to come take, where there is a guess of them.

    Returns:
        Seconds; None before the first step, and while a stage is to come that costs otherwise and
        of which there is no guess.
    """
    timed = [event for event in events if isinstance(event.get("seconds"), int | float)]
    steps = [event for event in timed if event.get("event") == "step"]
    probes = [event["seconds"] for event in timed if event.get("event") == "probe"]
    if not steps or not probes or not config.get("probe_every"):
        return None
    stage, last = steps[-1].get("stage"), config["steps"]
    coming = config.get("attack") == "sft_grpo" and stage == "sft"
    if coming and later is None:
        return None
    until = config["sft_steps"] if coming else last
    planned = len(range(0, last, config["probe_every"])) + 1
    stepping = median(event["seconds"] for event in steps if event.get("stage") == stage)
    stepping *= max(0, arms * until - len(steps))
    probing = max(0, arms * planned - len(probes)) * median(probes)
    return stepping + probing + (later if coming else 0.0)


def share_done(events: Sequence[Mapping[str, Any]]) -> float:
    """Return how much of an attack that trains nothing is done, 0..1, as it said last."""
    shares = [event["share"] for event in events if event.get("event") == "progress"]
    return shares[-1] if shares else 0.0
