"""What runs in a worker of Ray: the runs of a shard, if they are here what was planned.

Ray is imported only when it has to be: who may talk to it is read once, when it is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sim_core.config import ModelConfig
from sim_core.error_table import Trouble
from sim_core.errors import QuorumlabError, Unavailable, UserError
from sim_core.identity import program, run_key
from sim_core.jobs import Attachment, Job
from sim_core.jobs import Item as Made
from sim_core.ledger.blocks import KEPT
from sim_core.plugins.sources import plugins_of
from sim_core.randomness import Streams
from sim_core.shard import Shards
from sim_core.sharding import ShardReplica, ShardSpec, open_sharded
from sim_core.simulate import RunSpec
from sim_core.simulated_network import SimulatedNetwork
from sim_core.state import State
from tasks.logs.writing import FILE as LOG_FILE
from tasks.logs.writing import LogTarget, written_by_worker
from tasks.occupancy import Place, here
from tasks.profiles.asked import simulate_as_asked

Item = TypeVar("Item")
GATHERING_SECONDS = 0.5
WARMING_STEPS = 5
WARMING_NODES = 2_000
"""Of a network whose steps cost nothing beside what a worker loads for its first one."""


def load_early(config: ModelConfig) -> None:
    """Load what simulating such a network takes, compiled passes too: a second and a half of a worker.

    What is wrong with the configuration is left to the run that has it, and so are plugins.
    """
    if config.simulation.nodes > WARMING_NODES or plugins_of(config):
        return
    with suppress(QuorumlabError):
        network = SimulatedNetwork(config)
        for _ in range(min(WARMING_STEPS, config.simulation.steps)):
            network.step()


class _RayRemote:
    """A shard of a network in a Ray actor."""

    def __init__(self, ray: Any, spec: ShardSpec) -> None:
        self._ray = ray
        self._actor = ray.remote(num_cpus=0)(ShardReplica).remote(spec)

    def submit(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Start a call; what is returned waits for its result."""
        reference = getattr(self._actor, method).remote(*arguments)
        return lambda: self._ray.get(reference)


def open_on_ray(
    config: ModelConfig,
    streams: Streams,
    liars: Any,
    state: State | None,
    *,
    n_shards: int,
    keeps_alerts: bool,
) -> Shards:
    """Return the shards of a network, all but the first of them in Ray actors."""
    import ray

    return open_sharded(
        config,
        streams,
        liars,
        state,
        n_shards=n_shards,
        keeps_alerts=keeps_alerts,
        open_remote=lambda part: _RayRemote(ray, part),
    )


def _open_shards(
    spec: RunSpec, config: ModelConfig, streams: Streams, liars: Any, state: State | None
) -> Shards:
    n_shards, keeps_alerts = spec.network_shards, "alert" in KEPT[spec.detail]
    return open_on_ray(config, streams, liars, state, n_shards=n_shards, keeps_alerts=keeps_alerts)


def simulate_in_shards(
    jobs: Sequence[Job], planned_by: dict[str, str] | None, log: LogTarget | None = None
) -> Iterator[Place | list[Made]]:
    """Yield where this is, then the segments of the jobs, those of a while together.

    Each object costs Ray milliseconds. It runs in a Ray worker, whose networks may reach over others:
    the shards beyond the first of a network live in actors, which end with the run.

    Args:
        jobs: The runs.
        planned_by: The program whose runs they are; None where it is certainly this one.
        log: Where to log; where its folder is not on this machine, what is logged comes with the segments.

    Raises:
        Unavailable: what would be simulated here is something else than what was planned.
    """
    me = here()
    if planned_by is not None:
        import ray

        node = ray.get_runtime_context().get_node_id()[:8]
        me = Place(f"{me.node}/{node}", me.pid)
        expect_the_same(jobs, planned_by, me)
    yield me
    with written_by_worker(log) as lines:
        for items in gathered(simulate_as_asked(jobs, _open_shards), GATHERING_SECONDS):
            yield [*_attached(lines, jobs), *items]


def _attached(lines: list[str], jobs: Sequence[Job]) -> list[Attachment]:
    """Return what has been logged since the last time, to be written where the log is."""
    if not lines:
        return []
    content = "".join(f"{line}\n" for line in lines).encode()
    lines.clear()
    return [Attachment(jobs[0][0].run_key, LOG_FILE, content)]


def expect_the_same(jobs: Sequence[Job], planned_by: dict[str, str], me: Place) -> None:
    """Return if runs have the same keys here: code, libraries, configuration, content of data files.

    Raises:
        Unavailable: a key differs, or a data file cannot be read.
    """
    for spec in {id(spec.config): spec for spec, _ in jobs}.values():
        try:
            is_same = run_key(spec.config, spec.seed, spec.replicate) == spec.run_key
        except UserError as error:
            raise Unavailable(Trouble.RAY_NODE_DIFFERS.tell(node=me.node, reason=error)) from error
        if not is_same:
            reason = _difference(planned_by, program())
            raise Unavailable(Trouble.RAY_NODE_DIFFERS.tell(node=me.node, reason=reason))


def _difference(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """Return in which versions two programs differ, in words.

    >>> _difference({"numpy": "2.4.1", "numba": "0.68"}, {"numpy": "2.3.0", "numba": "0.68"})
    'it has numpy 2.3.0, and the command numpy 2.4.1'
    """
    names = [name for name in theirs if theirs[name] != ours.get(name)]
    if not names:
        return "a data file has another content there"
    here, there = (", ".join(f"{n} {of.get(n)}" for n in names) for of in (theirs, ours))
    return f"it has {there}, and the command {here}"


def gathered(items: Iterable[Item], seconds: float) -> Iterator[list[Item]]:
    """Yield what comes of an iterable in lists, each of what came within so many seconds.

    >>> list(gathered("abc", seconds=60)), list(gathered("abc", seconds=0))
    ([['a', 'b', 'c']], [['a'], ['b'], ['c']])
    """
    some: list[Item] = []
    until = time.monotonic() + seconds
    for item in items:
        some.append(item)
        if time.monotonic() >= until:
            yield some
            some, until = [], time.monotonic() + seconds
    if some:
        yield some
