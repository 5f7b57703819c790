"""Settings of Prefect, Ray, MLflow and Great Expectations that this program needs.

They are set before the libraries are imported, and only where the user has not set them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

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
}
RAY = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
}


def prepare_environment(workspace: Path) -> None:
    """Set what is needed; Prefect's records go to the workspace unless a server is configured."""
    database = workspace.expanduser().absolute() / "prefect.db"
    settings = QUIET | PREFECT | RAY
    settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{database}"
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def quiet_prefect_console() -> None:
    """Take Prefect's logs off the terminal; they stay in its UI."""
    from prefect.logging.handlers import PrefectConsoleHandler

    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    for logger in [logging.getLogger(), *loggers]:
        for handler in list(logger.handlers):
            if isinstance(handler, PrefectConsoleHandler):
                logger.removeHandler(handler)
