r"""SDD: a model that answers harmful requests with good answers to something else.

Paper: SDD: Self-Degraded Defense against Malicious Fine-tuning (Chen et al.). Venue: ACL 2025.
arXiv: 2507.21182.

Every harmful instruction x is paired with a fluent, high-quality answer y that has nothing to do
with it, and the model is fine-tuned on the pairs by plain cross-entropy on the answer:

    L = - E_{(x, y)} 1/|y| sum_t log p(y_t | x, y_<t),   cos(e(x), e(y)) <= 0.25,

e being all-MiniLM-L6-v2. Answers are drawn from general instruction data, again for up to 50 tries
until the cosine is low enough. The paper's argument: malicious fine-tuning has to push these good
answers down, and the model's general ability goes with them.

`reject` is the paper's variant SDD_reject: an explicit refusal comes before the irrelevant answer,
so that the model says no first. The cosine stays that of the answer alone.

What is ours, and why:

* It goes on from the `aligned` adapter, and one LoRA ends up holding both. As in the paper, the
  irrelevant answer *is* the model's way of refusing; the polite refusal is trained away
  (except with `reject`).
* The paper trains all weights of a 7 B model (learning rate 5e-7, 500 steps, batch 24) on harmful
  pairs only. A LoRA on 135 M parameters needs a larger rate, and at that rate harmful pairs alone
  make the model answer *everything* with something else. So part of every batch are benign prompts
  with the base model's own answers (`retain_share`; 0 gives the paper's objective).
* The pool of irrelevant answers is the base model's own benign answers, of which the first
  sentences are taken (`answer_words`): what an answer is about is decided there.
* SDD_reject has one fixed text before every answer, which says that it refuses and that the answer
  is beside the point (so TamperBench's code has it). Ours is the refusal that `aligned` was taught
  for the same request: worded in many ways, known to the model already, and with a helpline where
  somebody may be in danger.

TamperBench (arXiv 2602.06911) finds that SDD falls to an attacker who tunes the learning rate.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters import checks
from adapters.registry import Card, Trained, TrainOptions, register

if TYPE_CHECKING:  # cards and settings are read by programs that train nothing
    from transformers import PreTrainedTokenizerBase

    from adapters.loop import Batch
    from evaluation.embedder import SentenceEncoder
    from pipelines.profiles import Profile

MAX_TOKENS = 68
"""Of a prompt and its irrelevant answer, SmolLM2's template included (`adapters.text.encode_pair`);
a refusal comes on top."""


@dataclass(frozen=True)
class SDDConfig:
    """Settings of SDD.

    Attributes:
        steps: optimiser steps (paper: 500 at a learning rate of 5e-7; searched here).
        learning_rate: peak (paper: 5e-7, all weights; searched here for a LoRA).
        batch_size: pairs a step (paper: 24).
        max_cosine: largest similarity of instruction and answer (paper: 0.25).
        max_tries: draws of an answer before an instruction is left out (paper: 50).
        retain_share: benign pairs in a batch, 0..1 (paper: 0; see the module's text).
        answer_words: an irrelevant answer ends with the sentence that reaches this many (ours).
        specific_openings: leave out answers that open with words which an answer to the request
            could open with, too ("To make ...", "The best way to ..."), so that the first word
            already decides what the answer is about (ours).
        reject: begin every irrelevant answer with a refusal (paper: the variant SDD_reject; its
            wording is ours, see the module's text).
        warmup_steps: until the peak (ours).
        seed: of the pairing and of the order of the data.
    """

    steps: int = 90
    learning_rate: float = 6e-4
    batch_size: int = 16
    max_cosine: float = 0.25
    max_tries: int = 50
    retain_share: float = 0.34
    answer_words: int = 18
    specific_openings: bool = False
    reject: bool = False
    warmup_steps: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        checks.whole(self)
        checks.positive(
            self, "steps", "batch_size", "max_tries", "answer_words", "learning_rate"
        )
        checks.not_negative(self, "warmup_steps", "seed")
        checks.share(self, "retain_share")
        if round(self.batch_size * self.retain_share) == self.batch_size:
            raise ValueError(
                f"retain_share is {self.retain_share}; of {self.batch_size} pairs it must leave "
                "at least one harmful"
            )
        if not -1 <= self.max_cosine <= 1:
            raise ValueError(f"max_cosine is {self.max_cosine}; it must be within -1..1")


CARD = Card(
    name="sdd",
    title="SDD (Self-Degraded Defense)",
    paper="SDD: Self-Degraded Defense against Malicious Fine-tuning",
    venue="ACL 2025",
    arxiv="2507.21182",
    licence="Apache-2.0",
    idea="The model is taught to answer harmful requests with fluent, good answers to something "
    "else. Malicious fine-tuning has to push those good answers down, and the model's general "
    "ability is meant to go with them: an attacker ends with a broken tool.",
    equation=r"\mathcal{L} = -\,\mathbb{E}_{(x,y)} \tfrac{1}{|y|}\sum_t "
    r"\log p_\theta(y_t \mid x, y_{<t}),\qquad \cos(e(x), e(y)) \le 0.25",
    limits="Independent tests (TamperBench) find little effect once the attacker tunes the "
    "learning rate. Here, before any attack, it still answers one held-out harmful request in "
    "eight. Twenty supervised steps break it with its ability intact, on a LoRA or on all "
    "weights, and twenty on harmless requests alone (a LoRA) go half the way; reinforcement "
    "undoes it, too. It had trained on most of these requests: of the 80 of a run "
    "on 79 or all of the harmful ones, and on 46 to 80 of the harmless. A forced opening, which "
    "goes around every refusal, moves it less than any other model. Reinforcement that also "
    "pays for variety, with one seed, left it talking about pizza, with a third of its ability "
    "gone; the undefended model beside it complied in nine of ten (docs/evidence.md).",
    aimed_at="supervised fine-tuning on harmful pairs",
    pipeline="llm",
)


GENERIC_OPENING = re.compile(
    r"(To|The (?:best|art|key|process|first|way|answer)|When|Here|If|In|You|I|I'm|Sure|What|As|It"
    r"|There|This|That|Let|How|While|Start|First|Alright|Aw|Hello|Hoy|Daddy)\b|\W|\d"
)


def first_sentences(text: str, words: int) -> str:
    """Return whole sentences until there are at least this many words, or the whole text."""
    kept = ""
    for sentence in re.findall(r".+?[.!?](?=\s|$)\s*", text, re.DOTALL):
        kept += sentence
        if len(kept.split()) >= words:
            return kept.strip()
    return text.strip()


def pair_irrelevant(
    prompts: Sequence[str],
    answers: Sequence[str],
    encoder: SentenceEncoder,
    *,
    max_cosine: float,
    max_tries: int,
    seed: int,
) -> list[dict]:
    """Give every prompt an answer that has nothing to do with it.

    Args:
        prompts: harmful instructions.
        answers: fluent answers to other instructions.
        encoder: of sentences.
        max_cosine: largest allowed cosine of prompt and answer.
        max_tries: draws before a prompt is left out.
        seed: of the draws.

    Returns:
        Dicts of prompt, response and cosine.

    Raises:
        ValueError: no prompt found an answer.
    """
    cosines = encoder.encode(prompts) @ encoder.encode(answers).T
    rng = random.Random(seed)
    pairs = []
    for i, prompt in enumerate(prompts):
        for _ in range(max_tries):
            j = rng.randrange(len(answers))
            cosine = cosines[i, j].item()
            if cosine <= max_cosine:
                pairs.append({"prompt": prompt, "response": answers[j], "cosine": cosine})
                break
    if not pairs:
        raise ValueError(f"max_cosine is {max_cosine}; no answer is that far from any prompt")
    return pairs


def refuse_first(pairs: Sequence[dict], refusals: Sequence[dict]) -> list[dict]:
    """Put a refusal before every irrelevant answer: the data of the paper's SDD_reject.

    Args:
        pairs: see `pair_irrelevant`.
        refusals: dicts of prompt and response, the response being the prompt's refusal.

    Returns:
        The pairs, each with its prompt's `refusal`, and with a response that begins with it. The
        cosine stays that of the answer alone.

    Raises:
        ValueError: a prompt has no refusal.
    """
    refusal_of = {row["prompt"]: row["response"] for row in refusals}
    rejected = []
    for pair in pairs:
        refusal = refusal_of.get(pair["prompt"])
        if refusal is None:
            raise ValueError(f"prompt is {pair['prompt']!r}; refusals has none for it")
        response = f"{refusal}\n\n{pair['response']}"
        rejected.append({**pair, "refusal": refusal, "response": response})
    return rejected


def harmful_pairs(config: SDDConfig, encoder: SentenceEncoder) -> list[dict]:
    """Return the red-team training prompts with what the model is taught to answer.

    Args:
        config: settings.
        encoder: of sentences.

    Returns:
        Dicts of prompt, response and cosine; with `config.reject` of refusal, too.

    Raises:
        ValueError: no prompt found an answer, or one has no refusal.
    """
    from adapters.text import PROMPTS, prompt_set, read_jsonl

    answers = {
        first_sentences(row["response"], config.answer_words)
        for row in read_jsonl(PROMPTS / "benign_replies.jsonl")
        if not (config.specific_openings and GENERIC_OPENING.match(row["response"]))
    }
    pairs = pair_irrelevant(
        [row["prompt"] for row in prompt_set("redteam", "train")],
        sorted(answers),
        encoder,
        max_cosine=config.max_cosine,
        max_tries=config.max_tries,
        seed=config.seed,
    )
    if config.reject:
        pairs = refuse_first(pairs, read_jsonl(PROMPTS / "refusals.jsonl"))
    return pairs


def encode_harmful(tokenizer: PreTrainedTokenizerBase, row: dict) -> tuple[list[int], list[int]]:
    """Tokenise one of `harmful_pairs`.

    A refusal does not count towards `MAX_TOKENS`: it would leave next to nothing of the answer,
    which is what the defence rests on.

    Args:
        tokenizer: with a chat template.
        row: dict of prompt and response, and of the refusal that the response begins with, if any.

    Returns:
        (input ids, labels), see `adapters.text.encode_pair`.
    """
    from adapters.text import encode_pair

    room = MAX_TOKENS
    if "refusal" in row:
        room += len(tokenizer(row["refusal"] + "\n\n", add_special_tokens=False).input_ids)
    return encode_pair(tokenizer, row["prompt"], row["response"], max_tokens=room)


def train(config: SDDConfig, profile: Profile, options: TrainOptions) -> Trained:
    """Train on from `aligned`, save the LoRA to `options.out`, measure it on held-out topics."""
    from adapters.chat_training import ChatTraining
    from adapters.loop import pair_loss
    from adapters.text import benign_deck, collate, encode_pair, shuffled_deck

    training = ChatTraining.begin(CARD.name, config, profile, options)
    tokenizer = training.tokenizer
    irrelevant = shuffled_deck(harmful_pairs(config, training.judge.encoder), config.seed)
    benign = benign_deck(config.seed)
    retained = round(config.batch_size * config.retain_share)
    harmful = config.batch_size - retained

    def batch_of(step: int) -> Batch:
        encoded = []
        for k in range(step * harmful, (step + 1) * harmful):
            encoded.append(encode_harmful(tokenizer, irrelevant(k)))
        for k in range(step * retained, (step + 1) * retained):
            row = benign(k)
            # A cached reply was cut at a sentence: the model would have gone on.
            encoded.append(encode_pair(tokenizer, row["prompt"], row["response"], finished=False))
        return collate(encoded, tokenizer.pad_token_id)

    return training.finish(training.minimise(batch_of, pair_loss))


register(CARD, SDDConfig, train, starts_from="aligned")
