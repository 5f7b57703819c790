"""Rules that find issues: each planted fault is found, and what is no fault is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sim_core.config import AlertsConfig
from sim_core.operations import OperationFigures
from tasks.issues import Look, find_issues

LIMITS = AlertsConfig()
PAUSE = 30.0


def took(count: int, seconds: float, errors: int = 0) -> OperationFigures:
    return OperationFigures(count, errors, 0, seconds, None, None, None, None, None)


def looks(n: int = 11, *, seed: int = 1) -> list[Look]:
    """Return what an experiment at work looks like: noisy, and in order."""
    random = np.random.default_rng(seed)
    speed = 100_000 * (1 + 0.1 * random.standard_normal(n)).cumsum()
    resident = 1_500 + 30 * random.standard_normal(n)
    others = 4 + 3 * random.random(n)
    return [
        Look(
            at=PAUSE * index,
            cpu_of_others=float(others[index]),
            memory=float(30 + random.standard_normal()),
            driver_mb=400.0,
            tree_mb=float(resident[index]),
            operations={
                "ledger.commit": took(50 * index, 1.5 * index),
                "run": took(50 * index, 60.0 * index, errors=index // 4),
            },
            node_steps=int(speed[index]),
            idle_seconds=0.5,
        )
        for index in range(n)
    ]


def kinds(seen: Sequence[Look], limits: AlertsConfig = LIMITS) -> list[tuple[str, str]]:
    return [(issue.kind, issue.severity) for issue in find_issues(seen, limits)]


def with_last(seen: list[Look], **changes: object) -> list[Look]:
    return [*seen[:-1], replace(seen[-1], **changes)]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(200))
def test_a_quiet_hour_raises_nothing(seed: int) -> None:
    hour = looks(120, seed=seed)
    for end in range(1, len(hour) + 1):
        assert kinds(hour[max(0, end - 11) : end]) == []


def test_nothing_was_seen() -> None:
    assert find_issues([], LIMITS) == []
    assert kinds(looks(1)) == []


@pytest.mark.parametrize(
    ("changes", "kind", "severity"),
    [
        ({"cpu_of_others": 90.0}, "cpu", "high"),
        ({"cpu_of_others": 35.0}, "cpu spike", "medium"),
        ({"cpu_of_others": 70.0}, "cpu spike", "high"),
        ({"memory": 91.0}, "memory", "critical"),
        ({"memory": 55.0}, "memory spike", "medium"),
        ({"memory": 75.0}, "memory spike", "high"),
        ({"driver_mb": 2_100.0}, "driver memory", "medium"),
        ({"idle_seconds": 60.0}, "stalled", "critical"),
        ({"operations": {"ledger.commit": took(460, 25.0)}}, "slow ledger.commit", "medium"),
        ({"operations": {"ledger.commit": took(460, 80.0)}}, "slow ledger.commit", "high"),
        ({"operations": {"run": took(200, 600.0, errors=4)}}, "errors run", "critical"),
        ({"operations": {"run": took(200, 600.0, errors=3)}}, "errors run", "medium"),
    ],
)
def test_a_planted_fault_is_found_at_the_first_look(
    changes: dict[str, object], kind: str, severity: str
) -> None:
    seen = looks(11)
    seen[-2] = replace(seen[-2], operations={**seen[-2].operations, "run": took(180, 540.0, 2)})
    assert kinds(seen[:-1]) == []
    assert (kind, severity) in kinds(with_last(seen, **changes))


def test_a_leak_is_found_within_the_window_and_growth_that_ends_is_none() -> None:
    seen = looks(11)
    leaking = [replace(look, tree_mb=1_500 + 25.0 * n) for n, look in enumerate(seen)]
    assert kinds(leaking[:7]) == []
    assert kinds(leaking) == [("leak", "high")]
    starting = [replace(look, tree_mb=1_500 + 250.0 * min(n, 4)) for n, look in enumerate(seen)]
    assert all(kinds(starting[:end]) == [] for end in range(1, len(starting)))


def test_throughput_that_halves_is_found_at_the_second_look() -> None:
    rates = [100.0, 104, 97, 101, 99, 103, 98, 100, 50, 51]
    total, seen = 0.0, looks(11)
    slowing = [replace(seen[0], node_steps=0)]
    for look, rate in zip(seen[1:], rates, strict=True):
        total += rate * PAUSE
        slowing.append(replace(look, node_steps=round(total)))
    assert kinds(slowing[:-1]) == []
    assert kinds(slowing) == [("throughput", "medium")]
    waiting = [replace(look, idle_seconds=None) for look in slowing]
    assert kinds(waiting) == [], "what does not execute runs has no throughput"


def test_slow_stages_and_few_failures_are_none() -> None:
    seen = with_last(
        looks(2),
        operations={"stage.simulate": took(1, 900.0), "run": took(5, 20.0, errors=1)},
    )
    assert kinds(seen) == []


def test_the_worst_comes_first_and_says_what_to_do() -> None:
    found = find_issues(with_last(looks(), memory=95.0, cpu_of_others=90.0), LIMITS)
    assert [issue.kind for issue in found] == ["memory", "cpu"]
    assert all(issue.advice for issue in found)
    json.dumps([issue.text for issue in found])
