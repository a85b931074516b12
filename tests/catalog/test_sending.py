"""`lunchbox ingest --to URL`: runs arrive elsewhere once, and the key is nowhere to be read."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command import CommandLine
from documents import Run, frame, make_settings, write_analysis, write_run

from catalog import open_catalog
from catalog.client import CatalogUnavailable
from catalog.ingest import IngestBusy, ingest_lock
from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.sending import Destination, follow_runs, send_runs
from catalog.server import Server
from catalog.store import CatalogStore


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Any]:
    """A server with a data root of its own that may read the frames of `home`, and its catalogue."""
    home = tmp_path / "data"
    settings = make_settings(tmp_path / "archive")
    settings.root_map = {str(home / FRAMES_DIR): str(home / FRAMES_DIR)}
    with Server(settings) as server:
        catalog = open_catalog(server.uri, settings=settings, api_key=server.api_key)
        yield SimpleNamespace(uri=server.uri, key=server.api_key, catalog=catalog, home=home)
        catalog.close()


def test_killed_and_sent_again_each_run_is_there_once(elsewhere: Any, tmp_path: Path) -> None:
    uids = [write_run(elsewhere.home, points=2, seed=number) for number in range(3)]
    fit = write_analysis(elsewhere.home, uids[0])
    lunchbox = CommandLine(tmp_path, environment={"TILED_API_KEY": elsewhere.key})
    process = lunchbox.start("ingest", "--to", elsewhere.uri)
    deadline = time.monotonic() + 60
    while len(elsewhere.catalog.new_variation()) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    said = out + err
    key_file = tmp_path / "key"
    key_file.write_text(f"{elsewhere.key}\n")
    done = CommandLine(tmp_path).json("ingest", "--to", elsewhere.uri, "--key-file", str(key_file))
    assert done["sent"] + done["there_before"] == 4
    assert (done["in_progress"], done["refused"]) == (0, {})
    assert elsewhere.key not in said + str(done)
    settings = make_settings(elsewhere.home)
    again = send_runs(settings, elsewhere.uri, api_key=elsewhere.key)
    assert (again.sent, again.there_before) == (0, 4)
    catalog = elsewhere.catalog.new_variation()
    assert list(catalog) == uids
    assert list(catalog.processed) == [fit]
    for number, uid in enumerate(uids):
        expected = [frame(number, 0), frame(number, 1)]
        np.testing.assert_array_equal(catalog[uid].primary["lunchbox_image"].read(), expected)


def test_a_run_is_followed_while_it_is_recorded(elsewhere: Any) -> None:
    stop = threading.Event()
    arguments = {"api_key": elsewhere.key, "stop": stop}
    thread = threading.Thread(target=follow_runs, args=(make_settings(elsewhere.home), elsewhere.uri), kwargs=arguments)
    run = Run(Journal(elsewhere.home / JOURNAL_DIR), elsewhere.home / FRAMES_DIR, seed=7)
    run.begin()
    run.point()
    thread.start()
    try:
        deadline = time.monotonic() + 60
        images: Any = ()
        while len(images) < 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            try:
                images = elsewhere.catalog[run.uid].primary["lunchbox_image"]
            except (KeyError, AttributeError):
                continue
        assert elsewhere.catalog[run.uid].stop is None
        with pytest.raises(IngestBusy, match="another process"):
            send_runs(make_settings(elsewhere.home), elsewhere.uri, api_key=elsewhere.key)
        run.point()
        run.end()
        finished = elsewhere.catalog.wait_for(run.uid, timeout=60)
        np.testing.assert_array_equal(finished.primary["lunchbox_image"].read(), [frame(7, 0), frame(7, 1)])
    finally:
        stop.set()
        thread.join()


def test_what_is_wrong_is_told_before_anything_is_sent(elsewhere: Any, tmp_path: Path) -> None:
    write_run(elsewhere.home)
    settings = make_settings(elsewhere.home)
    with pytest.raises(CatalogUnavailable, match=r"refuses the key \(401\)"):
        send_runs(settings, elsewhere.uri, api_key="0" * 64)
    with pytest.raises(CatalogUnavailable, match="no Tiled server answers"):
        send_runs(settings, "http://127.0.0.1:9", api_key="0" * 64)
    destination = Destination(CatalogStore.of(settings), elsewhere.uri)
    destination.directory.mkdir(parents=True)
    with ingest_lock(destination), pytest.raises(IngestBusy):
        send_runs(settings, elsewhere.uri, api_key=elsewhere.key)
    done = CommandLine(tmp_path).run("ingest", "--to", elsewhere.uri)
    assert done.returncode == 1
    assert done.stderr.startswith("CatalogUnavailable: no key: put it into TILED_API_KEY")
