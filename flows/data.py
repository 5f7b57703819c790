"""The commands `quorumlab data list|fetch|check`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from sim_core.datasets import DATASETS, GITHUB, DataFile, Dataset
from sim_core.errors import UserError

if TYPE_CHECKING:
    from flows.download import Patience

data_app = typer.Typer(
    help="Known data sets: where from, licence, checksums.", no_args_is_help=True
)
FOLDER_HELP = "Folder of all data sets; default QUORUMLAB_DATA or ./data."
NameArgument = Annotated[str, typer.Argument(help="Name of the data set (quorumlab data list).")]
FolderOption = Annotated[Path | None, typer.Option("--folder", help=FOLDER_HELP)]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DEFAULT_FOLDER = Path("data")
COLOURS = {"fine": "green", "missing": "yellow", "damaged": "red"}


@dataclass(frozen=True)
class Finding:
    """What a look at one file has shown."""

    path: Path
    state: str
    """`fine`, `missing` or `damaged`."""
    found: str = ""
    """What a damaged one is in place of what it should be."""


@data_app.command("list")
def list_datasets(folder: FolderOption = None, debug: DebugOption = False) -> None:
    """Show the known data sets, and which of them are here."""
    del debug
    show_datasets(data_folder(folder), Console())


@data_app.command()
def fetch(
    name: NameArgument,
    to: Annotated[Path | None, typer.Option("--to", help=FOLDER_HELP)] = None,
    source: Annotated[
        str, typer.Option("--source", help="Another place with the same files (a mirror).")
    ] = GITHUB,
    attempts: Annotated[int, typer.Option(min=1, help="How often a server is asked.")] = 5,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds before it is asked again, doubled each time.")
    ] = 1.0,
    debug: DebugOption = False,
) -> None:
    """Download a data set from its pinned commit, and check it."""
    del debug
    from flows.download import Patience

    dataset, folder, console = find_dataset(name), data_folder(to), Console()
    patience = Patience(attempts=attempts, wait_seconds=wait)
    fetch_dataset(dataset, folder, source, console, patience)
    console.print(f"[green]{name} is complete[/] in {escape(str(folder / dataset.folder))}")
    console.print(f"Cite: {escape(dataset.citation)}")
    given = os.environ.get("QUORUMLAB_DATA")
    if not given or Path(given).expanduser().absolute() != folder.absolute():
        console.print(f"export QUORUMLAB_DATA={escape(str(folder.absolute()))}", soft_wrap=True)


@data_app.command()
def check(name: NameArgument, folder: FolderOption = None, debug: DebugOption = False) -> None:
    """Recompute the checksums of a data set; exit code 1 if a file is missing or damaged."""
    del debug
    if not check_dataset(find_dataset(name), data_folder(folder), Console()):
        raise typer.Exit(1)


def data_folder(given: Path | None) -> Path:
    """Return the folder of all data sets: as given, QUORUMLAB_DATA, or ./data."""
    return (given or Path(os.environ.get("QUORUMLAB_DATA") or DEFAULT_FOLDER)).expanduser()


def find_dataset(name: str) -> Dataset:
    """Return the data set of this name.

    Raises:
        UserError: there is none.
    """
    if name not in DATASETS:
        raise UserError(f"no data set {name!r} is known; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def show_datasets(folder: Path, console: Console) -> None:
    """Print a table of the known data sets; whether they are there goes by their checksums."""
    table = Table("name", "MB", "present", "what", show_lines=True)
    for dataset in DATASETS.values():
        where = folder / dataset.folder
        about = (
            f"{dataset.title}\nlicence: {dataset.licence}\ncite: {dataset.citation}\n"
            f"from: github.com/{dataset.repository}\nwhere: {where}"
        )
        size = f"{dataset.n_bytes / 1e6:.1f}"
        table.add_row(dataset.name, size, presence(dataset, folder), escape(about))
    console.print(table)
    console.print(f"Folder: {escape(str(folder.absolute()))}", soft_wrap=True)


def presence(dataset: Dataset, folder: Path) -> str:
    """Return `yes`, `damaged` or `no`, with how many files are there of those that must be."""
    states = [examine(dataset, file, folder).state for file in dataset.files]
    fine = states.count("fine")
    if fine == len(states):
        return "[green]yes[/]"
    if "damaged" in states:
        return "[red]damaged[/]"
    return f"no ({fine} of {len(states)} files)" if fine else "no"


def fetch_dataset(
    dataset: Dataset,
    folder: Path,
    source: str,
    console: Console,
    patience: Patience | None = None,
) -> None:
    """Download what is not there yet, or not right; progress goes to stderr.

    Raises:
        Unavailable: the server does not answer.
        QuorumlabError: what it has is not the file.
        UserError: bad address, no such file there, or the folder cannot be written.
    """
    from flows.download import download, file_url, only_one_fetches

    urls = [file_url(source, dataset, file) for file in dataset.files]
    with only_one_fetches(folder / dataset.folder), _bars() as progress:
        for file, url in zip(dataset.files, urls, strict=True):
            if examine(dataset, file, folder).state == "fine":
                console.print(f"{escape(file.path)}: there already", style="dim")
                continue
            bar = progress.add_task(escape(file.path), total=None if file.keys else file.n_bytes)
            path = folder / dataset.folder / file.path
            download(url, path, file, partial(_show, progress, bar), patience)
            console.print(f"{escape(file.path)}: fetched, {file.n_bytes:,} bytes, SHA-256 right")


def check_dataset(dataset: Dataset, folder: Path, console: Console) -> bool:
    """Print the state of each file, and return whether all are there and right."""
    findings = [examine(dataset, file, folder) for file in dataset.files]
    for finding, file in zip(findings, dataset.files, strict=True):
        mark = f"[{COLOURS[finding.state]}]{finding.state:<8}[/]"
        console.print(f"{mark} {escape(str(finding.path))}", soft_wrap=True)
        if finding.state == "damaged":
            expected = f"{file.n_bytes:,} bytes, SHA-256 {file.sha256}"
            console.print(f"         expected {expected}", soft_wrap=True)
            console.print(f"         found    {escape(finding.found)}", soft_wrap=True)
    fine = all(finding.state == "fine" for finding in findings)
    if not fine:
        console.print(f"Mend it with: quorumlab data fetch {dataset.name}")
    return fine


def examine(dataset: Dataset, file: DataFile, folder: Path) -> Finding:
    """Return what is found where a file of a data set belongs, from its content."""
    from flows.download import sha256_of

    path = folder / dataset.folder / file.path
    try:
        found, n_bytes = sha256_of(path), path.stat().st_size
    except FileNotFoundError:
        return Finding(path, "missing")
    except OSError as error:
        return Finding(path, "damaged", f"what cannot be read: {error.strerror}")
    if found == file.sha256:
        return Finding(path, "fine")
    return Finding(path, "damaged", f"{n_bytes:,} bytes, SHA-256 {found}")


def _bars() -> Progress:
    """Return bars on stderr, none where that is no terminal."""
    errors = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=errors,
        disable=not errors.is_terminal,
    )


def _show(progress: Progress, bar: TaskID, n_bytes: int) -> None:
    progress.update(bar, completed=n_bytes)
