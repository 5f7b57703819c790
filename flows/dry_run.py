"""What an experiment would be: points, runs, the recording that it replays, time, memory, disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console

from flows.launch import check_before_start
from sim_core.checkpoint import encode
from sim_core.config import ExperimentConfig, ModelConfig
from sim_core.plan import Point
from sim_core.simulate import peak_rss_mb
from sim_core.simulated_network import SimulatedNetwork
from sim_core.traffic.replay import Replay
from sim_core.traffic.scaling import Recording

SAMPLED_POINTS = 4
SAMPLED_STEPS = 5
SHOWN_NAMES = 12


def show_dry_run(config: ExperimentConfig, points: Sequence[Point], console: Console) -> None:
    """Print points, runs, and estimates of time, memory and disk; write nothing."""
    plan = check_before_start(config, points)
    samples = plan.configs[:: max(1, len(plan.configs) // SAMPLED_POINTS)]
    seconds, n_bytes = [], []
    recordings: dict[tuple[tuple[str, str], ...], None] = {}  # in order, each once
    for sample in samples:
        network = SimulatedNetwork(sample, seed=config.experiment.seed)
        if isinstance(network.traffic, Replay):
            recordings[_in_words(network.traffic, sample)] = None
        network.step()  # the first one also loads compiled code, or compiles it
        n_steps = min(SAMPLED_STEPS, sample.simulation.steps - 1)
        began = time.perf_counter()
        for _ in range(n_steps):
            network.step()
        elapsed = (time.perf_counter() - began) / max(1, n_steps)
        seconds.append(elapsed * sample.simulation.steps)
        state = encode(network.state, "00" * 32, compress=config.checkpoint.compress)
        n_bytes.append(len(state) * config.checkpoint.keep)
    n_runs = len(plan.runs)
    workers = (
        1 if config.executor.kind == "inline" else config.executor.num_cpus or os.cpu_count() or 1
    )
    whole = sum(seconds) / len(seconds) * n_runs / workers
    disk = sum(n_bytes) / len(n_bytes) * n_runs + 300 * config.simulation.steps * n_runs
    console.print(f"experiment   {plan.name}")
    more = f", ... {plan.labels[-1]}" if len(plan.labels) > 20 else ""
    console.print(f"points       {len(plan.labels)}: {', '.join(plan.labels[:20])}{more}")
    console.print(f"runs         {n_runs} of {config.simulation.steps} steps{_and_more(config)}")
    for lines in recordings:
        for head, words in lines:
            console.print(f"{head:<12} {words}", soft_wrap=True)
    console.print(f"time         {_time(whole)} on {workers} processors, without start-up")
    console.print(f"memory       about {peak_rss_mb() * workers:,.0f} MB in {workers} workers")
    console.print(f"disk         {f'about {disk / 1e6:,.0f}' if disk >= 1e6 else 'less than 1'} MB")


def _and_more(config: ExperimentConfig) -> str:
    """Return how far the number of runs may grow, in words; nothing where it may not."""
    until = config.experiment.until
    if until is None:
        return ""
    return (
        f" at first; at most {until.maximum} replicates of a point, "
        f"{until.maximum / until.minimum:.0f} times of all below"
    )


def _time(seconds: float) -> str:
    """Return a time in words.

    >>> _time(0.2), _time(42), _time(200), _time(9_000)
    ('about 1 s', 'about 42 s', 'about 3.3 minutes', 'about 2.5 hours')
    """
    if seconds < 60:
        return f"about {max(1, seconds):.0f} s"
    return (
        f"about {seconds / 60:.1f} minutes"
        if seconds < 5_400
        else f"about {seconds / 3_600:.1f} hours"
    )


def _in_words(traffic: Replay, config: ModelConfig) -> tuple[tuple[str, str], ...]:
    """Return what is replayed of a recording, of which rows detectors start, and what they see."""
    recording = traffic.recording
    counts = np.bincount(recording.label, minlength=len(recording.families) + 1).tolist()
    kinds = ("benign", *recording.families)
    found = [f"{n:,} {kind}" for n, kind in zip(counts, kinds, strict=True) if n]
    n_pools, n_pool, _ = recording.pool.shape
    of_each = f" for each of {n_pools} groups of nodes" if n_pools > 1 else ""
    names = recording.feature_names
    return (
        ("traffic", f"{recording.path}: {len(recording.label):,} rows to replay"),
        ("", _some(found)),
        ("warm-up", f"{n_pool:,} benign rows besides{of_each}"),
        ("features", f"{len(names)}: {_some(names)}"),
        *_owners(recording, config),
    )


def _owners(recording: Recording, config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Yield how the values of an id column are spread over nodes, where they are."""
    if recording.owner is None or config.traffic.split != "column":  # type: ignore[union-attr]
        return
    n_nodes, n_values = config.simulation.nodes, len(np.unique(recording.owner))
    told = f"{n_nodes:,}, for {n_values:,} different values of the id column: "
    if n_nodes == n_values:
        yield "nodes", told + "one each"
    elif n_nodes < n_values:
        yield "nodes", told + "some see the rows of several"
    else:
        yield "nodes", told + "some share theirs with others"


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
