"""Suite `orchestration`: what a run costs beyond its bare simulation, with more and more around it.

The figures are milliseconds per run of a sweep. The cases with a service of their own are whole
programs, from the command to its end, as what they start cannot be started twice in a process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from flows.benchmark import Case, Group
from flows.compose import compose_experiment
from flows.launch import plainly
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
TUNE_NEEDS = ("fsspec", "pyarrow")
"""Of Ray Tune, which comes with Ray. Looking for `ray.tune` itself would import Ray, and that has to
wait until an executor has said who may talk to it."""
Opened = Callable[[], AbstractContextManager[Callable[[], float]]]


def orchestration_suite(runs: int | None = None) -> list[Group]:
    """Return the cases: a sweep bare, with everything, in part, and twice; and beside Ray Tune.

    Args:
        runs: Runs of the sweeps, in place of 1,000 of most and 100 of those with Ray; in fives.
    """
    many, few = runs or RUNS, runs or FEW_RUNS
    alone = "executor=processes", "tracking=off"
    sweeps = [
        (f"bare_{many}", simulating(many)),
        (f"sweep_{many}", sweeping(many, "executor=inline")),
        (f"sweep_{many}_untracked", sweeping(many, "executor=inline", "tracking=off")),
        (f"sweep_again_{many}", sweeping_again(many, "executor=inline")),
    ]
    cores = [
        ("one_core", sweeping(many, *alone, "executor.num_cpus=1")),
        ("two_cores", sweeping(many, *alone, "executor.num_cpus=2")),
    ]
    programs = [(f"prefect_ray_{few}", running_program(command(few), few))]
    if all(find_spec(package) is not None for package in TUNE_NEEDS):
        tune = [sys.executable, "-m", "flows.suites.tuned", *words(few)]
        programs.insert(0, (f"tune_{few}", running_program(tune, few)))
    bare = sweeps[0][0]
    return [
        _group(sweeps, [(name, bare) for name, _ in sweeps[1:]]),
        _group(cores, [("two_cores", "one_core")]),
        _group(programs, [(programs[-1][0], programs[0][0])] if len(programs) > 1 else [], 1),
    ]


def _group(
    cases: Sequence[tuple[str, Opened]], ratios: Sequence[tuple[str, str]], repeat: int = REPEAT
) -> Group:
    return Group(tuple(Case(n, "ms/run", opened, repeat) for n, opened in cases), tuple(ratios))


def words(runs: int) -> list[str]:
    """Return the overrides of a sweep of so many runs."""
    replicates = max(1, runs // len(SHARES))
    shares = ",".join(map(str, SHARES))
    return [*SETTINGS, f"experiment.replicates={replicates}", f"adversary.share={shares}"]


def command(runs: int) -> list[str]:
    """Return the command of a sweep with Prefect and Ray; its workspace is the current folder's."""
    sweep = [*words(runs), "experiment.name=sweep", "executor=ray_local"]
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
