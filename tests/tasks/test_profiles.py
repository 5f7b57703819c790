"""Profiles: what is seeded is named, in words; results are those of runs that nobody looks at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sim_core import faultpoints
from sim_core.jobs import Attachment, Item, RunError, simulate_jobs
from sim_core.simulate import RunSpec, Segment
from tasks.executors import InlineExecutor
from tasks.profiles.asked import simulate_as_asked
from tasks.profiles.attached import PATIENCE
from tasks.profiles.figures import (
    Growth,
    Line,
    MemoryFigures,
    Operation,
    Operations,
    Profile,
    Subject,
    TimeFigures,
)
from tasks.profiles.findings import findings_of
from tasks.profiles.keep import ProfileFolder, read_profiles
from tasks.profiles.watch import StepWatch

MakeSpec = Callable[..., RunSpec]
STEPS = {"simulation": {"steps": 48}}
SUBJECT = Subject("ab" * 32, "e", "base", 0, 1, 8, 48)
VOID = ("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source")


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that lets something happen at each step of runs in this process."""

    def seed(action: str) -> None:
        monkeypatch.setattr(faultpoints, "_FAULTS", faultpoints.parse_faults(f"step:0:{action}"))

    yield seed
    faultpoints._LEAKED.clear()


def attachments(items: Sequence[Item]) -> dict[str, bytes]:
    return {item.name: item.content for item in items if isinstance(item, Attachment)}


def content(items: Sequence[Item]) -> list[Any]:
    """Return everything of segments that results consist of."""
    return [
        (s.run_key, s.first_step, s.head, s.checkpoint, s.summary, sorted(s.rows))
        for s in items
        if isinstance(s, Segment)
    ]


def profiled(kind: str, spec: RunSpec) -> dict[str, bytes]:
    return attachments(list(simulate_as_asked([(replace(spec, profile=kind), None)])))


class Checker(HTMLParser):
    """Counts that every element that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag


def expect_page(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert page.lower().lstrip().startswith("<!doctype html>")
    assert not set(checker.open) - {"html", "body", "p", "li"}, checker.open
    assert checker.seen >= {"html", "head", "body"}


@pytest.mark.parametrize("kind", ["time", "memory", "objects"])
def test_profiled_runs_give_the_same_segments(make_spec: MakeSpec, kind: str) -> None:
    specs = [make_spec(replicate=n) for n in range(3)]
    plain = content(list(simulate_jobs([(spec, None) for spec in specs])))
    asked = [replace(spec, profile=kind if n != 1 else "off") for n, spec in enumerate(specs)]
    items = list(InlineExecutor().execute([(spec, None) for spec in asked]))
    assert content(items) == plain
    names = [item.name for item in items if isinstance(item, Attachment)]
    file = "memory" if kind == "objects" else kind
    assert names == [f"{file}.html", f"{file}.json"] * 2


def test_profiled_run_that_fails_fails_as_it_does_otherwise(make_spec: MakeSpec) -> None:
    spec = make_spec(simulation={"steps": 400})
    hasty = replace(spec, max_seconds=0.0, profile="time")
    (plain,) = simulate_jobs([(replace(hasty, profile="off"), None)])
    found = list(simulate_as_asked([(hasty, None)]))
    assert isinstance(plain, RunError)
    assert [i.message for i in found if isinstance(i, RunError)] == [plain.message]
    assert PATIENCE > 1


def test_run_is_executed_where_a_profiler_is_at_work_already(
    make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    spec = replace(make_spec(), profile="memory")
    outer = simulate_as_asked([(spec, None)])
    next(outer)
    inner = list(simulate_as_asked([(spec, None)]))
    assert content(inner) == content(list(simulate_jobs([(spec, None)])))
    assert not attachments(inner)
    assert "is not profiled" in caplog.text
    assert len(attachments(list(outer))) == 2


def test_abandoned_profile_leaves_no_profiler_behind(make_spec: MakeSpec) -> None:
    for kind in ("time", "memory", "time", "memory"):
        items = simulate_as_asked([(replace(make_spec(), profile=kind), None)])
        next(items)
        items.close()  # type: ignore[attr-defined]
    assert threading.active_count() >= 1
    assert len(profiled("memory", make_spec())) == 2


def test_slow_function_is_named(make_spec: MakeSpec, seeded: Callable[[str], None]) -> None:
    seeded("dawdle")
    files = profiled("time", make_spec(**STEPS))
    figures = msgspec.json.decode(files["time.json"], type=TimeFigures)
    assert figures.by_own[0].name == "_dawdle"
    assert figures.by_own[0].file == "sim_core/faultpoints.py"
    assert figures.by_own[0].own_share > 0.5
    (found,) = (f for f in findings_of(figures, None) if f.kind == "dominant function")
    assert "_dawdle (sim_core/faultpoints.py" in found.text
    assert found.advice
    above = {f.name for f in figures.by_total if f.seconds >= figures.by_own[0].seconds}
    assert {"simulate", "_advance", "reach"} <= above
    assert figures.by_total[0].name == "simulate", "what called the run is left out"


def test_functions_and_steps_are_sorted(make_spec: MakeSpec) -> None:
    files = profiled("time", make_spec(**STEPS))
    figures = msgspec.json.decode(files["time.json"], type=TimeFigures)
    own = [f.own_seconds for f in figures.by_own]
    total = [f.seconds for f in figures.by_total]
    slowest = [o.seconds for o in figures.operations.slowest]
    for values in (own, total, slowest):
        assert len(values) > 3
        assert values == sorted(values, reverse=True)
    assert all(f.own_seconds <= f.seconds + 1e-9 for f in figures.by_total)
    assert figures.operations.n == 48 + 12, "steps and checkpoints"
    assert max(f.share for f in figures.by_total) <= 1 + 1e-9


@pytest.mark.parametrize("kind", ["memory", "objects"])
def test_leak_is_named(make_spec: MakeSpec, seeded: Callable[[str], None], kind: str) -> None:
    seeded("leak")
    files = profiled(kind, make_spec(**STEPS))
    figures = msgspec.json.decode(files["memory.json"], type=MemoryFigures)
    assert figures.growth is not None
    assert figures.growth.is_steady
    assert figures.growth.kb_per_step == pytest.approx(256, rel=0.6), "256 KB a step"
    assert figures.growth.lines[0].function == "_leak"
    found = findings_of(None, figures)
    assert [(f.kind, f.severity) for f in found] == [("growing memory", "high")]
    assert "_leak (sim_core/faultpoints.py:" in found[0].text
    assert figures.lines[0].function == "_leak", "it holds most at the peak, too"
    assert figures.peak_mb > 48 * 0.25
    sizes = [line.mb for line in figures.lines]
    assert sizes == sorted(sizes, reverse=True)


def test_objects_are_seen_only_if_asked_for(make_spec: MakeSpec) -> None:
    counts = [
        msgspec.json.decode(profiled(kind, make_spec())["memory.json"], type=MemoryFigures)
        for kind in ("memory", "objects")
    ]
    assert counts[1].allocations > 2 * counts[0].allocations


def test_ordinary_run_has_no_findings(make_spec: MakeSpec) -> None:
    spec = make_spec(**STEPS)
    list(simulate_jobs([(spec, None)]))  # what is loaded once per process is no growth
    files = profiled("objects", spec)
    figures = msgspec.json.decode(files["memory.json"], type=MemoryFigures)
    assert findings_of(None, figures) == ()
    assert figures.peak_rss_mb > figures.peak_mb


def test_short_run_says_nothing_about_growth(make_spec: MakeSpec) -> None:
    files = profiled("memory", make_spec())
    assert msgspec.json.decode(files["memory.json"], type=MemoryFigures).growth is None


def timed(longest: float, slow_share: float) -> TimeFigures:
    operations = Operations(
        100, 0.1, 0.1, 0.2, longest, slow_share, (Operation("step 7", longest),)
    )
    return TimeFigures(10.0, 9.0, 100, 0.001, (), (), operations)


def sized(peak_mb: float, growth: Growth | None = None) -> MemoryFigures:
    line = Line("a.py", 3, "f", peak_mb, 1)
    return MemoryFigures(peak_mb, peak_mb + 100, 10, (line,), growth, ())


@pytest.mark.parametrize(
    ("longest", "slow_share", "kinds"),
    [
        (1.0, 0.2, []),
        (1.1, 0.2, [("slow operation", "medium")]),
        (5.0, 0.0, [("slow operation", "medium")]),
        (5.1, 0.0, [("very slow operation", "high")]),
        (5.1, 0.21, [("very slow operation", "high"), ("many slow operations", "high")]),
    ],
)
def test_thresholds_of_time(
    longest: float, slow_share: float, kinds: list[tuple[str, str]]
) -> None:
    found = findings_of(timed(longest, slow_share), None)
    assert [(f.kind, f.severity) for f in found] == kinds
    assert all(f.advice for f in found)


@pytest.mark.parametrize(
    ("peak_mb", "kinds"),
    [
        (100.0, []),
        (101.0, [("large memory", "medium")]),
        (500.0, [("large memory", "medium")]),
        (501.0, [("very large memory", "high")]),
    ],
)
def test_thresholds_of_memory(peak_mb: float, kinds: list[tuple[str, str]]) -> None:
    found = findings_of(None, sized(peak_mb))
    assert [(f.kind, f.severity) for f in found] == kinds
    assert all("f (a.py:3)" in f.text for f in found)


@pytest.mark.parametrize(
    ("kb_per_step", "is_steady", "severities"),
    [
        (10.0, True, []),
        (11.0, True, ["medium"]),
        (52.0, True, ["high"]),
        (52.0, False, []),
        (-5.0, True, []),
    ],
)
def test_thresholds_of_growth(kb_per_step: float, is_steady: bool, severities: list[str]) -> None:
    growth = Growth(50, 200, kb_per_step, is_steady, ())
    assert [f.severity for f in findings_of(None, sized(1.0, growth))] == severities


def test_what_little_a_short_run_keeps_is_no_leak() -> None:
    assert not findings_of(None, sized(1.0, Growth(50, 60, 100.0, True, ())))
    assert findings_of(None, sized(1.0, Growth(50, 61, 100.0, True, ())))


def test_severest_finding_comes_first() -> None:
    found = findings_of(timed(1.5, 0.0), sized(900.0))
    assert [f.severity for f in found] == ["high", "medium"]


def test_steps_are_timed_without_what_happens_between_segments(make_spec: MakeSpec) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    watch = StepWatch(1.5, clock)
    segment = next(iter(simulate_jobs([(make_spec(), None)])))
    assert isinstance(segment, Segment)

    def run() -> Iterator[Segment]:
        for part in range(2):
            for _ in range(4 + (not part) + 1):  # at the start, after each step, at the end
                watch()
            yield replace(segment, first_step=4 * part, next_step=4 * part + 4)

    for _ in watch.pulled(run()):
        now[0] += 1_000.0
    operations = watch.operations()
    names = [o.name for o in sorted(operations.slowest, key=lambda o: -o.seconds)]
    assert operations.n == 2 * 5
    assert names[0] == "set-up and step 0"
    assert operations.longest == 2.0
    assert operations.slow_share == pytest.approx(0.1)
    assert [mark.step for mark in watch.marks] == [4, 8]
    assert all(a.at <= b.at for a, b in pairwise(watch.marks))


def test_files_of_a_profile(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(**STEPS)
    place = tmp_path / "profiles"
    folder = ProfileFolder(place, lambda _: SUBJECT, "one")
    for kind in ("time", "memory"):
        for item in simulate_as_asked([(replace(spec, profile=kind), None)]):
            if isinstance(item, Attachment):
                folder.add(item)
    names = {path.name for path in (place / "one").iterdir()}
    assert names == {"time.html", "memory.html", "profile.json", "report.md", "report.html"}
    for name in ("time.html", "memory.html", "report.html"):
        expect_page((place / "one" / name).read_text("utf-8"))
    (profile,), broken = read_profiles(tmp_path)
    assert profile == folder.profiles()[0]
    assert not broken
    report = (place / "one/report.md").read_text("utf-8")
    assert "## Functions by their own time" in report
    assert "## Memory at the peak, by line" in report
    assert "simulate" in report


def test_words_of_a_profile_are_no_markup(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    figures = sized(200.0)
    figures = msgspec.structs.replace(figures, lines=(Line(bad, 1, bad, 1.0, 1),))
    folder = ProfileFolder(
        tmp_path / "profiles", lambda _: msgspec.structs.replace(SUBJECT, point=bad), "one"
    )
    folder.add(Attachment("ab" * 32, "memory.json", msgspec.json.encode(figures)))
    assert bad not in (tmp_path / "profiles/one/report.html").read_text("utf-8")


def test_damaged_profile_is_left_out(tmp_path: Path) -> None:
    for name, text in (("good", None), ("bad", b"{"), ("other", b'{"name": 3}')):
        path = tmp_path / "profiles" / name / "profile.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(text or msgspec.json.encode(Profile(name, 1.0, SUBJECT)))
    found, broken = read_profiles(tmp_path)
    assert [profile.name for profile in found] == ["good"]
    assert [path.parent.name for path in broken] == ["bad", "other"]
