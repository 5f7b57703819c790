"""Exact formulas: the published values, and the same by other ways."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from scipy import integrate, special, stats

from sim_core.laws import charts, epidemic, gossip, scores, votes

PUSH = {
    8: (5.3779, 1.2244),
    16: (7.4138, 1.3161),
    32: (9.3293, 1.3370),
    128: (12.9310, 1.3303),
    1024: (18.0967, 1.3184),
}
PULL = {8: 4.5262, 16: 6.1403, 32: 7.6079, 128: 10.2407, 1024: 13.8064}
LOSSY = {0.5: (20.4740, 3.2184), 0.9: (12.1937, 1.5481)}
JURY = {
    0.55: (0.574750, 0.633123, 0.679003),
    0.6: (0.648000, 0.753498, 0.825622),
    0.8: (0.896000, 0.988346, 0.999030),
}
JURY_WITH_LIARS = {
    0.7: {0: 0.973610, 4: 0.775215, 8: 0.202478},
    0.9: {2: 0.999964, 6: 0.987280, 10: 0.313811},
}


@pytest.mark.parametrize("n", PUSH)
def test_push_takes_the_published_time(n: int) -> None:
    mean, variance = gossip.mean_and_variance(gossip.rounds_until_all_know(n))
    assert (round(mean, 4), round(math.sqrt(variance), 4)) == PUSH[n]


@pytest.mark.parametrize("n", PULL)
def test_pull_takes_the_published_time(n: int) -> None:
    mean, _ = gossip.mean_and_variance(gossip.rounds_until_all_know(n, "pull"))
    assert round(mean, 4) == PULL[n]


@pytest.mark.parametrize("success", LOSSY)
def test_lossy_push_takes_the_published_time(success: float) -> None:
    pmf = gossip.rounds_until_all_know(64, success=success)
    mean, variance = gossip.mean_and_variance(pmf)
    assert (round(mean, 4), round(math.sqrt(variance), 4)) == LOSSY[success]


@pytest.mark.parametrize("kind", ["push", "pull", "push_pull"])
@pytest.mark.parametrize(("fanout", "success"), [(1, 1.0), (2, 1.0), (1, 0.25)])
def test_transitions_equal_the_enumeration_of_all_calls(
    kind: str, fanout: int, success: float
) -> None:
    n = 4 if fanout == 1 else 3
    make = getattr(gossip, f"{kind}_transitions")
    transitions = make(n, fanout=fanout, success=success)
    others = [[j for j in range(n) if j != i] for i in range(n)]
    callers = [i for i in range(n) for _ in range(fanout)]
    for k in range(1, n):
        chances: Counter[int] = Counter()
        for calls in itertools.product(*(others[i] for i in callers)):
            for arrives in itertools.product([True, False], repeat=len(callers)):
                p = math.prod(success if a else 1 - success for a in arrives)
                knows = set(range(k))
                for i, j, a in zip(callers, calls, arrives, strict=True):
                    if a and kind != "pull" and i < k:
                        knows.add(j)
                    if a and kind != "push" and j < k:
                        knows.add(i)
                chances[len(knows)] += p / (n - 1) ** len(callers)
        assert transitions[k] == pytest.approx([chances[m] for m in range(n + 1)], abs=1e-12)


@pytest.mark.parametrize("p", JURY)
def test_jury_is_right_with_the_published_probability(p: float) -> None:
    assert tuple(round(votes.jury_right(n, p), 6) for n in (3, 11, 21)) == JURY[p]


@pytest.mark.parametrize("p", JURY_WITH_LIARS)
def test_jury_with_liars_is_right_with_the_published_probability(p: float) -> None:
    for f, expected in JURY_WITH_LIARS[p].items():
        assert round(votes.jury_right(21, p, always_wrong=f), 6) == expected


@pytest.mark.parametrize("n", [3, 4, 5])
def test_jury_equals_the_enumeration_of_all_votes(n: int) -> None:
    p = 0.7
    right = sum(
        math.prod(p if vote else 1 - p for vote in ballot)
        for ballot in itertools.product([0, 1], repeat=n)
        if 2 * sum(ballot) > n
    )
    assert votes.jury_right(n, p) == pytest.approx(right)


def test_quorum_confirms_with_the_published_probabilities() -> None:
    true = {4: 0.857375, 10: 0.698337, 31: 0.340562}
    false = {4: 7.250e-3, 7: 1.158e-3, 10: 1.936e-4}
    for n, expected in true.items():
        f = votes.largest_minority(n)
        assert votes.bft_quorum(n) == 2 * f + 1
        assert round(votes.bft_confirms(n, f, 0.95, liars_accept=False), 6) == expected
    for n, expected in false.items():
        f = votes.largest_minority(n)
        found = votes.bft_confirms(n, f, 0.05, liars_accept=True)
        assert found == pytest.approx(expected, rel=5e-4)


def test_committee_confirms_as_the_mean_over_all_committees() -> None:
    nodes, liars, n, p = 7, 2, 4, 0.3
    committees = list(itertools.combinations(range(nodes), n))
    mean = np.mean(
        [
            votes.bft_confirms(n, sum(i < liars for i in committee), p, liars_accept=True)
            for committee in committees
        ]
    )
    assert votes.bft_committee_confirms(n, nodes, liars, p) == pytest.approx(mean)


def test_epidemic_has_the_published_size() -> None:
    for r0, size, none in ((1.5, 17.5162, 0.21807), (2.5, 40.3053, 0.07694)):
        pmf = epidemic.new_infections(50, 1, r0 / 50)
        assert round(float(pmf @ np.arange(51)), 4) == size
        assert round(float(pmf[0]), 5) == pytest.approx(none, abs=1.1e-5)
    limits = [round(epidemic.final_share(r0), 6) for r0 in (1.5, 2, 3)]
    assert limits == [0.582812, 0.796812, 0.940480]


@pytest.mark.parametrize("first", [1, 2])
def test_epidemic_reaches_the_components_of_a_random_graph(first: int) -> None:
    n, p = 4, 0.35
    pairs = list(itertools.combinations(range(n), 2))
    chances = np.zeros(n - first + 1)
    for edges in itertools.product([True, False], repeat=len(pairs)):
        graph = nx.empty_graph(n)
        graph.add_edges_from(pair for pair, there in zip(pairs, edges, strict=True) if there)
        reached = set().union(*(nx.node_connected_component(graph, i) for i in range(first)))
        weight = math.prod(p if there else 1 - p for there in edges)
        chances[len(reached) - first] += weight
    assert epidemic.new_infections(n - first, first, p) == pytest.approx(chances)


def test_epidemic_of_growing_networks_approaches_its_limit() -> None:
    limit = epidemic.final_share(2.0, 0.1)
    gaps = []
    for n in (40, 80, 160):
        pmf = epidemic.new_infections(n - n // 10, n // 10, 2.0 / n)
        gaps.append(abs((pmf @ np.arange(pmf.size) + n // 10) / n - limit))
    assert gaps[2] < gaps[1] < gaps[0] < 0.03
    assert gaps[2] == pytest.approx(gaps[1] / 2, rel=0.2)


def test_epidemic_is_over_within_as_many_generations_as_nodes() -> None:
    assert epidemic.generations_beyond(3, 1, 0.5, 4) == 0
    longest = 3 * 2 * 1 * (0.5 * 0.5 * 0.5) * (0.5 * 0.5 * 0.5)  # one after the other
    assert epidemic.generations_beyond(3, 1, 0.5, 3) == pytest.approx(longest)


def test_charts_run_as_long_as_published() -> None:
    assert round(charts.shewhart_run_length(3), 2) == 370.40
    assert round(charts.shewhart_run_length(3, 1), 2) == 43.89
    assert round(charts.cusum_run_length(5, 0.5), 2) == 465.44
    assert round(charts.cusum_run_length(5, 0.5, 1), 2) == 10.38
    assert round(charts.ewma_run_length(2.814, 0.1), 2) == 499.58
    assert round(charts.ewma_run_length(2.814, 0.1, 1), 2) == 10.33


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_charts_without_memory_are_shewhart_charts(shift: float) -> None:
    expected = charts.shewhart_run_length(2, shift)
    assert charts.ewma_run_length(2, 1.0, shift) == pytest.approx(expected, rel=1e-9)
    assert charts.cusum_run_length(1e-9, 2, shift) == pytest.approx(expected, rel=1e-6)


def test_cusum_equals_the_markov_chain_of_brook_and_evans() -> None:
    limit, slack, shift, states = 3.0, 0.5, 0.3, 800
    width = 2 * limit / (2 * states - 1)
    middle = np.arange(states) * width
    upper = stats.norm.cdf(middle + width / 2 - middle[:, None] + slack - shift)
    lower = np.hstack([np.zeros((states, 1)), upper[:, :-1]])
    lengths = np.linalg.solve(np.eye(states) - (upper - lower), np.ones(states))
    expected = charts.one_sided_cusum_run_length(limit, slack, shift)
    assert lengths[0] == pytest.approx(expected, rel=1e-3)


def test_two_sided_cusum_equals_its_two_dimensional_chain() -> None:
    """Both sides follow the same input: a chain over pairs of cells, coarse, so within 2 %."""
    limit, slack, shift, states = 1.5, 0.5, 0.4, 24
    x = stats.norm.ppf((np.arange(2_000) + 0.5) / 2_000) + shift
    width = limit / states
    middle = np.concatenate([[0.0], (np.arange(states) + 0.5) * width])
    up = np.maximum(0, middle[:, None] + x - slack)
    down = np.maximum(0, middle[:, None] - x - slack)

    def cell(value: np.ndarray) -> np.ndarray:
        return np.where(value > 0, np.minimum(states, np.ceil(value / width)), 0).astype(int)

    size = states + 1
    moves = np.zeros((size, size, size, size))
    for a in range(size):
        for b in range(size):
            inside = (up[a] <= limit) & (down[b] <= limit)
            np.add.at(moves[a, b], (cell(up[a][inside]), cell(down[b][inside])), 1 / x.size)
    flat = moves.reshape(size**2, size**2)
    lengths = np.linalg.solve(np.eye(size**2) - flat, np.ones(size**2))
    assert lengths[0] == pytest.approx(charts.cusum_run_length(limit, slack, shift), rel=0.02)


def test_scores_have_the_published_values() -> None:
    assert [round(scores.gaussian_auroc(d), 6) for d in (1, 2)] == [0.760250, 0.921350]
    assert [round(scores.precision_at(pi, 0.9, 0.01), 6) for pi in (0.1, 0.001)] == [
        0.909091,
        0.082645,
    ]


@pytest.mark.parametrize("features", [2, 5])
def test_auroc_of_the_largest_feature_is_its_integral(features: int) -> None:
    def integrand(z: float) -> float:
        density = features * special.ndtr(z - 1) ** (features - 1) * stats.norm.pdf(z - 1)
        return float(special.ndtr(z) ** features * density)

    expected, _ = integrate.quad(integrand, -8, 10)
    assert scores.gaussian_auroc(1.0, features) == pytest.approx(expected, abs=1e-8)
