"""What a ledger database lacks of this program's schema, and the statements that make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Inspector, Table, UniqueConstraint, inspect, text
from sqlalchemy.schema import CreateIndex, CreateTable, Index

from sim_core.ledger import tables
from sim_core.ledger.condition import looking

TABLES: Sequence[Table] = [
    tables.EXPERIMENTS,
    tables.RUNS,
    tables.EXPERIMENT_RUNS,
    tables.SUMMARIES,
    tables.CHECKPOINTS,
    tables.BLOCKS,
    *tables.ENTRY_TABLES.values(),
]


@dataclass(frozen=True)
class Missing:
    """A table, key or index that this program's schema has and a database lacks."""

    name: str
    table: str
    statement: str
    """What makes it, in the database's SQL."""

    @property
    def is_table(self) -> bool:
        """Whether a whole table is missing."""
        return self.name == self.table


def missing_parts(engine: Engine) -> list[Missing]:
    """Return the tables, primary keys, unique keys and indexes that are not there.

    An index counts as there where one of any name begins with its columns, covers all rows, and is
    in use: PostgreSQL keeps the invalid rest of one whose making failed.

    Raises:
        LedgerFailed: the database does not answer.
    """
    with looking(engine) as connection:
        inspector = inspect(connection)
        present = set(inspector.get_table_names())
        invalid = _invalid(connection)
        return [
            missing
            for table in TABLES
            for missing in (
                _of_table(inspector, table, engine, invalid)
                if table.name in present
                else [Missing(table.name, table.name, _sql(CreateTable(table), engine))]
            )
        ]


def _invalid(connection: Connection) -> frozenset[str]:
    if connection.dialect.name == "sqlite":
        return frozenset()
    query = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    return frozenset(connection.execute(text(query)).scalars())


def _of_table(
    inspector: Inspector, table: Table, engine: Engine, invalid: frozenset[str]
) -> list[Missing]:
    key = tuple(inspector.get_pk_constraint(table.name)["constrained_columns"])
    unique = {tuple(c["column_names"]) for c in inspector.get_unique_constraints(table.name)}
    every = inspector.get_indexes(table.name)
    found = [i for i in every if i["name"] not in invalid and not _is_partial(i)]
    names = {index["name"] for index in every}
    unique |= {_columns(index) for index in found if index["unique"]}
    ordered = {key, *unique, *(_columns(index) for index in found)}
    missing = []
    wanted = tuple(column.name for column in table.primary_key)
    if key != wanted:
        statement = f"ALTER TABLE {table.name} ADD PRIMARY KEY ({', '.join(wanted)})"
        missing.append(Missing(f"{table.name}_pkey", table.name, statement))
    for constraint in table.constraints:
        columns = tuple(column.name for column in getattr(constraint, "columns", ()))
        if isinstance(constraint, UniqueConstraint) and columns not in unique:
            name = f"{table.name}_{'_'.join(columns)}_key"
            sql = f"CREATE UNIQUE INDEX {name} ON {table.name} ({', '.join(columns)})"
            missing.append(Missing(name, table.name, sql))
    missing += [
        Missing(
            str(index.name),
            table.name,
            (f"DROP INDEX {index.name}; " if index.name in names else "")
            + _sql(CreateIndex(index), engine),
        )
        for index in sorted(table.indexes, key=lambda i: str(i.name))
        if not any(columns[: len(index.columns)] == _names(index) for columns in ordered)
    ]
    return missing


def _is_partial(index: Any) -> bool:
    return any(name.endswith("_where") for name in index.get("dialect_options", {}))


def _columns(index: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in index["column_names"])


def _names(index: Index) -> tuple[str, ...]:
    return tuple(column.name for column in index.columns)


def _sql(statement: Any, engine: Engine) -> str:
    return " ".join(str(statement.compile(dialect=engine.dialect)).split())
