"""Replay of recorded flows: one engine; kinds of traffic differ in how a table is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.config.traffic import ReplayTraffic
from sim_core.philox import philox4x32
from sim_core.randomness import Streams
from sim_core.traffic.base import (
    REFERENCE_FLOWS,
    STEP_MILLISECONDS,
    FlowRecords,
    Flows,
    Target,
    address,
    scramble,
)
from sim_core.traffic.rows import Rows
from sim_core.traffic.scaling import Recording, prepare
from sim_core.traffic.split import Draws, Queue, make_queue

Reference = tuple[Target, NDArray[Any]]
"""A target, and the rows that belong to it."""


class Replay:
    """Flows that are rows of a table, standardised by benign rows that are not replayed."""

    note = "Replicates of a replay differ in partition and order of the rows, never in the data."

    def __init__(
        self,
        config: ModelConfig,
        streams: Streams,
        recording: Recording,
        plan: Draws | Queue,
        *,
        references: Sequence[Reference] | None = None,
        replicates_differ: bool = True,
    ) -> None:
        """Play the recording as planned; without `references` each family present is a target."""
        self.recording = recording
        self.feature_names = recording.feature_names
        self.families = recording.families
        self.protocols = recording.protocol
        self.replicates_differ = replicates_differ
        """Whether seed and replicate change anything."""
        self.clock: Literal["run", "file"] = "run" if recording.timestamp is None else "file"
        """Whether records count time from the run's start, a minute per step, or since 1970."""
        self._n_nodes = config.simulation.nodes
        self._n_flows = config.simulation.flows_per_node
        self._streams = streams
        self._plan = plan
        self._by_feature = np.ascontiguousarray(recording.values.T)
        self._references = _families_of(recording, plan) if references is None else references
        self.targets = tuple(target for target, _ in self._references)

    def warmup(self, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
        """Return the benign pool of each node, or the one that all share `[1, n_rows, n_features]`."""
        pool = self.recording.pool
        if len(pool) == 1:
            return pool
        last = self._n_nodes if last is None else last
        return pool[np.arange(first, last) % len(pool)]

    def draw(
        self,
        step: int,
        first: int = 0,
        last: int | None = None,
        *,
        infected: NDArray[np.bool_] | None = None,
        into: Flows | None = None,
    ) -> Flows:
        """Return rows: drawn with replacement, or the next ones of each node."""
        del infected
        last = self._n_nodes if last is None else last
        n_nodes = last - first
        if into is None:
            into = Flows.empty(n_nodes, self._n_flows, len(self.feature_names))
        flows = Flows(into.x[:n_nodes], into.y[:n_nodes], into.origin[:n_nodes], first)
        plan, recording = self._plan, self.recording
        lots = plan.lots
        if isinstance(plan, Draws):
            lot, bound = plan.chances(first, last)
            _draw_rows(
                flows.origin, lots.rows, lots.start, lots.size, lot, bound, first, step,
                *self._streams.key("traffic"),
            )  # fmt: skip
        else:
            lot = plan.lot_of(np.arange(first, last))
            _next_rows(flows.origin, lots.rows, lots.start, lots.size, lot, step)
        x = flows.x.transpose(0, 2, 1)
        _gather(x, flows.y, flows.origin, self._by_feature, recording.label)
        return flows

    def references(self) -> NDArray[np.float32]:
        """Return rows of each target `[n_targets, 64, n_features]`, with replacement."""
        rng = self._streams.generator("reference")
        found = [
            self.recording.values[rng.choice(rows, REFERENCE_FLOWS)] for _, rows in self._references
        ]
        shape = (0, REFERENCE_FLOWS, len(self.feature_names))
        return np.stack(found) if found else np.empty(shape, dtype=np.float32)

    def describe(
        self, step: int, flows: Flows, rows: NDArray[Any], columns: NDArray[Any]
    ) -> FlowRecords:
        """Return records; files have no addresses, so a row's source is made from its number."""
        origin, nodes = flows.origin[rows, columns], rows + flows.first
        recording = self.recording
        if recording.timestamp is None:
            noise = scramble(nodes, columns, step) >> np.uint64(20)
            start = np.int64(step * STEP_MILLISECONDS)
            timestamp = start + noise.astype(np.int64) % STEP_MILLISECONDS
        else:
            timestamp = recording.timestamp[origin]
        return FlowRecords(
            timestamp=timestamp,
            source_ip=address("198.18.0.0", scramble(origin) % np.uint64(1 << 17)),
            destination_ip=address("10.0.0.0", nodes),
            bytes_transferred=recording.bytes_transferred[origin],
            protocol=recording.protocol[origin],
        )


def replay_rows(
    config: ModelConfig,
    settings: ReplayTraffic,
    streams: Streams,
    rows: Rows,
    warmup: Rows | None = None,
) -> Replay:
    """Return the replay of a table as `settings` say.

    Args:
        config: The whole configuration.
        settings: Those of the traffic.
        streams: Random streams.
        rows: The table that is replayed.
        warmup: A table whose benign rows start everything; without it some of `rows` do.

    Raises:
        DataError: too few rows of a kind that is needed, or values out of range.
    """
    size = config.simulation
    recording = prepare(rows, warmup, settings, streams)
    if settings.order == "random":
        plan: Draws | Queue = Draws(recording, settings, streams, size.nodes)
    else:
        plan = make_queue(recording, settings, streams, size)
    is_fixed = (
        settings.order == "time" and settings.split != "dirichlet" and settings.attack_share is None
    )
    return Replay(config, streams, recording, plan, replicates_differ=not is_fixed)


def _families_of(recording: Recording, plan: Draws | Queue) -> tuple[Reference, ...]:
    """Return each attack family that is replayed; played in time, from its first to its last step."""
    if isinstance(plan, Draws):
        rows, steps = plan.played(), None
    else:
        rows, steps = plan.step_of_rows()
    label = recording.label[rows]
    found = []
    for k in np.unique(label[label > 0]).tolist():
        name, mine = recording.families[k - 1], label == k
        if steps is None:
            target = Target(name, k, 0, None)
        else:
            start = int(steps[mine].min())
            target = Target(name, k, start, int(steps[mine].max()) - start + 1)
        found.append((target, np.unique(rows[mine])))
    return tuple(found)


@njit(cache=True, nogil=True)
def _draw_rows(
    origin: Any, rows: Any, start: Any, size: Any, lot: Any, bound: Any, first: int, step: int,
    k0: Any, k1: Any,
) -> None:  # fmt: skip
    """Fill `origin` `[n_nodes, n_flows]`: word 0 of a flow chooses the lot, word 1 the row in it."""
    n_nodes, n_flows = origin.shape
    for i in range(n_nodes):
        for b in range(n_flows):
            w0, w1, _, _ = philox4x32(uint32(0), uint32(b), uint32(first + i), uint32(step), k0, k1)
            choice = 0
            while uint64(w0) >= bound[i, choice]:
                choice += 1
            chosen = lot[i, choice]
            place = (uint64(w1) * uint64(size[chosen])) >> uint64(32)
            origin[i, b] = rows[start[chosen] + np.int64(place)]


@njit(cache=True, nogil=True)
def _next_rows(origin: Any, rows: Any, start: Any, size: Any, lot: Any, step: int) -> None:
    """Fill `origin` `[n_nodes, n_flows]` with the rows that are next at this step."""
    n_nodes, n_flows = origin.shape
    for i in range(n_nodes):
        place = step * n_flows
        if place + n_flows > size[lot[i]]:
            raise IndexError("a node's rows are used up")
        for b in range(n_flows):
            origin[i, b] = rows[start[lot[i]] + place + b]


@njit(cache=True, nogil=True)
def _gather(x: Any, y: Any, origin: Any, by_feature: Any, label: Any) -> None:
    """Copy rows to `x` `[n_nodes, n_features, n_flows]` and `y` `[n_nodes, n_flows]`."""
    n_nodes, n_features, n_flows = x.shape
    for i in range(n_nodes):
        source = origin[i]
        for b in range(n_flows):
            y[i, b] = label[source[b]]
        for d in range(n_features):
            column, row = by_feature[d], x[i, d]
            for b in range(n_flows):
                row[b] = column[source[b]]
