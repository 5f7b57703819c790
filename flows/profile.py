"""One run under the profilers, one after the other: time in this process, memory in one of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flows.show_profile import show_profile, show_summary
from sim_core.config import ExperimentConfig, ProfileKind
from sim_core.errors import RunFailed, UserError
from sim_core.jobs import Attachment, Item, Job, RunError
from sim_core.plan import Plan, PlannedRun, Point, plan_runs
from sim_core.simulate import RunSpec
from sim_core.simulated_network import SimulatedNetwork
from sim_core.workspace import open_workspace
from tasks.estimate_memory import refuse_what_does_not_fit
from tasks.executors import InlineExecutor
from tasks.profiles.figures import Subject
from tasks.profiles.keep import ProfileFolder, read_profiles
from tasks.worker_pool import ProcessExecutor

WARM_UP_STEPS = 50
WARM_UP_KEY = "00" * 32
PASSES: dict[ProfileKind, str] = {
    "time": "time, in this process",
    "objects": "memory, in a process of its own",
}


def profile_run(config: ExperimentConfig, points: Sequence[Point], console: Console) -> None:
    """Profile the first replicate of the first point; show and write what is found.

    The ledger is left alone: nothing of the run is kept but its profile.

    Raises:
        UserError: the configuration, a data file or the workspace cannot be used.
        RunFailed: the run failed under a profiler.
    """
    plan = plan_first(config, points)
    run = plan.runs[0]
    workspace = open_workspace(config.workspace)
    place = workspace.folder / "profiles"
    name = free_name(plan.name, place)
    folder = ProfileFolder(place, lambda _: subject_of(plan, run), name)
    spec = replace(run.spec, network_shards=1)
    with _progress(console) as progress:
        for kind, words in PASSES.items():
            bar = progress.add_task(words, total=spec.config.simulation.steps)
            if not console.is_terminal:
                console.print(f"[dim]{words}[/]")
            for item in _execute(warmed_up(replace(spec, profile=kind)), kind):
                if isinstance(item, Attachment):
                    folder.add(item)
                elif isinstance(item, RunError):
                    raise RunFailed(f"the run failed under the profiler of {kind}: {item.message}")
                elif item.run_key == spec.run_key:
                    progress.update(bar, completed=item.next_step)
    (profile,) = folder.profiles()
    show_profile(profile, place / name, console)


def plan_first(config: ExperimentConfig, points: Sequence[Point]) -> Plan:
    """Return the plan of the first replicate of the first point, whatever the ledger knows of its name.

    Raises:
        UserError: it is too large, or a data file cannot be used.
    """
    plan = plan_runs(config, points)
    first = plan.configs[:1]
    refuse_what_does_not_fit(first, 1, config.executor, config.limits.max_estimated_mb)
    if first[0].traffic.kind != "synthetic":
        SimulatedNetwork(first[0], seed=config.experiment.seed)
    return plan


def warmed_up(spec: RunSpec) -> list[Job]:
    """Return a run, and before it its first steps without a profiler.

    What is loaded and compiled once per process would else be most of what is seen of a short run.
    """
    size = spec.config.simulation
    few = size.model_copy(update={"steps": min(size.steps, WARM_UP_STEPS)})
    config = spec.config.model_copy(update={"simulation": few})
    before = replace(spec, run_key=WARM_UP_KEY, config=config, profile="off")
    return [(before, None), (spec, None)]


def _execute(jobs: Sequence[Job], kind: str) -> Iterator[Item]:
    if kind == "time":
        yield from InlineExecutor().execute(jobs)
        return
    with closing(ProcessExecutor(1, 1)) as executor:
        yield from executor.execute(jobs)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def free_name(name: str, folder: Path) -> str:
    """Return a name, with a number where there is a profile of that name already."""
    number, found = 1, name
    while (folder / found).exists():
        number += 1
        found = f"{name}-{number}"
    return found


def subject_of(plan: Plan, run: PlannedRun) -> Subject:
    """Return which run of a plan it is, for people."""
    spec = run.spec
    return Subject(
        run_key=spec.run_key,
        experiment=plan.name,
        point=plan.labels[run.point],
        replicate=spec.replicate,
        seed=spec.seed,
        nodes=spec.config.simulation.nodes,
        steps=spec.config.simulation.steps,
    )


def summarise_profiles(workspace: Path, console: Console) -> None:
    """Show what all profiles of a workspace say together.

    Raises:
        UserError: there is none.
    """
    folder = workspace.expanduser().absolute()
    profiles, broken = read_profiles(folder)
    for path in broken:
        console.print(f"[yellow]warning:[/] {path} is no profile and is left out")
    if not profiles:
        raise UserError(
            f"no profile in {folder}: make one with `quorumlab profile`, or with profiling.kind=time "
            "in an experiment, or name another workspace with --workspace"
        )
    show_summary(profiles, console)
