"""Files that need not be made again: they are as they were left, and so is what they are made of."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from sim_core.identity import content_hash
from sim_core.workspace import write_whole

RECORD = "made.json"
PROGRAM = Path(__file__).resolve().parent.parent
SOURCES = ("flows", "tasks", "sim_core")
KINDS = ("*.py", "*.jinja")


class MadeFiles:
    """What has been made in a folder, and of what."""

    def __init__(self, folder: Path, origin: Any) -> None:
        """Files of this folder are made of `origin`, which JSON can say, by this very program."""
        self._folder = folder
        self._origin = content_hash([program_version(), origin])
        self.new: list[Path] = []
        """Files that have been made again and are not noted yet."""

    def are_current(self) -> bool:
        """Return whether the files are there, untouched, and made of the same."""
        try:
            record = json.loads((self._folder / RECORD).read_bytes())
            made_of, files = record["made_of"], dict(record["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        found = {name: _stamp(self._folder / name) for name in files}
        return bool(made_of == self._origin and files and found == files)

    def note(self) -> None:
        """Note what is new: it has come wherever it had to, and need not be made again."""
        if not self.new:
            return
        stamps = {str(path.relative_to(self._folder)): _stamp(path) for path in self.new}
        record = {"made_of": self._origin, "files": stamps}
        write_whole(self._folder / RECORD, json.dumps(record, indent=2) + "\n")


def _stamp(path: Path) -> list[int] | None:
    """Return size and time of change (nanoseconds since 1970); None where there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


@cache
def program_version() -> str:
    """Return the SHA-256 of this program's code and templates."""
    found = hashlib.sha256()
    for part in SOURCES:
        for path in sorted(chain.from_iterable(map((PROGRAM / part).rglob, KINDS))):
            found.update(f"{path.relative_to(PROGRAM)}\0".encode() + path.read_bytes())
    return found.hexdigest()
