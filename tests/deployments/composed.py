"""compose.yaml without containers: its commands and settings as processes, its hosts on the loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_port
from tests.program import POLL_SECONDS, kill_everything

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
PROGRAMS = Path(sys.executable).parent
PATIENCE_SECONDS = 240.0
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


def read_settings(path: Path) -> dict[str, str]:
    """Return the variables of an environment file."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Return what compose makes of `${NAME:?refusal}` and `${NAME:-default}`.

    Raises:
        ValueError: a variable that is demanded is empty.
    """

    def replaced(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        if variables.get(name):
            return variables[name]
        if operator != "-":
            raise ValueError(f"{name} {word}")
        return str(word)

    if isinstance(value, dict):
        return {key: interpolated(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part, variables) for part in value]
    return VARIABLE.sub(replaced, value) if isinstance(value, str) else value


def image_settings() -> tuple[dict[str, str], list[str]]:
    """Return the environment and the health check of the image."""
    text = (DEPLOYMENTS / "Dockerfile").read_text().replace("\\\n", " ")
    (environment,) = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    (check,) = re.findall(r"^HEALTHCHECK .*?CMD (.*)$", text, re.MULTILINE)
    words: list[str] = json.loads(check)
    return dict(word.split("=", 1) for word in environment.split()), words


@dataclass
class Composed:
    """Services of compose.yaml, each a process that writes a log into a folder."""

    folder: Path
    variables: dict[str, str]
    postgres_port: int
    quicker: dict[str, str] = field(default_factory=dict)
    """Settings that a test adds to those of containers, or words to such a setting, to end sooner."""
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @cached_property
    def services(self) -> dict[str, Any]:
        text = (DEPLOYMENTS / "compose.yaml").read_text()
        found: dict[str, Any] = interpolated(yaml.safe_load(text), self.variables)["services"]
        return found

    @cached_property
    def places(self) -> dict[str, str]:
        """What stands for ports and folders of containers here."""
        folders = ("workspace", "artifacts", "prefect", "tmp")
        for name in folders:
            (self.folder / name).mkdir()
        return {
            "5432": str(self.postgres_port),
            **{port: str(free_port()) for port in ("4200", "5000", "8080", "8501")},
            **{f"/{name}": str(self.folder / name) for name in folders},
        }

    def placed(self, value: str) -> str:
        """Return a setting of a container as it has to be here."""
        if value in ("postgres", "0.0.0.0"):
            return "127.0.0.1"
        if value in self.places:
            return self.places[value]
        if (first := re.match(r"/\w+", value)) is not None:
            return self.places.get(first[0], first[0]) + value[first.end() :]
        value = re.sub(r"(?<=//)(prefect|mlflow)(?=:)|(?<=@)postgres(?=:)", "127.0.0.1", value)
        return re.sub(r"(?<=:)\d{4}\b", lambda port: self.places[port[0]], value)

    def environment(self, service: str) -> dict[str, str]:
        """Return what the process of a service is started with: nothing of ours but the programs."""
        described = self.services[service]
        settings = dict(image_settings()[0])
        if "env_file" in described:
            settings |= read_settings(DEPLOYMENTS / described["env_file"])
        settings |= described.get("environment", {})
        placed = {name: self.placed(value) for name, value in settings.items()}
        for name, words in self.quicker.items():
            placed[name] = f"{placed.get(name, '')} {words}".strip()
        del placed["NUMBA_CACHE_DIR"]  # what is compiled once for all tests spares a minute
        return placed | {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
        }

    def start(self, service: str) -> None:
        """Start a service as soon as what it depends on is as it demands."""
        for other, demand in self.services[service].get("depends_on", {}).items():
            if other in self.processes:
                self._wait(other, demand["condition"])
        with self.log(service).open("a") as output:
            self.processes[service] = subprocess.Popen(
                self.services[service]["command"],
                cwd=ROOT,
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    def run(self, service: str, *words: str) -> str:
        """Return what a command says in the place of a service, such as a worker."""
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self.environment(service),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        logs = "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{logs}"
        return done.stdout

    def wait_until_healthy(self, service: str) -> None:
        """Return when the health check of a service, which is the image's, says so."""
        self._wait(service, "service_healthy")

    def log(self, service: str) -> Path:
        return self.folder / f"{service}.log"

    def stop(self) -> None:
        """End everything."""
        for process in self.processes.values():
            kill_everything(process)

    def _wait(self, service: str, condition: str) -> None:
        process = self.processes[service]
        if condition == "service_completed_successfully":
            assert process.wait(PATIENCE_SECONDS) == 0, self.log(service).read_text()
            return
        check = [sys.executable, *image_settings()[1][1:]]
        environment = self.environment(service)
        assert environment["HEALTH_URL"], f"{service} does not say where it answers"
        end = time.monotonic() + PATIENCE_SECONDS
        while subprocess.run(check, env=environment, capture_output=True, check=False).returncode:
            assert process.poll() is None, self.log(service).read_text()
            assert time.monotonic() < end, self.log(service).read_text()
            time.sleep(POLL_SECONDS)  # between two looks
