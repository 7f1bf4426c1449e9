"""The cards of How it works: what fits, and what is folded away."""

from __future__ import annotations

from dataclasses import replace

from adapters import registry
from ui.how import card_text

CARD = registry.get("sdd").card


def test_an_equation_is_broken_where_it_may_be():
    text = card_text(replace(CARD, equation=r"a = b,\qquad c = d"))
    assert "$$\n\\begin{gathered} a = b, \\\\ c = d \\end{gathered}\n$$" in text
    assert "$" not in card_text(replace(CARD, equation=""))


def test_long_limits_are_folded_after_three_sentences():
    limits = "One is 0.25 of it. Two, as docs/judge.md tells. Is it three? Four. Five."
    opened, _, folded = card_text(replace(CARD, limits=limits)).partition("<details")
    assert opened.endswith("Two, as docs/judge.md tells. Is it three?\n\n")
    assert "<summary>More limits</summary>\n\nFour. Five.\n\n</details>" in folded
    assert "<details" not in card_text(replace(CARD, limits="One. Two. Three."))
