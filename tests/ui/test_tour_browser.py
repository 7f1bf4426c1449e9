"""Where the tour leaves the page: what it shows is in sight, also once it has grown."""

from __future__ import annotations

import re

import pytest

from tests.ui.browser import needs_chromium, opened, sync_api

pytestmark = needs_chromium


@pytest.fixture
def page(served):
    with opened(served.url, viewport={"width": 1440, "height": 900}) as page:
        page.locator(".hf-tour-start").click()
        yield page


def top(page, selector):
    return page.locator(selector).last.bounding_box()["y"]


def test_replies_stay_in_sight_as_they_are_written_until_the_visitor_scrolls(page):
    expect, where = sync_api.expect, page.locator(".hf-tour-where")
    while "Chat" not in where.inner_text():
        page.locator("[data-tour=next]").click()
    words = page.locator(".hf-tour-says")
    expect(words).to_be_visible()
    page.locator("[data-tour=show]").click()
    expect(page.locator("[role=status]", has_text="Running: watch")).to_be_visible()
    expect(words).to_be_hidden()  # they make room
    page.locator("[data-tour=read]").click()
    expect(words).to_be_visible()
    expect(page.locator(".hf-turn .hf-badge").first).to_be_visible()
    expect(page.locator("#hf-send")).to_be_enabled()
    page.wait_for_timeout(500)  # Gradio follows the conversation a moment later
    assert 0 <= top(page, ".hf-turn") < 60
    # Not every browser keeps the place by itself when something above grows.
    style = "* { overflow-anchor: none !important } .hf-head { margin-top: 300px !important }"
    page.add_style_tag(content=style)
    page.wait_for_timeout(300)
    assert 0 <= top(page, ".hf-turn") < 60
    page.mouse.move(700, 300)
    page.mouse.wheel(0, -200)
    page.wait_for_timeout(300)
    left = page.evaluate("scrollY")
    page.evaluate("document.querySelector('#hf-talk').style.minHeight = '2000px'")
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") == left


def test_an_attack_on_the_guard_is_begun_where_none_is_recorded(page):
    expect = sync_api.expect
    for _ in range(2):
        page.locator("[data-tour=next]").click()
    expect(page.locator(".hf-tour h2")).to_have_text("And if somebody trains on")
    expect(page.locator("#hf-removal-go")).to_be_hidden()
    spot, dock = page.locator(".hf-tour-spot"), page.locator(".hf-tour")
    expect(spot).to_have_id("hf-guard-attack")
    box = spot.bounding_box()
    assert box["y"] + box["height"] <= dock.bounding_box()["y"]
    for _ in range(2):  # once more, with the accordion open: it is not shut
        page.locator("[data-tour=show]").click()
        expect(page.locator("#hf-removal-go")).to_be_visible()
        said = page.locator("#hf-removal-said")
        expect(said).to_have_text(re.compile("Choose a knee|What finds the joints"))
