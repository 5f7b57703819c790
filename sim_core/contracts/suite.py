"""The tests that `pytest --quorumlab-contracts` adds: each check for each installed plug-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sim_core.contracts.cases import Case, variants
from sim_core.contracts.checks import checks_of
from sim_core.contracts.pytest_plugin import OPTION
from sim_core.plugins import offers
from sim_core.plugins.loading import load


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the test its checks."""
    asked = metafunc.config.getoption(OPTION) or ""
    metafunc.parametrize("check", list(_checks([kind for kind in asked.split(",") if kind])))


def _checks(kinds: list[str]) -> Iterator[Any]:
    """Yield the checks of some kinds, or of all.

    Raises:
        UsageError: no installed package offers one of them.
    """
    chosen = [offer for offer in offers() if not kinds or offer.kind in kinds]
    unknown = set(kinds) - {offer.kind for offer in chosen}
    if unknown or not chosen:
        wanted = ", ".join(sorted(unknown)) or "any plug-in"
        raise pytest.UsageError(f"{OPTION}: no installed package offers {wanted}")
    for offer in chosen:
        settings = load(offer.group, offer.kind).plugin.config()
        for name, one in variants(settings):
            yield from checks_of(Case.of(one), f"{offer.group}-{name}")


def test_plugin_keeps_its_contract(check: Callable[[], None]) -> None:
    """Run one check of one plug-in."""
    check()
