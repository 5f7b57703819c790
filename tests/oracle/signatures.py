"""Signatures and proposals as plain objects, and a note of comparisons too close to call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tests.oracle.agents import Node

CLOSE = 1e-5
"""Relative difference below which rounding may decide a comparison."""

Flows = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Ties:
    """Comparisons whose two sides are so close that another order of additions may turn them."""

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0

    def within(self, distance: Any, radius: float) -> Mask:
        """Return which distances are at most the radius."""
        self.count += int((np.abs(distance - radius) <= CLOSE * radius).sum())
        near: Mask = distance <= radius
        return near

    def above(self, score: Any, threshold: Any) -> Mask:
        """Return which scores are above the threshold; equal ones are no tie, but the same number."""
        gap = np.abs(score - threshold)
        self.count += int(((gap > 0) & (gap <= CLOSE * np.abs(threshold))).sum())
        more: Mask = score > threshold
        return more

    def lowest(self, score: Any, n: int) -> list[int]:
        """Return the places of the n lowest scores, the first of equal ones."""
        order = sorted(range(len(score)), key=lambda place: (score[place], place))
        if 0 < n < len(order):
            last, following = float(score[order[n - 1]]), float(score[order[n]])
            self.count += 0 < following - last <= CLOSE * following
        return order[:n]


@dataclass(eq=False)
class Signature:
    """What supporting flows have in common."""

    centroid: Flows
    scale: Flows
    n_support: int
    confidence: float
    protocol: int
    is_true: bool
    family: int

    def distance(self, x: Flows) -> NDArray[np.float64]:
        """Return the root mean square distance of flows `[..., n_features]`, in scales."""
        z = (x.astype(np.float64) - self.centroid) / self.scale
        distance: NDArray[np.float64] = np.sqrt((z**2).mean(axis=-1))
        return distance

    @classmethod
    def of(
        cls,
        x: Flows,
        y: NDArray[np.int16],
        protocol: NDArray[np.uint8],
        excess: NDArray[np.float64],
        min_scale: float,
    ) -> Signature:
        """Return the signature of supporting flows `[n, n_features]`."""
        attacks = y[y > 0]
        is_true = bool(2 * attacks.size > y.size)
        exact = x.astype(np.float64)
        return cls(
            centroid=exact.mean(axis=0).astype(np.float32),
            scale=np.maximum(exact.std(axis=0), min_scale).astype(np.float32),
            n_support=len(x),
            confidence=float(excess.clip(0, 1).mean()),
            protocol=commonest(protocol),
            is_true=is_true,
            family=commonest(attacks) if is_true else 0,
        )


def commonest(values: NDArray[Any]) -> int:
    """Return the commonest value, the smallest of several.

    >>> commonest(np.array([7, 5, 7, 5, 9]))
    5
    """
    found, times = np.unique(values, return_counts=True)
    return int(found[np.argmax(times)])


@dataclass(eq=False)
class Proposal:
    """A published signature, and what the network makes of it."""

    number: int
    step: int
    proposer: Node
    signature: Signature
    seats: list[Node]
    """Who may vote, by node number."""
    covers: list[Mask] = field(default_factory=list)
    """Which reference flows of each target it matches, once it is confirmed."""
    ballots: dict[Node, int] = field(default_factory=dict)
    outcome: int = 0
    decided: int | None = None
    """Step of its decision."""
