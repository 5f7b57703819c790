"""Benchmark suites: a name each, and the groups of cases that it measures."""

from __future__ import annotations

from collections.abc import Callable

from flows.benchmarks.cases import Group
from flows.suites.choices import consensus_suite, detectors_suite
from flows.suites.dashboard import dashboard_suite
from flows.suites.forks import forks_suite
from flows.suites.ledger import checkpoint_suite, ledger_suite
from flows.suites.memory import memory_suite
from flows.suites.orchestration import orchestration_suite
from flows.suites.profiles import profiles_suite
from flows.suites.ray_itself import ray_suite
from flows.suites.recovery import recovery_suite
from flows.suites.sized import sized_suite
from flows.suites.start import start_suite
from flows.suites.step import step_suite
from flows.suites.telemetry import telemetry_suite

SUITES: dict[str, Callable[[], list[Group]]] = {
    "step": step_suite,
    "ledger": ledger_suite,
    "checkpoint": checkpoint_suite,
    "forks": forks_suite,
    "recovery": recovery_suite,
    "orchestration": orchestration_suite,
    "run": sized_suite,
    "detectors": detectors_suite,
    "consensus": consensus_suite,
    "memory": memory_suite,
    "ray": ray_suite,
    "start": start_suite,
    "telemetry": telemetry_suite,
    "dashboard": dashboard_suite,
    "profiles": profiles_suite,
}

__all__ = ["SUITES"]
