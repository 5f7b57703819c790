"""Whether ports are free, and whether the servers that the environment names answer."""

from __future__ import annotations

import asyncio
import os
import re
import socket

import httpx

from flows.finding import Finding, State
from sim_core.errors import Unavailable

PORTS = {
    4200: "Prefect",
    5000: "MLflow",
    8501: "dashboard",
    8521: "Mesa view",
    8265: "Ray",
    9090: "Prometheus",
    9091: "push gateway",
    3000: "Grafana",
    4317: "OTLP",
    16686: "Jaeger",
}
"""All on loopback; whoever is named listens there unless told otherwise."""
PATIENCE_SECONDS = 3.0


def examine_ports(ports: dict[int, str] = PORTS) -> Finding:
    """Return which ports are taken, by a service of this project or by somebody else."""
    taken = [f"{port} ({name})" for port, name in ports.items() if not is_free(port)]
    if not taken:
        return Finding("ports", "ok", f"free: {', '.join(map(str, ports))}")
    return Finding(
        "ports",
        "warn",
        f"taken: {', '.join(taken)}",
        "right if that service is yours; otherwise give yours another port",
    )


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def examine_service(name: str, variable: str, *, is_needed: bool) -> Finding:
    """Return whether the server that a variable of the environment names answers.

    Args:
        name: Of the service.
        variable: Holds its address.
        is_needed: Whether nothing starts without it.
    """
    address = os.environ.get(variable, "")
    if not address.startswith(("http://", "https://")):
        found = f"{variable} names no server" if address else f"{variable} is not set"
        return Finding(name, "ok", f"{found}: the workspace's own is used")
    shown = re.sub(r"//[^/@\s]+@", "//***@", address)
    try:
        answer(f"{address.rstrip('/')}/health")
    except Unavailable as error:
        advice = f"start it, or unset {variable}"
        if not is_needed:
            advice += "; results are published later"
        state: State = "problem" if is_needed else "warn"
        return Finding(name, state, f"{shown} does not answer: {error}", advice)
    return Finding(name, "ok", f"{shown} answers")


def answer(url: str) -> None:
    """Return if a server answers in time, however slowly it sends.

    Raises:
        Unavailable: it does not, or with an error.
    """
    try:
        asyncio.run(_answer(url))
    except TimeoutError as error:
        raise Unavailable(f"nothing within {PATIENCE_SECONDS:g} s") from error
    except httpx.HTTPStatusError as error:
        raise Unavailable(f"status {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(str(error) or type(error).__name__) from error


async def _answer(url: str) -> None:
    """Look at the status alone: httpx's own limits begin anew with each byte that comes."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
