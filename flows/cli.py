"""The command `quorumlab`."""

from __future__ import annotations

import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer
from typer.exceptions import TyperException

from flows.commands import experiments, measuring, results, services
from flows.commands.application import app
from flows.data import data_app
from flows.environment import collect_garbage_seldom, leave
from flows.handover import hand_over
from sim_core.error_table import Trouble
from sim_core.errors import Interrupted, QuorumlabError, RunFailed, UserError

MODULES = (experiments, results, measuring, services)
"""Importing them adds their commands."""
app.add_typer(data_app, name="data", rich_help_panel=results.PANEL)


def main() -> None:
    """Run the command line; every error ends as a paragraph on stderr and an exit code."""
    collect_garbage_seldom()
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv
    try:
        if (handed := hand_over(sys.argv[1:])) is not None:
            leave(handed)
        code = app(standalone_mode=False)
    except QuorumlabError as error:
        _fail(error, _label(error), error.exit_code, debug=debug)
    except TyperException as error:
        usage: Any = error  # all of them can show themselves
        usage.show()
        leave(usage.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(error, "interrupted", Interrupted.exit_code, debug=debug)
    if code == Interrupted.exit_code:  # typer has caught a KeyboardInterrupt
        _fail(KeyboardInterrupt(), "interrupted", code, debug=debug)
    leave(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> Any:
    del number, frame
    raise KeyboardInterrupt


def _label(error: QuorumlabError) -> str:
    if isinstance(error, UserError):
        return "error"
    if isinstance(error, Interrupted):
        return "interrupted"
    return "failed" if isinstance(error, RunFailed) else "error"


def _fail(error: BaseException, label: str, code: int, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    text = str(error) or Trouble.STOPPED.tell()
    print(f"quorumlab: {label}: {text}", file=sys.stderr)
    leave(code)


if __name__ == "__main__":
    main()
