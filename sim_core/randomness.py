"""Named random streams that depend on nothing but seed, replicate, purpose, node, item and step.

Numbers of nodes come from Philox4x32 (`sim_core.philox`) with the key of (root seed, replicate,
purpose) and the counter (call, item, node, step): adding a node, a shard or an interruption shifts
nobody's numbers. One-off draws of varying length (graphs, partitions) come from NumPy's Philox under a
key of their own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim_core.philox import UNIT, WORDS, fill_normals, fill_words

BLOCK_NODES = 64
"""Nodes of the blocks in which alerts are digested and networks are cut into shards."""

Purpose = Literal[
    "mixture",
    "warmup",
    "traffic",
    "campaign",
    "reference",
    "partition",
    "topology",
    "dissemination",
    "votes",
    "adversary",
    "churn",
    "activation",
    "committee",
    "detector",
    "drift",
    "worm",
    "walk",
]


@cache
def stream_key(root: int, replicate: int, purpose: str, block: int) -> tuple[int, int]:
    """Return the 128-bit Philox key of a stream as two 64-bit words.

    >>> stream_key(0, 0, "traffic", 0) == stream_key(0, 0, "traffic", 1)
    False
    """
    text = f"quorumlab:{root}:{replicate}:{purpose}:{block}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


@dataclass(frozen=True)
class Streams:
    """All random streams of one run.

    >>> streams = Streams(root=0, replicate=0)
    >>> a = streams.generator("traffic", block=0, step=3).random()
    >>> a == Streams(0, 0).generator("traffic", block=0, step=3).random()
    True
    """

    root: int
    replicate: int

    def key(self, purpose: Purpose) -> tuple[np.uint32, np.uint32]:
        """Return the Philox4x32 key of a purpose, for compiled code."""
        word, _ = stream_key(self.root, self.replicate, purpose, 0)
        return np.uint32(word & 0xFFFFFFFF), np.uint32(word >> 32)

    def generator(self, purpose: Purpose, *, block: int = 0, step: int = 0) -> np.random.Generator:
        """Return a generator for draws of varying length, always from its beginning."""
        key = np.array(stream_key(self.root, self.replicate, purpose, block), dtype=np.uint64)
        counter = np.array([0, 0, 0, step], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def words(
        self, purpose: Purpose, n_nodes: int, width: int = 1, *, first: int = 0, step: int = 0
    ) -> NDArray[np.uint32]:
        """Return 32 random bits `[n_nodes, width]` for nodes from `first` on."""
        n_calls = -(-width // WORDS)
        words = np.empty((n_nodes, n_calls, WORDS, 1), dtype=np.uint32)
        fill_words(words, first, step, *self.key(purpose))
        return words.reshape(n_nodes, n_calls * WORDS)[:, :width]

    def uniforms(
        self, purpose: Purpose, n_nodes: int, width: int = 1, *, first: int = 0, step: int = 0
    ) -> NDArray[np.float64]:
        """Return uniform numbers in [0, 1) `[n_nodes, width]` for nodes from `first` on.

        >>> streams = Streams(root=0, replicate=0)
        >>> bool((streams.uniforms("churn", 5)[3:] == streams.uniforms("churn", 2, first=3)).all())
        True
        """
        words = self.words(purpose, n_nodes, width, first=first, step=step)
        return words.astype(np.float64) * UNIT

    def normals(
        self, purpose: Purpose, n_nodes: int, width: int, *, first: int = 0, step: int = 0
    ) -> NDArray[np.float32]:
        """Return standard normals `[n_nodes, width]` for nodes from `first` on."""
        words = self.words(purpose, n_nodes, -(-width // WORDS) * WORDS, first=first, step=step)
        normal = np.empty((n_nodes, width, 1), dtype=np.float32)
        calls = words.reshape(n_nodes, -1, WORDS, 1)
        fill_normals(normal, calls, 0, first, step, *self.key(purpose))
        return normal[:, :, 0]
