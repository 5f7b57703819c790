"""Which rows belong to which node, and how a node goes through them.

Splits over nodes as in federated learning (Li, Diao, Chen and He, "Federated learning on non-IID data
silos: an experimental study", ICDE 2022): `iid`, `dirichlet` over labels, `column` (by an id), and
`time` (consecutive pieces).

Order `random` draws with replacement, from lots of rows with a chance for each: all rows (`iid`), a lot
per label with the node's own Dirichlet mixture as chances (`dirichlet`), or the node's own rows
(`column`, `time`). With an attack share, the benign and the attack rows of a node are lots of their own.

Order `time` plays each row once: all rows at every node (`iid`); for `dirichlet`, the rows of each label
are dealt out, shares of the nodes drawn from Dirichlet(`split_alpha`, one entry per node); else the
node's own rows. Of the class that there is too much of for the attack share, rows are left out at random.

Value k of an id column belongs to node k modulo N, in the order of the values; where there are more
nodes than values, node i has value i modulo their number, and shares it. Adding nodes leaves the flows of
the others alone for `iid` and, drawn at random, `dirichlet`, and for `column` while there are as many
nodes as values; pieces of a finite table cannot do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import SimulationConfig
from sim_core.config.traffic import ReplayTraffic
from sim_core.errors import DataError
from sim_core.randomness import BLOCK_NODES, Streams
from sim_core.traffic.scaling import Recording

FULL = 2**32
"""The chance of certainty."""
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Lots:
    """Rows in groups, one after the other."""

    rows: NDArray[np.int32]
    start: Index
    """Place of the first row of each lot in `rows` `[n_lots]`."""
    size: Index

    @classmethod
    def of(cls, groups: Sequence[NDArray[Any]]) -> Lots:
        """Return lots of these rows.

        >>> Lots.of([np.array([4, 5]), np.array([], dtype=int), np.array([6])]).start.tolist()
        [0, 2, 2]
        """
        size = np.array([len(group) for group in groups], dtype=np.int64)
        rows = np.concatenate(groups).astype(np.int32)
        return cls(rows, np.cumsum(size) - size, size)


class Draws:
    """Order `random`: each flow is a row of a lot, drawn with replacement."""

    is_random = True

    def __init__(self, recording: Recording, settings: ReplayTraffic, streams: Streams, n: int):
        """Make the lots of `n` nodes.

        Raises:
            DataError: a node has no rows, or none of a class that it needs.
        """
        self._streams, self._alpha = streams, settings.split_alpha
        self._chances: dict[tuple[int, int], tuple[Index, NDArray[np.uint64]]] = {}
        share, label = settings.attack_share, recording.label
        if settings.split == "dirichlet":
            self._present = np.unique(label)
            self._share = share
            if share is not None:
                _require_classes(recording, np.arange(label.size), share, "")
            self._base = None
            self.lots = Lots.of([np.flatnonzero(label == k) for k in self._present])
            return
        owned = owned_rows(recording, settings, streams, n)
        for node, rows in enumerate(owned):
            where = "" if settings.split == "iid" else f", node {node}"
            _require_classes(recording, rows, share, where)
        if share is None:
            self.lots, self._base = Lots.of(owned), np.ones((len(owned), 1))
        else:
            classes = [(rows[label[rows] == 0], rows[label[rows] > 0]) for rows in owned]
            self.lots = Lots.of([group for pair in classes for group in pair])
            self._base = np.array([[1 - share, share]]).repeat(len(owned), axis=0)

    def chances(self, first: int, last: int) -> tuple[Index, NDArray[np.uint64]]:
        """Return lots of the nodes from `first` to before `last`, and bounds on a 32-bit number.

        A number below bound c, and not below one before it, chooses lot c `[n_nodes, n_choices]`.
        """
        found = self._chances.get((first, last))
        if found is None:
            if self._base is None:
                share = self._mixture(first, last)
                lot = np.arange(share.shape[1])[None].repeat(last - first, axis=0)
            else:
                kind = np.arange(first, last) % len(self._base)
                share, n_choices = self._base[kind], self._base.shape[1]
                lot = kind[:, None] * n_choices + np.arange(n_choices)
            found = self._chances[first, last] = lot, _bounds(share)
        return found

    def played(self) -> NDArray[np.int32]:
        """Return the rows that can be drawn, in order."""
        if self._base is None:
            share = np.ones(len(self.lots.size))
            if self._share is not None:
                benign = self._present == 0
                share = np.where(benign, 1 - self._share, self._share)
        else:
            share = self._base.ravel()
        lots = self.lots
        parts = [
            lots.rows[s : s + n] for s, n, c in zip(lots.start, lots.size, share, strict=True) if c
        ]
        return np.unique(np.concatenate(parts))

    def _mixture(self, first: int, last: int) -> NDArray[np.float64]:
        """Return each node's chances of the labels `[n_nodes, n_labels]`."""
        alpha = np.full(len(self._present), self._alpha)
        start = first // BLOCK_NODES
        blocks = [
            self._streams.generator("mixture", block=block).dirichlet(alpha, BLOCK_NODES)
            for block in range(start, -(-last // BLOCK_NODES))
        ]
        mixture = np.concatenate(blocks)[first - start * BLOCK_NODES :][: last - first]
        if self._share is None:
            return mixture
        benign = self._present == 0
        weight = np.where(benign, 0, np.maximum(mixture, np.finfo(float).tiny))
        attacks = self._share * weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
        return np.where(benign, 1 - self._share, attacks)


class Queue:
    """Order `time`: each node plays the rows of one lot, each once, in order of time."""

    is_random = False

    def __init__(self, lots: Lots, size: SimulationConfig, paths: Sequence[Path]):
        """Play lot i modulo the number of lots at node i; it comes from that number of `paths`.

        Raises:
            DataError: a node has too few rows for the steps.
        """
        self.lots, self._n_flows = lots, size.flows_per_node
        lasts = lots.size[: size.nodes] // size.flows_per_node
        short = np.flatnonzero(lasts < size.steps)
        if short.size:
            node = int(short[0])
            raise DataError(
                f"{paths[node % len(paths)]}, node {node}: its {lots.size[node]} rows last for "
                f"{lasts[node]} of simulation.steps={size.steps} steps of "
                f"simulation.flows_per_node={size.flows_per_node} flows; each row is played once: "
                "set fewer steps, flows or nodes, or draw rows with traffic.order=random"
            )

    def lot_of(self, nodes: Index) -> Index:
        """Return the lot of each node."""
        return nodes % len(self.lots.size)

    def step_of_rows(self) -> tuple[NDArray[np.int32], Index]:
        """Return all rows that are played, and the step of each."""
        lots = self.lots
        place = np.arange(len(lots.rows)) - np.repeat(lots.start, lots.size)
        return lots.rows, place // self._n_flows


def make_queue(
    recording: Recording, settings: ReplayTraffic, streams: Streams, size: SimulationConfig
) -> Queue:
    """Return the rows of each node in order of time, thinned to the attack share.

    Raises:
        DataError: a node has too few rows, or none of a class that it needs.
    """
    owned = owned_rows(recording, settings, streams, size.nodes)
    if settings.attack_share is not None:
        for k, rows in enumerate(owned):
            where = "" if settings.split == "iid" else f", node {k}"
            _require_classes(recording, rows, settings.attack_share, where)
            owned[k] = _thin(rows, recording.label, settings.attack_share, streams, k)
    return Queue(Lots.of(owned), size, [recording.path])


def owned_rows(
    recording: Recording, settings: ReplayTraffic, streams: Streams, n_nodes: int
) -> list[Index]:
    """Return the rows of node i modulo the length of the list, in order of time."""
    n_rows = recording.label.size
    if settings.split == "iid":
        return [np.arange(n_rows)]
    if settings.split == "time":
        return np.split(np.arange(n_rows), (np.arange(1, n_nodes) * n_rows) // n_nodes)
    if settings.split == "column":
        assert recording.owner is not None, "the schema asks for the column"
        _, value = np.unique(recording.owner, return_inverse=True)
        node = value % n_nodes
    else:
        node = _deal_labels(recording.label, settings.split_alpha, streams, n_nodes)
    n_lots = int(node.max(initial=0)) + 1 if settings.split == "column" else n_nodes
    order = np.argsort(node, kind="stable")
    return np.split(order, np.searchsorted(node[order], np.arange(1, n_lots)))


def _deal_labels(
    label: NDArray[np.int16], alpha: float, streams: Streams, n_nodes: int
) -> NDArray[np.int64]:
    """Return the node of each row: of each label, shares drawn from a Dirichlet distribution."""
    rng = streams.generator("mixture")
    node = np.empty(label.size, dtype=np.int64)
    for k in np.unique(label):
        rows = rng.permutation(np.flatnonzero(label == k))
        until = np.cumsum(rng.dirichlet(np.full(n_nodes, alpha)))[:-1] * rows.size
        node[rows] = np.searchsorted(until, np.arange(rows.size), side="right")
    return node


def _thin(rows: Index, label: NDArray[np.int16], share: float, streams: Streams, lot: int) -> Index:
    """Return rows without the surplus of one class, in order of time."""
    is_attack = label[rows] > 0
    attacks, benign = rows[is_attack], rows[~is_attack]
    n_attacks, n_benign = attacks.size, benign.size
    if n_attacks * (1 - share) > n_benign * share:
        n_attacks = round(n_benign * share / (1 - share))
    else:
        n_benign = round(n_attacks * (1 - share) / share) if share > 0 else n_benign
    rng = streams.generator("partition", block=1 + lot)
    kept = rng.permutation(attacks)[:n_attacks], rng.permutation(benign)[:n_benign]
    return np.sort(np.concatenate(kept))


def _require_classes(recording: Recording, rows: Index, share: float | None, where: str) -> None:
    """Make sure that there are rows, benign ones and attacks where some are asked for."""
    if rows.size == 0:
        raise DataError(
            f"{recording.path}{where}: no row is left to replay: set fewer nodes, another "
            "traffic.split or a smaller traffic.warmup_share"
        )
    if share is None:
        return
    n_attacks = int((recording.label[rows] > 0).sum())
    if n_attacks == 0 and share > 0:
        raise DataError(
            f"{recording.path}{where}: none of {rows.size} rows is an attack, so "
            f"traffic.attack_share={share:g} cannot be met"
        )
    if n_attacks == rows.size and share < 1:
        raise DataError(
            f"{recording.path}{where}: no benign row is left to replay, so "
            f"traffic.attack_share={share:g} cannot be met: set a smaller traffic.warmup_share"
        )


def _bounds(share: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return cumulative chances as bounds on a 32-bit number; the last possible choice is open.

    >>> _bounds(np.array([[0.5, 0.5, 0.0]])).tolist()
    [[2147483648, 4294967296, 4294967296]]
    """
    total = share.sum(axis=1, keepdims=True)
    bound: NDArray[np.float64] = np.rint(np.cumsum(share, axis=1) / total * FULL)
    last = share.shape[1] - 1 - np.argmax(share[:, ::-1] > 0, axis=1)
    bound[np.arange(share.shape[1]) >= last[:, None]] = FULL
    return bound.astype(np.uint64)
