"""Comparing benchmarks: what is claimed of samples whose distributions are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.benchmarks.comparing import Verdict, can_show, compare_reports
from flows.benchmarks.files import Report, read_report, write_report
from flows.benchmarks.history import pooled
from flows.benchmarks.showing import in_words
from sim_core.errors import DataError
from tests.bench.figures import CASES, document, drawn, report, times

REPETITIONS = 200


def test_equal_code_is_called_different_in_fewer_comparisons_than_alpha() -> None:
    claimed = regressed = 0
    for seed in range(REPETITIONS):
        found = compare_reports(drawn(2 * seed), drawn(2 * seed + 1))
        claimed += any(each.verdict is not Verdict.SAME for each in found.differences)
        regressed += bool(found.regressions)
    assert claimed / REPETITIONS <= 0.05
    assert regressed == 0


def test_without_correction_the_same_would_claim_too_much() -> None:
    """Holm earns its place: five cases without it are wrong four times as often."""
    claimed = 0
    for seed in range(REPETITIONS):
        found = compare_reports(drawn(2 * seed), drawn(2 * seed + 1))
        claimed += any(each.p < 0.05 for each in found.differences)
    assert claimed / REPETITIONS > 0.1


def test_planted_slow_down_is_found_in_the_case_that_has_it_and_in_no_other() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        before = report({name: times(rng, 15) for name in CASES})
        slow = {name: times(rng, 15, scale=1.3 if name == "verify" else 1.0) for name in CASES}
        found = compare_reports(before, report(slow))
        assert [each.name for each in found.regressions] == ["verify"]
        (regression,) = found.regressions
        assert regression.low is not None
        assert regression.low > 1
        assert in_words(regression) == "slower"


def test_a_few_per_cent_are_no_regression_even_where_they_are_significant() -> None:
    found = compare_reports(drawn(1, n=200), drawn(2, n=200, scale=1.04))
    assert {each.verdict for each in found.differences} == {Verdict.WORSE}
    assert not found.regressions
    assert (
        len(
            compare_reports(
                drawn(1, n=200), drawn(2, n=200, scale=1.04), threshold=0.01
            ).regressions
        )
        > 0
    )


def test_large_difference_of_noise_alone_is_no_regression() -> None:
    """Twice as slow in the median, and half of the samples as before: not significant."""
    before = report({"step": [1.0, 1.0, 2.0, 2.1, 1.1, 2.2, 1.2]})
    now = report({"step": [2.0, 2.1, 1.05, 2.3, 1.15, 1.25, 2.4]})
    found = compare_reports(before, now)
    (step,) = found.differences
    assert step.worsening > 1.2
    assert step.verdict is Verdict.SAME
    assert not found.regressions


def test_nights_that_differ_as_a_whole_raise_no_alarm_against_those_before() -> None:
    """Machines are some per cent faster or slower from night to night, all samples of a night alike."""
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        nights = [
            drawn(1_000 * seed + night, n=5, scale=float(np.exp(0.05 * rng.standard_normal())))
            for night in range(11)
        ]
        alarms += bool(compare_reports(pooled(nights[:-1]), nights[-1]).regressions)
    assert alarms <= 5


def test_too_few_samples_are_called_just_that_and_cost_the_others_nothing() -> None:
    rng = np.random.default_rng(1)
    before = {"few": times(rng, 3), "step": times(rng, 15)}
    now = {"few": 9 * times(rng, 3), "step": 1.5 * times(rng, 15)}
    found = compare_reports(report(before), report(now))
    few, step = found.differences
    assert few.verdict is Verdict.TOO_FEW
    assert step.p_adjusted == step.p
    assert step.is_regression
    assert "few; raise --repeat" in found.notes[-1]


def test_thirteen_cases_of_five_samples_can_show_nothing_and_six_can() -> None:
    assert not any(can_show([(5, 5)] * 13, 0.05))
    assert all(can_show([(5, 5)] * 6, 0.05))
    assert all(can_show([(5, 50)] * 13, 0.05))


def paced(found: Report, pace: float, unit: str = "ms") -> Report:
    """Return a report that was measured on a machine of this pace."""
    rows = [
        row.model_copy(update={"pace_ms": (pace,) * len(row.samples), "unit": unit})
        for row in found.results
    ]
    return found.model_copy(update={"results": tuple(rows)})


def test_what_is_slower_because_the_machine_is_is_no_difference() -> None:
    before, now = paced(drawn(1), 20.0), paced(drawn(2, scale=1.25), 25.0)
    found = compare_reports(before, now)
    assert {each.verdict for each in found.differences} == {Verdict.SAME}
    assert "the machine itself was 25 % slower" in found.notes[0]
    assert compare_reports(before, paced(drawn(2, scale=1.5), 20.0)).regressions


def test_times_of_a_machine_that_is_too_slow_are_not_judged_and_memory_is() -> None:
    found = compare_reports(paced(drawn(1), 20.0), paced(drawn(2, scale=3.0), 30.0))
    assert {each.verdict for each in found.differences} == {Verdict.WORSE}
    assert not found.regressions
    assert "times are not judged" in found.notes[0]
    large = paced(drawn(2, scale=3.0), 30.0, "MB")
    assert compare_reports(paced(drawn(1), 20.0, "MB"), large).regressions


def test_what_is_slower_at_the_same_pace_alone_is_no_regression() -> None:
    """A faster machine hides it; the samples as they are say nothing of it."""
    found = compare_reports(paced(drawn(1), 20.0), paced(drawn(2), 16.0))
    assert not found.regressions


def test_pace_turns_rates_round_and_leaves_memory_alone() -> None:
    slow = paced(drawn(2, scale=0.8), 25.0, "rows/s")
    rate = paced(drawn(1), 20.0, "rows/s")
    assert not compare_reports(rate, slow).regressions
    assert compare_reports(rate, paced(drawn(2, scale=0.5), 20.0, "rows/s")).regressions
    large, small = paced(drawn(2, scale=2.0), 40.0, "MB"), paced(drawn(1), 20.0, "MB")
    assert len(compare_reports(small, large).regressions) == len(CASES)


def renamed(found: Report, **changes: Any) -> Report:
    (row,) = found.results
    return found.model_copy(update={"results": (row.model_copy(update=changes),)})


def test_of_rates_less_is_worse() -> None:
    rng = np.random.default_rng(1)
    before, now = report({"a": times(rng, 15)}), report({"a": 0.5 * times(rng, 15)})
    rates = [renamed(each, unit="rows/s") for each in (before, now)]
    (each,) = compare_reports(*rates).regressions
    assert in_words(each) == "slower"
    assert each.worsening == pytest.approx(2.0, rel=0.1)
    assert not compare_reports(before, now).regressions


def test_a_yardstick_never_regresses_but_ours_does_by_its_ratio_to_it() -> None:
    rng = np.random.default_rng(1)
    one, slow = times(rng, 15), 1.5 * times(rng, 15)

    def both(ours: Any) -> Report:
        found = report({"ours": ours, "numpy": ours})
        mine, other = found.results
        mine = mine.model_copy(update={"ratio_samples": {"numpy": tuple(map(float, ours))}})
        other = other.model_copy(update={"yardstick": True})
        return found.model_copy(update={"results": (mine, other)})

    found = compare_reports(both(one), both(slow))
    assert [each.name for each in found.regressions] == ["ours", "ours x numpy"]
    back = compare_reports(both(slow), both(one))
    assert [in_words(each) for each in back.differences] == ["faster", "lower, better", "faster"]


def test_samples_that_do_not_vary_are_equal_or_not() -> None:
    same = compare_reports(report({"a": [1.0] * 9}), report({"a": [1.0] * 9}))
    assert same.differences[0].verdict is Verdict.SAME
    other = compare_reports(report({"a": [1.0] * 9}), report({"a": [2.0] * 9}))
    assert other.regressions


def test_reader_is_told_of_other_machines_settings_and_cases() -> None:
    before = report({"a": [1.0] * 9, "gone": [1.0]}, machine={"cpus": 64, "cpu_mhz": 1})
    now = report(
        {"a": [1.0] * 9}, machine={"cpus": 2, "cpu_mhz": 2}, settings={"workers": 4, "runs": None}
    )
    machines, settings, cases = compare_reports(before, now).notes
    assert "cpus: 64 and 2" in machines
    assert "mhz" not in machines
    assert "workers 1 and 4" in settings
    assert "gone" in cases


def test_what_has_nothing_in_common_is_refused() -> None:
    with pytest.raises(DataError, match="the baseline has a"):
        compare_reports(report({"a": [1.0]}), report({"b": [1.0]}))
    with pytest.raises(DataError, match="--suite ledger"):
        compare_reports(report({"a": [1.0]}, suite="ledger"), report({"a": [1.0]}))


BAD = {
    "missing": (None, "No such file"),
    "no JSON": ("figures", "is no JSON"),
    "of something else": ('{"a": 1}', "is no benchmark file: suite: Field required"),
    "a list": ("[]", "is no benchmark file"),
    "not numbers": (
        '{"suite":"s","machine":{},"results":[{"name":"a","unit":"ms","samples":["x"]}]}',
        "valid number",
    ),
    "infinite": (
        '{"suite":"s","machine":{},"results":[{"name":"a","unit":"ms","samples":[Infinity]}]}',
        "finite number",
    ),
    "empty": ('{"suite":"s","machine":{},"results":[]}', "holds no samples"),
    "deep": ("[" * 100_000, "is no JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_baseline_is_refused_with_what_is_wrong_with_it(name: str, tmp_path: Path) -> None:
    content, told = BAD[name]
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=told) as refused:
        read_report(path)
    assert str(path) in str(refused.value)
    assert "--output" in str(refused.value)


def test_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = document({"a": [1.0, 2.0]})
    write_report(written, tmp_path / "a.json")
    assert read_report(tmp_path / "a.json") == Report.model_validate(written)
    write_report(written, tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"take the \.json"):
        read_report(tmp_path / "a.csv")


def test_file_of_an_earlier_version_is_compared_by_its_samples(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(
        '{"suite": "forks", "commit": null, "machine": {"cpus": 2}, "results": [{"name": "a", '
        '"unit": "ms", "n": 2, "samples": [1.0, 2.0], "ratios": {"b": 2.0}}]}'
    )
    found = compare_reports(read_report(tmp_path / "old.json"), report({"a": [1.0, 2.0]}))
    assert [each.name for each in found.differences] == ["a"]
