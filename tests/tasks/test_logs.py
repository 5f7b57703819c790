"""Logs: who writes what, once, into one file, and what is left out of it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.compose import compose_experiment
from sim_core.config import ExecutorConfig, LoggingConfig, SampleConfig
from sim_core.identity import model_version
from sim_core.jobs import Attachment, Item, simulate_jobs
from sim_core.plan import plan_runs
from sim_core.simulate import RunSpec
from tasks.executors import open_executor
from tasks.logs.context import FIELDS, TOLD, about_run, at_step
from tasks.logs.handlers import SharedFileHandler
from tasks.logs.progress import told_of
from tasks.logs.sampling import SamplingFilter
from tasks.logs.writing import ROOT, LogTarget, append, written
from tasks.worker_pool import ProcessExecutor

MakeSpec = Callable[..., RunSpec]
LOG = logging.getLogger("quorumlab.tests")
JSON = LoggingConfig(format="json", level="DEBUG")


@pytest.fixture
def target(tmp_path: Path) -> LogTarget:
    return LogTarget(JSON, tmp_path / "logs", "e")


def records(target: LogTarget) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.path.read_text("utf-8").splitlines()]


def messages(target: LogTarget) -> list[str]:
    return [record["message"] for record in records(target)]


@pytest.mark.parametrize(
    ("profile", "level", "kind", "console", "max_mb", "backups"),
    [
        (None, "INFO", "human", False, 10, 5),
        ("development", "DEBUG", "human", True, 10, 5),
        ("production", "WARNING", "json", False, 10, 5),
        ("high_performance", "WARNING", "json", False, 10, 5),
        ("edge", "ERROR", "human", False, 1, 2),
    ],
)
def test_each_profile_has_its_log(
    profile: str | None, level: str, kind: str, console: bool, max_mb: float, backups: int
) -> None:
    config, points = compose_experiment([f"profile={profile}"] if profile else [])
    found = config.logging
    assert (found.level, found.format, found.console) == (level, kind, console)
    assert (found.max_mb, found.backups, found.file) == (max_mb, backups, True)
    loud, _ = compose_experiment(["logging.level=DEBUG", "logging.format=json"])
    quiet, _ = compose_experiment([])
    assert plan_runs(loud, points).key == plan_runs(quiet, points).key


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_only_what_is_severe_enough_is_written(tmp_path: Path, level: str) -> None:
    settings = LoggingConfig.model_validate({"level": level, "format": "json"})
    target = LogTarget(settings, tmp_path, "e")
    names = ["DEBUG", "INFO", "WARNING", "ERROR"]
    with written(target):
        for name in names:
            LOG.log(logging.getLevelName(name), "a message")
    assert [r["level"] for r in records(target)] == names[names.index(level) :]


def test_json_says_what_a_record_is_about(target: LogTarget, make_spec: MakeSpec) -> None:
    spec = replace(make_spec(replicate=3), point="poisoned")
    with written(target):
        LOG.info("outside")
        with about_run(spec):
            LOG.info("of %s", "a run", extra={"seconds": 1.5})
            with at_step(7):
                LOG.warning("at a step\nof two lines")
        LOG.info("outside again")
    outside, of_run, at, again = records(target)
    assert set(FIELDS) == {"experiment", "run", "point", "replicate", "step"}
    for record in (outside, again):
        assert {name: record[name] for name in FIELDS} == dict.fromkeys(FIELDS) | {
            "experiment": "e"
        }
    assert of_run["message"] == "of a run"
    assert of_run["seconds"] == 1.5
    assert (of_run["run"], of_run["point"]) == (spec.run_key[:12], "poisoned")
    assert (of_run["replicate"], of_run["step"]) == (3, None)
    assert (at["step"], at["level"], at["logger"]) == (7, "WARNING", "quorumlab.tests")
    assert at["pid"] == os.getpid()
    assert at["time"].startswith("20")


def test_people_read_the_same(tmp_path: Path, make_spec: MakeSpec) -> None:
    target = LogTarget(LoggingConfig(), tmp_path, "e")
    spec = make_spec(replicate=3)
    with written(target), about_run(spec, 7):
        LOG.info("hello")
        LOG.debug("not this")
    (line,) = target.path.read_text().splitlines()
    assert f"INFO    {os.getpid()} quorumlab.tests: hello [experiment=e" in line
    assert f"run={spec.run_key[:12]}" in line
    assert line.endswith("replicate=3 step=7]")


@pytest.mark.parametrize("kind", ["json", "human"])
def test_passwords_in_addresses_are_hidden(tmp_path: Path, kind: str) -> None:
    settings = LoggingConfig.model_validate({"format": kind})
    target = LogTarget(settings, tmp_path, "e")
    with written(target):
        LOG.info("no answer from %s", "postgresql+psycopg://me:s3cr3t@host/db")
        LOG.info("extra", extra={"address": "http://admin:s3cr3t:9@host:4200/api"})
        try:
            raise OSError("http://x:s3cr3t@y is away")
        except OSError:
            LOG.exception("with a traceback")
    text = target.path.read_text()
    assert "s3cr3t" not in text
    assert "postgresql+psycopg://me:***@host/db" in text
    assert "OSError" in text


def test_file_is_put_aside_at_its_size(tmp_path: Path) -> None:
    settings = LoggingConfig(max_mb=0.01, backups=2, sample=SampleConfig(every=1))
    target = LogTarget(settings, tmp_path, "e")
    with written(target):
        for number in range(1_000):
            LOG.info("message %d", number)
    names = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert names == ["quorumlab.log", "quorumlab.log.1", "quorumlab.log.2"]
    for name in names:
        assert 0 < (tmp_path / name).stat().st_size <= 0.01 * 2**20
    kept = "".join((tmp_path / name).read_text() for name in reversed(names)).splitlines()
    numbers = [int(line.split("message ")[1].split()[0]) for line in kept]
    assert numbers == list(range(numbers[0], 1_000)), "the newest, without a gap"


WRITE_MANY = """
import logging, sys
from pathlib import Path
from tasks.logs.handlers import SharedFileHandler
handler = SharedFileHandler(Path(sys.argv[1]), max_mb=0.02, backups=500)
log = logging.getLogger("quorumlab.many")
log.addHandler(handler)
log.setLevel("INFO")
sys.stdin.readline()
for number in range(2000):
    log.info("%s %d %s", sys.argv[2], number, "x" * (number % 90))
"""


def test_processes_share_a_file_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quorumlab.log"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_MANY, str(path), name], stdin=subprocess.PIPE, text=True
        )
        for name in "abc"
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    files = list(tmp_path.glob("quorumlab.log*"))
    assert len(files) > 10, "put aside again and again"
    lines = [line for file in files for line in file.read_text().splitlines()]
    found = Counter(tuple(line.split(" ")[:2]) for line in lines)
    assert found == Counter((name, str(number)) for name in "abc" for number in range(2000))
    assert all(set(line.split(" ")[2]) <= {"x"} for line in lines)


def test_who_holds_a_file_that_was_put_aside_opens_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "quorumlab.log"
    with (
        closing(SharedFileHandler(path, max_mb=0.001, backups=3)) as one,
        closing(SharedFileHandler(path, max_mb=0.001, backups=3)) as other,
    ):
        one.append(b"a" * 1_000 + b"\n")
        one.append(b"b" * 1_000 + b"\n")  # puts the file aside
        other.append(b"c\n")
    assert path.read_bytes() == b"b" * 1_000 + b"\nc\n"
    assert path.with_suffix(".log.1").read_bytes() == b"a" * 1_000 + b"\n"
    assert not path.with_suffix(".log.2").exists()


def test_nobody_waits_for_a_process_that_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "quorumlab.log"
    with closing(SharedFileHandler(path, max_mb=0.001, backups=3)) as one:
        with closing(SharedFileHandler(path, max_mb=0.001, backups=3)) as other, one._locked():
            for _ in range(100):
                other.handle(LOG.makeRecord("q", logging.INFO, "f", 1, "a" * 50, (), None))
            assert len(path.read_text().splitlines()) == 100
        one.handle(LOG.makeRecord("q", logging.INFO, "f", 1, "b", (), None))
    assert path.read_text() == "b\n"
    assert len(path.with_suffix(".log.1").read_text().splitlines()) == 100


def test_of_many_records_some_are_written_and_the_rest_counted(tmp_path: Path) -> None:
    settings = JSON.model_copy(update={"sample": SampleConfig(first=3, every=10)})
    target = LogTarget(settings, tmp_path, "e")
    with written(target):
        for number in range(35):
            LOG.info("message %d", number)
            LOG.debug("other %d", 0)
            LOG.warning("trouble %d", number)
    found = records(target)
    of_message = [r for r in found if r["message"].startswith("message")]
    assert [r["message"] for r in of_message] == [f"message {n}" for n in (0, 1, 2, 12, 22, 32)]
    assert [r["left_out"] for r in of_message] == [0, 0, 0, 9, 9, 9]
    assert sum(r["message"].startswith("trouble") for r in found) == 35
    at_last = [r for r in found if r["message"].startswith("at last")]
    assert [r["message"] for r in at_last] == [
        "at last, 2 more were left out of: message %d",
        "at last, 2 more were left out of: other %d",
    ]
    written_of = len(of_message) + sum(r["left_out"] for r in of_message) + at_last[0]["left_out"]
    assert written_of == 35


def test_every_record_is_written_where_nothing_is_sampled() -> None:
    sampling = SamplingFilter(SampleConfig(first=1, every=1))
    record = LOG.makeRecord("quorumlab", logging.INFO, "f", 1, "text", (), None)
    assert all(sampling.filter(record) for _ in range(50))
    assert sampling.rest() == []


def test_other_loggers_are_left_alone(target: LogTarget) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), ROOT.level, list(ROOT.handlers), ROOT.propagate)
    console = target.settings.model_copy(update={"console": True})
    with written(replace(target, settings=console)):
        assert (root.level, root.handlers) == (before[0], before[1])
        logging.getLogger("other").warning("of another program")
    assert (root.level, root.handlers, ROOT.level, ROOT.handlers, ROOT.propagate) == before
    LOG.warning("afterwards")
    assert messages(target) == []


def test_console_leaves_out_what_the_terminal_tells(
    target: LogTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = target.settings.model_copy(update={"console": True, "format": "human"})
    with written(replace(target, settings=settings)):
        LOG.warning("shown as a warning anyway", extra=TOLD)
        LOG.warning("otherwise unseen")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("otherwise unseen") == 1
    assert "anyway" not in captured.err
    assert target.path.read_text().count("\n") == 2


def test_without_a_file_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("no folder")
    for settings in (LoggingConfig(), LoggingConfig(file=False)):
        with written(LogTarget(settings, tmp_path / "logs", "e")):
            LOG.error("into nothing")
    assert capsys.readouterr().err == ""


def test_full_disk_stops_nothing(tmp_path: Path) -> None:
    handler = SharedFileHandler(tmp_path / "log", max_mb=1, backups=1)
    with closing(handler), Path("/dev/full").open("a") as full:
        assert handler.stream is not None
        handler.stream.close()
        handler.stream = full
        handler._is_current = lambda: True  # type: ignore[method-assign]
        handler.handle(LOG.makeRecord("quorumlab", logging.INFO, "f", 1, "text", (), None))
        handler.stream = None  # type: ignore[assignment]


def test_target_survives_the_way_to_a_worker(target: LogTarget) -> None:
    assert LogTarget.decoded(target.encoded()) == target


@pytest.fixture(params=["inline", "processes", "ray_local"])
def where(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def test_each_record_of_a_worker_arrives_once(
    where: str, target: LogTarget, make_spec: MakeSpec
) -> None:
    specs = [replace(make_spec(replicate=n), point="base") for n in range(2)]
    config = ExecutorConfig.model_validate({"kind": where, "num_cpus": 1})
    pids: set[int] = set()
    with written(target), open_executor(config, target) as executor:
        list(executor.execute([(s, None) for s in specs], lambda place: pids.add(place.pid)))
    found = [r for r in records(target) if r["logger"] == "quorumlab.worker"]
    about = Counter((r["run"], r["replicate"], r["step"]) for r in found)
    expected = [(s.run_key[:12], s.replicate, step) for s in specs for step in (4, 8, 12)]
    assert about == Counter(expected)
    assert {r["pid"] for r in found} == pids
    assert (os.getpid() in pids) == (where == "inline")
    assert {r["experiment"] for r in found} == {"e"}
    assert {r["point"] for r in found} == {"base"}


def test_whatever_is_logged_of_a_run_at_work_is_about_it(
    target: LogTarget, make_spec: MakeSpec
) -> None:
    specs = [make_spec(replicate=n) for n in range(2)]

    def talkative() -> Iterator[Item]:
        for item in simulate_jobs([(spec, None) for spec in specs]):
            LOG.info("in the midst")
            yield item

    with written(target):
        list(told_of([(spec, None) for spec in specs], talkative()))
    found = [r["replicate"] for r in records(target) if r["message"] == "in the midst"]
    assert found == [0, 0, 0, 1, 1, 1]


@pytest.mark.slow
def test_what_is_logged_on_another_machine_comes_with_the_segments(
    target: LogTarget, make_spec: MakeSpec
) -> None:
    specs = [make_spec(replicate=n) for n in range(2)]
    config = ExecutorConfig(kind="ray_local", num_cpus=1)
    assert not target.folder.exists(), "as on a node that has no such folder"
    with open_executor(config, target) as executor:
        items = list(executor.execute([(s, None) for s in specs]))
    sent = [item for item in items if isinstance(item, Attachment)]
    assert sent
    assert not target.folder.exists()
    for item in sent:
        append(target, item.content)
    found = records(target)
    assert sorted((r["replicate"], r["step"]) for r in found) == [
        (n, step) for n in range(2) for step in (4, 8, 12)
    ]
    assert os.getpid() not in {r["pid"] for r in found}


def test_what_a_killed_worker_has_logged_is_there(target: LogTarget, make_spec: MakeSpec) -> None:
    spec = make_spec(simulation={"steps": 100_000})
    with written(target), closing(ProcessExecutor(1, 1, log=target)) as pool:
        items = pool.execute([(spec, None)])
        seen = [next(items) for _ in range(3)]
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Exception, match="SIGKILL"):
            seen += list(items)
    found = [r for r in records(target) if r["pid"] == pid]
    steps = [r["step"] for r in found]
    assert steps[:3] == [4, 8, 12]
    assert len(steps) >= len(seen)
    assert steps == sorted(set(steps))


def test_logging_has_no_part_in_the_model_version() -> None:
    from sim_core.identity import KEEPING

    assert {"config/log_settings.py", "config/profiling.py"} <= KEEPING
    assert model_version()
