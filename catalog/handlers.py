"""The one reader of frame files, and the registry by which everybody finds it.

`event_model.Filler`, the Tiled adapter, local reads of the client and databroker's MongoAdapter all look the handler
of a resource's spec up here (`handler_for`, `handler_registry`) and call it with the datum's keywords.

A file is opened for each read and closed after it, by one thread of this process at a time. Both matter: HDF5 shares
the metadata of a file among all who have it open in a process, so a refresh by one thread while another reads gives
frames of the wrong index, silently.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from catalog.errors import FrameIntegrityError as FrameIntegrityError
from catalog.errors import LunchBoxError
from catalog.filters import Inflation
from catalog.layout import FRAME_DIMS, SPEC
from catalog.paths import DataNotAccessible, FrameRoots, regular_file

#: The largest chunk that is inflated, bytes; a 100-megapixel colour frame fits.
MAX_CHUNK_BYTES = 512 * 1024 * 1024

#: The structure of a frame file lies within its first bytes; one that ends before holds no frame.
_STRUCTURE_BYTES = 13 << 10

_ENTRY_POINTS = "databroker.handlers"


class LunchBoxHDF5Handler:
    """Frames of one dataset of a frame file, which may be growing.

    Parameters
    ----------
    path : file, complete.
    dataset : path of a dataset of shape (n_frame, y, x, channel), u1, counts.
    chunk_shape : how many frames a reader should take at a time; for Tiled, not used here.

    ``handler(frame=i)`` is frame i, shape (y, x, channel); ``handler.read(slice)`` takes what numpy takes. Of a file
    that is being written, the frames that a datum names are complete; one that comes after them may be on its way.
    """

    specs = frozenset({SPEC})

    def __init__(
        self, path: str | os.PathLike[str], *, dataset: str, chunk_shape: tuple[int, ...] | None = None
    ) -> None:
        self.path = regular_file(path)
        self.dataset = _checked_name(dataset)
        self.chunk_shape = chunk_shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, dataset={self.dataset!r})"

    def __call__(self, *, frame: int) -> NDArray[np.uint8]:
        """Frame of index `frame`, shape (y, x, channel)."""
        with self._opened() as dataset:
            if not 0 <= frame < len(dataset):
                raise FrameIntegrityError(f"{self._where}: frame {frame} was asked for, {len(dataset)} are there.")
            return self._read(dataset, (int(frame),))

    def read(self, key: Any = ()) -> NDArray[np.uint8]:
        """Frames by any numpy index of (n_frame, y, x, channel)."""
        with self._opened() as dataset:
            return self._read(dataset, key)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_frame, y, x, channel), as the file has it now."""
        with self._opened() as dataset:
            return tuple(dataset.shape)

    @property
    def _where(self) -> str:
        return f"{self.path}:{self.dataset}"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[h5py.Dataset]:
        with _lock_of(self.path):
            _refuse_stump(self.path)
            # The handle that is audited is the one that is read: nothing is exchanged in between.
            try:
                file = h5py.File(self.path, "r", swmr=True, libver="latest")
            except FileNotFoundError:
                regular_file(self.path)
                raise
            except (OSError, RuntimeError) as error:
                raise FrameIntegrityError(f"{self.path} is no readable HDF5 file ({_first_line(error)}).") from error
            try:
                with file:
                    yield _audited(file, self.dataset, self._where)
            except LunchBoxError:
                raise
            except (OSError, RuntimeError, KeyError) as error:
                raise FrameIntegrityError(
                    f"{self._where} cannot be read ({_first_line(error)}): the file is damaged. "
                    f"Restore it from a copy; other runs are not affected."
                ) from error

    def _read(self, dataset: h5py.Dataset, key: Any) -> NDArray[np.uint8]:
        frames = _frame_indices(key, len(dataset))
        _check_chunks(dataset, frames, self._where)
        return dataset[key]


def _refuse_stump(path: Path) -> None:
    """FrameIntegrityError for a file that was cut off within its structure.

    HDF5 would look for the rest of it again and again, for minutes: a writer might be about to write it.
    """
    try:
        with path.open("rb") as file:
            head, size = file.read(36), os.fstat(file.fileno()).st_size
    except OSError:
        return  # said better by whoever opens it next
    # Version 3 of HDF5's superblock, of files that are written while they are read; where the file should end.
    if head.startswith(b"\x89HDF\r\n\x1a\n\x03\x08\x08") and size < _STRUCTURE_BYTES:
        end = int.from_bytes(head[28:36], "little")
        if size < end:
            raise FrameIntegrityError(
                f"{path} ends at byte {size} of {end}, before its first frame: it is truncated. Restore it from a copy."
            )


def _checked_name(dataset: str) -> str:
    parts = dataset.strip("/").split("/")
    if "\0" in dataset or any(part in {"", ".", ".."} for part in parts):
        raise FrameIntegrityError(f"{dataset!r} is not the path of a dataset.")
    return "/" + "/".join(parts)


def _audited(file: h5py.File, name: str, where: str) -> h5py.Dataset:
    """The dataset, reached through hard links only, and stored in this file only."""
    # What is not on the way to the dataset is not touched, so it need not be looked at.
    group: Any = file
    for part in name.strip("/").split("/"):
        try:
            link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        except TypeError as error:  # a link of a kind that h5py does not know
            raise FrameIntegrityError(f"{where} is reached through {part!r}, {_first_line(error)}.") from error
        if link is None:
            raise FrameIntegrityError(f"{where} is not in the file.")
        if not isinstance(link, h5py.HardLink):
            kind = type(link).__name__
            raise FrameIntegrityError(f"{where} is reached through {kind} {part!r}, which may lead out of the file.")
        group = group[part]
    dataset = group
    if not isinstance(dataset, h5py.Dataset):
        raise FrameIntegrityError(f"{where} is a group, not a dataset.")
    layout = dataset.id.get_create_plist()
    if dataset.is_virtual or dataset.external:
        raise FrameIntegrityError(f"{where} is kept in other files (virtual or external storage); it is refused.")
    if layout.get_layout() != h5py.h5d.CHUNKED:
        raise FrameIntegrityError(f"{where} is not chunked; LunchBox writes one chunk per frame.")
    if dataset.dtype != np.uint8 or dataset.ndim != 1 + len(FRAME_DIMS):
        raise FrameIntegrityError(
            f"{where} has shape {dataset.shape} and type {dataset.dtype}; frames are (n, y, x, channel) of u1."
        )
    if math.prod(dataset.chunks) > MAX_CHUNK_BYTES:
        raise FrameIntegrityError(f"{where} has chunks of {dataset.chunks}, more than {MAX_CHUNK_BYTES} bytes.")
    return dataset


def _frame_indices(key: Any, length: int) -> range | list[int]:
    """Frames that `dataset[key]` touches."""
    first = key[0] if isinstance(key, tuple) and key else key
    if first is Ellipsis or (isinstance(first, tuple) and not first):
        return range(length)
    if isinstance(first, slice):
        return range(length)[first]
    if isinstance(first, int | np.integer):
        return [int(first) + (length if first < 0 else 0)]
    return [int(index) for index in np.arange(length)[np.asarray(first)]]


def _check_chunks(dataset: h5py.Dataset, frames: range | list[int], where: str) -> None:
    """FrameIntegrityError if HDF5 would make a chunk up, or put more into memory than a chunk has.

    HDF5 gives zeros for a chunk that was never written, and for one that lies behind the end of a truncated file
    (zeros whose fletcher32 sum is right, too).
    """
    descriptor = dataset.file.id.get_vfd_handle()
    size = os.fstat(descriptor).st_size
    inflation = Inflation(dataset, where)
    per_chunk = dataset.chunks[0]
    corners = [range(0, extent, step) for extent, step in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    for block in dict.fromkeys(frame // per_chunk for frame in frames):
        for y in corners[0]:
            for x in corners[1]:
                for channel in corners[2]:
                    info = dataset.id.get_chunk_info_by_coord((block * per_chunk, y, x, channel))
                    if info.byte_offset is None:
                        raise FrameIntegrityError(f"{where}: frame {block * per_chunk} was never written.")
                    if info.byte_offset + info.size > size:
                        raise FrameIntegrityError(
                            f"{where}: frame {block * per_chunk} ends at byte {info.byte_offset + info.size} and the "
                            f"file at byte {size}: it is truncated. Restore it from a copy; earlier frames are intact."
                        )
                    inflation.check(descriptor, info, block * per_chunk)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


# One lock per file, for as long as somebody uses it. Handlers hold none, so they can be pickled (dask).
_locks: weakref.WeakValueDictionary[str, _FileLock] = weakref.WeakValueDictionary()
_locks_guard = threading.Lock()


class _FileLock:
    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


def _lock_of(path: Path) -> _FileLock:
    with _locks_guard:
        lock = _locks.get(str(path))
        if lock is None:
            lock = _locks[str(path)] = _FileLock()
        return lock


#: Handlers of this process by configuration: spec -> "package.module:Class".
_configured: dict[str, str] = {}


def use_handlers(configured: Mapping[str, str]) -> None:
    """Add handlers by configuration, spec -> "package.module:Class"; they win over entry points, in this process."""
    if SPEC in configured:
        raise DataNotAccessible(f"handlers: {SPEC} has a handler already, which audits its files; choose another spec.")
    _configured.update(configured)
    handler_for.cache_clear()


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=_ENTRY_POINTS)}


def known_specs() -> set[str]:
    """Specs that a handler is installed or configured for."""
    return {SPEC, *_installed(), *_configured}


def handler_origins() -> dict[str, str]:
    """spec -> where its handler comes from, without importing it."""
    installed = {
        spec: f"{entry_point.value} ({entry_point.dist.name if entry_point.dist else 'entry point'})"
        for spec, entry_point in _installed().items()
    }
    configured = {spec: f"{target} (configuration)" for spec, target in _configured.items()}
    own = f"{LunchBoxHDF5Handler.__module__}:{LunchBoxHDF5Handler.__name__} (lunchbox)"
    return {**installed, **configured, SPEC: own}


@cache
def handler_for(spec: str) -> Any:
    """The handler of `spec`, from configuration or the entry points `databroker.handlers`; no other is imported."""
    if spec == SPEC:
        return LunchBoxHDF5Handler
    if spec in _configured:
        module, _, name = _configured[spec].partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise DataNotAccessible(
                f"the handler of spec {spec!r}, {_configured[spec]}, cannot be imported: {error}. "
                f"Correct `handlers` in config/lunchbox.yml."
            ) from error
    if spec not in _installed():
        raise DataNotAccessible(
            f"no handler for spec {spec!r} is installed, so its files cannot be read. Install the package that has it "
            f"in its entry points of group {_ENTRY_POINTS}, or name it under `handlers` in config/lunchbox.yml."
        )
    return _installed()[spec].load()


def handler_registry(roots: FrameRoots | None = None) -> dict[str, Any]:
    """spec -> handler, for `event_model.Filler` and databroker. A new dict at each call.

    With `roots`, a handler opens what lies in them only, and finds what their root map moved.
    """
    registry = {}
    for spec in sorted(known_specs()):
        # Another package's broken handler must not hide ours.
        with contextlib.suppress(ImportError, AttributeError, DataNotAccessible):
            handler = handler_for(spec)
            registry[spec] = handler if roots is None else _contained(handler, roots)
    return registry


def _contained(handler: Any, roots: FrameRoots) -> Any:
    """`handler`, of files inside `roots`."""

    def __init__(self: Any, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:  # noqa: N807
        handler.__init__(self, roots.contained(Path(path)), *args, **kwargs)

    if isinstance(handler, type):  # a class again: Filler makes subclasses of it
        return type(handler.__name__, (handler,), {"__init__": __init__})
    return lambda path, *args, **kwargs: handler(roots.contained(Path(path)), *args, **kwargs)
