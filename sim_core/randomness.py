"""Named random streams that depend on nothing but seed, replicate, purpose, block and step.

A stream is a Philox generator (Salmon et al. 2011) whose key is drawn from (root seed, replicate,
purpose, block of 64 nodes) and whose counter starts at the step. A block is drawn whole, in node
order, even if partly used: adding a node, a shard or an interruption shifts nobody's numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BLOCK_NODES = 64

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
    "addresses",
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

    def generator(self, purpose: Purpose, *, block: int = 0, step: int = 0) -> np.random.Generator:
        """Return the generator of one block at one step, always from its beginning."""
        key = np.array(stream_key(self.root, self.replicate, purpose, block), dtype=np.uint64)
        counter = np.array([0, 0, 0, step], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def per_node(
        self,
        purpose: Purpose,
        n_nodes: int,
        draw: Callable[[np.random.Generator], NDArray[Any]],
        *,
        step: int = 0,
    ) -> NDArray[Any]:
        """Return `[n_nodes, ...]`: `draw` gives `[64, ...]` for each block, surplus rows are cut."""
        blocks = range(-(-n_nodes // BLOCK_NODES))
        parts = [draw(self.generator(purpose, block=block, step=step)) for block in blocks]
        return np.concatenate(parts)[:n_nodes]
