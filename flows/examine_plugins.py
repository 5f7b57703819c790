"""Which plug-ins are installed, and whether they can be used."""

from __future__ import annotations

from collections.abc import Iterator

from flows.finding import Finding
from sim_core.errors import ConfigurationError
from sim_core.plugins import offers
from sim_core.plugins.loading import load


def examine_plugins() -> Iterator[Finding]:
    """Yield a finding for each plug-in; all of them are imported.

    One that is broken is a warning: experiments that do not name it go on without it.
    """
    if not offers():
        yield Finding("plug-ins", "ok", "none are installed")
    for offer in offers():
        what = f"plug-in {offer.group}={offer.kind}"
        try:
            load(offer.group, offer.kind)
        except ConfigurationError as error:
            yield Finding(what, "warn", str(error))
        else:
            yield Finding(what, "ok", f"package {offer.distribution}, {offer.entry.value}")
