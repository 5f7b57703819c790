"""From the finished runs of an experiment to a metric's values at the draws of its design."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim_core.config.design import MorrisDesign, SaltelliDesign
from sim_core.designs import Design, make_design
from sim_core.errors import UserError
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import stored_points
from sim_core.ledger.tables import Experiment
from sim_core.sensitivity.resampling import Floats

Summary = Mapping[str, float | None]


@dataclass(frozen=True)
class Replicated:
    """The draws of a design, with the summaries of the runs at their points."""

    experiment: str
    config: SaltelliDesign | MorrisDesign
    design: Design
    summaries: list[list[Summary]]
    """Per point the summaries of the replicates that all points have, in order."""
    left_out_replicates: int
    """Finished runs of replicates that some point does not have."""

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors of the design."""
        return self.design.keys

    @property
    def n_points(self) -> int:
        """Different points."""
        return len(self.summaries)

    @property
    def n_replicates(self) -> int:
        """Replicates that all points have."""
        return len(self.summaries[0])

    def objection(self, metric: str) -> str | None:
        """Return why a metric has no sensitivity; None where it has one."""
        if metric not in self.summaries[0][0]:
            known = ", ".join(sorted(self.summaries[0][0]))
            return f"there is no such metric; there are {known}"
        found = [summary[metric] for point in self.summaries for summary in point]
        undefined = sum(value is None for value in found)
        if undefined:
            return f"it is undefined in {undefined} of {len(found)} runs"
        return "it is the same in all runs" if len(set(found)) == 1 else None

    def values(self, metric: str) -> Floats:
        """Return a metric that has no objection `[n_samples, n_points, n_replicates]`."""
        by_point = np.array([[s[metric] for s in point] for point in self.summaries], dtype=float)
        return by_point[self.design.row_of].reshape(self.config.samples, -1, self.n_replicates)


def replicated_draws(ledger: Ledger, experiment: Experiment) -> Replicated:
    """Return the draws of an experiment's design with what its runs found.

    Raises:
        UserError: it has another design or none, runs are missing, or another version of the
            libraries drew its points.
    """
    config, points = stored_points(experiment)
    if not isinstance(config.design, SaltelliDesign | MorrisDesign):
        raise UserError(
            f"experiment {experiment.name} has design={config.design.kind}; sensitivity needs points "
            "of design=saltelli (indices) or design=morris (which factors matter at all)"
        )
    design = make_design(config.design)
    base = config.model_dump(mode="json")
    drawn = [_row(base | point.settings, design.keys) for point in points]
    if len(drawn) != len(design.rows) or any(map(_differ, drawn, design.rows)):
        raise UserError(
            f"the points of experiment {experiment.name} are not those that its design gives here: "
            "other versions of scipy or SALib drew them. Use the version of quorumlab that ran it"
        )
    summaries, left_out = _common_replicates(experiment.name, ledger, len(points))
    return Replicated(experiment.name, config.design, design, summaries, left_out)


def _row(values: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    """Return the values of a configuration at keys."""
    found = []
    for key in keys:
        place: Any = values
        for part in key.split("."):
            place = place.get(part) if isinstance(place, Mapping) else None
        found.append(place)
    return tuple(found)


def _differ(stored: tuple[Any, ...], drawn: tuple[Any, ...]) -> bool:
    """Return whether a stored point is another than the drawn one; choices of groups are not looked at."""
    return any(
        not isinstance(mine, Mapping) and mine != theirs
        for mine, theirs in zip(stored, drawn, strict=True)
    )


def _common_replicates(name: str, ledger: Ledger, n_points: int) -> tuple[list[list[Summary]], int]:
    """Return the summaries of replicates that have a result at all points, and how many others have.

    Raises:
        UserError: there are none.
    """
    finished: dict[int, dict[int, Summary]] = defaultdict(dict)
    rows = ledger.runs_of(name)
    for row in rows:
        if row["summary"] is not None and row["state"] != "quarantined":
            finished[row["replicate"]][row["point"]] = row["summary"]
    common = sorted(r for r, points in finished.items() if len(points) == n_points)
    n_finished = sum(map(len, finished.values()))
    if not common:
        raise UserError(
            f"no replicate of experiment {name} has a result at all of its {n_points} points "
            f"({n_finished} of {len(rows)} runs have one); to go on: quorumlab resume {name}"
        )
    summaries = [[finished[r][point] for r in common] for point in range(n_points)]
    return summaries, n_finished - len(common) * n_points
