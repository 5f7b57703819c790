"""Publication of an experiment to MLflow: an outbox that can be emptied again and again.

MLflow shows what the ledger says and can be rebuilt from it. One MLflow experiment holds all
experiments of a title, so that they can be compared; in it an experiment is a parent run, and
each of its runs a child. A run is looked for by its tags before it is created, what it holds has
timestamps that follow from the ledger, and it is marked complete last: whatever was interrupted,
publishing once more gives what publishing undisturbed would have given.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import math
import os
import re
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

from sim_core.bounded_queue import BoundedQueue, Consumer, QueueCounts
from sim_core.comparison.report import Report
from sim_core.config import ExperimentConfig, TrackingConfig
from sim_core.error_table import Trouble
from sim_core.errors import ConfigurationError, Unavailable
from sim_core.faultpoints import reach
from sim_core.identity import content_hash
from sim_core.ledger.store import Ledger
from sim_core.results import RESOURCE_METRICS, Interval, RunRecord
from tasks.mlflow_curves import CurveTable, Point

if TYPE_CHECKING:  # importing mlflow takes seconds: functions do it when they need it
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

CURVES = {
    "steps/f1": "f1",
    "steps/precision": "precision",
    "steps/recall": "recall",
    "steps/mcc": "mcc",
    "steps/auroc": "auroc",
    "steps/benign_blocked_share": "benign_blocked_share",
    "steps/blacklist_coverage": "blacklist_coverage",
    "steps/messages_sent": "messages_sent",
    "steps/reputation_honest": "reputation_honest",
    "steps/reputation_dishonest": "reputation_dishonest",
    "steps/true_confirmations_total": "true_confirmations",
    "steps/false_confirmations_total": "false_confirmations",
}
"""A child's curves and the columns that they come from; names that end in `_total` are sums since
step 0. Their prefix keeps them apart from summaries, which MLflow's tables show."""
LONGEST_CURVE = 2_000
"""Points of a curve; of a longer run they are taken evenly (all steps are in steps.parquet)."""
LONGEST_PARAM = 500
SUMMARY_STEP = 0
"""MLflow draws metrics that have no step but 0 as bars, side by side for the runs compared."""
PUBLISHED_STATES = {"finished": "FINISHED", "failed": "FAILED", "quarantined": "FAILED"}
"""States of runs that are published, and MLflow's status for them."""
NOTE_METRICS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "detection_delay_steps": "delay (steps)",
    "false_confirmations": "false conf.",
}
"""Columns of the table in the parent's description, and their heads."""
NOTE_ROWS = 30
NOTE_VERDICTS = 20
LONGEST_NOTE = 7_500
"""MLflow keeps 8,000 characters."""
LONGEST_END = 80
"""Of the last line of verdicts."""
MOST_LETTERS = 16
"""Runs that are ready and wait for MLflow."""
MOST_LETTER_BYTES = 64 * 1024 * 1024
METRIC_BYTES = 200
"""Of a point of a curve, as measured."""


class Sample(Protocol):
    """Figures of one moment, as `tasks.sample_resources` takes them."""

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970."""

    @property
    def values(self) -> Mapping[str, float]:
        """Values by name; names begin with `system/`."""


@dataclass(frozen=True)
class Content:
    """All that one MLflow run is to hold, but for curves."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    summary: dict[str, float]
    start_ms: int
    """When the run was claimed first, as the ledger has it: origin of all timestamps."""
    end_ms: int
    status: str

    def all_tags(self) -> dict[str, str]:
        """Return the tags, among them one that says what the run holds once it is complete."""
        steady = {k: v for k, v in self.summary.items() if k not in RESOURCE_METRICS}
        held = [self.tags["quorumlab.state"], self.tags.get("quorumlab.ledger_head"), self.params]
        return {
            "mlflow.runName": self.name,
            "mlflow.source.name": "quorumlab",
            "mlflow.source.type": "LOCAL",
            **self.tags,
            "quorumlab.content": content_hash([held, steady])[:16],
        }


def publish_experiment(
    ledger: Ledger,
    config: ExperimentConfig,
    name: str,
    key: str,
    records: Sequence[RunRecord],
    points: Sequence[Mapping[str, Interval]],
    steps: pd.DataFrame,
    samples: Sequence[Sample],
    artifacts: Sequence[Path],
    workspace: Path,
    validation_success: bool | None,  # noqa: FBT001 - a verdict, None without validation
    comparison: Report | None = None,
    tell_counts: Callable[[QueueCounts], None] = lambda _: None,
) -> dict[str, str]:
    """Publish an experiment and return the MLflow run of each published run, by run key.

    Runs that are neither finished, failed nor quarantined wait until they are. What is there
    already stays as it is; what contradicts the ledger (an experiment that has grown, a run that
    was quarantined since) is deleted and made again, because MLflow changes no parameters and
    forgets no metrics.

    Args:
        ledger: Where it is noted that a run is published.
        config: The experiment's configuration, with where to publish.
        name: The experiment's name.
        key: Key of its content.
        records: All of its runs.
        points: Intervals of each point.
        steps: Frame of `sim_core.results.steps_frame`.
        samples: What machine and processes did meanwhile.
        artifacts: Files and folders to keep with the parent run.
        workspace: Folder of everything that is kept.
        validation_success: The verdict of the validation.
        comparison: What distinguishes the points.
        tell_counts: Is told how many runs went through the queue, even where publishing fails.

    Raises:
        Unavailable: MLflow does not answer, or refuses; publishing again goes on from there.
        ConfigurationError: no address of an MLflow server is given.
    """
    if config.tracking.kind == "off":
        return {}
    address = tracking_address(config.tracking, workspace)
    with (
        _explained(address),
        _one_at_a_time(workspace),
        _connected(address, workspace, config.tracking) as client,
        _sparing_garbage_collection(),
    ):
        table = curve_table(config.tracking, workspace)
        outbox = Outbox(client, _find_experiment(client, config, workspace), name, table)
        verdict = {None: "off", True: "passed", False: "failed"}[validation_success]
        about = parent_content(name, key, records, points, verdict, comparison)
        if samples:
            about = replace(about, end_ms=max(about.end_ms, samples[-1].timestamp_ms))
        parent = outbox.adopt_or_create(about, "")
        queue = BoundedQueue[Letter](items=MOST_LETTERS, n_bytes=MOST_LETTER_BYTES)
        try:
            children = _publish_children(ledger, outbox, parent.run, records, steps, verdict, queue)
        finally:
            tell_counts(queue.counts)
        outbox.add_samples(parent.run, samples)
        outbox.add_artifacts(parent.run, artifacts)
        if not parent.is_complete:
            outbox.fill_and_finish(parent, about, [])
    return children


@dataclass(frozen=True)
class Letter:
    """A run that is ready to be published."""

    record: RunRecord
    about: Content
    curves: Sequence[Metric]


def _publish_children(
    ledger: Ledger,
    outbox: Outbox,
    parent: str,
    records: Sequence[RunRecord],
    steps: pd.DataFrame,
    verdict: str,
    queue: BoundedQueue[Letter],
) -> dict[str, str]:
    """Publish what is ready: one thread asks MLflow, this one makes curves a few runs ahead."""
    rows = steps.groupby("run_id", sort=False).indices
    published: dict[str, str] = {}

    def send(letter: Letter) -> None:
        published[letter.record.run_id] = _send(ledger, outbox, letter)

    with Consumer("publication", queue, send) as sender:
        for record in records:
            if record.state not in PUBLISHED_STATES:
                continue
            about = child_content(record, outbox.name, parent, verdict)
            curves: list[Metric] = []
            if record.state != "quarantined" and not outbox.has(about, record.run_id):
                mine = steps.iloc[rows.get(record.run_id, np.array([], dtype=int))]
                curves = curve_metrics(mine, about.start_ms)
            sender.put(Letter(record, about, curves), METRIC_BYTES * len(curves))
    return published


def _send(ledger: Ledger, outbox: Outbox, letter: Letter) -> str:
    """Publish a run; note it in the ledger as soon as it is complete; return its MLflow run."""
    record = letter.record
    slot = outbox.adopt_or_create(letter.about, record.run_id, record.mlflow_run_id)
    if not slot.is_complete:
        outbox.fill_and_finish(slot, letter.about, letter.curves)
        reach("publish.finished")
    if not record.published or record.mlflow_run_id != slot.run:
        ledger.set_published(outbox.name, record.number, slot.run)
    return slot.run


# --- what runs hold -----------------------------------------------------------------------


def child_content(record: RunRecord, name: str, parent: str, verdict: str) -> Content:
    """Return what the child of a run holds; a run without a result has no summary.

    Quarantined runs have no metrics at all, so that no chart or group of MLflow counts them in.
    """
    start = round(record.claimed_at * 1000)
    tags = {
        "mlflow.parentRunId": parent,
        "quorumlab.kind": "run",
        "quorumlab.experiment": name,
        "quorumlab.run_key": record.run_id,
        "quorumlab.point": record.label,
        "quorumlab.replicate": str(record.replicate),
        "quorumlab.state": record.state,
        "quorumlab.ledger_head": record.ledger_head or "",
        "quorumlab.validation": verdict,
    }
    if record.error is not None:
        tags["quorumlab.error"] = record.error[:5000]
    params = {"point": record.label, "replicate": str(record.replicate)}
    summary = {"f1": record.metrics.get("f1"), **record.metrics}  # MLflow compares by the first
    return Content(
        name=f"{record.label} / {record.replicate}",
        tags=tags,
        params=params | run_params(record),
        summary=_defined(summary) if record.state == "finished" else {},
        start_ms=start,
        end_ms=start + round(record.wall_seconds * 1000),
        status=PUBLISHED_STATES[record.state],
    )


def parent_content(
    name: str,
    key: str,
    records: Sequence[RunRecord],
    points: Sequence[Mapping[str, Interval]],
    verdict: str,
    comparison: Report | None = None,
) -> Content:
    """Return what the parent holds: common parameters, means and intervals of points, counts."""
    labels = {record.point_index: record.label for record in records}
    summary: dict[str, float | None] = {}
    for index, label in sorted(labels.items()):
        for metric, found in points[index].items():
            if metric in RESOURCE_METRICS:
                continue
            summary[f"{label}/{metric}"] = found.mean
            summary[f"{label}/{metric}_ci_low"] = found.ci_low
            summary[f"{label}/{metric}_ci_high"] = found.ci_high
    states = [record.state for record in records]
    counts = {s: states.count(s) for s in PUBLISHED_STATES} | {"planned": len(states)}
    bad = counts["failed"] + counts["quarantined"]
    waiting = len(states) - bad - counts["finished"]
    state = "interrupted" if waiting else "failed" if bad else "finished"
    note = describe(key, records, points, verdict)
    tags = {
        "quorumlab.kind": "experiment",
        "quorumlab.experiment": name,
        "quorumlab.key": key,
        "quorumlab.state": state,
        "quorumlab.validation": verdict,
        "mlflow.note.content": note + describe_comparison(comparison, LONGEST_NOTE - len(note)),
    }
    claimed = [record for record in records if record.claimed_at]
    return Content(
        name=name,
        tags=tags,
        params=common_params(records),
        summary=_defined(summary | {f"runs/{s}": float(n) for s, n in counts.items()}),
        start_ms=round(1000 * min((r.claimed_at for r in claimed), default=0)),
        end_ms=round(1000 * max((r.claimed_at + r.wall_seconds for r in claimed), default=0)),
        status={"interrupted": "KILLED", "failed": "FAILED", "finished": "FINISHED"}[state],
    )


def run_params(record: RunRecord) -> dict[str, str]:
    """Return a run's configuration with seed and steps, as parameters."""
    simulation = {**record.config["simulation"], "steps": record.horizon}
    return flat_params({**record.config, "simulation": simulation, "seed": record.seed})


def common_params(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return the parameters that all points have in common, their names and their replicates."""
    first = {record.point_index: record for record in reversed(records)}
    all_params = [run_params(record) for record in first.values()]
    common = {
        key: value
        for key, value in (all_params[0] if all_params else {}).items()
        if all(params.get(key) == value for params in all_params)
    }
    labels = ", ".join(first[index].label for index in sorted(first))
    replicates = len({record.replicate for record in records})
    return common | {"points": shorten(labels), "replicates": str(replicates)}


def _defined(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values that are defined: MLflow would show others as 0 or 1.8e308."""
    return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}


def flat_params(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as MLflow's parameters, with dots between levels; without None.

    >>> flat_params({"detector": {"kind": "zscore", "learn": True}, "x": None, "n": 3})
    {'detector': 'zscore', 'detector.learn': 'true', 'n': '3'}
    """
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = prefix if key == "kind" else f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            flat |= flat_params(value, name)
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[re.sub(r"[^\w\-. :/]", "_", name)] = shorten(text)
    return flat


def shorten(text: str) -> str:
    """Return a text of at most LONGEST_PARAM characters; different texts stay different.

    >>> len(shorten("x" * 900)), shorten("short")
    (500, 'short')
    """
    if len(text) <= LONGEST_PARAM:
        return text
    end = f"… sha256:{content_hash(text)[:12]}"
    return text[: LONGEST_PARAM - len(end)] + end


def curve_metrics(rows: pd.DataFrame, start_ms: int) -> list[Metric]:
    """Return the points of all curves of one run, each at its start plus the step."""
    from mlflow.entities import Metric

    steps = rows["step"].to_numpy()
    metrics: list[Metric] = []
    for name, column in CURVES.items():
        values = rows[column].to_numpy(dtype=np.float64)
        if name.endswith("_total"):
            values = np.cumsum(values)
        places = np.flatnonzero(np.isfinite(values))
        if len(places) > LONGEST_CURVE:
            places = places[np.linspace(0, len(places) - 1, LONGEST_CURVE).astype(int)]
        pairs = zip(steps[places].tolist(), values[places].tolist(), strict=True)
        metrics += [Metric(name, value, start_ms + step, step) for step, value in pairs]
    return metrics


def describe(
    key: str,
    records: Sequence[RunRecord],
    points: Sequence[Mapping[str, Interval]],
    verdict: str,
) -> str:
    """Return the parent's description in Markdown: what was run, and a table of results."""
    finished = sum(record.state == "finished" for record in records)
    labels = {record.point_index: record.label for record in records}
    lines = [
        f"{finished} of {len(records)} runs finished, validation: {verdict}, key `{key[:12]}`",
        "",
        "| point | n | " + " | ".join(NOTE_METRICS.values()) + " |",
        "|---|---|" + "---|" * len(NOTE_METRICS),
    ]
    for index in sorted(labels)[:NOTE_ROWS]:
        done = sum(r.point_index == index and r.state == "finished" for r in records)
        cells = [_cell(points[index].get(metric)) for metric in NOTE_METRICS]
        lines.append(f"| {labels[index]} | {done} | " + " | ".join(cells) + " |")
    if len(labels) > NOTE_ROWS:
        lines.append(f"\n{len(labels) - NOTE_ROWS} more points: see summary.json.")
    lines.append("\nMean ± half of the 95 % t interval over the replicates of a point. ")
    lines.append("To compare points: Group by, parameter `point`. Plots are among the artifacts.")
    return "\n".join(lines)


def describe_comparison(comparison: Report | None, room: int = LONGEST_NOTE) -> str:
    """Return the verdicts in Markdown, the surest first, in at most so many characters.

    Nothing where nothing was compared or nothing fits.
    """
    if comparison is None:
        return ""
    text = f"\n\n**Compared with {comparison.baseline}** (p adjusted after Holm):\n\n"
    told = 0
    for found in comparison.findings[:NOTE_VERDICTS]:
        line = f"- {found.sentence}\n"
        if len(text) + len(line) + LONGEST_END > room:
            break
        text, told = text + line, told + 1
    others = len(comparison.comparisons) - told
    text += f"- {others} more comparisons: see the artifact `comparison.json`."
    return text if len(text) <= room else ""


def _cell(found: Interval | None) -> str:
    if found is None or found.mean is None:
        return "–"
    if found.ci_high is None:
        return f"{found.mean:.3g}"
    return f"{found.mean:.3g} ± {found.ci_high - found.mean:.2g}"


# --- how it gets there --------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """An MLflow run that is there."""

    run: str
    """Its id."""
    is_complete: bool
    """Whether it was marked complete with the content that it is to hold."""
    tags: Mapping[str, str]


class Outbox:
    """The MLflow runs of one experiment: those that are there, and those that are made."""

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        name: str,
        table: CurveTable | None = None,
    ) -> None:
        """Look up, once, everything that is there of the experiment `name`.

        Curves go into `table`; without one they go through the client.
        """
        self.name = name
        self._table = table
        self._client = client
        self._experiment_id = experiment_id
        self._found: dict[str, list[Run]] = {}
        for run in self._search():
            self._found.setdefault(run.data.tags.get("quorumlab.run_key", ""), []).append(run)

    def _search(self) -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                filter_string=f"tags.`quorumlab.experiment` = '{self.name}'",
                max_results=1000,
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def has(self, about: Content, run_key: str) -> bool:
        """Return whether this content was found complete."""
        return any(is_complete(run, about) for run in self._found.get(run_key, ()))

    def adopt_or_create(self, about: Content, run_key: str, known: str | None = None) -> Slot:
        """Return the one MLflow run for this content.

        Of several (a crash, two publishers) the best is kept. What contradicts the content, and
        all others, are deleted.
        """
        found = self._found.get(run_key, [])
        found.sort(key=lambda r: (not is_complete(r, about), r.info.run_id != known, r.info.run_id))
        keep = next((r for r in found if is_complete(r, about) or not contradicts(r, about)), None)
        for run in found:
            if run is not keep:
                self._client.delete_run(run.info.run_id)
        if keep is None:
            return self._create(about)
        slot = Slot(keep.info.run_id, is_complete(keep, about), keep.data.tags)
        if slot.is_complete:
            self._set_tags(slot, about)
        return slot

    def delete_all(self, artifacts: Path | None) -> int:
        """Delete every run of the experiment; return how many there were.

        Args:
            artifacts: Folder below which the files of runs go at once; None: they are not ours.
        """
        runs = [run for found in self._found.values() for run in found]
        for run in runs:
            self._client.delete_run(run.info.run_id)
            address = urlsplit(run.info.artifact_uri or "")
            folder = Path(unquote(address.path)).parent
            if artifacts is not None and address.scheme == "file" and artifacts in folder.parents:
                shutil.rmtree(folder, ignore_errors=True)
        return len(runs)

    def _create(self, about: Content) -> Slot:
        tags = about.all_tags()
        created = self._client.create_run(
            self._experiment_id, start_time=about.start_ms, tags=tags, run_name=about.name
        )
        reach("publish.created")
        return Slot(created.info.run_id, False, tags)

    def _set_tags(self, slot: Slot, about: Content) -> None:
        from mlflow.entities import RunTag

        wanted = about.all_tags()
        for key in slot.tags:
            if key.startswith("quorumlab.") and key not in wanted:
                self._client.delete_tag(slot.run, key)
        tags = [RunTag(k, v) for k, v in wanted.items() if slot.tags.get(k) != v]
        if tags:
            self._client.log_batch(slot.run, tags=tags)

    def fill_and_finish(self, slot: Slot, about: Content, curves: Sequence[Metric]) -> None:
        """Log everything, and that it is complete last; logging it again changes nothing."""
        from mlflow.entities import Metric, Param

        at = about.start_ms + SUMMARY_STEP
        summary = [Metric(k, v, at, SUMMARY_STEP) for k, v in about.summary.items()]
        params = [Param(k, v) for k, v in about.params.items()]
        if self._table is None:
            summary += curves
        else:
            points = (Point(m.key, m.value, m.timestamp, m.step) for m in curves)
            self._table.add(slot.run, points)
        self._client.log_batch(slot.run, metrics=summary, params=params)
        reach("publish.logged")
        self._set_tags(slot, about)
        reach("publish.tagged")
        self._client.set_terminated(slot.run, about.status, end_time=about.end_ms)

    def add_samples(self, run: str, samples: Sequence[Sample]) -> None:
        """Add system metrics; those of an earlier execution stay."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, sample.timestamp_ms, index)
            for index, sample in enumerate(samples)
            for name, value in sample.values.items()
        ]
        self._client.log_batch(run, metrics=metrics)

    def add_artifacts(self, run: str, artifacts: Sequence[Path]) -> None:
        """Add files and folders, pictures in a folder of their own; missing ones are left out."""
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            elif path.exists():
                is_picture = path.suffix in (".png", ".svg")
                self._client.log_artifact(run, str(path), "plots" if is_picture else None)


def delete_published(tracking: TrackingConfig, title: str, name: str, workspace: Path) -> int:
    """Delete what MLflow has of an experiment, and return how many runs that were.

    MLflow keeps what is deleted until `mlflow gc`; files of the workspace's own MLflow go at once.

    Args:
        tracking: Where the experiment was published.
        title: Name of the MLflow experiment that it is in.
        name: The experiment's name.
        workspace: Folder of everything that is kept.

    Raises:
        Unavailable: MLflow does not answer, or refuses; nothing or a part is deleted.
    """
    is_local = tracking.kind == "mlflow_local"
    if is_local and not (workspace.absolute() / "mlflow.db").exists():
        return 0
    address = tracking_address(tracking, workspace)
    with (
        _explained(address, Trouble.MLFLOW_UNDELETED),
        _one_at_a_time(workspace),
        _connected(address, workspace, tracking) as client,
    ):
        found = client.get_experiment_by_name(title)
        if found is None:
            return 0
        return Outbox(client, str(found.experiment_id), name).delete_all(
            workspace.absolute() / "mlartifacts" if is_local else None
        )


def is_complete(run: Run, about: Content) -> bool:
    """Return whether an MLflow run was marked complete with this content."""
    tags = about.all_tags()
    held = run.data.tags.get("quorumlab.content") == tags["quorumlab.content"]
    return bool(held and run.info.status == about.status)


def contradicts(run: Run, about: Content) -> bool:
    """Return whether an MLflow run holds something that this content does not.

    Curves and system metrics may lack points, but what there is of them belongs to a run of the
    same key and start; only a quarantined run must have none.
    """
    if run.info.start_time != about.start_ms:
        return True
    if any(about.params.get(key) != value for key, value in run.data.params.items()):
        return True
    has_curves = about.tags["quorumlab.state"] != "quarantined"
    return any(
        about.summary.get(key) != value
        for key, value in run.data.metrics.items()
        if not key.startswith("system/") and not (has_curves and key in CURVES)
    )


# --- where it gets to ---------------------------------------------------------------------


def tracking_address(tracking: TrackingConfig, workspace: Path) -> str:
    """Return MLflow's tracking address.

    Raises:
        ConfigurationError: a server is asked for, and nothing says which.
    """
    if tracking.kind == "mlflow_local":
        return f"sqlite:///{workspace.absolute() / 'mlflow.db'}"
    address = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise ConfigurationError(
            "tracking=mlflow_server needs the server's address: give tracking.uri, for instance "
            "tracking.uri=http://127.0.0.1:5000, or set MLFLOW_TRACKING_URI"
        )
    return address


def curve_table(tracking: TrackingConfig, workspace: Path) -> CurveTable | None:
    """Return where curves are written without MLflow: its database, if it is the workspace's own.

    None where it is a server's, or of another version of MLflow.
    """
    if tracking.kind != "mlflow_local":
        return None
    table = CurveTable(workspace.absolute() / "mlflow.db")
    return table if table.fits() else None


def prepare_store(workspace: Path) -> None:
    """Make the workspace's MLflow database, if there is none, before anybody opens it.

    Raises:
        Unavailable: it cannot be made.
    """
    local = TrackingConfig(kind="mlflow_local")
    address = tracking_address(local, workspace)
    with _explained(address), _one_at_a_time(workspace), _connected(address, workspace, local):
        pass


@contextmanager
def _connected(address: str, workspace: Path, tracking: TrackingConfig) -> Iterator[MlflowClient]:
    """Give a client, of the workspace's own database or of a server."""
    if tracking.kind != "mlflow_local":
        yield _client(address)
        return
    path = workspace.absolute() / "mlflow.db"
    if not path.exists():
        _make_store(path)
    with closing(sqlite3.connect(path)) as keeper:
        # MLflow would try for minutes to open what is no database; and while this connection is
        # open, closing another one does not write the whole log back.
        keeper.execute("SELECT count(*) FROM sqlite_master")
        yield _client(address)


def _client(address: str) -> MlflowClient:
    from mlflow import MlflowClient

    with _setting_up():
        return MlflowClient(tracking_uri=address)


def _make_store(path: Path) -> None:
    """Make MLflow's database under another name and give it its own when it is whole.

    MLflow makes it in place and loses races: processes that begin at once damage the schema, and
    so does a kill. Its write-ahead log lets the user look at runs while others are published.
    """
    fresh = path.with_name("mlflow.new.db")
    fresh.unlink(missing_ok=True)
    with _setting_up():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        make_store: Any = SqlAlchemyStore
        make_store(f"sqlite:///{fresh}", (path.parent / "mlartifacts").as_uri())
    with closing(sqlite3.connect(fresh)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    fresh.rename(path)


@contextmanager
def _setting_up() -> Iterator[None]:
    """Let MLflow open a database: without its warnings, with its own kind of error."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException

    with warnings.catch_warnings():  # MLflow 3.17 uses what SQLAlchemy 2.1 deprecates
        warnings.simplefilter("ignore", SADeprecationWarning)
        try:
            yield
        except (SQLAlchemyError, CommandError) as error:
            raise MlflowException(str(error)) from error


def load_mlflow() -> None:
    """Import MLflow: it reports to nobody and keeps off the terminal, unless the user says so.

    May be called ahead from a thread, so that the seconds it takes are not waited for.
    """
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # publishing is repeated later anyway
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        # a connection that outlives its transaction would go on with a deleted or forked file
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    }.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 - it sets up its loggers

    for logger in ("alembic", "mlflow", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    # errors of the database reach the user as Unavailable, once and without a traceback
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _find_experiment(client: MlflowClient, config: ExperimentConfig, workspace: Path) -> str:
    """Return the id of the MLflow experiment for this title, made or restored if need be."""
    from mlflow.exceptions import MlflowException

    title = config.experiment.title
    root = None
    if config.tracking.kind == "mlflow_local":
        root = (workspace.absolute() / "mlartifacts" / title).as_uri()
    found = client.get_experiment_by_name(title)
    if found is None:
        tags = {"mlflow.experimentKind": "custom_model_development"}  # the pages for runs
        try:
            return str(client.create_experiment(title, artifact_location=root, tags=tags))
        except MlflowException:  # another workspace may have made it on the same server
            found = client.get_experiment_by_name(title)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextmanager
def _one_at_a_time(workspace: Path) -> Iterator[None]:
    """Let one publication at a time look for runs and create them; a killed one lets go."""
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / "mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _sparing_garbage_collection() -> Iterator[None]:
    """Keep the collector off what is there already: MLflow's thousands of objects make it look.

    Publishing takes a third less time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _explained(address: str, row: Trouble = Trouble.MLFLOW_AWAY) -> Iterator[None]:
    """Turn MLflow's errors into one that says what to do, without passwords.

    Raises:
        Unavailable: MLflow does not answer, or refuses.
    """
    load_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, sqlite3.Error, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        if "Max retries exceeded" in reason:
            reason = "the server does not answer"
        message = row.tell(place=address, reason=reason)
        raise Unavailable(re.sub(r"//[^/@\s]+@", "//***@", message)) from error
