"""Figures of comparisons as people read them."""

from __future__ import annotations

import math

MOST_DIGITS = 8


def signed(value: float, half: float | None) -> str:
    """Return a difference with half of its interval, to two digits of the latter.

    >>> signed(0.0312, 0.0123), signed(-4328.2, 590.3), signed(1.0, None), signed(-0.0, 0.5)
    ('+0.031 ± 0.012', '-4,328 ± 590', '+1', '+0.00 ± 0.50')
    """
    value = value or 0.0
    if half is None or half == 0:
        return f"{value:+,.4g}"
    digits = digits_of(half)
    return f"{value:+,.{digits}f} ± {half:,.{digits}f}"


def digits_of(half: float) -> int:
    """Return how many decimals show two digits of half an interval.

    >>> digits_of(0.0123), digits_of(3.4), digits_of(590), digits_of(0.0)
    (3, 1, 0, 0)
    """
    if half <= 0:
        return 0
    return min(MOST_DIGITS, max(0, 1 - math.floor(math.log10(half))))


def plain(value: float | None) -> str:
    """Return a figure with three digits that matter.

    >>> plain(0.015432), plain(14287.2), plain(0.0), plain(None)
    ('0.0154', '14,287', '0', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def probability(p: float | None) -> str:
    """Return a p-value.

    >>> probability(0.00042), probability(0.0312), probability(1e-9), probability(1.0)
    ('p = .0004', 'p = .031', 'p < .0001', 'p = 1')
    >>> probability(None)
    'no p'
    """
    if p is None:
        return "no p"
    if p < 0.0001:
        return "p < .0001"
    text = f"{p:.4f}" if p < 0.001 else f"{p:.3f}"
    return "p = 1" if text == "1.000" else f"p = {text.removeprefix('0')}"


def percent(share: float) -> str:
    """Return a share in percent.

    >>> percent(0.05), percent(0.9321)
    ('5 %', '93 %')
    """
    return f"{100 * share:.2g} %" if abs(share) < 0.995 else f"{100 * share:.0f} %"
