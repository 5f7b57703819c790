"""Flows that prefect.yaml deploys: what people trigger in Prefect's UI, and what is due by the clock.

Each has a form of its own (see `forms`), turns it into what the command line would be given, and
carries out just that. The workspace is the worker's: `QUORUMLAB_WORKSPACE`, or the folder
`workspace` where the flow runs; and so is what its experiments have in common, `QUORUMLAB_OVERRIDES`.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from pydantic import Field
from rich.console import Console

from flows.bench import SPECTATOR
from flows.compose import compose_experiment
from flows.environment import prepare_environment, workspace_folder
from flows.experiment import run_experiment
from flows.forms import (
    MOST_EXPERIMENTS,
    MOST_VALUES,
    Adversary,
    Baseline,
    Consensus,
    Detector,
    Dissemination,
    Executor,
    LiarShare,
    Name,
    Nodes,
    Profile,
    Replicates,
    Seed,
    Steps,
    Study,
    Suite,
    Threshold,
    Topology,
)
from flows.launch import check_before_start
from flows.run_page import Witness, show_outcome
from sim_core.errors import QuorumlabError, RunFailed
from sim_core.workspace import Workspace
from tasks.show_in_prefect import verdict_rows

MANY = Field(max_length=MOST_VALUES)
"""Of a list of what a sweep varies."""
WIDTH = 120
"""Columns of what flows print, which goes into their logs and artifacts."""
CANARY = (
    "experiment.title=canary",
    "experiment.replicates=1",
    "simulation.nodes=20",
    "simulation.steps=30",
    "adversary=poisoner",
    "executor=inline",
    "output.plots=false",
    "dissemination=ledger,push_pull",
)


def workers_words(words: Sequence[str]) -> list[str]:
    """Return the overrides of the worker's environment, such as `ledger=postgresql`, but for keys in `words`."""
    said = {_key(word) for word in words}
    common = shlex.split(os.environ.get("QUORUMLAB_OVERRIDES", ""))
    return [word for word in common if _key(word) not in said]


@flow(name="quickstart", persist_result=False)
def quickstart(replicates: Replicates = 10, profile: Profile | None = None) -> None:
    """Answer whether cooperating helps, and what 20 % poisoners do to it: the study of `make run`.

    Args:
        replicates: Runs of each of its three points, from 1 to 1,000.
        profile: A preset for a kind of machine.
    """
    words = ["+study=quickstart", f"experiment.replicates={replicates}"]
    _experiment([*words, *([f"profile={profile}"] if profile else [])])


@flow(name="sweep", persist_result=False)
def sweep(
    name: Name | None = None,
    study: Study | None = None,
    profile: Profile | None = None,
    detectors: Annotated[list[Detector], MANY] = [],  # noqa: B006
    topologies: Annotated[list[Topology], MANY] = [],  # noqa: B006
    disseminations: Annotated[list[Dissemination], MANY] = [],  # noqa: B006
    consensus_rules: Annotated[list[Consensus], MANY] = [],  # noqa: B006
    adversaries: Annotated[list[Adversary], MANY] = [],  # noqa: B006
    shares_of_liars: Annotated[list[LiarShare], MANY] = [],  # noqa: B006
    nodes: Annotated[list[Nodes], MANY] = [],  # noqa: B006
    steps: Steps | None = None,
    replicates: Replicates | None = None,
    seed: Seed | None = None,
    executor: Executor | None = None,
) -> None:
    """Run every replicate of every combination of the lists.

    What is left empty stays as the study, the profile, or the defaults have it.

    Args:
        name: Of the experiment: letters, digits, - and _. The same name and settings again reuse what
            is there; none: its title and key.
        study: A preset whose points are combined with the lists.
        profile: A preset for a kind of machine.
        detectors: How a node tells strange flows.
        topologies: Who is whose neighbour.
        disseminations: How proposals and decisions travel.
        consensus_rules: When a proposal is confirmed.
        adversaries: Who lies, and how.
        shares_of_liars: Of all nodes, from 0 to 1.
        nodes: Sizes of the network, from 2 to 10,000.
        steps: Length of each run, from 1 to 100,000.
        replicates: Runs of each point, from 1 to 1,000.
        seed: Of the whole experiment, from 0.
        executor: Where runs are executed.
    """
    lists: dict[str, Sequence[object]] = {
        "detector": detectors,
        "topology": topologies,
        "dissemination": disseminations,
        "consensus": consensus_rules,
        "adversary": adversaries,
        "adversary.share": shares_of_liars,
        "simulation.nodes": nodes,
    }
    single: dict[str, object] = {
        "+study": study,
        "profile": profile,
        "executor": executor,
        "experiment.name": name,
        "experiment.title": None if study else "sweep",
        "experiment.replicates": replicates,
        "experiment.seed": seed,
        "simulation.steps": steps,
    }
    words = [f"{key}={value}" for key, value in single.items() if value is not None]
    words += [f"{key}={','.join(map(str, values))}" for key, values in lists.items() if values]
    _experiment(words)


@flow(name="compare", persist_result=False)
def compare(
    experiments: Annotated[list[Name], Field(min_length=1, max_length=MOST_EXPERIMENTS)],
    baseline: Annotated[str, Field(max_length=200)] | None = None,
) -> None:
    """Compare points of one or more experiments with a baseline: verdicts, and one page with all of it.

    Args:
        experiments: Their names, ten at most; of several, points are called EXPERIMENT/POINT.
        baseline: The point that others are compared with; none: the configuration's, or the first.
    """
    from flows.compare import compare_experiments

    prepare_environment(workspace_folder())
    page = workspace_folder() / "experiments" / experiments[0] / "comparison.html"
    console = _Told()
    report = compare_experiments(
        workspace_folder(), experiments, console.console, baseline=baseline, html_file=page
    )
    create_table_artifact(
        verdict_rows(report),
        key="verdicts",
        description=f"{', '.join(experiments)}: points compared with {report.baseline}",
    )
    console.show("comparison")


@flow(name="reconcile", persist_result=False)
def reconcile(*, dry_run: bool = False) -> None:
    """Repair what processes have left behind that died: states, publication; verify all hash chains.

    Args:
        dry_run: Only say what would be done.
    """
    from flows.reconcile import reconcile_workspace

    _looked_after(
        "reconcile",
        lambda console: reconcile_workspace(workspace_folder(), console, dry_run=dry_run),
    )


@flow(name="clean", persist_result=False)
def clean(*, dry_run: bool = True) -> None:
    """Remove what is neither a result nor needed to resume or verify one.

    Args:
        dry_run: Only say what would go.
    """
    from flows.clean import clean_workspace

    def work(console: Console) -> bool:
        clean_workspace(workspace_folder(), console, dry_run=dry_run)
        return True

    _looked_after("clean", work)


@flow(name="benchmark", persist_result=False)
def benchmark(
    suite: Suite = "step",
    repeat: Annotated[int, Field(ge=1, le=100)] = 5,
    threshold: Threshold = 0.2,
    baseline: Baseline | None = None,
) -> None:
    """Measure how fast this program is on this machine, and fail where it has become slower.

    Args:
        suite: What is measured.
        repeat: Samples of each case, from 1 to 100.
        threshold: From which share on significantly slower is a regression: 0.2 for 20 %.
        baseline: Name of a file in WORKSPACE/benchmarks; none: the ten newest of this machine together.
    """
    from flows.benchmarks.nightly import check_against_history
    from flows.benchmarks.suite_runs import run_suite

    told: list[dict[str, Any]] = []

    def work(console: Console) -> bool:
        night = check_against_history(
            workspace_folder(),
            suite,
            lambda: run_suite(suite, repeat=repeat, warmup=1, console=Console(quiet=True)),
            console,
            threshold=threshold,
            baseline=baseline,
            tracking=_tracking(),
        )
        told.extend(night.report["results"])
        return night.comparison is None or not night.comparison.regressions

    try:
        _carried_out("benchmark", work)
    finally:
        figures = ("name", "unit", "n", "median", "min", "max", "peak_rss_mb")
        if told:
            create_table_artifact(
                [{key: row[key] for key in figures} for row in told],
                key="benchmark-figures",
                description=f"suite {suite} on this machine",
            )


def _tracking() -> str:
    """Return where the worker's experiments are published, which is where its benchmarks go."""
    config, _ = compose_experiment(workers_words([]))
    return config.tracking.kind


@flow(name="canary", persist_result=False)
def canary() -> None:
    """Simulate a small fixed experiment anew, and fail where a ledger head is not the one it was.

    The first time its heads are recorded, as those of any experiment; another version of the model
    begins a record of its own.
    """
    from flows.inspect import opened, replay_run

    name = _experiment(list(CANARY))
    with opened(workspace_folder()) as (_, ledger):
        keys = [row["run_key"] for row in ledger.runs_of(name)]

    def work(console: Console) -> bool:
        same = [replay_run(workspace_folder(), key, console) for key in keys]
        return all(same)

    _carried_out("canary", work)


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def _experiment(words: list[str]) -> str:
    """Run an experiment as a flow in this one, and show here what came out; return its name.

    Raises:
        UserError: what is asked for cannot be, or is more than the limits allow.
        RunFailed: a run failed.
    """
    folder = workspace_folder()
    prepare_environment(folder)
    everything = [*workers_words(words), *words, f"workspace={json.dumps(str(folder))}"]
    config, points = compose_experiment(everything, multirun=True)
    plan = check_before_start(config, points)
    get_run_logger().info("%s: %d points, %d runs", plan.name, len(plan.labels), len(plan.runs))
    witness = Witness()
    token = SPECTATOR.set(witness)
    try:
        run_experiment(config, points)
    finally:
        SPECTATOR.reset(token)
        if witness.outcome is not None:
            show_outcome(witness.outcome, config.tracking, folder)
    return plan.name


class _Told:
    """What a command would print, for logs and artifacts."""

    def __init__(self) -> None:
        self.console = Console(file=StringIO(), width=WIDTH, no_color=True)

    def show(self, key: str) -> None:
        """Log it, and show it as an artifact."""
        output: Any = self.console.file
        text = output.getvalue().rstrip()
        get_run_logger().info("%s", text)
        create_markdown_artifact(f"```text\n{text}\n```", key=key, description=key)


def _looked_after(what: str, work: Callable[[Console], bool]) -> None:
    """Do what is due by the clock, as soon as there is something that it could be done to."""
    if Workspace(workspace_folder()).has_ledger:
        _carried_out(what, work)
    else:
        get_run_logger().info("nothing to do: no experiment has been run in this workspace yet")


def _carried_out(what: str, work: Callable[[Console], bool]) -> None:
    """Do what a command does, and show what it says.

    Raises:
        RunFailed: it found something wrong.
        QuorumlabError: as the command does.
    """
    prepare_environment(workspace_folder())
    told = _Told()
    try:
        is_right = work(told.console)
    except QuorumlabError:
        told.show(what)
        raise
    told.show(what)
    if not is_right:
        raise RunFailed(f"{what}: something is wrong, see the artifact")
