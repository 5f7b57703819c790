"""Writing the files of an experiment: what is said of this command always, what takes time when it is new."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.bench import Bench, Outcome
from flows.orchestrators import Orchestrator
from flows.show_optimisation import PLOT, write_optimisation
from sim_core.faultpoints import reach
from sim_core.ledger.report import ValidationReport, render_html
from sim_core.workspace import write_whole
from tasks.made_files import MadeFiles
from tasks.occupancy import trace
from tasks.plots.canvas import Picture
from tasks.write_results import write_results, write_tables


def write_files(
    bench: Bench, outcome: Outcome, report: ValidationReport | None, orchestrator: Orchestrator
) -> MadeFiles:
    """Write files and plots, and show the results where the orchestrator has a place for them.

    Tables, plots and page stay where they would become the same; what is new of them is noted by
    whoever has published it.
    """
    bench.expect_experiment()
    with bench.stage("write", "writing results"):
        reach("write.begin")
        findings = outcome.findings
        write_results(
            bench.folder,
            bench.config,
            findings,
            name=outcome.name,
            key=outcome.key,
            state=outcome.state,
            counts=outcome.counts,
            wall_seconds=outcome.wall_seconds,
            environment=outcome.environment,
            validation=outcome.validation,
            queues=bench.queues,
            adjustments=bench.adjustments,
            utilisation=bench.occupancy.utilisation(),
            operations=bench.ledger.operations.figures() if bench.config.monitoring.enabled else {},
            issues=bench.telemetry.alerts.report(),
            comparison=outcome.comparison,
        )
        if bench.config.output.tables and (stays := bench.occupancy.stays()):
            write_whole(bench.folder / "timeline.json", trace(stays))
        pictures = keep_resources(bench)
        if outcome.optimisation is not None:
            write_optimisation(bench, outcome.optimisation)
        if report is not None:
            write_whole(bench.folder / "validation.json", json.dumps(report.to_json(), indent=2))
            write_whole(bench.folder / "validation.html", render_html(report, outcome.name))
        made = MadeFiles(bench.folder, origin_of_files(bench, outcome))
        if not made.are_current():
            made.new = make_files(bench, outcome, pictures)
        orchestrator.show_results(outcome.name, findings, outcome.comparison)
    return made


def keep_resources(bench: Bench) -> list[Picture]:
    """Keep what a command took that has executed something, and return it as pictures."""
    if bench.n_executed:
        bench.telemetry.sample_now()  # the last one in turn may be many steps before the end
    pictures = _kept_resources(bench)
    bench.telemetry.discard_live()
    return pictures


def _kept_resources(bench: Bench) -> list[Picture]:
    samples = bench.telemetry.samples
    if not (samples and bench.n_executed and bench.config.output.tables):
        return []
    from tasks.resource_history import keep_history

    history = keep_history(bench.folder, samples)
    if not bench.config.output.plots:
        return []
    from tasks.plots.resources import draw_resources

    pictures = draw_resources(history)
    for picture in pictures:
        write_whole(bench.folder / "plots" / f"{picture.name}.svg", picture.as_file())
    return pictures


def origin_of_files(bench: Bench, outcome: Outcome) -> dict[str, Any]:
    """Return what tables, plots and the page are made of, besides steps, which heads tell."""
    return {
        "experiment": outcome.name,
        "config": bench.config.model_dump(mode="json"),
        "points": outcome.findings.point_descriptions,
        "runs": [
            [r.run_id, r.state, r.horizon, r.ledger_head, r.ledger_rows, r.metrics, r.error]
            for r in outcome.findings.records
        ],
        "environment": outcome.environment,
        "validation": outcome.validation,
    }


def make_files(bench: Bench, outcome: Outcome, resources: Sequence[Picture]) -> list[Path]:
    """Make what takes time: tables, plots, and the page, with pictures of resources; return the files."""
    findings, plots = outcome.findings, bench.folder / "plots"
    files: list[Path] = []
    if bench.config.output.tables:
        files += write_tables(bench.folder, findings)
    if bench.config.output.plots:
        from tasks.draw_plots import draw_all

        files += draw_all(findings.steps, findings.records, findings.points, plots)
        if outcome.optimisation is not None:
            from tasks.draw_optimisation import draw_optimisation

            files.append(draw_optimisation(outcome.optimisation, plots / PLOT))
    if bench.page is not None:
        from flows.report import subject_of_outcome
        from tasks.write_report import write_report

        subject = replace(subject_of_outcome(bench, outcome), resources=resources)
        files += write_report(subject, bench.page, plots if bench.config.output.plots else None)
    return files
