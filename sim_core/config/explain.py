"""What pydantic found wrong, in the words of the keys that users type."""

from __future__ import annotations

from typing import get_args

from pydantic import ValidationError

from sim_core.config.base import Frozen


def describe_validation(error: ValidationError) -> str:
    """Return the findings as one paragraph: key, what is wrong, what was given."""
    choices = _choices(Frozen)
    found = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"] if part not in choices)
        message = item["msg"].removeprefix("Value error, ")
        given = "" if isinstance(item["input"], dict) else f" (given: {item['input']!r})"
        found.append(f"{key}: {message}{given}" if key else message)
    return "invalid configuration: " + "; ".join(found)


def _choices(base: type[Frozen]) -> frozenset[str]:
    """Return the kinds of all groups: pydantic puts them into a path, which no user typed."""
    kinds: frozenset[str] = frozenset()
    for member in base.__subclasses__():
        if "kind" in member.model_fields:
            kinds |= frozenset(get_args(member.model_fields["kind"].annotation))
        kinds |= _choices(member)
    return kinds
