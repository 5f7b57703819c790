"""What is wrong with an experiment at work, found by comparing a look at it with those before.

All rules are functions of what was seen: the same looks give the same issues. What an experiment
is there to do, such as using all processors, is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median
from typing import Literal

from sim_core.config import AlertsConfig
from sim_core.operations import OperationFigures

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")
ANSWERED = ("ledger.commit", "ledger.read", "ledger.write", "checkpoint.write", "checkpoint.read")
"""Operations that somebody waits for, which therefore are slow where they take long."""
FEWEST_LOOKS = 5
"""Before which a course cannot be told from an accident."""
FEWEST_OPERATIONS = 10
"""Of which a share of errors means something."""
STEADY = 0.25
"""Each step of a steady growth is at least this share of the mean one."""


@dataclass(frozen=True)
class Look:
    """What is seen at one moment; means are since the look before."""

    at: float
    """Seconds of any clock that only goes forward."""
    cpu_of_others: float | None
    """Percent of all processors."""
    memory: float
    """Percent of the machine's memory in use."""
    driver_mb: float
    """That the driver holds beyond what it held when the experiment began."""
    tree_mb: float
    """Resident memory of the driver and all its workers."""
    operations: Mapping[str, OperationFigures] = field(default_factory=dict)
    """Since the experiment began."""
    node_steps: int = 0
    """Since the experiment began."""
    idle_seconds: float | None = None
    """Since the last step, while runs are executed; None where none are."""


@dataclass(frozen=True)
class Issue:
    """Something that is not as it should be."""

    kind: str
    severity: Severity
    text: str
    advice: str

    @property
    def rank(self) -> int:
        """How severe it is, as a number that grows."""
        return SEVERITIES.index(self.severity)


def find_issues(looks: Sequence[Look], limits: AlertsConfig) -> list[Issue]:
    """Return what is wrong in the newest of some looks, the worst first.

    Args:
        looks: Those of the window, oldest first.
        limits: What is an issue.
    """
    if not looks:
        return []
    found = [issue for rule in RULES for issue in rule(looks, limits)]
    return sorted(found, key=lambda issue: -issue.rank)


def _cpu(looks: Sequence[Look], limits: AlertsConfig) -> Iterator[Issue]:
    taken = [look.cpu_of_others for look in looks if look.cpu_of_others is not None]
    if not taken or looks[-1].cpu_of_others is None:
        return
    now, before = taken[-1], taken[:-1]
    usual = fmean(before) if len(before) >= FEWEST_LOOKS else None
    advice = "see what else runs on this machine, or lower executor.num_cpus"
    if now > limits.cpu_percent:
        text = f"other programs take {now:.0f} % of the processors"
        yield Issue("cpu", "high", text, advice)
    elif usual is not None and now - usual > limits.cpu_spike:
        severity: Severity = "high" if now - usual >= 2 * limits.cpu_spike else "medium"
        text = f"other programs take {now:.0f} % of the processors, {usual:.0f} % before"
        yield Issue("cpu spike", severity, text, advice)


def _memory(looks: Sequence[Look], limits: AlertsConfig) -> Iterator[Issue]:
    now, before = looks[-1].memory, [look.memory for look in looks[:-1]]
    advice = "lower executor.num_cpus, set limits.memory_mb, or end other programs"
    if now > limits.memory_percent:
        yield Issue("memory", "critical", f"{now:.0f} % of the machine's memory is in use", advice)
    elif len(before) >= FEWEST_LOOKS and now - fmean(before) >= limits.memory_spike:
        rise = now - fmean(before)
        severity: Severity = "high" if rise >= 2 * limits.memory_spike else "medium"
        text = f"{now:.0f} % of the machine's memory is in use, {fmean(before):.0f} % before"
        yield Issue("memory spike", severity, text, advice)
    if looks[-1].driver_mb >= limits.driver_mb:
        text = f"the process that conducts the experiment has taken {looks[-1].driver_mb:,.0f} MB"
        yield Issue("driver memory", "medium", text, "split the experiment, or output.tables=false")


def _leak(looks: Sequence[Look], limits: AlertsConfig) -> Iterator[Issue]:
    if len(looks) <= FEWEST_LOOKS:
        return
    steps = [late.tree_mb - early.tree_mb for early, late in pairwise(looks)]
    growth, seconds = sum(steps), looks[-1].at - looks[0].at
    if growth < limits.growth_mb or min(steps) < STEADY * growth / len(steps):
        return
    text = (
        f"its processes grew by {growth:,.0f} MB in {seconds:,.0f} s, without a pause, to "
        f"{looks[-1].tree_mb:,.0f} MB"
    )
    advice = "profiling.kind=memory names the lines; limits.memory_mb stops a run before the machine is full"
    yield Issue("leak", "high", text, advice)


def _slow(looks: Sequence[Look], limits: AlertsConfig) -> Iterator[Issue]:
    for name, count, _, seconds in _since(looks):
        if name in ANSWERED and seconds / count >= limits.response_seconds:
            severity: Severity = (
                "high" if seconds / count >= 5 * limits.response_seconds else "medium"
            )
            text = f"{name} took {seconds / count:.1f} s in the mean ({count} times)"
            advice = "look for slow queries in the log, and at the disk: docs/how-to/monitoring.md"
            yield Issue(f"slow {name}", severity, text, advice)


def _errors(looks: Sequence[Look], limits: AlertsConfig) -> Iterator[Issue]:
    for name, count, errors, _ in _since(looks):
        share = 100 * errors / count
        if count >= FEWEST_OPERATIONS and share >= limits.error_percent:
            severity: Severity = "critical" if share >= 2 * limits.error_percent else "medium"
            text = f"{share:.0f} % of {name} failed ({errors} of {count})"
            yield Issue(
                f"errors {name}", severity, text, "quorumlab status names what failed, and why"
            )


def _since(looks: Sequence[Look]) -> Iterator[tuple[str, int, int, float]]:
    """Yield name, number, errors and seconds of the operations that ended since the look before."""
    before = looks[-2].operations if len(looks) > 1 else {}
    for name, now in looks[-1].operations.items():
        old = before.get(name)
        count, errors, seconds = now.count, now.errors, now.seconds
        if old is not None:
            count, errors, seconds = (
                count - old.count,
                errors - old.errors,
                seconds - old.seconds,
            )
        if count > 0:
            yield name, count, errors, seconds


def _throughput(looks: Sequence[Look], limits: AlertsConfig) -> Iterator[Issue]:
    """Find two looks in a row that are so far below the slowest one of the window before."""
    rates = [
        (late.node_steps - early.node_steps) / (late.at - early.at)
        for early, late in pairwise(looks)
        if early.idle_seconds is not None and late.idle_seconds is not None
    ]
    before, newest = rates[:-2], rates[-2:]
    if len(before) < FEWEST_LOOKS or looks[-1].idle_seconds is None:
        return
    if max(newest) < min(before) * (1 - limits.throughput_drop_percent / 100):
        usual = median(before)
        fall = 1 - fmean(newest) / usual
        text = f"{fmean(newest):,.0f} node-steps per second, {usual:,.0f} before: {fall:.0%} less"
        advice = (
            "see what else runs on this machine; quorumlab status shows which points are at work"
        )
        yield Issue("throughput", "high" if fall >= 0.5 else "medium", text, advice)


def _stalled(looks: Sequence[Look], limits: AlertsConfig) -> Iterator[Issue]:
    idle = looks[-1].idle_seconds
    if idle is not None and idle >= limits.stalled_seconds:
        text = f"no step for {idle:,.0f} s, though runs are executed"
        advice = "a worker hangs, or steps take longer than alerts.stalled_seconds; limits.max_seconds ends a run"
        yield Issue("stalled", "critical", text, advice)


Rule = Callable[[Sequence[Look], AlertsConfig], Iterator[Issue]]
RULES: tuple[Rule, ...] = (_cpu, _memory, _leak, _slow, _errors, _throughput, _stalled)
