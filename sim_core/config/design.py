"""How the points of an experiment are generated, which never changes the result of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from sim_core.config.base import Frozen
from sim_core.config.explain import describe_validation, shown

MOST_SAMPLES = 100_000


class Range(Frozen):
    """All values between two bounds."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether every factor of ten is as likely as the next."""
    integer: bool = False
    """Whether only whole numbers count."""

    @model_validator(mode="after")
    def _has_room(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} is not below high={self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, not at low={self.low:g}")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"low={self.low:g} and high={self.high:g} are not whole numbers")
        return self


def flat_factors(value: Any) -> Any:
    """Return factors by their whole keys, where parts of keys are mappings of mappings.

    >>> flat_factors({"a": {"b": {"low": 0, "high": 1}}, "c.d": [1]})
    {'a.b': {'low': 0, 'high': 1}, 'c.d': [1]}

    Raises:
        ValueError: there are none.
    """
    if not value:
        raise ValueError(
            "a design needs factors: {KEY: {low: ..., high: ...}} or {KEY: [value, ...]}"
        )
    return dict(_flattened(value, "")) if isinstance(value, dict) else value


def _flattened(value: dict[Any, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, part in value.items():
        inner = isinstance(part, dict) and part and not set(part) & set(Range.model_fields)
        key = f"{prefix}{name}"
        found += _flattened(part, f"{key}.") if inner else [(key, part)]
    return found


def _factor(value: Any) -> Any:
    """Return a factor as the schema has it.

    Raises:
        ValueError: it is neither a range nor a list of different values.
    """
    if isinstance(value, dict):
        try:
            return Range.model_validate(value)
        except ValidationError as error:
            words = describe_validation(error).removeprefix("invalid configuration: ")
            raise ValueError(words) from error
    if isinstance(value, Range):
        return value
    if not isinstance(value, list):
        raise ValueError("a factor is a range {low: ..., high: ...} or a list of values [...]")
    if not value:
        raise ValueError("a list without a value")
    twice = [part for index, part in enumerate(value) if part in value[:index]]
    if twice:
        raise ValueError(f"{shown(twice[0])} is in the list twice")
    return value


Factor = Annotated[Range | list[Any], BeforeValidator(_factor)]
Factors = Annotated[dict[str, Factor], BeforeValidator(flat_factors), Field(max_length=50)]


class NoDesign(Frozen):
    """Points are those of the study or of a sweep."""

    kind: Literal["none"] = "none"


class FactorDesign(Frozen):
    """Base of designs: the keys that vary."""

    factors: Factors
    """From a key to a range `{low: 0, high: 1}` (with `log: true` or `integer: true`) or a list of
    values."""


class GridDesign(FactorDesign):
    """All combinations."""

    kind: Literal["grid"] = "grid"
    levels: int = Field(5, ge=2, le=1_000)
    """Values of each range, both bounds among them."""


class ListDesign(FactorDesign):
    """The lists of all factors read side by side."""

    kind: Literal["list"] = "list"

    @model_validator(mode="after")
    def _is_even(self) -> ListDesign:
        ranges = [key for key, factor in self.factors.items() if isinstance(factor, Range)]
        if ranges:
            raise ValueError(f"design=list takes lists, and {ranges[0]} is a range")
        lengths = {key: len(factor) for key, factor in self.factors.items()}  # type: ignore[arg-type]
        if len(set(lengths.values())) > 1:
            each = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            raise ValueError(f"design=list takes lists of the same length, and {each}")
        return self


class SampledDesign(FactorDesign):
    """Base of designs that are drawn."""

    samples: int = Field(64, ge=1, le=MOST_SAMPLES)
    """Points that are drawn."""
    seed: int = Field(1, ge=0, lt=2**31)
    """Seed of the design; the runs' is `experiment.seed`."""


class RandomDesign(SampledDesign):
    """Points drawn independently."""

    kind: Literal["random"] = "random"


class LatinHypercubeDesign(SampledDesign):
    """Points of which each has a stratum of every factor to itself."""

    kind: Literal["latin_hypercube"] = "latin_hypercube"


class SobolDesign(SampledDesign):
    """Points of a scrambled Sobol' sequence; more samples keep the points that are there."""

    kind: Literal["sobol"] = "sobol"


class MorrisDesign(SampledDesign):
    """Trajectories that change one factor at a time, for elementary effects."""

    kind: Literal["morris"] = "morris"
    samples: int = Field(20, ge=2, le=MOST_SAMPLES)
    """Trajectories; each has one point more than there are factors."""
    levels: int = Field(4, ge=2, le=1_000, multiple_of=2)
    """Values that a range may take, both bounds among them; an even number."""


class SaltelliDesign(SampledDesign):
    """Pairs of samples and their crossings, for Sobol' indices of first and total order."""

    kind: Literal["saltelli"] = "saltelli"
    samples: int = Field(64, ge=2, le=MOST_SAMPLES)
    """Base samples, best a power of two; each has two points more than there are factors."""


DrawnDesign = RandomDesign | LatinHypercubeDesign | SobolDesign | MorrisDesign | SaltelliDesign
AnyDesign = GridDesign | ListDesign | DrawnDesign
DesignConfig = Annotated[NoDesign | AnyDesign, Field(discriminator="kind")]
