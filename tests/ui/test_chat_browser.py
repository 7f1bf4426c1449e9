"""A question of the Chat tab that waits while the model answers two others, in a real browser."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from gradio_client.utils import Status

from tests.ui.browser import needs_chromium, opened, sync_api, tab
from tests.ui.conftest import script, wait_until

pytestmark = needs_chromium


@pytest.fixture
def page(served):
    with opened(served.url) as page:
        tab(page, "Chat")
        yield page


@pytest.fixture
def busy_model(served):
    """Two replies of others, which take both places until the model is released."""
    model = served.engines.chat._lock
    model.acquire()
    jobs = [
        script(served).submit("Hello", ["base"], api_name="/chat")
        for _ in range(2)
    ]
    wait_until(lambda: all(job.status().code is Status.PROCESSING for job in jobs))

    def release():
        model.release()
        for job in jobs:
            job.result()

    yield SimpleNamespace(release=release)
    if not all(job.done() for job in jobs):
        release()


def test_a_third_visitor_sees_their_question_wait_and_can_take_it_back(page, busy_model):
    expect = sync_api.expect
    send, stop = page.locator("#hf-send"), page.locator("#hf-chat-stop")
    box, turns = page.locator("#hf-message textarea"), page.locator(".hf-turn")

    def ask(text):
        box.fill(text)
        box.press("Enter")
        expect(turns.filter(has_text=text).locator(".hf-arm").first).to_contain_text(
            "Waiting for the model"
        )
        expect(box).to_have_value("")
        expect(send).to_be_disabled()
        expect(stop).to_be_enabled()

    ask("First")
    page.keyboard.press("Escape")
    expect(page.locator("#hf-chat-message")).to_contain_text("Stopped")
    expect(send).to_be_enabled()
    expect(box).to_have_value("First")
    expect(turns).to_have_count(0)
    ask("Second")
    box.fill("draft")
    box.press("Enter")  # one at a time: what is written stays
    page.get_by_role("button", name="Clear").click()
    expect(turns).to_have_count(0)
    expect(send).to_be_enabled()
    expect(stop).to_be_disabled()
    expect(box).to_have_value("draft")
    ask("Third")
    busy_model.release()
    expect(turns.locator("header .hf-badge")).to_have_count(turns.locator(".hf-arm").count())
    expect(page.locator(".hf-ask")).to_have_text("Third")
    expect(send).to_be_enabled()
    expect(stop).to_be_disabled()
    # What waited behind it has nothing to answer, and the next question is taken as ever.
    box.fill("Fourth")
    box.press("Enter")
    expect(page.locator(".hf-ask")).to_have_text(["Third", "Fourth"])
    expect(turns.nth(1).locator("header .hf-badge").first).to_have_text(re.compile("sure"))
    expect(send).to_be_enabled()


def test_a_reload_brings_the_conversation_back_and_clear_forgets_it(page, served):
    expect = sync_api.expect
    turns = page.locator(".hf-turn")
    page.locator("#hf-message textarea").fill("What is <b>bold</b>?")
    page.locator("#hf-send").click()
    expect(turns.locator(".hf-badge").first).to_be_visible()
    expect(page.locator("#hf-send")).to_be_enabled()
    said = turns.inner_text()
    page.wait_for_function("sessionStorage.getItem('holdfast-chat')?.length > 2")
    page.reload()
    tab(page, "Chat")
    expect(turns).to_have_count(1)
    assert turns.inner_text() == said and "<b>bold</b>" in said
    page.get_by_role("button", name="Clear").click()
    expect(turns).to_have_count(0)
    page.wait_for_function("sessionStorage.getItem('holdfast-chat') === null")
    page.reload()
    tab(page, "Chat")
    page.wait_for_function("document.body.dataset.arrived")
    expect(turns).to_have_count(0)


def test_what_is_too_long_is_kept_and_said_to_be(page):
    expect, box = sync_api.expect, page.locator("#hf-message textarea")
    said = page.get_by_text("characters", exact=False)
    text = "word " * 500
    box.fill("short")
    expect(said).to_have_count(0)
    box.fill(text[:1900])
    expect(said).to_have_text("1,900 of 2,000 characters")
    box.fill(text)
    expect(said).to_have_text("2,500 of 2,000 characters: too long to send. Shorten it.")
    expect(box).to_have_value(text)
    box.press("Enter")
    expect(page.locator("#hf-chat-message")).to_contain_text("is 2499 characters long")
    expect(box).to_have_value(text.strip())
    expect(page.locator(".hf-turn")).to_have_count(0)
