"""A frame that is read is the frame that was written, or the error says which is not and why."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from documents import SHAPE, FrameFile, frame
from traps import SECRET, TRAPS

from catalog.handlers import FrameIntegrityError, LunchBoxHDF5Handler, handler_for, handler_registry
from catalog.layout import BACKGROUND, IMAGE, SPEC
from catalog.paths import DataNotAccessible

COUNT = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A finished file."""
    file = FrameFile(tmp_path, seed=3)
    for _ in range(COUNT):
        file.append()
    file.close()
    return file.path


def test_every_frame_of_both_datasets_is_the_one_that_was_written(path: Path) -> None:
    for seed, dataset in ((3, IMAGE), (4, BACKGROUND)):
        handler = LunchBoxHDF5Handler(path, dataset=dataset, chunk_shape=(1, *SHAPE))
        for index in range(COUNT):
            np.testing.assert_array_equal(handler(frame=index), frame(seed, index))
        assert handler.shape == (COUNT, *SHAPE)


@pytest.mark.parametrize(
    "key",
    [(), ..., 2, -1, slice(1, 4), slice(None, None, 2), (slice(2, 5), slice(0, 7), 3), (1, ..., 0), ([0, 3],)],
    ids=str,
)
def test_a_bulk_read_is_what_numpy_would_give(path: Path, key: object) -> None:
    everything = np.stack([frame(3, index) for index in range(COUNT)])
    handler = LunchBoxHDF5Handler(path, dataset=IMAGE)
    np.testing.assert_array_equal(handler.read(key), everything[key])


def test_a_file_that_is_being_written_is_read_as_far_as_it_got(tmp_path: Path) -> None:
    file = FrameFile(tmp_path)
    handler = LunchBoxHDF5Handler(file.path, dataset=IMAGE)
    assert handler.read().shape == (0, *SHAPE)
    for index in range(COUNT):
        file.append()
        np.testing.assert_array_equal(handler(frame=index), frame(0, index))
        assert len(handler.read()) == index + 1
    file.close()


def test_a_frame_that_is_not_there_is_named(path: Path) -> None:
    handler = LunchBoxHDF5Handler(path, dataset=IMAGE)
    for index in (COUNT, -1):
        with pytest.raises(FrameIntegrityError, match=f"frame {index} was asked for, {COUNT} are there"):
            handler(frame=index)


def test_a_handler_goes_to_another_process(path: Path) -> None:
    handler = pickle.loads(pickle.dumps(LunchBoxHDF5Handler(path, dataset=IMAGE)))
    np.testing.assert_array_equal(handler(frame=2), frame(3, 2))


def test_a_missing_file_is_named_with_the_remedy(path: Path) -> None:
    handler = LunchBoxHDF5Handler(path, dataset=IMAGE)
    path.unlink()
    with pytest.raises(DataNotAccessible, match=r"is missing.*root_map in config/lunchbox.yml"):
        handler(frame=0)
    with pytest.raises(DataNotAccessible, match="is missing"):
        LunchBoxHDF5Handler(path, dataset=IMAGE)


def test_a_truncated_file_gives_its_earlier_frames_and_no_zeros(path: Path) -> None:
    """Where the file ends, HDF5 goes on with zeros."""
    handler = LunchBoxHDF5Handler(path, dataset=IMAGE)
    with h5py.File(path) as file:
        last = file[IMAGE].id.get_chunk_info_by_coord((COUNT - 1, 0, 0, 0))
    os.truncate(path, last.byte_offset + 10)
    np.testing.assert_array_equal(handler(frame=0), frame(3, 0))
    with pytest.raises(FrameIntegrityError, match=rf"frame {COUNT - 1} ends at byte .* it is truncated"):
        handler(frame=COUNT - 1)
    with pytest.raises(FrameIntegrityError, match="truncated"):
        handler.read()


def test_a_flipped_byte_is_an_error_in_its_frame_only(path: Path) -> None:
    with h5py.File(path) as file:
        chunk = file[IMAGE].id.get_chunk_info_by_coord((2, 0, 0, 0))
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + 100)
        (byte,) = raw.read(1)
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes([byte ^ 0x10]))
    handler = LunchBoxHDF5Handler(path, dataset=IMAGE)
    with pytest.raises(FrameIntegrityError, match="damaged"):
        handler(frame=2)
    for index in (0, 1, 3, 4, 5):
        np.testing.assert_array_equal(handler(frame=index), frame(3, index))


def test_no_hdf5_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.h5"
    path.write_text("shopping list")
    with pytest.raises(FrameIntegrityError, match=r"notes\.h5 is no readable HDF5 file"):
        LunchBoxHDF5Handler(path, dataset=IMAGE)(frame=0)


def test_a_frame_that_was_never_written_is_no_black_frame(tmp_path: Path) -> None:
    path = tmp_path / "sparse.h5"
    with h5py.File(path, "x") as file:
        dataset = file.create_dataset("data", (3, *SHAPE), "u1", chunks=(1, *SHAPE), maxshape=(None, *SHAPE))
        dataset[0] = 7
    handler = LunchBoxHDF5Handler(path, dataset="data")
    assert handler(frame=0).min() == 7
    with pytest.raises(FrameIntegrityError, match="frame 2 was never written"):
        handler(frame=2)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_refused_from_the_structure(tmp_path: Path, trap: Callable[[h5py.File, Path], None]) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(SECRET)
    path = tmp_path / "trap.h5"
    with h5py.File(path, "x") as file:
        trap(file, outside)
    for read in (lambda handler: handler(frame=0), lambda handler: handler.read()):
        with pytest.raises(FrameIntegrityError, match=r"trap\.h5:/data"):
            read(LunchBoxHDF5Handler(path, dataset="data"))


@pytest.mark.parametrize("dataset", ["", "/", "../data", "a/../b", "a\0b", "."])
def test_the_path_of_a_dataset_is_plain(path: Path, dataset: str) -> None:
    with pytest.raises(FrameIntegrityError, match="not the path of a dataset"):
        LunchBoxHDF5Handler(path, dataset=dataset)


@pytest.mark.parametrize("name", ["LZ4", "Zstd", "Bitshuffle"])
def test_compressed_frames_are_read(tmp_path: Path, name: str) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "small.h5"
    frames = np.stack([frame(1, index) for index in range(3)])
    with h5py.File(path, "x") as file:
        options = getattr(hdf5plugin, name)()
        file.create_dataset("data", data=frames, chunks=(1, *SHAPE), fletcher32=True, **options)
    np.testing.assert_array_equal(LunchBoxHDF5Handler(path, dataset="data").read(), frames)


def test_the_registry_has_the_handler_by_its_entry_point() -> None:
    assert handler_registry()[SPEC] is LunchBoxHDF5Handler
    handler_registry().clear()
    assert SPEC in handler_registry()


def test_a_spec_without_handler_is_told_with_the_remedy() -> None:
    with pytest.raises(DataNotAccessible, match=r"no handler for spec 'EIGER'.*databroker\.handlers"):
        handler_for("EIGER")


def test_a_file_that_was_cut_off_within_its_structure_is_refused_at_once(tmp_path: Path) -> None:
    # HDF5 itself looks for the rest of it for minutes.
    from acquisition.camera import Exposure
    from acquisition.frame_file import FrameFile as AcquisitionFile
    from catalog.setup import Setup

    path = tmp_path / "a.h5"
    pixels = np.zeros((96, 128, 3), "u1")
    with AcquisitionFile(path, shape=pixels.shape, setup=Setup()) as file:
        file.append(Exposure(pixels, 1.0, 0.0), Exposure(pixels, 1.0, 0.0), servo=0.0)
    data = path.read_bytes()
    for size in (100, 1000, 5000, 10_000, 13_000, 20_000):
        path.write_bytes(data[:size])
        with pytest.raises(FrameIntegrityError, match=r"cannot be read|it is truncated|no readable HDF5"):
            LunchBoxHDF5Handler(path, dataset=IMAGE)(frame=0)
