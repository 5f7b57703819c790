"""What must equal something that is recomputed: ballots, outcomes, summary, hashes.

These are the checks that SQL cannot say; each puts what is stored in one run beside what it should
be. A new one is one more entry of COMPARISONS; its name is its identity in reports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from sim_core.adversaries import Ballot
from sim_core.consensus import Outcome, Tally, decide, vote_weights
from sim_core.ledger.blocks import KEPT, METRIC_COUNTS
from sim_core.ledger.checks import LARGEST
from sim_core.ledger.decisions import (
    Counts,
    Decisions,
    Reading,
    Run,
    ballots_of_votes,
    read_decisions,
    told_tallies,
)
from sim_core.ledger.store import Ledger
from sim_core.ledger.verify import verify_run
from sim_core.metrics import derived_ratios, ratio
from sim_core.phases import move_reputations, tally_ballots

DECISIONS_AT_ONCE = 256
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

UNREADABLE = (ValueError, TypeError, OverflowError, KeyError)


class Compared(NamedTuple):
    """One place where something stored is beside what it should be."""

    at: str
    expected: str
    found: str


Judge = Callable[[Decisions], tuple[list[str], list[str]]]
"""Returns what is expected and what is found, per decision."""


@dataclass(frozen=True)
class OfDecisions:
    """A rule for each decision; all such rules of a run share one reading of its decisions."""

    name: str
    judge: Callable[[Reading], Judge]
    """Begins a run, whose decisions are then given in order."""


@dataclass(frozen=True)
class OfRun:
    """A rule, as what it expects of a run and what the run has."""

    name: str
    places: Callable[[Ledger, Run], Iterator[Compared]]


@dataclass
class _Places:
    """Where what one comparison has of a run differs, or the one reason why rows cannot be read."""

    found: list[Compared] = field(default_factory=list)
    judge: Judge | None = None

    def add(self, places: Iterable[Compared]) -> None:
        self.found.extend(place for place in places if place.expected != place.found)

    def give_up(self, error: Exception) -> None:
        self.judge = None
        self.found = [Compared("its rows", "values of the documented types", repr(error))]


def compare_run(ledger: Ledger, run: Run) -> list[tuple[str, list[Compared]]]:
    """Return, by the name of each of COMPARISONS, where what is stored is not what it should be.

    Where a run's rows cannot be read, the reason is the one such place.

    Args:
        ledger: The ledger.
        run: A row of `Ledger.runs_of`.
    """
    found = {comparison.name: _Places() for comparison in COMPARISONS}
    judging = [c for c in COMPARISONS if isinstance(c, OfDecisions)]
    _judge_decisions(ledger, run, [(c, found[c.name]) for c in judging])
    for comparison in COMPARISONS:
        if isinstance(comparison, OfRun):
            try:
                found[comparison.name].add(comparison.places(ledger, run))
            except UNREADABLE as error:
                found[comparison.name].give_up(error)
    return [(name, places.found) for name, places in found.items()]


def _judge_decisions(
    ledger: Ledger, run: Run, judging: Iterable[tuple[OfDecisions, _Places]]
) -> None:
    """Give a run's decisions to all judges; one that cannot read them leaves the others alone."""
    try:
        with ledger.reading() as connection:
            reading = Reading(connection, run)
            for comparison, places in judging:
                try:
                    places.judge = comparison.judge(reading)
                except UNREADABLE as error:
                    places.give_up(error)
            for part in read_decisions(reading, DECISIONS_AT_ONCE):
                for _, places in judging:
                    _judge_part(part, places)
    except UNREADABLE as error:
        for _, places in judging:
            if places.judge is not None:
                places.give_up(error)


def _judge_part(part: Decisions, places: _Places) -> None:
    if places.judge is not None:
        try:
            places.add(map(Compared, part.places, *places.judge(part)))
        except UNREADABLE as error:
            places.give_up(error)


def each_by_itself(judge: Judge) -> Callable[[Reading], Judge]:
    """Return the beginning of a comparison that needs to know nothing of earlier decisions."""
    return lambda _: judge


def tallies(part: Decisions) -> tuple[list[str], list[str]]:
    """Return what the packed ballots count and what is stored as counted."""
    kinds = (Ballot.ACCEPT, Ballot.REJECT, Ballot.ABSTAIN)
    return told_tallies(*((part.ballots == kind).sum(axis=1) for kind in kinds)), part.tallies


def electorates(part: Decisions) -> tuple[list[str], list[str]]:
    """Return who had a seat by lot or right, and who was registered or voted without one."""
    voters = part.seats
    outside = part.ballots.copy()
    outside[:, : voters.shape[1]][voters >= 0] = Ballot.NONE
    found = zip(part.registered, (outside != Ballot.NONE).sum(axis=1), strict=True)
    return (
        [f"{n} registered, 0 votes in empty seats" for n in (voters >= 0).sum(axis=1)],
        [f"{n} registered, {k} votes in empty seats" for n, k in found],
    )


def outcomes(reading: Reading) -> Judge:
    """Return the judge of outcomes: what the consensus rule makes of ballots, and what is stored.

    The rule is that of the decision's step. Where votes weigh, it replays reputations. All decisions of
    a step fall before any reputation moves, also where they are in two parts.
    """
    policies = reading.policies
    weighing = any(config.consensus.kind == "weighted" for _, config in policies)
    reputation = np.ones((reading.run["n_nodes"], 2), dtype=np.float64)
    weight, weighed = vote_weights(reputation), -1

    def weights_of(part: Decisions) -> Tally:
        """Return the votes weighed by the reputations before each step, and let those move."""
        nonlocal weight, weighed
        voters = part.seats
        ballots = np.ascontiguousarray(part.ballots[:, : voters.shape[1]])
        found = []
        for rows in _together(part.step):
            if part.step[rows[0]] != weighed:
                weight, weighed = vote_weights(reputation), int(part.step[rows[0]])
            found.append(tally_ballots(ballots[rows], voters[rows], weight))
            move_reputations(reputation, rows, part.outcome, part.proposer, voters, ballots)
        return Tally.join(found)

    def decided(part: Decisions) -> NDArray[np.uint8]:
        heads = part.heads()
        weights = weights_of(part) if weighing else heads
        found = np.empty(len(part.step), dtype=np.uint8)
        for first, config in policies:  # a later one replaces what the one before made of its steps
            rows = np.flatnonzero(part.step >= first)
            due = part.step[rows] - part.published[rows] >= config.consensus.vote_deadline
            by = weights if config.consensus.kind == "weighted" else heads
            found[rows] = decide(config.consensus, heads.take(rows), by.take(rows), due)
        return found

    def judge(part: Decisions) -> tuple[list[str], list[str]]:
        by = [f" by {t} of {n}" for t, n in zip(part.tallies, part.registered, strict=True)]
        return _told(decided(part), by), _told(part.outcome, by)

    return judge


def _together(step: Counts) -> list[Counts]:
    """Return the rows of each step."""
    return np.split(np.arange(len(step)), np.flatnonzero(np.diff(step)) + 1)


OUTCOMES = {int(outcome): outcome.name.lower() for outcome in Outcome}


def _told(outcome: NDArray[np.uint8] | Counts, by: list[str]) -> list[str]:
    names = (OUTCOMES.get(number, f"outcome {number}") for number in outcome.tolist())
    return [name + votes for name, votes in zip(names, by, strict=True)]


def votes(part: Decisions) -> tuple[list[str], list[str]]:
    """Return the ballots of kept votes and the packed ones, each at the first that differs."""
    voted = part.ballots
    if "vote" in KEPT[part.reading.run["detail"]]:
        voted = ballots_of_votes(part)
    seat = (voted != part.ballots).argmax(axis=1)
    row = np.arange(len(seat))

    def told(ballots: NDArray[np.uint8]) -> list[str]:
        return [f"ballot {b} in seat {k}" for b, k in zip(ballots[row, seat], seat, strict=True)]

    return told(voted), told(part.ballots)


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


Comparison = OfDecisions | OfRun
COMPARISONS: tuple[Comparison, ...] = (
    OfDecisions("ballots give the tallies", each_by_itself(tallies)),
    OfDecisions("votes of registered nodes only", each_by_itself(electorates)),
    OfDecisions("outcomes follow the consensus rule", outcomes),
    OfDecisions("vote entries are the ballots", each_by_itself(votes)),
    OfRun("the summary follows from the steps", summary),
    OfRun("the chain recomputes", hashes),
)
