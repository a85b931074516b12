"""`lunchbox rebuild` into PostgreSQL: what was recorded with the embedded default moves over, and is the same there."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import make_settings, write_analysis, write_run
from services import postgresql_databases

from catalog import open_catalog
from catalog import rebuild as rebuild_module
from catalog.embedded import close_embedded
from catalog.ingest import ingest_lock
from catalog.rebuild import RebuildBusy, rebuild
from catalog.store import CatalogStore

RUNS = 3


@pytest.fixture
def uris() -> Iterator[dict[str, str]]:
    """New databases, as the configuration names them."""
    with postgresql_databases("catalog", "tables", "keys") as databases:
        yield dict(zip(("catalog_uri", "tables_uri", "keys_uri"), databases, strict=True))


def everything(settings: Any) -> dict[str, Any]:
    """Documents, rows and pixels of every run, in the order of the catalogue."""
    catalog = open_catalog(settings=settings)
    try:
        runs = {
            uid: (run.primary.read().to_dict(), dict(run.metadata), list(run.documents()))
            for uid, run in catalog.items()
        }
        return runs | {uid: run["fit"].read().to_dict() for uid, run in catalog.processed.items()}
    finally:
        catalog.close()
        close_embedded()


def ask(uri: str, query: str) -> list[Any]:
    import asyncpg

    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(uri)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(fetch())


#: A rebuild that ends after its second run, as if it were killed there: between the nodes of a run, too.
KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from documents import make_settings
from catalog import rebuild as module
module._CHUNK = 1
def progress(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
module.rebuild(make_settings(Path(sys.argv[1]), **{uris!r}), progress=progress)
"""


def test_what_the_embedded_catalogue_has_moves_over_whatever_happens_on_the_way(
    data_root: Path, uris: dict[str, str]
) -> None:
    uids = [write_run(data_root, points=2, seed=number) for number in range(RUNS)]
    fit = write_analysis(data_root, uids[1])
    embedded, moved = make_settings(data_root), make_settings(data_root, **uris)
    before = everything(embedded)
    assert list(before) == [*uids, fit]
    killed = subprocess.run([sys.executable, "-c", KILLED.format(path=sys.path, uris=uris), str(data_root)])
    assert killed.returncode == -signal.SIGKILL
    # A server that was killed while it took a run in leaves it without its stop document.
    query = f"UPDATE nodes SET metadata = metadata - 'stop' WHERE key = '{uids[1]}'"
    ask(uris["catalog_uri"], query)
    seen: list[tuple[int, int]] = []
    done = rebuild(moved, progress=lambda done, total: seen.append((done, total)))
    assert (done.runs, done.there_before, done.by_server) == (RUNS + 1, 1, 1)
    assert seen[-1] == (RUNS + 1, RUNS + 1)
    assert done.catalogue == uris["catalog_uri"]
    assert everything(moved) == before
    # The embedded one stays.
    assert CatalogStore.of(embedded).database.exists()


def test_a_catalogue_that_is_there_is_completed_in_order_and_the_planner_told(
    data_root: Path, uris: dict[str, str]
) -> None:
    settings = make_settings(data_root, **uris)
    uids = [write_run(data_root, points=2, seed=number) for number in range(2)]
    assert rebuild(settings).there_before == 0
    uids += [write_run(data_root, points=2, scan_id=7)]
    done = rebuild(settings)
    assert (done.runs, done.there_before, done.by_server) == (3, 2, 0)
    done = rebuild(settings, bulk=False)
    assert (done.runs, done.there_before, done.by_server) == (3, 3, 0)
    query = "SELECT key FROM nodes WHERE metadata -> 'start' ->> 'uid' IS NOT NULL ORDER BY id"
    assert [key for (key,) in ask(uris["catalog_uri"], query)] == uids
    assert ask(uris["catalog_uri"], "SELECT reltuples > 0 FROM pg_class WHERE relname = 'nodes'") == [(True,)]
    # Each table of event rows has an index; Tiled gives one to the first only.
    tables = ask(uris["tables_uri"], "SELECT tablename FROM pg_tables WHERE tablename LIKE 'table\\_%'")
    assert tables
    for (table,) in tables:
        assert ask(uris["tables_uri"], f"SELECT reltuples FROM pg_class WHERE relname = '{table}'") == [(6.0,)]
        assert ask(uris["tables_uri"], f"SELECT count(*) FROM pg_indexes WHERE tablename = '{table}'") == [(1,)]


def test_it_does_not_fill_what_a_server_fills(data_root: Path, uris: dict[str, str]) -> None:
    settings = make_settings(data_root, **uris)
    store = CatalogStore.of(settings)
    store.create()
    with ingest_lock(store), pytest.raises(RebuildBusy, match="stop `lunchbox serve` first"):
        rebuild(settings)
    with ingest_lock(CatalogStore(data_root)):  # of the embedded one: that is another
        assert rebuild(settings).runs == 0


def test_foreign_keys_are_checked_by_the_index_that_is_theirs(
    data_root: Path, uris: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In what the planner of queries takes for an empty table, any index will do, and is read whole for each check."""
    monkeypatch.setattr(rebuild_module, "_CHUNK", 5)
    for number in range(40):
        write_run(data_root, points=1, seed=number)
    rebuild(make_settings(data_root, **uris))
    ((nodes,),) = ask(uris["catalog_uri"], "SELECT count(*) FROM nodes")
    query = f"""
        SELECT i.idx_scan, t.seq_scan FROM pg_stat_user_indexes i JOIN pg_stat_user_tables t USING (relid)
        WHERE indexrelname = 'nodes_pkey' AND t.n_tup_ins >= {nodes}
    """
    deadline = time.monotonic() + 20
    while not (found := ask(uris["catalog_uri"], query)):  # sessions tell what they did a little later
        assert time.monotonic() < deadline
        time.sleep(0.2)
    print(nodes, found)
    assert found[0][0] > 3 * nodes
