"""What every kind of detector, adversary and traffic source must do in a run."""

from __future__ import annotations

import json

from sim_core.config import ModelConfig
from sim_core.contracts.cases import Case
from sim_core.identity import run_key
from sim_core.simulate import RunSpec, simulate

EVERY = 4


def check_settings_come_back_from_json(case: Case) -> None:
    """A configuration is stored as JSON: what comes back is the same, and has the same key."""
    config = case.config()
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    again = ModelConfig.model_validate(stored)
    assert again == config
    assert run_key(again, 1, 0) == run_key(config, 1, 0)


def check_resumed_run_equals_uninterrupted_run(case: Case) -> None:
    """What is in a checkpoint is all that a run needs to go on with the same bits."""
    config = case.config()
    spec = RunSpec(run_key(config, 3, 0), config, seed=3, replicate=0, checkpoint_every=EVERY)
    whole = list(simulate(spec))
    resumed = list(simulate(spec, whole[0].checkpoint))
    assert resumed[-1].head == whole[-1].head
    assert json.dumps(resumed[-1].summary) == json.dumps(whole[-1].summary)


def check_same_seed_gives_the_same_run(case: Case) -> None:
    """Nothing but configuration, seed and replicate decides what happens."""
    first, second = case.network(), case.network()
    for _ in range(5):
        first.step()
        second.step()
    assert first.state.head == second.state.head


RUN_CHECKS = (
    check_settings_come_back_from_json,
    check_resumed_run_equals_uninterrupted_run,
    check_same_seed_gives_the_same_run,
)
