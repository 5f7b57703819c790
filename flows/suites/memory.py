"""Suite `memory`: what a network costs in memory, in fresh processes, for peaks are never given back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from flows.benchmarks.cases import Case, Group, Measured
from flows.benchmarks.machine import MB
from flows.suites.step import network
from sim_core.errors import QuorumlabError

FLOWS, STEPS = 20, 30
SIZES = (100, 10_000, 100_000)
REPEAT = 3
PROGRAM = """
import sys
from flows.benchmarks.machine import peak_mb
from sim_core.config import ModelConfig
from sim_core.simulated_network import SimulatedNetwork
network = SimulatedNetwork(ModelConfig.model_validate_json(sys.stdin.read()), seed=1)
for _ in range(int(sys.argv[1])):
    network.step()
print(peak_mb())
"""
"""Imports no more than a worker does: what else this process has loaded is not a network's."""
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

    Not by `getrusage`, which begins with what the parent had when it started the process.

    Raises:
        QuorumlabError: the process failed.
    """
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", PROGRAM, str(STEPS)],
        input=network(nodes, FLOWS).model_dump_json().encode(),
        check=False,
        capture_output=True,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-500:]
        raise QuorumlabError(f"a process with {nodes} nodes ended with {done.returncode}: {said}")
    return float(done.stdout)
