"""Composing configurations with Hydra, what several have in common only once.

Choices of groups decide which files are read and merged, which takes a fifth of a second. All other
overrides are applied to the result afterwards, by Hydra as well: so configurations of the same choices
need that fifth of a second together, not each, as long as no file of `conf/` has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from flows.overrides import CONF
from sim_core.plugins import ENTRY_POINTS, offered_kinds
from sim_core.plugins.loading import load


@dataclass(frozen=True)
class _Base:
    """What was composed of some choices."""

    config: DictConfig
    values: dict[str, Any]
    """The same as plain values; empty where some of them are references to others."""


Files = tuple[tuple[str, int, int], ...]
"""Names, times of change and sizes."""
_FILES: WeakKeyDictionary[Any, Files] = WeakKeyDictionary()
"""Those of `conf/` as they were when Hydra was first asked after it was initialised: looking takes 2 ms."""
MOST_BASES = 256


def composed(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return what `hydra.compose` gives of some overrides, as plain values; sections are not to be changed.

    Raises:
        HydraException: as it does there.
        OmegaConfBaseException: as it does there.
    """
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    parsed = [_parsed(override) for override in overrides]
    group_exists = hydra.config_loader.repository.group_exists  # type: ignore[attr-defined]
    later = [o for o in parsed if _is_value(o, is_group=group_exists(o.key_or_group))]
    choices = tuple(str(o.input_line) for o in parsed if o not in later)
    if hydra not in _FILES:
        _FILES[hydra] = _files()
    return _changed(_base(config_name, choices, _FILES[hydra]), later)


def provide_plugins(overrides: Iterable[str]) -> None:
    """Let Hydra find the choices of plug-ins that overrides name, with the defaults of their schema.

    What has a file in `conf/` is no plug-in: as long as nothing else is named, none is looked for.

    Raises:
        ConfigurationError: a plug-in that is named cannot be used.
    """
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group = key.partition("@")[0]
        if group not in ENTRY_POINTS:
            continue
        for name in (part.strip(" '\"") for part in value.split(",")):
            if not (CONF / group / f"{name}.yaml").is_file() and name in offered_kinds(group):
                config = load(group, name).plugin.config
                needed = {
                    n: None for n, field in config.model_fields.items() if field.is_required()
                }
                node = config.model_construct(**needed).model_dump(mode="json", warnings=False)
                _store(group, name, node)


def list_plugins() -> None:
    """Let Hydra's own listings name the choices of all plug-ins, none of which is imported for that."""
    for group in ENTRY_POINTS:
        for kind in offered_kinds(group):
            if not (CONF / group / f"{kind}.yaml").is_file():
                _store(group, kind, {"kind": kind})


def _store(group: str, kind: str, node: dict[str, Any]) -> None:
    ConfigStore.instance().store(group=group, name=kind, node=node, provider="plug-in")


def _files() -> Files:
    """Return what tells whether a file of `conf/` has changed."""
    found = ((path, path.stat()) for path in sorted(CONF.rglob("*.yaml")))
    return tuple((str(path), status.st_mtime_ns, status.st_size) for path, status in found)


@lru_cache(maxsize=MOST_BASES)
def _base(config_name: str, choices: tuple[str, ...], files: Files) -> _Base:
    """Return what Hydra composes of choices; `files` are there for the cache to notice changes."""
    del files
    config = compose(config_name=config_name, overrides=list(choices))
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return _Base(config, {} if "${" in str(values) else {str(k): v for k, v in values.items()})


def _changed(base: _Base, overrides: Sequence[Override]) -> dict[str, Any]:
    """Return plain values after some overrides; only the sections that they touch are copied."""
    touched = [override.key_or_group.split(".")[0] for override in overrides]
    is_plain = set(touched) <= set(base.values) and not any(map(_is_special, overrides))
    config = OmegaConf.masked_copy(base.config, touched) if is_plain else deepcopy(base.config)
    OmegaConf.set_struct(config, True)
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), config)  # noqa: SLF001
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return base.values | values if is_plain else values


def _is_special(override: Override) -> bool:
    """Return whether an override may concern other sections than its own, or takes one away."""
    return override.is_delete() or "${" in str(override.input_line)


def _is_value(override: Override, *, is_group: bool) -> bool:
    """Return whether an override sets a value, and chooses no file."""
    if override.is_sweep_override() or override.is_hydra_override():
        return False
    return not is_group or isinstance(override.value(), dict)


@lru_cache(maxsize=10_000)
def _parsed(override: str) -> Override:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed
