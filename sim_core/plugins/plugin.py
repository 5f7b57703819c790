"""What an entry point names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Plugin:
    """A kind of a group: its settings, and what is made of them."""

    config: type[Any]
    """Its settings: a subclass of `DetectorBase`, `AdversaryBase` or, for traffic, `Frozen`, with a `kind`
    that can be one text only, the name of the entry point."""
    make: Callable[..., Any]
    """Makes a `Detector` of settings and streams, an `Adversary` of settings, or a `Traffic` of the whole
    `ModelConfig` and streams."""
    data_files: Callable[[Any], tuple[Path, ...]] | None = None
    """Of a traffic source that reads files: from its settings to the files, whose content is part of keys."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Settings with which what takes long to come happens within a few steps: windows that fill up, attacks.
    The contract checks use them."""
