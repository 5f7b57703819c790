"""The ledger database: registering, claiming, committing, growing, sharing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sim_core.checkpoint import CheckpointFolder
from sim_core.errors import CheckpointMismatch, LedgerFailed, OwnershipLost, WorkspaceError
from sim_core.ledger.blocks import KEPT, KINDS
from sim_core.ledger.schema import HEAD, OLDEST, VERSION_TABLE
from sim_core.ledger.store import Ledger, open_engine
from sim_core.ledger.verify import verify_run
from sim_core.simulate import RunSpec, Segment, simulate

MakeSpec = Callable[..., RunSpec]
Execute = Callable[..., list[Segment]]
FIGURES = {"wall_seconds", "cpu_seconds", "peak_rss_mb"}
CONTENT = (*KINDS, "block")


def dump(tmp_path: Path, *tables: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of the database without the figures of clock and memory."""
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.row_factory = sqlite3.Row
    try:
        if not tables:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = tuple(row["name"] for row in found if row["name"] != VERSION_TABLE)
        return {
            table: [
                {key: row[key] for key in row.keys() if key not in FIGURES}  # noqa: SIM118
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")
            ]
            for table in tables
        }
    finally:
        connection.close()


def content(tmp_path: Path) -> dict[str, set[tuple[Any, ...]]]:
    """Return entries and blocks as sets, whatever the order in which they were written."""
    found = dump(tmp_path, *CONTENT)
    return {table: {tuple(row.values()) for row in rows} for table, rows in found.items()}


def run_of(ledger: Ledger, spec: RunSpec, name: str = "experiment") -> dict[str, Any]:
    return next(row for row in ledger.runs_of(name) if row["run_key"] == spec.run_key)


def checkpoint_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "checkpoints").iterdir())


# --- register -----------------------------------------------------------------------------


def test_registered_runs_are_planned_and_found_in_order(ledger, register, make_spec: MakeSpec):
    specs = [make_spec(replicate=r) for r in (2, 0, 1)]
    register(ledger, *specs)
    rows = ledger.runs_of("experiment")
    assert [row["run_key"] for row in rows] == [spec.run_key for spec in specs]
    assert [row["point"] for row in rows] == [0, 1, 2]
    assert {row["state"] for row in rows} == {"planned"}
    assert {row["horizon"] for row in rows} == {12}
    assert {row["summary"] for row in rows} == {None}
    assert rows[0]["config"]["detector"]["kind"] == "zscore"
    assert ledger.experiment("experiment").key == "0" * 64
    assert ledger.experiment("nobody") is None


def test_many_runs_are_registered(ledger, register, make_spec: MakeSpec):
    one = make_spec()
    specs = [replace(one, run_key=f"{i:064x}", replicate=i) for i in range(2_345)]
    register(ledger, *specs)
    assert [row["run_key"] for row in ledger.runs_of("experiment")] == [s.run_key for s in specs]


def test_experiments_share_their_runs(tmp_path, ledger, register, execute, make_spec: MakeSpec):
    spec = make_spec()
    register(ledger, spec)
    execute(ledger, spec)
    before = dump(tmp_path, "run", *CONTENT)
    register(ledger, make_spec(replicate=1), spec, name="other")
    shared = run_of(ledger, spec, "other")
    assert (shared["state"], shared["point"]) == ("finished", 1)
    assert shared["summary"] == run_of(ledger, spec)["summary"] is not None
    after = dump(tmp_path, "run", *CONTENT)
    assert after["run"][0] == before["run"][0]
    assert after["block"] == before["block"]


def test_registering_again_replaces_the_experiment_and_keeps_when_it_began(
    tmp_path, ledger, register, make_spec: MakeSpec
):
    register(ledger, make_spec())
    ledger.set_experiment("experiment", state="finished", revision=4)
    assert ledger.experiment("experiment").state == "finished"
    assert ledger.experiment("experiment").updated_at > 2.0
    register(ledger, make_spec())
    (row,) = dump(tmp_path, "experiment")["experiment"]
    assert (row["state"], row["revision"], row["created_at"]) == ("running", 1, 1.0)


def test_who_stops_early_does_not_undo_what_another_has_finished(
    ledger, register, make_spec: MakeSpec
):
    register(ledger, make_spec())
    ledger.set_interrupted("experiment")
    assert ledger.experiment("experiment").state == "interrupted"
    ledger.set_experiment("experiment", state="finished")
    ledger.set_interrupted("experiment")
    assert ledger.experiment("experiment").state == "finished"


def test_experiments_come_latest_first(ledger, register, make_spec: MakeSpec):
    for name in ("a", "b", "c"):
        register(ledger, make_spec(), name=name)
    ledger.set_experiment("b", state="finished")
    assert ledger.experiments()[0].name == "b"
    assert {e.name for e in ledger.experiments()} == {"a", "b", "c"}


def test_publication_is_noted_until_the_horizon_changes(ledger, register, make_spec: MakeSpec):
    spec = make_spec()
    register(ledger, spec)
    ledger.set_published("experiment", {run_of(ledger, spec)["id"]: "mlflow-1"})
    register(ledger, spec)
    assert run_of(ledger, spec)["published"]
    assert run_of(ledger, spec)["mlflow_run_id"] == "mlflow-1"
    longer = make_spec(simulation={"steps": 20})
    assert longer.run_key == spec.run_key
    register(ledger, longer)
    assert not run_of(ledger, spec)["published"]
    assert run_of(ledger, spec)["mlflow_run_id"] == "mlflow-1"
    assert run_of(ledger, spec)["horizon"] == 20


# --- commit -------------------------------------------------------------------------------


@pytest.mark.parametrize("detail", KEPT)
def test_committed_rows_are_the_models_entries_of_the_kinds_that_are_kept(
    tmp_path, ledger, register, execute, make_spec: MakeSpec, make_model, detail: str
):
    spec = make_spec(detail=detail)
    register(ledger, spec)
    segments = execute(ledger, spec)
    rows = dump(tmp_path, *CONTENT)
    assert {kind for kind in KINDS if rows[kind]} == KEPT[detail]
    model = make_model()
    expected = dict.fromkeys(KINDS, 0)
    for _ in range(12):
        model.step()
        for kind in KINDS:
            expected[kind] += len(model.entries[kind])
    assert {k: len(rows[k]) for k in KEPT[detail]} == {k: expected[k] for k in KEPT[detail]}
    assert len(rows["block"]) == 12
    row = run_of(ledger, spec)
    assert (row["state"], row["steps"], row["detail"]) == ("finished", 12, detail)
    assert row["head"] == row["summary_head"] == segments[-1].head.hex()
    assert row["summary"] == segments[-1].summary
    assert row["n_features"] == 8
    assert row["wall_seconds"] > 0
    total = sum(len(found) for found in rows.values())
    assert ledger.row_counts([row["id"], 99]) == {row["id"]: total, 99: 0}
    assert verify_run(ledger, row) is None


def test_detail_never_changes_a_hash(tmp_path, ledger, register, execute, make_spec: MakeSpec):
    heads = set()
    for replicate, detail in enumerate(KEPT):
        spec = replace(make_spec(detail=detail), run_key=make_spec().run_key)
        spec = replace(spec, run_key=f"{replicate:064x}")
        register(ledger, spec)
        heads.add(tuple(block.digests for s in execute(ledger, spec) for block in s.blocks))
    assert len(heads) == 1


def test_segment_committed_twice_adds_nothing(tmp_path, ledger, register, make_spec: MakeSpec):
    spec = make_spec(detail="all")
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    for segment in simulate(spec):
        ledger.commit(claim, segment)
        before = dump(tmp_path), checkpoint_files(tmp_path)
        ledger.commit(claim, segment)
        assert (dump(tmp_path), checkpoint_files(tmp_path)) == before


def test_run_that_starts_again_without_its_checkpoints_adds_nothing(
    tmp_path, ledger, register, execute, make_spec: MakeSpec
):
    spec = make_spec(detail="all")
    register(ledger, spec)
    execute(ledger, spec)
    before = content(tmp_path)
    (claim,) = ledger.claim([spec])
    for segment in simulate(spec):
        ledger.commit(claim, segment)
    assert content(tmp_path) == before
    row = run_of(ledger, spec)
    assert (row["steps"], row["state"]) == (12, "finished")
    assert verify_run(ledger, row) is None


def test_segment_is_written_whole_or_not_at_all(
    tmp_path, ledger, register, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
):
    spec = make_spec(detail="all")
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    first, second, _ = simulate(spec)
    ledger.commit(claim, first)
    before = dump(tmp_path)

    def fail(*args: Any, **named: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_keep_checkpoint", fail)
        with pytest.raises(OSError, match="disk full"):
            ledger.commit(claim, second)
    assert dump(tmp_path) == before
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "write", fail)
        with pytest.raises(OSError, match="disk full"):
            ledger.commit(claim, second)
    assert dump(tmp_path) == before
    ledger.commit(claim, second)
    assert run_of(ledger, spec)["steps"] == 8


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_last_checkpoints_are_kept_and_others_removed(
    tmp_path, open_ledger, register, execute, make_spec: MakeSpec, keep: int
):
    ledger = open_ledger(keep=keep)
    spec = make_spec(checkpoint_every=3)
    register(ledger, spec)
    execute(ledger, spec)
    rows = dump(tmp_path, "checkpointfile")["checkpointfile"]
    assert [row["step"] for row in rows] == [3, 6, 9, 12][-keep:]
    assert sorted(row["name"] for row in rows) == checkpoint_files(tmp_path)
    (claim,) = ledger.claim([spec])
    assert [stored.name for stored in claim.checkpoints] == [row["name"] for row in rows][::-1]


# --- claim and fence ----------------------------------------------------------------------


def test_writes_of_an_earlier_owner_are_refused_and_write_nothing(
    tmp_path, open_ledger, register, make_spec: MakeSpec
):
    first, second = open_ledger(), open_ledger()
    spec = make_spec(detail="all")
    register(first, spec)
    (old,) = first.claim([spec])
    segments = list(simulate(spec))
    first.commit(old, segments[0])
    (new,) = second.claim([spec])
    assert new.epoch == old.epoch + 1
    before = dump(tmp_path)
    for segment in segments:
        with pytest.raises(OwnershipLost, match=spec.run_key[:12]):
            first.commit(old, segment)
    with pytest.raises(OwnershipLost):
        first.fail(old, "the old owner gave up")
    assert dump(tmp_path) == before
    for segment in segments[1:]:
        second.commit(new, segment)
    assert verify_run(second, run_of(second, spec)) is None
    stored = {c.name for c in second.claim([spec])[0].checkpoints}
    assert stored <= set(checkpoint_files(tmp_path)), "a row lacks its file"
    assert all(name.endswith(f"-{new.epoch}.ckpt") for name in stored)


def test_claim_keeps_the_time_of_the_first(ledger, register, make_spec: MakeSpec):
    spec = make_spec()
    register(ledger, spec)
    assert run_of(ledger, spec)["claimed_at"] is None
    ledger.claim([spec])
    first = run_of(ledger, spec)
    assert first["state"] == "running"
    ledger.claim([spec])
    again = run_of(ledger, spec)
    assert again["claimed_at"] == first["claimed_at"] > 1e9
    assert again["epoch"] == first["epoch"] + 1 == 2


def test_failed_run_says_why_and_may_be_claimed_again(
    ledger, register, execute, make_spec: MakeSpec
):
    spec = make_spec()
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    ledger.commit(claim, next(simulate(spec)))
    ledger.fail(claim, "worker died 3 times")
    row = run_of(ledger, spec)
    assert (row["state"], row["error"], row["steps"]) == ("failed", "worker died 3 times", 4)
    assert execute(ledger, spec)[0].first_step == 4
    row = run_of(ledger, spec)
    assert (row["state"], row["error"]) == ("finished", None)


def test_text_that_looks_like_sql_is_kept_as_text(ledger, register, make_spec: MakeSpec):
    text = "x'; DROP TABLE run; --"
    spec = make_spec()
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    ledger.fail(claim, text)
    assert run_of(ledger, spec)["error"] == text
    assert ledger.experiment(text) is None
    assert ledger.runs_of(text) == []
    assert ledger.runs_of("' OR '1'='1") == []


def test_quarantine_of_runs_that_pass_validation_is_lifted(
    ledger, register, execute, make_spec: MakeSpec
):
    specs = [make_spec(replicate=r) for r in range(4)]
    register(ledger, *specs)
    for spec in specs[:3]:
        execute(ledger, spec)
    register(ledger, make_spec(replicate=9), name="other")
    ledger.quarantine(
        {specs[0].run_key: "its chain is broken", specs[1].run_key: "a vote is missing"}
    )

    def states() -> list[tuple[str, str | None]]:
        return [(row["state"], row["error"]) for row in ledger.runs_of("experiment")]

    rest = [("finished", None), ("planned", None)]
    broken = [("quarantined", "its chain is broken"), ("quarantined", "a vote is missing")]
    assert states() == [*broken, *rest]
    ledger.release("other", broken=[])
    assert states() == [*broken, *rest], "another experiment's validation says nothing about them"
    ledger.release("experiment", broken=[specs[1].run_key])
    assert states() == [("finished", None), broken[1], *rest]


def test_erased_run_starts_again_from_step_0_and_others_stay(
    tmp_path, ledger, register, execute, make_spec: MakeSpec
):
    specs = [make_spec(replicate=r, detail="votes") for r in range(2)]
    register(ledger, *specs)
    for spec in specs:
        execute(ledger, spec)
    before, head = content(tmp_path), run_of(ledger, specs[1])["head"]
    ledger.erase(specs[1].run_key)
    assert {row[0] for rows in content(tmp_path).values() for row in rows} == {1}
    row = run_of(ledger, specs[1])
    assert (row["steps"], row["head"], row["summary"], row["detail"]) == (0, None, None, "votes")
    assert execute(ledger, specs[1])[0].first_step == 0
    assert content(tmp_path) == before
    assert run_of(ledger, specs[1])["head"] == head


def test_damaged_checkpoint_is_refused_and_the_one_before_goes_on(
    tmp_path, ledger, register, execute, make_spec: MakeSpec
):
    spec = make_spec(simulation={"steps": 8})
    register(ledger, spec)
    execute(ledger, spec)
    longer = make_spec()
    register(ledger, longer)
    (claim,) = ledger.claim([longer])
    newest, older = claim.checkpoints
    path = tmp_path / "checkpoints" / newest.name
    path.write_bytes(path.read_bytes()[:-1])
    folder = CheckpointFolder(tmp_path / "checkpoints")
    with pytest.raises(CheckpointMismatch, match=newest.name):
        folder.read(newest)
    for segment in simulate(longer, folder.read(older)):
        ledger.commit(claim, segment)
    row = run_of(ledger, longer)
    assert row["steps"] == 12
    assert row["head"] == list(simulate(longer))[-1].head.hex()
    assert verify_run(ledger, row) is None


# --- growing ------------------------------------------------------------------------------


def test_longer_horizon_goes_on_where_the_shorter_one_ended(
    tmp_path, ledger, register, execute, make_spec: MakeSpec
):
    short, long = make_spec(simulation={"steps": 6}), make_spec(simulation={"steps": 11})
    assert short.run_key == long.run_key
    register(ledger, short)
    execute(ledger, short)
    register(ledger, long)
    assert [(s.first_step, s.next_step) for s in execute(ledger, long)] == [(6, 8), (8, 11)]
    whole = list(simulate(long))[-1]
    row = run_of(ledger, long)
    assert (row["head"], row["summary"]) == (whole.head.hex(), whole.summary)
    assert verify_run(ledger, row) is None
    horizons = {r["horizon"]: r["head"] for r in dump(tmp_path, "summary")["summary"]}
    assert horizons == {6: list(simulate(short))[-1].head.hex(), 11: whole.head.hex()}


def test_shorter_horizon_gets_its_own_summary_and_leaves_the_longer_run_alone(
    tmp_path, ledger, register, execute, make_spec: MakeSpec
):
    short, long = make_spec(simulation={"steps": 5}), make_spec(detail="all")
    register(ledger, long, name="long")
    execute(ledger, long)
    before = content(tmp_path), checkpoint_files(tmp_path)
    register(ledger, short, name="short")
    (claim,) = ledger.claim([short])
    assert claim.steps == 12
    assert claim.checkpoints == (), "checkpoints at 8 and 12 lie beyond the horizon"
    for segment in simulate(replace(short, detail=claim.detail)):
        ledger.commit(claim, segment)
    assert (content(tmp_path), checkpoint_files(tmp_path)) == before
    assert len(ledger.runs_of("short")) == len(ledger.runs_of("long")) == 1
    alone, whole = list(simulate(short))[-1], list(simulate(long))[-1]
    assert run_of(ledger, short, "short")["summary"] == alone.summary
    assert run_of(ledger, short, "short")["summary_head"] == alone.head.hex()
    row = run_of(ledger, long, "long")
    assert (row["summary"], row["head"], row["steps"]) == (whole.summary, whole.head.hex(), 12)
    assert verify_run(ledger, row) is None


def test_horizon_that_has_a_checkpoint_gets_its_summary_without_a_step(
    tmp_path, open_ledger, register, execute, make_spec: MakeSpec
):
    ledger = open_ledger(keep=10)
    register(ledger, make_spec(), name="long")
    execute(ledger, make_spec())
    before = content(tmp_path)
    short = make_spec(simulation={"steps": 8})
    register(ledger, short, name="short")
    (segment,) = execute(ledger, short)
    assert (segment.first_step, segment.next_step) == (8, 8)
    assert content(tmp_path) == before
    assert run_of(ledger, short, "short")["summary"] == list(simulate(short))[-1].summary
    assert run_of(ledger, make_spec(), "long")["steps"] == 12


def test_claim_brings_the_checkpoints_up_to_the_horizon_newest_first(
    open_ledger, register, execute, make_spec: MakeSpec
):
    ledger = open_ledger(keep=10)
    spec = make_spec(checkpoint_every=3)
    register(ledger, spec)
    execute(ledger, spec)
    for horizon, steps in ((2, []), (3, [3]), (8, [6, 3]), (9, [9, 6, 3]), (40, [12, 9, 6, 3])):
        (claim,) = ledger.claim([make_spec(simulation={"steps": horizon})])
        assert [int(stored.name.split("-")[1]) for stored in claim.checkpoints] == steps


def test_asking_for_more_detail_erases_and_runs_again(
    tmp_path, ledger, register, execute, make_spec: MakeSpec
):
    few, more = make_spec(), make_spec(detail="all")
    assert few.run_key == more.run_key
    other = make_spec(replicate=1)
    register(ledger, few, other)
    for spec in (few, other):
        execute(ledger, spec)
    kept = [row for row in dump(tmp_path, "decision")["decision"] if row["run"] == 2]
    register(ledger, more)
    segments = execute(ledger, more)
    assert segments[0].first_step == 0
    row = run_of(ledger, more)
    assert (row["detail"], row["steps"]) == ("all", 12)
    assert dump(tmp_path, "alert")["alert"]
    assert verify_run(ledger, row) is None
    assert row["head"] == list(simulate(few))[-1].head.hex()
    assert [r for r in dump(tmp_path, "decision")["decision"] if r["run"] == 2] == kept


@pytest.mark.parametrize("have", KEPT)
@pytest.mark.parametrize("ask", KEPT)
def test_a_run_is_erased_only_where_it_keeps_less_than_is_asked_for(
    tmp_path, ledger, register, execute, make_spec: MakeSpec, have: str, ask: str
):
    register(ledger, make_spec(detail=have))
    execute(ledger, make_spec(detail=have))
    before = content(tmp_path)
    (claim,) = ledger.claim([make_spec(detail=ask)])
    assert KEPT[claim.detail] == KEPT[have] | KEPT[ask]
    if KEPT[ask] <= KEPT[have]:
        assert (claim.steps, len(claim.checkpoints)) == (12, 2)
        assert content(tmp_path) == before
    else:
        assert (claim.steps, claim.checkpoints) == (0, ())
        assert not any(content(tmp_path).values())
        assert checkpoint_files(tmp_path) == []


def test_run_that_goes_on_keeps_what_it_kept_before(
    tmp_path, ledger, register, execute, make_spec: MakeSpec
):
    """Else the later steps would lack rows that the chain expects."""
    register(ledger, make_spec(detail="all", simulation={"steps": 6}))
    execute(ledger, make_spec(detail="all", simulation={"steps": 6}))
    longer = make_spec(detail="decisions")
    register(ledger, longer)
    assert execute(ledger, longer)[0].first_step == 6
    row = run_of(ledger, longer)
    assert (row["detail"], row["steps"]) == ("all", 12)
    assert max(alert["step"] for alert in dump(tmp_path, "alert")["alert"]) >= 6
    assert verify_run(ledger, row) is None


# --- several at once ----------------------------------------------------------------------


@pytest.mark.parametrize("own_ledger", [False, True])
def test_drivers_that_commit_different_runs_at_once_lose_nothing(
    tmp_path, open_ledger, register, execute, make_spec: MakeSpec, own_ledger: bool
):
    specs = [make_spec(replicate=r, checkpoint_every=1, detail="all") for r in range(4)]
    first = open_ledger()
    ledgers = [open_ledger() if own_ledger else first for _ in specs]
    register(first, *specs)
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(execute, *pair) for pair in zip(ledgers, specs, strict=True)]:
            future.result()
    for spec in specs:
        row = run_of(first, spec)
        assert row["head"] == list(simulate(spec))[-1].head.hex()
        assert (row["state"], row["steps"], row["epoch"]) == ("finished", 12, 1)
        assert verify_run(first, row) is None


def test_of_two_drivers_that_run_the_same_run_at_once_one_finishes(
    open_ledger, register, execute, make_spec: MakeSpec
):
    spec = make_spec(checkpoint_every=1)
    ledgers = [open_ledger(), open_ledger()]
    register(ledgers[0], spec)

    def drive(ledger: Ledger) -> str:
        try:
            execute(ledger, spec)
        except OwnershipLost:
            return "lost"
        return "finished"

    with ThreadPoolExecutor(2) as pool:
        assert "finished" in list(pool.map(drive, ledgers))
    row = run_of(ledgers[0], spec)
    assert (row["state"], row["steps"]) == ("finished", 12)
    assert verify_run(ledgers[0], row) is None


def test_reading_does_not_wait_for_a_writer(open_ledger, register, make_spec: MakeSpec):
    writer, reader = open_ledger(), open_ledger()
    register(writer, make_spec())
    with writer.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE run SET state = 'unfinished business'")
        assert reader.runs_of("experiment")[0]["state"] == "planned"
    assert reader.runs_of("experiment")[0]["state"] == "unfinished business"


def test_writing_does_not_wait_for_a_reader_who_goes_on_seeing_one_state(
    tmp_path, open_ledger, register, make_spec: MakeSpec
):
    writer, reader = open_ledger(), open_ledger()
    register(writer, make_spec())
    query = "SELECT state FROM run"
    with reader.reading() as connection:
        assert connection.exec_driver_sql(query).scalar_one() == "planned"
        with closing(sqlite3.connect(tmp_path / "ledger.db", timeout=0)) as impatient:
            impatient.execute("UPDATE run SET state = 'elsewhere'")
            impatient.commit()
        assert connection.exec_driver_sql(query).scalar_one() == "planned"
    assert reader.runs_of("experiment")[0]["state"] == "elsewhere"


def test_transaction_takes_the_write_lock_at_its_beginning(tmp_path, open_ledger):
    """Else it could fail half-way, because somebody else wrote since it began to read."""
    ledger = open_ledger()
    with closing(sqlite3.connect(tmp_path / "ledger.db", timeout=0)) as impatient:
        with ledger.engine.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
            impatient.execute("BEGIN IMMEDIATE")
        with ledger.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
            impatient.execute("BEGIN IMMEDIATE")


# --- opening ------------------------------------------------------------------------------


def test_ledger_opens_again_with_what_it_held(tmp_path, open_ledger, register, make_spec: MakeSpec):
    register(open_ledger(), make_spec())
    before = dump(tmp_path)
    assert [row["point"] for row in open_ledger().runs_of("experiment")] == [0]
    assert dump(tmp_path) == before


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (HEAD + 1, "newer quorumlab .* upgrade quorumlab"),
        (OLDEST - 1, "older quorumlab .* Choose another workspace"),
    ],
)
def test_ledger_of_another_program_is_refused_and_left_as_it_is(
    tmp_path, open_ledger, version: int, words: str
):
    open_ledger().engine.dispose()
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(WorkspaceError, match=words) as refused:
        open_engine(path)
    assert f"schema {version}," in str(refused.value)
    assert path.read_bytes() == before


def test_ledger_of_the_first_program_is_refused(tmp_path):
    """Its tables lack columns: only the version says so before anything is written."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE metrics (run INTEGER, step INTEGER)")
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(WorkspaceError, match=r"schema 1, this one reads from \d"):
        open_engine(path)


def test_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(WorkspaceError, match=r"ledger\.db cannot be opened"):
        open_engine(path)
    with pytest.raises(WorkspaceError, match="cannot be opened"):
        open_engine(tmp_path / "nowhere" / "ledger.db")


def test_segment_after_one_that_was_not_written_is_refused(ledger, register, make_spec: MakeSpec):
    """Else a disk that is full for a moment would leave a gap in the chain."""
    spec = make_spec()
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    first, second, third = simulate(spec)
    with pytest.raises(LedgerFailed, match=r"steps 4 to 7 .* as 0 to 3 were not"):
        ledger.commit(claim, second)
    ledger.commit(claim, first)
    refused = ledger.commit_all([(claim, third), (claim, second), (claim, third)])
    assert [reason is None for reason in refused] == [False, True, True]
    row = run_of(ledger, spec)
    assert (row["steps"], row["state"]) == (12, "finished")
    assert verify_run(ledger, row) is None
