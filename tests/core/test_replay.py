"""The replay engine: splits, orders, attack shares, pools; on real files and on small tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.errors import DataError
from sim_core.randomness import Streams
from sim_core.traffic import Flows, Traffic, make_traffic
from sim_core.traffic.base import REFERENCE_FLOWS

MakeConfig = Callable[..., ModelConfig]
Make = Callable[..., Any]
HEADER = "time,size,speed,service,host,label"
N_ROWS = 600


def lines(n_rows: int = N_ROWS) -> list[str]:
    """Return rows whose `size` is their number; every third is an attack, of two families.

    They are written backwards: the first one in time comes last.
    """
    services = ("http", "dns", "smtp", "ssh")
    found = []
    for row in range(n_rows):
        label = "normal" if row % 3 else ("flood", "scan")[row // 3 % 2]
        speed = (row * 37 % 101) / 10
        found.append(f"{row},{row},{speed},{services[row % 4]},h{row * 7 % 10},{label}")
    return found[::-1]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "flows.csv"
    path.write_text("\n".join([HEADER, *lines()]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def source(table: Path, make_config: MakeConfig) -> Make:
    """Return a function from settings to a source that replays the small table."""

    def make(
        *, nodes: int = 6, flows: int = 10, steps: int = 1, seed: int = 1, **settings: Any
    ) -> Any:
        columns = {
            "label": "label",
            "numeric": ["size", "speed"],
            "symbolic": ["service"],
            "node": "host",
            "time": "time",
        }
        config = make_config(
            simulation={"nodes": nodes, "flows_per_node": flows, "steps": steps},
            traffic={"kind": "table", "path": str(table), "columns": columns, **settings},
        )
        return make_traffic(config, Streams(seed, 0))

    return make


def sizes(traffic: Any, flows: Flows) -> NDArray[Any]:
    """Return the `size` of each flow, which is the number of its row in time."""
    return N_ROWS + 1 - traffic.recording.number[flows.origin]


def played(traffic: Any, steps: int) -> NDArray[Any]:
    """Return the numbers of the rows that each node sees `[n_nodes, n]`."""
    return np.concatenate([sizes(traffic, traffic.draw(t)) for t in range(steps)], axis=1)


# --- the pool ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["random", "time"])
@pytest.mark.parametrize("split", ["iid", "dirichlet", "column", "time"])
def test_rows_of_the_pool_are_benign_and_never_replayed(source: Make, split: str, order: str):
    traffic = source(split=split, order=order, flows=4, steps=1, split_alpha=5.0)
    pool = set((N_ROWS + 1 - traffic.recording.pool_number).tolist())
    assert len(pool) == N_ROWS * 2 // 3 // 2
    assert all(row % 3 for row in pool), "attacks in the pool"
    steps = 400 if order == "random" else 1
    seen = set(played(traffic, steps).ravel().tolist())
    assert not seen & pool
    if order == "time":
        assert max(pool) == 299, "the first benign rows in time"
    elif split != "dirichlet":
        assert seen | pool == set(range(N_ROWS)), "rows that nobody ever sees"


def test_features_are_those_of_the_rows_in_units_of_the_pool(source: Make):
    traffic = source()
    flows = traffic.draw(0)
    rows = sizes(traffic, flows)
    pool = N_ROWS + 1 - traffic.recording.pool_number
    expected = (rows - pool.mean()) / pool.std()
    assert traffic.feature_names == ("size", "speed")
    np.testing.assert_allclose(flows.x[..., 0], expected, rtol=1e-4, atol=1e-5)
    speed = (np.arange(N_ROWS) * 37 % 101) / 10
    expected = (speed[rows] - speed[pool].mean()) / speed[pool].std()
    np.testing.assert_allclose(flows.x[..., 1], expected, rtol=1e-4, atol=1e-5)
    assert traffic.families == ("flood", "scan")
    family = np.where(rows % 3, 0, rows // 3 % 2 + 1)
    assert flows.y.tolist() == family.tolist()


def test_log1p_and_one_hot(source: Make):
    traffic = source(transform="log1p", symbolic="one_hot")
    services = ("dns", "http", "smtp", "ssh")
    assert traffic.feature_names == ("size", "speed", *(f"service={s}" for s in services))
    flows = traffic.draw(0)
    rows, pool = sizes(traffic, flows), N_ROWS + 1 - traffic.recording.pool_number
    log = np.log1p(np.arange(N_ROWS))
    expected = (log[rows] - log[pool].mean()) / log[pool].std()
    np.testing.assert_allclose(flows.x[..., 0], expected, rtol=1e-4, atol=1e-5)
    is_ssh = np.arange(N_ROWS) % 4 == 3
    expected = (is_ssh[rows] - is_ssh[pool].mean()) / is_ssh[pool].std()
    np.testing.assert_allclose(flows.x[..., 5], expected, rtol=1e-4, atol=1e-5)


def test_symbols_that_the_pool_does_not_have_are_zero_in_all_columns(tmp_path: Path, source: Make):
    warmup = tmp_path / "benign.csv"
    benign = [line for line in lines() if line.endswith("normal") and "ssh" not in line]
    warmup.write_text("\n".join([HEADER, *benign]), encoding="utf-8")
    traffic = source(symbolic="one_hot", warmup_path=str(warmup))
    assert traffic.warmup().shape == (1, len(benign), 5)
    flows = traffic.draw(0)
    is_ssh = sizes(traffic, flows) % 4 == 3
    lowest = traffic.warmup().reshape(-1, 5).min(axis=0)[2:]
    assert is_ssh.any()
    assert (flows.x[is_ssh][:, 2:] == lowest).all()


# --- splits, order random ------------------------------------------------------------------


def label_counts(traffic: Any, steps: int) -> NDArray[Any]:
    """Return how many flows of each label each node saw `[n_nodes, n_labels]`."""
    y = np.concatenate([traffic.draw(t).y for t in range(steps)], axis=1)
    return np.stack([(y == k).sum(axis=1) for k in range(len(traffic.families) + 1)], axis=1)


def homogeneity(counts: NDArray[Any]) -> tuple[float, int]:
    """Return Pearson's chi-squared statistic of equal shares at all nodes, and its freedom."""
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic, (counts.shape[0] - 1) * (counts.shape[1] - 1)


def test_nodes_see_the_same_shares_of_labels_when_iid_and_others_by_dirichlet(
    data_folder: Path, make_config: MakeConfig
):
    def statistic(**settings: Any) -> tuple[float, int]:
        config = make_config(
            simulation={"nodes": 40, "flows_per_node": 500},
            traffic={"kind": "nsl_kdd", "path": str(data_folder / "nsl-kdd"), **settings},
        )
        return homogeneity(label_counts(make_traffic(config, Streams(1, 0)), 4))

    iid, freedom = statistic()
    bound = freedom + 4 * math.sqrt(2 * freedom)  # mean and 4 sd of chi-squared: p < 1e-4
    assert iid < bound
    few, _ = statistic(split="dirichlet", split_alpha=0.1)
    many, _ = statistic(split="dirichlet", split_alpha=100.0)
    assert few > 20 * bound, "alpha 0.1: mixtures far apart"
    assert bound < many < few / 5, "alpha 100: mixtures nearly alike"


def test_mixtures_have_the_moments_of_the_dirichlet_distribution(source: Make):
    alpha, nodes = 0.5, 2_000
    traffic = source(nodes=nodes, flows=200, split="dirichlet", split_alpha=alpha)
    share = label_counts(traffic, 1) / 200
    # Var of a share of Dirichlet(alpha x 3), plus that of 200 draws from it.
    expected = (1 / 3) * (2 / 3) / (3 * alpha + 1)
    expected += (1 / 3 * 2 / 3 - expected) / 200
    assert share.mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=4 * math.sqrt(0.09 / nodes))
    assert share.var(axis=0) == pytest.approx(np.full(3, expected), rel=0.1)


@pytest.mark.parametrize("nodes", [4, 10, 23])
def test_rows_of_one_id_belong_together(source: Make, nodes: int):
    traffic = source(split="column", nodes=nodes)
    for node, rows in enumerate(played(traffic, 60)):
        hosts = {row * 7 % 10 for row in rows.tolist()}
        expected = {h for h in range(10) if h % nodes == node} if nodes < 10 else {node % 10}
        assert hosts == expected


@pytest.mark.parametrize("nodes", [1, 4, 7])
def test_pieces_in_time_follow_one_another(source: Make, nodes: int):
    traffic = source(split="time", nodes=nodes)
    rows = played(traffic, 300)
    ends = [(r.min(), r.max()) for r in rows]
    assert all(a[1] < b[0] for a, b in pairwise(ends))
    counts = [len(set(r.tolist())) for r in rows]
    assert sum(counts) == 400
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("share", [0.0, 0.05, 0.7, 1.0])
@pytest.mark.parametrize("split", ["iid", "dirichlet", "time"])
def test_attack_share_holds_at_every_node(source: Make, split: str, share: float):
    traffic = source(split=split, attack_share=share, flows=1_000, split_alpha=0.2)
    counts = label_counts(traffic, 2)
    sd = math.sqrt(share * (1 - share) / 2_000)
    assert 1 - counts[:, 0] / 2_000 == pytest.approx(np.full(6, share), abs=4.5 * sd + 1e-12)
    assert [t.name for t in traffic.targets] == (["flood", "scan"] if share else [])


@pytest.mark.parametrize("split", ["iid", "dirichlet"])
def test_adding_nodes_leaves_the_flows_of_the_others_alone(source: Make, split: str):
    few = source(split=split, nodes=5, split_alpha=0.3).draw(3)
    many = source(split=split, nodes=130, split_alpha=0.3).draw(3)
    assert few.x.tobytes() == many.x[:5].tobytes()
    assert few.y.tobytes() == many.y[:5].tobytes()


@pytest.mark.parametrize("order", ["random", "time"])
@pytest.mark.parametrize("split", ["iid", "dirichlet", "column", "time"])
def test_slices_of_nodes_are_slices_of_the_whole(source: Make, split: str, order: str):
    settings: dict[str, Any] = {"split": split, "order": order, "nodes": 8, "flows": 2}
    whole, part = source(**settings).draw(1), source(**settings)
    for first, last in ((6, 8), (0, 3), (3, 6), (0, 8)):
        flows = part.draw(1, first, last)
        assert flows.x.tobytes() == whole.x[first:last].tobytes()
        assert flows.origin.tobytes() == whole.origin[first:last].tobytes()


def test_draws_of_a_class_are_even_and_independent_of_one_another(source: Make):
    traffic = source(attack_share=0.5, flows=500)
    counts = Counter(played(traffic, 100).ravel().tolist())
    for rows in ([r for r in counts if r % 3 == 0], [r for r in counts if r % 3]):
        assert len(rows) == 200
        drawn = np.array([counts[r] for r in rows])
        statistic = ((drawn - drawn.mean()) ** 2 / drawn.mean()).sum()
        assert abs(statistic - 199) < 4 * math.sqrt(2 * 199), "chi-squared of even chances"
    x = traffic.draw(0).origin.astype(float)
    assert abs(np.corrcoef(x[:, :-1].ravel(), x[:, 1:].ravel())[0, 1]) < 4 / math.sqrt(x.size)
    assert abs(np.corrcoef(x[0], x[1])[0, 1]) < 4 / math.sqrt(500)


# --- order time ----------------------------------------------------------------------------


def test_every_node_plays_the_whole_table_in_order_when_iid(source: Make):
    traffic = source(order="time", flows=20, steps=20)
    rows = played(traffic, 20)
    left = [r for r in range(N_ROWS) if not (r % 3 and r < 300)]
    assert rows.tolist() == [left] * 6
    assert not traffic.replicates_differ
    assert traffic.draw(0).x.tobytes() == source(order="time", flows=20, seed=2).draw(0).x.tobytes()


@pytest.mark.parametrize("split", ["dirichlet", "column", "time"])
def test_each_row_is_played_once_in_order_at_one_node(source: Make, split: str):
    nodes = 4
    traffic = source(order="time", split=split, nodes=nodes, flows=1, split_alpha=2.0)
    lots = traffic._plan.lots
    assert sorted(lots.rows.tolist()) == list(range(400))
    for node in range(nodes):
        steps = int(lots.size[node])
        rows = [int(sizes(traffic, traffic.draw(t, node, node + 1))[0, 0]) for t in range(steps)]
        assert rows == sorted(set(rows))


def test_labels_are_dealt_unevenly_by_a_small_alpha(source: Make):
    def share_of_largest(alpha: float) -> float:
        traffic = source(order="time", split="dirichlet", split_alpha=alpha, flows=1)
        lots, label = traffic._plan.lots, traffic.recording.label
        node = np.repeat(np.arange(len(lots.size)), lots.size)
        counts = np.stack([np.bincount(node[label[lots.rows] == k], minlength=6) for k in range(3)])
        return float((counts.max(axis=1) / counts.sum(axis=1)).mean())

    assert share_of_largest(1_000.0) < 0.25
    assert share_of_largest(1.0) > 0.3, "(1 + 1/2 + ... + 1/6) / 6 = 0.41 on average"


def test_surplus_of_a_class_is_left_out(source: Make):
    traffic = source(order="time", attack_share=0.1, flows=22, steps=10)
    rows = traffic._plan.lots.rows
    label = traffic.recording.label[rows]
    assert (label == 0).sum() == 200
    assert (label > 0).sum() == round(200 / 9)
    assert traffic.replicates_differ
    assert (np.diff(rows) > 0).all()
    more = source(order="time", attack_share=0.8, flows=25, steps=10)
    label = more.recording.label[more._plan.lots.rows]
    assert ((label == 0).sum(), (label > 0).sum()) == (50, 200)


def test_nodes_leave_out_rows_independently(source: Make, tmp_path: Path):
    warmup = tmp_path / "benign.csv"
    warmup.write_text("\n".join([HEADER, *lines()]), encoding="utf-8")
    settings = {"order": "time", "split": "time", "attack_share": 0.1}
    lots = source(nodes=2, warmup_path=str(warmup), **settings)._plan.lots
    first, second = np.split(lots.rows, [lots.size[0]])
    assert len(first) == len(second), "pieces of 300 rows with every third an attack"
    assert first.tolist() != (second - 300).tolist()


def test_targets_last_from_their_first_to_their_last_row(source: Make):
    traffic = source(order="time", split="time", nodes=2, flows=10, steps=20)
    y = np.stack([traffic.draw(t).y for t in range(20)])
    for target in traffic.targets:
        steps = np.flatnonzero((y == target.family).any(axis=(1, 2)))
        assert target.start == steps[0]
        assert target.start + target.duration - 1 == steps[-1]
        assert target.name == ("flood", "scan")[target.family - 1]


def test_references_are_rows_of_their_target(source: Make):
    traffic = source(order="time")
    values = {
        row.tobytes(): k
        for row, k in zip(traffic.recording.values, traffic.recording.label.tolist(), strict=True)
    }
    references = traffic.references()
    assert references.shape == (2, REFERENCE_FLOWS, 2)
    for target, found in zip(traffic.targets, references, strict=True):
        assert {values[row.tobytes()] for row in found} == {target.family}


# --- what cannot be done -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"order": "time", "steps": 41},
            r"node 0: its 400 rows last for 40 .*simulation\.steps=41",
        ),
        ({"order": "time", "split": "time", "steps": 7}, r"node 0: its 66 rows last for 6 "),
        ({"split": "time", "nodes": 500}, r"node 0: no row is left"),
        ({"warmup_share": 0.01}, r"4 benign rows .* at least 8 .*traffic\.warmup_share"),
        ({"warmup_share": 1.0, "attack_share": 0.5}, r"no benign row is left .*warmup_share"),
    ],
)
def test_what_rows_cannot_give_is_refused(source: Make, settings: dict[str, Any], words: str):
    with pytest.raises(DataError, match=words) as refused:
        source(**settings)
    assert "flows.csv" in str(refused.value)


def test_attack_share_without_attacks_names_the_node(source: Make, table: Path):
    quiet = [line.replace("flood", "normal").replace("scan", "normal") for line in lines()]
    noisy = [line for line in lines() if line.split(",")[4] == "h3"]
    table.write_text(
        "\n".join([HEADER, *(q for q in quiet if q.split(",")[4] != "h3"), *noisy]), "utf-8"
    )
    with pytest.raises(DataError, match=r"node 0: none of \d+ rows is an attack"):
        source(split="column", nodes=10, attack_share=0.1)
    assert source(split="column", nodes=10).draw(0).y[3].any()


def test_log1p_of_what_has_none_names_row_and_column(source: Make, table: Path):
    text = table.read_text("utf-8").replace("\n598,598,", "\n598,-2,")
    table.write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"flows\.csv, row 3, column size: -2 has no log1p"):
        source(transform="log1p", warmup_share=0.2)


def test_value_that_no_single_precision_holds_names_row_and_column(source: Make, table: Path):
    text = table.read_text("utf-8").replace("\n597,597,", "\n597,1e300,")
    table.write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"flows\.csv, row 4, column size: 1e\+300"):
        source(order="time")


# --- the real sets -------------------------------------------------------------------------


def smtp(data_folder: Path, make_config: MakeConfig, **settings: Any) -> Traffic:
    config = make_config(
        simulation={"nodes": 50, "flows_per_node": 400, "steps": 2},
        traffic={"kind": "smtp", "path": str(data_folder / "adbench"), **settings},
    )
    return make_traffic(config, Streams(1, 0))


def test_smtp_has_the_published_rows(data_folder: Path, make_config: MakeConfig):
    traffic: Any = smtp(data_folder, make_config)
    recording, path = traffic.recording, data_folder / "adbench" / "34_smtp.npz"
    with np.load(path, allow_pickle=False) as file:
        x, y = file["X"], file["y"]
    n_benign = 95_156 - 30
    assert recording.pool.shape == (1, n_benign // 2, 3)
    assert recording.values.shape == (95_156 - n_benign // 2, 3)
    assert (recording.label > 0).sum() == 30
    rows = recording.number - 1
    assert recording.label.tolist() == (y[rows] > 0).tolist()
    pool = x[recording.pool_number - 1]
    assert not y[recording.pool_number - 1].any()
    expected = (x[rows] - pool.mean(axis=0)) / pool.std(axis=0)
    np.testing.assert_allclose(recording.values, expected, rtol=1e-4, atol=1e-4)
    n_bytes = np.exp(x[rows, 1]) + np.exp(x[rows, 2]) - 0.2
    np.testing.assert_allclose(recording.bytes_transferred, n_bytes, atol=0.51)
    assert smtp(data_folder, make_config, path=str(path)).draw(0).x.tobytes() == (
        traffic.draw(0).x.tobytes()
    )


def test_attack_share_of_smtp_is_subsampled(data_folder: Path, make_config: MakeConfig):
    y = smtp(data_folder, make_config, attack_share=0.01).draw(0).y
    assert (y > 0).mean() == pytest.approx(0.01, abs=4 * math.sqrt(0.01 / y.size))


def test_smtp_in_order_is_the_file(data_folder: Path, make_config: MakeConfig):
    traffic: Any = smtp(data_folder, make_config, order="time", split="time")
    origin = np.concatenate([traffic.draw(t).origin for t in range(2)], axis=1)
    assert (np.diff(origin, axis=1) == 1).all()
    assert traffic.recording.pool_number.max() < traffic.recording.number[-1]


def test_smtp_has_no_id(make_config: MakeConfig):
    with pytest.raises(ValueError, match="smtp has no id column"):
        make_config(traffic={"kind": "smtp", "split": "column"})
