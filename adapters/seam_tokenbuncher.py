r"""SEAM + TokenBuncher: one LoRA against supervised and reinforced fine-tuning.

Papers: Self-Destructive Language Models (Wang, Zhu and Wang, ICLR 2026, arXiv 2505.12186) and Token
Buncher: Shielding LLMs from Harmful Reinforcement Learning Fine-Tuning (Feng et al., CCS 2026,
arXiv 2508.20697); see `adapters.seam` and `adapters.tokenbuncher`.

TokenBuncher holds against reinforcement as long as the policy's entropy stays low, and a few
supervised steps give it back. SEAM is aimed at those supervised steps and says nothing of rewards.
Neither paper combines the two. Here they take turns on one adapter:

    step 0, 2, 4, ...:  SEAM's loss;     step 1, 3, 5, ...:  TokenBuncher's loss,

each with its own data, its own count of steps, and TokenBuncher's own schedule of reward and noiser
steps within its turns.

What is ours: all of the combination. It goes on from the trained `seam` adapter and not from
`tokenbuncher`, because SEAM's steps are the slow ones (a second backward pass), and because low
entropy is quick to come and easily disturbed: it has to be trained last. SEAM's turns keep its trap
from being trained away meanwhile. Both share one optimiser and one learning rate. TokenBuncher's
p_0, which benign replies are held to, is the `seam` adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters import checks, seam, tokenbuncher
from adapters.registry import Card, Trained, TrainOptions, register
from adapters.seam import SEAMConfig
from adapters.tokenbuncher import TokenBuncherConfig

if TYPE_CHECKING:  # cards and settings are read by programs that train nothing
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from adapters.loop import Batch
    from evaluation.runs import Run
    from pipelines.profiles import Profile


@dataclass(frozen=True)
class SEAMTokenBuncherConfig:
    """Settings of the pair. Those of one defence mean what they mean in its own config.

    Attributes:
        steps: optimiser steps of both together (ours).
        learning_rate: peak, of both (TokenBuncher's for a LoRA).
        warmup_steps: until the peak of the learning rate (ours).
        alpha: SEAM's.
        beta: SEAM's.
        harmful_pairs: SEAM's.
        benign_pairs: SEAM's.
        attacker_rank: SEAM's.
        harmful_prompts: TokenBuncher's.
        benign_prompts: TokenBuncher's.
        keep_weight: TokenBuncher's.
        rollouts: TokenBuncher's.
        max_new_tokens: TokenBuncher's.
        noise_weight: TokenBuncher's.
        entropy_only_share: TokenBuncher's, of its own steps.
        seed: of both.
    """

    steps: int = 120
    learning_rate: float = TokenBuncherConfig.learning_rate
    warmup_steps: int = 5
    alpha: float = SEAMConfig.alpha
    beta: float = SEAMConfig.beta
    harmful_pairs: int = SEAMConfig.harmful_pairs
    benign_pairs: int = SEAMConfig.benign_pairs
    attacker_rank: int = SEAMConfig.attacker_rank
    harmful_prompts: int = TokenBuncherConfig.harmful_prompts
    benign_prompts: int = TokenBuncherConfig.benign_prompts
    keep_weight: float = TokenBuncherConfig.keep_weight
    rollouts: int = TokenBuncherConfig.rollouts
    max_new_tokens: int = TokenBuncherConfig.max_new_tokens
    noise_weight: float = TokenBuncherConfig.noise_weight
    entropy_only_share: float = TokenBuncherConfig.entropy_only_share
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work, here or in one of the two."""
        checks.whole(self)
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}; each of the two defences needs at least 1")
        for make in (self.seam, self.tokenbuncher):
            make()

    def seam(self) -> SEAMConfig:
        """Return the settings of SEAM's turns."""
        return SEAMConfig(
            steps=(self.steps + 1) // 2,
            learning_rate=self.learning_rate,
            alpha=self.alpha,
            beta=self.beta,
            harmful_pairs=self.harmful_pairs,
            benign_pairs=self.benign_pairs,
            attacker_rank=self.attacker_rank,
            warmup_steps=self.warmup_steps,
            seed=self.seed,
        )

    def tokenbuncher(self) -> TokenBuncherConfig:
        """Return the settings of TokenBuncher's turns."""
        return TokenBuncherConfig(
            steps=self.steps // 2,
            learning_rate=self.learning_rate,
            harmful_prompts=self.harmful_prompts,
            benign_prompts=self.benign_prompts,
            keep_weight=self.keep_weight,
            rollouts=self.rollouts,
            max_new_tokens=self.max_new_tokens,
            noise_weight=self.noise_weight,
            entropy_only_share=self.entropy_only_share,
            warmup_steps=self.warmup_steps,
            seed=self.seed,
        )


CARD = Card(
    name="seam_tokenbuncher",
    title="SEAM + TokenBuncher",
    paper="Self-Destructive Language Models; Token Buncher: Shielding LLMs from Harmful "
    "Reinforcement Learning Fine-Tuning",
    venue="ICLR 2026; CCS 2026; the combination is ours",
    arxiv="2505.12186",
    licence="Apache-2.0",
    idea="TokenBuncher falls to an attacker who fine-tunes on a few answers first, and SEAM knows "
    "nothing of rewards. The two take turns on one adapter, so that the supervised steps are meant "
    "to cost the model its use before reinforcement can begin.",
    equation=r"\mathcal{L}_{2k} = \mathcal{L}_\text{SEAM},\qquad "
    r"\mathcal{L}_{2k+1} = \mathcal{L}_\text{reward}\ \text{or}\ \mathcal{L}_\text{noise}",
    limits="It can be no better than its parts: an attacker who adds harmless pairs repairs what "
    "SEAM breaks, and role-play is TokenBuncher's known gap. Neither paper tested the "
    "combination, and two aims in one small LoRA weaken each other. Here supervised steps bring "
    "its agreement back, at 3e-4 with hardly any content, at 1e-3 with content in two of three "
    "and a fifth of the ability lost. GRPO at 1e-3, which breaks both of its parts, left one "
    "reply in six that agrees with two of five seeds, none with a third (loops, and a tenth of the "
    "ability lost), and broke it wholly with the two others; RLOO at 1e-3 "
    "gets nearly all of its replies to agree with two of three seeds and 46 in 100 with the "
    "third, and so does REINFORCE++ (20 in 100). Paid for variety at 1e-3, nine in ten agree with "
    "one seed and two in ten with another, and the third has lost a quarter of its ability; at "
    "3e-4 hardly any agree (one seed). GRPO that trains all its weights breaks it with all three "
    "seeds. Reinforcement after ten supervised steps, which it was made for, gets 44 in 100 "
    "of its replies to agree with one of six seeds and 70 to 96 with the others "
    "(docs/evidence.md). It declines one harmless request in seven "
    "and three borderline ones in eight. Abliteration, for which it was not made, undoes it too, "
    "but has to move harmless replies further for it than on the other models.",
    aimed_at="supervised fine-tuning first, reinforcement after it",
    pipeline="llm",
)


def step_functions(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: SEAMTokenBuncherConfig, run: Run
) -> tuple[Callable[[int], Batch], Callable[[PeftModel, Batch], Tensor]]:
    """Return batch_of and loss_of for `adapters.loop.train_steps`; the defences take turns.

    Args:
        model: with the adapters of both: `adapters.seam.ATTACKER`, `adapters.tokenbuncher.START`.
        tokenizer: of the model.
        config: settings.
        run: gets the events of both; each counts its own steps.
    """
    import torch

    turns = (
        seam.step_functions(model, tokenizer, config.seam(), run),
        tokenbuncher.step_functions(model, tokenizer, config.tokenbuncher(), run),
    )

    def batch_of(step: int) -> Batch:
        own, turn = divmod(step, len(turns))
        return turns[turn][0](own) | {"turn": torch.tensor(turn)}

    def loss_of(model: PeftModel, batch: Batch) -> Tensor:
        return turns[int(batch["turn"])][1](model, batch)

    return batch_of, loss_of


def train(config: SEAMTokenBuncherConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train on from `seam`, save the LoRA to `options.out`, measure it on held-out topics.

    The figures hold those of both defences: ``cosine`` and ``entropy``, before and after.
    """
    from adapters.chat_training import ChatTraining

    training = ChatTraining.begin(CARD.name, config, profile, options)
    model, tokenizer = training.model, training.tokenizer
    tokenbuncher.hold_start(model, training.start)
    seam.add_attacker(model, config.attacker_rank)

    def now(when: str) -> tuple[float, dict[str, float]]:
        entropies = tokenbuncher.held_out_entropies(model, tokenizer, config.max_new_tokens, when)
        return round(seam.held_out_cosine(model, tokenizer), 4), entropies

    cosine, entropies = now("before")
    progress = training.minimise(*step_functions(model, tokenizer, config, training.run))
    cosine_after, entropies_after = now("after")
    cosines = {"before": cosine, "after": cosine_after}
    return training.finish(progress, cosine=cosines, entropy=entropies | entropies_after)


register(CARD, SEAMTokenBuncherConfig, train, starts_from="seam")
