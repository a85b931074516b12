"""HDF5 files that would give bytes of other files away, or memory, if they were read before they are looked at."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from documents import SHAPE

#: What stands in files outside; no frame of the tests and no message of the program has it.
CANARY = b"canary-7f3a91c2-"

SECRET = b"not for you: " + bytes(range(256)) * 12


def external_link(file: h5py.File, outside: Path) -> None:
    with h5py.File(outside.with_suffix(".h5"), "w") as other:
        other["data"] = np.zeros((2, *SHAPE), "u1")
    file["data"] = h5py.ExternalLink(str(outside.with_suffix(".h5")), "data")


def soft_link(file: h5py.File, outside: Path) -> None:
    external_link(file, outside)
    file.move("data", "out")
    file["data"] = h5py.SoftLink("/out")


def soft_link_cycle(file: h5py.File, outside: Path) -> None:
    file["data"] = h5py.SoftLink("/data")


def virtual_dataset(file: h5py.File, outside: Path) -> None:
    layout = h5py.VirtualLayout((2, *SHAPE), "u1")
    layout[:] = h5py.VirtualSource(str(outside.with_suffix(".h5")), "data", (2, *SHAPE))
    file.create_virtual_dataset("data", layout)


def external_storage(file: h5py.File, outside: Path) -> None:
    file.create_dataset("data", (1, *SHAPE), "u1", external=[(str(outside), 0, h5py.h5f.UNLIMITED)])


def huge_chunk(file: h5py.File, outside: Path) -> None:
    size = 30_000
    file.create_dataset("data", (1, size, size, 3), "u1", chunks=(1, size, size, 3), compression="gzip")


def wrong_type(file: h5py.File, outside: Path) -> None:
    file.create_dataset("data", (1, *SHAPE), "f8", chunks=(1, *SHAPE))


def wrong_rank(file: h5py.File, outside: Path) -> None:
    file.create_dataset("data", (1, 8), "u1", chunks=(1, 8))


def contiguous(file: h5py.File, outside: Path) -> None:
    file.create_dataset("data", (1, *SHAPE), "u1")


def unknown_filter(file: h5py.File, outside: Path) -> None:
    file.create_dataset("data", (1, *SHAPE), "u1", chunks=(1, *SHAPE), scaleoffset=3)


def group(file: h5py.File, outside: Path) -> None:
    file.create_group("data")


def nothing(file: h5py.File, outside: Path) -> None:
    pass


TRAPS: list[Callable[[h5py.File, Path], None]] = [
    external_link,
    soft_link,
    soft_link_cycle,
    virtual_dataset,
    external_storage,
    huge_chunk,
    wrong_type,
    wrong_rank,
    contiguous,
    unknown_filter,
    group,
    nothing,
]

#: What the bombs below would take, bytes; a chunk has 2304.
INFLATED = 400_000_000


def _bomb(path: Path, chunk: bytes, **filters: Any) -> None:
    with h5py.File(path, "x") as file:
        dataset = file.create_dataset("data", (1, *SHAPE), "u1", chunks=(1, *SHAPE), **filters)
        dataset.id.write_direct_chunk((0, 0, 0, 0), chunk)


def deflate_bomb(path: Path) -> None:
    compressor = zlib.compressobj(9)
    piece = bytes(1_000_000)
    chunk = b"".join(compressor.compress(piece) for _ in range(INFLATED // len(piece))) + compressor.flush()
    _bomb(path, chunk, compression="gzip")


def lz4_bomb(path: Path) -> None:
    import hdf5plugin

    _bomb(path, struct.pack(">QII", INFLATED, INFLATED, 100) + bytes(100), **hdf5plugin.LZ4())


def bitshuffle_bomb(path: Path) -> None:
    import hdf5plugin

    _bomb(path, struct.pack(">QI", INFLATED, 8192) + bytes(100), **hdf5plugin.Bitshuffle())


def zstd_bomb(path: Path) -> None:
    import hdf5plugin

    # One segment, size of the content in eight bytes; then blocks of one byte, repeated.
    block = struct.pack("<I", (131072 << 3) | 2)[:3] + b"\0"
    last = struct.pack("<I", (131072 << 3) | 3)[:3] + b"\0"
    content = block * (INFLATED // 131072 - 1) + last
    size = INFLATED // 131072 * 131072
    _bomb(path, b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + content, **hdf5plugin.Zstd())


def stored_bomb(path: Path) -> None:
    """A chunk that takes more in the file than it has; no filter."""
    _bomb(path, bytes(1_000_000), fletcher32=True)


BOMBS = [deflate_bomb, lz4_bomb, bitshuffle_bomb, zstd_bomb, stored_bomb]
