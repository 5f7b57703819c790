"""What deployed flows can be asked for: the choices, bounds and texts of the forms in Prefect's UI.

Prefect makes a form of a flow's signature, with the help texts of its docstring, and holds what comes
back against the same types once more before the flow runs. Nothing here is free text that anything would evaluate: names have a pattern,
choices are listed, numbers have bounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Study = Literal[
    "breaking_point",
    "committee",
    "cooperation",
    "gossip_cost",
    "non_iid",
    "nsl_kdd",
    "nsl_kdd_detectors",
    "quickstart",
    "quorum",
    "smtp_detectors",
]
Profile = Literal["development", "production", "high_performance", "edge"]
Executor = Literal["inline", "processes", "ray_local", "ray_cluster"]
Detector = Literal[
    "cusum",
    "ecod",
    "ewma",
    "half_space_trees",
    "hbos",
    "isolation_forest",
    "mahalanobis",
    "zscore",
]
Topology = Literal["complete", "ring", "lattice", "small_world", "scale_free", "random"]
Dissemination = Literal["ledger", "push", "pull", "push_pull", "flood", "none", "centralised"]
Consensus = Literal["majority", "supermajority", "bft", "weighted"]
Adversary = Literal[
    "none", "silent", "random_voter", "flipper", "poisoner", "colluder", "sleeper", "sybil"
]
Suite = Literal[
    "step",
    "ledger",
    "checkpoint",
    "forks",
    "recovery",
    "run",
    "detectors",
    "consensus",
    "memory",
    "ray",
    "start",
    "telemetry",
    "dashboard",
    "profiles",
]

MOST_VALUES = 20
"""Of one list in a form; points are all combinations of the values of all lists."""
MOST_EXPERIMENTS = 10

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Nodes = Annotated[int, Field(ge=2, le=10_000)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Replicates = Annotated[int, Field(ge=1, le=1_000)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Baseline = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\.json)?$")]
Threshold = Annotated[float, Field(ge=0, le=5)]
LiarShare = Annotated[float, Field(ge=0, le=1)]
