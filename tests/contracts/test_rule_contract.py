"""What every consensus rule in the registry must do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core.config import ModelConfig
from sim_core.consensus import RULES

every_kind = pytest.mark.parametrize("kind", RULES)
COUNTS = st.integers(0, 60)


def confirms(kind: str, accept: Any, base: Any) -> Any:
    config = ModelConfig.model_validate({"consensus": {"kind": kind}}).consensus
    return RULES[kind](config, np.asarray(accept), np.asarray(base))


@every_kind
def test_rule_answers_for_all_proposals_at_once(kind: str):
    accept, base = (index.ravel() for index in np.indices((12, 12)))
    together = confirms(kind, accept, base)
    assert (together.shape, together.dtype) == (accept.shape, np.bool_)
    alone = [bool(confirms(kind, [a], [b])[0]) for a, b in zip(accept, base, strict=True)]
    assert together.tolist() == alone


@every_kind
@given(accept=COUNTS, base=COUNTS)
def test_another_acceptance_never_takes_a_confirmation_back(kind: str, accept: int, base: int):
    assert confirms(kind, [accept + 1], [base])[0] >= confirms(kind, [accept], [base])[0]
    assert confirms(kind, [accept], [base + 1])[0] <= confirms(kind, [accept], [base])[0]


@every_kind
@given(base=st.integers(1, 60))
def test_all_confirm_and_half_do_not(kind: str, base: int):
    assert confirms(kind, [base], [base])[0]
    assert not confirms(kind, [base // 2], [base])[0]
    assert not confirms(kind, [0], [base])[0]
