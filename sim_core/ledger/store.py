"""The ledger database: engine, writes, reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from sim_core.checkpoint import CheckpointFolder, Stored
from sim_core.errors import OwnershipLost
from sim_core.ledger.blocks import KEPT
from sim_core.ledger.engine import open_engine
from sim_core.ledger.rows import block_row, entries_of, entry_rows, insert_statement
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
from sim_core.simulate import RunSpec, Segment


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


class Ledger:
    """All access to one ledger database; may be used from several threads."""

    def __init__(self, engine: Engine, checkpoints: CheckpointFolder, *, keep: int = 2) -> None:
        """Use an engine of `open_engine`, and keep the last `keep` checkpoints of a run."""
        self.engine = engine
        self._checkpoints = checkpoints
        self._keep = keep
        self._writing = threading.Lock()
        self._inserts = {kind: insert_statement(t) for kind, t in ENTRY_TABLES.items()}
        self._insert_block = insert_statement(BLOCKS)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._writing, self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the ledger and never waits for the writer."""
        options = self.engine.execution_options(readonly=True)
        with options.connect() as connection:
            yield connection

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
        with self._transaction() as connection:
            columns = experiment.model_dump()
            statement = insert(EXPERIMENTS).values(**columns)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"],
                    set_={k: v for k, v in columns.items() if k not in ("name", "created_at")},
                )
            )
            for start in range(0, len(planned), 1000):
                self._plan(
                    connection,
                    experiment.name,
                    planned[start : start + 1000],
                    model_version,
                    config_of,
                )

    def _plan(
        self,
        connection: Connection,
        name: str,
        planned: Sequence[tuple[int, RunSpec]],
        model_version: str,
        config_of: Any,
    ) -> None:
        connection.execute(
            insert(RUNS).on_conflict_do_nothing(),
            [
                Run(
                    run_key=spec.run_key,
                    config=config_of(spec.config),
                    seed=spec.seed,
                    replicate=spec.replicate,
                    model_version=model_version,
                    detail=spec.detail,
                    n_nodes=spec.config.simulation.nodes,
                ).model_dump(exclude={"id"})
                for _, spec in planned
            ],
        )
        keys = [spec.run_key for _, spec in planned]
        found = connection.execute(
            select(RUNS.c.run_key, RUNS.c.id).where(RUNS.c.run_key.in_(keys))
        )
        ids = {row.run_key: row.id for row in found}
        statement = insert(EXPERIMENT_RUNS)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["experiment", "run"],
                set_={
                    "point": statement.excluded.point,
                    "published": (EXPERIMENT_RUNS.c.horizon == statement.excluded.horizon)
                    & EXPERIMENT_RUNS.c.published,
                    "horizon": statement.excluded.horizon,
                },
            ),
            [
                ExperimentRun(
                    experiment=name,
                    run=ids[spec.run_key],
                    point=point,
                    replicate=spec.replicate,
                    horizon=spec.config.simulation.steps,
                ).model_dump()
                for point, spec in planned
            ],
        )

    def experiment(self, name: str) -> Experiment | None:
        """Return the row of an experiment, or None."""
        with self.reading() as connection:
            row = connection.execute(select(EXPERIMENTS).where(EXPERIMENTS.c.name == name))
            found = row.mappings().one_or_none()
        return Experiment(**found) if found else None

    def experiments(self) -> list[Experiment]:
        """Return all experiments, the latest first."""
        with self.reading() as connection:
            rows = connection.execute(select(EXPERIMENTS).order_by(EXPERIMENTS.c.updated_at.desc()))
            return [Experiment(**row) for row in rows.mappings()]

    def set_experiment(self, name: str, **values: Any) -> None:
        """Change columns of an experiment."""
        with self._transaction() as connection:
            connection.execute(
                update(EXPERIMENTS)
                .where(EXPERIMENTS.c.name == name)
                .values(updated_at=time.time(), **values)
            )

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        """Return the runs of an experiment with their summaries, by point and replicate."""
        statement = (
            select(
                RUNS,
                EXPERIMENT_RUNS.c.point,
                EXPERIMENT_RUNS.c.horizon,
                EXPERIMENT_RUNS.c.mlflow_run_id,
                EXPERIMENT_RUNS.c.published,
                SUMMARIES.c.metrics.label("summary"),
                SUMMARIES.c.head.label("summary_head"),
            )
            .join(EXPERIMENT_RUNS, EXPERIMENT_RUNS.c.run == RUNS.c.id)
            .outerjoin(
                SUMMARIES,
                (SUMMARIES.c.run == RUNS.c.id) & (SUMMARIES.c.horizon == EXPERIMENT_RUNS.c.horizon),
            )
            .where(EXPERIMENT_RUNS.c.experiment == name)
            .order_by(EXPERIMENT_RUNS.c.point, EXPERIMENT_RUNS.c.replicate)
        )
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def row_counts(self, runs: Sequence[int]) -> dict[int, int]:
        """Return how many entries and blocks the ledger holds of each run."""
        counts: dict[int, int] = dict.fromkeys(runs, 0)
        with self.reading() as connection:
            for table in (*ENTRY_TABLES.values(), BLOCKS):
                for start in range(0, len(runs), 500):
                    rows = connection.execute(
                        select(table.c.run, func.count())
                        .where(table.c.run.in_(runs[start : start + 500]))
                        .group_by(table.c.run)
                    )
                    for run, count in rows:
                        counts[run] += count
        return counts

    def set_published(self, name: str, run: int, mlflow_run_id: str) -> None:
        """Note that a run of an experiment is complete in MLflow."""
        with self._transaction() as connection:
            connection.execute(
                update(EXPERIMENT_RUNS)
                .where(EXPERIMENT_RUNS.c.experiment == name, EXPERIMENT_RUNS.c.run == run)
                .values(mlflow_run_id=mlflow_run_id, published=True)
            )

    # --- runs -----------------------------------------------------------------------------

    def claim(self, specs: Sequence[RunSpec]) -> list[Claim]:
        """Take ownership of runs: whoever claimed them before can no longer write them.

        A run of which more is asked for than its rows keep starts again from step 0.
        """
        claims: list[Claim] = []
        old: list[str] = []
        with self._transaction() as connection:
            for spec in specs:
                connection.execute(
                    update(RUNS)
                    .where(RUNS.c.run_key == spec.run_key)
                    .values(
                        epoch=RUNS.c.epoch + 1,
                        state="running",
                        error=None,
                        claimed_at=text(f"coalesce(claimed_at, {time.time():.3f})"),
                    )
                )
                row = connection.execute(
                    select(RUNS.c.id, RUNS.c.epoch, RUNS.c.steps, RUNS.c.detail).where(
                        RUNS.c.run_key == spec.run_key
                    )
                ).one()
                steps, detail = row.steps, row.detail
                if not KEPT[spec.detail] <= KEPT[detail]:
                    detail = _detail_of_both(spec.detail, detail)
                    old += self._erase(connection, row.id, detail=detail)
                    steps = 0
                found = connection.execute(
                    select(
                        CHECKPOINTS.c.name,
                        CHECKPOINTS.c.sha256,
                        CHECKPOINTS.c.n_bytes,
                    )
                    .where(
                        CHECKPOINTS.c.run == row.id,
                        CHECKPOINTS.c.step <= spec.config.simulation.steps,
                    )
                    .order_by(CHECKPOINTS.c.step.desc())
                )
                stored = tuple(Stored(*checkpoint) for checkpoint in found)
                claims.append(Claim(row.id, spec.run_key, row.epoch, steps, detail, stored))
        for name in old:
            self._checkpoints.remove(name)
        return claims

    def commit(self, claim: Claim, segment: Segment) -> None:
        """Write a segment in one transaction: rows, blocks, head, checkpoint, summary.

        The checkpoint's file is written first; a segment that is there already adds nothing.

        Raises:
            OwnershipLost: somebody else has claimed the run; nothing was written.
        """
        advances = segment.next_step >= claim.steps
        stored = self._write_checkpoint(claim, segment) if advances else None
        values: dict[str, Any] = {
            "state": "finished" if segment.summary is not None else "running",
            "n_features": segment.n_features,
            "wall_seconds": RUNS.c.wall_seconds + segment.resources.wall_seconds,
            "cpu_seconds": RUNS.c.cpu_seconds + segment.resources.cpu_seconds,
            "peak_rss_mb": segment.resources.peak_rss_mb,
        }
        if advances:
            values |= {"steps": segment.next_step, "head": segment.head.hex()}
        with self._transaction() as connection:
            self._fence(connection, claim, **values)
            for kind, entries in segment.rows.items():
                if len(entries):
                    connection.exec_driver_sql(
                        self._inserts[kind], list(entry_rows(claim.run, entries))
                    )
            if segment.blocks:
                connection.exec_driver_sql(
                    self._insert_block,
                    [block_row(claim.run, block) for block in segment.blocks],
                )
            if segment.summary is not None:
                self._add_summary(connection, claim.run, segment)
            old = self._keep_checkpoint(connection, claim.run, segment.next_step, stored)
        for name in old:
            self._checkpoints.remove(name)

    def fail(self, claim: Claim, error: str) -> None:
        """Mark a run failed, with the reason; what it has committed stays.

        Raises:
            OwnershipLost: somebody else has claimed the run.
        """
        with self._transaction() as connection:
            self._fence(connection, claim, state="failed", error=error)

    def erase(self, run_key: str) -> None:
        """Drop all rows of a run, so that it starts again from step 0."""
        with self._transaction() as connection:
            row = connection.execute(
                select(RUNS.c.id, RUNS.c.detail).where(RUNS.c.run_key == run_key)
            ).one()
            old = self._erase(connection, row.id, detail=row.detail)
        for name in old:
            self._checkpoints.remove(name)

    def quarantine(self, reasons: Mapping[str, str]) -> None:
        """Mark runs whose ledger breaks the protocol, by run key, with the reason."""
        with self._transaction() as connection:
            for key, reason in reasons.items():
                connection.execute(
                    update(RUNS)
                    .where(RUNS.c.run_key == key)
                    .values(state="quarantined", error=reason)
                )

    def release(self, name: str, *, broken: Iterable[str]) -> None:
        """Lift the quarantine of an experiment's runs that passed validation."""
        mine = select(EXPERIMENT_RUNS.c.run).where(EXPERIMENT_RUNS.c.experiment == name)
        with self._transaction() as connection:
            connection.execute(
                update(RUNS)
                .where(
                    RUNS.c.id.in_(mine),
                    RUNS.c.state == "quarantined",
                    RUNS.c.run_key.not_in(list(broken)),
                )
                .values(state="finished", error=None)
            )

    def _fence(self, connection: Connection, claim: Claim, **values: Any) -> None:
        changed = connection.execute(
            update(RUNS).where(RUNS.c.id == claim.run, RUNS.c.epoch == claim.epoch).values(**values)
        )
        if changed.rowcount != 1:
            raise OwnershipLost(
                f"run {claim.run_key[:12]} is now owned by another process; this one stops. "
                "The same command goes on with whatever is left"
            )

    def _erase(self, connection: Connection, run: int, *, detail: str) -> list[str]:
        """Drop all rows of a run; return the files of its checkpoints, which nobody needs then."""
        names = connection.execute(
            select(CHECKPOINTS.c.name).where(CHECKPOINTS.c.run == run)
        ).scalars()
        old = list(names)
        for table in (*ENTRY_TABLES.values(), BLOCKS, SUMMARIES, CHECKPOINTS):
            connection.execute(delete(table).where(table.c.run == run))
        connection.execute(
            update(RUNS)
            .where(RUNS.c.id == run)
            .values(detail=detail, steps=0, head=None, wall_seconds=0.0, cpu_seconds=0.0)
        )
        return old

    def _add_summary(self, connection: Connection, run: int, segment: Segment) -> None:
        statement = insert(SUMMARIES).values(
            run=run,
            horizon=segment.next_step,
            head=segment.head.hex(),
            metrics=segment.summary,
        )
        connection.execute(statement.on_conflict_do_nothing())

    def _write_checkpoint(self, claim: Claim, segment: Segment) -> Stored:
        return self._checkpoints.write(
            segment.checkpoint,
            run_key=segment.run_key,
            step=segment.next_step,
            epoch=claim.epoch,
        )

    def _keep_checkpoint(
        self, connection: Connection, run: int, step: int, stored: Stored | None
    ) -> list[str]:
        """Enter a checkpoint; drop those beyond the last `keep` and return their files."""
        if stored is None:
            return []
        replaced = connection.execute(
            select(CHECKPOINTS.c.name).where(CHECKPOINTS.c.run == run, CHECKPOINTS.c.step == step)
        ).scalars()
        old = [name for name in replaced if name != stored.name]
        values = {
            "name": stored.name,
            "sha256": stored.sha256,
            "n_bytes": stored.n_bytes,
        }
        connection.execute(
            insert(CHECKPOINTS)
            .values(run=run, step=step, **values)
            .on_conflict_do_update(index_elements=["run", "step"], set_=values)
        )
        surplus = connection.execute(
            select(CHECKPOINTS.c.step, CHECKPOINTS.c.name)
            .where(CHECKPOINTS.c.run == run)
            .order_by(CHECKPOINTS.c.step.desc())
            .offset(self._keep)
        ).all()
        for surplus_step, name in surplus:
            connection.execute(
                delete(CHECKPOINTS).where(
                    CHECKPOINTS.c.run == run, CHECKPOINTS.c.step == surplus_step
                )
            )
            old.append(name)
        return old


def _detail_of_both(one: str, other: str) -> str:
    """Return the smallest detail that keeps what either of two keeps.

    >>> _detail_of_both("votes", "decisions"), _detail_of_both("votes", "alerts")
    ('votes', 'all')
    """
    both = KEPT[one] | KEPT[other]
    return min((d for d in KEPT if both <= KEPT[d]), key=lambda d: len(KEPT[d]))


__all__ = ["Claim", "Ledger", "entries_of", "entry_rows", "open_engine"]
