"""Where profiles are kept: a folder each, with pages, figures and a report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sim_core.jobs import Attachment
from sim_core.workspace import write_whole
from tasks.profiles.figures import MemoryFigures, Profile, Subject, TimeFigures
from tasks.profiles.findings import findings_of
from tasks.profiles.report import as_html, as_markdown

PROFILE = "profile.json"


class ProfileFolder:
    """Writes what workers attach: each profile into a folder of its own, as soon as it is there."""

    def __init__(
        self, folder: Path, subject_of: Callable[[str], Subject], name: str | None = None
    ) -> None:
        """Keep profiles in folders `name`, or the start of the run's key, below `folder`."""
        self.folder = folder
        self._subject_of, self._name = subject_of, name
        self._profiles: dict[str, Profile] = {}
        self._lock = threading.Lock()

    def add(self, attachment: Attachment) -> None:
        """Write a page, or figures and what they mean.

        Raises:
            FileUnwritten: the disk is full or broken, or the folder cannot be written.
        """
        name = self._name or attachment.run_key[:12]
        if not attachment.name.endswith(".json"):
            write_whole(self.folder / name / attachment.name, attachment.content)
            return
        with self._lock:
            profile = self._profiles.get(name) or Profile(
                name, time.time(), self._subject_of(attachment.run_key)
            )
            self._profiles[name] = profile = completed(profile, attachment)
            write_profile(profile, self.folder / name)

    def profiles(self) -> list[Profile]:
        """Return what is there so far."""
        with self._lock:
            return list(self._profiles.values())


def completed(profile: Profile, attachment: Attachment) -> Profile:
    """Return a profile with the figures that an attachment brings, and what they all mean."""
    seconds, memory = profile.time, profile.memory
    if attachment.name == "time.json":
        seconds = msgspec.json.decode(attachment.content, type=TimeFigures)
    else:
        memory = msgspec.json.decode(attachment.content, type=MemoryFigures)
    return msgspec.structs.replace(
        profile, time=seconds, memory=memory, findings=findings_of(seconds, memory)
    )


def write_profile(profile: Profile, folder: Path) -> None:
    """Write figures and report."""
    write_whole(folder / PROFILE, msgspec.json.format(msgspec.json.encode(profile), indent=1))
    write_whole(folder / "report.md", as_markdown(profile))
    write_whole(folder / "report.html", as_html(profile))


def read_profiles(workspace: Path) -> tuple[list[Profile], list[Path]]:
    """Return all profiles of a workspace, the oldest first, and the files that are none.

    Those of `quorumlab profile` are in profiles/, those of experiments in their folders.
    """
    found: list[Profile] = []
    broken: list[Path] = []
    for path in _files(workspace):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Profile))
        except (OSError, msgspec.DecodeError):
            broken.append(path)
    return sorted(found, key=lambda profile: profile.created), broken


def _files(workspace: Path) -> Sequence[Path]:
    patterns = (f"profiles/*/{PROFILE}", f"experiments/*/profiles/*/{PROFILE}")
    return [path for pattern in patterns for path in sorted(workspace.glob(pattern))]
