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

from flows.benchmarks.cases import Case, Group, Measured
from flows.compose import compose_experiment
from flows.inspect import opened
from flows.launch import plainly
from flows.suites.whole_programs import new_folder, served_folder
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
NAME = "sweep"
Opened = Callable[[], AbstractContextManager[Callable[[], float | Measured]]]
Sweep = Callable[[], AbstractContextManager[Callable[[], Measured]]]


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
    programs = [
        (f"program_{many}", whole_program(many)),
        (f"program_{many}_untracked", whole_program(many, "tracking=off")),
        (f"served_{many}", whole_program(many, served=True)),
        (f"served_{many}_untracked", whole_program(many, "tracking=off", served=True)),
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


def command(runs: int, *settings: str, name: str = NAME) -> list[str]:
    """Return the command of a sweep with Prefect and a Ray worker, in the current folder's workspace."""
    ray = ["executor=ray_local", "executor.num_cpus=1"]
    sweep = [*words(runs), f"experiment.name={name}", *ray, *settings]
    return [sys.executable, "-m", "flows.cli", "run", "-m", *sweep]


def simulating(runs: int) -> Opened:
    """Return what opens the bare simulation of a sweep: no ledger, no file."""

    @contextmanager
    def opening() -> Iterator[Callable[[], float]]:
        planned = plan_runs(*compose_experiment(words(runs), multirun=True)).runs

        def call() -> float:
            began = time.perf_counter()
            for run in planned:
                for _ in simulate(run.spec):
                    pass
            return (time.perf_counter() - began) / len(planned)

        yield call

    return opening


def sweeping(runs: int, *settings: str) -> Sweep:
    """Return what opens a sweep in this process, in a new workspace every time."""

    @contextmanager
    def opening() -> Iterator[Callable[[], Measured]]:
        with new_folder() as folder:
            numbers = count()

            def call() -> Measured:
                workspace = folder / str(next(numbers))
                return beyond_simulation(_sweep(workspace, runs, settings), workspace, NAME)

            yield call

    return opening


def on_processors(n: int, case: Sweep) -> Opened:
    """Return a case whose threads and processes have this many of the machine's processors.

    Where the system does not let a program choose (macOS), it has all of them.
    """

    @contextmanager
    def opening() -> Iterator[Callable[[], float]]:
        with case() as call:
            yield lambda: _confined(n, call).value

    return opening


def _confined(n: int, call: Callable[[], Measured]) -> Measured:
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
    def opening() -> Iterator[Callable[[], float]]:
        with new_folder() as folder:
            _sweep(folder, runs, settings)
            yield lambda: _sweep(folder, runs, settings)

    return opening


def _sweep(workspace: Path, runs: int, settings: Sequence[str]) -> float:
    """Return the seconds that a run of a sweep took."""
    where = [f"experiment.name={NAME}", "orchestrator=none", f"workspace={workspace}"]
    began = time.perf_counter()
    config, points = compose_experiment([*words(runs), *where, *settings], multirun=True)
    plainly(config, points, execute=True)
    return (time.perf_counter() - began) / (len(points) * config.experiment.replicates)


def beyond_simulation(seconds: float, workspace: Path, name: str) -> Measured:
    """Return the seconds that a run of a sweep took, and how many of them are not its simulation.

    What its simulation took is what its worker says: of the same minutes, and with the same things
    going on beside it.
    """
    with opened(workspace) as (_, ledger):
        rows = ledger.runs_of(name)
    simulated = sum(row["wall_seconds"] for row in rows) / len(rows)
    return Measured(seconds, figures={"beyond_ms": 1e3 * (seconds - simulated)})


def running_program(command: Sequence[str], runs: int) -> Opened:
    """Return what opens a program that is started in a new folder; seconds are of one run.

    Its start-up is in the figure.
    """

    @contextmanager
    def opening() -> Iterator[Callable[[], float]]:
        yield lambda: _run_program(command) / runs

    return opening


def whole_program(runs: int, *settings: str, served: bool = False) -> Opened:
    """Return what opens the program of a sweep, from the command to its end.

    It has a workspace of its own with nothing in it, or one in which the services of `quorumlab up` are.
    """

    @contextmanager
    def opening() -> Iterator[Callable[[], Measured]]:
        with served_folder() if served else new_folder() as folder:
            numbers = count(1)

            def call() -> Measured:
                n = next(numbers)  # runs of the same seed would be there already
                workspace = folder if served else folder / str(n)
                more = [*settings, f"experiment.seed={n}", f"workspace={workspace}"]
                name = f"{NAME}-{n}"
                seconds = _run_program(command(runs, *more, name=name)) / runs
                return beyond_simulation(seconds, workspace, name)

            yield call

    return opening


def _run_program(command: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - this program
            [*command], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-2_000:]
        raise QuorumlabError(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return seconds
