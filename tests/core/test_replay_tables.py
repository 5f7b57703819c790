"""Tables that are replayed: CSV, Parquet and npz say the same, and what is wrong in one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim_core.config import ModelConfig, TableColumns
from sim_core.errors import DataError
from sim_core.identity import run_key
from sim_core.randomness import Streams
from sim_core.traffic import data_files, make_traffic
from sim_core.traffic.rows import read_rows

MakeConfig = Callable[..., ModelConfig]
COLUMNS = TableColumns(
    label="label", time="when", node="host", bytes_transferred="size", protocol="protocol"
)


def frame(n_rows: int = 200) -> pd.DataFrame:
    """Return flows in disorder, two of five attacks."""
    row = np.arange(n_rows)
    return pd.DataFrame(
        {
            "when": pd.Timestamp("2024-05-01") + pd.to_timedelta(row * 7 % n_rows, unit="s"),
            "host": [f"10.0.0.{k % 9}" for k in row],
            "size": row * 13 % 1_000,
            "speed": np.round(np.sin(row), 6),
            "protocol": [("tcp", "UDP", "1")[k % 3] for k in row],
            "remark": ["-"] * n_rows,
            "label": [("BENIGN", "BENIGN", "scan", "BENIGN", "flood")[k % 5] for k in row],
        }
    )


def write(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        np.savez(path, X=table[["size", "speed"]].to_numpy(), y=(table["label"] != "BENIGN") * 1)
    return path


@pytest.mark.parametrize("extension", [".csv", ".parquet"])
def test_columns_mean_what_the_map_says(tmp_path: Path, extension: str):
    table = frame()
    rows = read_rows(write(tmp_path / f"flows{extension}", table), COLUMNS)
    in_time = table.sort_values("when", kind="stable")
    assert rows.numeric == ("size", "speed"), "numbers without another meaning"
    assert rows.values.tolist() == in_time[["size", "speed"]].to_numpy().tolist()
    assert rows.families == ("flood", "scan")
    expected = [{"BENIGN": 0, "flood": 1, "scan": 2}[name] for name in in_time["label"]]
    assert rows.label.tolist() == expected
    assert rows.bytes_transferred.tolist() == in_time["size"].tolist()
    assert rows.protocol.tolist() == [
        {"tcp": 6, "UDP": 17, "1": 1}[name] for name in in_time["protocol"]
    ]
    assert rows.timestamp is not None
    assert rows.timestamp.tolist() == [int(t.timestamp() * 1_000) for t in in_time["when"]]
    assert rows.owner is not None
    assert len(set(zip(rows.owner.tolist(), in_time["host"], strict=True))) == 9
    first = 2 if extension == ".csv" else 1
    assert rows.number.tolist() == (in_time.index + first).tolist()


def test_csv_and_parquet_give_the_same_flows(tmp_path: Path, make_config: MakeConfig):
    def flows(extension: str, columns: Any = COLUMNS) -> Any:
        path = write(tmp_path / f"flows{extension}", frame())
        settings = {"kind": "table", "path": str(path), "columns": columns}
        return make_traffic(make_config(traffic=settings), Streams(1, 0)).draw(3)

    csv, parquet = flows(".csv"), flows(".parquet")
    assert csv.x.tobytes() == parquet.x.tobytes()
    assert csv.y.tobytes() == parquet.y.tobytes()
    without_time = flows(
        ".csv", {"label": "label", "numeric": ["size", "speed"], "benign": ["BENIGN"]}
    )
    npz = flows(".npz", None)
    assert npz.x.tobytes() == without_time.x.tobytes()
    assert (npz.y > 0).tolist() == (without_time.y > 0).tolist()


def test_records_have_the_times_of_the_file(tmp_path: Path, make_config: MakeConfig):
    table = frame()
    path = write(tmp_path / "flows.parquet", table)
    config = make_config(
        simulation={"steps": 2},
        traffic={"kind": "table", "path": str(path), "columns": COLUMNS, "order": "time"},
    )
    traffic: Any = make_traffic(config, Streams(1, 0))
    assert traffic.clock == "file"
    flows = traffic.draw(1)
    node, flow = (index.ravel() for index in np.indices(flows.y.shape))
    number = traffic.recording.number[flows.origin].ravel() - 1
    found = traffic.describe(1, flows, node, flow)
    assert found.timestamp.tolist() == [
        int(table["when"][k].timestamp() * 1_000) for k in number.tolist()
    ]
    assert found.bytes_transferred.tolist() == table["size"][number].tolist()


def test_a_hundred_thousand_rows_keep_every_row(tmp_path: Path, make_config: MakeConfig):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(100_000, 3)), rng.random(100_000) < 0.01
    np.savez(tmp_path / "large.npz", X=x, y=y.astype(float))
    config = make_config(
        simulation={"nodes": 64, "flows_per_node": 500},
        traffic={"kind": "table", "path": str(tmp_path / "large.npz")},
    )
    traffic: Any = make_traffic(config, Streams(1, 0))
    n_pool = round((~y).sum() / 2)
    assert traffic.warmup().shape == (1, n_pool, 3)
    assert len(traffic.recording.label) == 100_000 - n_pool
    assert (traffic.recording.label > 0).sum() == y.sum()
    assert (traffic.draw(0).y > 0).mean() == pytest.approx(0.02, abs=0.004)


# --- what can be wrong ---------------------------------------------------------------------

GOOD = ["when,host,size,speed,protocol,label"] + [
    f"{k},h{k % 3},{k},{k / 7:.3f},tcp,{'scan' if k % 4 == 3 else 'normal'}" for k in range(40)
]


def refusal(path: Path, columns: TableColumns = COLUMNS) -> str:
    with pytest.raises(DataError) as refused:
        read_rows(path, columns)
    message = str(refused.value)
    assert path.name in message
    assert refused.value.exit_code == 2
    return message


def damaged(tmp_path: Path, row: int, line: str) -> Path:
    path = tmp_path / "flows.csv"
    path.write_text("\n".join([*GOOD[: row - 1], line, *GOOD[row:]]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("4,h1,n/a,0.5,tcp,normal", "size", "'n/a' is not a finite number"),
        ("4,h1,,0.5,tcp,normal", "size", "'' is not a finite number"),
        ("4,h1,4,nan,tcp,normal", "speed", "'nan' is not a finite number"),
        ("4,h1,4,-Infinity,tcp,normal", "speed", "'-Infinity' is not a finite number"),
        ("4,h1,4,1e999,tcp,normal", "speed", "'1e999' is not a finite number"),
        ("4,h1,4,0x1f,tcp,normal", "speed", "'0x1f' is not a finite number"),
        ("4,h1,4,1_000,tcp,normal", "speed", "'1_000' is not a finite number"),
        ("4,h1,-4,0.5,tcp,normal", "size", "-4 is no number of bytes"),
        ("4,h1,4,0.5,carrier pigeon,normal", "protocol", "unknown value 'carrier pigeon'"),
        ("4,h1,4,0.5,256,normal", "protocol", "unknown value '256'"),
        ("4,h1,4,0.5,tcp,", "label", "unknown value ''"),
        ("4,,4,0.5,tcp,normal", "host", "unknown value ''"),
        ("soon,h1,4,0.5,tcp,normal", "when", "'soon' is not a finite number"),
    ],
)
def test_wrong_cell_is_named(tmp_path: Path, line: str, column: str, words: str):
    message = refusal(damaged(tmp_path, 6, line))
    assert f"row 6, column {column}: {words}" in message


@pytest.mark.parametrize(
    ("line", "n_columns"),
    [("4,h1", 2), ("4,h1,4,0.5,tcp,normal,7", 7), ("", 1), ("4;h1;4", 1)],
)
def test_line_of_another_width_is_named(tmp_path: Path, line: str, n_columns: int):
    assert f"row 6: {n_columns} columns, expected 6" in refusal(damaged(tmp_path, 6, line))


def test_date_that_is_none_is_named(tmp_path: Path):
    path = write(tmp_path / "flows.csv", frame().astype({"when": str}))
    path.write_text(path.read_text().replace("2024-05-01 00:00:07", "2024-05-32"))
    assert "row 3, column when: '2024-05-32' is not a date" in refusal(path)


@pytest.mark.parametrize("column", ["size", "label", "host"])
def test_empty_cell_of_a_parquet_file_is_named(tmp_path: Path, column: str):
    table = frame().astype({"size": "Int64"})
    table.loc[16, column] = None
    path = write(tmp_path / "flows.parquet", table)
    assert f"row 17, column {column}: the cell is empty" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_number_that_is_none_in_npz_is_named(tmp_path: Path, value: float):
    x = np.arange(60.0).reshape(20, 3)
    x[16, 1] = value
    np.savez(tmp_path / "flows.npz", X=x, y=np.arange(20) % 2)
    assert "row 17, column x1" in refusal(tmp_path / "flows.npz", TableColumns(label="y"))


def test_missing_column_is_named_with_those_that_there_are(tmp_path: Path):
    message = refusal(damaged(tmp_path, 6, GOOD[5]), TableColumns(label="Label"))
    assert "no column Label; its columns: when, host, size" in message


def test_no_benign_label_is_named_with_those_that_there_are(tmp_path: Path):
    columns = TableColumns(label="label", benign=("harmless",))
    message = refusal(damaged(tmp_path, 6, GOOD[5]), columns)
    assert "traffic.columns.benign: harmless" in message
    assert "normal, scan" in message


def test_column_of_another_meaning_is_no_column_of_labels(tmp_path: Path):
    table = frame(2_000)
    table["id"] = [f"flow {k}" if k else "normal" for k in range(len(table))]
    path = write(tmp_path / "flows.csv", table)
    assert "kinds of attacks" in refusal(path, TableColumns(label="id"))


def test_two_columns_of_one_name_are_refused(tmp_path: Path):
    path = damaged(tmp_path, 1, "when,host,size,size,protocol,label")
    assert "two columns are called 'size'" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"when,host,size,speed,protocol,label\n"])
def test_table_without_rows_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "flows.csv").write_bytes(content)
    assert "empty" in (message := refusal(tmp_path / "flows.csv")) or "no rows" in message


def test_bytes_that_are_no_text_are_named(tmp_path: Path):
    path = damaged(tmp_path, 6, "4,h1,4,0.5,t?p,normal")
    path.write_bytes(path.read_bytes().replace(b"t?p", b"t\xffp"))
    assert "row 6: not text" in refusal(path)


@pytest.mark.parametrize("name", ["flows.parquet", "flows.npz"])
def test_file_of_another_kind_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_text("\n".join(GOOD), encoding="utf-8")
    assert "damaged" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["flows.xlsx", "flows", "flows.pkl"])
def test_unknown_extension_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_text("\n".join(GOOD), encoding="utf-8")
    assert ".csv, .parquet, .npz" in refusal(tmp_path / name)


def test_pickled_objects_are_not_read(tmp_path: Path):
    y = np.array([{"a": 1}] * 20, dtype=object)
    np.savez(tmp_path / "flows.npz", X=np.zeros((20, 2)), y=y)
    assert "plain arrays" in refusal(tmp_path / "flows.npz", TableColumns(label="y"))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": np.zeros((20, 2))}, "expected the arrays X and y"),
        ({"X": np.zeros((20, 2)), "y": np.zeros(19)}, "(20, 2) and y is (19,)"),
        ({"X": np.zeros(20), "y": np.zeros(20)}, "expected [n_rows, n_features]"),
        ({"X": np.full((20, 2), "a"), "y": np.zeros(20)}, "expected numbers"),
    ],
)
def test_npz_of_other_arrays_is_refused(tmp_path: Path, arrays: dict[str, Any], words: str):
    np.savez(tmp_path / "flows.npz", **arrays)
    assert words in refusal(tmp_path / "flows.npz", TableColumns(label="y"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, r"traffic\.path=FILE"),
        ({"path": "nowhere/flows.csv"}, r"not found: .*nowhere/flows\.csv.*traffic\.path"),
        ({"path": "flows.csv"}, r"traffic\.columns\.label"),
        ({"path": "flows.csv", "warmup_path": "no.csv"}, r"no\.csv.*traffic\.warmup_path"),
    ],
)
def test_what_is_missing_is_asked_for(
    tmp_path: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    words: str,
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "flows.csv", frame())
    with pytest.raises(DataError, match=words):
        make_traffic(make_config(traffic={"kind": "table", **settings}), Streams(1, 0))


def test_warmup_table_with_other_columns_is_refused(tmp_path: Path, make_config: MakeConfig):
    path = write(tmp_path / "flows.csv", frame())
    other = write(tmp_path / "other.csv", frame().drop(columns="speed"))
    columns = {"label": "label"}
    settings = {"kind": "table", "path": str(path), "warmup_path": str(other), "columns": columns}
    with pytest.raises(DataError, match=r"other\.csv has other numeric columns"):
        make_traffic(make_config(traffic=settings), Streams(1, 0))


def test_every_file_that_is_read_is_in_the_key(tmp_path: Path, make_config: MakeConfig):
    path, warmup = (write(tmp_path / name, frame()) for name in ("flows.csv", "benign.csv"))
    columns = {"label": "label", "numeric": ["size", "speed"]}
    settings = {"kind": "table", "path": str(path), "warmup_path": str(warmup), "columns": columns}
    config = make_config(traffic=settings)
    assert data_files(config) == (path, warmup)
    before = run_key(config, 1, 0)
    for changed in (path, warmup):
        changed.write_text(changed.read_text().replace("BENIGN", "scan", 1))
        after = run_key(config, 1, 0)
        assert after != before, changed
        before = after
