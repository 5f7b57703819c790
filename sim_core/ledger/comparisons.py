"""What must equal something that is recomputed: ballots, outcomes, summary, hashes.

These are the checks that SQL cannot say; each puts what is stored in one run beside what it should
be. A new one is one more entry of COMPARISONS; its name is its identity in reports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, select, text

from sim_core.adversaries import Ballot, choose_liars, joined_nodes
from sim_core.config import ModelConfig
from sim_core.consensus import Outcome, Tally, decide, draw_voters, vote_weights
from sim_core.ledger.blocks import KEPT, METRIC_COUNTS, unpack_ballots
from sim_core.ledger.checks import LARGEST
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import ENTRY_TABLES
from sim_core.ledger.verify import stored_config, streamed, verify_run
from sim_core.metrics import derived_ratios, ratio
from sim_core.phases import move_reputations, tally_ballots
from sim_core.randomness import Streams

DECISIONS_AT_ONCE = 256
DECISION, PROPOSAL, VOTE = (ENTRY_TABLES[kind] for kind in ("decision", "proposal", "vote"))
SUMMED = {
    "true_confirmations": "true_confirmations",
    "false_confirmations": "false_confirmations",
    "rejections": "rejected",
    "expirations": "expired",
    "messages_sent": "messages_sent",
    "messages_lost": "messages_lost",
    "bytes_sent": "bytes_sent",
    "missed": "honest_fn",
    "benign_blocked": "benign_blocked",
}
"""Metrics of the summary that are the sum of a column over steps."""
_WITHIN = "CASE WHEN {name} BETWEEN {smallest} AND {largest} THEN {name} END"
_SUMS = ", ".join(
    f"coalesce(sum({_WITHIN.format(name=name, smallest=-LARGEST, largest=LARGEST)}), 0)"
    for name in METRIC_COUNTS
)
SUMS = text(f"SELECT {_SUMS} FROM metrics WHERE run = :run AND step >= :first AND step < :horizon")  # noqa: S608 - columns of the schema
"""The sums of a run's metrics; what is out of range, and more than a sum can hold, is left out."""

Run = Mapping[str, Any]
"""A row of `Ledger.runs_of`."""
Counts = NDArray[np.int64]


class Compared(NamedTuple):
    """One place where something stored is beside what it should be."""

    at: str
    expected: str
    found: str


@dataclass(frozen=True)
class Comparison:
    """A rule, as what it expects of a run and what the run has."""

    name: str
    places: Callable[[Ledger, Run], Iterator[Compared]]

    def of_run(self, ledger: Ledger, run: Run) -> list[Compared]:
        """Return all places of a run, or the one reason why its rows cannot be read."""
        try:
            return list(self.places(ledger, run))
        except (ValueError, TypeError, OverflowError, KeyError) as error:
            return [Compared("its rows", "values of the documented types", repr(error))]


@dataclass(frozen=True)
class Decisions:
    """Some decisions of a run with their proposals; arrays `[n]`."""

    ballots: NDArray[np.uint8]
    """A `Ballot` per seat, as packed; in whole bytes, so more than seats `[n, >= n_voters]`."""
    step: Counts
    proposal: Counts
    outcome: Counts
    accept: Counts
    reject: Counts
    abstain: Counts
    registered: Counts
    published: Counts
    """Step of the proposal."""
    proposer: Counts

    def places(self) -> list[str]:
        """Return what identifies each decision."""
        return [f"step {s}, proposal {p}" for s, p in zip(self.step, self.proposal, strict=True)]

    def tallies(self) -> list[str]:
        """Return the stored tallies as text."""
        return _tallies(self.accept, self.reject, self.abstain)

    def heads(self) -> Tally:
        """Return the stored tallies, those who did not vote being outstanding."""
        outstanding = self.registered - self.accept - self.reject - self.abstain
        return Tally(self.accept, self.reject, self.registered, outstanding)


Judge = Callable[[Connection, Run, Decisions], tuple[list[str], list[str]]]
"""Returns what is expected and what is found, per decision."""


def by_decision(judge: Judge) -> Callable[[Ledger, Run], Iterator[Compared]]:
    """Return the places of a comparison that judges each decision."""

    def places(ledger: Ledger, run: Run) -> Iterator[Compared]:
        with ledger.reading() as connection:
            for part in read_decisions(connection, run):
                yield from map(Compared, part.places(), *judge(connection, run, part))

    return places


def read_decisions(connection: Connection, run: Run) -> Iterator[Decisions]:
    """Yield the decisions on published proposals in order, in parts that bound memory.

    Raises:
        ValueError: a value is not a whole number, the ballots do not have 2 bits a seat, or a
            proposer is no node.
    """
    number, published, proposer = read_proposals(connection, run)
    names = ("step", "proposal", "outcome", "accept", "reject", "abstain", "registered", "ballots")
    decisions = (
        select(*(DECISION.c[name] for name in names))
        .where(DECISION.c.run == run["id"], DECISION.c.step < run["horizon"])
        .order_by(DECISION.c.run, DECISION.c.step, DECISION.c.proposal)
    )
    width = -(-stored_config(run).n_voters // 4)
    deadline = run["config"]["consensus"]["vote_deadline"]
    with streamed(connection, decisions, DECISIONS_AT_ONCE) as found:
        for rows in found.partitions():
            *numbers, blobs = zip(*rows, strict=True)
            if any(len(blob) != width for blob in blobs):
                raise ValueError(f"ballots have {sorted(map(len, blobs))} bytes, expected {width}")
            packed = np.frombuffer(b"".join(blobs), dtype=np.uint8)
            columns = [np.array(column, dtype=np.int64) for column in numbers]
            step, proposal = columns[:2]
            place = np.minimum(np.searchsorted(number, proposal), len(number) - 1)
            waited = step - published[place]
            known = (number[place] == proposal) & (waited >= 0) & (waited <= deadline)
            if known.any():
                yield Decisions(
                    unpack_ballots(packed.reshape(len(rows), width), 4 * width)[known],
                    *(column[known] for column in (*columns, published[place], proposer[place])),
                )


def read_proposals(connection: Connection, run: Run) -> tuple[Counts, Counts, Counts]:
    """Return number, step and proposer of each published proposal, by number `[n >= 1]`.

    Raises:
        ValueError: a value is not a whole number, or a proposer is no node.
    """
    proposals = select(PROPOSAL.c.proposal, PROPOSAL.c.step, PROPOSAL.c.proposer).where(
        PROPOSAL.c.run == run["id"], PROPOSAL.c.step < run["horizon"]
    )
    found = np.vstack([[(-1, -1, 0)], _numbers(connection, proposals)])  # -1 is no proposal
    if found[:, 2].min() < 0 or found[:, 2].max() >= run["n_nodes"]:
        raise ValueError("a proposer is none of the nodes")  # compiled code would not notice
    number, published, proposer = found[np.argsort(found[:, 0], kind="stable")].T
    return number, published, proposer


def _numbers(connection: Connection, statement: Select[tuple[Any, Any, Any]]) -> Counts:
    """Return the rows of three whole numbers that a statement selects `[n, 3]`."""
    with streamed(connection, statement) as rows:
        return np.fromiter(chain.from_iterable(rows), dtype=np.int64).reshape(-1, 3)


def tallies(connection: Connection, run: Run, part: Decisions) -> tuple[list[str], list[str]]:
    """Return what the packed ballots count and what is stored as counted."""
    del connection, run
    kinds = (Ballot.ACCEPT, Ballot.REJECT, Ballot.ABSTAIN)
    return _tallies(*((part.ballots == kind).sum(axis=1) for kind in kinds)), part.tallies()


def _tallies(*counts: Counts) -> list[str]:
    return ["{} accept, {} reject, {} abstain".format(*row) for row in zip(*counts, strict=True)]


def electorates(connection: Connection, run: Run, part: Decisions) -> tuple[list[str], list[str]]:
    """Return who had a seat by lot or right, and who was registered or voted without one."""
    del connection
    voters = seats(run, part)
    outside = part.ballots.copy()
    outside[:, : voters.shape[1]][voters >= 0] = Ballot.NONE
    found = zip(part.registered, (outside != Ballot.NONE).sum(axis=1), strict=True)
    return (
        [f"{n} registered, 0 votes in empty seats" for n in (voters >= 0).sum(axis=1)],
        [f"{n} registered, {k} votes in empty seats" for n, k in found],
    )


def seats(run: Run, part: Decisions) -> NDArray[np.int32]:
    """Return the voters of each decision's proposal, drawn again `[n, n_voters]`."""
    config, streams = stored_config(run), Streams(run["seed"], run["replicate"])
    liars = choose_liars(config, streams)
    voters = np.empty((len(part.step), config.n_voters), dtype=np.int32)
    late = part.published >= getattr(config.adversary, "join_step", 0)
    for rows in (np.flatnonzero(late), np.flatnonzero(~late)):
        if rows.size:
            joined = joined_nodes(config, liars, int(part.published[rows[0]]))
            voters[rows] = draw_voters(
                config, streams, part.proposal[rows], part.proposer[rows], joined
            )
    return voters


def outcomes(ledger: Ledger, run: Run) -> Iterator[Compared]:
    """Yield what the consensus rule makes of each decision's ballots, and what is stored."""
    with ledger.reading() as connection:
        for part, decided in _judged(connection, run, stored_config(run)):
            tallied = part.tallies()
            for row, (place, outcome) in enumerate(zip(part.places(), decided, strict=True)):
                votes = f" by {tallied[row]} of {part.registered[row]}"
                yield Compared(
                    place, _outcome(outcome) + votes, _outcome(part.outcome[row]) + votes
                )


def _judged(
    connection: Connection, run: Run, config: ModelConfig
) -> Iterator[tuple[Decisions, NDArray[np.uint8]]]:
    """Yield decisions with the outcomes that the rule gives; where votes weigh, replay reputations.

    All decisions of a step fall before any reputation moves, also where they are in two parts.
    """
    reputation = np.ones((run["n_nodes"], 2), dtype=np.float64)
    weight, weighed = vote_weights(reputation), -1
    for part in read_decisions(connection, run):
        heads = part.heads()
        due = part.step - part.published >= config.consensus.vote_deadline
        if config.consensus.kind != "weighted":
            yield part, decide(config.consensus, heads, heads, due)
            continue
        voters = seats(run, part)
        ballots = np.ascontiguousarray(part.ballots[:, : voters.shape[1]])
        decided = np.empty(len(part.step), dtype=np.uint8)
        for rows in _together(part.step):
            if part.step[rows[0]] != weighed:
                weight, weighed = vote_weights(reputation), int(part.step[rows[0]])
            weights = tally_ballots(ballots[rows], voters[rows], weight)
            decided[rows] = decide(config.consensus, heads.take(rows), weights, due[rows])
            move_reputations(reputation, rows, part.outcome, part.proposer, voters, ballots)
        yield part, decided


def _together(step: Counts) -> list[Counts]:
    """Return the rows of each step."""
    return np.split(np.arange(len(step)), np.flatnonzero(np.diff(step)) + 1)


def _outcome(number: int) -> str:
    return Outcome(number).name.lower() if number in set(Outcome) else f"outcome {number}"


def votes(connection: Connection, run: Run, part: Decisions) -> tuple[list[str], list[str]]:
    """Return the ballots of kept votes and the packed ones, each at the first that differs."""
    voted = part.ballots
    if "vote" in KEPT[run["detail"]]:
        voted = _ballots_of_votes(connection, run, part)
    seat = (voted != part.ballots).argmax(axis=1)
    row = np.arange(len(seat))

    def told(ballots: NDArray[np.uint8]) -> list[str]:
        return [f"ballot {b} in seat {k}" for b, k in zip(ballots[row, seat], seat, strict=True)]

    return told(voted), told(part.ballots)


def _ballots_of_votes(connection: Connection, run: Run, part: Decisions) -> NDArray[np.uint8]:
    kept = select(VOTE.c.proposal, VOTE.c.node, VOTE.c.ballot).where(
        VOTE.c.run == run["id"],
        VOTE.c.step.between(int(part.published.min()), int(part.step.max())),
    )
    found = _numbers(connection, kept)
    voters = seats(run, part).astype(np.int64)
    row, seat = np.nonzero(voters >= 0)
    place = part.proposal[row] * run["n_nodes"] + voters[row, seat]
    wanted = found[:, 0] * run["n_nodes"] + found[:, 1]
    order = np.argsort(place, kind="stable")
    position = order[np.minimum(np.searchsorted(place[order], wanted), len(order) - 1)]
    seated = place[position] == wanted
    ballots = np.zeros_like(part.ballots)
    ballots[row[position[seated]], seat[position[seated]]] = found[seated, 2]
    return ballots


def summary(ledger: Ledger, run: Run) -> Iterator[Compared]:
    """Yield the metrics that follow from the steps' counts, and those of the stored summary."""
    first = run["config"]["metrics"]["from_step"]
    values = {"run": run["id"], "first": first, "horizon": run["horizon"]}
    with ledger.reading() as connection:
        found = connection.execute(SUMS, values).one()
    counts = {name: int(count) for name, count in zip(METRIC_COUNTS, found, strict=True)}
    expected = derived_ratios(counts) | {name: float(counts[c]) for name, c in SUMMED.items()}
    n_decided = counts["confirmed"] + counts["rejected"] + counts["expired"]
    expected["decision_steps"] = ratio(float(counts["decision_steps"]), n_decided)
    for name, value in expected.items():
        stored = run["summary"].get(name, "missing")
        yield Compared(f"summary {name}", json.dumps(value), json.dumps(stored))


def hashes(ledger: Ledger, run: Run) -> Iterator[Compared]:
    """Yield whether every digest and hash recomputes."""
    broken = verify_run(ledger, run)
    at = "whole run" if broken is None else f"step {broken.step}"
    yield Compared(at, "recomputes", "recomputes" if broken is None else broken.message)


COMPARISONS = (
    Comparison("ballots give the tallies", by_decision(tallies)),
    Comparison("votes of registered nodes only", by_decision(electorates)),
    Comparison("outcomes follow the consensus rule", outcomes),
    Comparison("vote entries are the ballots", by_decision(votes)),
    Comparison("the summary follows from the steps", summary),
    Comparison("the chain recomputes", hashes),
)
