"""Prefect as a service: a work pool, a deployment, workers that can be killed, flow runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from flows.compose import compose_experiment
from tests.program import COMMAND, PATIENCE_SECONDS, POLL_SECONDS, call_prefect, kill_everything

ROOT = Path(__file__).parents[2]
POOL = "quorumlab"
TEMPLATE = ROOT / "deployments" / "work_pool.json"


@dataclass
class Service:
    """A deployment on a Prefect server, and its workers."""

    api: str
    folder: Path
    environment: dict[str, str]
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    def deploy(self, *names: str) -> None:
        """Create the work pool and register deployments of prefect.yaml, `experiment` without names."""
        words = ("--type", "process", "--base-job-template", str(TEMPLATE), "--overwrite")
        self._prefect("work-pool", "create", POOL, *words)
        chosen = [word for name in names or ["experiment"] for word in ("--name", name)]
        self._prefect("--no-prompt", "deploy", *chosen)

    def register_zombies(self) -> None:
        """Let the server mark flow runs as crashed that give no sign of life."""
        self._call(sys.executable, "-c", "from flows.zombies import register; register()")

    def start_worker(self) -> subprocess.Popen[str]:
        """Start a worker."""
        worker = self._start("worker", "start", "--pool", POOL, "--type", "process")
        self.workers.append(worker)
        return worker

    def trigger(self, overrides: Sequence[str], workspace: Path) -> str:
        """Ask for an experiment; return the id of its flow run."""
        config, points = compose_experiment([*overrides, f"workspace={workspace}"])
        parameters = {
            "config": config.model_dump(mode="json"),
            "points": [point.model_dump(mode="json") for point in points],
        }
        answer = self.ask("experiment/experiment", parameters)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def ask(self, deployment: str, parameters: Any, **more: Any) -> httpx.Response:
        """Return the answer to the wish for a run of a deployment, FLOW/NAME."""
        number = self.get(f"deployments/name/{deployment}")["id"]
        wish = {"parameters": parameters, "state": {"type": "SCHEDULED"}, **more}
        return self.post(f"deployments/{number}/create_flow_run", wish)

    def get(self, path: str) -> Any:
        """Return what the server answers."""
        answer = self.call("GET", path)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def post(self, path: str, content: Any) -> httpx.Response:
        """Return the answer."""
        return self.call("POST", path, json=content)

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Return the answer."""
        return call_prefect(f"{self.api}/{path}", method, **more)

    def state_of(self, flow_run: str) -> str:
        """Return the type of a flow run's state."""
        return str(self.get(f"flow_runs/{flow_run}")["state"]["type"])

    def wait_for_state(self, flow_run: str, *states: str) -> str:
        """Return the state when it is one of those asked for; fail when another end is reached."""
        ends = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} - set(states)
        end = time.monotonic() + PATIENCE_SECONDS
        while (state := self.state_of(flow_run)) not in states:
            assert state not in ends, self.get(f"flow_runs/{flow_run}")["state"]
            assert time.monotonic() < end, f"still {state}: {self.output()}"
            time.sleep(POLL_SECONDS)  # between two looks, not in place of one
        return state

    def flow_processes(self) -> list[psutil.Process]:
        """Return the processes that execute flow runs of this service."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                mine = process.environ().get("PREFECT_HOME") == str(self.folder / "prefect")
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if mine and any(
                word in words for word in ("prefect.engine", "prefect.flow_engine", "execute")
            ):
                found.append(process)
        return found

    def output(self) -> str:
        """Return what the workers have said."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("worker*.log")))

    def stop(self) -> None:
        """End all workers and what they started."""
        for worker in self.workers:
            kill_everything(worker)
        for process in self.flow_processes():
            process.kill()

    def _prefect(self, *words: str) -> None:
        self._call(str(COMMAND.parent / "prefect"), *words)

    def _call(self, *words: str) -> None:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _start(self, *words: str) -> subprocess.Popen[str]:
        log = self.folder / f"worker{len(self.workers)}.log"
        with log.open("w") as output:
            return subprocess.Popen(
                [str(COMMAND.parent / "prefect"), *words],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "COV_"))}
        return mine | {
            "PREFECT_API_URL": self.api,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "QUORUMLAB_WORKSPACE": str(self.folder / "workspace"),
            **self.environment,
        }
