"""Two server processes behind one catalogue in PostgreSQL, with Redis between them: by configuration alone."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from command import CommandLine
from documents import Run, frame, make_settings, write_analysis, write_run
from services import postgresql_databases, redis_database
from tiled.queries import Key

from catalog import open_catalog
from catalog.errors import DataRootError
from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.server import Server
from catalog.store import CatalogStore


def wait_for(condition: Callable[[], bool], *, timeout: float = 40) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A data root that was used embedded; then two servers of it on PostgreSQL and Redis, in processes of their own."""
    home = tmp_path_factory.mktemp("scale")
    data_root = home / "data"
    uid = write_run(data_root, points=3, seed=30)
    fit = write_analysis(data_root, uid)
    with Server(make_settings(data_root)) as embedded:
        assert embedded.ingester is not None
        assert embedded.ingester.caught_up.wait(60)
    with postgresql_databases("catalog", "tables", "keys") as (catalog, tables, keys), redis_database() as redis:
        uris = {"catalog_uri": catalog, "tables_uri": tables, "keys_uri": keys, "streaming_uri": redis}
        command = CommandLine(home, config=json.dumps({"server": {"port": 0, **uris}}))
        processes = [command.start("serve", "--json") for _ in range(2)]
        try:
            servers = [json.loads(process.stdout.readline())["uri"] for process in processes]
            yield SimpleNamespace(
                command=command,
                settings=make_settings(data_root, **uris),
                servers=servers,
                uid=uid,
                fit=fit,
                data_root=data_root,
                processes=processes,
            )
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
            ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert [err for _, err in ends] == ["", ""]


def open_both(bench: Any) -> list[Any]:
    key = CatalogStore(bench.data_root).api_key()
    return [open_catalog(uri, settings=bench.settings, api_key=key) for uri in bench.servers]


def test_what_was_recorded_before_is_there_on_both(bench: Any) -> None:
    for catalog in open_both(bench):
        catalog.wait_for(bench.fit)
        run = catalog[bench.uid]
        data = run.primary.read()
        np.testing.assert_array_equal(data["lunchbox_image"], [frame(30, index) for index in range(3)])
        np.testing.assert_array_equal(data["lunchbox_servo"], [0, 1, 2])
        assert list(catalog.fits(bench.uid)) == [bench.fit]
        assert list(catalog.processed[bench.fit]["fit"].read()["lambda_over_d"].values) == [0.39]
        assert [found.start["uid"] for found in catalog.search(Key("scan_id") == 1).values()] == [bench.uid]
        assert run.validate()
        catalog.close()


def test_one_ingests_and_both_show_it(bench: Any) -> None:
    catalogs = open_both(bench)
    with Journal(bench.data_root / JOURNAL_DIR, fsync=False) as journal:
        run = Run(journal, bench.data_root / FRAMES_DIR, seed=35)
        run.metadata["scan_id"] = journal.next_scan_id()
        run.begin()
        run.point()
        for catalog in catalogs:
            wait_for(lambda catalog=catalog: run.uid in catalog)
            assert catalog[run.uid].in_progress
        run.point()
        run.end()
    for catalog in catalogs:
        catalog.wait_for(run.uid)
        np.testing.assert_array_equal(catalog[run.uid].primary["lunchbox_image"].read(), [frame(35, 0), frame(35, 1)])
        # Tiled's client remembers a length for a second.
        wait_for(lambda catalog=catalog: len(catalog) == 2)
    for catalog in catalogs:
        catalog.close()


class Subscriber:
    """What Tiled's stream tells of a catalogue: its new runs, and all that is in them, as each comes."""

    def __init__(self, catalog: Any) -> None:
        self.children: list[str] = []
        self.metadata: dict[str, Any] = {}
        self.frames: list[np.ndarray] = []
        self.rows: list[Any] = []
        self._subscriptions: list[Any] = []
        self._follow(catalog, start=None)

    def close(self) -> None:
        for subscription in reversed(self._subscriptions):
            subscription.disconnect()

    def _follow(self, node: Any, *, start: int | None) -> None:
        subscription = node.subscribe()
        self._subscriptions.append(subscription)
        if node.structure_family == "container":
            subscription.child_created.add_callback(self._on_child)
            subscription.child_metadata_updated.add_callback(self._on_metadata)
        elif node.structure_family == "table":
            subscription.new_data.add_callback(self._on_rows)
        elif node.path_parts[-1] == "lunchbox_image":
            subscription.new_data.add_callback(self._on_frames)
        subscription.start_in_thread(start=start)

    def _on_child(self, update: Any) -> None:
        self.children.append(update.key)
        self._follow(update.child(), start=0)

    def _on_metadata(self, update: Any) -> None:
        self.metadata[update.key] = update.metadata

    def _on_rows(self, update: Any) -> None:
        self.rows.extend(update.data()["lunchbox_servo"].tolist())

    def _on_frames(self, update: Any) -> None:
        self.frames.extend(update.data())


# Tiled opens its websocket in a way that the library deprecates.
@pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")
def test_who_subscribes_to_either_is_told_of_a_live_run_as_it_comes(bench: Any) -> None:
    # A reader's key: nobody but its holder makes it, and it makes no other.
    key = bench.command.json("keys", "create", "Subscriber")["key"]
    catalogs = [open_catalog(uri, settings=bench.settings, api_key=key) for uri in bench.servers]
    subscribers = [Subscriber(catalog) for catalog in catalogs]
    with Journal(bench.data_root / JOURNAL_DIR, fsync=False) as journal:
        run = Run(journal, bench.data_root / FRAMES_DIR, seed=50)
        run.begin()
        for points in (1, 2, 3):
            run.point()
            for subscriber in subscribers:
                wait_for(lambda subscriber=subscriber, points=points: len(subscriber.frames) >= points)
        run.end()
    for subscriber in subscribers:
        wait_for(lambda subscriber=subscriber: "stop" in subscriber.metadata.get(run.uid, {}))
        np.testing.assert_array_equal(subscriber.frames, [frame(50, index) for index in range(3)])
        assert subscriber.rows == [0, 1, 2]
        assert subscriber.children[:2] == [run.uid, "primary"]
        assert subscriber.metadata[run.uid]["stop"]["exit_status"] == "success"
        subscriber.close()
    for catalog in catalogs:
        catalog.close()


def test_a_key_opens_both_and_when_revoked_neither(bench: Any) -> None:
    granted = bench.command.json("keys", "create", "Ada")

    def status(uri: str) -> int:
        headers = {"Authorization": f"Apikey {granted['key']}"}
        return httpx.get(f"{uri}/api/v1/metadata/", headers=headers, timeout=30).status_code

    assert [status(uri) for uri in bench.servers] == [200, 200]
    bench.command.json("keys", "revoke", granted["first_eight"])
    time.sleep(1.1)
    assert [status(uri) for uri in bench.servers] == [401, 401]


def test_what_is_wrong_with_a_database_is_told_without_its_password(tmp_path: Path) -> None:
    for setting in ("catalog_uri", "keys_uri"):
        settings = make_settings(tmp_path / setting, **{setting: "postgresql://root:hush-hush@127.0.0.1:9/nothing"})
        with pytest.raises(
            DataRootError, match=rf"root:\*\*\*@127.0.0.1:9/nothing cannot be used.*server.{setting}"
        ) as told:
            CatalogStore.of(settings).create()
        assert "hush" not in str(told.value) + repr(settings) + repr(CatalogStore.of(settings))


@pytest.mark.parametrize(("setting", "value"), [("tables_uri", "mysql://x/y"), ("streaming_uri", "127.0.0.1")])
def test_an_address_of_another_kind_is_refused(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match="not the address of a"):
        make_settings(Path("/nowhere"), **{setting: value})


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    command = CommandLine(tmp_path, config='{"server": {"catalog_uri": "postgresql://root@127.0.0.1:9/x"}}')
    done: subprocess.CompletedProcess[str] = command.run("serve", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("DataRootError: postgresql://root@127.0.0.1:9/x cannot be used")
