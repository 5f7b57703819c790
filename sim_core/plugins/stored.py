"""Plug-ins in what a ledger has stored, which may outlive the packages that they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sim_core.plugins.loading import built_in, load
from sim_core.plugins.offers import ENTRY_POINTS

PLUGINS = "plugins"
"""Where the stored configuration of a run has what its plug-ins are."""


def demand_plugins(config: Mapping[str, Any]) -> None:
    """Return if all plug-ins that stored sections name can be used.

    Raises:
        ConfigurationError: one is not installed, or cannot be used.
    """
    for group, section in _sections(config):
        kind = section.get("kind")
        if isinstance(kind, str) and kind not in built_in(group):
            load(group, kind)


def without_plugins(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's stored configuration as far as its ledger can be read without its plug-ins.

    Detectors and traffic have no say in how votes are counted. Of an adversary it is kept how many lie,
    which decides who does.

    >>> without_plugins({"detector": {"kind": "mine"}, "topology": {"kind": "ring"}, "plugins": {}})
    {'topology': {'kind': 'ring'}}
    """
    if PLUGINS not in config:
        return dict(config)
    found = {
        key: part
        for key, part in config.items()
        if key != PLUGINS and (key not in ("detector", "traffic") or part["kind"] in built_in(key))
    }
    if "adversary" in found:
        found["adversary"] = _any_liar(found["adversary"])
    if "intervention" in found:
        change = found["intervention"]
        found["intervention"] = change | {"adversary": _any_liar(change["adversary"])}
    return found


def _any_liar(section: dict[str, Any] | None) -> dict[str, Any] | None:
    if section is None or section["kind"] in built_in("adversary"):
        return section
    return {"kind": "silent", "share": section["share"], "count": section["count"]}


def _sections(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield group and section of what may be a plug-in's."""
    change = config.get("intervention")
    found = [(group, config.get(group)) for group in ENTRY_POINTS]
    found.append(("adversary", change.get("adversary") if isinstance(change, dict) else None))
    yield from ((group, section) for group, section in found if isinstance(section, dict))
