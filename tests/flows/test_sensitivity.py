"""The command `sensitivity` on tiny experiments: figures, words, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.sensitivity import report_sensitivity
from sim_core.errors import UserError

Flow = Callable[..., Any]
SMALL = ("simulation={nodes: 8, flows_per_node: 10, steps: 20}", "experiment.replicates=2")
FACTORS = (
    "design.factors={simulation.nodes: {low: 4, high: 12, integer: true}, "
    "signature.cooldown_steps: {low: 2, high: 10, integer: true}}"
)
SALTELLI = (*SMALL, "experiment.name=indices", "design=saltelli", "design.samples=4", FACTORS)
MORRIS = (*SMALL, "experiment.name=effects", "design=morris", "design.samples=3", FACTORS)


@pytest.fixture(scope="module")
def indices(run_plainly_in: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with an experiment of a saltelli design."""
    folder = tmp_path_factory.mktemp("indices")
    run_plainly_in(folder, *SALTELLI)
    return folder


def reported(folder: Path, name: str, *metrics: str) -> str:
    console = Console(record=True, width=120)
    report_sensitivity(folder, name, metrics, console)
    return console.export_text()


def as_json(folder: Path, name: str, *metrics: str) -> Any:
    console = Console(record=True, width=120)
    report_sensitivity(folder, name, metrics, console, as_json=True)
    return json.loads(console.export_text())


def test_indices_of_a_real_experiment(indices: Path):
    found = as_json(indices, "indices", "messages_sent")
    assert (found["samples"], found["replicates"]) == (4, 2)
    metric = found["metrics"]["messages_sent"]
    by_factor = {f["factor"]: f for f in metric["factors"]}
    nodes, cooldown = by_factor["simulation.nodes"], by_factor["signature.cooldown_steps"]
    assert nodes["total"]["value"] > cooldown["total"]["value"]
    assert nodes["total"]["low"] <= nodes["total"]["value"] <= nodes["total"]["high"]
    parts = metric["variance"]
    assert parts["parameters"]["value"] + parts["seeds"]["value"] == pytest.approx(1)
    text = reported(indices, "indices", "messages_sent")
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if "simulation.nodes" in line)
    assert "signature.cooldown_steps" in lines[first + 1], "what matters most comes first"
    assert "is the parameters'" in text
    assert "4 samples" in text


def test_effects_of_a_real_experiment(run_plainly: Flow, tmp_path: Path):
    run_plainly(*MORRIS)
    folder = tmp_path / "workspace"
    factors = as_json(folder, "effects", "messages_sent")["metrics"]["messages_sent"]["factors"]
    by_factor = {f["factor"]: f for f in factors}
    nodes = by_factor["simulation.nodes"]
    assert nodes["mu"]["value"] > 0, "larger networks send more"
    assert nodes["mu_star"]["value"] > by_factor["signature.cooldown_steps"]["mu_star"]["value"]
    text = reported(folder, "effects", "messages_sent")
    assert "3 trajectories" in text
    assert "by seeds alone" in text


def test_without_names_main_metrics_are_shown_and_others_say_why_not(indices: Path):
    found = as_json(indices, "indices")
    assert "messages_sent" in found["metrics"]
    assert all(
        reason.startswith(("it is undefined in", "it is the same"))
        for reason in found["left_out"].values()
    )
    assert found["left_out"], "of so small a network some are the same everywhere"
    assert "it is the same in all runs" in reported(indices, "indices")


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("f2", "f2: there is no such metric; there are .*f1"),
        ("infected_share", "undefined in 28 of 28 runs"),
    ],
)
def test_a_metric_that_was_asked_for_has_figures_or_the_command_fails(
    indices: Path, metric: str, words: str
):
    with pytest.raises(UserError, match=words):
        reported(indices, "indices", metric)


def test_only_replicates_that_all_points_have_count_and_more_samples_may_be_added(
    run_plainly: Flow, tmp_path: Path
):
    folder = tmp_path / "workspace"
    two = (*SALTELLI, "design.samples=2")
    run_plainly(*two, "experiment.replicates=1")
    text = reported(folder, "indices", "messages_sent")
    assert "With one replicate, what seeds do counts as if the parameters did it" in text
    assert "2 samples" in text
    rule = "{metrics: [messages_sent], half_width: 100, minimum: 2, step: 1, maximum: 3}"
    outcome = run_plainly(*SALTELLI, f"experiment.until={rule}")
    found = as_json(folder, "indices", "messages_sent")
    assert (found["samples"], found["replicates"]) == (4, 2)
    assert outcome.counts["finished"] > 2 * found["points"]
    assert "only replicates that all points have" in reported(folder, "indices", "messages_sent")


def test_an_experiment_without_such_a_design_is_refused(run_plainly: Flow, tmp_path: Path):
    run_plainly(*SMALL, "experiment.replicates=1", "experiment.name=other")
    with pytest.raises(UserError, match=r"design=none; sensitivity needs .*saltelli"):
        reported(tmp_path / "workspace", "other")
    with pytest.raises(UserError, match="no experiment 'nothing'"):
        reported(tmp_path / "workspace", "nothing")
