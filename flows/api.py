"""Experiments from Python, for notebooks and scripts: run them, load them, have them as tables.

    from flows import run

    done = run("simulation.nodes=50", points={"honest": [], "liars": ["adversary=poisoner"]})
    done.runs.groupby("label")["f1"].mean()

What is run is what `quorumlab run` runs: the same configurations, workspace, ledger and reuse.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.compose import compose_experiment
from flows.inspect import find_experiment, opened
from flows.launch import launch_experiment
from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.verdicts import SmallestEffect
from sim_core.config import ExperimentConfig
from sim_core.errors import ConfigurationError, RunFailed
from sim_core.ledger.stored import stored_points
from sim_core.plan import plan_runs
from sim_core.results import Findings, collect_findings, runs_frame

if TYPE_CHECKING:
    import pandas as pd

Points = Mapping[str, Sequence[str]]
"""Label of each point, and its overrides."""


@dataclass(frozen=True)
class Results:
    """What an experiment has found, as tables."""

    name: str
    state: str
    """finished; failed where a run has no result that counts; running, interrupted."""
    folder: Path
    """Of its files: plots, report, Parquet tables."""
    config: ExperimentConfig = field(repr=False)
    runs: pd.DataFrame = field(repr=False)
    """A row per run: label, the point's values, replicate, state, ledger head, metrics."""
    steps: pd.DataFrame = field(repr=False)
    """A row per run and step."""
    points: pd.DataFrame = field(repr=False)
    """A row per point and metric: n, mean, 95 % t interval, standard deviation."""
    _findings: Findings = field(repr=False)

    def compare(
        self,
        baseline: str | None = None,
        *,
        metrics: Sequence[str] = (),
        alpha: float | None = None,
        smallest_effect: float | None = None,
    ) -> pd.DataFrame:
        """Return a row per point and metric: difference from a baseline, interval, p, verdict.

        Args:
            baseline: Label of a point; without it the configuration's, or the first.
            metrics: What is compared; without any, the configuration's, or the main ones.
            alpha: Level of the whole family, in place of the configuration's.
            smallest_effect: Share of the baseline's mean that matters.

        Raises:
            UserError: there is no such point or metric, or nothing to compare.
        """
        import pandas as pd

        return pd.DataFrame(
            self.report(
                baseline, metrics=metrics, alpha=alpha, smallest_effect=smallest_effect
            ).rows()
        )

    def report(
        self,
        baseline: str | None = None,
        *,
        metrics: Sequence[str] = (),
        alpha: float | None = None,
        smallest_effect: float | None = None,
    ) -> Report:
        """Return the comparison itself; see `compare`."""
        settings = self.config.comparison
        effect = settings.smallest_effect if smallest_effect is None else smallest_effect
        question = Question(
            baseline=baseline or settings.baseline,
            metrics=tuple(metrics) or settings.metrics,
            alpha=alpha or settings.alpha,
            smallest=SmallestEffect(effect),
        )
        return compare(self._findings.records, self._findings.labels, question)


def run(
    *overrides: str,
    points: Points | None = None,
    workspace: Path | str | None = None,
    orchestrator: str = "none",
    quiet: bool = False,
) -> Results:
    """Run an experiment, or what of it has no result yet, and return what was found.

    Args:
        overrides: As on the command line, such as `"adversary=poisoner"` or `"+study=quorum"`.
        points: Points of the experiment; without any those of a study, or the configuration alone.
        workspace: Folder of everything that is kept; without it QUORUMLAB_WORKSPACE, or `workspace`.
        orchestrator: `none`: this process; `prefect`: a flow (not from within a running event loop,
            such as a notebook's).
        quiet: Whether nothing is shown.

    Raises:
        UserError: what is asked for cannot be.
        Unavailable: a service that is needed does not start.

    Runs that fail are in the results, whose state then is `failed`.
    """
    place = _workspace(workspace)
    words = [
        *_chosen("orchestrator", orchestrator, overrides),
        *overrides,
        *_point_words(points or {}),
        f"workspace={place}",
    ]
    config, found = compose_experiment(words)
    console = Console(quiet=True) if quiet else Console()
    try:
        launch_experiment(config, found, console=console)
    except RunFailed as error:
        console.print(str(error), style="bold red", markup=False)
    return load(plan_runs(config, found).name, workspace=place)


def load(name: str, *, workspace: Path | str | None = None) -> Results:
    """Return what an experiment of a workspace has found so far.

    Raises:
        UserError: there is none of this name, or no workspace.
    """
    with opened(_workspace(workspace)) as (place, ledger):
        experiment = find_experiment(ledger, name)
        config, _ = stored_points(experiment)
        findings = collect_findings(ledger, name, config.cost)
        return Results(
            name,
            experiment.state,
            place.experiment(name),
            config,
            runs_frame(findings.records),
            findings.steps,  # read while the ledger is open
            _points_frame(findings),
            findings,
        )


def _points_frame(findings: Findings) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = [
        {"label": label, "metric": metric, **asdict(found)}
        for label, intervals in zip(findings.labels, findings.points, strict=True)
        for metric, found in intervals.items()
    ]
    return pd.DataFrame(rows)


def _workspace(given: Path | str | None) -> Path:
    return Path(given or os.environ.get("QUORUMLAB_WORKSPACE", "workspace")).expanduser().absolute()


def _chosen(key: str, value: str, overrides: Sequence[str]) -> list[str]:
    """Return an override, unless there is one of this key."""
    is_said = any(override.split("=")[0].lstrip("+~") == key for override in overrides)
    return [] if is_said else [f"{key}={value}"]


def _point_words(points: Points) -> list[str]:
    """Return points as overrides.

    Raises:
        ConfigurationError: a point's overrides are a text, where a list of texts is meant.
    """
    words = []
    for label, overrides in points.items():
        if isinstance(overrides, str):
            raise ConfigurationError(
                f"points[{label!r}]: a list of overrides is expected, such as [{overrides!r}]"
            )
        listed = ",".join("'" + o.replace("'", "\\'") + "'" for o in overrides)
        words.append(f"+points.{label}=[{listed}]")
    return words
