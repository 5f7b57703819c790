"""Prefect's records of experiments, brought in line with what the ledger says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Completed, Crashed, Failed

FLOW = "experiment"
RECORDS_AT_ONCE = 200
UNSETTLED = [StateType.RUNNING, StateType.PENDING, StateType.CRASHED, StateType.CANCELLING]
WHY = "set by quorumlab reconcile, after the ledger"


@dataclass(frozen=True)
class Record:
    """A flow run that may not have ended as Prefect believes, with the one that has started it."""

    id: UUID
    """Of the outermost: a form's, such as `sweep`, within which the experiment is a flow run of its own."""
    name: str
    state: str
    """Prefect's type of it, such as RUNNING or CRASHED."""
    parameters: dict[str, Any]
    is_deployed: bool
    """Whether a worker runs it again when it is scheduled."""
    seconds_in_state: float
    inner: UUID | None = None
    """The flow run of the experiment, where another has started it."""


def has_server() -> bool:
    """Return whether a server of Prefect is configured, which other processes use as well."""
    return bool(get_current_settings().api.url)


def unsettled_records(workspace: Path) -> list[Record]:
    """Return the flow runs of experiments in a workspace that have not ended well, latest first.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    with get_client(sync_client=True) as client:
        outer_ones: set[UUID] = set()
        records = []
        for run in _all_runs(client):
            if _workspace_of(run.parameters) != workspace.absolute():
                continue
            outer = _outer(client, run)
            if outer is not None and outer.id not in outer_ones:
                outer_ones.add(outer.id)
                records.append(replace(_record(outer), parameters=run.parameters, inner=run.id))
            else:  # of an earlier try of the same outer one, too
                records.append(_record(run))
        return records


def _all_runs(client: SyncPrefectClient) -> Iterator[FlowRun]:
    offset = 0
    while runs := client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNSETTLED))
        ),
        sort=FlowRunSort.START_TIME_DESC,
        limit=RECORDS_AT_ONCE,
        offset=offset,
    ):
        yield from runs
        offset += len(runs)


def _outer(client: SyncPrefectClient, run: FlowRun) -> FlowRun | None:
    """Return the flow run that has started one, if that has not ended well either."""
    if run.parent_task_run_id is None:
        return None
    parent = client.read_task_run(run.parent_task_run_id).flow_run_id
    outer = client.read_flow_run(parent) if parent is not None else None
    is_unsettled = outer is not None and outer.state is not None and outer.state.type in UNSETTLED
    return outer if is_unsettled else None


def _record(run: FlowRun) -> Record:
    state = run.state
    since = datetime.now(UTC) - state.timestamp if state else None
    return Record(
        id=run.id,
        name=run.name,
        state=state.type.value if state else "",
        parameters=run.parameters,
        is_deployed=run.deployment_id is not None,
        seconds_in_state=since.total_seconds() if since else 0.0,
    )


def _workspace_of(parameters: dict[str, Any]) -> Path | None:
    config = parameters.get("config")
    folder = config.get("workspace", "workspace") if isinstance(config, dict) else None
    return Path(folder).absolute() if isinstance(folder, str) else None


def settle(record: Record, ended: str) -> None:
    """Let Prefect say that a flow run ended as the ledger says: `finished` or `failed`."""
    state: State[Any] = Completed(message=WHY) if ended == "finished" else Failed(message=WHY)
    for run in _runs(record):
        _set(run, state)


def run_again(record: Record) -> None:
    """Schedule a flow run whose process is gone, under the same id; its slots become free."""
    _crash(record)
    _set(record.id, AwaitingRetry(message=WHY))


def give_up(record: Record) -> None:
    """Let Prefect say that the process of a flow run is gone; its slots become free."""
    _crash(record)


def _crash(record: Record) -> None:
    if record.inner is not None:
        _set(record.inner, Crashed(message=WHY))
    if record.state != StateType.CRASHED.value:
        _set(record.id, Crashed(message=WHY))


def _runs(record: Record) -> list[UUID]:
    return [record.id] if record.inner is None else [record.inner, record.id]


def _set(run: UUID, state: State[Any]) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=True)
