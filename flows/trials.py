"""What an optimisation does next, from what the ledger holds: more points, fresh replicates, or no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.search import Search
from sim_core.config import ExperimentConfig
from sim_core.errors import ConfigurationError
from sim_core.ledger.store import Ledger
from sim_core.optimisation.front import best_trials
from sim_core.optimisation.goals import Aim
from sim_core.optimisation.report import Optimisation, fresh_labels, optimisation_of
from sim_core.optimisation.trials import Trial
from sim_core.plan import Plan, Point, plan_runs
from sim_core.results import Findings, run_records

MAY_CHANGE = {"trials", "batch", "confirm", "choices"}
"""Keys of a search that may differ when it goes on."""


@dataclass(frozen=True)
class Standing:
    """How far an optimisation is."""

    aim: Aim
    points: list[Point]
    trials: list[Trial]
    counts: dict[str, int]
    """Replicates of each point that the ledger has, by label."""


def standing(ledger: Ledger, config: ExperimentConfig, plan: Plan) -> Standing:
    """Return how far an optimisation is by the ledger alone."""
    experiment = ledger.experiment(plan.name)
    assert experiment is not None
    points = [Point(label=p["label"], settings=p["settings"]) for p in experiment.points]
    values: list[Mapping[str, Any]] = [p["values"] for p in experiment.points]
    labels = [point.label for point in points]
    records = run_records(ledger, plan.name, labels, values, config.cost)
    counts = Counter(record.label for record in records)
    search = Search(config)
    return Standing(search.aim, points, search.trials(points, records), dict(counts))


def next_plan(config: ExperimentConfig, here: Standing) -> tuple[Plan, list[Point]] | None:
    """Return plan and points with what comes next; None where nothing does.

    First come the trials that are asked for, batch by batch; then fresh replicates of the best and the
    start. Both follow from results alone, in whatever order they came in.
    """
    search, wanted = Search(config), config.optimise
    more: list[Point] = []
    n = min(wanted.batch, wanted.trials - len(here.trials))
    if n > 0:
        more = search.next_points(here.trials, n)
    points = [*here.points, *more]
    least = config.experiment.replicates
    counts = [max(least, here.counts.get(point.label, 0)) for point in points]
    if not more and wanted.confirm:
        counts = _with_fresh(config, search, here, counts)
    if not more and sum(counts) == sum(here.counts.values()):
        return None
    return plan_runs(config, points, counts), points


def _with_fresh(
    config: ExperimentConfig, search: Search, here: Standing, counts: Sequence[int]
) -> list[int]:
    """Return the replicates of each point with those of the best and the start that nobody chose by."""
    best = best_trials(here.trials, search.aim)
    start = here.trials[0] if config.optimise.start != () else None
    again = set(fresh_labels(best, start))
    enough = config.experiment.replicates + config.optimise.confirm
    return [
        max(count, enough) if point.label in again else count
        for point, count in zip(here.points, counts, strict=True)
    ]


def found_by(config: ExperimentConfig, findings: Findings) -> Optimisation:
    """Return what an optimisation has found."""
    points = [Point(label=p["label"], settings=p["settings"]) for p in findings.point_descriptions]
    trials = Search(config).trials(points, findings.records)
    return optimisation_of(config, trials, findings.records)


def expect_same_search(before: ExperimentConfig, now: ExperimentConfig) -> None:
    """Return if an optimisation of this name may go on as it is configured now.

    Raises:
        ConfigurationError: it looks for something else, or elsewhere.
    """
    old = before.optimise.model_dump(mode="json", exclude=MAY_CHANGE)
    new = now.optimise.model_dump(mode="json", exclude=MAY_CHANGE)
    if not before.optimise.factors:
        raise ConfigurationError(
            f"experiment {now.experiment.name} exists and is no optimisation: choose another "
            "experiment.name"
        )
    other = [f"optimise.{key}" for key in old if old[key] != new[key]]
    if before.experiment.replicates != now.experiment.replicates:
        other.append("experiment.replicates")
    if other:
        raise ConfigurationError(
            f"experiment {now.experiment.name} exists, with another {', '.join(other)}: its trials were "
            "chosen by that. Only optimise.trials, batch and confirm may change; choose another "
            "experiment.name for another search"
        )
