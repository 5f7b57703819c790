"""What may stand in an override, looked at before Hydra reads it.

Configuration is data: what would be evaluated, read from elsewhere, or be without end is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, RangeSweep

from sim_core.config.explain import shown
from sim_core.errors import ConfigurationError
from sim_core.plugins import offered_kinds

CONF = Path(__file__).resolve().parent.parent / "conf"
LONGEST_OVERRIDE = 20_000
"""Characters."""
DEEPEST_OVERRIDE = 20
"""Brackets within brackets, and keys below keys; the schema has five of either."""
LARGEST_SWEEP = 10_000
"""Combinations of one sweep."""
CONFIG_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
INTERPOLATION = re.compile(r"\$\\*\{")
"""Hydra takes backslashes away before OmegaConf looks for interpolations."""
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
OUTSIDE = re.compile(r"\.\.|^[/~\\]|://|[\[,]\s*[/~\\]")


def refuse_hostile(overrides: Iterable[Any], *, source: str = "") -> None:
    """Check overrides of a user, or of the points of a study.

    Args:
        overrides: What should be texts.
        source: Where they stand, if not in the command.

    Raises:
        ConfigurationError: one is no text, no plain value, too long, or leads out of `conf/`.
    """
    for override in overrides:
        reason = _objection(override)
        if reason is not None:
            raise ConfigurationError(f"{source}{shown(override)}: {reason}")


def refuse_config_name(name: str) -> None:
    """Check the name of the file in `conf/` with which a composition begins.

    Raises:
        ConfigurationError: it is no plain name.
    """
    if len(name) > LONGEST_OVERRIDE or not CONFIG_NAME.fullmatch(name):
        raise ConfigurationError(
            f"--config-name {shown(name)}: expected the name of a file in conf/ without its ending"
        )


def refuse_missing_choices(overrides: Iterable[str]) -> None:
    """Check that choices of groups exist: Hydra leaves out in silence one of an optional group that does not.

    Raises:
        ConfigurationError: there is no such choice.
    """
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group, name = key.partition("@")[0], value.strip(" '\"")
        if "." in group or name == "null" or not CONFIG_NAME.fullmatch(name):
            continue
        if not (CONF / group).is_dir() or (CONF / group / f"{name}.yaml").is_file():
            continue
        if name not in (known := choices_of(group)):
            raise ConfigurationError(
                f"{shown(override)}: could not find {name!r} in conf/{group}, which has: "
                f"{' '.join(known)}"
            )


def choices_of(group: str) -> list[str]:
    """Return the choices of a group: those with a file in `conf/`, and those of installed plug-ins."""
    files = (path.stem for path in (CONF / group).glob("*.yaml"))
    return sorted({*files, *offered_kinds(group)})


def refuse_endless(overrides: Sequence[Override]) -> None:
    """Check how many combinations a sweep has, before they are made.

    Raises:
        ConfigurationError: there are too many, or a range has no end.
    """
    combinations = 1.0
    for override in overrides:
        value = override.value()
        if isinstance(value, RangeSweep):
            combinations *= _length(override, value)
        elif override.is_sweep_override():
            combinations *= sum(1 for _ in override.sweep_string_iterator())
        if combinations > LARGEST_SWEEP:
            raise ConfigurationError(
                f"{shown(override.input_line)}: this sweep has {combinations:,.0f} combinations or "
                f"more, {LARGEST_SWEEP:,} are the most: sweep over fewer values"
            )
        if combinations == 0:
            raise ConfigurationError(f"{shown(override.input_line)}: a sweep over no value")


def _objection(override: Any) -> str | None:
    """Return what speaks against an override; None where nothing does."""
    if not isinstance(override, str):
        return "an override is a text KEY=VALUE"
    if len(override) > LONGEST_OVERRIDE:
        return f"{len(override):,} characters, {LONGEST_OVERRIDE:,} are the most"
    if CONTROL.search(override):
        return "holds a control character"
    if _depth(override) > DEEPEST_OVERRIDE:
        return f"nested more than {DEEPEST_OVERRIDE} deep"
    if INTERPOLATION.search(override) or "_target_" in override:
        return "interpolations and _target_ are not accepted; configuration is data"
    key, _, value = override.partition("=")
    group = re.split(r"[@.]", key.lstrip("+~"))[0].strip()
    if re.fullmatch(r"hydra(/.*)?", group):
        return "settings of Hydra have no place in an experiment: leave it out"
    if (
        (CONF / group).is_dir()
        and "." not in key.partition("@")[0]
        and OUTSIDE.search(value.strip(" '\""))
    ):
        return f"no name of a file in conf/{group}"
    return None


def _depth(override: str) -> int:
    """Return how deep brackets, or the parts of the key, are nested.

    >>> _depth("a.b=[[1], {c: 2}]"), _depth("a.b.c=1")
    (2, 3)
    """
    key, _, value = override.partition("=")
    deepest = depth = 0
    for character in value:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return max(deepest, key.count(".") + 1)


def _length(override: Override, value: RangeSweep) -> float:
    """Return how many values a range has."""
    start, stop, step = (float(part or 0) for part in (value.start, value.stop, value.step))
    if not (math.isfinite(start) and math.isfinite(stop) and math.isfinite(step)) or step == 0:
        raise ConfigurationError(f"{shown(override.input_line)}: a range without an end")
    return max(0.0, math.ceil((stop - start) / step))
