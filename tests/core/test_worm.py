"""Worms: the law of Reed and Frost on the complete graph, and the rules of who is infected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sim_core.config import ModelConfig
from sim_core.network import infected_now, make_topology, seed_worms, spread_worms
from sim_core.randomness import Streams
from tests.core.test_topology import adjacency_of

WITHIN = 3.29
"""Standard errors of a 99.9 % interval."""


def worm_config(n_nodes: int, *worms: dict[str, Any], topology: Any = None) -> ModelConfig:
    campaigns = [
        {"family": "worm", "start": 0, "duration": 10_000, "spread": "worm"} | worm
        for worm in worms
    ]
    return ModelConfig.model_validate(
        {
            "simulation": {"nodes": n_nodes},
            "traffic": {"kind": "synthetic", "campaigns": campaigns},
            "topology": topology or {"kind": "complete"},
        }
    )


class Outbreak:
    """Worms in a network, step by step."""

    def __init__(self, config: ModelConfig, replicate: int = 0) -> None:
        self.config, self.streams = config, Streams(11, replicate)
        self.topology = make_topology(config, self.streams)
        self.network: dict[str, Any] = {}
        self.topology.init(self.network)
        self.infected = seed_worms(config, self.streams)
        n_nodes = config.simulation.nodes
        self.up = np.ones(n_nodes, dtype=bool)
        self.immune = np.zeros((n_nodes, len(config.traffic.campaigns)), dtype=bool)

    def now(self, step: int) -> NDArray[np.bool_]:
        now = infected_now(self.config, self.infected, step)
        assert now is not None
        return now

    def run(self, steps: int, first: int = 0) -> NDArray[np.int64]:
        for step in range(first, first + steps):
            spread_worms(
                self.config, self.streams, self.topology, self.network, self.infected,
                self.up, self.immune, step,
            )  # fmt: skip
        return self.infected


def reed_frost(susceptible: int, p: float) -> NDArray[np.float64]:
    """Return the probability of each final number of new infections, one node starting."""
    final = np.zeros(susceptible + 1)
    alive = {(susceptible, 1): 1.0}
    while alive:
        later: dict[tuple[int, int], float] = {}
        for (s, i), weight in alive.items():
            for new, share in enumerate(stats.binom.pmf(np.arange(s + 1), s, 1 - (1 - p) ** i)):
                if new == 0 or s == 0:
                    final[susceptible - s] += weight * share
                elif weight * share > 1e-15:
                    key = (s - new, new)
                    later[key] = later.get(key, 0.0) + weight * share
        alive = later
    return final


def final_sizes(susceptible: int, p: float, n_runs: int) -> NDArray[np.int64]:
    config = worm_config(susceptible + 1, {"transmission": p, "infectious_steps": 1})
    sizes = np.empty(n_runs, dtype=np.int64)
    for replicate in range(n_runs):
        outbreak, step = Outbreak(config, replicate), 0
        while outbreak.now(step).any():
            outbreak.run(1, step)
            step += 1
        sizes[replicate] = (outbreak.infected >= 0).sum() - 1
    return sizes


@pytest.mark.parametrize(("r0", "mean", "none"), [(1.5, 17.5162, 0.21807), (2.5, 40.3053, 0.07694)])
def test_final_size_on_the_complete_graph_is_that_of_reed_and_frost(
    r0: float, mean: float, none: float
):
    exact, n_runs = reed_frost(50, r0 / 50), 3_000
    assert exact @ np.arange(51) == pytest.approx(mean, abs=1e-4)
    assert exact[0] == pytest.approx(none, abs=1e-5)
    check_sizes(final_sizes(50, r0 / 50, n_runs), exact)


@pytest.mark.parametrize(("susceptible", "p"), [(8, 0.2), (20, 0.06)])
def test_final_size_for_other_numbers(susceptible: int, p: float):
    check_sizes(final_sizes(susceptible, p, 3_000), reed_frost(susceptible, p))


def check_sizes(sizes: NDArray[np.int64], exact: NDArray[np.float64]) -> None:
    value = np.arange(len(exact))
    mean = exact @ value
    sd = np.sqrt(exact @ value**2 - mean**2)
    n_runs = len(sizes)
    assert sizes.mean() == pytest.approx(mean, abs=WITHIN * sd / np.sqrt(n_runs))
    error = WITHIN * np.sqrt(exact[0] * (1 - exact[0]) / n_runs)
    assert (sizes == 0).mean() == pytest.approx(exact[0], abs=error)


def test_certain_transmission_reaches_the_neighbours_of_a_graph_step_by_step():
    worm = {"transmission": 1.0, "start": 4}
    config = worm_config(40, worm, topology={"kind": "random", "mean_degree": 4.0})
    outbreak = Outbreak(config)
    infected = outbreak.run(40, 4)[0]
    links = adjacency_of(outbreak.topology, outbreak.network)
    distance = np.full(40, -1)
    reached = infected == 4
    for steps in range(40):  # breadth first
        distance[reached & (distance < 0)] = steps
        reached = reached | (links @ reached > 0)
    np.testing.assert_array_equal(infected, np.where(distance >= 0, distance + 4, -1))


def test_a_neighbour_of_k_is_infected_with_one_minus_all_failures():
    n_nodes, p = 20_000, 0.3
    config = worm_config(
        n_nodes, {"transmission": p, "first_infected": 8_000},
        topology={"kind": "ring", "neighbours": 4},
    )  # fmt: skip
    outbreak = Outbreak(config)
    first = outbreak.infected[0] == 0
    infected = outbreak.run(1)[0] == 1
    k = adjacency_of_ring(first)
    for count in range(1, 5):
        at_risk = ~first & (k == count)
        expected = 1 - (1 - p) ** count
        error = WITHIN * np.sqrt(expected * (1 - expected) / at_risk.sum())
        assert infected[at_risk].mean() == pytest.approx(expected, abs=error)
    assert not infected[k == 0].any()


def adjacency_of_ring(marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many of the 4 nearest nodes on the ring are marked."""
    return sum(np.roll(marked, shift).astype(np.int64) for shift in (-2, -1, 1, 2))  # type: ignore[return-value]


@pytest.mark.parametrize("topology", ["complete", "ring"])
def test_who_is_down_or_immune_is_not_infected_and_who_is_down_infects_nobody(topology: str):
    config = worm_config(30, {"transmission": 1.0}, topology={"kind": topology})
    outbreak = Outbreak(config)
    start = int(np.flatnonzero(outbreak.infected[0] == 0)[0])
    others = np.roll(np.arange(30), -start)[1:]
    outbreak.up[others[0]] = False
    outbreak.immune[others[-1], 0] = True
    outbreak.run(3)
    assert outbreak.infected[0, others[0]] == -1
    assert outbreak.infected[0, others[-1]] == -1
    outbreak = Outbreak(config)
    outbreak.up[start] = False
    outbreak.run(3)
    assert (outbreak.infected >= 0).sum() == 1


def test_of_two_infected_only_the_one_that_is_up_infects():
    worm = {"transmission": 1.0, "first_infected": 2}
    outbreak = Outbreak(worm_config(30, worm, topology={"kind": "ring"}))
    down, infecting = np.flatnonzero(outbreak.infected[0] == 0)
    assert 2 < infecting - down < 28, "apart, so that they share no neighbour"
    outbreak.up[down] = False
    newly = np.flatnonzero(outbreak.run(1)[0] == 1)
    assert sorted(newly) == sorted([(infecting - 1) % 30, (infecting + 1) % 30])


def test_nodes_are_infectious_for_their_steps_and_within_the_campaign():
    worm = {"transmission": 0.0, "start": 3, "duration": 6, "first_infected": 2}
    lasting, short = (
        Outbreak(worm_config(9, worm)),
        Outbreak(worm_config(9, worm | {"infectious_steps": 2})),
    )
    counts = [
        [int(outbreak.now(step).sum()) for step in range(12)] for outbreak in (lasting, short)
    ]
    assert counts == [[0] * 3 + [2] * 6 + [0] * 3, [0] * 3 + [2] * 2 + [0] * 7]


def test_nothing_spreads_before_the_start_and_after_the_end():
    outbreak = Outbreak(worm_config(9, {"transmission": 1.0, "start": 3, "duration": 2}))
    outbreak.run(3)
    assert (outbreak.infected >= 0).sum() == 1
    outbreak.run(5, 5)
    assert (outbreak.infected >= 0).sum() == 1
    outbreak.run(1, 4)
    assert (outbreak.infected >= 0).sum() == 9


def test_the_recovered_are_not_infected_again():
    outbreak = Outbreak(worm_config(12, {"transmission": 1.0, "infectious_steps": 1}))
    first = outbreak.run(1).copy()
    np.testing.assert_array_equal(outbreak.run(5, 1), first)


def test_worms_are_independent_and_static_campaigns_have_empty_rows():
    worm = {"transmission": 0.05, "first_infected": 3}
    outbreak = Outbreak(worm_config(400, worm, {"spread": "static"}, worm))
    infected = outbreak.run(3)
    assert (infected[1] == -1).all()
    assert not outbreak.now(2)[1].any()
    assert (infected[0] != infected[2]).any()
    alone = Outbreak(worm_config(400, worm)).run(3)
    np.testing.assert_array_equal(alone[0], infected[0])


def test_more_first_infected_contain_fewer_and_all_is_the_limit():
    seeds = [
        seed_worms(worm_config(20, {"first_infected": n}), Streams(1, 0))[0] >= 0
        for n in (1, 5, 50)
    ]
    assert [int(s.sum()) for s in seeds] == [1, 5, 20]
    assert not (seeds[0] & ~seeds[1]).any()


def test_without_worms_there_is_nothing():
    config = worm_config(5, {"spread": "static"})
    outbreak = Outbreak(config)
    assert outbreak.infected.shape == (0, 5)
    assert infected_now(config, outbreak.infected, 0) is None
    assert outbreak.run(2).shape == (0, 5)
