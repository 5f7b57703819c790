"""What need not be validated again: runs of which nothing has changed since they were found valid.

A fingerprint is the SHA-256 of all that expectations look at: the run's rows in every table, its
configuration, horizon and summary, and the rules themselves. It is noted with the summary once all
expectations are met; what gives another one, whoever has changed it, is validated again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec
from sqlalchemy import select

from sim_core.identity import content_hash, model_version
from sim_core.ledger.decisions import Run
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES
from sim_core.ledger.verify import streamed

RUNS_AT_ONCE = 200
COLUMNS = (
    "run_key",
    "config",
    "seed",
    "replicate",
    "detail",
    "n_nodes",
    "n_features",
    "steps",
    "head",
    "horizon",
    "summary",
    "summary_head",
)
"""Of `Ledger.runs_of`: what expectations read besides the rows of steps."""


def changed_runs(ledger: Ledger, runs: Sequence[Run]) -> dict[int, str]:
    """Return the fingerprint of each run that has changed since it was found valid, by its number.

    Args:
        ledger: The ledger.
        runs: Rows of `Ledger.runs_of`, of runs that have a summary.
    """
    found: dict[int, str] = {}
    for start in range(0, len(runs), RUNS_AT_ONCE):
        part = runs[start : start + RUNS_AT_ONCE]
        for run, fingerprint in zip(part, fingerprints(ledger, part), strict=True):
            if fingerprint != run["validated"]:
                found[run["id"]] = fingerprint
    return found


def fingerprints(ledger: Ledger, runs: Sequence[Run]) -> list[str]:
    """Return the fingerprint of each run (64 hexadecimal digits), all read in one transaction."""
    encode = msgspec.msgpack.Encoder().encode
    hashes = {run["id"]: hashlib.sha256(_about(run)) for run in runs}
    with ledger.reading() as connection:
        for table in (BLOCKS, *ENTRY_TABLES.values()):
            statement = select(table).where(table.c.run.in_(list(hashes)))
            with streamed(connection, statement.order_by(*table.primary_key.columns)) as rows:
                for run, own in groupby(rows, key=itemgetter(0)):
                    add = hashes[run].update
                    add(table.name.encode())
                    for row in own:
                        add(encode(tuple(row[1:])))
    return [hashes[run["id"]].hexdigest() for run in runs]


def _about(run: Run) -> bytes:
    about = [rules(), *(run[column] for column in COLUMNS)]
    return content_hash(about).encode()


@cache
def rules() -> str:
    """Return what the verdict depends on besides the ledger: the code of ledger and model."""
    code = {path.name: path.read_text("utf-8") for path in Path(__file__).parent.glob("*.py")}
    return content_hash([code, model_version()])
