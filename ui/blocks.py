"""Thin makers of Gradio components, so that every tab makes them the same way."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from ui import poses
from ui.markup import scroller

if TYPE_CHECKING:
    import numpy as np

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""For events that are the page's own business; the public endpoints are in `ui.api`."""

QUIET: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
"""The same, without Gradio's own progress animation."""

_PICK = """
const mark = () => {
  for (const button of element.querySelectorAll('button[aria-pressed]')) {
    const here = button.dataset.pick === props.value;
    button.setAttribute('aria-pressed', String(here));
    const list = button.parentElement, top = button.offsetTop - list.offsetTop;
    if (here && (top < list.scrollTop || top > list.scrollTop + list.clientHeight - 60)) {
      list.scrollTop = top - 40;
    }
  }
};
element.addEventListener('click', (event) => {
  const chosen = event.target.closest('button[data-pick]');
  if (chosen) trigger('select', { pick: chosen.dataset.pick });
});
watch('value', mark); mark();
"""


_COUNT = """(text) => {
  const most = %(most)d, long = (text ?? '').length, told = (n) => n.toLocaleString('en');
  if (long < 0.9 * most) return '';
  const rest = long > most ? ': too long to send. Shorten it.' : '';
  return `<p class="hf-small${rest && ' hf-over'}" role="status">${told(long)} of ${told(most)} ` +
    `characters${rest}</p>`;
}"""


class Count(gr.Slider):
    """A slider that takes what stands in its number box while somebody types there.

    Gradio refuses a number below the least one with an error for every digit; here it is refused
    with words, where it is used.
    """

    is_template = True  # to Gradio's page it is a slider like any other

    def preprocess(self, payload: float | None) -> float:
        """Return the number, 0 for an empty box."""
        return payload or 0


def markup(value: str = "", **kwargs: Any) -> gr.HTML:
    """Make a piece of HTML without Gradio's prose styles and without a script.

    Args:
        value: the HTML; all text in it must be escaped already.
        kwargs: as for `gr.HTML`.
    """
    return gr.HTML(value, **({"js_on_load": None, "apply_default_css": False} | kwargs))


def counted(box: gr.Textbox, most: int) -> None:
    """Say below a text box, while somebody writes there, how near its limit the text is.

    Such a box has no ``max_length``: with it the browser cuts what is pasted, without a word.

    Args:
        box: made in the current layout; whoever takes its text refuses what is too long.
        most: characters that are taken.
    """
    said = markup()
    for event in (box.input, box.change):
        event(None, box, said, js=_COUNT % {"most": most}, **PRIVATE)


def heading(text: str) -> gr.HTML:
    """Make a heading of a side panel."""
    return markup(f'<h3 class="hf-h">{html.escape(text)}</h3>')


def picker(value: str = "", **kwargs: Any) -> gr.HTML:
    """Make HTML whose buttons with ``data-pick`` trigger ``select``, with ``event.pick``.

    Args:
        value: the HTML; all text in it must be escaped already.
        kwargs: as for `gr.HTML`.
    """
    return markup(value, js_on_load=_PICK, **kwargs)


def pose_picker(chosen: str, **kwargs: Any) -> gr.HTML:
    """Make the library of poses as buttons with thumbnails; the value is the chosen clip's name.

    Args:
        chosen: name of a clip; an empty one marks none.
        kwargs: as for `gr.HTML`.
    """
    buttons = "".join(
        f'<button type="button" data-pick="{html.escape(name)}" aria-pressed="false">'
        f'<img src="{_thumbnail(name)}" alt="" width="96" height="96" loading="lazy">'
        f"<span>{html.escape(poses.title(name))}</span></button>"
        for name in poses.library()
    )
    template = f'<div class="hf-poses" role="group" aria-label="Pose library">{buttons}</div>'
    return picker(chosen, html_template=template, **kwargs)


def strip(pictures: Sequence[np.ndarray], side: int) -> str:
    """Return pictures, RGB uint8 [N, H, W, 3], side by side as one data address.

    Args:
        pictures: at least one.
        side: of each, in pixels.
    """
    row = Image.new("RGB", (side * len(pictures), side))
    for at, picture in enumerate(pictures):
        row.paste(Image.fromarray(picture).resize((side, side)), (at * side, 0))
    return data_address(row, quality=85)


def strip_html(address: str, words: str) -> str:
    """Return a strip of pictures with words above it; it scrolls sideways by itself.

    Args:
        address: of `strip`.
        words: plain text.
    """
    words = html.escape(words)
    return (
        f'<figure class="hf-strip"><figcaption>{words}</figcaption>'
        f'{scroller(f"""<img src="{html.escape(address)}" alt="{words}">""", words)}</figure>'
    )


def data_address(picture: Image.Image, quality: int) -> str:
    """Return a picture as a WEBP data address, of a quality of 0..100."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _thumbnail(name: str) -> str:
    return data_address(poses.thumbnail(name), quality=70)
