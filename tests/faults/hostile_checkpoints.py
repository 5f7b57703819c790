"""Checkpoints that were damaged, and such as somebody has made who knows how they look."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import zstandard

from tests.damage import damage


def damaged_bytes(content: bytes, n: int) -> list[bytes]:
    """Return what became of bytes that were cut off, lengthened, moved, or of which bits flipped."""
    rng = random.Random(4)
    found: list[bytes] = [b"", b"\0", content + b"\0", content * 2, content[::-1]]
    while len(found) < n:
        changed = damage(content, rng, len(found), rng.randrange(len(content)))
        if changed != content:
            found.append(changed)
    return found


def forged_checkpoints(content: bytes) -> list[tuple[str, bytes]]:
    """Return forged checkpoints, each with a word on what is wrong with it."""
    return [(what, msgspec.msgpack.encode(whole)) for what, whole in _forged(content)] + [
        *_wrapped(content)
    ]


def _forged(content: bytes) -> Iterator[tuple[str, Any]]:
    def fresh() -> Any:
        return msgspec.msgpack.decode(content)

    for key, values in {
        "schema": (0, 2, 4, -1, 2**63, "3", None, [], 3.5),
        "run_key": ("", "0" * 64, None, 5, "x" * 10_000, "\0\x1b[31m"),
        "step": (-1, 0, 2**63, None, "8", 8.5, [8]),
        "arrays": (None, [], {}, "x", 5, {"up": None}, {"up": 5}),
    }.items():
        for value in values:
            yield f"{key}={value!r:.20}", fresh() | {key: value}
    for key in fresh():
        whole = fresh()
        del whole[key]
        yield f"no {key}", whole
    for name in fresh()["arrays"]:
        for what, change in _changes(name, fresh()["arrays"][name]):
            whole = fresh()
            change_of = whole["arrays"]
            if change is None:
                if name.startswith(("network.", "nodes.detector.")):
                    continue  # which of these there are is known to the network alone
                del change_of[name]
            else:
                change_of[name] |= change
            yield f"{name}: {what}", whole
    for name in ("x", "__class__", "nodes", "nodes.__init__", "proposals.colour", "a" * 10_000, ""):
        whole = fresh()
        whole["arrays"][name] = whole["arrays"]["up"]
        yield f"more: {name:.20}", whole
    yield from _out_of_range(fresh)


def _changes(name: str, array: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    shape = array["shape"]
    yield "gone", None
    yield "objects", {"dtype": "|O"}
    if not name.startswith("nodes.detector."):  # whose further axes are its own
        yield "one dimension more", {"shape": [*shape, 1, 1]}
    yield "negative", {"shape": [-1, *shape[1:]]}
    yield "huge", {"shape": [2**40, *shape[1:]], "n_nonzero": 0, "data": b""}
    yield "longer", {"shape": [(shape or [1])[0] + 1, *shape[1:]]}
    if not name.startswith("nodes.detector."):
        other = {"<f4": "<i4", "<f8": "<u8", "<i8": "<f8", "<u8": "<i8", "|b1": "|u1", "|u1": "|i1"}
        dtype = other.get(array["dtype"], "<u2" if array["dtype"] == "<i2" else "<u4")
        yield "another type", {"dtype": dtype}


def _out_of_range(fresh: Any) -> Iterator[tuple[str, Any]]:
    """Yield numbers of nodes, slots and steps that do not exist."""
    for name, numbers in {
        "step": (-1, 9, 2**62),
        "next_proposal": (-5,),
        "proposals.proposer": (-1, 16, 2**40),
        "proposals.voters": (-2, 16, 2**30),
        "proposals.slot": (-2, 64, 10**9),
        "nodes.recent_count": (-1,),
        "blacklist_count": (-3,),
        "blacklist": (-2,),
    }.items():
        for number in numbers:
            whole = fresh()
            array = whole["arrays"][name]
            width = int(array["dtype"][2])
            n_items = 1
            for length in array["shape"]:
                n_items *= length
            array["n_nonzero"] = None
            array["data"] = number.to_bytes(width, "little", signed=True) * n_items
            yield f"{name}={number}", whole


def _wrapped(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what compression may do."""
    packed = zstandard.ZstdCompressor().compress(content)
    yield "compressed and cut off", packed[:-5]
    yield "compressed and longer", packed + b"\0"
    yield "compressed twice", zstandard.ZstdCompressor().compress(packed)
    yield "claims 2^40 bytes", packed[:4] + b"\xc0" + (2**40).to_bytes(8, "little") + packed[9:]
    yield "a bomb", zstandard.ZstdCompressor().compress(b"\0" * (1 << 24))
    yield "nested", b"\x91" * 100_000
    yield "a map of itself", b"\x81\xa6arrays" * 5_000
    yield "a string of 4 GiB", b"\x84\xa6schema\xdb\xff\xff\xff\xff"
    yield "an array of 4 G", b"\xdd\xff\xff\xff\xff"
