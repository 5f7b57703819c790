"""Observables: confusion counts, AUROC from histograms, and the summary of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.ledger.blocks import METRIC_COUNTS
from sim_core.state import State
from sim_core.traffic import Target

IMMUNE_NODES = 0.95
"""Share of honest nodes that must be immune for a target to count as immunised."""
COVERED_REFERENCES = 0.9
"""Share of a target's reference flows that a node's blacklist must match for it to be immune."""

Metrics = dict[str, float | None]


def ratio(numerator: float, denominator: float) -> float | None:
    """Return the quotient, or None where it is undefined.

    >>> ratio(1, 4), ratio(0, 0)
    (0.25, None)
    """
    return None if denominator == 0 else numerator / denominator


def confusion_ratios(tp: float, fp: float, tn: float, fn: float) -> Metrics:
    """Return precision, recall, F1 and MCC (Matthews 1975); None where undefined.

    >>> confusion_ratios(9, 1, 9, 1)["mcc"]
    0.8
    """
    scale = float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn)
    return {
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "mcc": ratio(float(tp) * tn - float(fp) * fn, float(np.sqrt(scale))),
    }


def auroc(histogram: NDArray[np.int64]) -> float | None:
    """Return the area under the ROC curve, ties counted half (Hanley and McNeil 1982).

    >>> h = np.zeros((2, 16), dtype=np.int64)
    >>> h[0, 3] = 2; h[1, 3] = 1; h[1, 9] = 1
    >>> auroc(h)
    0.75
    """
    benign, attack = histogram
    pairs = int(benign.sum()) * int(attack.sum())
    below = np.cumsum(benign) - benign
    wins = (attack * (2 * below + benign)).sum() / 2
    return ratio(float(wins), pairs)


def derived_ratios(counts: Mapping[str, Any]) -> Metrics:
    """Return the ratios that follow from one row of honest nodes' counts."""
    tp, fp, tn, fn = (float(counts[f"honest_{name}"]) for name in ("tp", "fp", "tn", "fn"))
    return confusion_ratios(tp, fp, tn, fn) | {
        "benign_blocked_share": ratio(float(counts["benign_blocked"]), fp + tn)
    }


def summarise(state: State, targets: tuple[Target, ...], horizon: int) -> Metrics:
    """Return the metrics of a run at its horizon: a function of the state alone.

    Ratios are taken of sums over honest nodes since `metrics.from_step`. Delays count from a
    target's start and are restricted to its length, so that a target never noticed counts with
    all of it; `detected_share` says how many were noticed by a confirmed signature.
    """
    counts = dict(zip(METRIC_COUNTS, (int(v) for v in state.totals), strict=True))
    lengths = np.array([_length(t, horizon) for t in targets], dtype=np.float64)
    started = lengths > 0
    start = np.array([t.start for t in targets], dtype=np.float64)

    def delay(first: NDArray[np.int64]) -> float | None:
        if not started.any():
            return None
        waited = np.where(first >= 0, np.minimum(first - start, lengths), lengths)
        return float(waited[started].mean())

    def share(first: NDArray[np.int64]) -> float | None:
        within = (first >= 0) & (first - start < lengths)
        return float(within[started].mean()) if started.any() else None

    decided = counts["confirmed"] + counts["rejected"] + counts["expired"]
    return derived_ratios(counts) | {
        "auroc": auroc(state.histogram),
        "true_confirmations": float(counts["true_confirmations"]),
        "false_confirmations": float(counts["false_confirmations"]),
        "rejections": float(counts["rejected"]),
        "expirations": float(counts["expired"]),
        "first_flag_delay_steps": delay(state.first_flag),
        "detection_delay_steps": delay(state.first_confirmation),
        "immunity_delay_steps": delay(state.first_immunity),
        "detected_share": share(state.first_confirmation),
        "immunity_share": float(state.immune[started].mean()) if started.any() else None,
        "decision_steps": ratio(float(counts["decision_steps"]), decided),
        "infected_share": _infected_share(state),
        "run_length_steps": _run_length(state.nodes.first_alarm, horizon),
        "messages_sent": float(counts["messages_sent"]),
        "messages_lost": float(counts["messages_lost"]),
        "bytes_sent": float(counts["bytes_sent"]),
        "missed": float(counts["honest_fn"]),
        "benign_blocked": float(counts["benign_blocked"]),
    }


def _infected_share(state: State) -> float | None:
    """Return the share of nodes infected by now, the mean over worms that have begun."""
    infected, now = state.infected, state.step
    begun = ((infected >= 0) & (infected < now)).any(axis=1)
    if not begun.any():
        return None
    return float(((infected[begun] >= 0) & (infected[begun] <= now)).mean())


def _run_length(first_alarm: NDArray[np.int64], horizon: int) -> float:
    """Return the mean steps to a node's first alarm, that one included; without one, the horizon."""
    return float(np.where(first_alarm >= 0, first_alarm + 1, horizon).mean())


def _length(target: Target, horizon: int) -> int:
    left = horizon - target.start
    return max(0, left if target.duration is None else min(target.duration, left))
