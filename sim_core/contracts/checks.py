"""All checks by group, and how tests of a package run them.

    from sim_core.contracts.checks import keeps_its_contract

    @keeps_its_contract(MyDetector(), MyDetector(window=20))
    def test_detector(check): check()

Each check of each settings is a test of its own, which is named after both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from sim_core.config import Frozen
from sim_core.contracts.adversaries import ADVERSARY_CHECKS
from sim_core.contracts.cases import Case, variants
from sim_core.contracts.detectors import DETECTOR_CHECKS
from sim_core.contracts.runs import RUN_CHECKS
from sim_core.contracts.traffic import TRAFFIC_CHECKS

Check = Callable[[Case], None]
CHECKS: dict[str, tuple[Check, ...]] = {
    "detector": (*RUN_CHECKS, *DETECTOR_CHECKS),
    "adversary": (*RUN_CHECKS, *ADVERSARY_CHECKS),
    "traffic": (*RUN_CHECKS, *TRAFFIC_CHECKS),
}
"""What is asked of every kind of a group."""


def checks_of(case: Case, name: str) -> Iterator[Any]:
    """Yield each check of a case as a parameter of a test, without arguments of its own."""
    for check in CHECKS[case.group]:
        title = check.__name__.removeprefix("check_")
        yield pytest.param(partial(check, case), id=f"{name}-{title}")


def keeps_its_contract(*settings: Frozen) -> pytest.MarkDecorator:
    """Return a decorator for a test with one argument, `check`, which it calls.

    Settings are checked as they are and with each other value of their choices and switches.

    Raises:
        ConfigurationError: the package that they are of is not installed.
    """
    found = [
        (f"{number}-{name}" if len(settings) > 1 else name, one)
        for number, given in enumerate(settings)
        for name, one in variants(given)
    ]
    return pytest.mark.parametrize(
        "check", [check for name, one in found for check in checks_of(Case.of(one), name)]
    )
