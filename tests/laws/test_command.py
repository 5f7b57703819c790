"""`quorumlab laws`: whole studies through the program, verdicts and the page."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import yaml
from rich.console import Console

from flows import laws
from flows.compose import CONF
from sim_core.errors import ConfigurationError, UserError
from sim_core.laws.catalogue import LAWS
from sim_core.laws.findings import Trials, judge
from sim_core.laws.table import Row, compare, write_page
from tests.laws.inline import run_points
from tests.program import Program


def test_every_law_has_a_study_of_its_name() -> None:
    studies = {path.stem for path in (CONF / "study" / "laws").glob("*.yaml")}
    assert studies == set(LAWS)
    for name in studies:
        study = yaml.safe_load((CONF / "study" / "laws" / f"{name}.yaml").read_text())
        assert study["experiment"]["title"] == f"laws-{name}"


def test_unknown_law_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'condorcet'"):
        laws.chosen_laws(["condorset"])
    assert laws.chosen_laws([]) == list(LAWS.values())
    assert [law.name for law in laws.chosen_laws(["ewma", "gossip"])] == ["gossip", "ewma"]


def test_law_of_another_detector_is_refused() -> None:
    (point,) = run_points("auroc", ["d1"], 1, steps=1)
    with pytest.raises(ConfigurationError, match="CusumDetector"):
        compare(LAWS["cusum"], [point])


def test_interval_of_few_values_is_undefined_and_never_agrees() -> None:
    for values in ([], [1.0], [None, math.nan]):
        assert not judge(1.0, values).agrees
    assert not judge(0.5, [Trials(0, 0)]).agrees


def test_more_rows_have_wider_intervals() -> None:
    widths = [judge(0.5, [Trials(50, 100)], n_rows=n).half_width for n in (1, 10, 100)]
    assert widths == sorted(set(widths))


def test_page_shows_each_row_with_its_verdict() -> None:
    rows = [
        Row("n=3", "P", judge(0.5, [Trials(48, 100)])),
        Row("n=4", "P", judge(0.9, [Trials(48, 100)])),
    ]
    page = write_page([(LAWS["condorcet"], 7, rows)], "quorumlab laws condorcet")
    low, high = rows[0].finding.low, rows[0].finding.high
    shown = f"| n=3 | P | 0.5 | 0.48 | {low:.2f} to {high:.2f} | 100 trials | agrees |"
    assert shown in page
    assert page.count("differs |") == 1
    assert "7 replicates" in page
    assert LAWS["condorcet"].method in " ".join(page.split())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LAWS)
def test_whole_study_agrees(name: str, program: Program) -> None:
    done = program.run("laws", name, "--output", "page.md", timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (program.folder / "page.md").read_text()
    labels = yaml.safe_load((CONF / "study" / "laws" / f"{name}.yaml").read_text())["points"]
    assert page.count("agrees |") == len(labels) * len(LAWS[name].quantities)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_second_time_reuses_runs_and_a_wrong_value_differs(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("auroc", "--replicates", "3")
    first = program.run("laws", *words)
    assert first.returncode == 0, first.stdout + first.stderr
    second = program.run("laws", *words)
    assert second.returncode == 0
    assert "simulating" in first.stdout
    assert "simulating" not in second.stdout
    law = LAWS["auroc"]
    wrong = replace(law, quantities=(replace(law.quantities[0], exact=lambda _: 0.5),))
    monkeypatch.setitem(LAWS, "auroc", wrong)
    agrees = laws.check_laws(["auroc"], program.workspace, Console(width=200), replicates=3)
    assert not agrees
    assert "5 of 5 values differ" in capsys.readouterr().out
