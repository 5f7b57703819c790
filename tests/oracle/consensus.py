"""Who may vote, and what votes make of a proposal: rules applied to each of its possible futures."""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.oracle.agents import ACCEPT, REJECT, Node
from tests.oracle.chance import pick, words
from tests.oracle.signatures import Proposal

if TYPE_CHECKING:
    from tests.oracle.model import OracleModel

PENDING, CONFIRMED, REJECTED, EXPIRED = range(4)


def draw_seats(model: OracleModel, number: int, proposer: Node) -> list[Node]:
    """Return the voters of a proposal: its proposer, all who have joined, or a committee of them."""
    config = model.config
    if config.dissemination.kind in ("none", "centralised"):
        return [proposer]
    joined = [node for node in model.nodes if node.has_joined(model.time)]
    n_nodes = len(model.nodes)
    size = config.consensus.committee or (100 if n_nodes > 1_000 else n_nodes)
    if len(joined) <= size:
        return joined
    seated: set[Node] = set()
    for call in count():
        word = words(model.streams, "committee", 0, number, count=4 * call + 1)[-1]
        node = model.nodes[pick(word, n_nodes)]
        if node in joined:
            seated.add(node)
        if len(seated) == size:
            break
    return sorted(seated, key=lambda node: node.number)


def at_least(share: float, n: int) -> int:
    """Return the smallest whole number that is at least this share of n.

    >>> at_least(0.55, 20), at_least(2 / 3, 10)
    (11, 7)
    """
    return math.ceil(share * n - 1e-9)  # 0.55 * 20 is a little more than 11


class Ballots:
    """Ballots on a proposal, and what would become of it if more came."""

    def __init__(self, config: Any, proposal: Proposal) -> None:
        """Count heads, and weights where the rule is of weights."""
        self.config = config
        self.seats = proposal.seats
        self.accepting = [n for n, b in proposal.ballots.items() if b == ACCEPT]
        self.rejecting = [n for n, b in proposal.ballots.items() if b == REJECT]
        self.outstanding = [n for n in proposal.seats if n not in proposal.ballots]

    def weight(self, nodes: list[Node]) -> int:
        """Return what the votes of these nodes count."""
        if self.config.kind != "weighted":
            return len(nodes)
        return sum(65536 * n.agreed // (n.agreed + n.differed) for n in nodes)

    def outcome(self, more_accepting: list[Node], more_rejecting: list[Node]) -> int:
        """Return what the proposal would become if these voted, and nobody else."""
        accepting = self.accepting + more_accepting
        voting = accepting + self.rejecting + more_rejecting
        if len(voting) < at_least(self.config.min_turnout, len(self.seats)):
            return EXPIRED
        return CONFIRMED if self.holds(accepting, voting) else REJECTED

    def holds(self, accepting: list[Node], voting: list[Node]) -> bool:
        """Return whether the rule is met."""
        config, n, accept = self.config, len(self.seats), self.weight(accepting)
        if config.kind == "bft":
            f = (n - 1) // 3
            return accept >= (n + f) // 2 + 1
        base = self.weight(self.seats if config.base == "all" else voting)
        if config.kind == "supermajority":
            return accept >= at_least(config.share, base) and accept > 0
        return 2 * accept > base

    def decide(self, *, is_due: bool) -> int:
        """Return the outcome, PENDING where those who have not voted can still change it."""
        as_is = self.outcome([], [])
        if is_due:
            return as_is
        futures = {as_is, self.outcome(self.outstanding, []), self.outcome([], self.outstanding)}
        return as_is if len(futures) == 1 else PENDING
