"""Threat signatures: what one matches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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


def cover_references(
    references: NDArray[np.float32],
    centroid: NDArray[np.float32],
    scale: NDArray[np.float32],
    radius: float,
) -> NDArray[np.uint64]:
    """Return which reference flows each signature matches, as bits `[n_signatures, n_targets]`.

    Args:
        references: `[n_targets, 64, n_features]`.
        centroid: `[n_signatures, n_features]`.
        scale: `[n_signatures, n_features]`.
        radius: Largest distance that is a match.

    >>> x = np.zeros((1, 64, 2), dtype=np.float32); x[0, 3:] = 9
    >>> one = np.ones((1, 2), dtype=np.float32)
    >>> cover_references(x, 0 * one, one, 2.0)
    array([[7]], dtype=uint64)
    """
    distance = root_mean_square_distance(references, centroid[:, None, None], scale[:, None, None])
    bits = np.uint64(1) << np.arange(references.shape[1], dtype=np.uint64)
    covered: NDArray[np.uint64] = np.where(distance <= radius, bits, np.uint64(0)).sum(
        axis=2, dtype=np.uint64
    )
    return covered
