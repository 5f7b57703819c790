"""The log of whole experiments: what is said of them, once, in the file, on the terminal and in Prefect."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.program import Program, call_prefect

Flow = Callable[..., Any]
SMALL = (
    "experiment.name=small",
    "experiment.replicates=2",
    "simulation.nodes=8",
    "simulation.steps=20",
    "logging.format=json",
)
PLAIN = ("orchestrator=none", "tracking=off", "output={tables:false,plots:false}")


def records(workspace: Path) -> list[dict[str, Any]]:
    text = (workspace / "logs/quorumlab.log").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def count(found: list[dict[str, Any]], start: str) -> int:
    return sum(record["message"].startswith(start) for record in found)


def test_an_experiment_is_told_at_info(run_plainly: Flow, tmp_path: Path) -> None:
    run_plainly(*SMALL, "tracking=mlflow_local", "executor=processes", "executor.num_cpus=1")
    found = records(tmp_path / "workspace")
    assert {r["level"] for r in found} == {"INFO"}
    assert {r["experiment"] for r in found} == {"small"}
    assert found[0]["message"] == ("experiment small begins: 1 points, 2 runs, executor processes")
    assert found[-1]["message"].startswith("experiment ends finished in ")
    for message in (
        "starting processes",
        "executor took",
        "simulating",
        "validation: 37 expectations, 0 failures",
        "publishing to MLflow",
        "publish took",
    ):
        assert count(found, message) == 1, message
    begun, ended = count(found, "shard "), [r for r in found if r["message"].startswith("run fin")]
    assert begun == 2 * 2
    assert sorted((r["replicate"], r["point"], r["step"]) for r in ended) == [
        (0, "base", 20),
        (1, "base", 20),
    ]
    assert all(len(r["run"]) == 12 for r in ended)
    assert all(re.fullmatch(r"run finished in \d+\.\d{3} s", r["message"]) for r in ended)


def test_checkpoints_and_segments_are_told_at_debug(run_plainly: Flow, tmp_path: Path) -> None:
    debug = (*SMALL, "logging.level=DEBUG", "executor=processes", "executor.num_cpus=1")
    run_plainly(*debug)
    run_plainly(*debug, "simulation.steps=40")
    found = records(tmp_path / "workspace")
    assert count(found, "committed steps ") == 2 * 4
    loaded = [r for r in found if r["message"].startswith("goes on from checkpoint ")]
    assert sorted((r["replicate"], r["step"]) for r in loaded) == [(0, 20), (1, 20)]
    of_workers = [r for r in found if r["logger"] == "quorumlab.worker"]
    assert len(of_workers) == 2 * 4
    assert os.getpid() not in {r["pid"] for r in of_workers}


def test_a_failed_run_says_why(run_plainly: Flow, tmp_path: Path) -> None:
    run_plainly(*SMALL, "limits.max_seconds=0.0000001", "logging.level=DEBUG")
    found = records(tmp_path / "workspace")
    failed = [r for r in found if r["message"].startswith("run failed: ")]
    assert [r["replicate"] for r in failed] == [0, 1]
    assert all(r["level"] == "ERROR" for r in failed)
    assert found[-1]["level"] == "ERROR"
    assert found[-1]["message"].startswith("experiment ends failed")
    assert sum("Traceback" in r["message"] for r in found) == 2


def test_worker_deaths_and_stops_are_told(program: Program) -> None:
    once = program.folder / "once"
    program.environment["QUORUMLAB_FAULT"] = f"step:5:kill:{once}"
    how = ("executor=processes", "executor.num_cpus=1", "logging.level=WARNING", *PLAIN)
    done = program.run("run", *SMALL, *how, "logging.console=true")
    assert done.returncode == 0, done.stderr
    (death,) = records(program.workspace)
    assert death["level"] == "WARNING"
    assert "was killed by SIGKILL" in death["message"]
    everything = done.stdout + done.stderr
    assert everything.count("was killed by SIGKILL") == 1, "on the terminal once"


def test_nothing_is_printed_twice(program: Program) -> None:
    how = ("executor=inline", "logging.console=true", "logging.format=human", "tracking=off")
    done = program.run("run", *SMALL, *how, "logging.level=DEBUG")
    assert done.returncode == 0, done.stderr
    log = (program.workspace / "logs/quorumlab.log").read_text().splitlines()
    shown = done.stderr.splitlines()
    assert len(shown) > 10
    assert not {line for line, n in Counter(shown).items() if n > 1}
    assert set(shown) < set(log), "all of it is in the file, which has more"
    told = [line.split(": ", 1)[1].split(" [experiment=")[0] for line in shown]
    printed = {line.strip() for line in done.stdout.splitlines()}
    assert not printed & set(told)
    quiet = program.run("run", *SMALL, "executor=inline", "tracking=off")
    assert quiet.stderr == ""


def test_prefect_shows_messages_once(program: Program, prefect_api: str) -> None:
    how = ("executor=inline", "tracking=off", "validation.engine=sql", "output.plots=false")
    done = program.run("run", *SMALL, *how, "experiment.name=shown-once")
    assert done.returncode == 0, done.stderr
    assert "starting Prefect's server" not in done.stdout, "it is there already"
    assert f"Prefect      {prefect_api.removesuffix('/api')}" in done.stdout
    found = records(program.workspace)
    named = {"flow_runs": {"name": {"any_": ["shown-once"]}}}
    (run,) = call_prefect(f"{prefect_api}/flow_runs/filter", json=named).raise_for_status().json()
    its = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200}
    answer = call_prefect(f"{prefect_api}/logs/filter", json=its)
    shown = Counter(log["message"] for log in answer.raise_for_status().json())
    for message in ("shard 0 begins: 1 runs", "shard 1 ends: 1 runs"):
        assert shown[message] == 1, "in Prefect's UI"
        assert count(found, message) == 1, "in the file"
    assert not [m for m in shown if m.startswith("run finished")], "only what concerns the flow"


def test_no_secret_of_the_environment_is_logged(program: Program) -> None:
    secrets = {
        "RAY_AUTH_TOKEN": "ab12" * 16,
        "PGPASSWORD": "s3cr3t-of-postgres",
        "MLFLOW_TRACKING_PASSWORD": "s3cr3t-of-mlflow",
    }
    program.environment |= {
        **secrets,
        "RAY_AUTH_MODE": "token",
        "MLFLOW_TRACKING_URI": "http://me:s3cr3t-in-address@127.0.0.1:9",
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    how = ("executor=ray_local", "executor.num_cpus=1", "orchestrator=none", "logging.level=DEBUG")
    done = program.run("run", *SMALL, *how, "tracking=mlflow_server", "output={plots:false}")
    assert done.returncode == 0, done.stderr
    log = (program.workspace / "logs/quorumlab.log").read_text()
    assert count(records(program.workspace), "experiment ends finished") == 1
    assert '"logger": "quorumlab.worker"' in log
    for secret in (*secrets.values(), "s3cr3t-in-address"):
        assert secret not in log


@pytest.mark.parametrize(
    "word",
    [
        "logging.level=LOUD",
        "logging.format=xml",
        "logging.max_mb=0",
        "logging.backups=0",
        "logging.sample.every=0",
        "logging.colour=true",
    ],
)
def test_settings_that_cannot_be_are_refused(run_flow: Flow, word: str) -> None:
    from sim_core.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="logging"):
        run_flow(*SMALL, word)
