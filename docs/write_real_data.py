"""Write the tables of docs/reference/detectors.md that come from whole runs on real data.

    QUORUMLAB_DATA=FOLDER .venv/bin/python docs/write_real_data.py

AUROC: the studies nsl_kdd_detectors and smtp_detectors of conf/, as `quorumlab run` has them. NAB:
every detector on five streams, a node each, scored as the benchmark does. Takes some minutes; the same
bits every time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.compose import compose_experiment
from sim_core.config import ModelConfig
from sim_core.datasets import STREAMS
from sim_core.metrics import summarise
from sim_core.model import NetworkModel
from sim_core.nab_scoring import Window, best_threshold, detections_score, normalised, probation
from sim_core.plan import plan_runs
from sim_core.results import Interval, interval

PAGE = Path(__file__).resolve().parent / "reference" / "detectors.md"
BEGIN = "<!-- written by docs/write_real_data.py: begin -->"
END = "<!-- written by docs/write_real_data.py: end -->"

NAB_HEAD = """\
| detector | best threshold, everything learned | best threshold, what is not flagged learned | own threshold |
|---|---|---|---|"""

REFERENCES = {
    "nsl_kdd_detectors": {
        "zscore": ".898, NumPy",
        "mahalanobis": ".924, NumPy",
        "half_space_trees": ".814 to .852, River, fit-all",
        "isolation_forest": ".9227 (.0058), scikit-learn",
        "ecod": ".848, PyOD, fit-all",
        "hbos": ".838, PyOD, fit-all",
    },
    "smtp_detectors": {
        "zscore": ".801, running z-score",
        "half_space_trees": ".735 to .823, River; .796 (.008), ledio7/ADBench",
        "isolation_forest": ".9059 (.0103), scikit-learn; .9099, linkedin/isolation-forest",
        "ecod": ".880, PyOD, fit-all",
        "hbos": ".806, PyOD, fit-all",
    },
}
"""AUROC elsewhere; normal-only unless it says fit-all or names a streaming detector."""

SLOW = "detector.learning_rate=0.001"
LAGS = "traffic.lags=8"
NAB_RUNS = {
    "zscore, `max`": ["detector=zscore", "detector.aggregate=max"],
    "zscore, `max`, learning_rate 0.001": ["detector=zscore", "detector.aggregate=max", SLOW],
    "ewma": ["detector=ewma"],
    "ewma, learning_rate 0.001": ["detector=ewma", SLOW],
    "cusum": ["detector=cusum"],
    "cusum, learning_rate 0.001": ["detector=cusum", SLOW],
    "mahalanobis, 8 lags": ["detector=mahalanobis", LAGS],
    "half_space_trees": ["detector=half_space_trees"],
    "half_space_trees, 8 lags": ["detector=half_space_trees", LAGS],
    "isolation_forest": ["detector=isolation_forest"],
    "isolation_forest, 8 lags": ["detector=isolation_forest", LAGS],
    "ecod": ["detector=ecod"],
    "ecod, 8 lags": ["detector=ecod", LAGS],
    "hbos": ["detector=hbos"],
    "hbos, 8 lags": ["detector=hbos", LAGS],
}
"""Overrides of each row of the table of NAB. One lag of `mahalanobis` orders rows as `zscore` does."""
CALIBRATED = ["detector.threshold.mode=calibrated", "detector.threshold.share=0.001"]
"""Of some 600 probationary rows none lies above: the threshold is their largest score."""
NEVER = ["detector.threshold.mode=fixed", "detector.threshold.value=1e30"]
"""Nothing is flagged, so that everything is learned."""

Played = tuple[NDArray[np.float64], list[Window], NDArray[np.bool_]]
"""Anomaly scores of a stream's rows, its windows, and which rows were above the node's threshold."""


def generated() -> str:
    """Return the generated part of the page."""
    return "\n\n".join(
        [
            "### AUROC of whole runs\n\nMean ± half the 95 % interval over 5 replicates.",
            auroc_table("nsl_kdd_detectors", "KDDTest+"),
            auroc_table("smtp_detectors", "smtp"),
            "### Scores of the Numenta benchmark",
            nab_table(),
        ]
    )


def auroc_table(study: str, title: str) -> str:
    """Return the table of a study: AUROC of each point beside figures of others."""
    lines = [f"| {title} | AUROC of runs | elsewhere |", "|---|---|---|"]
    for label, found in study_aurocs(study).items():
        lines.append(f"| {label} | {plus_minus(found)} | {REFERENCES[study].get(label, '')} |")
    return "\n".join(lines)


def study_aurocs(study: str) -> dict[str, Interval]:
    """Return the interval of the run metric `auroc` of each point of a study."""
    config, points = compose_experiment([f"+study={study}"])
    plan = plan_runs(config, points)
    values: dict[str, list[float | None]] = {label: [] for label in plan.labels}
    for run in plan.runs:
        spec = run.spec
        steps = spec.config.simulation.steps
        model = NetworkModel(spec.config, seed=spec.seed, replicate=spec.replicate)
        for _ in range(steps):
            model.step()
        summary = summarise(model.collect(), model.traffic.targets, steps)
        values[plan.labels[run.point]].append(summary["auroc"])
        model.close()
    return {label: interval(found) for label, found in values.items()}


def plus_minus(found: Interval) -> str:
    """Return a mean with half its interval.

    >>> plus_minus(Interval(5, 0.92431, 0.92131, 0.92731, 0.002))
    '.9243 ± .0030'
    """
    assert found.mean is not None
    assert found.ci_high is not None
    return f"{found.mean:.4f} ± {found.ci_high - found.mean:.4f}".replace("0.", ".")


def nab_table() -> str:
    """Return the table of scores on the five streams: ours, and the published ones."""
    ours = [nab_row(label, overrides) for label, overrides in NAB_RUNS.items()]
    theirs = [f"| *{name}* | {score:.1f} | | |" for name, score in published_totals()]
    return "\n".join([NAB_HEAD, *ours, "| *published* | | | |", *theirs])


def nab_row(label: str, overrides: list[str]) -> str:
    """Return one of our rows: best threshold with everything learned, or the rest of it; the own one."""
    everything, ordinary = (play_streams([*overrides, *own]) for own in (NEVER, CALIBRATED))
    n_windows = sum(len(windows) for _, windows, _ in ordinary)
    best = [
        best_threshold([(scores, windows) for scores, windows, _ in played])[1]
        for played in (everything, ordinary)
    ]
    fixed = sum(detections_score(flagged, windows) for _, windows, flagged in ordinary)
    cells = [f"{round(normalised(raw, n_windows), 1) + 0:.1f}" for raw in (*best, fixed)]
    return f"| {label} | {' | '.join(cells)} |"


def play_streams(overrides: list[str]) -> list[Played]:
    """Return what a node finds in each stream; streams of one length are played side by side."""
    by_length: dict[int, list[str]] = {}
    for name in STREAMS:
        by_length.setdefault(labelled_windows(name)[0], []).append(name)
    return [
        played
        for n_rows, names in by_length.items()
        for played in play_side_by_side(names, n_rows, overrides)
    ]


def play_side_by_side(names: list[str], n_rows: int, overrides: list[str]) -> list[Played]:
    """Return what nodes find in a stream each; rows of the probationary period count as ordinary."""
    model = NetworkModel(nab_config(names, n_rows, overrides), seed=1)
    scores = np.zeros((n_rows, len(names)))
    flagged = np.zeros(scores.shape, dtype=np.bool_)
    for row in range(probation(n_rows), n_rows):
        model.step()
        scores[row] = model.shards.score[:, 0]  # type: ignore[attr-defined]  # a NodeShard, one chunk
        flagged[row] = scores[row] > model.state.nodes.threshold
    model.close()
    return [
        (scores[:, i], labelled_windows(name)[1], flagged[:, i]) for i, name in enumerate(names)
    ]


def nab_config(names: list[str], n_rows: int, overrides: list[str]) -> ModelConfig:
    """Return the configuration of nodes that watch a stream each to its end, and do not cooperate."""
    base = [
        "traffic=nab",
        f"traffic.files=[{','.join(names)}]",
        "dissemination=none",
        f"simulation.nodes={len(names)}",
        "simulation.flows_per_node=1",
        f"simulation.steps={n_rows - probation(n_rows)}",
    ]
    return compose_experiment([*base, *overrides])[0].model_part()


@cache
def labelled_windows(name: str) -> tuple[int, list[Window]]:
    """Return the number of rows of a stream, and the first and last row of each window."""
    folder = nab_folder()
    times = pd.to_datetime(pd.read_csv(folder / "data" / STREAMS[name])["timestamp"])
    text = (folder / "labels" / "combined_windows.json").read_text("utf-8")
    rows = [np.flatnonzero(times.between(a, b)) for a, b in json.loads(text)[STREAMS[name]]]
    return len(times), [(int(row[0]), int(row[-1])) for row in rows]


def published_totals() -> Iterator[tuple[str, float]]:
    """Yield each published detector with its normalised score on the five streams, best first."""
    n_windows = sum(len(labelled_windows(name)[1]) for name in STREAMS)
    found: dict[str, float] = {}
    for path in nab_folder().glob("published_scores/*_standard_scores.csv"):
        table: Any = pd.read_csv(path).set_index("File")
        total = float(table.loc[list(STREAMS.values()), "Score"].sum())
        found[path.name.removesuffix("_standard_scores.csv")] = normalised(total, n_windows)
    yield from sorted(found.items(), key=lambda item: (-item[1], item[0]))


def nab_folder() -> Path:
    """Return the folder of the benchmark's files."""
    return Path(os.environ["QUORUMLAB_DATA"]) / "nab"


def page_with(tables: str, page: str) -> str:
    """Return the page with everything between the markers replaced.

    >>> page_with("new", f"a {BEGIN} old {END} b").splitlines()[2]
    'new'
    """
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(generated(), PAGE.read_text("utf-8")), "utf-8")
