"""What people trigger in Prefect's UI, and what is due by the clock: the flows of prefect.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import ParameterTypeError
from prefect.schedules import Cron
from prefect.utilities.importtools import import_object
from sqlalchemy import text

from flows import deployed, forms
from flows.inspect import opened
from flows.overrides import CONF
from sim_core.errors import ConfigurationError, RunFailed, UserError

ROOT = Path(__file__).parents[2]
NOT_IN_FORMS = {"topology": {"edge_list"}}  # needs a file


def deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return found


@pytest.mark.parametrize(
    ("group", "choices"),
    [
        ("study", forms.Study),
        ("profile", forms.Profile),
        ("executor", forms.Executor),
        ("detector", forms.Detector),
        ("topology", forms.Topology),
        ("dissemination", forms.Dissemination),
        ("consensus", forms.Consensus),
        ("adversary", forms.Adversary),
    ],
)
def test_forms_offer_what_there_is(group: str, choices: Any) -> None:
    there = {path.stem for path in (CONF / group).glob("*.yaml")}
    assert set(get_args(choices)) == there - NOT_IN_FORMS.get(group, set())


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: d["name"])
def test_every_deployment_names_a_flow_and_what_it_can_be_asked(deployment: dict[str, Any]) -> None:
    flow = import_object(deployment["entrypoint"])
    assert "quorumlab" in deployment["tags"]
    assert deployment["description"]
    assert deployment["work_pool"] == {"name": "quorumlab"}
    flow.validate_parameters(
        flow_arguments(flow) | deployment.get("parameters", {})
        if deployment["name"] not in ("experiment", "compare")
        else flow_arguments(flow)
    )
    for schedule in deployment.get("schedules", []):
        assert set(schedule) <= {"cron", "timezone", "slug", "parameters"}
        Cron(schedule["cron"], schedule["timezone"])
        flow.validate_parameters(flow_arguments(flow) | schedule.get("parameters", {}))


def flow_arguments(flow: Any) -> dict[str, Any]:
    needed = {
        "config": {},
        "points": [],
        "experiments": ["one"],
    }
    return {key: needed[key] for key in flow.parameters.required}


def test_words_of_the_worker_hold_where_the_form_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert deployed.workers_words(["executor=inline"]) == []
    monkeypatch.setenv("QUORUMLAB_OVERRIDES", "ledger=postgresql executor=processes")
    assert deployed.workers_words(["executor=inline"]) == ["ledger=postgresql"]
    assert deployed.workers_words(["+study=quickstart"]) == [
        "ledger=postgresql",
        "executor=processes",
    ]


def test_pool_lets_nobody_name_a_command_or_an_environment() -> None:
    template = json.loads((ROOT / "deployments" / "work_pool.json").read_text())
    for part in (template["job_configuration"], template["variables"]["properties"]):
        assert not {"command", "env", "working_dir"} & set(part)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the worker's workspace."""
    folder = tmp_path / "work space"
    monkeypatch.setenv("QUORUMLAB_WORKSPACE", str(folder))
    return folder


TINY: dict[str, Any] = {"nodes": [8], "steps": 5, "replicates": 2, "executor": "inline"}


def artifact(key: str) -> str:
    """Return the newest artifact of a key, as Prefect keeps it."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
        )
    return str(max(found, key=lambda a: a.created).data)


def test_a_form_becomes_a_sweep_that_can_be_compared_cleaned_and_reconciled(
    workspace: Path,
) -> None:
    deployed.reconcile()  # due by the clock before there is anything
    assert not workspace.exists()
    deployed.sweep(
        name="asked",
        adversaries=["poisoner", "silent"],
        shares_of_liars=[0.1, 0.3],
        **TINY,
    )
    summary = json.loads((workspace / "experiments" / "asked" / "summary.json").read_text())
    assert summary["counts"]["finished"] == 2 * 2 * 2
    settings = {(p["point"]["adversary"], p["point"]["adversary.share"]) for p in summary["points"]}
    assert settings == {("poisoner", 0.1), ("poisoner", 0.3), ("silent", 0.1), ("silent", 0.3)}

    deployed.compare(["asked"])
    assert (workspace / "experiments" / "asked" / "comparison.html").stat().st_size > 10_000
    assert "messages_sent" in artifact("verdicts")
    with pytest.raises(UserError, match="no experiment 'other'"):
        deployed.compare(["other"])

    deployed.clean(dry_run=True)
    assert "nothing to remove" in artifact("clean")
    deployed.reconcile()
    assert "nothing to repair" in artifact("reconcile")
    with opened(workspace) as (_, ledger):
        ledger.write(
            lambda c: c.execute(
                text("UPDATE metrics SET messages_sent = messages_sent + 1 WHERE step = 2")
            )
        )
    with pytest.raises(RunFailed, match="reconcile"):
        deployed.reconcile()
    assert "step 2" in artifact("reconcile")


def test_a_head_that_is_not_what_it_was_is_found(workspace: Path) -> None:
    deployed.canary()
    deployed.canary()
    assert artifact("canary").count("the record has") == 2
    with opened(workspace) as (_, ledger):
        ledger.write(lambda c: c.execute(text("UPDATE run SET head = replace(head, 'a', 'b')")))
    with pytest.raises(RunFailed):
        deployed.canary()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"shares_of_liars": [1.5]}, "less than or equal to 1"),
        ({"nodes": [10_001]}, "less than or equal to 10000"),
        ({"detectors": ["${oc.env:HOME}"]}, "'cusum', 'ecod'"),
        ({"name": "../outside"}, "should match pattern"),
        ({"nodes": list(range(2, 40))}, "at most 20 items"),
        ({"study": "quickstart,quorum"}, "'breaking_point'"),
    ],
)
def test_a_form_that_asks_for_what_cannot_be_is_refused_in_words(
    workspace: Path, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(ParameterTypeError, match=told):
        deployed.sweep(**asked)
    assert not workspace.exists()


def test_what_is_more_than_the_limits_is_refused_before_it_starts(workspace: Path) -> None:
    values = list(range(5_000, 5_020))
    with pytest.raises(ConfigurationError, match=r"limits\.max_runs"):
        deployed.sweep(
            nodes=values,
            replicates=1_000,
            detectors=["zscore", "ewma", "cusum", "ecod", "hbos", "mahalanobis"],
        )
    assert not workspace.exists()
