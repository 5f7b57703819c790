"""Runs that have their first steps in common simulate them once, and are the runs that they would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flows.shards import make_shards
from sim_core import forks
from sim_core.checkpoint import decode
from sim_core.config import ModelConfig
from sim_core.forks import in_families
from sim_core.jobs import Job, RunError, simulate_jobs
from sim_core.ledger.blocks import KEPT
from sim_core.simulate import RunSpec, Segment, simulate
from sim_core.simulated_network import SimulatedNetwork

MakeSpec = Callable[..., RunSpec]
N_STEPS, FORK, EVERY = 14, 7, 4
POISONERS = {"adversary": {"kind": "poisoner", "share": 0.4}}
POLICIES: dict[str, dict[str, Any]] = {
    "as before": {},
    "poisoners": POISONERS,
    "another rule": {"consensus": {"kind": "bft", "vote_deadline": 2}},
    "votes weigh": {"consensus": {"kind": "weighted", "vote_deadline": 1}},
    "another judgement": {"voting": {"mode": "competence", "competence": 0.4}},
    "wider signatures": {"signature": {"match_radius": 3.5, "cooldown_steps": 1}},
    "sleepers wake": {"adversary": {"kind": "sleeper", "wake_reputation": 0.51}},
    "all at once": {"consensus": {"kind": "bft"}, "signature": {"min_support": 1}, **POISONERS},
}


@pytest.fixture
def branch(make_spec: MakeSpec) -> Callable[..., RunSpec]:
    """Return a function from a policy and the step from which it holds to a run."""

    def make(policy: str, step: int = FORK, steps: int = N_STEPS, **more: Any) -> RunSpec:
        later = {"step": step, **POLICIES[policy]} if POLICIES[policy] else {}
        settings = {"detail": "all", "checkpoint_every": EVERY, **more}
        return make_spec(
            simulation={"nodes": 12, "steps": steps},
            signature={"cooldown_steps": 2},
            intervention=later,
            **settings,
        )

    return make


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Return how often each step is simulated."""
    found: Counter[int] = Counter()
    step = SimulatedNetwork.step

    def count(self: SimulatedNetwork) -> None:
        found[self.state.step] += 1
        step(self)

    monkeypatch.setattr(SimulatedNetwork, "step", count)
    return found


def content(segment: Segment) -> tuple[Any, ...]:
    """Return all of a segment but for what it took and where it is from."""
    rows = {kind: entries.tobytes() for kind, entries in segment.rows.items()}
    return (
        segment.first_step, segment.next_step, segment.head, segment.blocks, rows,
        segment.checkpoint, segment.summary, segment.n_features,
    )  # fmt: skip


def together(jobs: list[Job]) -> dict[str, list[Segment]]:
    """Return the segments of runs that are executed one after the other, by their keys."""
    found: dict[str, list[Segment]] = {spec.run_key: [] for spec, _ in jobs}
    for item in simulate_jobs(jobs):
        assert isinstance(item, Segment), item
        found[item.run_key].append(item)
    return found


def assert_as_alone(found: dict[str, list[Segment]], specs: list[RunSpec]) -> None:
    for spec in specs:
        alone = [content(segment) for segment in simulate(spec)]
        assert [content(segment) for segment in found[spec.run_key]] == alone


@pytest.mark.parametrize("detail", sorted(KEPT))
def test_each_branch_is_the_run_by_itself(branch: Callable[..., RunSpec], detail: str) -> None:
    compress = detail == "votes"
    specs = [
        replace(branch(policy, detail=detail), compress_checkpoints=compress) for policy in POLICIES
    ]
    found = together([(spec, None) for spec in specs])
    assert_as_alone(found, specs)
    heads = {segments[-1].blocks[-1].digests for segments in found.values()}
    assert len(heads) > 5, "policies make a difference"


def test_common_steps_are_simulated_once(
    branch: Callable[..., RunSpec], stepped: Counter[int]
) -> None:
    found = together([(branch(policy), None) for policy in POLICIES])
    n = len(POLICIES)
    assert dict(stepped) == {s: 1 if s < FORK else n for s in range(N_STEPS)}
    shared = [s.next_step - s.first_step for part in found.values() for s in part if s.shared]
    assert sum(shared) == (n - 1) * FORK


def test_runs_that_fork_at_different_steps_share_what_they_have(
    branch: Callable[..., RunSpec], stepped: Counter[int]
) -> None:
    steps = {
        "as before": 1,
        "poisoners": 10,
        "another rule": 7,
        "votes weigh": 3,
        "all at once": 20,
    }
    specs = in_families([branch(policy, step) for policy, step in steps.items()])[0]
    found = together([(spec, None) for spec in specs])
    assert sum(stepped.values()) == N_STEPS + 2 + (N_STEPS - 10) + (N_STEPS - 7) + (N_STEPS - 3)
    assert_as_alone(found, specs)


def test_families_are_told_apart_by_all_that_their_first_steps_depend_on(
    branch: Callable[..., RunSpec], stepped: Counter[int]
) -> None:
    first = branch("poisoners")
    others = [
        branch("another rule", seed=2),
        branch("another rule", replicate=1),
        branch("another rule", detail="votes"),
        branch("another rule", checkpoint_every=3),
        branch("another rule", response={"blacklist_capacity": 1}),
        replace(branch("another rule"), fork=False),
    ]
    for other in others:
        assert [len(family) for family in in_families([first, other])] == [1, 1]
        stepped.clear()
        assert_as_alone(together([(first, None), (other, None)]), [])
        assert set(stepped.values()) == {2}
    assert len(in_families([first, branch("another rule", steps=20)])) == 1, "only longer"


def test_family_of_which_one_is_under_way_goes_on_from_its_checkpoint(
    branch: Callable[..., RunSpec], stepped: Counter[int]
) -> None:
    specs = [branch(policy) for policy in POLICIES]
    begun = {n: next(simulate(specs[n])) for n in (0, 2)}
    stepped.clear()
    jobs = [(s, begun[n].checkpoint if n in begun else None) for n, s in enumerate(specs)]
    found = together(jobs)
    assert [stepped[step] for step in (0, EVERY, FORK)] == [1, 3, len(specs)]
    for n, segment in begun.items():
        found[specs[n].run_key].insert(0, segment)
    assert_as_alone(found, specs)


def test_driver_that_dies_after_any_segment_loses_time_only(
    branch: Callable[..., RunSpec],
) -> None:
    specs = [branch(policy) for policy in ("as before", "poisoners", "another rule")]
    whole = list(simulate_jobs([(spec, None) for spec in specs]))
    alone = {spec.run_key: [content(segment) for segment in simulate(spec)] for spec in specs}
    for n in range(len(whole)):
        kept: dict[str, list[Segment]] = {spec.run_key: [] for spec in specs}
        for segment in whole[:n]:
            assert isinstance(segment, Segment)
            kept[segment.run_key].append(segment)
        left = [spec for spec in specs if not _is_over(kept[spec.run_key])]
        last = {key: part[-1].checkpoint for key, part in kept.items() if part}
        for key, part in together([(s, last.get(s.run_key)) for s in left]).items():
            kept[key] += part
        assert {key: [content(s) for s in part] for key, part in kept.items()} == alone


def _is_over(segments: list[Segment]) -> bool:
    return bool(segments) and segments[-1].summary is not None


def test_trunk_that_fails_leaves_what_it_has_to_the_others(
    branch: Callable[..., RunSpec], stepped: Counter[int]
) -> None:
    trunk, other = branch("as before"), branch("poisoners")
    items = simulate_jobs([(replace(trunk, memory_mb=1), None), (other, None)])
    error, *found = [item for item in items if item.run_key == other.run_key or _failed(item)]
    assert isinstance(error, RunError)
    assert dict(stepped) == {s: 2 if s < EVERY else 1 for s in range(N_STEPS)}, "memory was full"
    assert [content(s) for s in found if isinstance(s, Segment)] == [
        content(s) for s in simulate(other)
    ]


def _failed(item: Segment | RunError) -> bool:
    return isinstance(item, RunError)


def test_history_that_is_too_large_is_forgotten(
    branch: Callable[..., RunSpec], stepped: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "LARGEST_TRUNK", 30_000)
    specs = [branch(policy) for policy in ("as before", "poisoners", "another rule")]
    assert_as_alone(together([(spec, None) for spec in specs]), [])
    assert set(stepped.values()) == {3}


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "as before"])
def test_resume_before_at_and_after_the_fork_gives_the_same_bytes(
    branch: Callable[..., RunSpec], policy: str
) -> None:
    spec = branch(policy)
    each = list(simulate(replace(spec, checkpoint_every=1)))
    whole = [content(segment) for segment in simulate(spec)]
    for segment in each[:-1]:
        resumed = list(simulate(spec, segment.checkpoint))
        assert resumed[0].first_step == segment.next_step
        assert content(resumed[-1])[5:7] == whole[-1][5:7]


@pytest.mark.parametrize("before", [5, FORK, 9])
def test_run_that_grows_across_the_fork_is_the_long_one(
    branch: Callable[..., RunSpec], before: int
) -> None:
    for policy in ("poisoners", "another rule", "wider signatures"):
        short, long = branch(policy, steps=before), branch(policy)
        assert short.run_key == long.run_key
        last = list(simulate(short))[-1]
        (again,) = simulate(short, last.checkpoint)
        assert (again.checkpoint, again.summary) == (last.checkpoint, last.summary)
        grown = list(simulate(long, again.checkpoint))[-1]
        assert content(grown)[5:7] == content(list(simulate(long))[-1])[5:7]


def test_intervention_beyond_the_horizon_changes_rows_of_no_step(
    branch: Callable[..., RunSpec],
) -> None:
    plain, late = branch("as before"), branch("all at once", step=N_STEPS)
    assert plain.run_key != late.run_key
    one, other = list(simulate(plain)), list(simulate(late))
    assert [s.rows.keys() for s in one] == [s.rows.keys() for s in other]
    assert [content(s)[4] for s in one] == [content(s)[4] for s in other]
    assert one[-1].summary == other[-1].summary


def test_state_at_the_fork_is_that_of_the_run_without(branch: Callable[..., RunSpec]) -> None:
    plain = replace(branch("as before"), checkpoint_every=FORK)
    forked = replace(branch("all at once"), checkpoint_every=FORK)
    states = [decode(next(simulate(s)).checkpoint, s.run_key) for s in (plain, forked)]
    one, other = (
        {k: v.tobytes() for k, v in state.to_arrays().items() if k != "head"} for state in states
    )
    assert one == other


def test_shards_keep_families_together_and_split_them_where_told(
    branch: Callable[..., RunSpec],
) -> None:
    specs = [branch(policy, replicate=replicate) for policy in POLICIES for replicate in range(3)]
    shards = make_shards(specs, max_in_flight=2)
    assert [{s.replicate for s in shard.specs} for shard in shards] == [{0}, {1}, {2}]
    assert all(shard.specs[0].config.intervention.step is None for shard in shards)
    assert [len(shard.specs) for shard in make_shards(specs, 2, shard_runs=5)] == [5, 5, 5, 5, 4]
    apart = make_shards([replace(spec, fork=False) for spec in specs], max_in_flight=2)
    assert [s.run_key for shard in apart for s in shard.specs] == [s.run_key for s in specs]


def test_configuration_of_a_step_is_asked_in_one_place(branch: Callable[..., RunSpec]) -> None:
    config = branch("all at once").config
    assert config.at_step(FORK - 1).consensus.kind == "majority"
    after = config.at_step(FORK)
    assert (after.consensus.kind, after.adversary.kind) == ("bft", "poisoner")
    assert after.intervention.step is None
    assert ModelConfig().at_step(5) == ModelConfig()


def refused() -> Iterator[tuple[dict[str, Any], str]]:
    """Yield interventions that cannot be, with what is said of them."""
    yield {"step": 3}, "replaces nothing"
    yield {"voting": {}}, r"intervention\.voting is given, but not from when on"
    yield {"step": 3, "adversary": {"kind": "sybil"}}, "take adversary=colluder"
    yield {"step": 3, "consensus": {"kind": "bft", "committee": 2}}, "2 voters, and before it has 8"
    yield (
        {"step": 3, "adversary": {"kind": "flipper", "count": 9}},
        r"intervention\.adversary\.count",
    )
    yield {"step": 0, "voting": {}}, "greater than or equal to 1"


@pytest.mark.parametrize(("intervention", "words"), list(refused()))
def test_intervention_that_cannot_be_is_refused_in_words(
    make_spec: MakeSpec, intervention: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make_spec(intervention=intervention)


def test_sybils_cannot_be_there_before(make_spec: MakeSpec) -> None:
    with pytest.raises(ValueError, match="join_step"):
        make_spec(adversary={"kind": "sybil"}, intervention={"step": 3, "voting": {}})
