"""Random numbers one by one: which number decides what is part of the specification."""

from __future__ import annotations

import numpy as np

from sim_core.philox import UNIT, fill_words
from sim_core.randomness import Purpose, Streams


def words(
    streams: Streams, purpose: Purpose, node: int, step: int, *, count: int = 1, item: int = 0
) -> list[int]:
    """Return the first `count` words of 32 bits that belong to purpose, node, step and item.

    >>> len(words(Streams(0, 0), "walk", node=3, step=5, count=2))
    2
    """
    out = np.empty((1, -(-count // 4), 4, item + 1), dtype=np.uint32)
    fill_words(out, node, step, *streams.key(purpose))
    return [int(word) for word in out[0, :, :, item].ravel()[:count]]


def uniform(streams: Streams, purpose: Purpose, node: int, step: int, *, item: int = 0) -> float:
    """Return the first word as a number in [0, 1)."""
    return words(streams, purpose, node, step, item=item)[0] * UNIT


def pick(word: int, n: int) -> int:
    """Return which of n equally likely places a word means.

    >>> pick(0, 3), pick(2**32 - 1, 3)
    (0, 2)
    """
    return word * n >> 32
