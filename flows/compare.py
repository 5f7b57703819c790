"""Comparing the points of experiments that are in a workspace, from the ledger alone."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.inspect import find_experiment, opened
from flows.show_comparison import show_report
from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.verdicts import SmallestEffect
from sim_core.config import ExperimentConfig
from sim_core.errors import UserError
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import stored_points
from sim_core.results import RunRecord, collect_findings
from sim_core.workspace import write_whole

LATER = (
    "runs of different versions of the model may differ for that reason alone. Run them again with "
    "this version, or compare all the same with --across-versions"
)


@dataclass(frozen=True)
class Compared:
    """An experiment as it is compared with others."""

    name: str
    config: ExperimentConfig
    model_versions: tuple[str, ...]
    """Of its runs: one, unless somebody mixed them."""
    labels: list[str]
    records: list[RunRecord]
    environment: Mapping[str, Any]
    """Where it was run, as the ledger has it."""


def compare_experiments(
    folder: Path,
    names: Sequence[str],
    console: Console,
    *,
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    alpha: float | None = None,
    smallest_effect: Sequence[str] = (),
    across_versions: bool = False,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    html_file: Path | None = None,
) -> Report:
    """Print what distinguishes points from a baseline, and return it.

    Args:
        folder: The workspace.
        names: Experiments; of several, points are called EXPERIMENT/POINT.
        console: Where to print.
        baseline: The point that others are compared with; without it the configuration's, or the
            first.
        metrics: What is compared; without any, the configuration's, or the metrics of tables for
            people.
        alpha: Level of the whole family, in place of the configuration's.
        smallest_effect: Texts that `parse_smallest` reads.
        across_versions: Whether results of different versions of the model may be compared.
        json_file: File to write everything into.
        csv_file: File to write a row per comparison into.
        html_file: File to write a page into: verdicts, pictures, tables.

    Raises:
        UserError: an experiment, point or metric is not there, the versions of the model differ, or
            there is nothing to compare.
    """
    with opened(folder) as (_, ledger):
        experiments = [read_compared(ledger, name) for name in dict.fromkeys(names)]
    report, notes = weigh(
        experiments,
        baseline=baseline,
        metrics=metrics,
        alpha=alpha,
        smallest_effect=smallest_effect,
        across_versions=across_versions,
    )
    show_report(report, console, title=", ".join(e.name for e in experiments), notes=notes)
    about = {"experiments": _about(experiments), "notes": notes}
    if json_file is not None:
        write_whole(json_file, json.dumps(about | report.to_json(), indent=2, allow_nan=False))
    if csv_file is not None:
        write_whole(csv_file, as_csv(report))
    if html_file is not None:
        write_page(folder, experiments, report, notes, html_file)
        console.print(f"report: {html_file}", highlight=False, soft_wrap=True, markup=False)
    return report


def weigh(
    experiments: Sequence[Compared],
    *,
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    alpha: float | None = None,
    smallest_effect: Sequence[str] = (),
    across_versions: bool = False,
) -> tuple[Report, list[str]]:
    """Return what distinguishes points from a baseline, and what to know about it.

    Raises:
        UserError: as `compare_experiments`.
    """
    notes = expect_one_version(experiments, across_versions=across_versions)
    labels, records = merged(experiments)
    settings = experiments[0].config.comparison
    question = Question(
        baseline=baseline or _labelled(experiments, settings.baseline),
        metrics=tuple(metrics) or settings.metrics,
        alpha=alpha or settings.alpha,
        smallest=parse_smallest(smallest_effect, settings.smallest_effect),
    )
    report = compare(records, labels, question)
    return report, notes + _notes(experiments, report)


def write_page(
    folder: Path, experiments: Sequence[Compared], report: Report, notes: Sequence[str], file: Path
) -> None:
    """Write a comparison as one page that needs nothing else."""
    from flows.report import origin_of, subject_of_ledger
    from tasks.write_report import write_report

    labels, records = merged(experiments)
    origins = [
        origin_of(e.name, e.config.experiment.seed, e.records, e.environment, e.model_versions)
        for e in experiments
    ]
    title = ", ".join(e.name for e in experiments)
    with opened(folder) as (_, ledger):
        subject = subject_of_ledger(ledger, title, origins, labels, records, report, notes)
        write_report(subject, file)


def read_compared(ledger: Ledger, name: str) -> Compared:
    """Return an experiment with all of its runs.

    Raises:
        UserError: there is none of this name.
    """
    experiment = find_experiment(ledger, name)
    config, _ = stored_points(experiment)
    findings = collect_findings(ledger, name, config.cost)
    versions = tuple(sorted({row["model_version"] for row in ledger.runs_of(name)}))
    environment = experiment.environment
    return Compared(name, config, versions, findings.labels, findings.records, environment)


def expect_one_version(experiments: Sequence[Compared], *, across_versions: bool) -> list[str]:
    """Return what is to be noted about the versions of the model.

    Raises:
        UserError: they differ, and that was not asked for.
    """
    versions: dict[str, list[str]] = {}
    for experiment in experiments:
        for version in experiment.model_versions:
            versions.setdefault(version, []).append(experiment.name)
    if len(versions) <= 1:
        return []
    words = "; ".join(
        f"{', '.join(names)} with {version[:12]}" for version, names in versions.items()
    )
    if not across_versions:
        raise UserError(
            f"what is to be compared was run by different versions of the model: {words}. {LATER}"
        )
    return [f"different versions of the model: {words}"]


def merged(experiments: Sequence[Compared]) -> tuple[list[str], list[RunRecord]]:
    """Return labels and runs of all experiments; of several, labels begin with the experiment."""
    if len(experiments) == 1:
        return experiments[0].labels, experiments[0].records
    labels = [f"{e.name}/{label}" for e in experiments for label in e.labels]
    records = [replace(r, label=f"{e.name}/{r.label}") for e in experiments for r in e.records]
    return labels, records


def _labelled(experiments: Sequence[Compared], baseline: str | None) -> str | None:
    return (
        baseline
        if baseline is None or len(experiments) == 1
        else f"{experiments[0].name}/{baseline}"
    )


def _notes(experiments: Sequence[Compared], report: Report) -> list[str]:
    """Return what a reader has to know about the experiments."""
    notes = []
    costs = {experiment.config.cost for experiment in experiments}
    if len(costs) > 1 and any(c.metric == "cost" for c in report.comparisons):
        notes.append("cost is weighed differently by these experiments (cost.missed, cost.blocked)")
    horizons = {r.horizon for e in experiments for r in e.records}
    if len(horizons) > 1:
        notes.append(
            f"runs of different lengths are compared ({min(horizons)} to {max(horizons)} steps): "
            "counts grow with steps"
        )
    if any(not c.found.is_paired and c.found.n for c in report.comparisons):
        notes.append(
            "points without common replicates are compared as independent samples (Welch): another "
            "seed, or other replicates"
        )
    return notes


def _about(experiments: Sequence[Compared]) -> list[dict[str, Any]]:
    return [
        {
            "name": experiment.name,
            "model_versions": list(experiment.model_versions),
            "seed": experiment.config.experiment.seed,
            "points": experiment.labels,
        }
        for experiment in experiments
    ]


SIZE = re.compile(r"(?:(?P<metric>[a-z]\w*)=)?(?P<size>[\d.]+(?:e-?\d+)?)(?P<percent>\s?%)?")


def parse_smallest(texts: Sequence[str], relative: float = 0.05) -> SmallestEffect:
    """Return the smallest effects of interest: `5%` of all metrics, `f1=2%` or `f1=0.01` of one.

    >>> parse_smallest(["2%", "f1=0.01"])
    SmallestEffect(relative=0.02, absolute={'f1': 0.01}, shares={})

    Raises:
        UserError: a text is none of these.
    """
    absolute: dict[str, float] = {}
    shares: dict[str, float] = {}
    for text in texts:
        match = SIZE.fullmatch(text.strip())
        size = _number(match["size"]) if match else 0.0
        if match is None or size <= 0 or not (match["metric"] or match["percent"]):
            raise UserError(
                f"--smallest-effect {text}: give a share of the baseline for all metrics (5%), or of "
                "one (f1=2%), or a size of one (f1=0.01)"
            )
        if match["percent"] and match["metric"]:
            shares[match["metric"]] = size / 100
        elif match["percent"]:
            relative = size / 100
        else:
            absolute[match["metric"]] = size
    return SmallestEffect(relative, absolute, shares)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def as_csv(report: Report) -> str:
    """Return a row per comparison, with the names of the columns first."""
    rows = report.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["point"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
