"""Keys that name content: the same result has the same key, whatever else differs."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np

from sim_core.config import ModelConfig
from sim_core.config.explain import shown
from sim_core.errors import DataError
from sim_core.network import topology_files
from sim_core.plugins.sources import plugins_of
from sim_core.plugins.stored import PLUGINS
from sim_core.syntax import syntax_without_docstrings
from sim_core.traffic import data_files

PACKAGE = Path(__file__).parent
KEEPING = frozenset(
    [
        "agents.py",
        "bounded_queue.py",
        "caching.py",
        "checkpoint.py",
        "comparison/__init__.py",
        "comparison/bootstrap.py",
        "comparison/corrections.py",
        "comparison/differences.py",
        "comparison/directions.py",
        "comparison/pairing.py",
        "comparison/planning.py",
        "comparison/report.py",
        "comparison/telling.py",
        "comparison/verdicts.py",
        "comparison/wording.py",
        "config/__init__.py",
        "config/adaptation.py",
        "config/cache.py",
        "config/comparison.py",
        "config/design.py",
        "config/experiment.py",
        "config/explain.py",
        "config/ledger.py",
        "config/monitoring.py",
        "config/log_settings.py",
        "config/optimise.py",
        "config/profiling.py",
        "config/retention.py",
        "config/stopping.py",
        "contracts/__init__.py",
        "contracts/adversaries.py",
        "contracts/cases.py",
        "contracts/checks.py",
        "contracts/detectors.py",
        "contracts/pytest_plugin.py",
        "contracts/runs.py",
        "contracts/suite.py",
        "contracts/traffic.py",
        "designs/__init__.py",
        "designs/rows.py",
        "designs/unit_cube.py",
        "error_table.py",
        "differing.py",
        "errors.py",
        "faultpoints.py",
        "forks.py",
        "growth.py",
        "identity.py",
        "jobs.py",
        "layout.py",
        "laws/__init__.py",
        "laws/catalogue.py",
        "laws/charts.py",
        "laws/epidemic.py",
        "laws/findings.py",
        "laws/gossip.py",
        "laws/readings.py",
        "laws/scores.py",
        "laws/table.py",
        "laws/votes.py",
        "ledger/bulk.py",
        "ledger/cached.py",
        "ledger/checks.py",
        "ledger/comparisons.py",
        "ledger/condition.py",
        "ledger/decisions.py",
        "ledger/engine.py",
        "ledger/garbage.py",
        "ledger/migrations/__init__.py",
        "ledger/migrations/env.py",
        "ledger/migrations/versions/schema_2.py",
        "ledger/migrations/versions/schema_3.py",
        "ledger/migrations/versions/schema_4.py",
        "ledger/missing.py",
        "ledger/presence.py",
        "ledger/queries.py",
        "ledger/report.py",
        "ledger/retention.py",
        "ledger/rows.py",
        "ledger/schema.py",
        "ledger/statements.py",
        "ledger/store.py",
        "ledger/stored.py",
        "ledger/tables.py",
        "ledger/transactions.py",
        "ledger/validated.py",
        "ledger/verify.py",
        "ledger/version.py",
        "ledger/writer.py",
        "model.py",
        "nab_scoring.py",
        "operations.py",
        "optimisation/__init__.py",
        "optimisation/asking.py",
        "optimisation/front.py",
        "optimisation/goals.py",
        "optimisation/report.py",
        "optimisation/space.py",
        "optimisation/trials.py",
        "plan.py",
        "plugins/__init__.py",
        "plugins/loading.py",
        "plugins/offers.py",
        "plugins/plugin.py",
        "plugins/schema.py",
        "plugins/sources.py",
        "plugins/stored.py",
        "results.py",
        "sensitivity/__init__.py",
        "sensitivity/morris.py",
        "sensitivity/resampling.py",
        "sensitivity/sobol.py",
        "sensitivity/variance.py",
        "simulate.py",
        "stopping.py",
        "syntax.py",
        "workspace.py",
    ]
)
"""Modules that keep, check, compare and show what the model made, and never change it; and errors, by
which the model gives no other results but none."""


def content_hash(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON.

    >>> content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def model_version() -> str:
    """Return what results depend on besides configuration: this package's code, numpy, numba.

    The code of the model counts, as syntax trees without docstrings: comments, formatting and
    prose change nothing, nor does code that keeps, checks or compares results.
    """
    trees = {
        name: syntax_without_docstrings(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
        if (name := path.relative_to(PACKAGE).as_posix()) not in KEEPING
    }
    return content_hash({"code": trees, "numpy": np.__version__, "numba": numba.__version__})


def program() -> dict[str, str]:
    """Return the version of the model and of the libraries that it depends on."""
    return {
        "model": model_version()[:12],
        "numpy": np.__version__,
        "numba": numba.__version__,
    }


@cache
def file_hash(path: Path, modified: int, size: int) -> str:
    """Return a file's SHA-256; modification time and size tell the cache of changes."""
    del modified, size
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_hashes(config: ModelConfig) -> list[list[str]]:
    """Return name and SHA-256 of each data file that a configuration reads.

    Raises:
        DataError: a file is missing, or what is named is no file.
    """
    named = _named_paths(config)
    for key, name in named.items():
        if not name.isprintable():
            raise DataError(f"{key}={shown(name)} holds a control character: name a file or folder")
    try:
        return [_data_hash(path) for path in (*data_files(config), *topology_files(config))]
    except (OSError, ValueError, RuntimeError) as error:  # no such user's home, a name too long
        places = " or ".join(f"{key}={shown(name)}" for key, name in named.items())
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{places or 'QUORUMLAB_DATA'} cannot be read: {reason}. Name a file that can"
        ) from error


def _named_paths(config: ModelConfig) -> dict[str, str]:
    """Return the paths that a configuration names, by their keys."""
    keys = {"traffic": ("path", "warmup_path"), "topology": ("path",)}
    found = {
        f"{group}.{key}": getattr(getattr(config, group), key, None)
        for group, names in keys.items()
        for key in names
    }
    return {key: str(path) for key, path in found.items() if path is not None}


def _data_hash(path: Path) -> list[str]:
    """Return name and SHA-256 of a file; what never ends, as a device does, is none."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is no file")
    return [path.name, file_hash(path.absolute(), status.st_mtime_ns, status.st_size)]


def result_relevant(config: ModelConfig) -> dict[str, Any]:
    """Return the part of a configuration that a run's rows depend on.

    Without steps (a longer run has the rows of a shorter one, and more), with the content of
    data files in place of their folder, and with the code of the plug-ins that it uses.
    """
    relevant = config.model_dump(mode="json", include=set(ModelConfig.model_fields))
    del relevant["simulation"]["steps"]
    relevant["traffic"].pop("path", None)
    relevant["traffic"].pop("warmup_path", None)
    relevant["topology"].pop("path", None)
    relevant["data"] = data_hashes(config)
    if plugins := plugins_of(config):
        relevant[PLUGINS] = plugins
    return relevant


def run_key(config: ModelConfig, seed: int, replicate: int) -> str:
    """Return the key of a run: 64 hexadecimal digits.

    Raises:
        DataError: a data file is missing.
    """
    return run_keys(config, seed, range(replicate, replicate + 1))[0]


def run_keys(config: ModelConfig, seed: int, replicates: range) -> list[str]:
    """Return the keys of a configuration's runs by replicate.

    Raises:
        DataError: a data file is missing.
    """
    content = {"config": result_relevant(config), "seed": seed, "model": model_version()}
    return [content_hash({**content, "replicate": replicate}) for replicate in replicates]


def experiment_key(
    configs: Iterable[ModelConfig], seed: int, replicates: int | dict[str, Any]
) -> str:
    """Return the key of an experiment: its points (in any order), replicates, steps and seed.

    Replicates are a number, or the rule by which their number is found.
    """
    points = [{**result_relevant(c), "steps": c.simulation.steps} for c in configs]
    return content_hash(
        {
            "points": sorted(content_hash(p) for p in points),
            "seed": seed,
            "replicates": replicates,
            "model": model_version(),
        }
    )
