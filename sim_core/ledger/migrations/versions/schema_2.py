"""Schema 2, the first that later ones are made from: experiments, runs, and the rows of runs."""

from __future__ import annotations

from alembic import op

revision = "2"
down_revision = None

STATEMENTS = (
    """CREATE TABLE alert (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        node INTEGER NOT NULL,
        flow INTEGER NOT NULL,
        score FLOAT NOT NULL,
        matched INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        source_ip INTEGER NOT NULL,
        destination_ip INTEGER NOT NULL,
        bytes_transferred INTEGER NOT NULL,
        protocol INTEGER NOT NULL,
        PRIMARY KEY (run, step, node, flow)
    )""",
    "CREATE INDEX alert_by_source ON alert (run, source_ip)",
    """CREATE TABLE block (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        previous BLOB NOT NULL,
        hash BLOB NOT NULL,
        alert BLOB NOT NULL,
        proposal BLOB NOT NULL,
        support BLOB NOT NULL,
        vote BLOB NOT NULL,
        decision BLOB NOT NULL,
        metrics BLOB NOT NULL,
        PRIMARY KEY (run, step)
    )""",
    """CREATE TABLE decision (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        proposal INTEGER NOT NULL,
        outcome INTEGER NOT NULL,
        accept INTEGER NOT NULL,
        reject INTEGER NOT NULL,
        abstain INTEGER NOT NULL,
        registered INTEGER NOT NULL,
        ballots BLOB NOT NULL,
        PRIMARY KEY (run, step, proposal)
    )""",
    """CREATE TABLE experiment (
        name VARCHAR NOT NULL,
        "key" VARCHAR NOT NULL,
        revision INTEGER NOT NULL,
        state VARCHAR NOT NULL,
        config JSON NOT NULL,
        points JSON NOT NULL,
        environment JSON NOT NULL,
        validation JSON,
        created_at FLOAT NOT NULL,
        updated_at FLOAT NOT NULL,
        PRIMARY KEY (name)
    )""",
    """CREATE TABLE metrics (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        tp INTEGER NOT NULL,
        fp INTEGER NOT NULL,
        tn INTEGER NOT NULL,
        fn INTEGER NOT NULL,
        honest_tp INTEGER NOT NULL,
        honest_fp INTEGER NOT NULL,
        honest_tn INTEGER NOT NULL,
        honest_fn INTEGER NOT NULL,
        benign_blocked INTEGER NOT NULL,
        alerts INTEGER NOT NULL,
        proposals INTEGER NOT NULL,
        supports INTEGER NOT NULL,
        votes_accept INTEGER NOT NULL,
        votes_reject INTEGER NOT NULL,
        votes_abstain INTEGER NOT NULL,
        confirmed INTEGER NOT NULL,
        rejected INTEGER NOT NULL,
        expired INTEGER NOT NULL,
        true_confirmations INTEGER NOT NULL,
        false_confirmations INTEGER NOT NULL,
        decision_steps INTEGER NOT NULL,
        pending INTEGER NOT NULL,
        infected INTEGER NOT NULL,
        messages_sent INTEGER NOT NULL,
        messages_delivered INTEGER NOT NULL,
        messages_lost INTEGER NOT NULL,
        messages_in_flight INTEGER NOT NULL,
        bytes_sent INTEGER NOT NULL,
        nodes_up INTEGER NOT NULL,
        auroc FLOAT,
        blacklist_coverage FLOAT,
        immunity_share FLOAT,
        reputation_honest FLOAT,
        reputation_dishonest FLOAT,
        PRIMARY KEY (run, step)
    )""",
    """CREATE TABLE proposal (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        proposal INTEGER NOT NULL,
        proposer INTEGER NOT NULL,
        n_support INTEGER NOT NULL,
        confidence FLOAT NOT NULL,
        protocol INTEGER NOT NULL,
        is_true INTEGER NOT NULL,
        family INTEGER NOT NULL,
        centroid BLOB NOT NULL,
        scale BLOB NOT NULL,
        PRIMARY KEY (run, step, proposal)
    )""",
    """CREATE TABLE run (
        id INTEGER NOT NULL,
        run_key VARCHAR NOT NULL,
        config JSON NOT NULL,
        seed INTEGER NOT NULL,
        replicate INTEGER NOT NULL,
        model_version VARCHAR NOT NULL,
        detail VARCHAR NOT NULL,
        n_nodes INTEGER NOT NULL,
        n_features INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        state VARCHAR NOT NULL,
        steps INTEGER NOT NULL,
        head VARCHAR,
        claimed_at FLOAT,
        wall_seconds FLOAT NOT NULL,
        cpu_seconds FLOAT NOT NULL,
        peak_rss_mb FLOAT NOT NULL,
        error VARCHAR,
        PRIMARY KEY (id),
        UNIQUE (run_key)
    )""",
    """CREATE TABLE support (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        proposal INTEGER NOT NULL,
        node INTEGER NOT NULL,
        PRIMARY KEY (run, step, proposal, node)
    )""",
    """CREATE TABLE vote (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        proposal INTEGER NOT NULL,
        node INTEGER NOT NULL,
        ballot INTEGER NOT NULL,
        PRIMARY KEY (run, step, proposal, node)
    )""",
    """CREATE TABLE checkpointfile (
        run INTEGER NOT NULL,
        step INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        sha256 VARCHAR NOT NULL,
        n_bytes INTEGER NOT NULL,
        PRIMARY KEY (run, step),
        FOREIGN KEY(run) REFERENCES run (id)
    )""",
    """CREATE TABLE experimentrun (
        experiment VARCHAR NOT NULL,
        run INTEGER NOT NULL,
        point INTEGER NOT NULL,
        replicate INTEGER NOT NULL,
        horizon INTEGER NOT NULL,
        mlflow_run_id VARCHAR,
        published BOOLEAN NOT NULL,
        PRIMARY KEY (experiment, run),
        FOREIGN KEY(experiment) REFERENCES experiment (name),
        FOREIGN KEY(run) REFERENCES run (id)
    )""",
    "CREATE INDEX ix_experimentrun_run ON experimentrun (run)",
    """CREATE TABLE summary (
        run INTEGER NOT NULL,
        horizon INTEGER NOT NULL,
        head VARCHAR NOT NULL,
        metrics JSON NOT NULL,
        PRIMARY KEY (run, horizon),
        FOREIGN KEY(run) REFERENCES run (id)
    )""",
)


def upgrade() -> None:
    """Make the tables, as SQLite had them."""
    for statement in STATEMENTS:
        op.execute(statement)
