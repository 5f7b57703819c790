"""The pages about plug-ins show the example package as it is, and commands that work with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim_core.contracts.checks import CHECKS
from tests.docs.pages import ROOT, blocks_of, commands_of, name_of
from tests.docs.test_commands import WITH_PLUGINS
from tests.plugins.installed import EXAMPLE, Installed

PAGES = [ROOT / "docs" / "how-to" / name for name in WITH_PLUGINS]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_of_a_page_is_that_of_the_example_package(page: Path) -> None:
    files = [
        path.read_text().strip() for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")
    ]
    shown = [block.text for block in blocks_of(page) if block.language in ("python", "toml")]
    assert shown
    assert [text for text in shown if text not in files] == []


def test_thirty_lines_are_thirty_lines() -> None:
    text = (EXAMPLE / "quorumlab_example" / "detector.py").read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 30


def test_commands_of_the_pages_compose_where_the_package_is_installed(installed: Installed) -> None:
    words = [c.words[1:] for page in PAGES for c in commands_of(page) if c.words[0] == "run"]
    assert len(words) > 4
    points = installed.answer(
        "from flows.compose import compose_experiment\n"
        f"found = [len(compose_experiment([w for w in words if w != '-m'], multirun='-m' in words)[1])\n"
        f"         for words in {words}]"
    )
    assert max(points) >= 4


def test_reference_has_every_check_with_what_it_says() -> None:
    text = (ROOT / "docs" / "reference" / "plugins.md").read_text()
    for check in {check for checks in CHECKS.values() for check in checks}:
        says = " ".join((check.__doc__ or "").split())
        assert f"| `{check.__name__.removeprefix('check_')}` | {says} |" in text
