"""An exported experiment is whole, and needs nothing of this program to be read."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from flows.export import export_experiment
from sim_core.errors import UserError
from sim_core.ledger.blocks import KINDS

SMALL = (
    "experiment.name=small",
    "experiment.replicates=2",
    "simulation.nodes=12",
    "ledger.detail=all",
    "adversary=poisoner",
)
Flow = Callable[..., Any]


def export(workspace: Path, target: Path, name: str = "small") -> list[Path]:
    return export_experiment(workspace, name, target, Console(file=io.StringIO()))


def test_tables_hold_what_the_ledger_holds(run_plainly: Flow, tmp_path: Path) -> None:
    outcome = run_plainly(*SMALL, "simulation.steps=40")
    files = export(tmp_path / "workspace", tmp_path / "out")
    assert {file.stem for file in files if file.parent.name == "ledger"} == {"block", *KINDS}
    heads = {record.run_id: record.ledger_head for record in outcome.findings.records}
    blocks = pd.read_parquet(tmp_path / "out/ledger/block.parquet")
    last = blocks.sort_values("step").groupby("run_id").last()
    assert {key: digest.hex() for key, digest in last["hash"].items()} == heads
    assert blocks.groupby("run_id")["step"].count().tolist() == [40, 40]
    runs = pd.read_parquet(tmp_path / "out/runs.parquet")
    assert dict(zip(runs["run_id"], runs["ledger_head"], strict=True)) == heads
    n_rows = {kind: len(pd.read_parquet(tmp_path / f"out/ledger/{kind}.parquet")) for kind in KINDS}
    counted = sum(record.ledger_rows for record in outcome.findings.records)
    assert sum(n_rows.values()) + len(blocks) == counted
    assert n_rows["alert"] > 0
    described = json.loads((tmp_path / "out/experiment.json").read_text())
    assert described["config"]["simulation"]["steps"] == 40
    assert str(tmp_path) not in json.dumps(described)


def test_manifest_names_every_file_and_its_content(run_plainly: Flow, tmp_path: Path) -> None:
    run_plainly(*SMALL, "simulation.steps=10")
    files = export(tmp_path / "workspace", tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())["files"]
    there = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert set(manifest) == there - {"manifest.json"}
    assert {tmp_path / "out" / name for name in manifest} == set(files[:-1])
    for name, digest in manifest.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest


def test_runs_that_went_on_elsewhere_end_at_the_horizon(run_plainly: Flow, tmp_path: Path) -> None:
    run_plainly(*SMALL, "simulation.steps=10")
    run_plainly(*SMALL, "experiment.name=longer", "simulation.steps=20")
    export(tmp_path / "workspace", tmp_path / "out")
    assert pd.read_parquet(tmp_path / "out/ledger/block.parquet")["step"].max() == 9


@pytest.mark.parametrize("what", ["file", "folder"])
def test_nothing_is_replaced(run_plainly: Flow, tmp_path: Path, what: str) -> None:
    run_plainly(*SMALL, "simulation.steps=4")
    target = tmp_path / "out"
    if what == "folder":
        target.mkdir()
    kept = target if what == "file" else target / "mine"
    kept.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export(tmp_path / "workspace", target)
    assert kept.read_text() == "mine"


def test_an_experiment_that_is_not_there_is_named(run_plainly: Flow, tmp_path: Path) -> None:
    run_plainly(*SMALL, "simulation.steps=4")
    with pytest.raises(
        UserError, match="no experiment 'other' in this workspace; there are: small"
    ):
        export(tmp_path / "workspace", tmp_path / "out", "other")
    assert not (tmp_path / "out").exists()
