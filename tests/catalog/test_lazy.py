"""Lazy arrays read the frames that are touched, and no run is too long for the memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from documents import Run, frame, make_settings

from catalog import handlers, open_catalog
from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.server import Server


@pytest.fixture
def frames_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every frame that a handler of this process reads, in order."""
    read: list[int] = []
    check = handlers._check_chunks

    def counting(dataset: Any, frames: Any, where: str) -> None:
        read.extend(frames)
        check(dataset, frames, where)

    monkeypatch.setattr(handlers, "_check_chunks", counting)
    return read


def test_only_the_frames_that_are_touched_are_read(catalog: Any, served: Any, frames_read: list[int]) -> None:
    data = catalog[served.uids[0]].primary.to_dask()
    images = data["lunchbox_image"]
    assert images.dims == ("time", "y", "x", "channel")
    assert images.attrs["units"] == "counts"
    assert data["lunchbox_servo"].values.tolist() == [0, 1, 2, 3, 4]
    assert frames_read == []
    np.testing.assert_array_equal(images[3].values, frame(0, 3))
    assert frames_read == [3]
    frames_read.clear()
    assert float(images[1:3, 4:6].mean()) == np.mean([frame(0, index)[4:6] for index in (1, 2)])
    assert sorted(frames_read) == [1, 2]
    frames_read.clear()
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(images.values, [frame(0, index) for index in range(5)])
    assert sorted(frames_read) == [0, 1, 2, 3, 4]


def test_one_array_lazily(catalog: Any, served: Any, frames_read: list[int]) -> None:
    array = catalog[served.uids[0]].primary["lunchbox_background"].to_dask()
    assert array.chunks[0] == (1,) * 5
    assert frames_read == []
    np.testing.assert_array_equal(array[::2].compute(), [frame(1, index) for index in (0, 2, 4)])
    assert sorted(frames_read) == [0, 2, 4]


SHAPE = (480, 640, 3)
FEW, MANY = 4, 32


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A short and a long run: gives, by the number of frames, their images, local and over HTTP."""
    data_root = tmp_path_factory.mktemp("long")
    uids = {}
    for count in (FEW, MANY):
        with Journal(data_root / JOURNAL_DIR, fsync=False) as journal:
            run = Run(journal, data_root / FRAMES_DIR, shape=SHAPE)
            run.begin()
            for _ in range(count):
                run.point()
            run.end()
            uids[count] = run.uid
    settings, strangers = make_settings(data_root), make_settings(data_root / "stranger")
    with Server(settings) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        catalogs = {
            "local": open_catalog(server.uri, settings=settings, api_key=server.api_key),
            "http": open_catalog(server.uri, settings=strangers, api_key=server.api_key),
        }
        yield lambda way, count: catalogs[way][uids[count]].primary["lunchbox_image"]
        for catalog in catalogs.values():
            catalog.close()


def one_by_one(images: Any) -> None:
    for index in range(len(images)):
        assert images[index][0, 0, 0] == index % 256


def lazily(images: Any) -> None:
    with dask.config.set(scheduler="synchronous"):
        brightest = images.to_dask().max(axis=(1, 2, 3)).compute()
    assert brightest.tolist() == [255] * len(images)


@pytest.mark.parametrize("way", ["local", "http"])
@pytest.mark.parametrize("walk", [one_by_one, lazily])
def test_memory_does_not_grow_with_the_run(long: Any, way: str, walk: Callable[[Any], None]) -> None:
    def peak(count: int) -> int:
        images = long(way, count)
        images[0]
        tracemalloc.start()
        walk(images)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(FEW)  # imports, and what is kept from the first time on
    frame_bytes = int(np.prod(SHAPE))
    assert peak(MANY) - peak(FEW) < 0.2 * (MANY - FEW) * frame_bytes


def test_writing_a_long_run(tmp_path: Path) -> None:
    """A journal holds nothing of the documents that it has written."""
    journal = Journal(tmp_path, fsync=False)
    run = Run(journal, tmp_path / FRAMES_DIR, shape=(4, 4, 3))
    run.begin()
    run.point()
    tracemalloc.start()
    for _ in range(20):
        run.point()
    first, _ = tracemalloc.get_traced_memory()
    for _ in range(200):
        run.point()
    last, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    run.end()
    assert last - first < 200 * 500, "bytes for each point that was written"
