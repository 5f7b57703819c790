"""Keys change with what results depend on, and with nothing else."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from sim_core import identity
from sim_core.config import ExperimentConfig, ModelConfig
from sim_core.errors import DataError
from sim_core.identity import (
    KEEPING,
    content_hash,
    experiment_key,
    model_version,
    run_key,
    syntax_without_docstrings,
)

MakeConfig = Callable[..., ModelConfig]
LINE = ",".join(["0", "tcp", "http", "SF", *["1"] * 37, "normal", "21"])


def test_key_is_64_hexadecimal_digits_and_always_the_same(make_config: MakeConfig):
    key = run_key(make_config(), 1, 0)
    assert len(bytes.fromhex(key)) == 32
    assert run_key(make_config(), 1, 0) == key


def test_seeds_and_replicates_have_keys_of_their_own(make_config: MakeConfig):
    config = make_config()
    keys = [run_key(config, seed, replicate) for seed in range(3) for replicate in range(3)]
    assert len(set(keys)) == 9


def other_value(field: Any, value: Any) -> Any:
    """Return another valid value of a field."""
    if get_origin(field.annotation) is Literal:
        return next((v for v in get_args(field.annotation) if v != value), value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return (value + 1) / 2 if value < 1 else value + 0.5
    if value is None and "UntilConfig" in str(field.annotation):
        return {"metrics": ["f1"], "half_width": 0.1}
    if value is None and "Consensus" in str(field.annotation):
        return {"kind": "bft"}
    if value is None:
        kind = str(field.annotation)
        return () if "tuple" in kind else "text" if "str" in kind else 1
    return value


def one_change_each(model: BaseModel) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each setting, and the model's values with another value of it."""
    whole = model.model_dump()
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            for inner, changed in one_change_each(value):
                yield f"{name}.{inner}", {**whole, name: changed}
        elif name not in ("kind", "path") and (new := other_value(field, value)) != value:
            yield name, {**whole, name: new}


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {
            "detector": {"kind": "mahalanobis"},
            "adversary": {"kind": "flipper"},
            "consensus": {"kind": "supermajority"},
        },
    ],
)
def test_every_setting_of_the_model_but_the_steps_is_in_the_key(
    make_config: MakeConfig, groups: dict[str, Any]
):
    later = {"step": 3, "adversary": {"kind": "sleeper"}, "voting": {}, "signature": {}}
    config = make_config(**groups, intervention=later)
    keys = {"": run_key(config, 1, 0), "no intervention": run_key(make_config(**groups), 1, 0)}
    for name, changed in one_change_each(config):
        keys[name] = run_key(ModelConfig.model_validate(changed), 1, 0)
    assert keys.pop("simulation.steps") == keys[""]
    assert len(keys) > 25
    same = [name for name, key in keys.items() if list(keys.values()).count(key) > 1]
    assert not same, f"settings without a key of their own: {same}"


def test_campaigns_are_in_the_key(make_config: MakeConfig):
    campaign = {"family": "ddos", "start": 3, "duration": 4}
    keys = {
        run_key(make_config(traffic={"campaigns": campaigns}), 1, 0)
        for campaigns in ([], [campaign], [campaign] * 2, [{**campaign, "start": 4}])
    }
    assert len(keys) == 4


def test_nothing_outside_the_model_is_in_a_key():
    base = ExperimentConfig()
    whole = base.model_dump(exclude=set(ModelConfig.model_fields))
    n_changes = 0
    for group in whole:
        section = getattr(base, group)
        changes = one_change_each(section) if isinstance(section, BaseModel) else []
        for _, changed in changes:
            config = base.with_settings({group: changed})
            assert run_key(config, 1, 0) == run_key(config.model_part(), 1, 0)
            assert run_key(config.model_part(), 1, 0) == run_key(base.model_part(), 1, 0)
            n_changes += 1
    assert n_changes > 15
    moved = base.with_settings({"workspace": "elsewhere"})
    assert run_key(moved, 1, 0) == run_key(base, 1, 0)


def test_key_has_the_content_of_data_files_and_not_their_folder(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    def key(folder: Path | None) -> str:
        path = None if folder is None else str(folder)
        return run_key(make_config(traffic={"kind": "nsl_kdd", "path": path}), 1, 0)

    folders = [tmp_path / name / "nsl-kdd" for name in "abc"]
    for folder, line in zip(folders, (LINE, LINE, LINE.replace("SF", "S0")), strict=True):
        folder.mkdir(parents=True)
        for name in ("KDDTest+.txt", "KDDTrain+_20Percent.txt"):
            (folder / name).write_text(line)
    assert key(folders[0]) == key(folders[1]) != key(folders[2])
    monkeypatch.setenv("QUORUMLAB_DATA", str(tmp_path / "a"))
    assert key(None) == key(folders[0])
    (folders[1] / "KDDTest+.txt").write_text(LINE.replace("http", "smtp"))
    assert key(folders[1]) != key(folders[0]), "a change of a file was not noticed"
    (folders[1] / "KDDTest+.txt").unlink()
    with pytest.raises(DataError):
        key(folders[1])


def test_experiment_key_counts_points_steps_seed_and_replicates(make_config: MakeConfig):
    a, b = make_config(), make_config(detector={"kind": "mahalanobis"})
    longer = make_config(simulation={"steps": 13})
    key = experiment_key([a, b], 1, 5)
    assert experiment_key([b, a], 1, 5) == key, "the order of points does not matter"
    others = [
        experiment_key([a], 1, 5),
        experiment_key([a, b, b], 1, 5),
        experiment_key([longer, b], 1, 5),
        experiment_key([a, b], 2, 5),
        experiment_key([a, b], 1, 6),
    ]
    assert len({key, *others}) == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 1.5}),
        ({"a": 1}, {"a": "1"}),
        ({"a": None}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": True}, {"a": 1}),
    ],
)
def test_different_values_have_different_hashes(one: Any, other: Any):
    assert content_hash(one) != content_hash(other)


def test_undefined_numbers_have_no_hash():
    with pytest.raises(ValueError, match="JSON"):
        content_hash({"a": float("nan")})


# --- the version of the code ----------------------------------------------------------------

SOURCE = '''"""Module."""

LIMIT = 3  # a comment


class Thing:
    """Class."""

    size: int = 1
    """Attribute."""

    def grow(self, by: int) -> int:
        """Method."""
        return self.size + by


async def wait() -> None:
    """Nothing but this."""
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Module."""', '"""Another text."""'),
        ('"""Module."""\n', ""),
        ("  # a comment", ""),
        ('"""Class."""', '"""Class, longer."""'),
        ('    """Attribute."""\n', ""),
        ('"""Method."""', '"""What it returns."""'),
        ("LIMIT = 3", "LIMIT   =  (3)"),
        ("\n\n\nclass", "\n\nclass"),
        ('"""Nothing but this."""', "pass"),
    ],
)
def test_text_and_layout_leave_the_syntax_alone(old: str, new: str):
    assert old in SOURCE
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    assert syntax_without_docstrings(changed) == syntax_without_docstrings(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("self.size + by", "self.size - by"),
        ("by: int)", "by: int = 1)"),
        ("class Thing", "class Other"),
        ("async def wait", "def wait"),
        ("return self.size + by", "return 'text'"),
        ("LIMIT = 3", "LIMIT = 3\nLIMIT"),
    ],
)
def test_code_changes_the_syntax(old: str, new: str):
    assert old in SOURCE
    changed = SOURCE.replace(old, new)
    assert syntax_without_docstrings(changed) != syntax_without_docstrings(SOURCE)


def test_parser_that_stumbles_over_another_thread_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    expected, parse, failures = syntax_without_docstrings(SOURCE), ast.parse, [2, 10**6]

    def stumble(source: str) -> ast.Module:
        if failures[0]:
            failures[0] -= 1
            raise SystemError("AST constructor recursion depth mismatch")
        return parse(source)

    monkeypatch.setattr(ast, "parse", stumble)
    assert syntax_without_docstrings(SOURCE) == expected
    failures.pop(0)
    with pytest.raises(SystemError):
        syntax_without_docstrings(SOURCE)


def test_model_version_counts_the_code_of_the_model_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "sim_core"
    shutil.copytree(identity.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "PACKAGE", package)

    def version() -> str:
        model_version.cache_clear()
        return model_version()

    try:
        before = version()
        for path in package.rglob("*.py"):
            text = path.read_text("utf-8")
            path.write_text(f"# a comment\n{text}\n\n", "utf-8")
        assert version() == before
        counted, kept = [], []
        for path in sorted(package.rglob("*.py")):
            name = path.relative_to(package).as_posix()
            (kept if name in KEEPING else counted).append(path)
        assert len(kept) == len(KEEPING)
        for path in {path.parent: path for path in counted}.values():  # one of each folder
            text = path.read_text("utf-8")
            path.write_text(f"{text}\nNEW = 1\n", "utf-8")
            assert version() != before, f"{path} is not part of the version"
            path.write_text(text, "utf-8")
        for path in kept:
            path.write_text(path.read_text("utf-8") + "\nNEW = 1\n", "utf-8")
        assert version() == before
        (package / "detectors" / "new.py").write_text("")
        assert version() != before
        (package / "detectors" / "new.py").unlink()
        monkeypatch.setattr("numpy.__version__", "0.0.0")
        assert version() != before
    finally:
        model_version.cache_clear()


def test_model_version_is_in_every_key(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_config()
    run, experiment = run_key(config, 1, 0), experiment_key([config], 1, 1)
    monkeypatch.setattr(identity, "model_version", lambda: "another")
    assert run_key(config, 1, 0) != run
    assert experiment_key([config], 1, 1) != experiment
