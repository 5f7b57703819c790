"""The reference is complete and up to date."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
from collections.abc import Callable
from types import ModuleType

import pytest

from flows.cli import app
from sim_core.errors import Interrupted, Unavailable, UserError
from sim_core.ledger.blocks import METRIC_COUNTS, METRIC_VALUES
from sim_core.metrics import derived_ratios, summarise
from sim_core.model import NetworkModel
from sim_core.results import RESOURCE_METRICS
from tasks.prometheus import METRICS
from tasks.sample_resources import BUSY, OTHERS, OURS, RUNS, STEPS, Machine, ProcessTree
from tests.docs.pages import ROOT

DOCS = ROOT / "docs"


def load(name: str) -> ModuleType:
    """Return a module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    return load("write_configuration")


def test_page_of_errors_is_up_to_date() -> None:
    errors = load("write_errors")
    assert errors.PAGE.read_text("utf-8") == errors.generated(), (
        "docs/reference/errors.md is not what sim_core/error_table.py says: "
        "run .venv/bin/python docs/write_errors.py"
    )
    assert doctest.testmod(errors).failed == 0


def test_configuration_page_is_up_to_date(writer: ModuleType) -> None:
    page = writer.PAGE.read_text("utf-8")
    assert page == writer.page_with(writer.generated(), page), (
        "docs/reference/configuration.md is not what the schema and conf/ say: "
        "run .venv/bin/python docs/write_configuration.py"
    )


def test_configuration_page_has_every_key(writer: ModuleType) -> None:
    from flows.compose import known_keys

    page = writer.PAGE.read_text("utf-8")
    groups = {key.rpartition(".")[0] for key in known_keys()}
    for key in known_keys():
        if key not in groups and not key.endswith(".kind"):
            assert f"| `{key}` |" in page


def test_examples_of_the_writer_hold(writer: ModuleType) -> None:
    found = doctest.testmod(writer)
    assert found.attempted > 0
    assert found.failed == 0


def test_every_metric_of_a_run_is_described(make_model: Callable[..., NetworkModel]) -> None:
    model = make_model()
    names = [*summarise(model.state, model.traffic.targets, 12), *RESOURCE_METRICS, "cost"]
    of_runs = section("metrics.md", "Of a run")
    for name in names:
        assert f"\n| `{name}` |" in of_runs


def test_every_metric_of_a_step_is_described() -> None:
    of_steps = section("metrics.md", "Of a step")
    for name in (*METRIC_COUNTS, *METRIC_VALUES):
        assert f"\n| `{name}` |" in of_steps
    for name in derived_ratios(dict.fromkeys(METRIC_COUNTS, 0)):
        assert f"`{name}`" in of_steps


def test_every_command_option_and_exit_code_is_described() -> None:
    page = (DOCS / "reference" / "commands.md").read_text("utf-8")
    for info in app.registered_commands:
        assert info.callback is not None
        assert f"\n## quorumlab {info.name or info.callback.__name__}\n" in page
    for error in (UserError, Unavailable, Interrupted):
        assert f"\n| {error.exit_code} |" in page


def test_every_target_of_make_is_described() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    page = (DOCS / "reference" / "commands.md").read_text("utf-8")
    for target in re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE):
        assert f"\n| `make {target}` |" in page


def section(page: str, heading: str) -> str:
    """Return what stands below a heading of the second level."""
    text = (DOCS / "reference" / page).read_text("utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_page_of_telemetry_has_every_metric_and_sample() -> None:
    page = (DOCS / "reference" / "telemetry.md").read_text("utf-8")
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{name}` | {metric.kind} | {labels} | {metric.meaning} |" in page
    tree, machine = ProcessTree(os.getpid()), Machine()
    names = {*tree.figures(), *machine.figures(), OURS, BUSY, OTHERS, STEPS, RUNS}
    for name in names:
        assert f"`{name.removeprefix('system/')}`" in page, name
