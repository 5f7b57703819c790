"""Drafting and matching signatures, against plain loops."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim_core.config import SignatureConfig
from sim_core.signatures import draft_signatures, match_blacklists, root_mean_square_distance

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 6))


def distance(x: Any, centroid: Any, scale: Any) -> float:
    squares = [
        ((float(a) - float(c)) / float(s)) ** 2 for a, c, s in zip(x, centroid, scale, strict=True)
    ]
    return (sum(squares) / len(squares)) ** 0.5


@given(seed=st.integers(0, 2**32 - 1), sizes=SIZES)
def test_distance_equals_a_plain_loop(seed: int, sizes: tuple[int, int, int]):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 5, sizes).astype(np.float32)
    centroid = rng.normal(0, 5, sizes[2]).astype(np.float32)
    scale = rng.uniform(0.5, 3, sizes[2]).astype(np.float32)
    kept = x.tobytes()
    found = root_mean_square_distance(x, centroid, scale)
    assert x.tobytes() == kept
    assert found.dtype == np.float32
    for index in np.ndindex(sizes[:2]):
        assert found[index] == pytest.approx(distance(x[index], centroid, scale), rel=1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=SIZES,
    n_known=st.integers(1, 6),
    capacity=st.integers(1, 5),
    radius=st.floats(0.3, 3),
)
def test_blacklists_match_what_a_plain_loop_matches(
    seed: int, sizes: tuple[int, int, int], n_known: int, capacity: int, radius: float
):
    rng = np.random.default_rng(seed)
    n_nodes, n_flows, n_features = sizes
    x = rng.normal(0, 1.5, sizes).astype(np.float32)
    number = np.sort(rng.choice(50, n_known, replace=False)).astype(np.int64)
    centroid = rng.normal(0, 1.5, (n_known, n_features)).astype(np.float32)
    scale = rng.uniform(0.5, 2, (n_known, n_features)).astype(np.float32)
    blacklist = rng.choice(np.append(number, -1), (n_nodes, capacity))
    found = match_blacklists(x, blacklist, number, centroid, scale, radius)
    assert found.dtype == np.bool_
    row = {int(n): i for i, n in enumerate(number)}
    for i in range(n_nodes):
        held = [row[int(n)] for n in blacklist[i] if n >= 0]
        for j in range(n_flows):
            distances = [distance(x[i, j], centroid[k], scale[k]) for k in held]
            assume(all(abs(d - radius) > 1e-4 for d in distances))
            assert found[i, j] == any(d <= radius for d in distances)


def test_empty_blacklists_match_nothing():
    x = np.zeros((3, 2, 4), dtype=np.float32)
    nothing = np.zeros((0, 4), dtype=np.float32)
    blacklist = np.full((3, 2), -1)
    found = match_blacklists(x, blacklist, np.zeros(0, dtype=np.int64), nothing, nothing, 2.0)
    assert not found.any()
    assert found.shape == (3, 2)


def test_a_flow_on_the_radius_matches():
    x = np.array([[[2.0, 2.0], [2.0, 2.001]]], dtype=np.float32)
    one = np.ones((1, 2), dtype=np.float32)
    blacklist, number = np.zeros((1, 1), dtype=np.int64), np.zeros(1, dtype=np.int64)
    found = match_blacklists(x, blacklist, number, 0 * one, one, 2.0)
    assert found.tolist() == [[True, False]]


@given(seed=st.integers(0, 2**32 - 1), sizes=SIZES, min_scale=st.floats(0.01, 2))
def test_drafts_equal_plain_loops_and_depend_on_their_own_node_alone(
    seed: int, sizes: tuple[int, int, int], min_scale: float
):
    rng = np.random.default_rng(seed)
    n_nodes, n_flows, n_features = sizes
    config = SignatureConfig(min_scale=min_scale)
    support = rng.random((n_nodes, n_flows)) < 0.6
    support[np.arange(n_nodes), rng.integers(n_flows, size=n_nodes)] = True
    arguments = (
        support,
        rng.normal(0, 2, sizes).astype(np.float32),
        rng.integers(0, 4, (n_nodes, n_flows)).astype(np.int16),
        rng.uniform(0, 6, (n_nodes, n_flows)).astype(np.float32),
        rng.uniform(0.5, 4, n_nodes).astype(np.float32),
        rng.choice([1, 6, 17], (n_nodes, n_flows)).astype(np.uint8),
    )
    nodes = np.sort(rng.choice(100, n_nodes, replace=False))
    drafts = draft_signatures(nodes, *arguments, config)
    for i in range(n_nodes):
        _, x, y, score, threshold, protocol = arguments
        mine = np.flatnonzero(support[i])
        labels = [int(y[i, j]) for j in mine]
        attacks = Counter(label for label in labels if label > 0)
        is_true = sum(attacks.values()) > len(mine) / 2
        assert drafts.node[i] == nodes[i]
        assert drafts.n_support[i] == len(mine)
        assert drafts.is_true[i] == is_true
        assert drafts.family[i] == (commonest(attacks) if is_true else 0)
        assert drafts.protocol[i] == commonest(Counter(int(protocol[i, j]) for j in mine))
        centroid = [np.mean([float(x[i, j, k]) for j in mine]) for k in range(n_features)]
        spread = [np.std([float(x[i, j, k]) for j in mine]) for k in range(n_features)]
        scale = [max(s, min_scale) for s in spread]
        excess = [
            max(0.0, 1 - float(threshold[i]) / float(score[i, j])) for j in mine if score[i, j]
        ]
        assert drafts.centroid[i].tolist() == pytest.approx(centroid, rel=1e-5, abs=1e-6)
        assert drafts.scale[i].tolist() == pytest.approx(scale, rel=1e-5)
        assert drafts.confidence[i] == pytest.approx(sum(excess) / len(mine), rel=1e-5, abs=1e-6)
        assert 0 <= drafts.confidence[i] <= 1
        alone = draft_signatures(nodes[[i]], *(a[[i]] for a in arguments), config)
        for name, values in vars(drafts).items():
            assert getattr(alone, name)[0].tobytes() == values[i].tobytes(), name
    assert drafts.centroid.dtype == drafts.scale.dtype == np.float32


def commonest(counts: Counter[int]) -> int:
    most = max(counts.values())
    return min(value for value, count in counts.items() if count == most)
