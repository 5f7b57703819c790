"""What compose.yaml starts works together: servers on PostgreSQL, a worker, one sweep from its form."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from tests.deployments.composed import DEPLOYMENTS, ROOT, Composed, interpolated, read_settings
from tests.postgres import HOW_TO_INSTALL, find_programs, postgres_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
]  # on a busy machine; half a minute on an idle one
EXAMPLE = read_settings(DEPLOYMENTS / "compose.env.example")
ROLES = {
    "quorumlab": "LEDGER_PASSWORD",
    "prefect": "PREFECT_DATABASE_PASSWORD",
    "mlflow": "MLFLOW_DATABASE_PASSWORD",
    "dashboard": "DASHBOARD_DATABASE_PASSWORD",
}
OWNERS = {name: name for name in ("quorumlab", "prefect", "mlflow")}
"""Of databases."""
READER = ("dashboard", "quorumlab")
CHANGES = (
    "DELETE FROM run",
    "UPDATE experiment SET state = 'failed'",
    "CREATE TABLE mine (a int)",
)
PAGE = """
from streamlit.testing.v1 import AppTest
page = AppTest.from_string("from deployments.dashboard import page_live; page_live.show()", default_timeout=60).run()
assert not page.exception and not page.error and not page.warning, page
print(page.selectbox(key="experiment").value, *(each.proto.body for each in page.get("html")))
"""
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
QUICKER = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "QUORUMLAB_OVERRIDES": "output.plots=false validation.engine=sql",
}
SWEEP = {
    "name": "composed",
    "adversaries": ["poisoner"],
    "shares_of_liars": [0.1, 0.2],
    "nodes": [8],
    "steps": 5,
    "replicates": 2,
    "executor": "inline",
}


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    programs = find_programs()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    made_up = {name: secrets.token_hex(16) for name in EXAMPLE} | {
        "PREFECT_AUTH_STRING": f"admin:{secrets.token_hex(16)}"
    }
    with postgres_server(programs) as server:
        made = Composed(tmp_path_factory.mktemp("composed"), made_up, server.port, QUICKER)
        make_databases(made)
        try:
            for service in ("prefect", "mlflow", "dashboard", "register", "worker"):
                made.start(service)
            for service in ("mlflow", "worker", "dashboard"):
                made.wait_until_healthy(service)
            yield made
        finally:
            made.stop()


def make_databases(made: Composed) -> None:
    """Let the script of the image's first start make the databases; from then on passwords count."""
    as_superuser = {"PGHOST": "127.0.0.1", "PGPORT": str(made.postgres_port)}
    settings = made.services["postgres"]["environment"] | as_superuser
    script = DEPLOYMENTS / "kubernetes/base/databases.sh"
    subprocess.run([script], env={**settings, "PATH": os.environ["PATH"]}, check=True)
    who = {"host": "127.0.0.1", "port": made.postgres_port, "user": "postgres"}
    with psycopg.connect(**who, dbname="postgres", autocommit=True) as connection:
        (hba,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        Path(hba).write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")


def query(made: Composed, role: str, statement: str, database: str | None = None) -> list[Any]:
    """Return rows of a database as one of its owners sees them."""
    who = {"host": "127.0.0.1", "port": made.postgres_port, "user": role}
    password = made.variables[ROLES[role]]
    with psycopg.connect(**who, password=password, dbname=database or role) as connection:
        return connection.execute(statement.encode()).fetchall()


def address(made: Composed, service: str, path: str) -> str:
    port = made.services[service]["ports"][0].rpartition(":")[2]
    return f"http://127.0.0.1:{made.places[port]}{path}"


def test_sweep_is_carried_out_with_its_ledger_in_postgresql(composed: Composed) -> None:
    words = ("prefect", "deployment", "run", "sweep/sweep", "--params", json.dumps(SWEEP))
    composed.run("worker", *words, "--watch", "--watch-interval", "1")
    runs = query(composed, "quorumlab", "SELECT state, steps FROM run")
    assert runs == [("finished", 5)] * 4
    workspace = Path(composed.places["/workspace"])
    assert (workspace / "experiments/composed/report.html").is_file()
    assert not (workspace / "ledger.db").exists()
    composed.run("worker", "quorumlab", "verify", "composed")

    states = query(
        composed, "prefect", "SELECT name, state_type FROM flow_run WHERE flow_id IS NOT NULL"
    )
    assert ("composed", "COMPLETED") in states
    published = query(composed, "mlflow", "SELECT count(*) FROM runs WHERE status = 'FINISHED'")
    assert published == [(5,)], "an experiment and its four runs"
    assert list(Path(composed.places["/artifacts"]).rglob("report.html"))


def test_registering_again_changes_nothing(composed: Composed) -> None:
    statement = "SELECT d.name, count(s.id) FROM deployment d LEFT JOIN deployment_schedule s ON s.deployment_id = d.id GROUP BY 1 ORDER BY 1"
    before = query(composed, "prefect", statement)
    composed.run("register", *composed.services["register"]["command"])
    assert query(composed, "prefect", statement) == before
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [name for name, _ in before] == sorted(entry["name"] for entry in described)


def test_prefect_asks_who_is_there(composed: Composed) -> None:
    api = address(composed, "prefect", "/api")
    for probe in ("health", "ready"):
        assert httpx.get(f"{api}/{probe}").status_code == 200, "a probe knows no password"
    assert httpx.get(f"{api}/csrf-token", params={"client": "test"}).status_code == 401
    name, _, password = composed.variables["PREFECT_AUTH_STRING"].partition(":")
    without_token = httpx.post(f"{api}/flow_runs/filter", json={}, auth=(name, password))
    assert without_token.status_code == 403, "whoever has no token is a foreign page"


def test_mlflow_answers_those_alone_who_call_it_by_its_names(composed: Composed) -> None:
    page = address(composed, "mlflow", "/api/2.0/mlflow/experiments/search?max_results=1")
    assert httpx.get(page).status_code == 200
    assert httpx.get(page, headers={"Host": "evil.example.org"}).status_code == 403


def test_dashboard_shows_the_ledger_and_cannot_change_it(composed: Composed) -> None:
    assert httpx.get(address(composed, "dashboard", "/_stcore/health")).text == "ok"
    words = composed.run("dashboard", sys.executable, "-c", PAGE)
    assert "composed" in words
    assert "finished" in words
    for statement in CHANGES:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(composed, "dashboard", statement, "quorumlab")


def test_dashboard_lets_no_page_of_others_in(composed: Composed) -> None:
    page = address(composed, "dashboard", "/_stcore/stream")
    codes = []
    for origin in (page, "http://evil.example.org"):
        with httpx.stream("GET", page, headers={**UPGRADE, "Origin": origin}) as reply:
            codes.append(reply.status_code)
    assert codes == [101, 403]


def test_roles_reach_their_own_database_alone(composed: Composed) -> None:
    for role in ROLES:
        for database in OWNERS:
            if OWNERS[database] == role or (role, database) == READER:
                assert query(composed, role, "SELECT current_user", database) == [(role,)]
            else:
                with pytest.raises(psycopg.OperationalError, match="permission denied"):
                    query(composed, role, "SELECT 1", database)


@pytest.mark.parametrize("missing", EXAMPLE)
def test_compose_refuses_without_a_secret(missing: str) -> None:
    assert EXAMPLE[missing] == "", "an example has no secrets"
    text = (DEPLOYMENTS / "compose.yaml").read_text()
    given = {name: "x" for name in EXAMPLE if name != missing}
    with pytest.raises(ValueError, match=f"{missing} is not set"):
        interpolated(yaml.safe_load(text), given)
