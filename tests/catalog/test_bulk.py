"""A run that the bulk path wrote is the run that TiledWriter writes: in every row, and in every view of the client."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import event_model
import numpy as np
import pytest
from documents import Run, make_settings, write_analysis, write_run

from catalog import blueprint, bulk
from catalog.generations import begin_next
from catalog.indexes import tables_connection
from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.quarantine import Quarantine
from catalog.rebuild import Rebuilt, rebuild
from catalog.server import Server
from catalog.store import CatalogStore


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two catalogues of the same journals: `server` was filled by TiledWriter, `bulk` by the bulk path."""
    data_root = tmp_path_factory.mktemp("both")
    uids = kinds_of_runs(data_root)
    settings = make_settings(data_root)
    first = CatalogStore.of(settings).pinned()
    with Server(settings) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        # The server goes on with the first catalogue, so that it is not removed.
        done = rebuild(settings)
        with Server(settings) as second:
            yield SimpleNamespace(
                uids=uids,
                done=done,
                first=first,
                second=CatalogStore.of(settings).pinned(),
                servers=(server, second),
            )


def kinds_of_runs(data_root: Path) -> list[str]:
    """One of each kind that the bulk path plans."""
    uids = [write_run(data_root, points=points, seed=points) for points in (0, 1, 4)]
    uids.append(
        write_run(data_root, points=2, sample={"name": "grating", "mass": None, "lines": [600, 300]}, größe=1.5)
    )
    uids.append(write_analysis(data_root, uids[1]))
    with Journal(data_root / JOURNAL_DIR, fsync=False) as journal:
        run = Run(journal, data_root / FRAMES_DIR, seed=20, scan_id=17)
        run.begin()
        run.point()
        run.file.append()  # a frame that no event names
        run.point()
        run.file.close()
        run.seed = 30
        run.stage()
        run.point()
        run.end("fail")
        uids.append(run.uid)
        uids.append(columns_of_all_kinds(journal))
    return uids


def columns_of_all_kinds(journal: Journal) -> str:
    run = event_model.compose_run(metadata={"hints": {"dimensions": [[["x"], "primary"]]}, "big": 2**60})
    keys = {
        "x": {"dtype": "number", "shape": [], "source": "s", "units": "mm"},
        "count": {"dtype": "integer", "shape": [], "source": "s"},
        "word": {"dtype": "string", "shape": [], "source": "s"},
        "open": {"dtype": "boolean", "shape": [], "source": "s"},
        "Spectrum": {"dtype": "array", "shape": [3], "source": "s", "dtype_numpy": "<f4"},
        "time": {"dtype": "number", "shape": [], "source": "s"},
    }
    journal("start", run.start_doc)
    primary = run.compose_descriptor(name="primary", data_keys=keys)
    baseline = run.compose_descriptor(name="baseline", data_keys={"x": keys["x"]}, **configured(gain=1))
    journal("descriptor", primary.descriptor_doc)
    journal("descriptor", baseline.descriptor_doc)
    for i in range(3):
        data = {"x": i / 3, "count": i, "word": f"né {i}", "open": i == 1, "Spectrum": [i, 1, 2], "time": float(i)}
        stamps = dict.fromkeys(keys, float(i))
        journal("event", primary.compose_event(data=data, timestamps=stamps))
    journal("event", baseline.compose_event(data={"x": float("inf")}, timestamps={"x": 0.0}))
    # The configuration changed in the middle: the stream is described again.
    again = run.compose_descriptor(name="baseline", data_keys={"x": keys["x"]}, **configured(gain=2))
    journal("descriptor", again.descriptor_doc)
    journal("stop", run.compose_stop(exit_status="abort", reason="because"))
    return str(run.start_doc["uid"])


def configured(gain: int) -> dict[str, Any]:
    data_keys = {"gain": {"dtype": "number", "shape": [], "source": "s"}}
    configuration = {"x": {"data": {"gain": gain}, "timestamps": {"gain": 1.0}, "data_keys": data_keys}}
    return {"object_keys": {"x": ["x"]}, "configuration": configuration}


def rows(store: CatalogStore) -> dict[str, Any]:
    """All that a catalogue has, by the path of its nodes: without numbers that only the database knows."""
    with contextlib.closing(sqlite3.connect(store.database)) as connection:
        connection.row_factory = sqlite3.Row
        nodes = {row["id"]: dict(row) for row in connection.execute("SELECT * FROM nodes")}

        def path(id_: int) -> str:
            node = nodes[id_]
            return node["key"] if node["parent"] is None else f"{path(node['parent'])}/{node['key']}"

        result: dict[str, Any] = {}
        for id_ in nodes:
            node = {name: nodes[id_][name] for name in ("structure_family", "metadata", "specs")}
            node["sources"] = [
                source(connection, store, dict(row))
                for row in connection.execute("SELECT * FROM data_sources WHERE node_id = ? ORDER BY id", (id_,))
            ]
            closure = "SELECT ancestor, depth FROM nodes_closure WHERE descendant = ? ORDER BY depth"
            node["ancestors"] = [(path(row["ancestor"]), row["depth"]) for row in connection.execute(closure, (id_,))]
            found = "SELECT count(*) FROM metadata_fts5 WHERE metadata_fts5 MATCH ? AND rowid = ?"
            node["found"] = connection.execute(found, (f'"{nodes[id_]["key"] or "nothing"}"', id_)).fetchone()[0]
            result[path(id_)] = node
    return result


def source(connection: sqlite3.Connection, store: CatalogStore, row: dict[str, Any]) -> dict[str, Any]:
    names = ("mimetype", "parameters", "properties", "management", "structure_family", "structure_id")
    known = {name: row[name] for name in names}
    parameters = json.loads(known["parameters"])
    if (number := parameters.pop("dataset_id", None)) is not None:
        known["parameters"] = parameters
        known["rows"] = table_rows(store, parameters["table_name"], number)
    query = "SELECT structure FROM structures WHERE id = ?"
    (known["structure"],) = connection.execute(query, (row["structure_id"],)).fetchone()
    assets = (
        "SELECT data_uri, is_directory, hash_type, hash_content, size, parameter, num FROM assets "
        "JOIN data_source_asset_association ON asset_id = assets.id WHERE data_source_id = ? ORDER BY num"
    )
    place = str(store.index)
    known["assets"] = [
        tuple(value.replace(place, "") if isinstance(value, str) else value for value in asset)
        for asset in connection.execute(assets, (row["id"],))
    ]
    return known


def table_rows(store: CatalogStore, table: str, number: int) -> list[tuple[Any, ...]]:
    with tables_connection(store.tables_uri) as cursor:
        cursor.execute(f'SELECT * FROM "{table}" WHERE _dataset_id = {number} ORDER BY rowid')
        (at,) = [i for i, column in enumerate(cursor.description) if column[0] == "_dataset_id"]
        return [tuple(value for i, value in enumerate(row) if i != at) for row in cursor.fetchall()]


def test_every_row_is_the_same(both: Any) -> None:
    assert both.done.by_server == 0
    assert both.done.runs == len(both.uids)
    ours, theirs = rows(both.second), rows(both.first)
    assert set(ours) == set(theirs)
    for path in theirs:
        assert ours[path] == theirs[path], path
    assert sum(bool(node["sources"]) for node in ours.values()) > 12


def test_runs_are_in_the_same_order(both: Any) -> None:
    def order(store: CatalogStore) -> list[str]:
        with contextlib.closing(sqlite3.connect(store.database)) as connection:
            return [key for (key,) in connection.execute("SELECT key FROM nodes WHERE parent = 0 ORDER BY id")]

    assert order(both.second) == order(both.first)


def test_every_view_of_the_client_is_the_same(both: Any) -> None:
    from catalog import open_catalog

    catalogs = [
        open_catalog(server.uri, settings=make_settings(both.first.data_root), api_key=server.api_key)
        for server in both.servers
    ]
    theirs, ours = catalogs
    assert list(ours) == list(theirs)
    for uid in both.uids:
        pair = [(catalog.processed if uid in catalog.processed else catalog)[uid] for catalog in (ours, theirs)]
        assert dict(pair[0].metadata) == dict(pair[1].metadata)
        assert list(pair[0]) == list(pair[1])
        for stream in pair[0]:
            mine, other = (run[stream].read() for run in pair)
            assert mine.identical(other), (uid, stream)
        assert [normal(doc) for doc in pair[0].documents()] == [normal(doc) for doc in pair[1].documents()]
    for catalog in catalogs:
        catalog.close()


def normal(pair: Any) -> Any:
    # Uids that the exporter makes up are others each time.
    name, doc = pair
    free = {"uid", "descriptor", "stream_resource", "datum_id", "uri"} if name in {"event", "event_page"} else set()
    return name, json.dumps({key: value for key, value in doc.items() if key not in free}, sort_keys=True, default=str)


def test_a_run_can_go_on_being_written_where_bulk_ended(both: Any) -> None:
    """Numbers and names that the bulk path gave do not get in the way of the server's."""
    uid = write_run(both.first.data_root, points=2, seed=90)
    fit = write_analysis(both.first.data_root, uid)
    server = both.servers[1]
    from catalog import open_catalog

    catalog = open_catalog(server.uri, settings=make_settings(both.first.data_root), api_key=server.api_key)
    assert catalog.wait_for(uid).primary.read()["lunchbox_servo"].values.tolist() == [0, 1]
    np.testing.assert_array_equal(catalog.wait_for(fit)["fit"]["covariance"].read(), [np.eye(7)])
    catalog.close()


@pytest.mark.parametrize(("name", "value"), [("TILED", "0.2.19"), ("REVISION", "000000000000")])
def test_another_version_of_tiled_is_refused_and_a_server_does_it(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    uid = write_run(data_root, points=1)
    monkeypatch.setattr(bulk, name, value)
    done: Rebuilt = rebuild(make_settings(data_root))
    assert (done.runs, done.by_server) == (1, 1)
    assert "rebuilt by a server, which takes longer" in caplog.text
    assert f"//{uid}"[1:] in rows(CatalogStore(data_root))


def test_a_run_that_cannot_be_planned_is_taken_in_by_a_server_in_its_turn(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 2)
    uids = [write_run(data_root, points=1) for _ in range(4)]
    ragged = run_with_rows_of_different_lengths(data_root)
    plan = blueprint.plan_run

    def plan_run(uid: str, docs: Any) -> Any:
        if uid == uids[2]:
            raise blueprint.Unplannable("a kind of run that there is not yet")
        return plan(uid, docs)

    monkeypatch.setattr(blueprint, "plan_run", plan_run)
    done = rebuild(make_settings(data_root))
    assert (done.by_server, done.runs, done.quarantined) == (1, 4, 1), done
    with contextlib.closing(sqlite3.connect(CatalogStore(data_root).database)) as connection:
        order = [key for (key,) in connection.execute("SELECT key FROM nodes WHERE parent = 0 ORDER BY id")]
    assert order == ["processed", *uids]
    (note,) = Quarantine(CatalogStore(data_root).quarantine).notes()
    assert ragged in note["journal"]


def run_with_rows_of_different_lengths(data_root: Path) -> str:
    """Neither way can store it in SQLite."""
    run = event_model.compose_run()
    keys = {"x": {"dtype": "array", "shape": [None], "source": "s", "dtype_numpy": "<f8"}}
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    with Journal(data_root / JOURNAL_DIR, fsync=False) as journal:
        journal("start", run.start_doc)
        journal("descriptor", stream.descriptor_doc)
        journal("event", stream.compose_event(data={"x": [1.0]}, timestamps={"x": 0.0}))
        journal("stop", run.compose_stop())
    return str(run.start_doc["uid"])


def test_the_next_generation_is_beside_the_current_one(data_root: Path) -> None:
    store = CatalogStore(data_root)
    store.directory.mkdir(parents=True)
    assert begin_next(store).index == data_root / "catalog" / "index-1"
    store.pointer.write_text("index-4\n")
    assert begin_next(store).generation == "index-5"
    assert store.database == data_root / "catalog" / "index-4" / "catalog.db"
