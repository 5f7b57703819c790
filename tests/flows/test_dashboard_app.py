"""The dashboard's pages without a browser: wrong input, an empty workspace; and who is let in."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.dashboard_tools import served
from tests.ports import free_port
from tests.program import Program

PAGES = ("live", "network", "ledger", "compare", "benchmarks", "advice", "start")
TINY = (
    "experiment.name=tiny",
    "simulation.nodes=6",
    "simulation.steps=4",
    "experiment.replicates=2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, run_plainly_in: Callable[..., Any]) -> Path:
    workspace = tmp_path_factory.mktemp("pages") / "workspace"
    run_plainly_in(workspace, *TINY)
    return workspace


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], AppTest]:
    """Return a function from a page and a workspace to the page as it is shown."""

    def run(page: str, workspace: Path) -> AppTest:
        monkeypatch.setenv("QUORUMLAB_WORKSPACE", str(workspace))
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        script = f"from deployments.dashboard import page_{page}\npage_{page}.show()\n"
        return AppTest.from_string(script, default_timeout=60).run()

    return run


def texts(page: AppTest) -> str:
    parts = [*page.error, *page.warning, *page.info, *page.success, *page.caption, *page.markdown]
    return "\n".join(str(part.value) for part in parts)


@pytest.mark.parametrize("name", PAGES)
def test_page_shows_a_workspace(
    name: str, folder: Path, show: Callable[[str, Path], AppTest]
) -> None:
    page = show(name, folder)
    assert not page.exception
    assert not page.error, texts(page)
    assert page.title[0].value == name.capitalize()


@pytest.mark.parametrize("name", PAGES)
def test_page_of_an_empty_workspace_says_what_to_do(
    name: str, tmp_path: Path, show: Callable[[str, Path], AppTest]
) -> None:
    page = show(name, tmp_path)
    assert not page.exception
    assert not page.error, texts(page)
    assert "quorumlab" in texts(page)
    assert not (tmp_path / "ledger.db").exists(), "looking makes nothing"


@pytest.mark.parametrize("name", ["live", "network", "ledger", "compare"])
def test_page_of_a_broken_ledger_says_what_is_wrong(
    name: str, tmp_path: Path, show: Callable[[str, Path], AppTest]
) -> None:
    (tmp_path / "ledger.db").write_text("this is no database, though it is long enough for one")
    page = show(name, tmp_path)
    assert not page.exception
    assert "ledger" in page.error[0].value


def test_wrong_beginning_of_a_key_is_told_beside_the_field(
    folder: Path, show: Callable[[str, Path], AppTest]
) -> None:
    page = show("ledger", folder)
    page.text_input(key="ledger_key").set_value("' OR 1=1 --").run()
    assert not page.exception
    assert "no beginning of a run" in page.error[0].value
    page.text_input(key="ledger_key").set_value("").run()
    assert not page.error


def test_wrong_smallest_effect_is_told(folder: Path, show: Callable[[str, Path], AppTest]) -> None:
    page = show("compare", folder)
    page.text_input(key="smallest").set_value("a lot").run()
    assert not page.exception
    assert "give a share of the baseline" in page.error[0].value


def test_comparison_is_shown_while_mlflow_is_away(
    folder: Path, show: Callable[[str, Path], AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    st.cache_data.clear()
    page = show("compare", folder)
    st.cache_data.clear()
    assert not page.exception
    assert "What MLflow has of tiny is not known now" in page.warning[0].value
    assert list(page.dataframe[0].value["n"]) == [2]


def test_metric_without_a_value_is_told_beside_what_to_do(
    folder: Path, show: Callable[[str, Path], AppTest]
) -> None:
    page = show("live", folder)
    page.selectbox(key="live_metric").set_value("reputation_dishonest").run()
    assert not page.exception
    assert "has no value in any step so far" in texts(page)
    page.selectbox(key="live_metric").set_value("tp").run()
    assert "has no value" not in texts(page)


def test_filters_that_nothing_fits_are_told(
    folder: Path, show: Callable[[str, Path], AppTest]
) -> None:
    page = show("ledger", folder)
    page.number_input(key="ledger_replicate").set_value(77).run()
    assert not page.exception
    assert "No run fits" in texts(page)


def test_without_a_password_nothing_is_started(
    folder: Path, show: Callable[[str, Path], AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = show("start", folder)
    assert "No Prefect server" in texts(page)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    page.run()
    assert "must say what Prefect asks for" in texts(page)
    assert not page.button
    page.text_input(key="prefect_password").set_value("wrong").run()
    assert not page.exception
    assert "does not answer" in page.error[0].value
    assert not page.button


def test_dashboard_listens_on_the_loopback_and_lets_no_foreign_page_in(tmp_path: Path) -> None:
    program = Program(tmp_path)
    try:
        with served(program) as address:
            listening = [
                connection.laddr.ip
                for process in psutil.Process(program.started[0].pid).children(recursive=True)
                for connection in process.net_connections(kind="tcp")
                if connection.status == psutil.CONN_LISTEN
            ]
            assert listening == ["127.0.0.1"]
            assert httpx.get(f"{address}/_stcore/health").text == "ok"
            upgrade = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            }
            codes = []
            for origin in (address, "http://evil.example"):
                headers = {**upgrade, "Origin": origin}
                with httpx.stream("GET", f"{address}/_stcore/stream", headers=headers) as reply:
                    codes.append(reply.status_code)
            assert codes == [101, 403]
            os.kill(program.started[0].pid, signal.SIGINT)
            assert program.started[0].wait(30) == 130
    finally:
        program.stop_all()


def test_port_that_is_taken_gives_way_to_the_next(tmp_path: Path) -> None:
    program = Program(tmp_path)
    try:
        with served(program) as first, served(program, int(first.rpartition(":")[2])) as second:
            assert first != second
            assert httpx.get(f"{second}/_stcore/health").text == "ok"
    finally:
        program.stop_all()
