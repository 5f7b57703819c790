"""What a user sees on the terminal: progress, results, where things are."""

from __future__ import annotations

import shlex
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from flows.bench import Bench, Outcome, Spectator
from flows.environment import workspace_folder
from flows.prefect_server import own_server
from flows.service import MLFLOW, address_of
from flows.show_comparison import verdict_lines
from flows.show_optimisation import progress_line, show_optimisation
from sim_core.config.design import SampledDesign
from sim_core.optimisation.goals import Aim
from sim_core.optimisation.trials import Trial
from sim_core.plan import Plan
from sim_core.results import MAIN_METRICS, Interval, in_words
from sim_core.stopping import stops_of

SHOWN_VERDICTS = 8
MOST_COLUMNS = 8
"""Points that have a column each; more have a row each."""
SHOWN_ROWS = 24
LAST_TENTH = 10
"""Of the steps; it is told with the last run."""
GAP = 3
"""Spaces between columns."""


class Terminal(Spectator):
    """Shows a bar per point while runs go, then the table of results."""

    def __init__(self, console: Console, *, workspace: Path) -> None:
        """Write to `console`; without a terminal, a line when each tenth of the steps is done."""
        self.console = console
        self.outcome: Outcome | None = None
        self._workspace = workspace
        self._lock = threading.Lock()
        self._point_of: dict[str, int] = {}
        self._bars: dict[int, TaskID] = {}
        self._stage: TaskID | None = None
        self._over: set[str] = set()
        """Runs that have all their steps, or failed."""
        self._done, self._total, self._printed = 0, 1, 0
        self._n_runs = 0
        self._progress = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Terminal:
        """Start the display."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the display."""
        self._progress.stop()

    def stage(self, text: str) -> None:
        """Show what begins."""
        with self._lock:
            if not self.console.is_terminal:
                self.console.print(f"[dim]{escape(text)}[/]")
                return
            if self._stage is None:
                self._stage = self._progress.add_task("", total=None, unit="")
            self._progress.update(self._stage, description=f"[bold]{escape(text)}[/]")

    def planned(self, plan: Plan, committed: dict[str, int]) -> None:
        """Show a bar per point, with the steps that are there already."""
        with self._lock:
            totals: Counter[int] = Counter()
            there: Counter[int] = Counter()
            for run in plan.runs:
                self._point_of[run.spec.run_key] = run.point
                totals[run.point] += run.spec.config.simulation.steps
                done = committed.get(run.spec.run_key, 0)
                there[run.point] += done
                if done >= run.spec.config.simulation.steps:
                    self._over.add(run.spec.run_key)
            self._total, self._done = sum(totals.values()), sum(there.values())
            more = f", {len(plan.runs) - self._n_runs} of them more" if self._n_runs else ""
            self._n_runs = len(plan.runs)
            self._printed = 10 * self._done // self._total
            self.console.print(
                f"[bold]{escape(plan.name)}[/]: {len(plan.labels)} points, {len(plan.runs)} runs"
                f"{more}, {self._total:,} steps, {self._done:,} of them there already"
            )
            if self._done == self._total:
                return
            if len(plan.labels) <= 24:
                for point, label in enumerate(plan.labels):
                    self._show_bar(point, escape(label), totals[point], there[point])
            else:
                self._show_bar(-1, "all points", self._total, self._done)

    def _show_bar(self, place: int, text: str, total: int, done: int) -> None:
        """Show a bar, or set the one that is there already."""
        if place in self._bars:
            self._progress.update(self._bars[place], total=total, completed=done)
        else:
            bar = self._progress.add_task(text, total=total, completed=done, unit="steps")
            self._bars[place] = bar

    def committed(self, run_key: str, steps: int) -> None:
        """Advance the bar of the run's point."""
        with self._lock:
            self._done += steps
            bar = self._bars.get(self._point_of.get(run_key, -1), self._bars.get(-1))
            if bar is not None:
                self._progress.advance(bar, steps)
            tenth = 10 * self._done // self._total
            if not self.console.is_terminal and self._printed < tenth < LAST_TENTH:
                self._printed = tenth
                self._tell(10 * tenth)

    def _tell(self, percent: int) -> None:
        """Print how far it is, where no bar does."""
        n_over = f"{len(self._over)} of {self._n_runs} runs"
        self.console.print(f"[dim]{percent:3d} % of the steps, {n_over}[/]")

    def ended(self, run_key: str, error: str | None) -> None:
        """Count a run, and say what failed."""
        with self._lock:
            self._over.add(run_key)
            is_last = self._done == self._total and len(self._over) == self._n_runs
            if is_last and not self.console.is_terminal:
                self._tell(100)
            if error:
                self.console.print(f"[red]run {run_key[:12]} failed:[/] {escape(error)}")

    def tried(self, aim: Aim, trials: Sequence[Trial], wanted: int, seconds: float) -> None:
        """Show how many trials are over, and the best of them."""
        self.console.print(progress_line(aim, trials, wanted, seconds), highlight=False)

    def warn(self, text: str) -> None:
        """Show a warning."""
        self.console.print(f"[yellow]warning:[/] {escape(text)}")

    def finished(self, outcome: Outcome, bench: Bench) -> None:
        """Show results, and where things are."""
        self._progress.stop()
        self.outcome = outcome
        if outcome.optimisation is not None:
            show_optimisation(outcome.optimisation, self.console)
        else:
            for table in results_tables(outcome, self.console.width):
                self.console.print(table)
            for line in [] if _is_drawn(bench) else verdicts(outcome):
                self.console.print(line, highlight=False)
        counts = outcome.counts
        executed = counts["finished"] - counts["reused"]
        self.console.print(
            f"{counts['finished']} of {counts['planned']} runs finished ({executed} executed, "
            f"{counts['reused']} reused), {counts['failed']} failed, {counts['quarantined']} "
            f"quarantined; {_validation_words(outcome)}; {outcome.wall_seconds:.1f} s"
        )
        if (shared := sum(record.steps_shared for record in outcome.findings.records)) > 0:
            simulated = sum(record.steps_executed for record in outcome.findings.records)
            self.console.print(
                f"{simulated:,} steps simulated, {shared:,} taken over from runs with the same history"
            )
        if (unknown := _unknown(outcome, bench)) is not None:
            self.console.print(unknown)
        if bench.config.design.kind in ("saltelli", "morris"):
            self.console.print(f"which factors matter: quorumlab sensitivity {outcome.name}")
        self.console.print(f"[dim]{_stages(bench)}[/]", highlight=False)
        if (utilisation := bench.occupancy.utilisation()) is not None:
            self.console.print(f"[dim]{utilisation}[/]", highlight=False)
        if bench.adjustments:
            self.console.print(_adapted(bench.adjustments), highlight=False)
        self.console.print(_where(bench, self._workspace), highlight=False, soft_wrap=True)


def results_tables(outcome: Outcome, width: int) -> list[Table]:
    """Return means with 95 % intervals in a table that fits, or in several below each other.

    A column per point as long as a terminal of this width has room for them, else a row per point.
    """
    findings = outcome.findings
    metrics = [m for m in MAIN_METRICS if any(m in p and p[m].n for p in findings.points)]
    by_metric = [[in_words(point.get(metric)) for point in findings.points] for metric in metrics]
    heads = [
        f"{label} (n={_n(point)})"
        for label, point in zip(findings.labels, findings.points, strict=True)
    ]
    title = f"{outcome.name}: mean ± half of the 95 % interval over replicates"
    widths = _widths(heads, by_metric)
    if (
        len(heads) <= MOST_COLUMNS
        and sum(widths) + max(map(len, metrics), default=0) + GAP <= width
    ):
        return [_filled(title, "metric", heads, zip(metrics, by_metric, strict=True))]
    n_points = len(heads)
    if n_points > SHOWN_ROWS:
        title += f" (the first {SHOWN_ROWS} of {n_points} points)"
    by_point = list(map(list, zip(*by_metric, strict=True)))[:SHOWN_ROWS]
    labels = heads[:SHOWN_ROWS]
    free = width - max(map(len, labels)) - GAP
    tables = []
    for columns in _parts(_widths(metrics, by_point), free):
        rows = [[row[column] for column in columns] for row in by_point]
        parts = [metrics[column] for column in columns]
        tables.append(_filled(title, "point", parts, zip(labels, rows, strict=True)))
        title = ""
    return tables


def _n(point: Mapping[str, Interval]) -> int:
    return max((found.n for found in point.values()), default=0)


def _widths(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide the columns of a table are, with what is between them."""
    columns = zip(heads, *rows, strict=True)
    return [max(map(len, column)) + GAP for column in columns]


def _parts(widths: Sequence[int], free: int) -> list[list[int]]:
    """Return numbers of columns, in parts that are no wider than what is free, one at least each.

    >>> _parts([10, 10, 10, 30, 10], 25)
    [[0, 1], [2], [3], [4]]
    """
    parts: list[list[int]] = []
    left = 0
    for column, width in enumerate(widths):
        if not parts or width > left:
            parts.append([])
            left = free
        parts[-1].append(column)
        left -= width
    return parts


def _filled(
    title: str, first: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]
) -> Table:
    table = _table(title, first)
    for head in heads:
        table.add_column(head, justify="right")
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def verdicts(outcome: Outcome) -> list[str]:
    """Return the surest differences from the baseline in words, and where the others are."""
    labels = outcome.findings.labels
    if len(labels) < 2:
        return []
    command = f"quorumlab compare {escape(outcome.name)}"
    if outcome.comparison is None:
        return [f"what distinguishes the points: [bold]{command}[/]"]
    return [
        f"compared with {escape(outcome.comparison.baseline)} (same random numbers, p after Holm):",
        *verdict_lines(outcome.comparison, SHOWN_VERDICTS),
        f"[dim]all of it, and other baselines: {command} --baseline POINT[/]",
    ]


def _table(title: str, first: str = "metric") -> Table:
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def _is_drawn(bench: Bench) -> bool:
    """Return whether points are drawn, so that none of them is what others are compared with."""
    return isinstance(bench.config.design, SampledDesign)


def _unknown(outcome: Outcome, bench: Bench) -> str | None:
    """Return how many points are known as `experiment.until` asks for; None without it."""
    until = bench.config.experiment.until
    if until is None:
        return None
    stops = stops_of(outcome.findings.records, outcome.findings.labels, until)
    wide = [label for label, stop in stops.items() if not stop.reached]
    found = f"{len(stops) - len(wide)} of {len(stops)} points are known as narrowly as asked for"
    if not wide:
        return found
    few = ", ".join(wide[:5]) + (", ..." if len(wide) > 5 else "")
    return f"[yellow]{found}; not {escape(few)}, with {until.maximum} replicates at most[/]"


def _validation_words(outcome: Outcome) -> str:
    if outcome.validation is None:
        return "ledger not validated"
    n = outcome.validation["expectations"]
    return (
        f"ledger valid ({n} expectations)" if outcome.validation["success"] else "ledger NOT valid"
    )


def _adapted(adjustments: list[dict[str, Any]]) -> str:
    """Return what was done because the machine was short of something, in a line."""
    last = adjustments[-1]
    reasons = dict.fromkeys(a["reason"].split()[0] for a in adjustments)
    return (
        f"adapted {len(adjustments)} times to the machine ({', '.join(reasons)}), at last to "
        f"{last['in_flight']} shards in flight of at most {last['shard_runs']} runs: summary.json"
    )


def _where(bench: Bench, workspace: Path) -> str:
    tracking = bench.config.tracking
    lines = [f"results      {bench.folder}"]
    if bench.page is not None:
        lines.append(f"report       {bench.page}")
    if bench.config.output.plots:
        lines.append(f"plots        {bench.folder / 'plots'}")
    server = address_of(workspace, MLFLOW)
    is_prefect = bench.config.orchestrator.kind == "prefect"
    is_local = tracking.kind == "mlflow_local"
    prefect = _prefect_address() if is_prefect else None
    if is_local and server:
        lines.append(f"MLflow       {server}/#/experiments")
    elif tracking.kind == "mlflow_server":
        lines.append(f"MLflow       {tracking.uri or 'MLFLOW_TRACKING_URI'}")
    if prefect:
        lines.append(f"Prefect      {prefect}")
    if (is_local and not server) or (is_prefect and not prefect):
        lines.append(f"in a browser {_up(workspace)}")
    return "\n".join(lines)


def _prefect_address() -> str | None:
    """Return where the flow run can be seen; None where its server ends with this command."""
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    return url.removesuffix("/api") if url and own_server() is None else None


def _up(workspace: Path) -> str:
    """Return the command that starts the servers of a workspace."""
    folder = (
        "" if workspace == workspace_folder() else f" --workspace {shlex.quote(str(workspace))}"
    )
    return f"{_program('quorumlab')} up{folder}"


def _program(name: str) -> str:
    """Return how to call a program of this environment from the current folder."""
    path = Path(sys.executable).parent / name
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _stages(bench: Bench) -> str:
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in bench.stage_seconds.items())
