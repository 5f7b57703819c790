"""Dashboards and Prometheus's configuration ask for what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sim_core.config import ExecutorConfig
from tasks.alerts import AlertCounts
from tasks.prometheus import METRICS, Figures, families
from tasks.ray_start import end_ray, start_ray
from tasks.sample_resources import BUSY, Machine, ProcessTree

FOLDER = Path(__file__).resolve().parents[2] / "deployments" / "monitoring"
DASHBOARDS = sorted((FOLDER / "grafana").glob("*.json"))
NAME = re.compile(r"\b(quorumlab|ray)_[a-z0-9_]+")
LONGEST_SECONDS = 60.0


def queries(path: Path) -> list[str]:
    found: dict[str, Any] = json.loads(path.read_text())
    return [target["expr"] for panel in found["panels"] for target in panel["targets"]]


def names_in(text: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}", "", text)  # what is in braces are values of labels
    return {match.group() for match in NAME.finditer(bare)}


def test_dashboards_are_what_the_script_writes(tmp_path: Path) -> None:
    assert [path.stem for path in DASHBOARDS] == ["database", "ray", "simulation"]
    before = [path.read_bytes() for path in DASHBOARDS]
    copy = tmp_path / "write_dashboards.py"
    shutil.copy(FOLDER / "write_dashboards.py", copy)
    (tmp_path / "grafana").mkdir()
    subprocess.run([sys.executable, str(copy)], check=True)
    assert [(tmp_path / "grafana" / path.name).read_bytes() for path in DASHBOARDS] == before


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_names_a_metric_of_ours_that_exists(path: Path) -> None:
    summaries = {
        f"{name}_{end}"
        for name, n in METRICS.items()
        if n.kind == "summary"
        for end in ("sum", "count")
    }
    for query in queries(path):
        ours = {name for name in names_in(query) if name.startswith("quorumlab_")}
        assert ours <= METRICS.keys() | summaries, query
        assert names_in(query), query


def test_every_sample_that_a_dashboard_shows_exists() -> None:
    shown = {
        name
        for path in DASHBOARDS
        for query in queries(path)
        for name in re.findall(r'name="(\w+)"', query)
    }
    ray = {"ray_cpus_in_use", "ray_nodes", "ray_object_store_megabytes_in_use"}
    tree, machine = ProcessTree(1), Machine()
    there = {name.removeprefix("system/") for name in (*tree.figures(), *machine.figures(), BUSY)}
    assert shown <= there | ray | {"other_programs_cpu_percentage"}


def test_names_and_labels_are_those_that_prometheus_allows() -> None:
    nothing = Figures("e", "1", {}, 0, 0, {}, {}, {}, {}, AlertCounts(), {})
    assert {family.name for family in families(nothing)} == {
        name.removesuffix("_total") for name in METRICS
    }
    for name, named in METRICS.items():
        assert re.fullmatch(r"quorumlab_[a-z][a-z0-9_]*", name)
        assert (named.kind == "counter") == name.endswith("_total")


def test_prometheus_scrapes_the_loopback_alone() -> None:
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    targets = [
        target
        for job in config["scrape_configs"]
        for group in job.get("static_configs", [])
        for target in group["targets"]
    ]
    assert targets == ["127.0.0.1:9464", "127.0.0.1:9091"]
    if (promtool := shutil.which("promtool")) is not None:
        checked = subprocess.run(
            [promtool, "check", "config", str(FOLDER / "prometheus.yml")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stderr


@pytest.mark.slow
def test_ray_has_the_metrics_that_its_dashboard_shows() -> None:
    start_ray(ExecutorConfig(num_cpus=1))
    import ray

    try:
        port = ray.nodes()[0]["MetricsExportPort"]
        ray.get(ray.remote(lambda: 1).remote())
        wanted = {
            name
            for query in queries(FOLDER / "grafana" / "ray.json")
            for name in names_in(query)
            if name.startswith("ray_")
        }
        transport = httpx.HTTPTransport(retries=3)
        with httpx.Client(transport=transport, timeout=LONGEST_SECONDS) as client:
            missing = wanted
            end = time.monotonic() + LONGEST_SECONDS
            while missing and time.monotonic() < end:  # it reports every few seconds
                text = client.get(f"http://127.0.0.1:{port}/metrics").text
                missing = wanted - names_in(text)
        assert not missing
    finally:
        end_ray(ray)
