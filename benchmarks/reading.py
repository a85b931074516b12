"""Frames read through the catalogue and through `Scan`, against bare h5py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.acquisition import POINTS
from benchmarks.table import Row, seconds


def rows() -> Iterator[Row]:
    """Record one scan of the simulated bench, then read it in every way; two minutes at most."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _read(Path(folder))


def _read(folder: Path) -> Iterator[Row]:
    from analysis import load_scan
    from catalog import layout, open_catalog
    from catalog.embedded import close_embedded
    from config import load_settings

    settings = load_settings(data_root=folder)
    uid = _record(settings)
    catalog = open_catalog(settings=settings)
    run = catalog.wait_for(uid)
    (path,) = (folder / layout.FRAMES_DIR).rglob("*.h5")

    def bare() -> tuple[np.ndarray, np.ndarray]:
        with h5py.File(path, "r", swmr=True) as file:
            return file[layout.IMAGE][()], file[layout.BACKGROUND][()]

    def bare_frame() -> np.ndarray:
        with h5py.File(path, "r", swmr=True) as file:
            frame: np.ndarray = file[layout.IMAGE][7]
            return frame

    floor = 2 * POINTS / seconds(bare)
    whole = 2 * POINTS / seconds(lambda: catalog[-1].primary.read()["lunchbox_image"].values)
    yield Row("catalog[-1].primary.read()", "frames/s", whole, "bare h5py, all frames", floor)
    array = run["primary"]["lunchbox_image"]
    yield Row("run['primary']['lunchbox_image'][:]", "frames/s", POINTS / seconds(lambda: array[:]), "bare h5py", floor)
    scan = load_scan(uid, catalog)
    frame_floor = 1 / seconds(bare_frame, repeat=10)
    one = 1 / seconds(lambda: scan.images[7], repeat=10)
    yield Row("scan.images[i]", "frames/s", one, "bare h5py, one frame, opened", frame_floor)
    catalog.close()
    close_embedded()


def _record(settings: Any) -> str:
    import os

    from acquisition.ioc.process import IOCProcess

    with IOCProcess(settings.ioc) as ioc:
        os.environ.update(ioc.environment)
        from acquisition.session import angle_scan, open_session

        with open_session(settings) as session:
            return session.run(angle_scan(session.lunchbox, num=POINTS))
