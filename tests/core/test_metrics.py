"""Observables against independent ways to compute them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from sim_core import passes
from sim_core.ledger.blocks import METRIC_COUNTS
from sim_core.metrics import auroc, confusion_ratios, derived_ratios, summarise
from sim_core.model import NetworkModel
from sim_core.phases import ENOUGH_REFERENCES, immune_nodes
from sim_core.recording import note_first_times
from sim_core.results import ratio_columns
from sim_core.state import SCORE_BINS, Signatures, State
from sim_core.traffic import Target

COUNTS = st.integers(0, 10**9)


def tallied(score: Any, y: Any, flagged: Any, counted: Any) -> tuple[Any, Any]:
    """Return TP, FP, TN, FN and the histogram of scores over the counted nodes."""
    counts = np.zeros((2, 4), dtype=np.int64)
    histogram = np.zeros((2, SCORE_BINS), dtype=np.int64)
    n_nodes = len(y)
    passes.tally(
        y, np.ascontiguousarray(score, dtype=np.float32), np.zeros_like(flagged), flagged, counted,
        counted, 0, counts, np.zeros(1, np.int64), np.zeros(int(y.max()) + 1, bool),
        np.zeros(n_nodes, np.int32), np.full(n_nodes, -1), histogram,
    )  # fmt: skip
    assert counts[0].tolist() == counts[1].tolist(), "all counted nodes were honest"
    return tuple(counts[0].tolist()), histogram


def score_histogram(score: Any, y: Any, counted: Any) -> Any:
    return tallied(score, y, np.zeros(y.shape, dtype=bool), counted)[1]


def confusion(y: Any, flagged: Any, counted: Any) -> Any:
    return tallied(np.zeros(y.shape), y, flagged, counted)[0]


def rank_auroc(score: Any, y: Any) -> float:
    """Return the AUROC from average ranks (Mann and Whitney 1947)."""
    attack = y.ravel() > 0
    n, m = int(attack.sum()), int((~attack).sum())
    ranks = rankdata(score.ravel().astype(float))
    return float((ranks[attack].sum() - n * (n + 1) / 2) / (n * m))


def binned_auroc(score: Any, y: Any) -> float | None:
    counted = np.ones(len(score), dtype=bool)
    return auroc(score_histogram(score.astype(np.float32), y, counted))


def labelled(seed: int, n_nodes: int, n_flows: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y = (rng.random((n_nodes, n_flows)) < 0.4) * rng.integers(1, 5, (n_nodes, n_flows))
    y[0, :2] = 0, 1
    return rng, y.astype(np.int16)


# --- AUROC --------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(0, 3))
def test_auroc_equals_the_rank_statistic_up_to_the_width_of_a_bin(seed: int, shift: float):
    rng, y = labelled(seed, 5, 200)
    score = rng.gamma(2, 1, y.shape) + shift * (y > 0)
    coarse = score.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    found = binned_auroc(score, y)
    assert found == pytest.approx(rank_auroc(coarse.view(np.float32), y), abs=1e-12)
    assert found == pytest.approx(rank_auroc(score, y), abs=0.003)


@given(seed=st.integers(0, 2**32 - 1), n_values=st.integers(1, 6))
def test_auroc_is_exact_on_ties(seed: int, n_values: int):
    rng, y = labelled(seed, 3, 40)
    score = rng.integers(0, n_values, y.shape) + (y > 0) * rng.integers(0, 2, y.shape)
    assert binned_auroc(score, y) == pytest.approx(rank_auroc(score, y), abs=1e-12)


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_auroc_of_two_gaussians_is_the_laws(distance: float):
    rng = np.random.default_rng(1)
    y = (np.arange(200_000) % 2).astype(np.int16)[None]
    score = np.exp(rng.standard_normal(y.shape) + distance * y)  # ranks need scores >= 0
    assert binned_auroc(score, y) == pytest.approx(norm.cdf(distance / math.sqrt(2)), abs=0.004)


def test_auroc_of_extremes():
    y = np.array([[0, 0, 1, 1]], dtype=np.int16)
    assert binned_auroc(np.array([[1, 2, 3, 4.0]]), y) == 1
    assert binned_auroc(np.array([[3, 4, 1, 2.0]]), y) == 0
    assert binned_auroc(np.array([[5, 5, 5, 5.0]]), y) == 0.5
    assert binned_auroc(np.array([[0, 0, 1e-45, 3e38]]), y) == 0.75, "1e-45 falls into the bin of 0"


def test_auroc_without_one_of_the_classes_is_undefined():
    score = np.ones((1, 3))
    for label in (0, 1):
        assert binned_auroc(score, np.full((1, 3), label, dtype=np.int16)) is None
    assert auroc(np.zeros((2, SCORE_BINS), dtype=np.int64)) is None


@given(seed=st.integers(0, 2**32 - 1))
def test_histograms_of_shards_add_up(seed: int):
    rng, y = labelled(seed, 8, 20)
    score = rng.gamma(1, 2, y.shape).astype(np.float32)
    counted = rng.random(8) < 0.7
    whole = score_histogram(score, y, counted)
    parts = sum(
        score_histogram(score[rows], y[rows], counted[rows]) for rows in (slice(0, 3), slice(3, 8))
    )
    assert whole.shape == (2, SCORE_BINS)
    assert whole.tolist() == parts.tolist()
    assert whole[0].sum() == (y[counted] == 0).sum()
    assert whole[1].sum() == (y[counted] > 0).sum()


def test_auroc_of_a_run_is_that_of_all_scores_of_honest_nodes_that_were_up(
    make_model: Callable[..., NetworkModel], monkeypatch: pytest.MonkeyPatch
):
    model = make_model(
        simulation={"flows_per_node": 40, "steps": 12},
        adversary={"kind": "flipper", "count": 2},
        churn={"crash_rate": 0.2, "recovery_rate": 0.3},
        metrics={"from_step": 3, "auroc_every": 2},
    )
    scores, labels = [], []
    for step in range(12):
        counted = model.state.up & ~model.liars
        flows = model.traffic.draw(step)
        score = model.shards.detector.score(model.state.nodes.detector, flows.x)
        model.step()
        found = model.entries["metrics"][0]["auroc"]
        expected = binned_auroc(score[counted], flows.y[counted]) if step % 2 == 0 else None
        assert np.isnan(found) if expected is None else found == expected
        if step >= 3:
            scores.append(score[counted])
            labels.append(flows.y[counted])
    assert not model.state.up.all()
    found = summarise(model.collect(), model.traffic.targets, 12)["auroc"]
    assert found == pytest.approx(binned_auroc(np.concatenate(scores), np.concatenate(labels)))


# --- confusion ----------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1))
def test_confusion_equals_a_plain_count(seed: int):
    rng, y = labelled(seed, 5, 7)
    flagged, counted = rng.random(y.shape) < 0.5, rng.random(5) < 0.7
    cells = [
        (bool(y[i, j] > 0), bool(flagged[i, j]))
        for i, j in product(range(5), range(7))
        if counted[i]
    ]
    expected = tuple(
        cells.count(cell) for cell in ((True, True), (False, True), (False, False), (True, False))
    )
    assert confusion(y, flagged, counted) == expected


@given(tp=COUNTS, fp=COUNTS, tn=COUNTS, fn=COUNTS)
def test_ratios_are_the_textbooks_and_undefined_where_the_denominator_is_zero(tp, fp, tn, fn):
    found = confusion_ratios(tp, fp, tn, fn)
    precision = tp / (tp + fp) if tp + fp else None
    recall = tp / (tp + fn) if tp + fn else None
    assert found["precision"] == precision
    assert found["recall"] == recall
    assert (found["f1"] is None) == (tp + fp + fn == 0)
    if precision and recall:
        assert found["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    margins = (tp + fp, tp + fn, tn + fp, tn + fn)
    assert (found["mcc"] is None) == (0 in margins)
    if found["mcc"] is not None:
        expected = (tp * tn - fp * fn) / math.sqrt(math.prod(margins))
        assert found["mcc"] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_mcc_equals_the_correlation_of_truth_and_alarm():
    rng = np.random.default_rng(0)
    y = (rng.random((1, 500)) < 0.3).astype(np.int16)
    flagged = (rng.random((1, 500)) < 0.2) | (y > 0) & (rng.random((1, 500)) < 0.6)
    found = confusion_ratios(*confusion(y, flagged, np.array([True])))["mcc"]
    assert found == pytest.approx(np.corrcoef(y[0], flagged[0])[0, 1])


def test_blocked_share_is_of_the_benign_flows():
    counts = {"honest_tp": 5, "honest_fp": 3, "honest_tn": 7, "honest_fn": 1, "benign_blocked": 2}
    assert derived_ratios(counts)["benign_blocked_share"] == 0.2
    nothing = derived_ratios(dict.fromkeys(counts, 0))
    assert set(nothing.values()) == {None}


COUNTED = ("honest_tp", "honest_fp", "honest_tn", "honest_fn", "benign_blocked")


@given(st.lists(st.tuples(*[COUNTS | st.just(0)] * len(COUNTED)), min_size=1, max_size=20))
def test_ratios_of_a_table_are_those_of_its_rows_to_the_last_bit(rows: list[tuple[int, ...]]):
    frame = pd.DataFrame(rows, columns=COUNTED, index=range(7, 7 + len(rows)))
    found = pd.DataFrame(ratio_columns(frame)).to_dict("records")
    for row, ratios in zip(rows, found, strict=True):
        expected = derived_ratios(dict(zip(COUNTED, row, strict=True)))
        assert {k: None if math.isnan(v) else v for k, v in ratios.items()} == expected


# --- summary ------------------------------------------------------------------------------


def state_of(model: NetworkModel, **changes: Any) -> State:
    arrays = {
        k: np.array(v, dtype=float if k == "immune" else np.int64) for k, v in changes.items()
    }
    return replace(model.state, **arrays)


def target(start: int, duration: int | None) -> Target:
    return Target(f"attack_{start}", 1, start, duration)


@pytest.mark.parametrize(
    ("targets", "first", "horizon", "delay", "share"),
    [
        ([target(5, 10)], [8], 50, 3, 1),
        ([target(5, 10)], [5], 50, 0, 1),
        ([target(5, 10)], [-1], 50, 10, 0),  # never: all of its length
        ([target(5, 10)], [14], 50, 9, 1),
        ([target(5, 10)], [15], 50, 10, 0),  # after it was over
        ([target(5, 10)], [40], 50, 10, 0),
        ([target(5, 10)], [-1], 9, 4, 0),  # cut off by the horizon
        ([target(5, None)], [-1], 50, 45, 0),
        ([target(5, None)], [30], 50, 25, 1),
        ([target(5, 10), target(20, 4)], [7, -1], 50, (2 + 4) / 2, 0.5),
        ([target(5, 10), target(20, 4)], [7, -1], 20, 2, 1),  # the second has not started
        ([target(5, 10)], [-1], 5, None, None),
        ([], [], 50, None, None),
    ],
)
def test_delays_are_restricted_to_the_length_of_the_attack(
    make_model: Callable[..., NetworkModel],
    targets: list[Target],
    first: list[int],
    horizon: int,
    delay: float | None,
    share: float | None,
):
    never = [-1] * len(targets)
    for name, metric in (
        ("first_flag", "first_flag_delay_steps"),
        ("first_confirmation", "detection_delay_steps"),
        ("first_immunity", "immunity_delay_steps"),
    ):
        times = dict.fromkeys(("first_flag", "first_confirmation", "first_immunity"), never)
        state = state_of(make_model(), **{**times, name: first}, immune=[0.0] * len(targets))
        found = summarise(state, tuple(targets), horizon)
        assert found[metric] == delay
        if name == "first_confirmation":
            assert found["detected_share"] == share


def test_immunity_share_is_the_mean_over_attacks_that_have_started(make_model: Any):
    targets = (target(0, 10), target(5, 10), target(30, 10))
    state = state_of(
        make_model(),
        first_flag=[-1] * 3,
        first_confirmation=[-1] * 3,
        first_immunity=[-1] * 3,
        immune=[0.5, 1.0, 0.9],
    )
    assert summarise(state, targets, 20)["immunity_share"] == 0.75
    assert summarise(state, targets, 0)["immunity_share"] is None


def test_summary_takes_ratios_of_sums_over_honest_nodes(make_model: Any):
    values = dict.fromkeys(METRIC_COUNTS, 0)
    values |= {"honest_tp": 6, "honest_fp": 2, "honest_tn": 10, "honest_fn": 4, "tp": 99, "fp": 99}
    values |= {"benign_blocked": 3, "confirmed": 5, "true_confirmations": 4}
    values |= {"false_confirmations": 1, "rejected": 7, "expired": 8, "messages_sent": 50}
    values |= {"messages_lost": 9, "bytes_sent": 1234, "decision_steps": 50}
    model = make_model(traffic={"campaigns": []})
    found = summarise(state_of(model, totals=list(values.values())), (), 10)
    assert found["precision"] == 0.75
    assert found["recall"] == 0.6
    assert found["benign_blocked_share"] == 0.25
    assert found["missed"] == 4
    assert found["decision_steps"] == 2.5
    assert found["infected_share"] is None
    assert (found["true_confirmations"], found["false_confirmations"]) == (4, 1)
    assert (found["rejections"], found["expirations"]) == (7, 8)
    assert (found["messages_sent"], found["messages_lost"], found["bytes_sent"]) == (50, 9, 1234)
    assert found["auroc"] is None
    assert found["detection_delay_steps"] is None


def test_first_times_are_noted_once_and_not_before_the_start(make_model: Any):
    model = make_model(traffic={"campaigns": []})
    targets = (target(2, 5), Target("other", 2, 0, 5))
    never = np.full(2, -1)
    state = replace(
        model.state,
        first_flag=never.copy(),
        first_confirmation=never.copy(),
        first_immunity=never.copy(),
        immune=np.array([0.95, 0.9]),
    )
    for step in range(5):
        state.step = step
        caught = np.array([True, True, False])
        confirmed = np.array([2] if step == 3 else [0], dtype=np.int16)
        note_first_times(targets, state, caught, confirmed)
    assert state.first_flag.tolist() == [2, -1]
    assert state.first_confirmation.tolist() == [-1, 3]
    assert state.first_immunity.tolist() == [2, -1]


def test_nodes_are_immune_whose_blacklists_cover_nine_tenths_together(make_model: Any):
    model = make_model(simulation={"nodes": 4}, response={"blacklist_capacity": 2})
    ranges = (range(35), range(28, 58), range(20, 64))  # together 58 of 64 are nine tenths
    covers = np.array([[sum(1 << k for k in r)] for r in ranges], dtype=np.uint64)
    model.state.signatures = Signatures(
        number=np.array([2, 5, 9]),
        proposer=np.zeros(3, dtype=np.int64),
        centroid=np.zeros((3, 8), dtype=np.float32),
        scale=np.ones((3, 8), dtype=np.float32),
        covers=covers,
    )
    model.state.blacklist = np.array([[-1, -1], [2, 5], [2, 9], [5, 9]])
    assert immune_nodes(model.state).tolist() == [[False], [True], [True], [False]]
    assert ENOUGH_REFERENCES == 58


def test_undetected_and_detected_campaigns_in_a_whole_run(make_model: Any):
    """A scan too loud to miss is confirmed; without confirmations the delay is the length."""
    loud = [{"family": "port_scan", "start": 4, "duration": 10, "flow_share": 0.5, "intensity": 5}]
    found = {}
    for name, consensus in (
        ("open", {"kind": "majority"}),
        ("closed", {"kind": "supermajority", "share": 1.0, "base": "all", "min_turnout": 1.0}),
    ):
        model = make_model(
            simulation={"nodes": 12, "flows_per_node": 20, "steps": 20},
            traffic={"campaigns": loud, "warmup_flows": 256},
            consensus=consensus,
            adversary={"kind": "flipper", "count": 2},
        )
        for _ in range(20):
            model.step()
        found[name] = summarise(model.collect(), model.traffic.targets, 20)
    assert found["open"]["detected_share"] == 1
    assert found["open"]["first_flag_delay_steps"] == 0
    assert 0 <= found["open"]["detection_delay_steps"] <= found["open"]["immunity_delay_steps"]
    assert found["open"]["immunity_share"] > 0.9
    assert found["closed"]["detected_share"] == 0
    assert found["closed"]["detection_delay_steps"] == 10
    assert found["closed"]["recall"] == pytest.approx(found["open"]["recall"], abs=0.2)
