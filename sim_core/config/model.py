"""What a run's result depends on, besides seed and replicate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sim_core.config.base import Frozen, Positive, PositiveShare, Share
from sim_core.config.detectors import DetectorConfig, ZScoreDetector
from sim_core.config.network import (
    CompleteTopology,
    DisseminationConfig,
    LedgerDissemination,
    TopologyConfig,
)
from sim_core.config.protocol import (
    AdversaryConfig,
    ConsensusConfig,
    MajorityConsensus,
    NoAdversary,
)
from sim_core.config.traffic import SyntheticTraffic, TrafficConfig

LARGEST_FLOODED_CLIQUE = 5_000


class SimulationConfig(Frozen):
    """The size of one run."""

    nodes: int = Field(100, ge=1, le=1_000_000)
    """Nodes in the network."""
    flows_per_node: int = Field(20, ge=1, le=100_000)
    """Flows that each node sees per step."""
    steps: int = Field(100, ge=1, le=10_000_000)
    """Steps of a run (its horizon); more steps later continue a finished run."""
    activation: Literal["simultaneous", "random", "priority"] = "simultaneous"
    """Order in which proposals of one step are taken: by node number, in a new random order each
    step, or by reputation, highest first."""


class SignatureConfig(Frozen):
    """How flagged flows become a signature, and what a signature matches."""

    min_support: int = Field(3, ge=1, le=1_000)
    """Flagged flows, not covered by the blacklist, that a node needs for a proposal."""
    cooldown_steps: int = Field(10, ge=0, le=100_000)
    """Steps between two proposals of one node."""
    match_radius: Positive = 2.0
    """Largest root mean square distance to the centroid, in scales, that is a match."""
    min_scale: Positive = 0.5
    """Smallest scale of a feature, in standard deviations of benign traffic."""


class VotingConfig(Frozen):
    """How an honest node judges a signature."""

    mode: Literal["detector", "competence"] = "detector"
    """`detector`: by its own detector and recent flows; `competence`: right with a probability."""
    competence: Share = 0.8
    """Probability of a right vote in mode `competence`."""
    min_history: int = Field(8, ge=0, le=32)
    """Recent flows below which a node abstains."""
    max_benign_coverage: Share = 0.05
    """Largest share of its recent flows that an acceptable signature may cover."""
    unseen: Literal["judge", "abstain"] = "judge"
    """What to do where too few recent flows lie near the centroid."""
    unseen_neighbours: int = Field(3, ge=1, le=32)
    """How many recent flows must lie near the centroid for it to count as seen."""
    unseen_radius: Positive = 4.0
    """What is near: root mean square distance in the signature's scales."""


class ResponseConfig(Frozen):
    """What nodes do with confirmed signatures."""

    blacklist_capacity: int = Field(16, ge=1, le=4_096)
    """Signatures that a node can hold; the oldest gives way."""


class ChurnConfig(Frozen):
    """Nodes that crash and come back; what they knew before, they know again."""

    crash_rate: Share = 0.0
    """Probability that a node crashes, per step."""
    recovery_rate: PositiveShare = 0.1
    """Probability that a crashed node comes back, per step."""


class MetricsConfig(Frozen):
    """Which steps count."""

    auroc_every: int = Field(10, ge=1)
    """Steps between two values of the per-step AUROC."""
    from_step: int = Field(0, ge=0)
    """First step that counts in a run's summary."""


class ModelConfig(Frozen):
    """Everything that a run's result depends on, besides seed and replicate."""

    simulation: SimulationConfig = SimulationConfig()
    traffic: TrafficConfig = SyntheticTraffic()
    detector: DetectorConfig = ZScoreDetector()
    topology: TopologyConfig = CompleteTopology()
    dissemination: DisseminationConfig = LedgerDissemination()
    consensus: ConsensusConfig = MajorityConsensus()
    adversary: AdversaryConfig = NoAdversary()
    signature: SignatureConfig = SignatureConfig()
    voting: VotingConfig = VotingConfig()
    response: ResponseConfig = ResponseConfig()
    churn: ChurnConfig = ChurnConfig()
    metrics: MetricsConfig = MetricsConfig()

    @property
    def n_voters(self) -> int:
        """Voters of a proposal at most: itself for isolated nodes and the centre, or a committee."""
        if self.dissemination.kind in ("none", "centralised"):
            return 1
        n_nodes = self.simulation.nodes
        return min(n_nodes, self.consensus.committee or (100 if n_nodes > 1_000 else n_nodes))

    @model_validator(mode="after")
    def _sizes_fit(self) -> ModelConfig:
        n_nodes, topology = self.simulation.nodes, self.topology
        flooded = topology.kind == "complete" and self.dissemination.kind == "flood"
        if flooded and n_nodes > LARGEST_FLOODED_CLIQUE:
            raise ValueError(
                f"dissemination=flood over topology=complete sends {n_nodes} x {n_nodes - 1} "
                f"messages a proposal; beyond {LARGEST_FLOODED_CLIQUE} nodes choose another topology"
            )
        for name in ("neighbours", "attachments"):
            wanted = getattr(topology, name, 0)
            if wanted >= n_nodes and n_nodes > 1:
                raise ValueError(
                    f"topology.{name} is {wanted}, but a node of simulation.nodes={n_nodes} has "
                    f"only {n_nodes - 1} others"
                )
        return self

    @model_validator(mode="after")
    def _liars_fit(self) -> ModelConfig:
        count = getattr(self.adversary, "count", None)
        if count is not None and count > self.simulation.nodes:
            raise ValueError(
                f"adversary.count is {count}, but the network has simulation.nodes="
                f"{self.simulation.nodes}: there cannot be more liars than nodes"
            )
        return self
