"""Clean-ups take what nobody needs, and nothing that resuming or a longer horizon begins at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from sim_core.checkpoint import CheckpointFolder
from sim_core.config import PostgresLedger
from sim_core.errors import OwnershipLost
from sim_core.ledger.engine import open_engine
from sim_core.ledger.garbage import find_garbage
from sim_core.ledger.retention import (
    ROWS_OF_A_RUN,
    delete_experiment,
    disown,
    drop_checkpoints,
    erase_unused,
    holding,
    spare_checkpoints,
    unused_runs,
)
from sim_core.ledger.store import Ledger
from sim_core.ledger.verify import verify_run
from sim_core.simulate import RunSpec, Segment, simulate

MakeSpec = Callable[..., RunSpec]
Register = Callable[..., None]
Execute = Callable[..., list[Segment]]


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Return an empty ledger that keeps three checkpoints of a run."""
    settings = None
    if request.param == "postgresql":
        settings = PostgresLedger(url=request.getfixturevalue("postgres").create())
    engine = open_engine(tmp_path / "ledger.db", settings)
    yield Ledger(engine, CheckpointFolder(tmp_path / "checkpoints"), keep=3)
    engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints")


def run_of(ledger: Ledger, spec: RunSpec, name: str = "experiment") -> dict[str, Any]:
    return next(row for row in ledger.runs_of(name) if row["run_key"] == spec.run_key)


def count_all(ledger: Ledger) -> dict[str, int]:
    with ledger.reading() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in ROWS_OF_A_RUN
        }


def clean(ledger: Ledger, folder: CheckpointFolder, keep: int = 1) -> list[int]:
    """Drop spare checkpoints as the command does; return their steps."""
    dropped = drop_checkpoints(ledger, spare_checkpoints(ledger, keep))
    for spare in dropped:
        folder.remove(spare.name)
    return [spare.step for spare in dropped]


def longer(spec: RunSpec, steps: int) -> RunSpec:
    simulation = spec.config.simulation.model_copy(update={"steps": steps})
    return replace(spec, config=spec.config.model_copy(update={"simulation": simulation}))


def test_finished_run_keeps_the_checkpoint_that_a_longer_horizon_goes_on_from(
    ledger: Ledger,
    folder: CheckpointFolder,
    register: Register,
    execute: Execute,
    make_spec: MakeSpec,
) -> None:
    spec = make_spec(detail="all")
    register(ledger, spec)
    execute(ledger, spec)
    assert len(folder.names()) == 3
    assert clean(ledger, folder, keep=3) == []
    assert clean(ledger, folder, keep=2) == [4]
    assert clean(ledger, folder) == [8]
    assert clean(ledger, folder) == []
    assert verify_run(ledger, run_of(ledger, spec)) is None
    more = longer(spec, 20)
    register(ledger, more)
    segments = execute(ledger, more)
    assert segments[0].first_step == 12
    *_, whole = simulate(more)
    assert run_of(ledger, more)["summary_head"] == whole.head.hex()
    assert verify_run(ledger, run_of(ledger, more)) is None


def test_shorter_horizon_without_a_summary_keeps_the_checkpoint_that_it_begins_at(
    ledger: Ledger,
    folder: CheckpointFolder,
    register: Register,
    execute: Execute,
    make_spec: MakeSpec,
) -> None:
    spec = make_spec(detail="all")
    register(ledger, spec)
    execute(ledger, spec)
    short = longer(spec, 6)
    register(ledger, short, name="short")
    assert clean(ledger, folder) == [8]
    (segment,) = execute(ledger, short)
    assert (segment.first_step, segment.next_step) == (4, 6)
    *_, whole = simulate(short)
    assert run_of(ledger, short, "short")["summary_head"] == whole.head.hex()


def test_run_that_is_not_finished_keeps_all_its_checkpoints(
    ledger: Ledger, folder: CheckpointFolder, register: Register, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    segments = list(simulate(spec))
    for segment in segments[:2]:
        ledger.commit(claim, segment)
    assert clean(ledger, folder) == []
    ledger.release_claim(claim)
    assert clean(ledger, folder) == []
    (claim,) = ledger.claim([spec])
    resumed = list(simulate(spec, folder.read(claim.checkpoints[0])))
    assert resumed[-1].head == segments[-1].head


def test_run_that_is_claimed_meanwhile_keeps_its_checkpoints(
    ledger: Ledger, register: Register, execute: Execute, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    register(ledger, spec)
    execute(ledger, spec)
    spares = spare_checkpoints(ledger, 1)
    assert len(spares) == 2
    ledger.claim([longer(spec, 20)])
    assert drop_checkpoints(ledger, spares) == []


def test_files_that_no_run_knows_are_garbage_unless_an_owner_may_enter_them(
    ledger: Ledger,
    folder: CheckpointFolder,
    register: Register,
    execute: Execute,
    make_spec: MakeSpec,
) -> None:
    done, busy = make_spec(), make_spec(replicate=1)
    register(ledger, done, name="one")
    register(ledger, busy, name="two")
    execute(ledger, done)
    known = folder.names()
    (claim,) = ledger.claim([busy])
    on_its_way = folder.write(b"new", run_key=busy.run_key, step=4, epoch=claim.epoch).name
    old = folder.write(b"old", run_key=busy.run_key, step=4, epoch=claim.epoch - 1).name
    late = folder.write(b"late", run_key=done.run_key, step=4, epoch=9).name
    gone = folder.write(b"gone", run_key="ab" * 32, step=4, epoch=1).name
    (folder.folder / f".{gone}.tmp").write_bytes(b"to")
    (folder.folder / "mine.txt").write_bytes(b"of the user")
    assert set(find_garbage(ledger, folder)) == {old, gone, f".{gone}.tmp"}
    assert set(find_garbage(ledger, folder, "two")) == {old}
    assert {*known, on_its_way, late, "mine.txt"} <= set(folder.names())


def test_deleted_experiment_takes_its_own_runs_and_leaves_shared_ones(
    ledger: Ledger,
    folder: CheckpointFolder,
    register: Register,
    execute: Execute,
    make_spec: MakeSpec,
) -> None:
    own, shared = make_spec(detail="all"), make_spec(detail="all", replicate=1)
    register(ledger, own, shared)
    register(ledger, shared, name="other")
    execute(ledger, shared)
    before = count_all(ledger)
    (head,) = [row["head"] for row in ledger.runs_of("other")]
    execute(ledger, own)
    ledger.set_published("experiment", {run_of(ledger, own)["id"]: "abc"})
    found = holding(ledger, "experiment")
    assert (len(found.runs), found.shared, found.checkpoints, found.published) == (1, 1, 3, 1)
    assert found.rows > 12
    files = delete_experiment(ledger, "experiment")
    assert sorted(files) == [name for name in folder.names() if name.startswith(own.run_key[:24])]
    assert ledger.experiment("experiment") is None
    assert ledger.runs_of("experiment") == []
    assert count_all(ledger) == before
    (row,) = ledger.runs_of("other")
    assert (row["head"], row["state"]) == (head, "finished")
    assert verify_run(ledger, row) is None


def test_deleted_experiment_can_be_run_again_from_step_0(
    ledger: Ledger, register: Register, execute: Execute, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    register(ledger, spec)
    *_, last = execute(ledger, spec)
    claimed = run_of(ledger, spec)["claimed_at"]
    delete_experiment(ledger, "experiment")
    register(ledger, spec)
    row = run_of(ledger, spec)
    assert (row["state"], row["steps"], row["head"], row["claimed_at"]) == (
        "planned",
        0,
        None,
        None,
    )
    again = execute(ledger, spec)
    assert (again[0].first_step, again[-1].head) == (0, last.head)
    assert run_of(ledger, spec)["claimed_at"] >= claimed


@pytest.mark.parametrize("end", [disown, delete_experiment])
@pytest.mark.parametrize("is_run_again", [False, True])
def test_driver_that_lives_on_can_write_nothing_any_more(
    ledger: Ledger,
    register: Register,
    make_spec: MakeSpec,
    end: Callable[[Ledger, str], object],
    is_run_again: bool,
) -> None:
    spec = make_spec()
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    first, second, _ = simulate(spec)
    ledger.commit(claim, first)
    end(ledger, "experiment")
    if is_run_again:
        register(ledger, spec)
        ledger.claim([spec])
    before = count_all(ledger)
    with pytest.raises(OwnershipLost):
        ledger.commit(claim, second)
    with pytest.raises(OwnershipLost):
        ledger.fail(claim, "too late")
    assert count_all(ledger) == before


def test_rows_that_a_driver_wrote_for_nobody_are_found_and_erased(
    ledger: Ledger,
    folder: CheckpointFolder,
    register: Register,
    execute: Execute,
    make_spec: MakeSpec,
) -> None:
    spec, used = make_spec(), make_spec(replicate=1)
    register(ledger, spec)
    register(ledger, used, name="other")
    execute(ledger, used)
    before = count_all(ledger)
    delete_experiment(ledger, "experiment")
    assert unused_runs(ledger) == ([], 0)
    execute(ledger, spec)  # had registered before, and claims only now
    runs, n_rows = unused_runs(ledger)
    assert len(runs) == 1
    assert n_rows > 12
    for name in erase_unused(ledger, runs):
        folder.remove(name)
    assert unused_runs(ledger) == ([], 0)
    assert count_all(ledger) == before
    assert find_garbage(ledger, folder) == []
    execute(ledger, spec)
    runs, _ = unused_runs(ledger)
    register(ledger, spec, name="again")
    assert erase_unused(ledger, runs) == [], "somebody uses it by now"
