"""Queries of displays whose answers are kept until the ledger says something else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from sim_core.caching import Cache, kept_warm
from sim_core.ledger.queries import (
    FEWEST_ALERTS,
    MOST_SOURCES,
    Source,
    find_sources,
    identities,
    run_with_alerts,
)
from sim_core.ledger.statements import count_rows
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import Experiment
from sim_core.ledger.version import DatabaseVersion


class CachedQueries:
    """The queries of a `Ledger` that displays repeat, with the same answers.

    Lists of experiments and runs hold while nobody commits anything (see `version`), what rows of a
    run say while these rows are the same. What is changed behind the program's back in the rows of
    a run shows after `cache.ttl_seconds`; `quorumlab verify`, which looks for that, keeps nothing.
    """

    def __init__(self, ledger: Ledger, cache: Cache) -> None:
        """Read from a ledger; several may share a cache."""
        self._ledger = ledger
        self._cache = cache
        self._version = DatabaseVersion(ledger.engine)
        self._place = str(ledger.engine.url)

    def close(self) -> None:
        """Close what watches the database; the ledger stays open."""
        self._version.close()

    def experiments(self) -> list[Experiment]:
        """Return all experiments, the latest first."""

        def load() -> list[dict[str, Any]]:
            return [row.model_dump() for row in self._ledger.experiments()]

        rows: list[dict[str, Any]] = self._cache.fetch(
            (self._place, "experiments"), load, list[dict[str, Any]], version=self._version.read()
        )
        return [Experiment(**row) for row in rows]

    def experiment(self, name: str) -> Experiment | None:
        """Return the row of an experiment, or None."""
        return next((row for row in self.experiments() if row.name == name), None)

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        """Return the runs of an experiment with their summaries, by point and replicate."""
        return self._cache.fetch(
            (self._place, "runs", name),
            lambda: self._ledger.runs_of(name),
            list[dict[str, Any]],
            version=self._version.read(),
        )

    def row_counts(self, runs: Sequence[int]) -> dict[int, int]:
        """Return how many entries and blocks the ledger holds of each run."""
        with self._ledger.reading() as connection:
            versions = {
                (self._place, "rows", run): version
                for run, version in identities(connection, runs).items()
            }

            def load(keys: list[tuple[str, str, int]]) -> dict[tuple[str, str, int], int]:
                counts = count_rows(connection, [run for *_, run in keys])
                return {key: counts[key[-1]] for key in keys}

            found = self._cache.fetch_many(versions, load, int)
        return dict.fromkeys(runs, 0) | {run: n for (*_, run), n in found.items()}

    def top_sources(
        self,
        run_key: str,
        *,
        first_step: int = 0,
        last_step: int | None = None,
        at_least: int = FEWEST_ALERTS,
        most: int = MOST_SOURCES,
    ) -> list[Source]:
        """Return the sources with the most alerts within steps of a run, see `queries.top_sources`.

        Raises:
            UserError: there is no such run, or it keeps no alerts.
        """
        window = (first_step, last_step, at_least, most)
        with self._ledger.reading(may_lag=True) as connection:
            run = run_with_alerts(connection, run_key)
            return self._cache.fetch(
                (self._place, "sources", run_key, *window),
                lambda: find_sources(connection, run.id, *window),
                list[Source],
                version=tuple(run),
            )

    def warm(self) -> int:
        """Read ahead what is shown most, the latest experiments first; return how many lists."""
        names = [experiment.name for experiment in self.experiments()]
        return self._cache.warm(partial(self.runs_of, name) for name in names)

    @contextmanager
    def kept_warm(self) -> Iterator[None]:
        """Read ahead meanwhile, at start and by interval as the settings of the cache say."""
        with kept_warm(self._cache.settings, self.warm):
            yield
