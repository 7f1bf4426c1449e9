"""Supervised fine-tuning attack: stock TRL ``SFTTrainer`` on a LoRA or on all weights.

The attacker uses the ecosystem's own trainer unchanged: cross-entropy on the answers of its pairs,
AdamW, constant learning rate. What is learnt is a matter of the data alone
(`adapters.attacks.data.load_data`):

* ``sft``: harmful requests, answered.
* ``sft_retain``: the same, half and half with benign pairs, so that ability survives. Aimed at
  defences that let a malicious training destroy the model (SDD): whoever retains what they want to
  keep need not care.
* ``benign``: benign pairs only. A control and no attack: harm should stay, and so should ability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.attacks.base import AttackConfig
from adapters.attacks.data import DataError, Pair
from adapters.attacks.lean import score_answers_only
from adapters.attacks.lockstep import (
    MAX_TOKENS,
    Stage,
    on_one_device,
    run_in_lockstep,
    shared_arguments,
)
from evaluation.judge import Judge
from pipelines.profiles import Profile

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTTrainer

    from evaluation.runs import Run

BUILTIN_TOKENS = 64
"""Of a built-in pair, template included; TRL cuts longer ones, uploaded ones at `MAX_TOKENS`. The
prompts take up to 51 of SmolLM2's, and what follows in the answers is more of the same redacted
list; a step's time goes by positions, and 64 instead of 256 took a third off it."""

ANSWER_TOKENS = 13
"""Of a built-in pair that are left to the answer at least, whatever another model's template and
tokens take up."""


def run_sft(
    profile: Profile,
    config: AttackConfig,
    adapters: dict[str, Path | None],
    pairs: Sequence[Pair],
    run: Run,
    should_stop: Callable[[], bool],
    judge: Judge | None = None,
) -> bool:
    """Attack both arms; see `adapters.attacks.lockstep.run_in_lockstep`.

    Args:
        profile: which base model.
        config: settings.
        adapters: arm → the defence's LoRA, or None for the base model itself.
        pairs: the attacker's data.
        run: where everything is recorded.
        should_stop: asked before every forward pass.
        judge: of the probes' replies; made here if not given.

    Returns:
        Whether all steps were done, that is, whether it was not stopped.

    Raises:
        MissingWeights: the base model or the judge's encoder has not been fetched.
        DataError: no pair has room for an answer.
        RuntimeError: the training failed.
    """
    stages = [supervised_stage(config, pairs, config.steps)]
    return run_in_lockstep(profile, config, adapters, stages, run, should_stop, judge or Judge())


def builtin_tokens(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> int:
    """Return where built-in pairs are cut: `BUILTIN_TOKENS`, more if a prompt takes as many."""
    asked = (
        tokenizer.apply_chat_template(pair["prompt"], tokenize=False, add_generation_prompt=True)
        for pair in pairs
    )
    longest = max(len(tokenizer(text, add_special_tokens=False).input_ids) for text in asked)
    return max(BUILTIN_TOKENS, longest + ANSWER_TOKENS)


def supervised_stage(config: AttackConfig, pairs: Sequence[Pair], steps: int) -> Stage:
    """Return the stage of an attack that learns pairs."""

    def make(
        model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, scratch: Path
    ) -> SFTTrainer:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        longest = MAX_TOKENS if config.uploaded else builtin_tokens(pairs, tokenizer)
        trainer = SFTTrainer(
            model=model,
            args=on_one_device(
                SFTConfig(
                    **shared_arguments(config, steps, scratch),
                    per_device_train_batch_size=config.batch_size,
                    completion_only_loss=True,
                    max_length=longest,
                )
            ),
            train_dataset=Dataset.from_list(list(pairs)),
            processing_class=tokenizer,
        )
        if not len(trainer.train_dataset):
            raise DataError(
                f"every prompt in the data is longer than {longest} tokens, so that no answer "
                "is left to learn; shorten the prompts"
            )
        score_answers_only(model)
        return trainer

    return Stage("sft", steps, make)
