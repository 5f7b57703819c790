"""Suite `dashboard`: how long the questions of each page take, of a ledger with a million rows.

`kept` is a page whose answers are still there from the last look; `live_resources` reads the samples of a day.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from flows.benchmarks.cases import Case, Group
from flows.compose import compose_experiment
from flows.dashboard.advice import advice_of, operation_table, read_summary
from flows.dashboard.benchmarks import changes, read_benchmarks
from flows.dashboard.comparing import compare, point_table
from flows.dashboard.entries import (
    Filter,
    blocks,
    entry_counts,
    find_runs,
    life_of,
    proposals,
    run_row,
)
from flows.dashboard.network import look, replayer_of
from flows.dashboard.progress import curves, experiment_table, progress_of, run_table
from flows.dashboard.telemetry import live_issues, newest_figures, resource_table
from flows.dashboard.view import LedgerView
from flows.launch import plainly
from sim_core.ledger.store import Ledger
from sim_core.workspace import Workspace
from tasks.live_history import LiveHistory, live_files
from tasks.sample_resources import Machine, ProcessTree, ResourceSample

NAME = "shown"
EXPERIMENT = (
    f"experiment.name={NAME}", "experiment.replicates=4", "simulation.nodes=200",
    "simulation.flows_per_node=20", "simulation.steps=190",
    "ledger.detail=all", "executor=inline", "tracking=off", "validation=off", "output.plots=false",
    "+points.honest=[]", "+points.liars=['adversary=poisoner']",
)  # fmt: skip
POINTS = 1_000
"""Of a chart, as at first."""
SAMPLES = 7_400
"""That are there of an experiment of a day: from 2,000 on the interval doubles again and again."""


@dataclass(frozen=True)
class Shown:
    """What is looked at."""

    view: LedgerView
    run: str

    @property
    def workspace(self) -> Workspace:
        """Where it is."""
        return self.view.workspace


Look = Callable[[Shown], object]
T = TypeVar("T")


def dashboard_suite(overrides: tuple[str, ...] = (), samples: int = SAMPLES) -> list[Group]:
    """Return a case for each page, measured in turn on one workspace.

    Args:
        overrides: Added to those of the experiment that is looked at.
        samples: Of resources.
    """
    shared = Shared(overrides, samples)
    looks: dict[str, Look] = {
        "live": look_at_progress,
        "live_resources": look_at_resources,
        "network": look_at_network,
        "ledger": look_at_ledger,
        "compare": look_at_comparison,
        "benchmarks": look_at_benchmarks,
        "advice": look_at_advice,
    }
    cases = [Case(name, "ms", partial(shared.opened, each)) for name, each in looks.items()]
    kept = Case("kept", "ms", partial(shared.opened, look_at_progress, is_new=False))
    return [Group((*cases, kept), (("kept", "live"),))]


class Shared:
    """One workspace for all cases, made by the first that is opened and gone with the last."""

    def __init__(self, overrides: tuple[str, ...], samples: int) -> None:
        """Make nothing yet."""
        self._overrides, self._samples = overrides, samples
        self._made: AbstractContextManager[Shown] | None = None
        self._shown: Shown | None = None
        self._users = 0

    @contextmanager
    def opened(self, each: Look, *, is_new: bool = True) -> Iterator[Callable[[], float]]:
        """Give what asks the questions of a page, of the database where `is_new`."""
        shown = self._enter()

        def call() -> float:
            if is_new:
                shown.view.forget()
            else:
                each(shown)  # the case before has forgotten them
            began = time.perf_counter()
            each(shown)
            return time.perf_counter() - began

        try:
            yield call
        finally:
            self._leave()

    def _enter(self) -> Shown:
        if self._shown is None:
            self._made = workspace_to_show(self._overrides, self._samples)
            self._shown = self._made.__enter__()
        self._users += 1
        return self._shown

    def _leave(self) -> None:
        self._users -= 1
        if self._users == 0 and self._made is not None:
            self._made.__exit__(None, None, None)
            self._made = self._shown = None


@contextmanager
def workspace_to_show(overrides: tuple[str, ...], samples: int) -> Iterator[Shown]:
    """Give a new workspace with an experiment, and samples as of one that goes on."""
    with tempfile.TemporaryDirectory(prefix="quorumlab-") as folder:
        words = [*EXPERIMENT, *overrides, f"workspace={folder}"]
        plainly(*compose_experiment(words), True)
        view = LedgerView(Path(folder))
        try:
            with LiveHistory(view.workspace.experiment(NAME)) as history:
                values = {**ProcessTree(1).figures(), **Machine().figures()}
                for number in range(samples):
                    history.sample(ResourceSample(1_000 * number, values))
            key = asked(view, "runs", partial(find_runs, experiment=NAME))["run_key"].iloc[0]
            yield Shown(view, str(key))
        finally:
            view.close()


def asked(view: LedgerView, question: str, load: Callable[[Ledger], T]) -> T:
    """Return an answer, which has to be there."""
    answer = view.ask(question, load)
    assert answer.value is not None, answer.trouble
    return answer.value


def look_at_progress(shown: Shown) -> None:
    """Ask what the page of an experiment at work asks of the ledger."""
    asked(shown.view, "experiments", experiment_table)
    asked(shown.view, "progress", partial(progress_of, name=NAME))
    load = partial(curves, name=NAME, metrics=["immunity_share"], most_points=POINTS)
    asked(shown.view, "curves", load)
    asked(shown.view, "rows", partial(run_table, name=NAME))


def look_at_resources(shown: Shown) -> None:
    """Read samples and issues, to which something has been added."""
    folder = shown.workspace.experiment(NAME)
    with live_files(folder)[-1].open("ab") as file:
        file.write(b"\n")
    assert newest_figures(resource_table(folder, POINTS))
    live_issues(folder)


def look_at_network(shown: Shown) -> None:
    """Compute a run again up to its last step, and look at it."""
    run = asked(shown.view, "run", partial(run_row, run_key=shown.run))
    replayer = asked(shown.view, "replay", partial(replayer_of, run_key=shown.run, names=[NAME]))
    asked(shown.view, "look", partial(look, replayer=replayer, step=run.steps - 1))


def look_at_ledger(shown: Shown) -> None:
    """Ask for a run's counts, chain, proposals, and the life of the first."""
    asked(shown.view, "find", partial(find_runs, key=shown.run[:8]))
    run = asked(shown.view, "run", partial(run_row, run_key=shown.run))
    asked(shown.view, "counts", partial(entry_counts, run=run))
    asked(shown.view, "blocks", partial(blocks, run=run))
    page = asked(shown.view, "proposals", partial(proposals, run=run, wanted=Filter()))
    for number in page.table["proposal"].head(1):
        asked(shown.view, "life", partial(life_of, run=run, proposal=int(number)))


def look_at_comparison(shown: Shown) -> None:
    """Compare the points."""
    found = asked(shown.view, "compare", partial(compare, names=[NAME], baseline=None))
    point_table(found.spots, "f1")


def look_at_benchmarks(shown: Shown) -> None:
    """Read the benchmark files, of which there are none here."""
    read_benchmarks(shown.workspace.folder)
    changes(shown.workspace.folder)


def look_at_advice(shown: Shown) -> None:
    """Look for what is wrong."""
    table = asked(shown.view, "experiments", experiment_table)
    advice_of(shown.workspace, table)
    operation_table(read_summary(shown.workspace, NAME))
