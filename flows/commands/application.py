"""What all commands share: the application they belong to, and options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sim_core.errors import UserError

app = typer.Typer(
    name="quorumlab",
    help="Batch experiments on decentralised threat detection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", envvar="QUORUMLAB_WORKSPACE", help="Folder of everything kept."),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DEFAULT_WORKSPACE = Path("workspace")


def with_workspace(words: Sequence[str]) -> list[str]:
    """Return overrides with the workspace that the environment names, unless they name one."""
    workspace = os.environ.get("QUORUMLAB_WORKSPACE")
    if workspace and not any(word.startswith("workspace=") for word in words):
        return [*words, f"workspace={workspace}"]
    return list(words)


def refuse_words(words: Sequence[str]) -> None:
    """Check that nothing is asked for that would be left out in silence.

    Raises:
        UserError: there is a word.
    """
    if words:
        raise UserError(f"--summary looks at profiles that are there: leave out {' '.join(words)}")
