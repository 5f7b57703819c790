"""What a run's result depends on, besides seed and replicate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sim_core.config.base import Frozen, PositiveShare, Share
from sim_core.config.detectors import DetectorConfig, ZScoreDetector
from sim_core.config.intervention import SECTIONS, InterventionConfig
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
from sim_core.config.signatures import SignatureConfig, VotingConfig
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
    intervention: InterventionConfig = InterventionConfig()

    @property
    def n_voters(self) -> int:
        """Voters of a proposal at most: itself for isolated nodes and the centre, or a committee."""
        if self.dissemination.kind in ("none", "centralised"):
            return 1
        n_nodes = self.simulation.nodes
        return min(n_nodes, self.consensus.committee or (100 if n_nodes > 1_000 else n_nodes))

    def at_step(self, step: int) -> ModelConfig:
        """Return what holds in a step: this, or from the intervention on this with what it replaces.

        What is returned has no intervention of its own.
        """
        change = self.intervention
        if change.step is None:
            return self
        replaced = change.replaced if step >= change.step else {}
        return self.model_copy(update={**replaced, "intervention": InterventionConfig()})

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
        for prefix, adversary in (
            ("", self.adversary),
            ("intervention.", self.intervention.adversary),
        ):
            count = getattr(adversary, "count", None)
            if count is not None and count > self.simulation.nodes:
                raise ValueError(
                    f"{prefix}adversary.count is {count}, but the network has simulation.nodes="
                    f"{self.simulation.nodes}: there cannot be more liars than nodes"
                )
        return self

    @model_validator(mode="after")
    def _intervention_is_whole(self) -> ModelConfig:
        change = self.intervention
        names = ", ".join(f"intervention.{name}" for name in SECTIONS)
        if change.step is not None and not change.replaced:
            raise ValueError(
                f"intervention.step={change.step} replaces nothing: set one of {names}"
            )
        if change.step is None and change.replaced:
            given = ", ".join(f"intervention.{name}" for name in change.replaced)
            raise ValueError(f"{given} is given, but not from when on: set intervention.step")
        return self

    @model_validator(mode="after")
    def _intervention_fits(self) -> ModelConfig:
        change = self.intervention
        kinds = [self.adversary.kind, change.adversary.kind if change.adversary else None]
        if "sybil" in kinds and (change.replaced or change.step is not None):
            raise ValueError(
                "adversary=sybil joins in a step of its own (join_step), and can be neither before "
                "nor after an intervention: take adversary=colluder, which sybils are once they are there"
            )
        if change.consensus is not None:
            after = self.model_copy(update={"consensus": change.consensus})
            if after.n_voters != self.n_voters:
                raise ValueError(
                    f"intervention.consensus gives a proposal {after.n_voters} voters, and before it "
                    f"has {self.n_voters}: seats of proposals that are under way stay, so "
                    "set intervention.consensus.committee so that it is the same number"
                )
        return self
