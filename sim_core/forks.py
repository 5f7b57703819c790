"""Runs that are the same up to a step: the steps before it are simulated once.

Two runs with the same seed, replicate and configuration but for their interventions have the same
history up to the earlier of these. The first of them that is simulated is the *trunk*: its segments
up to the last step that another needs are remembered, and given out again under the keys of
the others. Rows are the same bits; the chain of hashes, which begins with the run's key, is computed
anew, and the checkpoint carries key and head of the run that takes it over.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sim_core.checkpoint import readdress
from sim_core.config import InterventionConfig, ModelConfig
from sim_core.ledger.blocks import Block, block_hash, first_hash
from sim_core.simulate import Resources, RunSpec, Segment, next_end, peak_rss_mb

LARGEST_TRUNK = 256 << 20
"""Bytes of rows and checkpoints that are remembered; beyond, runs are simulated from the start."""


def families_of(specs: Sequence[RunSpec]) -> list[Hashable]:
    """Return what is the same of those runs whose first steps are the same, per run."""
    if not any(spec.config.intervention.step for spec in specs):
        return [spec.run_key for spec in specs]  # of which no two are the same
    bases: dict[
        int, str
    ] = {}  # by the configuration's id: its text takes a while, and points share it
    for spec in specs:
        if id(spec.config) not in bases:
            bases[id(spec.config)] = _base(spec.config)
    return [
        (
            bases[id(spec.config)],
            spec.seed,
            spec.replicate,
            spec.detail,
            spec.checkpoint_every,
            spec.compress_checkpoints,
        )
        if spec.fork
        else spec.run_key
        for spec in specs
    ]


def _base(config: ModelConfig) -> str:
    """Return what holds before any intervention, whatever the horizon."""
    one_step = config.simulation.model_copy(update={"steps": 1})
    update = {"intervention": InterventionConfig(), "simulation": one_step}
    return config.model_copy(update=update).model_dump_json()


def shared_steps(spec: RunSpec) -> int:
    """Return how many steps of a run are those of its family.

    >>> shared_steps(RunSpec("00" * 32, ModelConfig(), seed=1, replicate=0))
    100
    """
    steps = spec.config.simulation.steps
    return min(steps, spec.config.intervention.step or steps)


def in_families(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Return runs in families, those with most steps in common first; a run alone is one by itself.

    Families are in the order of their first runs.
    """
    families: dict[Hashable, list[RunSpec]] = {}
    for spec, family in zip(specs, families_of(specs), strict=True):
        families.setdefault(family, []).append(spec)
    return [sorted(family, key=shared_steps, reverse=True) for family in families.values()]


def whole_segments(spec: RunSpec, pieces: Iterable[Segment]) -> Iterator[Segment]:
    """Yield a run's segments, whose pieces may end at more places."""
    waiting: list[Segment] = []
    for piece in pieces:
        waiting.append(piece)
        if piece.next_step == next_end(spec, waiting[0].first_step):
            yield joined(waiting)
            waiting = []


def joined(pieces: list[Segment]) -> Segment:
    """Return consecutive segments of a run as one."""
    if len(pieces) == 1:
        return pieces[0]
    last, used = pieces[-1], [piece.resources for piece in pieces]
    kinds = list(last.rows)
    return replace(
        last,
        first_step=pieces[0].first_step,
        blocks=tuple(block for piece in pieces for block in piece.blocks),
        rows={kind: np.concatenate([piece.rows[kind] for piece in pieces]) for kind in kinds},
        resources=Resources(
            sum(part.wall_seconds for part in used),
            sum(part.cpu_seconds for part in used),
            last.resources.peak_rss_mb,
        ),
    )


@dataclass
class Trunk:
    """The history of a family, as far as it is known and needed."""

    family: Hashable = None
    pieces: list[Segment] = field(default_factory=list)
    n_bytes: int = 0
    _last: int = 0

    def begin(self, family: Hashable, last: int) -> None:
        """Forget what is known; remember another family up to a step."""
        self.forget()
        self.family, self._last = family, last

    def forget(self) -> None:
        """Remember nothing of the family any more: its runs are simulated from the start."""
        self.pieces, self.n_bytes, self._last = [], 0, 0

    def noting(self, pieces: Iterable[Segment]) -> Iterator[Segment]:
        """Yield the segments of the run that is simulated, and remember those that others need."""
        for piece in pieces:
            if piece.next_step <= self._last:
                self._note(piece)
            yield piece

    def _note(self, piece: Segment) -> None:
        rows = sum(entries.nbytes for entries in piece.rows.values())
        self.n_bytes += rows + len(piece.checkpoint)
        if self.n_bytes > LARGEST_TRUNK:
            self.forget()
        else:
            self.pieces.append(piece)

    def segments_for(self, spec: RunSpec) -> Iterator[Segment]:
        """Yield the segments of another run of the family that are known.

        Its last segment is never among them: it has the summary, which is the run's own.
        """
        head, last = first_hash(spec.run_key), shared_steps(spec)
        waiting: list[Segment] = []
        wall, cpu = time.monotonic(), time.process_time()
        for piece in self.pieces:
            waiting.append(piece)
            end = next_end(spec, waiting[0].first_step)
            if end > last or end == spec.config.simulation.steps:
                return
            if piece.next_step == end:
                segment = _readdressed(joined(waiting), spec, head)
                head, waiting = segment.head, []
                now, cpu_now = time.monotonic(), time.process_time()
                used = Resources(now - wall, cpu_now - cpu, peak_rss_mb())
                yield replace(segment, resources=used)
                wall, cpu = time.monotonic(), time.process_time()


def _readdressed(segment: Segment, spec: RunSpec, head: bytes) -> Segment:
    """Return a segment as it is in another run, in which `head` is the hash before it."""
    blocks = []
    for block in segment.blocks:
        following = block_hash(head, block.step, block.digests)
        blocks.append(Block(block.step, head, following, block.digests))
        head = following
    return replace(
        segment,
        run_key=spec.run_key,
        head=head,
        blocks=tuple(blocks),
        checkpoint=readdress(segment.checkpoint, spec.run_key, head),
        summary=None,
        shared=True,
    )
