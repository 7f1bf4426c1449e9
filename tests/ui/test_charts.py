"""Charts: what they draw, and what they say to who cannot see them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from ui.charts import Series, chart


def test_a_chart_is_well_formed_and_says_its_values():
    drawn = chart(
        "Harm",
        "higher is worse",
        [
            Series("Aligned", "open", [(0, 0.0), (5, 0.5), (10, 1.0)]),
            Series("SDD", "held", [(0, 0.0), (5, 0.02), (10, 0.03)]),
        ],
        20,
        share=True,
    )
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])
    assert svg.get("aria-label") == "Harm: Aligned 100% at step 10; SDD 3% at step 10"
    assert len(svg.findall("polyline")) == 2


def test_the_labels_of_equal_values_stand_apart_and_above_the_axis_words():
    lines = [Series(name, name, [(0, 0.0)]) for name in ("open", "held")]
    drawn = chart("Harm", "", lines, 1, share=True, x_words={0: "before", 1: "after"})
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])
    heights = [float(text.get("y")) for text in svg.findall("text")
               if (text.get("class") or "").startswith("last")]  # fmt: skip
    words = next(float(text.get("y")) for text in svg.findall("text") if text.text == "before")
    assert max(heights) - min(heights) == 15 and max(heights) <= words - 15
    assert svg.get("aria-label") == "Harm: open 0% before; held 0% before"


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [1e-9, 3e4], [-2.0, 4.0]])
def test_a_chart_draws_any_values(values):
    points = list(enumerate(values))
    drawn = chart("Loss", "", [Series("a", "open", points, smooth=True)], len(values))
    assert "nan" not in drawn.lower()


def test_every_line_of_the_axis_lies_in_the_chart():
    points = [(step, value) for step, value in enumerate((-1.31, -1.2, 0.88))]
    drawn = chart("Reward", "", [Series("a", "open", points)], 3)
    svg = ElementTree.fromstring(drawn).find(".//svg")
    height = float(svg.get("viewBox").split()[3])
    across = [line for line in svg.iter("line") if line.get("y1") == line.get("y2")]
    assert len(across) >= 3
    assert all(0 <= float(line.get("y1")) <= height for line in across)


def test_a_smoothed_chart_says_so_and_a_diverged_line_is_seen():
    lines = [
        Series("Aligned", "open", [(1, 4.0), (2, 2.0)], smooth=True, diverged=3),
        Series("SDD", "held", [], smooth=True, diverged=1),
    ]
    drawn = chart("Loss", "", lines, 10)
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])
    label = next(text.text for text in svg.findall("text") if text.get("class") == "last open")
    assert label == "2.82"
    assert svg.get("aria-label") == (
        f"Loss: Aligned {label} smoothed at step 2; Aligned diverged at step 3; "
        "SDD diverged at step 1"
    )
    assert drawn.count("✕ diverged") == 2
