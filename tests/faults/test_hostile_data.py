"""Paths that lead nowhere or never end, and tables of other kinds than they say: refused in words."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from sim_core.config import ExperimentConfig
from sim_core.errors import DataError
from sim_core.plan import plan_runs
from sim_core.simulated_network import SimulatedNetwork
from tests.faults.test_hostile import accepted

PATHS = (
    "/no/such/file", "", ".", "/", "a\0b", "\x1b[2J", "a\nb", "x" * 5_000, "x/" * 3_000, "~nobody_of_this_name/x",
    "/dev/zero", "/dev/null", "/proc/self/mem", "file:///etc/passwd", "https://localhost/x", "-", "*",
)  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "edge_list": ("topology", {}),
    "table": ("traffic", {"columns": {"label": "label"}}),
    "nsl_kdd": ("traffic", {}),
    "nab": ("traffic", {}),
    "smtp": ("traffic", {}),
}
N_ROWS = 300
LABELS = np.array(["normal", "scan"] * (N_ROWS // 2))
NUMBERS = np.linspace(0, 1, 2 * N_ROWS).reshape(N_ROWS, 2)
ARRAYS: tuple[tuple[Any, Any], ...] = (
    (NUMBERS.astype(">f8"), LABELS),
    (NUMBERS.astype(np.longdouble), LABELS),
    (NUMBERS.astype(complex), LABELS),
    (NUMBERS.astype("S8"), LABELS),
    (NUMBERS * np.nan, LABELS),
    (NUMBERS[:0], LABELS[:0]),
    (NUMBERS[:, :0], LABELS),
    (NUMBERS[0], LABELS),
    (NUMBERS, LABELS[1:]),
    (NUMBERS, np.zeros(N_ROWS, dtype=complex)),
    (NUMBERS, np.zeros(N_ROWS, dtype="V4")),
    (NUMBERS, np.full(N_ROWS, np.nan)),
)
LINES = (
    b"0.1\0,5,normal",
    b"0.1,5,nor\0mal",
    b"\0",
    b"nan,5,normal",
    b"1e400,5,normal",
    b"9" * 5_000 + b",x,normal",
)


def planned(kind: str, **settings: Any) -> None:
    """Plan an experiment with a data file, and begin its network."""
    group, others = KINDS[kind]
    choice = {"kind": kind, **others, **settings}
    size = {"nodes": 8, "flows_per_node": 5, "steps": 3}
    config = ExperimentConfig.model_validate({"simulation": size, group: choice})
    plan_runs(config, [])
    SimulatedNetwork(config.model_part())


def test_paths_that_lead_to_no_file_are_refused_before_they_are_read():
    inputs = [(kind, path) for kind in KINDS for path in PATHS]
    assert accepted(inputs, lambda given: planned(given[0], path=given[1]), DataError) == []


def test_pipe_that_nobody_writes_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    take = lambda kind: planned(kind, path=str(tmp_path / "pipe"))  # noqa: E731
    assert accepted(("edge_list", "table"), take, DataError, names=lambda _: "pipe") == []


def test_arrays_of_other_kinds_are_refused_by_the_name_of_the_file(tmp_path: Path):
    path = tmp_path / "table.npz"

    def take(given: tuple[Any, Any]) -> None:
        content = io.BytesIO()
        np.savez(content, X=given[0], y=given[1])
        path.write_bytes(content.getvalue())
        planned("table", path=str(path), columns={"label": "y", "benign": ["normal"]})

    assert accepted(ARRAYS, take, DataError, names=lambda _: "table.npz") == []
    assert len(accepted([(NUMBERS, LABELS)], take, DataError)) == 1, "what is sound is accepted"


def test_lines_that_are_no_text_or_no_number_are_refused_by_their_row(tmp_path: Path):
    path = tmp_path / "table.csv"
    rows = [
        b"%f,5,%s" % (x, label.encode()) for x, label in zip(NUMBERS[:, 0], LABELS, strict=True)
    ]

    def take(line: bytes) -> None:
        path.write_bytes(b"\n".join([b"a,b,label", *rows[:4], line, *rows[5:]]))
        planned("table", path=str(path), columns={"label": "label", "benign": ["normal"]})

    assert accepted(LINES, take, DataError, names=lambda _: "row 6") == []
    assert len(accepted([rows[4]], take, DataError)) == 1, "what is sound is accepted"
