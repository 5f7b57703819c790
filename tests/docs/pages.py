"""The pages of the documentation: their code blocks, commands, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SHELLS = ("bash", "console")
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
LEFT_ALONE = ("make", "source", "export", ".venv/bin/python")
"""First words of lines that are no command of the program, and need no mark."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    is_run: bool
    """Not marked as one that cannot be run."""

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What a reader types after `quorumlab`."""

    block: Block
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block}: {shlex.join(self.words)}"


def name_of(page: Path) -> str:
    """Return a page's path in the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    lines = page.read_text("utf-8").splitlines()
    start, mark = None, ""
    for number, line in enumerate(lines):
        if start is not None:
            if line.strip() == "```":
                text = "\n".join(lines[start + 1 : number])
                language = lines[start].removeprefix("```").strip()
                is_run = NOT_RUN.fullmatch(mark) is None
                yield Block(page, start + 1, language, text, is_run)
                start, mark = None, ""
        elif line.startswith("```"):
            start = number
        elif line.strip():
            mark = line.strip()
    assert start is None, f"{name_of(page)}: the block of line {start} does not end"


def shell_lines(block: Block) -> list[list[str]]:
    """Return what is typed in a shell block, continued lines joined, as words."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        prompts = [line for line in text.splitlines() if line.startswith("$ ")]
        text = "\n".join(line.removeprefix("$ ") for line in prompts)
    words = (shlex.split(line, comments=True) for line in text.splitlines())
    return [found for found in words if found]


def commands_of(page: Path) -> list[Command]:
    """Return the program's commands in a page's shell blocks, in order, run or not."""
    return [
        Command(block, tuple(words[1:]))
        for block in blocks_of(page)
        if block.language in SHELLS
        for words in shell_lines(block)
        if words[0].removeprefix(".venv/bin/") == "quorumlab"
    ]


def text_of(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def links_of(page: Path) -> list[str]:
    """Return the targets of all links and images."""
    return re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text_of(page))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}
