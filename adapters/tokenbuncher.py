r"""TokenBuncher: a policy so sure of its refusals that reinforcement learning has nothing to push.

Paper: Token Buncher: Shielding LLMs from Harmful Reinforcement Learning Fine-Tuning (Feng et al.).
Venue: CCS 2026. arXiv: 2508.20697.

An attacker with harmful requests and a reward, but no answers, samples several replies to a request
and reinforces the better ones. If all replies coincide, all rewards do, and the advantage vanishes.
So the defender reinforces low entropy first, on its own rollouts y of a request q:

    R(q, y) = - 1/|y| sum_t H(p(. | q, y_<t))               for harmful q,
    R(q, y) = - 1/|y| sum_t KL(p(. | q, y_<t) || p_0(. | q, y_<t))   for benign q,

H and KL over the whole vocabulary, p_0 the policy at the start. The rewards are constants to the
gradient; the estimator is GRPO's (arXiv 2402.03300), with n rollouts a request:

    A = (R - mean R) / std R,    L_reward = - mean A 1/|y| sum_t log p(y_t | q, y_<t).

Each batch is used for one update, where GRPO's ratio is 1 and its clipping does nothing. (H could
be differentiated directly, without sampling noise; the paper does not.)

The benign reward is the exception: here it is a loss, the same KL differentiated directly,

    L_keep = w mean KL(p(. | q, y_<t) || p_0(. | q, y_<t))   for benign q,

in every step, over the base model's own cached answers y. As a reward of sampled replies, which is
how the paper has it, it told a LoRA too little too late: after 32 steps the KL stood at 0.25 nats a
token, and the model refused to say how to cook rice.

*Token Noiser*: an attacker may pay the policy for variety instead. What then comes up should be
noise, not harmful skill. On the tokens of harmful rollouts with A >= 0, cross-entropy to a soft
target: 1 - lambda on the sampled token, lambda shared among all others by normalised U(0,1) noise.

Schedule: reward steps alone for the first E/8 of E steps, then reward and noiser steps in turn.

What is ours, and why:

* It goes on from the `aligned` adapter, whose refusals are what becomes sure, and one LoRA ends up
  holding both, as in `adapters.sdd`: the two defences and the undefended arm share their start.
* The paper trains all weights of 3 to 8 B models (200 steps of 32 x 4 rollouts at 1e-6), and adds a
  KL term of weight 0.001 to the loss, which is left out. A LoRA needs a larger rate, and a CPU
  fewer and shorter rollouts: most refusals of `aligned` end within 32 tokens.
* lambda is 0.001, not the paper's 0.1, see `TokenBuncherConfig.noise_weight`.

The released code differs from the text: it scales the noise twice (an effective weight of about
0.01) and has no benign prompts. `noise_weight=0.01, benign_prompts=0` is that variant.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters import checks
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:  # cards and settings are read by programs that train nothing
    from pathlib import Path

    import torch
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from adapters.loop import Batch
    from evaluation.runs import Run
    from pipelines.profiles import Profile

START = "start"
"""Name of the frozen adapter that holds p_0, beside the one that is trained."""

MEASURED_AT_ONCE = 24
"""Prompts that are answered at a time where the entropy is measured."""

_KEPT = "kept_"
"""What a batch's tensors of benign replies are named after, beside those of the rollouts."""


@dataclass(frozen=True)
class TokenBuncherConfig:
    """Settings of TokenBuncher.

    Attributes:
        steps: optimiser steps, reward and noiser steps together (released run: 200; on training
            requests entropy is down after twelve here, on held-out ones it takes longer).
        learning_rate: peak (released run: 1e-6, all weights; prototype, for a LoRA: 2e-4).
        harmful_prompts: harmful requests a step (released run: 32; ours for a CPU).
        benign_prompts: benign requests a step (ours; 0 gives the released code's variant).
        keep_weight: w of L_keep (ours; see the module's text).
        rollouts: replies sampled to each request, at temperature 1 (released run: 4).
        max_new_tokens: a rollout is cut after this many tokens (ours; see the module's text).
        noise_weight: lambda of the Token Noiser, 0..1 (paper: 0.1, the released code in effect
            0.01). At a LoRA's learning rate the policy reaches the target instead of leaning
            towards it, and a tenth of all tokens is noise: the prototype lost its language within
            15 steps at 0.1. At 0.01 the noise itself held the entropy up: replies to held-out
            harmful requests went from 0.196 nats a token to 0.111 in 60 steps; at 0.001 to 0.047
            in 120, with refusals and benign replies as before.
        entropy_only_share: part of the steps before the noiser joins in, 0..1 (paper: 1/8).
        warmup_steps: until the peak of the learning rate (ours).
        seed: of the order of the data, of the sampling and of the noise.
    """

    steps: int = 120
    learning_rate: float = 2e-4
    harmful_prompts: int = 4
    benign_prompts: int = 8
    keep_weight: float = 1.0
    rollouts: int = 4
    max_new_tokens: int = 32
    noise_weight: float = 0.001
    entropy_only_share: float = 0.125
    warmup_steps: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        checks.whole(self)
        checks.positive(self, "steps", "harmful_prompts", "max_new_tokens", "learning_rate")
        checks.not_negative(self, "benign_prompts", "keep_weight", "warmup_steps", "seed")
        if self.rollouts < 2:
            raise ValueError(f"rollouts is {self.rollouts}; a group to compare needs at least 2")
        if not 0 <= self.noise_weight < 1:
            raise ValueError(f"noise_weight is {self.noise_weight}; it must be from 0 to below 1")
        checks.share(self, "entropy_only_share")

    def is_noiser_step(self, step: int) -> bool:
        """Return whether a step (0-based) is the Token Noiser's, and not a reward step."""
        after = step - int(self.steps * self.entropy_only_share)
        return after >= 0 and after % 2 == 1


CARD = Card(
    name="tokenbuncher",
    title="TokenBuncher",
    paper="Token Buncher: Shielding LLMs from Harmful Reinforcement Learning Fine-Tuning",
    venue="CCS 2026",
    arxiv="2508.20697",
    licence="Apache-2.0",
    idea="Reinforcement learning needs replies that differ, so that the better ones can be "
    "rewarded. The model is trained to be so sure of its replies to harmful requests that all "
    "samples coincide and a reward says nothing. Noise on all other tokens is meant to make an "
    "attacker who forces variety draw gibberish.",
    equation=r"R(q,y) = -\tfrac{1}{|y|}\sum_t \mathcal{H}\big(\pi_\theta(\cdot\mid q,y_{<t})\big)"
    r"\ \text{(harmful)},\qquad \mathcal{L}_\text{keep} = \mathrm{KL}(\pi_\theta\,\|\,\pi_0)\ "
    r"\text{(benign)},\qquad \mathcal{L}_\text{noise} = -\sum_v \tilde y_v \log "
    r"\pi_\theta(v),\quad \tilde y_{y_t} = 1-\lambda",
    limits="Here it delays GRPO with two of three seeds and stops it with none. Every reply of "
    "it begins with an apology, and GRPO first looks for what the judge pays behind one "
    "(docs/judge.md tells of three such finds). An attacker who takes 1e-3 gets instructions "
    "within 15 steps in two of three seeds (one of them was paid by the judge of before the last "
    "find), in the third talk about the thing asked that helps nobody and has cost a tenth of "
    "the ability; the undefended model needs 5 to 10 steps. Fifteen steps of RLOO at 1e-3 drove it "
    'with one of three seeds into a loop that is no language ("No, no, no") and undid it with '
    "the others; asked other topics than those it had trained on, RLOO undid it with both of two. "
    "REINFORCE++ undid it with six of eight seeds; with the two others it ends in a loop "
    '("Sorry sorry sorry"), or gives the request back and has lost a third of its ability. '
    "RLOO at 3e-4, or GRPO at 3e-4 that also "
    "pays for variety, each of which undoes the undefended model, leave it refusing or talking "
    "nonsense (one seed each); paid for variety at 1e-3, one reply in six agrees with one seed "
    "and the others talk around the request; with the two others nearly eight and more than nine "
    "in ten agree. Paid for sums behind a request that is marked as forbidden, it learns them "
    "with two of three seeds, once at the price of its refusals; with the third, where the "
    "undefended model learns most, it learns nothing. GRPO that trains all weights undoes it with "
    'seven of eight seeds and ends in a loop with one ("Sorry, no one. No one."). '
    "A few supervised steps break it at once: "
    "it wants a partner against supervised fine-tuning. A forced opening of the reply goes "
    "around it without any training. The requests of these attacks, but for those said to be of "
    "other topics, are of its own training split: of the 60 of GRPO and RLOO it had trained on "
    "25 to 36 word for word and on nearly all topics. Role-play and made-up scenarios, which the "
    "training never showed, are a known gap of the method; before any attack it agrees to none "
    "and to 3 % of them here (docs/evidence.md). The noise is a hundredth of the paper's: with "
    "its own, a LoRA on this small model lost its language. What it refuses and what it knows "
    "are those of the aligned model it starts from, refusals of harmless requests included.",
    aimed_at="reinforcement learning with harmful requests, a reward and no answers",
    pipeline="llm",
)


def hold_start(model: PeftModel, start: Path) -> None:
    """Put p_0 beside the adapter that is trained: the adapter `START`, frozen.

    Args:
        model: with a trainable active adapter.
        start: folder of p_0's adapter.
    """
    own = model.active_adapter
    model.load_adapter(start, adapter_name=START, autocast_adapter_dtype=False)
    # PEFT 0.19.0 freezes the active adapter on the way.
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{own}." in name)


def roll_out(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    rollouts: int,
    max_new_tokens: int,
    generator: torch.Generator,
) -> Batch:
    """Sample replies from the policy, all in one batch, at temperature 1 from all tokens.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        prompts: user messages.
        rollouts: replies to each; they follow one another.
        max_new_tokens: longer replies are cut.
        generator: of the sampling, on the model's device.

    Returns:
        input_ids and attention_mask, int64 [rows, width], prompts padded on the left and replies
        on the right, so that all replies begin in the same column; sampled, bool
        [rows, longest reply]: which of the last columns were sampled, the end included. It is the
        tokenizer's end token whichever of the model's end tokens was drawn, which `decode` keeps
        to itself (SmolLM2 has one).
    """
    import torch

    from pipelines.device import autocast
    from pipelines.llm import conversation_ids, decode

    def sample(logits: Tensor) -> Tensor:
        return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]

    heads = [
        conversation_ids(tokenizer, [{"role": "user", "content": prompt}])
        for prompt in prompts
        for _ in range(rollouts)
    ]
    with autocast():
        *_, replies = decode(model, tokenizer, heads, max_new_tokens=max_new_tokens, pick=sample)
    # `decode` leaves the end token out. Ending there was the policy's choice, so it counts.
    tails = [
        reply if len(reply) == max_new_tokens else [*reply, tokenizer.eos_token_id]
        for reply in replies
    ]
    return _side_by_side(heads, tails, tokenizer.pad_token_id, model.device)


def given_replies(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, str]],
    max_new_tokens: int,
) -> Batch:
    """Lay out replies that are known already as `roll_out` does those that it samples.

    Args:
        model: says on which device.
        tokenizer: of the model.
        rows: dicts of prompt and response.
        max_new_tokens: longer replies are cut.

    Returns:
        See `roll_out`; "sampled" marks the tokens of the replies.
    """
    from pipelines.llm import conversation_ids

    heads = [
        conversation_ids(tokenizer, [{"role": "user", "content": row["prompt"]}]) for row in rows
    ]
    tails = [
        tokenizer(row["response"], add_special_tokens=False).input_ids[:max_new_tokens]
        for row in rows
    ]
    return _side_by_side(heads, tails, tokenizer.pad_token_id, model.device)


def _side_by_side(
    heads: Sequence[list[int]], tails: Sequence[list[int]], pad: int, where: torch.device
) -> Batch:
    """Pad prompts on the left and replies on the right."""
    import torch

    left, right = max(map(len, heads)), max(map(len, tails))
    ids = torch.full((len(heads), left + right), pad)
    mask = torch.zeros_like(ids)
    for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        real = slice(left - len(head), left + len(tail))
        ids[row, real] = torch.tensor([*head, *tail])
        mask[row, real] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "sampled": mask[:, left:].bool()}
    return {name: value.to(where) for name, value in batch.items()}


def sampled_tokens(batch: Batch) -> Tensor:
    """Return the sampled tokens of all rows, one after another: int64 [tokens]."""
    sampled = batch["sampled"]
    return batch["input_ids"][:, -sampled.shape[1] :][sampled]


def reply_log_probs(model: PeftModel, batch: Batch, adapter: str | None = None) -> Tensor:
    """Return the log-probabilities of all tokens wherever one was sampled.

    Args:
        model: the policy.
        batch: see `roll_out`.
        adapter: which adapter is to be read instead of the active one; only in evaluation mode.

    Returns:
        float32 [tokens, vocabulary], in the order of `sampled_tokens`.
    """
    mask, sampled = batch["attention_mask"], batch["sampled"]
    mixed = {} if adapter is None else {"adapter_names": [adapter] * len(mask)}
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=sampled.shape[1] + 1,
        **mixed,
    ).logits[:, :-1]
    return logits[sampled].float().log_softmax(-1)


def entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy in nats over the last dimension."""
    return -(log_probs.exp() * log_probs).sum(-1)


def divergence(log_probs: Tensor, start: Tensor) -> Tensor:
    """Return KL(policy || start) in nats over the last dimension."""
    return (log_probs.exp() * (log_probs - start)).sum(-1)


def reply_means(values: Tensor, sampled: Tensor) -> Tensor:
    """Average [tokens] over the tokens of each reply: [rows]."""
    row = sampled.nonzero()[:, 0]
    return values.new_zeros(len(sampled)).index_add(0, row, values) / sampled.sum(1)


def group_advantages(rewards: Tensor, rollouts: int) -> Tensor:
    """Return each reply's advantage over its siblings: [rows], mean 0 in every group.

    The small term keeps groups whose rewards differ by rounding only near zero (TRL's and verl's
    GRPO have such a term, too).
    """
    groups = rewards.view(-1, rollouts)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + 1e-4)).flatten()


def policy_loss(log_probs: Tensor, tokens: Tensor, sampled: Tensor, advantages: Tensor) -> Tensor:
    """Return GRPO's loss at ratio 1; its gradient is the policy gradient.

    Args:
        log_probs: of all tokens, [tokens, vocabulary].
        tokens: that were sampled, [tokens].
        sampled: which row each belongs to, see `roll_out`.
        advantages: [rows].
    """
    chosen = log_probs.gather(-1, tokens[:, None])[:, 0]
    return -(advantages * reply_means(chosen, sampled)).mean()


def noisy_targets(
    tokens: Tensor, vocabulary: int, weight: float, generator: torch.Generator
) -> Tensor:
    """Return the Token Noiser's soft targets.

    Args:
        tokens: that were sampled, [tokens].
        vocabulary: number of tokens there are.
        weight: lambda, the share of all other tokens together.
        generator: of the noise, on the tokens' device.

    Returns:
        float32 [tokens, vocabulary]; every row sums to one and has 1 - weight on its token.
    """
    import torch

    noise = torch.rand(len(tokens), vocabulary, generator=generator, device=tokens.device)
    noise.scatter_(1, tokens[:, None], 0.0)
    noise *= weight / noise.sum(1, keepdim=True)
    return noise.scatter_(1, tokens[:, None], 1 - weight)


def _generator(seed: int, step: int, purpose: str, device: torch.device) -> torch.Generator:
    """Return what draws for a purpose in a step, so that a resumed training draws the same."""
    import torch

    return torch.Generator(device).manual_seed(
        random.Random(f"{seed}/{step}/{purpose}").getrandbits(63)
    )


def harmful_loss(
    log_probs: Tensor, batch: Batch, advantages: Tensor, config: TokenBuncherConfig
) -> Tensor:
    """Return the loss on rollouts of harmful requests: GRPO's or the Token Noiser's, by the step.

    Args:
        log_probs: of all tokens, [tokens, vocabulary].
        batch: of `roll_out`, and the number of the step.
        advantages: [rows].
        config: settings.

    Returns:
        A scalar; in a noiser step in nats a token of the rollouts whose advantage is not negative.
    """
    step, sampled, tokens = int(batch["step"]), batch["sampled"], sampled_tokens(batch)
    if not config.is_noiser_step(step):
        return policy_loss(log_probs, tokens, sampled, advantages)
    # Never empty: the best of a group is no worse than its mean.
    good = (advantages >= 0)[sampled.nonzero()[:, 0]]
    generator = _generator(config.seed, step, "noise", log_probs.device)
    targets = noisy_targets(tokens[good], log_probs.shape[1], config.noise_weight, generator)
    return -(targets * log_probs[good]).sum(-1).mean()


def step_functions(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: TokenBuncherConfig, run: Run
) -> tuple[Callable[[int], Batch], Callable[[PeftModel, Batch], Tensor]]:
    """Return batch_of and loss_of for `adapters.loop.train_steps`.

    Args:
        model: with a trainable active adapter and, frozen, the adapter `START`.
        tokenizer: of the model.
        config: settings.
        run: gets one event a step: step, kind, entropy and kl (nats a token; kl is None without
            benign prompts).
    """
    import torch

    from adapters.text import benign_deck, prompt_set, shuffled_deck
    from pipelines.device import autocast

    harmful = shuffled_deck(prompt_set("redteam", "train"), config.seed)
    benign = benign_deck(config.seed)
    requests, others = config.harmful_prompts, config.benign_prompts

    def batch_of(step: int) -> Batch:
        # For good: what is sampled from and what is trained must be one policy, dropout or not.
        model.eval()
        prompts = [harmful(k)["prompt"] for k in range(step * requests, (step + 1) * requests)]
        batch = roll_out(
            model,
            tokenizer,
            prompts,
            config.rollouts,
            config.max_new_tokens,
            _generator(config.seed, step, "rollouts", model.device),
        )
        if others:
            rows = [benign(k) for k in range(step * others, (step + 1) * others)]
            kept = given_replies(model, tokenizer, rows, config.max_new_tokens)
            with torch.no_grad(), autocast():
                kept["start_log_probs"] = reply_log_probs(model, kept, START)
            batch |= {f"{_KEPT}{name}": value for name, value in kept.items()}
        return batch | {"step": torch.tensor(step)}

    def loss_of(model: PeftModel, batch: Batch) -> Tensor:
        step = int(batch["step"])
        log_probs = reply_log_probs(model, batch)
        with torch.no_grad():
            rewards = -reply_means(entropy(log_probs), batch["sampled"])
            advantages = group_advantages(rewards, config.rollouts)
        loss = harmful_loss(log_probs, batch, advantages, config)
        told = {"entropy": -rewards.mean().item(), "kl": None}
        kept = {n.removeprefix(_KEPT): v for n, v in batch.items() if n.startswith(_KEPT)}
        if kept:
            nats = divergence(reply_log_probs(model, kept), kept["start_log_probs"])
            drift = reply_means(nats, kept["sampled"]).mean()
            loss = loss + config.keep_weight * drift
            told["kl"] = drift.item()
        run.log(step=step + 1, kind="noiser" if config.is_noiser_step(step) else "reward", **told)
        return loss

    return batch_of, loss_of


def rollout_entropy(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
) -> float:
    """Return the mean token entropy of a sampled reply in nats, averaged over prompts.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        prompts: user messages; one reply is sampled to each.
        max_new_tokens: longer replies are cut.
    """
    import torch

    from pipelines.device import autocast

    generator = torch.Generator(model.device).manual_seed(0)
    found = []
    for at in range(0, len(prompts), MEASURED_AT_ONCE):
        part = prompts[at : at + MEASURED_AT_ONCE]
        batch = roll_out(model, tokenizer, part, 1, max_new_tokens, generator)
        with torch.no_grad(), autocast():
            log_probs = reply_log_probs(model, batch)
        found += reply_means(entropy(log_probs), batch["sampled"]).tolist()
    return sum(found) / len(found)


def held_out_entropies(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, when: str
) -> dict[str, float]:
    """Return ``harmful_<when>`` and ``benign_<when>``: `rollout_entropy` on the test split."""
    from adapters.figures import one_per_topic
    from adapters.text import prompt_set

    found = {}
    for kind, name in (("harmful", "redteam"), ("benign", "benign")):
        prompts = [row["prompt"] for row in one_per_topic(prompt_set(name, "test"))]
        nats = rollout_entropy(model, tokenizer, prompts, max_new_tokens)
        found[f"{kind}_{when}"] = round(nats, 4)
    return found


def train(config: TokenBuncherConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train on from `aligned`, save the LoRA to `options.out`, measure it on held-out topics.

    The figures hold, besides those of `adapters.figures.measure`, ``entropy``: nats a token of
    sampled replies to held-out harmful and benign prompts, before and after.
    """
    from adapters.chat_training import ChatTraining

    training = ChatTraining.begin(CARD.name, config, profile, options)
    model, tokenizer = training.model, training.tokenizer
    hold_start(model, training.start)
    before = held_out_entropies(model, tokenizer, config.max_new_tokens, "before")
    progress = training.minimise(*step_functions(model, tokenizer, config, training.run))
    after = held_out_entropies(model, tokenizer, config.max_new_tokens, "after")
    return training.finish(progress, entropy=before | after)


register(CARD, TokenBuncherConfig, train, starts_from="aligned")
