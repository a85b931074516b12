"""Runs into the catalogue, against TiledWriter; and how long after an event a reader has it."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.journals import POINTS, documents, write_journals
from benchmarks.table import Row

RUNS = 1000  # rebuilt
PEER_RUNS = 10  # by a server: it takes hundreds of times longer
EVENTS = 20
GOALS = {0: 200.0, 5: 500.0}  # ms, by the number of readers


def rows() -> Iterator[Row]:
    """Measure; two minutes at most."""
    with tempfile.TemporaryDirectory() as folder:
        peer = _tiled_writer(Path(folder) / "peer")
        theirs = f"TiledWriter, {POINTS} points"
        yield Row("ingest by a server", "runs/s", _by_server(Path(folder) / "server"), theirs, peer)
        yield Row("lunchbox rebuild", "runs/s", _rebuilt(Path(folder) / "bulk"), theirs, peer)
    for readers, goal in GOALS.items():
        with tempfile.TemporaryDirectory() as folder:
            took = _latency(Path(folder), readers)
            yield Row(f"event to readable, median, {readers} readers", "ms", took, "goal", goal)


def _settings(data_root: Path) -> Any:
    from config import load_settings

    return load_settings(data_root=data_root, server={"port": 0})


def _tiled_writer(data_root: Path) -> float:
    """TiledWriter at its default: all rows and frames of a run at its stop."""
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_uri

    from catalog.consolidator import spec_to_mimetype
    from catalog.journal import list_journals, read_journal
    from catalog.server import Server

    with Server(_settings(data_root)) as server:
        assert server.ingester is not None
        server.ingester.caught_up.wait()
        server._stop.set()  # it takes nothing in from here on
        write_journals(data_root, PEER_RUNS)
        client = from_uri(server.uri, api_key=server.api_key)
        began = time.perf_counter()
        for entry in list_journals(data_root / "journal"):
            writer = TiledWriter(client, spec_to_mimetype=spec_to_mimetype())
            for name, doc in read_journal(entry.path):
                writer(name, doc)
        took = time.perf_counter() - began
        client.context.close()
    return PEER_RUNS / took


def _by_server(data_root: Path) -> float:
    from catalog.rebuild import rebuild

    write_journals(data_root, PEER_RUNS)
    began = time.perf_counter()
    with_start = rebuild(_settings(data_root), bulk=False)
    assert with_start.by_server == PEER_RUNS
    took = time.perf_counter() - began
    # The server's start is no part of what a run takes.
    empty = data_root.with_name("empty")
    write_journals(empty, 1)
    began = time.perf_counter()
    rebuild(_settings(empty), bulk=False)
    return (PEER_RUNS - 1) / max(took - (time.perf_counter() - began), 1e-3)


def _rebuilt(data_root: Path) -> float:
    from catalog.rebuild import rebuild

    write_journals(data_root, RUNS)
    done = rebuild(_settings(data_root))
    assert (done.runs, done.by_server) == (RUNS, 0)
    return done.runs_per_second


def _latency(data_root: Path, readers: int) -> float:
    """Median, ms, from the journal's return to the moment when a client that asks sees the event's frame."""
    from catalog.journal import Journal
    from catalog.server import Server

    with Server(_settings(data_root)) as server:
        assert server.ingester is not None
        server.ingester.caught_up.wait()
        headers = {"Authorization": f"Apikey {server.api_key}"}
        stop = threading.Event()
        threads = [
            threading.Thread(target=_read, args=(server.uri, headers, stop, np.random.default_rng(number)))
            for number in range(readers)
        ]
        for thread in threads:
            thread.start()
        documents = _one_run(data_root)
        uid = documents[0][1]["uid"]
        delays = []
        with httpx.Client(base_url=f"{server.uri}/api/v1", headers=headers, timeout=60) as http:
            journal = Journal(data_root / "journal")
            for name, doc in documents:
                journal(name, doc)
                if name == "event":
                    began = time.perf_counter()
                    _wait(http, f"/metadata/{uid}/primary/lunchbox_background", doc["seq_num"])
                    delays.append(time.perf_counter() - began)
        stop.set()
        for thread in threads:
            thread.join()
    return statistics.median(delays[1:]) * 1e3


def _one_run(data_root: Path) -> list[tuple[str, dict[str, Any]]]:
    return list(documents(data_root, EVENTS))


def _wait(http: httpx.Client, path: str, count: int) -> None:
    while True:
        answer = http.get(path)
        found = answer.json()["data"]["attributes"]["structure"]["shape"][0] if answer.is_success else 0
        if found >= count:
            return
        time.sleep(0.01)


def _read(uri: str, headers: dict[str, str], stop: threading.Event, dice: np.random.Generator) -> None:
    """A reader that looks at the list of runs and at the newest one, again and again."""
    with httpx.Client(base_url=f"{uri}/api/v1", headers=headers, timeout=60) as http:
        while not stop.is_set():
            found = http.get("/search/", params={"page[limit]": 5, "sort": "-"}).json()["data"]
            for item in found[:1]:
                http.get(f"/metadata/{item['id']}/primary")
            stop.wait(dice.uniform(0.02, 0.1))
