"""Entries: their encoding, their way into the database and back, and the hash chain."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim_core.ledger.blocks import (
    KEPT,
    KINDS,
    METRIC_VALUES,
    alert_parts,
    close_block,
    digest,
    entry_dtypes,
    first_hash,
    join_alerts,
    make_entries,
    pack_ballots,
    unpack_ballots,
)
from sim_core.ledger.store import entries_of, entry_rows
from sim_core.ledger.tables import ENTRY_TABLES

N_VOTERS, N_FEATURES = 6, 3
DTYPES = entry_dtypes(N_VOTERS, N_FEATURES)
RUN = 7
every_kind = pytest.mark.parametrize("kind", KINDS)


@st.composite
def entries_of_kind(draw: st.DrawFn, kind: str) -> Any:
    """Return entries with any bits, as far as the database keeps them apart.

    Not among them: NaN in other fields than those that may be undefined and with other bits than
    NumPy's, and -0.0, which SQLite stores as 0. No field is ever either.
    """
    dtype = DTYPES[kind]
    n = draw(st.integers(0, 4))
    raw = draw(st.binary(min_size=n * dtype.itemsize, max_size=n * dtype.itemsize))
    entries = np.frombuffer(raw, dtype=dtype).copy()
    for name in dtype.names or ():
        if dtype[name].kind == "f":
            values = entries[name]
            undefined = np.nan if name in METRIC_VALUES else 1.5
            entries[name] = np.where(np.isnan(values), undefined, np.where(values == 0, 0, values))
    return entries


@every_kind
def test_rows_of_a_table_are_the_fields_of_a_record_in_this_order(kind: str):
    columns = ENTRY_TABLES[kind].columns
    assert columns.keys() == ["run", *(DTYPES[kind].names or ())]
    keys = [column.name for column in ENTRY_TABLES[kind].primary_key.columns]
    assert keys == columns.keys()[: len(keys)]
    assert keys[:2] == ["run", "step"]
    nullable = {column.name for column in columns if column.nullable}
    assert nullable == (set(METRIC_VALUES) if kind == "metrics" else set())


@pytest.fixture(scope="module")
def database() -> Any:
    """Return an SQLite connection with the tables of all kinds, without their keys."""
    connection = sqlite3.connect(":memory:")
    for kind, table in ENTRY_TABLES.items():
        columns = ", ".join(f"{c.name} {c.type.compile()}" for c in table.columns)
        connection.execute(f"CREATE TABLE {kind} ({columns})")
    yield connection
    connection.close()


@every_kind
@given(data=st.data())
def test_entries_come_back_from_the_database_bit_for_bit(kind: str, database: Any, data: Any):
    entries = data.draw(entries_of_kind(kind))
    rows = list(entry_rows(RUN, entries))
    assert all(row[0] == RUN for row in rows)
    marks = ", ".join("?" * len(ENTRY_TABLES[kind].columns))
    database.execute(f"DELETE FROM {kind}")
    database.executemany(f"INSERT INTO {kind} VALUES ({marks})", rows)
    keys = ", ".join(column.name for column in ENTRY_TABLES[kind].primary_key)
    stored = database.execute(f"SELECT * FROM {kind} ORDER BY {keys}").fetchall()
    found = entries_of([row[1:] for row in stored], DTYPES[kind])
    assert found.dtype == DTYPES[kind]
    order = np.argsort(entries, order=keys.split(", ")[1:])
    assert found.tobytes() == entries[order].tobytes()


def test_undefined_metrics_are_null():
    row = np.zeros(1, dtype=DTYPES["metrics"])
    row["auroc"] = np.nan
    columns = ENTRY_TABLES["metrics"].columns.keys()
    (stored,) = entry_rows(RUN, row)
    assert [name for name, value in zip(columns, stored, strict=True) if value is None] == ["auroc"]


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        ("vote", "ballot", 256),
        ("vote", "node", -1),
        ("vote", "node", 2**32),
        ("vote", "node", 1.5),
        ("vote", "node", "1"),
        ("vote", "node", None),
        ("alert", "score", "high"),
        ("proposal", "centroid", b"\0" * (4 * N_FEATURES - 1)),
        ("proposal", "centroid", "\0" * (4 * N_FEATURES)),
        ("proposal", "centroid", 12),
        ("decision", "ballots", b""),
    ],
)
def test_value_that_does_not_fit_its_field_is_refused(kind: str, column: str, value: Any):
    names = list(DTYPES[kind].names or ())
    (row,) = entry_rows(RUN, np.zeros(1, dtype=DTYPES[kind]))
    changed = list(row[1:])
    changed[names.index(column)] = value
    with pytest.raises(ValueError, match=r"\w"):
        entries_of([changed], DTYPES[kind])


def test_records_are_packed_little_endian_and_as_documented():
    votes = make_entries(DTYPES["vote"], 2, step=3, proposal=[1, 258], node=[0, 5], ballot=[1, 2])
    records = struct.pack("<IIIB", 3, 1, 0, 1) + struct.pack("<IIIB", 3, 258, 5, 2)
    assert votes.tobytes() == records
    expected = hashlib.sha256(b"vote" + struct.pack("<I", 2) + records).digest()
    assert digest("vote", votes) == expected
    assert DTYPES["alert"].itemsize == struct.calcsize("<IIIfBqIIqB")
    assert DTYPES["proposal"].itemsize == struct.calcsize(f"<IIIIdBBh{2 * N_FEATURES}f")
    assert DTYPES["support"].itemsize == struct.calcsize("<III")
    assert DTYPES["decision"].itemsize == struct.calcsize("<IIBIIIIBB"), "6 seats: 2 bytes"
    assert DTYPES["metrics"].itemsize == struct.calcsize("<I29q5d")


def alerts_of(nodes: list[int]) -> Any:
    """Return alerts that differ, of these nodes."""
    alerts = np.zeros(len(nodes), dtype=DTYPES["alert"])
    alerts["node"], alerts["flow"] = nodes, np.arange(len(nodes))
    return alerts


def test_alerts_are_digested_by_blocks_of_64_nodes():
    alerts = alerts_of([0, 63, 63, 64, 200, 255, 256])
    raw, size = alerts.tobytes(), DTYPES["alert"].itemsize
    parts = [raw[: 3 * size], raw[3 * size : 4 * size], raw[4 * size : 6 * size], raw[6 * size :]]
    hashes = b"".join(hashlib.sha256(part).digest() for part in parts)
    expected = hashlib.sha256(b"alert" + struct.pack("<I", 7) + hashes).digest()
    assert digest("alert", alerts) == expected


@given(
    nodes=st.lists(st.integers(0, 500), max_size=40).map(sorted),
    cuts=st.lists(st.integers(0, 8), max_size=3).map(sorted),
)
def test_alerts_of_shards_have_the_digest_of_the_whole(nodes: list[int], cuts: list[int]):
    alerts = alerts_of(nodes)
    edges = [0, *(64 * cut for cut in cuts), 64 * 8]
    shards = [
        alerts[(alerts["node"] >= first) & (alerts["node"] < last)]
        for first, last in pairwise(edges)
    ]
    parts = [part for shard in shards for part in alert_parts(shard)]
    assert join_alerts(parts) == digest("alert", alerts)
    whole = {kind: np.zeros(0, dtype=DTYPES[kind]) for kind in KINDS}
    elsewhere = close_block(b"\0" * 32, 1, whole, parts)
    assert elsewhere == close_block(b"\0" * 32, 1, whole | {"alert": alerts})


def test_chain_is_as_documented():
    key = "ab" * 32
    assert first_hash(key) == hashlib.sha256(bytes.fromhex(key)).digest()
    empty = {kind: np.zeros(0, dtype=DTYPES[kind]) for kind in KINDS}
    block = close_block(first_hash(key), 9, empty)
    kinds = (b"alert", b"proposal", b"support", b"vote", b"decision", b"metrics")
    digests = b"".join(hashlib.sha256(kind + struct.pack("<I", 0)).digest() for kind in kinds)
    expected = hashlib.sha256(first_hash(key) + struct.pack("<Q", 9) + digests).digest()
    assert block.hash == expected
    assert (block.step, block.previous, b"".join(block.digests)) == (9, first_hash(key), digests)


@every_kind
@given(data=st.data())
def test_every_bit_of_every_entry_counts(kind: str, data: Any):
    entries = data.draw(entries_of_kind(kind).filter(len))
    whole = {name: np.zeros(0, dtype=DTYPES[name]) for name in KINDS} | {kind: entries}
    before = close_block(b"\0" * 32, 1, whole)
    raw = bytearray(entries.tobytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    changed = whole | {kind: np.frombuffer(bytes(raw), dtype=DTYPES[kind])}
    fewer = whole | {kind: entries[1:]}
    hashes = {
        block.hash for block in (before, *(close_block(b"\0" * 32, 1, e) for e in (changed, fewer)))
    }
    hashes |= {close_block(b"\1" * 32, 1, whole).hash, close_block(b"\0" * 32, 2, whole).hash}
    assert len(hashes) == 5


@given(
    ballots=hnp.arrays(
        np.uint8, st.tuples(st.integers(0, 4), st.integers(1, 70)), elements=st.integers(0, 3)
    )
)
def test_packed_ballots_unpack_and_take_two_bits_a_seat(ballots: Any):
    packed = pack_ballots(ballots)
    n, n_seats = ballots.shape
    assert (packed.dtype, packed.shape) == (np.uint8, (n, -(-n_seats // 4)))
    assert unpack_ballots(packed, n_seats).tolist() == ballots.tolist()
    assert entry_dtypes(n_seats, 1)["decision"]["ballots"].shape == packed.shape[1:]


def test_every_field_must_be_given():
    with pytest.raises(AssertionError):
        make_entries(DTYPES["vote"], 1, step=0, proposal=0, node=0)


def test_details_keep_more_and_more():
    assert set(KEPT) == {"decisions", "votes", "alerts", "all"}
    assert KEPT["all"] == set(KINDS)
    assert KEPT["decisions"] < KEPT["votes"] < KEPT["all"]
    assert KEPT["decisions"] < KEPT["alerts"] < KEPT["all"]
