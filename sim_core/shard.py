"""What nodes do by themselves: observe, detect, learn, draft signatures, judge those of others.

A shard holds the rows of some nodes and goes through them in chunks that fit into the cache. What it
tells the network is counts, drafts and opinions, all of them whole numbers or a node's own: adding up
those of several shards in node order gives the same bits for any number of shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim_core import passes
from sim_core.adversaries import Adversary, make_adversary
from sim_core.adversaries.strategies import Ballot
from sim_core.config import ModelConfig
from sim_core.detectors import (
    COMMON_NODES,
    DetectorState,
    initial_thresholds,
    make_detector,
    thresholds_of_step,
)
from sim_core.detectors.base import Stationary
from sim_core.ledger.blocks import ALERT, Entries, alert_parts
from sim_core.randomness import BLOCK_NODES, Streams
from sim_core.state import RECENT_FLOWS, SCORE_BINS, Nodes, Signatures, Table
from sim_core.traffic import Flows, Traffic, make_traffic

CHUNK_FLOATS = 1 << 17
"""Features of the nodes that are gone through at once: half a megabyte, so that it stays in cache."""
CENTRAL_WARMUP_NODES = 1_024
"""Nodes whose warm-up flows start the centre's detector at most."""
PAIRS_AT_ONCE = 4_096

Mask = NDArray[np.bool_]


@dataclass
class Drafts(Table):
    """Signatures that nodes would propose, one row each, in node order."""

    node: NDArray[np.int64]
    n_support: NDArray[np.int64]
    centroid: NDArray[np.float32]
    scale: NDArray[np.float32]
    confidence: NDArray[np.float64]
    is_true: Mask
    family: NDArray[np.int16]
    protocol: NDArray[np.uint8]

    @classmethod
    def empty(cls, n: int, n_features: int) -> Drafts:
        """Return unset drafts."""
        return cls(
            node=np.zeros(n, dtype=np.int64),
            n_support=np.zeros(n, dtype=np.int64),
            centroid=np.zeros((n, n_features), dtype=np.float32),
            scale=np.zeros((n, n_features), dtype=np.float32),
            confidence=np.zeros(n, dtype=np.float64),
            is_true=np.zeros(n, dtype=np.bool_),
            family=np.zeros(n, dtype=np.int16),
            protocol=np.zeros(n, dtype=np.uint8),
        )


@dataclass(frozen=True)
class Orders:
    """What the network tells its nodes before they go through a step; arrays of all nodes."""

    step: int
    up: Mask
    """`[n_nodes]`."""
    able: Mask
    """May propose: no proposal pending, cool-down over `[n_nodes]`."""
    awake: Mask
    """Liars that have turned `[n_nodes]`."""
    infected: Mask | None
    """Who is infectious with which worm `[n_campaigns, n_nodes]`."""
    blacklist: NDArray[np.int64]
    """`[n_nodes, capacity]`."""
    signatures: Signatures
    received: NDArray[np.int64]
    """Nodes, and numbers of the signatures that they got in the step before `[2, n]`."""
    wants_histogram: bool
    """Whether this step's own histogram of scores is asked for."""
    counts_histogram: bool
    """Whether this step counts in the run's histogram."""

    def of(self, first: int, last: int) -> Orders:
        """Return the orders to the nodes from `first` to before `last`."""
        node = self.received[0]
        received = self.received[:, (node >= first) & (node < last)]
        return Orders(
            self.step,
            self.up[first:last],
            self.able[first:last],
            self.awake[first:last],
            None if self.infected is None else self.infected[:, first:last],
            self.blacklist[first:last],
            self.signatures,
            received - np.array([[first], [0]]),
            self.wants_histogram,
            self.counts_histogram,
        )


@dataclass(frozen=True)
class Findings:
    """What nodes found in a step."""

    counts: NDArray[np.int64]
    """TP, FP, TN, FN of nodes that are up, and of the honest ones `[2, 4]`."""
    benign_blocked: int
    caught: Mask
    """Families of which an honest node flagged a flow `[n_families + 1]`."""
    drafts: Drafts
    alert_parts: tuple[tuple[bytes, int], ...]
    """SHA-256 and number of the alerts of each block of 64 nodes that has any."""
    alerts: Entries
    """The alerts themselves, in order of node and flow; none where nobody keeps them."""
    alarms: NDArray[np.int32]
    """Flagged flows of each node `[n_nodes]`."""
    histogram: NDArray[np.int64] | None
    """Scores of this step at honest nodes `[2, SCORE_BINS]`, where asked for."""

    @property
    def n_alerts(self) -> int:
        """Number of flagged flows."""
        return sum(n for _, n in self.alert_parts)


class Shards(Protocol):
    """The nodes of a network, in one piece or in several."""

    def detect(self, orders: Orders) -> Findings:
        """Let all nodes go through a step."""

    def judge(
        self,
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        row: NDArray[np.int64],
        node: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        """Return the honest opinion of `node[k]` on signature `row[k]`, a `Ballot` each."""

    def collect(self) -> tuple[Nodes, NDArray[np.int64]]:
        """Return the state of all nodes, and the histogram of scores since the start."""


def join_findings(parts: Sequence[Findings]) -> Findings:
    """Return what several shards found, in node order."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    drafts = first.drafts
    for part in parts[1:]:
        drafts = drafts.append(part.drafts)
    return Findings(
        counts=np.sum([p.counts for p in parts], axis=0),
        benign_blocked=sum(p.benign_blocked for p in parts),
        caught=np.any([p.caught for p in parts], axis=0),
        drafts=drafts,
        alert_parts=tuple(block for p in parts for block in p.alert_parts),
        alerts=np.concatenate([p.alerts for p in parts]),
        alarms=np.concatenate([p.alarms for p in parts]),
        histogram=None
        if first.histogram is None
        else np.sum([p.histogram for p in parts if p.histogram is not None], axis=0),
    )


class NodeShard:
    """The nodes from `first` to before `last`, in this process; alone, they are all of them."""

    def __init__(
        self,
        config: ModelConfig,
        streams: Streams,
        liars: Mask,
        *,
        first: int = 0,
        last: int | None = None,
        nodes: Nodes | None = None,
        traffic: Traffic | None = None,
        keeps_alerts: bool = True,
    ) -> None:
        """Start from warm-up, or from `nodes`, the state of these nodes.

        Raises:
            DataError: a data file of the traffic is missing or damaged.
        """
        self.config = config
        self.first = first
        self.last = config.simulation.nodes if last is None else last
        self.traffic = make_traffic(config, streams) if traffic is None else traffic
        self.detector = make_detector(config.detector, streams)
        self.adversary: Adversary = make_adversary(config)
        self.is_central = config.dissemination.kind == "centralised"
        self._is_chart = getattr(type(self.detector), "advance", None) is not Stationary.advance
        self._liars = liars[self.first : self.last]
        self._keeps_alerts = keeps_alerts
        self._histogram = np.zeros((2, SCORE_BINS), dtype=np.int64)
        n_flows, n_features = config.simulation.flows_per_node, len(self.traffic.feature_names)
        size = self.last - self.first
        fitting = CHUNK_FLOATS // (n_flows * n_features) // BLOCK_NODES * BLOCK_NODES
        self._chunk = size if self.is_central else min(size, max(BLOCK_NODES, fitting))
        self._flows = Flows.empty(self._chunk, n_flows, n_features)
        self._matched, self._flagged, self._support, self._ordinary = (
            np.zeros((self._chunk, n_flows), dtype=np.bool_) for _ in range(4)
        )
        self._n_support = np.zeros(self._chunk, dtype=np.int64)
        self.score = np.zeros((0, n_flows), dtype=np.float32)
        """Scores of the chunk that was gone through last."""
        if getattr(config.detector, "shared", False):
            common = min(COMMON_NODES, config.simulation.nodes)
            self.detector.prepare(self.traffic.warmup(0, common))
        self.nodes = self._initial_nodes() if nodes is None else nodes

    def detect(self, orders: Orders) -> Findings:
        """Go through phases 1 to 4 of a step, up to the drafts."""
        self._forget(orders)
        step = _Tallies(
            len(self.traffic.families), self.last - self.first, wants=orders.wants_histogram
        )
        drafts: list[Drafts] = []
        parts: list[tuple[bytes, int]] = []
        alerts: list[Entries] = []
        for start in range(0, self.last - self.first, self._chunk):
            stop = min(start + self._chunk, self.last - self.first)
            self._detect_chunk(orders.of(start, stop), start, stop, step, drafts, parts, alerts)
        histogram = step.histogram if orders.wants_histogram else None
        if orders.counts_histogram and histogram is not None:
            self._histogram += histogram
        return Findings(
            counts=step.counts,
            benign_blocked=int(step.blocked[0]),
            caught=step.caught,
            drafts=_joined(drafts, len(self.traffic.feature_names)),
            alert_parts=tuple(parts),
            alerts=np.concatenate(alerts) if alerts else np.zeros(0, dtype=ALERT),
            alarms=step.alarms,
            histogram=histogram,
        )

    def judge(
        self,
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        row: NDArray[np.int64],
        node: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        """Return opinions; pairs are judged independently, in slices that bound memory.

        Accepted is what the own detector finds strange and what covers little of the own traffic.
        """
        ballots = np.zeros(len(row), dtype=np.uint8)
        for start in range(0, len(row), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            ballots[part] = self._judge(centroid, scale, row[part], node[part] - self.first)
        return ballots

    def collect(self) -> tuple[Nodes, NDArray[np.int64]]:
        """Return the state of these nodes, and the histogram since this shard was made."""
        return self.nodes, self._histogram

    def _judge(
        self,
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        row: NDArray[np.int64],
        node: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        settings, nodes = self.config.voting, self.nodes
        judges = np.zeros_like(node) if self.is_central else node
        score = self.detector.score(nodes.detector, centroid[row][:, None], judges)[:, 0]
        covered, near = np.zeros((2, len(row)), dtype=np.int64)
        passes.count_neighbours(
            nodes.recent, nodes.recent_count, node, row, centroid, scale,
            self.config.signature.match_radius, settings.unseen_radius, covered, near,
        )  # fmt: skip
        filled = np.minimum(nodes.recent_count[node], RECENT_FLOWS)
        accept = score > nodes.threshold[node]
        accept &= covered <= settings.max_benign_coverage * filled
        ballot = np.where(accept, Ballot.ACCEPT, Ballot.REJECT)
        ballot = np.where(filled < settings.min_history, Ballot.ABSTAIN, ballot)
        if settings.unseen == "abstain":
            ballot = np.where(near < settings.unseen_neighbours, Ballot.ABSTAIN, ballot)
        return ballot.astype(np.uint8)

    def _detect_chunk(
        self,
        orders: Orders,
        start: int,
        stop: int,
        step: _Tallies,
        drafts: list[Drafts],
        parts: list[tuple[bytes, int]],
        alerts: list[Entries],
    ) -> None:
        """Go through the nodes whose rows are from `start` to before `stop`."""
        nodes, size = self.nodes.slice(start, stop), stop - start
        first = self.first + start
        flows = self.traffic.draw(
            orders.step, first, first + size, infected=orders.infected, into=self._flows
        )
        x, seen = flows.by_feature, self._seen(flows.x, orders.up)
        self._score(nodes.detector, seen, orders.up, size)
        settings = self.config.detector
        threshold = self._thresholds(nodes.threshold, orders.up)
        matched, flagged = self._matched[:size], self._flagged[:size]
        known = orders.signatures
        passes.flag_flows(
            x, self.score, threshold, orders.up, orders.blacklist, known.number, known.centroid,
            known.scale, self.config.signature.match_radius, matched, flagged,
        )  # fmt: skip
        passes.tally(
            flows.y, self.score, matched, flagged, orders.up, orders.up & ~self._liars[start:stop],
            orders.step, step.counts, step.blocked, step.caught, step.alarms[start:stop],
            nodes.first_alarm,
            step.histogram if orders.wants_histogram
            else self._histogram if orders.counts_histogram else _NO_HISTOGRAM,
        )  # fmt: skip
        if self._is_chart:
            alarmed, live = (self.score > threshold[:, None]).any(axis=1) & orders.up, orders.up
            if self.is_central:
                alarmed, live = np.array([alarmed.any()]), np.array([True])
            self.detector.advance(nodes.detector, seen, live, alarmed)
        if settings.learn:
            ordinary = self._ordinary[:size]
            passes.find_ordinary(flagged, orders.up, ordinary)
            if self.is_central:
                ordinary = ordinary[orders.up].reshape(1, -1)
            self.detector.learn(nodes.detector, seen, ordinary)
        passes.remember(nodes.recent, nodes.recent_count, x, flagged, orders.up)
        rows = self._supported(orders, start, stop, matched, flagged)
        if rows.size:
            drafts.append(self._draft(rows, flows, x, threshold, first))
        n_flagged = int(step.alarms[start:stop].sum())
        self._raise_alerts(orders.step, flows, matched, flagged, n_flagged, parts, alerts)

    def _seen(self, x: NDArray[np.float32], up: Mask) -> NDArray[np.float32]:
        """Return flows `[n_detectors, n_flows, n_features]`: the centre sees those of all nodes."""
        return x[up].reshape(1, -1, x.shape[2]) if self.is_central else x

    def _score(self, state: DetectorState, seen: NDArray[np.float32], up: Mask, size: int) -> None:
        """Write the scores of a chunk; those of nodes that are down mean nothing."""
        score = self.detector.score(state, seen)
        if self.is_central:
            self.score = np.zeros((size, self.config.simulation.flows_per_node), dtype=np.float32)
            self.score[up] = score.reshape(-1, self.config.simulation.flows_per_node)
        else:
            self.score = score

    def _thresholds(self, kept: NDArray[np.float32], up: Mask) -> NDArray[np.float32]:
        """Return the thresholds that hold in this step `[n_nodes]`; the centre has one for all."""
        settings = self.config.detector.threshold
        if self.is_central and settings.mode == "quantile" and up.any():
            pooled = thresholds_of_step(settings, kept, self.score[up].reshape(1, -1))
            return pooled.repeat(len(kept))
        return thresholds_of_step(settings, kept, self.score)

    def _supported(
        self, orders: Orders, start: int, stop: int, matched: Mask, flagged: Mask
    ) -> NDArray[np.int64]:
        """Return the rows of the chunk that can make a signature; fills `_support`."""
        able = orders.up & orders.able
        support, count = self._support[: stop - start], self._n_support[: stop - start]
        passes.find_support(matched, flagged, able, support, count)
        lying = np.flatnonzero(able & self._liars[start:stop] & orders.awake)
        if lying.size and not self.is_central:
            support[lying] = self.adversary.supporting_flows(
                support[lying], self.score[lying], flagged[lying], self.config.signature
            )
            count[lying] = support[lying].sum(axis=1)
        return np.flatnonzero(count >= self.config.signature.min_support)

    def _draft(
        self,
        rows: NDArray[np.int64],
        flows: Flows,
        x: NDArray[np.float32],
        threshold: NDArray[np.float32],
        first: int,
    ) -> Drafts:
        drafts = Drafts.empty(len(rows), x.shape[1])
        drafts.node[:] = rows + first
        protocol = self.traffic.protocols[flows.origin]
        passes.draft_signatures(
            rows, self._support, x, flows.y, self.score, threshold, protocol,
            self.config.signature.min_scale, drafts.n_support, drafts.centroid, drafts.scale,
            drafts.confidence, drafts.is_true, drafts.family, drafts.protocol,
        )  # fmt: skip
        return drafts

    def _raise_alerts(
        self,
        step: int,
        flows: Flows,
        matched: Mask,
        flagged: Mask,
        n_flagged: int,
        parts: list[tuple[bytes, int]],
        alerts: list[Entries],
    ) -> None:
        """Add an alert for each flagged flow, in order of node and flow, and each block's digest."""
        if n_flagged == 0:
            return
        row, flow = np.empty((2, n_flagged), dtype=np.int64)
        passes.find_places(flagged, row, flow)
        records = self.traffic.describe(step, flows, row, flow)
        entries = np.empty(n_flagged, dtype=ALERT)
        passes.write_alerts(
            entries, step, flows.first, row, flow, self.score, matched, records.timestamp,
            records.source_ip, records.destination_ip, records.bytes_transferred, records.protocol,
        )  # fmt: skip
        parts.extend(alert_parts(entries))
        if self._keeps_alerts:
            alerts.append(entries)

    def _forget(self, orders: Orders) -> None:
        """Let windowed detectors drop what newly received signatures match."""
        node, number = orders.received
        if node.size and not self.is_central:
            known = orders.signatures
            held = np.isin(number, known.number)
            node, number = node[held], number[held]
            row = np.searchsorted(known.number, number)
            self.detector.forget(
                self.nodes.detector,
                node,
                known.centroid[row],
                known.scale[row],
                self.config.signature.match_radius,
            )

    def _initial_nodes(self) -> Nodes:
        """Return the state after warm-up, made chunk by chunk."""
        size, n_features = self.last - self.first, len(self.traffic.feature_names)
        states, thresholds = [], []
        for start in range(0, size, self._chunk):
            stop = min(start + self._chunk, size)
            until = min(stop, CENTRAL_WARMUP_NODES) if self.is_central else stop
            warmup = self.traffic.warmup(self.first + start, self.first + until)
            is_pool = len(warmup) == 1 != stop - start
            n_rows = 1 if self.is_central else stop - start
            everyone = np.ones(len(warmup), dtype=np.bool_)
            seen = warmup if is_pool else self._seen(warmup, everyone)
            state = self.detector.init(n_rows, seen, first=self.first + start)
            rows: Any = np.zeros(1, dtype=np.int64) if is_pool else None
            score = self.detector.score(state, seen, rows)
            states.append(state)
            thresholds.append(
                initial_thresholds(self.config.detector.threshold, score, stop - start)
            )
            if is_pool:  # all nodes start alike
                threshold = thresholds[0][:1].repeat(size)
                if not self.is_central:
                    state = self.detector.init(size, warmup, first=self.first)
                return self._nodes_of(state, threshold, size, n_features)
        joined = {k: np.concatenate([s[k] for s in states]) for k in states[0]}
        return self._nodes_of(joined, np.concatenate(thresholds), size, n_features)

    @staticmethod
    def _nodes_of(
        detector: dict[str, NDArray[Any]],
        threshold: NDArray[np.float32],
        size: int,
        n_features: int,
    ) -> Nodes:
        return Nodes(
            detector=detector,
            threshold=threshold,
            recent=np.zeros((size, RECENT_FLOWS, n_features), dtype=np.float32),
            recent_count=np.zeros(size, dtype=np.int64),
            first_alarm=np.full(size, -1, dtype=np.int64),
        )


class _Tallies:
    """What is added up over the chunks of a step."""

    def __init__(self, n_families: int, n_nodes: int, *, wants: bool) -> None:
        self.counts = np.zeros((2, 4), dtype=np.int64)
        self.blocked = np.zeros(1, dtype=np.int64)
        self.caught = np.zeros(n_families + 1, dtype=np.bool_)
        self.alarms = np.zeros(n_nodes, dtype=np.int32)
        self.histogram = np.zeros((2, SCORE_BINS if wants else 0), dtype=np.int64)


_NO_HISTOGRAM = np.zeros((0, SCORE_BINS), dtype=np.int64)


def _joined(drafts: Sequence[Drafts], n_features: int) -> Drafts:
    if not drafts:
        return Drafts.empty(0, n_features)
    return Drafts(
        **{f.name: np.concatenate([getattr(d, f.name) for d in drafts]) for f in fields(Drafts)}
    )
