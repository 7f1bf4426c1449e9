"""How Holdfast looks: colours, type and the style sheet, for a laptop and for a projector.

Two colours carry meaning on every tab: vermilion is the undefended side, kelp green the defended
one. They differ in lightness too, and line style or wording repeats what they say, so that the
app reads without colour. Type is the system's own: a stage has no network.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import gradio as gr
from gradio.themes.utils import sizes
from gradio.themes.utils.colors import Color

_KELP = Color(
    name="kelp",
    c50="#edf7f4", c100="#d3ece5", c200="#a8d9cd", c300="#74c0b0", c400="#3fa491", c500="#1c8876",
    c600="#0b6e60", c700="#0a584d", c800="#0b463e", c900="#0c3833", c950="#06211e",
)  # fmt: skip
_SAND = Color(
    name="sand",
    c50="#faf8f3", c100="#f3f0e8", c200="#e6e1d5", c300="#d3ccbc", c400="#a3a094", c500="#757870",
    c600="#55605b", c700="#3a4743", c800="#212d2a", c900="#151e1c", c950="#0d1413",
)  # fmt: skip
# Of what can be used: 3 : 1 against all that is behind it (WCAG 2.2, 1.4.11).
_EDGE, _EDGE_DARK = "#85847a", "#66777a"
STATIC = Path(__file__).parent / "static"
"""Style sheet, scripts and pictures of the page."""

LOGO = """<svg class="hf-logo" viewBox="0 0 48 48" aria-hidden="true" focusable="false">
<g fill="none" stroke="currentColor" stroke-width="3.4" stroke-linecap="round">
<path d="M24 4v15"/><path d="M24 12c5-1 8-4 9-8"/><path d="M24 17c-5-1-8-4-9-8"/>
<path d="M24 19c-1 7-9 7-14 14"/><path d="M24 19c0 8-5 9-6 16"/>
<path d="M24 19c0 8 5 9 6 16"/><path d="M24 19c1 7 9 7 14 14"/></g>
<path d="M5 44c2-8 9-10 19-10s17 2 19 10z" fill="currentColor" opacity=".3"/></svg>"""
"""A holdfast: the root-like grip with which kelp keeps to its rock."""


def theme() -> gr.themes.Base:
    """Return the Gradio theme, light and dark."""
    base = gr.themes.Base(
        primary_hue=_KELP,
        secondary_hue=_KELP,
        neutral_hue=_SAND,
        text_size=sizes.text_lg,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        font=("system-ui", "Segoe UI", "Helvetica Neue", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "monospace"),
    )
    return base.set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        body_text_color="#16211f",
        body_text_color_dark="#efeee7",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="#aab5b0",
        background_fill_primary="#fffdf9",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="#111917",
        border_color_primary="*neutral_300",
        border_color_primary_dark="#33413d",
        block_background_fill="#fffdf9",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="#cfd6d1",
        block_label_text_weight="600",
        block_title_text_weight="600",
        block_title_text_color="#16211f",
        block_title_text_color_dark="#efeee7",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="#aab5b0",
        block_shadow="none",
        input_background_fill="#ffffff",
        input_background_fill_dark="#0d1413",
        input_border_color=_EDGE,
        input_border_color_dark=_EDGE_DARK,
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_300",
        input_border_width="1px",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="#83908b",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_400",
        checkbox_border_color="#8b8d82",
        checkbox_border_color_dark="#6d7c77",
        checkbox_label_background_fill="#ffffff",
        checkbox_label_background_fill_dark="#0d1413",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="#10302b",
        checkbox_label_border_color_selected="*primary_600",
        checkbox_label_border_color_selected_dark="*primary_400",
        checkbox_label_border_width="1px",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_300",
        button_primary_background_fill_hover_dark="*primary_200",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#06211e",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_dark="#1d2825",
        button_secondary_background_fill_hover_dark="#2a3733",
        button_secondary_border_color=_EDGE,
        button_secondary_border_color_dark=_EDGE_DARK,
        button_cancel_background_fill="#ffffff",
        button_cancel_background_fill_dark="#1d2825",
        button_cancel_background_fill_hover="#fbe6dd",
        button_cancel_background_fill_hover_dark="#3b1d12",
        button_cancel_text_color="#a8330d",
        button_cancel_text_color_dark="#ff9a70",
        button_cancel_border_color="#c8441b",
        button_cancel_border_color_dark="#ff9a70",
        button_border_width="1px",
        button_large_text_weight="600",
        button_transition="background-color .15s ease, border-color .15s ease",
        slider_color="*primary_600",
        slider_color_dark="*primary_300",
        loader_color="*primary_600",
        loader_color_dark="*primary_300",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_visited="*primary_700",
        link_text_color_visited_dark="*primary_300",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="#10302b",
    )


@lru_cache(maxsize=1)
def css() -> str:
    """Return the style sheet."""
    return static("style.css") + static("joints.css")


@lru_cache(maxsize=1)
def head() -> str:
    """Return what goes into the page's head: a description and the keys of all tabs."""
    return (
        '<meta name="description" content="See a safety guardrail work, then try to break it.">'
        f"<script>{static('keys.js')}</script>"
    )


def static(name: str) -> str:
    """Return the text of a file of ``ui/static``."""
    return (STATIC / name).read_text(encoding="utf-8")
