"""What every traffic source offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

TCP, UDP, ICMP = 6, 17, 1
STEP_MILLISECONDS = 60_000
REFERENCE_FLOWS = 64


@dataclass(frozen=True)
class Flows:
    """The flows of some nodes, from `first` on, in one step."""

    x: NDArray[np.float32]
    """Features `[n_nodes, n_flows, n_features]`, in standard deviations of benign traffic."""
    y: NDArray[np.int16]
    """Truth `[n_nodes, n_flows]`: 0 benign, k >= 1 attack family k."""
    origin: NDArray[np.int32]
    """Row of the source's own table that each flow was made from `[n_nodes, n_flows]`."""
    first: int = 0
    """Number of the node of row 0."""

    @property
    def by_feature(self) -> NDArray[np.float32]:
        """Features `[n_nodes, n_features, n_flows]`, contiguous: what compiled passes read.

        Without a copy where the source stores them so, as sources should.
        """
        return np.ascontiguousarray(self.x.transpose(0, 2, 1))

    @classmethod
    def empty(cls, n_nodes: int, n_flows: int, n_features: int) -> Flows:
        """Return unset flows for a source to draw into, features stored by feature."""
        x = np.empty((n_nodes, n_features, n_flows), dtype=np.float32).transpose(0, 2, 1)
        shape = n_nodes, n_flows
        return cls(x, np.zeros(shape, dtype=np.int16), np.zeros(shape, dtype=np.int32))


@dataclass(frozen=True)
class FlowRecords:
    """Flows as a monitor would log them, one entry per flow asked for."""

    timestamp: NDArray[np.int64]
    """Milliseconds since the run began, a step being a minute; since 1970 where a file has times."""
    source_ip: NDArray[np.uint32]
    destination_ip: NDArray[np.uint32]
    bytes_transferred: NDArray[np.int64]
    protocol: NDArray[np.uint8]
    """IANA protocol number."""


@dataclass(frozen=True)
class Target:
    """An attack that the network should notice: a campaign, or a family of a replayed file."""

    name: str
    family: int
    start: int
    duration: int | None
    """Steps; None is until the horizon."""


class Traffic(Protocol):
    """A source of flows; a pure function of configuration, streams and step."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the last axis of `Flows.x`."""

    @property
    def families(self) -> tuple[str, ...]:
        """Names of the attack families; label k is `families[k - 1]`."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """What should be noticed."""

    @property
    def protocols(self) -> NDArray[np.uint8]:
        """IANA protocol number of each row that `Flows.origin` may name."""

    def warmup(self, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
        """Return benign flows `[n_nodes or 1, n_warmup, n_features]` for detector and threshold.

        Of the nodes from `first` to before `last` (all); one row is a pool that all nodes share.
        """

    def draw(
        self,
        step: int,
        first: int = 0,
        last: int | None = None,
        *,
        infected: NDArray[np.bool_] | None = None,
        into: Flows | None = None,
    ) -> Flows:
        """Return the flows of the nodes from `first` to before `last` (all) in one step.

        Args:
            step: The step, from 0.
            first: First node.
            last: Node after the last one; without it the last node is the last of the network.
            infected: Which of these nodes each campaign has infected `[n_campaigns, n_nodes]`, read
                for campaigns that spread as worms only.
            into: Flows of at least as many nodes whose arrays are overwritten and returned (as
                views); without it new arrays are made.
        """

    def references(self) -> NDArray[np.float32]:
        """Return flows of each target, `[n_targets, 64, n_features]`, to measure immunity with."""

    def describe(
        self, step: int, flows: Flows, rows: NDArray[Any], columns: NDArray[Any]
    ) -> FlowRecords:
        """Return the records of `flows` at `(rows, columns)`; node `flows.first + row` saw them."""


@njit(inline="always")
def mix(state: Any, part: Any) -> Any:
    """Return 64 bits that depend on all bits of both (SplitMix64, Steele, Lea and Flood 2014)."""
    state = state + part + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def scramble(*parts: NDArray[Any] | int) -> NDArray[np.uint64]:
    """Return 64 well mixed bits per entry of the broadcast parts (SplitMix64, Steele et al. 2014).

    >>> int(scramble(np.array([1]), 2)[0]) == int(scramble(np.array([1]), 2)[0])
    True
    """
    state = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            state = state + np.asarray(part, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def address(base: str, offset: NDArray[Any]) -> NDArray[np.uint32]:
    """Return IPv4 addresses `base + offset` as integers.

    >>> hex(int(address("10.0.0.0", np.array([258]))[0]))
    '0xa000102'
    """
    octets = [int(octet) for octet in base.split(".")]
    start = int.from_bytes(bytes(octets), "big")
    return (np.uint64(start) + np.asarray(offset, dtype=np.uint64)).astype(np.uint32)
