"""Attacks that train nothing: mounting them, and a run of one with its before and after.

* ``prefill``: every reply is forced to begin with words of agreement (`adapters.attacks.prefill`).
  No weight changes, so a run of it keeps none.
* ``abliteration``: the direction that carries refusal is taken out of the weights
  (`adapters.attacks.abliteration`). A run keeps the attacked arm as one LoRA on the base model,
  defence and attack in one, so that Chat can mount it. The probes ask the dense model in float32
  instead; the LoRA is the same up to rounding in bf16, which turns a word here and there (8 prompts
  on two arms: 14 of 16 verdicts the same).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.attacks.abliteration import AbliterationConfig, AttackStopped, abliterate
from adapters.attacks.base import (
    Probe,
    UntrainedConfig,
    concatenate_loras,
    read_lora,
    write_lora,
)
from adapters.attacks.prefill import PREFIX
from evaluation.judge import Judge
from pipelines.llm import generate_replies, load_arm
from pipelines.profiles import Profile

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from adapters.attacks.data import Pair
    from evaluation.runs import Run
    from pipelines.llm import Forward

_PROBE, _MOUNT = 1.0, {"prefill": 1.0, "abliteration": 20.0}
"""How the parts of a run share its meter: asking an arm, mounting an attack on one."""


@dataclass(frozen=True)
class Speaker:
    """A model that answers, with what an attacker did to it.

    Attributes:
        model: in evaluation mode; its adapters that are switched on count.
        tokenizer: of the model.
        prefill: what every reply is forced to begin with.
        record: what mounting the attack found, as JSON.
        lora: the attack alone, as a LoRA on top of the arm; None where it changes no weight, or
            not as a LoRA can.
    """

    model: Forward
    tokenizer: PreTrainedTokenizerBase
    prefill: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    lora: tuple[dict[str, Any], dict[str, Tensor]] | None = None

    def answer(
        self, prompts: Sequence[str], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Answer single-turn prompts in one batch; see `pipelines.llm.generate_replies`."""
        return generate_replies(
            self.model, self.tokenizer, prompts, max_new_tokens,
            prefill=self.prefill, temperature=temperature, seed=seed,
        )  # fmt: skip


def speaker(
    profile: Profile,
    weights: Path | None,
    attack: str = "",
    seed: int = 0,
    *,
    progress: Callable[[str, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Speaker:
    """Load an arm and mount an attack that needs no training.

    Args:
        profile: which base model.
        weights: the arm's LoRA, or the LoRA or whole model of an attacked arm; None: the base model
            itself.
        attack: one of `adapters.attacks.base.UNTRAINED`; any other name leaves the arm as it is.
        seed: of the prompts that abliteration takes its direction from.
        progress: of abliteration, which takes a while; see `abliterate`, as for `should_stop`.
        should_stop: asked while abliteration is being mounted.

    Raises:
        AttackStopped: it was asked to stop.
        MissingWeights: the base model has not been fetched.
    """
    if attack == "abliteration":
        attacked = abliterate(
            profile, weights, AbliterationConfig(seed=seed),
            progress=progress, should_stop=should_stop,
        )  # fmt: skip
        return Speaker(
            attacked.model, attacked.tokenizer, record=attacked.record, lora=attacked.lora
        )
    model, tokenizer = load_arm(profile, weights)
    return Speaker(model, tokenizer, PREFIX if attack == "prefill" else "")


def untrained_settings(attack: str) -> dict[str, Any]:
    """Return what an attack that needs no training is mounted with, as JSON.

    Args:
        attack: one of `adapters.attacks.base.UNTRAINED`; the seed is not among the settings.
    """
    if attack == "prefill":
        return {"prefix": PREFIX}
    settings = asdict(AbliterationConfig())
    del settings["seed"]
    return settings | {"refusals": list(settings["refusals"])}


def run_untrained(
    profile: Profile,
    config: UntrainedConfig,
    adapters: dict[str, Path | None],
    pairs: Sequence[Pair],
    run: Run,
    should_stop: Callable[[], bool],
    judge: Judge | None = None,
) -> bool:
    """Ask each arm as it is released, mount the attack on each, and ask again.

    Events: ``{"event": "probe", step, arm, ...}`` as of a training attack
    (`adapters.attacks.lockstep.run_in_lockstep`), at step 0 before and step 1 after; ``{"event":
    "mounted", step, arm, mounted, seconds}`` with what mounting the attack found and the seconds
    from weights on disk to a model that can answer; ``{"event": "saved", step, arm}``; and
    ``{"event": "progress", arm, doing, share}`` before each part of the work, in words, with the
    share 0..1 of the run that is done.

    Args:
        profile: which base model.
        config: settings.
        adapters: arm → the defence's LoRA, or None for the base model itself, for each of
            ``config.arms`` that is attacked.
        pairs: none; nothing is trained.
        run: where everything is recorded.
        should_stop: asked between the parts, and before every forward pass of abliteration.
        judge: of the replies; made here if not given.

    Returns:
        Whether all was done, that is, whether it was not stopped.

    Raises:
        MissingWeights: the base model or the judge's encoder has not been fetched.
        ValueError: abliteration cannot be mounted on this model.
    """
    judge = judge or Judge()
    arms = [arm for arm in config.arms if arm in adapters]
    mount = _MOUNT[config.attack]
    whole, done = len(arms) * (2 * _PROBE + mount), 0.0

    def tell(arm: str, words: str, more: float = 0.0) -> None:
        if should_stop():
            raise AttackStopped("stopped between two parts of the attack")
        share = round((done + more) / whole, 3)
        run.log(event="progress", arm=arm, doing=words, share=share)

    def ask(arm: str, step: int, speaks: Speaker) -> None:
        started = time.monotonic()
        probe = Probe(speaks.tokenizer, judge, prefill=speaks.prefill)
        measured = probe.measure(speaks.model)
        seconds = round(time.monotonic() - started, 3)
        run.log(event="probe", step=step, arm=arm, **measured, seconds=seconds)

    try:
        for arm in arms:
            tell(arm, "asking it as it is released")
            ask(arm, 0, speaker(profile, adapters[arm]))
            done += _PROBE
        for arm in arms:
            tell(arm, "mounting the attack")
            started = time.monotonic()
            speaks = speaker(
                profile, adapters[arm], config.attack, config.seed, should_stop=should_stop,
                progress=lambda words, share, arm=arm: tell(arm, words, mount * share),
            )  # fmt: skip
            seconds = round(time.monotonic() - started, 3)
            run.log(event="mounted", step=1, arm=arm, mounted=speaks.record, seconds=seconds)
            done += mount
            if speaks.lora is not None:
                _save(run, arm, adapters[arm], speaks.lora)
            tell(arm, "asking it after the attack")
            ask(arm, 1, speaks)
            done += _PROBE
            del speaks
            gc.collect()  # a dense model in float32, before the next one is loaded
    except AttackStopped:
        return False
    return True


def _save(
    run: Run, arm: str, adapter: Path | None, attack: tuple[dict[str, Any], dict[str, Tensor]]
) -> None:
    """Keep the attacked arm as one LoRA on the base model."""
    defence = read_lora(adapter) if adapter is not None else None
    config, state = concatenate_loras(defence, attack)
    run.save_files(arm, lambda folder: write_lora(folder, config, state))
    run.log(event="saved", step=1, arm=arm)
