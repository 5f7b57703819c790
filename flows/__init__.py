"""What is launched: flows, the composition of configurations, the command line, and `run` for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.api import Results, load, run

__all__ = ["Results", "load", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # commands do without what it needs
        from flows import api

        return getattr(api, name)
    raise AttributeError(f"module 'flows' has no attribute {name!r}")
