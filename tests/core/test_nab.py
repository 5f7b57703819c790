"""Replay of NAB: the published streams and windows, in order, and what can be wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_core.config import ModelConfig
from sim_core.datasets import STREAMS
from sim_core.errors import DataError
from sim_core.randomness import Streams
from sim_core.traffic import data_files, make_traffic
from sim_core.traffic.nab import read_stream

MakeConfig = Callable[..., ModelConfig]
Make = Callable[..., Any]
PUBLISHED = {
    "ec2_network_in_257a54": (4_032, 1),
    "ec2_network_in_5abac7": (4_730, 2),
    "elb_request_count_8c0756": (4_032, 2),
    "iio_us-east-1_i-a2eb1cd9_NetworkIn": (1_243, 2),
    "ec2_request_latency_system_failure": (4_032, 3),
}
"""Rows and windows, from the description of the data."""
WINDOWS = "labels/combined_windows.json"
ALL = tuple(PUBLISHED)


@pytest.fixture(scope="module")
def folder(data_folder: Path) -> Path:
    return data_folder / "nab"


@pytest.fixture
def source(folder: Path, make_config: MakeConfig) -> Make:
    def make(
        *, nodes: int = 2, flows: int = 10, steps: int = 1, seed: int = 1, **settings: Any
    ) -> Any:
        config = make_config(
            simulation={"nodes": nodes, "flows_per_node": flows, "steps": steps},
            traffic={"kind": "nab", "path": str(folder), **settings},
        )
        return make_traffic(config, Streams(seed, 0))

    return make


def read_lines(path: Path) -> list[tuple[datetime, float]]:
    """Return the rows of a stream, read in the plainest way."""
    cells = [line.split(",") for line in path.read_text("ascii").splitlines()[1:]]
    return [(datetime.fromisoformat(t).replace(tzinfo=UTC), float(v)) for t, v in cells]


def in_windows(folder: Path, stream: str, rows: list[tuple[datetime, float]]) -> list[bool]:
    windows = json.loads((folder / WINDOWS).read_text())[STREAMS[stream]]
    spans = [[datetime.fromisoformat(t).replace(tzinfo=UTC) for t in w] for w in windows]
    return [any(start <= time <= end for start, end in spans) for time, _ in rows]


@pytest.mark.parametrize("stream", PUBLISHED)
def test_streams_have_the_published_rows_and_windows(folder: Path, stream: str):
    path = folder / "data" / STREAMS[stream]
    found, rows = read_stream(path, folder / WINDOWS), read_lines(path)
    assert (len(rows), found.window.max() + 1) == PUBLISHED[stream]
    assert found.value.tolist() == [value for _, value in rows]
    assert found.timestamp.tolist() == [int(t.timestamp() * 1_000) for t, _ in rows]
    assert (found.window >= 0).tolist() == in_windows(folder, stream, rows)


@pytest.mark.parametrize("lags", [1, 3])
@pytest.mark.parametrize("stream", PUBLISHED)
def test_flows_are_the_rows_after_probation_in_order(
    source: Make, folder: Path, stream: str, lags: int
):
    rows = read_lines(folder / "data" / STREAMS[stream])
    n_first = min(int(0.15 * len(rows)), 750)
    n_steps = (len(rows) - n_first) // 10
    traffic = source(files=[stream], steps=n_steps, lags=lags)
    flows = [traffic.draw(t) for t in range(n_steps)]
    value = np.array([v for _, v in rows])
    z = (value - value[:n_first].mean()) / value[:n_first].std()
    shown = np.arange(n_first, n_first + 10 * n_steps)
    x = np.concatenate([f.x[1] for f in flows])
    for lag in range(lags):
        np.testing.assert_allclose(x[:, lag], z[shown - lag], rtol=1e-4, atol=1e-5)
    y = np.concatenate([f.y[1] for f in flows])
    assert (y > 0).tolist() == np.array(in_windows(folder, stream, rows))[shown].tolist()
    pool = traffic.warmup()
    assert pool.shape == (1, n_first - lags + 1, lags)
    np.testing.assert_allclose(pool[0, :, 0], z[lags - 1 : n_first], rtol=1e-4, atol=1e-5)
    assert traffic.recording.pool_number.max() < traffic.recording.number.min()


def test_every_node_has_its_stream_and_its_pool(source: Make):
    traffic = source(files=ALL, nodes=12, flows=5)
    alone = [source(files=[stream], nodes=1, flows=5) for stream in ALL]
    flows, pools = traffic.draw(7), traffic.warmup()
    assert pools.shape[0] == 12
    for node in range(12):
        own = alone[node % 5]
        assert flows.x[node].tobytes() == own.draw(7).x[0].tobytes()
        assert {*pools[node].ravel().tolist()} == {*own.warmup().ravel().tolist()}
    again = [pools[3].ravel().tolist().count(v) for v in alone[3].warmup()[0, :5, 0].tolist()]
    assert min(again) >= 709 // 186
    assert traffic.warmup(4, 9).tobytes() == pools[4:9].tobytes()


def test_targets_are_the_windows_when_they_are_played(source: Make):
    traffic = source(files=ALL, nodes=5, flows=4)
    names = {f"{stream}_{k}" for stream, (_, n) in PUBLISHED.items() for k in range(n)}
    assert {target.name for target in traffic.targets} == names
    y = np.stack([traffic.draw(t).y for t in range(250)])
    for target in traffic.targets:
        node = ALL.index(target.name[: target.name.rindex("_")])
        hit = np.flatnonzero((y[:, node] > 0).any(axis=1)).tolist()
        steps = range(target.start, target.start + target.duration)
        assert target.family == 1
        assert [s for s in steps if s < 250] == [s for s in hit if s in steps]
    assert len(source(files=ALL, nodes=1).targets) == 1, "streams that nobody replays"
    references = traffic.references()
    recording = traffic.recording
    in_window = set(recording.values[recording.label > 0, 0].tolist())
    assert references.shape == (10, 64, 1)
    assert set(references.ravel().tolist()) <= in_window
    assert len({found.tobytes() for found in references}) == 10


def test_records_have_the_times_and_bytes_of_the_file(source: Make, folder: Path):
    traffic = source(files=["ec2_network_in_5abac7", "ec2_request_latency_system_failure"])
    flows = traffic.draw(20)
    node, flow = (index.ravel() for index in np.indices(flows.y.shape))
    records = traffic.describe(20, flows, node, flow)
    for k, stream in enumerate(("ec2_network_in_5abac7", "ec2_request_latency_system_failure")):
        rows = read_lines(folder / "data" / STREAMS[stream])
        n_first = min(int(0.15 * len(rows)), 750)
        shown = rows[n_first + 200 :][:10]
        mine = node == k
        assert records.timestamp[mine].tolist() == [int(t.timestamp() * 1_000) for t, _ in shown]
        n_bytes = [round(v) if k == 0 else 0 for _, v in shown]
        assert records.bytes_transferred[mine].tolist() == n_bytes


def test_nothing_is_drawn(source: Make):
    one, other = source(seed=1), source(seed=2)
    assert not one.replicates_differ
    assert "alike" in one.note
    assert one.draw(3).x.tobytes() == other.draw(3).x.tobytes()


# --- what can be wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 343}, r"257a54\.csv, node 0: its 3428 rows last for 342 "),
        (
            {"files": ALL, "nodes": 5, "steps": 106},
            r"iio.*\.csv, node 3: its 1057 rows last for 105",
        ),
        ({"lags": 256, "files": [ALL[3]]}, r"iio.*\.csv: the first 186 rows .*fewer lags"),
        ({"warmup_share": 0.001}, r"257a54\.csv: the first 4 rows"),
    ],
)
def test_stream_that_is_too_short_is_named(source: Make, settings: dict[str, Any], words: str):
    with pytest.raises(DataError, match=words):
        source(**settings)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for name in ("data", "labels"):
        shutil.copytree(folder / name, tmp_path / "nab" / name, copy_function=shutil.copyfile)
        (tmp_path / "nab" / name).chmod(0o755)
    return tmp_path / "nab"


def test_files_in_the_key_are_the_streams_and_the_windows(copy: Path, make_config: MakeConfig):
    settings = {"kind": "nab", "path": str(copy), "files": ALL[:2]}
    found = data_files(make_config(traffic=settings))
    assert found == (*(copy / "data" / STREAMS[s] for s in ALL[:2]), copy / WINDOWS)
    assert len({path.name for path in found}) == 3


@pytest.mark.parametrize("missing", [f"data/{STREAMS[ALL[0]]}", WINDOWS])
def test_missing_file_is_named(source: Make, copy: Path, missing: str):
    (copy / missing).rename(copy / "elsewhere")
    with pytest.raises(DataError, match=r"not found: .*quorumlab data fetch nab") as refused:
        source(path=str(copy))
    assert str(copy / missing) in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("251643.0", "n/a", r"row 2, column value: 'n/a' is not a finite number"),
        ("2014-04-10 00:09:00", "10 April", r"row 3, column timestamp: '10 April' is not a date"),
        ("timestamp,", "time,", r"no column timestamp"),
        ("251643.0", "251644.0", r"SHA-256"),
    ],
)
def test_damaged_stream_is_named(source: Make, copy: Path, old: str, new: str, words: str):
    path = copy / "data" / STREAMS[ALL[0]]
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=words) as refused:
        source(path=str(copy))
    assert path.name in str(refused.value)


def test_windows_of_the_whole_benchmark_are_as_good_and_changed_ones_are_refused(
    source: Make, copy: Path
):
    path = copy / WINDOWS
    windows = json.loads(path.read_text())
    path.unlink()
    upstream = {"artificialNoAnomaly/art_noisy.csv": [], **windows, "realTweets/other.csv": []}
    path.write_text(json.dumps(upstream, indent=4))
    assert source(path=str(copy)).draw(0).x.tobytes() == source().draw(0).x.tobytes()
    path.write_text(json.dumps(upstream).replace("2014-04-14 23:59", "2014-04-14 23:54"))
    with pytest.raises(DataError, match=r"combined_windows\.json.*SHA-256"):
        source(path=str(copy))
    for content in ("{", "[]", "{}", '{"realAWSCloudwatch/ec2_network_in_257a54.csv": [["soon"]]}'):
        path.write_text(content)
        with pytest.raises(DataError, match=r"combined_windows\.json"):
            source(path=str(copy))
