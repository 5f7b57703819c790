"""Downloads that are either complete and right, or not there. The only import of httpx."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sim_core.datasets import DataFile, Dataset, kept_keys
from sim_core.errors import DataError, QuorumlabError, Unavailable, UserError

LONGEST_WAIT_SECONDS = 30.0
LARGEST_UPSTREAM = 1 << 20
"""Bytes of a file that is filtered after the download, whose own size is not known."""
TRY_LATER = (408, 425, 429)

Report = Callable[[int], None]
"""Is told how many bytes of a file are there."""


@dataclass(frozen=True)
class Patience:
    """How long a server that does not answer is asked again."""

    attempts: int = 5
    wait_seconds: float = 1.0
    """Before the second attempt; twice as long before each one after it."""
    timeout_seconds: float = 30.0
    """Without a single byte."""


class _TryAgain(Exception):
    """Something that may be gone at the next attempt."""


def file_url(source: str, dataset: Dataset, file: DataFile) -> str:
    """Return where a file is fetched from.

    Raises:
        UserError: the source is no http(s) address.

    >>> from sim_core.datasets import GITHUB, NSL_KDD
    >>> file_url(GITHUB, NSL_KDD, NSL_KDD.files[0]).split("/")[-1]
    'KDDTest%2B.txt'
    """
    try:
        parts = urlsplit(source)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname)
        fine = fine and not (parts.query or parts.fragment) and parts.port != 0
        httpx.URL(source)
    except (ValueError, httpx.InvalidURL):
        fine = False
    if not fine:
        raise UserError(f"--source {source}: expected an address such as https://HOST/FOLDER")
    path = f"{dataset.repository}/{dataset.commit}/{file.upstream}"
    return f"{source.rstrip('/')}/{quote(path)}"


def is_right(path: Path, file: DataFile) -> bool:
    """Return whether a file is there and has the size and SHA-256 that it must have."""
    if not path.is_file() or path.stat().st_size != file.n_bytes:
        return False
    return sha256_of(path) == file.sha256


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextmanager
def only_one_fetches(folder: Path) -> Iterator[None]:
    """Keep other processes from fetching into a folder, which is made if it is not there.

    Raises:
        UserError: another process does, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"folder {folder} cannot be used: {error.strerror}") from error
    try:
        _lock(lock, folder)
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another command fetches into {folder}; wait until it ends") from error
    except OSError as error:
        raise UserError(f"folder {folder} cannot be locked: {error.strerror}") from error


def download(
    url: str, target: Path, file: DataFile, report: Report, patience: Patience | None = None
) -> None:
    """Put a file at `target`; what is not the file that was asked for never gets that name.

    Bytes go to a hidden file beside it, from where an interrupted download goes on. Answers that may
    change (5xx, dropped connections) are asked for again, with growing pauses.

    Raises:
        Unavailable: the server does not answer.
        QuorumlabError: what it has is not the file.
        UserError: it has no such file, or the folder cannot be written.
    """
    partial = target.with_name(f".{target.name}.part")
    patience = patience or Patience()
    try:
        if target.exists() and not target.is_file():
            raise UserError(f"{target} is in the way: it is no file. Remove or rename it")
        target.parent.mkdir(parents=True, exist_ok=True)
        resumed = partial.exists()
        _fill(url, partial, file, report, patience)
        if resumed and not _is_accepted(partial, file):  # what was there may have been damaged
            partial.unlink()
            _fill(url, partial, file, report, patience)
        if not _is_accepted(partial, file):
            _refuse(url, partial, file)
        partial.replace(target)
    except OSError as error:
        place = error.filename or target
        raise DataError(f"{place} cannot be read or written: {error.strerror}") from error


def _refuse(url: str, partial: Path, file: DataFile) -> None:
    n_bytes, sha256 = partial.stat().st_size, sha256_of(partial)
    partial.unlink()
    more = " or more" if n_bytes > file.n_bytes else ""
    raise QuorumlabError(
        f"{url} is not the file that was asked for: expected {file.n_bytes:,} bytes, SHA-256 "
        f"{file.sha256}; found {n_bytes:,} bytes{more}, SHA-256 {sha256}. Nothing of it was kept"
    )


def _is_accepted(partial: Path, file: DataFile) -> bool:
    """Return whether a complete download is right; filters it first where that belongs to it."""
    if file.keys:
        try:
            partial.write_bytes(kept_keys(partial.read_bytes(), file.keys))
        except (ValueError, RecursionError):
            return False
    return is_right(partial, file)


def _fill(url: str, partial: Path, file: DataFile, report: Report, patience: Patience) -> None:
    """Download until the server says that this is all."""
    if file.keys:  # only complete can it be filtered, and it is small
        partial.unlink(missing_ok=True)
    retrying = Retrying(
        stop=stop_after_attempt(patience.attempts),
        wait=wait_exponential(multiplier=patience.wait_seconds, max=LONGEST_WAIT_SECONDS),
        retry=retry_if_exception_type((httpx.TransportError, _TryAgain)),
        reraise=True,
    )
    try:
        with httpx.Client(timeout=patience.timeout_seconds) as client:
            retrying(_attempt, client, url, partial, file, report)
    except (httpx.HTTPError, _TryAgain) as error:
        raise Unavailable(
            f"{url} cannot be fetched: {str(error) or type(error).__name__}. {patience.attempts} "
            "attempts were made. The same command goes on from there; --source names another place"
        ) from error


def _attempt(client: httpx.Client, url: str, partial: Path, file: DataFile, report: Report) -> None:
    """Go on where the partial file ends, or from the beginning where the server cannot."""
    there = partial.stat().st_size if partial.exists() and not file.keys else 0
    if there == file.n_bytes:
        return
    if there > file.n_bytes:
        there = 0
    headers = {"Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 206 and there and _starts_at(response, there):
            _write(response, partial, file, report, there)
        elif response.status_code == 200:
            _write(response, partial, file, report, 0)
        else:
            if response.status_code in (206, 416):
                partial.unlink(missing_ok=True)
            _complain(url, response)


def _starts_at(response: httpx.Response, there: int) -> bool:
    content_range: str = response.headers.get("Content-Range", "")
    return content_range.startswith(f"bytes {there}-")


def _complain(url: str, response: httpx.Response) -> None:
    answer = f"the server answers {response.status_code} {response.reason_phrase}".rstrip()
    status = response.status_code
    if status >= 500 or status in TRY_LATER or status in (206, 416):
        raise _TryAgain(answer)
    raise UserError(f"{url} cannot be fetched: {answer}. --source names another place")


def _write(
    response: httpx.Response, partial: Path, file: DataFile, report: Report, there: int
) -> None:
    """Append what arrives after `there` bytes; more than is expected is not read."""
    largest = LARGEST_UPSTREAM if file.keys else file.n_bytes
    with partial.open("ab" if there else "wb") as output:
        for chunk in response.iter_raw():
            output.write(chunk)
            output.flush()  # a killed process leaves all that has arrived
            there += len(chunk)
            report(there)
            if there > largest:
                break
        os.fsync(output.fileno())
    if there < file.n_bytes and "Content-Length" not in response.headers:
        raise _TryAgain(f"the connection ended after {there:,} of {file.n_bytes:,} bytes")
