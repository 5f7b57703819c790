"""Comparisons of numbers whose truth is known: simulated here, or computed by others."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from sim_core.comparison.bootstrap import bootstrap_of_pairs, bootstrap_of_samples
from sim_core.comparison.corrections import holm
from sim_core.comparison.differences import (
    Difference,
    Method,
    paired_difference,
    unpaired_difference,
    variance_saved,
)
from sim_core.comparison.planning import replicates_needed
from sim_core.comparison.verdicts import Verdict, judge, needed

EXPERIMENTS = 2_000
REPLICATES = 10
NOTHING_MATTERS = 1e9
"""With such a smallest effect whatever is not shown is excluded."""


def shared(seed: int, points: int, metrics: int = 3, n: int = REPLICATES) -> np.ndarray:
    """Return values [EXPERIMENTS, points, metrics, n] whose replicates have luck in common."""
    random = np.random.default_rng(seed)
    luck = random.normal(size=(EXPERIMENTS, 1, metrics, n))
    return 10 + luck + 0.7 * random.normal(size=(EXPERIMENTS, points, metrics, n))


def within(successes: int, trials: int, probability: float) -> bool:
    """Return whether so many successes are among the 99.9 % that chance gives."""
    low, high = stats.binom.interval(0.999, trials, probability)
    return bool(low <= successes <= high)


# --- what is found where there is nothing, and where there is something -------------------


def test_family_of_equal_points_gives_a_false_alarm_at_alpha_only() -> None:
    values = shared(seed=1, points=3)
    alarms = uncorrected = 0
    for experiment in values:
        found = [
            paired_difference(point[m], experiment[0, m])
            for point in experiment[1:]
            for m in (0, 1, 2)
        ]
        p_values = [difference.p for difference in found]
        verdicts = [
            judge(difference, p, NOTHING_MATTERS, "f1", 0.05)
            for difference, p in zip(found, holm(p_values), strict=True)
        ]
        alarms += any(verdict != Verdict.NO_DIFFERENCE for verdict in verdicts)
        uncorrected += min(p for p in p_values if p is not None) < 0.05
    assert alarms <= stats.binom.ppf(0.999, EXPERIMENTS, 0.05)
    assert alarms >= 0.02 * EXPERIMENTS, "a correction that never finds anything is no merit"
    assert uncorrected > 0.15 * EXPERIMENTS, "six looks without correction do find something"


@pytest.mark.parametrize("n", [3, 10])
def test_interval_of_pairs_covers_the_truth_as_often_as_it_says(n: int) -> None:
    values = shared(seed=2, points=2, metrics=1, n=n)[:, :, 0]
    found = [paired_difference(point + 0.3, baseline) for baseline, point in values]
    assert within(covers(found, 0.3), EXPERIMENTS, 0.95)


def test_welch_interval_covers_the_truth_with_unequal_sizes_and_variances() -> None:
    random = np.random.default_rng(3)
    found = [
        unpaired_difference(random.normal(1.3, 3.0, 8), random.normal(1.0, 1.0, 20))
        for _ in range(EXPERIMENTS)
    ]
    assert covers(found, 0.3) / EXPERIMENTS == pytest.approx(0.95, abs=0.015)


def covers(found: list[Difference], truth: float) -> int:
    count = 0
    for difference in found:
        assert difference.ci_low is not None
        assert difference.ci_high is not None
        count += difference.ci_low < truth < difference.ci_high
    return count


@pytest.mark.parametrize("is_paired", [True, False])
def test_planned_replicates_show_the_effect_as_often_as_planned(is_paired: bool) -> None:
    n = replicates_needed(0.8, 1.0, alpha=0.05, is_paired=is_paired)
    assert n is not None
    random = np.random.default_rng(4)
    shown = 0
    for _ in range(EXPERIMENTS):
        if is_paired:
            found = paired_difference(random.normal(0.8, 1.0, n), np.zeros(n))
        else:
            found = unpaired_difference(random.normal(0.8, 1.0, n), random.normal(0.0, 1.0, n))
        assert found.p is not None
        shown += found.p < 0.05
    expected = TTestPower() if is_paired else TTestIndPower()
    assert within(shown, EXPERIMENTS, float(expected.power(0.8, n, 0.05)))
    assert shown > 0.77 * EXPERIMENTS


# --- the same as others compute -----------------------------------------------------------


def test_paired_difference_equals_that_of_scipy() -> None:
    a, b = np.random.default_rng(5).normal([[0.5], [0.0]], size=(2, 12))
    found = paired_difference(a, b, alpha=0.01)
    theirs = stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(0.99)
    assert found.test == Method.PAIRED_T
    assert (found.p, found.difference) == pytest.approx((theirs.pvalue, (a - b).mean()))
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
    d_z = (a - b).mean() / (a - b).std(ddof=1)
    assert found.effect_size == pytest.approx(d_z * (1 - 3 / (4 * 11 - 1)), rel=1e-3)


def test_welch_equals_that_of_statsmodels() -> None:
    random = np.random.default_rng(6)
    a, b = random.normal(0.4, 2.0, 9), random.normal(0.0, 1.0, 15)
    found = unpaired_difference(a, b)
    theirs = CompareMeans(DescrStatsW(a), DescrStatsW(b))
    _, p, _ = theirs.ttest_ind(usevar="unequal")
    assert found.p == pytest.approx(p)
    assert (found.ci_low, found.ci_high) == pytest.approx(theirs.tconfint_diff(usevar="unequal"))


def test_bootstrap_equals_that_of_scipy_sample_by_sample() -> None:
    random = np.random.default_rng(7)
    samples = [random.exponential(size=n) for n in (8, 12, 8)]
    together = bootstrap_of_pairs(samples)
    for sample, bounds in zip(samples, together, strict=True):
        theirs = stats.bootstrap((sample,), np.mean, n_resamples=20_000, rng=1).confidence_interval
        assert bounds == pytest.approx((theirs.low, theirs.high), rel=0.1)
    two = bootstrap_of_samples(samples[0], samples[1])
    theirs = stats.bootstrap(
        (samples[0], samples[1]),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=20_000,
        rng=1,
    ).confidence_interval
    assert two == pytest.approx((theirs.low, theirs.high), rel=0.1, abs=0.05)


def test_bootstrap_covers_the_truth_of_skewed_values() -> None:
    random = np.random.default_rng(8)
    bounds = bootstrap_of_pairs(list(random.exponential(size=(400, 25))))
    covered = sum(low < 1 < high for low, high in (b for b in bounds if b is not None))
    assert 0.87 * 400 <= covered <= 0.97 * 400


def test_bootstrap_is_the_same_each_time_and_undefined_without_variation() -> None:
    sample = np.random.default_rng(9).normal(size=9)
    assert bootstrap_of_pairs([sample]) == bootstrap_of_pairs([sample])
    assert bootstrap_of_pairs([np.ones(9), sample[:3], sample])[:2] == [None, None]
    assert bootstrap_of_samples(np.ones(5), np.ones(6)) is None


def test_holm_equals_a_computation_by_hand() -> None:
    """Sorted: .005 * 4, .01 * 3, .03 * 2, then .04 * 1, but never less than the one before."""
    adjusted = holm([0.01, None, 0.04, 0.03, 0.005])
    assert adjusted[1] is None
    assert [p for p in adjusted if p is not None] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None]) == [None]


@pytest.mark.parametrize("is_paired", [True, False])
@pytest.mark.parametrize(
    ("effect", "alpha"), [(0.2, 0.05), (0.5, 0.05), (1.0, 0.0005), (2.0, 0.01)]
)
def test_replicates_needed_equal_those_of_statsmodels(
    effect: float,
    alpha: float,
    is_paired: bool,
) -> None:
    n = replicates_needed(effect, 1.0, alpha=alpha, is_paired=is_paired)
    assert n is not None
    power = (TTestPower() if is_paired else TTestIndPower()).power
    assert power(effect, n, alpha) >= 0.8
    assert n == 2 or power(effect, n - 1, alpha) < 0.8


def test_replicates_needed_are_not_told_beyond_a_million() -> None:
    assert replicates_needed(1e-4, 1.0, alpha=0.05, is_paired=True) is None
    assert replicates_needed(1e6, 1.0, alpha=0.05, is_paired=True) == 2


def test_plan_is_for_what_matters_and_not_for_what_was_seen() -> None:
    random = np.random.default_rng(10)
    noise = random.normal(size=12)
    small, large = (paired_difference(noise - noise.mean() + d, np.zeros(12)) for d in (0.01, 0.3))
    assert needed(small, 0.5, 0.05, 1) == needed(large, 0.5, 0.05, 1)
    more = needed(small, 0.5, 0.05, 10)
    assert more == replicates_needed(0.5, float(noise.std(ddof=1)), alpha=0.005, is_paired=True)


def test_variance_saved_is_what_pairing_takes_from_the_variance_of_a_difference() -> None:
    random = np.random.default_rng(11)
    luck, a, b = random.normal(size=(3, 100_000))
    assert variance_saved(luck + a, luck + b) == pytest.approx(0.5, abs=0.01)
    assert variance_saved(a, b) == pytest.approx(0.0, abs=0.01)
    assert variance_saved(luck + a, b - luck) == pytest.approx(-0.5, abs=0.01)
    assert variance_saved(np.ones(3), np.ones(3)) is None


# --- what cannot be tested ----------------------------------------------------------------


def test_equal_values_are_equal_and_have_nothing_to_test() -> None:
    same = np.array([0.1, 0.3, 0.2])
    found = paired_difference(same, same)
    assert (found.test, found.difference, found.p) == (Method.EQUAL, 0.0, 1.0)
    assert judge(found, 1.0, None, "f1", 0.05) == Verdict.EQUAL
    assert unpaired_difference(np.ones(4), np.ones(5)).test == Method.EQUAL


def test_differences_that_never_vary_are_tested_by_their_sign() -> None:
    base = np.array([0.1, 0.3, 0.2, 0.7, 0.6, 0.4])
    found = paired_difference(base + 0.1, base)
    assert (found.test, found.p) == (Method.SIGN, stats.binomtest(6, 6).pvalue)
    assert (found.ci_low, found.effect_size) == (None, None)
    apart = unpaired_difference(np.full(3, 2.0), np.full(4, 1.0))
    assert apart.p == pytest.approx(2 / 35)


def test_one_value_or_none_has_no_p() -> None:
    one = paired_difference(np.array([2.0]), np.array([1.5]))
    assert (one.test, one.difference, one.p) == (Method.NONE, 0.5, None)
    assert judge(one, None, 0.1, "f1", 0.05) == Verdict.TOO_FEW
    none = paired_difference(np.array([]), np.array([]))
    assert judge(none, None, 0.1, "f1", 0.05) == Verdict.UNDEFINED
    assert unpaired_difference(np.array([1.0]), np.array([])).difference is None
    assert unpaired_difference(np.array([1.0]), np.array([1.0, 2.0])).p is None


def test_package_is_imported_without_the_large_libraries() -> None:
    code = (
        "import sys, sim_core.comparison.report; "
        "print([m for m in ('pandas', 'scipy.stats', 'statsmodels') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
