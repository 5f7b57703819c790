"""How busy workers were: known spans of time, what is said of them, and the trace."""

from __future__ import annotations

import json

import pytest

from sim_core.config import ExecutorConfig
from sim_core.operations import Operations
from tasks.executors import worth_starting
from tasks.occupancy import Occupancy, Place, Stay, summarised, trace

ONE, TWO = Place("a", 1), Place("b", 2)


@pytest.mark.parametrize(
    ("spans", "shares", "advice"),
    [
        ([(ONE, 0, 100), (TWO, 0, 100)], (1.0, 0.0, 0.0, 0.0), "little to gain"),
        ([(ONE, 5, 10), (TWO, 5, 10)], (0.5, 0.5, 0.0, 0.0), "little to gain"),
        ([(ONE, 50, 100), (TWO, 50, 100)], (0.5, 0.5, 0.0, 0.0), "processes"),
        ([(ONE, 0, 100), (TWO, 0, 50)], (0.75, 0.0, 0.25, 0.0), "lower executor.shard_runs"),
        (
            [(ONE, 0, 20), (TWO, 0, 20), (ONE, 60, 100), (TWO, 60, 100)],
            (0.6, 0.0, 0.0, 0.4),
            "raise executor.max_in_flight",
        ),
    ],
)
def test_what_workers_waited_for(
    spans: list[tuple[Place, float, float]], shares: tuple[float, ...], advice: str
) -> None:
    found = summarised([Stay(n, 1, *span) for n, span in enumerate(spans)])
    assert found.workers == 2
    waited = (found.busy_share, found.start_share, found.tail_share, found.between_share)
    assert waited == pytest.approx(shares)
    assert sum(waited) == pytest.approx(1)
    assert advice in str(found)
    assert "on 2 nodes" in str(found)
    assert found.nodes == {
        node: sum(end - begin for place, begin, end in spans if place.node == node)
        for node in ("a", "b")
    }


def test_a_shard_is_noted_from_its_worker_on_even_if_that_dies() -> None:
    times = iter([0.0, 1.0, 3.0, 7.0, 8.0, 9.0])
    operations = Operations()
    occupancy = Occupancy(lambda: next(times), operations)
    with pytest.raises(ZeroDivisionError), occupancy.shard(0, 5) as placed:  # noqa: PT012
        placed(ONE)
        raise ZeroDivisionError
    with occupancy.shard(1, 2):
        pass  # it never came to a worker
    assert occupancy.stays() == [Stay(0, 5, ONE, 3.0, 7.0)]
    assert Occupancy().utilisation() is None
    waits = operations.figures()["executor.wait"]
    assert (waits.count, waits.seconds) == (1, 2.0)


def test_a_worker_is_done_with_a_shard_when_it_has_another() -> None:
    times = iter([0.0, 0.5, 1.0, 3.0, 4.0, 4.5, 9.0])
    occupancy = Occupancy(lambda: next(times))
    with occupancy.shard(0, 5) as first:
        first(ONE)
        with occupancy.shard(1, 5) as second:
            second(ONE)
    assert occupancy.stays() == [Stay(0, 5, ONE, 1.0, 4.0), Stay(1, 5, ONE, 4.0, 4.5)]


def test_trace_names_nodes_and_holds_every_stay() -> None:
    events = json.loads(trace([Stay(3, 5, TWO, 1.5, 2.0), Stay(4, 1, ONE, 2.0, 2.5)]))[
        "traceEvents"
    ]
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    assert [(names[span["pid"]], span["tid"]) for span in spans] == [("b", 2), ("a", 1)]
    assert [(span["name"], span["ts"], span["dur"]) for span in spans] == [
        ("shard 3", 1_500_000, 500_000),
        ("shard 4", 2_000_000, 500_000),
    ]


def test_ray_is_not_worth_starting_below_so_many_nodes() -> None:
    config = ExecutorConfig(kind="ray_local", min_nodes=100)
    assert worth_starting(config, 99).kind == "processes"
    assert worth_starting(config, 100) == config
    spread = config.model_copy(update={"network_shards": 2})
    assert worth_starting(spread, 99) == spread, "only Ray spreads a network"
    inline = ExecutorConfig(kind="inline", min_nodes=100)
    assert worth_starting(inline, 99) == inline
