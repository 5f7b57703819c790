"""The model of docs/odd.md as plain Mesa agents: slow, per node, written for reading.

What it shares with `sim_core` is the input: configuration, random numbers by purpose and counter,
flows, and the detectors that are not written out in `tests.oracle.detectors`.
"""

from __future__ import annotations

from typing import Any

import mesa
import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.detectors import COMMON_NODES
from sim_core.ledger.blocks import Entries
from sim_core.randomness import Streams
from sim_core.traffic import make_traffic
from tests.oracle import records
from tests.oracle.agents import LIARS, Node
from tests.oracle.consensus import CONFIRMED, PENDING, Ballots, draw_seats
from tests.oracle.detectors import DetectorFactory
from tests.oracle.network import DISSEMINATIONS, Dissemination, Graph, Lattice
from tests.oracle.signatures import Proposal, Signature, Ties

CENTRE_NODES = 1_024
"""Nodes whose warm-up the centre starts from at most."""


class Centre:
    """The detector that sees the flows of all nodes that are up, node after node."""

    def __init__(self, model: OracleModel, factory: DetectorFactory, warmup: Any) -> None:
        """Start from the warm-up of all."""
        self.model = model
        flows = np.concatenate(list(warmup[:CENTRE_NODES]))
        self.detector = factory.make(0, flows)
        self.threshold = factory.threshold(self.detector, flows)
        self.scores: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def look(self) -> None:
        """Score the flows of this step."""
        self.sending = [node for node in self.model.nodes if node.up]
        self.scores = np.zeros(0, dtype=np.float32)
        if self.sending:
            self.scores = self.detector.score(np.concatenate([n.x for n in self.sending]))

    def scores_of(self, node: Node) -> NDArray[np.float32]:
        """Return the scores of the flows of a node that is up."""
        place = self.sending.index(node) * len(node.x)
        return self.scores[place : place + len(node.x)]

    def learn(self) -> None:
        """Follow all flows, and learn those that were not flagged, as one batch."""
        if not self.sending:
            return
        alarmed = any(node.strange.any() for node in self.sending)
        self.detector.advance(np.concatenate([n.x for n in self.sending]), alarmed=alarmed)
        ordinary = np.concatenate([n.x[~n.flagged] for n in self.sending])
        if self.model.config.detector.learn and len(ordinary):
            self.detector.learn(ordinary)


class OracleModel(mesa.Model):  # type: ignore[misc]  # mesa 3.3 ships without types
    """A network of nodes, step by step as docs/odd.md says."""

    def __init__(self, config: ModelConfig, seed: int = 0, replicate: int = 0) -> None:
        """Start before step 0."""
        super().__init__(seed=seed)
        self.config, self.streams = config, Streams(seed, replicate)
        self.intervention = config.intervention
        self.rule_before, self.liars_before = "", set[int]()
        self.traffic = make_traffic(config, self.streams)
        self.targets, self.references = self.traffic.targets, self.traffic.references()
        self.campaigns: Any = getattr(config.traffic, "campaigns", ())
        self.ties, self.time = Ties(), 0
        self.nodes = self._make_nodes()
        self._make_detectors()
        spatial = config.topology.kind == "lattice"
        self.topology: Graph | Lattice = Lattice(self) if spatial else Graph(self)
        self.dissemination: Dissemination = DISSEMINATIONS[config.dissemination.kind](self)
        self.travelling: list[Proposal] = []
        self.next_number = 0
        self.decided_now: list[Proposal] = []
        self.infections = self.spared = 0
        self._infect_first()
        self.entries: dict[str, Entries] = {}
        self.rows: list[Any] = []
        self.scores: list[records.Scores] = []
        self.ranking = records.Ranking([])
        self.first_times: list[dict[str, int]] = [{} for _ in self.targets]

    def step(self) -> None:
        """Run the ten phases."""
        everyone = self.agents
        if self.time == self.intervention.step:
            self._intervene()
        self._draw_flows()
        everyone.do("observe")
        if self.centre is not None:
            self.centre.look()
        everyone.do("detect")
        everyone.do("learn")
        if self.centre is not None:
            self.centre.learn()
        everyone.do("propose")
        published, supported = self._take_drafts()
        self.dissemination.begin()
        everyone.do("send")
        everyone.do("receive")
        everyone.do("vote")
        self._decide()
        everyone.do("respond")
        self.travelling = [p for p in self.travelling if self.dissemination.travels_on(p)]
        everyone.do("walk")
        self.infections = self.spared = 0
        everyone.do("catch")
        everyone.do("churn")
        self._record(published, supported)
        self.time += 1

    @property
    def pending(self) -> list[Proposal]:
        """Undecided proposals, by number."""
        return [p for p in self.travelling if p.outcome == PENDING]

    def neighbours(self, node: Node) -> list[Node]:
        """Return the neighbours of a node, by number."""
        return self.topology.around(node)

    def known_signatures(self) -> list[Proposal]:
        """Return confirmed signatures that somebody holds or that still travel."""
        held = {p for node in self.nodes for p in node.blacklist}
        return list(held | {p for p in self.travelling if p.outcome == 1})

    def immune_shares(self) -> list[float]:
        """Return the share of honest nodes that are immune against each target, 0 of nobody."""
        honest = [node for node in self.nodes if not node.is_liar]
        return [
            records.mean([node.is_immune(t) for node in honest]) if honest else 0.0
            for t in range(len(self.targets))
        ]

    @property
    def has_exact_scores(self) -> bool:
        """Whether scores are those of the vectorised model to the last bit."""
        return self.nodes[0].detector.is_exact

    def close(self) -> None:
        """Let go of the model: Mesa's counter of agent numbers would keep it alive."""
        mesa.Agent._ids.pop(self, None)

    def _make_nodes(self) -> list[Node]:
        liars = self._draw_liars()
        return [
            self._kind_of_liars()(self, i, is_liar=True)
            if i in liars
            else Node(self, i, is_liar=False)
            for i in range(self.config.simulation.nodes)
        ]

    def _draw_liars(self) -> set[int]:
        n, settings = self.config.simulation.nodes, self.config.adversary
        if settings.kind == "none":
            return set()
        count = round(settings.share * n) if settings.count is None else settings.count
        place = self.streams.uniforms("adversary", n)[:, 0]
        return {int(i) for i in np.argsort(place, kind="stable")[:count]}

    def _kind_of_liars(self) -> type[Node]:
        trusted = self.config.dissemination.kind == "centralised"
        return Node if trusted else LIARS[self.config.adversary.kind]

    def _intervene(self) -> None:
        """Let another policy hold: everybody keeps what it knows, and some begin or cease to lie."""
        before, change = self.config, self.intervention
        self.rule_before = before.consensus.kind
        self.liars_before = {node.number for node in self.nodes if node.is_liar}
        replaced = {
            name: section
            for name in ("consensus", "adversary", "voting", "signature")
            if (section := getattr(change, name)) is not None
        }
        self.config = before.model_copy(update=replaced)
        liars = self._draw_liars()
        for node in self.nodes:
            node.is_liar = node.number in liars
            node.__class__ = self._kind_of_liars() if node.is_liar else Node
            if self.config.adversary.kind != before.adversary.kind:
                node.is_awake = False
        for known in self.known_signatures():
            self._compare_with_references(known)

    def _make_detectors(self) -> None:
        warmup = self.traffic.warmup()
        if len(warmup) == 1:
            warmup = np.repeat(warmup, len(self.nodes), axis=0)
        factory = DetectorFactory(self.config, self.streams, warmup[:COMMON_NODES])
        self.centre: Centre | None = None
        if self.config.dissemination.kind == "centralised":
            self.centre = Centre(self, factory, warmup)
        for node, flows in zip(self.nodes, warmup, strict=True):
            if self.centre is not None:
                node.detector, node.threshold = self.centre.detector, self.centre.threshold
            else:
                node.detector = factory.make(node.number, flows)
                node.threshold = factory.threshold(node.detector, flows)

    def _infect_first(self) -> None:
        place = self.streams.words("worm", len(self.nodes), len(self.campaigns) or 1)
        for c, worm in enumerate(self.campaigns):
            if worm.spread == "worm":
                order = np.argsort(place[:, c], kind="stable")
                for i in order[: worm.first_infected]:
                    self.nodes[i].infected[c] = worm.start

    def _draw_flows(self) -> None:
        """Phase 1: let the source draw the flows of all nodes."""
        infected = np.array(
            [[n.is_infectious(c) for n in self.nodes] for c in range(len(self.campaigns))],
            dtype=np.bool_,
        ).reshape(-1, len(self.nodes))
        self.flows = self.traffic.draw(self.time, infected=infected)
        for node in self.nodes:
            node.was_up = node.up

    def _take_drafts(self) -> tuple[list[Proposal], list[tuple[Proposal, Node]]]:
        """Phase 4: publish drafts in the order of activation, or count them as supports."""
        published: list[Proposal] = []
        supported: list[tuple[Proposal, Node]] = []
        known = self.known_signatures() + self.pending
        for node in self._in_order():
            if node.draft is None:
                continue
            rivals = known + published
            if not self.dissemination.is_shared:
                rivals = [p for p in rivals if p.proposer is node]
            same = [p for p in rivals if self._lies_within(node.draft, p)]
            if same:
                supported.append((min(same, key=lambda p: p.number), node))
            else:
                published.append(self._publish(node, node.draft))
        self.travelling += published
        return published, supported

    def _in_order(self) -> list[Node]:
        if self.config.simulation.activation == "random":
            place = self.streams.uniforms("activation", len(self.nodes), step=self.time)[:, 0]
            return [self.nodes[i] for i in np.argsort(place, kind="stable")]
        if self.config.simulation.activation == "priority":
            return sorted(self.nodes, key=lambda node: -node.reputation)
        return self.nodes

    def _lies_within(self, draft: Signature, existing: Proposal) -> bool:
        distance = existing.signature.distance(draft.centroid)
        return bool(self.ties.within(distance, self.config.signature.match_radius))

    def _publish(self, node: Node, signature: Signature) -> Proposal:
        proposal = Proposal(
            number=self.next_number,
            step=self.time,
            proposer=node,
            signature=signature,
            seats=draw_seats(self, self.next_number, node),
        )
        self.next_number += 1
        node.pending = proposal
        self.dissemination.publish(proposal)
        return proposal

    def _decide(self) -> None:
        """Phase 7: apply the consensus rule."""
        self.decided_now = []
        for proposal in self.pending:
            is_due = self.time - proposal.step >= self.config.consensus.vote_deadline
            outcome = Ballots(self.config.consensus, proposal).decide(is_due=is_due)
            if outcome != PENDING:
                proposal.outcome, proposal.decided = outcome, self.time
                proposal.proposer.pending = None
                if outcome == CONFIRMED:
                    self._compare_with_references(proposal)
                self.decided_now.append(proposal)

    def _compare_with_references(self, proposal: Proposal) -> None:
        radius = self.config.signature.match_radius
        distances = map(proposal.signature.distance, self.references)
        proposal.covers = [self.ties.within(d, radius) for d in distances]

    def _record(self, published: list[Proposal], supported: list[tuple[Proposal, Node]]) -> None:
        """Phase 10: write the step down."""
        self.entries = {
            "alert": records.alerts(self),
            "proposal": records.proposals(self, published),
            "support": records.supports(self, supported),
            "vote": records.votes(self),
            "decision": records.decisions(self),
        }
        records.note_first_times(self)
        step_scores = records.counted_scores(self)
        if self.time >= self.config.metrics.from_step:
            self.scores.append(step_scores)
        wanted = self.time % self.config.metrics.auroc_every == 0
        self.ranking = records.Ranking([step_scores] if wanted else [])
        self.entries["metrics"] = records.metrics(self, self.entries)
        self.rows.append(self.entries["metrics"][0])
