"""Anomaly detectors over all nodes at once: one module per kind, one registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim_core.config import DetectorBase
from sim_core.detectors.base import COMMON_NODES, Detector, DetectorState
from sim_core.detectors.cusum import Cusum
from sim_core.detectors.ecod import Ecod
from sim_core.detectors.ewma import Ewma
from sim_core.detectors.half_space_trees import HalfSpaceTrees
from sim_core.detectors.hbos import Hbos
from sim_core.detectors.isolation_forest import IsolationForest
from sim_core.detectors.mahalanobis import Mahalanobis
from sim_core.detectors.threshold import initial_thresholds, thresholds_of_step
from sim_core.detectors.zscore import ZScore
from sim_core.randomness import Streams

DETECTORS: dict[str, Callable[[Any, Streams], Detector]] = {
    "zscore": ZScore,
    "mahalanobis": Mahalanobis,
    "half_space_trees": HalfSpaceTrees,
    "isolation_forest": IsolationForest,
    "ecod": Ecod,
    "hbos": Hbos,
    "ewma": Ewma,
    "cusum": Cusum,
}


def make_detector(config: DetectorBase, streams: Streams) -> Detector:
    """Return the detector that `config.kind` names."""
    kind: str = config.kind  # type: ignore[attr-defined]  # every member of the union has it
    return DETECTORS[kind](config, streams)


__all__ = [
    "COMMON_NODES",
    "DETECTORS",
    "Detector",
    "DetectorState",
    "initial_thresholds",
    "make_detector",
    "thresholds_of_step",
]
