"""Where an experiment was run: versions, processor, memory, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from sim_core.identity import model_version

PACKAGES = (
    "quorumlab prefect ray mesa sqlmodel hydra-core mlflow psutil pandas great-expectations numpy"
)


def describe_environment() -> dict[str, Any]:
    """Return what somebody needs to know who wants the same figures again."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES.split()},
        "cpus": os.cpu_count(),
        "processor": describe_processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "git_commit": _git_commit(),
        "model_version": model_version(),
    }


def describe_processor() -> str:
    """Return the name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, or None outside of one."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        found = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(folder), "rev-parse", "HEAD"],  # noqa: S607 - git from the PATH
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
