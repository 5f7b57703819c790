from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url

from sim_core.checkpoint import CheckpointFolder
from sim_core.consensus import Outcome
from sim_core.errors import QuorumlabError
from sim_core.ledger.blocks import METRIC_COUNTS, METRIC_VALUES
from sim_core.ledger.checks import ALLOWED, COUNTED, QUERIES, Query, batch_query
from sim_core.ledger.comparisons import COMPARISONS, SUMMED, compare_run, summary
from sim_core.ledger.report import (
    EXPECTATIONS,
    RUNS_AT_ONCE,
    Failure,
    ValidationReport,
    finished_runs,
    render_html,
    validate_in_sql,
)
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES
from tasks.validate_ledger import validate_runs
from tests.ledger_tools import execute, open_ledger, rechain, register, run_specs
from tests.postgres import Postgres, copy_ledger, open_postgres

Change = Callable[[sqlite3.Connection, int], None]

CAMPAIGNS = [
    {"family": "port_scan", "start": 4, "duration": 10, "node_share": 0.7, "flow_share": 0.4},
    {"family": "ddos", "start": 16, "duration": 10, "node_share": 0.7, "flow_share": 0.4},
]
CONFIG = {
    "simulation": {"nodes": 12, "flows_per_node": 16, "steps": 30},
    "traffic": {"kind": "synthetic", "campaigns": CAMPAIGNS},
    "adversary": {"kind": "poisoner", "share": 0.25},
    "signature": {"cooldown_steps": 4},
    "metrics": {"from_step": 3},
}
ISOLATED = {**CONFIG, "dissemination": {"kind": "none"}}
UNRELIABLE = {
    **CONFIG,
    "churn": {"crash_rate": 0.3, "recovery_rate": 0.3},
    "consensus": {"kind": "majority", "min_turnout": 0.9},
}
STRICT = {**CONFIG, "consensus": {"kind": "supermajority", "base": "all", "vote_deadline": 3}}
COLLUDING = {
    **CONFIG,
    "consensus": {"kind": "weighted", "committee": 9},
    "adversary": {"kind": "sleeper", "share": 0.4, "wake_reputation": 0.6},
}
"""Where votes do not weigh alike, so that some outcomes are not those of the majority."""
TIED = {
    **CONFIG,
    "consensus": {"kind": "weighted", "committee": 4},
    "adversary": {"kind": "colluder", "share": 0.4},
}
"""Where the last bit of reputation decides, as two of four voters often agree."""
LATECOMERS = {
    **CONFIG,
    "consensus": {"kind": "bft", "min_turnout": 0, "committee": 7},
    "adversary": {"kind": "sybil", "share": 0.5, "join_step": 12},
}
"""6 of 12 nodes are there from the start, so that a seat of 7 stays empty at first."""
STRICTER = {
    **CONFIG,
    "consensus": {"kind": "majority", "vote_deadline": 6},
    "intervention": {
        "step": 15,
        "consensus": {"kind": "bft", "vote_deadline": 2},
        "adversary": {"kind": "colluder", "share": 0.4},
        "signature": {"cooldown_steps": 2, "match_radius": 3.0},
    },
}
"""Where a strict rule with little patience takes over from a mild one."""
MILDER = {
    **COLLUDING,
    "churn": {"crash_rate": 0.2, "recovery_rate": 0.3},
    "intervention": {
        "step": 15,
        "consensus": {"kind": "majority", "committee": 9, "vote_deadline": 8},
        "voting": {"mode": "competence"},
    },
}
"""Where votes weigh until they do not."""
WEIGHING = {
    **COLLUDING,
    "consensus": {"kind": "bft", "committee": 9},
    "intervention": {"step": 15, "consensus": COLLUDING["consensus"]},
}
"""Where votes weigh by what was decided by another rule."""
OVERRULED = {
    **CONFIG,
    "consensus": {"kind": "bft"},
    "adversary": {"kind": "colluder", "share": 0.4},
    "intervention": {"step": 15, "consensus": {"kind": "majority"}},
}
"""Where a quorum rejects what the majority that takes over would have confirmed."""
CHAIN = "the chain recomputes"
SUMMARY = "the summary follows from the steps"


def make(folder: Path, config: dict, detail: str = "all", replicates: int = 2) -> Path:
    """Run an experiment `e` in a new ledger and let go of the file."""
    ledger = open_ledger(folder)
    specs = run_specs(config, replicates=replicates, detail=detail)
    register(ledger, "e", specs)
    for spec in specs:
        execute(ledger, spec)
    ledger.engine.dispose()
    return folder / "ledger.db"


def agreed(ledger: Ledger, experiment: str) -> ValidationReport:
    """Return the report of Great Expectations, which is that of the database alone."""
    runs = finished_runs(ledger, experiment)
    report, alone = validate_runs(ledger, runs), validate_in_sql(ledger, runs)
    assert sorted(alone.failed, key=repr) == sorted(report.failed, key=repr)
    assert (alone.success, alone.expectations) == (report.success, report.expectations)
    return report


def validate(database: Path, experiment: str = "e") -> ValidationReport:
    ledger = open_ledger(database.parent)
    try:
        return agreed(ledger, experiment)
    finally:
        ledger.engine.dispose()


def validate_copy(database: Path, postgres: Postgres, experiment: str = "e") -> ValidationReport:
    """Validate a copy of a ledger in PostgreSQL."""
    url = postgres.create()
    copy_ledger(database, url)
    engine = open_postgres(url)
    try:
        ledger = Ledger(engine, CheckpointFolder(database.parent / "checkpoints"))
        return agreed(ledger, experiment)
    finally:
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"], scope="session")
def validated(request: pytest.FixtureRequest) -> Callable[[Path], ValidationReport]:
    """Return a function that validates a ledger, in the database that it is in or in PostgreSQL."""
    if request.param == "sqlite":
        return validate
    postgres = request.getfixturevalue("postgres")
    return lambda database: validate_copy(database, postgres)


def keys(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as db:
        return [key for (key,) in db.execute("SELECT run_key FROM run ORDER BY id")]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sound"), CONFIG)


@pytest.fixture(scope="module")
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("isolated"), ISOLATED)


def broken(source: Path, folder: Path, change: Change, *, rechained: bool = True) -> Path:
    """Return a copy of a ledger whose first run is changed."""
    database = folder / "ledger.db"
    shutil.copy(source, database)
    with closing(sqlite3.connect(database)) as db, db:
        change(db, 1)
        assert db.total_changes, "nothing was changed"
    if rechained:
        rechain(database, keys(database)[0])
    return database


# --- sound ledgers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "detail"),
    [
        (CONFIG, "decisions"),
        (CONFIG, "votes"),
        (CONFIG, "alerts"),
        (CONFIG, "all"),
        (ISOLATED, "decisions"),
        (ISOLATED, "all"),
        (UNRELIABLE, "all"),
        (STRICT, "all"),
        (COLLUDING, "votes"),
        (LATECOMERS, "all"),
        (STRICTER, "all"),
        (MILDER, "all"),
        (WEIGHING, "votes"),
    ],
)
def test_what_runs_write_is_valid(tmp_path: Path, config: dict, detail: str) -> None:
    report = validate(make(tmp_path, config, detail))
    assert report == ValidationReport(True, len(EXPECTATIONS), ())


def test_sound_ledgers_have_something_to_validate(tmp_path: Path, sound: Path) -> None:
    for database in (sound, make(tmp_path, UNRELIABLE)):
        with closing(sqlite3.connect(database)) as db:
            outcomes = {o for (o,) in db.execute("SELECT DISTINCT outcome FROM decision")}
        assert outcomes >= {Outcome.CONFIRMED, Outcome.REJECTED}
    assert Outcome.EXPIRED in outcomes


def test_runs_that_did_not_reach_their_horizon_are_not_validated(tmp_path: Path) -> None:
    specs = run_specs({**CONFIG, "simulation": {**CONFIG["simulation"], "steps": 20}})
    longer = run_specs(CONFIG)
    ledger = open_ledger(tmp_path)
    register(ledger, "short", specs)
    register(ledger, "long", longer)
    execute(ledger, specs[0])
    database = tmp_path / "ledger.db"
    assert validate(database, "long") == ValidationReport(True, 0, ())
    assert validate(database, "short").expectations
    execute(ledger, longer[0])
    assert validate(database, "long").success
    assert validate(database, "short").success  # looks at its 20 steps of 30
    with closing(sqlite3.connect(database)) as db, db:
        for change in (
            f"UPDATE metrics SET {', '.join(f'{name} = {name} + 99' for name in METRIC_COUNTS)}",
            "UPDATE decision SET registered = 99, outcome = 4 - outcome, accept = accept + 9",
            "UPDATE proposal SET confidence = 2",
            "UPDATE support SET proposal = 99",
            "UPDATE vote SET node = node + 12",
            "UPDATE alert SET flow = flow + 16",
        ):
            assert db.execute(f"{change} WHERE step >= 20").rowcount
    rechain(database, specs[0].run_key)
    assert validate(database, "short").success
    assert len({f.expectation for f in validate(database, "long").failed}) > 15
    ledger.engine.dispose()


def test_other_experiments_are_left_alone(tmp_path: Path, sound: Path) -> None:
    database = broken(sound, tmp_path, pending_miscounted)
    assert validate(database, "another") == ValidationReport(True, 0, ())
    assert validate(database, "e' OR ''='") == ValidationReport(True, 0, ())


# --- broken ledgers -----------------------------------------------------------------------


def first(db: sqlite3.Connection, what: str, *values: object) -> tuple:
    row = db.execute(f"SELECT {what} LIMIT 1", values).fetchone()
    assert row is not None, what
    return row


def sql(statement: str) -> Change:
    """Return a change of the rows of a run, `?`."""

    def change(db: sqlite3.Connection, run: int) -> None:
        assert db.execute(statement, (run,)).rowcount, statement

    return change


def decided(db: sqlite3.Connection, run: int, outcome: Outcome) -> tuple[int, int]:
    """Return step and number of a proposal with this outcome."""
    found = "step, proposal FROM decision WHERE run = ? AND outcome = ?"
    step, proposal = first(db, found, run, outcome)
    return step, proposal


def last_step_missing(db: sqlite3.Connection, run: int) -> None:
    for table in ("block", "alert", "proposal", "support", "vote", "decision", "metrics"):
        db.execute(f"DELETE FROM {table} WHERE run = ? AND step = 29", (run,))
    db.execute("UPDATE run SET steps = 29 WHERE id = ?", (run,))


def copied(db: sqlite3.Connection, table: str, condition: str, **values: int) -> None:
    """Insert a row once more with other values."""
    cursor = db.execute(f"SELECT * FROM {table} WHERE {condition} LIMIT 1")
    row = dict(zip([c[0] for c in cursor.description], cursor.fetchone(), strict=True)) | values
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} VALUES ({marks})", tuple(row.values()))


def proposal_repeated(db: sqlite3.Connection, run: int) -> None:
    step, proposal = first(db, "step, proposal FROM proposal WHERE run = ?", run)
    copied(db, "proposal", f"run = {run} AND proposal = {proposal}", step=step + 1)


def decision_repeated(db: sqlite3.Connection, run: int) -> None:
    step, proposal = decided(db, run, Outcome.REJECTED)
    copied(db, "decision", f"run = {run} AND proposal = {proposal}", step=step + 1)


def node_votes_twice(db: sqlite3.Connection, run: int) -> None:
    step, proposal = decided(db, run, Outcome.REJECTED)
    vote = f"run = {run} AND proposal = {proposal} AND step = {step}"
    copied(db, "vote", vote, step=step - 1)


def vote_after_the_decision(db: sqlite3.Connection, run: int) -> None:
    step, proposal = decided(db, run, Outcome.REJECTED)
    votes = f"run = {run} AND proposal = {proposal}"
    (node,) = first(db, f"node FROM vote WHERE {votes}")
    db.execute(f"UPDATE vote SET step = ? WHERE {votes} AND node = ?", (step + 1, node))


def vote_before_the_proposal(db: sqlite3.Connection, run: int) -> None:
    step, proposal, proposer = first(
        db, "step, proposal, proposer FROM proposal WHERE run = ? AND step > 0", run
    )
    db.execute(
        "UPDATE vote SET step = ? WHERE run = ? AND proposal = ? AND node = ?",
        (step - 1, run, proposal, proposer),
    )


def decision_overdue(db: sqlite3.Connection, run: int) -> None:
    step, proposal = decided(db, run, Outcome.REJECTED)
    db.execute(
        "UPDATE decision SET step = ? WHERE run = ? AND proposal = ?", (step + 6, run, proposal)
    )


def kept_less_than_there_is(db: sqlite3.Connection, run: int) -> None:
    db.execute("UPDATE run SET detail = 'decisions' WHERE id = ?", (run,))


def truth_of_a_confirmed_one(db: sqlite3.Connection, run: int) -> None:
    _, proposal = decided(db, run, Outcome.CONFIRMED)
    db.execute(
        "UPDATE proposal SET is_true = 1 - is_true WHERE run = ? AND proposal = ?", (run, proposal)
    )


def ballot_of(db: sqlite3.Connection, run: int, proposal: int, node: int, ballot: int) -> None:
    """Change a ballot in its packed form alone."""
    where = (run, proposal)
    (blob,) = first(db, "ballots FROM decision WHERE run = ? AND proposal = ?", *where)
    packed = bytearray(blob)
    shift = 2 * (node % 4)
    packed[node // 4] = packed[node // 4] & ~(3 << shift) | ballot << shift
    db.execute(
        "UPDATE decision SET ballots = ? WHERE run = ? AND proposal = ?", (bytes(packed), *where)
    )


def ballot_flipped(db: sqlite3.Connection, run: int) -> None:
    _, proposal = decided(db, run, Outcome.REJECTED)
    (node,) = first(
        db, "node FROM vote WHERE run = ? AND proposal = ? AND ballot = 2", run, proposal
    )
    ballot_of(db, run, proposal, node, 1)


def vote_flipped(db: sqlite3.Connection, run: int) -> None:
    """A vote differs from its ballot; the step's metrics are made to fit."""
    _, proposal = decided(db, run, Outcome.REJECTED)
    step, node = first(
        db, "step, node FROM vote WHERE run = ? AND proposal = ? AND ballot = 2", run, proposal
    )
    db.execute(
        "UPDATE vote SET ballot = 1 WHERE run = ? AND proposal = ? AND node = ?",
        (run, proposal, node),
    )
    db.execute(
        "UPDATE metrics SET votes_accept = votes_accept + 1, votes_reject = votes_reject - 1 "
        "WHERE run = ? AND step = ?",
        (run, step),
    )


def confirmed_below_quorum(db: sqlite3.Connection, run: int) -> None:
    """Accepting votes become rejecting ones everywhere, but for the outcome."""
    _, proposal = decided(db, run, Outcome.CONFIRMED)
    accepting = db.execute(
        "SELECT step, node FROM vote WHERE run = ? AND proposal = ? AND ballot = 1 LIMIT 6",
        (run, proposal),
    ).fetchall()
    for step, node in accepting:
        ballot_of(db, run, proposal, node, 2)
        db.execute(
            "UPDATE vote SET ballot = 2 WHERE run = ? AND proposal = ? AND node = ?",
            (run, proposal, node),
        )
        db.execute(
            "UPDATE metrics SET votes_accept = votes_accept - 1, votes_reject = votes_reject + 1 "
            "WHERE run = ? AND step = ?",
            (run, step),
        )
    db.execute(
        "UPDATE decision SET accept = accept - 6, reject = reject + 6 "
        "WHERE run = ? AND proposal = ?",
        (run, proposal),
    )


def outcome_flipped(db: sqlite3.Connection, run: int) -> None:
    """A rejected proposal is expired; the step's metrics are made to fit."""
    step, proposal = decided(db, run, Outcome.REJECTED)
    db.execute("UPDATE decision SET outcome = 3 WHERE run = ? AND proposal = ?", (run, proposal))
    db.execute(
        "UPDATE metrics SET rejected = rejected - 1, expired = expired + 1 "
        "WHERE run = ? AND step = ?",
        (run, step),
    )


def pending_miscounted(db: sqlite3.Connection, run: int) -> None:
    db.execute("UPDATE metrics SET pending = pending + 1 WHERE run = ? AND step = 9", (run,))


def summary_wrong(db: sqlite3.Connection, run: int) -> None:
    (text,) = first(db, "metrics FROM summary WHERE run = ?", run)
    metrics = json.loads(text)
    metrics["f1"] += 1e-12
    db.execute("UPDATE summary SET metrics = ? WHERE run = ?", (json.dumps(metrics), run))


def metrics_plus(**amounts: int) -> Change:
    """Return a change of the metrics of step 8."""
    changes = ", ".join(f"{name} = {name} + {amount}" for name, amount in amounts.items())
    return sql(f"UPDATE metrics SET {changes} WHERE run = ? AND step = 8")


def one(table: str, change: str) -> Change:
    """Return a change of the first row of a table after step 5."""
    key = ", ".join(column.name for column in (ENTRY_TABLES | {"block": BLOCKS})[table].primary_key)
    return sql(
        f"UPDATE {table} SET {change} WHERE ({key}) = "
        f"(SELECT {key} FROM {table} WHERE run = ? AND step > 5 ORDER BY {key} LIMIT 1)"
    )


CORRUPTIONS: dict[str, tuple[str, Change]] = {
    "last step missing": ("every step has a block", last_step_missing),
    "metrics missing": (
        "every step has metrics",
        sql("DELETE FROM metrics WHERE run = ? AND step = 7"),
    ),
    "first metrics missing": (
        "every step has metrics",
        sql("DELETE FROM metrics WHERE run = ? AND step = 0"),
    ),
    "entry after the end": (
        "entries of committed steps only",
        lambda db, run: copied(db, "support", f"run = {run}", step=5000),
    ),
    "entry before the start": (
        "entries of committed steps only",
        lambda db, run: copied(db, "support", f"run = {run}", step=-1),
    ),
    "kept less than there is": ("entries of kept kinds only", kept_less_than_there_is),
    "negative score": ("alert values in range", one("alert", "score = -1")),
    "confidence above 1": ("proposal values in range", one("proposal", "confidence = 1.5")),
    "supporter unknown": ("support values in range", one("support", "node = 12")),
    "voter unknown": ("vote values in range", one("vote", "node = 12")),
    "no ballot": ("vote values in range", one("vote", "ballot = 0")),
    "outcome unknown": ("decision values in range", one("decision", "outcome = 4")),
    "negative count": ("metrics values in range", one("metrics", "bytes_sent = -1")),
    "ratio above 1": ("metrics values in range", one("metrics", "immunity_share = 1.25")),
    "proposal repeated": ("one proposal per number", proposal_repeated),
    "decision repeated": ("one decision per proposal", decision_repeated),
    "node votes twice": ("one vote per node and proposal", node_votes_twice),
    "support of nothing": ("supports of published proposals only", one("support", "proposal = 99")),
    "vote on nothing": (
        "votes on published proposals, by the deadline",
        one("vote", "proposal = 99"),
    ),
    "vote before the proposal": (
        "votes on published proposals, by the deadline",
        vote_before_the_proposal,
    ),
    "decision on nothing": (
        "decisions on published proposals, by the deadline",
        one("decision", "proposal = 99"),
    ),
    "decision overdue": ("decisions on published proposals, by the deadline", decision_overdue),
    "vote after the decision": ("no vote after the decision", vote_after_the_decision),
    "decision missing": (
        "a decision by the deadline",
        sql("DELETE FROM decision WHERE run = ? AND outcome = 1"),
    ),
    "more votes than voters": (
        "no more votes than registered nodes",
        one("decision", "registered = accept + reject + abstain - 1"),
    ),
    "alerts miscounted": ("metrics count the alert entries", metrics_plus(alerts=1)),
    "proposals miscounted": ("metrics count the proposal entries", metrics_plus(proposals=1)),
    "supports miscounted": ("metrics count the support entries", metrics_plus(supports=1)),
    "votes miscounted": ("metrics count the vote entries", metrics_plus(votes_abstain=1)),
    "decisions miscounted": ("metrics count the decision entries", metrics_plus(expired=1)),
    "waited longer": ("metrics sum the steps to decisions", metrics_plus(decision_steps=1)),
    "truth changed": ("metrics count true and false confirmations", truth_of_a_confirmed_one),
    "flow too many": ("metrics cover the flows of nodes that are up", metrics_plus(tn=1)),
    "alarm without alert": ("every alarm is an alert", metrics_plus(fp=1, tn=-1)),
    "more honest than all": ("honest counts within the counts", metrics_plus(honest_fn=100)),
    "more blocked than alarms": (
        "honest counts within the counts",
        metrics_plus(benign_blocked=100),
    ),
    "pending miscounted": ("pending proposals add up", pending_miscounted),
    "message too many": ("messages add up", metrics_plus(messages_delivered=1)),
    "ballot flipped": ("ballots give the tallies", ballot_flipped),
    "node not registered": ("votes of registered nodes only", one("decision", "registered = 11")),
    "confirmed below quorum": ("outcomes follow the consensus rule", confirmed_below_quorum),
    "outcome flipped": ("outcomes follow the consensus rule", outcome_flipped),
    "vote flipped": ("vote entries are the ballots", vote_flipped),
    "summary wrong": (SUMMARY, summary_wrong),
}


TAMPERED: dict[str, Change] = {
    "other centroid": one("proposal", "centroid = zeroblob(length(centroid))"),
    "other destination": one("alert", "destination_ip = destination_ip + 1"),
    "other digest": one("block", "vote = zeroblob(32)"),
    "other hash": one("block", "hash = zeroblob(32)"),
    "hash too short": one("block", "hash = x'00'"),
    "support gone": sql(
        "DELETE FROM support WHERE run = ? "
        "AND step = (SELECT min(other.step) FROM support AS other WHERE other.run = support.run)"
    ),
    "block gone": sql("DELETE FROM block WHERE run = ? AND step = 11"),
    "other head": sql("UPDATE run SET head = 'x' WHERE id = ?"),
    "other head in the summary": sql("UPDATE summary SET head = 'x' WHERE run = ?"),
    "ballots too short": one("decision", "ballots = x'00'"),
    "detail unknown": sql("UPDATE run SET detail = 'every:thing' WHERE id = ?"),
}
"""Changes that leave the hashes as they were."""
BROKEN = {name: change for name, (_, change) in CORRUPTIONS.items()} | TAMPERED


def cloned(db: sqlite3.Connection, run: int, key: str) -> None:
    """Insert the first run once more, under another number and key."""
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
        own = "id" if table == "run" else "run"
        if own in columns:
            other = {own: str(run), "run_key": f"'{key}'"}
            values = ", ".join(other.get(column, f'"{column}"') for column in columns)
            db.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {own} = 1")


def key_of(name: str) -> str:
    """Return the key of the run that is corrupted in this way."""
    return f"{list(BROKEN).index(name) + 1:064x}"


@pytest.fixture(scope="module")
def corrupted(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with the two sound runs, and one more for each change of BROKEN."""
    database = tmp_path_factory.mktemp("corrupted") / "ledger.db"
    shutil.copy(sound, database)
    for run, (name, change) in enumerate(BROKEN.items(), 3):
        with closing(sqlite3.connect(database)) as db, db:
            cloned(db, run, key_of(name))
        if name in TAMPERED:
            rechain(database, key_of(name))
        with closing(sqlite3.connect(database)) as db, db:
            change(db, run)
            assert db.total_changes, "nothing was changed"
        if name not in TAMPERED:
            rechain(database, key_of(name))
    return database


@pytest.fixture(scope="module")
def found(
    corrupted: Path, validated: Callable[[Path], ValidationReport]
) -> dict[str, dict[str, str]]:
    """Return what is wrong with each corrupted run: expectations and details."""
    failures: dict[str, dict[str, str]] = {key_of(name): {} for name in BROKEN}
    for failure in validated(corrupted).failed:  # a KeyError is a sound run that is blamed
        failures[failure.run_id][failure.expectation] = failure.detail
    return failures


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_broken_rule_is_named_with_its_run(found: dict[str, dict[str, str]], name: str) -> None:
    expectation, _ = CORRUPTIONS[name]
    named = found[key_of(name)]
    assert expectation in named
    strays = expectation == "entries of committed steps only"  # rows outside of the chain
    assert strays == (CHAIN in named), "only the meaning of the rows is wrong, not their hashes"


def test_every_expectation_is_broken_by_a_test() -> None:
    assert {expectation for expectation, _ in CORRUPTIONS.values()} | {CHAIN} == set(EXPECTATIONS)


@pytest.mark.parametrize("name", ["confirmed below quorum", "outcome flipped", "vote flipped"])
def test_consistent_lie_breaks_one_rule_alone(found: dict[str, dict[str, str]], name: str) -> None:
    expectation, _ = CORRUPTIONS[name]
    assert list(found[key_of(name)]) == [expectation]


# --- seats and weights ----------------------------------------------------------------------


def all_decisions(database: Path) -> list[sqlite3.Row]:
    """Return the decisions of the first run with the steps of their proposals."""
    with closing(sqlite3.connect(database)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(
            "SELECT d.*, p.step AS published FROM decision AS d "
            "JOIN proposal AS p USING (run, proposal) WHERE d.run = 1 ORDER BY d.step, d.proposal"
        ).fetchall()


@pytest.fixture(scope="module")
def colluding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("colluding"), COLLUDING)


@pytest.fixture(scope="module")
def latecomers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("latecomers"), LATECOMERS)


def neighbours_vote(db: sqlite3.Connection, run: int) -> None:
    """An isolated node's own vote is given to its neighbour."""
    change = "UPDATE vote SET node = (node + 1) % 12 WHERE run = ? AND proposal = 0"
    assert db.execute(change, (run,)).rowcount


def vote_in_seat(seat: int) -> Change:
    """Return a change that has a vote in a seat of the first proposal."""
    return lambda db, run: ballot_of(db, run, 0, seat, 1)


def test_isolated_nodes_vote_on_their_own_proposals_only(tmp_path: Path, isolated: Path) -> None:
    [failure] = validate(broken(isolated, tmp_path, neighbours_vote)).failed
    assert failure.expectation == "vote entries are the ballots"


@pytest.mark.parametrize(("ledger", "seat"), [("isolated", 1), ("isolated", 3), ("latecomers", 6)])
def test_nobody_votes_from_an_empty_seat(
    tmp_path: Path, request: pytest.FixtureRequest, ledger: str, seat: int
) -> None:
    """Seats that no node has taken, or that only the last byte has room for."""
    source = request.getfixturevalue(ledger)
    n = all_decisions(source)[0]["registered"]
    assert n == {"isolated": 1, "latecomers": 6}[ledger]
    failed = validate(broken(source, tmp_path, vote_in_seat(seat))).failed
    [detail] = [f.detail for f in failed if f.expectation == "votes of registered nodes only"]
    expected = f"expected {n} registered, 0 votes in empty seats, found {n} registered, 1 votes"
    assert expected in detail


def test_committees_are_drawn_again(tmp_path: Path, colluding: Path) -> None:
    """A vote of somebody who was not drawn, in place of one who was."""
    with closing(sqlite3.connect(colluding)) as db:
        votes = "SELECT node FROM vote WHERE run = 1 AND proposal = 0"
        voted = {node for (node,) in db.execute(votes)}
    others = set(range(12)) - voted
    assert len(voted) == all_decisions(colluding)[0]["registered"] == 9
    change = (
        f"UPDATE vote SET node = {min(others)} "
        f"WHERE run = ? AND proposal = 0 AND node = {max(voted)}"
    )
    failed = validate(broken(colluding, tmp_path, sql(change))).failed
    assert [f.expectation for f in failed] == ["vote entries are the ballots"]


def test_sybils_are_registered_from_when_they_join(tmp_path: Path, latecomers: Path) -> None:
    decisions = all_decisions(latecomers)
    assert {d["registered"] for d in decisions if d["published"] < 12} == {6}
    assert {d["registered"] for d in decisions if d["published"] >= 12} == {7}
    late = sql("UPDATE decision SET registered = 6 WHERE run = ? AND registered = 7")
    failed = validate(broken(latecomers, tmp_path, late)).failed
    [detail] = [f.detail for f in failed if f.expectation == "votes of registered nodes only"]
    assert "expected 7 registered" in detail


def test_weights_are_replayed_from_the_decisions_before(tmp_path: Path, colluding: Path) -> None:
    """An outcome that the heads alone would give, and the weights do not, is found."""
    differing = [
        d["proposal"]
        for d in all_decisions(colluding)
        if d["outcome"] != Outcome.EXPIRED
        and (d["outcome"] == Outcome.CONFIRMED) != (d["accept"] > d["reject"])
    ]
    assert differing, "the run should have decisions that weights made"
    change = (
        "UPDATE decision SET outcome = 3 - outcome "
        f"WHERE run = ? AND proposal = {differing[0]} AND outcome IN (1, 2)"
    )
    failed = validate(broken(colluding, tmp_path, sql(change))).failed
    assert "outcomes follow the consensus rule" in {f.expectation for f in failed}


@pytest.mark.parametrize(
    ("config", "since", "until"), [(STRICTER, 15, 30), (OVERRULED, 0, 15)], ids=["after", "before"]
)
def test_decisions_are_held_against_the_rule_of_their_step(
    tmp_path: Path, config: dict, since: int, until: int
) -> None:
    """A decision that is what the policy of other steps would make of its votes is found."""
    source = make(tmp_path / "sound", config, "votes", replicates=1)
    rejected = [
        d["proposal"]
        for d in all_decisions(source)
        if since <= d["step"] < until
        and d["accept"] > d["reject"]
        and d["outcome"] == Outcome.REJECTED
    ]
    assert rejected, "bft should reject what has a majority"
    change = f"UPDATE decision SET outcome = 1 WHERE run = ? AND proposal = {rejected[0]}"
    failed = validate(broken(source, tmp_path, sql(change))).failed
    [detail] = [f.detail for f in failed if f.expectation == "outcomes follow the consensus rule"]
    assert f"proposal {rejected[0]}" in detail


def outcomes_replayed(database: Path, run: int, *, together: bool) -> list[bool]:
    """Return whether each decision that did not expire is confirmed by the weight of its votes.

    By the words of docs/odd.md; `together` is whether reputations move after each step (as they
    should) or after each decision.
    """
    counts = {node: [1, 1] for node in range(12)}
    with closing(sqlite3.connect(database)) as db:
        decisions = db.execute(
            "SELECT d.step, d.proposal, d.outcome, p.proposer FROM decision AS d "
            "JOIN proposal AS p USING (run, proposal) WHERE run = ? ORDER BY d.step, d.proposal",
            (run,),
        ).fetchall()
        votes = {
            proposal: db.execute(
                "SELECT node, ballot FROM vote WHERE run = ? AND proposal = ?", (run, proposal)
            ).fetchall()
            for _, proposal, _, _ in decisions
        }
    confirmed, last = [], -1
    weight: dict[int, int] = {}
    for step, proposal, outcome, proposer in decisions:
        if step != last or not together:
            weight = {node: 65_536 * a // (a + b) for node, (a, b) in counts.items()}
        last = step
        if outcome == Outcome.EXPIRED:
            continue
        accepting = sum(weight[node] for node, ballot in votes[proposal] if ballot == 1)
        rejecting = sum(weight[node] for node, ballot in votes[proposal] if ballot == 2)
        confirmed.append(accepting > rejecting)
        for node, ballot in votes[proposal]:
            if ballot in (1, 2):
                counts[node][(ballot == 1) != (outcome == Outcome.CONFIRMED)] += 1
        counts[proposer][outcome != Outcome.CONFIRMED] += 1
    return confirmed


def test_decisions_of_a_step_are_weighed_together_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make(tmp_path, TIED, "votes")
    apart = 0
    for run in (1, 2):
        with closing(sqlite3.connect(database)) as db:
            query = "SELECT outcome = 1 FROM decision WHERE run = ? AND outcome <> 3"
            stored = [bool(c) for (c,) in db.execute(f"{query} ORDER BY step, proposal", (run,))]
        assert outcomes_replayed(database, run, together=True) == stored
        apart += outcomes_replayed(database, run, together=False) != stored
    assert apart, "it should make a difference in this experiment"
    for at_once in (1, 2, 256):
        monkeypatch.setattr("sim_core.ledger.comparisons.DECISIONS_AT_ONCE", at_once)
        assert validate(database).success


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_values_at_the_end_of_their_type_are_a_finding_and_no_crash(
    tmp_path: Path, sound: Path, validated: Callable[[Path], ValidationReport], value: int
) -> None:
    """Sums of them are more than the databases' whole numbers."""

    def change(db: sqlite3.Connection, run: int) -> None:
        for table, spared in (
            ("metrics", ("run", "step")),
            ("decision", ("run", "step", "proposal")),
        ):
            names = [name for name, *_ in db.execute(f"SELECT * FROM {table}").description]
            columns = [c for c in names if c not in spared and c not in (*METRIC_VALUES, "ballots")]
            changes = ", ".join(f"{column} = {value}" for column in columns)
            db.execute(f"UPDATE {table} SET {changes} WHERE run = ?", (run,))
        db.execute("UPDATE proposal SET is_true = ? WHERE run = ?", (value, run))
        for table, column in (("proposal", "proposal"), ("vote", "step"), ("decision", "step")):
            proposal = f"proposal = (SELECT max(proposal) FROM {table} WHERE run = {run})"
            db.execute(f"UPDATE {table} SET {column} = {value} WHERE run = {run} AND {proposal}")

    database = broken(sound, tmp_path, change, rechained=False)
    report = validated(database)
    assert {failure.run_id for failure in report.failed} == {keys(database)[0]}
    named = {failure.expectation for failure in report.failed}
    assert named >= {f"{kind} values in range" for kind in ("proposal", "decision", "metrics")}


def test_proposer_that_is_no_node_is_a_finding_and_no_crash(
    tmp_path: Path, colluding: Path
) -> None:
    """Reputations are replayed by compiled code, which would write beyond them."""
    far = sql("UPDATE proposal SET proposer = 1000000000 WHERE run = ?")
    failed = validate(broken(colluding, tmp_path, far)).failed
    assert "proposal values in range" in {f.expectation for f in failed}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_without_new_hashes_breaks_the_chain(
    found: dict[str, dict[str, str]], name: str
) -> None:
    assert CHAIN in found[key_of(name)]


@pytest.mark.parametrize(
    "change",
    [
        one("decision", "accept = 'many'"),
        one("decision", "ballots = 'text'"),
        one("proposal", "centroid = 7"),
        one("vote", "ballot = 1.5"),
        one("metrics", "tp = 'all'"),
        one("block", "hash = 'text'"),
    ],
)
def test_unreadable_rows_are_a_finding_and_no_crash(
    tmp_path: Path, sound: Path, change: Change
) -> None:
    database = broken(sound, tmp_path, change, rechained=False)
    assert {failure.run_id for failure in validate(database).failed} == {keys(database)[0]}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (
            "outcome flipped",
            r"step \d+, proposal \d+: expected rejected by .*, found expired by .*",
        ),
        (
            "vote flipped",
            r"step \d+, proposal \d+: expected ballot 1 in seat \d+, found ballot 2 .*",
        ),
        (
            "node votes twice",
            r"proposal \d+, node \d+: expected one row, found 2 in steps \d+ to \d+",
        ),
        ("vote on nothing", r"step \d+, proposal 99, node \d+, there is no such proposal"),
        ("ratio above 1", r"step 6, immunity_share is 1.25"),
        ("alerts miscounted", r"step 8, alerts is \d+, found \d+"),
        ("metrics missing", r"expected steps 0 to 29, found none of 7 to 7"),
        ("decision overdue", r"step \d+, proposal \d+, published in step 0, due in step 5"),
        ("pending miscounted", r"step 9, pending is \d+, expected \d+"),
    ],
)
def test_failure_gives_evidence(found: dict[str, dict[str, str]], name: str, pattern: str) -> None:
    expectation, _ = CORRUPTIONS[name]
    detail = found[key_of(name)][expectation]
    assert re.fullmatch(pattern, detail), detail


def test_more_places_are_counted(tmp_path: Path, sound: Path) -> None:
    everywhere = sql("UPDATE metrics SET messages_lost = 1 WHERE run = ?")
    failed = validate(broken(sound, tmp_path, everywhere)).failed
    [detail] = [f.detail for f in failed if f.expectation == "messages add up"]
    assert detail.startswith("step 0, ")
    assert detail.endswith(" (and 29 more)")


@pytest.mark.parametrize(
    "metric",
    ["precision", "recall", "f1", "mcc", "benign_blocked_share", "decision_steps", *SUMMED],
)
def test_every_metric_that_follows_is_compared(tmp_path: Path, sound: Path, metric: str) -> None:
    shutil.copy(sound, tmp_path / "ledger.db")
    ledger = open_ledger(tmp_path)
    run = ledger.runs_of("e")[0]
    run["summary"][metric] = 1e6
    wrong = [place for place in summary(ledger, run) if place.expected != place.found]
    ledger.engine.dispose()
    [(at, _, found)] = wrong
    assert (at, found) == (f"summary {metric}", "1000000.0")


def test_comparisons_of_a_run_share_one_reading_of_its_decisions(
    tmp_path: Path, sound: Path
) -> None:
    shutil.copy(sound, tmp_path / "ledger.db")
    ledger = open_ledger(tmp_path)
    run = ledger.runs_of("e")[0]
    read: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        read.extend(table for table in ("decision", "proposal") if f"FROM {table}" in statement)

    event.listen(ledger.engine, "before_cursor_execute", note)
    assert [name for name, _ in compare_run(ledger, run)] == [c.name for c in COMPARISONS]
    ledger.engine.dispose()
    beyond_the_end_and_for_the_chain = 2
    assert read.count("decision") == 1 + beyond_the_end_and_for_the_chain
    assert read.count("proposal") == 1 + beyond_the_end_and_for_the_chain


def test_a_comparison_that_cannot_read_its_rows_leaves_the_others_alone(
    tmp_path: Path, sound: Path
) -> None:
    def change(db: sqlite3.Connection, run: int) -> None:
        db.execute("UPDATE vote SET node = 'x' WHERE run = ? AND step = 9 AND node = 3", (run,))

    database = broken(sound, tmp_path, change, rechained=False)
    ledger = open_ledger(database.parent)
    found = dict(compare_run(ledger, ledger.runs_of("e")[0]))
    ledger.engine.dispose()
    [(at, _, reason)] = found.pop("vote entries are the ballots")
    assert at == "its rows"
    assert "ValueError" in reason
    [(at, _, reason)] = found.pop(CHAIN)
    assert (at, reason) == ("step 9", "vote entries of step 9: node is not a whole number")
    assert not any(found.values())


# --- each column ----------------------------------------------------------------------------


@pytest.fixture
def looked_at(sound: Path) -> Iterator[sqlite3.Connection]:
    """A connection with the runs of the experiment in table `runs`; changes are undone."""
    with closing(sqlite3.connect(sound, isolation_level=None)) as db:
        ledger = open_ledger(sound.parent)
        db.execute(f"CREATE TEMPORARY TABLE runs AS {batch_query(ledger.runs_of('e'))}")
        ledger.engine.dispose()
        db.execute("BEGIN")
        yield db
        db.execute("ROLLBACK")


def found_by(db: sqlite3.Connection, expectation: str) -> list[str]:
    [query] = [query for query in QUERIES if query.name == expectation]
    rows = db.execute(query.by_run.format(batch="runs")).fetchall()
    return [detail for _, _, detail in rows]


@pytest.mark.parametrize(
    ("kind", "column"), [(kind, column) for kind in ALLOWED for column in ALLOWED[kind]]
)
def test_every_column_has_its_range(looked_at: sqlite3.Connection, kind: str, column: str) -> None:
    for value in (-1, "text"):
        looked_at.execute("SAVEPOINT whole")
        one(kind, f"{column} = {value!r}")(looked_at, 2)
        [detail] = found_by(looked_at, f"{kind} values in range")
        assert f"{column} is {value}" in detail
        looked_at.execute("ROLLBACK TO whole")


@pytest.mark.parametrize(
    ("kind", "column"), [(kind, column) for kind in COUNTED for column in COUNTED[kind]]
)
def test_every_count_is_compared(looked_at: sqlite3.Connection, kind: str, column: str) -> None:
    one("metrics", f"{column} = {column} + 1")(looked_at, 2)
    [detail] = found_by(looked_at, f"metrics count the {kind} entries")
    assert re.fullmatch(rf"step 6, {column} is \d+, found \d+", detail)


@pytest.mark.parametrize("column", ["true_confirmations", "false_confirmations"])
def test_confirmations_are_compared(looked_at: sqlite3.Connection, column: str) -> None:
    one("metrics", f"{column} = {column} + 1")(looked_at, 2)
    [detail] = found_by(looked_at, "metrics count true and false confirmations")
    assert re.fullmatch(rf"step 6, {column} is \d+, found \d+", detail)


def test_decision_is_missing_from_its_deadline_on(looked_at: sqlite3.Connection) -> None:
    step, proposal = first(looked_at, "step, proposal FROM proposal WHERE run = ?", 1)
    looked_at.execute("DELETE FROM decision WHERE run = 1 AND proposal = ?", (proposal,))
    for horizon, found in ((step + 5, 0), (step + 6, 1)):
        looked_at.execute("UPDATE runs SET horizon = ?", (horizon,))
        assert len(found_by(looked_at, "a decision by the deadline")) == found


@pytest.mark.parametrize("kind", ["alert", "vote"])
def test_kinds_that_are_not_kept_have_no_rows(looked_at: sqlite3.Connection, kind: str) -> None:
    other = "votes" if kind == "alert" else "alerts"
    looked_at.execute("UPDATE runs SET detail = ? WHERE run = 1", (other,))
    assert found_by(looked_at, "entries of kept kinds only") == [
        f"{kind} entries, though detail is {other}"
    ]


# --- many runs, reports ---------------------------------------------------------------------


def test_every_one_of_many_broken_runs_is_named(tmp_path: Path) -> None:
    n_runs = RUNS_AT_ONCE + 5
    config = {"simulation": {"nodes": 4, "flows_per_node": 4, "steps": 2}}
    database = make(tmp_path, config, "decisions", 1)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE metrics SET messages_delivered = messages_delivered + 1")
        for table in ("block", "metrics", "run", "summary", "experimentrun"):
            own = "id" if table == "run" else "run"
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for number in range(2, n_runs + 1):
                other = {own: str(number), "run_key": f"'{number:064x}'"}
                values = ", ".join(other.get(column, column) for column in columns)
                db.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {own} = 1")
    rechain(database, keys(database)[0])
    found = validate(database).failed
    assert {f.expectation for f in found} == {"messages add up", CHAIN}
    named = [f.run_id for f in found if f.expectation == "messages add up"]
    assert sorted(named) == sorted(keys(database))
    assert len(named) == n_runs
    named = [f.run_id for f in found if f.expectation == CHAIN]
    assert sorted(named) == sorted(keys(database)[1:])


def test_query_that_cannot_be_asked_is_an_error(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Query("nothing", "SELECT run, step, detail FROM nowhere")
    monkeypatch.setattr("tasks.validate_ledger.QUERIES", (wrong,))
    with pytest.raises(QuorumlabError, match=r"'nothing' cannot be checked: .*nowhere"):
        validate(sound)


def test_validation_is_quiet(
    sound: Path,
    validated: Callable[[Path], ValidationReport],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert validated(sound).success
    assert capfd.readouterr() == ("", "")


def test_folder_with_a_dollar_is_no_variable(tmp_path: Path, sound: Path) -> None:
    folder = tmp_path / "a${HOME}$b"
    folder.mkdir()
    shutil.copy(sound, folder / "ledger.db")
    assert validate(folder / "ledger.db").expectations


def test_password_is_used_and_never_told(
    sound: Path,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    url = postgres.create()
    copy_ledger(sound, url)
    engine = create_engine(make_url(url).set(password="se${same}$"))
    try:
        ledger = Ledger(engine, CheckpointFolder(sound.parent))
        runs = finished_runs(ledger, "e")
        assert validate_runs(ledger, runs).expectations
        away = make_url(url).set(password="se${same}$", port=1)
        monkeypatch.setattr(engine, "url", away)
        with pytest.raises(QuorumlabError, match=r":\*\*\*@.*cannot be validated") as failed:
            validate_runs(ledger, runs)
    finally:
        engine.dispose()
    told = "".join(traceback.format_exception(failed.value)) + caplog.text
    assert "{same}" not in told
    assert "%7Bsame%7D" not in told


def test_great_expectations_is_imported_late_and_without_analytics(sound: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from sim_core.ledger.report import finished_runs
from tests.ledger_tools import open_ledger
import tasks.validate_ledger as task
assert "great_expectations" not in sys.modules
database = Path(sys.argv[1])
ledger = open_ledger(database.parent)
assert task.validate_runs(ledger, finished_runs(ledger, "e")).success
assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
"""
    subprocess.run([sys.executable, "-c", program, str(sound)], check=True)


REPORT = ValidationReport(
    False, 36, (Failure("messages add up", "ab" * 32, "step 3, <b>7</b> sent & lost"),)
)


def test_report_as_json_is_plain() -> None:
    assert json.loads(json.dumps(REPORT.to_json())) == {
        "success": False,
        "expectations": 36,
        "failed": [
            {
                "expectation": "messages add up",
                "run_id": "ab" * 32,
                "detail": "step 3, <b>7</b> sent & lost",
            }
        ],
    }


def test_page_stands_alone_and_shows_the_evidence() -> None:
    page = render_html(REPORT, "<mine>")
    assert "&lt;mine&gt;" in page
    assert "step 3, &lt;b&gt;7&lt;/b&gt; sent &amp; lost" in page
    assert "ab" * 32 in page
    assert "1 of 36 expectations are not met, in 1 run." in page
    assert "color-scheme: light dark" in page
    assert not re.search(r"https?:|src=|@import|<script|<mine>|<b>", page)
    assert page.count("✗") == 1
    assert page.count("✓") == len(EXPECTATIONS) - 1


def test_page_of_a_sound_experiment_says_so() -> None:
    page = render_html(ValidationReport(True, 36, ()), "e")
    assert "All 36 expectations are met." in page
    assert "<table>" not in page
    assert "nothing was validated" in render_html(ValidationReport(True, 0, ()), "e")
