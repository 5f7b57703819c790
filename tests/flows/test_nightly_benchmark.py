"""The benchmark by the clock: it fails on a planted slow-down, and not on noise. Samples are drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import ParameterTypeError

from flows import deployed, forms
from flows.suites import SUITES
from sim_core.errors import DataError, RunFailed
from tests.bench.figures import Drawn


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the worker's workspace; it publishes nothing."""
    monkeypatch.setenv("QUORUMLAB_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("QUORUMLAB_OVERRIDES", "tracking=off")
    return tmp_path / "workspace"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Return what the suite `forks` is for this test."""
    suite = Drawn()
    monkeypatch.setitem(SUITES, "forks", suite.groups)
    monkeypatch.setattr("flows.benchmarks.cases.pace_seconds", suite.pace)
    return suite


def told(key: str = "benchmark") -> str:
    """Return the newest artifact of a key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
        )
    return str(max(found, key=lambda a: a.created).data)


def test_form_offers_every_suite_but_the_one_of_half_an_hour() -> None:
    assert set(get_args(forms.Suite)) == set(SUITES) - {"orchestration"}


def test_night_fails_on_a_planted_slow_down_with_a_report_and_not_on_noise(
    workspace: Path, drawn: Drawn
) -> None:
    deployed.benchmark(suite="forks")
    assert "nothing to compare with yet" in told()
    for _ in range(4):
        deployed.benchmark(suite="forks")
        assert "no regression" in told()

    drawn.scale["insert"] = 1.4
    with pytest.raises(RunFailed, match="benchmark"):
        deployed.benchmark(suite="forks")
    report = told()
    assert "measured again" in report
    assert "regression beyond 20 %: insert (slower" in report
    assert '"name": "insert"' in told("benchmark-figures")
    assert len(list((workspace / "benchmarks").glob("forks-*.json"))) == 6

    deployed.benchmark(suite="forks", threshold=0.6)
    assert "slower" in told()


def test_what_is_slow_in_one_measurement_alone_is_no_regression(
    workspace: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.benchmark(suite="forks", repeat=10)
    groups = drawn.groups
    measured: list[float] = []

    def busy_the_first_time() -> object:
        measured.append(drawn.scale["step"])
        drawn.scale["step"] = 1.5 if len(measured) == 1 else 1.0
        return groups()

    monkeypatch.setitem(SUITES, "forks", busy_the_first_time)
    deployed.benchmark(suite="forks", repeat=10)
    assert len(measured) == 2
    assert "not so when measured again, hence no regression: step" in told()


def test_night_in_which_the_machine_is_slow_is_no_regression_and_one_of_both_is(
    workspace: Path, drawn: Drawn
) -> None:
    deployed.benchmark(suite="forks", repeat=10)
    drawn.machine = 1.25
    deployed.benchmark(suite="forks", repeat=10)
    assert "the machine itself was 25 % slower" in told()
    drawn.scale["step"] = 1.6
    with pytest.raises(RunFailed):
        deployed.benchmark(suite="forks", repeat=10)
    assert "20 %: step (slower" in told()
    drawn.machine = 2.0
    deployed.benchmark(suite="forks", repeat=10)
    assert "times are not judged" in told()


def test_night_is_held_against_a_baseline_that_is_named(workspace: Path, drawn: Drawn) -> None:
    deployed.benchmark(suite="forks", repeat=10)
    (first,) = (workspace / "benchmarks").glob("*.json")
    first.rename(first.with_name("release-1.json"))
    drawn.scale["step"] = 1.5
    deployed.benchmark(suite="forks", repeat=10)  # nothing of its own name is there yet
    deployed.benchmark(suite="forks", repeat=10)
    with pytest.raises(RunFailed):
        deployed.benchmark(suite="forks", repeat=10, baseline="release-1")
    with pytest.raises(DataError, match=r"none\.json: No such file"):
        deployed.benchmark(suite="forks", baseline="none")
    with pytest.raises(ParameterTypeError, match="should match pattern"):
        deployed.benchmark(suite="forks", baseline="../release-1")


def test_figures_of_another_machine_and_damaged_files_are_no_history(
    workspace: Path, drawn: Drawn
) -> None:
    deployed.benchmark(suite="forks", repeat=10)
    (first,) = (workspace / "benchmarks").glob("*.json")
    other = json.loads(first.read_text())
    other["machine"]["cpus"] = 4_096
    first.write_text(json.dumps(other))
    first.with_name("forks-20260101-030000.json").write_text('{"suite": "forks"')
    drawn.scale["step"] = 9.0
    deployed.benchmark(suite="forks", repeat=10)
    assert "nothing to compare with yet" in told()
