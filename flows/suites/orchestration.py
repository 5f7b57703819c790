"""Suite `orchestration`: what a run costs beyond its bare simulation, with more and more around it.

The figures are milliseconds per run of a sweep. A sweep has one worker process beside this one, so
that what it takes longer than the bare simulation is what everything around it costs; how much of
that is work, and how much goes on meanwhile, tells the sweep on one processor. The cases with a
service of their own are whole programs, from the command to its end, as what they start cannot be
started twice in a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import httpx

from flows.benchmarks.cases import Case, Group
from flows.compose import compose_experiment
from flows.environment import settings_for
from flows.launch import plainly
from flows.prefect_server import START_SECONDS, TemporaryServer
from sim_core.errors import QuorumlabError
from sim_core.plan import plan_runs
from sim_core.simulate import simulate

RUNS = 1_000
FEW_RUNS = 100
"""Of the cases with Ray."""
SHARES = (0.1, 0.2, 0.3, 0.4, 0.45)
"""Of liars: the points of the sweep."""
SETTINGS = ("simulation.nodes=50", "simulation.steps=50", "adversary=poisoner")
REPEAT = 3
OTHERS = {
    "tune": ("flows.suites.tuned", ("fsspec", "pyarrow")),
    "prefect_tasks": ("flows.suites.tasked", ("prefect_ray",)),
    "ema_workbench": ("flows.suites.explored", ("ema_workbench",)),
}
"""Programs that carry out the same sweep by other means, and the packages that they need. Looking for
`ray.tune` itself would import Ray, and that has to wait until an executor has said who may talk to it."""
Opened = Callable[[], AbstractContextManager[Callable[[], float]]]


def orchestration_suite(runs: int | None = None) -> list[Group]:
    """Return the cases: a sweep bare, with everything, in part, and twice; and beside Ray Tune.

    Args:
        runs: Runs of the sweeps, in place of 1,000 of ours and 100 of the others; in fives.
    """
    many, few = runs or RUNS, runs or FEW_RUNS
    worker = "executor=processes", "executor.num_cpus=1"
    alone = "executor=processes", "tracking=off"
    sweeps = [
        (f"bare_{many}", simulating(many)),
        (f"sweep_{many}", sweeping(many, *worker)),
        (f"sweep_{many}_untracked", sweeping(many, *worker, "tracking=off")),
        (f"sweep_again_{many}", sweeping_again(many, *worker)),
    ]
    cores = [
        ("one_core", on_processors(1, sweeping(many, *alone, "executor.num_cpus=1"))),
        ("two_cores", on_processors(2, sweeping(many, *alone, "executor.num_cpus=2"))),
    ]
    untracked = command(many, "tracking=off")
    programs = [
        (f"program_{many}", running_program(command(many), many)),
        (f"program_{many}_untracked", running_program(untracked, many)),
        (f"program_{many}_untracked_served", beside_server(untracked, many)),
    ]
    others = [(f"prefect_ray_{few}", running_program(command(few), few))]
    others += [
        (f"{name}_{few}", running_program([sys.executable, "-m", program, *words(few)], few))
        for name, (program, needs) in OTHERS.items()
        if all(find_spec(package) is not None for package in needs)
    ]
    bare, ours = sweeps[0][0], others[0][0]
    return [
        _group(sweeps, [(name, bare) for name, _ in sweeps[1:]]),
        _group(cores, [("one_core", "two_cores")]),
        _group(programs, [], 1),
        _group(others, [(name, ours) for name, _ in others[1:]], 1),
    ]


def _group(
    cases: Sequence[tuple[str, Opened]], ratios: Sequence[tuple[str, str]], repeat: int = REPEAT
) -> Group:
    measured = (
        Case(name, "ms/run", opened, repeat, yardstick=name.startswith(tuple(OTHERS)))
        for name, opened in cases
    )
    return Group(tuple(measured), tuple(ratios))


def words(runs: int) -> list[str]:
    """Return the overrides of a sweep of so many runs."""
    replicates = max(1, runs // len(SHARES))
    shares = ",".join(map(str, SHARES))
    return [*SETTINGS, f"experiment.replicates={replicates}", f"adversary.share={shares}"]


def command(runs: int, *settings: str) -> list[str]:
    """Return the command of a sweep with Prefect and a Ray worker, in the current folder's workspace."""
    ray = ["executor=ray_local", "executor.num_cpus=1"]
    sweep = [*words(runs), "experiment.name=sweep", *ray, *settings]
    return [sys.executable, "-m", "flows.cli", "run", "-m", *sweep]


def simulating(runs: int) -> Opened:
    """Return what opens the bare simulation of a sweep: no ledger, no file."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        planned = plan_runs(*compose_experiment(words(runs), multirun=True)).runs

        def call() -> float:
            began = time.perf_counter()
            for run in planned:
                for _ in simulate(run.spec):
                    pass
            return (time.perf_counter() - began) / len(planned)

        yield call

    return opened


def sweeping(runs: int, *settings: str) -> Opened:
    """Return what opens a sweep in this process, in a new workspace every time."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
            numbers = count()
            yield lambda: _sweep(Path(folder) / str(next(numbers)), runs, settings)

    return opened


def on_processors(n: int, case: Opened) -> Opened:
    """Return a case whose threads and processes have this many of the machine's processors.

    Where the system does not let a program choose (macOS), it has all of them.
    """

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        with case() as call:
            yield lambda: _confined(n, call)

    return opened


def _confined(n: int, call: Callable[[], float]) -> float:
    if not hasattr(os, "sched_setaffinity"):
        return call()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:n])
    try:
        return call()
    finally:
        os.sched_setaffinity(0, before)


def sweeping_again(runs: int, *settings: str) -> Opened:
    """Return what opens a sweep whose runs are all there: nothing is simulated."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
            _sweep(Path(folder), runs, settings)
            yield lambda: _sweep(Path(folder), runs, settings)

    return opened


def _sweep(workspace: Path, runs: int, settings: Sequence[str]) -> float:
    """Return the seconds that a run of a sweep took."""
    where = ["experiment.name=sweep", "orchestrator=none", f"workspace={workspace}"]
    began = time.perf_counter()
    config, points = compose_experiment([*words(runs), *where, *settings], multirun=True)
    plainly(config, points, execute=True)
    return (time.perf_counter() - began) / (len(points) * config.experiment.replicates)


def running_program(command: Sequence[str], runs: int) -> Opened:
    """Return what opens a program that is started in a new folder; seconds are of one run.

    Its start-up is in the figure.
    """

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        yield lambda: _run_program(command) / runs

    return opened


def beside_server(command: Sequence[str], runs: int) -> Opened:
    """Return what opens such a program where Prefect's server is there already, as with `quorumlab up`."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
            server = TemporaryServer(settings_for(Path(folder)))
            try:
                httpx.get(f"{server.url}/health", timeout=START_SECONDS).raise_for_status()
                yield lambda: _run_program(command, PREFECT_API_URL=server.url) / runs
            finally:
                server.stop()

    return opened


def _run_program(command: Sequence[str], **variables: str) -> float:
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - this program
            [*command],
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-2_000:]
        raise QuorumlabError(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return seconds
