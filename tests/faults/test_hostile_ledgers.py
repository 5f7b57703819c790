"""Damaged and hostile ledgers: whatever reads one refuses it in words that name the place.

What may be accepted is damage that no row shows, such as in a page that nobody uses.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.compose import compose_experiment
from flows.inspect import opened, replay_run, show_experiments, show_runs, verify_workspace
from flows.launch import check_before_start, plainly, stored_experiment
from flows.reconcile import find_repairs
from sim_core.errors import ExperimentConflict, LedgerFailed, QuorumlabError, WorkspaceError
from sim_core.workspace import Workspace, read_ledger_settings
from tests.faults.damaged_ledgers import (
    change_row,
    changes_of_rows,
    changes_of_tables,
    damaged_files,
    execute,
    hashed_rows,
)
from tests.faults.test_hostile import accepted

NAME = "target"
OVERRIDES = (
    "profile=edge",
    f"experiment.name={NAME}",
    "experiment.replicates=1",
    "simulation.nodes=8",
    "simulation.flows_per_node=8",
    "simulation.steps=12",
    "adversary=poisoner",
    "ledger.detail=all",
    "validation.engine=sql",
    "output.plots=false",
)
LEDGER_SETTINGS = (
    b"", b"\x00", b"\xff\xfe", b"{", b"null", b"5", b"[]", b"[" * 20_000, b'{"kind": "sqlite"}',
    b'{"kind": "postgresql", "url": 5}', b'{"kind": "postgresql", "url": "sqlite:////etc/passwd"}',
    b'{"kind": "postgresql", "url": "postgresql://me:secret@localhost/x"}',
    b'{"kind": "postgresql", "url": "postgresql://localhost/x", "pool_size": -1}',
    b'{"kind": "postgresql", "url": "postgresql://localhost/x", "pool_size": 1e400}',
    b'{"kind": "postgresql", "url": "postgresql://localhost/x", "_target_": "os.system"}',
    b'{"kind": "postgresql", "url": "\\u0000"}', b'{"kind": "postgresql", "url": "postgresql://[::1/x"}',
    b'{"kind": "postgresql", "url": "postgresql://localhost:port/x"}',
)  # fmt: skip


class Target:
    """A workspace with a finished experiment of one run, damaged and mended again and again."""

    def __init__(self, folder: Path) -> None:
        """Run the experiment."""
        self.folder = folder
        config, points = compose_experiment([*OVERRIDES, f"workspace={folder}"])
        plainly(config, points, execute=True)
        self.path = folder / "ledger.db"
        self.base = self.path.read_bytes()
        self.rows = hashed_rows(self.path)
        with opened(folder) as (_, ledger):
            self.run_key = str(ledger.runs_of(NAME)[0]["run_key"])

    def put(self, content: bytes) -> None:
        """Replace the database."""
        for path in self.folder.glob("ledger.db*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.path.write_bytes(content)

    def status(self) -> None:
        show_experiments(self.folder, nowhere())

    def status_of_runs(self) -> None:
        show_runs(self.folder, NAME, nowhere())

    def verify(self) -> None:
        told = nowhere()
        if not verify_workspace(self.folder, self.run_key[:12], told):
            raise LedgerFailed(f"verify: {' '.join(told.file.getvalue().split())}")

    def replay(self) -> None:
        replay_run(self.folder, self.run_key[:12], nowhere())

    def reconcile(self) -> None:
        with opened(self.folder) as (_, ledger):
            find_repairs(ledger, [])

    def resume(self) -> None:
        check_before_start(*stored_experiment(self.folder, NAME))


Command = Callable[[], None]


def nowhere() -> Any:
    return Console(file=io.StringIO(), width=500)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target(tmp_path_factory.mktemp("hostile") / "workspace")


@pytest.fixture(autouse=True)
def mended(target: Target) -> Iterator[None]:
    yield
    target.put(target.base)


def refuse(commands: Sequence[Command]) -> None:
    """Give all commands; raise what the first that refuses says. Anything else it raises is a crash."""
    refusals = []
    for command in commands:
        try:
            command()
        except QuorumlabError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def test_what_is_sound_is_accepted(target: Target):
    """Or the tests below would show nothing."""
    refuse([target.status, target.status_of_runs, target.reconcile, target.resume])
    refuse([target.verify, target.replay])


def test_damaged_files_are_refused_or_read_as_before(target: Target):
    inputs = list(damaged_files(target.base))
    assert len(inputs) > 75
    unharmed = 0

    def take(given: tuple[str, bytes]) -> None:
        nonlocal unharmed
        target.put(given[1])
        refuse([target.status_of_runs, target.verify])
        if hashed_rows(target.path) == target.rows:
            unharmed += 1
            raise QuorumlabError("nobody has lost anything")

    wrong = accepted([i for i in inputs if i[1] != target.base], take, QuorumlabError)
    assert wrong == []
    assert unharmed < len(inputs) / 2


def test_database_of_another_shape_is_refused(target: Target):
    others = cycle([target.resume, target.reconcile, target.status, target.replay])

    def take(statement: str) -> None:
        target.put(target.base)
        execute(target.path, statement)
        refuse([target.status_of_runs, target.verify, next(others)])

    assert accepted(changes_of_tables(), take, QuorumlabError) == []


def test_damaged_rows_of_experiments_and_runs_are_refused_by_name(target: Target):
    inputs = list(changes_of_rows())
    assert len(inputs) > 200
    others = cycle([target.status_of_runs, target.reconcile, target.status])

    def take(given: tuple[str, str, Any]) -> None:
        target.put(target.base)
        change_row(target.path, *given)
        refuse([target.resume, next(others)])
        refuse([target.status_of_runs])
        target.verify()

    assert accepted(inputs, take, QuorumlabError, names=named) == []


def named(given: tuple[str, str, Any]) -> str:
    """Return what a message has to contain: the column, or the run whose chain breaks."""
    table, column, _ = given
    if column in ("name", "steps", "head", "n_features", "detail"):
        return "experiment" if column == "name" else "run "
    return "column summary" if table == "summary" else f"column {column}"


def test_replay_refuses_a_damaged_record_or_restores_the_run(target: Target):
    refused = restored = 0
    for given in list(changes_of_rows())[::9]:
        target.put(target.base)
        change_row(target.path, *given)
        try:
            target.replay()
        except QuorumlabError:
            refused += 1
        else:
            target.verify()
            restored += 1
    assert refused > 15
    assert restored > 0


def test_what_is_no_file_is_refused(target: Target):
    def take(make: Callable[[Path], object]) -> None:
        target.put(b"")
        target.path.unlink()
        make(target.path)
        refuse([target.status, target.verify, target.resume])

    kinds: list[Callable[[Path], object]] = [
        Path.mkdir,
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/null"),
        lambda path: path.symlink_to(path.parent / "nothing"),
    ]
    assert accepted(kinds, take, QuorumlabError) == []


def test_damaged_settings_of_a_ledger_are_refused(tmp_path: Path):
    workspace = Workspace(tmp_path)

    def take(content: bytes) -> None:
        workspace.ledger_settings.write_bytes(content)
        read_ledger_settings(workspace)

    assert accepted(LEDGER_SETTINGS, take, WorkspaceError, names=lambda _: "ledger.json") == []
    workspace.ledger_settings.unlink()
    workspace.ledger_settings.mkdir()
    assert accepted([0], lambda _: read_ledger_settings(workspace), WorkspaceError) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("$.experiment.seed", "2"),
        ("$.experiment.replicates", "2"),
        ("$.simulation.steps", "13"),
        ("$.simulation.nodes", "9"),
        ("$.adversary.share", "0.9"),
        ("$.detector", '{"kind": "ewma"}'),
    ],
)
def test_another_configuration_is_not_taken_for_the_experiments_own(
    target: Target, key: str, value: str
):
    """One that is valid: all that speaks against it is that it does not give the key."""
    statement = f"UPDATE experiment SET config = json_set(config, '{key}', json('{value}'))"
    execute(target.path, statement)
    with pytest.raises(ExperimentConflict, match=r"experiment 'target' .* has changed since"):
        target.resume()


@pytest.mark.parametrize("n_nodes", [7, 9, 10**12])
def test_another_number_of_nodes_is_refused_before_memory_is_asked_for(
    target: Target, n_nodes: int
):
    change_row(target.path, "run", "n_nodes", n_nodes)
    with pytest.raises(LedgerFailed, match="column n_nodes"):
        target.verify()
