"""Suites `detectors` and `consensus`: what a step costs with each choice of the registries."""

from __future__ import annotations

from flows.benchmarks.cases import Case, Group
from flows.suites.step import network, stepping
from sim_core.consensus import RULES
from sim_core.detectors import DETECTORS

NODES, FLOWS = 100, 20
STEPS = 20
PLAIN_DETECTOR, PLAIN_RULE = "zscore", "majority"


def detectors_suite() -> list[Group]:
    """Return a case for each detector, measured in turn, beside `zscore`."""
    return [_group("detector", list(DETECTORS), PLAIN_DETECTOR)]


def consensus_suite() -> list[Group]:
    """Return a case for each quorum rule, measured in turn, beside `majority`."""
    return [_group("consensus", list(RULES), PLAIN_RULE)]


def _group(group: str, kinds: list[str], plain: str) -> Group:
    cases = tuple(
        Case(
            kind,
            "ms/step",
            stepping(network(NODES, FLOWS, **{group: {"kind": kind}}), steps=STEPS),
        )
        for kind in kinds
    )
    return Group(cases, tuple((kind, plain) for kind in kinds if kind != plain))
