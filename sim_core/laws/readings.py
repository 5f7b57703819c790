"""What laws say about a configuration, and what one run says about a law.

Each law has a description of its parameters, an exact value and a measurement; `catalogue` puts them
together. Exact values follow from the configuration, so that other parameters can be tried by
overriding a preset.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.config.detectors import CusumDetector, EwmaDetector, ZScoreDetector
from sim_core.config.network import GossipBase
from sim_core.config.traffic import Campaign, GaussianTraffic
from sim_core.errors import ConfigurationError
from sim_core.laws import charts, epidemic, gossip, scores, votes
from sim_core.laws.findings import RunResult, Trials

Part = TypeVar("Part")


def _need(part: Any, kind: type[Part]) -> Part:
    """Return a part of the configuration as what the law needs it to be.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(part, kind):
        raise ConfigurationError(
            f"this law needs a {kind.__name__}, and the configuration has a {type(part).__name__}"
        )
    return part


def _campaigns(config: ModelConfig) -> tuple[Campaign, ...]:
    return _need(config.traffic, GaussianTraffic).campaigns


def _liars(config: ModelConfig) -> int:
    settings: Any = config.adversary
    if settings.kind == "none":
        return 0
    count = settings.count
    return round(settings.share * config.simulation.nodes) if count is None else int(count)


def metric(name: str) -> Callable[[ModelConfig, RunResult], float | None]:
    """Return a reader of a run's metric."""
    return lambda _, run: run.metrics[name]


# Votes


def _decided(run: RunResult) -> int:
    names = ("true_confirmations", "false_confirmations", "rejections", "expirations")
    return sum(int(run.metrics[name] or 0) for name in names)


def confirmed(name: str) -> Callable[[ModelConfig, RunResult], Trials]:
    """Return a reader: of all decided proposals, those that count as `name`."""
    return lambda _, run: Trials(int(run.metrics[name] or 0), _decided(run))


def jury(config: ModelConfig) -> float:
    """Return the probability that a majority is right."""
    return votes.jury_right(config.n_voters, config.voting.competence, always_wrong=_liars(config))


def confirms_true(config: ModelConfig) -> float:
    """Return the probability that a quorum with silent liars confirms a true signature."""
    competence = config.voting.competence
    return votes.bft_confirms(config.n_voters, _liars(config), competence, liars_accept=False)


def confirms_false(config: ModelConfig) -> float:
    """Return the probability that a quorum with colluding liars confirms a false signature."""
    accepting = 1 - config.voting.competence
    return votes.bft_committee_confirms(
        config.n_voters, config.simulation.nodes, _liars(config), accepting
    )


def describe_voters(config: ModelConfig) -> str:
    """Return voters, competence and liars in words."""
    liars, nodes = _liars(config), config.simulation.nodes
    words = [f"n={config.n_voters}", f"p={config.voting.competence:g}"]
    if liars and nodes > config.n_voters:
        words.append(f"of {nodes} nodes, {liars} lie")
    elif liars:
        words.append(f"{liars} lie")
    return ", ".join(words)


# Gossip


def _gossip(config: ModelConfig) -> GossipBase:
    return _need(config.dissemination, GossipBase)


@cache
def _rounds(n: int, kind: Any, fanout: int, success: float) -> tuple[float, float]:
    pmf = gossip.rounds_until_all_know(n, kind, fanout=fanout, success=success)
    return gossip.mean_and_variance(pmf)


def gossip_moments(config: ModelConfig) -> tuple[float, float]:
    """Return mean and variance of the rounds until all know."""
    way: Any = _gossip(config)
    return _rounds(config.simulation.nodes, way.kind, way.fanout, 1 - way.loss)


def expected_rounds(config: ModelConfig) -> float:
    """Return the mean number of rounds until all know."""
    return gossip_moments(config)[0]


def variance_of_rounds(config: ModelConfig) -> float:
    """Return the variance of the number of rounds until all know."""
    return gossip_moments(config)[1]


def squared_deviation(config: ModelConfig, run: RunResult) -> float | None:
    """Return the mean of (T - E[T])^2 over the run's rumours, with the exact E[T].

    Rumours start together in the first step of a campaign and are all over before the next one.
    """
    starts = np.array([c.start for c in _campaigns(config)])
    confirmed = run.steps["confirmed"]
    step = np.arange(confirmed.size)
    took = step - starts[np.searchsorted(starts, step, side="right") - 1]
    n = int(confirmed.sum())
    squares = (took - gossip_moments(config)[0]) ** 2
    return float(confirmed @ squares) / n if n else None


def describe_gossip(config: ModelConfig) -> str:
    """Return kind, size and calls in words."""
    way: Any = _gossip(config)
    words = [way.kind, f"n={config.simulation.nodes}"]
    if way.loss:
        words.append(f"p={1 - way.loss:g}")
    if way.fanout > 1:
        words.append(f"{way.fanout} calls")
    return ", ".join(words)


# Worms


def _worm(config: ModelConfig) -> Campaign:
    return _campaigns(config)[0]


def _new_infections(config: ModelConfig) -> NDArray[np.float64]:
    worm = _worm(config)
    susceptible = config.simulation.nodes - worm.first_infected
    return epidemic.new_infections(susceptible, worm.first_infected, worm.transmission)


def expected_infections(config: ModelConfig) -> float:
    """Return the expected number of nodes that one worm infects."""
    chances = _new_infections(config)
    return float(chances @ np.arange(chances.size))


def infects_nobody(config: ModelConfig) -> float:
    """Return the probability that a worm infects nobody."""
    return float(_new_infections(config)[0])


def infected(config: ModelConfig, run: RunResult) -> float | None:
    """Return how many nodes a worm has infected, the mean over the worms of the run."""
    share = run.metrics["infected_share"]
    first = _worm(config).first_infected
    return None if share is None else share * config.simulation.nodes - first


def died_out_at_once(config: ModelConfig, run: RunResult) -> Trials:
    """Return in how many worms nobody was infected in the first step; worms do not overlap."""
    starts = [c.start for c in _campaigns(config)]
    return Trials(int((run.steps["infected"][starts] == 0).sum()), len(starts))


def final_share(config: ModelConfig) -> float:
    """Return the share infected in a large network."""
    worm, nodes = _worm(config), config.simulation.nodes
    return epidemic.final_share(worm.transmission * nodes, worm.first_infected / nodes)


def describe_outbreak(config: ModelConfig) -> str:
    """Return susceptible and infective nodes and R0 in words."""
    worm, nodes = _worm(config), config.simulation.nodes
    susceptible = nodes - worm.first_infected
    first = f", {worm.first_infected} infective" if worm.first_infected > 1 else ""
    return f"N={susceptible}{first}, R0={worm.transmission * susceptible:.3g}"


def describe_large_outbreak(config: ModelConfig) -> str:
    """Return initial share and R0 in words."""
    worm, nodes = _worm(config), config.simulation.nodes
    return f"i={worm.first_infected / nodes:.3g}, R0={worm.transmission * nodes:.3g}"


# Charts and scores


def _shift(config: ModelConfig) -> float:
    campaigns = _campaigns(config)
    return campaigns[0].intensity if campaigns else 0.0


def _features(config: ModelConfig) -> int:
    return _need(config.traffic, GaussianTraffic).features


def _limit(config: ModelConfig) -> float:
    return config.detector.threshold.value


def shewhart(config: ModelConfig) -> float:
    """Return the average run length."""
    _need(config.detector, ZScoreDetector)
    return charts.shewhart_run_length(_limit(config), _shift(config), _features(config))


def cusum(config: ModelConfig) -> float:
    """Return the average run length."""
    slack = _need(config.detector, CusumDetector).slack
    return charts.cusum_run_length(_limit(config), slack, _shift(config))


def ewma(config: ModelConfig) -> float:
    """Return the average run length."""
    weight = _need(config.detector, EwmaDetector).weight
    return charts.ewma_run_length(_limit(config), weight, _shift(config))


def describe_chart(config: ModelConfig) -> str:
    """Return the settings of the chart and the shift in words."""
    detector: Any = config.detector
    words = [f"limit {_limit(config):g}"]
    settings = [name for name in ("slack", "weight") if hasattr(detector, name)]
    words += [f"{name} {getattr(detector, name):g}" for name in settings]
    if _features(config) > 1:
        words.append(f"{_features(config)} features")
    shift = _shift(config)
    return ", ".join([*words, f"shift {shift:g}" if shift else "in control"])


def auroc(config: ModelConfig) -> float:
    """Return the exact AUROC."""
    return scores.gaussian_auroc(_shift(config), _features(config))


def precision(config: ModelConfig) -> float:
    """Return it for rates that follow from threshold and shift: the score is -log(1 - Phi(z))."""
    false_alarm_rate = float(np.exp(-_limit(config)))
    recall = scores.recall_at(false_alarm_rate, _shift(config))
    share = _campaigns(config)[0].flow_share
    return scores.precision_at(share, recall, false_alarm_rate)


def alarms(config: ModelConfig, run: RunResult) -> Trials:
    """Return how many of a run's alarms were attacks."""
    del config
    true, false = (int(run.steps[name].sum()) for name in ("honest_tp", "honest_fp"))
    return Trials(true, true + false)


def describe_gaussians(config: ModelConfig) -> str:
    """Return the distance in words."""
    features = _features(config)
    return f"d={_shift(config):g}" + (f", {features} features" if features > 1 else "")


def describe_base_rate(config: ModelConfig) -> str:
    """Return base rate, recall and false alarms in words."""
    false_alarm_rate = float(np.exp(-_limit(config)))
    recall = scores.recall_at(false_alarm_rate, _shift(config))
    share = _campaigns(config)[0].flow_share
    return f"base rate {share:g}, recall {recall:.3g}, false alarms {false_alarm_rate:.3g}"
