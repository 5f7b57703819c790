"""Pages of studies say what their runs show, and belong to the presets as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.compose import compose_experiment
from tests.docs.pages import ROOT
from tests.docs.test_reference import load

studies = load("write_studies")
FOLDER = ROOT / "docs" / "studies"


@pytest.mark.parametrize("name", studies.STUDIES)
def test_page_belongs_to_its_preset(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "nsl_kdd":
        monkeypatch.setenv("QUORUMLAB_DATA", str(request.getfixturevalue("data_folder")))
    config, points = compose_experiment([f"+study={name}"])
    page = (FOLDER / f"{name}.md").read_text("utf-8")
    (key,) = re.findall(r"<!-- study: ([0-9a-f]{64}) -->", page)
    assert key == studies.key_of(config, points), (
        f"write the page again: docs/write_studies.py {name}"
    )
    pictures = re.findall(r"\]\((\.\./images/studies/[^)]+)\)", page)
    assert pictures
    assert all((FOLDER / picture).is_file() for picture in pictures)
    assert f"]({name}.md)" in (FOLDER / "README.md").read_text("utf-8")


def test_no_picture_is_left_over() -> None:
    text = "".join(page.read_text("utf-8") for page in FOLDER.glob("*.md"))
    for picture in (ROOT / "docs" / "images" / "studies").iterdir():
        assert picture.name in text


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a study of fewer and shorter runs than the published one."""
    small = ("experiment.replicates=2", "simulation.nodes=12", "simulation.steps=60")
    return studies.run_study(
        "non_iid", tmp_path_factory.mktemp("studies"), (*small, "executor=inline")
    )


def test_page_is_written_from_runs(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies.StudyPage, "holds", lambda _, __, sentence: sentence)
    monkeypatch.setattr(studies, "DOCS", tmp_path)
    text = studies.write(page).read_text("utf-8")
    assert page.value("none-0.3", "recall") in text
    assert page.change("ledger-0.05", "ledger-1000", "benign_blocked_share") in text
    assert "24 runs: 12 points, 2 replicates each" in text
    pictures = {path.name for path in (tmp_path / "images" / "studies").iterdir()}
    assert pictures == {
        f"non_iid_over_{m}.svg" for m in ("f1", "benign_blocked_share", "immunity_share")
    }


def test_sentence_that_runs_do_not_bear_out_is_not_written(page: Any) -> None:
    """Two short replicates of twelve nodes show none of what the page says."""
    with pytest.raises(
        studies.NotBorneOutError, match="non_iid: the figures do not bear out: Where each"
    ):
        studies.render(page)


def test_figures_are_those_of_the_runs(page: Any) -> None:
    values = {
        label: np.array([r.metrics["recall"] for r in page.records if r.label == label])
        for label in ("none-0.05", "none-1000")
    }
    assert page.mean("none-0.05", "recall") == pytest.approx(values["none-0.05"].mean())
    change = values["none-1000"].mean() - values["none-0.05"].mean()
    told = float(page.change("none-1000", "none-0.05", "recall").split(" ")[0])
    assert told == pytest.approx(change, abs=0.005)
    assert abs(change) > 0.01
