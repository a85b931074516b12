"""Frames of 1280 x 960 x 3, local and over HTTP, against bare h5py and the stock Tiled client.

The server is a process of its own, as `lunchbox serve` is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np

from benchmarks.journals import documents
from benchmarks.table import Row, seconds
from catalog import layout

SHAPE = (960, 1280, 3)
POINTS = 46
FRAME = 7
MEGABYTES = int(np.prod(SHAPE)) / 1e6


def rows() -> Iterator[Row]:
    """Read one scan in every way; a minute at most."""
    with tempfile.TemporaryDirectory() as folder:
        data_root = Path(folder)
        _record(data_root)
        command = [sys.executable, "-m", "lunchbox", "serve", "--port", "0", "--json", "--data-root", folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            told = json.loads(server.stdout.readline())
            yield from _read(data_root, told["uri"], Path(told["key_file"]).read_text().strip())
        finally:
            server.terminate()
            server.communicate()


def _record(data_root: Path) -> None:
    from catalog.journal import Journal

    with Journal(data_root / layout.JOURNAL_DIR) as journal:
        for name, doc in documents(data_root, POINTS, shape=SHAPE):
            journal(name, doc)


def _read(data_root: Path, uri: str, key: str) -> Iterator[Row]:
    from tiled.client import from_uri

    from catalog import open_catalog
    from config import load_settings

    catalog = open_catalog(uri, settings=load_settings(data_root=data_root), api_key=key)
    stock = from_uri(uri, api_key=key)
    uid = next(iter(catalog))
    catalog.wait_for(uid)
    held, theirs = catalog[uid].primary["lunchbox_image"], stock[uid]["primary"]["lunchbox_image"]
    (path,) = (data_root / layout.FRAMES_DIR).glob("*.h5")

    def bare(key: Any = (), datasets: tuple[str, ...] = (layout.IMAGE,)) -> list[np.ndarray]:
        with h5py.File(path, "r", swmr=True) as file:
            return [file[dataset][key] for dataset in datasets]

    one = seconds(lambda: held[FRAME], repeat=20) * 1e3
    yield Row("a held array, one frame", "ms", one, "goal", 3.0)
    yield Row("a held array, one frame", "ms", one, "bare h5py, opened", seconds(lambda: bare(FRAME), repeat=20) * 1e3)
    stock_one = seconds(lambda: theirs[FRAME], repeat=10) * 1e3
    yield Row("a held array, one frame", "ms", one, "stock Tiled client", stock_one)
    whole = POINTS * MEGABYTES
    yield Row("a held array, [:]", "MB/s", whole / seconds(lambda: held[:]), "bare h5py", whole / seconds(bare))
    yield Row(
        "a held array, [:]", "MB/s", whole / seconds(lambda: held[:]), "stock", whole / seconds(lambda: theirs[:])
    )
    floor = seconds(lambda: bare(datasets=tuple(layout.FIELDS.values()))) * 1e3
    ours = seconds(lambda: catalog[-1].primary.read(), repeat=5) * 1e3
    yield Row("catalog[-1].primary.read()", "ms", ours, "bare h5py, both arrays", floor)
    yield Row("  over bare h5py", "ms", ours - floor, "goal", 150.0)
    yield Row(
        "catalog[-1].primary.read()",
        "ms",
        ours,
        "stock Tiled client",
        seconds(lambda: stock[uid]["primary"].read()) * 1e3,
    )
    with httpx.Client(headers={"Authorization": f"Apikey {key}", "Accept-Encoding": "identity"}, timeout=60) as http:
        link = f"{uri}/api/v1/array/full/{uid}/primary/lunchbox_image"

        def get(slice_: str) -> bytes:
            answer = http.get(link, params={"slice": slice_}, headers={"Accept": "application/octet-stream"})
            return answer.raise_for_status().content

        yield Row("over HTTP, one frame, stock client", "ms", stock_one, "goal", 27.0)
        yield Row("over HTTP, one frame, bare request", "ms", seconds(lambda: get("7"), repeat=10) * 1e3, "goal", 27.0)
        bulk = 8 * MEGABYTES / seconds(lambda: get("0:8"), repeat=5)
        yield Row("over HTTP, 8 frames a request", "MB/s", bulk, "goal", 350.0)
    catalog.close()
    stock.context.close()
