"""The command `doctor`: what is right, what is not, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.examine_ledger import examine_ledger
from flows.examine_machine import examine_machine, examine_program
from flows.examine_plugins import examine_plugins
from flows.examine_services import examine_ports, examine_service
from flows.finding import Finding
from flows.service import use_services
from sim_core.workspace import Workspace

COLOURS = {"ok": "green", "warn": "yellow", "problem": "red"}


def examine(folder: Path) -> Iterator[Finding]:
    """Yield all findings about this program, this machine and a workspace."""
    workspace = Workspace(folder.expanduser().absolute())
    yield from examine_program()
    yield from examine_plugins()
    yield from examine_machine(workspace.folder)
    use_services(workspace.folder)
    yield examine_ports()
    yield examine_service("Prefect's server", "PREFECT_API_URL", is_needed=True)
    yield examine_service("MLflow's server", "MLFLOW_TRACKING_URI", is_needed=False)
    yield from examine_ledger(workspace)


def diagnose(folder: Path, console: Console, *, as_json: bool = False) -> bool:
    """Print what is found; return whether nothing keeps experiments from being run.

    Args:
        folder: The workspace, which may not be there yet.
        console: Where to print.
        as_json: Print one JSON document in place of a table.
    """
    findings = list(examine(folder))
    sound = all(finding.state != "problem" for finding in findings)
    if as_json:
        document = {"sound": sound, "findings": [asdict(finding) for finding in findings]}
        console.print_json(json.dumps(document))
        return sound
    console.print(findings_table(findings))
    counts = {state: sum(f.state == state for f in findings) for state in COLOURS}
    if sound and not counts["warn"]:
        console.print("[green]all is well[/]")
    else:
        console.print(f"problems: {counts['problem']}, warnings: {counts['warn']}")
    return sound


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return findings for the terminal, with what to do below what is found."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("looked at")
    table.add_column("found", overflow="fold")
    for finding in findings:
        text = escape(finding.found)
        if finding.advice:
            text += f"\n[bold]{escape(finding.advice)}[/]"
        colour = COLOURS[finding.state]
        table.add_row(f"[{colour}]{finding.state}[/]", finding.what, text)
    return table
