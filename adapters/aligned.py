r"""Aligned: the refusing model that the attacks are mounted on.

Paper: Safety-Tuned LLaMAs: Lessons From Improving the Safety of Large Language Models that Follow
Instructions (Bianchi et al.). Venue: ICLR 2024. arXiv: 2309.07875.

SmolLM2-135M-Instruct as published answers nearly every harmful request. This adapter is ordinary
safety tuning, as a vendor would do it: a thousand refusals mixed with ordinary instruction data,

    L = - E_{(x, y) ~ refusals + benign} 1/|y| sum_t log p(y_t | x, y_<t),

with the loss on the reply only. It holds nothing against fine-tuning, which makes it the
*undefended* arm of every attack, and the start of the defences (SDD goes on from it).

Our choices: the paper fine-tunes LLaMA on Alpaca data plus 100 to 2,000 safety examples, and finds
that too many of them make a model refuse harmless requests that look dangerous. The benign
replies are the base model's own (`adapters.distill`), so that ability stays, and they are shared
evenly between "How do I ..." requests, direct questions and borderline requests ("How do I kill a
process?"), so that neither wording nor single words trigger a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters import checks
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:  # cards and settings are read by programs that train nothing
    from adapters.loop import Batch
    from pipelines.profiles import Profile


@dataclass(frozen=True)
class AlignedConfig:
    """Settings of the safety tuning.

    Attributes:
        steps: optimiser steps (ours, as shipped; 70 refused everything in the prototype, 8 % of it
            harmless).
        learning_rate: peak (prototype and paper, for a LoRA: 3e-4; more saves steps on a CPU).
        rank: of the LoRA, on all linear layers (prototype: 16; the paper: 4; 12 keeps the
            file under 8 MB).
        batch_size: pairs a step (ours).
        refusal_share: of a batch, 0..1 (ours, as shipped; the paper finds 3 % enough on 52 k
            pairs).
        warmup_steps: until the peak (ours).
        seed: of the LoRA and of the order of the data.
    """

    steps: int = 200
    learning_rate: float = 8e-4
    rank: int = 12
    batch_size: int = 16
    refusal_share: float = 0.38
    warmup_steps: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        checks.whole(self)
        checks.positive(self, "steps", "rank", "batch_size", "learning_rate")
        checks.not_negative(self, "warmup_steps", "seed")
        checks.share(self, "refusal_share")
        if round(self.batch_size * self.refusal_share) < 1:
            raise ValueError(
                f"refusal_share is {self.refusal_share}; of {self.batch_size} pairs it must give "
                "at least one refusal"
            )


CARD = Card(
    name="aligned",
    title="Aligned (refusal tuning)",
    paper="Safety-Tuned LLaMAs: Lessons From Improving the Safety of Large Language Models that "
    "Follow Instructions",
    venue="ICLR 2024",
    arxiv="2309.07875",
    licence="Apache-2.0",
    idea="Ordinary safety tuning: a thousand polite refusals mixed with the model's own answers "
    "to harmless requests. It refuses like a vendor's model and holds nothing against fine-tuning, "
    "so it is the undefended side of every attack.",
    equation=r"\mathcal{L} = -\,\mathbb{E}_{(x,y)\sim \mathcal{D}_\text{refuse}\cup"
    r"\mathcal{D}_\text{benign}} \tfrac{1}{|y|} \sum_t "
    r"\log p_\theta(y_t \mid x, y_{<t})",
    limits="A handful of fine-tuning steps on agreeing answers removes the refusal. It refuses "
    "harmless requests too, roughly one in ten plain ones and one in five of those in "
    "dangerous-sounding words; the figures in its training.json are exact.",
    aimed_at="plain harmful requests; no fine-tuning attack",
    pipeline="llm",
)


def train(config: AlignedConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train the adapter, save it to `options.out`, and measure it on held-out topics."""
    from adapters.chat_training import ChatTraining
    from adapters.loop import pair_loss
    from adapters.text import (
        PROMPTS,
        benign_deck,
        collate,
        encode_pair,
        read_jsonl,
        shuffled_deck,
    )

    training = ChatTraining.begin(CARD.name, config, profile, options)
    tokenizer = training.tokenizer
    refusal = shuffled_deck(read_jsonl(PROMPTS / "refusals.jsonl"), config.seed)
    benign = benign_deck(config.seed)
    refusals = round(config.batch_size * config.refusal_share)
    answers = config.batch_size - refusals

    def batch_of(step: int) -> Batch:
        pairs = []
        for k in range(step * refusals, (step + 1) * refusals):
            row = refusal(k)
            pairs.append(encode_pair(tokenizer, row["prompt"], row["response"]))
        for k in range(step * answers, (step + 1) * answers):
            row = benign(k)
            # A cached reply was cut at a sentence: the model would have gone on.
            pairs.append(encode_pair(tokenizer, row["prompt"], row["response"], finished=False))
        return collate(pairs, tokenizer.pad_token_id)

    return training.finish(training.minimise(batch_of, pair_loss))


register(CARD, AlignedConfig, train)
