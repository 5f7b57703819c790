"""The dashboard in a real browser, with real experiments. Its pictures are those of docs/how-to/dashboard.md."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from flows.prefect_password import password_of
from flows.service import DASHBOARD, address_of
from tests.browser.conftest import MOST_BYTES, ROOT
from tests.browser.dashboard_pages import TITLES, Dashboard
from tests.dashboard_tools import EXPERIMENT, NAME, POINTS, REPLICATES, STEPS, served
from tests.ports import free_port
from tests.program import Program

LONG = (
    "experiment.name=long", "simulation.nodes=60", "simulation.steps=200", "executor=inline",
    "orchestrator=none", "tracking=off", "experiment.replicates=400", "output.plots=false",
    "validation.engine=sql", "checkpoint.every=5",
)  # fmt: skip
BENCHMARK = ("--agents", "20,40", "--steps", "20", "--repeat", "5", "--warmup", "1")
HOW_TO = ROOT / "docs" / "how-to" / "dashboard.md"
MOST_COLOURS = 128
LOOKS = ("desktop", "desktop_dark", "phone", "phone_dark")
ALWAYS = {("desktop", title) for title in TITLES} | {
    ("phone_dark", "Live"),
    ("phone_dark", "Ledger"),
}
"""Each page, each size and each theme is looked at always; the rest with the long tests."""
LOOKED_AT = [
    pytest.param(
        look, title, id=f"{look}-{title}", marks=() if (look, title) in ALWAYS else pytest.mark.slow
    )
    for look in LOOKS
    for title in TITLES
]
Picture = Callable[[str], None]


@pytest.fixture(scope="module")
def shown(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Return a workspace with an experiment that has ended, and benchmarks of this machine."""
    del chromium  # without it nothing is run
    program = Program(tmp_path_factory.mktemp("dashboard"))
    done = program.run("run", *EXPERIMENT)
    assert done.returncode == 0, done.stderr
    done = program.run("benchmark", *BENCHMARK)
    assert done.returncode == 0, done.stderr
    (newest,) = (program.workspace / "benchmarks").iterdir()
    before = newest.with_name("run-20260101-000000.json")  # the same figures, measured before
    before.write_bytes(newest.read_bytes())
    os.utime(before, (newest.stat().st_mtime - 86_400,) * 2)
    yield program
    program.stop_all()


@pytest.fixture(scope="module")
def address(shown: Program) -> Iterator[str]:
    with served(shown) as found:
        yield found


@pytest.fixture
def take(page: Page, tmp_path: Path) -> Picture:
    """Return a function from a name to a picture of the page, see `conftest.picture`.

    Only those that the documentation shows go to the folder that QUORUMLAB_SCREENSHOTS names.
    """
    wanted = os.environ.get("QUORUMLAB_SCREENSHOTS")

    def picture(name: str) -> None:
        kept = [ROOT / wanted] if wanted and f"/{name}.png" in HOW_TO.read_text("utf-8") else []
        folders = [tmp_path / "pictures", *kept]
        page.mouse.move(0, 0)
        page.evaluate("() => document.fonts.ready.then(() => true)")
        found = in_few_colours(page.screenshot(animations="disabled", caret="hide"))
        assert len(found) < MOST_BYTES, name
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.png").write_bytes(found)

    return picture


def in_few_colours(picture: bytes) -> bytes:
    """Return a picture with a palette: a third of the bytes, and nobody sees a difference."""
    found = BytesIO()
    few = Image.open(BytesIO(picture)).convert("RGB").quantize(MOST_COLOURS)
    few.save(found, "PNG", optimize=True)
    return found.getvalue()


# --- each page --------------------------------------------------------------------------------


@pytest.mark.parametrize(("look", "title"), LOOKED_AT)
def test_page_shows_the_workspace(
    title: str, look: str, address: str, page: Page, take: Picture
) -> None:
    dashboard = Dashboard(page, address)
    dashboard.open(title, phone="phone" in look, dark="dark" in look)
    dashboard.grow()
    dashboard.expect_no_trouble()
    EXPECTED[title](dashboard)
    take(f"{title.lower()}_{look}")
    assert dashboard.foreign == [], "nobody else is asked for anything"


def _live(dashboard: Dashboard) -> None:
    runs = POINTS * REPLICATES
    expect(dashboard.tile("State")).to_contain_text("finished")
    expect(dashboard.tile("Runs finished")).to_contain_text(str(runs))
    expect(dashboard.tile("Steps done")).to_contain_text(f"{runs * STEPS} of {runs * STEPS}")
    expect(dashboard.tile("Steps per minute")).to_contain_text("nobody is at work")
    expect(dashboard.page.get_by_text(re.compile(f"means over {runs} runs"))).to_be_visible()
    expect(dashboard.page.get_by_role("button", name="Download the report")).to_be_visible()


def _network(dashboard: Dashboard) -> None:
    expect(dashboard.page.get_by_text("the ledger's block has the same hash")).to_be_visible()
    expect(dashboard.page.get_by_text(re.compile(r"22 honest, 2 lying"))).to_be_visible()


def _ledger(dashboard: Dashboard) -> None:
    expect(dashboard.tile("Blocks")).to_contain_text(str(STEPS))
    expect(dashboard.page.get_by_text(re.compile(r"^\d+ proposals, 50 a page"))).to_be_visible()
    dashboard.page.get_by_role("button", name="Recompute the chain").click()
    expect(dashboard.page.get_by_text(re.compile("The chain holds"))).to_be_visible()
    dashboard.settle()
    expect(dashboard.page.get_by_text(re.compile("^Proposal 0 by node"))).to_be_visible()


def _compare(dashboard: Dashboard) -> None:
    expect(dashboard.page.get_by_text(re.compile("^F1 score: differences from"))).to_be_visible()
    expect(dashboard.page.get_by_text(re.compile("^F1 score: mean at each"))).to_be_visible()
    expect(dashboard.page.get_by_role("button", name="Download as CSV", exact=True)).to_be_visible()


def _benchmarks(dashboard: Dashboard) -> None:
    expect(dashboard.page.get_by_role("heading", name="Trend")).to_be_visible()
    expect(dashboard.page.get_by_text(re.compile("medians with the middle half"))).to_be_visible()
    expect(dashboard.page.get_by_text(re.compile("^Over MLflow's history, by the"))).to_be_visible()


def _advice(dashboard: Dashboard) -> None:
    expect(dashboard.page.get_by_role("heading", name="How long operations take")).to_be_visible()


def _start(dashboard: Dashboard) -> None:
    expect(dashboard.page.get_by_text(re.compile("No Prefect server"))).to_be_visible()


EXPECTED: dict[str, Callable[[Dashboard], None]] = {
    "Live": _live,
    "Network": _network,
    "Ledger": _ledger,
    "Compare": _compare,
    "Benchmarks": _benchmarks,
    "Advice": _advice,
    "Start": _start,
}


def test_step_slider_goes_back_in_time_by_the_keyboard(address: str, page: Page) -> None:
    dashboard = Dashboard(page, address)
    dashboard.open("Network")
    slider = dashboard.slider("Step")
    slider.press("Home")
    expect(page.get_by_text(re.compile("^Step 0: "))).to_be_visible()
    slider.press("ArrowRight")
    expect(page.get_by_text(re.compile("^Step 1: "))).to_be_visible()
    expect(page.get_by_text("the ledger's block has the same hash")).to_be_visible()


NOTE_STEPS = """() => {
    window.seen = []
    const note = () => {
        const found = document.body.innerText.match(/^Step (\\d+): /m)
        if (found && found[1] !== seen.at(-1)) seen.push(found[1])
    }
    note()
    new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true})
}"""
"""Notes each step that the page shows."""


def test_a_run_goes_on_by_itself_to_its_end(address: str, page: Page) -> None:
    dashboard = Dashboard(page, address)
    dashboard.open("Network")
    slider = dashboard.slider("Step")
    expect(slider).to_have_value(str(STEPS - 1))
    dashboard.slider("Delay of a step").press("Home")
    page.evaluate(NOTE_STEPS)
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(slider).to_have_value(str(STEPS - 1))
    shown = [int(step) for step in page.evaluate("seen")]
    assert shown[1] < STEPS / 4, "from the start; the very first may be gone before it is noted"
    assert len(shown) > STEPS / 8, "one after the other, as many as the browser can draw"
    assert shown[1:] == sorted(shown[1:])
    expect(page.get_by_text("the ledger's block has the same hash")).to_be_visible()


def at_one_of(steps: range) -> re.Pattern[str]:
    """Return what the page says of any of these steps: a slow browser does not draw each of them."""
    return re.compile(f"^Step ({'|'.join(map(str, steps))}): ")


def test_a_paused_run_rests_where_it_was_and_goes_on_from_there(address: str, page: Page) -> None:
    dashboard = Dashboard(page, address)
    dashboard.open("Network")
    dashboard.slider("Delay of a step").press("ArrowRight")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_text(at_one_of(range(1, STEPS - 1)))).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    dashboard.settle()
    slider = dashboard.slider("Step")
    rests = int(slider.input_value())
    assert 1 <= rests < STEPS - 2
    expect(page.get_by_text(at_one_of(range(rests, rests + 1)))).to_be_visible()
    slider.press("ArrowRight")
    expect(page.get_by_text(at_one_of(range(rests + 1, rests + 2)))).to_be_visible()
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_text(at_one_of(range(rests + 2, STEPS)))).to_be_visible()


def test_wrong_input_is_told_and_taken_back(address: str, page: Page, take: Picture) -> None:
    dashboard = Dashboard(page, address)
    dashboard.open("Ledger")
    field = page.get_by_label("Run key begins with")
    field.fill("xyz!")
    field.press("Enter")
    expect(page.get_by_text(re.compile("no beginning of a run's key"))).to_be_visible()
    take("wrong_input")
    field.fill("")
    field.press("Enter")
    expect(dashboard.tile("Blocks")).to_contain_text(str(STEPS))
    dashboard.open("Compare")
    field = page.get_by_label("Smallest effect")
    field.fill("much")
    field.press("Enter")
    expect(page.get_by_text(re.compile("give a share of the baseline"))).to_be_visible()


# --- what changes -----------------------------------------------------------------------------


def test_live_page_follows_an_experiment_without_reloading(
    shown: Program, address: str, page: Page, take: Picture
) -> None:
    dashboard = Dashboard(page, address)
    running = shown.start("run", *LONG)
    psutil.Process(running.pid).nice(10)  # it is there to be followed, not to be in the way
    shown.wait_for(running, lambda: bool(shown.query("SELECT 1 FROM run WHERE steps = 5")))
    dashboard.open("Live")
    page.evaluate("() => { window.isTheSame = true }")
    dashboard.refresh_every(1)
    expect(dashboard.tile("State")).to_contain_text("running")
    expect(dashboard.tile("Steps per minute")).to_contain_text(re.compile(r"\d.*last \d+ s"))
    first = dashboard.tile("Steps done").inner_text()
    expect(dashboard.tile("Steps done")).not_to_have_text(first)
    expect(dashboard.tile("Its memory")).to_contain_text(re.compile(r"[\d,]+ MB"))
    newest = page.get_by_text(re.compile("^Newest sample: "))
    sampled, committed = newest.inner_text(), dashboard.tile("Steps committed").inner_text()
    expect(newest).not_to_have_text(sampled)
    expect(dashboard.tile("Steps committed")).not_to_have_text(committed)
    expect(page.get_by_text(re.compile("^Throughput: steps that were committed"))).to_be_visible()
    take("live_running")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    expect(dashboard.tile("State")).to_contain_text("interrupted")
    expect(dashboard.tile("Steps per minute")).to_contain_text("nobody is at work")
    expect(dashboard.tile("Steps committed")).not_to_have_text(committed)
    assert page.evaluate("() => window.isTheSame"), "the page was loaded again"
    dashboard.open("Advice")
    expect(page.get_by_text("quorumlab resume long")).to_be_visible()
    take("advice_interrupted")


def test_what_cannot_be_read_again_is_marked_as_stale(
    shown: Program, address: str, page: Page, take: Picture
) -> None:
    dashboard = Dashboard(page, address)
    dashboard.open("Live")
    dashboard.choose("Experiment", NAME)
    dashboard.refresh_every(1)
    expect(dashboard.tile("State")).to_contain_text("finished")
    away = shown.workspace / "away.db"
    (shown.workspace / "ledger.db").rename(away)
    try:
        stale = page.get_by_text(re.compile(r"Stale: read .* ago, at \d\d:\d\d:\d\d UTC"))
        expect(stale.first).to_be_visible()
        expect(dashboard.tile("State")).to_contain_text("finished")
        take("stale")
    finally:
        away.rename(shown.workspace / "ledger.db")
    expect(stale).to_have_count(0)


@pytest.mark.slow
def test_page_finds_a_dashboard_that_was_started_again(shown: Program, page: Page) -> None:
    port = free_port()
    with served(shown, port) as address:
        dashboard = Dashboard(page, address)
        dashboard.open("Live")
        dashboard.refresh_every(1)
        read = page.get_by_text(re.compile("^Read at ")).first
        expect(read).to_be_visible()
        before = read.inner_text()
    with served(shown, port):
        expect(read).not_to_have_text(before)
        dashboard.expect_no_trouble()


def test_empty_workspace_says_how_to_begin(program: Program, page: Page, take: Picture) -> None:
    with served(program) as address:
        dashboard = Dashboard(page, address)
        for title in TITLES:
            dashboard.open(title)
            dashboard.expect_no_trouble()
        dashboard.open("Live", phone=True)
        expect(page.get_by_text("quorumlab run +study=quickstart")).to_be_visible()
        take("empty_phone")


# --- starting ---------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_study_is_started_by_whoever_knows_the_password_and_followed(
    program: Program, page: Page, take: Picture
) -> None:
    names = ("--prefect-port", "--mlflow-port", "--dashboard-port")
    up = program.run("up", *(word for name in names for word in (name, str(free_port()))))
    assert up.returncode == 0, up.stderr
    dashboard = Dashboard(page, str(address_of(program.workspace, DASHBOARD)))
    dashboard.open("Start")
    password = page.get_by_label("Prefect's password", exact=True)
    password.fill("quorumlab:guessed")
    password.press("Enter")
    expect(page.get_by_text("does not accept this password")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_have_count(0)
    password.fill(str(password_of(program.workspace)))
    password.press("Enter")
    expect(page.get_by_text(re.compile("^Workers that are ready: "))).to_be_visible()
    page.get_by_label("Name", exact=True).fill("started-here")
    page.get_by_label("Nodes", exact=True).fill("10, 10001")
    for label, value in (("Steps", "20"), ("Replicates", "2")):
        page.get_by_label(label, exact=True).fill(value)
    dashboard.choose("Executor", "inline")
    start = page.get_by_role("button", name="Start", exact=True)
    start.click()
    expect(page.get_by_text(re.compile("10000"))).to_be_visible()
    dashboard.grow()
    take("start_refused")
    page.get_by_label("Nodes", exact=True).fill("10, 20")
    start.click()
    expect(page.get_by_role("heading", name="Started from here")).to_be_visible()
    dashboard.refresh_every(2)
    expect(page.get_by_text(re.compile(r": Completed\."))).to_be_visible(timeout=300_000)
    dashboard.grow()
    take("start_done")
    page.get_by_role("link", name="Live").click()
    expect(dashboard.tile("Runs finished")).to_contain_text("4")
