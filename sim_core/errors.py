"""Every error that quorumlab raises on purpose, drawn once.

QuorumlabError
├── UserError              the user's mistake: exit code 2
│   ├── ConfigurationError     a key, a value or a combination of them
│   ├── DataError              a data file: missing, damaged, of the wrong shape
│   ├── WorkspaceError         a workspace that cannot be written or is newer than this program
│   └── ExperimentConflict     the name exists and holds another experiment
├── Unavailable            a service that must answer before work starts: exit code 3
├── Interrupted            stopped from outside or by another owner, resumable: exit code 130
│   └── OwnershipLost          another driver has claimed the run
├── RunFailed              one run ended without a result
│   ├── RunTimeout             it passed limits.max_seconds
│   └── RunTooLarge            its process passed limits.memory_mb
├── ServiceLost            a service that was there is gone in the midst of work, resumable
├── WorkerDied             the process that executed runs is gone; they go on in another
├── LedgerFailed           the database does not write any more: full, broken, away for too long
├── CheckpointUnwritten    a checkpoint cannot be written: disk full or broken
├── FileUnwritten          a file of results cannot be written; the ledger has what it says
└── CheckpointMismatch     a checkpoint that is damaged or belongs to something else

What becomes of each, and what the user reads, is in `error_table`.
"""

from __future__ import annotations

from pathlib import Path


class QuorumlabError(Exception):
    """Root of all errors raised on purpose; `str(error)` is one paragraph for the user."""

    exit_code = 1


class UserError(QuorumlabError):
    """The user's mistake: says what is wrong, where, and what to do."""

    exit_code = 2


class ConfigurationError(UserError):
    """A configuration that cannot be run."""


class DataError(UserError):
    """A data file that is missing, damaged or of the wrong shape."""


class WorkspaceError(UserError):
    """A workspace that cannot be used."""


class ExperimentConflict(UserError):
    """An experiment of this name exists and is a different one."""


class Unavailable(QuorumlabError):
    """A service that is needed before work starts does not answer."""

    exit_code = 3


class Interrupted(QuorumlabError):
    """Stopped from outside; the same command goes on where it was."""

    exit_code = 130


class OwnershipLost(Interrupted):
    """Another driver has claimed this run; what this one still holds is dropped."""


class RunFailed(QuorumlabError):
    """A run ended without a result."""


class RunTimeout(RunFailed):
    """A run passed `limits.max_seconds`."""


class RunTooLarge(RunFailed):
    """The process of a run passed `limits.memory_mb`."""


class ServiceLost(QuorumlabError):
    """A service that was there is gone in the midst of work; the same command goes on."""


class WorkerDied(QuorumlabError):
    """The process that executed runs is gone; they may go on in another."""


class LedgerFailed(QuorumlabError):
    """The ledger database cannot be written or read; what was committed before stays."""


class CheckpointUnwritten(QuorumlabError):
    """A checkpoint cannot be written; the one before it stays."""


class FileUnwritten(QuorumlabError):
    """A file of results cannot be written; it can be made again from the ledger."""


class CheckpointMismatch(QuorumlabError):
    """A checkpoint that cannot be used here."""

    def __init__(self, path: Path | str, *, expected: object, found: object) -> None:
        """Keep the evidence: which file, what was expected, what was found."""
        super().__init__(f"checkpoint {path}: expected {expected}, found {found}")
        self.path, self.expected, self.found = path, expected, found
