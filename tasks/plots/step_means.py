"""A metric over the steps of a point's runs: means with their intervals, as all plots have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim_core.results import CONFIDENCE

if TYPE_CHECKING:
    import pandas as pd

CUMULATIVE = frozenset({"true_confirmations", "false_confirmations", "messages_sent"})
"""Counts of a step, which are drawn as sums since step 0."""
OF_ATTACKS = frozenset({"precision", "recall", "f1", "mcc"})
"""Metrics that say nothing about steps without attack flows, which are left out of their curves."""


def step_means(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean, low and high of a metric over the replicates of one point, indexed by step.

    Undefined values are left out: a step where no replicate has a value is NaN, one where a
    single replicate has one has no interval.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"run_id": list("aabb"), "step": [0, 1, 0, 1], "auroc": [0.5, None, 0.7, 0.4]})
    >>> step_means(frame, "auroc").round(2).values.tolist()
    [[0.6, -0.67, 1.87], [0.4, nan, nan]]
    """
    import pandas as pd
    from scipy.special import stdtrit  # Student's t without the 60 MB of scipy.stats

    values = rows[["run_id", "step"]].assign(value=rows[metric].astype(float))
    if metric in CUMULATIVE:
        values["value"] = values.groupby("run_id")["value"].cumsum()
    if metric in OF_ATTACKS:
        values = values[has_attacks(rows)]
    table = values.groupby("step")["value"].agg(["mean", "std", "count"])
    n = table["count"].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * table["std"] / np.sqrt(n)
    mean = table["mean"]
    return pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half})


def has_attacks(steps: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows have attack flows at honest nodes."""
    return (steps["honest_tp"] + steps["honest_fn"]) > 0
