"""The network as a Mesa model over arrays."""

from __future__ import annotations

from typing import Any

import mesa
import numpy as np
from mesa.agent import AgentSet

from sim_core import phases, recording
from sim_core.adversaries import choose_liars, make_adversary
from sim_core.config import ModelConfig
from sim_core.detectors import initial_thresholds, make_detector
from sim_core.ledger.blocks import (
    METRIC_COUNTS,
    Block,
    Entries,
    close_block,
    first_hash,
)
from sim_core.network import make_dissemination
from sim_core.randomness import Streams
from sim_core.state import RECENT_FLOWS, SCORE_BINS, Proposals, Signatures, State
from sim_core.traffic import make_traffic


class NetworkModel(mesa.Model):  # type: ignore[misc]  # mesa 3.3 ships without types
    """A network of nodes that detects, publishes, votes and learns.

    State lives in arrays (`self.state`); `self.agents` are views on its rows, made when first
    asked for, so that Mesa's tools work without costing the steps anything.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        seed: int = 0,
        replicate: int = 0,
        run_key: str = "00" * 32,
        state: State | None = None,
    ) -> None:
        """Start before step 0, or where `state` (of the same run) was taken.

        Raises:
            DataError: a data file of the traffic is missing or damaged.
        """
        super().__init__(seed=seed)
        self.config = config
        self.streams = Streams(seed, replicate)
        self.traffic = make_traffic(config, self.streams)
        self.detector = make_detector(config.detector)
        self.adversary = make_adversary(config)
        self.dissemination = make_dissemination(config.dissemination.kind)
        self.liars = choose_liars(config, self.streams)
        self.references = self.traffic.references()
        self.state = self._initial_state(run_key) if state is None else state
        self.block: Block | None = None
        self.entries: dict[str, Entries] = {}

    def step(self) -> None:
        """Run the ten phases; leaves the step's block and entries in `block` and `entries`."""
        config, state, traffic = self.config, self.state, self.traffic
        up = state.up
        flows = phases.observe(traffic, state.step)
        detection = phases.detect(config, self.detector, state, flows)
        phases.learn(config, self.detector, state, flows, detection)
        proposals, supports = phases.propose(
            config,
            traffic,
            self.adversary,
            self.dissemination,
            self.liars,
            state,
            flows,
            detection,
        )
        arrived = phases.disseminate(self.dissemination, state)
        votes = phases.vote(config, self.streams, self.detector, self.adversary, self.liars, state)
        decisions = phases.decide_proposals(config, state)
        entries = {
            "alert": recording.alert_entries(traffic, state.step, flows, detection),
            "proposal": proposals,
            "support": supports,
            "vote": votes,
            "decision": decisions,
        }
        decided = state.proposals
        phases.respond(config, self.references, state, arrived, decisions)
        phases.churn(config, self.streams, state)
        entries["metrics"] = recording.record_metrics(
            config,
            traffic,
            self.dissemination,
            self.liars,
            state,
            decided,
            flows,
            detection,
            arrived,
            entries,
            up,
        )
        self.block = close_block(state.head, state.step, entries)
        self.entries = entries
        state.head = self.block.hash
        state.step += 1

    @property
    def agents(self) -> AgentSet:
        """The nodes as Mesa agents, made when first asked for."""
        if not self._agents:
            from sim_core.agents import NodeAgent

            NodeAgent.create_agents(self, self.config.simulation.nodes)
        return self._all_agents

    def close(self) -> None:
        """Let go of the model: Mesa's counter of agent numbers would keep it alive."""
        mesa.Agent._ids.pop(self, None)  # noqa: SLF001 - Mesa has no public way

    def _initial_state(self, run_key: str) -> State:
        config = self.config
        n_nodes, n_features = config.simulation.nodes, len(self.traffic.feature_names)
        n_targets = len(self.traffic.targets)
        warmup = self.traffic.warmup()
        detector_state = self.detector.init(n_nodes, warmup)
        shared = warmup.shape[0] == 1 != n_nodes
        rows: Any = np.zeros(1, dtype=np.int64) if shared else None
        warmup_score = self.detector.score(detector_state, warmup, rows)
        recent = np.zeros((n_nodes, RECENT_FLOWS, n_features), dtype=np.float32)
        never = np.full(n_targets, -1, dtype=np.int64)
        return State(
            step=0,
            head=first_hash(run_key),
            next_proposal=0,
            detector=detector_state,
            threshold=initial_thresholds(config.detector.threshold, warmup_score, n_nodes),
            up=np.ones(n_nodes, dtype=np.bool_),
            recent=recent,
            recent_count=np.zeros(n_nodes, dtype=np.int64),
            blacklist=np.full((n_nodes, config.response.blacklist_capacity), -1, dtype=np.int64),
            blacklist_count=np.zeros(n_nodes, dtype=np.int64),
            reputation=np.ones((n_nodes, 2), dtype=np.float64),
            ready_step=np.zeros(n_nodes, dtype=np.int64),
            proposals=Proposals.empty(n_nodes, n_features),
            signatures=Signatures.empty(n_features, *self.references.shape[:2]),
            first_flag=never,
            first_confirmation=never.copy(),
            first_immunity=never.copy(),
            immune=np.zeros(n_targets, dtype=np.float64),
            totals=np.zeros(len(METRIC_COUNTS), dtype=np.int64),
            histogram=np.zeros((2, SCORE_BINS), dtype=np.int64),
        )
