"""Data sets are fetched from a real server on this machine, which misbehaves when told to."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from flows import cli
from sim_core.datasets import DATASETS, NAB, NSL_KDD, SMTP
from tests.program import Program

SMTP_FILE = SMTP.files[0]
QUICK = ("--wait", "0.001")


@dataclass
class Upstream:
    """What the server has, what it does wrong next, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """Of the next requests, in order: `drop` half-way, `hang` half-way, or a status."""
    ranges: bool = True
    lengths: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def add(self, dataset, upstream: str, content: bytes) -> None:
        self.files[f"/{dataset.repository}/{dataset.commit}/{upstream}"] = content


def handler_of(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            upstream.requests.append((unquote(self.path), wanted))
            fault = upstream.faults.pop(0) if upstream.faults else ""
            content = upstream.files.get(unquote(self.path))
            if fault.isdigit() or content is None:
                self.send_error(int(fault) if fault.isdigit() else 404)
                return
            start = int(wanted[len("bytes=") : -1]) if wanted and upstream.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/*")
            if upstream.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            self.wfile.write(body[: len(body) // 2] if fault else body)
            self.wfile.flush()
            if fault == "hang":
                upstream.released.wait(timeout=120)

        def log_message(self, *_: object) -> None:
            """Keep the output of tests clean."""

    return Handler


@pytest.fixture
def upstream(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """Serve the real files; labels among others, as upstream has them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Upstream()
    for dataset in DATASETS.values():
        for file in dataset.files:
            content = (data_folder / dataset.folder / file.path).read_bytes()
            if file.keys:
                whole = {"a/first.csv": [], **json.loads(content), "z/last.csv": []}
                content = json.dumps(whole, indent=4).encode()
            made.add(dataset, file.upstream, content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(made))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Caller:
    """Calls the command line in this process."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    folder: Path

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["quorumlab", "data", *words])
        self.monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self.capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    def fetch(self, upstream: Upstream, name: str = "smtp", *words: str) -> tuple[int, str, str]:
        return self(
            "fetch", name, "--to", str(self.folder), "--source", upstream.url, *QUICK, *words
        )


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Caller:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUORUMLAB_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return Caller(monkeypatch, capsys, tmp_path / "sets")


def smtp_path(call: Caller) -> Path:
    return call.folder / "adbench" / SMTP_FILE.path


def left(call: Caller) -> list[str]:
    """Return the names of all files below the folder."""
    return sorted(path.name for path in call.folder.rglob("*") if path.is_file())


def test_every_data_set_arrives_as_published(call: Caller, upstream: Upstream, data_folder: Path):
    for dataset in DATASETS.values():
        code, out, err = call.fetch(upstream, dataset.name)
        assert (code, err) == (0, "")
        assert dataset.citation in " ".join(out.split())
        for file in dataset.files:
            expected = (data_folder / dataset.folder / file.path).read_bytes()
            assert (call.folder / dataset.folder / file.path).read_bytes() == expected
        assert call("check", dataset.name, "--folder", str(call.folder))[0] == 0
    assert len(left(call)) == sum(len(dataset.files) for dataset in DATASETS.values())


def test_files_go_to_the_folder_of_the_environment_or_to_data(
    call: Caller, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    code, out, _ = call("fetch", "smtp", "--source", upstream.url)
    assert code == 0
    assert (tmp_path / "data" / "adbench" / SMTP_FILE.path).is_file()
    assert f"export QUORUMLAB_DATA={tmp_path / 'data'}" in out
    monkeypatch.setenv("QUORUMLAB_DATA", str(tmp_path / "elsewhere"))
    code, out, _ = call("fetch", "smtp", "--source", upstream.url)
    assert code == 0
    assert (tmp_path / "elsewhere" / "adbench" / SMTP_FILE.path).is_file()
    assert "export" not in out


def test_what_is_there_is_not_asked_for(call: Caller, upstream: Upstream):
    assert call.fetch(upstream)[0] == 0
    upstream.requests.clear()
    code, out, _ = call.fetch(upstream)
    assert code == 0
    assert "there already" in out
    assert upstream.requests == []


def test_only_the_damaged_file_is_fetched_again(call: Caller, upstream: Upstream):
    assert call.fetch(upstream, "nsl_kdd")[0] == 0
    damaged = call.folder / "nsl-kdd" / "KDDTest+.txt"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    upstream.requests.clear()
    assert call.fetch(upstream, "nsl_kdd")[0] == 0
    assert [path.rpartition("/")[2] for path, _ in upstream.requests] == ["KDDTest+.txt"]
    assert call("check", "nsl_kdd", "--folder", str(call.folder))[0] == 0


@pytest.mark.parametrize("change", ["other", "longer", "shorter", "empty"])
def test_other_content_is_refused_and_not_kept(change: str, call: Caller, upstream: Upstream):
    (address,) = [path for path in upstream.files if path.endswith(SMTP_FILE.upstream)]
    real = upstream.files[address]
    changed = {"other": b"x" + real[1:], "longer": real * 2, "shorter": real[:-9], "empty": b""}
    upstream.files[address] = changed[change]
    code, _, err = call.fetch(upstream, "smtp", "--attempts", "2")
    assert code == 1
    assert left(call) == []
    assert f"expected {SMTP_FILE.n_bytes:,} bytes, SHA-256 {SMTP_FILE.sha256}" in err
    digest = hashlib.sha256(changed[change]).hexdigest()
    if change == "longer":
        assert "bytes or more" in err
        assert digest not in err, "read to its end"
    else:
        assert f"found {len(changed[change]):,} bytes, SHA-256 {digest}" in err


def test_labels_that_are_no_labels_are_refused(call: Caller, upstream: Upstream):
    upstream.add(NAB, "labels/combined_windows.json", b"<html>not here</html>")
    code, _, err = call.fetch(upstream, "nab")
    assert code == 1
    assert NAB.file("labels/combined_windows.json").sha256 in err
    assert not [name for name in left(call) if "combined_windows" in name]


@pytest.mark.parametrize("lengths", [True, False], ids=["length", "no length"])
def test_dropped_connection_is_resumed_where_it_ended(
    lengths: bool, call: Caller, upstream: Upstream
):
    upstream.faults, upstream.lengths = ["drop"], lengths
    assert call.fetch(upstream)[0] == 0
    assert [asked for _, asked in upstream.requests] == [None, f"bytes={SMTP_FILE.n_bytes // 2}-"]
    assert left(call) == [SMTP_FILE.path]


def test_server_without_ranges_sends_all_again(call: Caller, upstream: Upstream):
    upstream.faults, upstream.ranges = ["drop"], False
    assert call.fetch(upstream)[0] == 0
    assert len(upstream.requests) == 2
    assert call("check", "smtp", "--folder", str(call.folder))[0] == 0


@pytest.mark.parametrize("status", ["500", "503", "429"])
def test_trouble_that_passes_is_waited_for(status: str, call: Caller, upstream: Upstream):
    upstream.faults = [status, status]
    assert call.fetch(upstream)[0] == 0
    assert len(upstream.requests) == 3


def test_trouble_that_stays_ends_with_3_and_keeps_what_has_arrived(
    call: Caller, upstream: Upstream
):
    upstream.faults = ["drop", "500", "500"]
    code, _, err = call.fetch(upstream, "smtp", "--attempts", "3")
    assert code == 3
    assert "500" in err
    assert len(upstream.requests) == 3
    assert left(call) == [f".{SMTP_FILE.path}.part"]
    assert call.fetch(upstream)[0] == 0
    assert upstream.requests[-1][1] == f"bytes={SMTP_FILE.n_bytes // 2}-"


@pytest.mark.parametrize("status", ["404", "403", "301"])
def test_refusal_is_not_asked_again(status: str, call: Caller, upstream: Upstream):
    upstream.faults = [status]
    code, _, err = call.fetch(upstream)
    assert code == 2
    assert status in err
    assert "--source" in err
    assert len(upstream.requests) == 1
    assert left(call) == []


def test_server_that_is_away_ends_with_3(call: Caller, upstream: Upstream):
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    upstream.url = f"http://127.0.0.1:{server.server_port}"
    server.server_close()
    code, _, err = call.fetch(upstream, "smtp", "--attempts", "2")
    assert code == 3
    assert "refused" in err


@pytest.mark.parametrize("partial", ["wrong", "whole", "too long"])
def test_whatever_an_earlier_attempt_has_left_does_no_harm(
    partial: str, call: Caller, upstream: Upstream, data_folder: Path
):
    real = (data_folder / "adbench" / SMTP_FILE.path).read_bytes()
    contents = {"wrong": b"x" * 1000, "whole": real, "too long": real + b"x"}
    smtp_path(call).parent.mkdir(parents=True)
    smtp_path(call).with_name(f".{SMTP_FILE.path}.part").write_bytes(contents[partial])
    assert call.fetch(upstream)[0] == 0
    assert smtp_path(call).read_bytes() == real
    assert left(call) == [SMTP_FILE.path]
    assert len(upstream.requests) == {"wrong": 2, "whole": 0, "too long": 1}[partial]


def test_file_where_the_folder_should_be(call: Caller, upstream: Upstream):
    call.folder.write_text("a file")
    code, _, err = call.fetch(upstream)
    assert code == 2
    assert str(call.folder) in err
    assert upstream.requests == []


def test_folder_where_the_file_should_be(call: Caller, upstream: Upstream):
    smtp_path(call).mkdir(parents=True)
    code, _, err = call.fetch(upstream)
    assert code == 2
    assert f"{smtp_path(call)} is in the way" in err
    assert upstream.requests == []
    code, out, _ = call("check", "smtp", "--folder", str(call.folder))
    assert code == 1
    assert "damaged" in out


def test_folder_that_nobody_can_write(call: Caller, upstream: Upstream):
    code, _, err = call("fetch", "smtp", "--to", "/proc/sets", "--source", upstream.url)
    assert code == 2
    assert "/proc/sets" in err
    assert upstream.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(call: Caller, upstream: Upstream):
    smtp_path(call).parent.mkdir(parents=True)
    smtp_path(call).parent.chmod(0o500)
    code, _, err = call.fetch(upstream)
    smtp_path(call).parent.chmod(0o700)
    assert code == 2
    assert "Permission denied" in err


def test_two_commands_do_not_fetch_into_one_folder(call: Caller, upstream: Upstream):
    smtp_path(call).parent.mkdir(parents=True)
    folder = os.open(smtp_path(call).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        code, _, err = call.fetch(upstream)
    finally:
        os.close(folder)
    assert code == 2
    assert "another command" in err
    assert upstream.requests == []


@pytest.mark.parametrize("command", ["fetch", "check"])
def test_unknown_name(command: str, call: Caller):
    code, _, err = call(command, "kdd")
    assert code == 2
    assert all(name in err for name in ("'kdd'", *DATASETS))


@pytest.mark.parametrize(
    "source",
    [
        "ftp://h/x",
        "file:///etc",
        "h/x",
        "",
        "http://",
        "http://[1",
        "http://h:99999",
        "http://h/?a",
    ],
)
def test_address_that_is_none(source: str, call: Caller):
    code, _, err = call("fetch", "smtp", "--to", str(call.folder), "--source", source)
    assert code == 2
    assert "--source" in err
    assert not call.folder.exists()


def test_check_names_what_is_missing_and_what_is_damaged(call: Caller, data_folder: Path):
    shutil.copytree(data_folder / "nsl-kdd", call.folder / "nsl-kdd")
    test, train = (call.folder / "nsl-kdd" / file.path for file in NSL_KDD.files)
    test.chmod(0o600)
    test.write_bytes(b"no data")
    train.unlink()
    code, out, _ = call("check", "nsl_kdd", "--folder", str(call.folder))
    assert code == 1
    lines = out.splitlines()
    assert lines[0].split() == ["damaged", str(test)]
    assert NSL_KDD.files[0].sha256 in lines[1]
    assert "found    7 bytes" in lines[2]
    assert lines[3].split() == ["missing", str(train)]


def test_list_tells_present_damaged_and_missing(call: Caller, data_folder: Path):
    shutil.copytree(data_folder / "adbench", call.folder / "adbench")
    shutil.copytree(data_folder / "nab" / "labels", call.folder / "nab" / "labels")
    code, out, _ = call("list", "--folder", str(call.folder))
    assert code == 0
    cells = [[cell.strip() for cell in line.split("│")] for line in out.splitlines()]
    present = {row[1]: row[3] for row in cells if len(row) > 3 and row[1] in DATASETS}
    assert present == {"nsl_kdd": "no", "smtp": "yes", "nab": f"no (2 of {len(NAB.files)} files)"}
    for dataset in DATASETS.values():
        assert dataset.licence in out
        assert dataset.repository in out
    smtp_path(call).chmod(0o600)
    smtp_path(call).write_bytes(b"")
    assert "damaged" in call("list", "--folder", str(call.folder))[1]


def test_killed_process_leaves_a_part_that_the_next_one_continues(
    upstream: Upstream, tmp_path: Path
):
    program = Program(tmp_path, {"NO_PROXY": "127.0.0.1"})
    words = ("data", "fetch", "smtp", "--to", "sets", "--source", upstream.url)
    folder = tmp_path / "sets" / "adbench"
    part, half = folder / f".{SMTP_FILE.path}.part", SMTP_FILE.n_bytes // 2
    upstream.faults = ["hang"]
    try:
        process = program.start(*words)
        program.wait_for(process, lambda: part.exists() and part.stat().st_size == half)
    finally:
        program.stop_all()
    assert [path.name for path in folder.iterdir()] == [part.name]
    done = program.run(*words)
    assert done.returncode == 0, done.stderr
    assert upstream.requests[-1][1] == f"bytes={half}-"
    assert [path.name for path in folder.iterdir()] == [SMTP_FILE.path]
    assert program.run("data", "check", "smtp", "--folder", "sets").returncode == 0
