"""Loading a plug-in: imported, looked at, and put into the registry of its group."""

from __future__ import annotations

import copyreg
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from sim_core.config.base import Frozen
from sim_core.config.explain import shortened, shown
from sim_core.errors import ConfigurationError, QuorumlabError
from sim_core.plugins.offers import ENTRY_POINTS, Offer, offered_kinds, offers_of
from sim_core.plugins.plugin import Plugin

KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
LONGEST_REASON = 300


@dataclass(frozen=True)
class Loaded:
    """A plug-in that can be used."""

    offer: Offer
    plugin: Plugin


@dataclass(frozen=True)
class _Group:
    """What is expected of the plug-ins of a group, and where they are put."""

    base: type[Frozen]
    protocol: type[Any]
    registry: dict[str, Callable[..., Any]]


class Absent(Frozen):
    """Settings of a plug-in that is not installed here, or is broken: whoever uses them is told."""

    kind: str


def _group(name: str) -> _Group:
    from sim_core.adversaries import ADVERSARIES, Adversary
    from sim_core.config import AdversaryBase, DetectorBase
    from sim_core.detectors import DETECTORS, Detector
    from sim_core.traffic import TRAFFIC, Traffic

    return {
        "detector": _Group(DetectorBase, Detector, DETECTORS),
        "adversary": _Group(AdversaryBase, Adversary, ADVERSARIES),
        "traffic": _Group(Frozen, Traffic, TRAFFIC),
    }[name]


@cache
def load(group: str, kind: str) -> Loaded:
    """Return the plug-in of a kind; from now on its group's registry has it.

    Raises:
        ConfigurationError: no package offers it, several do, or what is offered cannot be used.
    """
    found = offers_of(group, kind)
    if not found:
        here = ", ".join(offered_kinds(group)) or "none"
        raise ConfigurationError(
            f"{group}={shown(kind)}: no built-in kind, and no installed package offers it by an entry "
            f"point of the group {ENTRY_POINTS[group]} (offered: {here}). Install the package "
            "where experiments run"
        )
    if len(found) > 1:
        both = " and ".join(offer.distribution for offer in found)
        raise ConfigurationError(
            f"{group}={kind} is offered by {both}: which one is meant cannot be said. Uninstall one "
            "of them, or rename its entry point and kind"
        )
    return use(found[0])


def use(offer: Offer) -> Loaded:
    """Return what an entry point names, after it was looked at and put into the registry.

    Raises:
        ConfigurationError: it cannot be used, and why.
    """
    try:
        named = offer.entry.load()
    except QuorumlabError:
        raise
    except Exception as error:  # whatever a foreign module raises
        why = f"it cannot be imported: {type(error).__name__}: {error}"
        raise _refused(offer, why) from error
    group = _group(offer.group)
    if (reason := _objection(offer, named, group)) is not None:
        raise _refused(offer, reason)
    _register(offer, named, group)
    return Loaded(offer, named)


def _refused(offer: Offer, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{offer} cannot be used: {shortened(reason, LONGEST_REASON)}. Mend the package, or uninstall "
        f"it: pip uninstall {offer.distribution}"
    )


def _objection(offer: Offer, named: Any, group: _Group) -> str | None:
    """Return what is wrong with what an entry point names; None where nothing is."""
    if not KIND.fullmatch(offer.kind):
        return f"a kind is written in small letters, digits and _, not {shown(offer.kind)}"
    if offer.kind in built_in(offer.group):
        return f"{offer.group}={offer.kind} is a built-in kind: choose another name"
    if not isinstance(named, Plugin):
        return f"it names a {type(named).__name__}, not a sim_core.plugins.Plugin"
    config, base = named.config, group.base
    if not (isinstance(config, type) and issubclass(config, base)):
        return f"its config {shown(config)} is no subclass of sim_core.config.{base.__name__}"
    kind = config.model_fields.get("kind")
    is_literal = kind is not None and get_origin(kind.annotation) is Literal
    if kind is None or not is_literal or get_args(kind.annotation) != (offer.kind,):
        wanted = f'kind: Literal["{offer.kind}"] = "{offer.kind}"'
        return (
            f"its config {config.__name__} lacks the line {wanted}, which repeats the entry point"
        )
    if kind.default != offer.kind:
        return f"the default of {config.__name__}.kind is not {offer.kind!r}"
    if not callable(named.make):
        return f"its make {shown(named.make)} is neither a class nor a function"
    if isinstance(named.make, type) and offer.group != "traffic":
        return _lacking(named.make, group.protocol)
    return None


def _lacking(made: Any, protocol: type[Any]) -> str | None:
    """Return which parts of a protocol are not there, in words; None where all are."""
    wanted = [name for name in vars(protocol) if not name.startswith("_")]
    missing = [name for name in wanted if not hasattr(made, name)]
    name = made.__name__ if isinstance(made, type) else type(made).__name__
    what = f"{protocol.__module__}.{protocol.__name__}"
    return f"{name} lacks {', '.join(missing)} of {what}" if missing else None


def _register(offer: Offer, plugin: Plugin, group: _Group) -> None:
    """Put a plug-in where the built-in kinds are, and let its settings travel between processes."""
    from sim_core.traffic import DATA_FILES

    def made(*arguments: Any) -> Any:
        result = plugin.make(*arguments)
        if (reason := _lacking(result, group.protocol)) is not None:
            raise _refused(offer, reason)
        return result

    group.registry[offer.kind] = made
    if plugin.data_files is not None:
        DATA_FILES[offer.kind] = plugin.data_files

    def reduced(settings: Any) -> tuple[Any, ...]:
        return arrived, (offer.group, offer.kind, settings.model_dump())

    copyreg.pickle(plugin.config, reduced)


def arrived(group: str, kind: str, values: dict[str, Any]) -> Any:
    """Return settings that another process has sent; the plug-in is loaded here as well."""
    try:
        return load(group, kind).plugin.config.model_validate(values)
    except ConfigurationError:  # said by whoever uses them: an error in here would end a worker
        return Absent(kind=kind)


@cache
def built_in(group: str) -> frozenset[str]:
    """Return the kinds of a group that need no plug-in."""
    from sim_core.config.detectors import DetectorConfig
    from sim_core.config.protocol import AdversaryConfig
    from sim_core.config.traffic import TrafficConfig

    unions = {"detector": DetectorConfig, "adversary": AdversaryConfig, "traffic": TrafficConfig}
    members = get_args(get_args(unions[group])[0])
    return frozenset(member.model_fields["kind"].default for member in members)
