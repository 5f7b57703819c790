"""Chromium, as it is installed on this machine: the tests bring no browser of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, ViewportSize, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_INSTALL = (
    "Chromium is not installed (Debian: apt-get install chromium); where it has another name, "
    "set CHROMIUM to its path"
)
SIZE = ViewportSize(width=1280, height=800)
HIGHER = ViewportSize(width=1280, height=950)
PATIENCE_SECONDS = 120.0
"""For what a page is to show, on a busy machine."""


def find_chromium() -> str | None:
    """Return the path of the browser: what CHROMIUM names, or what is in PATH; or None."""
    named = os.environ.get("CHROMIUM")
    found = (shutil.which(name) for name in ([named] if named else PROGRAMS))
    return next((path for path in found if path), None)


@contextmanager
def opened_page(path: str) -> Iterator[Page]:
    """Give an empty page of a new browser without a past; it is closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            context = browser.new_context(
                viewport=SIZE,
                locale="en-GB",
                timezone_id="UTC",
                color_scheme="light",
                reduced_motion="reduce",
            )
            context.set_default_timeout(1000 * PATIENCE_SECONDS)
            yield context.new_page()
        finally:
            browser.close()
