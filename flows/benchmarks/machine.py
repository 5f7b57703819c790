"""The machine that figures were measured on, and how much memory a moment took."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sim_core.identity import content_hash
from tasks.describe_environment import describe_processor

MB = 1 << 20
RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
SHUFFLED = np.random.default_rng(1).permutation(20_000)
PASSING = frozenset({"cpu_mhz"})
"""What differs from moment to moment on the same machine."""


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    frequency = psutil.cpu_freq()
    return {
        "platform": platform.platform(),
        "processor": describe_processor(),
        "cpus": os.cpu_count(),
        "cpu_mhz": round(frequency.current) if frequency else None,
        "memory_mb": round(psutil.virtual_memory().total / MB),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def machine_id(machine: Mapping[str, Any]) -> str:
    """Return a short name for a machine: processor, how many, memory in whole gigabytes.

    Versions of the system and of libraries are left out: what they make slower is worth finding.

    >>> machine_id({"processor": "A", "cpus": 2, "memory_mb": 24_100, "python": "3.11"})
    'A x 2, 24 GB (e176a6)'
    """
    memory = round((machine.get("memory_mb") or 0) / 1024)
    name = f"{machine.get('processor') or 'unknown'} x {machine.get('cpus')}, {memory} GB"
    return f"{name} ({content_hash(name)[:6]})"


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return in words what distinguishes two machines.

    >>> differing({"cpus": 2, "cpu_mhz": 2_000}, {"cpus": 4, "cpu_mhz": 2_500})
    ['cpus: 2 and 4']
    """
    keys = [key for key in (*one, *(k for k in other if k not in one)) if key not in PASSING]
    return [f"{k}: {one.get(k)} and {other.get(k)}" for k in keys if one.get(k) != other.get(k)]


def pace_seconds() -> float:
    """Return how long a fixed piece of work takes just now, some 20 ms: Python, and NumPy in memory.

    It tells a slower program from a slower machine: one that has other work, or is clocked down.
    It is as long as several slices of time, or it would slip through between those of other programs.
    """
    began = time.perf_counter()
    total = 0
    for number in range(150_000):
        total += number * number % 7
    for _ in range(15):
        np.sort(SHUFFLED)
    return time.perf_counter() - began


def forget_peak() -> None:
    """Let the peak of this process's resident set begin anew, where the system can do that (Linux)."""
    with suppress(OSError):
        RESET.write_text("5")


def peak_mb() -> float:
    """Return the largest resident set of this process since the last `forget_peak`, in MB.

    Where the system cannot forget, since the process began.
    """
    with suppress(OSError, ValueError, StopIteration):
        lines = STATUS.read_text().splitlines()
        return int(next(x for x in lines if x.startswith("VmHWM:")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
