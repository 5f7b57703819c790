"""The thread that tells Prefect of progress never outlives its flow with a traceback."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from tasks import show_in_prefect
from tasks.show_in_prefect import ProgressArtifact


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what threads have raised."""
    found: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    return found


@pytest.mark.parametrize("is_over", [True, False])
def test_client_that_the_flow_has_closed_is_an_error_only_while_the_flow_goes_on(
    monkeypatch: pytest.MonkeyPatch, raised: list[Any], *, is_over: bool
) -> None:
    """A server that takes too long is still being told when the flow ends."""
    client = httpx.Client()
    asked, may_go_on = threading.Event(), threading.Event()

    def tell(*_: Any, **__: Any) -> None:
        asked.set()
        may_go_on.wait()
        client.get("http://127.0.0.1:9")

    monkeypatch.setattr(show_in_prefect, "create_progress_artifact", tell)
    monkeypatch.setattr(show_in_prefect, "LONGEST_GOODBYE_SECONDS", 0.01)
    progress = ProgressArtifact(10)
    assert asked.wait(60)
    if is_over:
        progress.close()
    client.close()
    may_go_on.set()
    progress._thread.join(60)
    assert [type(each.exc_value) for each in raised] == ([] if is_over else [RuntimeError])
