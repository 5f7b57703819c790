"""Entries of the ledger, their canonical encoding, and the hash chain.

The encoding is documented in docs/reference/ledger.md and can be recomputed from the database
alone: each kind's entries of a step, in the order stated here, as packed little-endian records;

    digest(kind) = SHA-256(kind name in ASCII || number of entries as uint32 || records)
                   where, of alerts, the SHA-256 of the records of each block of 64 nodes that has
                   any stands in place of the records
    hash(step)   = SHA-256(hash(step - 1) || step as uint64 || digest of each kind, in this order)
    hash(-1)     = SHA-256(run key as 32 bytes)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.randomness import BLOCK_NODES

Entries = NDArray[np.void]

KINDS = ("alert", "proposal", "support", "vote", "decision", "metrics")
KEPT: dict[str, frozenset[str]] = {
    "decisions": frozenset({"proposal", "support", "decision", "metrics"}),
    "votes": frozenset({"proposal", "support", "decision", "metrics", "vote"}),
    "alerts": frozenset({"proposal", "support", "decision", "metrics", "alert"}),
    "all": frozenset(KINDS),
}
"""Kinds whose rows are kept, by `ledger.detail`."""

ALERT = np.dtype(
    [
        ("step", "<u4"),
        ("node", "<u4"),
        ("flow", "<u4"),
        ("score", "<f4"),
        ("matched", "u1"),
        ("timestamp", "<i8"),
        ("source_ip", "<u4"),
        ("destination_ip", "<u4"),
        ("bytes_transferred", "<i8"),
        ("protocol", "u1"),
    ]
)
SUPPORT = np.dtype([("step", "<u4"), ("proposal", "<u4"), ("node", "<u4")])
VOTE = np.dtype([("step", "<u4"), ("proposal", "<u4"), ("node", "<u4"), ("ballot", "u1")])
METRIC_COUNTS = (
    "tp",
    "fp",
    "tn",
    "fn",
    "honest_tp",
    "honest_fp",
    "honest_tn",
    "honest_fn",
    "benign_blocked",
    "alerts",
    "proposals",
    "supports",
    "votes_accept",
    "votes_reject",
    "votes_abstain",
    "confirmed",
    "rejected",
    "expired",
    "true_confirmations",
    "false_confirmations",
    "decision_steps",
    "pending",
    "infected",
    "messages_sent",
    "messages_delivered",
    "messages_lost",
    "messages_in_flight",
    "bytes_sent",
    "nodes_up",
)
METRIC_VALUES = (
    "auroc",
    "blacklist_coverage",
    "immunity_share",
    "reputation_honest",
    "reputation_dishonest",
)
METRICS = np.dtype(
    [("step", "<u4")] + [(n, "<i8") for n in METRIC_COUNTS] + [(n, "<f8") for n in METRIC_VALUES]
)


def proposal_dtype(n_features: int) -> np.dtype[np.void]:
    """Return the record of a proposal: who, the signature, and the truth about it."""
    return np.dtype(
        [
            ("step", "<u4"),
            ("proposal", "<u4"),
            ("proposer", "<u4"),
            ("n_support", "<u4"),
            ("confidence", "<f8"),
            ("protocol", "u1"),
            ("is_true", "u1"),
            ("family", "<i2"),
            ("centroid", "<f4", (n_features,)),
            ("scale", "<f4", (n_features,)),
        ]
    )


def decision_dtype(n_voters: int) -> np.dtype[np.void]:
    """Return the record of a decision: outcome, tallies, and the ballots, 2 bits a seat."""
    return np.dtype(
        [
            ("step", "<u4"),
            ("proposal", "<u4"),
            ("outcome", "u1"),
            ("accept", "<u4"),
            ("reject", "<u4"),
            ("abstain", "<u4"),
            ("registered", "<u4"),
            ("ballots", "u1", (-(-n_voters // 4),)),
        ]
    )


def entry_dtypes(n_voters: int, n_features: int) -> dict[str, np.dtype[np.void]]:
    """Return the record type of each kind."""
    return {
        "alert": ALERT,
        "proposal": proposal_dtype(n_features),
        "support": SUPPORT,
        "vote": VOTE,
        "decision": decision_dtype(n_voters),
        "metrics": METRICS,
    }


def make_entries(dtype: np.dtype[np.void], n: int, **columns: Any) -> Entries:
    """Return `n` records with these columns; every field must be given."""
    entries = np.zeros(n, dtype=dtype)
    assert set(columns) == set(dtype.names or ()), set(columns) ^ set(dtype.names or ())
    for name, values in columns.items():
        entries[name] = values
    return entries


def pack_ballots(ballots: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ballots `[n, n_seats]` at 2 bits each, seat 0 in the lowest bits of byte 0.

    >>> pack_ballots(np.array([[1, 2, 3, 0, 1]], dtype=np.uint8)).tolist()
    [[57, 1]]
    """
    n, n_seats = ballots.shape
    padded = np.zeros((n, -(-n_seats // 4) * 4), dtype=np.uint8)
    padded[:, :n_seats] = ballots
    quads = padded.reshape(n, padded.shape[1] // 4, 4)
    packed: NDArray[np.uint8] = (
        quads[..., 0] | quads[..., 1] << 2 | quads[..., 2] << 4 | quads[..., 3] << 6
    )
    return packed


def unpack_ballots(packed: NDArray[np.uint8], n_seats: int) -> NDArray[np.uint8]:
    """Return ballots `[n, n_seats]` from their packed form.

    >>> unpack_ballots(np.array([[57, 1]], dtype=np.uint8), 5).tolist()
    [[1, 2, 3, 0, 1]]
    """
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)
    quads: NDArray[np.uint8] = (packed[..., None] >> shifts) & np.uint8(3)
    return quads.reshape(len(packed), packed.shape[1] * 4)[:, :n_seats]


def digest(kind: str, entries: Entries) -> bytes:
    """Return the digest of one kind's entries of one step.

    >>> digest("vote", np.zeros(0, dtype=VOTE)).hex()[:8]
    'edd5d347'
    """
    if kind == "alert":
        return join_alerts(alert_parts(entries))
    return digest_of_records(kind, len(entries), entries.tobytes())


def digest_of_records(kind: str, n: int, records: bytes) -> bytes:
    """Return the digest of one kind's entries of one step, but of alerts, from their `n` records."""
    return hashlib.sha256(kind.encode("ascii") + struct.pack("<I", n) + records).digest()


def alert_parts(alerts: Entries) -> list[tuple[bytes, int]]:
    """Return SHA-256 and number of the alerts of each block of 64 nodes that has any, in order.

    Shards of a network hash the alerts of their own nodes; `join_alerts` makes the digest of them.
    """
    block = alerts["node"] // BLOCK_NODES
    edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(alerts)]
    return [
        (hashlib.sha256(alerts[start:stop].tobytes()).digest(), stop - start)
        for start, stop in pairwise(edges)
        if stop > start
    ]


def join_alerts(parts: Sequence[tuple[bytes, int]]) -> bytes:
    """Return the digest of a step's alerts from those of its blocks of nodes."""
    head = b"alert" + struct.pack("<I", sum(n for _, n in parts))
    return hashlib.sha256(head + b"".join(part for part, _ in parts)).digest()


def first_hash(run_key: str) -> bytes:
    """Return the hash before step 0 of the run with this key (64 hexadecimal digits)."""
    return hashlib.sha256(bytes.fromhex(run_key)).digest()


def block_hash(previous: bytes, step: int, digests: tuple[bytes, ...]) -> bytes:
    """Return the hash of a block from its predecessor's and the digests in the order of KINDS."""
    return hashlib.sha256(previous + struct.pack("<Q", step) + b"".join(digests)).digest()


@dataclass(frozen=True)
class Block:
    """One step's place in the chain."""

    step: int
    previous: bytes
    hash: bytes
    digests: tuple[bytes, ...]


def close_block(
    previous: bytes,
    step: int,
    entries: dict[str, Entries],
    parts: Sequence[tuple[bytes, int]] | None = None,
) -> Block:
    """Return the block over one step's entries of all kinds.

    `parts` are `alert_parts` where the alerts themselves are elsewhere.
    """
    digests = tuple(
        join_alerts(parts) if kind == "alert" and parts is not None else digest(kind, entries[kind])
        for kind in KINDS
    )
    return Block(step, previous, block_hash(previous, step, digests), digests)
