"""prefect.yaml on a real server, with a worker: forms, triggers, refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.service import Service
from tests.program import PATIENCE_SECONDS, POLL_SECONDS

DEPLOYED = ("experiment", "sweep", "hourly-canary", "clean")


@pytest.fixture(scope="module")
def service(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return deployments with a worker; nothing of them is due by the clock."""
    folder = tmp_path_factory.mktemp("service")
    made = Service(prefect_api, folder, {})
    made.deploy(*DEPLOYED)
    for name in ("canary/hourly-canary", "clean/clean"):
        (schedule,) = made.get(f"deployments/name/{name}")["schedules"]
        address = f"deployments/{schedule['deployment_id']}/schedules/{schedule['id']}"
        answer = made.call("PATCH", address, json={"active": False})
        assert answer.status_code == 204, answer.text
    made.start_worker()
    yield made
    made.stop()


def test_form_has_choices_bounds_and_help(service: Service) -> None:
    schema = service.get("deployments/name/sweep/sweep")["parameter_openapi_schema"]
    fields = schema["properties"]
    assert "bft" in fields["consensus_rules"]["items"]["enum"]
    assert fields["nodes"]["items"]["maximum"] == 10_000
    assert fields["nodes"]["maxItems"] == 20
    assert fields["shares_of_liars"]["items"]["maximum"] == 1
    assert "from 2 to 10,000" in fields["nodes"]["description"]
    assert all(field["description"] for field in fields.values()), fields


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"shares_of_liars": [2]}, "2 is greater than the maximum of 1"),
        ({"consensus_rules": ["dictator"]}, "'dictator' is not one of"),
        ({"nodes": ["many"]}, "'many' is not of type 'integer'"),
    ],
)
def test_what_the_form_does_not_allow_is_refused_when_it_is_sent(
    service: Service, parameters: dict[str, Any], told: str
) -> None:
    answer = service.ask("sweep/sweep", parameters)
    assert answer.status_code == 409
    assert told in answer.text


def test_what_gets_past_the_form_is_refused_by_the_flow(service: Service) -> None:
    sent = service.ask("sweep/sweep", {"nodes": [10_001]}, enforce_parameter_schema=False)
    assert sent.status_code == 201, sent.text
    number = sent.json()["id"]
    service.wait_for_state(number, "FAILED")
    assert "less than or equal to 10000" in service.get(f"flow_runs/{number}")["state"]["message"]


def test_nobody_makes_a_worker_write_outside_of_its_workspace(service: Service) -> None:
    elsewhere = service.folder / "elsewhere"
    number = service.trigger(["executor=inline", "tracking=off"], elsewhere)
    service.wait_for_state(number, "FAILED")
    assert "works in its worker's" in service.get(f"flow_runs/{number}")["state"]["message"]
    assert not elsewhere.exists()


def test_triggered_sweep_is_carried_out_and_shows_its_results(service: Service) -> None:
    asked = {
        "name": "triggered",
        "adversaries": ["poisoner"],
        "shares_of_liars": [0.1, 0.2],
        "nodes": [8],
        "steps": 5,
        "replicates": 2,
        "executor": "inline",
    }
    hostile = service.folder / "hostile"
    answer = service.ask("sweep/sweep", asked, job_variables={"command": f"touch {hostile}"})
    assert answer.status_code == 201, answer.text
    service.wait_for_state(answer.json()["id"], "COMPLETED")
    assert not hostile.exists(), "whoever triggers a flow cannot say what the worker executes"
    assert (service.folder / "workspace/experiments/triggered/report.html").exists()
    artifacts = service.post("artifacts/filter", {}).json()
    assert {"results", "verdicts"} <= {found["key"] for found in artifacts}


@pytest.mark.slow  # it waits for the clock
def test_what_is_due_by_the_clock_is_carried_out_again_and_again(service: Service) -> None:
    deployment = service.get("deployments/name/clean/clean")["id"]
    schedules = f"deployments/{deployment}/schedules"
    every = {"active": True, "schedule": {"interval": 5.0}}
    added = service.post(schedules, [every])
    assert added.status_code == 201, added.text
    asked = {
        "deployments": {"id": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
    }
    end = time.monotonic() + PATIENCE_SECONDS
    ended: list[dict[str, Any]] = []
    while len(ended) < 2:
        assert time.monotonic() < end, service.output()
        time.sleep(POLL_SECONDS)  # between two looks
        ended = service.post("flow_runs/filter", asked).json()
    gone = service.call("DELETE", f"{schedules}/{added.json()[0]['id']}")
    assert gone.status_code == 204, gone.text
    assert all(run["auto_scheduled"] for run in ended)
    assert {run["state"]["type"] for run in ended} == {"COMPLETED"}
