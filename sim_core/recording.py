"""Phase 10: what a step leaves behind: entries, one row of metrics, first times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim_core.adversaries.strategies import Ballot
from sim_core.config import ModelConfig
from sim_core.consensus import Outcome
from sim_core.detection import Detection
from sim_core.ledger.blocks import (
    ALERT,
    METRIC_COUNTS,
    METRICS,
    SUPPORT,
    VOTE,
    Entries,
    make_entries,
)
from sim_core.metrics import IMMUNE_NODES, auroc, confusion, score_histogram
from sim_core.network import Deliveries, Dissemination
from sim_core.phases import immune_nodes
from sim_core.state import Proposals, State
from sim_core.traffic import Flows, Target, Traffic

Mask = NDArray[np.bool_]


def alert_entries(traffic: Traffic, step: int, flows: Flows, detection: Detection) -> Entries:
    """Return an alert for each flagged flow, in order of node and flow."""
    node, flow = np.nonzero(detection.flagged)
    records = traffic.describe(step, flows, node, flow)
    return make_entries(
        ALERT,
        len(node),
        step=step,
        node=node,
        flow=flow,
        score=detection.score[node, flow],
        matched=detection.matched[node, flow],
        timestamp=records.timestamp,
        source_ip=records.source_ip,
        destination_ip=records.destination_ip,
        bytes_transferred=records.bytes_transferred,
        protocol=records.protocol,
    )


def record_metrics(
    config: ModelConfig,
    traffic: Traffic,
    dissemination: Dissemination,
    liars: Mask,
    state: State,
    decided: Proposals,
    flows: Flows,
    detection: Detection,
    arrived: Deliveries,
    entries: dict[str, Entries],
    counted: Mask,
) -> Entries:
    """Return the row of metrics of this step; adds it to the totals.

    `decided` are the proposals as they stood when this step's decisions fell, `counted` the nodes
    that were up while it was observed `[n_nodes]`, `entries` its entries of all other kinds.
    """
    honest = counted & ~liars
    histogram = score_histogram(detection.score, flows.y, honest)
    confirmed = decided.take(
        np.isin(decided.number, entries["decision"]["proposal"])
        & (decided.outcome == Outcome.CONFIRMED)
    )
    if arrived.informed.any() and not liars.all():
        state.immune = immune_nodes(state)[~liars].mean(axis=0)
    caught = flows.y[honest][detection.flagged[honest]]
    note_first_times(traffic.targets, state, caught, confirmed.family)
    values = _counts(
        dissemination,
        state,
        confirmed,
        flows,
        detection,
        arrived,
        entries,
        counted,
        honest,
    )
    if state.step >= config.metrics.from_step:
        state.totals += np.array([values[name] for name in METRIC_COUNTS])
        state.histogram += histogram
    due = state.step % config.metrics.auroc_every == 0
    started = np.array([t.start <= state.step for t in traffic.targets], dtype=np.bool_)
    mean_reputation = state.reputation[:, 0] / state.reputation.sum(axis=1)
    return make_entries(
        METRICS,
        1,
        step=state.step,
        **values,
        auroc=_or_nan(auroc(histogram) if due else None),
        blacklist_coverage=_coverage(state, counted),
        immunity_share=_mean(state.immune[started]),
        reputation_honest=_mean(mean_reputation[~liars]),
        reputation_dishonest=_mean(mean_reputation[liars]),
    )


def note_first_times(
    targets: tuple[Target, ...],
    state: State,
    caught: NDArray[np.int16],
    confirmed: NDArray[np.int16],
) -> None:
    """Note the first flag, confirmation and immunity of each target.

    Args:
        targets: What should be noticed.
        state: Where first times are kept.
        caught: True labels of the flows that honest nodes flagged.
        confirmed: Families of the signatures confirmed in this step.
    """
    for index, target in enumerate(targets):
        happened = {
            "first_flag": bool((caught == target.family).any()),
            "first_confirmation": bool((confirmed == target.family).any()),
            "first_immunity": bool(state.immune[index] >= IMMUNE_NODES),
        }
        for name, now in happened.items():
            times = getattr(state, name)
            if now and times[index] < 0 and target.start <= state.step:
                times[index] = state.step


def _counts(
    dissemination: Dissemination,
    state: State,
    confirmed: Proposals,
    flows: Flows,
    detection: Detection,
    arrived: Deliveries,
    entries: dict[str, Entries],
    counted: Mask,
    honest: Mask,
) -> dict[str, int]:
    """Return the counts of METRIC_COUNTS."""
    names = ("tp", "fp", "tn", "fn")
    everyone = confusion(flows.y, detection.flagged, counted)
    only_honest = confusion(flows.y, detection.flagged, honest)
    blocked = detection.matched & (flows.y == 0) & honest[:, None]
    votes, decisions = entries["vote"], entries["decision"]
    published = len(entries["proposal"]) + len(entries["support"])
    direct = published + len(votes) if dissemination.shared else 0
    sizes = {
        "proposal": entries["proposal"].dtype.itemsize,
        "decision": entries["decision"].dtype.itemsize,
    }
    read = (
        int(arrived.held.sum()) * sizes["proposal"]
        + int(arrived.informed.sum()) * sizes["decision"]
    )
    written = (
        len(entries["proposal"]) * sizes["proposal"]
        + len(entries["support"]) * SUPPORT.itemsize
        + len(votes) * VOTE.itemsize
    )
    return (
        dict(zip(names, everyone, strict=True))
        | {f"honest_{n}": v for n, v in zip(names, only_honest, strict=True)}
        | {
            "benign_blocked": int(blocked.sum()),
            "alerts": len(entries["alert"]),
            "proposals": len(entries["proposal"]),
            "supports": len(entries["support"]),
            "votes_accept": int((votes["ballot"] == Ballot.ACCEPT).sum()),
            "votes_reject": int((votes["ballot"] == Ballot.REJECT).sum()),
            "votes_abstain": int((votes["ballot"] == Ballot.ABSTAIN).sum()),
            "confirmed": len(confirmed),
            "rejected": int((decisions["outcome"] == Outcome.REJECTED).sum()),
            "expired": int((decisions["outcome"] == Outcome.EXPIRED).sum()),
            "true_confirmations": int(confirmed.is_true.sum()),
            "false_confirmations": int((~confirmed.is_true).sum()),
            "pending": int((state.proposals.outcome == Outcome.PENDING).sum()),
            "messages_sent": arrived.sent + direct,
            "messages_delivered": arrived.delivered + direct,
            "messages_lost": arrived.lost,
            "messages_in_flight": arrived.in_flight,
            "bytes_sent": read + written if dissemination.shared else 0,
            "nodes_up": int(counted.sum()),
        }
    )


def _coverage(state: State, counted: Mask) -> float:
    """Return the share of (node, known signature) pairs that are in effect."""
    n_known = len(state.signatures)
    if n_known == 0:
        return float("nan")
    held = (state.blacklist[counted] >= 0).sum(axis=1)
    return _mean(held / n_known)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
