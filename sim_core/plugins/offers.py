"""Which plug-ins installed packages offer, without importing any of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

ENTRY_POINTS = {
    "detector": "quorumlab.detectors",
    "adversary": "quorumlab.adversaries",
    "traffic": "quorumlab.traffic",
}
"""From a group of the configuration to the group of entry points of its plug-ins."""


@dataclass(frozen=True)
class Offer:
    """An entry point for a plug-in."""

    group: str
    """Of the configuration: detector, adversary or traffic."""
    entry: EntryPoint

    @property
    def kind(self) -> str:
        """The kind that it adds to the group."""
        return self.entry.name

    @property
    def distribution(self) -> str:
        """The installed package that declares it."""
        dist = self.entry.dist
        return "an unknown package" if dist is None else dist.name

    def __str__(self) -> str:
        entry = f"{ENTRY_POINTS[self.group]}: {self.kind} = {self.entry.value}"
        return f"plug-in {self.group}={self.kind} of package {self.distribution} ({entry})"


@cache
def offers() -> tuple[Offer, ...]:
    """Return what is offered, by group and kind; the metadata of installed packages are read once."""
    found = entry_points()
    return tuple(
        Offer(group, entry)
        for group, name in ENTRY_POINTS.items()
        for entry in sorted(found.select(group=name), key=lambda e: (e.name, e.value))
    )


def offers_of(group: str, kind: str) -> list[Offer]:
    """Return who offers a kind: one, nobody, or several, which is one too many."""
    return [offer for offer in offers() if (offer.group, offer.kind) == (group, kind)]


def offered_kinds(group: str) -> list[str]:
    """Return the kinds that plug-ins add to a group of the configuration."""
    return sorted({offer.kind for offer in offers() if offer.group == group})
