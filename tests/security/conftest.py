"""A server beside a secret: a frame file and a text outside its data root, whose bytes nobody may get."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from documents import SHAPE, make_settings, write_run
from tiled.client import from_uri
from traps import CANARY


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`server`, `root` (client with its own key), `frames`, `uid` of a good run, `secret` (folder)."""
    from catalog.server import Server

    folder = tmp_path_factory.mktemp("place")
    secret = folder / "secret"
    secret.mkdir()
    pixels = np.frombuffer(CANARY * (int(np.prod(SHAPE)) // len(CANARY)), "u1").reshape(1, *SHAPE)
    with h5py.File(secret / "frames.h5", "w") as file:
        file.create_dataset("data", data=pixels, chunks=(1, *SHAPE), maxshape=(None, *SHAPE))
    (secret / "notes.csv").write_bytes(b"a,b\n" + CANARY + b"," + CANARY + b"\n")
    np.save(secret / "array.npy", pixels)
    import zarr

    zarr.save_array(str(secret / "array.zarr"), pixels, zarr_format=2)

    data_root = folder / "data"
    uid = write_run(data_root, points=2)
    frames = data_root / "frames"
    (frames / "link.h5").symlink_to(secret / "frames.h5")
    (frames / "link.csv").symlink_to(secret / "notes.csv")
    (frames / "out").symlink_to(secret)
    settings = make_settings(data_root)
    with Server(settings) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        root = from_uri(server.uri, api_key=server.api_key)
        yield SimpleNamespace(server=server, settings=settings, root=root, frames=frames, uid=uid, secret=secret)
        root.context.close()
