"""The checksum is HDF5's own: HDF5 wrote it, or HDF5 checks it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.fletcher32 import ChecksummedChunk


def written_by_hdf5(path: Path, frame: np.ndarray) -> bytes:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("frame", data=frame, chunks=frame.shape, fletcher32=True)
        return bytes(dataset.id.read_direct_chunk((0,) * frame.ndim)[1])


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    values=st.sampled_from([(0, 0), (255, 255), (0, 1), (0, 255)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_chunk_is_what_hdf5_writes(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], values: tuple[int, int], seed: int
) -> None:
    low, high = values
    frame = np.random.default_rng(seed).integers(low, high, shape, dtype="u1", endpoint=True)
    chunk = ChecksummedChunk(frame.size)
    chunk.of(255 - frame)  # of the frame before, nothing is left
    assert bytes(chunk.of(frame)) == written_by_hdf5(tmp_path_factory.mktemp("hdf5") / "frame.h5", frame)


@pytest.mark.parametrize("shape", [(960, 1280, 3), (1080, 1920, 3), (2464, 3280, 3)])
@pytest.mark.parametrize("low", [0, 255])
def test_frames_of_cameras(tmp_path: Path, shape: tuple[int, int, int], low: int) -> None:
    frame = np.random.default_rng(1).integers(low, 255, shape, dtype="u1", endpoint=True)
    assert bytes(ChecksummedChunk(frame.size).of(frame)) == written_by_hdf5(tmp_path / "frame.h5", frame)


def test_hdf5_sees_a_bit_that_changed(tmp_path: Path) -> None:
    frame = np.random.default_rng(2).integers(0, 255, (24, 32, 3), dtype="u1")
    chunk = ChecksummedChunk(frame.size).of(frame)
    with h5py.File(tmp_path / "frame.h5", "w") as file:
        dataset = file.create_dataset("frame", (2, *frame.shape), "u1", chunks=(1, *frame.shape), fletcher32=True)
        dataset.id.write_direct_chunk((0, 0, 0, 0), chunk)
        chunk[1000] ^= 4
        dataset.id.write_direct_chunk((1, 0, 0, 0), chunk)
        assert np.array_equal(dataset[0], frame)
        with pytest.raises(OSError, match="filter returned failure"):
            dataset[1]
