"""The ledger database: engine, writes, reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from sim_core.checkpoint import CheckpointFolder, Stored
from sim_core.error_table import Trouble
from sim_core.errors import CheckpointUnwritten, LedgerFailed, OwnershipLost, QuorumlabError
from sim_core.faultpoints import reach
from sim_core.ledger.blocks import KEPT
from sim_core.ledger.bulk import insert_entries, insert_rows
from sim_core.ledger.engine import open_engine, time_queries
from sim_core.ledger.rows import block_row, entries_of, entry_rows
from sim_core.ledger.statements import (
    ADD_CHECKPOINT,
    ADVANCE_RUN,
    COUNT_RESOURCES,
    DROP_CHECKPOINTS,
    SET_PUBLISHED,
    SET_VALIDATED,
    count_rows,
    lock_runs,
)
from sim_core.ledger.stored import checked_experiment, checked_runs, kept_kinds
from sim_core.ledger.tables import (
    BLOCKS,
    CHECKPOINTS,
    ENTRY_TABLES,
    EXPERIMENT_RUNS,
    EXPERIMENTS,
    RUNS,
    SUMMARIES,
    Experiment,
    ExperimentRun,
    Run,
)
from sim_core.ledger.transactions import Database, Result
from sim_core.operations import Operations
from sim_core.simulate import RunSpec, Segment

KEYS_AT_ONCE = 1_000
"""Values in one IN (...)."""
NEW_RUN, NEW_USE = (
    {
        name: column.default
        for name, column in table.model_fields.items()
        if name != "id" and not column.is_required()
    }
    for table in (Run, ExperimentRun)
)
"""What a row has before anything happens; an object per row would cost more than its insertion."""


@dataclass(frozen=True)
class Claim:
    """A run that this driver owns until somebody else claims it."""

    run: int
    run_key: str
    epoch: int
    steps: int
    """Steps committed so far."""
    detail: str
    """Which rows are kept of this run: at least what was asked for."""
    checkpoints: tuple[Stored, ...]
    """Newest first; none beyond the horizon asked for."""
    tries: int = 1
    """Claims since the last committed step, this one included."""


class Ledger:
    """All access to one ledger database; may be used from several threads."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: CheckpointFolder,
        *,
        keep: int = 2,
        reader: Engine | None = None,
        attempts: int = 6,
        operations: Operations | None = None,
    ) -> None:
        """Use an engine of `open_engine`, and keep the last `keep` checkpoints of a run.

        `reader` is an engine on a replica, `attempts` how often a transaction is tried, and
        `operations` where transactions, queries and checkpoints are timed.
        """
        self.engine = engine
        self.operations = operations or Operations()
        if operations is not None:
            time_queries(engine, operations)
        self._database = Database(engine, reader=reader, attempts=attempts)
        self._checkpoints = checkpoints
        self._keep = keep
        dialect: Any = sqlite if engine.dialect.name == "sqlite" else postgresql
        self._insert = dialect.insert
        self._lock_runs = lock_runs(engine.dialect.name)

    def dispose(self) -> None:
        """Close all connections."""
        self._database.dispose()

    @contextmanager
    def reading(self, *, may_lag: bool = False) -> Iterator[Connection]:
        """Give a connection that sees one state of the ledger and never waits for the writer.

        Args:
            may_lag: Whether a replica may be read, which can be some seconds behind.

        Raises:
            LedgerFailed: the database does not answer, or a query takes too long.
        """
        with self._database.reading(may_lag=may_lag) as connection:
            yield connection

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` returns, done in one transaction; it may be called again.

        Raises:
            LedgerFailed: the database does not write.
        """
        return self._database.write(work)

    # --- experiments ----------------------------------------------------------------------

    def register(
        self,
        experiment: Experiment,
        planned: Sequence[tuple[int, RunSpec]],
        model_version: str,
        config_of: Any,
    ) -> None:
        """Write an experiment and its planned runs; runs that are there already are shared.

        Args:
            experiment: The row to write, or to replace.
            planned: Point and specification of each run.
            model_version: What the code's results depend on.
            config_of: From a configuration to the part that its rows depend on.
        """
        columns = experiment.model_dump()
        changing = {k: v for k, v in columns.items() if k not in ("name", "created_at")}

        def write(connection: Connection) -> None:
            statement = self._insert(EXPERIMENTS).values(**columns)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_=changing)
            )
            for start in range(0, len(planned), KEYS_AT_ONCE):
                part = planned[start : start + KEYS_AT_ONCE]
                self._plan(connection, experiment.name, part, model_version, config_of)

        self._database.write(write)

    def _plan(
        self,
        connection: Connection,
        name: str,
        planned: Sequence[tuple[int, RunSpec]],
        model_version: str,
        config_of: Any,
    ) -> None:
        rows = [
            NEW_RUN
            | {
                "run_key": spec.run_key,
                "config": config_of(spec.config),
                "seed": spec.seed,
                "replicate": spec.replicate,
                "model_version": model_version,
                "detail": spec.detail,
                "n_nodes": spec.config.simulation.nodes,
            }
            for _, spec in planned
        ]
        connection.execute(self._insert(RUNS).on_conflict_do_nothing(), rows)
        keys = [spec.run_key for _, spec in planned]
        found = connection.execute(
            select(RUNS.c.run_key, RUNS.c.id).where(RUNS.c.run_key.in_(keys))
        )
        ids = {row.run_key: row.id for row in found}
        statement = self._insert(EXPERIMENT_RUNS)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["experiment", "run"],
            set_={
                "point": new.point,
                "published": (EXPERIMENT_RUNS.c.horizon == new.horizon)
                & EXPERIMENT_RUNS.c.published,
                "horizon": new.horizon,
            },
        )
        uses = [
            NEW_USE
            | {
                "experiment": name,
                "run": ids[spec.run_key],
                "point": point,
                "replicate": spec.replicate,
                "horizon": spec.config.simulation.steps,
            }
            for point, spec in planned
        ]
        connection.execute(statement, uses)

    def experiment(self, name: str) -> Experiment | None:
        """Return the row of an experiment, or None.

        Raises:
            LedgerFailed: the row is damaged.
        """
        with self.reading() as connection:
            row = connection.execute(select(EXPERIMENTS).where(EXPERIMENTS.c.name == name))
            found = row.mappings().one_or_none()
        return checked_experiment(dict(found)) if found else None

    def experiments(self) -> list[Experiment]:
        """Return all experiments, the latest first.

        Raises:
            LedgerFailed: a row is damaged.
        """
        with self.reading() as connection:
            rows = connection.execute(select(EXPERIMENTS).order_by(EXPERIMENTS.c.updated_at.desc()))
            return [checked_experiment(dict(row)) for row in rows.mappings()]

    def set_experiment(self, name: str, **values: Any) -> None:
        """Change columns of an experiment."""
        statement = update(EXPERIMENTS).where(EXPERIMENTS.c.name == name)
        statement = statement.values(updated_at=time.time(), **values)
        self._database.write(lambda connection: connection.execute(statement))

    def set_interrupted(self, name: str) -> None:
        """Note that work on an experiment stopped before its end, unless it has ended otherwise."""
        statement = update(EXPERIMENTS).values(updated_at=time.time(), state="interrupted")
        statement = statement.where(EXPERIMENTS.c.name == name, EXPERIMENTS.c.state == "running")
        self._database.write(lambda connection: connection.execute(statement))

    def runs_of(self, name: str, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the runs of an experiment with their summaries, by point and replicate.

        Args:
            name: The experiment.
            keys: Of the runs that are wanted, some hundreds at most; None: all.

        Raises:
            LedgerFailed: a row is damaged.
        """
        statement = (
            select(
                RUNS,
                EXPERIMENT_RUNS.c.point,
                EXPERIMENT_RUNS.c.horizon,
                EXPERIMENT_RUNS.c.mlflow_run_id,
                EXPERIMENT_RUNS.c.published,
                SUMMARIES.c.metrics.label("summary"),
                SUMMARIES.c.head.label("summary_head"),
                SUMMARIES.c.validated,
            )
            .join(EXPERIMENT_RUNS, EXPERIMENT_RUNS.c.run == RUNS.c.id)
            .outerjoin(
                SUMMARIES,
                (SUMMARIES.c.run == RUNS.c.id) & (SUMMARIES.c.horizon == EXPERIMENT_RUNS.c.horizon),
            )
            .where(EXPERIMENT_RUNS.c.experiment == name)
            .order_by(EXPERIMENT_RUNS.c.point, EXPERIMENT_RUNS.c.replicate)
        )
        if keys is not None:
            statement = statement.where(RUNS.c.run_key.in_(keys))
        with self.reading() as connection:
            return checked_runs(name, [dict(r) for r in connection.execute(statement).mappings()])

    def row_counts(self, runs: Sequence[int]) -> dict[int, int]:
        """Return how many entries and blocks the ledger holds of each run."""
        with self.reading() as connection:
            return count_rows(connection, runs)

    def set_published(self, name: str, mlflow_runs: Mapping[int, str]) -> None:
        """Note that runs of an experiment, by their numbers, are complete in MLflow."""
        values = [
            {"experiment_name": name, "number": run, "mlflow_run": mlflow_run}
            for run, mlflow_run in mlflow_runs.items()
        ]
        self._database.write(lambda connection: connection.execute(SET_PUBLISHED, values))

    def set_validated(self, fingerprints: Iterable[tuple[int, int, str]]) -> None:
        """Note what was found valid: runs by their numbers, up to a horizon, with fingerprints."""
        values = [
            {"number": run, "steps": horizon, "fingerprint": fingerprint}
            for run, horizon, fingerprint in fingerprints
        ]
        if values:
            self._database.write(lambda connection: connection.execute(SET_VALIDATED, values))

    # --- runs -----------------------------------------------------------------------------

    def claim(self, specs: Sequence[RunSpec]) -> list[Claim]:
        """Take ownership of runs: whoever claimed them before can no longer write them.

        A run of which more is asked for than its rows keep starts again from step 0. The first run
        is about to be executed: if its last owner died, that counts among its tries.
        """
        old: list[str] = []

        def write(connection: Connection) -> list[Claim]:
            old.clear()
            rows = self._locked(connection, [spec.run_key for spec in specs])
            claims = []
            for index, spec in enumerate(specs):
                row = rows[spec.run_key]
                steps, detail = row["steps"], row["detail"]
                if not KEPT[spec.detail] <= kept_kinds(spec.run_key, detail):
                    detail = _detail_of_both(spec.detail, detail)
                    old.extend(self._erase(connection, row["id"], detail=detail))
                    steps = 0
                was_left = row["state"] == "running" and index == 0
                epoch, tries = row["epoch"] + 1, row["tries"] + 1 if was_left else 1
                connection.execute(
                    update(RUNS)
                    .where(RUNS.c.id == row["id"])
                    .values(
                        epoch=epoch,
                        tries=tries,
                        state="running",
                        error=None,
                        claimed_at=row["claimed_at"] or round(time.time(), 3),
                    )
                )
                stored = self._stored(connection, row["id"], spec.config.simulation.steps)
                claims.append(Claim(row["id"], spec.run_key, epoch, steps, detail, stored, tries))
            reach("claim.commit")
            return claims

        claims = self._database.write(write)
        for name in old:
            self._checkpoints.remove(name)
        return claims

    def _locked(self, connection: Connection, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return rows of runs that nobody else changes before the transaction ends."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            part = list(keys[start : start + KEYS_AT_ONCE])
            for row in connection.execute(self._lock_runs, {"keys": part}).mappings():
                found[row["run_key"]] = dict(row)
        return found

    def _stored(self, connection: Connection, run: int, last_step: int) -> tuple[Stored, ...]:
        table = CHECKPOINTS.c
        found = connection.execute(
            select(table.name, table.sha256, table.n_bytes)
            .where(table.run == run, table.step <= last_step)
            .order_by(table.step.desc())
        )
        return tuple(Stored(*row) for row in found)

    def commit(self, claim: Claim, segment: Segment) -> None:
        """Write a segment in one transaction, see `commit_all`.

        Raises:
            OwnershipLost: somebody else has claimed the run; nothing was written.
            LedgerFailed: the database does not write.
            CheckpointUnwritten: the checkpoint cannot be written.
        """
        (refused,) = self.commit_all([(claim, segment)])
        if refused is not None:
            raise refused

    def commit_all(self, segments: Sequence[tuple[Claim, Segment]]) -> list[QuorumlabError | None]:
        """Write segments of several runs in one transaction: rows, heads, checkpoints, summaries.

        The checkpoints' files are written first. Steps that are there already add nothing.

        Returns:
            None for each segment that was written, the reason for each that was not.

        Raises:
            OwnershipLost: a checkpoint is gone, as who has claimed its run since removed it.
            LedgerFailed: the database does not write.
            CheckpointUnwritten: a checkpoint cannot be written.
        """
        try:
            stored = [self._write_checkpoint(claim, segment) for claim, segment in segments]
        except CheckpointUnwritten as error:
            self._refuse_lost([claim for claim, _ in segments], error)
            raise
        self._checkpoints.settle()
        old: list[str] = []
        refused: list[QuorumlabError | None] = []

        def write(connection: Connection) -> None:
            old.clear()
            refused.clear()
            reach("commit.begin")
            rows = self._locked(connection, list({s.run_key for _, s in segments}))
            steps = {key: row["steps"] for key, row in rows.items()}
            written = []
            for (claim, segment), file in zip(segments, stored, strict=True):
                first_new = steps[segment.run_key]
                owned = rows[segment.run_key]["epoch"] == claim.epoch
                reason = _gap(segment, first_new) if owned else OwnershipLost(_taken(claim))
                refused.append(reason)
                if reason is not None:
                    old.append(file.name)
                    continue
                steps[segment.run_key] = max(first_new, segment.next_step)
                written.append((claim.run, segment, first_new))
                self._advance(connection, claim.run, segment, first_new)
                if segment.next_step >= first_new:
                    old.extend(self._keep_checkpoint(connection, claim.run, segment, file))
                else:
                    old.append(file.name)
            reach("commit.rows")
            self._add_rows(connection, written)
            reach("commit.commit")

        self._database.write(write)
        reach("commit.after")
        for name in old:
            self._checkpoints.remove(name)
        return refused

    def _write_checkpoint(self, claim: Claim, segment: Segment) -> Stored:
        with self.operations.timed("checkpoint.write"):
            return self._checkpoints.write(
                segment.checkpoint,
                run_key=segment.run_key,
                step=segment.next_step,
                epoch=claim.epoch,
            )

    def _refuse_lost(self, claims: Sequence[Claim], cause: Exception) -> None:
        """Return if this driver still owns all of the runs.

        Raises:
            OwnershipLost: it does not.
        """
        epochs = select(RUNS.c.id, RUNS.c.epoch).where(RUNS.c.id.in_({c.run for c in claims}))
        with self.reading() as connection:
            now = {row.id: row.epoch for row in connection.execute(epochs)}
        for claim in claims:
            if now[claim.run] != claim.epoch:
                raise OwnershipLost(_taken(claim)) from cause

    def _advance(self, connection: Connection, run: int, segment: Segment, first_new: int) -> None:
        """Enter into the row of a run how far it is, and its summary where it is over."""
        values: dict[str, Any] = {
            "run": run,
            "state": "finished" if segment.summary is not None else "running",
            "wall_seconds": segment.resources.wall_seconds,
            "cpu_seconds": segment.resources.cpu_seconds,
            "peak_rss_mb": segment.resources.peak_rss_mb,
        }
        if segment.next_step >= first_new:
            values |= {"n_features": segment.n_features, "steps": segment.next_step}
            connection.execute(ADVANCE_RUN, values | {"head": segment.head.hex()})
        else:
            connection.execute(COUNT_RESOURCES, values)
        if segment.summary is not None:
            summary = self._insert(SUMMARIES).values(
                run=run, horizon=segment.next_step, head=segment.head.hex(), metrics=segment.summary
            )
            connection.execute(summary.on_conflict_do_nothing())

    def _add_rows(
        self, connection: Connection, segments: Sequence[tuple[int, Segment, int]]
    ) -> None:
        """Write the rows of steps from the first new one on, all runs' rows of a table at once."""
        for kind, table in ENTRY_TABLES.items():
            parts = [
                (run, rows[rows["step"] >= first_new])
                for run, segment, first_new in segments
                if (rows := segment.rows.get(kind)) is not None
            ]
            insert_entries(connection, table, parts)
        blocks = [
            block_row(run, block)
            for run, segment, first_new in segments
            for block in segment.blocks
            if block.step >= first_new
        ]
        insert_rows(connection, BLOCKS, blocks)

    def fail(self, claim: Claim, error: str) -> None:
        """Mark a run failed, with the reason; what it has committed stays.

        Raises:
            OwnershipLost: somebody else has claimed the run.
        """
        self._end(claim, state="failed", error=error)

    def release_claim(self, claim: Claim) -> None:
        """Give up a run that is not over, in order: that its owner stopped counts as no try.

        Raises:
            OwnershipLost: somebody else has claimed the run.
        """
        self._end(claim, state="planned", tries=0)

    def _end(self, claim: Claim, **values: Any) -> None:
        owned = (RUNS.c.id == claim.run) & (RUNS.c.epoch == claim.epoch)
        statement = update(RUNS).where(owned).values(**values)

        def write(connection: Connection) -> None:
            if connection.execute(statement).rowcount != 1:
                raise OwnershipLost(_taken(claim))

        self._database.write(write)

    def erase(self, run_key: str) -> None:
        """Drop all rows of a run, so that it starts again from step 0."""

        def write(connection: Connection) -> list[str]:
            row = self._locked(connection, [run_key])[run_key]
            return self._erase(connection, row["id"], detail=row["detail"])

        for name in self._database.write(write):
            self._checkpoints.remove(name)

    def quarantine(self, reasons: Mapping[str, str]) -> None:
        """Mark runs whose ledger breaks the protocol, by run key, with the reason."""

        def write(connection: Connection) -> None:
            for key, reason in sorted(reasons.items()):
                values = {"state": "quarantined", "error": reason}
                connection.execute(update(RUNS).where(RUNS.c.run_key == key).values(values))

        self._database.write(write)

    def release(self, name: str, *, broken: Iterable[str]) -> None:
        """Lift the quarantine of an experiment's runs that passed validation."""
        mine = select(EXPERIMENT_RUNS.c.run).where(EXPERIMENT_RUNS.c.experiment == name)
        passed = (
            RUNS.c.id.in_(mine)
            & (RUNS.c.state == "quarantined")
            & RUNS.c.run_key.not_in(list(broken))
        )
        statement = update(RUNS).where(passed).values(state="finished", error=None)
        self._database.write(lambda connection: connection.execute(statement))

    def _erase(self, connection: Connection, run: int, *, detail: str) -> list[str]:
        """Drop all rows of a run; return the files of its checkpoints, which nobody needs then."""
        names = connection.execute(select(CHECKPOINTS.c.name).where(CHECKPOINTS.c.run == run))
        old = list(names.scalars())
        for table in (*ENTRY_TABLES.values(), BLOCKS, SUMMARIES, CHECKPOINTS):
            connection.execute(delete(table).where(table.c.run == run))
        connection.execute(
            update(RUNS)
            .where(RUNS.c.id == run)
            .values(detail=detail, steps=0, head=None, wall_seconds=0.0, cpu_seconds=0.0)
        )
        return old

    def _keep_checkpoint(
        self, connection: Connection, run: int, segment: Segment, stored: Stored
    ) -> list[str]:
        """Enter a checkpoint; drop those beyond the last `keep` and return their files."""
        step = {"run": run, "step": segment.next_step}
        dropped = connection.execute(DROP_CHECKPOINTS, step | {"others": self._keep - 1})
        old = [name for name in dropped.scalars() if name != stored.name]
        values = {"name": stored.name, "sha256": stored.sha256, "n_bytes": stored.n_bytes}
        connection.execute(ADD_CHECKPOINT, step | values)
        return old


def _gap(segment: Segment, steps: int) -> LedgerFailed | None:
    """Return why a segment cannot follow what is there: one before it was not written."""
    if segment.first_step <= steps:
        return None
    return LedgerFailed(
        f"steps {segment.first_step} to {segment.next_step - 1} of run {segment.run_key[:12]} are not "
        f"written, as {steps} to {segment.first_step - 1} were not. The same command goes on"
    )


def _taken(claim: Claim) -> str:
    return Trouble.LEDGER_TAKEN.tell(run=claim.run_key[:12])


def _detail_of_both(one: str, other: str) -> str:
    """Return the smallest detail that keeps what either of two keeps.

    >>> _detail_of_both("votes", "decisions"), _detail_of_both("votes", "alerts")
    ('votes', 'all')
    """
    both = KEPT[one] | KEPT[other]
    return min((d for d in KEPT if both <= KEPT[d]), key=lambda d: len(KEPT[d]))


__all__ = ["Claim", "Ledger", "entries_of", "entry_rows", "open_engine"]
