"""Plug-ins: detectors, adversaries and traffic sources that installed packages bring along.

A package names a `Plugin` by an entry point. It is imported when a configuration names its kind, not
before, and stands in the registries of the built-in kinds from then on. A configuration can name a kind
alone, never code.
"""

from sim_core.plugins.offers import ENTRY_POINTS, Offer, offered_kinds, offers
from sim_core.plugins.plugin import Plugin

__all__ = ["ENTRY_POINTS", "Offer", "Plugin", "offered_kinds", "offers"]
