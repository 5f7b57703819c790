"""The flow in this process, on one temporary Prefect server for all tests of the session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.compose import compose_experiment
from flows.environment import prepare_environment
from sim_core.config import ExperimentConfig
from sim_core.plan import Point


@pytest.fixture(scope="session", autouse=True)
def prefect_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep Prefect's records of these tests in a temporary folder."""
    folder = tmp_path_factory.mktemp("prefect")
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ["PREFECT_HOME"] = str(folder)
    os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
    prepare_environment(folder)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def run_flow_in() -> Callable[..., Any]:
    """Return a function from a workspace and overrides to the outcome of the flow.

    Runs inline and unpublished unless the overrides say otherwise; a flow that ends in RunFailed
    still gives its outcome, whose state is `failed`.
    """

    def run(workspace: Path, *overrides: str) -> Any:
        from flows.experiment import run_experiment

        return _witnessed(run_experiment, workspace, overrides)

    return run


@pytest.fixture
def run_flow(run_flow_in: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Return `run_flow_in` with a workspace per test."""

    def run(*overrides: str, workspace: Path | None = None) -> Any:
        return run_flow_in(workspace or tmp_path / "workspace", *overrides)

    return run


@pytest.fixture(scope="session")
def run_plainly_in() -> Callable[..., Any]:
    """Return what `run_flow_in` returns, but without Prefect, Great Expectations and plots."""
    quick = ("validation.engine=sql", "output.plots=false")

    def run(workspace: Path, *overrides: str) -> Any:
        from flows.launch import plainly

        return _witnessed(lambda c, p: plainly(c, p, True), workspace, (*quick, *overrides))

    return run


@pytest.fixture
def run_plainly(run_plainly_in: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Return `run_plainly_in` with a workspace per test."""

    def run(*overrides: str, workspace: Path | None = None) -> Any:
        return run_plainly_in(workspace or tmp_path / "workspace", *overrides)

    return run


def _witnessed(
    conduct: Callable[[ExperimentConfig, list[Point]], object],
    workspace: Path,
    overrides: tuple[str, ...],
) -> Any:
    from flows.bench import SPECTATOR, Bench, Outcome, Spectator
    from sim_core.errors import RunFailed

    class Witness(Spectator):
        outcome: Outcome | None = None

        def finished(self, outcome: Outcome, bench: Bench) -> None:
            del bench
            self.outcome = outcome

    chosen = [o for o in ("executor=inline", "tracking=off") if not _is_chosen(o, overrides)]
    config, points = compose_experiment([*chosen, *overrides, f"workspace={workspace}"])
    witness = Witness()
    token = SPECTATOR.set(witness)
    try:
        conduct(config, points)
    except RunFailed:
        assert witness.outcome is not None
        assert witness.outcome.state == "failed"
    finally:
        SPECTATOR.reset(token)
    return witness.outcome


def _is_chosen(override: str, overrides: tuple[str, ...]) -> bool:
    return any(o.startswith(override.split("=")[0] + "=") for o in overrides)
