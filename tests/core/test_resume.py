"""A run that was interrupted and resumed is the run that was not."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim_core
from sim_core.checkpoint import decode, encode
from sim_core.errors import CheckpointMismatch, QuorumlabError, RunTimeout, RunTooLarge
from sim_core.jobs import RunError, simulate_jobs
from sim_core.ledger.blocks import KINDS
from sim_core.model import NetworkModel
from sim_core.simulate import RunSpec, Segment, resident_mb, simulate
from sim_core.simulated_network import SimulatedNetwork

MakeSpec = Callable[..., RunSpec]
N_STEPS = 14
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "mahalanobis, poisoners, churn": {
        "detector": {"kind": "mahalanobis"},
        "adversary": {"kind": "poisoner", "share": 0.3},
        "churn": {"crash_rate": 0.15, "recovery_rate": 0.4},
        "response": {"blacklist_capacity": 2},
    },
    "isolated, quantile, flippers": {
        "dissemination": {"kind": "none"},
        "detector": {"kind": "zscore", "robust": True, "threshold": {"mode": "quantile"}},
        "adversary": {"kind": "flipper"},
        "metrics": {"from_step": 5, "auroc_every": 3},
    },
    "competence, supermajority over all": {
        "voting": {"mode": "competence", "competence": 0.7},
        "consensus": {"kind": "supermajority", "base": "all", "vote_deadline": 2},
        "signature": {"cooldown_steps": 1},
    },
}


def specify(make_spec: MakeSpec, case: str, **more: Any) -> RunSpec:
    settings: dict[str, Any] = {"simulation": {"steps": N_STEPS}, **CASES[case]}
    return make_spec(detail="all", **{**settings, **more})


def joined(segments: list[Segment]) -> tuple[Any, ...]:
    """Return what a run leaves behind, however it was cut into segments."""
    rows = {
        kind: np.concatenate([s.rows[kind] for s in segments if kind in s.rows]).tobytes()
        for kind in KINDS
    }
    blocks = [block for s in segments for block in s.blocks]
    last = segments[-1]
    return rows, blocks, last.head, last.summary, last.checkpoint, last.next_step


@pytest.mark.parametrize("case", CASES)
def test_resumed_run_equals_uninterrupted_run_at_every_step(make_spec: MakeSpec, case: str):
    whole = list(simulate(specify(make_spec, case, checkpoint_every=N_STEPS)))
    assert len(whole) == 1
    expected = joined(whole)
    steps = list(simulate(specify(make_spec, case, checkpoint_every=1)))
    assert joined(steps) == expected
    for at in range(1, N_STEPS):
        resumed = list(simulate(specify(make_spec, case), steps[at - 1].checkpoint))
        assert resumed[0].first_step == at
        assert joined(steps[:at] + resumed) == expected


def test_compressed_checkpoints_change_nothing_and_mix_with_others(make_spec: MakeSpec):
    spec = specify(make_spec, "defaults")
    packed = dataclasses.replace(spec, compress_checkpoints=True)
    plain, small = list(simulate(spec)), list(simulate(packed))
    assert small[-1].head == plain[-1].head
    assert all(len(s.checkpoint) < len(p.checkpoint) for s, p in zip(small, plain, strict=True))
    for segments, other in ((plain, packed), (small, spec)):  # killed, and resumed the other way
        resumed = list(simulate(other, segments[0].checkpoint))
        assert joined([segments[0], *resumed])[:4] == joined(plain)[:4]


@pytest.mark.parametrize("every", [1, 3, 5, 100])
def test_segments_end_at_multiples_of_their_length_and_at_the_horizon(
    make_spec: MakeSpec, every: int
):
    spec = specify(make_spec, "defaults", checkpoint_every=every)
    segments = list(simulate(spec))
    ends = [s.next_step for s in segments]
    assert ends == [*range(every, N_STEPS, every), N_STEPS]
    assert [s.first_step for s in segments] == [0, *ends[:-1]]
    assert [s.summary is not None for s in segments] == [False] * (len(ends) - 1) + [True]
    assert all(len(s.blocks) == s.next_step - s.first_step for s in segments)
    assert all(s.head == s.blocks[-1].hash for s in segments)
    for segment in segments:
        assert decode(segment.checkpoint, spec.run_key).step == segment.next_step


def test_resume_off_the_grid_returns_to_it(make_spec: MakeSpec):
    short = specify(make_spec, "defaults", simulation={"steps": 6}, checkpoint_every=4)
    checkpoint = list(simulate(short))[-1].checkpoint
    long = specify(make_spec, "defaults", checkpoint_every=4)
    assert [(s.first_step, s.next_step) for s in simulate(long, checkpoint)] == [
        (6, 8),
        (8, 12),
        (12, 14),
    ]


def test_checkpoint_at_the_horizon_gives_the_summary_without_steps(make_spec: MakeSpec):
    spec = specify(make_spec, "defaults")
    last = list(simulate(spec))[-1]
    (again,) = simulate(spec, last.checkpoint)
    assert (again.blocks, again.rows) == ((), {})
    assert (again.summary, again.head, again.next_step) == (last.summary, last.head, N_STEPS)


def test_summary_depends_on_the_horizon_and_not_on_how_far_the_run_was_meant_to_go(
    make_spec: MakeSpec,
):
    long = list(simulate(specify(make_spec, "defaults", checkpoint_every=1)))
    for steps in (3, 9):
        short = specify(make_spec, "defaults", simulation={"steps": steps})
        (segment,) = simulate(short, long[steps - 1].checkpoint)
        assert segment.summary == list(simulate(short))[-1].summary != long[-1].summary


def test_checkpoint_of_another_run_is_refused(make_spec: MakeSpec):
    checkpoint = next(simulate(specify(make_spec, "defaults"))).checkpoint
    other = make_spec(replicate=1)
    with pytest.raises(CheckpointMismatch, match=other.run_key):
        next(simulate(other, checkpoint))


def test_model_goes_on_from_a_restored_state(make_model: Callable[..., NetworkModel]):
    first = make_model(churn={"crash_rate": 0.2})
    for _ in range(5):
        first.step()
    content = encode(first.state, "00" * 32)
    for _ in range(4):
        first.step()
    second = NetworkModel(first.config, seed=1, state=decode(content, "00" * 32))
    for _ in range(4):
        second.step()
    second.close()
    assert second.state.head == first.state.head
    assert encode(second.state, "00" * 32) == encode(first.state, "00" * 32)


IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from sim_core.config import ModelConfig
from sim_core.simulate import RunSpec, simulate
order = json.loads(sys.stdin.read())
for job in order:
    config = ModelConfig.model_validate(job["config"])
    spec = RunSpec(job["run_key"], config, job["seed"], job["replicate"], "all", 4)
    checkpoint = Path(job["checkpoint"]).read_bytes() if job["checkpoint"] else None
    last = list(simulate(spec, checkpoint))[-1]
    print(json.dumps([last.head.hex(), last.summary]))
"""


def test_run_in_a_fresh_process_resumed_or_not_equals_this_one(make_spec: MakeSpec, tmp_path: Path):
    jobs, expected = [], []
    for number, case in enumerate(CASES):
        spec = specify(make_spec, case)
        segments = list(simulate(spec))
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(segments[1].checkpoint)
        for checkpoint in (None, str(path)):
            job = {"run_key": spec.run_key, "seed": spec.seed, "replicate": spec.replicate}
            config = spec.config.model_dump(mode="json")
            jobs.append(job | {"config": config, "checkpoint": checkpoint})
            expected.append([segments[-1].head.hex(), segments[-1].summary])
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_ANOTHER_PROCESS],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(sim_core.__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    assert [json.loads(line) for line in process.stdout.splitlines()] == expected


def test_run_that_takes_too_long_ends_with_its_step(make_spec: MakeSpec):
    ticks = iter(range(1_000))
    spec = dataclasses.replace(specify(make_spec, "defaults"), max_seconds=7.5)
    segments = simulate(spec, clock=lambda: float(next(ticks)))
    assert next(segments).next_step == 4
    with pytest.raises(RunTimeout, match=r"max_seconds=7\.5 at step \d+ of 14"):
        list(segments)


def test_run_whose_process_is_too_large_ends_after_its_segment(make_spec: MakeSpec):
    sizes = iter([100.0, 101.5])
    spec = dataclasses.replace(specify(make_spec, "defaults"), memory_mb=100)
    segments = simulate(spec, resident=lambda: next(sizes))
    assert [next(segments).next_step, next(segments).next_step] == [4, 8]
    with pytest.raises(RunTooLarge, match=r"step 8 of 14: .* 102 MiB.*limits\.memory_mb=100\."):
        next(segments)


def test_memory_limit_counts_what_the_process_really_holds(make_spec: MakeSpec):
    spec = specify(make_spec, "defaults")
    enough = dataclasses.replace(spec, memory_mb=int(resident_mb()) + 500)
    held = np.ones(100 << 20, dtype=np.uint8)
    results = list(simulate_jobs([(dataclasses.replace(spec, memory_mb=64), None), (enough, None)]))
    assert held.all()
    assert [r.next_step for r in results if isinstance(r, Segment)] == [4, 4, 8, 12, 14]
    (error,) = [r for r in results if isinstance(r, RunError)]
    assert "its process held" in error.message


def test_failed_run_stops_no_other(make_spec: MakeSpec):
    good, bad = specify(make_spec, "defaults"), make_spec(replicate=1)
    late = dataclasses.replace(make_spec(replicate=2), max_seconds=-1.0)
    results = list(simulate_jobs([(bad, b"damaged"), (late, None), (good, None)]))
    errors = [r for r in results if isinstance(r, RunError)]
    assert [e.run_key for e in errors] == [bad.run_key, late.run_key]
    assert "checkpoint in memory" in errors[0].message
    assert "CheckpointMismatch" in errors[0].traceback
    assert "max_seconds=-1" in errors[1].message
    assert joined([r for r in results if isinstance(r, Segment)]) == joined(list(simulate(good)))


def test_error_that_nobody_foresaw_is_that_runs_result(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: SimulatedNetwork) -> None:
        raise ZeroDivisionError("once in a while")

    assert not issubclass(ZeroDivisionError, QuorumlabError)
    monkeypatch.setattr(SimulatedNetwork, "step", fail)
    (error,) = simulate_jobs([(make_spec(), None)])
    assert isinstance(error, RunError)
    assert error.message == "ZeroDivisionError: once in a while"
