"""What a step leaves behind: entries of all kinds, the row of metrics, the summary of a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sim_core.ledger.blocks import (
    ALERT,
    METRICS,
    SUPPORT,
    VOTE,
    Entries,
    decision_dtype,
    proposal_dtype,
)
from tests.oracle.agents import ABSTAIN, ACCEPT, REJECT, Node
from tests.oracle.signatures import CLOSE, Proposal

if TYPE_CHECKING:
    from tests.oracle.model import OracleModel

Scores = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Scores, and which of them are of attacks."""
NAN = float("nan")


def alerts(model: OracleModel) -> Entries:
    """Return an entry per flagged flow, by node and flow."""
    places = [(n.number, int(b)) for n in model.nodes for b in np.flatnonzero(n.flagged)]
    rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
    told = model.traffic.describe(model.time, model.flows, rows, columns)
    entries = np.zeros(len(places), dtype=ALERT)
    for k, (i, b) in enumerate(places):
        node = model.nodes[i]
        entries[k] = (
            model.time, i, b, node.score[b], node.matched[b], told.timestamp[k], told.source_ip[k],
            told.destination_ip[k], told.bytes_transferred[k], told.protocol[k],
        )  # fmt: skip
    return entries


def proposals(model: OracleModel, published: list[Proposal]) -> Entries:
    """Return an entry per new proposal, by number."""
    entries = np.zeros(len(published), dtype=proposal_dtype(len(model.traffic.feature_names)))
    for k, p in enumerate(published):
        s = p.signature
        entries[k] = (
            p.step, p.number, p.proposer.number, s.n_support, s.confidence, s.protocol, s.is_true,
            s.family, s.centroid, s.scale,
        )  # fmt: skip
    return entries


def supports(model: OracleModel, supported: list[tuple[Proposal, Node]]) -> Entries:
    """Return an entry per support, by proposal and node."""
    rows = sorted((model.time, p.number, n.number) for p, n in supported)
    return np.array(rows, dtype=SUPPORT)


def votes(model: OracleModel) -> Entries:
    """Return an entry per vote of this step, by proposal and node."""
    rows = [(model.time, p.number, n.number, b) for n in model.nodes for p, b in n.cast.items()]
    return np.array(sorted(rows), dtype=VOTE)


def decisions(model: OracleModel) -> Entries:
    """Return an entry per decision of this step, by proposal."""
    n_seats = model.config.n_voters
    entries = np.zeros(len(model.decided_now), dtype=decision_dtype(n_seats))
    for k, p in enumerate(model.decided_now):
        cast = list(p.ballots.values())
        packed = [0] * math.ceil(n_seats / 4)
        for seat, node in enumerate(p.seats):
            packed[seat // 4] |= p.ballots.get(node, 0) << 2 * (seat % 4)
        entries[k] = (
            model.time, p.number, p.outcome, cast.count(ACCEPT), cast.count(REJECT),
            cast.count(ABSTAIN), len(p.seats), packed,
        )  # fmt: skip
    return entries


class Ranking:
    """The area under the ROC curve of scores cut to their leading 16 bits."""

    def __init__(self, parts: list[Scores]) -> None:
        """Rank all scores, equal ones in the middle (Hanley and McNeil 1982)."""
        self.value, self.slack = NAN, 0.0
        if not parts:
            return
        score = np.concatenate([s for s, _ in parts])
        attack = np.concatenate([a for _, a in parts])
        n, m = int(attack.sum()), int((~attack).sum())
        if n == 0 or m == 0:
            return
        bits = score.view(np.uint32)
        ranks = rankdata(bits >> 16)
        self.value = float((ranks[attack].sum() - n * (n + 1) / 2) / (n * m))
        # Rounding may move a score near the edge of its bin into the next one.
        reach = int(CLOSE * 2**24)
        low = bits & 0xFFFF
        near = (score > 0) & ((low <= reach) | (low >= 0xFFFF - reach))
        self.slack = float((near & attack).sum() / n + (near & ~attack).sum() / m)


def mean(values: list[Any]) -> float:
    """Return the mean, NaN of nothing."""
    return float(sum(values) / len(values)) if values else NAN


def counted_scores(model: OracleModel) -> Scores:
    """Return the scores of this step at honest nodes that are up."""
    nodes = [n for n in model.nodes if n.was_up and not n.is_liar]
    if not nodes:
        return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.bool_)
    return np.concatenate([n.score for n in nodes]), np.concatenate([n.y > 0 for n in nodes])


def metrics(model: OracleModel, entries: dict[str, Entries]) -> Entries:
    """Return the row of metrics of this step."""
    row: dict[str, Any] = {"step": model.time} | _flows(model) | _events(model, entries)
    row |= _messages(model, entries)
    honest = [n for n in model.nodes if not n.is_liar]
    known = model.known_signatures()
    held = [len(n.blacklist) / len(known) for n in model.nodes if n.was_up] if known else []
    shares = [s for t, s in zip(model.targets, model.immune_shares(), strict=True)
              if t.start <= model.time]  # fmt: skip
    row |= {
        "auroc": model.ranking.value,
        "blacklist_coverage": mean(held),
        "immunity_share": mean(shares),
        "reputation_honest": mean([n.reputation for n in honest]),
        "reputation_dishonest": mean([n.reputation for n in model.nodes if n.is_liar]),
    }
    return np.array([tuple(row[name] for name in METRICS.names or ())], dtype=METRICS)


def _flows(model: OracleModel) -> dict[str, int]:
    """Return counts of flows at nodes that were up."""
    up = [n for n in model.nodes if n.was_up]
    row = {}
    for prefix, nodes in (("", up), ("honest_", [n for n in up if not n.is_liar])):
        row[prefix + "tp"] = sum(int((n.flagged & (n.y > 0)).sum()) for n in nodes)
        row[prefix + "fp"] = sum(int((n.flagged & (n.y == 0)).sum()) for n in nodes)
        row[prefix + "tn"] = sum(int((~n.flagged & (n.y == 0)).sum()) for n in nodes)
        row[prefix + "fn"] = sum(int((~n.flagged & (n.y > 0)).sum()) for n in nodes)
    blocked = [n.matched & (n.y == 0) for n in up if not n.is_liar]
    return row | {"benign_blocked": sum(int(b.sum()) for b in blocked), "nodes_up": len(up)}


def _events(model: OracleModel, entries: dict[str, Entries]) -> dict[str, int]:
    """Return counts of what was published, cast and decided."""
    ballots = entries["vote"]["ballot"].tolist()
    outcomes = [p.outcome for p in model.decided_now]
    confirmed = [p for p in model.decided_now if p.outcome == 1]
    return {
        "alerts": len(entries["alert"]),
        "proposals": len(entries["proposal"]),
        "supports": len(entries["support"]),
        "votes_accept": ballots.count(ACCEPT),
        "votes_reject": ballots.count(REJECT),
        "votes_abstain": ballots.count(ABSTAIN),
        "confirmed": outcomes.count(1),
        "rejected": outcomes.count(2),
        "expired": outcomes.count(3),
        "true_confirmations": sum(p.signature.is_true for p in confirmed),
        "false_confirmations": sum(not p.signature.is_true for p in confirmed),
        "decision_steps": sum(model.time - p.step for p in model.decided_now),
        "pending": len(model.pending),
        "infected": model.infections,
    }


def _messages(model: OracleModel, entries: dict[str, Entries]) -> dict[str, int]:
    """Return counts of messages and bytes."""
    way, kind = model.dissemination, model.config.dissemination.kind
    written = ("proposal", "support", "vote")
    direct = sum(len(entries[k]) for k in written) if kind not in ("none", "centralised") else 0
    n_bytes = sum(entries[k].nbytes for k in written) if direct else 0
    n_bytes += way.proposal_copies * entries["proposal"].dtype.itemsize
    n_bytes += way.decision_copies * entries["decision"].dtype.itemsize
    if kind == "centralised":
        n_bytes += sum(4 * n.x.size for n in model.nodes if n.was_up)
    return {
        "messages_sent": way.sent + direct,
        "messages_delivered": way.delivered + direct,
        "messages_lost": way.lost,
        "messages_in_flight": way.in_flight,
        "bytes_sent": n_bytes,
    }


def note_first_times(model: OracleModel) -> None:
    """Note what has happened to each target for the first time."""
    honest = [n for n in model.nodes if not n.is_liar and n.was_up]
    flagged = {int(k) for n in honest for k in n.y[n.flagged]} - {0}
    confirmed = {p.signature.family for p in model.decided_now if p.outcome == 1}
    for target, share, times in zip(
        model.targets, model.immune_shares(), model.first_times, strict=True
    ):
        for name, now in (
            ("flag", target.family in flagged),
            ("confirmation", target.family in confirmed),
            ("immunity", share >= 0.95),
        ):
            if now and target.start <= model.time:
                times.setdefault(name, model.time)


def summary(model: OracleModel) -> dict[str, float | None]:
    """Return the summary of the run so far, by docs/reference/metrics.md."""
    horizon = model.time
    rows = [r for r in model.rows if r["step"] >= model.config.metrics.from_step]
    total = {name: float(sum(r[name] for r in rows)) for name in METRICS.names or ()}
    tp, fp, tn, fn = (total[f"honest_{name}"] for name in ("tp", "fp", "tn", "fn"))
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    decided = total["confirmed"] + total["rejected"] + total["expired"]
    targets = [
        (
            t.start,
            horizon - t.start if t.duration is None else min(t.duration, horizon - t.start),
            times,
            share,
        )
        for t, times, share in zip(
            model.targets, model.first_times, model.immune_shares(), strict=True
        )
        if t.start < horizon
    ]

    def delay(name: str) -> float | None:
        waited = [min(ts.get(name, math.inf) - start, n) for start, n, ts, _ in targets]
        return mean(waited) if waited else None

    found = [ts.get("confirmation", math.inf) - start < n for start, n, ts, _ in targets]
    alarms = [horizon if n.first_alarm is None else n.first_alarm + 1 for n in model.nodes]
    auroc = Ranking(model.scores).value
    return {
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "mcc": _ratio(tp * tn - fp * fn, root),
        "benign_blocked_share": _ratio(total["benign_blocked"], fp + tn),
        "auroc": None if math.isnan(auroc) else auroc,
        "true_confirmations": total["true_confirmations"],
        "false_confirmations": total["false_confirmations"],
        "rejections": total["rejected"],
        "expirations": total["expired"],
        "first_flag_delay_steps": delay("flag"),
        "detection_delay_steps": delay("confirmation"),
        "immunity_delay_steps": delay("immunity"),
        "detected_share": mean(found) if found else None,
        "immunity_share": mean([share for *_, share in targets]) if targets else None,
        "decision_steps": _ratio(total["decision_steps"], decided),
        "infected_share": _infected_share(model),
        "run_length_steps": mean(alarms),
        "messages_sent": total["messages_sent"],
        "messages_lost": total["messages_lost"],
        "bytes_sent": total["bytes_sent"],
        "missed": fn,
        "benign_blocked": total["benign_blocked"],
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return None if denominator == 0 else numerator / denominator


def _infected_share(model: OracleModel) -> float | None:
    """Return the share of nodes that each worm has infected, the mean over worms that have begun."""
    worms = [
        c
        for c, campaign in enumerate(model.campaigns)
        if campaign.spread == "worm" and campaign.start < model.time
    ]
    shares = [mean([c in n.infected for n in model.nodes]) for c in worms]
    return mean(shares) if shares else None
