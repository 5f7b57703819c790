"""Entering an experiment into the ledger, and the points and replicates that it turns out to need."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flows.search import is_optimisation
from flows.trials import Standing, next_plan, standing
from sim_core.config import ExperimentConfig
from sim_core.errors import OwnershipLost
from sim_core.growth import check_growth
from sim_core.identity import model_version, result_relevant
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import stored_points
from sim_core.ledger.tables import Experiment
from sim_core.plan import Plan, PlannedRun, Point, first_count, grown, plan_runs
from sim_core.stopping import counts_so_far


def enrol(
    ledger: Ledger,
    config: ExperimentConfig,
    points: Sequence[Point],
    plan: Plan,
    environment: dict[str, Any],
) -> Plan:
    """Enter an experiment and its planned runs; return the plan with the runs it has already.

    Raises:
        ExperimentConflict: the name exists and is another experiment.
    """
    existing = ledger.experiment(plan.name)
    if existing is not None:
        if is_optimisation(config) and len(existing.points) > len(points):
            points = stored_points(existing)[1]  # chosen since whoever calls knew them
            plan = plan_runs(config, points)
        check_growth(existing, plan, config)
        if config.experiment.until is not None or is_optimisation(config):
            plan = grown(plan, config, enrolled_counts(plan, config, ledger.runs_of(plan.name)))
    _enter(ledger, config, points, plan, environment, existing)
    return plan


def _enter(
    ledger: Ledger,
    config: ExperimentConfig,
    points: Sequence[Point],
    plan: Plan,
    environment: dict[str, Any],
    existing: Experiment | None,
) -> None:
    """Write the row of an experiment, and its runs."""
    now = time.time()
    settings = [point.settings for point in points] or [{}]
    has_grown = existing is not None and existing.key != plan.key
    experiment = Experiment(
        name=plan.name,
        key=plan.key,
        revision=(existing.revision + has_grown) if existing else 1,
        state="running",
        config=config.model_dump(mode="json"),
        points=[
            {"label": label, "settings": part, "values": values}
            for label, part, values in zip(plan.labels, settings, plan.values, strict=True)
        ],
        environment=environment,
        created_at=existing.created_at if existing else now,
        updated_at=now,
    )
    _register(ledger, experiment, plan.runs)


def enrol_more(ledger: Ledger, config: ExperimentConfig, plan: Plan) -> Plan:
    """Enter the replicates that `experiment.until` asks for now; return the plan with them.

    Raises:
        OwnershipLost: the experiment was deleted meanwhile.
    """
    until = config.experiment.until
    if until is None:
        return plan
    before = Counter(run.point for run in plan.runs)
    ruled = counts_so_far(ledger.runs_of(plan.name), len(plan.configs), until)
    counts = [max(n, before[point]) for point, n in enumerate(ruled)]
    if sum(counts) == len(plan.runs):
        return plan
    experiment = ledger.experiment(plan.name)
    if experiment is None:
        raise OwnershipLost(f"experiment {plan.name} was deleted while this command worked on it")
    known = {run.spec.run_key for run in plan.runs}
    more = grown(plan, config, counts)
    _register(ledger, experiment, [r for r in more.runs if r.spec.run_key not in known])
    return more


def enrol_next(ledger: Ledger, config: ExperimentConfig, plan: Plan) -> tuple[Plan, Standing]:
    """Enter what an optimisation does next; return the plan with it, and how far it was before.

    Raises:
        OwnershipLost: the experiment was deleted meanwhile.
    """
    experiment = ledger.experiment(plan.name)
    if experiment is None:
        raise OwnershipLost(f"experiment {plan.name} was deleted while this command worked on it")
    here = standing(ledger, config, plan)
    found = next_plan(config, here)
    if found is None:
        return plan, here
    more, points = found
    _enter(ledger, config, points, more, experiment.environment, experiment)
    return more, here


def enrolled_counts(
    plan: Plan, config: ExperimentConfig, rows: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Return how many replicates of each point the ledger has, but at least the first ones."""
    point_of = {row["run_key"]: row["point"] for row in rows}
    enrolled = Counter(row["point"] for row in rows)
    first = [run for run in plan.runs if run.spec.replicate == 0]
    least = first_count(config)
    return [max(least, enrolled[point_of.get(run.spec.run_key, -1)]) for run in first]


def _register(ledger: Ledger, experiment: Experiment, runs: Sequence[PlannedRun]) -> None:
    ledger.register(
        experiment, [(run.point, run.spec) for run in runs], model_version(), result_relevant
    )
