"""When a point has replicates enough: a rule that looks at replicates in their order only.

A point has `minimum` replicates first and `step` more whenever the 95 % interval of a metric is still too
wide. The interval is looked at after `minimum`, `minimum + step`, ... replicates and nowhere else, over the
replicates 0 to n - 1; so the number of replicates is a function of their values, and neither of the order in
which runs end nor of interruptions.

A rule that stops when the interval happens to be narrow stops a little too often where the sample varies less
than it should (Chow & Robbins, "On the asymptotic theory of fixed-width sequential confidence intervals", Ann.
Math. Statist. 36, 1965; Law & Kelton, "Confidence intervals for steady-state simulations II", Manag. Sci. 28,
1982): see docs/how-to/replicates.md for how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim_core.config.stopping import UntilConfig
from sim_core.results import Interval, RunRecord, interval

Values = Mapping[str, Sequence[float | None]]
"""Per metric the values of a point's replicates, in order; None: undefined in that run."""


@dataclass(frozen=True)
class Stop:
    """Why a point has no more replicates."""

    replicates: int
    reached: bool
    """Whether all intervals are narrow enough; otherwise it has `maximum` replicates, or is at work."""
    half_widths: dict[str, float | None]
    """Half of each metric's interval; None where fewer than two values are defined."""


def is_narrow(found: Interval, until: UntilConfig) -> bool:
    """Return whether an interval is as narrow as asked for.

    >>> found = interval([0.8, 0.9, 1.0])
    >>> until = UntilConfig(metrics=["f1"], half_width=0.3)
    >>> is_narrow(found, until), is_narrow(found, UntilConfig(metrics=["f1"], relative=0.1))
    (True, False)
    """
    if found.mean is None or found.ci_high is None:
        return False
    half = found.ci_high - found.mean
    by_width = until.half_width is not None and half <= until.half_width
    return by_width or (until.relative is not None and half <= until.relative * abs(found.mean))


def next_count(values: Values, n: int, until: UntilConfig) -> int:
    """Return how many replicates a point with `n` of them should have: as many, or a step more.

    >>> until = UntilConfig(metrics=["f1"], half_width=0.1, minimum=2, step=3, maximum=4)
    >>> next_count({"f1": [0.2, 0.9]}, 2, until), next_count({"f1": [0.5, 0.5]}, 2, until)
    (4, 2)
    """
    if all(is_narrow(interval(values[metric][:n]), until) for metric in until.metrics):
        return n
    return min(n + until.step, until.maximum)


def stopping_count(values: Values, until: UntilConfig) -> int:
    """Return with how many replicates a point stops, of which `maximum` are given.

    >>> until = UntilConfig(metrics=["f1"], half_width=0.1, minimum=2, step=1, maximum=4)
    >>> stopping_count({"f1": [0.2, 0.9, 0.5, 0.5]}, until)
    4
    """
    n = until.minimum
    while (more := next_count(values, n, until)) > n:
        n = more
    return n


def counts_so_far(
    rows: Sequence[Mapping[str, Any]], n_points: int, until: UntilConfig
) -> list[int]:
    """Return how many replicates each point should have, as far as results are known.

    A point is decided no further than all of its replicates before have a result.

    Args:
        rows: Runs of the experiment with `point`, `replicate` and `summary`, None without a result.
        n_points: Points of the experiment.
        until: The rule.
    """
    known: list[dict[int, Mapping[str, float | None]]] = [{} for _ in range(n_points)]
    for row in rows:
        if row["summary"] is not None:
            known[row["point"]][row["replicate"]] = row["summary"]
    return [_count_so_far(summaries, until) for summaries in known]


def _count_so_far(summaries: Mapping[int, Mapping[str, float | None]], until: UntilConfig) -> int:
    n = until.minimum
    while all(replicate in summaries for replicate in range(n)):
        values = values_of([summaries[replicate] for replicate in range(n)], until)
        more = next_count(values, n, until)
        if more == n:
            break
        n = more
    return n


def values_of(
    summaries: Sequence[Mapping[str, float | None]], until: UntilConfig
) -> dict[str, list[float | None]]:
    """Return per metric the values of replicates, from their summaries in order."""
    return {metric: [summary.get(metric) for summary in summaries] for metric in until.metrics}


def stops_of(
    records: Sequence[RunRecord], labels: Sequence[str], until: UntilConfig | None
) -> dict[str, Stop]:
    """Return where each point stands by its finished runs; nothing without a rule."""
    if until is None:
        return {}
    finished: dict[str, list[Mapping[str, float | None]]] = {label: [] for label in labels}
    for record in records:
        if record.state == "finished":
            finished[record.label].append(record.metrics)
    return {label: stop_of(metrics, until) for label, metrics in finished.items()}


def stop_of(finished: Sequence[Mapping[str, float | None]], until: UntilConfig) -> Stop:
    """Return where a point stands, from the metrics of its finished runs."""
    values = values_of(finished, until)
    intervals = {metric: interval(values[metric]) for metric in until.metrics}
    return Stop(
        replicates=len(finished),
        reached=all(is_narrow(found, until) for found in intervals.values()),
        half_widths={
            metric: None if f.mean is None or f.ci_high is None else f.ci_high - f.mean
            for metric, f in intervals.items()
        },
    )
