"""Chromium, driven by Playwright, for the tests that look at the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")

WAIT = 240_000  # ms; a shared machine can be slow
sync_api.expect.set_options(timeout=WAIT)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
HAS_CHROMIUM = Path(CHROMIUM).exists()
NO_CHROMIUM = "needs Chromium (Debian: apt-get install chromium)"
needs_chromium = pytest.mark.skipif(not HAS_CHROMIUM, reason=NO_CHROMIUM)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync "
    "--use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
).split()


@contextmanager
def launched() -> Iterator[sync_api.Browser]:
    """Start Chromium for as long as the context lasts."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(url: str, **options: Any) -> Iterator[sync_api.Page]:
    """Open the app's page in a Chromium of its own.

    Args:
        url: of the app.
        options: of the page, see `sync_api.Browser.new_page`.
    """
    with launched() as browser:
        page = browser.new_page(**options)
        page.set_default_timeout(WAIT)
        open_page(page, url)
        yield page


def open_page(page: sync_api.Page, url: str) -> None:
    """Go to the app's page and wait until a pair can be made."""
    page.goto(f"{url}?__theme=light", wait_until="domcontentloaded")
    page.wait_for_selector("#hf-generate")
    sync_api.expect(page.locator("#hf-loading-animate")).to_be_hidden()


def tab(page: sync_api.Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name).click()
