"""A real browser, a folder for its pictures, and the services of a workspace of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import HOW_TO_INSTALL, PATIENCE_SECONDS, find_chromium, opened_page
from tests.program import Program

ROOT = Path(__file__).parents[2]
MOST_BYTES = 150_000


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the browser's path; where it is not installed tests skip, and fail where CI=true."""
    path = find_chromium()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    return path


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    """Return an empty page of a browser of its own."""
    expect.set_options(timeout=1000 * PATIENCE_SECONDS)
    with opened_page(chromium) as made:
        yield made


@pytest.fixture
def picture(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Return a function from a name to a picture of what the page shows.

    Pictures go to the test's folder, and to the one that QUORUMLAB_SCREENSHOTS names.
    """
    wanted = os.environ.get("QUORUMLAB_SCREENSHOTS")
    folders = [tmp_path / "pictures", *([ROOT / wanted] if wanted else [])]

    def take(name: str) -> None:
        page.mouse.move(0, 799)  # nothing is pointed at
        page.evaluate("() => document.fonts.ready.then(() => true)")
        picture = page.screenshot(animations="disabled", caret="hide")
        assert len(picture) < MOST_BYTES, name
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.png").write_bytes(picture)

    return take


@pytest.fixture
def program(chromium: str, tmp_path: Path) -> Iterator[Program]:
    """Return the program in a workspace of its own, whose services are stopped at the end."""
    del chromium  # without it nothing is started
    made = Program(tmp_path, {"PREFECT_WORKER_QUERY_SECONDS": "1"})
    yield made
    made.run("down")
    made.stop_all()
