"""All comparisons of some points with a baseline, as one family."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sim_core.comparison.bootstrap import bootstrap_of_pairs, bootstrap_of_samples
from sim_core.comparison.corrections import holm
from sim_core.comparison.differences import Difference, paired_difference, unpaired_difference
from sim_core.comparison.pairing import LeftOut, Sample, finished_runs, left_out, sample
from sim_core.comparison.planning import POWER
from sim_core.comparison.verdicts import (
    SMALLEST_MEAN,
    Comparison,
    SmallestEffect,
    Verdict,
    judge,
    needed,
)
from sim_core.errors import UserError
from sim_core.results import MAIN_METRICS, RunRecord, metric_names


@dataclass(frozen=True)
class Question:
    """What is compared, and what counts as an answer."""

    baseline: str | None = None
    """Label of a point; without it the first."""
    metrics: tuple[str, ...] = ()
    """Without any, those of tables for people, and the cost where there is one."""
    alpha: float = 0.05
    """Probability with which any difference may be shown where there is none."""
    smallest: SmallestEffect = field(default_factory=SmallestEffect)


@dataclass(frozen=True)
class Report:
    """What a family of comparisons says."""

    baseline: str
    alpha: float
    smallest: SmallestEffect
    comparisons: tuple[Comparison, ...]
    """By point, then by metric."""
    left_out: tuple[LeftOut, ...]

    @property
    def family(self) -> int:
        """How many p-values were corrected for each other."""
        return sum(c.p_adjusted is not None for c in self.comparisons)

    @property
    def findings(self) -> list[Comparison]:
        """Comparisons that show a difference, the surest first."""
        shown = [c for c in self.comparisons if c.is_finding]
        return sorted(shown, key=lambda c: (c.p_adjusted or 0.0, c.found.p or 0.0))

    @property
    def saved(self) -> list[float]:
        """Shares of variance that pairing saved, of all comparisons that have one."""
        shares = (c.found.variance_saved for c in self.comparisons)
        return [share for share in shares if share is not None]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "baseline": self.baseline,
            "alpha": self.alpha,
            "correction": "holm",
            "family": self.family,
            "power": POWER,
            "smallest_effect": {
                "relative": self.smallest.relative,
                "smallest_mean_within_one": SMALLEST_MEAN,
                "relative_of": dict(self.smallest.shares),
                "absolute_of": dict(self.smallest.absolute),
            },
            "left_out": [asdict(gap) for gap in self.left_out],
            "comparisons": self.rows(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row per comparison."""
        return [
            {
                "point": c.point,
                "baseline": c.baseline,
                "metric": c.metric,
                "verdict": str(c.verdict),
                "sentence": c.sentence,
                **{k: str(v) if k == "test" else v for k, v in asdict(c.found).items()},
                "p_holm": c.p_adjusted,
                "smallest_effect": c.smallest_effect,
                "replicates_needed": c.replicates_needed,
                "n_undefined": c.n_undefined,
            }
            for c in self.comparisons
        ]


def compare(records: Sequence[RunRecord], labels: Sequence[str], question: Question) -> Report:
    """Return the comparisons of all points with the baseline.

    Args:
        records: Runs of all points, their labels unique.
        labels: Labels of the points, in order.
        question: What to compare.

    Raises:
        UserError: a point or a metric is not there.
    """
    baseline = question.baseline or labels[0]
    expect_known("point", [baseline], labels)
    metrics = chosen_metrics(records, question.metrics)
    finished = finished_runs(records)
    base = finished.get(baseline, {})
    places = [(label, metric) for label in labels if label != baseline for metric in metrics]
    samples = [sample(finished.get(label, {}), base, metric) for label, metric in places]
    found = differences(samples, question.alpha)
    adjusted = holm([difference.p for difference in found])
    family = sum(p is not None for p in adjusted)
    comparisons = [
        _comparison(*place, baseline, difference, p, part.n_undefined, question, family)
        for place, difference, p, part in zip(places, found, adjusted, samples, strict=True)
    ]
    gaps = left_out(records, baseline)
    return Report(baseline, question.alpha, question.smallest, tuple(comparisons), tuple(gaps))


def differences(samples: Sequence[Sample], alpha: float) -> list[Difference]:
    """Return the difference of each sample, with both intervals."""
    pairs = iter(bootstrap_of_pairs([s.values - s.baseline for s in samples if s.is_paired], alpha))
    found = []
    for part in samples:
        if part.is_paired:
            difference = paired_difference(part.values, part.baseline, alpha)
            bounds = next(pairs)
        else:
            difference = unpaired_difference(part.values, part.baseline, alpha)
            bounds = bootstrap_of_samples(part.values, part.baseline, alpha)
        low, high = bounds or (None, None)
        found.append(replace(difference, bootstrap_low=low, bootstrap_high=high))
    return found


def _comparison(
    point: str,
    metric: str,
    baseline: str,
    found: Difference,
    p_adjusted: float | None,
    n_undefined: int,
    question: Question,
    family: int,
) -> Comparison:
    smallest = question.smallest.of(metric, found.baseline_mean)
    verdict = judge(found, p_adjusted, smallest, metric, question.alpha)
    plan = needed(found, smallest, question.alpha, family) if verdict == Verdict.TOO_FEW else None
    return Comparison(
        point, baseline, metric, found, n_undefined, p_adjusted, smallest, plan, verdict
    )


def chosen_metrics(records: Sequence[RunRecord], asked: Sequence[str]) -> list[str]:
    """Return the metrics to compare.

    Raises:
        UserError: one that is asked for is none that a run has.
    """
    known = metric_names(records)
    expect_known("metric", asked, known)
    return list(dict.fromkeys(asked)) or [m for m in (*MAIN_METRICS, "cost") if m in known]


def expect_known(what: str, asked: Iterable[str], known: Sequence[str]) -> None:
    """Return if all names are known.

    Raises:
        UserError: naming the first that is not, and what is near to it.
    """
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are: {_some(known)}"
            raise UserError(f"no {what} {name!r}: {hint}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:30]) or "none"
    return shown if len(names) <= 30 else f"{shown} and {len(names) - 30} more"
