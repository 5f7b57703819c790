"""Links and pictures of the documentation lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors_of, links_of, name_of, text_of

MOST_BYTES = 150_000
ELSEWHERE = ("http://", "https://", "mailto:")

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@each_page
def test_relative_links_resolve(page: Path) -> None:
    for link in links_of(page):
        if link.startswith(ELSEWHERE):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}, which is not there"
        assert target.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors_of(target), f"{name_of(page)}: no heading for {link}"


@each_page
def test_page_is_reached_from_the_readme_or_the_index(page: Path) -> None:
    start = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    reached: set[Path] = set()
    while start:
        here = start.pop()
        if here in reached:
            continue
        reached.add(here)
        for link in links_of(here):
            target = (here.parent / link.partition("#")[0]).resolve()
            if not link.startswith(ELSEWHERE) and target.suffix == ".md":
                start.append(target)
    assert page in reached


@each_page
def test_page_has_one_title(page: Path) -> None:
    assert len(re.findall(r"^# .+$", text_of(page), flags=re.MULTILINE)) == 1


@each_page
def test_page_names_no_folder_of_one_machine(page: Path) -> None:
    found = re.search(r"(?<![\w.~])/(?:work|tmp|root|home|Users|var)/\S*", page.read_text("utf-8"))
    assert found is None, f"{name_of(page)} has {found}"


def test_pictures_are_modest_and_used() -> None:
    used = {(page.parent / link).resolve() for page in PAGES for link in links_of(page)}
    pictures = sorted((ROOT / "docs").rglob("*.png"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < MOST_BYTES
        assert picture in used
