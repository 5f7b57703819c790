"""Tables from CSV, Parquet and npz files; what is wrong in one is named with file, row and column."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_core.errors import DataError

EXTENSIONS = (".csv", ".parquet", ".npz")
LARGEST_BLOCK = 2**31 - 1
EMPTY_LINE = re.compile(rb"^\r?\n", re.MULTILINE)


class Table:
    """The columns of a file, read as they are and checked when they are asked for.

    Rows are counted from 0 here, and in messages as an editor counts lines.
    """

    def __init__(self, path: Path, columns: Mapping[str, Any], *, first_row: int = 1) -> None:
        """Hold Arrow arrays by name; `first_row` is the number of row 0 in messages.

        Raises:
            DataError: there are no rows.
        """
        self.path = path
        self._columns = dict(columns)
        self.first_row = first_row
        self.n_rows = len(next(iter(self._columns.values()), ()))
        if self.n_rows == 0:
            raise DataError(f"{path} has no rows")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in the file's order."""
        return tuple(self._columns)

    def refusal(self, row: int, name: str, what: str) -> DataError:
        """Return the error that says what is wrong in a cell."""
        return DataError(f"{self.path}, row {row + self.first_row}, column {name}: {what:.200}")

    def is_numeric(self, name: str) -> bool:
        """Return whether a column holds numbers; of text, more than half of the cells must be."""
        import pyarrow as pa

        column = self._column(name)
        kind = column.type
        if pa.types.is_string(kind):
            return 2 * sum(_is_number(text) for text in column.to_pylist()) > self.n_rows
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind)) or bool(
            pa.types.is_boolean(kind) or pa.types.is_decimal(kind)
        )

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of finite numbers `[n_rows]`.

        Raises:
            DataError: a cell is empty or no finite number, or there is no such column.
        """
        import pyarrow as pa

        column = self._column(name)
        try:
            values = column.cast(pa.float64(), safe=False).to_numpy()
        except pa.ArrowException:
            cells = enumerate(column.to_pylist())
            row, cell = next(((r, c) for r, c in cells if not _is_number(c)), (0, column.type))
            raise self.refusal(row, name, f"{cell!r} is not a finite number") from None
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            row = int(wrong[0])
            raise self.refusal(row, name, f"{column[row].as_py()!r} is not a finite number")
        return np.array(values, dtype=np.float64)

    def categories(self, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return a column's distinct values in order, as text, and which one each row has.

        Raises:
            DataError: a cell is empty, or there is no such column.
        """
        import pyarrow as pa

        column = self._column(name)
        try:
            encoded = column.cast(pa.string()).dictionary_encode().combine_chunks()
        except pa.ArrowException as error:
            raise DataError(
                f"{self.path}, column {name}: {column.type} cannot be read as text"
            ) from error
        found = encoded.dictionary.to_pylist()
        if "" in found:
            row = int(np.flatnonzero(encoded.indices.to_numpy() == found.index(""))[0])
            raise self.refusal(row, name, "unknown value ''")
        order = sorted(range(len(found)), key=found.__getitem__)
        place = np.empty(len(found), dtype=np.int64)
        place[order] = np.arange(len(found))
        return place[encoded.indices.to_numpy()], tuple(found[k] for k in order)

    def times(self, name: str) -> tuple[NDArray[Any], bool]:
        """Return a column to sort rows by `[n_rows]`, and whether it is milliseconds since 1970.

        Numbers are taken as they are; dates may be ISO 8601 text, UTC where they name no zone.

        Raises:
            DataError: a cell is neither, or there is no such column.
        """
        import pandas as pd
        import pyarrow as pa

        column = self._column(name)
        if self.is_numeric(name):
            return self.numbers(name), False
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            dates = column.cast(pa.timestamp("ms"), safe=False)
            return dates.cast(pa.int64()).to_numpy(), True
        text = column.to_pandas()
        found = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        wrong = np.flatnonzero(found.isna().to_numpy())
        if wrong.size:
            row = int(wrong[0])
            raise self.refusal(row, name, f"{text.iloc[row]!r} is not a date (ISO 8601) or number")
        return found.dt.as_unit("ms").astype("int64").to_numpy(), True

    def _column(self, name: str) -> Any:
        """Return a column without empty cells."""
        if name not in self._columns:
            known = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
            raise DataError(f"{self.path} has no column {name}; its columns: {known}")
        column = self._columns[name]
        if column.null_count:
            empty = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise self.refusal(empty, name, "the cell is empty")
        return column


def read_table(path: Path, names: Sequence[str] | None = None) -> Table:
    """Return the columns of a file: CSV (or any text with commas), Parquet, or npz.

    Args:
        path: The file; its extension says what it is.
        names: Names of the columns of a text file that has no header.

    Raises:
        DataError: the file is missing, damaged, or of another kind.
    """
    kind = ".csv" if names is not None else path.suffix.lower()
    if kind not in EXTENSIONS:
        raise DataError(
            f"{path}: cannot read files of kind {path.suffix or 'without an extension'!r}: "
            f"traffic.path must name a file with one of {', '.join(EXTENSIONS)}"
        )
    try:
        if kind == ".csv":
            return _read_csv(path, path.read_bytes(), names)
        return _read_parquet(path) if kind == ".parquet" else _read_npz(path)
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {_reason(error)}") from error


def _read_csv(path: Path, content: bytes, names: Sequence[str] | None) -> Table:
    import pyarrow as pa
    import pyarrow.compute as compute
    import pyarrow.csv as arrow_csv

    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, row {row}: not text (byte {error.start}): damaged?") from error
    if b"\0" in content:
        row = content[: content.index(b"\0")].count(b"\n") + 1
        raise DataError(f"{path}, row {row}: a zero byte, which no text has: damaged?")
    content = content.rstrip(b"\r\n") + b"\n"
    if len(content) == 1:
        raise DataError(f"{path} is empty")
    if names is None:
        content = content.removeprefix(b"\xef\xbb\xbf")  # Excel marks text with it
        header = content.split(b"\n", 1)[0].decode("utf-8").rstrip("\r")
        columns = _distinct(path, next(csv.reader([header])))
    else:
        columns = tuple(names)
    empty = EMPTY_LINE.search(content)
    if empty:  # Arrow would take it for a row of empty cells
        row = content[: empty.end()].count(b"\n")
        raise _wrong_width(path, row, 1, len(columns))
    wrong: list[Any] = []

    def take_note(row: Any) -> str:
        wrong.append(row)
        return "skip"

    table = arrow_csv.read_csv(
        pa.BufferReader(content),
        read_options=arrow_csv.ReadOptions(
            use_threads=False,  # rows have numbers only where one thread counts them
            column_names=columns,
            skip_rows=0 if names is not None else 1,
            block_size=min(len(content) + 1, LARGEST_BLOCK),
        ),
        parse_options=arrow_csv.ParseOptions(
            ignore_empty_lines=False, invalid_row_handler=take_note
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
        ),
    )
    if wrong:
        raise _wrong_width(path, wrong[0].number, wrong[0].actual_columns, len(columns))
    trimmed = {name: compute.utf8_trim_whitespace(table.column(name)) for name in columns}
    return Table(path, trimmed, first_row=1 if names is not None else 2)


def _wrong_width(path: Path, row: int, found: int, expected: int) -> DataError:
    return DataError(
        f"{path}, row {row}: {found} columns, expected {expected}: is the file damaged or another one?"
    )


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as arrow_parquet

    try:
        table = arrow_parquet.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no Parquet file, or damaged: {_reason(error)}") from error
    names = _distinct(path, table.column_names)
    return Table(path, {n: _plain(c) for n, c in zip(names, table.columns, strict=True)})


def _read_npz(path: Path) -> Table:
    """Read `X` as columns x0, x1, ... and `y` as column y; pickled objects are refused."""
    import pyarrow as pa

    try:
        with np.load(path, allow_pickle=False) as file:
            x, y = file["X"], file["y"]
    except KeyError as error:
        raise DataError(f"{path}: {error.args[0]}: expected the arrays X and y") from error
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(
            f"{path} is no npz file of plain arrays, or damaged: {_reason(error)}"
        ) from error
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise DataError(
            f"{path}: X is {x.shape} and y is {y.shape}, expected [n_rows, n_features] and [n_rows]"
        )
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: X holds {x.dtype}, expected numbers")
    try:
        columns = {f"x{d}": pa.chunked_array([pa.array(x[:, d].copy())]) for d in range(x.shape[1])}
        columns["y"] = pa.chunked_array([pa.array(y)])
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: X holds {x.dtype} and y {y.dtype}: save them as plain numbers, y as text perhaps"
        ) from error
    return Table(path, columns)


def _reason(error: Exception) -> str:
    """Return what a library says, on one line."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return "".join(character if character.isprintable() else "?" for character in text[:300])


def _plain(column: Any) -> Any:
    """Return a column whose values are written out, in place of codes or large strings."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column


def _distinct(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(name.strip() for name in names)
    twice = next((name for k, name in enumerate(found) if name in found[:k]), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called {twice!r}: rename one")
    return found


def _is_number(cell: Any) -> bool:
    """Return whether a cell of a column holds a finite number, as Arrow reads them.

    >>> [_is_number(cell) for cell in ("1e3", "", "n/a", "inf", 2)]
    [True, False, False, False, True]
    """
    if isinstance(cell, str) and (not cell.isascii() or "_" in cell):
        return False  # Python's own notations
    try:
        return bool(np.isfinite(float(cell)))
    except (ValueError, TypeError):
        return False
