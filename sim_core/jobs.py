"""Several runs one after the other; what they have in common is simulated once."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sim_core.errors import QuorumlabError
from sim_core.forks import Trunk, families_of, shared_steps, whole_segments
from sim_core.simulate import OpenRunShards, RunSpec, Segment, resident_mb, simulate


@dataclass(frozen=True)
class RunError:
    """A run that ended without a result, and why."""

    run_key: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Attachment:
    """A file about a run that its worker has made, and that no result depends on."""

    run_key: str
    name: str
    content: bytes


Item = Segment | RunError | Attachment
"""What comes of a job."""
Job = tuple[RunSpec, bytes | None]
"""A run, and the checkpoint to go on from."""


def simulate_jobs(
    jobs: Sequence[Job], open_shards: OpenRunShards | None = None
) -> Iterator[Segment | RunError]:
    """Yield the segments of several runs, one run after the other; a failed one stops no other.

    Runs that follow each other and have their first steps in common share them: see `forks`.
    """
    trunk, families = Trunk(), families_of([spec for spec, _ in jobs])
    for index, (spec, checkpoint) in enumerate(jobs):
        opened = open_shards if spec.network_shards > 1 else None
        try:
            if checkpoint is None:
                family = families[index]
                members = [
                    other
                    for (other, begun), its in zip(jobs, families, strict=True)
                    if its == family and begun is None
                ]
                yield from _from_the_start(spec, family, members, trunk, opened)
            else:
                yield from simulate(spec, checkpoint, open_shards=opened)
        except Exception as error:  # noqa: BLE001 - whatever a run raises is that run's result
            yield _failed(spec, error)


def simulate_alone(
    job: Job,
    open_shards: OpenRunShards | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Segment | RunError]:
    """Yield the segments of one run, which takes nothing over from others.

    Args:
        job: The run.
        open_shards: Makes the shards of a network that has several.
        clock: Is asked when the run begins, after each step, and at the end of each segment.
    """
    spec, checkpoint = job
    opened = open_shards if spec.network_shards > 1 else None
    try:
        yield from simulate(spec, checkpoint, open_shards=opened, clock=clock)
    except Exception as error:  # noqa: BLE001 - whatever a run raises is that run's result
        yield _failed(spec, error)


def _from_the_start(
    spec: RunSpec,
    family: Hashable,
    members: Sequence[RunSpec],
    trunk: Trunk,
    open_shards: OpenRunShards | None,
) -> Iterator[Segment]:
    """Yield the segments of a run: those that the trunk has, then those that are simulated.

    A run that nothing is known of becomes the trunk of its family, if others follow.
    """
    goes_on = partial(simulate, open_shards=open_shards, resident=partial(_resident, spec, trunk))
    if trunk.family != family:
        forks = frozenset(
            min(shared_steps(spec), shared_steps(other)) for other in members if other is not spec
        )
        trunk.begin(family, last=max(forks, default=0))
        yield from whole_segments(spec, trunk.noting(goes_on(spec, None, cuts=forks)))
        return
    checkpoint: bytes | None = None
    for segment in trunk.segments_for(spec):
        checkpoint = segment.checkpoint
        yield segment
    yield from goes_on(spec, checkpoint)


def _resident(spec: RunSpec, trunk: Trunk) -> float:
    """Return the memory of this process; what a trunk holds is let go of before a run is too large."""
    held = resident_mb()
    if spec.memory_mb is not None and held > spec.memory_mb and trunk.n_bytes:
        trunk.forget()
        held = resident_mb()
    return held


def _failed(spec: RunSpec, error: Exception) -> RunError:
    return RunError(spec.run_key, _describe(error), traceback.format_exc())


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, QuorumlabError) else f"{type(error).__name__}: {error}"
