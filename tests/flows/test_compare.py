"""The command `compare`, and what experiments say of themselves: on real runs, in this process."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.compare import parse_smallest
from flows.compose import compose_experiment
from flows.launch import plainly
from sim_core.errors import UserError

REPLICATES = 8


@dataclass
class Place:
    """A workspace, worked on in this process without any service."""

    folder: Path

    def run(self, name: str, *overrides: str) -> None:
        config, points = compose_experiment(
            [
                "profile=edge",
                "simulation.nodes=10",
                "simulation.steps=30",
                "traffic.campaigns=[{family:ddos,start:15,duration:10}]",
                f"experiment.name={name}",
                f"experiment.replicates={REPLICATES}",
                f"workspace={self.folder}",
                *overrides,
            ],
            multirun=True,
        )
        plainly(config, points, execute=True)

    def compare(self, *words: str, columns: int = 100) -> str:
        done = CliRunner().invoke(
            app, ["compare", *words, "--workspace", str(self.folder)], env={"COLUMNS": str(columns)}
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    def change(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.folder / "ledger.db")) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a workspace with experiments `liars`, of two points, and `lucky`, of another seed."""
    place = Place(tmp_path_factory.mktemp("compared"))
    place.run("liars", "adversary=poisoner", "adversary.share=0,0.4")
    place.run("lucky", "experiment.seed=2")
    return place


HONEST, LYING = "share-0", "share-0.4"


def test_verdict_comes_first_and_names_point_metric_amount_and_p(place: Place) -> None:
    lines = place.compare("liars").splitlines()
    assert lines[0] == f"liars: compared with {HONEST}"
    assert lines[1].startswith(f"• {LYING} against {HONEST}: messages_sent is worse: +")
    assert lines[1].endswith("p < .0001")


@pytest.mark.parametrize("columns", [80, 100])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(
    place: Place, columns: int
) -> None:
    output = place.compare("liars", columns=columns)
    assert max(len(line) for line in output.splitlines()) <= columns
    assert "…" not in output
    assert re.search(r"messages_sent .* \+\d+ ± \d+ .* <\.0001 +\d+ % +worse *\n", output)


def test_baseline_turns_the_verdict_around(place: Place) -> None:
    output = place.compare("liars", "--baseline", LYING, "--metric", "messages_sent")
    assert f"{HONEST} against {LYING}: messages_sent is better: -" in output
    assert "p < .0001" in output
    assert "f1" not in output


def test_files_have_every_comparison_and_where_it_comes_from(place: Place, tmp_path: Path) -> None:
    files = tmp_path / "new" / "c.json", tmp_path / "c.csv"
    place.compare("liars", "--json", str(files[0]), "--csv", str(files[1]), "--alpha", "0.01")
    document = json.loads(files[0].read_text())
    assert document["alpha"] == 0.01
    assert document["experiments"][0]["name"] == "liars"
    assert len(document["experiments"][0]["model_versions"]) == 1
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert [row["metric"] for row in rows] == [c["metric"] for c in document["comparisons"]]
    (messages,) = [c for c in document["comparisons"] if c["metric"] == "messages_sent"]
    assert (messages["n"], messages["is_paired"], messages["verdict"]) == (
        REPLICATES,
        True,
        "worse",
    )


def test_page_has_the_same_sentences_and_plots_of_steps(place: Place, tmp_path: Path) -> None:
    page, document = tmp_path / "new" / "c.html", tmp_path / "c.json"
    output = place.compare("liars", "--html", str(page), "--json", str(document))
    assert f"report: {page}" in output
    text = unescape(page.read_text())
    for comparison in json.loads(document.read_text())["comparisons"]:
        if comparison["verdict"] in ("better", "worse", "higher", "lower"):
            assert comparison["sentence"] in text
    assert "Messages sent since step 0" in text
    assert f"{2 * REPLICATES} of {2 * REPLICATES}" in text


def test_page_of_several_experiments_has_the_factors_of_all(place: Place, tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    place.compare("lucky", "liars", "--metric", "f1", "--html", str(page))
    text = unescape(page.read_text())
    assert "points without common replicates are compared as independent samples" in text
    assert "liars/share-0.4" in text
    assert "adversary.share" in text


def test_variance_that_pairing_saved_is_told_and_positive(place: Place, tmp_path: Path) -> None:
    """B5: liars change what is published, and no traffic; so replicates have much in common."""
    file = tmp_path / "c.json"
    output = place.compare("liars", "--json", str(file))
    assert "Pairing saved " in output
    shares = {c["metric"]: c["variance_saved"] for c in json.loads(file.read_text())["comparisons"]}
    assert shares["auroc"] > 0.4
    assert shares["messages_sent"] > 0.4


def test_several_experiments_are_compared_apart_where_seeds_differ(place: Place) -> None:
    output = place.compare("lucky", "liars", "--metric", "f1", "--smallest-effect", "f1=50%")
    assert "lucky, liars: compared with lucky/base" in output
    assert "liars/share-0 against lucky/base: f1" in output.replace("\n", " ")
    assert "8 and 8" in output
    assert "independent samples (Welch)" in output


def test_unknown_names_are_the_users_mistake(place: Place) -> None:
    for words, message in [
        (["liars", "--baseline", "share-0.3"], "no point 'share-0.3': did you mean share-0"),
        (["liars", "--metric", "f2"], "no metric 'f2': did you mean f1"),
        (["liar"], "no experiment 'liar' in this workspace"),
        (["liars", "--smallest-effect", "tiny"], "--smallest-effect tiny: give a share"),
    ]:
        with pytest.raises(UserError, match=message):
            place.compare(*words)


def test_what_is_quarantined_is_left_out_and_named(place: Place) -> None:
    place.run("broken", "adversary=poisoner", "adversary.share=0,0.4", "experiment.seed=4")
    place.change(
        "UPDATE run SET state = 'quarantined', error = 'one vote too many' WHERE id IN "
        "(SELECT id FROM run WHERE seed = 4 AND replicate = 3 ORDER BY id LIMIT 1)"
    )
    output = place.compare("broken")
    assert f"{LYING} against {HONEST} ({REPLICATES - 1} pairs)" in output
    assert "1 run quarantined: one vote too many" in output
    assert "1 run without a finished run of the same replicate at" in output


def test_other_versions_of_the_model_are_refused_unless_asked_for(place: Place) -> None:
    place.run("old", "experiment.seed=3")
    place.change("UPDATE run SET model_version = 'elder' WHERE seed = 3")
    with pytest.raises(
        UserError, match=r"different versions of the model: liars with .*; old with elder"
    ):
        place.compare("liars", "old")
    assert "different versions of the model: " in place.compare("liars", "old", "--across-versions")


@pytest.mark.parametrize("text", ["0.01", "-5%", "f1=", "f1=x", "0%", "1.2.3%", "%"])
def test_smallest_effects_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--smallest-effect"):
        parse_smallest([text])
