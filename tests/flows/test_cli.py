"""Bad input: one clear paragraph on stderr, exit code 2, nothing written."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from flows import cli


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Call the command line in this process; return exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["quorumlab", *words])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 1), captured.out, captured.err


MISTAKES = {
    "unknown key": (["simulation.node=3"], "did you mean 'simulation.nodes'"),
    "key of another section": (["experiment.nodes=3"], "did you mean 'simulation.nodes'"),
    "key without its section": (["nodes=3"], "did you mean 'simulation.nodes'"),
    "key like none of its section": (["executor.workers=3"], "'executor.workers'. All keys"),
    "key of another choice": (
        ["adversary.join_step=3"],
        "unknown key 'adversary.join_step' with the adversary that is chosen; it is one of adversary=sybil",
    ),
    "value without quotes": (
        ["+points={liars: [adversary=flipper]}"],
        "needs quotes of its own",
    ),
    "study without plus": (["study=quickstart"], "did you mean +study=NAME?"),
    "unknown new key": (["+simulation.colour=red"], "simulation.colour"),
    "wrong type": (["simulation.nodes=many"], "simulation.nodes: Input should be a valid integer"),
    "fraction of a node": (["simulation.nodes=10.5"], "simulation.nodes"),
    "share above 1": (["adversary=poisoner", "adversary.share=1.2"], "adversary.share"),
    "negative share": (["adversary=flipper", "adversary.share=-0.1"], "adversary.share"),
    "more liars than nodes": (["adversary=poisoner", "adversary.count=101"], "more liars than"),
    "unknown detector": (["detector=crystal_ball"], "mahalanobis"),
    "unknown study": (["+study=none_such"], "quickstart"),
    "infinity": (["limits.max_seconds=inf"], "limits.max_seconds"),
    "name with a path": (["experiment.name=../x"], "experiment.name"),
    "interpolation": (["experiment.name=${oc.env:HOME}"], "configuration is data"),
    "target": (["+detector._target_=os.system"], "configuration is data"),
    "not an override": (["hello world"], "hello world"),
    "two points alike": (["+points.a=[]", "+points.b=[]"], "same configuration"),
    "too many runs": (["experiment.replicates=100000", "limits.max_runs=10"], "limits.max_runs"),
    "missing data": (["traffic=nsl_kdd", "traffic.path=/none"], "KDDTest+.txt"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_refused_in_words(
    mistake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words, expected = MISTAKES[mistake]
    code, out, err = call(monkeypatch, capsys, "run", *words, "workspace=W")
    assert code == 2
    assert expected in err
    assert err.startswith("quorumlab: error: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_file_is_named_with_row_and_column(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(data_folder / "nsl-kdd", tmp_path / "nsl-kdd")
    path = tmp_path / "nsl-kdd" / "KDDTest+.txt"
    lines = path.read_text().splitlines()
    cells = lines[6].split(",")
    lines[6] = ",".join([*cells[:4], "n/a", *cells[5:]])
    path.write_text("\n".join(lines))
    words = ("run", "traffic=nsl_kdd", f"traffic.path={path.parent}", f"workspace={tmp_path}/W")
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2
    assert "KDDTest+.txt, row 7, column src_bytes: 'n/a'" in err
    assert not (tmp_path / "W").exists()


def test_workspace_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "W").write_text("not a folder")
    code, _, err = call(monkeypatch, capsys, "run", f"workspace={tmp_path}/W")
    assert code == 2
    assert "cannot be written" in err


def test_workspace_of_a_newer_version_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger.db"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.commit()
    database.close()
    before = path.read_bytes()
    code, _, err = call(monkeypatch, capsys, "run", f"workspace={tmp_path}")
    assert code == 2
    assert "newer quorumlab" in err
    assert "upgrade" in err
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("command", ["status", "verify", "resume x", "replay x"])
def test_commands_without_a_workspace_say_so(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (*command.split(), "--workspace", str(tmp_path / "none"))
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2
    assert "no workspace at" in err
    assert not (tmp_path / "none").exists()


def test_dry_run_says_what_it_takes_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("run", "-m", "adversary=poisoner", "adversary.share=0.1,0.2,0.3", "--dry-run")
    code, out, _ = call(monkeypatch, capsys, *words)
    assert code == 0
    assert "3: share-0.1, share-0.2, share-0.3" in out
    assert "15 of 100 steps" in out
    assert list(tmp_path.iterdir()) == []


def test_configuration_and_choices_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(monkeypatch, capsys, "--help")
    assert code == 0
    for command in ("run", "resume", "status", "verify", "replay"):
        assert command in out
