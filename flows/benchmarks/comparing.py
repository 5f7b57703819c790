"""Two sets of figures compared: which cases are slower, how sure that is, and whether it matters.

Mann and Whitney's test, which knows nothing of how times are distributed, over all cases after Holm;
cases with so few samples that no outcome could be significant are left out of the correction (Tarone
1990) and called just that. Ratios of cases that were measured in turn are compared as well: they hold
on another machine, and while one drifts. And a difference has to be there twice: in the samples as they
are, and in what they would be at the same pace of the machine, which is measured around each of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from flows.benchmarks.conditions import judges_times, notes_of
from flows.benchmarks.files import OF_SIZE, Report, Row
from sim_core.comparison.corrections import holm
from sim_core.errors import DataError

ALPHA = 0.05
THRESHOLD = 0.2
FEWEST = 4
"""Samples for an interval."""
RESAMPLES = 2_000
SEED = 20_261
"""The same samples have the same interval, whenever it is computed."""


class Verdict(StrEnum):
    """What is shown of a case."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    """A ratio of two parts of this program, of which neither direction is the better one."""
    SAME = "no difference shown"
    TOO_FEW = "too few samples"


@dataclass(frozen=True)
class Difference:
    """One case, before and now."""

    name: str
    unit: str
    """`x` of a ratio."""
    direction: int
    """1 where more is worse, -1 where more is better, 0 where neither is."""
    is_ours: bool
    """False of yardsticks, which cannot regress."""
    n_before: int
    n_now: int
    before: float
    """Median."""
    now: float
    ratio: float | None
    """Of the medians, now to before; None where there is none."""
    low: float | None
    """Of the 95 % interval of the ratio, by bootstrap."""
    high: float | None
    paced_ratio: float | None
    """Of the medians at the same pace of the machine; None where the pace is not known."""
    p: float
    """The larger one of both tests: of samples as they are, and at the same pace."""
    p_adjusted: float | None = None
    """None where so few samples can show nothing."""
    verdict: Verdict = Verdict.SAME
    is_regression: bool = False

    @property
    def worsening(self) -> float:
        """How many times worse it has become, at the same pace too; below 1: better.

        1 where it is better in one respect and worse in the other.
        """
        if self.ratio is None or self.ratio <= 0:
            return math.inf if self.now * self.direction > self.before * self.direction else 1.0
        plain = float(self.ratio**self.direction)
        paced = plain if self.paced_ratio is None else float(self.paced_ratio**self.direction)
        if (plain - 1) * (paced - 1) <= 0:
            return 1.0
        return min(plain, paced) if plain > 1 else max(plain, paced)


@dataclass(frozen=True)
class Comparison:
    """All cases that two sets of figures have in common."""

    suite: str
    before: str
    now: str
    alpha: float
    threshold: float
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    """What a reader has to know: other machines, cases on one side only, too few samples."""

    @property
    def regressions(self) -> list[Difference]:
        """Cases that are significantly worse, beyond the threshold."""
        return [found for found in self.differences if found.is_regression]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "regressions": [found.name for found in self.regressions]}


def compare_reports(
    before: Report, now: Report, *, threshold: float = THRESHOLD, alpha: float = ALPHA
) -> Comparison:
    """Return what distinguishes the figures of two reports.

    Args:
        before: The baseline.
        now: What is judged.
        threshold: Worsening from which a significant difference is a regression: 0.2 for 20 %.
        alpha: Share of comparisons without any difference in which one is claimed all the same.

    Raises:
        DataError: they are of different suites, or have no case in common.
    """
    if before.suite != now.suite:
        raise DataError(
            f"the baseline is of suite {before.suite!r}, the figures of {now.suite!r}: measure the "
            f"same with --suite {before.suite}"
        )
    found = list(_differences(before, now))
    if not found:
        names = ", ".join(sorted(row.name for row in before.results)[:10]) or "none"
        raise DataError(f"no case in common: the baseline has {names}")
    are_judged = judges_times(before, now)
    judged = tuple(_judged(found, threshold, alpha, judges_times=are_judged))
    few = [each.name for each in judged if each.verdict is Verdict.TOO_FEW]
    notes = tuple(notes_of(before, now, few))
    return Comparison(now.suite, before.label, now.label, alpha, threshold, judged, notes)


def _differences(before: Report, now: Report) -> Iterator[Difference]:
    rows = {row.name: row for row in now.results}
    was = {row.name: row for row in before.results}
    for old in before.results:
        new = rows.get(old.name)
        if new is None or new.unit != old.unit:
            continue
        if old.samples and new.samples:
            yield _of_case(old, new)
        for other, samples in old.ratio_samples.items():
            others = new.ratio_samples.get(other, ())
            if samples and others and other in rows and other in was:
                name = f"{old.name} x {other}"
                direction = _ratio_direction(new, rows[other])
                yield _difference(name, "x", direction, samples, others)


def _of_case(old: Row, new: Row) -> Difference:
    """Return what distinguishes the samples of a case, as they are and at the same pace."""
    direction = -1 if new.is_rate else 1
    plain = _difference(new.name, new.unit, direction, old.samples, new.samples)
    plain = replace(plain, is_ours=not new.yardstick)
    if not old.paced or not new.paced:
        return plain
    paced = _difference(new.name, new.unit, direction, old.paced, new.paced)
    return replace(plain, paced_ratio=paced.ratio, p=max(plain.p, paced.p))


def _ratio_direction(row: Row, other: Row) -> int:
    """Return 1 where a larger ratio is worse: of ours to a yardstick, of times; -1 where it is better."""
    if row.yardstick == other.yardstick:
        return 0
    sign = -1 if row.is_rate else 1
    return sign if other.yardstick else -sign


def _difference(
    name: str,
    unit: str,
    direction: int,
    before: Sequence[float],
    now: Sequence[float],
) -> Difference:
    old, new = np.array(before), np.array(now)
    was, is_now = float(np.median(old)), float(np.median(new))
    low, high = _interval(old, new)
    return Difference(
        name=name,
        unit=unit,
        direction=direction,
        is_ours=True,
        n_before=len(old),
        n_now=len(new),
        before=was,
        now=is_now,
        ratio=is_now / was if was > 0 else None,
        low=low,
        high=high,
        paced_ratio=None,
        p=_p_value(old, new),
    )


def _p_value(old: Any, new: Any) -> float:
    from scipy import stats

    if np.ptp(np.concatenate([old, new])) == 0:
        return 1.0
    return float(stats.mannwhitneyu(new, old, alternative="two-sided").pvalue)


def _interval(old: Any, new: Any) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the ratio of medians, by bootstrap; None where it has none."""
    from scipy import stats

    if min(len(old), len(new)) < FEWEST or old.min() <= 0:
        return None, None
    with warnings.catch_warnings():  # samples that do not vary
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (new, old),
            lambda a, b, axis=-1: np.median(a, axis=axis) / np.median(b, axis=axis),
            n_resamples=RESAMPLES,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    return float(found.low), float(found.high)


def _judged(
    found: Sequence[Difference], threshold: float, alpha: float, *, judges_times: bool
) -> Iterator[Difference]:
    enough = can_show([(each.n_before, each.n_now) for each in found], alpha)
    adjusted = holm([f.p if can else None for f, can in zip(found, enough, strict=True)])
    for each, p in zip(found, adjusted, strict=True):
        verdict = _verdict(each, p, alpha)
        is_judged = each.is_ours and (judges_times or each.unit in ("x", *OF_SIZE))
        beyond = is_judged and each.worsening > 1 + threshold
        yield replace(
            each,
            p_adjusted=p,
            verdict=verdict,
            is_regression=verdict is Verdict.WORSE and beyond,
        )


def _verdict(each: Difference, p: float | None, alpha: float) -> Verdict:
    if p is None:
        return Verdict.TOO_FEW
    if p >= alpha or each.now == each.before:
        return Verdict.SAME
    if each.direction == 0:
        return Verdict.CHANGED
    if each.worsening == 1:
        return Verdict.SAME
    return Verdict.WORSE if each.worsening > 1 else Verdict.BETTER


def can_show(sizes: Sequence[tuple[int, int]], alpha: float) -> list[bool]:
    """Return for each pair of sample sizes whether its test could show anything, after correction.

    The least p-value of Mann and Whitney's test is 2 / C(n + m, n). Tarone (1990): correct for the
    smallest k for which at most k tests could reach alpha / k, and test those alone.

    >>> can_show([(3, 3), (15, 15), (15, 15)], alpha=0.05)
    [False, True, True]
    """
    least = [2 / math.comb(n + m, n) for n, m in sizes]
    for k in range(1, len(sizes) + 1):
        if sum(p <= alpha / k for p in least) <= k:
            return [p <= alpha / k for p in least]
    return [True] * len(sizes)
