"""The bulk path and the index of runs on PostgreSQL: what Tiled then serves is what the journals say."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import frame, make_settings, write_analysis, write_run

from catalog import server
from catalog.blueprint import plan_run
from catalog.bulk import BulkWriter
from catalog.indexes import index_runs, run_of_scan_id, runs_between, states_of_runs
from catalog.journal import list_journals, read_journal
from catalog.layout import JOURNAL_DIR
from catalog.server import tiled_configuration
from catalog.store import CatalogStore

SERVER = "postgresql://root@127.0.0.1:5432"


async def _command(statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(f"{SERVER}/postgres", timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def database() -> Iterator[str]:
    """URI of a new, initialised database; dropped afterwards."""
    name = f"lunchbox_bulk_{uuid.uuid4().hex[:12]}"
    try:
        asyncio.run(_command(f"CREATE DATABASE {name}"))
    except (TimeoutError, OSError) as error:
        if os.environ.get("LUNCHBOX_CI_SERVICES") == "1":
            raise
        pytest.skip(f"no PostgreSQL at 127.0.0.1:5432: {error}")
    try:
        _initialize(f"{SERVER}/{name}")
        yield f"{SERVER}/{name}"
    finally:
        asyncio.run(_command(f"DROP DATABASE {name} WITH (FORCE)"))


def _initialize(uri: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.alembic_utils import stamp_head
    from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
    from tiled.catalog.core import initialize_database
    from tiled.utils import ensure_specified_sql_driver

    driver_uri = ensure_specified_sql_driver(uri)

    async def initialize() -> None:
        engine = create_async_engine(driver_uri)
        await initialize_database(engine)
        await index_runs(engine)
        await engine.dispose()

    asyncio.run(initialize())
    stamp_head(ALEMBIC_INI_TEMPLATE_PATH, ALEMBIC_DIR, driver_uri)


def answers(uri: str, *queries: tuple[str, dict[str, Any]]) -> list[list[tuple[Any, ...]]]:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.utils import ensure_specified_sql_driver

    async def ask() -> list[list[tuple[Any, ...]]]:
        engine = create_async_engine(ensure_specified_sql_driver(uri))
        async with engine.connect() as connection:
            found = [[tuple(row) for row in await connection.execute(text(query), p)] for query, p in queries]
        await engine.dispose()
        return found

    return asyncio.run(ask())


def test_runs_are_written_found_and_served(database: str, data_root: Path) -> None:
    uids = [write_run(data_root, points=3, seed=number) for number in range(3)]
    fit = write_analysis(data_root, uids[0])
    plans = [plan_run(entry.uid, read_journal(entry.path)) for entry in list_journals(data_root / JOURNAL_DIR)]
    settings = make_settings(data_root)
    store = CatalogStore.of(settings)
    store.arrays.mkdir(parents=True)
    with BulkWriter(catalog=database, tables=database, arrays=store.arrays) as writer:
        writer.write(plans[:2])
        writer.write(plans[2:])
        assert writer.states() == dict.fromkeys([*uids, fit], "success")
    by_scan_id, by_uid, states = answers(
        database,
        (run_of_scan_id("postgresql"), {"parent": 0, "scan_id": 2}),
        (runs_between("postgresql"), {"parent": 0, "first": uids[2][:8], "last": uids[2][:8] + "z", "limit": 4}),
        (states_of_runs("postgresql"), {"parent": 0, "after": -1, "limit": 10}),
    )
    assert by_scan_id == [(uids[1],)]
    assert by_uid == [(uids[2],)]
    assert [row[1:] for row in states] == [(uid, "success") for uid in uids]
    assert_served(database, settings, uids, fit)


def assert_served(database: str, settings: Any, uids: list[str], fit: str) -> None:
    from tiled.client import from_uri
    from tiled.client.container import Container

    store = CatalogStore.of(settings).pinned()

    def on_postgresql(*args: Any, **kwargs: Any) -> dict[str, Any]:
        configuration = tiled_configuration(*args, **kwargs)
        configuration["trees"][0]["args"] |= {"uri": database, "writable_storage": [store.arrays.as_uri(), database]}
        return configuration

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "tiled_configuration", on_postgresql)
        with server.Server(settings, store=store) as running:
            catalog = from_uri(running.uri, api_key=running.api_key)
            for number, uid in enumerate(uids):
                stream = catalog[uid]["primary"]
                assert stream.base["internal"].read()["lunchbox_servo"].tolist() == [0, 1, 2]
                expected = [frame(number, index) for index in range(3)]
                np.testing.assert_array_equal(stream["lunchbox_image"].read(), expected)
            np.testing.assert_array_equal(
                Container.__getitem__(catalog, "processed")[fit]["fit"]["covariance"].read(), [np.eye(7)]
            )
            catalog.context.close()
