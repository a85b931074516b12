"""HDF5 filters that may be run on a file that comes from outside, and how much they may put into memory.

A filter believes what a chunk says about itself: 3 MB that claim, or inflate to, 3 GB take 3 GB. So only filters whose
result can be told beforehand are allowed, and it is compared with the size of a chunk before HDF5 sees it.
"""

from __future__ import annotations

import contextlib
import math
import os
import zlib
from collections.abc import Callable
from typing import Any

import h5py

from catalog.errors import FrameIntegrityError

_FLETCHER32 = 3
_SUM_BYTES = 4  # of fletcher32, at the end of a chunk
_ORDER_ONLY = {2: "shuffle", _FLETCHER32: "fletcher32"}


def _by_header(chunk: bytes, limit: int) -> int:
    """lz4 and bitshuffle: eight bytes, the highest first."""
    return int.from_bytes(chunk[:8], "big") if len(chunk) >= 8 else limit + 1


def _by_zstd_frame(chunk: bytes, limit: int) -> int:
    """zstd: RFC 8878, 3.1.1.1; a frame that does not tell its size is as good as one that is too large."""
    if len(chunk) < 6 or chunk[:4] != b"\x28\xb5\x2f\xfd":
        return limit + 1
    descriptor = chunk[4]
    single_segment, dictionary = bool(descriptor & 0x20), (0, 1, 2, 4)[descriptor & 3]
    size = (int(single_segment), 2, 4, 8)[descriptor >> 6]
    begin = 5 + int(not single_segment) + dictionary
    told = chunk[begin : begin + size]
    if not size or len(told) < size:
        return limit + 1
    return int.from_bytes(told, "little") + (256 if size == 2 else 0)


def _by_inflating(chunk: bytes, limit: int) -> int:
    """deflate tells nothing: inflate, and stop where it becomes too much."""
    try:
        return len(zlib.decompressobj().decompress(chunk, limit + 1))
    except zlib.error:
        return 0  # damaged: HDF5 will say so


#: number -> (name, bytes that a chunk would take, at most limit + 1)
_COMPRESSORS: dict[int, tuple[str, Callable[[bytes, int], int]]] = {
    1: ("deflate", _by_inflating),
    32004: ("lz4", _by_header),
    32008: ("bitshuffle", _by_header),
    32015: ("zstd", _by_zstd_frame),
}

#: Filters that may be run: number -> name.
ALLOWED_FILTERS = {**_ORDER_ONLY, **{number: name for number, (name, _) in _COMPRESSORS.items()}}

_HEADER_BYTES = 32


class Inflation:
    """What the filters of a dataset make of its chunks.

    FrameIntegrityError if one of them is not allowed or not installed, or if two compress.
    """

    def __init__(self, dataset: h5py.Dataset, where: str) -> None:
        layout = dataset.id.get_create_plist()
        filters = [layout.get_filter(index) for index in range(layout.get_nfilters())]
        self._where = where
        self._limit = math.prod(dataset.chunks) * dataset.dtype.itemsize + _SUM_BYTES
        self._numbers = [number for number, *_ in filters]
        self._compressor: int | None = None
        self._last = len(filters)
        for index, (number, _, values, _) in enumerate(filters):
            _check_filter(number, where)
            if number in _ORDER_ONLY or (number == 32008 and len(values) > 4 and values[4] == 0):
                continue  # as many bytes as before
            if self._compressor is not None:
                raise FrameIntegrityError(f"{where} is compressed twice; it is refused.")
            if any(later != _FLETCHER32 for later in self._numbers[index + 1 :]):
                raise FrameIntegrityError(f"{where} is shuffled after it was compressed; it is refused.")
            self._compressor, self._last = number, index

    def check(self, descriptor: int, info: Any, frame: int) -> None:
        """FrameIntegrityError if the chunk of this `info` (h5py's) holds, or would take, more than a chunk has."""
        if info.size > self._limit + (self._limit >> 4) + 1024:
            raise FrameIntegrityError(
                f"{self._where}: frame {frame} takes {info.size} bytes in the file, and has {self._limit} at most."
            )
        if self._compressor is None or info.filter_mask & (1 << self._last):
            return
        name, told = _COMPRESSORS[self._compressor]
        length = info.size if self._compressor == 1 else min(info.size, _HEADER_BYTES)
        size = told(os.pread(descriptor, length, info.byte_offset), self._limit)
        if size > self._limit:
            raise FrameIntegrityError(
                f"{self._where}: frame {frame} would inflate ({name}) to more than the {self._limit} bytes that a "
                f"chunk has; it is refused."
            )


def _check_filter(number: int, where: str) -> None:
    if number not in ALLOWED_FILTERS:
        raise FrameIntegrityError(
            f"{where} needs HDF5 filter {number}, which is not one of {', '.join(ALLOWED_FILTERS.values())}; "
            f"it is refused."
        )
    if not h5py.h5z.filter_avail(number):
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  registers its filters
    if not h5py.h5z.filter_avail(number):
        raise FrameIntegrityError(
            f"{where} is compressed with {ALLOWED_FILTERS[number]}, which this installation lacks: "
            f"pip install hdf5plugin."
        )
