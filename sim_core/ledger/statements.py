"""The statements of a commit, made once: composing them anew costs more than executing them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, TextClause, bindparam, func, select, text

from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES

RUNS_AT_ONCE = 500

LOCK_RUNS = """
    SELECT id, run_key, epoch, tries, state, steps, detail, claimed_at FROM run
    WHERE run_key IN :keys ORDER BY id"""
"""Rows are locked in the order of their ids, so that two who lock many never wait for each other."""

ADVANCE_RUN = text("""
    UPDATE run SET state = :state, n_features = :n_features, peak_rss_mb = :peak_rss_mb,
        wall_seconds = wall_seconds + :wall_seconds, cpu_seconds = cpu_seconds + :cpu_seconds,
        steps = :steps, head = :head, tries = 0
    WHERE id = :run""")

COUNT_RESOURCES = text("""
    UPDATE run SET state = :state, peak_rss_mb = :peak_rss_mb,
        wall_seconds = wall_seconds + :wall_seconds, cpu_seconds = cpu_seconds + :cpu_seconds
    WHERE id = :run""")

DROP_CHECKPOINTS = text("""
    DELETE FROM checkpointfile WHERE run = :run AND (step = :step OR step NOT IN (
        SELECT step FROM checkpointfile WHERE run = :run AND step < :step
        ORDER BY step DESC LIMIT :others))
    RETURNING name""")
"""All but the last `others` before this step."""

ADD_CHECKPOINT = text("""
    INSERT INTO checkpointfile (run, step, name, sha256, n_bytes)
    VALUES (:run, :step, :name, :sha256, :n_bytes)""")

SET_PUBLISHED = text("""
    UPDATE experimentrun SET mlflow_run_id = :mlflow_run, published = true
    WHERE experiment = :experiment_name AND run = :number""")

SET_VALIDATED = text("""
    UPDATE summary SET validated = :fingerprint WHERE run = :number AND horizon = :steps""")


def lock_runs(dialect: str) -> TextClause:
    """Return the query for runs that nobody else changes before the transaction ends."""
    locking = " FOR UPDATE" if dialect == "postgresql" else ""  # SQLite has one writer anyway
    return text(LOCK_RUNS + locking).bindparams(bindparam("keys", expanding=True))


def count_rows(connection: Connection, runs: Sequence[int]) -> dict[int, int]:
    """Return how many entries and blocks there are of each run."""
    counts: dict[int, int] = dict.fromkeys(runs, 0)
    for table in (*ENTRY_TABLES.values(), BLOCKS):
        for start in range(0, len(runs), RUNS_AT_ONCE):
            part = runs[start : start + RUNS_AT_ONCE]
            rows = connection.execute(
                select(table.c.run, func.count()).where(table.c.run.in_(part)).group_by(table.c.run)
            )
            for run, count in rows:
                counts[run] += count
    return counts
