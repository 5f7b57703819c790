"""What a comparison's page is about, from an experiment at its end or from several in a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.bench import Bench, Outcome
from sim_core.comparison.report import Report
from sim_core.config.design import SampledDesign
from sim_core.differing import differing_settings
from sim_core.ledger.store import Ledger
from sim_core.results import RunRecord, interval, metric_names, steps_frame
from tasks.plots.factors import Spot
from tasks.report_tables import Origin
from tasks.write_report import Subject

if TYPE_CHECKING:
    import pandas as pd


def subject_of_outcome(bench: Bench, outcome: Outcome) -> Subject:
    """Return what the page of an experiment that has just ended is about."""
    findings = outcome.findings
    finished = [record.run_id for record in findings.records if record.state == "finished"]

    def steps_of(labels: Sequence[str]) -> pd.DataFrame:
        steps = findings.steps
        return steps[steps["label"].isin(list(labels)) & steps["run_id"].isin(finished)]

    spots = [
        Spot(point["label"], point["values"], intervals)
        for point, intervals in zip(findings.point_descriptions, findings.points, strict=True)
    ]
    origin = origin_of(
        outcome.name, bench.config.experiment.seed, findings.records, outcome.environment, None
    )
    return Subject(
        outcome.name, [origin], spots, outcome.comparison, steps_of, why_not_compared(bench)
    )


def why_not_compared(bench: Bench) -> str:
    """Return why the end of an experiment compares nothing, for those that it does not compare."""
    name = bench.plan.name
    if isinstance(bench.config.design, SampledDesign):
        which = (
            f" Which factors matter: quorumlab sensitivity {name}."
            if bench.config.design.kind in ("saltelli", "morris")
            else ""
        )
        return (
            "The points were drawn by a design: none of them is what the others are compared with. "
            f"quorumlab compare {name} --baseline POINT does so all the same.{which}"
        )
    return f"So many points are compared on demand: quorumlab compare {name} --html FILE."


def origin_of(
    name: str,
    seed: int,
    records: Sequence[RunRecord],
    environment: Mapping[str, Any],
    versions: Sequence[str] | None,
) -> Origin:
    """Return where the results of an experiment come from.

    Args:
        name: The experiment.
        seed: Its root seed.
        records: Its runs.
        environment: What `describe_environment` said when it was run.
        versions: Model versions of its runs; None: the environment's.
    """
    found = versions if versions is not None else [str(environment.get("model_version", "-"))]
    finished = sum(record.state == "finished" for record in records)
    return Origin(name, seed, tuple(found), finished, len(records), environment)


def subject_of_ledger(
    ledger: Ledger,
    title: str,
    origins: Sequence[Origin],
    labels: Sequence[str],
    records: Sequence[RunRecord],
    report: Report,
    notes: Sequence[str],
) -> Subject:
    """Return what a page about runs in a ledger is about, of one experiment or several."""

    def steps_of(chosen: Sequence[str]) -> pd.DataFrame:
        return steps_frame(
            ledger, [r for r in records if r.label in set(chosen) and r.state == "finished"]
        )

    return Subject(title, origins, spots_of(labels, records), report, steps_of, notes=notes)


def spots_of(labels: Sequence[str], records: Sequence[RunRecord]) -> list[Spot]:
    """Return the points of some runs, with what differs between them and the means of each."""
    by_label: dict[str, list[RunRecord]] = {label: [] for label in labels}
    for record in records:
        by_label[record.label].append(record)
    values = differing_settings([runs[0].config if runs else {} for runs in by_label.values()])
    names = metric_names(records)
    spots = []
    for (label, runs), differing in zip(by_label.items(), values, strict=True):
        finished = [record for record in runs if record.state == "finished"]
        means = {name: interval([r.metrics.get(name) for r in finished]) for name in names}
        spots.append(Spot(label, differing, means))
    return spots
