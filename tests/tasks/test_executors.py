"""Executors: the same results, and what happens when workers, driver or patience end."""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import psutil
import pytest

from sim_core.config import ExecutorConfig, ModelConfig
from sim_core.errors import Interrupted, Unavailable, WorkerDied
from sim_core.jobs import Job, RunError
from sim_core.simulate import RunSpec, Segment
from tasks.executors import open_executor
from tasks.on_ray import warm_workers
from tasks.ray_worker import load_early
from tasks.worker import SEGMENTS_AHEAD
from tasks.worker_pool import ProcessExecutor, Worker

MakeSpec = Callable[..., RunSpec]
PATIENCE_SECONDS = 120
"""After which something that should happen at once is taken not to happen."""
LONG: dict[str, Any] = {"simulation": {"steps": 100_000}}


def jobs_of(make_spec: MakeSpec) -> list[Job]:
    kinds: list[dict[str, Any]] = [
        {"adversary": {"kind": "poisoner", "count": 2}},
        {"detector": {"kind": "mahalanobis"}, "topology": {"kind": "scale_free"}},
        {"dissemination": {"kind": "push"}, "consensus": {"kind": "bft"}},
    ]
    return [(make_spec(replicate=n, detail="all", **k), None) for n, k in enumerate(kinds)]


def content(item: Segment | RunError) -> Any:
    """Return everything of a segment that a result consists of."""
    assert isinstance(item, Segment), item
    rows = {kind: entries.tobytes() for kind, entries in item.rows.items()}
    return item.run_key, item.first_step, item.head, rows, item.checkpoint, item.summary


@pytest.fixture
def pool() -> Iterator[ProcessExecutor]:
    with closing(ProcessExecutor(1, 2)) as executor:
        yield executor


def test_executors_give_the_same_segments(make_spec: MakeSpec) -> None:
    jobs = jobs_of(make_spec)
    found = []
    for how in (
        ExecutorConfig(kind="inline"),
        ExecutorConfig(kind="processes", num_cpus=1, nice=3),
        ExecutorConfig(kind="processes", num_cpus=2),
        ExecutorConfig(kind="ray_local", num_cpus=1),
    ):
        with open_executor(how) as executor:
            found.append([content(item) for item in executor.execute(jobs)])
            resumed = [(spec, found[-1][3 * n][4]) for n, (spec, _) in enumerate(jobs)]
            found[-1] += [content(item) for item in executor.execute(resumed)]
    assert len(found[0]) == 3 * 3 + 3 * 2
    assert found[0] == found[1] == found[2] == found[3]


def test_shards_are_executed_side_by_side_by_workers_that_stay(make_spec: MakeSpec) -> None:
    with closing(ProcessExecutor(2, 3)) as pool:
        first, second = (pool.execute([(make_spec(replicate=n, **LONG), None)]) for n in (0, 1))
        assert isinstance(next(first), Segment)
        assert isinstance(next(second), Segment)
        assert len(set(pool.pids())) == 2
        first.close()
        second.close()


def test_a_worker_executes_shard_after_shard(pool: ProcessExecutor, make_spec: MakeSpec) -> None:
    used = set()
    for replicate in range(3):
        items = pool.execute([(make_spec(replicate=replicate), None)])
        next(items)
        used |= set(pool.pids())
        assert len(list(items)) == 2
    assert len(used) == 1


def test_a_killed_worker_is_seen_and_another_takes_its_place(
    pool: ProcessExecutor, make_spec: MakeSpec
) -> None:
    items = pool.execute([(make_spec(**LONG), None)])
    next(items)
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match=rf"worker process {pid} was killed by SIGKILL"):
        for _ in items:
            pass
    assert pool.pids() == []
    assert len(list(pool.execute([(make_spec(), None)]))) == 3


def test_a_worker_that_died_idle_is_replaced(pool: ProcessExecutor, make_spec: MakeSpec) -> None:
    items = pool.execute([(make_spec(), None)])
    next(items)
    (pid,) = pool.pids()
    list(items)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its end is left for the pool to find
    assert len(list(pool.execute([(make_spec(), None)]))) == 3


def test_a_worker_that_breaks_says_why(pool: ProcessExecutor, make_spec: MakeSpec) -> None:
    broken: Any = [("no spec", "no checkpoint", "and one too many")]
    with pytest.raises(WorkerDied, match=r"ended with exit code 1: ValueError: too many values"):
        list(pool.execute(broken))


def test_workers_end_with_a_driver_that_was_killed() -> None:
    script = """
import sys
from sim_core.config import ModelConfig
from sim_core.simulate import RunSpec
from tasks.worker_pool import ProcessExecutor
pool = ProcessExecutor(2, 2)
config = ModelConfig.model_validate({"simulation": {"nodes": 8, "steps": 100_000}})
runs = [pool.execute([(RunSpec("00" * 32, config, 1, n), None)]) for n in range(2)]
for segments in runs:
    next(segments)
print(*pool.pids(), flush=True)
sys.stdin.read()
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with driver:
        assert driver.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in driver.stdout.readline().split()]
        assert len(workers) == 2
        driver.kill()
        driver.wait()
        gone, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
    for worker in alive:
        worker.kill()
    assert (len(gone), alive) == (2, [])


def test_a_worker_waits_when_it_is_a_few_segments_ahead(make_spec: MakeSpec) -> None:
    worker = Worker(nice=0)
    try:
        worker._socket.send([(make_spec(**LONG), None)])
        for _ in range(SEGMENTS_AHEAD):
            assert isinstance(worker._socket.recv(), Segment)
        assert not worker._socket.poll(1.0), "it went on although nothing was taken"
        worker._socket.send(None)
        assert isinstance(worker._socket.recv(), Segment)
    finally:
        worker.close()


def test_a_shard_that_is_left_frees_its_worker(pool: ProcessExecutor, make_spec: MakeSpec) -> None:
    items = pool.execute([(make_spec(**LONG), None)])
    next(items)
    left = psutil.Process(*pool.pids())
    items.close()
    assert not left.is_running()
    assert len(list(pool.execute([(make_spec(), None)]))) == 3


def test_closing_tells_those_who_work_and_those_who_wait(make_spec: MakeSpec) -> None:
    pool = ProcessExecutor(1, 2)
    heard: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    begun = threading.Event()

    def follow(jobs: Sequence[Job]) -> None:
        try:
            for _ in pool.execute(jobs):
                begun.set()
        except Interrupted as error:
            heard.put(error)

    threads = [
        threading.Thread(target=follow, args=([(make_spec(replicate=n, **LONG), None)],))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(PATIENCE_SECONDS)
    (pid,) = pool.pids()
    pool.close()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert heard.qsize() == 3
    assert not psutil.pid_exists(pid)
    with pytest.raises(Interrupted):
        next(pool.execute([(make_spec(), None)]))


def test_limits_of_a_run_stop_no_other(pool: ProcessExecutor, make_spec: MakeSpec) -> None:
    late = dataclasses.replace(make_spec(replicate=1), max_seconds=1e-9)
    large = dataclasses.replace(make_spec(replicate=2), memory_mb=64)
    items = list(pool.execute([(late, None), (large, None), (make_spec(), None)]))
    errors = {item.run_key: item.message for item in items if isinstance(item, RunError)}
    assert "limits.max_seconds=1e-09" in errors[late.run_key]
    assert "limits.memory_mb=64" in errors[large.run_key]
    assert sum(isinstance(item, Segment) for item in items) == 1 + 3


def test_workers_stand_back_and_hear_no_ctrl_c(make_spec: MakeSpec) -> None:
    with closing(ProcessExecutor(1, 1, nice=7)) as pool:
        items = pool.execute([(make_spec(**LONG), None)])
        next(items)
        (pid,) = pool.pids()
        assert psutil.Process(pid).nice() == min(psutil.Process().nice() + 7, 19)
        assert os.getsid(pid) == pid
        assert os.getsid(pid) != os.getsid(0)
        items.close()


def test_program_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Unavailable, match=r"no worker process can be started: .*/nowhere/python"):
        ProcessExecutor(1, 1)


ASK = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); print(ray.cluster_resources()['CPU'])"


def test_ray_asks_for_a_token_that_this_process_alone_knows() -> None:
    with open_executor(ExecutorConfig(kind="ray_local", num_cpus=1)):
        import ray  # not before its token is known

        address = ray.get_runtime_context().gcs_address
        known = dict(os.environ)
        assert len(known["RAY_AUTH_TOKEN"]) == 64
        asked = {"knows it": known, "does not": known | {"RAY_AUTH_TOKEN": "f" * 64}}
        answers = {
            who: subprocess.run(
                [sys.executable, "-c", ASK, address],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            for who, environment in asked.items()
        }
    assert answers["knows it"].stdout == "1.0\n", answers["knows it"].stderr
    assert answers["does not"].returncode != 0
    assert "token is missing or incorrect" in answers["does not"].stderr


def ready_in_worker() -> tuple[int, str | None, int]:
    """Return who this worker is, its threads, and how many compiled passes it has loaded already."""
    from numba.core.dispatcher import Dispatcher

    ours = [module for name, module in sys.modules.items() if name.startswith("sim_core.")]
    passes = {p for module in ours for p in vars(module).values() if isinstance(p, Dispatcher)}
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), sum(bool(p.signatures) for p in passes)


@pytest.mark.parametrize(("settings", "is_ready"), [({}, True), ({"nodes": 3_000}, False)])
def test_a_worker_of_ray_is_ready_before_it_gets_work(
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, int],
    is_ready: bool,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    asked = ExecutorConfig(kind="ray_local", num_cpus=1)
    with open_executor(asked):
        import ray

        assert os.environ["OMP_NUM_THREADS"] == "7"
        ask: Any = ray.remote(ready_in_worker)
        pid, n_threads, n_passes = ray.get(ask.remote())
        assert (n_threads, n_passes) == ("1", 0)
        warm_workers(asked, make_spec(simulation=settings).config, n_runs=3)
        found = ray.get(ask.remote())
        assert found[0] == pid, "another worker was started"
        assert (found[2] > 10) == is_ready


@pytest.mark.parametrize(
    "groups", [{"traffic": {"kind": "table", "path": "nowhere.csv"}}, {"simulation": {"steps": 1}}]
)
def test_what_is_loaded_early_says_nothing_of_what_is_wrong(
    make_config: Callable[..., ModelConfig], groups: dict[str, Any]
) -> None:
    load_early(make_config(**groups))


def test_a_worker_loads_only_what_a_run_needs() -> None:
    script = """
import sys
from sim_core.jobs import simulate_jobs
from tasks.worker import load_numba_without_scipy
from sim_core.config import ModelConfig
from sim_core.simulate import RunSpec
load_numba_without_scipy()
config = ModelConfig.model_validate({"simulation": {"nodes": 8, "steps": 12}})
(_, segment) = simulate_jobs([(RunSpec("00" * 32, config, 1, 0), None)])
assert segment.summary is not None
print(*sorted(sys.modules))
import scipy.linalg.cython_blas
"""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    loaded = set(process.stdout.split())
    unneeded = ("mesa", "pandas", "pyarrow", "networkx", "scipy.linalg", "sqlalchemy", "prefect")
    assert not loaded & {*unneeded, "ray", "mlflow", "psutil", "sim_core.model", "sim_core.agents"}
