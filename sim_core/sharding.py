"""One network cut into shards that run side by side, exchanging only what the network needs.

The first shard lives with the network, the others behind `Remote` handles (`tasks.ray_worker` makes
them Ray actors). They are sent who is up, may propose and has received what; they send back counts,
drafts, opinions and digests. Whole blocks of 64 nodes per shard, joined in node order: the same bits
for any number of shards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.errors import ConfigurationError
from sim_core.passes import put_on_blacklists
from sim_core.randomness import BLOCK_NODES, Streams
from sim_core.shard import Findings, NodeShard, Orders, join_findings
from sim_core.state import Nodes, Signatures, State

Mask = NDArray[np.bool_]


class Remote(Protocol):
    """A shard somewhere else."""

    def submit(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Start a call; what is returned waits for its result."""


@dataclass(frozen=True)
class ShardSpec:
    """What a shard is made from, wherever it lives."""

    config: ModelConfig
    streams: Streams
    liars: Mask
    """Of the whole network `[n_nodes]`."""
    first: int
    last: int
    nodes: Nodes | None
    blacklist: NDArray[np.int64]
    """Of its nodes `[n_nodes, capacity]`."""
    blacklist_count: NDArray[np.int64]
    keeps_alerts: bool


OpenRemote = Callable[[ShardSpec], Remote]


class ShardReplica:
    """A shard that keeps its own copy of blacklists and signatures, told only what changes."""

    def __init__(self, spec: ShardSpec) -> None:
        """Start from warm-up, or from the state in `spec`.

        Raises:
            DataError: a data file of the traffic is missing or damaged.
        """
        nodes = None if spec.nodes is None else _writable(spec.nodes)
        self._shard = NodeShard(
            spec.config,
            spec.streams,
            spec.liars,
            first=spec.first,
            last=spec.last,
            nodes=nodes,
            keeps_alerts=spec.keeps_alerts,
        )
        self._blacklist = np.array(spec.blacklist)
        self._count = np.array(spec.blacklist_count)
        self._signatures: Signatures | None = None
        self._has_started = False

    def detect(self, orders: Orders, signatures: Signatures | None) -> Findings:
        """Go through a step; `signatures` where they have changed since the last one."""
        if signatures is not None:
            self._signatures = _writable(signatures)
        if self._has_started:  # the blacklists at the start had the last arrivals already
            node, number = np.array(orders.received)
            put_on_blacklists(self._blacklist, self._count, node, number)
        self._has_started = True
        assert self._signatures is not None
        orders = replace(_writable(orders), blacklist=self._blacklist, signatures=self._signatures)
        return self._shard.detect(orders)

    def judge(
        self,
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        row: NDArray[np.int64],
        node: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        """Return honest opinions, see `NodeShard.judge`."""
        return self._shard.judge(*map(np.array, (centroid, scale, row, node)))

    def collect(self) -> tuple[Nodes, NDArray[np.int64]]:
        """Return the state of these nodes, and the histogram since the start."""
        return self._shard.collect()


class ShardedNodes:
    """All nodes of a network: the first shard here, the others behind their handles."""

    def __init__(self, local: NodeShard, remotes: Sequence[Remote], edges: Sequence[int]) -> None:
        """Join shards; `edges` are the first nodes of all shards, and the number of nodes."""
        self._local, self._remotes, self._edges = local, remotes, edges
        self._known: Signatures | None = None

    def detect(self, orders: Orders) -> Findings:
        """Let all shards go through a step at the same time."""
        changed = None
        if self._known is not orders.signatures:
            changed = self._known = orders.signatures
        waiting = []
        for remote, first, last in self._parts():
            part = orders.of(first, last)
            waiting.append(
                remote.submit(
                    "detect", replace(part, blacklist=_NONE, signatures=_NOTHING), changed
                )
            )
        mine = self._local.detect(orders.of(0, self._edges[1]))
        return join_findings([mine, *(wait() for wait in waiting)])

    def judge(
        self,
        centroid: NDArray[np.float32],
        scale: NDArray[np.float32],
        row: NDArray[np.int64],
        node: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        """Return the opinion of each pair's node, asked where it lives."""
        ballots = np.zeros(len(row), dtype=np.uint8)
        waiting = []
        for remote, first, last in self._parts():
            here = np.flatnonzero((node >= first) & (node < last))
            if here.size:
                wait = remote.submit("judge", centroid, scale, row[here], node[here])
                waiting.append((here, wait))
        here = np.flatnonzero(node < self._edges[1])
        ballots[here] = self._local.judge(centroid, scale, row[here], node[here])
        for there, wait in waiting:
            ballots[there] = wait()
        return ballots

    def collect(self) -> tuple[Nodes, NDArray[np.int64]]:
        """Return the state of all nodes in node order, and the sum of the histograms."""
        waiting = [remote.submit("collect") for remote, _, _ in self._parts()]
        parts = [self._local.collect(), *(wait() for wait in waiting)]
        nodes = Nodes.join([nodes for nodes, _ in parts])
        return nodes, np.sum([histogram for _, histogram in parts], axis=0)

    def _parts(self) -> list[tuple[Remote, int, int]]:
        return list(zip(self._remotes, self._edges[1:], self._edges[2:], strict=False))


def cut_edges(n_nodes: int, n_shards: int) -> list[int]:
    """Return the first node of each shard, and the number of nodes: whole blocks, evenly dealt.

    >>> cut_edges(200, 2)
    [0, 128, 200]
    """
    n_blocks = -(-n_nodes // BLOCK_NODES)
    n_shards = min(n_shards, n_blocks)
    starts = [-(-n_blocks * k // n_shards) * BLOCK_NODES for k in range(n_shards)]
    return [*starts, n_nodes]


def open_sharded(
    config: ModelConfig,
    streams: Streams,
    liars: Mask,
    state: State | None,
    *,
    n_shards: int,
    keeps_alerts: bool,
    open_remote: OpenRemote,
) -> ShardedNodes | NodeShard:
    """Return the nodes of a network in shards.

    Raises:
        ConfigurationError: the network cannot be cut, as one detector sees all of it.
    """
    if config.dissemination.kind == "centralised" and n_shards > 1:
        raise ConfigurationError(
            "dissemination=centralised has one detector for all nodes and cannot be cut: set "
            "executor.shards=1"
        )
    edges = cut_edges(config.simulation.nodes, n_shards)
    empty = np.full((config.simulation.nodes, config.response.blacklist_capacity), -1)
    blacklist = empty if state is None else state.blacklist
    count = np.zeros(len(blacklist), dtype=np.int64) if state is None else state.blacklist_count

    def spec(first: int, last: int) -> ShardSpec:
        nodes = None if state is None else state.nodes.slice(first, last)
        return ShardSpec(
            config, streams, liars, first, last, nodes,
            blacklist[first:last], count[first:last], keeps_alerts,
        )  # fmt: skip

    remotes = [open_remote(spec(a, b)) for a, b in pairwise(edges[1:])]
    mine = spec(0, edges[1])
    local = NodeShard(
        config,
        streams,
        liars,
        first=0,
        last=edges[1],
        nodes=None if mine.nodes is None else _writable(mine.nodes),
        keeps_alerts=keeps_alerts,
    )
    return ShardedNodes(local, remotes, edges) if remotes else local


_NONE = np.zeros((0, 0), dtype=np.int64)
_NOTHING = Signatures.empty(0, 0)


def _writable(value: Any) -> Any:
    """Return a copy whose arrays may be written: what comes from elsewhere is read-only."""
    if isinstance(value, np.ndarray):
        return np.array(value)
    if isinstance(value, dict):
        return {key: _writable(part) for key, part in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return type(value)(**{name: _writable(getattr(value, name)) for name in vars(value)})
    return value
