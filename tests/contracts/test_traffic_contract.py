"""Every traffic source in the registry keeps its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim_core.config import ModelConfig
from sim_core.contracts.cases import SMALL, Case
from sim_core.contracts.checks import CHECKS, Check
from sim_core.datasets import DATASETS
from sim_core.plugins.loading import built_in

WITH_ATTACKS: dict[str, dict[str, Any]] = {
    "synthetic": SMALL["traffic"],
    "smtp": {"attack_share": 0.1},
    "nab": {"files": ["iio_us-east-1_i-a2eb1cd9_NetworkIn"]},
    "gaussian": {"campaigns": [{"family": "ddos", "start": 2, "duration": 6}]},
}
"""Settings of sources that would have no attack in the few steps of these tests."""


@pytest.fixture(params=sorted(built_in("traffic")), scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the case of a source of this kind, with the data that it reads."""
    kind = request.param
    settings: dict[str, Any] = {"kind": kind}
    if kind == "table":
        path = tmp_path_factory.mktemp("table") / "flows.csv"
        path.write_text(some_table(), encoding="utf-8")
        columns = {"label": "label", "bytes_transferred": "bytes", "protocol": "protocol"}
        settings |= {"path": str(path), "columns": columns}
    if kind in DATASETS:
        folder: Path = request.getfixturevalue("data_folder")
        settings["path"] = str(folder / DATASETS[kind].folder)
    found = ModelConfig.model_validate({"traffic": settings}).traffic
    return Case.of(found, WITH_ATTACKS.get(kind, {}))


def some_table() -> str:
    """Return a table of flows, a fifth of them attacks."""
    rng = np.random.default_rng(5)
    lines = ["bytes,duration,protocol,label"]
    for row in range(1_000):
        label = ("normal", "normal", "scan", "normal", "normal")[row % 5]
        n_bytes, duration = rng.integers(40, 1_500), rng.exponential()
        lines.append(f"{n_bytes},{duration:.4f},{('tcp', 'udp', '1')[row % 3]},{label}")
    return "\n".join(lines)


@pytest.mark.parametrize("check", CHECKS["traffic"])
def test_source_keeps_its_contract(check: Check, case: Case):
    check(case)
