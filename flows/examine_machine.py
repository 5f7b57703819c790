"""Whether program and machine are as they should be: versions, memory, disk."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from flows.finding import Finding
from tasks.describe_environment import describe_processor

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON = (3, 11)
GIGABYTE = 1 << 30
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 2 * GIGABYTE, GIGABYTE // 4
"""Free: what Ray and Prefect take together, and what `profile=edge` takes."""
LITTLE_DISK, TOO_LITTLE_DISK = 2 * GIGABYTE, GIGABYTE // 10
LISTED = 5
PINNED = re.compile(r"^[A-Za-z0-9._-]+==[^\\\n]+", re.MULTILINE)


def examine_program(checkout: Path = CHECKOUT) -> Iterator[Finding]:
    """Yield whether Python and libraries are those that the code is written for and tested with."""
    right = platform.python_version_tuple()[:2] == tuple(map(str, PYTHON))
    yield Finding(
        "Python",
        "ok" if right else "problem",
        f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "" if right else f"quorumlab needs Python {PYTHON[0]}.{PYTHON[1]}: make PYTHON=python3.11",
    )
    wrong = [text for demand in demands(checkout) if (text := unmet(demand))]
    n_demands = len(demands(checkout))
    yield Finding(
        "libraries that the code needs",
        "problem" if wrong else "ok",
        listed(wrong) if wrong else f"{n_demands} libraries in the versions that it is written for",
        "make setup" if wrong else "",
    )
    lock = checkout / "requirements.lock"
    if lock.is_file():
        pinned = PINNED.findall(lock.read_text("utf-8"))
        others = [text for demand in pinned if (text := unmet(demand))]
        yield Finding(
            "libraries that it is tested with",
            "warn" if others else "ok",
            listed(others) if others else f"{len(pinned)} as in requirements.lock",
            "make setup installs what requirements.lock says" if others else "",
        )


def demands(checkout: Path) -> list[str]:
    """Return what the project asks for: as pyproject.toml says, or the installed package."""
    path = checkout / "pyproject.toml"
    if path.is_file():
        found: list[str] = tomllib.loads(path.read_text("utf-8"))["project"]["dependencies"]
        return found
    return [text for text in requires("quorumlab") or [] if "extra ==" not in text]


def unmet(demand: str) -> str:
    """Return what is wrong with the version of a library; nothing where it is right.

    >>> unmet("numpy>=1"), unmet("no-such-library>=2")
    ('', 'no-such-library is missing (>=2)')
    """
    wanted = Requirement(demand)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return ""
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is missing ({wanted.specifier})"
    if wanted.specifier.contains(found, prereleases=True):
        return ""
    return f"{wanted.name} {found} ({wanted.specifier})"


def listed(texts: Iterable[str]) -> str:
    """Return the first texts, and how many more there are.

    >>> listed(["a", "b"]), listed("abcdefg")
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    found = list(texts)
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more


def examine_machine(workspace: Path) -> Iterator[Finding]:
    """Yield processors, memory, and the disk of a workspace, which may not be there yet."""
    usable = len(os.sched_getaffinity(0))
    yield Finding("processors", "ok", f"{usable} of {os.cpu_count()}, {describe_processor()}")
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIGABYTE:.1f} GB free of {memory.total / GIGABYTE:.1f} GB"
    yield enough(
        "memory",
        memory.available,
        LITTLE_MEMORY,
        TOO_LITTLE_MEMORY,
        found,
        "profile=edge needs a quarter of a gigabyte, and neither Ray nor a server",
    )
    yield examine_disk(workspace)


def examine_disk(workspace: Path) -> Finding:
    """Return whether a workspace, which may not be there yet, can be written and has room."""
    what = "disk of the workspace"
    place = next(path for path in (workspace, *workspace.parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        found = f"{place} {'cannot be written' if place.is_dir() else 'is no folder'}"
        return Finding(what, "problem", found, "choose another workspace, or make this one yours")
    disk = shutil.disk_usage(place)
    found = f"{disk.free / GIGABYTE:.1f} GB free of {disk.total / GIGABYTE:.1f} GB"
    advice = "make room, or choose another workspace; quorumlab clean removes what nobody needs"
    return enough(what, disk.free, LITTLE_DISK, TOO_LITTLE_DISK, found, advice)


def enough(what: str, free: int, little: int, too_little: int, found: str, advice: str) -> Finding:
    """Return whether there is enough of something.

    >>> [enough("disk", n, 10, 5, "", "make room").state for n in (10, 9, 4)]
    ['ok', 'warn', 'problem']
    """
    if free >= little:
        return Finding(what, "ok", found)
    return Finding(what, "warn" if free >= too_little else "problem", found, advice)
