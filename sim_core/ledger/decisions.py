"""A run's decisions with their proposals, as the ledger has them: what most comparisons judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, bindparam, select

from sim_core.adversaries import choose_liars, joined_nodes
from sim_core.config import ModelConfig
from sim_core.consensus import Tally, draw_voters
from sim_core.ledger.blocks import unpack_ballots
from sim_core.ledger.tables import ENTRY_TABLES
from sim_core.ledger.verify import stored_config, streamed
from sim_core.randomness import Streams

DECISION, PROPOSAL, VOTE = (ENTRY_TABLES[kind] for kind in ("decision", "proposal", "vote"))
_COLUMNS = ("step", "proposal", "outcome", "accept", "reject", "abstain", "registered", "ballots")
_DECISIONS = (
    select(*(DECISION.c[name] for name in _COLUMNS))
    .where(DECISION.c.run == bindparam("id"), DECISION.c.step < bindparam("horizon"))
    .order_by(DECISION.c.run, DECISION.c.step, DECISION.c.proposal)
)
_PROPOSALS = select(PROPOSAL.c.proposal, PROPOSAL.c.step, PROPOSAL.c.proposer).where(
    PROPOSAL.c.run == bindparam("id"), PROPOSAL.c.step < bindparam("horizon")
)
_VOTES = select(VOTE.c.proposal, VOTE.c.node, VOTE.c.ballot).where(
    VOTE.c.run == bindparam("id"), VOTE.c.step.between(bindparam("first"), bindparam("last"))
)

Run = Mapping[str, Any]
"""A row of `Ledger.runs_of`."""
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """One run, whose rows are read in one transaction."""

    connection: Connection
    run: Run

    @cached_property
    def config(self) -> ModelConfig:
        """The run's configuration, as stored."""
        return stored_config(self.run)

    @cached_property
    def policies(self) -> list[tuple[int, ModelConfig]]:
        """The first step of each configuration that holds, with it, in order."""
        starts = {0, self.config.intervention.step or 0}
        return [(step, self.config.at_step(step)) for step in sorted(starts)]

    def last_steps(self, published: Counts) -> Counts:
        """Return in which steps proposals are decided at the latest, as `checks.last_step` does."""
        last: Counts = published + self.policies[0][1].consensus.vote_deadline
        for first, config in self.policies[1:]:
            later = np.maximum(first, published + config.consensus.vote_deadline)
            last = np.where(last < first, last, later)
        return last

    @cached_property
    def streams(self) -> Streams:
        """The run's random numbers."""
        return Streams(self.run["seed"], self.run["replicate"])

    @cached_property
    def liars(self) -> NDArray[np.bool_]:
        """Which nodes lie `[n_nodes]`."""
        return choose_liars(self.config, self.streams)


@dataclass(frozen=True)
class Decisions:
    """Some decisions of a run with their proposals; arrays `[n]`."""

    reading: Reading
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

    @cached_property
    def places(self) -> list[str]:
        """What identifies each decision."""
        return [f"step {s}, proposal {p}" for s, p in zip(self.step, self.proposal, strict=True)]

    @cached_property
    def tallies(self) -> list[str]:
        """The stored tallies as text."""
        return told_tallies(self.accept, self.reject, self.abstain)

    def heads(self) -> Tally:
        """Return the stored tallies, those who did not vote being outstanding."""
        outstanding = self.registered - self.accept - self.reject - self.abstain
        return Tally(self.accept, self.reject, self.registered, outstanding)

    @cached_property
    def seats(self) -> NDArray[np.int32]:
        """The voters of each decision's proposal, drawn again `[n, n_voters]`."""
        config = self.reading.config
        voters = np.empty((len(self.step), config.n_voters), dtype=np.int32)
        late = self.published >= getattr(config.adversary, "join_step", 0)
        for rows in (np.flatnonzero(late), np.flatnonzero(~late)):
            if rows.size:
                first = int(self.published[rows[0]])
                joined = joined_nodes(config, self.reading.liars, first)
                voters[rows] = draw_voters(
                    config, self.reading.streams, self.proposal[rows], self.proposer[rows], joined
                )
        return voters


def told_tallies(*counts: Counts) -> list[str]:
    """Return who accepted, rejected and abstained, as text.

    >>> told_tallies(np.array([3]), np.array([1]), np.array([0]))
    ['3 accept, 1 reject, 0 abstain']
    """
    return ["{} accept, {} reject, {} abstain".format(*row) for row in zip(*counts, strict=True)]


def read_decisions(reading: Reading, n_rows: int) -> Iterator[Decisions]:
    """Yield the decisions on published proposals in order, in parts of so many rows at most.

    Raises:
        ValueError: a value is not a whole number, the ballots do not have 2 bits a seat, or a
            proposer is no node.
    """
    run = reading.run
    number, published, proposer = read_proposals(reading)
    width = -(-reading.config.n_voters // 4)
    last = reading.last_steps(published)
    values = {"id": run["id"], "horizon": run["horizon"]}
    with streamed(reading.connection, _DECISIONS, n_rows, values) as found:
        for rows in found.partitions():
            *numbers, blobs = zip(*rows, strict=True)
            if any(len(blob) != width for blob in blobs):
                raise ValueError(f"ballots have {sorted(map(len, blobs))} bytes, expected {width}")
            packed = np.frombuffer(b"".join(blobs), dtype=np.uint8)
            columns = [np.array(column, dtype=np.int64) for column in numbers]
            step, proposal = columns[:2]
            place = np.minimum(np.searchsorted(number, proposal), len(number) - 1)
            known = (number[place] == proposal) & (step >= published[place]) & (step <= last[place])
            if known.any():
                yield Decisions(
                    reading,
                    unpack_ballots(packed.reshape(len(rows), width), 4 * width)[known],
                    *(column[known] for column in (*columns, published[place], proposer[place])),
                )


def read_proposals(reading: Reading) -> tuple[Counts, Counts, Counts]:
    """Return number, step and proposer of each published proposal, by number `[n >= 1]`.

    Raises:
        ValueError: a value is not a whole number, or a proposer is no node.
    """
    run = reading.run
    values = {"id": run["id"], "horizon": run["horizon"]}
    stored = _numbers(reading.connection, _PROPOSALS, values)
    found = np.vstack([[(-1, -1, 0)], stored])  # -1 is no proposal
    if found[:, 2].min() < 0 or found[:, 2].max() >= run["n_nodes"]:
        raise ValueError("a proposer is none of the nodes")  # compiled code would not notice
    number, published, proposer = found[np.argsort(found[:, 0], kind="stable")].T
    return number, published, proposer


def ballots_of_votes(part: Decisions) -> NDArray[np.uint8]:
    """Return the ballots of the kept votes, as `Decisions.ballots` has the packed ones.

    Raises:
        ValueError: a value is not a whole number.
    """
    n_nodes, voters = part.reading.run["n_nodes"], part.seats.astype(np.int64)
    first, last = int(part.published.min()), int(part.step.max())
    values = {"id": part.reading.run["id"], "first": first, "last": last}
    found = _numbers(part.reading.connection, _VOTES, values)
    row, seat = np.nonzero(voters >= 0)
    place = part.proposal[row] * n_nodes + voters[row, seat]
    wanted = found[:, 0] * n_nodes + found[:, 1]
    order = np.argsort(place, kind="stable")
    position = order[np.minimum(np.searchsorted(place[order], wanted), len(order) - 1)]
    seated = place[position] == wanted
    ballots = np.zeros_like(part.ballots)
    ballots[row[position[seated]], seat[position[seated]]] = found[seated, 2]
    return ballots


def _numbers(
    connection: Connection, statement: Select[tuple[Any, Any, Any]], values: Mapping[str, Any]
) -> Counts:
    """Return the rows of three whole numbers that a statement selects `[n, 3]`."""
    with streamed(connection, statement, values=values) as rows:
        return np.fromiter(chain.from_iterable(rows), dtype=np.int64).reshape(-1, 3)
