"""What a profile says, as values: what is in `profile.json`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

SHOWN = 25
"""Functions, lines and types that a profile keeps, of those with the most."""
Severity = Literal["high", "medium", "low"]


class Function(Struct, frozen=True):
    """A function, and the time that was spent in it."""

    name: str
    file: str
    line: int
    own_seconds: float
    """In its own code, and in C and compiled code that it has called."""
    seconds: float
    """With all that it has called."""
    own_share: float
    share: float


class Operation(Struct, frozen=True):
    """Something that a run does over and over: a step, or a checkpoint."""

    name: str
    seconds: float


class Operations(Struct, frozen=True):
    """How long the operations of a run took, in seconds."""

    n: int
    mean: float
    p50: float
    p95: float
    longest: float
    slow_share: float
    """Share of them that took longer than `findings.SLOW_SECONDS`."""
    slowest: tuple[Operation, ...]


class TimeFigures(Struct, frozen=True):
    """Where the time of a run went."""

    seconds: float
    cpu_seconds: float
    samples: int
    interval_seconds: float
    by_own: tuple[Function, ...]
    by_total: tuple[Function, ...]
    operations: Operations


class Line(Struct, frozen=True):
    """A line of source, and memory that was allocated there."""

    file: str
    line: int
    function: str
    mb: float
    allocations: int


class Growth(Struct, frozen=True):
    """What is held longer and longer between two steps."""

    first_step: int
    last_step: int
    kb_per_step: float
    """Median of the slopes between checkpoints; negative where memory shrinks."""
    is_steady: bool
    """Whether nearly every checkpoint left more than the one before."""
    lines: tuple[Line, ...]
    """Where what was allocated between these steps and is still held afterwards comes from."""


class ObjectType(Struct, frozen=True):
    """Python objects of a type that the garbage collector knows, before and after the run."""

    name: str
    before: int
    after: int

    @property
    def growth(self) -> int:
        """Return how many there are more."""
        return self.after - self.before


class MemoryFigures(Struct, frozen=True):
    """What memory a run took, beyond what its process had before."""

    peak_mb: float
    peak_rss_mb: float
    """Of the whole process."""
    allocations: int
    lines: tuple[Line, ...]
    """Held at the peak."""
    growth: Growth | None
    """None where a run has too few checkpoints to tell."""
    objects: tuple[ObjectType, ...]
    """Those whose number has changed most."""


class Finding(Struct, frozen=True):
    """Something worth a word."""

    kind: str
    severity: Severity
    text: str
    advice: str


class Subject(Struct, frozen=True):
    """Which run was profiled."""

    run_key: str
    experiment: str
    point: str
    replicate: int
    seed: int
    nodes: int
    steps: int


class Profile(Struct, frozen=True):
    """All that is known of one run."""

    name: str
    created: float
    """Seconds since 1970."""
    subject: Subject
    time: TimeFigures | None = None
    memory: MemoryFigures | None = None
    findings: tuple[Finding, ...] = ()
