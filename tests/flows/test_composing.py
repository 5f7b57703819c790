"""What is composed in two steps is what Hydra composes in one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from flows import composing
from flows.composing import composed
from flows.overrides import CONF

SAME = [
    [],
    ["adversary=poisoner"],
    ["adversary.share=0.2", "adversary=poisoner", "+study=quickstart"],
    ["simulation.nodes=7", "simulation.nodes=8", "experiment.name=x"],
    [
        "traffic.campaigns.1.intensity=2",
        "traffic.campaigns.0={family: worm, start: 1, duration: 2}",
    ],
    ["traffic.campaigns=[]", "signature={min_support: 9}"],
    ["adversary={kind: flipper}"],
    ["~points", "++points.a=['simulation.nodes=3']"],
    ["~cost", "++cost.missed=3", "+output.more=1"],
    ["simulation.steps=${simulation.nodes}", "simulation.nodes=31"],
    ["experiment.title='${workspace}'", "ledger=postgresql", "profile=production"],
    ["workspace='a b'", "+study=nsl_kdd_detectors", "design=grid"],
]
REFUSED = [
    ["simulation.nods=3"],
    ["nothing=3"],
    ["adversary=liar"],
    ["consensus=a,b"],
    ["simulation.nodes=1,2"],
    ["~simulation.nods"],
    ["+simulation.nodes=3"],
    ["nowhere@adversary=3"],
    ["traffic.campaigns.9.intensity=1"],
    ["simulation.nodes"],
]


@pytest.fixture(autouse=True)
def _hydra():
    with initialize_config_dir(str(CONF), version_base=None):
        yield


@pytest.mark.parametrize("overrides", SAME, ids=" ".join)
def test_values_are_those_of_one_composition(overrides: list[str]) -> None:
    once = OmegaConf.to_container(compose("config", overrides), resolve=True)
    composed("config", ["simulation.nodes=99", "experiment.seed=5"])  # leaves no traces
    for _ in range(2):
        found = composed("config", overrides)
        assert found == once
        found["points"] = "changed by whoever asked"


@pytest.mark.parametrize("overrides", REFUSED, ids=" ".join)
def test_refusals_are_those_of_one_composition(overrides: list[str]) -> None:
    with pytest.raises(HydraException) as whole:
        compose("config", overrides)
    with pytest.raises(HydraException) as parts:
        composed("config", overrides)
    assert str(parts.value) == str(whole.value)


def test_files_are_read_once_for_the_same_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def counted(config_name: str, overrides: list[str]) -> object:
        asked.append(overrides)
        return compose(config_name, overrides)

    composing._base.cache_clear()
    monkeypatch.setattr(composing, "compose", counted)
    for share in range(20):
        for rule in ("majority", "bft"):
            composed(
                "config", [f"adversary.share=0.{share}", "adversary=flipper", f"consensus={rule}"]
            )
    assert asked == [
        ["adversary=flipper", "consensus=majority"],
        ["adversary=flipper", "consensus=bft"],
    ]


def test_a_file_that_has_changed_is_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    GlobalHydra.instance().clear()
    folder = tmp_path / "conf"
    shutil.copytree(CONF, folder)
    monkeypatch.setattr(composing, "CONF", folder)
    study = folder / "study" / "mine.yaml"
    for nodes in (7, 88):
        study.write_text(f"# @package _global_\nsimulation: {{nodes: {nodes}}}\n")
        with initialize_config_dir(str(folder), version_base=None):
            assert composed("config", ["+study=mine"])["simulation"]["nodes"] == nodes
