"""Each kind that the schema offers is built, and each class that is built is offered."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

import pytest

from sim_core.adversaries import ADVERSARIES
from sim_core.config import ModelConfig
from sim_core.consensus import RULES
from sim_core.detectors import DETECTORS
from sim_core.network import DISSEMINATIONS, TOPOLOGIES
from sim_core.traffic import TRAFFIC

REGISTRIES = {
    "adversary": ADVERSARIES,
    "consensus": RULES,
    "detector": DETECTORS,
    "dissemination": DISSEMINATIONS,
    "topology": TOPOLOGIES,
    "traffic": TRAFFIC,
}


@pytest.mark.parametrize("group", REGISTRIES)
def test_schema_and_registry_have_the_same_kinds(group: str):
    registry: Collection[str] = REGISTRIES[group]
    choices = get_args(ModelConfig.model_fields[group].annotation)
    offered = [choice.model_fields["kind"].default for choice in choices]
    assert sorted(offered) == sorted(registry)
