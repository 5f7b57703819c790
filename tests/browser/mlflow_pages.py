"""MLflow's list of runs as people use it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from playwright.sync_api import Locator, Page, expect


class RunsPage:
    """The list of an experiment's runs."""

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        assistant = page.get_by_text("Ask questions about your experiments")
        page.add_locator_handler(assistant, self._close_assistant)
        page.goto(address)
        expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()

    def _close_assistant(self) -> None:
        """Close the panel that a browser without a past sees, and that takes a third of the page."""
        self._page.get_by_role("button", name="Close").last.click()

    def run(self, name: str) -> Locator:
        """Return the link to a run."""
        return self._page.get_by_role("link", name=name, exact=True)

    def expand(self, name: str) -> None:
        """Show the children of a run."""
        cell = self._page.get_by_role("gridcell").filter(has=self.run(name))
        cell.get_by_role("button").first.click()

    def change_columns(self, *, hidden: Sequence[str], shown: Sequence[str]) -> None:
        """Hide columns, and show metrics and parameters, which are hidden at first."""
        self._page.get_by_role("button", name="Columns").click()
        search = self._page.get_by_placeholder("Search columns")
        for name in (*hidden, *shown):
            search.fill(name)
            titles = self._page.locator("[class*=tree-title]")
            titles.filter(has_text=re.compile(rf"^{re.escape(name)}$")).click()
        search.press("Escape")
        expect(search).to_have_count(0)
        for name in shown:
            header = self._page.get_by_role("columnheader", name=name, exact=True)
            expect(header.first).to_be_visible()
