"""Phase 10: what a step leaves behind: one row of metrics, first times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_core.adversaries.strategies import Ballot
from sim_core.config import ModelConfig
from sim_core.consensus import Outcome
from sim_core.ledger.blocks import (
    METRIC_COUNTS,
    METRICS,
    SUPPORT,
    VOTE,
    Entries,
)
from sim_core.metrics import IMMUNE_NODES, auroc
from sim_core.network import Deliveries
from sim_core.shard import Findings
from sim_core.state import Proposals, State
from sim_core.traffic import Target

Mask = NDArray[np.bool_]
BYTES_OF_A_FEATURE = 4
PENDING, CONFIRMED = int(Outcome.PENDING), int(Outcome.CONFIRMED)


@dataclass(frozen=True)
class StepEvents:
    """What happened in a step, for its row of metrics."""

    findings: Findings
    arrived: Deliveries
    decided: Proposals
    """The proposals as they stood when this step's decisions fell."""
    entries: dict[str, Entries]
    """Entries of all other kinds."""
    counted: Mask
    """Nodes that were up while it was observed `[n_nodes]`."""
    infections: int


def record_metrics(
    config: ModelConfig,
    targets: tuple[Target, ...],
    n_features: int,
    liars: Mask,
    state: State,
    events: StepEvents,
) -> Entries:
    """Return the row of metrics of this step; adds it to the totals."""
    fell = np.flatnonzero(events.decided.decided == state.step)
    confirmed = fell[events.decided.outcome[fell] == CONFIRMED]
    note_first_times(targets, state, events.findings.caught, events.decided.family[confirmed])
    values = _counts(config, n_features, state, fell, confirmed, events)
    if state.step >= config.metrics.from_step:
        state.totals += np.array([values[name] for name in METRIC_COUNTS])
    started = np.array([t.start <= state.step for t in targets], dtype=np.bool_)
    mean_reputation = state.reputation[:, 0] / (state.reputation[:, 0] + state.reputation[:, 1])
    histogram = events.findings.histogram
    row = values | {
        "step": state.step,
        "auroc": _or_nan(None if histogram is None else auroc(histogram)),
        "blacklist_coverage": _coverage(state, events.counted),
        "immunity_share": _mean(state.immune[started]),
        "reputation_honest": _mean(mean_reputation[~liars]),
        "reputation_dishonest": _mean(mean_reputation[liars]),
    }
    return np.array([tuple(row[name] for name in METRICS.names or ())], dtype=METRICS)


def note_first_times(
    targets: tuple[Target, ...],
    state: State,
    caught: Mask,
    confirmed: NDArray[np.int16],
) -> None:
    """Note the first flag, confirmation and immunity of each target.

    Args:
        targets: What should be noticed.
        state: Where first times are kept.
        caught: Families of which an honest node flagged a flow `[n_families + 1]`.
        confirmed: Families of the signatures confirmed in this step.
    """
    for index, target in enumerate(targets):
        happened = {
            "first_flag": bool(caught[target.family]),
            "first_confirmation": bool((confirmed == target.family).any()),
            "first_immunity": bool(state.immune[index] >= IMMUNE_NODES),
        }
        for name, now in happened.items():
            times = getattr(state, name)
            if now and times[index] < 0 and target.start <= state.step:
                times[index] = state.step


def _counts(
    config: ModelConfig,
    n_features: int,
    state: State,
    fell: NDArray[np.int64],
    confirmed: NDArray[np.int64],
    events: StepEvents,
) -> dict[str, int]:
    """Return the counts of METRIC_COUNTS; `fell` and `confirmed` are rows of `events.decided`."""
    decided = events.decided
    outcomes = np.bincount(decided.outcome[fell], minlength=len(Outcome)).tolist()
    n_true = int(np.count_nonzero(decided.is_true[confirmed]))
    findings, entries = events.findings, events.entries
    names = ("tp", "fp", "tn", "fn")
    votes = entries["vote"]
    ballots = np.bincount(votes["ballot"], minlength=4)
    messages = _messages(config, n_features, events)
    return (
        dict(zip(names, findings.counts[0].tolist(), strict=True))
        | {f"honest_{n}": v for n, v in zip(names, findings.counts[1].tolist(), strict=True)}
        | {
            "benign_blocked": findings.benign_blocked,
            "alerts": findings.n_alerts,
            "proposals": len(entries["proposal"]),
            "supports": len(entries["support"]),
            "votes_accept": int(ballots[Ballot.ACCEPT]),
            "votes_reject": int(ballots[Ballot.REJECT]),
            "votes_abstain": int(ballots[Ballot.ABSTAIN]),
            "confirmed": outcomes[CONFIRMED],
            "rejected": outcomes[Outcome.REJECTED],
            "expired": outcomes[Outcome.EXPIRED],
            "true_confirmations": n_true,
            "false_confirmations": len(confirmed) - n_true,
            "decision_steps": int((state.step - decided.step[fell]).sum()),
            "pending": int(np.count_nonzero(state.proposals.outcome == PENDING)),
            "infected": events.infections,
            "nodes_up": int(np.count_nonzero(events.counted)),
        }
        | messages
    )


def _messages(config: ModelConfig, n_features: int, events: StepEvents) -> dict[str, int]:
    """Return the messages of this step: what travelled, and proposals and votes to the ledger."""
    arrived, entries = events.arrived, events.entries
    direct = written = 0
    if config.dissemination.kind not in ("none", "centralised"):
        direct = sum(len(entries[kind]) for kind in ("proposal", "support", "vote"))
        written = (
            entries["proposal"].nbytes
            + len(entries["support"]) * SUPPORT.itemsize
            + len(entries["vote"]) * VOTE.itemsize
        )
    carried = (
        arrived.proposal_copies * entries["proposal"].dtype.itemsize
        + arrived.decision_copies * entries["decision"].dtype.itemsize
    )
    if config.dissemination.kind == "centralised":
        flows = int(events.counted.sum()) * config.simulation.flows_per_node
        carried += flows * n_features * BYTES_OF_A_FEATURE
    return {
        "messages_sent": arrived.sent + direct,
        "messages_delivered": arrived.delivered + direct,
        "messages_lost": arrived.lost,
        "messages_in_flight": arrived.in_flight,
        "bytes_sent": written + carried,
    }


def _coverage(state: State, counted: Mask) -> float:
    """Return the share of (node, known signature) pairs that are in effect."""
    n_known = len(state.signatures)
    if n_known == 0:
        return float("nan")
    held = np.minimum(state.blacklist_count[counted], state.blacklist.shape[1])
    return _mean(held / n_known)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
