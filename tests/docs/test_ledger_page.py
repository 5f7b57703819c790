"""What docs/reference/ledger.md says is enough to read a database and recompute its hashes."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_core.config import ModelConfig
from sim_core.ledger.blocks import KINDS, entry_dtypes
from sim_core.ledger.schema import HEAD
from sim_core.ledger.tables import (
    BLOCKS,
    CHECKPOINTS,
    ENTRY_TABLES,
    EXPERIMENT_RUNS,
    EXPERIMENTS,
    RUNS,
    SUMMARIES,
)
from tests.docs.pages import ROOT, blocks_of
from tests.ledger_tools import execute, open_ledger, register, run_specs

PAGE = ROOT / "docs" / "reference" / "ledger.md"
TEXT = PAGE.read_text("utf-8")
RECORD_TABLES = (EXPERIMENTS, RUNS, EXPERIMENT_RUNS, SUMMARIES, CHECKPOINTS, BLOCKS)
FORMATS = {
    "alert": "<IIIfBqIIqB",
    "support": "<III",
    "vote": "<IIIB",
    "metrics": "<I29q5d",
    "proposal": "<IIIIdBBh",
}
"""As the page has them."""


@pytest.fixture(scope="module")
def database(
    make_config: Callable[..., ModelConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a ledger with every row of one run."""
    folder = tmp_path_factory.mktemp("ledger")
    config = make_config(
        simulation={"nodes": 70},  # more than a block
        adversary={"kind": "flipper", "share": 0.25},
        consensus={"kind": "majority", "committee": 30},
    )
    (spec,) = run_specs(config.model_dump(mode="json"), replicates=1, detail="all")
    ledger = open_ledger(folder)
    register(ledger, "documented", [spec])
    execute(ledger, spec)
    ledger.engine.dispose()
    return folder / "ledger.db"


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(database)) as found:
        yield found


def recompute(database: Path, start: str) -> subprocess.CompletedProcess[str]:
    """Run the page's example, without any package but Python's own."""
    (example,) = (block for block in blocks_of(PAGE) if block.language == "python")
    return subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", example.text, str(database), start],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_example_recomputes_the_head(database: Path, connection: sqlite3.Connection) -> None:
    key, head, steps = connection.execute("SELECT run_key, head, steps FROM run").fetchone()
    (decisions,) = connection.execute("SELECT count(*) FROM decision").fetchone()
    assert decisions > 0
    done = recompute(database, key[:10])
    assert done.stdout == f"{steps} blocks, head {head}\n", done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE alert SET flow = flow + 40 WHERE node = 0", "not the alerts that were hashed"),
        ("DELETE FROM alert WHERE node > 63", "not the alerts that were hashed"),
        ("UPDATE decision SET accept = accept + 1", "not the decisions that were hashed"),
        ("DELETE FROM decision", "not the decisions that were hashed"),
        ("UPDATE block SET vote = zeroblob(32) WHERE step = 3", "step 3: the hash does not"),
        ("UPDATE run SET head = replace(head, 'a', 'b')", "the head is not the last hash"),
    ],
)
def test_example_notices_a_change(
    database: Path, tmp_path: Path, change: str, message: str
) -> None:
    copy = tmp_path / "ledger.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute(change)
        target.commit()
    done = recompute(copy, "")
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_of_the_page_give_the_stored_digests(
    connection: sqlite3.Connection, kind: str
) -> None:
    assert f"`{FORMATS[kind]}`" in TEXT
    keys = ", ".join(column.name for column in ENTRY_TABLES[kind].primary_key.columns)
    n_records = 0
    for step, stored in connection.execute(f"SELECT step, {kind} FROM block").fetchall():
        rows = connection.execute(
            f"SELECT * FROM {kind} WHERE step = ? ORDER BY {keys}", (step,)
        ).fetchall()
        parts = [record(FORMATS[kind], row[1:]) for row in rows]
        if kind == "alert":
            by_block = itertools.groupby(
                zip(rows, parts, strict=True), lambda pair: pair[0][2] // 64
            )
            parts = [
                hashlib.sha256(b"".join(p for _, p in block)).digest() for _, block in by_block
            ]
        content = kind.encode("ascii") + struct.pack("<I", len(rows)) + b"".join(parts)
        assert hashlib.sha256(content).digest() == stored
        n_records += len(rows)
    assert n_records > 0


def record(layout: str, row: tuple[Any, ...]) -> bytes:
    """Return a row as the page says: NULL is a NaN, blobs follow the numbers."""
    numbers = [float("nan") if v is None else v for v in row if not isinstance(v, bytes)]
    return struct.pack(layout, *numbers) + b"".join(v for v in row if isinstance(v, bytes))


def test_nan_has_the_bytes_of_the_page() -> None:
    found = re.search(r"NaN with the\s+bytes `([0-9a-f ]+)`", TEXT)
    assert found is not None
    assert np.float64("nan").tobytes() == bytes.fromhex(found[1])


def test_run_key_follows_from_the_columns_of_the_page(connection: sqlite3.Connection) -> None:
    config, model, replicate, seed, key = connection.execute(
        "SELECT config, model_version, replicate, seed, run_key FROM run"
    ).fetchone()
    value = {"config": json.loads(config), "model": model, "replicate": replicate, "seed": seed}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == key


@pytest.mark.parametrize("table", RECORD_TABLES, ids=lambda table: table.name)
def test_every_column_is_described(table: Any) -> None:
    assert [name for name, _ in rows_below(table.name)] == [c.name for c in table.columns]


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_described(kind: str) -> None:
    words = {(): "", (2,): " × ⌈n_voters / 4⌉", (3,): " × n_features"}
    dtype = entry_dtypes(n_voters=8, n_features=3)[kind]
    expected = [
        (name, dtype[name].base.str.lstrip("<|") + words[dtype[name].shape])
        for name in dtype.names or ()
    ]
    assert rows_below(kind) == expected
    starred = re.findall(r"^\| `(\w+)` \* \|", below(kind), flags=re.MULTILINE)
    keys = [column.name for column in ENTRY_TABLES[kind].primary_key.columns]
    assert ["run", "step", *starred] == keys


def test_schema_version_is_that_of_the_page() -> None:
    assert f"version {HEAD} (`PRAGMA user_version`)" in TEXT


def below(heading: str) -> str:
    """Return what stands below a heading of the third level."""
    return TEXT.partition(f"\n### {heading}\n")[2].partition("\n#")[0]


def rows_below(heading: str) -> list[tuple[str, str]]:
    """Return the first two cells of the table below a heading."""
    return re.findall(r"^\| `(\w+)`(?: \*)? \| ([^|]*?) \|", below(heading), flags=re.MULTILINE)


def test_seats_of_the_page_are_those_of_a_run(connection: sqlite3.Connection) -> None:
    """The voters of kept votes have the seats that the page's recipe gives them."""
    seed, replicate, n_nodes = connection.execute(
        "SELECT seed, replicate, n_nodes FROM run"
    ).fetchone()
    digest = hashlib.sha256(f"quorumlab:{seed}:{replicate}:committee:0".encode()).digest()
    key = struct.unpack("<2I", digest[:8])
    proposals = connection.execute("SELECT proposal, registered, ballots FROM decision").fetchall()
    assert proposals
    for proposal, registered, packed in proposals:
        chosen: list[int] = []
        for candidate in itertools.count():
            node = philox((candidate, 0, 0, proposal), key) * n_nodes >> 32
            chosen += [node] if node not in chosen else []
            if len(chosen) == 30:
                break
        seats = {node: packed[k // 4] >> 2 * (k % 4) & 3 for k, node in enumerate(sorted(chosen))}
        votes = connection.execute("SELECT node, ballot FROM vote WHERE proposal = ?", (proposal,))
        assert dict(votes) == {node: ballot for node, ballot in seats.items() if ballot}
        assert registered == 30


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> int:
    """Return the first word of Philox4x32-10 (Salmon et al. 2011, section 3.3)."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (
            second >> 32 ^ b ^ k,
            second & 0xFFFFFFFF,
            first >> 32 ^ d ^ m,
            first & 0xFFFFFFFF,
        )
        k, m = k + 0x9E3779B9 & 0xFFFFFFFF, m + 0xBB67AE85 & 0xFFFFFFFF
    return a
