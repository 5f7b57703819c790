"""Designs from overrides to points: the same validation, the same plan, and no composing of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.compose import compose_experiment
from flows.designs import design_points
from flows.dry_run import show_dry_run
from sim_core.config import ExperimentConfig
from sim_core.errors import ConfigurationError
from sim_core.plan import Plan, plan_runs

SHARE = "+design.factors.adversary.share"
FLIPPER = "adversary=flipper"


def planned(*overrides: str, multirun: bool = False) -> Plan:
    return plan_runs(*compose_experiment(list(overrides), multirun=multirun))


def test_a_grid_gives_the_runs_that_a_sweep_gives():
    generated = planned(
        "design=grid",
        "design.factors={adversary: [flipper, poisoner], adversary.share: [0.1, 0.3]}",
    )
    swept = planned("adversary=flipper,poisoner", "adversary.share=0.1,0.3", multirun=True)
    assert generated.labels == swept.labels
    assert generated.key == swept.key
    assert [run.spec.run_key for run in generated.runs] == [run.spec.run_key for run in swept.runs]


def test_one_of_several_campaigns_may_vary():
    _, points = compose_experiment(
        ["design=list", "design.factors={traffic.campaigns.1.intensity: [0.5, 2.0]}"]
    )
    found = [[c["intensity"] for c in p.settings["traffic"]["campaigns"]] for p in points]
    assert found == [[1.0, 0.5, 1.0], [1.0, 2.0, 1.0]]


def test_drawn_points_have_numbers_for_labels_and_their_values_in_the_plan():
    plan = planned(
        FLIPPER,
        "design=sobol",
        "design.samples=8",
        "design.factors={adversary.share: {low: 0.1, high: 0.4}, simulation.nodes: "
        "{low: 10, high: 100, integer: true, log: true}, voting.mode: [detector, competence]}",
    )
    assert plan.labels == tuple(f"p{n}" for n in range(1, 9))
    assert {tuple(values) for values in plan.values} == {
        ("adversary.share", "simulation.nodes", "voting.mode")
    }
    assert all(0.1 <= float(str(v["adversary.share"])) <= 0.4 for v in plan.values)
    assert {type(config.simulation.nodes) for config in plan.configs} == {int}


def test_a_thousand_points_are_composed_once():
    """What takes time is Hydra: it composes the base, and each choice of a group."""
    words = [
        "design=random",
        "design.samples=1000",
        "design.factors={adversary: [flipper, poisoner], adversary.share: {low: 0, high: 0.5}}",
    ]
    config, points = compose_experiment(words)
    composed: list[list[str]] = []

    def compose(choices: list[str]) -> dict[str, Any]:
        composed.append(choices)
        return compose_experiment(choices)[0].model_dump(mode="json")

    assert design_points(config, compose) == points
    assert len(points) == 1000
    assert sorted(composed) == [["adversary=flipper"], ["adversary=poisoner"]]


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        (
            "{adversary.shar: [0.1]}",
            "no key 'adversary.shar' with adversary=flipper.*did you mean adversary.share",
        ),
        ("{nodes: [1]}", "no key 'nodes'"),
        ("{simulation.steps: [10, 20]}", "the beginning of a long one"),
        ("{simulation: [1]}", "no key 'simulation'; did you mean simulation"),
        ("{adversary.share: {low: 0.1, high: 1.5}}", "adversary.share: high 1.5: .*less than or"),
        (
            "{simulation.nodes: {low: 0, high: 9, integer: true}}",
            "simulation.nodes: low 0: .*great",
        ),
        ("{simulation.nodes: {low: 1, high: 9}}", "simulation.nodes: between .* add integer: true"),
        ("{voting.mode: [detector, coin]}", "voting.mode: value 'coin'"),
        ("{executor.num_cpus: [1, 2]}", "executor.num_cpus never changes a result"),
        ("{adversary: {low: 0, high: 1}}", "adversary is a group and takes a list of its choices"),
        ("{adversary: [flipper, flopper]}", "flopper"),
        ("{adversary: ['${oc.env:HOME}']}", "interpolations"),
    ],
)
def test_a_factor_that_cannot_be_is_told_in_words(factors: str, words: str):
    with pytest.raises(ConfigurationError, match=words):
        compose_experiment([FLIPPER, "design=grid", "design.levels=3", f"design.factors={factors}"])


def test_a_design_has_no_sweep_and_no_study_besides():
    words = ["design=grid", "design.factors={simulation.nodes: [10, 20]}"]
    with pytest.raises(ConfigurationError, match="no sweep besides"):
        compose_experiment([*words, "consensus=majority,supermajority"], multirun=True)
    with pytest.raises(ConfigurationError, match="no points of a study besides"):
        compose_experiment([*words, "+study=quickstart"])


def test_a_dry_run_of_many_points_shows_the_first_and_the_last(tmp_path: Path):
    console = Console(record=True, width=100)
    words = ["design=random", "design.samples=300", "experiment.replicates=2", FLIPPER]
    config, points = compose_experiment(
        [*words, f"{SHARE}={{low: 0, high: 0.5}}", f"workspace={tmp_path}", "simulation.nodes=10"]
    )
    show_dry_run(config, points, console)
    shown = console.export_text()
    assert "300: p1, p2" in shown
    assert "... p300" in shown
    assert "600 of 100 steps" in shown
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_it_has_found_in_a_table(tmp_path: Path):
    rows = [
        f"{k % 7},{k % 5},{'scan' if k % 10 == 0 else 'leak' if k == 13 else 'normal'}"
        for k in range(100)
    ]
    table = tmp_path / "flows.csv"
    table.write_text("\n".join(["ports,bytes,kind", *rows]) + "\n")
    console = Console(record=True, width=60)
    config, points = compose_experiment([
        "traffic=table", f"traffic.path={table}", "traffic.columns.label=kind", "simulation.nodes=4",
        "traffic.warmup_share=0.2", f"workspace={tmp_path / 'none'}",
    ])  # fmt: skip
    show_dry_run(config, points, console)
    shown = console.export_text()
    assert f"{table}: 82 rows to replay" in shown
    assert "71 benign, 1 leak, 10 scan" in shown
    assert "18 benign rows besides" in shown
    assert "2: ports, bytes" in shown


@pytest.mark.parametrize(
    ("nodes", "words"),
    [(3, "one each"), (2, "the rows of several"), (5, "share theirs with others")],
)
def test_a_dry_run_says_how_ids_are_spread_over_nodes(tmp_path: Path, nodes: int, words: str):
    table = tmp_path / "flows.csv"
    rows = [f"{k % 7},host{k % 3},{'scan' if k % 10 == 0 else 'normal'}" for k in range(300)]
    table.write_text("\n".join(["ports,host,kind", *rows]) + "\n")
    console = Console(record=True, width=60)
    config, points = compose_experiment([
        "traffic=table", f"traffic.path={table}", "traffic.columns.label=kind",
        "traffic.columns.node=host", "traffic.split=column", f"simulation.nodes={nodes}",
        f"workspace={tmp_path / 'none'}",
    ])  # fmt: skip
    show_dry_run(config, points, console)
    shown = console.export_text()
    assert f"{nodes}, for 3 different values of the id column: " in shown
    assert words in shown


def test_an_experiment_with_a_design_grows_by_more_samples(run_plainly: Callable[..., Any]):
    words = (
        "experiment.name=drawn",
        "experiment.replicates=2",
        "simulation={nodes: 8, flows_per_node: 10, steps: 5}",
        FLIPPER,
        "design=sobol",
        f"{SHARE}={{low: 0, high: 0.5}}",
    )
    first = run_plainly(*words, "design.samples=2")
    more = run_plainly(*words, "design.samples=4")
    assert first.counts["finished"] == 4
    assert more.counts == first.counts | {"planned": 8, "finished": 8, "reused": 4}


def test_a_stored_experiment_has_its_points_without_the_design_being_made_again(
    run_plainly: Callable[..., Any], tmp_path: Path
):
    run_plainly(
        "experiment.replicates=1",
        "simulation={nodes: 8, flows_per_node: 10, steps: 3}",
        "design=grid",
        "design.factors={simulation.nodes: [8, 9]}",
    )
    folder = next((tmp_path / "workspace" / "experiments").iterdir())
    summary = json.loads((folder / "summary.json").read_text())
    assert [p["point"] for p in summary["points"]] == [
        {"simulation.nodes": 8},
        {"simulation.nodes": 9},
    ]
    from flows.launch import stored_experiment

    config, points = stored_experiment(tmp_path / "workspace", folder.name)
    assert isinstance(config, ExperimentConfig)
    assert config.design.kind == "grid"
    assert [point.label for point in points] == ["nodes-8", "nodes-9"]
