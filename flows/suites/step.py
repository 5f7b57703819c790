"""How long a step takes, beside what it cannot do without, and beside plainer ways to do it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from flows.benchmarks.cases import Case, Group
from flows.benchmarks.machine import peak_mb
from sim_core.config import ModelConfig
from sim_core.model import NetworkModel

FOREVER = 10_000_000
FEATURES = 8
MEMORY_NODES = 100_000
SETTLED_STEPS = 40
"""Steps before the first sample: attacks are confirmed by then, blacklists hold their signatures."""


def network(nodes: int, flows: int, **groups: Any) -> ModelConfig:
    """Return a network under three attacks that never end, with room for 8 signatures."""
    campaigns = [
        {
            "family": family,
            "start": start,
            "duration": FOREVER,
            "node_share": 0.5,
            "flow_share": share,
        }
        for family, start, share in (
            ("port_scan", 5, 0.02),
            ("ddos", 10, 0.02),
            ("exfiltration", 15, 0.02),
        )
    ]
    settings: dict[str, Any] = {
        "simulation": {"nodes": nodes, "flows_per_node": flows, "steps": FOREVER},
        "traffic": {"kind": "synthetic", "mixture_alpha": 0.3, "campaigns": campaigns},
        "response": {"blacklist_capacity": 8},
    }
    return ModelConfig.model_validate(settings | groups)


def timed(work: Callable[[], object], times: int) -> Callable[[], float]:
    """Return a function that does the work several times and returns the seconds of one."""

    def call() -> float:
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) / times

    return call


def stepping(config: ModelConfig, *, steps: int, per: int = 1, settled: int = SETTLED_STEPS) -> Any:
    """Return what opens a model and times its steps; seconds are divided by `per`."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        model = NetworkModel(config, seed=1)
        for _ in range(settled):
            model.step()
        call = timed(model.step, steps)
        yield lambda: call() / per
        model.close()

    return opened


def drawing(nodes: int, flows: int) -> Any:
    """Return what times the drawing of as many normals as a step needs, with NumPy alone."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        rng = np.random.default_rng(1)
        out = np.empty(nodes * flows * FEATURES, dtype=np.float32)
        yield timed(lambda: rng.standard_normal(out=out, dtype=np.float32), 10)

    return opened


def oracle(config: ModelConfig, *, steps: int, settled: int) -> Any:
    """Return what times the steps of the plain per-agent model of the tests."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        model = import_module("tests.oracle.model").OracleModel(config, seed=1, replicate=0)
        for _ in range(settled):
            model.step()
        yield timed(model.step, steps)

    return opened


def refitting(nodes: int, flows: int, window: int) -> Any:
    """Return what times scikit-learn's forest, fitted per node and step on its window."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        from sklearn.ensemble import IsolationForest

        rng = np.random.default_rng(1)
        windows = rng.standard_normal((nodes, window, FEATURES))
        seen = rng.standard_normal((nodes, flows, FEATURES))

        def step() -> None:
            for node in range(nodes):
                forest = IsolationForest(random_state=node).fit(windows[node])
                forest.score_samples(seen[node])

        yield timed(step, 1)

    return opened


def sharding(config: ModelConfig, n_shards: int, *, steps: int) -> Any:
    """Return what times the steps of one network over Ray actors."""

    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        from tasks.on_ray import open_network

        with open_network(config, n_shards) as model:
            for _ in range(SETTLED_STEPS):
                model.step()
            yield timed(model.step, steps)

    return opened


@contextmanager
def memory() -> Iterator[Callable[[], float]]:
    """Give what measures the peak of a fresh process with 100,000 nodes, in MB."""
    code = (
        "import json; from flows.suites.step import large_network_peak;"
        "print(json.dumps(large_network_peak()))"
    )

    def call() -> float:
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)  # noqa: S603 - our own code
        return float(json.loads(out.stdout))

    yield call


def large_network_peak() -> float:
    """Return the peak resident set of this process after some steps of a large network, in MB."""
    model = NetworkModel(network(MEMORY_NODES, 20), seed=1)
    for _ in range(30):
        model.step()
    return peak_mb()


def step_suite() -> list[Group]:
    """Return the cases of the suite `step`."""
    groups = []
    for nodes, steps in ((100, 20), (1_000, 3)):
        config, size = network(nodes, 100), f"{nodes}x100x8"
        cases = [
            Case(f"step_{size}", "ms/step", stepping(config, steps=steps)),
            Case(f"rng_{size}", "ms", drawing(nodes, 100), yardstick=True),
        ]
        if find_spec("tests") is not None and find_spec("tests.oracle") is not None:
            few = 5 if nodes == 100 else 3
            cases.append(
                Case(
                    f"oracle_{size}",
                    "ms/step",
                    oracle(config, steps=1, settled=20),
                    few,
                    yardstick=True,
                )
            )
        ratios = ((f"step_{size}", f"rng_{size}"), (f"oracle_{size}", f"step_{size}"))
        groups.append(Group(tuple(cases), ratios))
    forest = network(50, 20, detector={"kind": "isolation_forest"})
    groups.append(
        Group(
            (
                Case("isolation_forest_50", "ms/step", stepping(forest, steps=50)),
                Case(
                    "isolation_forest_refit_50",
                    "ms/step",
                    refitting(50, 20, 512),
                    3,
                    yardstick=True,
                ),
            ),
            (("isolation_forest_refit_50", "isolation_forest_50"),),
        )
    )
    for suffix, kind in (("", "ledger"), ("_push", "push")):
        groups.append(_sizes(suffix, kind))
    large = network(20_000, 100)
    groups.append(
        Group(
            tuple(
                Case(f"shards_{n}", "ms/step", sharding(large, n, steps=5), repeat=11)
                for n in (1, 2)
            ),
            (("shards_1", "shards_2"),),
        )
    )
    groups.append(Group((Case("memory_100000", "MB", memory, repeat=1, scale=1.0),)))
    return groups


def _sizes(suffix: str, dissemination: str) -> Group:
    cases = []
    for nodes, steps, repeat in (
        (100, 100, None),
        (1_000, 20, None),
        (10_000, 5, 7),
        (100_000, 2, 5),
    ):
        config = network(nodes, 20, dissemination={"kind": dissemination})
        cases.append(
            Case(
                f"nodes_{nodes}{suffix}",
                "µs/node/step",
                stepping(config, steps=steps, per=nodes),
                repeat=repeat,
                scale=1e6,
            )
        )
    smallest = f"nodes_100{suffix}"
    return Group(tuple(cases), tuple((case.name, smallest) for case in cases[1:]))
