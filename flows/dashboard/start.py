"""Starting work from the dashboard: through deployments, with their types and limits, as whoever asks.

The dashboard knows no password. Whoever reaches its port may look; to have anything run they must
say what Prefect's server asks for, as on its own pages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.forms import (
    MOST_VALUES,
    Adversary,
    Baseline,
    Consensus,
    Detector,
    Dissemination,
    Executor,
    LiarShare,
    Name,
    Nodes,
    Profile,
    Replicates,
    Seed,
    Steps,
    Study,
    Suite,
    Threshold,
    Topology,
)
from flows.service import PREFECT, address_of
from sim_core.config import describe_validation
from sim_core.errors import Unavailable, UserError

SWEEP, BENCHMARK = "sweep/sweep", "benchmark/nightly-benchmark"
POOL = "quorumlab"
PATIENCE_SECONDS = 10.0
MANY = Field(max_length=MOST_VALUES)
HOW_TO_START = "Start servers and a worker with quorumlab up"


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SweepForm(_Form):
    """What the deployment `sweep` can be asked for; a test holds it against the flow itself."""

    name: Name | None = None
    study: Study | None = None
    profile: Profile | None = None
    detectors: Annotated[list[Detector], MANY] = []
    topologies: Annotated[list[Topology], MANY] = []
    disseminations: Annotated[list[Dissemination], MANY] = []
    consensus_rules: Annotated[list[Consensus], MANY] = []
    adversaries: Annotated[list[Adversary], MANY] = []
    shares_of_liars: Annotated[list[LiarShare], MANY] = []
    nodes: Annotated[list[Nodes], MANY] = []
    steps: Steps | None = None
    replicates: Replicates | None = None
    seed: Seed | None = None
    executor: Executor | None = None


class BenchmarkForm(_Form):
    """What the deployment `nightly-benchmark` can be asked for."""

    suite: Suite = "step"
    repeat: Annotated[int, Field(ge=1, le=100)] = 5
    threshold: Threshold = 0.2
    baseline: Baseline | None = None


@dataclass(frozen=True)
class Question:
    """A field of a form."""

    name: str
    kind: Literal["choice", "choices", "number", "numbers", "text"]
    options: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    pattern: str = ""
    default: Any = None

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name.replace("_", " ").capitalize()

    @property
    def limits(self) -> str:
        """What it may be, in words."""
        if self.kind == "numbers":
            return f"Up to {MOST_VALUES} numbers from {self.low:g} to {self.high:g}, with commas between"
        if self.kind == "number" and self.high is not None and self.high < 1e15:
            return f"From {self.low:g} to {self.high:,.0f}"
        return "Letters, digits, - and _" if self.kind == "text" else ""


def questions(form: type[BaseModel]) -> list[Question]:
    """Return the fields of a form, with the choices and limits of its types."""
    properties = form.model_json_schema()["properties"]
    return [_question(name, schema) for name, schema in properties.items()]


def _question(name: str, schema: Mapping[str, Any]) -> Question:
    default = schema.get("default")
    some = next((s for s in schema.get("anyOf", ()) if s.get("type") != "null"), schema)
    is_list = some.get("type") == "array"
    one = some["items"] if is_list else some
    if "enum" in one:
        return Question(
            name, "choices" if is_list else "choice", tuple(one["enum"]), default=default
        )
    if one.get("type") in ("integer", "number"):
        bounds = float(one["minimum"]), float(one["maximum"])
        return Question(name, "numbers" if is_list else "number", (), *bounds, default=default)
    return Question(name, "text", pattern=str(one.get("pattern", "")))


def numbers_in(text: str, question: Question) -> list[float | int]:
    """Return the numbers of a text.

    >>> numbers_in("20, 50", Question("nodes", "numbers"))
    [20, 50]

    Raises:
        UserError: a part is no number.
    """
    found: list[float | int] = []
    for part in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        try:
            found.append(int(part) if part.lstrip("-").isdigit() else float(part))
        except ValueError as error:
            raise UserError(f"{question.title}: {part[:40]!r} is no number") from error
    return found


def checked(form: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a deployment is to be given: what was filled in, and is allowed.

    Raises:
        UserError: naming the first value that is not.
    """
    given = {name: value for name, value in values.items() if value not in (None, "", [])}
    try:
        found = form.model_validate(given)
    except ValidationError as error:
        raise UserError(describe_validation(error)) from error
    return found.model_dump(exclude_unset=True)


def server_address(folder: Path) -> str | None:
    """Return where the Prefect server of a workspace is; None where there is none.

    Raises:
        UserError: what names the workspace's services cannot be read.
    """
    return os.environ.get("PREFECT_API_URL") or address_of(folder, PREFECT)


@dataclass(frozen=True)
class Started:
    """A flow run that was asked for."""

    id: str
    name: str
    page: str


class Server:
    """A Prefect server, asked as whoever has said its password."""

    def __init__(self, address: str, password: str) -> None:
        """Ask nothing yet; `password` is NAME:PASSWORD, or the password of `quorumlab`."""
        self._address = address.rstrip("/")
        name, _, secret = password.strip().rpartition(":")
        self._auth = (name or POOL, secret)

    def workers(self) -> list[str]:
        """Return the workers that are there.

        Raises:
            UserError: the password is not right.
            Unavailable: the server does not answer.
        """
        found = self._post(f"/work_pools/{POOL}/workers/filter", {})
        return [str(worker["name"]) for worker in found if worker.get("status") == "ONLINE"]

    def start(self, deployment: str, parameters: Mapping[str, Any]) -> Started:
        """Ask for a run of a deployment.

        Raises:
            UserError: the password is not right, or Prefect refuses the parameters.
            Unavailable: the server does not answer, or knows no such deployment.
        """
        found = self._call("GET", f"/deployments/name/{deployment}")
        made = self._post(
            f"/deployments/{found['id']}/create_flow_run",
            {"parameters": dict(parameters), "tags": ["dashboard"]},
        )
        base = os.environ.get("PREFECT_UI_URL") or self._address.removesuffix("/api")
        return Started(
            str(made["id"]), str(made["name"]), f"{base.rstrip('/')}/runs/flow-run/{made['id']}"
        )

    def state(self, started: Started) -> str:
        """Return the name of the state that a run is in.

        Raises:
            UserError: the password is not right any more.
            Unavailable: the server does not answer.
        """
        return str(self._call("GET", f"/flow_runs/{started.id}").get("state_name") or "-")

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        client = str(uuid4())
        try:
            with httpx.Client(auth=self._auth, timeout=PATIENCE_SECONDS) as web:
                headers = {}
                if method != "GET":
                    given = web.get(f"{self._address}/csrf-token", params={"client": client})
                    if given.status_code == httpx.codes.UNAUTHORIZED:
                        return _content(given, path)
                    if given.is_success:  # a server that protects nothing gives none
                        token = given.json()["token"]
                        headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
                reply = web.request(method, self._address + path, json=body, headers=headers)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(
                f"Prefect's server does not answer: {reason}. {HOW_TO_START}"
            ) from error
        return _content(reply, path)


def _content(reply: httpx.Response, path: str) -> Any:
    if reply.status_code == httpx.codes.UNAUTHORIZED:
        raise UserError("Prefect's server does not accept this password")
    if reply.status_code == httpx.codes.NOT_FOUND:
        raise Unavailable(f"Prefect's server knows nothing at {path}. {HOW_TO_START}")
    if reply.is_error:
        raise UserError(f"Prefect refuses it ({reply.status_code}): {reply.text[:400]}")
    return reply.json()
