"""New databases of PostgreSQL, for a benchmark or a test, that are dropped afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator

SERVER = "postgresql://root@127.0.0.1:5432"


@contextlib.contextmanager
def postgresql_databases(*names: str, server: str = SERVER) -> Iterator[list[str]]:
    """Addresses of a new database for each of `names`."""
    databases = [f"lunchbox_{name}_{uuid.uuid4().hex[:12]}" for name in names]
    asyncio.run(_execute(server, [f'CREATE DATABASE "{database}"' for database in databases]))
    try:
        yield [f"{server}/{database}" for database in databases]
    finally:
        drop = [f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)' for database in databases]
        asyncio.run(_execute(server, drop))


async def _execute(server: str, statements: list[str]) -> None:
    import asyncpg

    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
