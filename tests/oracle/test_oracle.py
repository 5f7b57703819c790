"""The vectorised model equals the plain one, entry by entry, on random small networks.

`pytest tests/oracle --hypothesis-profile=explore` looks further; see docs/explanation/oracle.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sim_core.config import ModelConfig
from sim_core.ledger.blocks import KINDS, Entries
from sim_core.metrics import summarise
from sim_core.model import NetworkModel
from tests.oracle.coverage import REQUIRED, events_of_run, events_of_step
from tests.oracle.model import OracleModel
from tests.oracle.records import Ranking, summary
from tests.oracle.settings import (
    ADVERSARIES,
    DETECTORS,
    DISSEMINATIONS,
    Fixed,
    configurations,
    outbreaks,
)

CASES = tuple(map(Fixed, DETECTORS, ADVERSARIES, (*DISSEMINATIONS, "flood")))
FEW = max(1, settings().max_examples // 2)
SEEN: Counter[str] = Counter()
"""What has occurred in the examples of this session."""
RTOL, ATOL = 1e-4, 1e-5

WriteEdges = Callable[[int], str]


@pytest.fixture(scope="module")
def edge_file(tmp_path_factory: pytest.TempPathFactory) -> WriteEdges:
    """Return a function from the number of nodes to a file with a path and some chords."""
    folder: Path = tmp_path_factory.mktemp("edges")

    def write(n_nodes: int) -> str:
        path = folder / f"{n_nodes}.txt"
        edges = [(i, i + step) for step in (1, 4) for i in range(n_nodes - step)]
        path.write_text("\n".join(f"{a} {b}" for a, b in edges))
        return str(path)

    return write


@pytest.mark.parametrize("fixed", CASES, ids=lambda fixed: "-".join(fixed))
@settings(max_examples=FEW)
@given(data=st.data())
def test_models_agree_for_each_choice(
    fixed: Fixed, data: st.DataObject, edge_file: WriteEdges
) -> None:
    """Every detector, adversary and dissemination has examples of its own."""
    compare(data.draw(configurations(fixed)), data.draw(st.integers(0, 99)), edge_file)


@settings(max_examples=4 * FEW)
@given(groups=configurations(), seed=st.integers(0, 99))
def test_models_agree(groups: dict[str, Any], seed: int, edge_file: WriteEdges) -> None:
    """All choices mix."""
    compare(groups, seed, edge_file)


@settings(max_examples=FEW)
@given(groups=outbreaks(), seed=st.integers(0, 99))
def test_models_agree_where_immunity_meets_a_worm(
    groups: dict[str, Any], seed: int, edge_file: WriteEdges
) -> None:
    compare(groups, seed, edge_file)


def test_comparison_saw_everything() -> None:
    """The examples before have met all that the model knows, so that agreement means something."""
    if SEEN["examples"] < len(CASES) * FEW:
        pytest.skip("the comparisons have not run in this session")
    assert sorted(REQUIRED - set(SEEN)) == []
    assert SEEN["ties"] < SEEN["examples"] / 5, "too many examples are discarded for rounding"


def compare(groups: dict[str, Any], seed: int, edge_file: WriteEdges) -> None:
    """Run both models, and compare what they leave behind after each step."""
    if groups["topology"]["kind"] == "edge_list":
        path = edge_file(groups["simulation"]["nodes"])
        groups["topology"] = {"kind": "edge_list", "path": path}
    config = ModelConfig.model_validate(groups)
    plain, fast = OracleModel(config, seed), NetworkModel(config, seed=seed)
    events: set[str] = set()
    try:
        differences = list(first_differences(plain, fast, events))
    finally:
        plain.close()
        fast.close()
    SEEN["examples"] += 1
    SEEN["ties"] += plain.ties.count > 0
    assume(plain.ties.count == 0)
    SEEN.update(events)
    found = "\n".join(differences)
    assert not differences, f"{found}\nseed {seed}\n{json.dumps(groups)}"


def first_differences(plain: OracleModel, fast: NetworkModel, events: set[str]) -> Iterator[str]:
    """Yield what differs in the first step in which anything does, else in the summary.

    Adds to `events` what has occurred.
    """
    n_steps = plain.config.simulation.steps
    was_down: set[int] = set()
    for _ in range(n_steps):
        plain.step()
        fast.step()
        events.update(events_of_step(plain, was_down))
        was_down = {node.number for node in plain.nodes if not node.was_up}
        found = [
            difference
            for kind in KINDS
            for difference in unequal_fields(plain, kind, plain.entries[kind], fast.entries[kind])
        ]
        if found:
            yield from found
            return
    events.update(events_of_run(plain))
    mine = summary(plain)
    theirs = summarise(fast.collect(), fast.traffic.targets, n_steps)
    if mine.keys() != theirs.keys():
        yield f"summary has {theirs.keys() ^ mine.keys()} in one model only"
    slack = Ranking(plain.scores).slack if not plain.has_exact_scores else 0.0
    for name in mine.keys() & theirs.keys():
        atol = ATOL + slack * (name == "auroc")
        one, other = (np.nan if value is None else value for value in (mine[name], theirs[name]))
        if not np.isclose(one, other, rtol=RTOL, atol=atol, equal_nan=True):
            yield f"summary: {name} should be {mine[name]}, is {theirs[name]}"


def unequal_fields(plain: OracleModel, kind: str, mine: Entries, theirs: Entries) -> Iterator[str]:
    """Yield the fields of entries of one kind in which the models differ."""
    where = f"step {plain.time - 1}: {kind}"
    if mine.dtype != theirs.dtype or len(mine) != len(theirs):
        yield f"{where} should be\n{mine}\nis\n{theirs}"
        return
    for name in mine.dtype.names or ():
        if mine[name].dtype.kind == "f":
            slack = plain.ranking.slack if name == "auroc" and not plain.has_exact_scores else 0.0
            same = np.isclose(
                mine[name], theirs[name], rtol=RTOL, atol=ATOL + slack, equal_nan=True
            )
        else:
            same = mine[name] == theirs[name]
        if not same.all():
            yield f"{where}: {name} should be\n{mine[name]}\nis\n{theirs[name]}"
