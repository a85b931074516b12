"""Indexes that Tiled does not make: so that finding a run, and its rows, takes no longer when there are many.

All are the database's own, kept right by it with every row that anybody writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

#: Parts of a node's metadata, in each dialect. What is indexed and what is asked for must be the same words.
_SCAN_ID = {
    "sqlite": "json_extract(metadata, '$.start.scan_id')",
    "postgresql": "(metadata -> 'start' -> 'scan_id')",
}
_IS_RUN = {
    "sqlite": "json_extract(metadata, '$.start.uid') IS NOT NULL",
    "postgresql": "(metadata -> 'start' -> 'uid') IS NOT NULL",
}
#: Tables that have an index, and all tables.
_TABLES = {
    "sqlite": (
        "SELECT tbl_name FROM sqlite_master WHERE type = 'index'",
        "SELECT name FROM sqlite_master WHERE type = 'table'",
    ),
    "postgresql": (
        "SELECT tablename::text FROM pg_indexes WHERE schemaname = current_schema()",
        "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()",
    ),
}
_WANTED = {"sqlite": ":scan_id", "postgresql": "to_jsonb(CAST(:scan_id AS bigint))"}


async def index_runs(engine: Any) -> None:
    """Index runs by scan_id and uid. `engine` is of SQLAlchemy, asynchronous, for a database of Tiled's."""
    from sqlalchemy import text

    dialect = engine.dialect.name
    # Partial: no query of Tiled's implies the condition, so none is led astray by them.
    async with engine.begin() as connection:
        for name, column in (("lunchbox_scan_id", _SCAN_ID[dialect]), ("lunchbox_uid", "key")):
            await connection.execute(
                text(f"CREATE INDEX IF NOT EXISTS {name} ON nodes (parent, {column}) WHERE {_IS_RUN[dialect]}")
            )


def run_of_scan_id(dialect: str) -> str:
    """SQL: the newest run below node `:parent` with `:scan_id`."""
    condition = f"{_SCAN_ID[dialect]} = {_WANTED[dialect]} AND {_IS_RUN[dialect]}"
    return f"SELECT key FROM nodes WHERE parent = :parent AND {condition} ORDER BY id DESC LIMIT 1"


def runs_between(dialect: str) -> str:
    """SQL: the first runs below node `:parent` whose uid is `:first`, or between that and `:last`."""
    condition = f"key >= :first AND key < :last AND {_IS_RUN[dialect]}"
    return f"SELECT key FROM nodes WHERE parent = :parent AND {condition} ORDER BY key LIMIT :limit"


def states_of_runs(dialect: str) -> str:
    """SQL: (id, uid, exit_status or null) of the first runs below node `:parent` behind id `:after`."""
    state = {
        "sqlite": "json_extract(metadata, '$.stop.exit_status')",
        "postgresql": "metadata -> 'stop' ->> 'exit_status'",
    }[dialect]
    condition = f"parent = :parent AND id > :after AND {_IS_RUN[dialect]}"
    return f"SELECT id, key, {state} FROM nodes WHERE {condition} ORDER BY id LIMIT :limit"


def index_tables(uri: str) -> None:
    """Index the tables of event rows.

    Tiled gives an index to the first table only: its name, the same for every table, is unique to a database. Without
    one, the rows of one run are found by looking at the rows of all runs.
    """
    of_indexes, of_all = _TABLES[uri.partition(":")[0]]
    with tables_connection(uri) as cursor:
        cursor.execute(of_indexes)
        indexed = {name for (name,) in cursor.fetchall()}
        cursor.execute(of_all)
        for table in sorted({name for (name,) in cursor.fetchall() if name.startswith("table_")} - indexed):
            cursor.execute(f'CREATE INDEX IF NOT EXISTS "{table}_data_set" ON "{table}" (_dataset_id, _partition_id)')


@contextlib.contextmanager
def tables_connection(uri: str) -> Iterator[Any]:
    """A cursor on the database of event rows, by the library that Tiled has it open with.

    Each copy of SQLite in a process drops, when it closes a file, the locks that the other has on it; the database
    would be damaged under a server of the same process. Python's own `sqlite3` is another copy.
    """
    if uri.startswith("postgresql:"):
        from adbc_driver_postgresql import dbapi as postgresql

        with postgresql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            yield cursor
        return
    from adbc_driver_sqlite import dbapi as sqlite

    with sqlite.connect(uri.removeprefix("sqlite:///"), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 10000")
        yield cursor
