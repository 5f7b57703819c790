"""Which points are tried next: a function of the trials before, so that nothing need be kept of it.

A study of Optuna (Akiba et al. 2019) is made anew for each batch, in memory, and told all trials in the
order of their numbers. The tree-structured Parzen estimator (Bergstra et al. 2011; batches by constant
liars) and NSGA-II (Deb et al. 2002) draw from a seed that follows from the number of trials so far.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sim_core.config.design import Factor, Range
from sim_core.config.optimise import OptimiseConfig
from sim_core.errors import ConfigurationError
from sim_core.identity import content_hash
from sim_core.optimisation.goals import Aim
from sim_core.optimisation.space import Row, Space, identity
from sim_core.optimisation.trials import Trial

if TYPE_CHECKING:
    import optuna

MOST_REPEATS = 20
"""Times that a sampler may choose what has been tried, before chance chooses."""
FEWEST_FOR_IMPORTANCE = 20
POPULATION = 16
"""Trials of a generation of NSGA-II: experiments have tens of points, not thousands."""


def propose(
    settings: OptimiseConfig,
    aim: Aim,
    trials: Sequence[Trial],
    n: int,
    root_seed: int,
    is_possible: Callable[[Row], bool] = lambda row: True,  # noqa: ARG005
) -> list[Row]:
    """Return the rows to try next, all of them new; fewer than `n` where no more are left.

    Args:
        settings: Factors and sampler.
        aim: What is optimised.
        trials: All trials so far, in the order of their numbers.
        n: How many rows.
        root_seed: The experiment's, where the sampler has no seed of its own.
        is_possible: Whether the values of a row go together.

    Raises:
        ConfigurationError: Optuna is needed and not installed.
    """
    space = Space(settings.factors)
    seen = {identity(trial.row) for trial in trials}

    def is_new(row: Row) -> bool:
        return identity(row) not in seen and is_possible(row)

    base = sampler_seed(settings, root_seed)
    if settings.chooser in ("random", "sobol"):
        return space.first(settings.chooser, is_new, n, base, passed=len(seen))
    seed = derived_seed(base, len(trials))
    rows = _asked(settings, aim, trials, space, n, seed, is_new)
    seen |= {identity(row) for row in rows}
    return rows + space.by_chance(is_new, n - len(rows), seed, passed=len(seen))


def sampler_seed(settings: OptimiseConfig, root_seed: int) -> int:
    """Return the seed of a search: its own, or one that follows from the experiment's."""
    return derived_seed(root_seed) if settings.seed is None else settings.seed


def derived_seed(*parts: int) -> int:
    """Return a seed that follows from numbers.

    >>> derived_seed(1, 8) == derived_seed(1, 8), derived_seed(1, 8) == derived_seed(8, 1)
    (True, False)
    """
    return int(content_hash(["optimise", *parts])[:7], 16)


def _asked(
    settings: OptimiseConfig,
    aim: Aim,
    trials: Sequence[Trial],
    space: Space,
    n: int,
    seed: int,
    is_new: Callable[[Row], bool],
) -> list[Row]:
    with quiet_optuna() as library:
        study = told(aim, trials, space, _sampler(library, settings.chooser, seed))
        distributions = _distributions(library, space)
        rows: dict[str, Row] = {}
        repeats = 0
        while len(rows) < n and repeats < MOST_REPEATS:
            row = space.row(study.ask(distributions).params)
            if is_new(row) and identity(row) not in rows:
                rows[identity(row)] = row
            else:
                repeats += 1
    return list(rows.values())


def told(
    aim: Aim, trials: Sequence[Trial], space: Space, sampler: optuna.samplers.BaseSampler | None
) -> optuna.Study:
    """Return a study that knows all trials that lie within the space."""
    import optuna

    way = optuna.study.StudyDirection
    directions = [way.MAXIMIZE if goal.maximise else way.MINIMIZE for goal in aim.goals]
    study = optuna.create_study(directions=directions, sampler=sampler)
    distributions = _distributions(optuna, space)
    for trial in trials:
        params = space.params(trial.row)
        if params is None:
            continue
        failed = trial.values is None
        state = optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE
        names = map(str, aim.constraints)
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=trial.values,
                params=params,
                distributions=distributions,
                constraints=None if failed else dict(zip(names, trial.excess, strict=True)),
                system_attrs={GENERATION: (trial.number - 1) // POPULATION},
            )
        )
    return study


GENERATION = "NSGAIISampler:generation"
"""Where Optuna's NSGA-II keeps what it makes parents of; a study made anew has to say it."""


def importances(settings: OptimiseConfig, aim: Aim, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return per goal the share of its variance that each factor explains (fANOVA, Hutter 2014).

    Without factors that vary, or with too few trials, a goal has none.
    """
    space = Space(settings.factors)
    inside = [t for t in trials if t.values is not None and space.params(t.row) is not None]
    if len(inside) < FEWEST_FOR_IMPORTANCE or len(space.keys) < 2:
        return {}
    found = {}
    with quiet_optuna() as library:
        study = told(aim, inside, space, None)
        for index, goal in enumerate(aim.goals):
            if len({t.values[index] for t in inside if t.values is not None}) == 1:
                continue
            evaluator = library.importance.FanovaImportanceEvaluator(seed=1)
            shares = library.importance.get_param_importances(
                study, evaluator=evaluator, target=lambda t, i=index: t.values[i]
            )
            found[goal.metric] = {key: round(float(share), 4) for key, share in shares.items()}
    return found


def _sampler(library: Any, name: str, seed: int) -> Any:
    if name == "nsgaii":
        return library.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    return library.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _distributions(library: Any, space: Space) -> dict[str, Any]:
    return {key: _distribution(library, factor) for key, factor in space.factors.items()}


def _distribution(library: Any, factor: Factor) -> Any:
    if not isinstance(factor, Range):
        return library.distributions.CategoricalDistribution(list(range(len(factor))))
    if factor.integer:
        return library.distributions.IntDistribution(
            int(factor.low), int(factor.high), log=factor.log
        )
    return library.distributions.FloatDistribution(factor.low, factor.high, log=factor.log)


@contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Give Optuna, which says nothing of its own accord.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigurationError(
            "optimise.sampler=tpe and nsgaii need the package optuna, which cannot be imported "
            f"({error}): install it (pip install optuna), or take optimise.sampler=sobol or random"
        ) from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)
