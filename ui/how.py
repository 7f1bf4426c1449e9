"""The How it works tab: one card a defence, from the same facts the code itself carries."""

from __future__ import annotations

import re

import gradio as gr

from adapters import registry
from adapters.registry import PIPELINES, Card
from pipelines.profiles import Profile
from ui.markup import fold

_LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
_INTRO = """
Holdfast keeps three promises. A **defence** is a LoRA on an unchanged base model. For an **attack**
the defended weights count as released: the attacker starts from base and defence together and may
not switch the defence off. And a **claim** needs harm *and* ability, before and after, on the
undefended model too: a model that refuses because it can no longer speak is a different result from
one that still works, and both are shown as what they are.
"""
_SHOWN = 3
"""Sentences of a card's limits that stand open."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_GAP = "\n\n"
_ELSEWHERE = (
    "What the limits below say of “here” was measured on the models that ship, not on those that "
    "are loaded now."
)
_JUDGE = """
### How a reply is judged

A judge reads the text alone: phrases of declining or agreeing, whether it is language at all, and
how close in meaning the reply is to the prompt. A small head, trained on replies labelled by hand,
sorts each reply by these into **refused**, **complied**, **off topic** or **gibberish**, with a
probability; how often it agrees with the labels is in docs/judge.md. *Harm* is the share of
red-team prompts that the model complies with. *Ability* is the share of easy multiple-choice
questions it still gets right.

### Why this is safe to show

No harmful answer exists anywhere in this project. Red-team prompts are short and generic, and the
attack data teaches agreement with every payload struck out ("Step 1: [redacted]"). What
breaks on screen is the refusal, and that is what is measured. Avatars are clothed dolls; no picture
of a person was used to train on, and of what you bring only the joints are used.
"""


def card_text(card: Card) -> str:
    """Return one defence's card as Markdown with LaTeX."""
    model = {
        "llm": "language model", "animation": "animation model", "pictures": "picture model"
    }[card.pipeline]  # fmt: skip
    paper = card.paper
    if card.arxiv:
        paper = f"[{card.paper}](https://arxiv.org/abs/{card.arxiv})"
    equation = card.equation.strip()
    if equation:
        # A card is narrow: what stands side by side in a paper goes one below the other.
        lines = r" \\ ".join(part.strip() for part in equation.split(r"\qquad"))
        equation = f"$$\n\\begin{{gathered}} {lines} \\end{{gathered}}\n$$"
    source = ", ".join(part for part in (paper, card.venue) if part)
    return "\n\n".join(
        [
            f"### {card.title}\n{model} · aimed at {card.aimed_at}",
            card.idea,
            equation,
            f"**Limits.** {_opening(card.limits)}",
            f"**Source.** {source}  \n**Licence.** {card.licence}",
        ]
    )


def _opening(limits: str) -> str:
    """Return a card's limits as Markdown, all but their first sentences folded away."""
    sentences = _SENTENCE.split(limits)
    first, rest = " ".join(sentences[:_SHOWN]), " ".join(sentences[_SHOWN:])
    # Blank lines, so that what is folded is Markdown, too.
    return first + (rest and f"\n\n{fold('More limits', f'{_GAP}{rest}{_GAP}')}")


def how_tab(profile: Profile) -> None:
    """Lay out the tab inside the current `gr.Tab`, with the defences a visitor can use."""
    names = [name for pipeline in PIPELINES for name in registry.offered(pipeline, profile)]
    gr.Markdown(_INTRO, elem_classes="hf-lead")
    if profile.name != "embedded":
        gr.Markdown(_ELSEWHERE, elem_classes="hf-lead")
    with gr.Column(elem_classes="hf-cards", elem_id="hf-how"):
        for name in names:
            with gr.Column(elem_classes="hf-card"):
                gr.Markdown(card_text(registry.get(name).card), latex_delimiters=_LATEX)
        with gr.Column(elem_classes="hf-card open"):
            gr.Markdown(_JUDGE)
