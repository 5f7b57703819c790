"""An experiment as files that need nothing of this program: Parquet tables, JSON, and their SHA-256."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from flows.inspect import find_experiment, opened
from sim_core.config import ExperimentConfig
from sim_core.errors import UserError
from sim_core.ledger.queries import stream_rows
from sim_core.ledger.store import Ledger
from sim_core.ledger.stored import stored_points
from sim_core.ledger.tables import BLOCKS, ENTRY_TABLES
from sim_core.results import collect_findings, runs_frame
from sim_core.workspace import write_whole
from tasks.write_results import parquet

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Table

MANIFEST = "manifest.json"
TABLES = {"block": BLOCKS, **ENTRY_TABLES}
RUN_KEY = "run_id"
"""In place of the database's own numbers of runs."""
COPIED = ("summary.json", "config.yaml", "comparison.json", "validation.json", "resources.parquet")


def export_experiment(folder: Path, name: str, target: Path, console: Console) -> list[Path]:
    """Write an experiment into a new folder, and return its files.

    Args:
        folder: The workspace.
        name: The experiment.
        target: Folder that is made; nothing that is there already is replaced.
        console: Where progress is shown.

    Raises:
        UserError: there is no such experiment; the folder has something in it.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already: name a folder that is empty or not there yet")
    with opened(folder) as (place, ledger):
        experiment = find_experiment(ledger, name)
        config, _ = stored_points(experiment)
        target.mkdir(parents=True, exist_ok=True)
        findings = collect_findings(ledger, name, config.cost)
        files = [target / "experiment.json", target / "runs.parquet", target / "steps.parquet"]
        write_whole(files[0], as_json(described(experiment.model_dump(mode="json"), config)))
        write_whole(files[1], parquet(runs_frame(findings.records)))
        write_whole(files[2], parquet(findings.steps))
        files += _copied(place.experiment(name), target)
        files += _write_ledger(ledger, name, target / "ledger", console)
    manifest = {
        "experiment": name,
        "quorumlab": version("quorumlab"),
        "files": {str(file.relative_to(target)): _sha256(file) for file in files},
    }
    write_whole(target / MANIFEST, as_json(manifest))
    n_bytes = sum(file.stat().st_size for file in files)
    console.print(
        f"{name}: {len(files)} files, {n_bytes / 1e6:,.1f} MB, in {target}", soft_wrap=True
    )
    return [*files, target / MANIFEST]


def described(experiment: dict[str, Any], config: ExperimentConfig) -> dict[str, Any]:
    """Return what is known of an experiment besides its runs; paths of this machine are left out."""
    return {**experiment, "config": config.model_dump(mode="json", exclude={"workspace"})}


def as_json(content: object) -> str:
    """Return content as a file of JSON."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _copied(source: Path, target: Path) -> Iterator[Path]:
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
            yield target / name


def _write_ledger(ledger: Ledger, name: str, folder: Path, console: Console) -> list[Path]:
    """Write blocks and entries of all runs, a file for each kind; memory is that of one batch."""
    import pyarrow.parquet as pq

    folder.mkdir()
    runs = ledger.runs_of(name)
    files = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("ledger", total=len(runs) * len(TABLES))
        for kind, table in TABLES.items():
            path = folder / f"{kind}.parquet"
            schema = _schema(table)
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for run in runs:
                    for batch in _batches(ledger, run, table, schema):
                        writer.write_batch(batch)
                    progress.advance(bar)
            files.append(path)
    return files


def _batches(
    ledger: Ledger, run: dict[str, Any], table: Table, schema: pa.Schema
) -> Iterable[pa.RecordBatch]:
    """Yield the rows of a run up to the experiment's horizon."""
    import pyarrow as pa

    for rows in stream_rows(ledger, run["id"], table):
        within = [(run["run_key"], *row[1:]) for row in rows if row[1] < run["horizon"]]
        columns = zip(*within, strict=True) if within else [()] * len(schema)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _schema(table: Table) -> pa.Schema:
    """Return the columns of a table of the ledger, with the run's key in place of its number."""
    import pyarrow as pa

    kinds = {int: pa.int64(), float: pa.float64(), bytes: pa.binary(), str: pa.string()}
    rest = [(column.name, kinds[column.type.python_type]) for column in list(table.columns)[1:]]
    return pa.schema([(RUN_KEY, pa.string()), *rest])


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
