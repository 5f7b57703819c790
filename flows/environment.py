"""Settings of Prefect, Ray, MLflow and Great Expectations that this program needs.

They are set before the libraries are imported, and only where the user has not set them.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import NoReturn

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
}
PREFECT = {
    # A temporary server takes 12 s to start on two processors, longer on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # The points of an experiment are parameters of its flow run, and there may be thousands.
    "PREFECT_SERVER_API_MAX_PARAMETER_SIZE": str(100 * 2**20),
    # Or every event that cannot be delivered is written onto the terminal.
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
}
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
SQLITE = "sqlite+aiosqlite:///"
TALKATIVE = "prefect.events.clients"
"""A logger that writes onto the terminal while Prefect's server is away."""
MLFLOW = {
    # Seven more processes, of 200 MB each, for evaluations of language models.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
RAY = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
}


def prepare_environment(workspace: Path) -> None:
    """Set what is needed; Prefect's records go to the workspace unless a server is configured."""
    for name, value in settings_for(workspace).items():
        os.environ.setdefault(name, value)


def settings_for(workspace: Path) -> dict[str, str]:
    """Return the variables that are set where the user has not set them."""
    database = workspace.expanduser().absolute() / "prefect.db"
    return QUIET | PREFECT | MLFLOW | RAY | {DATABASE: f"{SQLITE}{database}"}


def workspace_folder() -> Path:
    """Return the workspace of this process, where nothing else names one: a worker's, for instance."""
    return Path(os.environ.get("QUORUMLAB_WORKSPACE", "workspace")).expanduser().absolute()


def prefect_database() -> Path | None:
    """Return the file of Prefect's records; None where they are kept elsewhere."""
    url = os.environ.get(DATABASE, "")
    return Path(url.removeprefix(SQLITE)) if url.startswith(f"{SQLITE}/") else None


def quiet_prefect_console() -> None:
    """Take Prefect's logs off the terminal; they stay in its UI.

    Nor does the terminal show that a log could not be delivered to a server that is away.
    """
    logging.raiseExceptions = False
    from prefect.logging.handlers import PrefectConsoleHandler

    logging.getLogger(TALKATIVE).setLevel(logging.CRITICAL)
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    for logger in [logging.getLogger(), *loggers]:
        for handler in list(logger.handlers):
            if isinstance(handler, PrefectConsoleHandler):
                logger.removeHandler(handler)


_UNDELIVERABLE = Event()
ENDINGS: list[Callable[[int], None]] = []
"""Who is told the exit code where Python's own end does not happen."""


def expect_no_delivery() -> None:
    """Note that Prefect's server is away: its events would be tried for minutes at the end."""
    _UNDELIVERABLE.set()


def collect_garbage_seldom() -> None:
    """Let Python look for garbage after a hundred thousand new objects in place of 700.

    Most of what is made is a library being imported, an eighth of whose time goes there otherwise.
    """
    gc.set_threshold(100_000, 20, 20)


def leave(code: int) -> NoReturn:
    """End this process, without waiting for what cannot be delivered.

    Nor does Python look at every object once more, a second or two with all that is loaded: none of
    them is garbage that anybody waits for.
    """
    gc.freeze()
    sys.stdout.flush()
    sys.stderr.flush()
    if _UNDELIVERABLE.is_set():
        for tell in ENDINGS:
            tell(code)
        os._exit(code)
    sys.exit(code)
