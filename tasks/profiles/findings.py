"""What the figures of a profile mean, in words: what is slow, what is large, what grows."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.profiles.figures import (
    Finding,
    Function,
    Growth,
    Line,
    MemoryFigures,
    Operations,
    Severity,
    TimeFigures,
)

SLOW_SECONDS = 1.0
VERY_SLOW_SECONDS = 5.0
SLOW_SHARE = 0.2
LARGE_MB = 100.0
VERY_LARGE_MB = 500.0
DOMINANT_SHARE = 0.5
FUTURE_STEPS = 10_000
"""For how long memory may grow: a leak matters if it would be large by then."""
LEAST_GROWTH_MB = 1.0
"""Less may be what a step holds for a moment: memray looks at the heap every few milliseconds."""
ORDER: dict[Severity, int] = {"high": 0, "medium": 1, "low": 2}


def findings_of(time: TimeFigures | None, memory: MemoryFigures | None) -> tuple[Finding, ...]:
    """Return what is worth a word, the most severe first."""
    found: list[Finding] = []
    if time is not None:
        found += [*_operations(time.operations), *_dominant(time)]
    if memory is not None:
        found += [*_size(memory), *_growth(memory.growth)]
    return tuple(sorted(found, key=lambda finding: ORDER[finding.severity]))


def _operations(operations: Operations) -> Iterator[Finding]:
    if operations.longest > SLOW_SECONDS:
        slowest = operations.slowest[0].name
        is_very_slow = operations.longest > VERY_SLOW_SECONDS
        limit = VERY_SLOW_SECONDS if is_very_slow else SLOW_SECONDS
        yield Finding(
            "very slow operation" if is_very_slow else "slow operation",
            "high" if is_very_slow else "medium",
            f"{slowest} took {operations.longest:.1f} s, more than {limit:g} s",
            _about_slowness(slowest),
        )
    if operations.slow_share > SLOW_SHARE:
        yield Finding(
            "many slow operations",
            "high",
            f"{operations.slow_share:.0%} of {operations.n} steps and checkpoints took longer than "
            f"{SLOW_SECONDS:g} s",
            "lower simulation.nodes or flows_per_node, or spread one network over processors with "
            "executor.network_shards",
        )


def _about_slowness(operation: str) -> str:
    if operation.startswith("set-up"):
        return (
            "loading and compiling code counts here, once per process; if it stays, look at the "
            "traffic's and the detector's warm-up in the flame graph"
        )
    if operation.startswith("checkpoint"):
        return "raise checkpoint.every, or ledger.detail=decisions for fewer rows"
    return (
        "look at that step's functions in the flame graph; refitting detectors do so now and then"
    )


def _dominant(time: TimeFigures) -> Iterator[Finding]:
    most: Function | None = next(iter(time.by_own), None)
    if most is not None and most.own_share > DOMINANT_SHARE:
        yield Finding(
            "dominant function",
            "medium",
            f"{most.name} ({most.file}:{most.line}) took {most.own_share:.0%} of the time itself, "
            f"{most.own_seconds:.2f} s",
            "whatever makes it faster or calls it less often makes the run faster; nothing else will",
        )


def _size(memory: MemoryFigures) -> Iterator[Finding]:
    if memory.peak_mb <= LARGE_MB:
        return
    is_very_large = memory.peak_mb > VERY_LARGE_MB
    limit = VERY_LARGE_MB if is_very_large else LARGE_MB
    yield Finding(
        "very large memory" if is_very_large else "large memory",
        "high" if is_very_large else "medium",
        f"the run held {memory.peak_mb:,.0f} MB at its peak, more than {limit:g} MB{_most(memory.lines)}",
        "lower simulation.nodes, flows_per_node or the detector's window, or ledger.detail; fewer "
        "workers (executor.num_cpus) hold fewer runs at once",
    )


def _growth(growth: Growth | None) -> Iterator[Finding]:
    """Yield a finding where memory grows so that it would be large after `FUTURE_STEPS`."""
    if growth is None or not growth.is_steady:
        return
    future_mb = growth.kb_per_step * FUTURE_STEPS / 1024
    grown_mb = growth.kb_per_step * (growth.last_step - growth.first_step) / 1024
    if future_mb <= LARGE_MB or grown_mb < LEAST_GROWTH_MB:
        return
    yield Finding(
        "growing memory",
        "high" if future_mb > VERY_LARGE_MB else "medium",
        f"memory grows by {growth.kb_per_step:,.0f} KB with each step from step {growth.first_step} to "
        f"{growth.last_step}, {future_mb:,.0f} MB in {FUTURE_STEPS:,} steps{_most(growth.lines)}",
        "find out who keeps what that line makes; limits.memory_mb stops such a run before the "
        "machine is full",
    )


def _most(lines: tuple[Line, ...]) -> str:
    if not lines:
        return ""
    first = lines[0]
    return f"; most of it from {first.function} ({first.file}:{first.line})"
