"""Tables of the ledger database.

The columns of an entry's table are `run` and the fields of its record in `blocks`, in this order;
blobs hold the record's own bytes (little-endian), so that digests can be recomputed from rows.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, Table
from sqlmodel import Field, SQLModel

WITHOUT_ROWID = {"sqlite_with_rowid": False}
"""Rows lie in the tree of their key itself: half the file, and no second tree to keep."""


class Experiment(SQLModel, table=True):
    """An experiment as the user asked for it."""

    name: str = Field(primary_key=True)
    key: str
    revision: int = 1
    state: str
    config: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    """The base configuration, as validated."""
    points: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    """label, settings (what differs from the base), values (what differs between points)."""
    environment: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    validation: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    created_at: float
    updated_at: float


class Run(SQLModel, table=True):
    """A run: one configuration, seed and replicate; experiments may share it."""

    id: int | None = Field(default=None, primary_key=True)
    run_key: str = Field(unique=True)
    config: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    seed: int = Field(sa_type=BigInteger)
    replicate: int
    model_version: str
    detail: str
    n_nodes: int
    n_features: int = 0
    epoch: int = 0
    """Raised by each driver that claims the run; writes of an older epoch are dropped."""
    state: str = "planned"
    """planned, running, finished, failed, quarantined"""
    steps: int = 0
    """Steps committed so far."""
    head: str | None = None
    """Hash of the last committed block: the run's fingerprint."""
    claimed_at: float | None = None
    """When the run was claimed first (seconds since 1970): origin of metric timestamps."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_mb: float = 0.0
    error: str | None = None
    tries: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Claims since the last committed step: how often whoever executed it has died there."""


class ExperimentRun(SQLModel, table=True):
    """Which run an experiment uses for which point and replicate, up to which step."""

    experiment: str = Field(primary_key=True, foreign_key="experiment.name")
    run: int = Field(primary_key=True, foreign_key="run.id", index=True)
    point: int
    replicate: int
    horizon: int
    mlflow_run_id: str | None = None
    published: bool = False


class Summary(SQLModel, table=True):
    """Metrics of a run at a horizon."""

    run: int = Field(primary_key=True, foreign_key="run.id")
    horizon: int = Field(primary_key=True)
    head: str
    metrics: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    validated: str | None = None
    """Fingerprint of what was found to meet every expectation, see `validated`."""


class CheckpointFile(SQLModel, table=True):
    """A checkpoint's file; a row never lacks its file."""

    run: int = Field(primary_key=True, foreign_key="run.id")
    step: int = Field(primary_key=True)
    name: str
    sha256: str
    n_bytes: int


class Block(SQLModel, table=True):
    """One step's place in the chain."""

    __table_args__ = WITHOUT_ROWID

    run: int = Field(primary_key=True)
    step: int = Field(primary_key=True)
    previous: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    alert: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    proposal: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    support: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    vote: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    decision: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    metrics: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Alert(SQLModel, table=True):
    """A flagged flow."""

    __table_args__ = (Index("alert_by_source", "run", "source_ip"), WITHOUT_ROWID)

    run: int = Field(primary_key=True)
    step: int = Field(primary_key=True)
    node: int = Field(primary_key=True)
    flow: int = Field(primary_key=True)
    score: float
    matched: int
    timestamp: int
    source_ip: int
    destination_ip: int
    bytes_transferred: int
    protocol: int


class Proposal(SQLModel, table=True):
    """A published signature."""

    __table_args__ = WITHOUT_ROWID

    run: int = Field(primary_key=True)
    step: int = Field(primary_key=True)
    proposal: int = Field(primary_key=True)
    proposer: int
    n_support: int
    confidence: float
    protocol: int
    is_true: int
    family: int
    centroid: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    scale: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Support(SQLModel, table=True):
    """A node that saw what an earlier signature describes."""

    __table_args__ = WITHOUT_ROWID

    run: int = Field(primary_key=True)
    step: int = Field(primary_key=True)
    proposal: int = Field(primary_key=True)
    node: int = Field(primary_key=True)


class Vote(SQLModel, table=True):
    """A node's vote on a proposal."""

    __table_args__ = WITHOUT_ROWID

    run: int = Field(primary_key=True)
    step: int = Field(primary_key=True)
    proposal: int = Field(primary_key=True)
    node: int = Field(primary_key=True)
    ballot: int


class Decision(SQLModel, table=True):
    """What became of a proposal."""

    __table_args__ = WITHOUT_ROWID

    run: int = Field(primary_key=True)
    step: int = Field(primary_key=True)
    proposal: int = Field(primary_key=True)
    outcome: int
    accept: int
    reject: int
    abstain: int
    registered: int
    ballots: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class StepMetrics(SQLModel, table=True):
    """One row of metrics per step; undefined values are NULL."""

    __tablename__ = "metrics"
    __table_args__ = WITHOUT_ROWID

    run: int = Field(primary_key=True)
    step: int = Field(primary_key=True)
    tp: int
    fp: int
    tn: int
    fn: int
    honest_tp: int
    honest_fp: int
    honest_tn: int
    honest_fn: int
    benign_blocked: int
    alerts: int
    proposals: int
    supports: int
    votes_accept: int
    votes_reject: int
    votes_abstain: int
    confirmed: int
    rejected: int
    expired: int
    true_confirmations: int
    false_confirmations: int
    decision_steps: int
    pending: int
    infected: int
    messages_sent: int
    messages_delivered: int
    messages_lost: int
    messages_in_flight: int
    bytes_sent: int
    nodes_up: int
    auroc: float | None
    blacklist_coverage: float | None
    immunity_share: float | None
    reputation_honest: float | None
    reputation_dishonest: float | None


def core_table(model: type[SQLModel]) -> Table:
    """Return the SQLAlchemy table of a model, for Core statements with bulk rows."""
    table: Table = model.__table__  # type: ignore[attr-defined]  # set by table=True
    return table


EXPERIMENTS = core_table(Experiment)
RUNS = core_table(Run)
EXPERIMENT_RUNS = core_table(ExperimentRun)
SUMMARIES = core_table(Summary)
CHECKPOINTS = core_table(CheckpointFile)
BLOCKS = core_table(Block)
ENTRY_TABLES: dict[str, Table] = {
    "alert": core_table(Alert),
    "proposal": core_table(Proposal),
    "support": core_table(Support),
    "vote": core_table(Vote),
    "decision": core_table(Decision),
    "metrics": core_table(StepMetrics),
}
"""The table of each kind of entry."""

for _table in (BLOCKS, *ENTRY_TABLES.values()):
    for _column in _table.columns:
        if isinstance(_column.type, Integer):
            _column.type = BigInteger()  # a record's fields have up to 64 bits
