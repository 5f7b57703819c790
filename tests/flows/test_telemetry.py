"""What is seen of an experiment at work: scraped, pushed, traced, and told when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from flows.bench import SPECTATOR, Bench, Outcome, Spectator
from flows.compose import compose_experiment
from flows.dashboard.telemetry import live_issues
from flows.launch import plainly
from sim_core.config import AlertsConfig, MonitoringConfig
from sim_core.errors import ConfigurationError
from sim_core.operations import Operations
from tasks.live_history import live_files
from tasks.prometheus import METRICS
from tasks.resource_history import seen_history
from tasks.telemetry import Telemetry
from tests.ports import free_port
from tests.program import Program
from tests.receivers import Receiver, receiving

SMALL = (
    "experiment.name=seen", "experiment.replicates=4", "simulation.nodes=12", "simulation.steps=40",
    "executor=inline", "validation.engine=sql", "tracking=off", "output.plots=false",
)  # fmt: skip
WATCHFUL = (
    "monitoring.every_seconds=0.1", "alerts.every_seconds=0.4", "alerts.window_seconds=4",
    # other tests run beside this one
    "alerts.cpu_percent=100", "alerts.cpu_spike=100", "alerts.memory_spike=100",
)  # fmt: skip
LONGEST_SECONDS = 120.0
OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [OTLP, *(n for n in os.environ if n.startswith("QUORUMLAB_"))]:
        if name != "QUORUMLAB_DATA":
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


class Watcher(Spectator):
    """Calls what it is given when steps are committed, in the thread of the shard; keeps what is told."""

    def __init__(
        self, at_step: Callable[[Watcher, int], None] | None = None, awaited: str = ""
    ) -> None:
        self.told: list[str] = []
        self.is_told = threading.Event()
        self.steps = 0
        self.outcome: Outcome | None = None
        self.bench: Bench | None = None
        self._at_step, self._awaited = at_step, awaited

    def warn(self, text: str) -> None:
        self.told.append(text)
        if self._awaited in text:
            self.is_told.set()

    def committed(self, run_key: str, steps: int) -> None:
        del run_key
        self.steps += steps
        if self._at_step is not None:
            self._at_step(self, self.steps)

    def finished(self, outcome: Outcome, bench: Bench) -> None:
        self.outcome, self.bench = outcome, bench


def run(
    workspace: Path,
    *overrides: str,
    at_step: Callable[[Watcher, int], None] | None = None,
    awaited: str = "",
) -> Watcher:
    config, points = compose_experiment([*SMALL, *overrides, f"workspace={workspace}"])
    watcher = Watcher(at_step, awaited)
    token = SPECTATOR.set(watcher)
    try:
        plainly(config, points, True)
    finally:
        SPECTATOR.reset(token)
    return watcher


def summary(workspace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace / "experiments/seen/summary.json").read_text())
    return found


def kinds_in(found: dict[str, Any]) -> list[str]:
    return [issue["kind"] for issue in found["issues"]]


def heads(workspace: Path) -> dict[str, str]:
    return {row["run_id"]: row["ledger_head"] for row in summary(workspace)["runs"]}


def samples_of(text: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a page of Prometheus: name and labels, and value."""
    return {
        (sample.name, *(v for _, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_operations_are_counted_and_add_up(tmp_path: Path) -> None:
    run(tmp_path)
    operations = summary(tmp_path)["operations"]
    assert operations["run"]["count"] == 4
    assert operations["step"]["count"] == 160
    assert operations["segment"]["count"] == 16
    assert operations["node"]["count"] == 160 * 12
    assert operations["shard"]["count"] == operations["executor.wait"]["count"] > 0
    for name in ("ledger.commit", "ledger.read", "ledger.write", "checkpoint.write"):
        assert operations[name]["count"] > 0, name
    assert all(found["errors"] == 0 for found in operations.values())
    step, segment = operations["step"], operations["segment"]
    assert step["seconds"] == pytest.approx(segment["seconds"])
    assert step["p50"] <= step["p95"] <= step["p99"] <= step["maximum"]
    stages = summary(tmp_path)["operations"]["stage.simulate"]["seconds"]
    assert segment["seconds"] < stages


def test_results_are_the_same_with_and_without(tmp_path: Path) -> None:
    run(tmp_path / "on", *WATCHFUL, f"monitoring.port={free_port()}")
    run(tmp_path / "off", "monitoring.enabled=false")
    assert heads(tmp_path / "on") == heads(tmp_path / "off")
    off = summary(tmp_path / "off")
    assert (off["operations"], off["issues"]) == ({}, [])
    assert off["queues"]["telemetry"]["processed"] == 0
    assert not (tmp_path / "off/experiments/seen/resources.parquet").exists()


def test_prometheus_finds_every_metric_and_health_while_it_runs(tmp_path: Path) -> None:
    port, pages = free_port(), dict[str, httpx.Response]()

    def scrape(watcher: Watcher, steps: int) -> None:
        if steps >= 80 and not pages:
            for page in ("metrics", "health", "ready", "other"):
                pages[page] = httpx.get(f"http://127.0.0.1:{port}/{page}")

    run(tmp_path, f"monitoring.port={port}", at_step=scrape)
    samples = samples_of(pages["metrics"].text)
    names = {name for name, *_ in samples}
    spared = {"quorumlab_issues_total"}  # nothing was wrong
    for name, named in METRICS.items():
        expected = {f"{name}_sum", f"{name}_count", name} if named.kind == "summary" else {name}
        assert name in spared or expected <= names, name
    assert names <= {*METRICS, *(f"quorumlab_operation_seconds_{x}" for x in ("sum", "count"))}
    assert samples["quorumlab_runs", "planned"] == 4
    assert samples["quorumlab_steps_total",] >= 80
    assert samples["quorumlab_node_steps_total",] == 12 * samples["quorumlab_steps_total",]
    assert samples["quorumlab_operation_in_flight", "shard"] == 1
    assert pages["health"].json()["status"] == "ok"
    assert pages["ready"].status_code == 200
    assert pages["other"].status_code == 404
    with pytest.raises(httpx.ConnectError):  # it is gone with the experiment
        httpx.get(f"http://127.0.0.1:{port}/health")


def test_a_port_that_is_taken_is_named(tmp_path: Path, receiver: Receiver) -> None:
    port = receiver.server.server_port
    with pytest.raises(ConfigurationError, match=f"monitoring.port={port} cannot be used"):
        run(tmp_path, f"monitoring.port={port}")


def test_short_experiments_push_their_figures(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUORUMLAB_PUSH_GATEWAY", receiver.address.removeprefix("http://"))
    run(tmp_path)
    method, path, body = receiver.received[-1]
    assert (method, path) == ("PUT", "/metrics/job/quorumlab/experiment/seen")
    samples = samples_of(body.decode())
    assert samples["quorumlab_runs", "finished"] == 4
    assert samples["quorumlab_steps_total",] == 160


def test_a_gateway_that_is_away_costs_nothing_but_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QUORUMLAB_PUSH_GATEWAY", f"127.0.0.1:{free_port()}")
    assert run(tmp_path).outcome is not None
    assert "the push gateway takes no figures" in caplog.text


def spans_of(receiver: Receiver) -> dict[bytes, Any]:
    found = {}
    for body in receiver.bodies:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                found.update({span.span_id: span for span in scope.spans})
    return found


def test_a_trace_has_the_whole_experiment_and_the_chosen_share_of_its_runs(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OTLP, receiver.address)
    run(tmp_path, "experiment.replicates=40", "monitoring.trace_runs=0.5")
    spans = spans_of(receiver)
    assert len({span.trace_id for span in spans.values()}) == 1
    names = Counter(span.name for span in spans.values())
    assert names["experiment"] == names["simulate"] == 1
    chosen = [key for key in heads(tmp_path) if int(key[:8], 16) < 2**31]
    assert 0 < names["run"] == len(chosen) < 40
    assert names["segment"] == 4 * names["run"]

    def ancestors(span: Any) -> list[str]:
        parent = spans.get(span.parent_span_id)
        return [] if parent is None else [parent.name, *ancestors(parent)]

    for span in spans.values():
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.name == "segment":
            assert ancestors(span) == ["run", "shard", "simulate", "experiment"]
    (root,) = [span for span in spans.values() if span.name == "experiment"]
    values = {value.key: value.value for value in root.attributes}
    assert values["experiment"].string_value == "seen"
    assert values["runs"].int_value == 40


def test_nobody_who_takes_traces_is_no_reason_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OTLP, f"http://127.0.0.1:{free_port()}")
    assert run(tmp_path).outcome is not None


def test_history_of_resources_is_kept_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "experiments/seen/resources.parquet"
    run(tmp_path, "monitoring.every_seconds=600")
    first = pd.read_parquet(path)
    assert (
        first["committed_steps"].iloc[-1] == 160
    )  # one is taken at the end, besides those in turn
    assert {"time", "process_tree_rss_megabytes", "workers_rss_megabytes"} <= set(first.columns)
    run(tmp_path, "experiment.replicates=5")
    both = pd.read_parquet(path)
    assert len(both) > len(first)
    assert both["time"].is_monotonic_increasing
    run(tmp_path, "experiment.replicates=5")  # executes nothing
    assert len(pd.read_parquet(path)) == len(both)


def test_samples_are_seen_while_it_runs_and_kept_at_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "experiments/seen"
    seen: list[pd.DataFrame] = []

    def look(watcher: Watcher, steps: int) -> None:
        if steps == 80:
            end = time.monotonic() + LONGEST_SECONDS
            while len(seen_history(folder)) < 3:
                assert time.monotonic() < end, "nothing is sampled"
                watcher.is_told.wait(0.05)  # for the next sample
            seen.append(seen_history(folder))

    run(tmp_path, *WATCHFUL, at_step=look)
    kept = pd.read_parquet(folder / "resources.parquet")
    assert set(seen[0]["time"]) < set(kept["time"])
    assert seen[0]["committed_steps"].max() >= 40
    assert kept["committed_steps"].iloc[-1] == 160
    assert kept["finished_runs"].iloc[-1] == 4
    assert live_files(folder) == []


def test_what_a_killed_experiment_has_sampled_is_kept(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    program = Program(tmp_path)
    request.addfinalizer(program.stop_all)
    folder = program.workspace / "experiments/seen"
    words = (*SMALL, "simulation.steps=2000")
    begun = program.start("run", *words, *WATCHFUL, "orchestrator=none")
    program.wait_for(begun, lambda: len(seen_history(folder)) > 3)
    begun.kill()
    begun.communicate()
    (file,) = live_files(folder)
    with file.open("a") as torn:
        torn.write('{"ms":17000')
    before = seen_history(folder)
    assert len(before) > 3
    assert not (folder / "resources.parquet").exists()
    run(program.workspace, *words)
    assert live_files(folder) == []
    after = pd.read_parquet(folder / "resources.parquet")
    assert set(before["time"]) < set(after["time"])


def test_a_quiet_experiment_raises_nothing(tmp_path: Path) -> None:
    def linger(watcher: Watcher, steps: int) -> None:
        if steps == 10:
            watcher.is_told.wait(5.0)  # for what must not come: a dozen looks

    held_before = np.ones(100_000_000)  # 800 MB of whoever calls the experiment
    watcher = run(tmp_path, *WATCHFUL, "alerts.driver_mb=800", at_step=linger)
    assert watcher.told == []
    assert summary(tmp_path)["issues"] == []
    assert held_before.all()


def await_word(watcher: Watcher) -> None:
    assert watcher.is_told.wait(LONGEST_SECONDS), "nothing was found"


def test_a_ledger_that_is_slow_is_found(tmp_path: Path) -> None:
    def hold(watcher: Watcher, steps: int) -> None:
        if 40 <= steps < 120 and not watcher.is_told.is_set():
            other = sqlite3.connect(tmp_path / "ledger.db", check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")  # nobody else can write for as long as it takes
            threading.Timer(1.2, other.close).start()
        if steps == 120:
            await_word(watcher)

    run(tmp_path, *WATCHFUL, at_step=hold, awaited="ledger.commit took")
    assert "slow ledger.commit" in kinds_in(summary(tmp_path))


def test_a_leak_is_found(tmp_path: Path) -> None:
    held: list[bytearray] = []
    stop = threading.Event()

    def leak() -> None:
        while not stop.wait(0.01) and len(held) < 2_000:
            held.append(bytearray(b"\1") * 1_000_000)

    def begin(watcher: Watcher, steps: int) -> None:
        if steps == 40:
            threading.Thread(target=leak, daemon=True).start()
            await_word(watcher)
            stop.set()

    run(tmp_path, *WATCHFUL, at_step=begin, awaited="without a pause")
    assert "leak" in kinds_in(summary(tmp_path))


def stopped_children(program: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(program.pid).children(recursive=True)
    return [child for child in children if child.status() == psutil.STATUS_STOPPED]


def test_a_worker_that_stands_still_is_found_and_told_to_people(
    tmp_path: Path, receiver: Receiver, request: pytest.FixtureRequest
) -> None:
    program = Program(
        tmp_path,
        {
            "QUORUMLAB_FAULT": f"step:90:stop:{tmp_path / 'stopped'}",
            "QUORUMLAB_ALERT_WEBHOOK": f"{receiver.address}/secret",
        },
    )
    request.addfinalizer(program.stop_all)
    begun = program.start(
        "run", *SMALL, *WATCHFUL, "alerts.stalled_seconds=2", "executor=processes",
        "executor.num_cpus=1", "orchestrator=none",
        "alerts.growth_mb=2000",  # within these few looks a worker that only begins grows too
    )  # fmt: skip
    program.wait_for(begun, (tmp_path / "stopped").exists)  # on a busy machine it idles before too
    program.wait_for(begun, lambda: any(b"no step for" in body for body in receiver.bodies))
    program.wait_for(begun, lambda: bool(stopped_children(begun)))
    stopped = stopped_children(begun)
    assert len(stopped) == 1
    found = live_issues(program.workspace / "experiments/seen")
    assert [each.issue.kind for each in found] == ["stalled"], "seen while it is at work"
    os.kill(stopped[0].pid, signal.SIGCONT)
    output, _ = begun.communicate(timeout=LONGEST_SECONDS)
    assert begun.returncode == 0, output
    assert "stalled" in kinds_in(summary(program.workspace))
    for file in program.workspace.rglob("*.json"):
        assert "/secret" not in file.read_text(), file


def test_health_says_what_is_wrong() -> None:
    now = [0.0]
    operations = Operations()
    telemetry = Telemetry(
        "seen",
        MonitoringConfig(),
        AlertsConfig(),
        operations,
        tell=list[str]().append,
        clock=lambda: now[0],
    )
    assert telemetry.health() == {"sampler": "has not begun", "ledger": "ok", "executor": "ok"}
    with telemetry.sampling(), telemetry.shard(0, 1):
        assert set(telemetry.health().values()) == {"ok"}
        operations.record("ledger.commit", 0.1, failed=True)
        now[0] = 61.0
        found = telemetry.health()
    assert found["ledger"] == "1 transactions failed"
    assert found["executor"] == "no step for 61 s"
