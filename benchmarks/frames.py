"""Frames of 1280 x 960 x 3, local and over HTTP, against bare h5py and the stock Tiled client.

The server is a process of its own, as `lunchbox serve` is.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
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

        one, bulk = seconds(lambda: get("7"), repeat=10) * 1e3, 8 * MEGABYTES / seconds(lambda: get("0:8"), repeat=5)
        with _bare_server() as bare_uri:
            floor = seconds(lambda: http.get(bare_uri, params={"frames": 1}).content, repeat=10) * 1e3
            bulk_floor = 8 * MEGABYTES / seconds(lambda: http.get(bare_uri, params={"frames": 8}).content, repeat=5)
        yield Row("over HTTP, one frame, stock client", "ms", stock_one, "goal", 27.0)
        yield Row("over HTTP, one frame, bare request", "ms", one, "goal", 27.0)
        yield Row("over HTTP, one frame, bare request", "ms", one, "uvicorn, ready bytes", floor)
        yield Row("over HTTP, 8 frames a request", "MB/s", bulk, "goal", 350.0)
        yield Row("over HTTP, 8 frames a request", "MB/s", bulk, "uvicorn, ready bytes", bulk_floor)
    yield from _stages(path, floor, one)
    catalog.close()
    stock.context.close()


def _stages(path: Path, transport: float, whole: float) -> Iterator[Row]:
    """Where the time of one frame over HTTP goes, as bytes/s of each stage alone."""
    from catalog.handlers import LunchBoxHDF5Handler

    handler = LunchBoxHDF5Handler(path, dataset=layout.IMAGE)
    read = seconds(lambda: handler(frame=FRAME), repeat=20) * 1e3
    frame = handler(frame=FRAME)
    to_bytes = seconds(lambda: frame.tobytes(), repeat=20) * 1e3
    stages = {
        "read by the audited handler": read,
        "made bytes of": to_bytes,
        "sent and received": transport,
        "Tiled's routing, lookup, access": whole - read - to_bytes - transport,
    }
    for name, took in stages.items():
        yield Row(f"- {name}", "MB/s", MEGABYTES / max(took, 1e-3) * 1e3, "of the whole, ms", took)


@contextlib.contextmanager
def _bare_server() -> Iterator[str]:
    """Address of a process that answers `?frames=n` with so many frames' ready bytes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    process = get_context("spawn").Process(target=_serve_bytes, args=(port,), daemon=True)
    process.start()
    try:
        uri = f"http://127.0.0.1:{port}/"
        while True:
            with contextlib.suppress(httpx.ConnectError):
                httpx.get(uri, params={"frames": 0})
                break
            time.sleep(0.05)
        yield uri
    finally:
        process.terminate()
        process.join()


def _serve_bytes(port: int) -> None:
    import uvicorn

    body = bytes(8 * int(np.prod(SHAPE)))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        count = int(scope["query_string"].partition(b"=")[2])
        answer = body[: count * int(np.prod(SHAPE))]
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off")
