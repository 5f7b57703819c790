"""Counter-based random numbers, compiled: any number of any stream without those before it.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC
2011); normals by the ziggurat of Marsaglia and Tsang (2000) in Doornik's form (2005) with 256 layers,
whose rejections continue on counters of their own.

A counter has four words: (call, item, node, step). Word `4 q + l` of an item is word l of call q.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, njit, uint32, uint64
from numpy.typing import NDArray

WORDS = 4
"""Words of 32 bits that one call gives."""
UNIT = 2.0**-32
_LAYERS = 256
_RIGHT = 3.6541528853610088
_AREA = 0.00492867323399
_REJECTED = 0x8000_0000
"""First call of the counters on which rejected normals go on."""


def _layers() -> tuple[NDArray[np.uint32], NDArray[np.float32], NDArray[np.float64]]:
    """Return, per layer, the words that are accepted at once, the width, and the density."""
    edge = np.zeros(_LAYERS + 1)
    edge[0], edge[1] = _AREA / np.exp(-0.5 * _RIGHT**2), _RIGHT
    for i in range(2, _LAYERS):
        edge[i] = np.sqrt(-2 * np.log(_AREA / edge[i - 1] + np.exp(-0.5 * edge[i - 1] ** 2)))
    inner = edge[1:] / edge[:-1] * 2.0**23
    return inner.astype(np.uint32), (edge[:-1] / 2.0**23).astype(np.float32), np.exp(-0.5 * edge**2)


_INNER, _WIDTH, _DENSITY = _layers()


@njit(inline="always")
def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of one counter under one key, all uint32."""
    for _ in range(10):
        p0 = uint64(0xD2511F53) * uint64(c0)
        p1 = uint64(0xCD9E8D57) * uint64(c2)
        c0 = uint32(p1 >> uint64(32)) ^ c1 ^ k0
        c2 = uint32(p0 >> uint64(32)) ^ c3 ^ k1
        c1 = uint32(p1 & uint64(0xFFFFFFFF))
        c3 = uint32(p0 & uint64(0xFFFFFFFF))
        k0 = uint32(k0 + uint32(0x9E3779B9))
        k1 = uint32(k1 + uint32(0xBB67AE85))
    return c0, c1, c2, c3


@njit(cache=True, nogil=True)
def fill_words(out: Any, first_node: int, step: int, k0: Any, k1: Any) -> None:
    """Fill uint32 `[n_nodes, n_calls, 4, n_items]` with the words of these nodes at this step."""
    n_nodes, n_calls, _, n_items = out.shape
    for i in range(n_nodes):
        for q in range(n_calls):
            a, b, c, d = out[i, q, 0], out[i, q, 1], out[i, q, 2], out[i, q, 3]
            for item in range(n_items):
                a[item], b[item], c[item], d[item] = philox4x32(
                    uint32(q), uint32(item), uint32(first_node + i), uint32(step), k0, k1
                )


@njit(cache=True, nogil=True)
def pick_words(out: Any, node: Any, step: Any, k0: Any, k1: Any) -> None:
    """Fill uint32 `[n]` with word 0 of item 0 of `node[k]` at `step[k]`."""
    for k in range(out.shape[0]):
        out[k] = philox4x32(uint32(0), uint32(0), uint32(node[k]), uint32(step[k]), k0, k1)[0]


@njit(cache=True, nogil=True)
def _outside(
    layer: Any, x: Any, call: Any, item: Any, node: Any, step: Any, k0: Any, k1: Any
) -> Any:
    """Return the normal that a word outside of its layer's rectangle leads to; x >= 0."""
    while True:
        w0, w1, w2, w3 = philox4x32(call, item, node, step, k0, k1)
        call = uint32(call + uint32(1))
        u0, u1 = (float64(w0) + 0.5) * UNIT, (float64(w1) + 0.5) * UNIT
        if layer == 0:
            beyond = -np.log(u0) / _RIGHT
            if -2.0 * np.log(u1) > beyond * beyond:
                return float32(_RIGHT + beyond)
            continue
        height = _DENSITY[layer] + u0 * (_DENSITY[layer + 1] - _DENSITY[layer])
        if height < np.exp(-0.5 * float64(x) * float64(x)):
            return x
        layer = np.int64(w2 & uint32(0xFF))
        x = float32(w3 >> uint32(9)) * _WIDTH[layer]
        if (w3 >> uint32(9)) < _INNER[layer]:
            return x


@njit(cache=True, nogil=True)
def fill_normals(
    out: Any, words: Any, first_word: int, first_node: int, step: int, k0: Any, k1: Any
) -> None:
    """Fill float32 `[n_nodes, n_features, n_items]` with standard normals.

    Feature d of an item is made of word `first_word + d` of `words` `[n_nodes, n_calls, 4, n_items]`.
    """
    n_nodes, n_features, n_items = out.shape
    rejected = np.empty(n_items + 1, np.int64)
    for i in range(n_nodes):
        for d in range(n_features):
            j = first_word + d
            source, target = words[i, j // 4, j % 4], out[i, d]
            count = 0
            for item in range(n_items):
                w = source[item]
                layer = w & uint32(0xFF)
                x = float32(np.int32(w >> uint32(9))) * _WIDTH[layer]
                target[item] = -x if w & uint32(0x100) else x
            for item in range(n_items):
                w = source[item]
                rejected[count] = item
                count += (w >> uint32(9)) >= _INNER[w & uint32(0xFF)]
            for index in range(count):
                item = rejected[index]
                w = source[item]
                x = _outside(
                    np.int64(w & uint32(0xFF)),
                    abs(target[item]),
                    uint32(uint32(_REJECTED) + uint32(j << 12)),
                    uint32(item),
                    uint32(first_node + i),
                    uint32(step),
                    k0,
                    k1,
                )
                target[item] = -x if w & uint32(0x100) else x
