"""The model reproduces the laws.

Every run of the tests takes some points of each study, smaller; `make test-slow` runs whole studies through
the program. The intervals of a law hold all at once with 99.9 %, so that of all seeds 12 in 1,000 would
fail a correct model in one of the 12 laws; the seed is fixed. An interval too wide to mean something fails
as well: `widest` bounds half of it, relative to the exact value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from sim_core.laws.catalogue import LAWS
from sim_core.laws.table import compare
from tests.laws.inline import run_points


@dataclass(frozen=True)
class Reduced:
    """Part of a study."""

    labels: Sequence[str]
    replicates: int
    widest: dict[str, float]
    """Half width of the interval at most, by quantity, relative to the exact value."""
    overrides: Sequence[str] = ()
    steps: int | None = None


REDUCED = {
    "condorcet": Reduced(
        ["n3_p60", "n11_p55", "n4_p60", "n21_p70_f4", "n21_p70_f8"],
        4,
        {"P(right)": 0.2},
        steps=80,
    ),
    "bft_confirm": Reduced(["n10", "n31", "n12_f2"], 3, {"P(confirmed)": 0.1}, steps=250),
    "bft_false_confirm": Reduced(
        ["n7_p70", "n31_p60", "committee_p80"], 4, {"P(confirmed)": 0.25}, steps=300
    ),
    "gossip": Reduced(
        ["push_8", "pull_32", "push_64_p50"], 30, {"E[T]": 0.11, "sd[T]": 1.0}, steps=90
    ),
    "reed_frost": Reduced(["n50_r15", "n50_r25", "n100_r08_first5"], 30, {"E[new]": 0.15}),
    "reed_frost_zero": Reduced(["n50_r15", "n20_r12", "n100_r08_first2"], 30, {"P(0)": 0.25}),
    "large_epidemic": Reduced(["r15"], 8, {"share infected": 0.01}),
    "shewhart": Reduced(
        ["limit_2_shift_05", "limit_25_features_4"],
        10,
        {"ARL": 0.13},
        ["simulation.nodes=300"],
        steps=220,
    ),
    "cusum": Reduced(
        ["shift_1", "limit_3_slack_1_shift_15", "limit_2_slack_025"],
        10,
        {"ARL": 0.13},
        ["simulation.nodes=300"],
    ),
    "ewma": Reduced(
        ["shift_1", "weight_03_limit_2_shift_05"], 10, {"ARL": 0.13}, ["simulation.nodes=300"]
    ),
    "auroc": Reduced(["d1", "d2", "d1_features_3"], 10, {"AUROC": 0.003}),
    "precision": Reduced(["share_10", "share_1", "share_2_alarms_10"], 4, {"precision": 0.05}),
}


def test_every_law_is_tested() -> None:
    assert list(REDUCED) == list(LAWS)


@pytest.mark.parametrize("name", REDUCED)
def test_model_reproduces_the_law(name: str) -> None:
    part = REDUCED[name]
    points = run_points(
        name, part.labels, part.replicates, overrides=part.overrides, steps=part.steps
    )
    for row in compare(LAWS[name], points):
        found = row.finding
        assert found.agrees, row.cells()
        assert found.half_width <= part.widest[row.symbol] * found.exact, row.cells()
