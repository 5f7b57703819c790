"""Where the time of a run goes: pyinstrument looks at the stack every half millisecond."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

import msgspec

from tasks.profiles.figures import SHOWN, Function, TimeFigures
from tasks.profiles.watch import StepWatch

INTERVAL_SECONDS = 0.0005
BUILT_IN = "<built-in>"
"""Where pyinstrument says that functions written in C are; their time is that of who calls them."""
RUN = "simulate_alone\0"
"""Where a run begins; what has called it is none of its business."""
ORPHAN = 2
"""Length of a stack of a thread and one function, as compiled ones have."""
Key = tuple[str, str, int]
Record = tuple[list[str], float]


class TimeProbe:
    """Samples the thread that a run is executed in."""

    def __init__(self) -> None:
        """Begin with nothing."""
        from pyinstrument import Profiler

        self._new: Any = Profiler
        self._profiler: Any = None
        self._sessions: list[Any] = []

    def resume(self) -> None:
        """Go on."""
        self._profiler = self._new(interval=INTERVAL_SECONDS, async_mode="disabled")
        self._profiler.start(target_description="a run")

    def pause(self) -> None:
        """Look away until `resume`."""
        if self._profiler is not None:
            profiler, self._profiler = self._profiler, None
            self._sessions.append(profiler.stop())

    close = pause

    def attachments(self, watch: StepWatch) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of files: the flame graph, and figures."""
        from pyinstrument.renderers import HTMLRenderer

        session = joined(self._sessions)
        yield "time.html", HTMLRenderer().render(session).encode()
        yield "time.json", msgspec.json.encode(figures_of(session, watch))


def joined(sessions: list[Any]) -> Any:
    """Return sessions as one; pyinstrument's own way copies all samples for each of them."""
    first, *others = sessions
    for other in others:
        first.frame_records.extend(other.frame_records)
        first.duration += other.duration
        first.cpu_time += other.cpu_time
        first.sample_count += other.sample_count
    first.frame_records = below_the_run(first.frame_records)
    return first


def below_the_run(records: Iterable[Record]) -> list[Record]:
    """Return samples without what is above the run, and with compiled functions where they belong.

    Numba's functions have no caller that pyinstrument could see. They are put below what the samples
    before and after them have in common: below their caller, or someone who has called that.

    >>> sample = lambda *names: [name + chr(0) + "a.py" + chr(0) + "1" for name in names]
    >>> found = below_the_run([(sample("thread", "main", "simulate_alone", "simulate", "step"), 1.0),
    ...     (sample("thread", "compiled"), 2.0), (sample("thread", "main", "simulate_alone", "simulate"), 3.0)])
    >>> [[part.split(chr(0))[0] for part in stack] for stack, _ in found]
    [['thread', 'simulate', 'step'], ['thread', 'simulate', 'compiled'], ['thread', 'simulate']]
    """
    found: list[Record] = []
    before: list[str] = []
    orphans: list[Record] = []
    for stack, seconds in records:
        cut = next((i for i, part in enumerate(stack) if part.startswith(RUN)), None)
        if cut is None:
            orphans += [(stack, seconds)] if len(stack) == ORPHAN else []
            continue
        whole = [stack[0], *stack[cut + 1 :]]
        common = _common(before, whole) or whole[:2]
        found += [([*common, orphan[-1]], spent) for orphan, spent in orphans]
        found.append((whole, seconds))
        before, orphans = whole, []
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return what two stacks begin with, whatever lines they are at."""
    pairs = takewhile(lambda pair: _name(pair[0]) == _name(pair[1]), zip(one, other, strict=False))
    return [part for _, part in pairs]


def _name(part: str) -> str:
    return part.partition("\x01")[0]


def figures_of(session: Any, watch: StepWatch) -> TimeFigures:
    """Return the functions that took most of a session's time, by either measure."""
    root = session.root_frame()
    own: dict[Key, float] = defaultdict(float)
    total: dict[Key, float] = defaultdict(float)
    for frame in root.children if root is not None else ():
        _add(frame, session, own, total)
    seconds = sum(own.values()) or 1.0
    functions = [
        Function(*key, own[key], spent, own[key] / seconds, spent / seconds)
        for key, spent in total.items()
    ]
    return TimeFigures(
        seconds=session.duration,
        cpu_seconds=session.cpu_time,
        samples=session.sample_count,
        interval_seconds=INTERVAL_SECONDS,
        by_own=tuple(sorted(functions, key=lambda f: -f.own_seconds)[:SHOWN]),
        by_total=tuple(sorted(functions, key=lambda f: -f.seconds)[:SHOWN]),
        operations=watch.operations(),
    )


def _add(root: Any, session: Any, own: dict[Key, float], total: dict[Key, float]) -> None:
    """Add up times below a frame; a function that calls itself is counted once."""
    waiting: list[tuple[Any, frozenset[Key], Key]] = [(root, frozenset(), ("", "", 0))]
    while waiting:
        frame, above, caller = waiting.pop()
        in_c = frame.is_synthetic or frame.file_path in (None, BUILT_IN)
        key = caller if in_c and above else _key(frame, session)
        own[key] += frame.time - sum(child.time for child in frame.children)
        if key not in above:
            total[key] += frame.time
        below = above | {key}
        waiting += [(child, below, key) for child in frame.children]


def _key(frame: Any, session: Any) -> Key:
    return frame.function, session.shorten_path(frame.file_path or ""), frame.line_no or 0
