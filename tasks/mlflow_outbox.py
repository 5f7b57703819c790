"""The MLflow runs of one experiment: those that are there, and those that are made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from sim_core.faultpoints import reach
from tasks.mlflow_content import (
    CURVES,
    DATA_CONTEXT,
    Content,
    DataFile,
    Point,
    summary_points,
)

if TYPE_CHECKING:  # importing mlflow takes seconds: functions do it when they need it
    from mlflow import MlflowClient
    from mlflow.entities import Run


class Sample(Protocol):
    """Figures of one moment, as `tasks.sample_resources` takes them."""

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970."""

    @property
    def values(self) -> Mapping[str, float]:
        """Values by name; names begin with `system/`."""


@dataclass(frozen=True)
class Slot:
    """An MLflow run that is there."""

    run: str
    """Its id."""
    is_complete: bool
    """Whether it was marked complete with the content that it is to hold."""
    tags: Mapping[str, str]


class Outbox:
    """All that MLflow's client is asked for about the runs of one experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str, name: str) -> None:
        """Look up, once, everything that is there of the experiment `name`."""
        self.name = name
        self.experiment_id = experiment_id
        self._client = client
        self._found: dict[str, list[Run]] = {}
        for run in self._search():
            self._found.setdefault(run.data.tags.get("quorumlab.run_key", ""), []).append(run)

    def _search(self) -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
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
        """Return the one MLflow run for this content, see `adopt`."""
        return self.adopt(about, run_key, known) or self.create(about)

    def adopt(self, about: Content, run_key: str, known: str | None = None) -> Slot | None:
        """Return the MLflow run that is there for this content; None where it has to be made.

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
            return None
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

    def create(self, about: Content) -> Slot:
        """Return a new MLflow run that holds nothing but its tags."""
        tags = about.all_tags()
        created = self._client.create_run(
            self.experiment_id, start_time=about.start_ms, tags=tags, run_name=about.name
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

    def fill_and_finish(self, slot: Slot, about: Content, curves: Sequence[Point]) -> None:
        """Log everything, and that it is complete last; logging it again changes nothing."""
        from mlflow.entities import Metric, Param

        metrics = [Metric(*point) for point in (*summary_points(about), *curves)]
        params = [Param(k, v) for k, v in about.params.items()]
        self._client.log_batch(slot.run, metrics=metrics, params=params)
        self.add_data(slot.run, about.data)
        reach("publish.logged")
        self._set_tags(slot, about)
        reach("publish.tagged")
        self._client.set_terminated(slot.run, about.status, end_time=about.end_ms)

    def add_data(self, run: str, data: Sequence[DataFile]) -> None:
        """Note which data files a run reads; noting it again changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if data:
            tags = [InputTag("mlflow.data.context", DATA_CONTEXT)]
            sets = [Dataset(file.name, file.digest, "local", file.source) for file in data]
            self._client.log_inputs(run, [DatasetInput(each, tags) for each in sets])

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
            reach("publish.artifact")
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            elif path.exists():
                is_picture = path.suffix in (".png", ".svg")
                self._client.log_artifact(run, str(path), "plots" if is_picture else None)


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
