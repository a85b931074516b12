"""The HDF5 file that is being written: one per stage, one chunk per frame, readable while it grows.

Nothing here knows ophyd. The layout is `catalog.layout`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import h5py
import numpy as np

from acquisition.camera import Exposure
from acquisition.fletcher32 import ChecksummedChunk
from catalog import layout
from catalog.disk import Reserve
from catalog.errors import DataRootError, LunchBoxError
from catalog.setup import Setup

_METADATA = 1 << 20
#: Bytes that frames leave free on the disk: for the documents that close the run, and whatever else must go on.
RESERVE = 4 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_DATASETS = (
    layout.IMAGE,
    layout.BACKGROUND,
    layout.TIMESTAMP,
    layout.BACKGROUND_TIMESTAMP,
    layout.COUNT_TIME,
    layout.SERVO,
)

Compression = Literal["none", "lz4", "zstd"]
#: When the laser is turned off for a frame without it: at each point, at the first one only, or never.
Background = Literal["each", "first", "none"]


class CompressionUnavailable(LunchBoxError, ImportError):
    """The configured compression needs a package that is not installed."""


@cache
def _keep_freed_memory() -> None:
    """Let the C library keep a frame's memory when it is freed.

    Pages that go back to the kernel and are asked for again each time cost about as much as the checksum: 3.5 to 4.7 ms
    of processor time per pair of frames in place of 3, and with LZ4, for which HDF5 allocates a frame at each step of
    its filters, 8.8 in place of 6.3.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library has its own ways
        libc = ctypes.CDLL(None)
        for parameter, size in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 128 << 20)):
            libc.mallopt(parameter, size)


def new_frame_path(frames_dir: Path) -> Path:
    """A path that no file has yet: `YYYY/MM/DD/<uuid>.h5` below `frames_dir`, in UTC."""
    return frames_dir / datetime.now(UTC).strftime("%Y/%m/%d") / f"{uuid4()}.h5"


class FrameFile:
    """A SWMR NeXus file that grows by one pair of frames at a time.

    Parameters
    ----------
    path
        Must not exist; its folder is made.
    shape
        (y, x, channel) of one frame, u1.
    setup
        Recorded for whoever opens the file without the catalogue.
    background
        How many backgrounds there will be: one for each image, one for all, or none.
    points
        How many pairs are planned; 0 where nobody knows.
    compression, checksum, fsync
        See `acquisition.settings.FileSettings`.

    Raises
    ------
    DataRootError
        The file cannot be made: read-only, a path that is not a folder, or no room for what is planned.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: tuple[int, int, int],
        setup: Setup,
        background: Background = "each",
        points: int = 0,
        compression: Compression = "none",
        checksum: bool = True,
        fsync: bool = True,
    ) -> None:
        _keep_freed_memory()
        self.path = path
        self.n_frames = 0
        self.n_backgrounds = 0
        self._fsync = fsync
        # What one `append` may need at most: incompressible frames, their indices, and what `close` writes.
        filters = _filters(compression)
        self._need = 2 * int(np.prod(shape)) + _METADATA
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Compressed frames are smaller, by how much nobody knows yet.
            if compression == "none":
                _require_room(path, planned_bytes(shape, points=points, background=background))
            self._file = h5py.File(path, "x", libver="latest")
        except OSError as error:
            raise _refused(path, error) from error
        self._fd = os.open(path, os.O_RDWR)
        self._datasets: dict[str, h5py.h5d.DatasetID] = {}
        try:
            self._reserve()
        except OSError as error:
            self.close()
            raise _refused(path, error) from error
        frames: dict[str, Any] = {
            "maxshape": (None, *shape),
            "chunks": (1, *shape),
            "fletcher32": checksum,
            **filters,
        }
        _lay_out(self._file, shape=shape, setup=setup, background=background, frames=frames)
        # SWMR begins only once every dataset and attribute exists: HDF5 allows no new ones after it.
        self._file.swmr_mode = True
        # Held open: HDF5 hides what goes wrong when a dataset is closed.
        self._datasets = {name: self._file[name].id for name in _DATASETS}
        #: A frame as HDF5 has it on the disk; None where that is HDF5's own affair.
        self._chunk_of: Callable[[Any], Any] | None = None
        if compression == "none":
            self._chunk_of = ChecksummedChunk(int(np.prod(shape))).of if checksum else np.ascontiguousarray

    def append(self, image: Exposure, background: Exposure | None = None, *, servo: float) -> int:
        """Add an image, and the background that was taken for it; another process can then read them.

        Returns
        -------
        int
            Index of the image, from 0. The background is the last of `n_backgrounds`.

        Raises
        ------
        DataRootError
            The disk refused it; earlier frames stay readable.
        """
        index = self.n_frames
        values: dict[str, tuple[int, Any]] = {
            layout.IMAGE: (index, image.data),
            layout.TIMESTAMP: (index, image.timestamp),
            layout.COUNT_TIME: (index, image.count_time),
            layout.SERVO: (index, servo),
        }
        if background is not None:
            values[layout.BACKGROUND] = (self.n_backgrounds, background.data)
            values[layout.BACKGROUND_TIMESTAMP] = (self.n_backgrounds, background.timestamp)
        try:
            self._reserve()
            for name, (row, value) in values.items():
                dataset = self._datasets[name]
                dataset.set_extent((row + 1, *np.shape(value)))
                if self._chunk_of is not None and np.ndim(value):
                    dataset.write_direct_chunk((row, 0, 0, 0), self._chunk_of(value))
                else:
                    _write(dataset, row, value)
            self._file.flush()
            if self._fsync:
                os.fsync(self._fd)
        except (OSError, RuntimeError) as error:
            raise _refused(self.path, error) from error
        self.n_frames += 1
        self.n_backgrounds += background is not None
        return index

    def shortage(self) -> str:
        """What the disk lacks for the next pair, in words; empty where there is room.

        Raises
        ------
        DataRootError
            It has no room even for documents: it would be too late to wait.
        """
        free, need = shutil.disk_usage(self.path.parent).free, self._need + RESERVE
        if free < Reserve.SIZE:
            raise _refused(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        if free >= need:
            return ""
        return f"{self.path.parent}: {free} bytes are free, and the next frames need {need}"

    def close(self) -> None:
        """Close; a second call does nothing. A file without a frame is removed: no document names it."""
        if self._file:
            self._datasets.clear()
            os.ftruncate(self._fd, self._file.id.get_filesize())
            self._file.close()
            os.close(self._fd)
            if not self.n_frames:
                self.path.unlink(missing_ok=True)

    def _reserve(self) -> None:
        # Taken from the disk before HDF5 writes: a library that runs out of space half-way through a write says so to
        # nobody, and crashes when it closes the file.
        _require_room(self.path, self._need)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, self._file.id.get_filesize(), self._need)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def planned_bytes(shape: tuple[int, int, int], *, points: int, background: Background = "each") -> int:
    """Bytes of a file of `points` uncompressed pairs of frames."""
    backgrounds = {"each": points, "first": min(points, 1), "none": 0}[background]
    return (points + backgrounds) * int(np.prod(shape)) + _METADATA


def _write(dataset: h5py.h5d.DatasetID, row: int, value: Any) -> None:
    """`dataset[row] = value` in a fifth of its time, which counts beside a RunEngine in the same interpreter."""
    value = np.ascontiguousarray(value)  # of at least one dimension
    rows = dataset.get_space()
    rows.select_hyperslab((row, *[0] * (rows.get_simple_extent_ndims() - 1)), (1, *rows.get_simple_extent_dims()[1:]))
    dataset.write(h5py.h5s.create_simple(value.shape), rows, value)


def _require_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size + RESERVE:
        need = f"{size / 1e6:.0f} MB are needed, and {RESERVE / 1e6:.0f} MB more are kept free for the documents"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}; {need}")


def _filters(compression: Compression) -> dict[str, Any]:
    if compression == "none":
        return {}
    try:
        import hdf5plugin
    except ImportError as error:
        raise CompressionUnavailable(
            f"compression {compression} needs the package hdf5plugin: pip install 'lunchbox[compression]', or set "
            "acquisition.files.compression to none."
        ) from error
    return dict(hdf5plugin.Bitshuffle(cname="lz4" if compression == "lz4" else "zstd"))


def _refused(path: Path, error: Exception) -> DataRootError:
    existing = next(folder for folder in path.parents if folder.exists())
    free = shutil.disk_usage(existing).free
    reason = getattr(error, "strerror", None) or str(error)
    return DataRootError(
        f"{path}: cannot be written: {reason} ({free / 1e6:.0f} MB free in {existing}). "
        "Free some space, or set data_root (LUNCHBOX_DATA_ROOT) to a folder that can be written."
    )


def _lay_out(
    file: h5py.File, *, shape: tuple[int, int, int], setup: Setup, background: Background, frames: dict[str, Any]
) -> None:
    entry = _group(file, layout.ENTRY, "NXentry", default="data")
    instrument = _group(entry, "instrument", "NXinstrument")
    detector = _group(instrument, "detector", "NXdetector")
    detector["distance"] = setup.screen_distance
    detector["distance"].attrs["units"] = "m"
    source = _group(instrument, "source", "NXsource", type="Optical Laser")
    source["wavelength"] = setup.wavelength
    source["wavelength"].attrs["units"] = "m"
    grating = _group(instrument, "grating", "NXgrating")
    grating["period"] = setup.grating_period
    grating["period"].attrs["units"] = "m"
    _group(instrument, "servo", "NXpositioner")
    for name in (layout.IMAGE, layout.BACKGROUND):
        dataset = file.create_dataset(name, shape=(0, *shape), dtype="u1", **frames)
        dataset.attrs.update({"units": "counts", "interpretation": "rgb-image"})
    file[layout.BACKGROUND].attrs["taken"] = background
    for name, units in (
        (layout.TIMESTAMP, "s"),
        (layout.BACKGROUND_TIMESTAMP, "s"),
        (layout.COUNT_TIME, "s"),
        (layout.SERVO, "degree"),
    ):
        dataset = file.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(512,), dtype="f8")
        dataset.attrs["units"] = units
    data = _group(entry, "data", "NXdata", signal="image", axes=["servo", ".", ".", "."])
    for link, target in (
        ("image", layout.IMAGE),
        ("background", layout.BACKGROUND),
        ("servo", layout.SERVO),
        ("timestamp", layout.TIMESTAMP),
    ):
        data[link] = h5py.SoftLink(target)
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "LunchBox"})


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    group.attrs.update(attributes)
    return group
