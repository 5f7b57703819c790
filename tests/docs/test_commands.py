"""Every command of the documentation works as it is written.

A page's commands share a workspace and run in their order, inline and untracked where they do not
say otherwise. `RUN` stands for the key of a run, as it does for the reader.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from flows.cli import app
from flows.compose import compose_experiment, compose_optimisation
from tests.docs.pages import (
    LEFT_ALONE,
    PAGES,
    ROOT,
    SHELLS,
    Block,
    Command,
    blocks_of,
    commands_of,
    name_of,
    shell_lines,
)
from tests.program import Program

QUICK = ("executor=inline", "tracking=off")
FIRST = 4
"""How many commands of the README every run of the tests executes."""
WITH_PLUGINS = ("own-detector.md", "own-adversary.md", "own-traffic.md")
"""Pages about an example package: tests/plugins composes their commands where it is installed."""
README = ROOT / "README.md"
COMMANDS = [c for page in PAGES if page.name not in WITH_PLUGINS for c in commands_of(page)]
RUN_PAGES = [p for p in PAGES if any(command.block.is_run for command in commands_of(p))]


def follow(program: Program, commands: Sequence[Command]) -> list[str]:
    """Run commands one after the other; each must end with exit code 0. Return what they say."""
    told = []
    for command in commands:
        words = [_run_key(program) if word == "RUN" else word for word in command.words]
        if words[0] in ("run", "optimise") and "--dry-run" not in words:
            chosen = [word for word in QUICK if not _is_chosen(word, words)]
            words += chosen
        done = program.run(*words)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{command}:\n{done.stderr}"
        told.append(done.stdout)
    return told


def _is_chosen(override: str, words: Sequence[str]) -> bool:
    return any(word.startswith(override.split("=")[0] + "=") for word in words)


def _run_key(program: Program) -> str:
    with closing(sqlite3.connect(program.workspace / "ledger.db")) as database:
        key: str = database.execute("SELECT run_key FROM run ORDER BY id").fetchone()[0]
    return key[:12]


def test_first_commands_of_the_readme_lead_to_its_verdict(program: Program) -> None:
    first = [command for command in commands_of(README) if command.block.is_run][:FIRST]
    assert [command.words[0] for command in first] == ["run", "run", "compare", "verify"]
    told = " ".join(follow(program, first)[2].split())
    verdicts = re.findall(r"^• (share-0\.2 against .+)$", README.read_text("utf-8"), re.MULTILINE)
    assert "benign_blocked_share is worse" in verdicts[0]
    for verdict in verdicts:
        assert verdict in told


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES, ids=name_of)
def test_all_commands_of_a_page_work(
    page: Path, program: Program, request: pytest.FixtureRequest
) -> None:
    if "QUORUMLAB_DATA" in page.read_text("utf-8") and "how-to" in page.parts:
        program.environment["QUORUMLAB_DATA"] = str(request.getfixturevalue("data_folder"))
    if "QUORUMLAB_LEDGER_URL" in page.read_text("utf-8"):
        program.environment["QUORUMLAB_LEDGER_URL"] = request.getfixturevalue("postgres").create()
    commands = commands_of(page)
    for block in blocks_of(page):
        if block.language == "python" and block.is_run:
            run_python(block, program)
        elif block.is_run:
            follow(program, [command for command in commands if command.block == block])


def run_python(block: Block, program: Program) -> None:
    """Run a Python block in the folder that the page's commands were run in."""
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=program.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{block}:\n{done.stderr}"
    assert done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command_exists_and_its_configuration_composes(command: Command) -> None:
    name, *words = command.words
    names = {info.name or info.callback.__name__ for info in app.registered_commands}
    assert name in names | {group.name for group in app.registered_groups}
    if name == "run":
        overrides = [word for word in words if not word.startswith("-")]
        config, _ = compose_experiment(overrides, multirun="-m" in words)
        assert config.simulation.steps > 0
    if name == "optimise":
        assert compose_optimisation(words).optimise.factors


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_not_run_is_marked(page: Path) -> None:
    for block in blocks_of(page):
        if block.language not in SHELLS or not block.is_run:
            continue
        for words in shell_lines(block):
            first = words[0]
            known = first in LEFT_ALONE or first.removeprefix(".venv/bin/") == "quorumlab"
            assert known, f"{block}: no test runs {' '.join(words)!r}, and no mark says why"
