"""The schema takes the kinds of plug-ins as it takes the built-in ones."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    Discriminator,
    SerializeAsAny,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from sim_core.plugins.loading import Absent, built_in, load
from sim_core.plugins.offers import offered_kinds


def open_to_plugins(model: type[BaseModel], *groups: str) -> None:
    """Let fields of a model take the kinds of plug-ins besides those of their union.

    It is done to the finished model and not where its fields are written: those modules are part of the
    model's version, which installed plug-ins are no part of.
    """
    for group in groups:
        field = model.model_fields[group]
        if field.discriminator is not None:
            field.metadata.append(Discriminator(field.discriminator))  # type: ignore[arg-type]
            field.discriminator = None
        field.metadata += [WrapValidator(_Validate(group)), SerializeAsAny()]  # type: ignore[type-arg]
    model.model_rebuild(force=True)


class _Validate:
    """Validates a group's settings: those of a plug-in by its own class, all others as before."""

    def __init__(self, group: str) -> None:
        self._group = group

    def __call__(self, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        group = self._group
        if not isinstance(kind, str) or kind in built_in(group):
            return handler(value)
        kinds = offered_kinds(group)
        if isinstance(value, Absent) or kind in kinds:
            return load(group, kind).plugin.config.model_validate(value)
        if not kinds:
            return handler(value)
        expected = ", ".join(repr(one) for one in [*sorted(built_in(group)), *kinds])
        raise PydanticCustomError(
            "union_tag_invalid",
            "Input tag '{tag}' found using 'kind' does not match any of the expected tags: {expected}",
            {"tag": kind, "expected": expected},
        )
