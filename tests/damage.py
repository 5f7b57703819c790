"""Bytes that were damaged on their way."""

from __future__ import annotations

import random

KINDS = 5


def damage(content: bytes, rng: random.Random, kind: int, at: int) -> bytes:
    """Return bytes that were cut off, flipped, lengthened, shortened or overwritten at a place.

    Which of these is `kind` modulo 5; the result may equal `content`.
    """
    changed = bytearray(content)
    match kind % KINDS:
        case 0:
            del changed[at:]
        case 1:
            changed[at] ^= 1 << rng.randrange(8)
        case 2:
            changed[at:at] = rng.randbytes(rng.randint(1, 9))
        case 3:
            del changed[at : at + rng.randint(1, 40)]
        case 4:
            changed[at : at + 8] = rng.randbytes(8)
    return bytes(changed)
