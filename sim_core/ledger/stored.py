"""What rows of experiments and runs have to be; a damaged one is named, and nothing is built on it.

Rows of a run's steps are another matter: their hashes tell whether they are right (see `verify`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sim_core.config import ExperimentConfig, describe_validation
from sim_core.config.base import Name
from sim_core.config.explain import shortened, shown
from sim_core.errors import ConfigurationError, LedgerFailed
from sim_core.ledger.blocks import KEPT
from sim_core.ledger.tables import Experiment
from sim_core.plan import Label, Point
from sim_core.plugins.stored import demand_plugins

ADVICE = (
    "Something else than this program has changed it: put ledger.db back from a copy, or choose "
    "another workspace"
)
LONGEST_REASON = 200
MOST_STEPS = 10_000_000
"""As `simulation.steps` allows."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


Text = Annotated[str, AfterValidator(_printable)]
State = Annotated[Text, Field(min_length=1, max_length=40)]
"""One that nobody knows is shown as it is, and leads to nothing."""
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class _Row(BaseModel):
    """Values as they are, none made to fit."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Point(_Row):
    label: Label
    settings: dict[str, Any]
    values: dict[str, str | int | float | bool | None] = {}


class _Experiment(_Row):
    name: Name
    key: Text
    revision: Annotated[int, Field(ge=1)]
    state: State
    config: dict[str, Any]
    points: list[_Point]
    environment: dict[str, Any]
    validation: dict[str, Any] | None
    created_at: Seconds
    updated_at: Seconds


class _Run(_Row):
    run_key: Hash
    config: dict[str, Any]
    seed: Count
    replicate: Count
    model_version: Text
    detail: Text
    """One that nobody knows is a break that `verify` and validation name; see `kept_kinds`."""
    n_nodes: Count
    n_features: Count
    epoch: Count
    state: State
    steps: Annotated[int, Field(ge=0, le=MOST_STEPS)]
    head: Text | None
    claimed_at: Seconds | None
    wall_seconds: Seconds
    cpu_seconds: Seconds
    peak_rss_mb: Seconds
    error: str | None
    tries: Count
    point: Count
    horizon: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    mlflow_run_id: Text | None
    summary: dict[str, float | None] | None
    summary_head: Text | None
    validated: Hash | None


RUNS = TypeAdapter(list[_Run])


def checked_experiment(row: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a row.

    Raises:
        LedgerFailed: the row is damaged.
    """
    try:
        _Experiment.model_validate(dict(row))
    except ValidationError as error:
        name = row["name"] if isinstance(row["name"], str) else ""
        raise damaged(f"experiment {shown(name)}", error) from error
    return Experiment(**row)


def checked_runs(experiment: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of `Ledger.runs_of` as they are.

    Raises:
        LedgerFailed: one is damaged.
    """
    try:
        RUNS.validate_python(rows)
    except ValidationError as error:
        number = error.errors()[0]["loc"][0]
        key = rows[number]["run_key"] if isinstance(number, int) else ""
        place = f"experiment {experiment}, run {shown(key[:12] if isinstance(key, str) else key)}"
        raise damaged(place, error, skip=1) from error
    for row in rows:
        _refuse_another_size(experiment, row)
    return list(rows)


def _refuse_another_size(experiment: str, row: Mapping[str, Any]) -> None:
    """Check the number of nodes against the configuration: arrays are made of this length."""
    simulation = row["config"].get("simulation")
    nodes = simulation.get("nodes") if isinstance(simulation, dict) else None
    if nodes != row["n_nodes"]:
        raise LedgerFailed(
            f"the ledger's row of experiment {experiment}, run {row['run_key'][:12]} is damaged: "
            f"column n_nodes: {row['n_nodes']}, but its configuration has {shown(nodes)} nodes. "
            f"{ADVICE}"
        )


def stored_points(experiment: Experiment) -> tuple[ExperimentConfig, list[Point]]:
    """Return configuration and points of an experiment as the ledger has them.

    Raises:
        LedgerFailed: what is stored is no configuration (any more).
        ConfigurationError: a plug-in that it names is not installed, or cannot be used.
    """
    points = [Point(label=p["label"], settings=p["settings"]) for p in experiment.points]
    if not points:
        raise LedgerFailed(
            f"the ledger's row of experiment {experiment.name} is damaged: column points: there "
            f"are none. {ADVICE}"
        )
    parts = {"config": experiment.config} | {f"points, {p.label}": p.settings for p in points}
    for column, part in parts.items():
        try:
            demand_plugins(part)
        except ConfigurationError as error:
            place = f"experiment {experiment.name}, column {column} of its row in the ledger"
            raise ConfigurationError(f"{place}: {error}") from error
    column = "config"
    try:
        config = ExperimentConfig.model_validate(experiment.config)
        for point in points:
            column = f"points, {point.label}"
            config.with_settings(point.settings)
    except (ValidationError, ConfigurationError) as error:
        reason = describe_validation(error) if isinstance(error, ValidationError) else str(error)
        raise LedgerFailed(
            f"the ledger's row of experiment {experiment.name} cannot be used: column {column}: "
            f"{reason}. If no other version of this program wrote it: {ADVICE}"
        ) from error
    return config, points


def kept_kinds(run_key: str, detail: str) -> frozenset[str]:
    """Return the kinds of entries of which a run keeps the rows.

    Raises:
        LedgerFailed: its detail is none.
    """
    if detail not in KEPT:
        raise LedgerFailed(
            f"the ledger's row of run {run_key[:12]} is damaged: column detail: expected one of "
            f"{', '.join(KEPT)}, found {shown(detail)}. {ADVICE}"
        )
    return KEPT[detail]


def label_of(experiment: Experiment, row: Mapping[str, Any]) -> str:
    """Return the label of the point that a run of an experiment is at.

    Raises:
        LedgerFailed: the experiment has no such point.
    """
    n_points = len(experiment.points)
    if row["point"] >= n_points:
        raise LedgerFailed(
            f"the ledger's row of experiment {experiment.name}, run {row['run_key'][:12]} is damaged: "
            f"column point: {row['point']}, but the experiment has {n_points} points. {ADVICE}"
        )
    return str(experiment.points[row["point"]]["label"])


def damaged(place: str, error: ValidationError, *, skip: int = 0) -> LedgerFailed:
    """Return the error that names the first thing that is wrong in a row.

    Args:
        place: What the row is of.
        error: What pydantic found.
        skip: Leading parts of its path that name no column.
    """
    first = error.errors()[0]
    column = ".".join(shortened(str(part)) for part in first["loc"][skip:])
    reason = shortened(first["msg"].removeprefix("Value error, "), LONGEST_REASON)
    return LedgerFailed(
        f"the ledger's row of {place} is damaged: column {column}: {reason}, found "
        f"{shown(first['input'])}. {ADVICE}"
    )


class Unreadable:
    """What stands in a column of JSON and is none; whoever checks the row names it."""

    def __init__(self, found: Any) -> None:
        """Keep what was found."""
        self._found = found

    def __repr__(self) -> str:
        """Return it as messages show it."""
        return f"{shown(self._found)} (no JSON)"


def read_json(text: Any) -> Any:
    """Return what a column of JSON holds, `Unreadable` where it is none or nested without end."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return Unreadable(text)
