"""What arrays a state has, of which type and shape, and what numbers they may hold.

Compiled passes look at no bounds: an array of another shape, or the number of a node that does not
exist, would read or write memory that is none of theirs. What a checkpoint says is checked here first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.ledger.blocks import METRIC_COUNTS
from sim_core.state import RECENT_FLOWS, SCORE_BINS

Layout = tuple[str, tuple[int | str, ...]]
"""Type, and lengths: numbers, or names of what is the same wherever it stands."""
LAYOUT: dict[str, Layout] = {
    "step": ("<i8", ()),
    "head": ("|u1", (32,)),
    "next_proposal": ("<i8", ()),
    "up": ("|b1", ("nodes",)),
    "nodes.threshold": ("<f4", ("nodes",)),
    "nodes.recent": ("<f4", ("nodes", RECENT_FLOWS, "features")),
    "nodes.recent_count": ("<i8", ("nodes",)),
    "nodes.first_alarm": ("<i8", ("nodes",)),
    "blacklist": ("<i8", ("nodes", "capacity")),
    "blacklist_count": ("<i8", ("nodes",)),
    "received": ("<i8", (2, "deliveries")),
    "reputation": ("<f8", ("nodes", 2)),
    "ready_step": ("<i8", ("nodes",)),
    "awake": ("|b1", ("nodes",)),
    "infected": ("<i8", ("worms", "nodes")),
    "network.held": ("<u8", ("nodes", "words")),
    "network.informed": ("<u8", ("nodes", "words")),
    "network.fresh_held": ("<u8", ("nodes", "words")),
    "network.fresh_informed": ("<u8", ("nodes", "words")),
    "network.due_held": ("<u8", ("latency", "nodes", "words")),
    "network.due_informed": ("<u8", ("latency", "nodes", "words")),
    "network.due_messages": ("<i8", ("latency", "nodes")),
    "network.taken": ("|b1", ("slots",)),
    "network.reached": ("|b1", ("nodes",)),
    "network.position": ("<i4", ("nodes", 2)),
    "proposals.number": ("<i8", ("proposals",)),
    "proposals.step": ("<i8", ("proposals",)),
    "proposals.proposer": ("<i8", ("proposals",)),
    "proposals.centroid": ("<f4", ("proposals", "features")),
    "proposals.scale": ("<f4", ("proposals", "features")),
    "proposals.is_true": ("|b1", ("proposals",)),
    "proposals.family": ("<i2", ("proposals",)),
    "proposals.outcome": ("|u1", ("proposals",)),
    "proposals.decided": ("<i8", ("proposals",)),
    "proposals.slot": ("<i8", ("proposals",)),
    "proposals.voters": ("<i4", ("proposals", "voters")),
    "proposals.ballots": ("|u1", ("proposals", "voters")),
    "signatures.number": ("<i8", ("signatures",)),
    "signatures.proposer": ("<i8", ("signatures",)),
    "signatures.centroid": ("<f4", ("signatures", "features")),
    "signatures.scale": ("<f4", ("signatures", "features")),
    "signatures.covers": ("<u8", ("signatures", "targets")),
    "first_flag": ("<i8", ("targets",)),
    "first_confirmation": ("<i8", ("targets",)),
    "first_immunity": ("<i8", ("targets",)),
    "immune": ("<f8", ("targets",)),
    "totals": ("<i8", (len(METRIC_COUNTS),)),
    "histogram": ("<i8", (2, SCORE_BINS)),
}
SOMETIMES = "network."
"""Which of these there are depends on how proposals travel."""
DETECTOR = "nodes.detector."
"""Arrays of a detector are its own; they have a row per node, or one for all."""
SLOTS_OF_A_WORD = 64


def check_layout(arrays: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Check types and shapes, before memory is asked for.

    Args:
        arrays: Type and shape of each array, by name.

    Raises:
        ValueError: an array is missing, is unknown, or is not as it has to be; says which.
    """
    missing = [name for name in LAYOUT if name not in arrays and not name.startswith(SOMETIMES)]
    if missing:
        raise ValueError(f"no array {missing[0]!r}")
    sizes: dict[str, int] = {}
    for name in sorted(arrays, key=lambda name: name != "up"):  # which tells the number of nodes
        dtype, shape = arrays[name]
        if name.startswith(DETECTOR):
            if not shape or shape[0] not in (1, sizes["nodes"]):
                raise ValueError(f"{name!r} of shape {shape} for {sizes['nodes']} nodes")
        elif name not in LAYOUT:
            raise ValueError(f"an unknown array {name!r:.80}")
        else:
            _check(name, dtype, shape, sizes)
    if "words" in sizes and sizes.get("slots") != SLOTS_OF_A_WORD * sizes["words"]:
        raise ValueError(f"{sizes.get('slots')} slots in {sizes['words']} words")


def _check(name: str, dtype: str, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Check one array; note the lengths that are met for the first time."""
    wanted, lengths = LAYOUT[name]
    fits = len(shape) == len(lengths) and all(
        found == (length if isinstance(length, int) else sizes.setdefault(length, found))
        for found, length in zip(shape, lengths, strict=True)
    )
    if dtype != wanted or not fits:
        expected = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in lengths)
        raise ValueError(f"{name!r} is {dtype} {shape}, not {wanted} {expected}")


def check_numbers(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check the numbers with which other arrays are indexed, of arrays of the right layout.

    Raises:
        ValueError: one lies outside.
    """
    n_nodes = len(arrays["up"])
    n_slots = len(arrays.get("network.taken", ()))
    end = np.iinfo(np.int64).max
    for name, least, beyond in (
        ("step", 0, end),
        ("next_proposal", 0, end),
        ("nodes.recent_count", 0, end),
        ("blacklist_count", 0, end),
        ("blacklist", -1, end),
        ("received", 0, end),
        ("proposals.proposer", 0, n_nodes),
        ("proposals.voters", -1, n_nodes),
        ("proposals.slot", -1, max(n_slots, 0)),
        ("signatures.proposer", 0, n_nodes),
    ):
        _check_range(name, arrays[name], least, beyond)
    _check_range("received", arrays["received"][0], 0, n_nodes)


def _check_range(name: str, values: NDArray[Any], least: int, beyond: int) -> None:
    if values.size and not least <= int(values.min()) <= int(values.max()) < beyond:
        raise ValueError(
            f"{name!r} holds {values.min()} or {values.max()}, not {least} to {beyond - 1}"
        )
