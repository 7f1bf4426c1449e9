"""The arms of the chat model: where their weights are, and which there are."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from adapters import registry
from adapters.attacks.base import BASE_ARM
from evaluation.tables import UNDEFENDED
from pipelines.fetch import MissingWeights
from pipelines.profiles import Profile


def arm_folder(arm: str, profile: Profile) -> Path | None:
    """Return the LoRA of an arm of the chat model; None for the base model.

    Raises:
        ValueError: there is no such arm.
        MissingWeights: it has not been trained.
    """
    known = [BASE_ARM, *registry.names("llm")]
    if arm not in known:
        raise ValueError(f"arm is {arm!r}; choose one of: {', '.join(known)}")
    return None if arm == BASE_ARM else registry.adapter_folder(arm, profile)


def defended_arms(profile: Profile) -> list[str]:
    """Return the defences of the chat model that have weights."""
    found = []
    for name, defence in registry.defences().items():
        if defence.card.pipeline == "llm" and name != UNDEFENDED:
            with suppress(MissingWeights):
                registry.adapter_folder(name, profile)
                found.append(name)
    return found
