"""How plots look: colours that everybody can tell apart, names of metrics, light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind readers can tell apart (Okabe and Ito 2008), without the yellow."""
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = range(len(PALETTE))
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
"""Line styles, taken in turn, so that curves differ in print and where one hides another."""
DASHED = ("none", "8 3", "2 2.5", "9 3 2 3")
"""The same as SVG has them."""
VIRIDIS = (
    "440154", "482475", "414487", "355f8d", "2a788e", "21918c",
    "22a884", "44bf70", "7ad151", "bddf26", "fde725",
)  # fmt: skip
"""Colours from low to high in equal steps (Smith and van der Walt 2015): from dark to light as well."""
SHADES = 10
"""Steps of colour for lines."""
MOST_LETTERS = 26
"""Length of a label beside a plot."""


@dataclass(frozen=True)
class Words:
    """What a metric is called in a plot."""

    title: str
    axis: str
    is_share: bool = False
    """Whether its values lie between 0 and 1."""


WORDS = {
    "precision": Words("Precision", "precision of honest nodes", True),
    "recall": Words("Recall", "recall of honest nodes", True),
    "f1": Words("F1 score", "F1 of honest nodes", True),
    "mcc": Words("Matthews correlation", "MCC of honest nodes"),
    "auroc": Words("Area under ROC", "AUROC of honest nodes", True),
    "detection_delay_steps": Words("Detection delay", "steps to a confirmed signature"),
    "benign_blocked_share": Words("Benign traffic blocked", "share of benign flows", True),
    "detected_share": Words("Campaigns detected", "share of campaigns", True),
    "true_confirmations": Words("True confirmations", "confirmed true signatures"),
    "false_confirmations": Words("False confirmations", "confirmed false signatures"),
    "messages_sent": Words("Messages sent", "messages"),
    "blacklist_coverage": Words("Blacklist coverage", "share of attack flows matched", True),
    "processors_percent": Words("Processors in use, percent of all", "percent"),
    "memory_megabytes": Words("Resident memory, megabytes", "megabytes"),
    "immunity_share": Words("Immunity", "share of immune nodes", True),
}


def words_of(metric: str) -> Words:
    """Return how a metric is named in plots; what has no entry is called by its key.

    >>> words_of("bytes_sent").title
    'bytes sent'
    """
    name = metric.replace("_", " ")
    return WORDS.get(metric) or Words(name, name)


def short(label: str, most: int = MOST_LETTERS) -> str:
    """Return a label that fits beside a plot, on one line: its beginning and its end.

    >>> short("half_space_trees-and-thirty-percent-of-flippers")
    'half_space_tre…of-flippers'
    """
    label = printable(label)
    if len(label) <= most:
        return label
    end = (most - 1) * 11 // 25
    return f"{label[: most - 1 - end]}…{label[len(label) - end :]}"


def printable(text: str) -> str:
    """Return a text on one line, without what no XML may hold.

    >>> printable("a" + chr(10) + chr(0) + "b")
    'a��b'
    """
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def mapped(share: float) -> str:
    """Return viridis' colour for a value between 0 and 1.

    >>> mapped(0.0), mapped(1.0), mapped(0.05)
    ('#440154', '#fde725', '#461264')
    """
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    below = min(int(place), len(VIRIDIS) - 2)
    low, high = (bytes.fromhex(VIRIDIS[index]) for index in (below, below + 1))
    parts = [round(a + (b - a) * (place - below)) for a, b in zip(low, high, strict=True)]
    return "#" + bytes(parts).hex()


def is_light(colour: str) -> bool:
    """Return whether dark letters are read better than light ones on a colour (WCAG 2.2).

    >>> is_light("#fde725"), is_light("#440154")
    (True, False)
    """
    parts = [part / 255 for part in bytes.fromhex(colour[1:])]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179


LIGHT = {
    "ink": "#1f2328",
    "grey": "#5f6368",
    "grid": "#e3e6ea",
    "band": "#e9edf2",
    "paper": "#ffffff",
    **{f"c{index}": colour for index, colour in enumerate(PALETTE)},
    **{f"v{index}": mapped(0.9 * index / (SHADES - 1)) for index in range(SHADES)},
}
DARK = LIGHT | {
    "ink": "#e6edf3",
    "grey": "#9da7b3",
    "grid": "#2a313a",
    "band": "#232c37",
    "paper": "#0d1117",
    "c0": "#4aa3df",
    "c6": "#e6edf3",
    **{f"v{index}": mapped(0.3 + 0.7 * index / (SHADES - 1)) for index in range(SHADES)},
}


def style_rules() -> str:
    """Return the CSS of all plots, for light and dark pages; printed pages are light."""
    light, dark = (
        "".join(f"--{name}:{colour};" for name, colour in colours.items())
        for colours in (LIGHT, DARK)
    )
    lines = [
        f":root{{{light}}}",
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}",
        ".plot text{font:12px system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:var(--ink)}",
        ".plot .title{font-size:14px;font-weight:600}.plot .bold{font-weight:600}",
        ".plot .soft{fill:var(--grey)}.plot .small{font-size:10.5px}",
        ".plot .on-dark{fill:#fff}.plot .on-light{fill:#000}",
        ".plot .grid{stroke:var(--grid);stroke-width:1}",
        ".plot .axis{stroke:var(--grey);stroke-width:1}",
        ".plot .zero{stroke:var(--ink);stroke-width:1.3}",
        ".plot .band{fill:var(--band)}.plot .paper{fill:var(--paper)}",
        ".plot .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:butt}",
        ".plot .thin{fill:none;stroke-width:1.2;stroke-opacity:.75;stroke-linejoin:round}",
        ".plot .hair{fill:none;stroke-width:.8;stroke-opacity:.45}",
        ".plot .mark{stroke-width:1.8}.plot .around{stroke:var(--ink);stroke-width:2;fill:none}",
        ".plot .spread{fill-opacity:.16}",
        ".plot .halo{paint-order:stroke;stroke:var(--paper);stroke-width:3}",
        *(f".plot .s{i}{{stroke:var(--c{i})}}.plot .f{i}{{fill:var(--c{i})}}" for i in range(7)),
        *(f".plot .v{i}{{stroke:var(--v{i})}}" for i in range(SHADES)),
    ]
    return "\n".join(lines)
