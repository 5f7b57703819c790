"""Starting the dashboard: Streamlit on the loopback, for one workspace."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from rich.console import Console

from flows.examine_services import answer, is_free
from flows.service import CHECKOUT, POLL_SECONDS, program_call
from sim_core.errors import RunFailed, Unavailable, UserError

APP = Path("deployments") / "dashboard" / "app.py"
HEALTH = "/_stcore/health"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
HOST = "127.0.0.1"
MOST_PORTS = 100
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""With a server of MLflow that is away: a page says so, and is asked again."""


def dashboard_words(host: str, port: str) -> list[str]:
    """Return how Streamlit is called: for this machine, told nobody, no foreign page let in."""
    settings = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": host,
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
        "theme.light.primaryColor": "#0072B2",
        "theme.dark.primaryColor": "#4aa3df",
    }
    words = ["streamlit", "run", str(CHECKOUT / APP)]
    for name, value in settings.items():
        words += [f"--{name}", value]
    return words


def dashboard_environment(folder: Path) -> dict[str, str]:
    """Return what the dashboard is told: whose workspace it shows, and where the program is."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    return {"QUORUMLAB_WORKSPACE": str(folder), "PYTHONPATH": path, **IMPATIENT}


def serve_dashboard(folder: Path, console: Console, *, port: int) -> None:
    """Serve the dashboard of a workspace until it is interrupted.

    Args:
        folder: The workspace; there may be none yet.
        console: Where to show the address.
        port: The first to try; the next free one is taken.

    Raises:
        UserError: this is no checkout.
        Unavailable: no port is free, or Streamlit does not start.
        RunFailed: it ended by itself.
    """
    if not (CHECKOUT / APP).is_file():
        raise UserError(f"{CHECKOUT} has no {APP}: the dashboard is served from a checkout")
    place = folder.expanduser().absolute()
    chosen = next((p for p in range(port, port + MOST_PORTS) if is_free(p)), None)
    if chosen is None:
        raise Unavailable(f"no port from {port} to {port + MOST_PORTS - 1} is free")
    call = program_call(dashboard_words(HOST, str(chosen)), dashboard_environment(place))
    process = subprocess.Popen(**call, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(process, f"http://{HOST}:{chosen}{HEALTH}")
        console.print(f"dashboard of {place}: http://{HOST}:{chosen}", soft_wrap=True)
        console.print("Ctrl-C ends it")
        code = process.wait()
    finally:
        _end(process)
    raise RunFailed(f"the dashboard has ended by itself, with exit code {code}")


def _wait(process: subprocess.Popen[bytes], health: str) -> None:
    """Return when the dashboard answers.

    Raises:
        Unavailable: it has ended, or takes too long.
    """
    end = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            raise Unavailable(f"Streamlit ended with exit code {process.returncode}, see above")
        try:
            return answer(health)
        except Unavailable as error:
            if time.monotonic() > end:
                raise Unavailable(f"the dashboard does not answer: {error}") from error
        time.sleep(POLL_SECONDS)  # between two looks


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
