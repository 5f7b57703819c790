"""The way of a new user, in a real browser: `up`, a form, a run, its results, MLflow, `down`.

Its pictures are those of docs/tutorial/as-a-service.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, expect

from flows.prefect_password import password_of
from flows.service import MLFLOW, PREFECT, address_of
from tests.browser.chromium import HIGHER, SIZE
from tests.browser.mlflow_pages import RunsPage
from tests.browser.prefect_pages import Form, log_in, open_artifact, open_tab, scroll_to
from tests.ports import free_port
from tests.program import Program

NAME = "poisoners"
POINTS = ("share-0.1", "share-0.2")
REPLICATES = 3
Picture = Callable[[str], None]


def started(program: Program) -> tuple[str, str]:
    """Start the services; return the addresses that the command names, Prefect's and MLflow's."""
    names = ("--prefect-port", "--mlflow-port", "--dashboard-port")
    up = program.run("up", *(word for name in names for word in (name, str(free_port()))))
    assert up.returncode == 0, up.stderr
    assert up.stdout.count("answers") == 5, up.stdout
    addresses = [address_of(program.workspace, name) for name in (PREFECT, MLFLOW)]
    prefect, mlflow = (str(address).removesuffix("/api") for address in addresses)
    assert prefect in up.stdout
    assert mlflow in up.stdout
    return prefect, mlflow


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_up_over_a_form_to_the_comparison_and_down(
    program: Program, page: Page, picture: Picture
) -> None:
    prefect, mlflow = started(program)
    log_in(page, prefect, str(password_of(program.workspace)))
    form = Form(page, prefect, "sweep")
    for name in ("quickstart", "compare", "hourly-canary"):
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    picture("deployments")
    form.open()
    expect(page.get_by_text("Sizes of the network, from 2 to 10,000.")).to_be_visible()
    fill_in(form, picture)
    wrong_values_are_refused(page, form, picture)
    with page.expect_response(is_started, timeout=120_000) as answer:
        form.submit()
    page.goto(
        f"{prefect}/runs/flow-run/{answer.value.json()['id']}"
    )  # the notice with a link goes by
    watch(page, picture)
    runs, comparison = results(page, picture)
    for address in (runs, comparison):
        assert address.startswith(f"{mlflow}/#/")
    look_at_runs(RunsPage(page, runs), picture)
    look_at_comparison(page, comparison, picture)

    down = program.run("down")
    assert down.returncode == 0, down.stderr
    assert "stopped: " in down.stdout
    report = Path("experiments") / NAME / "report.html"
    assert (program.workspace / report).is_file()


def is_started(answer: Response) -> bool:
    """Return whether an answer of Prefect's says that a flow run was created."""
    return answer.url.endswith("/create_flow_run") and answer.status == 201


def fill_in(form: Form, picture: Picture) -> None:
    """Ask for a small sweep, with two values that cannot be."""
    form.name_run(NAME)
    form.write("name", NAME)
    picture("form")
    form.open_choices("adversaries")
    form.choose("poisoner")
    picture("choices")
    form.close_choices()
    form.add("shares_of_liars", 0.1, 1.5)
    form.add("nodes", 10_001)
    form.number("steps", 40)
    form.number("replicates", REPLICATES)
    form.start_choice("executor")
    form.open_choices("executor")
    form.choose("inline")


def wrong_values_are_refused(page: Page, form: Form, picture: Picture) -> None:
    form.submit()
    shares, nodes = form.field("shares_of_liars"), form.field("nodes")
    expect(shares).to_contain_text("1.5 is greater than the maximum of 1")
    expect(nodes).to_contain_text("10001 is greater than the maximum of 10000")
    expect(page.get_by_role("button", name="View run")).to_have_count(0)
    scroll_to(form.field("adversaries"))
    picture("refused")
    form.change_last("shares_of_liars", 0.2)
    form.change_last("nodes", 20)
    expect(shares).not_to_contain_text("greater than")
    expect(nodes).not_to_contain_text("greater than")


def watch(page: Page, picture: Picture) -> None:
    """Look at the page of the run until it is over."""
    expect(page.get_by_role("navigation")).to_have_text(re.compile(rf"Runs\W*{NAME}"))
    asked = open_tab(page, "Parameters")
    expect(asked).to_contain_text('"poisoner"')
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    artifacts = open_tab(page, "Artifacts")
    for key in ("results", "verdicts", "summary"):
        expect(artifacts.get_by_role("link").filter(has_text=key)).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.set_viewport_size(HIGHER)  # its state above, its artifacts below
    picture("completed")
    page.set_viewport_size(SIZE)


def results(page: Page, picture: Picture) -> tuple[str, str]:
    """Read what was found; return where it is in MLflow: all runs, and a comparison."""
    open_artifact(page, "results")
    table = page.get_by_role("table")
    for point in POINTS:
        name = f"{point} (n={REPLICATES})"
        expect(table.get_by_role("columnheader", name=name, exact=True)).to_be_visible()
    row = table.get_by_role("row").filter(has=page.get_by_text("f1", exact=True))
    expect(row.get_by_text(re.compile(r"^0\.\d{3} ± 0\.\d{3}$"))).to_have_count(len(POINTS))
    picture("results")
    page.go_back()
    open_artifact(page, "verdicts")
    expect(table.get_by_role("columnheader", name="in words")).to_be_visible()
    expect(table).to_contain_text("share-0.2 against share-0.1: messages_sent")
    page.go_back()
    open_artifact(page, "summary")
    expect(page.get_by_text(f"{2 * REPLICATES} of {2 * REPLICATES} runs finished.")).to_be_visible()
    expect(page.get_by_role("heading", name="Compared with share-0.1")).to_be_visible()
    picture("summary")
    links = [
        page.get_by_role("link", name=name).get_attribute("href")
        for name in ("All runs in MLflow", "Runs side by side in MLflow")
    ]
    return str(links[0]), str(links[1])


def look_at_runs(runs: RunsPage, picture: Picture) -> None:
    runs.expand(NAME)
    for point in POINTS:
        for replicate in range(REPLICATES):
            expect(runs.run(f"{point} / {replicate}")).to_be_visible()
    runs.change_columns(
        hidden=("Dataset", "Source", "Models"),
        shown=("f1", "precision", "recall", "point"),
    )
    picture("mlflow_runs")


def look_at_comparison(page: Page, address: str, picture: Picture) -> None:
    page.goto(address)
    title = f"Comparing {2 * REPLICATES} Runs from 1 Experiment"
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    plot = page.get_by_role("tabpanel", name="Parallel Coordinates Plot")
    for axis in ("adversary.share", "point", "f1"):
        expect(plot.locator("svg").get_by_text(axis, exact=True).first).to_be_visible()
    picture("mlflow_compare")
    rows = page.get_by_role("row")
    expect(
        rows.filter(has_text=re.compile(r"^adversary\.share(\s*0\.1){3}(\s*0\.2){3}\s*$"))
    ).to_be_visible()
    expect(page.get_by_role("link", name="f1", exact=True)).to_be_visible()
