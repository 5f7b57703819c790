"""The command as people type it: exit codes, files, history. Samples are drawn, so that no speed is judged."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import cli
from flows.benchmarks.files import write_report
from flows.dashboard.tracked import tendencies
from flows.suites import SUITES
from tests.bench.figures import Drawn, document, times


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Any:
    """Return what calls the command with a workspace of the test: code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUORUMLAB_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "100")

    def benchmark(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quorumlab", "benchmark", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 1), said.out, said.err

    return benchmark


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Return what the suite `forks` is for this test."""
    suite = Drawn()
    monkeypatch.setitem(SUITES, "forks", suite.groups)
    monkeypatch.setattr("flows.benchmarks.cases.pace_seconds", suite.pace)
    return suite


UNTRACKED = ("--suite", "forks", "--tracking", "off")


def test_baseline_is_compared_with_what_is_measured(call: Any, drawn: Drawn) -> None:
    code, out, _ = call(*UNTRACKED, "--output", "old.json")
    assert (code, "suite forks" in out) == (0, True)
    code, out, _ = call(*UNTRACKED, "--baseline", "old.json")
    assert code == 0
    assert "no regression" in out
    drawn.scale["insert"] = 1.3
    code, out, _ = call(*UNTRACKED, "--baseline", "old.json", "--output", "new.json")
    assert code == 1
    assert "regression beyond 20 %: insert (slower, +3" in out
    assert max(map(len, out.splitlines())) <= 100
    code, out, _ = call("--baseline", "old.json", *UNTRACKED, "--threshold", "50%")
    assert code == 0
    assert "slower" in out


def test_two_files_are_compared_without_measuring(call: Any, drawn: Drawn, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, scale in (("old", 1.0), ("new", 1.3)):
        samples = {"step": times(rng, 15, scale=scale), "insert": times(rng, 15)}
        write_report(document(samples), tmp_path / f"{name}.json")
    code, out, _ = call("--compare", "old.json", "new.json", "--output", "verdicts.json")
    assert code == 1
    assert "step (slower" in out
    found = json.loads((tmp_path / "verdicts.json").read_text())
    assert found["regressions"] == ["step"]
    assert call("--compare", "new.json", "old.json", "--output", "verdicts.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "verdicts.csv").read_text().splitlines()))
    assert [(row["name"], row["verdict"]) for row in rows] == [
        ("step", "better"),
        ("insert", "no difference shown"),
    ]
    assert drawn.calls == 0
    assert not (tmp_path / "workspace").exists()


MISTAKES = {
    "no baseline": (["--baseline", "none.json"], "none.json: No such file"),
    "baseline of another suite": (["--baseline", "step.json"], "is of suite 'step'"),
    "one file missing": (["--compare", "step.json", "none.json"], "none.json"),
    "two baselines": (["--compare", "a", "b", "--baseline", "c"], "leave --baseline out"),
    "threshold": (["--threshold", "much"], "expected a share as 20% or 0.2"),
    "threshold in per cent without the sign": (["--threshold", "20"], "20% or 0.2"),
    "output": (["--output", "a.txt"], "must end in .json or .csv"),
    "sizes of a suite that has its own": (["--agents", "5"], "leave --suite out"),
    "no number of agents": (["--suite", "run", "--agents", "5,x"], "whole numbers with commas"),
    "one agent": (["--suite", "run", "--agents", "1"], "of 2 at least"),
    "tracking": (["--tracking", "on"], "mlflow_local, mlflow_server, off"),
    "unknown suite": (["--suite", "stepp"], "no suite 'stepp'"),
    "trend of a baseline": (["--trend", "--baseline", "step.json"], "leave --compare, --baseline"),
    "no history": (["--trend"], "measure first"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_refused_before_anything_is_measured(
    mistake: str, call: Any, drawn: Drawn, tmp_path: Path
) -> None:
    write_report(document({"a": [1.0]}, suite="step"), tmp_path / "step.json")
    words, told = MISTAKES[mistake]
    code, out, err = call(*UNTRACKED, *words)
    assert code == 2
    assert told in err
    assert (out, drawn.calls) == ("", 0)


def test_trend_of_the_history_in_mlflow_and_in_files(
    call: Any, drawn: Drawn, tmp_path: Path
) -> None:
    words = ("--suite", "forks", "--repeat", "5", "--warmup", "0")
    for night in range(5):
        drawn.scale = {"step": 1.0 + 0.2 * night, "insert": 1.0}
        assert call(*words)[0] == 0
    from_mlflow = call("--trend", "--suite", "forks")[1]
    from_files = call("--trend", *UNTRACKED)[1]
    for out in (from_mlflow, from_files):
        step, insert = (next(x for x in out.splitlines() if n in x) for n in ("step", "insert"))
        assert "degrading" in step
        assert "stable" in insert
    assert len(list((tmp_path / "workspace" / "benchmarks").glob("forks-*.json"))) == 5

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'workspace' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("benchmarks")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    assert len(runs) == 5
    assert runs[0].data.tags["quorumlab.suite"] == "forks"
    assert runs[0].data.params["unit/step"] == "ms"
    assert "median/step" in runs[0].data.metrics
    (artifact,) = client.list_artifacts(runs[0].info.run_id)
    assert artifact.path.endswith(".json")

    files = list((tmp_path / "workspace" / "benchmarks").iterdir())
    for file in files[1:]:
        file.unlink()
    shown = tendencies(tmp_path / "workspace", "forks")
    assert (shown.source, shown.trouble) == ("MLflow", None)
    cases = shown.table.set_index("case")
    assert tuple(cases.loc["step", ["benchmarks", "tendency"]]) == (5, "degrading")
    assert cases.loc["step", "newest"] == runs[-1].data.metrics["median/step"]
    (tmp_path / "workspace" / "mlflow.db").unlink()
    from_file = tendencies(tmp_path / "workspace", "forks")
    assert from_file.source == "files"
    assert set(from_file.table["benchmarks"]) == {1}


def test_a_benchmark_works_while_mlflow_is_away(
    call: Any, drawn: Drawn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    words = ("--suite", "forks", "--repeat", "5", "--tracking", "mlflow_server")
    code, out, err = call(*words)
    assert code == 0
    assert "suite forks" in out
    assert "warning" in err
    (kept,) = (tmp_path / "workspace" / "benchmarks").glob("*.json")
    assert json.loads(kept.read_text())["suite"] == "forks"
    shown = tendencies(tmp_path / "workspace", "forks")
    assert shown.source == "files"
    assert "127.0.0.1:1" in str(shown.trouble)
    assert set(shown.table["benchmarks"]) == {1}


@pytest.mark.slow
def test_whole_runs_of_sizes_by_two_processes(call: Any, tmp_path: Path) -> None:
    code, out, _ = call(
        "--agents", "4,6", "--steps", "5", "--cache-size", "0,1", "--workers", "2", "--repeat", "2",
        "--warmup", "0", "--tracking", "off", "--output", "baseline.json",
    )  # fmt: skip
    assert code == 0
    found = json.loads((tmp_path / "baseline.json").read_text())
    assert found["suite"] == "run"
    assert [(row["name"], row["n"]) for row in found["results"]] == [
        ("run_4x5_cache0", 4),
        ("run_4x5_cache1", 4),
        ("run_6x5_cache0", 4),
        ("run_6x5_cache1", 4),
    ]
    without, with_cache = found["results"][:2]
    assert without["figures"]["cache_hit_share"] == 0
    assert with_cache["figures"]["cache_hit_share"] > 0
    assert len(with_cache["ratio_samples"]["run_4x5_cache0"]) == 4
    assert "run_6x5_cache1" in out
