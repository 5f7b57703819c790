"""Pages of studies say what their runs show, and belong to the presets as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import write_studies
from docs.write_studies import STUDIES, NotBorneOutError, StudyPage, key_of, render, run_study, write
from flows.compose import compose_experiment
from tests.docs.pages import ROOT

FOLDER = ROOT / "docs" / "studies"


@pytest.mark.parametrize("name", STUDIES)
def test_page_belongs_to_its_preset(name: str) -> None:
    config, points = compose_experiment([f"+study={name}"])
    page = (FOLDER / f"{name}.md").read_text("utf-8")
    (key,) = re.findall(r"<!-- study: ([0-9a-f]{64}) -->", page)
    assert key == key_of(config, points), f"write the page again: docs/write_studies.py {name}"
    pictures = re.findall(r"\]\((\.\./images/studies/[^)]+)\)", page)
    assert pictures
    assert all((FOLDER / picture).is_file() for picture in pictures)
    assert f"]({name}.md)" in (FOLDER / "README.md").read_text("utf-8")


def test_no_picture_is_left_over() -> None:
    text = "".join(page.read_text("utf-8") for page in FOLDER.glob("*.md"))
    for picture in (ROOT / "docs" / "images" / "studies").iterdir():
        assert picture.name in text


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> StudyPage:
    """Return a study of fewer and shorter runs than the published one."""
    small = ("experiment.replicates=2", "simulation.nodes=12", "simulation.steps=30")
    return run_study("non_iid", tmp_path_factory.mktemp("studies"), (*small, "executor=inline"))


def test_page_is_written_from_runs(
    page: StudyPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StudyPage, "holds", lambda _, is_so, sentence: sentence)
    monkeypatch.setattr(write_studies, "DOCS", tmp_path)
    text = write(page).read_text("utf-8")
    assert page.value("none-0.3", "recall") in text
    assert page.change("ledger-0.05", "ledger-1000", "benign_blocked_share") in text
    assert "24 runs: 12 points, 2 replicates each" in text
    pictures = {path.name for path in (tmp_path / "images" / "studies").iterdir()}
    assert pictures == {f"non_iid_over_{m}.svg" for m in ("f1", "benign_blocked_share", "immunity_share")}


def test_sentence_that_runs_do_not_bear_out_is_not_written(page: StudyPage) -> None:
    """Two short replicates of twelve nodes show none of what the page says."""
    with pytest.raises(NotBorneOutError, match="non_iid: the figures do not bear out: Where each"):
        render(page)


def test_figures_are_those_of_the_runs(page: StudyPage) -> None:
    found = [r.metrics["recall"] for r in page.records if r.label == "none-0.3"]
    assert page.mean("none-0.3", "recall") == pytest.approx(sum(found) / 2)
    other = [r.metrics["recall"] for r in page.records if r.label == "none-1"]
    change = sum(other) / 2 - sum(found) / 2
    assert page.change("none-1", "none-0.3", "recall").startswith(f"{change:+.2f}"[:4])
