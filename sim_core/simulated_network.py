"""The network over arrays, without Mesa: what runs are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sim_core import phases, recording
from sim_core.adversaries import choose_liars, joined_nodes, make_adversary
from sim_core.config import ModelConfig
from sim_core.intervention import intervene
from sim_core.ledger.blocks import METRIC_COUNTS, Block, Entries, close_block, first_hash
from sim_core.network import Deliveries, make_dissemination, make_topology, seed_worms
from sim_core.proposing import propose
from sim_core.randomness import Streams
from sim_core.shard import Findings, NodeShard, Shards
from sim_core.state import SCORE_BINS, Proposals, Signatures, State
from sim_core.traffic import make_traffic
from sim_core.voting import vote

OpenShards = Callable[[ModelConfig, Streams, NDArray[np.bool_], State | None], Shards]
"""Makes the shards of a network from configuration, streams, liars, and the state to go on from."""


class SimulatedNetwork:
    """A network of nodes that detects, publishes, votes and learns.

    State lives in arrays (`self.state`); `model.NetworkModel` shows it to Mesa's tools.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        seed: int = 0,
        replicate: int = 0,
        run_key: str = "00" * 32,
        state: State | None = None,
        open_shards: OpenShards | None = None,
    ) -> None:
        """Start before step 0, or where `state` (of the same run) was taken.

        Without `open_shards`, the nodes live in this process, in one piece.

        Raises:
            DataError: a data file of the traffic or topology is missing or damaged.
        """
        self._whole = config
        self._open_shards = open_shards
        self.streams = Streams(seed, replicate)
        self.traffic = make_traffic(config, self.streams)
        self.topology = make_topology(config, self.streams)
        self.dissemination = make_dissemination(config, self.streams, self.topology)
        self.references = self.traffic.references()
        last_step = 0 if state is None else max(0, state.step - 1)
        self._take_up(config.at_step(last_step), run_key, state)
        self.block: Block | None = None
        self.entries: dict[str, Entries] = {}
        self.findings: Findings | None = None
        self.arrived: Deliveries | None = None
        self.travelled: Proposals | None = None

    def step(self) -> None:
        """Run the ten phases; leaves the step's block and entries in `block` and `entries`."""
        if self.state.step == self._whole.intervention.step:
            self._change_policy()
        config, state, streams = self.config, self.state, self.streams
        up, joined = state.up, joined_nodes(config, self.liars, state.step)
        orders = phases.give_orders(config, state)
        findings = self.shards.detect(orders)
        proposals, supports = propose(
            config, streams, self.dissemination, joined, state, findings.drafts
        )
        arrived = self.dissemination.travel(state.network, state.proposals, state.step, up, joined)
        votes = vote(
            config, streams, self.shards, self.adversary, self.dissemination, self.liars, state
        )
        decisions = phases.decide_proposals(config, state)
        decided = state.proposals
        phases.respond(
            config,
            self.dissemination,
            self.references,
            self.liars,
            joined,
            state,
            arrived,
        )
        self.arrived = arrived
        self._note_immunity()
        infections = phases.move(
            config, streams, self.topology, self.liars, joined, self.immune, state
        )
        entries = {
            "alert": findings.alerts,
            "proposal": proposals,
            "support": supports,
            "vote": votes,
            "decision": decisions,
        }
        events = recording.StepEvents(findings, arrived, decided, entries, up, infections)
        entries["metrics"] = recording.record_metrics(
            config, self.traffic.targets, len(self.traffic.feature_names), self.liars, state, events
        )
        self.block = close_block(state.head, state.step, entries, findings.alert_parts)
        self.entries, self.findings = entries, findings
        self.travelled = decided
        state.head = self.block.hash
        state.step += 1

    def collect(self) -> State:
        """Return the state between two steps, with what its shards hold brought up to date."""
        state = self.state
        state.nodes, histogram = self.shards.collect()
        state.histogram = self._counted_before + histogram
        return state

    def _note_immunity(self) -> None:
        """Find who is immune, where a blacklist has changed."""
        if self.arrived is not None and self.arrived.node.size:
            self.immune = phases.immune_nodes(self.state)
            honest = ~self.liars
            if honest.any():
                self.state.immune = self.immune[honest].mean(axis=0)

    def _take_up(self, config: ModelConfig, run_key: str, state: State | None) -> None:
        """Go on from a state, or start, with a configuration without intervention."""
        self.config = config
        self.adversary = make_adversary(config)
        self.liars = choose_liars(config, self.streams)
        if self._open_shards is None:
            nodes = None if state is None else state.nodes
            self.shards: Shards = NodeShard(
                config, self.streams, self.liars, nodes=nodes, traffic=self.traffic
            )
        else:
            self.shards = self._open_shards(config, self.streams, self.liars, state)
        self.state = self._initial_state(run_key) if state is None else state
        self._counted_before = self.state.histogram.copy()
        self.immune = phases.immune_nodes(self.state)

    def _change_policy(self) -> None:
        """Go on from the state between two steps, as after a resume, with what holds from now on."""
        before, state = self.config, self.collect()
        self._take_up(self._whole.at_step(state.step), "", state)
        intervene(before, self.config, self.references, self.liars, state)
        self.immune = phases.immune_nodes(state)

    def _initial_state(self, run_key: str) -> State:
        config = self.config
        n_nodes, n_features = config.simulation.nodes, len(self.traffic.feature_names)
        n_targets = len(self.traffic.targets)
        nodes, _ = self.shards.collect()
        never = np.full(n_targets, -1, dtype=np.int64)
        return State(
            step=0,
            head=first_hash(run_key),
            next_proposal=0,
            nodes=nodes,
            up=joined_nodes(config, self.liars, 0),
            blacklist=np.full((n_nodes, config.response.blacklist_capacity), -1, dtype=np.int64),
            blacklist_count=np.zeros(n_nodes, dtype=np.int64),
            received=np.zeros((2, 0), dtype=np.int64),
            reputation=np.ones((n_nodes, 2), dtype=np.float64),
            ready_step=np.zeros(n_nodes, dtype=np.int64),
            awake=np.full(n_nodes, config.adversary.kind != "sleeper"),
            infected=seed_worms(config, self.streams),
            network=self.dissemination.init(),
            proposals=Proposals.empty(config.n_voters, n_features),
            signatures=Signatures.empty(n_features, n_targets),
            first_flag=never,
            first_confirmation=never.copy(),
            first_immunity=never.copy(),
            immune=np.zeros(n_targets, dtype=np.float64),
            totals=np.zeros(len(METRIC_COUNTS), dtype=np.int64),
            histogram=np.zeros((2, SCORE_BINS), dtype=np.int64),
        )
