"""Suite `memory`: what a network costs in memory, in fresh processes, for peaks are never given back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from flows.benchmarks.cases import Case, Group, Measured
from flows.benchmarks.machine import peak_mb
from flows.suites.step import network
from sim_core.errors import QuorumlabError
from sim_core.model import NetworkModel

FLOWS, STEPS = 20, 30
SIZES = (100, 10_000, 100_000)
REPEAT = 3
MB = 1 << 20
Opened = Callable[[], AbstractContextManager[Callable[[], Measured]]]


def memory_suite() -> list[Group]:
    """Return the cases: peaks of processes with networks of three sizes, and the bytes of a node."""
    cases = [Case(f"nodes_{n}", "MB", peaking(n), REPEAT, scale=1.0) for n in SIZES]
    slope = Case("node", "bytes", bytes_per_node, REPEAT, scale=1.0)
    return [Group((*cases, slope))]


def peaking(nodes: int) -> Opened:
    """Return what measures the peak of a fresh process with a network of so many nodes, in MB."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Measured]]:
        def call() -> Measured:
            peak = peak_of_process(nodes)
            return Measured(peak, peak_rss_mb=peak)

        yield call

    return opened


@contextmanager
def bytes_per_node() -> Iterator[Callable[[], Measured]]:
    """Give what measures by how much the peak grows with a node, between the two largest sizes."""

    def call() -> Measured:
        few, many = SIZES[-2:]
        small, large = peak_of_process(few), peak_of_process(many)
        return Measured((large - small) * MB / (many - few), peak_rss_mb=large)

    yield call


def peak_of_process(nodes: int) -> float:
    """Return the peak resident set of a fresh process that simulates so many nodes, in MB.

    Raises:
        QuorumlabError: the process failed.
    """
    code = f"import json; from flows.suites.memory import peak; print(json.dumps(peak({nodes})))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)  # noqa: S603 - our own code
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-500:]
        raise QuorumlabError(f"a process with {nodes} nodes ended with {done.returncode}: {said}")
    return float(json.loads(done.stdout))


def peak(nodes: int) -> float:
    """Return the peak resident set of this process after some steps of a network, in MB.

    Not by `getrusage`, which begins with what the parent had when it started this process.
    """
    model = NetworkModel(network(nodes, FLOWS), seed=1)
    for _ in range(STEPS):
        model.step()
    return peak_mb()
