"""What Prefect's server is to know: the work pool, the deployments of prefect.yaml, what becomes of zombies.

    python -m flows.register [--type TYPE] [--template FILE]

registers that with the server that is configured; a second time changes nothing. It is what three
commands of Prefect's would do, in one process: each would import Prefect, and the flows, again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prefect.cli import app
from prefect.settings import get_current_settings

from flows import zombies
from flows.service import CHECKOUT
from flows.services import POOL

TEMPLATE = CHECKOUT / "deployments" / "work_pool.json"
TASK = (
    "Register with the Prefect server of PREFECT_API_URL the work pool, the deployments of "
    "prefect.yaml, and that flow runs whose process is gone are marked as crashed. A second time "
    "changes nothing."
)


def register(kind: str, template: Path) -> None:
    """Register everything; the working directory is where prefect.yaml is.

    Raises:
        SystemExit: Prefect refuses, and has said why.
    """
    pool = ("--type", kind, "--base-job-template", str(template), "--overwrite")
    _prefect("work-pool", "create", POOL, *pool)
    _prefect("--no-prompt", "deploy", "--all")
    zombies.register()


def _prefect(*words: str) -> None:
    """Carry out a command of Prefect's in this process."""
    sys.argv = ["prefect", *words]
    try:
        app()
    except SystemExit as ended:
        if ended.code:
            raise


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.register", description=TASK)
    parser.add_argument(
        "--type", default="process", help="kind of the work pool (default: process)"
    )
    parser.add_argument(
        "--template",
        type=Path,
        default=TEMPLATE,
        metavar="FILE",
        help=f"base job template of the work pool (default: deployments/{TEMPLATE.name})",
    )
    given = parser.parse_args()
    if not get_current_settings().api.url:  # Prefect would start a server, and end it with us
        parser.error("PREFECT_API_URL names no server: set it to the address of yours")
    if not given.template.is_file():
        parser.error(f"there is no {given.template}")
    register(given.type, given.template)


if __name__ == "__main__":
    main()
