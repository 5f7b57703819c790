"""Every adversary in the registry keeps its contract."""

from __future__ import annotations

from typing import Any

import pytest

from sim_core.config import ModelConfig
from sim_core.contracts.cases import Case
from sim_core.contracts.checks import checks_of
from sim_core.plugins.loading import built_in


def case_of(kind: str) -> Case:
    return Case.of(ModelConfig.model_validate({"adversary": {"kind": kind}}).adversary)


@pytest.mark.parametrize(
    "check",
    [c for kind in sorted(built_in("adversary")) for c in checks_of(case_of(kind), kind)],
)
def test_adversary_keeps_its_contract(check: Any):
    check()
