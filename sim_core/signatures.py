"""Threat signatures: how flagged flows become one, and what one matches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.config import SignatureConfig


def root_mean_square_distance(
    x: NDArray[np.float32], centroid: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the distance of x `[..., n_features]` to the centroid, in scales (all broadcast).

    >>> root_mean_square_distance(np.float32([[3, 4]]), np.float32([0, 0]), np.float32([1, 1]))
    array([3.535534], dtype=float32)
    """
    z = x - centroid
    z /= scale
    distance: NDArray[np.float32] = np.sqrt(
        np.einsum("...d,...d->...", z, z) / np.float32(x.shape[-1])
    )
    return distance


@dataclass(frozen=True)
class Drafts:
    """Signatures that nodes would propose, one row each."""

    node: NDArray[np.int64]
    n_support: NDArray[np.int64]
    centroid: NDArray[np.float32]
    scale: NDArray[np.float32]
    confidence: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    family: NDArray[np.int16]
    protocol: NDArray[np.uint8]


def draft_signatures(
    nodes: NDArray[np.int64],
    support: NDArray[np.bool_],
    x: NDArray[np.float32],
    y: NDArray[np.int16],
    score: NDArray[np.float32],
    threshold: NDArray[np.float32],
    protocol: NDArray[Any],
    config: SignatureConfig,
) -> Drafts:
    """Return a signature for each of `nodes` over its supporting flows.

    Centroid and scale are mean and standard deviation of the supporting flows, the scale at least
    `min_scale`; confidence is the mean share by which their scores pass the threshold. Rows of
    all arguments belong to `nodes`.

    Args:
        nodes: Nodes that propose `[n]`.
        support: Their supporting flows `[n, n_flows]`, at least one each.
        x: Their flows `[n, n_flows, n_features]`.
        y: Truth `[n, n_flows]`.
        score: Scores `[n, n_flows]`.
        threshold: Thresholds `[n]`.
        protocol: IANA protocol numbers `[n, n_flows]`; only supporting entries are read.
        config: Settings of signatures.
    """
    count = support.sum(axis=1)
    weight = support.astype(np.float32)
    exact = x.astype(np.float64)
    centroid = np.einsum("nbd,nb->nd", exact, weight) / count[:, None]
    deviation = exact - centroid[:, None]
    variance = np.einsum("nbd,nbd,nb->nd", deviation, deviation, weight) / count[:, None]
    excess = np.clip(1 - threshold[:, None] / np.maximum(score, np.float32(1e-30)), 0, 1)
    attack = support & (y > 0)
    is_true = 2 * attack.sum(axis=1) > count
    return Drafts(
        node=nodes,
        n_support=count,
        centroid=centroid.astype(np.float32),
        scale=np.maximum(np.sqrt(variance), config.min_scale).astype(np.float32),
        confidence=np.einsum("nb,nb->n", excess.astype(np.float64), weight) / count,
        is_true=is_true,
        family=np.where(is_true, _commonest(y, attack), 0).astype(np.int16),
        protocol=_commonest(protocol, support).astype(np.uint8),
    )


def _commonest(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the commonest masked value of each row, the smallest of several, 0 without any."""
    kinds = np.unique(values[mask])
    if kinds.size == 0:
        return np.zeros(len(values), dtype=np.int64)
    counts = np.stack([((values == kind) & mask).sum(axis=1) for kind in kinds], axis=1)
    commonest: NDArray[np.int64] = kinds[counts.argmax(axis=1)].astype(np.int64)
    return commonest


def match_blacklists(
    x: NDArray[np.float32],
    blacklist: NDArray[np.int64],
    number: NDArray[np.int64],
    centroid: NDArray[np.float32],
    scale: NDArray[np.float32],
    radius: float,
) -> NDArray[np.bool_]:
    """Return which flows `[n_nodes, n_flows]` match a signature that their node holds.

    Args:
        x: Flows `[n_nodes, n_flows, n_features]`.
        blacklist: Numbers of the signatures held `[n_nodes, capacity]`, -1 is empty.
        number: Numbers of the known signatures, ascending `[n_signatures]`.
        centroid: `[n_signatures, n_features]`.
        scale: `[n_signatures, n_features]`.
        radius: Largest distance that is a match.
    """
    matched = np.zeros(x.shape[:2], dtype=np.bool_)
    for slot in range(blacklist.shape[1]):
        holders = np.flatnonzero(blacklist[:, slot] >= 0)
        if holders.size == 0:
            continue
        row = np.searchsorted(number, blacklist[holders, slot])
        everyone = holders.size == len(x)
        flows = x if everyone else x[holders]
        near = root_mean_square_distance(flows, centroid[row][:, None], scale[row][:, None])
        matched[holders] |= near <= radius
    return matched
