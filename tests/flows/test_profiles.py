"""Presets for kinds of machines: whole, for either database, and no result depends on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.compose import compose_experiment
from flows.orchestrators import PlainOrchestrator
from flows.stages import carry_out
from sim_core.config import PostgresLedger, SqliteLedger
from sim_core.plan import plan_runs
from sim_core.simulate import simulate

PROFILES = ("development", "production", "high_performance", "edge")
SMALL = (
    "simulation.nodes=8",
    "simulation.steps=20",
    "experiment.replicates=2",
    "experiment.name=e",
    "output={tables:false,plots:false}",
)


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_changes_no_result(profile: str) -> None:
    without, _ = compose_experiment(SMALL)
    config, points = compose_experiment([f"profile={profile}", *SMALL])
    assert config != without
    assert plan_runs(config, points).key == plan_runs(without, points).key


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_fits_either_database(profile: str) -> None:
    sqlite, _ = compose_experiment([f"profile={profile}"])
    postgres, _ = compose_experiment([f"profile={profile}", "ledger=postgresql"])
    assert isinstance(sqlite.ledger, SqliteLedger)
    assert isinstance(postgres.ledger, PostgresLedger)


def test_larger_profiles_keep_more() -> None:
    kept = [compose_experiment([f"profile={p}", "ledger=postgresql"])[0] for p in PROFILES]
    ledgers = [config.ledger for config in kept]
    development, production, high, edge = (
        ledger.pool_size for ledger in ledgers if isinstance(ledger, PostgresLedger)
    )
    assert edge < development < production < high
    development_mb, production_mb, high_mb, edge_mb = (config.cache.memory_mb for config in kept)
    assert edge_mb < development_mb < production_mb < high_mb


def test_command_line_has_the_last_word() -> None:
    words = ["profile=production", "ledger=postgresql", "ledger.pool_size=7", "cache.memory_mb=5"]
    config, _ = compose_experiment(words)
    assert isinstance(config.ledger, PostgresLedger)
    assert (config.ledger.pool_size, config.cache.memory_mb) == (7, 5)


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("development", marks=pytest.mark.slow),
        pytest.param("production", marks=pytest.mark.slow),
        "high_performance",
    ],
)
def test_profile_runs(profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`edge` has tests of its own."""
    monkeypatch.chdir(tmp_path)
    config, points = compose_experiment(
        [
            f"profile={profile}",
            *SMALL,
            "orchestrator=none",
            "tracking=off",
            "executor.num_cpus=1",
            "executor.object_store_mb=128",
            "validation.engine=sql",
        ]
    )
    carry_out(config, points, PlainOrchestrator())
    summary = (tmp_path / "workspace" / "experiments" / "e" / "summary.json").read_text()
    for run in plan_runs(config, points).runs:
        *_, last = simulate(run.spec)
        assert last.head.hex() in summary
