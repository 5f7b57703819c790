"""What memory a run takes: memray sees every allocation, of arrays, and if asked for of each Python object.

Growth is what is left between checkpoints of the second half of the run: in the first, code is loaded
and caches fill up.
"""

from __future__ import annotations

import gc
import io
import shutil
import tempfile
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from sim_core.simulate import peak_rss_mb
from tasks.profiles.figures import SHOWN, Growth, Line, MemoryFigures, ObjectType
from tasks.profiles.watch import Mark, StepWatch

MB = float(1 << 20)
SNAPSHOT_MS = 2
"""Between two looks at the size of the heap."""
FEWEST_MARKS = 4
"""Checkpoints in the second half of a run from which growth can be told."""
MOST_MARKS = 100
STEADY_SHARE = 0.7
PROGRAM = Path(__file__).resolve().parents[2]
OURS = tuple(f"{PROGRAM / part}/" for part in ("sim_core", "tasks", "flows"))
Place = tuple[str, int, str]


class MemoryProbe:
    """Follows all allocations of this process."""

    def __init__(self, *, objects: bool) -> None:
        """Begin at once; with `objects`, what Python takes from its own pools is followed, too."""
        import memray

        self._memray: Any = memray
        self._before = count_types()
        self._folder = Path(tempfile.mkdtemp(prefix="quorumlab-memory-"))
        self._file = self._folder / "allocations.bin"
        self._tracker: Any = memray.Tracker(
            destination=memray.FileDestination(self._file, compress_on_exit=False),
            memory_interval_ms=SNAPSHOT_MS,
            trace_python_allocators=objects,
        )
        self._tracker.__enter__()

    def resume(self) -> None:
        """Go on; memray cannot look away meanwhile."""

    pause = resume

    def close(self) -> None:
        """End, and remove what `attachments` has not made use of."""
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        if self._tracker is not None:
            tracker, self._tracker = self._tracker, None
            tracker.__exit__(None, None, None)

    def attachments(self, watch: StepWatch) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of files: the flame graph, and figures."""
        self._stop()
        after = count_types()
        with self._memray.FileReader(self._file, max_memory_records=10**7) as reader:
            snapshots = list(reader.get_memory_snapshots())
            held = list(reader.get_high_watermark_allocation_records(merge_threads=True))
            figures = MemoryFigures(
                peak_mb=reader.metadata.peak_memory / MB,
                peak_rss_mb=max([peak_rss_mb(), *(s.rss / MB for s in snapshots)]),
                allocations=reader.metadata.total_allocations,
                lines=by_line((_place(r), r.size, r.n_allocations) for r in held),
                growth=growth_of(reader, snapshots, watch.marks),
                objects=changed_types(self._before, after),
            )
            yield "memory.html", flame_graph(reader.metadata, held, snapshots)
        yield "memory.json", msgspec.json.encode(figures)


def flame_graph(metadata: Any, held: Sequence[Any], snapshots: Sequence[Any]) -> bytes:
    """Return memray's page about what was held at the peak, which loads nothing from elsewhere."""
    from memray.reporters.flamegraph import FlameGraphReporter

    reporter = FlameGraphReporter.from_snapshot(
        iter(held),
        memory_records=tuple(snapshots[:: len(snapshots) // 2_000 + 1]),
        native_traces=False,
    )
    page = io.StringIO()
    reporter.render(page, metadata, False, True, False, no_web=True)
    return page.getvalue().encode()


def growth_of(reader: Any, snapshots: Sequence[Any], marks: Sequence[Mark]) -> Growth | None:
    """Return how memory grew over the second half of a run; None where there is too little of it."""
    late = list(marks[len(marks) // 2 :])
    if len(late) <= FEWEST_MARKS:
        return None
    late = late[:: -(-len(late) // MOST_MARKS)]
    at = lowest_between(snapshots, late)
    steps = [mark.step for mark in late[1:]]
    slope, is_steady = trend(steps, [snapshots[index].heap for index in at])
    first, last = at[0], at[-1]
    parts = (
        (_place(record), span.n_bytes, span.n_allocations)
        for record in reader.get_temporal_allocation_records(merge_threads=True)
        for span in record.intervals
        if first < span.allocated_before_snapshot <= last
        and (span.deallocated_before_snapshot or last + 1) > last
    )
    return Growth(steps[0], steps[-1], slope / 1024, is_steady, by_line(parts))


def lowest_between(snapshots: Sequence[Any], marks: Sequence[Mark]) -> list[int]:
    """Return which snapshot between each two marks has the least on the heap.

    What a step needs for a moment comes and goes; the least is what is held all the time.
    """
    times = [snapshot.time / 1e3 for snapshot in snapshots]
    ends = [bisect_right(times, mark.at) for mark in marks]
    found = []
    for begin, end in pairwise(ends):
        span = range(begin, end) or range(max(0, end - 1), max(1, end))
        found.append(min(span, key=lambda index: snapshots[index].heap))
    return found


def trend(steps: Sequence[int], heaps: Sequence[int]) -> tuple[float, bool]:
    """Return the median slope (after Theil and Sen), and whether nearly all differences go up.

    >>> trend([10, 20, 30, 40], [0, 1000, 2000, 3000])
    (100.0, True)
    >>> trend([10, 20, 30, 40], [0, 1000, 1000, 0])
    (0.0, False)
    """
    points = list(zip(steps, heaps, strict=True))
    slopes = [(h2 - h1) / (s2 - s1) for (s1, h1), (s2, h2) in combinations(points, 2)]
    ups = [later > earlier for earlier, later in pairwise(heaps)]
    return float(median(slopes)), sum(ups) >= STEADY_SHARE * len(ups)


def by_line(parts: Iterable[tuple[Place, int, int]]) -> tuple[Line, ...]:
    """Return the lines with the most memory, from places, bytes and numbers of allocations.

    >>> [(line.line, line.mb) for line in by_line([(("a.py", 1, "f"), 1 << 20, 1), (("a.py", 2, "f"), 2 << 20, 1)])]
    [(2, 2.0), (1, 1.0)]
    """
    n_bytes: dict[Place, int] = defaultdict(int)
    counts: dict[Place, int] = defaultdict(int)
    for place, size, number in parts:
        n_bytes[place] += size
        counts[place] += number
    most = sorted(n_bytes, key=lambda place: -n_bytes[place])[:SHOWN]
    return tuple(
        Line(file, line, function, n_bytes[place] / MB, counts[place])
        for place in most
        for file, line, function in [place]
    )


def _place(record: Any) -> Place:
    """Return the innermost line of this program that an allocation comes from, else the innermost."""
    stack = record.stack_trace() or [("(no Python code)", "", 0)]
    ours = next((frame for frame in stack if frame[1].startswith(OURS)), stack[0])
    function, file, line = ours
    return file.removeprefix(f"{PROGRAM}/"), line, function


def count_types() -> Counter[str]:
    """Return how many objects of each type the garbage collector knows; arrays are none of them."""
    gc.collect()
    return Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())


def changed_types(before: Counter[str], after: Counter[str]) -> tuple[ObjectType, ...]:
    """Return the types whose number has changed most.

    >>> [t.name for t in changed_types(Counter(a=1, b=5), Counter(a=3, b=5, c=9))]
    ['c', 'a']
    """
    found = [ObjectType(name, before[name], after[name]) for name in before | after]
    found = [one for one in found if one.growth]
    return tuple(sorted(found, key=lambda one: (-abs(one.growth), one.name))[:SHOWN])
