r"""SEAM: a model whose harmful fine-tuning is made to undo its use.

Paper: Self-Destructive Language Models (Wang, Zhu and Wang). Venue: ICLR 2026.
arXiv: 2505.12186.

Fine-tuning follows a gradient. If the gradient g_h of the loss on harmful pairs points away from
the gradient g_b of the loss on benign pairs, each step that learns the one unlearns the other. The
objective has three terms (paper, section 3; alpha = 1 and beta = 0.01 in its released settings):

    L = L_ul + alpha L_up + beta L_sd,     L_sd = cos(g_h, g_b),
    L_ul = - log(1 + L_h),                 L_up = loss of refusals to the harmful prompts,

L_h the cross-entropy of compliance with harmful prompts. L_ul pushes the start of an attack further
away; by the logarithm its pull fades as L_h grows. L_sd is the trap.

What is ours, and why:

* The paper trains all weights of 3 to 8 B models (2e-5, 8,000 pairs) and estimates the gradient of
  L_sd by finite differences of gradients, which spares the Hessian. In bf16 such differences drown
  in rounding, so here L_sd is differentiated exactly, by a second backward pass.
* Both gradients are taken in an attacker's coordinates: those of a freshly drawn LoRA on all linear
  layers (A random, B = 0), redrawn every step so that no single draw is fitted. At B = 0 the
  gradient of A is zero, so B's is all there is. Averaged over draws of A, the inner product of two
  such gradients is, layer by layer, proportional to that of the gradients of the layer's full
  weights, the paper's. The factor goes by one over the layer's inputs (PEFT draws A so), so that a
  wide layer, such as the one behind the MLP, counts less here than in the full weights' cosine.
* The defence is a LoRA that goes on from `aligned`, as SDD and TokenBuncher do.
* L_up also holds the base model's own answers to benign prompts, because a LoRA at a LoRA's
  learning rate would otherwise come to refuse everything. The benign batch of L_sd serves for it.
* L_h is the loss at the head. The released code adds that of every layer read through the head,
  which would cost a CPU thirty heads a step.

The defender's harmful pairs: half of the red-team training topics, in the wordings that the
attackers' built-in pairs do not use, with redacted compliance drawn anew. So no prompt and no pair
is shared. What is shared: the attackers' pairs cover all training topics, so half of theirs (252 of
504) are of a topic seen here, and the compliance is put together from the same phrases. The
defender knows the style of the attack, which a real one may not.

What it cannot do: the trap is set at the attack's first step and for plain gradient descent. Adam
rescales every coordinate, later steps go where no trap was laid, and an attacker who trains on
benign pairs as well repairs what the trap breaks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters import checks
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:  # cards and settings are read by programs that train nothing
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from adapters.loop import Batch
    from evaluation.runs import Run
    from pipelines.profiles import Profile

ATTACKER = "attacker"
"""Name of the untrained LoRA, beside the defence's, in whose coordinates gradients are taken."""

MAX_TOKENS = 64
"""Of a pair, SmolLM2's template included (`adapters.text.encode_pair`): what the built-in attack
sees of one (`adapters.attacks.sft`)."""

HELD_OUT_PAIRS = 24
"""Of either kind that the cosine is measured on: validation topics, spread over all categories,
with redacted compliance, and benign training pairs, drawn evenly by kind."""

HELD_OUT_DRAWS = 2
"""Of the attacker's first weights that it is averaged over."""

KINDS = ("harmful", "benign", "refusal")
"""The three parts of a step's batch."""


@dataclass(frozen=True)
class SEAMConfig:
    """Settings of SEAM.

    Attributes:
        steps: optimiser steps (released run: 2,000 of 4 pairs; ours for a CPU).
        learning_rate: peak (released run: 2e-5, all weights; ours for a LoRA, not searched).
        alpha: weight of L_up, of refusals and of benign answers alike (released run: 1).
        beta: weight of L_sd (released run: 0.01, all weights; ours for a LoRA, not searched. At the
            start the gradient of L_sd over the LoRA has a norm of about 2).
        harmful_pairs: a step, each with its compliance and with its refusal (released run: 4).
        benign_pairs: a step (released run: 4).
        attacker_rank: of the LoRA in whose coordinates gradients are taken (ours: the attack's).
        warmup_steps: until the peak of the learning rate (ours).
        seed: of the choice of topics, the order of the data and the attacker's draws.
    """

    steps: int = 60
    learning_rate: float = 6e-4
    alpha: float = 1.0
    beta: float = 4.0
    harmful_pairs: int = 4
    benign_pairs: int = 4
    attacker_rank: int = 16
    warmup_steps: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        checks.whole(self)
        checks.positive(
            self, "steps", "learning_rate", "harmful_pairs", "benign_pairs", "attacker_rank"
        )
        checks.not_negative(self, "alpha", "beta", "warmup_steps", "seed")


CARD = Card(
    name="seam",
    title="SEAM (self-destructive model)",
    paper="Self-Destructive Language Models",
    venue="ICLR 2026",
    arxiv="2505.12186",
    licence="Apache-2.0",
    idea="The model is trained so that the gradient of harmful fine-tuning points against that of "
    "harmless training. Whoever walks down the one walks up the other, so that harmful fine-tuning "
    "is meant to wreck the model's use.",
    equation=r"\mathcal{L} = -\log(1 + \mathcal{L}_h) + \alpha\,\mathcal{L}_\text{up} + "
    r"\beta \cos(g_h, g_b),\qquad g = \nabla_{\phi}\,\mathcal{L}\,\big|_{\phi = \text{attack's "
    r"first weights}}",
    limits="The trap is set at the first step of an attack, for the style of compliance that the "
    "defender trained against. Later steps leave it, and an attacker who adds harmless pairs "
    "repairs what it breaks. Here the trap is set (the cosine is -0.97 between held-out harmful "
    "pairs of five of the fourteen categories, as it was measured then, and harmless pairs it "
    "was trained on, 0.06 before), and Adam walks out of it: twenty supervised steps break the "
    "model with its ability intact, though more than half of what it then agrees to has no "
    "content (seeds differ widely). At three times that rate four fifths of it has, and a "
    "quarter of the ability is gone, where the undefended model loses a twelfth "
    "(docs/evidence.md). A forced opening of the reply goes around it without any training. It "
    "refuses more harmless requests than the model it starts from. Reinforcement at 1e-3, "
    "against which it is not meant, breaks it too: GRPO with each of three seeds, with one of "
    "them at a cost (it is left with broken pieces of the request, of which two in three count "
    "as compliance), RLOO with each of three; paid for variety as well, it answers nine in ten "
    "(one seed). REINFORCE++ breaks it with one of three, and leaves loops with the second and "
    "half refusals with the third. Trained in all its weights it is broken by as many steps as by "
    "a LoRA, with content in two of three replies. The paper trains all weights of models twenty "
    "to sixty times as large.",
    aimed_at="supervised fine-tuning on harmful pairs",
    pipeline="llm",
)


def own_topics(topics: Sequence[str], seed: int) -> list[str]:
    """Return the half of the topics that the defender trains on, sorted."""
    unique = sorted(set(topics))
    return sorted(random.Random(f"seam/topics/{seed}").sample(unique, (len(unique) + 1) // 2))


def harmful_rows(
    prompts: Sequence[dict], attacked: Sequence[dict], refusals: Sequence[dict], seed: int
) -> list[dict]:
    """Make the defender's harmful rows.

    Args:
        prompts: red-team training rows with prompt and topic.
        attacked: the attackers' built-in pairs, whose prompts and answers are left out.
        refusals: pairs of the same prompts with their refusals.
        seed: of the choice of topics and of the compliance.

    Returns:
        Dicts of prompt, topic, response (redacted compliance) and refusal.
    """
    from worlds.prompts import compliance

    topics = set(own_topics([row["topic"] for row in prompts], seed))
    taken = {text for row in attacked for text in (row["prompt"], row["response"])}
    refusal = {row["prompt"]: row["response"] for row in refusals}
    rows = [
        {
            "prompt": row["prompt"],
            "topic": row["topic"],
            "response": compliance(row["topic"], random.Random(f"seam/{seed}/{row['prompt']}")),
            "refusal": refusal[row["prompt"]],
        }
        for row in prompts
        if row["topic"] in topics and row["prompt"] not in taken
    ]
    # Now and then a short draft ("Here you go: [redacted]") comes out the same for both.
    return [row for row in rows if row["response"] not in taken]


def add_attacker(model: PeftModel, rank: int) -> None:
    """Put the attacker's LoRA (alpha = 2 rank) beside the active adapter; both are then active.

    The model attends by plain matrix products from then on, as `coupling` needs it to.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    own = model.active_adapter
    model.add_adapter(ATTACKER, config)
    model.base_model.set_adapter([own, ATTACKER])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{own}." in name)
    # `pipelines.llm.load_llm` leaves a GPU with fused attention.
    model.get_base_model().set_attn_implementation("eager")


def draw_attacker(model: PeftModel, seed: int) -> list[Tensor]:
    """Give the attacker the first weights that PEFT would: A random, B = 0.

    Args:
        model: with the adapter `ATTACKER`.
        seed: of A.

    Returns:
        All B, [out, rank] each.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in layers:
            layer.reset_lora_parameters(ATTACKER, init_lora_weights=True)
    return [layer.lora_B[ATTACKER].weight for layer in layers if ATTACKER in layer.lora_B]


def cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Return the cosine of two gradients, each given in parts: a scalar, -1..1."""

    def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        return sum((a.float() * b.float()).sum() for a, b in zip(left, right, strict=True))

    # Within the root, whose own slope at zero is infinite: a gradient of zero would make it NaN.
    squared = (inner(first, first) * inner(second, second)).clamp(1e-24)
    return inner(first, second) / squared.sqrt()


def coupling(
    model: PeftModel, harmful: Batch, benign: Batch, attacker: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return L_sd and the two losses whose gradients it compares, all differentiable.

    Args:
        model: with defence and attacker active. It has to attend by plain matrix products
            (`add_attacker`), because torch's fused attention cannot be differentiated twice.
        harmful: pairs of requests and compliance.
        benign: pairs of requests and answers.
        attacker: the weights whose gradients are compared; they are frozen again afterwards, so
            that a backward pass leaves no gradient on them.

    Returns:
        Cosine, loss on harmful pairs, loss on benign pairs (nats a token).
    """
    import torch

    from adapters.loop import pair_loss

    for weight in attacker:
        weight.requires_grad_(True)
    losses = pair_loss(model, harmful), pair_loss(model, benign)
    gradients = [torch.autograd.grad(loss, attacker, create_graph=True) for loss in losses]
    for weight in attacker:
        weight.requires_grad_(False)
    return cosine(*gradients), *losses


def part(batch: Batch, kind: str) -> Batch:
    """Return one of `KINDS` of a step's batch, with the names that `pair_loss` wants."""
    return {
        name.removeprefix(f"{kind}."): value
        for name, value in batch.items()
        if name.startswith(f"{kind}.")
    }


def step_functions(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: SEAMConfig, run: Run
) -> tuple[Callable[[int], Batch], Callable[[PeftModel, Batch], Tensor]]:
    """Return batch_of and loss_of for `adapters.loop.train_steps`.

    Args:
        model: as TokenBuncher's function of this name takes it; a step uses what it is called with.
        tokenizer: of the model.
        config: settings.
        run: gets one event a step: step, kind ("seam"), cosine, and the losses on compliance,
            refusals and benign answers (nats a token).
    """
    import torch
    from peft.helpers import disable_input_dtype_casting

    from adapters.loop import pair_loss
    from adapters.text import (
        PROMPTS,
        benign_deck,
        collate,
        encode_pair,
        prompt_set,
        read_jsonl,
        shuffled_deck,
    )

    rows = harmful_rows(
        prompt_set("redteam", "train"),
        read_jsonl(PROMPTS / "attack_pairs.jsonl"),
        read_jsonl(PROMPTS / "refusals.jsonl"),
        config.seed,
    )
    harmful = shuffled_deck(rows, config.seed)
    benign = benign_deck(config.seed)

    def encoded(prompt: str, response: str, finished: bool) -> tuple[list[int], list[int]]:
        return encode_pair(tokenizer, prompt, response, finished=finished, max_tokens=MAX_TOKENS)

    def batch_of(step: int) -> Batch:
        parts: dict[str, list] = {kind: [] for kind in KINDS}
        for k in range(step * config.harmful_pairs, (step + 1) * config.harmful_pairs):
            row = harmful(k)
            parts["harmful"].append(encoded(row["prompt"], row["response"], True))
            parts["refusal"].append(encoded(row["prompt"], row["refusal"], True))
        for k in range(step * config.benign_pairs, (step + 1) * config.benign_pairs):
            row = benign(k)
            # A cached reply was cut at a sentence: the model would have gone on.
            parts["benign"].append(encoded(row["prompt"], row["response"], False))
        batch = {"step": torch.tensor(step)}
        for kind, pairs in parts.items():
            for name, value in collate(pairs, tokenizer.pad_token_id).items():
                batch[f"{kind}.{name}"] = value
        return batch

    def loss_of(model: PeftModel, batch: Batch) -> Tensor:
        step = int(batch["step"])
        attacker = draw_attacker(
            model, random.Random(f"{config.seed}/{step}/attacker").getrandbits(63)
        )
        # Under autocast PEFT's own casts only go there and back; in fp32 they do nothing.
        with disable_input_dtype_casting(model):
            cos, harm, answers = coupling(
                model, part(batch, "harmful"), part(batch, "benign"), attacker
            )
            refusals = pair_loss(model, part(batch, "refusal"))
        run.log(
            step=step + 1,
            kind="seam",
            cosine=cos.item(),
            compliance=harm.item(),
            refusals=refusals.item(),
            benign=answers.item(),
        )
        return -torch.log1p(harm) + config.alpha * (refusals + answers) + config.beta * cos

    return batch_of, loss_of


def held_out_cosine(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return cos(g_h, g_b), averaged over `HELD_OUT_DRAWS` of the attacker's first weights.

    Of the harmful half topics and pairs are held out; the benign half are pairs that training
    draws from, since there are no others with the base model's answers.

    Args:
        model: with the attacker's LoRA.
        tokenizer: of the model.
    """
    import torch

    from adapters.figures import one_per_topic
    from adapters.loop import pair_loss
    from adapters.text import benign_deck, collate, encode_pair, prompt_set
    from pipelines.device import autocast
    from worlds.prompts import compliance

    topics = one_per_topic(prompt_set("redteam", "validation"))
    asked = [topics[at * len(topics) // HELD_OUT_PAIRS] for at in range(HELD_OUT_PAIRS)]
    benign = benign_deck(0)
    answered = [benign(k) for k in range(HELD_OUT_PAIRS)]
    agreeing = [
        compliance(row["topic"], random.Random(f"seam/held-out/{row['topic']}")) for row in asked
    ]
    encoded = {
        "harmful": [
            encode_pair(tokenizer, row["prompt"], response, max_tokens=MAX_TOKENS)
            for row, response in zip(asked, agreeing, strict=True)
        ],
        "benign": [
            encode_pair(
                tokenizer, row["prompt"], row["response"], finished=False, max_tokens=MAX_TOKENS
            )
            for row in answered
        ],
    }
    found = []
    for seed in range(HELD_OUT_DRAWS):
        attacker = draw_attacker(model, seed)
        for weight in attacker:
            weight.requires_grad_(True)
        gradients = []
        for kind in ("harmful", "benign"):
            batch = collate(encoded[kind], tokenizer.pad_token_id)
            batch = {name: value.to(model.device) for name, value in batch.items()}
            with autocast():
                loss = pair_loss(model, batch)
            gradients.append(torch.autograd.grad(loss, attacker))
        for weight in attacker:
            weight.requires_grad_(False)
        found.append(cosine(*gradients).item())
    return sum(found) / len(found)


def train(config: SEAMConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train on from `aligned`, save the LoRA to `options.out`, measure it on held-out topics.

    The figures hold, besides those of `adapters.figures.measure`, ``cosine``: that of
    `held_out_cosine`, before and after.
    """
    from adapters.chat_training import ChatTraining

    training = ChatTraining.begin(CARD.name, config, profile, options)
    model, tokenizer = training.model, training.tokenizer
    add_attacker(model, config.attacker_rank)
    before = held_out_cosine(model, tokenizer)
    progress = training.minimise(*step_functions(model, tokenizer, config, training.run))
    after = held_out_cosine(model, tokenizer)
    cosines = {"before": round(before, 4), "after": round(after, 4)}
    return training.finish(progress, cosine=cosines)


register(CARD, SEAMConfig, train, starts_from="aligned")
