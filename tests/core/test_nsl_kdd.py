"""Replay of NSL-KDD: the published files, what can be wrong with them, and published figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from sim_core.config import ModelConfig, NslKddTraffic
from sim_core.detectors import make_detector
from sim_core.errors import DataError
from sim_core.metrics import summarise
from sim_core.model import NetworkModel
from sim_core.randomness import Streams
from sim_core.traffic import make_traffic
from sim_core.traffic.nsl_kdd import (
    ATTACKS,
    COLUMNS,
    FAMILIES,
    NUMERIC,
    nsl_kdd_files,
    read_nsl_kdd,
)
from sim_core.traffic.rows import Rows

TEST, TRAIN = "KDDTest+.txt", "KDDTrain+_20Percent.txt"
MakeConfig = Callable[..., ModelConfig]


@pytest.fixture(scope="module")
def folder(data_folder: Path) -> Path:
    return data_folder / "nsl-kdd"


@pytest.fixture
def source(folder: Path, make_config: MakeConfig) -> Callable[..., Any]:
    """Return a function from settings to a source over a few nodes with many flows."""

    def make(*, seed: int = 1, **settings: Any) -> Any:
        config = make_config(
            simulation={"nodes": 4, "flows_per_node": 2_000},
            traffic={"kind": "nsl_kdd", "path": str(folder), **settings},
        )
        return make_traffic(config, Streams(seed, 0))

    return make


# --- the published files ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "n_rows", "n_normal", "n_kinds"),
    [(TRAIN, 25_192, 13_449, 21), (TEST, 22_544, 9_711, 37)],
)
def test_files_have_the_published_rows(
    folder: Path, file: str, n_rows: int, n_normal: int, n_kinds: int
):
    rows = read_nsl_kdd(folder / file)
    lines = (folder / file).read_text("ascii").splitlines()
    assert rows.values.shape == (n_rows, 38)
    assert (rows.label == 0).sum() == n_normal
    assert (rows.label > 0).sum() == n_rows - n_normal
    cells = [line.split(",") for line in lines]
    assert len({cell[-2] for cell in cells} - {"normal"}) == n_kinds
    at = COLUMNS.index("src_bytes")
    assert rows.bytes_transferred.tolist() == [int(cell[at]) for cell in cells]
    numeric = [COLUMNS.index(name) for name in NUMERIC]
    for row in (0, 17, n_rows - 1):
        assert rows.values[row].tolist() == [float(cells[row][c]) for c in numeric]
        expected = 0
        for k, family in enumerate(FAMILIES, 1):
            if cells[row][-2] in ATTACKS[family].split():
                expected = k
        assert rows.label[row] == expected


def test_columns_are_the_documented_ones():
    assert len(COLUMNS) == 43
    assert len(NUMERIC) == 38
    assert not {"label", "difficulty", "protocol_type", "service", "flag"} & set(NUMERIC)
    assert len({name for names in ATTACKS.values() for name in names.split()}) == 39


def test_columns_constant_in_the_benign_warmup_are_dropped(source: Any, folder: Path):
    rows = read_nsl_kdd(folder / TRAIN)
    benign = rows.values[rows.label == 0]
    varying = [n for i, n in enumerate(NUMERIC) if len(set(benign[:, i].tolist())) > 1]
    assert list(source().feature_names) == varying
    assert "num_outbound_cmds" not in varying


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_scaler_is_fitted_on_the_benign_warmup_rows(source: Any, folder: Path, transform: str):
    traffic = source(transform=transform)
    pool = traffic.warmup()
    assert pool.shape[:2] == (1, 13_449)
    np.testing.assert_allclose(pool[0].mean(axis=0, dtype=float), 0, atol=1e-4)
    np.testing.assert_allclose(pool[0].std(axis=0, dtype=float), 1, rtol=1e-3)
    rows = read_nsl_kdd(folder / TEST)
    flows = traffic.draw(0)
    train = read_nsl_kdd(folder / TRAIN)
    column = NUMERIC.index("dst_host_count")
    change = np.log1p if transform == "log1p" else np.asarray
    benign = change(train.values[train.label == 0, column])
    expected = (change(rows.values[flows.origin, column]) - benign.mean()) / benign.std()
    found = flows.x[..., traffic.feature_names.index("dst_host_count")]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_drawn_rows_carry_their_own_label_protocol_and_bytes(source: Any, folder: Path):
    traffic, rows = source(), read_nsl_kdd(folder / TEST)
    flows = traffic.draw(2)
    assert flows.y.tolist() == rows.label[flows.origin].tolist()
    node, flow = (index.ravel() for index in np.indices(flows.y.shape))
    records = traffic.describe(2, flows, node, flow)
    origin = flows.origin.ravel()
    assert records.bytes_transferred.tolist() == rows.bytes_transferred[origin].tolist()
    assert records.protocol.tolist() == rows.protocol[origin].tolist()


def test_rows_are_drawn_evenly_with_replacement(source: Any):
    traffic = source()
    origin = np.concatenate([traffic.draw(step).origin.ravel() for step in range(20)])
    counts = np.bincount(origin, minlength=22_544)
    assert len(counts) == 22_544
    assert counts.mean() == pytest.approx(7.1, abs=0.1)
    assert counts.var() == pytest.approx(counts.mean(), rel=0.05), "Poisson, nearly"


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_attacks_have_the_share_that_is_asked_for(source: Any, share: float):
    traffic = source(attack_share=share)
    y = np.concatenate([traffic.draw(step).y.ravel() for step in range(5)])
    assert (y > 0).mean() == pytest.approx(share, abs=0.01)
    assert set(np.unique(y[y > 0]).tolist()) == ({1, 2, 3, 4} if share else set())


def test_rows_of_both_classes_are_drawn_evenly_whatever_the_share(source: Any, folder: Path):
    traffic, label = source(attack_share=0.3), read_nsl_kdd(folder / TEST).label
    origin = np.concatenate([traffic.draw(step).origin.ravel() for step in range(10)])
    for rows in (np.flatnonzero(label == 0), np.flatnonzero(label > 0)):
        place = np.searchsorted(rows, origin[np.isin(origin, rows)]) / len(rows)
        assert np.histogram(place, bins=4, range=(0, 1))[0] / len(place) == pytest.approx(
            0.25, abs=0.02
        )


def test_attack_share_of_the_file_without_another(source: Any):
    y = np.concatenate([source().draw(step).y.ravel() for step in range(5)])
    assert (y > 0).mean() == pytest.approx(12_833 / 22_544, abs=0.01)


def test_warmup_rows_of_the_same_file_are_not_replayed(source: Any):
    traffic = source(warmup_file=TEST, warmup_share=0.3)
    n_pool = round(0.3 * 9_711)
    assert traffic.warmup().shape[1] == n_pool
    origin = np.concatenate([traffic.draw(step).origin.ravel() for step in range(20)])
    assert origin.max() == 22_544 - n_pool - 1
    benign = int((traffic.recording.label == 0).sum())
    assert not set(traffic.recording.pool_number.tolist()) & set(traffic.recording.number.tolist())
    assert benign == 9_711 - n_pool
    assert source(warmup_file=TEST, warmup_share=0.3, seed=2).warmup().tobytes() != (
        traffic.warmup().tobytes()
    )


def test_no_benign_rows_left_is_an_error_where_some_are_needed(source: Any):
    with pytest.raises(DataError, match=rf"{TEST.replace('+', '.')}.*warmup_share"):
        source(warmup_file=TEST, warmup_share=1.0)
    only_attacks = source(warmup_file=TEST, warmup_share=1.0, attack_share=1.0)
    assert (only_attacks.draw(0).y > 0).all()


def test_folder_is_the_path_or_that_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("QUORUMLAB_DATA", str(folder.parent))
    assert nsl_kdd_files(NslKddTraffic()) == (folder / TEST, folder / TRAIN)
    monkeypatch.setenv("QUORUMLAB_DATA", "/nowhere")
    assert nsl_kdd_files(NslKddTraffic(path=str(folder))) == (folder / TEST, folder / TRAIN)


# --- what can be wrong with a file --------------------------------------------------------

LINE = ",".join(["0", "tcp", "http", "SF", *["1"] * 37, "normal", "21"])


def damaged(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / TEST
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def cell(column: str, value: str) -> str:
    cells = LINE.split(",")
    cells[COLUMNS.index(column)] = value
    return ",".join(cells)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        read_nsl_kdd(path)
    assert refused.value.exit_code == 2
    message = str(refused.value)
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("src_bytes", "NaN"),
        ("src_bytes", ""),
        ("count", "many"),
        ("serror_rate", "inf"),
        ("serror_rate", "1e999"),
        ("dst_host_srv_rerror_rate", "nan"),
        ("label", "unheard_of"),
        ("label", ""),
        ("protocol_type", "sctp"),
    ],
)
def test_wrong_value_is_named_with_file_row_and_column(tmp_path: Path, column: str, value: str):
    message = refusal(damaged(tmp_path, LINE, LINE, cell(column, value), LINE))
    assert "row 3" in message
    assert f"column {column}" in message
    assert repr(value) in message


@pytest.mark.parametrize(
    ("line", "n_columns"),
    [(LINE[:40], LINE[:40].count(",") + 1), (LINE + ",0", 44), ("", 1), ("no;commas", 1)],
)
def test_truncated_or_foreign_line_is_named_with_file_and_row(
    tmp_path: Path, line: str, n_columns: int
):
    message = refusal(damaged(tmp_path, LINE, line, LINE))
    assert "row 2" in message
    assert f"{n_columns} columns, expected 43" in message


def test_bytes_that_are_no_text_are_named_with_file_and_row(tmp_path: Path):
    path = damaged(tmp_path, LINE, LINE)
    path.write_bytes(path.read_bytes() + b"0,t\xffp" + LINE[5:].encode())
    assert "row 3" in refusal(path)


def test_empty_file_is_refused(tmp_path: Path):
    path = tmp_path / TEST
    path.write_bytes(b"")
    refusal(path)


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    (tmp_path / TEST).mkdir()
    assert "cannot be read" in refusal(tmp_path / TEST)


def test_one_byte_changed_is_refused_with_both_checksums(folder: Path, tmp_path: Path):
    content = bytearray((folder / TEST).read_bytes())
    path = tmp_path / TEST
    path.write_bytes(content)
    whole = read_nsl_kdd(path)
    assert isinstance(whole, Rows)
    at = content.index(b",0.04,") + 4
    content[at] ^= 1  # 0.04 becomes 0.05: a plausible file
    path.write_bytes(content)
    message = refusal(path)
    assert "SHA-256" in message
    assert "fa46b0935342616aa83b7c2578db355b6a7aaabbc492248172c7a1e8b7ab8f84" in message


@pytest.mark.parametrize("missing", [TEST, TRAIN])
def test_missing_file_is_named_with_what_to_do(
    tmp_path: Path, make_config: MakeConfig, missing: str
):
    for name in {TEST, TRAIN} - {missing}:
        (tmp_path / name).write_text(LINE)
    config = make_config(traffic={"kind": "nsl_kdd", "path": str(tmp_path)})
    with pytest.raises(DataError) as refused:
        NetworkModel(config)
    assert str(tmp_path / missing) in str(refused.value)
    assert "traffic.path" in str(refused.value)


def test_no_folder_at_all_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("QUORUMLAB_DATA", raising=False)
    with pytest.raises(DataError, match=r"traffic\.path=FOLDER, or QUORUMLAB_DATA"):
        nsl_kdd_files(NslKddTraffic())


def test_benign_rows_that_are_all_the_same_cannot_scale_anything(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sim_core.traffic.nsl_kdd.require_published", lambda *_: None)
    for name in (TRAIN, TEST):
        damaged(tmp_path, *[LINE] * 9, cell("label", "neptune")).rename(tmp_path / name)
    config = make_config(traffic={"kind": "nsl_kdd", "path": str(tmp_path)})
    with pytest.raises(DataError, match=r"KDDTrain.*constant"):
        NetworkModel(config)


# --- published figures --------------------------------------------------------------------

# reference/detectors.md: trained on the benign rows of KDDTrain+_20Percent, tested on KDDTest+.
PUBLISHED = {
    ("zscore", "none"): 0.898,
    ("mahalanobis", "none"): 0.924,
    ("zscore", "log1p"): 0.939,
    ("mahalanobis", "log1p"): 0.955,
}


def rank_auroc(score: Any, is_attack: Any) -> float:
    """Return the AUROC from ranks (Mann and Whitney 1947)."""
    n, m = int(is_attack.sum()), int((~is_attack).sum())
    return float((rankdata(score)[is_attack].sum() - n * (n + 1) / 2) / (n * m))


@pytest.mark.parametrize(("kind", "transform"), PUBLISHED)
def test_auroc_is_the_published_one(
    kind: str, transform: str, folder: Path, make_config: MakeConfig
):
    config = make_config(
        simulation={"nodes": 20, "flows_per_node": 1_000, "steps": 8},
        traffic={"kind": "nsl_kdd", "path": str(folder), "transform": transform},
        detector={"kind": kind, "learn": False},
        signature={"min_support": 1_000},  # what nodes confirm would not change a score
    )
    model = NetworkModel(config, seed=1)
    for _ in range(8):  # 160,000 draws: every row about 7 times
        model.step()
    found = summarise(model.collect(), model.traffic.targets, 8)["auroc"]
    detector: Any = make_detector(config.detector, Streams(1, 0))
    traffic: Any = model.traffic
    state = detector.init(1, traffic.warmup())
    score = detector.score(state, traffic.recording.values[None])[0]
    exact = rank_auroc(score, traffic.recording.label > 0)
    model.close()
    print(f"AUROC {kind}, {transform}: {found:.4f} in the model, {exact:.4f} over all rows")
    assert exact == pytest.approx(PUBLISHED[kind, transform], abs=0.02)
    assert found == pytest.approx(PUBLISHED[kind, transform], abs=0.02)
    assert found == pytest.approx(exact, abs=0.005)
