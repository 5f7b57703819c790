"""`/metrics`, `/health` and `/ready` of an experiment at work, on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from sim_core.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

HOST = "127.0.0.1"
Health = Mapping[str, str]
"""State of each component: ok, or what is wrong with it."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # a client that says nothing keeps no thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        del format, args


@contextmanager
def serving(
    port: int, figures: CollectorRegistry, health: Callable[[], Health], ready: Callable[[], bool]
) -> Iterator[None]:
    """Answer requests while the block lasts.

    Args:
        port: Of the loopback.
        figures: What `/metrics` shows.
        health: What `/health` shows; 503 where a component is not ok.
        ready: Whether `/ready` is answered with 200: runs are executed.

    Raises:
        ConfigurationError: the port is taken.
    """
    from prometheus_client import make_wsgi_app

    metrics = make_wsgi_app(figures)

    def application(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environment.get("PATH_INFO")
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environment, start)
            return answer
        if path == "/health":
            found = dict(health())
            is_well = all(state == "ok" for state in found.values())
            return _say(start, is_well, {"status": "ok" if is_well else "ill", "components": found})
        if path == "/ready":
            return _say(start, ready(), {"ready": ready()})
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/metrics, /health, /ready\n"]

    try:
        server = make_server(HOST, port, application, _Server, _Quiet)
    except OSError as error:
        raise ConfigurationError(
            f"monitoring.port={port} cannot be used: {error.strerror or error}; choose another"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _say(start: StartResponse, is_well: bool, body: Mapping[str, Any]) -> list[bytes]:  # noqa: FBT001
    status = "200 OK" if is_well else "503 Service Unavailable"
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode() + b"\n"]
