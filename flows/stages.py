"""The stages of an experiment: simulate, validate, conclude, write, publish.

Who carries them out, and where they can be watched, is the orchestrator's: see `orchestrators`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

from flows.bench import Bench, Outcome, open_bench
from flows.logbook import log_end, logged
from flows.orchestrators import Orchestrator
from flows.search import is_optimisation
from flows.shards import PROFILES, execute_shards
from flows.trials import found_by
from flows.validate import EarlyValidation, validate
from flows.write_files import write_files
from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.verdicts import SmallestEffect
from sim_core.config import ExecutorConfig, ExperimentConfig
from sim_core.config.design import SampledDesign
from sim_core.errors import RunFailed, Unavailable
from sim_core.faultpoints import reach
from sim_core.ledger.garbage import remove_garbage
from sim_core.ledger.report import ValidationReport
from sim_core.plan import Point
from sim_core.results import MAIN_METRICS, Execution, Findings, collect_findings
from sim_core.simulate import RunSpec
from tasks.executors import Executor, open_executor, worth_starting
from tasks.live_history import FILES
from tasks.logs.context import TOLD
from tasks.made_files import RECORD, MadeFiles
from tasks.occupancy import Occupancy
from tasks.write_results import renew_queues

MOST_COMPARED = 2_000
"""Comparisons at the end of an experiment: some seconds."""


def carry_out(
    config: ExperimentConfig,
    points: Sequence[Point],
    orchestrator: Orchestrator,
    *,
    execute: bool = True,
) -> None:
    """Run every replicate of every point that has no result yet, and say what was found.

    Args:
        config: The experiment.
        points: Its points.
        orchestrator: Who carries out the stages.
        execute: Whether runs without a result are executed; the results that are there are
            validated, written and published in any case.

    Raises:
        UserError: the configuration, a data file or the workspace cannot be used.
        Unavailable: a service that is needed does not start.
        RunFailed: a run failed, or broke the protocol.
    """
    bench = open_bench(config, points)
    bench.log = orchestrator.log
    with logged(bench), bench.closing(), bench.telemetry.at_work(describe_bench(bench)):
        with bench.telemetry.sampling() as sampler:
            executions = simulate(bench, orchestrator, execute=execute)
            remove_garbage(bench.ledger, bench.checkpoints, bench.plan.name)
            report = orchestrator.stage("validate", lambda: validate(bench, orchestrator))
            outcome = conclude(bench, executions, report)
            if sampler is not None:
                bench.queues["telemetry"] = sampler.counts
            made = orchestrator.stage(
                "write-results", lambda: write_files(bench, outcome, report, orchestrator)
            )
        orchestrator.stage("publish", lambda: publish(bench, outcome, made, orchestrator))
        bench.tell_figures(orchestrator.log)
        log_end(outcome)
        bench.spectator.finished(outcome, bench)
    if outcome.state != "finished":
        raise RunFailed(describe_failure(outcome))


def describe_bench(bench: Bench) -> dict[str, str | int]:
    """Return what an experiment is, as its trace shows it."""
    return {
        "key": bench.plan.key,
        "points": len(bench.plan.labels),
        "runs": len(bench.plan.runs),
        "executor": bench.config.executor.kind,
    }


def simulate(bench: Bench, orchestrator: Orchestrator, *, execute: bool) -> dict[str, Execution]:
    """Execute the runs that have no result; without any, no executor is started.

    With `experiment.until`, points get more replicates round by round, until each has enough; an
    optimisation gets more points.
    """
    executions: dict[str, Execution] = {}
    with ExitStack() as stack:
        executor: Executor | None = None
        validation: EarlyValidation | None = None
        for number in count(1):
            runs = bench.missing_runs() if execute else []
            bench.spectator.planned(bench.plan, bench.committed_steps())
            bench.telemetry.runs["planned"] = len(bench.plan.runs)
            if runs and executor is None:
                settings = worth_starting(bench.config.executor, bench.plan.most_nodes)
                with bench.stage("executor", describe_executor(bench.config.executor, settings)):
                    executor = stack.enter_context(open_executor(settings, bench.log_target))
                    stack.enter_context(bench.telemetry.also(executor.figures))
                bench.occupancy = Occupancy(operations=bench.ledger.operations)
                if bench.config.validation.mode != "off" and not executor.dies_with_driver:
                    early = EarlyValidation(bench, orchestrator.log)
                    validation = stack.enter_context(closing(early))
            if validation is not None:
                validation.expect(len(runs))
            if runs and executor is not None:
                with bench.stage("simulate", describe_round(number, runs)):
                    executions |= execute_shards(bench, runs, executor, orchestrator, validation)
            if not execute or not bench.grow():
                break
    return executions


def describe_executor(asked: ExecutorConfig, used: ExecutorConfig) -> str:
    """Return what is about to be started, in words.

    >>> describe_executor(ExecutorConfig(min_nodes=1000), ExecutorConfig(kind="processes"))
    'starting processes, not ray_local: no network has executor.min_nodes=1000 nodes'
    """
    if asked.kind == used.kind:
        return f"starting {used.kind}"
    return (
        f"starting {used.kind}, not {asked.kind}: no network has "
        f"executor.min_nodes={asked.min_nodes} nodes"
    )


def describe_round(number: int, runs: Sequence[RunSpec]) -> str:
    """Return what is about to be simulated, in words."""
    if number == 1:
        return "simulating"
    points = len({id(run.config) for run in runs})
    where = "1 point" if points == 1 else f"{points} points"
    return f"simulating, round {number}: {len(runs)} runs more at {where}"


def conclude(
    bench: Bench, executions: dict[str, Execution], report: ValidationReport | None
) -> Outcome:
    """Return what was found, and enter the end of the experiment into the ledger."""
    bench.expect_experiment()
    findings = collect_findings(bench.ledger, bench.plan.name, bench.config.cost, executions)
    states = [record.state for record in findings.records]
    counts = {
        "planned": len(states),
        "finished": states.count("finished"),
        "reused": sum(
            r.state == "finished" and r.run_id not in executions for r in findings.records
        ),
        "failed": states.count("failed"),
        "quarantined": states.count("quarantined"),
    }
    failed_validation = report is not None and not report.success
    complete = counts["finished"] == counts["planned"] and not (
        failed_validation and bench.config.validation.mode == "strict"
    )
    validation = report.to_json() if report else None
    state = "finished" if complete else "failed"
    bench.ledger.set_experiment(bench.plan.name, state=state, validation=validation)
    comparison = compared(bench, findings)
    return Outcome(
        name=bench.plan.name,
        key=bench.plan.key,
        state=state,
        counts=counts,
        findings=findings,
        validation=validation,
        environment=bench.environment,
        wall_seconds=round(time.monotonic() - bench.began, 3),
        comparison=comparison,
        optimisation=found_by(bench.config, findings) if is_optimisation(bench.config) else None,
    )


def compared(bench: Bench, findings: Findings) -> Report | None:
    """Return what distinguishes the points from the baseline.

    None for a single point; of points that a design has drawn, none of which is what others are
    compared with; where no tables are asked for (libraries of 100 MB compare); and where there is
    so much to compare that it is left to `quorumlab compare`.
    """
    config = bench.config
    n = (len(findings.labels) - 1) * len(config.comparison.metrics or MAIN_METRICS)
    is_drawn = isinstance(config.design, SampledDesign) or is_optimisation(config)
    if is_drawn or not config.output.tables or not 0 < n <= MOST_COMPARED:
        return None
    settings = config.comparison
    question = Question(
        baseline=settings.baseline,
        metrics=settings.metrics,
        alpha=settings.alpha,
        smallest=SmallestEffect(settings.smallest_effect),
    )
    with bench.stage("compare", "comparing points"):
        return compare(findings.records, findings.labels, question)


def publish(
    bench: Bench,
    outcome: Outcome,
    made: MadeFiles,
    orchestrator: Orchestrator,
) -> None:
    """Publish to MLflow; where it is away, say so, and publish with the next command.

    Where no file is new, and MLflow has all of it already, nothing is published again. Files are
    noted as made when MLflow has them: until then each command makes and uploads them.
    """
    if bench.config.tracking.kind == "off":
        made.note()
        return
    bench.expect_experiment()
    from tasks.track_mlflow import Publication, is_published, publish_experiment

    findings, validation = outcome.findings, outcome.validation
    publication = Publication(
        bench.config,
        outcome.name,
        outcome.key,
        findings.records,
        findings.points,
        bench.workspace.folder,
        None if validation is None else validation["success"],
        outcome.comparison,
    )
    try:
        with bench.stage("publish", "publishing to MLflow"):
            reach("publish.begin")
            if not made.new and is_published(publication):
                return
            publish_experiment(
                bench.ledger,
                publication,
                findings.steps,
                [*bench.telemetry.samples, *bench.telemetry.operation_samples()],
                files_to_publish(bench.folder),
                tell_counts=lambda counts: bench.queues.update(publication=counts),
            )
            made.note()
    except Unavailable as error:
        bench.spectator.warn(str(error))
        orchestrator.log.warning("%s", error, extra=TOLD)
    renew_queues(bench.folder, bench.queues)


def files_to_publish(folder: Path) -> list[Path]:
    """Return the files of an experiment, and the folder of its profiles, each of which has the same names."""
    profiles = folder / PROFILES
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    ours = (path for path in files if not path.match(FILES))  # what another command has at work
    return [*sorted(path for path in ours if profiles not in path.parents), profiles]


def describe_failure(outcome: Outcome) -> str:
    """Return which runs have no result that counts, and why, as one paragraph."""
    counts = outcome.counts
    parts = [f"{counts[s]} {s}" for s in ("failed", "quarantined") if counts[s]]
    first = next((r for r in outcome.findings.records if r.error), None)
    reason = f"; first: run {first.run_id[:12]} ({first.label}): {first.error}" if first else ""
    return f"{', '.join(parts) or 'validation refused'} of {counts['planned']} runs{reason}"
