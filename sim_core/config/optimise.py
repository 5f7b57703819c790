"""What `quorumlab optimise` looks for and how, which never changes the result of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sim_core.config.base import Frozen
from sim_core.config.design import Factor, flat_factors

MOST_TRIALS = 100_000


def _listed(value: Any) -> Any:
    """Return one text as a list of it, and nothing as an empty list."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _flat(value: Any) -> Any:
    return {} if value is None or value == {} else flat_factors(value)


def _starts(value: Any) -> Any:
    """Return the points tried first by the whole keys of their values."""
    if not isinstance(value, list | tuple):
        return value
    return [flat_factors(part) if isinstance(part, dict) and part else part for part in value]


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(max_length=20)]


class OptimiseConfig(Frozen):
    """The search for the best point: what counts, where to look, and how often."""

    factors: Annotated[dict[str, Factor], BeforeValidator(_flat), Field(max_length=50)] = Field(
        default_factory=dict
    )
    """What may vary, as in a design: from a key to a range or a list of values."""
    metric: Texts = ()
    """What is optimised: one metric, or several, of which the best compromises are found."""
    direction: Annotated[tuple[Literal["maximise", "minimise"], ...], BeforeValidator(_listed)] = ()
    """For each metric; without it the one in which the metric is better."""
    trials: int = Field(50, ge=1, le=MOST_TRIALS)
    """Points that are tried, those of `start` among them; may be raised later."""
    batch: int = Field(8, ge=1, le=10_000)
    """Points that are chosen together, from the results of all before, and run at once."""
    sampler: Literal["auto", "tpe", "nsgaii", "random", "sobol"] = "auto"
    """Who chooses: `auto` is `tpe` for one metric and `nsgaii` for several."""
    seed: int | None = Field(None, ge=0, lt=2**31)
    """Seed of the sampler; null: follows from `experiment.seed`."""
    constraints: Texts = ()
    """What a point has to keep: METRIC <= NUMBER or METRIC >= NUMBER, of means over replicates."""
    start: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_starts)] | None = Field(
        None, max_length=1_000
    )
    """Points tried first, each from keys to values; the first is what the best is compared with.
    Null: the configuration without factors; an empty list: none."""
    confirm: int = Field(5, ge=0, le=10_000)
    """Fresh replicates of the best point and the start, from which the result is told; 0: none."""
    choices: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    """What the choices of groups among the factors stand for; filled in by the command."""

    @model_validator(mode="after")
    def _says_what(self) -> OptimiseConfig:
        if self.factors and not self.metric:
            raise ValueError(
                "optimise.factors say where to look: say what for, for example optimise.metric=f1"
            )
        if len(set(self.metric)) < len(self.metric):
            raise ValueError("a metric is named twice")
        if self.direction and len(self.direction) != len(self.metric):
            raise ValueError(
                f"{len(self.direction)} directions for {len(self.metric)} metrics: give one for each"
            )
        return self

    @property
    def chooser(self) -> Literal["tpe", "nsgaii", "random", "sobol"]:
        """The sampler that is meant."""
        if self.sampler == "auto":
            return "tpe" if len(self.metric) == 1 else "nsgaii"
        return self.sampler
