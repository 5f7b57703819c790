"""Less at once while the machine is short of something, more after that; results stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.compose import compose_experiment
from flows.orchestrators import PlainOrchestrator
from flows.stages import carry_out
from sim_core.config import AdaptationConfig
from sim_core.plan import plan_runs
from sim_core.simulate import simulate
from tasks.adapt_to_machine import CALM_LOOKS, Adaptation

CALM = (20.0, 10.0)


class Machine:
    """Figures and a clock that a test sets."""

    def __init__(self) -> None:
        self.figures, self.seconds, self.emptied = CALM, 0.0, 0

    def empty(self) -> None:
        self.emptied += 1


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def look(machine: Machine) -> Callable[..., Any]:
    """Return a function that lets ten seconds pass and looks; `look.adaptation` is what looks."""
    adaptation = Adaptation(
        AdaptationConfig(enabled=True),
        in_flight=3,
        shard_runs=8,
        empty_caches=machine.empty,
        machine=lambda: machine.figures,
        clock=lambda: machine.seconds,
    )

    def after_ten_seconds(figures: tuple[float, float] = CALM, transaction: float = 0.0) -> Any:
        machine.figures = figures
        machine.seconds += 10
        adjustment = adaptation.look(transaction)
        return adjustment and (adjustment.reason, adjustment.in_flight, adjustment.shard_runs)

    after_ten_seconds.adaptation = adaptation  # type: ignore[attr-defined]
    return after_ten_seconds


def test_each_shortage_lets_less_be_done(look: Callable[..., Any], machine: Machine) -> None:
    assert look() is None
    assert look((85.0, 10.0)) == ("memory 85 %", 2, 4)
    assert machine.emptied == 1
    assert look((20.0, 75.0)) == ("processors 75 %", 1, 2)
    assert look(CALM, 0.7) == ("transaction of 0.7 s", 1, 1)
    assert look((85.0, 75.0)) is None  # nothing less is possible
    assert machine.emptied == 2


def test_more_is_done_again_after_a_while_and_never_too_much(look: Callable[..., Any]) -> None:
    for _ in range(2):
        look((99.0, 99.0))
    found = [look() for _ in range(CALM_LOOKS + 3)]
    expected = [("enough again", 2, 4), ("enough again", 3, 8), None, None]
    assert found == [None] * (CALM_LOOKS - 1) + expected
    report = look.adaptation.report  # type: ignore[attr-defined]
    assert [a["seconds"] for a in report] == [10.0, 20.0, 50.0, 60.0]


def test_room_for_more_is_used_unless_the_machine_is_short(look: Callable[..., Any]) -> None:
    adaptation = look.adaptation  # type: ignore[attr-defined]
    adaptation.allow(5)
    assert adaptation.in_flight == 5
    look((85.0, 10.0))
    assert adaptation.in_flight == 4
    adaptation.allow(7)
    assert adaptation.in_flight == 4, "it is short of memory"
    adaptation.allow(2)
    assert adaptation.in_flight == 2


def test_nothing_is_looked_at_in_between_or_unless_asked_for(machine: Machine) -> None:
    def never() -> tuple[float, float]:
        raise AssertionError

    machine.figures = (99.0, 99.0)
    off = Adaptation(
        AdaptationConfig(), in_flight=3, shard_runs=8, empty_caches=machine.empty, machine=never
    )
    assert off.look(9.0) is None
    soon = Adaptation(
        AdaptationConfig(enabled=True),
        in_flight=3,
        shard_runs=8,
        empty_caches=machine.empty,
        machine=lambda: machine.figures,
        clock=lambda: machine.seconds,
    )
    machine.seconds = 9.9
    assert soon.look(0.0) is None


def test_results_are_those_of_a_machine_that_has_enough(tmp_path: Path) -> None:
    """On the real machine, whose memory is short as soon as any of it is in use."""
    words = ["profile=edge", "experiment.name=short", "experiment.replicates=9"]
    words += ["simulation.nodes=8", "simulation.steps=6", "executor.shard_runs=4"]
    words += ["adaptation.memory_percent=0.001", "adaptation.every_seconds=0.000001"]
    config, points = compose_experiment([*words, f"workspace={tmp_path}"])
    carry_out(config, points, PlainOrchestrator())
    summary = json.loads((tmp_path / "experiments" / "short" / "summary.json").read_text())
    assert [a["shard_runs"] for a in summary["adaptation"]] == [2, 1]
    assert summary["adaptation"][0]["reason"].startswith("memory ")
    heads = {}
    for run in plan_runs(config, points).runs:
        *_, last = simulate(run.spec)
        heads[run.spec.run_key] = last.head.hex()
    assert {r["run_id"]: r["ledger_head"] for r in summary["runs"]} == heads
