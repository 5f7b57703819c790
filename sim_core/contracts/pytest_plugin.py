"""`pytest --quorumlab-contracts`: the contract checks of all installed plug-ins, or of some kinds.

Every pytest of an environment with quorumlab loads this module: it imports nothing beyond pytest itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

OPTION = "--quorumlab-contracts"
SUITE = Path(__file__).with_name("suite.py")

CHECKS = ("adversaries", "detectors", "runs", "traffic")

pytest.register_assert_rewrite(*(f"sim_core.contracts.{name}" for name in CHECKS))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option, which takes kinds that are separated by commas."""
    group = parser.getgroup("quorumlab")
    group.addoption(
        OPTION,
        nargs="?",
        const="",
        metavar="KINDS",
        help="check that quorumlab plug-ins keep their contract: those of all installed packages, or KIND,KIND",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the suite as well, where it is asked for."""
    if config.getoption(OPTION) is not None:
        config.args.append(str(SUITE))
