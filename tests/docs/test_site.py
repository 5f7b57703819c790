"""The documentation builds as a site without warnings, is complete, and loads nothing from elsewhere."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT
from tests.docs.test_reference import DOCS, load

LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)\"")
STYLES = re.compile(r"<link\b[^>]*\brel=\"(?:stylesheet|preconnect|icon)\"[^>]*>")
AT_ROOT = {
    "README.md": "project/readme.html",
    "CHANGELOG.md": "project/changelog.html",
    "CONTRIBUTING.md": "project/contributing.html",
    "SECURITY.md": "project/security.html",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--config-file",
            "deployments/mkdocs.yml",
            "--site-dir",
            str(folder),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        built = AT_ROOT.get(name, name.removeprefix("docs/").removesuffix(".md") + ".html")
        assert (site / built.replace("README.html", "index.html")).is_file(), name


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        places = [*LOADED.findall(text), *STYLES.findall(text)]
        assert places
        assert not [place for place in places if "//" in place], page.name
        assert 'class="mermaid"' not in text  # its script would be
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", style.read_text("utf-8"))


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        for link in re.findall(r"<a\b[^>]*\bhref=\"([^\"#]+)", page.read_text("utf-8")):
            if "://" not in link and not link.startswith("mailto:"):
                assert (page.parent / link).exists(), f"{page.relative_to(site)}: {link}"


def test_programs_and_templates_are_no_pages(site: Path) -> None:
    assert not [*site.rglob("*.py"), *site.rglob("*.jinja")]


def test_reference_of_python_has_the_docstrings(site: Path) -> None:
    text = (site / "reference" / "api.html").read_text("utf-8")
    assert "Return what an experiment of a workspace has found so far." in text
    names = re.findall(r"^::: (\S+)$", (DOCS / "reference" / "api.md").read_text("utf-8"), re.M)
    assert len(names) > 15
    for name in names:
        assert f'id="{name}"' in text


def test_examples_of_the_hooks_hold() -> None:
    found = doctest.testmod(load("site_hooks"))
    assert found.attempted > 3
    assert found.failed == 0
