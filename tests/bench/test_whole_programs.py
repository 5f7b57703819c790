"""Suites that measure whole programs: what is seen of them, and held against what was promised."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from flows.compose import known_keys
from flows.suites.memory import peak_of_process
from flows.suites.profiles import PROMISES, factors_of, running
from flows.suites.telemetry import KEY, switched
from flows.suites.whole_programs import run_to_end
from sim_core.errors import QuorumlabError

WORK = """
import multiprocessing, sys, time
def work():
    kept = bytearray(100 << 20)
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
child = multiprocessing.get_context("fork").Process(target=work)
child.start(); child.join()
"""


def test_what_children_take_is_the_program_s(tmp_path: Path) -> None:
    ended = run_to_end([sys.executable, "-c", WORK], tmp_path)
    assert ended.peak_mb > 100
    assert 0.2 < ended.cpu_seconds < 30


def test_program_that_fails_says_why_and_who_watched_has_ended(tmp_path: Path) -> None:
    watched = threading.Event()

    def watch(ended: threading.Event) -> None:
        ended.wait()
        watched.set()

    program = [sys.executable, "-c", "raise SystemExit('no room')"]
    with pytest.raises(QuorumlabError, match=r"ended with 1: no room"):
        run_to_end(program, tmp_path, meanwhile=watch)
    assert watched.is_set()


def test_profile_s_experiment_is_run_and_its_ledger_asked_meanwhile() -> None:
    with running("edge", PROMISES["edge"], steps=60, replicates=3)() as call:
        found = call()
    figures = found.figures
    assert found.value == figures["steps_per_minute"] > 0
    assert figures["query_p95_ms"] > 0
    assert figures["error_percent"] == 0
    assert figures["node_steps_per_second"] == pytest.approx(found.value * 25 / 60)
    assert found.peak_rss_mb is not None
    assert found.peak_rss_mb > 50


def test_factor_above_1_is_better_than_promised_whichever_way() -> None:
    found = {
        "steps_per_minute": 800.0,
        "node_steps_per_second": 100.0,
        "memory_mb": 800.0,
        "cpu_percent_at_promised_pace": 20.0,
        "query_p95_ms": 10.0,
        "error_percent": 2.0,
    }
    assert factors_of(found, PROMISES["development"]) == {
        "steps_per_minute": 2.0,
        "node_steps_per_second": 0.5,
        "memory_mb": 0.5,
        "cpu_percent_at_promised_pace": 2.0,
        "query_p95_ms": 10.0,
        "error_percent": 0.0,
    }


def test_peak_is_that_of_a_fresh_process() -> None:
    kept = bytearray(400 << 20)
    assert peak_of_process(2) < len(kept) / (1 << 20)


def test_monitoring_is_switched_where_there_is_any() -> None:
    expected = [f"{KEY}=false"] if KEY in known_keys() else []
    assert switched(False) == expected
