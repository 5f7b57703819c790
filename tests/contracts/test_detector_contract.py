"""Every detector in the registry keeps its contract, in every setting that is a choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sim_core.config import ModelConfig
from sim_core.contracts.cases import Case, variants
from sim_core.contracts.checks import checks_of
from sim_core.contracts.detectors import bits_of, normal
from sim_core.plugins.loading import built_in

SHORT = {
    "half_space_trees": {"window": 60},
    "isolation_forest": {"window": 60, "samples": 32, "trees": 20, "refit_every": 2},
    "ecod": {"window": 60},
}
"""Settings with which what takes long to come happens within a few steps."""


def config_of(kind: str) -> Any:
    return ModelConfig.model_validate({"detector": {"kind": kind}}).detector


def cases() -> Iterator[tuple[str, Case]]:
    for kind in sorted(built_in("detector")):
        for name, settings in variants(config_of(kind)):
            yield name, Case.of(settings, SHORT.get(kind))


@pytest.mark.parametrize(
    "check", [check for name, case in cases() for check in checks_of(case, name)]
)
def test_detector_keeps_its_contract(check: Any):
    check()


each_case = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in cases()])


@each_case
def test_charts_follow_every_flow_and_a_shared_forest_never_learns(case: Case):
    """What the checks find out of a detector by trying."""
    assert case.follows is (case.settings.kind in ("ewma", "cusum"))
    assert case.adapts is not getattr(case.settings, "shared", False)


@each_case
def test_what_a_signature_matches_is_forgotten_by_detectors_with_windows(case: Case):
    warmup = normal(0, 2, 60, 3)
    warmup[:, ::2] = 9 + 0.1 * warmup[:, ::2]
    detector = case.detector(warmup)
    state = detector.init(2, warmup)
    centroid, scale = np.full((1, 3), 9, np.float32), np.full((1, 3), 0.5, np.float32)
    before = bits_of(state, 1)
    detector.forget(state, np.array([0]), centroid, scale, 2.0)
    assert bits_of(state, 1) == before
    if "window" in state:
        assert state["filled"].tolist() == [30, 60]
        assert (state["window"][0, :30] < 5).all()
        np.testing.assert_array_equal(state["window"][0, :30], warmup[0, 1::2])
    for _ in range(3):  # what is left is learned on
        detector.learn(state, normal(1, 2, 9, 3), np.ones((2, 9), dtype=bool))
    score = detector.score(state, np.full((2, 1, 3), 9, np.float32))
    if "window" in state:
        assert score[0, 0] > score[1, 0]
