"""What it saves that steps before a fork are simulated once: processor time of five policies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flows.benchmarks.cases import Case, Group
from flows.suites.step import network
from sim_core.identity import run_key
from sim_core.jobs import RunError, simulate_jobs
from sim_core.simulate import RunSpec

STEPS, FORK = 200, 160
RULES: tuple[dict[str, Any], ...] = (
    {"kind": "majority"},
    {"kind": "majority", "base": "all"},
    {"kind": "supermajority"},
    {"kind": "weighted"},
    {"kind": "bft", "min_turnout": 0.0},
)


def five_policies() -> list[RunSpec]:
    """Return runs of five quorum rules that take over at 80 % of the steps."""
    size = {"nodes": 100, "flows_per_node": 100, "steps": STEPS}
    liars = {"kind": "poisoner", "share": 0.2}
    specs = []
    for rule in RULES:
        later = {"step": FORK, "consensus": rule}
        config = network(100, 100, simulation=size, adversary=liars, intervention=later)
        specs.append(RunSpec(run_key(config, 1, 0), config, seed=1, replicate=0))
    return specs


def simulating(specs: list[RunSpec]) -> Any:
    """Return what simulates runs one after the other and gives the processor time of it."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        def call() -> float:
            began = time.process_time()
            for item in simulate_jobs([(spec, None) for spec in specs]):
                if isinstance(item, RunError):
                    raise RuntimeError(item.message)
            return time.process_time() - began

        yield call

    return opened


def forks_suite() -> list[Group]:
    """Return the cases: five runs that share 80 % of their steps, and the same from their starts."""
    specs = five_policies()
    apart = [replace(spec, fork=False) for spec in specs]
    cases = (
        Case("five_policies_alone", "ms", simulating(apart)),
        Case("five_policies_forked", "ms", simulating(specs)),
    )
    return [Group(cases, ratios=(("five_policies_alone", "five_policies_forked"),))]
