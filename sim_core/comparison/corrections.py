"""Corrections of p-values for how many were looked at."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted after Holm (1979); what is None was not tested and stays None.

    Calling everything a finding whose adjusted value is below alpha is wrong about any of the true
    null hypotheses with a probability of at most alpha, however they depend on each other.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    tested = [p for p in p_values if p is not None]
    if not tested:
        return [None] * len(p_values)
    from statsmodels.stats.multitest import multipletests

    adjusted = iter(multipletests(tested, method="holm")[1].tolist())
    return [None if p is None else float(next(adjusted)) for p in p_values]
