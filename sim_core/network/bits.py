"""Sets of proposals as bits, one row per node: slot s is bit s % 64 of word s // 64.

Everything here is compiled and goes over nodes and words; nothing is larger than
`[n_nodes, n_words]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64

WORD_BITS = 64


@njit(inline="always")
def count_bits(word: Any) -> Any:
    """Return how many bits of a uint64 are set (Warren, Hacker's Delight, section 5-1)."""
    word = word - ((word >> uint64(1)) & uint64(0x5555555555555555))
    word = (word & uint64(0x3333333333333333)) + ((word >> uint64(2)) & uint64(0x3333333333333333))
    word = (word + (word >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * uint64(0x0101010101010101)) >> uint64(56))


@njit(inline="always")
def bit_of(slot: Any) -> Any:
    """Return the word in which only the bit of a slot is set."""
    return uint64(1) << uint64(slot & 63)


@njit(cache=True, nogil=True)
def set_bits(bits: Any, node: Any, slot: Any) -> None:
    """Set the bit of `slot[k]` in the row of `node[k]`."""
    for k in range(node.shape[0]):
        bits[node[k], slot[k] >> 6] |= bit_of(slot[k])


@njit(cache=True, nogil=True)
def slots_mask(slot: Any, chosen: Any, n_words: int) -> Any:
    """Return uint64 `[n_words]` with the bits of the chosen slots."""
    mask = np.zeros(n_words, np.uint64)
    for k in range(slot.shape[0]):
        if chosen[k]:
            mask[slot[k] >> 6] |= bit_of(slot[k])
    return mask


@njit(cache=True, nogil=True)
def seats_held(bits: Any, voters: Any, slot: Any, rows: Any, out: Any) -> None:
    """Write whether the voter in each seat of each row has its bit; False for seat -1."""
    for k in range(rows.shape[0]):
        place = slot[rows[k]]
        for seat in range(voters.shape[1]):
            node = voters[rows[k], seat]
            out[k, seat] = node >= 0 and (bits[node, place >> 6] & bit_of(place)) != uint64(0)


@njit(cache=True, nogil=True)
def fill_rows(bits: Any, chosen: Any, mask: Any) -> None:
    """Set the rows of the chosen nodes to `mask`."""
    for i in range(bits.shape[0]):
        if chosen[i]:
            for w in range(bits.shape[1]):
                bits[i, w] = mask[w]


@njit(cache=True, nogil=True)
def add_news(known: Any, gained: Any) -> None:
    """Leave in `gained` what is not yet known, and add it to `known`."""
    for i in range(known.shape[0]):
        for w in range(known.shape[1]):
            gained[i, w] &= ~known[i, w]
            known[i, w] |= gained[i, w]


@njit(cache=True, nogil=True)
def known_to_all(bits: Any, joined: Any) -> Any:
    """Return uint64 `[n_words]`: the bits that every node that has joined has."""
    everywhere = np.full(bits.shape[1], uint64(0xFFFFFFFFFFFFFFFF), np.uint64)
    for i in range(bits.shape[0]):
        if joined[i]:
            for w in range(bits.shape[1]):
                everywhere[w] &= bits[i, w]
    return everywhere


@njit(cache=True, nogil=True)
def set_pairs(bits: Any, slot: Any, chosen: Any) -> Any:
    """Return the (row, node) pairs whose bit is set, of the chosen rows, by row and then by node."""
    n_words = bits.shape[1]
    mask = slots_mask(slot, chosen, n_words)
    row_of = np.full(n_words * 64, -1, np.int64)
    for k in range(slot.shape[0]):
        if chosen[k]:
            row_of[slot[k]] = k
    first = np.zeros(slot.shape[0] + 1, np.int64)
    for i in range(bits.shape[0]):
        for w in range(n_words):
            word = bits[i, w] & mask[w]
            while word:
                first[row_of[w * 64 + _lowest(word)] + 1] += 1
                word &= word - uint64(1)
    for k in range(slot.shape[0]):
        first[k + 1] += first[k]
    row, node = np.empty(first[-1], np.int64), np.empty(first[-1], np.int64)
    for i in range(bits.shape[0]):
        for w in range(n_words):
            word = bits[i, w] & mask[w]
            while word:
                k = row_of[w * 64 + _lowest(word)]
                row[first[k]], node[first[k]] = k, i
                first[k] += 1
                word &= word - uint64(1)
    return row, node


@njit(inline="always")
def _lowest(word: Any) -> Any:
    """Return the number of the lowest bit that is set."""
    return count_bits((word & (~word + uint64(1))) - uint64(1))


@njit(cache=True, nogil=True)
def count_news(known: Any, gained: Any) -> Any:
    """Return how many bits of `gained` are not yet known."""
    count = 0
    for i in range(known.shape[0]):
        for w in range(known.shape[1]):
            count += count_bits(gained[i, w] & ~known[i, w])
    return count


@njit(cache=True, nogil=True)
def tell_nodes(known: Any, gained: Any, node: Any, slot: Any) -> Any:
    """Set the bit of `slot[k]` in the gains of `node[k]` where it is not known; return how many."""
    count = 0
    for k in range(node.shape[0]):
        w, bit = slot[k] >> 6, bit_of(slot[k])
        if not known[node[k], w] & bit:
            gained[node[k], w] |= bit
            count += 1
    return count
