"""Prefect's pages as people use them: the form of a deployment, and the page of a run."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect


def log_in(page: Page, address: str, password: str) -> None:
    """Open Prefect's pages, which ask who is there."""
    page.goto(f"{address}/deployments")
    page.get_by_placeholder("admin:pass").fill(password)
    page.get_by_role("button", name="Login").click()
    expect(page).to_have_url(f"{address}/deployments")


class Form:
    """The form of a deployment, opened with the buttons that lead to it."""

    def __init__(self, page: Page, address: str, deployment: str) -> None:
        self._page = page
        page.goto(f"{address}/deployments")
        self.deployment = page.get_by_role("link", name=deployment, exact=True).first
        expect(self.deployment).to_be_visible()

    def open(self) -> None:
        """Open it: Run, Custom run."""
        self.deployment.click()
        self._page.get_by_role("button", name="Run", exact=True).click()
        self._page.get_by_role("button", name="Custom run").click()
        expect(self._page.get_by_role("heading", name="Parameters")).to_be_visible()
        expect(self._page.get_by_role("button", name="Submit")).to_be_enabled()

    def field(self, name: str) -> Locator:
        """Return a parameter with its help and what it is filled in with."""
        label = self._page.get_by_text(f"{name} (Optional)", exact=True)
        return self._page.locator(".p-label").filter(has=label).last

    def name_run(self, name: str) -> None:
        """Give the run a name in place of a random one."""
        self._page.get_by_role("textbox").first.fill(name)

    def write(self, name: str, value: str) -> None:
        """Fill in a text that is None so far."""
        self.field(name).get_by_role("button", name="str", exact=True).click()
        self.field(name).get_by_role("textbox").fill(value)

    def number(self, name: str, value: int) -> None:
        """Fill in a number that is None so far."""
        self.field(name).get_by_role("button", name="int", exact=True).click()
        self.field(name).get_by_role("spinbutton").fill(str(value))

    def add(self, name: str, *values: float) -> None:
        """Add numbers to a list."""
        numbers = self.field(name).get_by_role("spinbutton")
        for value in values:
            n = numbers.count()
            self.field(name).get_by_role("button", name="Add item").click()
            numbers.nth(n).fill(str(value))  # as soon as it is there

    def change_last(self, name: str, value: float) -> None:
        """Put another number in the place of a list's last one; return when the form has looked at it."""
        with self._page.expect_response(lambda answer: answer.url.endswith("/schemas/validate")):
            self.field(name).get_by_role("spinbutton").last.fill(str(value))

    def start_choice(self, name: str) -> None:
        """Let a choice that is None so far be one."""
        self.field(name).get_by_role("button", name="str", exact=True).click()

    def open_choices(self, name: str) -> None:
        """Show what there is to choose from, with the arrows at the right of the field."""
        self.field(name).locator(".p-select-button__icon").click()
        expect(self._page.get_by_role("option").first).to_be_visible()

    def choose(self, value: str) -> None:
        """Choose one of the choices that are shown."""
        self._page.get_by_role("option", name=value, exact=True).click()

    def close_choices(self) -> None:
        """Click beside them."""
        self._page.get_by_role("heading", name="Parameters").click()
        expect(self._page.get_by_role("option")).to_have_count(0)

    def submit(self) -> None:
        """Press the button."""
        self._page.get_by_role("button", name="Submit").click()


def open_tab(page: Page, name: str) -> Locator:
    """Open a tab of a run's page; return what it shows."""
    page.get_by_role("tablist").get_by_text(name, exact=True).click()
    panel = page.get_by_role("tabpanel", name=name)
    expect(panel).to_be_visible()
    return panel


def open_artifact(page: Page, key: str) -> None:
    """Open an artifact from the page of the run that has made it."""
    open_tab(page, "Artifacts").get_by_role("link").filter(has_text=key).click()
    expect(page.get_by_role("link", name=key, exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="Show raw data")).to_be_visible()


def scroll_to(place: Locator) -> None:
    """Scroll until a part of the page is at the upper edge."""
    place.evaluate("element => element.scrollIntoView()")
