"""How a node tells strange flows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim_core.config.base import Frozen, Positive, PositiveShare


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


class MomentsBase(DetectorBase):
    """What detectors have in common that learn exponentially weighted moments."""

    learning_rate: PositiveShare = 0.02
    """Weight of one step's flows in the exponentially weighted moments."""


class KnownMoments(MomentsBase):
    """What detectors have in common that may know the moments beforehand."""

    moments: Literal["warmup", "known"] = "warmup"
    """Mean and variance at the start: those of the warm-up, or `known` to be 0 and 1."""


class ZScoreDetector(KnownMoments):
    """Exponentially weighted mean and variance of each feature; `max` is a Shewhart chart."""

    kind: Literal["zscore"] = "zscore"
    aggregate: Literal["mean_square", "max", "upper_tail"] = "mean_square"
    """Score of a flow: mean of z squared, the largest absolute z, or -log(1 - Phi(z)) of the largest z,
    which only sees what lies above the mean."""
    robust: bool = False
    """Learn from values clipped to 3 standard deviations."""


class MahalanobisDetector(MomentsBase):
    """Mahalanobis distance on an exponentially weighted correlation matrix."""

    kind: Literal["mahalanobis"] = "mahalanobis"
    ridge: Positive = 1e-3
    """Added to the diagonal of the correlation matrix."""


class HalfSpaceTreesDetector(DetectorBase):
    """Streaming half-space trees (Tan, Ting and Liu 2011)."""

    kind: Literal["half_space_trees"] = "half_space_trees"
    trees: int = Field(10, ge=1, le=1_000)
    """Trees of a node; all nodes have the same."""
    height: int = Field(8, ge=1, le=15)
    """Height of a tree."""
    window: int = Field(250, ge=1, le=1_000_000)
    """Learned flows after which the latest masses become those that are scored with."""
    size_limit: float = Field(0.1, ge=0, le=1)
    """Share of the window below which a descent stops."""


class IsolationForestDetector(DetectorBase):
    """Isolation Forest (Liu, Ting and Zhou 2008), refitted on a sliding window."""

    kind: Literal["isolation_forest"] = "isolation_forest"
    trees: int = Field(100, ge=1, le=1_000)
    """Trees of a forest."""
    samples: int = Field(256, ge=2, le=4_096)
    """Flows that each tree is grown from."""
    window: int = Field(512, ge=2, le=1_000_000)
    """Last learned flows that a refit sees."""
    refit_every: int = Field(50, ge=1)
    """Steps in which a node learned between two of its refits; nodes take turns."""
    shared: bool = False
    """One forest for all nodes, grown once from the pool or the warm-up of 64 nodes, never refitted."""


class EcodDetector(DetectorBase):
    """Empirical cumulative distribution of each feature (Li et al. 2022)."""

    kind: Literal["ecod"] = "ecod"
    window: int = Field(512, ge=8, le=100_000)
    """Last learned flows that the distribution is of; it is renewed after an eighth of them."""


class HbosDetector(MomentsBase):
    """Histogram of each feature (Goldstein and Dengel 2012), exponentially forgetting."""

    kind: Literal["hbos"] = "hbos"
    bins: int = Field(10, ge=2, le=1_000)
    """Bins of equal width over the range of the warm-up."""


class EwmaDetector(KnownMoments):
    """EWMA control chart per feature (Roberts 1959), two-sided, from zero, asymptotic limits."""

    kind: Literal["ewma"] = "ewma"
    weight: PositiveShare = 0.1
    """Weight of the newest flow in the chart's statistic (lambda)."""


class CusumDetector(KnownMoments):
    """Tabular CUSUM per feature (Page 1954), two-sided, from zero."""

    kind: Literal["cusum"] = "cusum"
    slack: float = Field(0.5, ge=0)
    """Half the shift, in standard deviations, that the chart is to notice (k)."""


DetectorConfig = Annotated[
    ZScoreDetector
    | MahalanobisDetector
    | HalfSpaceTreesDetector
    | IsolationForestDetector
    | EcodDetector
    | HbosDetector
    | EwmaDetector
    | CusumDetector,
    Field(discriminator="kind"),
]
