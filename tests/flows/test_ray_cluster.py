"""`executor=ray_cluster` on a real cluster of several raylets: nodes killed and added, who is let in."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.postgres import Postgres
from tests.program import Program
from tests.ray_cluster import RayCluster, ray_cluster

SWEEP = (
    "run", "-m", "experiment.name=sweep", "simulation.nodes=200", "simulation.steps=120",
    "adversary=poisoner", "adversary.share=0.1,0.3", "experiment.replicates=4", "checkpoint.every=5",
    "orchestrator=none", "tracking=off", "validation.engine=sql", "output.plots=false",
)  # fmt: skip
UNDER_WAY = "SELECT count(*) FROM run WHERE steps > 0 AND steps < 120"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as made:
        yield made


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the ledger heads of the runs of the sweep, executed in one process."""
    return heads_of(Program(tmp_path_factory.mktemp("inline")), "executor=inline")


def heads_of(program: Program, *words: str) -> dict[str, str]:
    done = program.run(*SWEEP, *words)
    assert done.returncode == 0, done.stderr
    return {run["run_id"]: run["ledger_head"] for run in program.summary()["runs"]}


@pytest.mark.slow
def test_a_node_is_killed_and_another_joins(
    cluster: RayCluster, heads: dict[str, str], postgres: Postgres, tmp_path: Path
) -> None:
    first, _ = cluster.add_node(), cluster.add_node()
    ledger = {"QUORUMLAB_LEDGER_URL": postgres.create()}
    program = Program(tmp_path, cluster.environment | ledger)
    words = ("ledger=postgresql", "executor=ray_cluster", f"executor.address={cluster.address}")
    process = program.start(*SWEEP, *words)
    try:
        program.wait_for(process, lambda: program.query(UNDER_WAY) >= [(2,)])
        process.send_signal(signal.SIGSTOP)  # workers wait for it when they are a little ahead
        cluster.kill(first)
        cluster.add_node()
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    finally:
        program.stop_all()
    assert "its runs go on from their checkpoints" in out + err
    summary = program.summary()
    assert {run["run_id"]: run["ledger_head"] for run in summary["runs"]} == heads
    resumed = [run["resumed_from_step"] for run in summary["runs"]]
    assert any(step > 0 for step in resumed), resumed
    assert len(summary["utilisation"]["nodes"]) == 3, summary["utilisation"]
    events = json.loads((program.workspace / "experiments/sweep/timeline.json").read_text())
    spans = [event for event in events["traceEvents"] if event["ph"] == "X"]
    assert sum(span["args"]["runs"] for span in spans) >= len(heads)


@pytest.mark.slow
def test_who_has_another_token_is_not_let_in(cluster: RayCluster, tmp_path: Path) -> None:
    program = Program(tmp_path, cluster.environment | {"RAY_AUTH_TOKEN": "f" * 64})
    refused = program.run(*SWEEP, "executor=ray_cluster", f"executor.address={cluster.address}")
    assert refused.returncode == 3
    assert "see that RAY_AUTH_TOKEN is the cluster's" in refused.stderr


def test_without_a_token_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):  # of another test in this process
        monkeypatch.delenv(name, raising=False)
    program = Program(tmp_path, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    refused = program.run(*SWEEP, "executor=ray_cluster")
    assert refused.returncode == 2
    assert f"neither in RAY_AUTH_TOKEN nor in {tmp_path / 'token'}" in refused.stderr


@pytest.mark.slow
def test_small_networks_are_left_to_worker_processes(heads: dict[str, str], tmp_path: Path) -> None:
    program = Program(tmp_path)
    address = f"executor.address=127.0.0.1:{free_port()}"  # where nobody is
    words = ("executor=ray_cluster", address, "executor.min_nodes=201", "executor.num_cpus=2")
    done = program.run(*SWEEP, *words)
    assert done.returncode == 0, done.stderr
    assert (
        "starting processes, not ray_cluster: no network has executor.min_nodes=201" in done.stdout
    )
    assert {r["run_id"]: r["ledger_head"] for r in program.summary()["runs"]} == heads
