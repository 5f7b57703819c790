"""What the ledger costs, beside the database's own bulk interface and a run without checkpoints."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from flows.benchmarks.cases import Case, Group
from flows.suites.step import network
from sim_core.checkpoint import CheckpointFolder
from sim_core.config import ExecutorConfig, ModelConfig, PostgresLedger
from sim_core.identity import model_version, result_relevant, run_key
from sim_core.ledger.blocks import VOTE, Entries, make_entries
from sim_core.ledger.bulk import insert_entries
from sim_core.ledger.engine import URL_VARIABLE
from sim_core.ledger.queries import stream_entries, top_sources
from sim_core.ledger.rows import entry_rows
from sim_core.ledger.store import Claim, Ledger, open_engine
from sim_core.ledger.tables import ENTRY_TABLES, Experiment
from sim_core.ledger.verify import verify_run
from sim_core.simulate import Resources, RunSpec, Segment, simulate

N_ROWS = 1_000_000
ROWS_PER_SEGMENT = 10_000
VOTES_PER_STEP = 1_000
STEPS = 200
ANY_HEAD = bytes(32)
_SEEDS = count(1)


def ledger_suite() -> list[Group]:
    """Return the cases of the suite `ledger`; those of PostgreSQL where its address is set."""
    inserts = [
        Case("insert_sqlite", "rows/s", inserting(None), repeat=5, scale=1.0),
        Case("raw_sqlite", "rows/s", inserting_raw_sqlite, 5, scale=1.0, yardstick=True),
    ]
    ratios = [("insert_sqlite", "raw_sqlite")]
    groups = [Group(tuple(inserts), tuple(ratios))]
    url = os.environ.get(URL_VARIABLE)
    if url:
        groups.append(
            Group(
                (
                    Case("insert_postgresql", "rows/s", inserting(url), repeat=5, scale=1.0),
                    Case("raw_copy", "rows/s", copying_raw(url), 5, scale=1.0, yardstick=True),
                ),
                (("insert_postgresql", "raw_copy"),),
            )
        )
    small = (
        Case("insert_1000", "ms", inserting_1000),
        Case("connect", "ms", connecting),
        Case("verify_chain", "ms", verifying),
        Case("top_sources", "ms", asking_for_sources),
        Case("stream_all", "ms", streaming, repeat=5),
    )
    return [*groups, *(Group((case,)) for case in small)]


def checkpoint_suite() -> list[Group]:
    """Return the cases of the suite `checkpoint`."""
    groups = [
        Group(
            (
                Case(f"run_without{suffix}", "ms/step", running(STEPS, executor)),
                Case(f"run_every_10{suffix}", "ms/step", running(10, executor)),
            ),
            ((f"run_every_10{suffix}", f"run_without{suffix}"),),
        )
        for suffix, executor in (("", "processes"), ("_inline", "inline"))
    ]
    return [*groups, Group((Case("restore", "ms", restoring),))]


@contextmanager
def opened_ledger(url: str | None = None) -> Iterator[Ledger]:
    """Give a new ledger in a temporary folder, or the one in PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        settings = None if url is None else PostgresLedger(url=url)
        engine = open_engine(Path(folder) / "ledger.db", settings)
        ledger = Ledger(engine, CheckpointFolder(Path(folder) / "checkpoints"))
        try:
            yield ledger
        finally:
            ledger.dispose()


def claimed(ledger: Ledger, config: ModelConfig, **settings: Any) -> tuple[RunSpec, Claim]:
    """Return a new run of a configuration, entered and claimed."""
    seed = time.time_ns() + next(_SEEDS)
    spec = RunSpec(
        run_key=run_key(config, seed, 0),
        config=config,
        seed=seed,
        replicate=0,
        **{"detail": "decisions", "checkpoint_every": 10, **settings},
    )
    experiment = Experiment(
        name=f"benchmark-{seed}",
        key="0" * 64,
        state="running",
        config={},
        points=[],
        environment={},
        created_at=0.0,
        updated_at=0.0,
    )
    ledger.register(experiment, [(0, spec)], model_version(), result_relevant)
    (claim,) = ledger.claim([spec])
    return spec, claim


def votes(first: int, n: int) -> Entries:
    """Return votes number `first` to `first + n` of a network with 1,000 votes in a step."""
    number = np.arange(first, first + n)
    return make_entries(
        VOTE,
        n,
        step=number // VOTES_PER_STEP,
        proposal=number // 50,
        node=number % 50,
        ballot=1,
    )


def segments_of_votes(spec: RunSpec) -> Iterator[Segment]:
    """Yield a million votes in segments, as a run makes them."""
    for first in range(0, N_ROWS, ROWS_PER_SEGMENT):
        yield Segment(
            run_key=spec.run_key,
            first_step=first // VOTES_PER_STEP,
            next_step=(first + ROWS_PER_SEGMENT) // VOTES_PER_STEP,
            head=ANY_HEAD,
            n_features=8,
            blocks=(),
            rows={"vote": votes(first, ROWS_PER_SEGMENT)},
            checkpoint=b"",
            summary=None,
            resources=Resources(0.0, 0.0, 0.0),
        )


def inserting(url: str | None) -> Any:
    """Return what commits a million rows by the whole path, and says rows per second."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        def call() -> float:
            with opened_ledger(url) as ledger:
                spec, claim = claimed(ledger, network(100, 20), detail="votes")
                segments = list(segments_of_votes(spec))
                began = time.perf_counter()
                for segment in segments:
                    ledger.commit(claim, segment)
                return N_ROWS / (time.perf_counter() - began)

        yield call

    return opened


@contextmanager
def inserting_raw_sqlite() -> Iterator[Callable[[], float]]:
    """Give what inserts the same rows, made before, with sqlite3's executemany into a like table."""
    parts = raw_parts()

    def call() -> float:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="quorumlab-"))
            database = stack.enter_context(closing(sqlite3.connect(Path(folder) / "raw.db")))
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(
                "CREATE TABLE vote (run BIGINT, step BIGINT, proposal BIGINT, node BIGINT, "
                "ballot BIGINT, PRIMARY KEY (run, step, proposal, node))"
            )
            began = time.perf_counter()
            for part in parts:
                database.executemany("INSERT INTO vote VALUES (?, ?, ?, ?, ?)", part)
                database.commit()
            return N_ROWS / (time.perf_counter() - began)

    yield call


def copying_raw(url: str) -> Any:
    """Return what copies the same rows, made before, with psycopg's COPY into a like table."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        import psycopg

        parts = raw_parts()

        def call() -> float:
            plain = url.replace("postgresql+psycopg://", "postgresql://")
            with psycopg.connect(plain) as connection, connection.cursor() as cursor:
                cursor.execute("DROP TABLE IF EXISTS raw_vote")
                cursor.execute(
                    "CREATE TABLE raw_vote (run BIGINT, step BIGINT, proposal BIGINT, "
                    "node BIGINT, ballot BIGINT, PRIMARY KEY (run, step, proposal, node))"
                )
                connection.commit()
                began = time.perf_counter()
                for part in parts:
                    with cursor.copy("COPY raw_vote FROM STDIN") as copy:
                        for row in part:
                            copy.write_row(row)
                    connection.commit()
                seconds = time.perf_counter() - began
                cursor.execute("DROP TABLE raw_vote")
                return N_ROWS / seconds

        yield call

    return opened


def raw_parts() -> list[list[tuple[Any, ...]]]:
    """Return the rows of a million votes, a list per segment."""
    return [
        list(entry_rows(1, votes(first, ROWS_PER_SEGMENT)))
        for first in range(0, N_ROWS, ROWS_PER_SEGMENT)
    ]


@contextmanager
def inserting_1000() -> Iterator[Callable[[], float]]:
    """Give what inserts 1,000 rows in a transaction of their own."""
    with opened_ledger() as ledger:
        rows = votes(0, 1_000)
        numbers = count(1)

        def call() -> float:
            began = time.perf_counter()
            with ledger.engine.begin() as connection:
                insert_entries(connection, ENTRY_TABLES["vote"], [(next(numbers), rows)])
            return time.perf_counter() - began

        yield call


@contextmanager
def connecting() -> Iterator[Callable[[], float]]:
    """Give what opens a ledger that is there and reads its experiments."""
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        path = Path(folder) / "ledger.db"
        open_engine(path).dispose()

        def call() -> float:
            began = time.perf_counter()
            ledger = Ledger(open_engine(path), CheckpointFolder(Path(folder)))
            ledger.experiments()
            ledger.dispose()
            return time.perf_counter() - began

        yield call


@contextmanager
def finished_run(detail: str) -> Iterator[tuple[Ledger, dict[str, Any]]]:
    """Give a ledger with a finished run of 100 nodes and 200 steps."""
    config = with_steps(network(100, 20), STEPS)
    with opened_ledger() as ledger:
        spec, claim = claimed(ledger, config, detail=detail)
        for segment in simulate(spec):
            ledger.commit(claim, segment)
        (experiment,) = ledger.experiments()
        yield ledger, ledger.runs_of(experiment.name)[0]


@contextmanager
def verifying() -> Iterator[Callable[[], float]]:
    """Give what recomputes the chain of a run with all its rows."""
    with finished_run("all") as (ledger, run):

        def call() -> float:
            began = time.perf_counter()
            assert verify_run(ledger, run) is None
            return time.perf_counter() - began

        yield call


@contextmanager
def asking_for_sources() -> Iterator[Callable[[], float]]:
    """Give what asks for the most active sources of a run."""
    with finished_run("alerts") as (ledger, run):

        def call() -> float:
            began = time.perf_counter()
            top_sources(ledger, run["run_key"], first_step=STEPS // 4, last_step=STEPS * 3 // 4)
            return time.perf_counter() - began

        yield call


@contextmanager
def streaming() -> Iterator[Callable[[], float]]:
    """Give what reads a million rows in batches."""
    with opened_ledger() as ledger:
        spec, claim = claimed(ledger, network(100, 20), detail="votes")
        for segment in segments_of_votes(spec):
            ledger.commit(claim, segment)

        def call() -> float:
            began = time.perf_counter()
            assert sum(map(len, stream_entries(ledger, claim.run, "vote"))) == N_ROWS
            return time.perf_counter() - began

        yield call


def running(every: int, executor: str) -> Any:
    """Return what runs 200 steps of 100 x 100 into a ledger, and says seconds per step."""
    from sim_core.ledger.writer import LedgerWriter
    from tasks.executors import open_executor

    config = with_steps(network(100, 100), STEPS)

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        with open_executor(ExecutorConfig(kind=executor, num_cpus=1)) as worker:

            def call() -> float:
                with opened_ledger() as ledger:
                    spec, claim = claimed(ledger, config, checkpoint_every=every)
                    began = time.perf_counter()
                    with LedgerWriter(ledger) as writer:
                        for segment in worker.execute([(spec, None)]):
                            assert isinstance(segment, Segment)
                            last = writer.submit(claim, segment)
                    last.result()
                    return (time.perf_counter() - began) / STEPS

            yield call

    return opened


@contextmanager
def restoring() -> Iterator[Callable[[], float]]:
    """Give what makes the last segment of a run from its checkpoint."""
    config = with_steps(network(100, 100), STEPS)
    with opened_ledger() as ledger:
        spec, claim = claimed(ledger, config)
        *_, before, _ = simulate(spec)

        def call() -> float:
            began = time.perf_counter()
            next(simulate(replace(spec, checkpoint_every=1), before.checkpoint))
            return time.perf_counter() - began

        del claim
        yield call


def with_steps(config: ModelConfig, steps: int) -> ModelConfig:
    """Return a configuration with another number of steps."""
    simulation = config.simulation.model_copy(update={"steps": steps})
    return config.model_copy(update={"simulation": simulation})
