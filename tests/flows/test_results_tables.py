"""Tables of results have every figure on one line, however narrow the terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from flows.display import SHOWN_ROWS, results_tables
from sim_core.results import MAIN_METRICS, in_words, interval

RNG = np.random.default_rng(1)


def outcome(n_points: int, label: str) -> SimpleNamespace:
    points = [
        {m: interval(list(RNG.normal(0.5, 0.1, 9))) for m in MAIN_METRICS} for _ in range(n_points)
    ]
    findings = SimpleNamespace(labels=[f"{label}-{i}" for i in range(n_points)], points=points)
    return SimpleNamespace(name="quorum", findings=findings)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("n_points", [1, 3, 8, 40])
@pytest.mark.parametrize("label", ["p", "colluders_share-0.51"])
def test_every_figure_is_whole(width: int, n_points: int, label: str) -> None:
    found = outcome(n_points, label)
    text = io.StringIO()
    console = Console(file=text, width=width)
    for table in results_tables(found, width):
        console.print(table)
    lines = text.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    for point in found.findings.points[:SHOWN_ROWS]:
        for metric in MAIN_METRICS:
            assert in_words(point[metric]) in text.getvalue()
    for metric in MAIN_METRICS:
        assert metric in text.getvalue()
