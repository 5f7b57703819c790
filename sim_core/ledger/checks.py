# ruff: noqa: S608 - the queries are put together from the schema's own names
"""What the rows of finished runs must satisfy, as queries for the rows that do not.

Each query looks at all runs of `{batch}` at once, and at the steps before the horizon up to which
the experiment uses them. A new check is one more entry of QUERIES; its name is its identity in
reports. What SQL cannot say is in `comparisons`.

The queries are in the SQL that SQLite and PostgreSQL share: subqueries in FROM have names, conditions
are no numbers, and whatever is added up is NUMERIC, where no stored value overflows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim_core.adversaries.strategies import Ballot
from sim_core.consensus.rules import Outcome
from sim_core.ledger.blocks import KEPT, KINDS, METRIC_COUNTS, METRIC_VALUES
from sim_core.ledger.tables import ENTRY_TABLES


@dataclass(frozen=True)
class Query:
    """A rule, as the query for what breaks it."""

    name: str
    broken: str
    """Selects `run`, `step` and `detail` (the evidence) of each place that breaks the rule."""

    @property
    def by_run(self) -> str:
        """The query for one row per broken run: `run_id`, `places` and the first one's `detail`."""
        return f"""
            SELECT r.run_id, b.places, b.detail FROM {{batch}} AS r JOIN (
                SELECT run, detail, count(*) OVER (PARTITION BY run) AS places,
                    row_number() OVER (PARTITION BY run ORDER BY step, detail) AS place
                FROM ({self.broken}) AS broken
            ) AS b ON b.run = r.run AND b.place = 1"""


def batch_query(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the query for `{batch}`.

    Args:
        runs: Rows of `Ledger.runs_of`, one at least. Only numbers of them become part of the query.

    >>> config = {"simulation": {"flows_per_node": 16}, "consensus": {"vote_deadline": None}}
    >>> run = {"id": 7, "horizon": 30, "config": config}
    >>> "(VALUES (7, 30, 16, NULL, NULL, NULL)) AS used" in batch_query([run])
    True
    """
    rows = ", ".join(
        f"({run['id']:d}, {run['horizon']:d}, {_setting(run, 'simulation', 'flows_per_node')}, "
        f"{_setting(run, 'consensus', 'vote_deadline')}, {_setting(run, 'intervention', 'step')}, "
        f"{_setting(run, 'intervention', 'consensus', 'vote_deadline')})"
        for run in runs
    )
    return f"""
        SELECT run.id AS run, run.run_key AS run_id, run.detail,
            CAST(run.n_nodes AS NUMERIC) AS n_nodes, CAST(used.column2 AS BIGINT) AS horizon,
            CAST(used.column3 AS NUMERIC) AS flows_per_node,
            CAST(used.column4 AS NUMERIC) AS vote_deadline,
            CAST(used.column5 AS NUMERIC) AS intervention,
            coalesce(CAST(used.column6 AS NUMERIC), CAST(used.column4 AS NUMERIC)) AS later_deadline
        FROM (VALUES {rows}) AS used JOIN run ON run.id = used.column1"""


def _setting(run: Mapping[str, Any], *keys: str) -> str:
    """Return a number of a run's configuration as SQL; NULL, where something else is there."""
    value: Any = run["config"]
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return f"{value:d}" if isinstance(value, int) else "NULL"


# --- parts of queries: `r` is a run of the batch, `e` an entry of it ------------------------

LARGEST = 10**15
"""More than any count of a step, and so little that sums over steps stay whole numbers."""
COUNT = f"BETWEEN 0 AND {LARGEST}"
SCORE = "BETWEEN 0 AND 1e300 AND CAST(e.score AS TEXT) NOT IN ('Inf', 'Infinity')"
NODE = "BETWEEN 0 AND r.n_nodes - 1"
FLOW = "BETWEEN 0 AND r.flows_per_node - 1"
ALLOWED: dict[str, dict[str, str]] = {
    "alert": {"node": NODE, "flow": FLOW, "score": SCORE, "matched": "IN (0, 1)"},
    "proposal": {
        "proposal": COUNT,
        "proposer": NODE,
        "n_support": "BETWEEN 1 AND r.flows_per_node",
        "confidence": "BETWEEN 0 AND 1",
        "is_true": "IN (0, 1)",
    },
    "support": {"proposal": COUNT, "node": NODE},
    "vote": {"proposal": COUNT, "node": NODE, "ballot": "IN (1, 2, 3)"},
    "decision": {
        **dict.fromkeys(("proposal", "accept", "reject", "abstain"), COUNT),
        "outcome": "IN (1, 2, 3)",
        "registered": "BETWEEN 1 AND r.n_nodes",
    },
    "metrics": {
        **dict.fromkeys(METRIC_COUNTS, COUNT),
        **dict.fromkeys(METRIC_VALUES, "BETWEEN 0 AND 1"),
        "nodes_up": "BETWEEN 0 AND r.n_nodes",
    },
}
"""The values of each column; NULL, where the schema has it, is an undefined one."""

COUNTED: dict[str, dict[str, str]] = {
    "alert": {"alerts": "e.run IS NOT NULL"},
    "proposal": {"proposals": "e.run IS NOT NULL"},
    "support": {"supports": "e.run IS NOT NULL"},
    "vote": {
        "votes_accept": f"e.ballot = {Ballot.ACCEPT:d}",
        "votes_reject": f"e.ballot = {Ballot.REJECT:d}",
        "votes_abstain": f"e.ballot = {Ballot.ABSTAIN:d}",
    },
    "decision": {
        "confirmed": f"e.outcome = {Outcome.CONFIRMED:d}",
        "rejected": f"e.outcome = {Outcome.REJECTED:d}",
        "expired": f"e.outcome = {Outcome.EXPIRED:d}",
    },
}
"""Which rows of a step each column of its metrics counts."""


def entries(kind: str) -> str:
    """Return the source of a kind's entries with their runs."""
    return f"{{batch}} AS r JOIN {kind} AS e ON e.run = r.run AND e.step < r.horizon"


def first_steps(kind: str, *columns: str) -> str:
    """Return the source of all proposals, or decided ones, each with its (first) step.

    Grouped, it is made once and looked up by an index; joined plainly, every proposal that waits
    would be looked at for every decision.
    """
    smallest = "".join(f", min(e.{name}) AS {name}" for name in ("step", *columns))
    return f"(SELECT e.run, e.proposal{smallest} FROM {entries(kind)} GROUP BY e.run, e.proposal)"


def last_step(published: str) -> str:
    """Return the expression for the step in which a proposal is decided at the latest.

    From an intervention on its deadline holds, also for proposals that are under way: what is overdue by
    it is decided at once.

    >>> last_step("p.step").split(" WHEN ")[1]
    'r.intervention IS NULL OR p.step + r.vote_deadline < r.intervention THEN p.step + r.vote_deadline'
    """
    return (
        f"CASE WHEN r.intervention IS NULL OR {published} + r.vote_deadline < r.intervention "
        f"THEN {published} + r.vote_deadline WHEN {published} + r.later_deadline > r.intervention "
        f"THEN {published} + r.later_deadline ELSE r.intervention END"
    )


def place(kind: str) -> str:
    """Return the expression that says which entry it is.

    >>> place("decision")
    "'step ' || e.step || ', ' || 'proposal ' || e.proposal"
    """
    keys = [column.name for column in ENTRY_TABLES[kind].primary_key.columns]
    return " || ', ' || ".join(f"'{key} ' || e.{key}" for key in keys if key != "run")


def total(*columns: str) -> str:
    """Return the sum of columns, which cannot overflow.

    >>> total("e.tp", "e.fp")
    '(CAST(e.tp AS NUMERIC) + e.fp)'
    """
    return f"(CAST({columns[0]} AS NUMERIC) + {' + '.join(columns[1:])})"


def is_kept(kind: str) -> str:
    """Return the condition that a run keeps the rows of a kind."""
    return f"r.detail IN ({', '.join(repr(detail) for detail in KEPT if kind in KEPT[detail])})"


# --- queries ------------------------------------------------------------------------------


def gaps(table: str) -> str:
    """Return the query for steps without a row."""
    return f"""
        SELECT run, step + 1 AS step, 'expected steps 0 to ' || (horizon - 1) || ', found none of '
            || (step + 1) || ' to ' || (next - 1) AS detail
        FROM (
            SELECT run, horizon, step,
                lead(step, 1, horizon) OVER (PARTITION BY run ORDER BY step) AS next
            FROM (
                SELECT run, horizon, -1 AS step FROM {{batch}} AS r UNION ALL
                SELECT r.run, r.horizon, e.step FROM {entries(table)} WHERE e.step >= 0
            ) AS made
        ) AS followed WHERE next <> step + 1"""


def uncommitted(kind: str) -> str:
    """Return the query for entries of steps that the run has not made."""
    return f"""
        SELECT e.run, e.step, '{kind} entry of step ' || e.step AS detail
        FROM {{batch}} AS r JOIN {kind} AS e ON e.run = r.run
        WHERE e.step < 0 OR e.step >= (SELECT steps FROM run WHERE id = r.run)"""


def unkept(kind: str) -> str:
    """Return the query for runs with entries that their detail does not keep."""
    return f"""
        SELECT r.run, 0 AS step, '{kind} entries, though detail is ' || r.detail AS detail
        FROM {{batch}} AS r
        WHERE NOT {is_kept(kind)} AND EXISTS (SELECT 1 FROM {kind} AS e WHERE e.run = r.run)"""


def out_of_range(kind: str) -> str:
    """Return the query for entries with a value that cannot be."""
    wrong = {name: f"e.{name} NOT {allowed}" for name, allowed in ALLOWED[kind].items()}
    values = " || ".join(
        f"CASE WHEN {condition} THEN ', {name} is ' || e.{name} ELSE '' END"
        for name, condition in wrong.items()
    )
    return f"""
        SELECT e.run, e.step, {place(kind)} || {values} AS detail
        FROM {entries(kind)} WHERE {" OR ".join(wrong.values())}"""


def repeated(kind: str, *keys: str) -> str:
    """Return the query for entries that share keys which should be theirs alone."""
    columns = ", ".join(f"e.{key}" for key in keys)
    values = " || ', ' || ".join(f"'{key} ' || e.{key}" for key in keys)
    return f"""
        SELECT e.run, min(e.step) AS step,
            {values} || ': expected one row, found ' || count(*) || ' in steps ' || min(e.step)
            || ' to ' || max(e.step) AS detail
        FROM {entries(kind)} GROUP BY e.run, {columns} HAVING count(*) > 1"""


def untimely(kind: str, late: str) -> str:
    """Return the query for entries on proposals `p` that are not there, or not at that time."""
    return f"""
        SELECT e.run, e.step, {place(kind)} || CASE WHEN p.step IS NULL
            THEN ', there is no such proposal'
            ELSE ', published in step ' || p.step || ', due in step ' || ({last_step("p.step")}) END AS detail
        FROM {entries(kind)} LEFT JOIN {first_steps("proposal")} AS p
            ON p.run = e.run AND p.proposal = e.proposal
        WHERE p.step IS NULL OR e.step < p.step OR {late}"""


def miscounted(source: str, counted: Mapping[str, str], condition: str = "TRUE") -> str:
    """Return the query for steps whose metrics differ from the number of entries of a source."""
    found = ", ".join(
        f"m.{name}, count(*) FILTER (WHERE {matching}) AS {name}_found"
        for name, matching in counted.items()
    )
    values = " || ".join(
        f"CASE WHEN {name} <> {name}_found THEN ', {name} is ' || {name} || ', found ' "
        f"|| {name}_found ELSE '' END"
        for name in counted
    )
    return f"""
        SELECT run, step, 'step ' || step || {values} AS detail FROM (
            SELECT m.run, m.step, {found} FROM {{batch}} AS r
            JOIN metrics AS m ON m.run = r.run AND m.step < r.horizon
            LEFT JOIN {source} AS e ON e.run = m.run AND e.step = m.step
            WHERE {condition} GROUP BY m.run, m.step
        ) AS counted WHERE {" OR ".join(f"{name} <> {name}_found" for name in counted)}"""


def metrics_where(wrong: str, values: str) -> str:
    """Return the query for steps whose metrics satisfy a condition, with these values."""
    return f"""
        SELECT e.run, e.step, 'step ' || e.step || ', ' || {values} AS detail
        FROM {entries("metrics")} WHERE {wrong}"""


def sums_where(wrong: str, values: str, **sums: str) -> str:
    """Return the query for steps whose running sums over metrics satisfy a condition.

    Values out of range are another query's; they would be more than a sum can hold.
    """
    running = ", ".join(
        f"sum(CASE WHEN {column} BETWEEN {-LARGEST} AND {LARGEST} THEN {column} END) "
        f"OVER (PARTITION BY e.run ORDER BY e.step) AS {name}"
        for name, column in sums.items()
    )
    return f"""
        SELECT run, step, 'step ' || step || ', ' || {values} AS detail
        FROM (SELECT e.*, {running} FROM {entries("metrics")}) AS summed WHERE {wrong}"""


OVERDUE = f"""
    SELECT e.run, e.step, {place("proposal")} || ', expected a decision up to step '
        || ({last_step("e.step")}) || ', found none' AS detail
    FROM {entries("proposal")} LEFT JOIN {first_steps("decision")} AS d
        ON d.run = e.run AND d.proposal = e.proposal
    WHERE d.step IS NULL AND {last_step("e.step")} < r.horizon"""

VOTES_TOO_LATE = f"""
    SELECT e.run, e.step, {place("vote")} || ', decided in step ' || d.step AS detail
    FROM {entries("vote")} JOIN {first_steps("decision")} AS d
        ON d.run = e.run AND d.proposal = e.proposal
    WHERE e.step > d.step"""

TOO_MANY_VOTES = f"""
    SELECT e.run, e.step, {place("decision")} || ', ' || e.accept || ' accept, ' || e.reject
        || ' reject, ' || e.abstain || ' abstain of ' || e.registered || ' registered' AS detail
    FROM {entries("decision")}
    WHERE {total("e.accept", "e.reject", "e.abstain")} > e.registered"""

CONFIRMATIONS = f"""(
    SELECT e.run, e.step, p.is_true FROM {entries("decision")}
    JOIN {first_steps("proposal", "is_true")} AS p ON p.run = e.run AND p.proposal = e.proposal
        AND e.step BETWEEN p.step AND {last_step("p.step")}
    WHERE e.outcome = {Outcome.CONFIRMED:d})"""

CONFUSION = ("tp", "fp", "tn", "fn")

QUERIES = (
    Query("every step has a block", gaps("block")),
    Query("every step has metrics", gaps("metrics")),
    Query("entries of committed steps only", " UNION ALL ".join(map(uncommitted, KINDS))),
    Query("entries of kept kinds only", " UNION ALL ".join(map(unkept, KINDS))),
    *(Query(f"{kind} values in range", out_of_range(kind)) for kind in KINDS),
    Query("one proposal per number", repeated("proposal", "proposal")),
    Query("one decision per proposal", repeated("decision", "proposal")),
    Query("one vote per node and proposal", repeated("vote", "proposal", "node")),
    Query("supports of published proposals only", untimely("support", "FALSE")),
    *(
        Query(
            f"{kind}s on published proposals, by the deadline",
            untimely(kind, f"e.step > {last_step('p.step')}"),
        )
        for kind in ("vote", "decision")
    ),
    Query("no vote after the decision", VOTES_TOO_LATE),
    Query("a decision by the deadline", OVERDUE),
    Query("no more votes than registered nodes", TOO_MANY_VOTES),
    *(
        Query(f"metrics count the {kind} entries", miscounted(kind, counted, is_kept(kind)))
        for kind, counted in COUNTED.items()
    ),
    Query(
        "metrics count true and false confirmations",
        miscounted(
            CONFIRMATIONS,
            {"true_confirmations": "e.is_true = 1", "false_confirmations": "e.is_true = 0"},
        ),
    ),
    Query(
        "metrics sum the steps to decisions",
        f"""
        SELECT run, step, 'step ' || step || ', decision_steps is ' || decision_steps
            || ', expected ' || found AS detail FROM (
            SELECT m.run, m.step, m.decision_steps, coalesce(sum(e.step - CAST(p.step AS NUMERIC)), 0) AS found
            FROM {{batch}} AS r JOIN metrics AS m ON m.run = r.run AND m.step < r.horizon
            LEFT JOIN decision AS e ON e.run = m.run AND e.step = m.step
            LEFT JOIN {first_steps("proposal")} AS p ON p.run = e.run AND p.proposal = e.proposal
                AND e.step BETWEEN p.step AND {last_step("p.step")}
            GROUP BY m.run, m.step
        ) AS summed WHERE decision_steps <> found""",
    ),
    Query(
        "metrics cover the flows of nodes that are up",
        metrics_where(
            f"{total('e.tp', 'e.fp', 'e.tn', 'e.fn')} <> r.flows_per_node * e.nodes_up",
            f"'tp + fp + tn + fn is ' || {total('e.tp', 'e.fp', 'e.tn', 'e.fn')} || ', expected '"
            " || (r.flows_per_node * e.nodes_up)",
        ),
    ),
    Query(
        "every alarm is an alert",
        metrics_where(
            f"{total('e.tp', 'e.fp')} <> e.alerts",
            f"'tp + fp is ' || {total('e.tp', 'e.fp')} || ', alerts is ' || e.alerts",
        ),
    ),
    Query(
        "honest counts within the counts",
        metrics_where(
            " OR ".join(f"e.honest_{name} > e.{name}" for name in CONFUSION)
            + " OR e.benign_blocked > e.honest_fp",
            " || ', ' || ".join(
                f"'honest_{name} is ' || e.honest_{name} || ' of ' || e.{name}"
                for name in CONFUSION
            )
            + " || ', benign_blocked is ' || e.benign_blocked",
        ),
    ),
    Query(
        "pending proposals add up",
        sums_where(
            "undecided <> pending",
            "'pending is ' || pending || ', expected ' || undecided",
            undecided="CAST(e.proposals AS NUMERIC) - e.confirmed - e.rejected - e.expired",
        ),
    ),
    Query(
        "messages add up",
        sums_where(
            "sent <> arrived + lost + messages_in_flight",
            "sent || ' sent so far, ' || arrived || ' delivered, ' || lost || ' lost, '"
            " || messages_in_flight || ' in flight'",
            sent="e.messages_sent",
            arrived="e.messages_delivered",
            lost="e.messages_lost",
        ),
    ),
)
