"""A run's state as bytes that are safe to read back, and as files that are never torn.

A checkpoint is MessagePack: plain numbers, text and raw arrays, no code; compressed (Zstandard) if
asked for, which its first bytes tell. Its SHA-256 is kept in the ledger; a file that differs from
it is refused.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from sim_core.config.explain import shortened, shown
from sim_core.error_table import Trouble
from sim_core.errors import CheckpointMismatch, CheckpointUnwritten
from sim_core.faultpoints import reach
from sim_core.layout import check_layout, check_numbers
from sim_core.state import State

SCHEMA = 3
NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9._-]{0,199}(?<!\.)")
"""File names in a folder of checkpoints, temporary ones too."""
SMALL_ARRAY = 4096
"""Bytes up to which nobody looks for zeros."""
LARGEST_SPARSE_ARRAY = 1 << 30
"""Bytes; a small file cannot ask for more memory."""
PLACE = np.dtype("<i8")
ALLOWED_DTYPES = frozenset(
    {"<f4", "<f8", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "|b1"}
)
LARGEST_ARRAY = 1 << 36
"""Bytes; a header that claims more is refused before memory is asked for."""
COMPRESSED = zstandard.FRAME_HEADER
"""First bytes of what is compressed; MessagePack of a checkpoint begins with others."""
COMPRESSION_LEVEL = 1
"""Higher ones take longer and save nothing: most of a state is noise, whatever the effort."""
LARGEST_COMPRESSED = 1 << 30
"""Bytes before compression: a small file cannot ask for more memory, and what is larger stays as it is."""


class PackedArray(msgspec.Struct):
    """One array: raw bytes; where most of it is zero, the places (int64) and values that are not."""

    dtype: str
    shape: list[int]
    data: bytes
    n_nonzero: int | None = None
    """Number of places; None: the bytes are the array."""


class Checkpoint(msgspec.Struct):
    """The content of a checkpoint."""

    schema: int
    run_key: str
    step: int
    arrays: dict[str, PackedArray]


def encode(state: State, run_key: str, *, compress: bool = False) -> bytes:
    """Return a state as bytes, which `decode` reads whether they are compressed or not."""
    arrays = {name: _pack(array) for name, array in state.to_arrays().items()}
    content = msgspec.msgpack.encode(Checkpoint(SCHEMA, run_key, state.step, arrays))
    return _compressed(content, wanted=compress)


def _compressed(content: bytes, *, wanted: bool) -> bytes:
    """Return bytes compressed, where that is wanted and they are not too many."""
    if wanted and len(content) <= LARGEST_COMPRESSED:
        return zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(content)
    return content


def decode(content: bytes, run_key: str, *, source: Path | str = "in memory") -> State:
    """Return the state of the run with this key.

    Raises:
        CheckpointMismatch: the bytes are damaged, of another schema, or of another run.
    """
    try:
        found = msgspec.msgpack.decode(_expand(content), type=Checkpoint)
        if found.schema != SCHEMA:
            raise CheckpointMismatch(source, expected=f"schema {SCHEMA}", found=found.schema)
        if found.run_key != run_key:
            raise CheckpointMismatch(
                source, expected=f"run {run_key}", found=shortened(found.run_key)
            )
        for part in found.arrays.values():
            _refuse_header(part)
        check_layout({n: (part.dtype, tuple(part.shape)) for n, part in found.arrays.items()})
        arrays = {name: _unpack(part) for name, part in found.arrays.items()}
        check_numbers(arrays)
        if arrays["step"] != found.step:
            raise ValueError(f"a state of step {arrays['step']} in a checkpoint of {found.step}")
        return State.from_arrays(arrays)
    except UNREADABLE as error:
        raise CheckpointMismatch(
            source, expected="a state as this version writes it", found=shortened(repr(error), 200)
        ) from error


def readdress(content: bytes, run_key: str, head: bytes) -> bytes:
    """Return the checkpoint that another run has with the same state but for the hash of its block.

    Args:
        content: What `encode` gave, which is trusted.
        run_key: The other run.
        head: Hash of its last block.
    """
    found = msgspec.msgpack.decode(_expand(content), type=Checkpoint)
    found.run_key = run_key
    found.arrays["head"].data = head
    return _compressed(msgspec.msgpack.encode(found), wanted=content.startswith(COMPRESSED))


UNREADABLE = (
    msgspec.DecodeError,
    zstandard.ZstdError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    RecursionError,
)
"""What damaged or foreign bytes raise while they are read."""


def _expand(content: bytes) -> bytes:
    """Return what was compressed; what was not, as it is."""
    if not content.startswith(COMPRESSED):
        return content
    claimed = zstandard.frame_content_size(content)
    if not 0 <= claimed <= LARGEST_COMPRESSED:
        raise ValueError(f"{claimed} bytes after compression" if claimed >= 0 else "no size")
    expanded = zstandard.ZstdDecompressor().decompress(content, allow_extra_data=False)
    if len(expanded) != claimed:
        raise ValueError(f"{len(expanded)} bytes, {claimed} were claimed")
    return expanded


def _pack(array: NDArray[Any]) -> PackedArray:
    array = np.asarray(array, order="C")  # ascontiguousarray would make numbers 1-dimensional
    shape = list(array.shape)
    flat = array.reshape(-1)
    bits = flat.view(f"u{array.itemsize}")  # of which -0.0 has one
    is_large = SMALL_ARRAY < array.nbytes <= LARGEST_SPARSE_ARRAY
    n_nonzero = int(np.count_nonzero(bits)) if is_large else array.size
    if n_nonzero * (PLACE.itemsize + array.itemsize) >= array.nbytes:
        return PackedArray(array.dtype.str, shape, array.tobytes())
    places = np.flatnonzero(bits).astype(PLACE)
    data = places.tobytes() + flat[places].tobytes()
    return PackedArray(array.dtype.str, shape, data, n_nonzero)


def _refuse_header(part: PackedArray) -> None:
    """Check what an array says about itself, before memory is asked for.

    Raises:
        ValueError: it is of no type or size that a state has.
    """
    if part.dtype not in ALLOWED_DTYPES:
        raise ValueError(f"array of type {part.dtype!r}")
    if any(length < 0 for length in part.shape):
        raise ValueError(f"array of shape {part.shape}")
    n_bytes = math.prod(part.shape) * np.dtype(part.dtype).itemsize
    if n_bytes > (LARGEST_ARRAY if part.n_nonzero is None else LARGEST_SPARSE_ARRAY):
        raise ValueError(f"array of {n_bytes} bytes")


def _unpack(part: PackedArray) -> NDArray[Any]:
    dtype, n_items = np.dtype(part.dtype), math.prod(part.shape)
    if part.n_nonzero is None:
        return _values(part.data, dtype, n_items).reshape(part.shape).copy()
    if not 0 <= part.n_nonzero <= n_items:
        raise ValueError(f"{part.n_nonzero} values that are not zero, of {n_items}")
    split = part.n_nonzero * PLACE.itemsize
    places = _values(part.data[:split], PLACE, part.n_nonzero)
    if len(places) and not 0 <= places.min() <= places.max() < n_items:
        raise ValueError(f"a place outside of an array of {n_items}")
    array = np.zeros(n_items, dtype=dtype)
    array[places] = _values(part.data[split:], dtype, part.n_nonzero)
    return array.reshape(part.shape)


def _values(data: bytes, dtype: np.dtype[Any], n_items: int) -> NDArray[Any]:
    if len(data) != n_items * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for {n_items} values of {dtype.itemsize}")
    return np.frombuffer(data, dtype=dtype)


@dataclass(frozen=True)
class Stored:
    """A checkpoint's file name and checksum, as the ledger keeps them."""

    name: str
    sha256: str
    n_bytes: int


@dataclass(frozen=True)
class CheckpointFolder:
    """Checkpoints as files."""

    folder: Path

    def write(self, content: bytes, *, run_key: str, step: int, epoch: int) -> Stored:
        """Write a checkpoint and return when a reader sees all of it or nothing.

        Temporary name, fsync, rename; `settle` makes the names survive a loss of power. The epoch
        in the name keeps two owners of a run from writing the same file.

        Raises:
            CheckpointUnwritten: the disk is full or broken, or the folder is none.
        """
        name = f"{run_key[:24]}-{step:08d}-{epoch}.ckpt"
        temporary = self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            reach("checkpoint.open")
            with temporary.open("wb") as file:
                reach("checkpoint.write")
                file.write(content)
                file.flush()
                reach("checkpoint.fsync")
                os.fsync(file.fileno())
            reach("checkpoint.rename")
            temporary.rename(self.folder / name)
        except OSError as error:
            with suppress(OSError):  # where there is no folder, there is no file
                temporary.unlink(missing_ok=True)
            raise _unwritten(self.folder / name, error) from error
        return Stored(name, hashlib.sha256(content).hexdigest(), len(content))

    def settle(self) -> None:
        """Return when the names of what was written would survive a loss of power.

        Raises:
            CheckpointUnwritten: nobody knows whether they would.
        """
        try:
            reach("checkpoint.settle")
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unwritten(self.folder, error) from error

    def read(self, stored: Stored) -> bytes:
        """Return a checkpoint's bytes.

        Raises:
            CheckpointMismatch: the file is gone or is not what was written.
        """
        path = self._path(stored.name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointMismatch(
                path, expected=f"{stored.n_bytes} bytes", found=error.strerror
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != stored.sha256:
            raise CheckpointMismatch(path, expected=f"SHA-256 {stored.sha256}", found=found)
        return content

    def names(self) -> list[str]:
        """Return the names of all files, temporary ones too."""
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []

    def remove(self, name: str) -> None:
        """Remove a checkpoint that is not needed any more."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        """Return the path of a file, whose name may come from a database that was changed.

        Raises:
            CheckpointMismatch: the name leads out of this folder.
        """
        if not NAME.fullmatch(name):
            raise CheckpointMismatch(shown(name), expected="the name of a checkpoint", found="none")
        return self.folder / name


def _unwritten(place: Path, error: OSError) -> CheckpointUnwritten:
    return CheckpointUnwritten(
        Trouble.CHECKPOINT_UNWRITTEN.tell(place=place, reason=error.strerror)
    )
