"""Where troubles are made to happen: ledgers, experiments in this process, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flows.bench import SPECTATOR, Bench, Outcome, Spectator
from flows.compose import compose_experiment
from flows.launch import plainly
from sim_core.checkpoint import CheckpointFolder
from sim_core.config import LedgerConfig, PostgresLedger, SqliteLedger
from sim_core.error_table import Trouble
from sim_core.errors import QuorumlabError, RunFailed
from sim_core.ledger.engine import open_engine
from sim_core.ledger.store import Ledger

PLAIN = (
    "profile=edge",
    "experiment.name=e",
    "experiment.replicates=1",
    "simulation.nodes=8",
    "simulation.steps=30",
)


class Witness(Spectator):
    """Remembers what the user is told."""

    def __init__(self) -> None:
        """Nothing has been told."""
        self.warnings: list[str] = []
        self.outcome: Outcome | None = None

    def warn(self, text: str) -> None:
        """Remember a warning."""
        self.warnings.append(text)

    def finished(self, outcome: Outcome, bench: Bench) -> None:
        """Remember what became of the experiment."""
        del bench
        self.outcome = outcome


@dataclass
class Scene:
    """What a trouble needs in order to happen."""

    folder: Path
    request: pytest.FixtureRequest
    caplog: pytest.LogCaptureFixture
    patch: pytest.MonkeyPatch
    _ledgers: list[Ledger] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The ledger of this scene, if it is one in SQLite."""
        return self.folder / "ledger.db"

    def fixture(self, name: str) -> Any:
        """Return a fixture by its name."""
        return self.request.getfixturevalue(name)

    def ledger(self, settings: LedgerConfig | None = None) -> Ledger:
        """Return the scene's ledger, opened anew; what is worth repeating is tried twice."""
        settings = settings or SqliteLedger(busy_timeout_seconds=0.01)
        engine = open_engine(self.file, settings)
        self._ledgers.append(Ledger(engine, CheckpointFolder(self.folder / "files"), attempts=2))
        return self._ledgers[-1]

    def postgres(self, **settings: Any) -> Ledger:
        """Return a new ledger in PostgreSQL, with an experiment."""
        url = self.fixture("postgres").create()
        return self.with_experiment(self.ledger(PostgresLedger(url=url, **settings)))

    def with_experiment(self, ledger: Ledger) -> Ledger:
        """Return the ledger with an experiment `experiment` of one run in it."""
        self.fixture("register")(ledger, self.fixture("make_spec")())
        return ledger

    def run(self, *overrides: str, witness: Witness | None = None) -> Witness:
        """Run a small experiment in this process; return who saw it."""
        witness = witness or Witness()
        config, points = compose_experiment([*PLAIN, *overrides, f"workspace={self.folder}"])
        token = SPECTATOR.set(witness)
        try:
            with suppress(RunFailed):
                plainly(config, points, execute=True)
        finally:
            SPECTATOR.reset(token)
        return witness

    def close(self) -> None:
        """Let go of all ledgers."""
        for ledger in self._ledgers:
            ledger.dispose()


def caught(work: Callable[[], object]) -> QuorumlabError:
    """Return the error that some work ends with."""
    with pytest.raises(QuorumlabError) as found:
        work()
    return found.value


class Cause(NamedTuple):
    """A way in which a row of the table really happens."""

    row: Trouble
    happen: Callable[[Scene], QuorumlabError | str]
    """Lets it happen; returns the error, or what is told where work goes on."""


CAUSES: list[Cause] = []


def causes(row: Trouble) -> Callable[[Any], Any]:
    """Enter a function among the causes of a row."""

    def enter(happen: Any) -> Any:
        CAUSES.append(Cause(row, happen))
        return happen

    return enter
