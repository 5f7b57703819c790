"""The command `sensitivity`: which factors of an experiment's design matter, and what seeds do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.inspect import find_experiment, opened
from flows.replicated import Replicated, replicated_draws
from sim_core.config.design import MorrisDesign, SaltelliDesign
from sim_core.errors import UserError
from sim_core.results import MAIN_METRICS
from sim_core.sensitivity import (
    ElementaryEffects,
    Estimate,
    SobolIndices,
    VarianceParts,
    elementary_effects,
    sobol_indices,
    split_variance,
)
from sim_core.sensitivity.resampling import Floats

BAR = 20


@dataclass(frozen=True)
class Sensitivity:
    """What a metric depends on."""

    metric: str
    variance: VarianceParts
    factors: Sequence[SobolIndices] | Sequence[ElementaryEffects]


@dataclass(frozen=True)
class Report:
    """The sensitivity of metrics, and why others have none."""

    draws: Replicated
    found: list[Sensitivity] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def report_sensitivity(
    folder: Path, name: str, metrics: Sequence[str], console: Console, *, as_json: bool = False
) -> None:
    """Print what the metrics of an experiment depend on.

    Args:
        folder: The workspace.
        name: The experiment, whose design is `saltelli` or `morris`.
        metrics: Metrics; without any, the main ones that are defined and vary.
        console: Where to print.
        as_json: Print one JSON document in place of tables.

    Raises:
        UserError: there is no such experiment, it has another design, or runs are missing.
    """
    with opened(folder) as (_, ledger):
        draws = replicated_draws(ledger, find_experiment(ledger, name))
    report = analyse(draws, metrics)
    if as_json:
        console.print_json(json.dumps(document(report)))
        return
    for found in report.found:
        console.print(sensitivity_table(found))
        console.print(in_words(found), highlight=False)
        console.print()
    for metric, reason in report.left_out.items():
        console.print(f"[dim]{metric}: {reason}[/]", highlight=False)
    console.print(f"[dim]{escape(basis(draws))}[/]", highlight=False)


def analyse(draws: Replicated, metrics: Sequence[str]) -> Report:
    """Return the sensitivity of metrics.

    Raises:
        UserError: a metric that was asked for is unknown or undefined in some run.
    """
    report = Report(draws)
    for metric in metrics or MAIN_METRICS:
        reason = draws.objection(metric)
        if reason is None:
            report.found.append(_sensitivity(draws, metric))
        elif metrics:
            raise UserError(f"{metric}: {reason}")
        else:
            report.left_out[metric] = reason
    return report


def _sensitivity(draws: Replicated, metric: str) -> Sensitivity:
    values = draws.values(metric)
    if isinstance(draws.config, SaltelliDesign):
        independent: Floats = values[:, [0, -1]]
        return Sensitivity(
            metric, split_variance(independent), sobol_indices(draws.factors, values)
        )
    assert draws.design.unit is not None
    effects = elementary_effects(draws.factors, draws.design.unit, values)
    return Sensitivity(metric, split_variance(values), effects)


def sensitivity_table(found: Sensitivity) -> Table:
    """Return a row per factor, those that matter most first."""
    table = Table(title=f"[bold]{found.metric}[/]", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("factor", no_wrap=True)
    sobol = [f for f in found.factors if isinstance(f, SobolIndices)]
    if sobol:
        for heading in ("first order", "total order"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("total order, of 1", min_width=BAR)
        for index in sorted(sobol, key=lambda f: -(f.total.value or 0)):
            table.add_row(
                escape(index.factor), _shown(index.first), _shown(index.total), _bar(index.total, 1)
            )
        return table
    effects = [f for f in found.factors if isinstance(f, ElementaryEffects)]
    for heading in ("mu*", "mu", "sigma"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("by seeds alone", justify="right", no_wrap=True)
    table.add_column("mu*", min_width=BAR)
    largest = max((f.mu_star.value or 0 for f in effects), default=0)
    for effect in sorted(effects, key=lambda f: -(f.mu_star.value or 0)):
        noise = "-" if effect.noise is None else _number(effect.noise)
        columns = (_shown(effect.mu_star), _plain(effect.mu), _plain(effect.sigma), noise)
        table.add_row(escape(effect.factor), *columns, _bar(effect.mu_star, largest))
    return table


def _shown(found: Estimate) -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return _number(found.value)
    return f"{_number(found.value)} [dim]({_number(found.low)} to {_number(found.high)})[/]"


def _plain(found: Estimate) -> str:
    return "-" if found.value is None else _number(found.value)


def _number(value: float) -> str:
    """Return a figure with three digits that count.

    >>> _number(0.12345), _number(1234.5), _number(-0.0001)
    ('0.123', '1,234', '-0.000')
    """
    return (
        f"{value:,.3f}"
        if abs(value) < 10
        else f"{value:,.1f}"
        if abs(value) < 1000
        else f"{value:,.0f}"
    )


def _bar(found: Estimate, largest: float) -> str:
    if not found.value or not largest:
        return ""
    return "█" * round(BAR * min(max(found.value / largest, 0), 1))


def in_words(found: Sensitivity) -> str:
    """Return how the variance of single runs is split."""
    parts = found.variance
    if parts.seeds.value is None or parts.parameters.value is None:
        return (
            f"Runs vary by {_number(parts.sd)} (standard deviation). With one replicate, what seeds do "
            "counts as if the parameters did it: take two or more."
        )
    sure = ""
    if parts.parameters.low is not None and parts.parameters.high is not None:
        sure = f" ({parts.parameters.low:.0%} to {parts.parameters.high:.0%})"
    shared = f", {parts.shared:.0%} the same at all points" if parts.shared else ""
    text = (
        f"Of the variance of single runs (standard deviation {_number(parts.sd)}), {parts.parameters.value:.0%}"
        f"{sure} is the parameters', {parts.seeds.value:.0%} the seeds'{shared}."
    )
    first = found.factors[0]
    if isinstance(first, SobolIndices) and first.total.value is None:
        return f"{text} The parameters' part is too small beside it: no indices."
    if isinstance(first, SobolIndices) and first.total.low is None:
        return f"{text} In some resamples nothing is left of the former: indices without intervals."
    return text


def basis(draws: Replicated) -> str:
    """Return what the figures are made of."""
    few = "; only replicates that all points have" if draws.left_out_replicates else ""
    kind = "trajectories" if isinstance(draws.config, MorrisDesign) else "samples"
    corrected = ", noise of seeds taken out" if draws.n_replicates > 1 else ""
    replicates = "1 replicate" if draws.n_replicates == 1 else f"{draws.n_replicates} replicates"
    return (
        f"{draws.config.kind}: {draws.config.samples} {kind}, {draws.n_points} points, "
        f"{replicates} each{few}; in brackets 95 % intervals over {kind}{corrected}"
    )


def document(report: Report) -> dict[str, Any]:
    """Return a report as JSON has it."""
    draws = report.draws
    return {
        "experiment": draws.experiment,
        "design": draws.config.kind,
        "samples": draws.config.samples,
        "points": draws.n_points,
        "replicates": draws.n_replicates,
        "metrics": {
            found.metric: {
                "variance": asdict(found.variance),
                "factors": [asdict(factor) for factor in found.factors],
            }
            for found in report.found
        },
        "left_out": report.left_out,
    }
