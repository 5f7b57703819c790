"""Everything that a run carries from one step to the next, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sim_core.detectors.base import DetectorState

RECENT_FLOWS = 32
SCORE_BINS = 1 << 15
"""Bins of the score histogram: the leading 16 bits of a non-negative float32 (its sign is 0)."""


@dataclass
class Table:
    """Arrays of equal length, one row per thing."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(getattr(self, fields(self)[0].name))

    def take(self, rows: NDArray[Any]) -> Self:
        """Return the rows that a mask or an index selects."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def append(self, more: Self) -> Self:
        """Return these rows followed by `more`."""
        return type(self)(
            **{
                f.name: np.concatenate([getattr(self, f.name), getattr(more, f.name)])
                for f in fields(self)
            }
        )


@dataclass
class Proposals(Table):
    """Proposals that are pending, or whose decision still travels."""

    number: NDArray[np.int64]
    """Number of the proposal in its run, from 0."""
    step: NDArray[np.int64]
    proposer: NDArray[np.int64]
    centroid: NDArray[np.float32]
    """`[n, n_features]`."""
    scale: NDArray[np.float32]
    """`[n, n_features]`."""
    is_true: NDArray[np.bool_]
    """Over half of the supporting flows were attacks."""
    family: NDArray[np.int16]
    outcome: NDArray[np.uint8]
    """An `Outcome`."""
    ballots: NDArray[np.uint8]
    """A `Ballot` per node `[n, n_nodes]`."""
    electorate: NDArray[np.bool_]
    """Who may vote and is told the decision `[n, n_nodes]`."""
    held: NDArray[np.bool_]
    """Who holds the proposal `[n, n_nodes]`."""
    informed: NDArray[np.bool_]
    """Who knows the decision `[n, n_nodes]`."""

    @classmethod
    def empty(cls, n_nodes: int, n_features: int) -> Proposals:
        """Return no proposals."""
        per_node = (0, n_nodes)
        return cls(
            number=np.zeros(0, np.int64),
            step=np.zeros(0, np.int64),
            proposer=np.zeros(0, np.int64),
            centroid=np.zeros((0, n_features), np.float32),
            scale=np.zeros((0, n_features), np.float32),
            is_true=np.zeros(0, np.bool_),
            family=np.zeros(0, np.int16),
            outcome=np.zeros(0, np.uint8),
            ballots=np.zeros(per_node, np.uint8),
            electorate=np.zeros(per_node, np.bool_),
            held=np.zeros(per_node, np.bool_),
            informed=np.zeros(per_node, np.bool_),
        )


@dataclass
class Signatures(Table):
    """Confirmed signatures that some node holds or that still travel."""

    number: NDArray[np.int64]
    """Number of the proposal that was confirmed."""
    proposer: NDArray[np.int64]
    centroid: NDArray[np.float32]
    scale: NDArray[np.float32]
    covers: NDArray[np.bool_]
    """Which reference flows of which target it matches `[n, n_targets, n_references]`."""

    @classmethod
    def empty(cls, n_features: int, n_targets: int, n_references: int) -> Signatures:
        """Return no signatures."""
        return cls(
            number=np.zeros(0, np.int64),
            proposer=np.zeros(0, np.int64),
            centroid=np.zeros((0, n_features), np.float32),
            scale=np.zeros((0, n_features), np.float32),
            covers=np.zeros((0, n_targets, n_references), np.bool_),
        )


@dataclass
class State:
    """The state of a run between two steps; a checkpoint is this and nothing else."""

    step: int
    """The step that comes next."""
    head: bytes
    """Hash of the last block."""
    next_proposal: int
    detector: DetectorState
    threshold: NDArray[np.float32]
    """`[n_nodes]`."""
    up: NDArray[np.bool_]
    """`[n_nodes]`."""
    recent: NDArray[np.float32]
    """The last unflagged flows, a ring per node `[n_nodes, 32, n_features]`."""
    recent_count: NDArray[np.int64]
    """Unflagged flows so far `[n_nodes]`."""
    blacklist: NDArray[np.int64]
    """Numbers of the signatures held, a ring per node, -1 is empty `[n_nodes, capacity]`."""
    blacklist_count: NDArray[np.int64]
    """Signatures received so far `[n_nodes]`."""
    reputation: NDArray[np.float64]
    """Beta counts of agreement and disagreement with decisions `[n_nodes, 2]`."""
    ready_step: NDArray[np.int64]
    """First step at which a node may propose again `[n_nodes]`."""
    proposals: Proposals
    signatures: Signatures
    first_flag: NDArray[np.int64]
    """First step that flagged a flow of each target, -1 is never `[n_targets]`."""
    first_confirmation: NDArray[np.int64]
    first_immunity: NDArray[np.int64]
    immune: NDArray[np.float64]
    """Share of honest nodes that are immune against each target `[n_targets]`."""
    totals: NDArray[np.int64]
    """Sums of the metric counts from `metrics.from_step` on, in the order of METRIC_COUNTS."""
    histogram: NDArray[np.int64]
    """Scores of benign and of attack flows at honest nodes, since `from_step` `[2, bins]`."""

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as named arrays, nested names joined by dots."""
        arrays: dict[str, NDArray[Any]] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Table):
                for column in fields(value):
                    arrays[f"{item.name}.{column.name}"] = getattr(value, column.name)
            elif isinstance(value, dict):
                arrays |= {f"{item.name}.{key}": part for key, part in value.items()}
            elif isinstance(value, bytes):
                arrays[item.name] = np.frombuffer(value, dtype=np.uint8)
            elif isinstance(value, int):
                arrays[item.name] = np.array(value, dtype=np.int64)
            else:
                arrays[item.name] = value
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> State:
        """Return the state that `to_arrays` took apart.

        Raises:
            KeyError: an array is missing.
        """

        def part(prefix: str) -> dict[str, Any]:
            start = prefix + "."
            return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}

        values: dict[str, Any] = {}
        for item in fields(cls):
            if item.name == "proposals":
                values[item.name] = Proposals(**part(item.name))
            elif item.name == "signatures":
                values[item.name] = Signatures(**part(item.name))
            elif item.name == "detector":
                values[item.name] = part(item.name)
            elif item.name == "head":
                values[item.name] = arrays[item.name].tobytes()
            elif item.name in ("step", "next_proposal"):
                values[item.name] = int(arrays[item.name])
            else:
                values[item.name] = arrays[item.name]
        return cls(**values)
