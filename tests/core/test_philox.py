"""Philox4x32 against its published vectors, normals against the normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import stats

from sim_core.philox import fill_normals, fill_words, philox4x32
from sim_core.randomness import Streams

KEY = np.uint32(7), np.uint32(9)


@njit
def _one(c0, c1, c2, c3, k0, k1):
    return philox4x32(c0, c1, c2, c3, k0, k1)


# Known answers of Random123 1.09, kat_vectors, philox4x32 with 10 rounds.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    words = [np.uint32(word) for word in (*counter, *key)]
    assert tuple(int(word) for word in _one(*words)) == expected


def test_words_are_the_calls_of_their_counters():
    words = np.empty((3, 2, 4, 5), dtype=np.uint32)
    fill_words(words, 10, 6, *KEY)
    for node, call, item in ((0, 0, 0), (2, 1, 4), (1, 0, 3)):
        counter = [np.uint32(word) for word in (call, item, 10 + node, 6)]
        assert words[node, call, :, item].tolist() == [int(w) for w in _one(*counter, *KEY)]


def normals(n_nodes: int, n_features: int, n_items: int, *, first: int = 0, step: int = 3):
    words = np.empty((n_nodes, -(-(n_features + 2) // 4), 4, n_items), dtype=np.uint32)
    out = np.empty((n_nodes, n_features, n_items), dtype=np.float32)
    fill_words(words, first, step, *KEY)
    fill_normals(out, words, 2, first, step, *KEY)
    return out


def test_normals_are_normal_up_to_the_tail():
    z = normals(400, 8, 1000).astype(np.float64).ravel()
    n = z.size
    assert stats.kstest(z, "norm").pvalue > 0.001
    assert abs(z.mean()) < 3.3 / np.sqrt(n)
    assert abs(z.var() - 1) < 3.3 * np.sqrt(2 / n)
    assert abs(stats.kurtosis(z)) < 3.3 * np.sqrt(24 / n)
    for edge in (
        2.0,
        3.0,
        3.6541528853610088,
        4.2,
    ):  # the third one is where the ziggurat's tail begins
        share = stats.norm.sf(edge)
        for tail in (z > edge, z < -edge):
            assert abs(tail.sum() - n * share) < 3.3 * np.sqrt(n * share)


def test_normals_of_different_places_are_uncorrelated():
    z = normals(500, 8, 200).astype(np.float64)
    bound = 3.9 / np.sqrt(z.size / 2)
    for a, b in ((z[::2], z[1::2]), (z[:, ::2], z[:, 1::2]), (z[..., ::2], z[..., 1::2])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < bound


def test_a_node_has_its_normals_whoever_is_there():
    whole = normals(70, 8, 50)
    assert whole[64:].tobytes() == normals(6, 8, 50, first=64).tobytes()
    assert whole[:, :3].tobytes() == normals(70, 3, 50).tobytes()
    assert whole[..., :20].tobytes() == normals(70, 8, 20).tobytes()
    assert whole.tobytes() != normals(70, 8, 50, step=4).tobytes()


def test_uniforms_are_uniform_and_cover_their_range():
    u = Streams(3, 1).uniforms("churn", 5_000, 20)
    assert (u >= 0).all()
    assert (u < 1).all()
    assert stats.kstest(u.ravel(), "uniform").pvalue > 0.001
    assert u.min() < 1e-3
    assert u.max() > 1 - 1e-3
