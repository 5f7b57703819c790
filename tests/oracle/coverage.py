"""What has occurred in a run of the oracle, in words, so that agreement is known to mean something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sim_core.ledger.blocks import KINDS
from tests.oracle.agents import ABSTAIN
from tests.oracle.settings import ADVERSARIES, DETECTORS, DISSEMINATIONS, RULES, TOPOLOGIES

if TYPE_CHECKING:
    from tests.oracle.model import OracleModel

OUTCOMES = {1: "confirmed", 2: "rejected", 3: "expired"}
EVENTS = (
    "flow matched", "blacklist full", "node down", "node returned", "infection", "immune node", "immunity stops worm", "decision comes too late", "decided without votes",
    "message lost", "message in flight", "committee", "committee without sybils", "abstention",
    "support", "false confirmation", "auroc", "quantile",
    "fixed", "calibrated", "unseen", "random", "priority", "competence",
    "rule changes under way", "node begins to lie", "node lies no more",
)  # fmt: skip
REQUIRED = (
    {f"entry {kind}" for kind in KINDS}
    | {f"{rule} {outcome}" for rule in RULES for outcome in OUTCOMES.values()}
    | {f"{kind} liar acts" for kind in ADVERSARIES if kind != "none"}
    | {f"{kind} brings a signature" for kind in DISSEMINATIONS}
    | {f"{kind} carries" for kind in TOPOLOGIES}
    | {f"{kind} alarms" for kind in DETECTORS}
    | set(EVENTS)
)


def events_of_step(model: OracleModel, was_down: set[int]) -> Iterator[str]:
    """Yield what has occurred in the last step; `was_down` are the nodes down in the one before."""
    config, row = model.config, model.entries["metrics"][0]
    for kind, entries in model.entries.items():
        if len(entries):
            yield f"entry {kind}"
    for proposal in model.decided_now:
        yield f"{config.consensus.kind} {OUTCOMES[proposal.outcome]}"
        is_alone = config.dissemination.kind in ("none", "centralised")
        n_joined = sum(n.has_joined(proposal.step) for n in model.nodes)
        if not is_alone and len(proposal.seats) < n_joined:
            yield "committee"
            if n_joined < len(model.nodes):
                yield "committee without sybils"
        no_votes = set(proposal.ballots.values()) <= {ABSTAIN}
        if no_votes and config.consensus.kind == "supermajority" and proposal.outcome == 2:
            yield "decided without votes"
        for node in proposal.seats:
            if node.is_liar and config.adversary.kind == "silent" and node.up:
                yield "silent liar acts"
    for node in model.nodes:
        if node.lies and (node.cast or node.draft is not None):
            yield f"{config.adversary.kind} liar acts"
        if not node.was_up:
            yield "node down"
        elif node.number in was_down:
            yield "node returned"
        if node.learned and any(p.proposer is not node for p in node.learned):
            yield f"{config.topology.kind} carries"
        if node.learned:
            yield f"{config.dissemination.kind} brings a signature"
        if len(node.blacklist) == node.blacklist.maxlen:
            yield "blacklist full"
        if any(node.is_immune(t) for t in range(len(model.targets))):
            yield "immune node"
    for name, label in (
        ("infected", "infection"),
        ("messages_lost", "message lost"),
        ("messages_in_flight", "message in flight"),
        ("votes_abstain", "abstention"),
        ("supports", "support"),
        ("false_confirmations", "false confirmation"),
    ):
        if row[name] > 0:
            yield label
    if model.time - 1 == model.intervention.step:
        yield from _events_of_intervention(model)
    if model.dissemination.stale:
        yield "decision comes too late"
    if model.spared:
        yield "immunity stops worm"
    if row["auroc"] == row["auroc"]:
        yield "auroc"
    if model.entries["alert"]["matched"].any():
        yield "flow matched"
    if (model.entries["alert"]["matched"] == 0).any():
        yield f"{config.detector.kind} alarms"


def _events_of_intervention(model: OracleModel) -> Iterator[str]:
    """Yield what the intervention in the last step has changed."""
    under_way = [p for p in (*model.decided_now, *model.pending) if p.step < model.time - 1]
    if under_way and model.rule_before != model.config.consensus.kind:
        yield "rule changes under way"
    lied, lying = model.liars_before, {node.number for node in model.nodes if node.is_liar}
    if lying - lied:
        yield "node begins to lie"
    if lied - lying:
        yield "node lies no more"


def events_of_run(model: OracleModel) -> Iterator[str]:
    """Yield what has occurred in a run as a whole."""
    config, totals = model.config, model.rows
    if any(r["alerts"] for r in totals):
        yield config.detector.threshold.mode
    if any(r["votes_accept"] + r["votes_reject"] for r in totals):
        yield config.voting.mode
        if config.voting.unseen == "abstain" and config.voting.mode == "detector":
            yield "unseen"
    if any(r["proposals"] and r["supports"] for r in totals):
        yield config.simulation.activation
