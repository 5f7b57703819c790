"""Nodes as Mesa agents: a method for each phase of a step, and the liars that override some."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from mesa.discrete_space import CellAgent
from numpy.typing import NDArray

from tests.oracle.chance import pick, uniform, words
from tests.oracle.detectors import Detector, calibrate
from tests.oracle.signatures import Flows, Mask, Proposal, Signature

if TYPE_CHECKING:
    from tests.oracle.model import OracleModel
    from tests.oracle.network import Message

NONE, ACCEPT, REJECT, ABSTAIN = range(4)
RECENT_FLOWS = 32
ENOUGH_REFERENCES = 58


class Node(CellAgent):  # type: ignore[misc]  # mesa 3.3 ships without types
    """An honest node."""

    model: OracleModel
    detector: Detector
    threshold: np.float32
    is_awake = False
    """Whether it has turned; only sleepers do."""

    def __init__(self, model: OracleModel, number: int, *, is_liar: bool) -> None:
        """Start with nothing but a detector and a threshold."""
        super().__init__(model)
        self.number = number
        self.is_liar = is_liar
        self.up = self.has_joined(0)
        self.recent: deque[Flows] = deque(maxlen=RECENT_FLOWS)
        self.blacklist: deque[Proposal] = deque(maxlen=model.config.response.blacklist_capacity)
        self.agreed = self.differed = 1
        self.ready_step = 0
        self.pending: Proposal | None = None
        self.infected: dict[int, int] = {}
        self.first_alarm: int | None = None
        self.inbox: list[Message] = []
        self.held: set[Proposal] = set()
        self.informed: set[Proposal] = set()
        self.fresh: set[Proposal] = set()
        self.learned: list[Proposal] = []
        self.draft: Signature | None = None
        self.support: list[int] = []
        self.cast: dict[Proposal, int] = {}

    @property
    def reputation(self) -> float:
        """Mean of the Beta distribution."""
        return self.agreed / (self.agreed + self.differed)

    @property
    def lies(self) -> bool:
        """Whether it breaks the protocol by now."""
        return False

    def has_joined(self, step: int) -> bool:
        """Return whether it is in the network at all: sybils join late."""
        settings: Any = self.model.config.adversary
        return not (self.is_liar and settings.kind == "sybil" and step < settings.join_step)

    def is_infectious(self, campaign: int) -> bool:
        """Return whether it carries a worm in this step."""
        worm, step = self.model.campaigns[campaign], self.model.time
        since = self.infected.get(campaign)
        if since is None or step < since or step >= worm.start + worm.duration:
            return False
        return worm.infectious_steps is None or step < since + worm.infectious_steps

    # Phases, in the order of a step.

    def observe(self) -> None:
        """Phase 1: see the flows of this step."""
        flows = self.model.flows
        self.x, self.y, self.origin = (
            part[self.number] for part in (flows.x, flows.y, flows.origin)
        )

    def detect(self) -> None:
        """Phase 2: score flows; flag what is above the threshold, or matches a held signature."""
        ties, radius = self.model.ties, self.model.config.signature.match_radius
        self.matched: Mask = np.zeros(len(self.x), dtype=np.bool_)
        self.flagged = self.matched.copy()
        self.strange = self.matched.copy()
        if not self.up:
            return
        self.score = self.own_scores()
        self.limit = self.limit_of_step()
        for known in self.blacklist:
            self.matched |= ties.within(known.signature.distance(self.x), radius)
        self.strange = ties.above(self.score, self.limit)
        self.flagged = self.strange | self.matched
        if self.flagged.any() and self.first_alarm is None:
            self.first_alarm = self.model.time

    def own_scores(self) -> NDArray[np.float32]:
        """Return the score of each flow."""
        centre = self.model.centre
        return self.detector.score(self.x) if centre is None else centre.scores_of(self)

    def limit_of_step(self) -> np.float32:
        """Return the threshold that holds in this step."""
        settings = self.model.config.detector.threshold
        if settings.mode != "quantile":
            return self.threshold
        pooled = self.score if self.model.centre is None else self.model.centre.scores
        return calibrate(pooled, settings.share)

    def learn(self) -> None:
        """Phase 3: follow flows, learn those that were not flagged, and remember the last 32."""
        if not self.up:
            return
        ordinary = self.x[~self.flagged]
        if self.model.centre is None:
            self.detector.advance(self.x, alarmed=bool(self.strange.any()))
            if self.model.config.detector.learn and len(ordinary):
                self.detector.learn(ordinary)
        self.recent.extend(ordinary)

    def propose(self) -> None:
        """Phase 4: draft a signature over what is flagged and not explained."""
        self.draft, step = None, self.model.time
        if not self.up or self.pending is not None or step < self.ready_step:
            return
        settings = self.model.config.signature
        support = self.supporting_flows()
        if len(support) < settings.min_support:
            return
        excess = 1 - self.limit.astype(float) / np.maximum(self.score[support].astype(float), 1e-30)
        self.draft = Signature.of(
            self.x[support],
            self.y[support],
            self.model.traffic.protocols[self.origin[support]],
            excess,
            settings.min_scale,
        )
        self.ready_step = step + max(1, settings.cooldown_steps)

    def supporting_flows(self) -> list[int]:
        """Return the flows that a signature is made of."""
        return [int(b) for b in np.flatnonzero(self.flagged & ~self.matched)]

    def send(self) -> None:
        """Phase 5: hand over what it had at the beginning of the phase."""
        self.model.dissemination.send(self)

    def receive(self) -> None:
        """Phase 5: take in what has arrived."""
        self.learned = self.model.dissemination.receive(self)

    def vote(self) -> None:
        """Phase 6: vote once on each undecided proposal that it holds and has a seat for."""
        self.cast = {}
        if not self.up:
            return
        for proposal in self.model.pending:
            if proposal in self.held and self in proposal.seats and self not in proposal.ballots:
                ballot = self.ballot(proposal)
                if ballot != NONE:
                    self.cast[proposal] = proposal.ballots[self] = ballot

    def ballot(self, proposal: Proposal) -> int:
        """Return its vote."""
        return self.opinion(proposal)

    def opinion(self, proposal: Proposal) -> int:
        """Return what an honest node thinks of a signature."""
        settings, signature = self.model.config.voting, proposal.signature
        if settings.mode == "competence":
            is_right = self.luck("votes", proposal) < settings.competence
            return ACCEPT if signature.is_true == is_right else REJECT
        ties, radius = self.model.ties, self.model.config.signature.match_radius
        if len(self.recent) < settings.min_history:
            return ABSTAIN
        covered = near = 0
        if self.recent:
            distance = signature.distance(np.array(self.recent))
            covered = int(ties.within(distance, radius).sum())
            near = int(ties.within(distance, settings.unseen_radius).sum())
        if settings.unseen == "abstain" and near < settings.unseen_neighbours:
            return ABSTAIN
        score = self.detector.score(signature.centroid[None])
        is_strange = ties.above(score, self.threshold)[0]
        is_rare = covered <= settings.max_benign_coverage * len(self.recent)
        return ACCEPT if is_strange and is_rare else REJECT

    def luck(self, purpose: Any, proposal: Proposal) -> float:
        """Return the number in [0, 1) that belongs to this node and proposal."""
        return uniform(self.model.streams, purpose, self.number, proposal.number + 1)

    def respond(self) -> None:
        """Phase 8: block what was learned, and gain or lose reputation by what was decided."""
        self.blacklist.extend(self.learned)
        for proposal in self.learned:
            if proposal in self.blacklist and self.model.centre is None:
                self.detector.forget(proposal, self.model.config.signature.match_radius)
        for proposal in self.model.decided_now:
            right = {1: ACCEPT, 2: REJECT}.get(proposal.outcome)
            if right is None:
                continue
            if proposal.ballots.get(self) in (ACCEPT, REJECT):
                self.judge(agrees=proposal.ballots[self] == right)
            if proposal.proposer is self:
                self.judge(agrees=right == ACCEPT)

    def judge(self, *, agrees: bool) -> None:
        """Raise one of the two counts of the reputation."""
        self.agreed += agrees
        self.differed += not agrees

    def walk(self) -> None:
        """Phase 9: go to a cell around, perhaps."""
        rate = getattr(self.model.config.topology, "walk_rate", 0)
        if rate == 0 or not self.up:
            return
        whether, where = words(self.model.streams, "walk", self.number, self.model.time, count=2)
        if whether * 2.0**-32 < rate:
            around = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
            self.move_relative(around[pick(where, 8)])

    def catch(self) -> None:
        """Phase 9: be infected by neighbours, perhaps."""
        model, step = self.model, self.model.time
        for campaign, worm in enumerate(model.campaigns):
            if worm.spread != "worm" or not self.up or campaign in self.infected:
                continue
            threats = [n for n in model.neighbours(self) if n.up and n.is_infectious(campaign)]
            escapes = (1 - worm.transmission) ** len(threats)
            if uniform(model.streams, "worm", self.number, step + 1, item=campaign) < 1.0 - escapes:
                if self.is_immune(campaign):
                    model.spared += 1
                else:
                    self.infected[campaign] = step + 1
                    model.infections += 1

    def is_immune(self, target: int) -> bool:
        """Return whether the blacklist matches enough reference flows of a target."""
        covered = [known.covers[target] for known in self.blacklist]
        return bool(covered) and int(np.any(covered, axis=0).sum()) >= ENOUGH_REFERENCES

    def churn(self) -> None:
        """Phase 9: crash, come back, or join."""
        settings, step = self.model.config.churn, self.model.time
        if settings.crash_rate > 0 and self.has_joined(step):
            u = uniform(self.model.streams, "churn", self.number, step)
            self.up = u >= settings.crash_rate if self.up else u < settings.recovery_rate
        if self.has_joined(step + 1) and not self.has_joined(step):
            self.up = True


class Liar(Node):
    """A node that breaks the protocol; it forms an honest opinion first."""

    @property
    def lies(self) -> bool:
        """Whether it breaks the protocol by now."""
        return True


class Silent(Liar):
    """Never proposes, never votes."""

    def supporting_flows(self) -> list[int]:
        """Return none."""
        return []

    def ballot(self, proposal: Proposal) -> int:
        """Return none."""
        del proposal
        return NONE


class RandomVoter(Liar):
    """Votes by lot."""

    def ballot(self, proposal: Proposal) -> int:
        """Return accept with a probability."""
        settings: Any = self.model.config.adversary
        return ACCEPT if self.luck("adversary", proposal) < settings.accept_probability else REJECT


class Flipper(Liar):
    """Votes the opposite of its opinion."""

    def ballot(self, proposal: Proposal) -> int:
        """Return the opposite of accept or reject."""
        opinion = self.opinion(proposal)
        return {ACCEPT: REJECT, REJECT: ACCEPT}.get(opinion, opinion)


class Poisoner(Liar):
    """Proposes signatures over its own ordinary flows."""

    def supporting_flows(self) -> list[int]:
        """Return the most ordinary of the unflagged flows."""
        ordinary = np.flatnonzero(~self.flagged)
        wanted = 2 * self.model.config.signature.min_support
        lowest = self.model.ties.lowest(self.score[ordinary], wanted)
        return sorted(int(ordinary[place]) for place in lowest)

    def ballot(self, proposal: Proposal) -> int:
        """Return accept for its own, else its opinion."""
        return ACCEPT if proposal.proposer is self else self.opinion(proposal)


class Colluder(Poisoner):
    """Accepts what liars propose, rejects all else; sybils are these, and join late."""

    def ballot(self, proposal: Proposal) -> int:
        """Return accept for liars, reject for others."""
        return ACCEPT if proposal.proposer.lies else REJECT


class Sleeper(Colluder):
    """Honest until its reputation is high, then a colluder for good."""

    @property
    def lies(self) -> bool:
        """Whether it has turned."""
        return self.is_awake

    def supporting_flows(self) -> list[int]:
        """Return what it would, depending on whether it has turned."""
        return super().supporting_flows() if self.is_awake else Node.supporting_flows(self)

    def ballot(self, proposal: Proposal) -> int:
        """Return what it would, depending on whether it has turned."""
        return super().ballot(proposal) if self.is_awake else self.opinion(proposal)

    def respond(self) -> None:
        """Turn once its reputation is high."""
        super().respond()
        settings: Any = self.model.config.adversary
        self.is_awake |= self.reputation >= settings.wake_reputation


LIARS: dict[str, type[Node]] = {
    "silent": Silent,
    "random_voter": RandomVoter,
    "flipper": Flipper,
    "poisoner": Poisoner,
    "colluder": Colluder,
    "sleeper": Sleeper,
    "sybil": Colluder,
}
