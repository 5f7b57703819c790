"""Where MLflow is: its address, its database, a client of it, and its errors in words."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

from sim_core.config import ExperimentConfig, TrackingConfig
from sim_core.error_table import Trouble
from sim_core.errors import ConfigurationError, Unavailable
from tasks.mlflow_rows import RunTable

if TYPE_CHECKING:  # importing mlflow takes seconds: functions do it when they need it
    from mlflow import MlflowClient


def tracking_address(tracking: TrackingConfig, workspace: Path) -> str:
    """Return MLflow's tracking address.

    Raises:
        ConfigurationError: a server is asked for, and nothing says which.
    """
    if tracking.kind == "mlflow_local":
        return f"sqlite:///{workspace.absolute() / 'mlflow.db'}"
    address = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise ConfigurationError(
            "tracking=mlflow_server needs the server's address: give tracking.uri, for instance "
            "tracking.uri=http://127.0.0.1:5000, or set MLFLOW_TRACKING_URI"
        )
    return address


def run_table(tracking: TrackingConfig, workspace: Path) -> RunTable | None:
    """Return where runs are written without MLflow: its database, if it is the workspace's own.

    None where it is a server's, of another version of MLflow, or not there.
    """
    path = workspace.absolute() / "mlflow.db"
    if tracking.kind != "mlflow_local" or not path.exists():
        return None
    table = RunTable(path)
    return table if table.fits() else None


def prepare_store(workspace: Path) -> None:
    """Make the workspace's MLflow database, if there is none, before anybody opens it.

    Raises:
        Unavailable: it cannot be made.
    """
    local = TrackingConfig(kind="mlflow_local")
    address = tracking_address(local, workspace)
    with explained(address), one_at_a_time(workspace), connected(address, workspace, local):
        pass


@contextmanager
def connected(address: str, workspace: Path, tracking: TrackingConfig) -> Iterator[MlflowClient]:
    """Give a client, of the workspace's own database or of a server."""
    if tracking.kind != "mlflow_local":
        yield _client(address)
        return
    path = workspace.absolute() / "mlflow.db"
    if not path.exists():
        _make_store(path)
    with closing(sqlite3.connect(path)) as keeper:
        # MLflow would try for minutes to open what is no database; and while this connection is
        # open, closing another one does not write the whole log back.
        keeper.execute("SELECT count(*) FROM sqlite_master")
        yield _client(address)


def _client(address: str) -> MlflowClient:
    from mlflow import MlflowClient

    with _setting_up():
        return MlflowClient(tracking_uri=address)


def _make_store(path: Path) -> None:
    """Make MLflow's database under another name and give it its own when it is whole.

    MLflow makes it in place and loses races: processes that begin at once damage the schema, and
    so does a kill. Its write-ahead log lets the user look at runs while others are published.
    """
    fresh = path.with_name("mlflow.new.db")
    fresh.unlink(missing_ok=True)
    with _setting_up():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        make_store: Any = SqlAlchemyStore
        make_store(f"sqlite:///{fresh}", (path.parent / "mlartifacts").as_uri())
    with closing(sqlite3.connect(fresh)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    fresh.rename(path)


@contextmanager
def _setting_up() -> Iterator[None]:
    """Let MLflow open a database: without its warnings, with its own kind of error."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException

    with warnings.catch_warnings():  # MLflow 3.17 uses what SQLAlchemy 2.1 deprecates
        warnings.simplefilter("ignore", SADeprecationWarning)
        try:
            yield
        except (SQLAlchemyError, CommandError) as error:
            raise MlflowException(str(error)) from error


def load_mlflow() -> None:
    """Import MLflow: it reports to nobody and keeps off the terminal, unless the user says so.

    May be called ahead from a thread, so that the seconds it takes are not waited for.
    """
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # publishing is repeated later anyway
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        # a connection that outlives its transaction would go on with a deleted or forked file
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    }.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 - it sets up its loggers

    for logger in ("alembic", "mlflow", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    # errors of the database reach the user as Unavailable, once and without a traceback
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def find_experiment(client: MlflowClient, config: ExperimentConfig, workspace: Path) -> str:
    """Return the id of the MLflow experiment for this title, made or restored if need be."""
    from mlflow.exceptions import MlflowException

    title = config.experiment.title
    root = None
    if config.tracking.kind == "mlflow_local":
        root = (workspace.absolute() / "mlartifacts" / title).as_uri()
    found = client.get_experiment_by_name(title)
    if found is None:
        tags = {"mlflow.experimentKind": "custom_model_development"}  # the pages for runs
        try:
            return str(client.create_experiment(title, artifact_location=root, tags=tags))
        except MlflowException:  # another workspace may have made it on the same server
            found = client.get_experiment_by_name(title)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextmanager
def one_at_a_time(workspace: Path) -> Iterator[None]:
    """Let one publication at a time look for runs and create them; a killed one lets go."""
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / "mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def sparing_garbage_collection() -> Iterator[None]:
    """Keep the collector off what is there already: MLflow's thousands of objects make it look.

    Publishing takes a third less time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def explained(address: str, row: Trouble = Trouble.MLFLOW_AWAY) -> Iterator[None]:
    """Turn MLflow's errors into one that says what to do, without passwords.

    Raises:
        Unavailable: MLflow does not answer, or refuses.
    """
    load_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, sqlite3.Error, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        if "Max retries exceeded" in reason:
            reason = "the server does not answer"
        message = row.tell(place=address, reason=reason)
        raise Unavailable(re.sub(r"//[^/@\s]+@", "//***@", message)) from error
