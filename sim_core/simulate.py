"""One run, from its record and perhaps a checkpoint, as a stream of segments."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sim_core.checkpoint import decode, encode
from sim_core.config import ModelConfig, ProfileKind
from sim_core.error_table import Trouble
from sim_core.errors import CheckpointMismatch, RunTimeout, RunTooLarge
from sim_core.faultpoints import reach
from sim_core.ledger.blocks import KEPT, Block, Entries
from sim_core.metrics import Metrics, summarise
from sim_core.randomness import Streams
from sim_core.shard import Shards
from sim_core.simulated_network import SimulatedNetwork
from sim_core.state import State


@dataclass(frozen=True)
class RunSpec:
    """Everything that a worker needs to know about a run."""

    run_key: str
    config: ModelConfig
    """With the horizon as `simulation.steps`."""
    seed: int
    replicate: int
    detail: str = "decisions"
    checkpoint_every: int = 10
    max_seconds: float = 300.0
    memory_mb: int | None = None
    """Resident MiB of its process above which the run is stopped; None never stops it."""
    compress_checkpoints: bool = False
    """Whether states are compressed before they are handed on."""
    network_shards: int = 1
    """Shards that the network is cut into, where the executor can."""
    fork: bool = True
    """Whether steps that it has in common with others may be taken over from them."""
    point: str = ""
    """Label of its point, for people."""
    profile: ProfileKind = "off"
    """Whether it is executed under a profiler, and which."""


@dataclass(frozen=True)
class Resources:
    """What a segment took; outside every hash."""

    wall_seconds: float
    cpu_seconds: float
    peak_rss_mb: float


OpenRunShards = Callable[[RunSpec, ModelConfig, Streams, NDArray[np.bool_], State | None], Shards]
"""Makes the shards of a run's network, see `simulated_network.OpenShards`."""


@dataclass(frozen=True)
class Segment:
    """The steps between two checkpoints: rows, the state after them, and what they took."""

    run_key: str
    first_step: int
    next_step: int
    head: bytes
    """Hash of the last block."""
    n_features: int
    blocks: tuple[Block, ...]
    rows: dict[str, Entries]
    """Entries of the kinds that are kept."""
    checkpoint: bytes
    summary: Metrics | None
    """Metrics of the run, with its last segment."""
    resources: Resources
    shared: bool = False
    """Whether its steps were simulated with another run and taken over."""


def resident_mb() -> float:
    """Return what this process has in memory now, in MiB."""
    import psutil  # only where there is a limit: workers do without it

    return float(psutil.Process().memory_info().rss) / 2**20


def peak_rss_mb() -> float:
    """Return the largest resident set of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def simulate(
    spec: RunSpec,
    checkpoint: bytes | None = None,
    *,
    cuts: frozenset[int] = frozenset(),
    open_shards: OpenRunShards | None = None,
    clock: Callable[[], float] = time.monotonic,
    resident: Callable[[], float] = resident_mb,
) -> Iterator[Segment]:
    """Yield the segments of a run from its start, or from a checkpoint of it.

    Segments end where a checkpoint is due, at an intervention, and at `cuts`. The last one has the
    summary; a checkpoint taken at the horizon gives one without steps.

    Raises:
        DataError: a data file is missing or damaged.
        CheckpointMismatch: the checkpoint is not one of this run.
        RunTimeout: the run took longer than `spec.max_seconds`.
        RunTooLarge: after a segment that is not the last, its process holds more than
            `spec.memory_mb`.
    """
    began = mark = clock()
    cpu_mark = time.process_time()
    state = None if checkpoint is None else _restored(checkpoint, spec)
    network = SimulatedNetwork(
        spec.config,
        seed=spec.seed,
        replicate=spec.replicate,
        run_key=spec.run_key,
        state=state,
        open_shards=None if open_shards is None else partial(open_shards, spec),
    )
    horizon = spec.config.simulation.steps
    while True:
        first = network.state.step
        last = next_end(spec, first, cuts)
        reach(f"segment.{spec.replicate}")
        blocks, rows = _advance(network, spec, last, deadline=began + spec.max_seconds, clock=clock)
        now, cpu_now = clock(), time.process_time()
        yield Segment(
            run_key=spec.run_key,
            first_step=first,
            next_step=last,
            head=network.state.head,
            n_features=len(network.traffic.feature_names),
            blocks=blocks,
            rows=rows,
            checkpoint=encode(network.collect(), spec.run_key, compress=spec.compress_checkpoints),
            summary=summarise(network.state, network.traffic.targets, horizon)
            if last == horizon
            else None,
            resources=Resources(now - mark, cpu_now - cpu_mark, peak_rss_mb()),
        )
        if last == horizon:
            return
        _demand_room(spec, last, resident)
        mark, cpu_mark = now, cpu_now


def next_end(spec: RunSpec, first: int, cuts: frozenset[int] = frozenset()) -> int:
    """Return where the segment that begins at a step ends.

    >>> spec = RunSpec("00" * 32, ModelConfig(), seed=1, replicate=0, checkpoint_every=30)
    >>> next_end(spec, 0), next_end(spec, 35), next_end(spec, 35, frozenset([50])), next_end(spec, 90)
    (30, 60, 50, 100)
    """
    due = first - first % spec.checkpoint_every + spec.checkpoint_every
    ends = (*cuts, spec.config.intervention.step or 0)
    return min(spec.config.simulation.steps, due, *(end for end in ends if end > first))


def _restored(checkpoint: bytes, spec: RunSpec) -> State:
    """Return the state in a checkpoint, which has to be of a network of this size.

    Raises:
        CheckpointMismatch: it is not.
    """
    state = decode(checkpoint, spec.run_key)
    n_nodes = spec.config.simulation.nodes
    if len(state.up) != n_nodes:
        raise CheckpointMismatch("in memory", expected=f"{n_nodes} nodes", found=len(state.up))
    return state


def _advance(
    network: SimulatedNetwork,
    spec: RunSpec,
    last: int,
    *,
    deadline: float,
    clock: Callable[[], float],
) -> tuple[tuple[Block, ...], dict[str, Entries]]:
    """Step to `last`; return the blocks, and the entries of the kinds that are kept."""
    blocks: list[Block] = []
    rows: dict[str, list[Entries]] = {kind: [] for kind in KEPT[spec.detail]}
    while network.state.step < last:
        network.step()
        reach("step")
        assert network.block is not None
        blocks.append(network.block)
        for kind, parts in rows.items():
            parts.append(network.entries[kind])
        if clock() > deadline:
            raise RunTimeout(
                Trouble.RUN_TIMEOUT.tell(
                    run=spec.run_key[:12],
                    limit=f"{spec.max_seconds:g}",
                    step=network.state.step,
                    steps=spec.config.simulation.steps,
                )
            )
    joined = {kind: np.concatenate(parts) for kind, parts in rows.items() if parts}
    return tuple(blocks), joined


def _demand_room(spec: RunSpec, step: int, resident: Callable[[], float]) -> None:
    """Stop a run whose process has grown over its limit; the segment before has been handed on."""
    if spec.memory_mb is None:
        return
    held = resident()
    if held > spec.memory_mb:
        raise RunTooLarge(
            Trouble.RUN_TOO_LARGE.tell(
                run=spec.run_key[:12],
                step=step,
                steps=spec.config.simulation.steps,
                held=f"{held:,.0f}",
                limit=spec.memory_mb,
            )
        )
