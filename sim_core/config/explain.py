"""What pydantic found wrong, in the words of the keys that users type."""

from __future__ import annotations

from typing import get_args

from pydantic import ValidationError

from sim_core.config.base import Frozen

LONGEST_SHOWN = 80
SHOWN_END = 16
"""Of them, those at the end of a text that is too long."""
MOST_FINDINGS = 10
LONGEST_REASON = 400


def describe_validation(error: ValidationError) -> str:
    """Return the findings as one paragraph: key, what is wrong, what was given."""
    choices = _choices(Frozen)
    found = []
    for item in error.errors():
        first, *others = item["loc"] or ("",)  # the first is a group, which may be called as a kind
        key = ".".join(
            str(part) for part in (first, *others) if part is first or part not in choices
        )
        message = shortened(item["msg"].removeprefix("Value error, "), LONGEST_REASON)
        given = "" if isinstance(item["input"], dict) else f" (given: {shown(item['input'])})"
        found.append(f"{shortened(key)}: {message}{given}" if key else message)
    more = f"; and {len(found) - MOST_FINDINGS} more" if len(found) > MOST_FINDINGS else ""
    return "invalid configuration: " + "; ".join(found[:MOST_FINDINGS]) + more


def shown(value: object) -> str:
    """Return a value as a message can hold it: on one line, without control characters, short.

    >>> shown("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaa' (100 characters)"
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, endless nesting
        return f"a {type(value).__name__} that is too large to be shown"
    if not isinstance(value, str):
        return shortened(text)
    if len(text) <= LONGEST_SHOWN:
        return text
    start, end = text[: LONGEST_SHOWN // 2], text[-SHOWN_END:]  # of a path, the end says the most
    return f"{start}...{end} ({len(value)} characters)"


def shortened(text: str, most: int = LONGEST_SHOWN) -> str:
    r"""Return a text without what is beyond `most` characters, and without control characters.

    >>> shortened("abcdef", 3), shortened("a" + chr(27))
    ('abc...', 'a\\x1b')
    """
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: most + 1])
    return plain if len(text) <= most else f"{plain[:most]}..."


def _choices(base: type[Frozen]) -> frozenset[str]:
    """Return the kinds of all groups: pydantic puts them into a path, which no user typed."""
    kinds: frozenset[str] = frozenset()
    for member in base.__subclasses__():
        if "kind" in member.model_fields:
            kinds |= frozenset(get_args(member.model_fields["kind"].annotation))
        kinds |= _choices(member)
    return kinds
