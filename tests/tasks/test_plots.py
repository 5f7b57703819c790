from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core.results import Interval, RunRecord, interval, point_intervals
from tasks.draw_plots import (
    MAIN_METRICS,
    MOST_CURVES,
    MOST_ROWS,
    draw_all,
    draw_curves,
    draw_intervals,
    spread_out,
)
from tasks.plots.step_means import OF_ATTACKS, step_means
from tasks.plots.style import DASHES, PALETTE, WORDS, short

PNG = b"\x89PNG\r\n\x1a\n"
N_STEPS = 12


def make_record(point: int, replicate: int, **changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "run_id": f"{point}-{replicate}",
        "number": 0,
        "point_index": point,
        "label": f"point-{point}",
        "point": {},
        "replicate": replicate,
        "seed": 1,
        "state": "finished",
        "steps": N_STEPS,
        "steps_executed": 0,
        "resumed_from_step": 0,
        "horizon": N_STEPS,
        "ledger_head": "",
        "ledger_rows": 0,
        "metrics": dict.fromkeys(MAIN_METRICS, 0.1 * replicate + 0.01 * point),
        "wall_seconds": 0.0,
        "claimed_at": 0.0,
        "config": {},
    }
    return RunRecord(**(values | changes))


def make_steps(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return rows of steps with attacks in steps 3 to 8, and AUROC in every fourth step."""
    frames = []
    for record in records:
        rng = np.random.default_rng([record.point_index, record.replicate])
        step = np.arange(N_STEPS)
        attacked = (step >= 3) & (step < 9)
        frame = pd.DataFrame({"run_id": record.run_id, "label": record.label, "step": step})
        frame["honest_tp"] = np.where(attacked, 5, 0)
        frame["honest_fn"] = np.where(attacked, 1, 0)
        frame["f1"] = np.where(attacked, rng.uniform(0.5, 1, N_STEPS), 0.0)
        frame["auroc"] = np.where(step % 4 == 0, rng.uniform(0.5, 1, N_STEPS), np.nan)
        frame["true_confirmations"] = rng.integers(0, 2, N_STEPS).astype(float)
        frame["false_confirmations"] = 0.0
        frame["reputation_dishonest"] = np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def make_records(points: int, replicates: int) -> list[RunRecord]:
    return [make_record(p, r) for p in range(points) for r in range(replicates)]


def size_of(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(PNG)
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def test_all_plots_are_written_and_readable(tmp_path: Path) -> None:
    records = make_records(3, 4)
    folder = tmp_path / "new" / "plots"
    paths = draw_all(make_steps(records), records, point_intervals(records, 3), folder)
    assert [path.name for path in paths] == [
        "curve_f1.png",
        "curve_true_confirmations.png",
        "curve_false_confirmations.png",
        "intervals.png",
    ]
    for path in paths:
        width, height = size_of(path)
        assert width > 1000
        assert height > 500


def test_drawing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    records = make_records(2, 3)
    arguments = (make_steps(records), records, point_intervals(records, 2))
    first, second = (draw_all(*arguments, tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_without_finished_runs_there_is_nothing_to_draw(tmp_path: Path) -> None:
    records = [make_record(0, 0, state="failed", metrics={})]
    assert draw_all(make_steps(records), records, [{}], tmp_path) == []


def test_runs_without_a_result_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [*make_records(2, 2), make_record(1, 2, state="quarantined")]
    drawn: list[set[str]] = []

    def note(steps: pd.DataFrame, metric: str, path: Path) -> Path:
        drawn.append(set(steps["run_id"]))
        return path

    monkeypatch.setattr("tasks.draw_plots.draw_curves", note)
    draw_all(make_steps(records), records, point_intervals(records, 2), tmp_path)
    assert drawn
    assert all("1-2" not in runs and "1-1" in runs for runs in drawn)


def test_curves_are_means_with_t_intervals_over_replicates() -> None:
    records = make_records(2, 5)
    steps = make_steps(records)
    curve = step_means(steps[steps["label"] == "point-1"], "f1")
    values = steps[(steps["label"] == "point-1") & (steps["step"] == 4)]["f1"]
    expected = interval(values.tolist())
    assert tuple(curve.loc[4]) == pytest.approx((expected.mean, expected.ci_low, expected.ci_high))


def test_undefined_values_are_left_out_and_not_zero() -> None:
    steps = make_steps(make_records(1, 2))
    known = step_means(steps, "auroc")["mean"].dropna()
    assert known.index.tolist() == [0, 4, 8]
    assert known.min() >= 0.5


@pytest.mark.parametrize("metric", sorted(OF_ATTACKS))
def test_steps_without_attacks_are_no_part_of_curves_about_attacks(metric: str) -> None:
    steps = make_steps(make_records(1, 2)).assign(**{metric: 0.5})
    assert step_means(steps, metric).index.tolist() == list(range(3, 9))


def test_confirmations_are_summed_over_steps_for_each_run() -> None:
    steps = make_steps(make_records(1, 3))
    curve = step_means(steps, "true_confirmations")["mean"]
    totals = steps.groupby("run_id")["true_confirmations"].sum()
    assert curve.iloc[-1] == pytest.approx(totals.mean())
    assert curve.is_monotonic_increasing


@pytest.mark.parametrize("metric", ["reputation_dishonest", "auroc", "true_confirmations"])
@pytest.mark.parametrize("points", [1, 3, 12, MOST_CURVES + 2])
def test_any_number_of_points_and_missing_values_can_be_drawn(
    tmp_path: Path, points: int, metric: str
) -> None:
    steps = make_steps(make_records(points, 1))
    path = draw_curves(steps, metric, tmp_path / "curve.png")
    assert max(size_of(path)) < 3000


def test_intervals_of_many_points_stay_a_picture(tmp_path: Path) -> None:
    records = make_records(MOST_ROWS + 40, 2)
    points = {r.label: i for r, i in zip(records[::2], point_intervals(records, 100), strict=True)}
    path = draw_intervals(points, MAIN_METRICS, tmp_path / "intervals.png", records)
    assert max(size_of(path)) < 10_000


def test_metrics_without_values_have_no_panel(tmp_path: Path) -> None:
    nothing = Interval(0, None, None, None, None)
    some = interval([0.1, 0.2, 0.4])
    narrow, wide = (
        draw_intervals({"a": {"f1": some, "recall": second}}, ["f1", "recall", "x"], path)
        for second, path in ((nothing, tmp_path / "1.png"), (some, tmp_path / "2.png"))
    )
    assert size_of(narrow)[0] < size_of(wide)[0]


def test_an_experiment_without_any_value_is_drawn_too(tmp_path: Path) -> None:
    assert size_of(draw_intervals({"a": {}}, ["f1"], tmp_path / "none.png"))[0] > 0


def test_curves_differ_in_colour_or_line_and_have_words() -> None:
    looks = {(i % len(PALETTE), i % len(DASHES)) for i in range(MOST_CURVES)}
    assert len(looks) == MOST_CURVES
    assert set(MAIN_METRICS) <= set(WORDS)


@given(st.lists(st.floats(-0.5, 1.5), max_size=8))
def test_labels_never_overlap_and_keep_their_order(places: list[float]) -> None:
    result = spread_out(places, 0.055)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in result)
    apart = np.diff(sorted(result))
    assert (apart >= 0.055 - 1e-6).all()
    by_place = sorted(range(len(places)), key=lambda i: places[i])
    assert [result[i] for i in by_place] == sorted(result)


@given(st.text(min_size=1, max_size=64))
def test_labels_are_short(label: str) -> None:
    assert len(short(label)) <= 26


def test_importing_the_module_does_not_import_matplotlib() -> None:
    code = "import sys, tasks.draw_plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
