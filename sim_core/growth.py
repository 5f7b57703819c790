"""What may become of an experiment whose name exists: the same again, or more of it."""

from __future__ import annotations

from sim_core.config import ExperimentConfig
from sim_core.errors import ExperimentConflict
from sim_core.identity import content_hash, model_version, result_relevant
from sim_core.ledger.stored import stored_points
from sim_core.ledger.tables import Experiment
from sim_core.plan import Plan, plan_runs


def check_growth(existing: Experiment, plan: Plan, config: ExperimentConfig) -> None:
    """Accept the same experiment with more points, replicates or steps, and nothing else.

    Raises:
        ExperimentConflict: saying what differs.
    """
    if existing.key == plan.key:
        return
    before, points = stored_points(existing)
    found = []
    if existing.environment.get("model_version") != model_version():
        found.append("the code of the model has changed since")
    if before.experiment.seed != config.experiment.seed:
        found.append(f"experiment.seed was {before.experiment.seed}")
    if before.experiment.until is not None and config.experiment.until is None:
        found.append("its points have as many replicates as experiment.until asked for")
    fewer = before.experiment.replicates > config.experiment.replicates
    if fewer and before.experiment.until is None and config.experiment.until is None:
        found.append(f"it has {before.experiment.replicates} replicates already")
    if before.simulation.steps > config.simulation.steps:
        found.append(f"it has {before.simulation.steps} steps already")
    if not found:
        new = {content_hash(result_relevant(c)) for c in plan.configs}
        old = plan_runs(before, points)
        if old.key != existing.key:
            found.append("what the ledger has of it, or a data file, has changed since")
        gone = [
            label
            for label, c in zip(old.labels, old.configs, strict=True)
            if content_hash(result_relevant(c)) not in new
        ]
        if gone:
            found.append(f"its points {', '.join(gone)} are missing or configured differently")
    if found:
        raise ExperimentConflict(
            f"experiment {plan.name!r} exists and cannot become this one: {'; '.join(found)}. Points, "
            "replicates and steps may only be added; choose another experiment.name, or none"
        )
