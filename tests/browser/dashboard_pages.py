"""The dashboard's pages as people use them."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.browser.chromium import PATIENCE_SECONDS

DESKTOP = ViewportSize(width=1280, height=900)
PHONE = ViewportSize(width=390, height=844)
HIGHEST = 2_600
"""Of a picture, in pixels."""
AT_REST = """() => {
    const all = name => [...document.querySelectorAll(`[data-testid=${name}]`)];
    return all("stApp").some(app => app.dataset.testScriptState === "notRunning")
        && all("stSkeleton").length === 0
        && all("stPlotlyChart").every(plot => plot.querySelector(".main-svg"));
}"""
"""Asked of the page as it is at one moment: parts that are read again come and go."""
TITLES = ("Live", "Network", "Ledger", "Compare", "Benchmarks", "Advice", "Start")


class Dashboard:
    """A browser's window on the dashboard, which notes what it asks others for."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.foreign: list[str] = []
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.address, "ws://127.0.0.1", "data:", "blob:")):
            self.foreign.append(request.url)

    def open(self, title: str, *, phone: bool = False, dark: bool = False) -> None:
        """Open a page by its address, and wait until all of it is there."""
        self.page.set_viewport_size(PHONE if phone else DESKTOP)
        self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        self.page.goto(f"{self.address}/{'' if title == 'Live' else title.lower()}")
        expect(self.page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is being computed or drawn any more."""
        self.page.wait_for_function(AT_REST, timeout=1000 * PATIENCE_SECONDS)

    def expect_no_trouble(self) -> None:
        """Expect that nothing failed, and that nothing is wider than the window."""
        expect(self.page.get_by_test_id("stException")).to_have_count(0)
        expect(self.page.get_by_test_id("stAlertContentError")).to_have_count(0)
        wide = self.page.evaluate(
            "() => { const main = document.querySelector('[data-testid=stMain]');"
            " return main.scrollWidth - main.clientWidth }"
        )
        assert wide <= 0, f"{wide} pixels wider than the window"

    def grow(self) -> None:
        """Make the window as high as the page."""
        size = self.page.viewport_size
        assert size is not None
        height = self.page.evaluate(
            "() => document.querySelector('[data-testid=stMain]').scrollHeight"
        )
        self.page.set_viewport_size(
            ViewportSize(width=size["width"], height=min(int(height), HIGHEST))
        )
        self.settle()

    def tile(self, title: str) -> Locator:
        """Return what a tile says."""
        term = self.page.get_by_role("term").filter(has_text=re.compile(f"^{re.escape(title)}$"))
        return self.page.locator("dl > div").filter(has=term)

    def choose(self, label: str, option: str) -> None:
        """Choose from a list, with the keyboard alone."""
        field = self.page.get_by_role("combobox", name=re.compile(f"(^|\\b){re.escape(label)}"))
        field.focus()
        field.fill(option)
        expect(self.page.get_by_role("option").first).to_be_visible()
        field.press("Enter")
        self.settle()

    def slider(self, label: str) -> Locator:
        """Return what takes the keys of a slider; its name for screen readers begins with its label."""
        return self.page.get_by_role("slider", name=re.compile(f"^{re.escape(label)}"))

    def refresh_every(self, seconds: int) -> None:
        """Set how often live parts are read, with the keyboard alone."""
        slider = self.slider("Refresh every")
        slider.press("Home")
        for _ in range(seconds):
            slider.press("ArrowRight")
        expect(slider).to_have_value(str(seconds))
        self.settle()
