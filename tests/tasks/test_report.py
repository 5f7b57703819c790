"""The page of a comparison: it says what the verdicts say, refers to nothing, and trusts no name."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.telling import FIGURES, in_short
from sim_core.results import RunRecord, interval, metric_names
from tasks.plots.factors import Spot
from tasks.plots.gallery import ranked_metrics
from tasks.report_tables import Origin
from tasks.write_report import Subject, render_report, write_report
from tests.core.test_comparison_report import record

HOSTILE = "<script>alert(1)</script>&\"'\n$\\frac{\x00"
N_STEPS = 30
ENVIRONMENT = {
    "python": "3.11.0",
    "git_commit": "0123456789abcdef",
    "packages": {"quorumlab": "9.9", "numpy": "8.8"},
}


def make_records(points: Mapping[str, Mapping[str, Any]], replicates: int = 5) -> list[RunRecord]:
    """Return runs whose F1 falls and messages rise from point to point, far above the noise."""
    found = []
    for index, (label, values) in enumerate(points.items()):
        for replicate in range(replicates):
            noise = np.random.default_rng([index, replicate]).normal(0, 0.005)
            metrics = {
                "f1": 0.9 - 0.1 * (index % 5) + noise,
                "messages_sent": 1000.0 * (1 + index) + 500 * noise,
                "precision": None,
            }
            found.append(
                record(
                    label,
                    replicate,
                    metrics,
                    point=dict(values),
                    point_index=index,
                    run_id=f"{index}-{replicate}",
                )
            )
    return found


def make_steps(records: Sequence[RunRecord], labels: Sequence[str]) -> pd.DataFrame:
    steps = np.arange(N_STEPS)
    frames = [
        pd.DataFrame(
            {
                "run_id": r.run_id,
                "label": r.label,
                "step": steps,
                "honest_tp": 1,
                "honest_fn": 1,
                "f1": r.metrics["f1"],
                "precision": np.nan,
                "messages_sent": 10.0 + r.replicate,
            }
        )
        for r in records
        if r.label in labels and r.state == "finished"
    ]
    columns = ["run_id", "label", "step"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def subject_of(
    points: Mapping[str, Mapping[str, Any]],
    records: Sequence[RunRecord] | None = None,
    *,
    title: str = "mine",
    report: Report | None = None,
) -> Subject:
    runs = make_records(points) if records is None else records
    names = metric_names(runs)
    spots = [
        Spot(label, values, {m: interval([r.metrics.get(m) for r in runs if r.label == label and r.state == "finished"]) for m in names})
        for label, values in points.items()
    ]  # fmt: skip
    found = report or compare(runs, list(points), Question())
    origin = Origin(title, 7, ("f" * 64,), len(runs), len(runs), ENVIRONMENT)
    return Subject(title, [origin], spots, found, lambda labels: make_steps(runs, labels))


THREE = {"a": {"share": 0.0}, "b": {"share": 0.1}, "c": {"share": 0.2}}


class Page(HTMLParser):
    """What a browser would find: tags in balance, text, attributes."""

    EMPTY = frozenset(["meta", "line", "rect", "polyline", "polygon", "circle", "br"])

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1] += [data.strip()]

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def test_page_says_every_sentence_and_every_figure_of_the_verdicts() -> None:
    subject = subject_of(THREE)
    assert subject.report is not None
    assert len(subject.report.findings) == 4
    text, pictures = render_report(subject)
    page = Page(text)
    for comparison in subject.report.comparisons:
        if comparison.is_finding:
            assert comparison.sentence in page.text
        drawn = {p.name: p.alternative for p in pictures}.get(f"effects_{comparison.metric}")
        if comparison.found.difference is None:
            assert drawn is None
            assert f"{comparison.metric}: undefined in all replicates" in page.text
        else:
            assert drawn is not None
            words = f"{comparison.point}: {comparison.amount}, {in_short(comparison)}"
            assert words in drawn
            assert any(words in text for text in page.values("aria-label"))
        figures = [figure(comparison) for figure in FIGURES.values()]
        cells = [comparison.metric, "5 pairs", *figures, in_short(comparison)]
        assert comparison.found.n == 0 or cells in page.rows
    for fact in (
        "0.05, the probability",
        "Holm, over 4 tests",
        "ffffffffffff",
        "0123456789ab",
        "9.9",
    ):
        assert fact in page.text


def test_page_refers_to_nothing_outside_and_runs_nothing() -> None:
    text, _ = render_report(subject_of(THREE))
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "a",
        "use",
    }
    for attribute in ("src", "href", "xlink:href", "style", "data", "srcset"):
        assert page.values(attribute) == []
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    outside = re.findall(r"(?:https?:)?//[^\s\"'<]+|url\(|@import", text)
    assert set(outside) <= {"http://www.w3.org/2000/svg"}


def test_policy_allows_the_style_that_is_there_and_nothing_else() -> None:
    text, _ = render_report(subject_of(THREE))
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [p for p in Page(text).values("content") if p.startswith("default-src")]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    points = {
        f"{HOSTILE}{i}{j}": {HOSTILE: f"{HOSTILE}{i}", f"{HOSTILE}2": f"{HOSTILE}{j}"}
        for i in range(2)
        for j in range(2)
    }
    failed = record(f"{HOSTILE}00", 9, {}, state="failed", error=HOSTILE, point_index=0)
    runs = [*make_records(points), failed]
    files = write_report(subject_of(points, runs, title=HOSTILE), tmp_path / "r.html", tmp_path)
    text = files[0].read_text("utf-8")
    assert "<script" not in text
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    names = {path.name for path in files[1:]}
    assert {"effects_f1.svg", "map_f1.svg", "steps_f1.svg"} <= names
    for path in files[1:]:
        tree = ElementTree.parse(path)
        assert {element.tag.partition("}")[2] for element in tree.iter()} <= {
            "svg", "style", "rect", "line", "polyline", "polygon", "circle", "text",
        }  # fmt: skip


def test_files_of_pictures_need_nothing_else_and_are_the_same_each_time(tmp_path: Path) -> None:
    first = write_report(subject_of(THREE), tmp_path / "a" / "r.html", tmp_path / "a")
    second = write_report(subject_of(THREE), tmp_path / "b" / "r.html", tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    for path in first[1:]:
        svg = path.read_text()
        assert svg.startswith("<?xml")
        assert "--ink:" in svg
        assert "prefers-color-scheme:dark" in svg


def test_one_point_has_a_page_that_says_so() -> None:
    text, pictures = render_report(subject_of({"only": {}}))
    assert "There is only one point: nothing to compare." in Page(text).text
    assert [p.name for p in pictures] == ["steps_f1", "steps_messages_sent"]


def test_one_replicate_is_drawn_without_intervals() -> None:
    runs = make_records(THREE, replicates=1)
    text, pictures = render_report(subject_of(THREE, runs))
    assert "4 with too few replicates to tell" in text
    effects = next(p for p in pictures if p.name == "effects_f1")
    assert "stroke-dasharray" not in effects.svg
    assert effects.svg.count("<polygon") == 2
    assert "too few" in effects.svg


def test_without_finished_runs_there_are_sentences_and_no_picture() -> None:
    runs = [record(label, 0, {"f1": None}, state="failed") for label in THREE]
    text, pictures = render_report(subject_of(THREE, runs))
    assert pictures == []
    page = Page(text)
    assert "No curves: no run is finished." in page.text
    assert "a: 1 run failed" in page.text


def test_points_of_a_design_have_a_page_without_a_baseline() -> None:
    subject = subject_of(THREE)
    drawn = Subject(
        "d", subject.origins, subject.spots, None, subject.steps_of, "drawn by a design"
    )
    page = Page(render_report(drawn)[0])
    assert "drawn by a design" in page.text
    assert "0.900" in page.text
    assert ranked_metrics(subject.spots, None) == ["f1", "messages_sent"]


@pytest.mark.parametrize("n", [9, 1000])
def test_of_many_points_the_surest_are_shown_and_the_others_counted(n: int) -> None:
    points = {f"p{i}": {"x": i, "y": i % 7, "z": (i * 31) % 11} for i in range(n)}
    text, pictures = render_report(subject_of(points, make_records(points, replicates=2)))
    page = Page(text)
    assert f"{n - 8} of {n} points are left out" in page.text
    by_name = {p.name: p for p in pictures}
    lines = next(p for name, p in by_name.items() if name.startswith("factors_"))
    assert lines.svg.count("<polyline") == n
    rows = by_name["effects_f1"].svg.count("<polygon") + by_name["effects_f1"].svg.count("<circle")
    assert rows == min(n - 1, 40)
    assert len(text) < 1_500_000
