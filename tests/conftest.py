"""What tests share: small configurations, ledgers in a temporary folder, the real data."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from sim_core.checkpoint import CheckpointFolder
from sim_core.config import ModelConfig
from sim_core.contracts.cases import SMALL, merged
from sim_core.identity import model_version, result_relevant, run_key
from sim_core.ledger.store import Claim, Ledger, open_engine
from sim_core.ledger.tables import Experiment
from sim_core.model import NetworkModel
from sim_core.simulate import RunSpec, Segment, simulate
from tests.postgres import HOW_TO_INSTALL, Postgres, find_programs, postgres_server
from tests.program import Program, prefect_server

# A shell starts background jobs with SIGINT ignored, which the programs that tests interrupt would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Prefect reads it when it is first imported, and a busy machine takes longer than its 20 s.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")

# `pytest --hypothesis-profile=explore` looks further than the examples that every run repeats.
settings.register_profile("repeat", deadline=None, derandomize=True, database=None, max_examples=50)
settings.register_profile("explore", deadline=None, max_examples=2_000, database=None)
settings.load_profile("repeat")


@pytest.fixture(scope="session")
def make_config() -> Callable[..., ModelConfig]:
    """Return a function from groups that differ to a small configuration with two campaigns."""

    def make(**groups: Any) -> ModelConfig:
        return ModelConfig.model_validate(merged(SMALL, groups))

    return make


@pytest.fixture
def make_model(make_config: Callable[..., ModelConfig]) -> Iterator[Callable[..., NetworkModel]]:
    """Return a function from groups that differ to a small model; closes what it made."""
    made: list[NetworkModel] = []

    def make(*, seed: int = 1, replicate: int = 0, **groups: Any) -> NetworkModel:
        made.append(NetworkModel(make_config(**groups), seed=seed, replicate=replicate))
        return made[-1]

    yield make
    for model in made:
        model.close()


@pytest.fixture(scope="session")
def make_spec(make_config: Callable[..., ModelConfig]) -> Callable[..., RunSpec]:
    """Return a function from groups that differ to a run's specification."""

    def make(
        *,
        seed: int = 1,
        replicate: int = 0,
        detail: str = "decisions",
        checkpoint_every: int = 4,
        **groups: Any,
    ) -> RunSpec:
        config = make_config(**groups)
        return RunSpec(
            run_key=run_key(config, seed, replicate),
            config=config,
            seed=seed,
            replicate=replicate,
            detail=detail,
            checkpoint_every=checkpoint_every,
        )

    return make


@pytest.fixture
def open_ledger(tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    """Return a function that opens the ledger of this test, each time as another driver would."""
    opened: list[Ledger] = []

    def make(*, keep: int = 2) -> Ledger:
        engine = open_engine(tmp_path / "ledger.db")
        opened.append(Ledger(engine, CheckpointFolder(tmp_path / "checkpoints"), keep=keep))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.engine.dispose()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    """Return an empty ledger."""
    return open_ledger()


@pytest.fixture(scope="session")
def register() -> Callable[..., None]:
    """Return a function that writes an experiment and its planned runs, a point per run."""

    def write(ledger: Ledger, *specs: RunSpec, name: str = "experiment") -> None:
        experiment = Experiment(
            name=name,
            key="0" * 64,
            state="running",
            config={},
            points=[],
            environment={},
            created_at=1.0,
            updated_at=2.0,
        )
        ledger.register(experiment, list(enumerate(specs)), model_version(), result_relevant)

    return write


@pytest.fixture(scope="session")
def execute() -> Callable[..., list[Segment]]:
    """Return a function that drives a run as tasks do: claim, go on, commit; returns the segments."""

    def run(ledger: Ledger, spec: RunSpec) -> list[Segment]:
        claim: Claim = ledger.claim([spec])[0]
        checkpoint = None
        if claim.checkpoints:
            checkpoint = ledger._checkpoints.read(claim.checkpoints[0])
        segments = list(simulate(replace(spec, detail=claim.detail), checkpoint))
        for segment in segments:
            ledger.commit(claim, segment)
        return segments

    return run


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of the real data; without it tests skip, and fail where CI=true."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("QUORUMLAB_DATA") or default)
    if not (folder / "nsl-kdd").is_dir():
        reason = f"no nsl-kdd in {folder}: set QUORUMLAB_DATA to the folder of the real data"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a Prefect server that all programs of the session may use."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def program(tmp_path: Path, prefect_api: str) -> Iterator[Program]:
    """Return the real program in a folder of its own, on the session's Prefect server."""
    made = Program(tmp_path, {"PREFECT_API_URL": prefect_api})
    yield made
    made.stop_all()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a PostgreSQL server; where it is not installed tests skip, and fail where CI=true."""
    programs = find_programs()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    with postgres_server(programs) as server:
        yield server
