"""Every choice of every group is composed, run, checkpointed, and resumed in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from sim_core.config import ModelConfig
from sim_core.simulate import simulate
from tests.contracts.choices import EVERY, GROUPS, REPLAYED, STEPS, all_choices, leave, spec_of

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Played:
    """What runs of all choices gave, uninterrupted, and resumed in another process."""

    heads: dict[str, str] = field(default_factory=dict)
    summaries: dict[str, Any] = field(default_factory=dict)
    resumed: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Played:
    folder = tmp_path_factory.mktemp("choices")
    environment = os.environ | {"QUORUMLAB_DATA": str(data_folder)}
    found = Played()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUORUMLAB_DATA", str(data_folder))
        for choice in all_choices():
            spec = spec_of(choice, folder)
            segments = list(simulate(spec))
            assert [segment.next_step for segment in segments] == list(
                range(EVERY, STEPS + 1, EVERY)
            )
            found.heads[choice] = segments[-1].head.hex()
            found.summaries[choice] = segments[-1].summary
            leave(spec, segments[0].checkpoint, choice, folder)
    out = subprocess.run(
        [sys.executable, "-m", "tests.contracts.choices", str(folder)],
        cwd=CHECKOUT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found.resumed = json.loads(out)
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_every_kind_of_the_schema_has_a_file_of_configuration(group: str):
    members = get_args(ModelConfig.model_fields[group].annotation)
    kinds = sorted(member.model_fields["kind"].default for member in members)
    files = sorted(
        choice.split("=")[1] for choice in all_choices() if choice.startswith(f"{group}=")
    )
    assert files == kinds


@pytest.mark.parametrize("choice", all_choices())
def test_a_run_resumed_in_a_fresh_process_equals_the_uninterrupted_one(choice: str, played: Played):
    head, summary = played.resumed[choice]
    assert head == played.heads[choice]
    assert summary == json.loads(json.dumps(played.summaries[choice]))


def test_choices_of_a_group_differ_in_what_they_do(played: Played):
    """Runs that differ in nothing but a choice must not end the same (their run keys alone differ)."""
    for group in GROUPS:
        summaries = {c: s for c, s in played.summaries.items() if c.startswith(f"{group}=")}
        assert len(summaries) > 1
        distinct = {json.dumps(summary, sort_keys=True) for summary in summaries.values()}
        assert len(distinct) >= len(summaries) * 0.4, group
    assert set(REPLAYED) <= {choice.split("=")[1] for choice in played.heads}
