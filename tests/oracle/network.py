"""Who is whose neighbour, and the ways in which proposals and decisions travel, node by node."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
from mesa.discrete_space import OrthogonalMooreGrid

from sim_core.network import make_topology
from tests.oracle.agents import Node
from tests.oracle.chance import pick, words
from tests.oracle.signatures import Proposal

if TYPE_CHECKING:
    from tests.oracle.model import OracleModel


class Graph:
    """Neighbours that stay the same: a NetworkX graph, nobody's for the complete one."""

    def __init__(self, model: OracleModel) -> None:
        """Make the graph; those that are random are the model's."""
        n = len(model.nodes)
        topology: Any = model.config.topology
        self.kind: str = topology.kind
        self.graph: Any = nx.Graph()
        self.graph.add_nodes_from(range(n))
        if topology.kind == "ring":
            for i in range(n):
                for k in range(1, topology.neighbours // 2 + 1):
                    self.graph.add_edge(i, (i + k) % n)
        elif topology.kind == "edge_list":
            for line in Path(topology.path).read_text().splitlines():
                self.graph.add_edge(*map(int, line.split()))
        elif topology.kind != "complete":
            rows: Any = make_topology(model.config, model.streams).neighbours({})
            for i in range(n):
                for j in rows.indices[rows.indptr[i] : rows.indptr[i + 1]]:
                    self.graph.add_edge(i, int(j))
        self.graph.remove_edges_from(list(nx.selfloop_edges(self.graph)))

    def around(self, node: Node) -> list[Node]:
        """Return the neighbours of a node."""
        nodes = node.model.nodes
        if self.kind == "complete":
            return [other for other in nodes if other is not node]
        return [nodes[j] for j in sorted(self.graph[node.number])]


class Lattice:
    """Cells of a torus; neighbours are in the same cell or the eight around it."""

    kind = "lattice"

    def __init__(self, model: OracleModel) -> None:
        """Put nodes on a grid of Mesa, row by row."""
        n, topology = len(model.nodes), model.config.topology
        columns = getattr(topology, "width", None) or math.ceil(math.sqrt(n))
        size = (math.ceil(n / columns), columns)
        self.grid = OrthogonalMooreGrid(size, torus=True, random=model.random)
        for node in model.nodes:
            node.cell = self.grid[divmod(node.number, columns)]

    def around(self, node: Node) -> list[Node]:
        """Return the neighbours of a node."""
        near = {*node.cell.agents, *node.cell.neighborhood.agents} - {node}
        return sorted(near, key=lambda other: other.number)


@dataclass
class Message:
    """What one call hands over; it may be cut into several messages."""

    arrives: int
    proposals: set[Proposal]
    decisions: set[Proposal]
    n_messages: int


class Dissemination:
    """Counts messages; each kind says what nodes send, and whose signatures they know."""

    is_shared = True

    def __init__(self, model: OracleModel) -> None:
        """Start with nothing sent."""
        self.model = model
        self.config: Any = model.config.dissemination

    def begin(self) -> None:
        """Note what travels in this step, and set counts to zero."""
        model = self.model
        self.pending = {p for p in model.pending if p.step < model.time}
        self.decided = {
            p for p in model.travelling if p.decided is not None and p.decided < model.time
        }
        self.sent = self.delivered = self.lost = 0
        self.proposal_copies = self.decision_copies = 0
        self.stale = 0

    def publish(self, proposal: Proposal) -> None:
        """Let the proposer hold its proposal."""
        proposal.proposer.held.add(proposal)

    def send(self, node: Node) -> None:
        """Put into inboxes what a node hands over."""

    def receive(self, node: Node) -> list[Proposal]:
        """Take in what a node learns; return confirmed proposals that it learned of, by number."""
        raise NotImplementedError

    def take_in(self, node: Node, decisions: set[Proposal]) -> list[Proposal]:
        """Return the confirmed ones of the decisions that a node did not know, by number."""
        new = decisions - node.informed
        node.informed |= new
        return sorted((p for p in new if p.outcome == 1), key=lambda p: p.number)

    def travels_on(self, proposal: Proposal) -> bool:
        """Return whether a proposal, or its decision, goes on travelling after this step."""
        if proposal.decided is None:
            return True
        ignorant = [n for n in self.audience(proposal) if proposal not in n.informed]
        return bool(ignorant) and self.model.time - proposal.decided < self.config.lifetime

    def audience(self, proposal: Proposal) -> list[Node]:
        """Return those whom its decision is to reach."""
        del proposal
        return [n for n in self.model.nodes if n.has_joined(self.model.time)]

    @property
    def in_flight(self) -> int:
        """Messages that are under way."""
        return sum(m.n_messages for node in self.model.nodes for m in node.inbox)


class Ledger(Dissemination):
    """Every node that is up reads all that it does not know yet."""

    def receive(self, node: Node) -> list[Proposal]:
        """Read the ledger, a message an item."""
        if not node.up:
            return []
        proposals, decisions = self.pending - node.held, self.decided - node.informed
        self.proposal_copies += len(proposals)
        self.decision_copies += len(decisions)
        self.sent += len(proposals) + len(decisions)
        self.delivered += len(proposals) + len(decisions)
        node.held |= proposals
        return self.take_in(node, decisions)


class Isolated(Dissemination):
    """Proposers learn of decisions on their own proposals; nothing is sent."""

    is_shared = False

    def receive(self, node: Node) -> list[Proposal]:
        """Learn what was decided in earlier steps."""
        own = {p for p in self.decided if p.proposer is node}
        return self.take_in(node, own) if node.up else []

    def audience(self, proposal: Proposal) -> list[Node]:
        """Return the proposer."""
        return [proposal.proposer]


class Centralised(Dissemination):
    """Nodes send their traffic to a centre, and read what it has decided."""

    def receive(self, node: Node) -> list[Proposal]:
        """Send traffic, a message; read decisions, a message each."""
        if not node.up:
            return []
        decisions = self.decided - node.informed
        self.decision_copies += len(decisions)
        self.sent += 1 + len(decisions)
        self.delivered += 1 + len(decisions)
        return self.take_in(node, decisions)


class Calls(Dissemination):
    """Nodes call neighbours; what a call hands over arrives `latency` steps later."""

    def messages(self, n_items: int) -> int:
        """Return how many messages carry so many items."""
        batch: int = self.config.batch
        return math.ceil(n_items / batch)

    def is_lost(self, word: int) -> bool:
        """Return whether a random word says that a call is lost."""
        loss: float = self.config.loss
        return word < round(loss * 2**32)

    def hand_over(
        self, receiver: Node, proposals: set[Proposal], decisions: set[Proposal], n_messages: int
    ) -> None:
        """Put a message into an inbox."""
        arrives = self.model.time + self.config.latency
        receiver.inbox.append(Message(arrives, proposals, decisions, n_messages))

    def pay(self, proposals: set[Proposal], decisions: set[Proposal], n_messages: int) -> None:
        """Count messages that are sent, and what they carry."""
        self.sent += n_messages
        self.proposal_copies += len(proposals)
        self.decision_copies += len(decisions)

    def receive(self, node: Node) -> list[Proposal]:
        """Open what has arrived; hear from the ledger what became of own proposals."""
        due = [m for m in node.inbox if m.arrives == self.model.time]
        node.inbox = [m for m in node.inbox if m.arrives != self.model.time]
        if not node.up:
            self.lost += sum(m.n_messages for m in due)
            return []
        proposals, decisions = set[Proposal](), set[Proposal]()
        for message in due:
            self.delivered += message.n_messages
            proposals |= message.proposals
            decisions |= message.decisions
        own = {p for p in self.decided if p.proposer is node} - node.informed
        self.pay(set(), own, len(own))
        self.delivered += len(own)
        self.stale += any(p.outcome == 1 for p in decisions - self.decided - node.informed)
        decisions = (decisions | own) & self.decided  # what has stopped travelling is forgotten
        proposals &= self.pending
        self.note_news(node, proposals - node.held, decisions - node.informed)
        node.held |= proposals
        return self.take_in(node, decisions)

    def note_news(self, node: Node, proposals: set[Proposal], decisions: set[Proposal]) -> None:
        """Keep in mind what is new to a node."""


class Gossip(Calls):
    """Nodes call `fanout` random neighbours."""

    pushes = pulls = False

    def send(self, node: Node) -> None:
        """Call neighbours: push what one has, pull what one lacks, or both."""
        model = self.model
        proposals = node.held & self.pending if self.pushes else set()
        decisions = node.informed & self.decided if self.pushes else set()
        if not node.up or not (self.pulls or proposals or decisions):
            return
        callees = model.neighbours(node)
        if model.topology.kind == "complete":
            callees = [other for other in callees if other.has_joined(model.time)]
        if not callees:
            return
        count = 2 * self.config.fanout
        drawn = words(model.streams, "dissemination", node.number, model.time, count=count)
        for whom, lost in zip(drawn[::2], drawn[1::2], strict=True):
            self.call(node, callees[pick(whom, len(callees))], proposals, decisions, lost)

    def call(
        self,
        node: Node,
        callee: Node,
        proposals: set[Proposal],
        decisions: set[Proposal],
        lost: int,
    ) -> None:
        """Make one call; without anything to push it is a request, one message."""
        n_messages = max(1, self.messages(len(proposals) + len(decisions)))
        self.pay(proposals, decisions, n_messages)
        if not callee.up or self.is_lost(lost):
            self.lost += n_messages
            return
        if self.pushes:
            self.hand_over(callee, proposals, decisions, n_messages)
        else:
            self.delivered += n_messages
        if self.pulls:
            lacking = (callee.held & self.pending) - node.held
            unknown = (callee.informed & self.decided) - node.informed
            if lacking or unknown:
                n_answers = self.messages(len(lacking) + len(unknown))
                self.pay(lacking, unknown, n_answers)
                self.hand_over(node, lacking, unknown, n_answers)


class Push(Gossip):
    """Hands over all one has."""

    pushes = True


class Pull(Gossip):
    """Is handed what one lacks."""

    pulls = True


class PushPull(Gossip):
    """Both."""

    pushes = pulls = True


class Flood(Calls):
    """What a node has learned it sends to all neighbours, once."""

    def publish(self, proposal: Proposal) -> None:
        """Let the proposer hold its proposal, and send it in the next step."""
        super().publish(proposal)
        proposal.proposer.fresh.add(proposal)

    def send(self, node: Node) -> None:
        """Send what is fresh and travels to all neighbours."""
        if not node.up:
            return
        proposals = node.fresh & node.held & self.pending
        decisions = node.fresh & node.informed & self.decided
        node.fresh -= proposals | decisions
        n_messages = self.messages(len(proposals) + len(decisions))
        if n_messages == 0:
            return
        for other in self.model.neighbours(node):
            if self.model.topology.kind == "complete" and not other.has_joined(self.model.time):
                continue
            self.pay(proposals, decisions, n_messages)
            word = words(
                self.model.streams,
                "dissemination",
                node.number,
                self.model.time,
                item=other.number,
            )[0]
            if not other.up or self.is_lost(word):
                self.lost += n_messages
            else:
                self.hand_over(other, proposals, decisions, n_messages)

    def note_news(self, node: Node, proposals: set[Proposal], decisions: set[Proposal]) -> None:
        """Send what is new to a node in the next step."""
        node.fresh |= proposals | decisions


DISSEMINATIONS: dict[str, type[Dissemination]] = {
    "ledger": Ledger,
    "push": Push,
    "pull": Pull,
    "push_pull": PushPull,
    "flood": Flood,
    "none": Isolated,
    "centralised": Centralised,
}
