"""Suite `telemetry`: what it costs that an experiment is watched, in ms per run of a sweep."""

from __future__ import annotations

from flows.benchmarks.cases import Case, Group
from flows.compose import known_keys
from flows.suites.orchestration import REPEAT, sweeping

RUNS = 200
KEY = "monitoring.enabled"
WORKER = ("executor=processes", "executor.num_cpus=1", "tracking=off")


def telemetry_suite() -> list[Group]:
    """Return the cases: the same sweep with monitoring and without."""
    cases = tuple(
        Case(f"sweep_{RUNS}_{name}", "ms/run", sweeping(RUNS, *WORKER, *switched(is_on)), REPEAT)
        for name, is_on in (("on", True), ("off", False))
    )
    on, off = (case.name for case in cases)
    return [Group(cases, ((on, off),))]


def switched(is_on: bool) -> list[str]:  # noqa: FBT001
    """Return the override that turns monitoring on or off; none where there is nothing to turn."""
    return [f"{KEY}={str(is_on).lower()}"] if KEY in known_keys() else []
