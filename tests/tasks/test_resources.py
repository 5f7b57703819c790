from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping

import psutil
import pytest

from tasks import sample_resources
from tasks.sample_resources import Machine, ProcessTree, ResourceSampler

BUSY = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
HOLDING = "import time\nheld = bytearray(60_000_000)\nprint(1, flush=True)\ntime.sleep(60)"


def test_there_is_a_sample_at_start_and_end_even_of_nothing() -> None:
    before = time.time_ns() // 1_000_000
    with ResourceSampler(interval_seconds=60) as sampler:
        assert len(sampler.samples) == 1
    first, last = sampler.samples
    assert before <= first.timestamp_ms <= last.timestamp_ms <= time.time_ns() // 1_000_000


def test_samples_go_on_while_work_does_and_stop_with_it() -> None:
    with ResourceSampler(interval_seconds=0.02) as sampler:
        time.sleep(0.5)
    n_samples = len(sampler.samples)
    assert n_samples > 4
    time.sleep(0.1)
    assert len(sampler.samples) == n_samples
    times = [sample.timestamp_ms for sample in sampler.samples]
    assert times == sorted(times)


def test_names_are_those_that_mlflow_shows_as_system_metrics() -> None:
    with ResourceSampler(interval_seconds=60) as sampler:
        time.sleep(0.2)
    values = sampler.samples[-1].values
    assert all(name.startswith("system/") for name in values)
    assert {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/system_memory_usage_percentage",
        "system/disk_usage_percentage",
        "system/network_receive_megabytes",
        "system/process_tree_rss_megabytes",
        "system/process_tree_cpu_percentage",
        "system/process_tree_processes",
    } <= set(values)
    assert 0 <= values["system/cpu_utilization_percentage"] <= 100
    assert values["system/process_tree_rss_megabytes"] > 5


def test_the_end_is_sampled_when_work_fails() -> None:
    sampler = ResourceSampler(interval_seconds=60)
    with pytest.raises(ZeroDivisionError), sampler:
        _ = 1 / 0
    assert len(sampler.samples) == 2


def test_a_long_run_is_thinned_and_keeps_its_beginning_and_end() -> None:
    with ResourceSampler(interval_seconds=60, most_samples=8) as sampler:
        first = sampler.samples[0]
        for _ in range(100):
            sampler._take()
    assert 4 <= len(sampler.samples) <= 8
    assert sampler.samples[0] == first
    assert sampler._interval > 60
    counts = sampler.counts
    assert (counts.processed, counts.failed) == (102, 0)
    assert counts.dropped == 102 - len(sampler.samples)
    assert counts.deepest == 9


def test_children_count_with_memory_and_processor_time() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        tree = ProcessTree(psutil.Process().pid)
        child.stdout.readline()
        figures = tree.figures()
        child.kill()
    assert figures["system/process_tree_processes"] >= 2
    own = psutil.Process().memory_info().rss / 1e6
    assert figures["system/process_tree_rss_megabytes"] > own + 50


def test_processor_time_of_a_new_child_counts() -> None:
    tree = ProcessTree(psutil.Process().pid)
    with subprocess.Popen([sys.executable, "-c", BUSY]) as child:
        spent = psutil.Process(child.pid)
        while spent.cpu_times().user < 0.2:
            time.sleep(0.02)
        figures = tree.figures()
        child.kill()
    assert figures["system/process_tree_cpu_percentage"] > 0


def test_a_vanished_child_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        gone = psutil.Process(child.pid)
        child.kill()
    tree = ProcessTree(psutil.Process().pid)
    monkeypatch.setattr(tree, "_processes", lambda: [psutil.Process(), gone])
    time.sleep(0.1)
    figures = tree.figures()
    own = psutil.Process().memory_info().rss / 1e6
    assert figures["system/process_tree_rss_megabytes"] == pytest.approx(own, rel=0.2)
    assert figures["system/process_tree_cpu_percentage"] >= 0


def test_rates_wait_until_they_mean_something() -> None:
    tree, machine = ProcessTree(psutil.Process().pid), Machine()
    figures = tree.figures() | machine.figures()
    assert "system/process_tree_cpu_percentage" not in figures
    assert "system/system_memory_usage_megabytes" in figures


def test_a_machine_without_disk_or_network_counters_is_sampled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)
    figures: Mapping[str, float] = Machine().figures()
    assert "system/disk_usage_percentage" in figures
    assert not any("network" in name or "disk_read" in name for name in figures)


def test_what_cannot_be_read_costs_a_sample_and_not_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(path)

    with ResourceSampler(interval_seconds=60) as sampler:
        monkeypatch.setattr(sample_resources.psutil, "disk_usage", refuse)
    assert len(sampler.samples) == 1
    assert (sampler.counts.processed, sampler.counts.failed) == (1, 1)
