"""What a run's result depends on, besides seed and replicate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim_core.config.base import Frozen, Positive, PositiveShare, Share

ATTACK_FAMILIES = ("port_scan", "ddos", "brute_force", "exfiltration", "beacon", "worm")
AttackFamily = Literal["port_scan", "ddos", "brute_force", "exfiltration", "beacon", "worm"]


class SimulationConfig(Frozen):
    """The size of one run."""

    nodes: int = Field(100, ge=1, le=1_000_000)
    """Nodes in the network."""
    flows_per_node: int = Field(20, ge=1, le=100_000)
    """Flows that each node sees per step."""
    steps: int = Field(100, ge=1, le=10_000_000)
    """Steps of a run (its horizon); more steps later continue a finished run."""


class Campaign(Frozen):
    """One attack: which family, when, on which nodes, in which share of their flows."""

    family: AttackFamily
    """Attack family."""
    start: int = Field(ge=0)
    """First step of the campaign (absolute)."""
    duration: int = Field(ge=1)
    """Length in steps."""
    node_share: PositiveShare = 1.0
    """Share of the nodes that are hit."""
    flow_share: PositiveShare = 0.2
    """Share of a hit node's flows that belong to the attack."""
    intensity: Positive = 1.0
    """Factor on the family's shift of the features."""


class SyntheticTraffic(Frozen):
    """Benign flows from service profiles, attacks from a schedule of campaigns."""

    kind: Literal["synthetic"] = "synthetic"
    mixture_alpha: Positive = 1.0
    """Dirichlet parameter of each node's mixture of services: small, and nodes differ a lot."""
    warmup_flows: int = Field(256, ge=8, le=100_000)
    """Benign flows per node, seen before step 0, that start detector and threshold."""
    campaigns: tuple[Campaign, ...] = ()
    """Schedule of attacks."""


class NslKddTraffic(Frozen):
    """Replay of NSL-KDD (Tavallaee et al. 2009), drawn per node with replacement."""

    kind: Literal["nsl_kdd"] = "nsl_kdd"
    path: str | None = None
    """Folder of the data files; without it QUORUMLAB_DATA/nsl-kdd."""
    file: Literal["KDDTest+.txt", "KDDTrain+_20Percent.txt"] = "KDDTest+.txt"
    """File that is replayed."""
    warmup_file: Literal["KDDTest+.txt", "KDDTrain+_20Percent.txt"] = "KDDTrain+_20Percent.txt"
    """File whose benign rows give scaler, detector and threshold their start."""
    warmup_share: PositiveShare = 0.5
    """Share of its benign rows that are taken, where the same file is replayed."""
    transform: Literal["none", "log1p"] = "none"
    """Transform of the numeric columns before scaling."""
    attack_share: Share | None = None
    """Share of attack flows; without it that of the file (0.57 in KDDTest+)."""


TrafficConfig = Annotated[SyntheticTraffic | NslKddTraffic, Field(discriminator="kind")]


class Threshold(Frozen):
    """When a flow's score is an alarm."""

    mode: Literal["fixed", "quantile", "calibrated"] = "calibrated"
    """`fixed` value; `quantile`: the node's top `share` of each step; `calibrated` on warm-up."""
    value: Positive = 3.0
    """Threshold of `fixed`, in units of the score."""
    share: PositiveShare = 0.01
    """Share of flows above: of each step (`quantile`), of the benign warm-up (`calibrated`)."""


class DetectorBase(Frozen):
    """What all detectors have in common."""

    threshold: Threshold = Threshold()
    learn: bool = True
    """Whether the detector goes on learning after warm-up."""
    learning_rate: PositiveShare = 0.02
    """Weight of one step's flows in the exponentially weighted moments."""


class ZScoreDetector(DetectorBase):
    """Exponentially weighted mean and variance of each feature."""

    kind: Literal["zscore"] = "zscore"
    aggregate: Literal["mean_square", "max"] = "mean_square"
    """Score of a flow: mean of z squared, or the largest absolute z."""
    robust: bool = False
    """Learn from values clipped to 3 standard deviations."""


class MahalanobisDetector(DetectorBase):
    """Mahalanobis distance on an exponentially weighted correlation matrix."""

    kind: Literal["mahalanobis"] = "mahalanobis"
    ridge: Positive = 1e-3
    """Added to the diagonal of the correlation matrix."""


DetectorConfig = Annotated[ZScoreDetector | MahalanobisDetector, Field(discriminator="kind")]


class CompleteTopology(Frozen):
    """Every node is every other node's neighbour."""

    kind: Literal["complete"] = "complete"


TopologyConfig = CompleteTopology


class LedgerDissemination(Frozen):
    """Everyone reads the shared ledger in the next step."""

    kind: Literal["ledger"] = "ledger"


class NoDissemination(Frozen):
    """Isolated nodes: each decides on its own signatures and keeps them. The baseline."""

    kind: Literal["none"] = "none"


DisseminationConfig = Annotated[LedgerDissemination | NoDissemination, Field(discriminator="kind")]


class ConsensusBase(Frozen):
    """What all consensus rules have in common."""

    base: Literal["cast", "all"] = "cast"
    """Shares are taken of the votes cast, or of all registered nodes."""
    min_turnout: Share = 0.5
    """Share of the registered nodes that must have cast a vote, else the proposal expires."""
    vote_deadline: int = Field(5, ge=1, le=10_000)
    """Steps after which a proposal is decided at the latest."""


class MajorityConsensus(ConsensusBase):
    """More than half accept."""

    kind: Literal["majority"] = "majority"


class SupermajorityConsensus(ConsensusBase):
    """At least a share accepts."""

    kind: Literal["supermajority"] = "supermajority"
    share: float = Field(2 / 3, gt=0.5, le=1)
    """Share that must accept."""


ConsensusConfig = Annotated[MajorityConsensus | SupermajorityConsensus, Field(discriminator="kind")]


class NoAdversary(Frozen):
    """All nodes are honest."""

    kind: Literal["none"] = "none"


class AdversaryBase(Frozen):
    """What all adversaries have in common."""

    share: Share = 0.2
    """Share of the nodes that lie."""
    count: int | None = Field(None, ge=0)
    """Number of liars, in place of the share."""


class FlipperAdversary(AdversaryBase):
    """Votes the opposite of what its own detector says."""

    kind: Literal["flipper"] = "flipper"


class PoisonerAdversary(AdversaryBase):
    """Proposes signatures over its own ordinary traffic, so that confirming them blocks it."""

    kind: Literal["poisoner"] = "poisoner"


AdversaryConfig = Annotated[
    NoAdversary | FlipperAdversary | PoisonerAdversary, Field(discriminator="kind")
]


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

    @model_validator(mode="after")
    def _liars_fit(self) -> ModelConfig:
        count = getattr(self.adversary, "count", None)
        if count is not None and count > self.simulation.nodes:
            raise ValueError(
                f"adversary.count is {count}, but the network has simulation.nodes="
                f"{self.simulation.nodes}: there cannot be more liars than nodes"
            )
        return self
