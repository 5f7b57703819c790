"""What goes wrong with the services and files of an experiment, and what becomes of it.

Whoever handles an error takes the user's message from here. docs/reference/errors.md is written
from this table, and every row is shown by a test.
"""

from __future__ import annotations

from enum import Enum, StrEnum, unique

from sim_core.errors import (
    CheckpointMismatch,
    CheckpointUnwritten,
    FileUnwritten,
    Interrupted,
    LedgerFailed,
    OwnershipLost,
    QuorumlabError,
    RunFailed,
    RunTimeout,
    RunTooLarge,
    ServiceLost,
    Unavailable,
    WorkerDied,
    WorkspaceError,
)


class Handling(StrEnum):
    """What the program does about an error."""

    RETRIED = "retried"
    """It is tried again; if that does not help, the command or the run ends as the row says."""
    DEGRADED = "degraded"
    """The experiment goes on without the part that is concerned, and says so."""
    FATAL = "fatal"
    """The command ends."""


RETRIED, DEGRADED, FATAL = Handling.RETRIED, Handling.DEGRADED, Handling.FATAL
GOES_ON = "What is committed stays; the same command goes on from there"
START_PREFECT = "Start it, or unset PREFECT_API_URL, or choose orchestrator=none"


@unique
class Trouble(Enum):
    """One row of the table: a class of errors that are handled alike."""

    # name = part, what happens, handling, error it becomes, exit code, message, test elsewhere
    LEDGER_BUSY = (
        "ledger",
        "locked, deadlock, serialization failure; tried `ledger.attempts` times",
        RETRIED,
        LedgerFailed,
        1,
        "the ledger cannot go on: {reason}. Another program holds it; give the same command again",
    )
    LEDGER_AWAY = (
        "ledger",
        "connection lost, restarting, no connection free; tried `ledger.attempts` times",
        RETRIED,
        LedgerFailed,
        1,
        (
            "the ledger cannot go on: {reason}. It is back when the database is; give the same "
            "command again"
        ),
    )
    LEDGER_FULL = (
        "ledger",
        "disk full",
        FATAL,
        LedgerFailed,
        1,
        "the ledger cannot go on: {reason}. Make room on the disk and give the same command again",
    )
    LEDGER_BROKEN = (
        "ledger",
        "damaged, not readable, not writable",
        FATAL,
        LedgerFailed,
        1,
        (
            "the ledger cannot go on: {reason}. Look at the disk and the file, and run "
            "`quorumlab verify` before going on"
        ),
    )
    LEDGER_SLOW = (
        "ledger",
        "a query takes too long",
        FATAL,
        LedgerFailed,
        1,
        (
            "the ledger cannot go on: {reason}. Raise ledger.statement_timeout_seconds, or look at the "
            "slow queries in the log"
        ),
    )
    LEDGER_OTHER = (
        "ledger",
        "anything else that the database refuses",
        FATAL,
        LedgerFailed,
        1,
        "the ledger cannot go on: {reason}. What was committed before stays",
    )
    LEDGER_UNREADABLE = (
        "ledger",
        "the file cannot be opened, or is no database",
        FATAL,
        WorkspaceError,
        2,
        (
            "ledger {place} cannot be opened: {reason}. Look at the file and the disk, take a copy of "
            "yours, or choose another workspace"
        ),
    )
    LEDGER_NEWER = (
        "ledger",
        "written by a newer program",
        FATAL,
        WorkspaceError,
        2,
        (
            "{place} was written by a newer quorumlab (schema {found}, this one reads up to {head}): "
            "upgrade quorumlab, or choose another workspace"
        ),
    )
    LEDGER_OLDER = (
        "ledger",
        "written by a program that is too old",
        FATAL,
        WorkspaceError,
        2,
        (
            "{place} was written by an older quorumlab (schema {found}, this one reads from {oldest} "
            "on), whose model was another one: its runs cannot go on here. Choose another workspace; "
            "the older quorumlab still reads this one"
        ),
    )
    LEDGER_UNREACHABLE = (
        "ledger",
        "PostgreSQL does not answer at the start",
        FATAL,
        Unavailable,
        3,
        (
            "the ledger at {place} does not answer: {reason}. Is PostgreSQL running there, and is the "
            "password in PGPASSWORD or ~/.pgpass?"
        ),
    )
    LEDGER_TAKEN = (
        "ledger",
        "another process has claimed the run",
        FATAL,
        OwnershipLost,
        130,
        (
            "run {run} is now owned by another process; this one stops. The same command goes on with "
            "whatever is left"
        ),
    )
    CHECKPOINT_UNWRITTEN = (
        "checkpoint",
        "disk full or broken",
        FATAL,
        CheckpointUnwritten,
        1,
        (
            "checkpoint {place} cannot be written: {reason}. What was committed before stays: make "
            "room on the disk, or set another workspace, and give the same command again"
        ),
    )
    CHECKPOINT_DAMAGED = (
        "checkpoint",
        "missing, damaged, or of something else",
        DEGRADED,
        CheckpointMismatch,
        0,
        "{reason}; the one before it is used",
    )
    FILE_UNWRITTEN = (
        "results",
        "disk full or broken, or no place for files",
        FATAL,
        FileUnwritten,
        1,
        (
            "{place} cannot be written: {reason}. What was simulated is in the ledger: make room on "
            "the disk, or name another place, and give the same command again"
        ),
    )
    RUN_TIMEOUT = (
        "run",
        "passes `limits.max_seconds`; it has failed, the others go on",
        DEGRADED,
        RunTimeout,
        1,
        "run {run} passed limits.max_seconds={limit} at step {step} of {steps}",
    )
    RUN_TOO_LARGE = (
        "run",
        "passes `limits.memory_mb`; it has failed, the others go on",
        DEGRADED,
        RunTooLarge,
        1,
        (
            "run {run} was stopped at step {step} of {steps}: its process held {held} MiB, more than "
            "limits.memory_mb={limit}. The same command goes on from there with a higher limit; fewer "
            "simulation.nodes or flows_per_node need less"
        ),
    )
    WORKER_DIED = (
        "worker",
        "its process is gone; its runs go on in another, `limits.attempts` times without progress",
        RETRIED,
        WorkerDied,
        1,
        "worker process {pid} {cause}",
    )
    WORKER_UNSTARTED = (
        "worker",
        "the system starts no process",
        FATAL,
        Unavailable,
        3,
        "no worker process can be started: {reason}. executor=inline runs without any",
    )
    RAY_UNSTARTED = (
        "Ray",
        "does not start",
        FATAL,
        Unavailable,
        3,
        "Ray does not start: {reason}. executor=inline runs without it",
    )
    RAY_UNREACHABLE = (
        "Ray",
        "there is no cluster at that address, or it wants another token",
        FATAL,
        Unavailable,
        3,
        (
            "no Ray cluster that this machine belongs to answers at {place}: {reason}. Let it join (ray start "
            "--address=HEAD:PORT --num-cpus=0), and see that RAY_AUTH_TOKEN is the cluster's"
        ),
    )
    RAY_NODE_DIFFERS = (
        "Ray",
        "a node of the cluster would simulate something else: other libraries, other data",
        FATAL,
        Unavailable,
        3,
        (
            "node {node} of the Ray cluster cannot simulate what was planned here: {reason}. Install the same "
            "requirements.lock on every node, and put data files at the same place"
        ),
    )
    RAY_WORKER_DIED = (
        "Ray",
        "a worker is gone or its result lost; as any worker",
        RETRIED,
        WorkerDied,
        1,
        "a Ray worker died: {reason}",
        "test_worker_that_is_killed_for_memory_fails_its_run_after_some_tries",
    )
    RAY_LOST = (
        "Ray",
        "Ray itself is gone in the midst of work",
        FATAL,
        ServiceLost,
        1,
        "Ray is gone: {reason}. " + GOES_ON,
    )
    RAY_ENDED_ALL = (
        "Ray",
        "the same, and its library has ended the process of the command (which a shell tells)",
        FATAL,
        None,
        1,
        "quorumlab: failed: this process was ended from outside: killed, or by Ray, whose raylet died. "
        + GOES_ON,
        "test_ray_may_be_killed",
    )
    PREFECT_UNREACHABLE = (
        "Prefect",
        "its server does not answer at the start",
        FATAL,
        Unavailable,
        3,
        "Prefect's server at {place} does not answer: {reason}. " + START_PREFECT,
    )
    PREFECT_LOST = (
        "Prefect",
        "its server goes away in the midst of work",
        DEGRADED,
        None,
        0,
        (
            "Prefect's server went away, and does not know how this experiment ended; the ledger does. "
            "quorumlab reconcile tells it later"
        ),
        "test_server_may_stay_away",
    )
    PREFECT_UNSEEN = (
        "Prefect",
        "its server takes no tables or progress",
        DEGRADED,
        Unavailable,
        0,
        "not shown in Prefect: {what}: {reason}",
    )
    MLFLOW_AWAY = (
        "MLflow",
        "its server does not answer, or its database or disk refuses",
        DEGRADED,
        Unavailable,
        0,
        (
            "not published to MLflow at {place}: {reason}. Results are safe in the ledger; the same "
            "command publishes them later"
        ),
    )
    MLFLOW_UNPUBLISHED = (
        "MLflow",
        "the same, under `quorumlab publish`",
        FATAL,
        Unavailable,
        3,
        "{name} is not published: MLflow does not answer, see above",
    )
    MLFLOW_UNDELETED = (
        "MLflow",
        "the same, under `quorumlab clean NAME`; all else of the experiment goes",
        DEGRADED,
        Unavailable,
        0,
        (
            "not deleted from MLflow at {place}: {reason}. Delete it there, by the tag "
            "quorumlab.experiment"
        ),
        "test_experiment_whose_mlflow_is_away_is_deleted_and_says_so",
    )
    VALIDATION_REFUSED = (
        "validation",
        (
            "a run breaks a rule, or its chain does not recompute; `validation=strict` quarantines it, "
            "the others count; `warn` reports it, with exit code 0"
        ),
        DEGRADED,
        RunFailed,
        1,
        "{run}: {rule}: {detail}",
    )
    VALIDATION_UNOPENED = (
        "validation",
        "Great Expectations cannot open the ledger",
        FATAL,
        QuorumlabError,
        1,
        "the ledger at {place!r} cannot be validated: {reason}",
        "test_password_is_used_and_never_told",
    )
    VALIDATION_UNSURE = (
        "validation",
        "a rule cannot be checked",
        FATAL,
        QuorumlabError,
        1,
        "{rule!r} cannot be checked: {reason}",
        "test_query_that_cannot_be_asked_is_an_error",
    )
    STOPPED = (
        "any",
        "Ctrl-C, SIGTERM",
        FATAL,
        Interrupted,
        130,
        "what is committed stays; the same command goes on from there",
        "test_stopped_experiment_goes_on",
    )

    def __init__(
        self,
        part: str,
        event: str,
        handling: Handling,
        becomes: type[QuorumlabError] | None,
        exit_code: int,
        message: str,
        shown_by: str | None = None,
    ) -> None:
        """Keep the columns of the row.

        Args:
            part: Of the stack.
            event: What happens to it.
            handling: What the program does.
            becomes: The error that the program raises, or catches again where it is degraded;
                None where there is no time for one, or no need.
            exit_code: Of the command, if it comes to the worst.
            message: What the user gets, with places for the evidence.
            shown_by: The test that shows it; None: tests/flows/test_error_table.py, by its name.
        """
        self.part = part
        self.event = event
        self.handling = handling
        self.becomes = becomes
        self.exit_code = exit_code
        self.message = message
        self.shown_by = shown_by

    def tell(self, **evidence: object) -> str:
        """Return the message with its evidence.

        >>> Trouble.RAY_WORKER_DIED.tell(reason="out of memory")
        'a Ray worker died: out of memory'
        """
        return self.message.format(**evidence)
