"""Everything that a run carries from one step to the next, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sim_core.detectors.base import DetectorState

RECENT_FLOWS = 32
SLOTS_OF_A_WORD = 64
"""Bits of what nodes hold and know: one per slot."""
SCORE_BINS = 1 << 15
"""Bins of the score histogram: the leading 16 bits of a non-negative float32 (its sign is 0)."""


@dataclass
class Table:
    """Arrays of equal length, one row per thing."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(vars(self).values())))

    def take(self, rows: NDArray[Any]) -> Self:
        """Return the rows that a mask or an index selects."""
        return type(self)(**{name: column[rows] for name, column in vars(self).items()})

    def append(self, more: Self) -> Self:
        """Return these rows followed by `more`."""
        others = vars(more)
        return type(self)(
            **{name: np.concatenate([v, others[name]]) for name, v in vars(self).items()}
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
    decided: NDArray[np.int64]
    """Step of the decision, -1 before."""
    slot: NDArray[np.int64]
    """Place among what travels, see `network.dissemination`; -1 where nothing travels."""
    voters: NDArray[np.int32]
    """Nodes that may vote, ascending, -1 for a seat that nobody has `[n, n_voters]`."""
    ballots: NDArray[np.uint8]
    """A `Ballot` per seat `[n, n_voters]`."""

    @classmethod
    def empty(cls, n_voters: int, n_features: int) -> Proposals:
        """Return no proposals."""
        return cls(
            number=np.zeros(0, np.int64),
            step=np.zeros(0, np.int64),
            proposer=np.zeros(0, np.int64),
            centroid=np.zeros((0, n_features), np.float32),
            scale=np.zeros((0, n_features), np.float32),
            is_true=np.zeros(0, np.bool_),
            family=np.zeros(0, np.int16),
            outcome=np.zeros(0, np.uint8),
            decided=np.zeros(0, np.int64),
            slot=np.zeros(0, np.int64),
            voters=np.zeros((0, n_voters), np.int32),
            ballots=np.zeros((0, n_voters), np.uint8),
        )


@dataclass
class Signatures(Table):
    """Confirmed signatures that some node holds or that still travel."""

    number: NDArray[np.int64]
    """Number of the proposal that was confirmed, ascending."""
    proposer: NDArray[np.int64]
    centroid: NDArray[np.float32]
    scale: NDArray[np.float32]
    covers: NDArray[np.uint64]
    """Bit r: it matches reference flow r of this target `[n, n_targets]`."""

    @classmethod
    def empty(cls, n_features: int, n_targets: int) -> Signatures:
        """Return no signatures."""
        return cls(
            number=np.zeros(0, np.int64),
            proposer=np.zeros(0, np.int64),
            centroid=np.zeros((0, n_features), np.float32),
            scale=np.zeros((0, n_features), np.float32),
            covers=np.zeros((0, n_targets), np.uint64),
        )


@dataclass
class Nodes:
    """What each node has to itself; the rows of a shard are a slice of these."""

    detector: DetectorState
    threshold: NDArray[np.float32]
    """`[n_nodes]`."""
    recent: NDArray[np.float32]
    """The last unflagged flows, a ring per node `[n_nodes, 32, n_features]`."""
    recent_count: NDArray[np.int64]
    """Unflagged flows so far `[n_nodes]`."""
    first_alarm: NDArray[np.int64]
    """First step with a flagged flow, -1 is never `[n_nodes]`."""

    def slice(self, first: int, last: int) -> Nodes:
        """Return views on the rows from `first` to before `last`; a shared detector row stays."""
        return Nodes(
            {k: v[first:last] if len(v) > 1 else v for k, v in self.detector.items()},
            *(getattr(self, f.name)[first:last] for f in fields(self)[1:]),
        )

    @classmethod
    def join(cls, parts: Sequence[Nodes]) -> Nodes:
        """Return the nodes of several shards, in their order."""
        detector = {
            key: np.concatenate([part.detector[key] for part in parts]) for key in parts[0].detector
        }
        return cls(
            detector,
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)[1:]),
        )


@dataclass
class State:
    """The state of a run between two steps; a checkpoint is this and nothing else."""

    step: int
    """The step that comes next."""
    head: bytes
    """Hash of the last block."""
    next_proposal: int
    nodes: Nodes
    up: NDArray[np.bool_]
    """`[n_nodes]`."""
    blacklist: NDArray[np.int64]
    """Numbers of the signatures held, a ring per node, -1 is empty `[n_nodes, capacity]`."""
    blacklist_count: NDArray[np.int64]
    """Signatures received so far `[n_nodes]`."""
    received: NDArray[np.int64]
    """Nodes, and numbers of the signatures that they got in the step before `[2, n]`."""
    reputation: NDArray[np.float64]
    """Beta counts of agreement and disagreement with decisions `[n_nodes, 2]`."""
    ready_step: NDArray[np.int64]
    """First step at which a node may propose again `[n_nodes]`."""
    awake: NDArray[np.bool_]
    """Liars that have turned (all, but sleepers) `[n_nodes]`."""
    infected: NDArray[np.int64]
    """Step in which each worm infected a node, -1 is never `[n_campaigns or 0, n_nodes]`."""
    network: dict[str, NDArray[Any]]
    """Who holds and knows what, what is under way, where nodes are: see `network`."""
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
        return dict(_named("", self))

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> State:
        """Return the state that `to_arrays` took apart.

        Raises:
            KeyError: an array is missing.
        """

        def part(prefix: str) -> dict[str, Any]:
            start = prefix + "."
            return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}

        nodes = {f.name: arrays[f"nodes.{f.name}"] for f in fields(Nodes)[1:]}
        values: dict[str, Any] = {
            "nodes": Nodes(detector=part("nodes.detector"), **nodes),
            "network": part("network"),
            "proposals": Proposals(**part("proposals")),
            "signatures": Signatures(**part("signatures")),
            "head": arrays["head"].tobytes(),
            "step": int(arrays["step"]),
            "next_proposal": int(arrays["next_proposal"]),
        }
        rest: dict[str, Any] = {f.name: arrays[f.name] for f in fields(cls) if f.name not in values}
        return cls(**values, **rest)


def _named(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield what a state consists of, with dotted names."""
    if isinstance(value, bytes):
        yield name, np.frombuffer(value, dtype=np.uint8)
    elif isinstance(value, int):
        yield name, np.array(value, dtype=np.int64)
    elif isinstance(value, np.ndarray):
        yield name, value
    else:
        parts = value if isinstance(value, dict) else vars(value)
        for key, part in parts.items():
            yield from _named(f"{name}.{key}" if name else key, part)
